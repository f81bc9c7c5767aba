//! Who can read a file: what the rules want, what the file has, and bringing the two together.

use std::path::Path;

use rand::rngs::OsRng;

use super::error::Error;
use super::file::SopsFile;
use super::session::{Rules, Session};
use crate::keys::recipient::Recipient;
use crate::sops::data_key::DataKey;
use crate::sops::metadata::{AgeKey, Changes, KeyGroup, Metadata};
use crate::sops::selector::Selector;

/// Names recipients in place of the rules', as for sops.
pub const RECIPIENTS: &str = "SOPS_AGE_RECIPIENTS";

/// Recipients as they are given on a command line: each word may hold several, with commas between them.
#[must_use]
pub fn list(words: &[String]) -> Vec<String> {
    let pieces = words.iter().flat_map(|word| word.split(','));
    pieces.map(|piece| piece.trim().to_owned()).filter(|piece| !piece.is_empty()).collect()
}

/// What the rules want of a file.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Recipients, group by group.
    pub groups: Vec<Vec<String>>,
    /// How many groups are needed; 0 for all of them.
    pub shamir_threshold: u32,
    /// Which values are encrypted; `None` for sops' default.
    pub selector: Option<Selector>,
    /// Whether the MAC covers encrypted values only.
    pub mac_only_encrypted: bool,
}

impl Plan {
    /// What the creation rules say of a file.
    ///
    /// # Errors
    /// There are none, none matches, or the one that does wants what civm does not do.
    pub fn of_rules(session: &Session, file: &Path) -> Result<Self, Error> {
        let rules = session.rules(file)?.filter(|rules| rules.config.has_creation_rules());
        let rules = rules.ok_or_else(|| Error::NoConfig(file.to_path_buf()))?;
        Self::of(&rules, session, file)
    }

    /// What a new file is to be: the rule's word, with the recipients that were named in place of the rule's.
    ///
    /// A rule must match even where recipients are named, as for sops; only where there are no rules at all do
    /// the named ones stand alone.
    ///
    /// # Errors
    /// As [`Plan::of_rules`].
    pub fn of_new(session: &Session, file: &Path, named: &[String]) -> Result<Self, Error> {
        let mut plan = match Self::of_rules(session, file) {
            Err(Error::NoConfig(_)) if !named.is_empty() => Self::default(),
            plan => plan?,
        };
        if !named.is_empty() {
            plan.groups = vec![named.to_vec()];
        }
        Ok(plan)
    }

    /// The recipients that `SOPS_AGE_RECIPIENTS` names; none where it is unset or empty.
    #[must_use]
    pub fn named_by_environment(session: &Session) -> Vec<String> {
        let value =
            session.environment.non_empty(RECIPIENTS).map(|value| value.to_string_lossy().into_owned());
        list(value.as_slice())
    }

    /// The recipients that a file has, to be changed.
    ///
    /// # Errors
    /// It has keys of other kinds, which nothing here can wrap the data key for.
    pub fn of_file(path: &Path, metadata: &Metadata) -> Result<Self, Error> {
        let kinds = metadata.other_kinds();
        if !kinds.is_empty() {
            return Err(Error::OtherHolders { path: path.to_path_buf(), kinds: kinds.join(", ") });
        }
        let names = |group: &KeyGroup| group.age.iter().map(|key| key.recipient.clone()).collect();
        Ok(Self { groups: metadata.groups.iter().map(names).collect(), ..Self::default() })
    }

    /// Whether every group has somebody in it who can be used.
    ///
    /// # Errors
    /// The first that has not.
    pub fn check_of_file(&self, path: &Path) -> Result<(), Error> {
        match self.groups.iter().position(Vec::is_empty) {
            Some(group) => Err(Error::EmptyGroup { path: path.to_path_buf(), group }),
            None => self.check(),
        }
    }

    /// Whether every recipient can be used.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn check(&self) -> Result<(), Error> {
        for text in self.groups.iter().flatten() {
            Recipient::parse(text).map_err(|error| Error::Recipient { recipient: text.clone(), error })?;
        }
        Ok(())
    }

    /// The same where the rules were read already.
    ///
    /// # Errors
    /// None matches, or the one that does wants what civm does not do.
    pub fn of(rules: &Rules, session: &Session, file: &Path) -> Result<Self, Error> {
        let match_path = rules.match_path(&session.absolute(file));
        let rule = rules
            .config
            .rule_for(&match_path)
            .map_err(|error| Error::Rules { path: rules.path.clone(), error })?
            .ok_or_else(|| Error::NoRule { config: rules.path.clone(), path: file.to_path_buf() })?;
        let kinds = rule.other_kinds();
        if !kinds.is_empty() {
            let kinds = kinds.join(", ");
            return Err(Error::OtherKeys { path: file.to_path_buf(), kinds });
        }
        if rule.recipients().next().is_none() {
            return Err(Error::NoRecipients(file.to_path_buf()));
        }
        Ok(Self {
            groups: rule.recipient_groups(),
            shamir_threshold: rule.shamir_threshold,
            selector: rule.selector.clone(),
            mac_only_encrypted: rule.mac_only_encrypted,
        })
    }

    /// Makes these the recipients of a file: its data key is wrapped for each, itself in one group, a share
    /// of it in each of several.
    ///
    /// # Errors
    /// A recipient that cannot be used, a threshold that makes no sense.
    pub fn wrap(&self, metadata: &mut Metadata, key: &DataKey, session: &Session) -> Result<(), Error> {
        metadata.groups = self.groups.iter().map(|_| KeyGroup::default()).collect();
        let parts = metadata.parts(key, &mut OsRng).map_err(Error::Split)?;
        for ((group, recipients), part) in metadata.groups.iter_mut().zip(&self.groups).zip(&parts) {
            for text in recipients {
                let failed = |error| Error::Recipient { recipient: text.clone(), error };
                let recipient = session.recipient(text).map_err(failed)?;
                let enc = recipient.wrap(part, &session.prompt).map_err(failed)?;
                group.age.push(AgeKey { recipient: text.clone(), enc });
            }
        }
        Ok(())
    }
}

/// Every recipient that is added, in whatever group.
pub fn added(changes: &Changes) -> impl Iterator<Item = &str> {
    changes.groups.iter().flat_map(|group| group.added.iter().map(String::as_str))
}

/// Every recipient that is removed, from whatever group.
pub fn removed(changes: &Changes) -> impl Iterator<Item = &str> {
    changes.groups.iter().flat_map(|group| group.removed.iter().map(String::as_str))
}

/// The changes as sops shows them before it asks.
#[must_use]
pub fn as_sops_shows_them(changes: &Changes, colours: bool) -> String {
    let coloured = |colour: u8, line: String| match colours {
        true => format!("\x1b[{colour}m{line}\n\x1b[0m"),
        false => format!("{line}\n"),
    };
    let (underlined, green, red) = (4, 32, 31);
    let mut text = String::from("The following changes will be made to the file's groups:\n");
    let (before, after) = (changes.threshold_before, changes.threshold_after);
    if before > 0 && before == after {
        text.push_str(&format!("shamir_threshold: {after}\n"));
    } else {
        for (colour, sign, threshold) in [(green, "+++", after), (red, "---", before)] {
            if threshold > 0 {
                text.push_str(&coloured(colour, format!("{sign} shamir_threshold: {threshold}")));
            }
        }
    }
    for (at, group) in changes.groups.iter().enumerate() {
        text.push_str(&coloured(underlined, format!("Group {}", at + 1)));
        text.extend(group.kept.iter().map(|recipient| format!("    {recipient}\n")));
        text.extend(group.added.iter().map(|recipient| coloured(green, format!("+++ {recipient}"))));
        text.extend(group.removed.iter().map(|recipient| coloured(red, format!("--- {recipient}"))));
    }
    text
}

impl SopsFile {
    /// The file's new text for the recipients of a plan: the data key is wrapped anew for all of them;
    /// values, MAC and time stay as they are.
    ///
    /// # Errors
    /// No identity opens the file, or a recipient cannot be used.
    pub fn with_recipients(mut self, plan: &Plan, session: &Session) -> Result<Vec<u8>, Error> {
        let key = self.data_key(session.identities())?;
        // As in sops the rule's threshold does not count: the file's own stays, where there are as many groups.
        self.metadata.shamir_threshold = self.metadata.changes(&plan.groups).threshold_after;
        plan.wrap(&mut self.metadata, &key, session)?;
        self.render()
    }
}
