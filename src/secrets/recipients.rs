//! Who can read a file: the recipients in the rules, those in the file, and updating the latter to match.

use std::fmt;
use std::path::{Path, PathBuf};

use rand::rngs::OsRng;

use super::error::Error;
use super::file::SopsFile;
use super::session::{Rules, Session};
use crate::keys::recipient::RecipientError;
use crate::rules::UnknownKey;
use crate::sops::data_key::DataKey;
use crate::sops::metadata::{AgeKey, Changes, KeyGroup, Metadata};
use crate::sops::selector::Selector;

/// Lists recipients that override those of the rules, as for sops.
pub const RECIPIENTS: &str = "SOPS_AGE_RECIPIENTS";

/// Recipients as given on a command line: each word may hold several, separated by commas. Empty ones are kept, and
/// refused where they are used, because each was meant to be somebody.
#[must_use]
pub fn list(words: &[String]) -> Vec<String> {
    words.iter().flat_map(|word| word.split(',')).map(|piece| piece.trim().to_owned()).collect()
}

/// Like [`list`], but refuses an empty recipient immediately.
///
/// # Errors
/// A recipient is empty, for example because a variable is not set.
pub fn given(words: &[String]) -> Result<Vec<String>, Error> {
    let recipients = list(words);
    match recipients.iter().any(String::is_empty) {
        true => Err(Error::Recipient { recipient: String::new(), error: RecipientError::Empty }),
        false => Ok(recipients),
    }
}

/// Where the recipients of a plan come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// A creation rule.
    Rule {
        /// The rules' file.
        rules: PathBuf,
        /// The rule, from 1.
        number: usize,
        /// Its line, from 1.
        line: usize,
    },
    /// The file itself.
    File(PathBuf),
    /// Two sides of a merge.
    Merge,
    /// A command line or a variable.
    #[default]
    Given,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { rules, number, line } => {
                write!(f, "`{}`: line {line}: creation rule {number}", rules.display())
            }
            Self::File(path) => write!(f, "`{}`", path.display()),
            Self::Merge => write!(f, "the merged file"),
            Self::Given => write!(f, "the recipients that were given"),
        }
    }
}

/// sops numbers the shares of the data key in a byte.
pub(super) const MOST_GROUPS: usize = 255;

/// Checks that a file with key groups of these sizes and this threshold can be opened. No other file is ever written.
///
/// # Errors
/// An empty group, or a threshold that does not fit.
pub(super) fn check_groups(origin: &Origin, sizes: &[usize], threshold: i64) -> Result<(), Error> {
    let count = sizes.len();
    if let Some(group) = sizes.iter().position(|size| *size == 0).or((count == 0).then_some(0)) {
        return Err(Error::EmptyGroup { origin: origin.clone(), group, count });
    }
    let needed = if threshold == 0 { count } else { usize::try_from(threshold).unwrap_or(0) };
    if count > 1 && !(2..=count.min(MOST_GROUPS)).contains(&needed) {
        return Err(Error::BadThreshold { origin: origin.clone(), count, threshold });
    }
    Ok(())
}

/// How a file is to be encrypted, according to the rules.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Recipients, group by group.
    pub groups: Vec<Vec<String>>,
    /// How many groups are needed; 0 for all of them.
    pub shamir_threshold: i64,
    /// Which values are encrypted; `None` for sops' default.
    pub selector: Option<Selector>,
    /// Whether the MAC covers encrypted values only.
    pub mac_only_encrypted: bool,
    /// Where the recipients come from.
    origin: Origin,
    /// Keys in the rule, or next to the rules, that sops ignores, each with its file.
    pub(super) unknown_keys: Vec<(PathBuf, UnknownKey)>,
}

impl Plan {
    /// Recipients that were given, whatever the rules say.
    #[must_use]
    pub fn of_given(recipients: &[String]) -> Self {
        Self::of_groups(vec![recipients.to_vec()])
    }

    /// The same, group by group.
    #[must_use]
    pub fn of_groups(groups: Vec<Vec<String>>) -> Self {
        Self { groups, ..Self::default() }
    }

    /// The plan for a file according to the creation rules.
    ///
    /// # Errors
    /// There are none, none matches, or the one that matches needs something that civm does not support.
    pub fn of_rules(session: &Session, file: &Path) -> Result<Self, Error> {
        let rules = session.rules(file)?.filter(|rules| rules.config.has_creation_rules());
        let rules = rules.ok_or_else(|| Error::NoConfig(file.to_path_buf()))?;
        Self::of(&rules, session, file)
    }

    /// The plan for a new file: that of its rule, with the given recipients instead of the rule's.
    ///
    /// As in sops, a rule must match even if recipients are given; only if there are no rules at all are
    /// the given ones enough.
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
            plan.origin = Origin::Given;
        }
        Ok(plan)
    }

    /// The recipients in `SOPS_AGE_RECIPIENTS`; none if it is unset or empty.
    #[must_use]
    pub fn named_by_environment(session: &Session) -> Vec<String> {
        let value =
            session.environment.non_empty(RECIPIENTS).map(|value| value.to_string_lossy().into_owned());
        value.map(|value| list(&[value])).unwrap_or_default()
    }

    /// The recipients that a file has, to be changed.
    ///
    /// # Errors
    /// It has keys of other kinds, for which civm cannot wrap the data key.
    pub fn of_file(path: &Path, metadata: &Metadata) -> Result<Self, Error> {
        let kinds = metadata.other_kinds();
        if !kinds.is_empty() {
            return Err(Error::OtherHolders { path: path.to_path_buf(), kinds: kinds.join(", ") });
        }
        let names = |group: &KeyGroup| group.age.iter().map(|key| key.recipient.clone()).collect();
        let groups = metadata.groups.iter().map(names).collect();
        Ok(Self { origin: Origin::File(path.to_path_buf()), ..Self::of_groups(groups) })
    }

    /// Checks that a file with this plan and threshold could be decrypted: every group has a usable recipient, and the
    /// threshold is valid. Call this before the user is asked for a passphrase or an editor opens; [`Plan::wrap`] checks
    /// again in any case.
    ///
    /// # Errors
    /// The first group or recipient of which that is not so.
    pub fn check(&self, session: &Session, threshold: i64) -> Result<(), Error> {
        let sizes: Vec<usize> = self.groups.iter().map(Vec::len).collect();
        check_groups(&self.origin, &sizes, threshold)?;
        for text in self.groups.iter().flatten() {
            session.recipient(text).map_err(|error| Error::Recipient { recipient: text.clone(), error })?;
        }
        Ok(())
    }

    /// The same, with rules that have already been read.
    ///
    /// # Errors
    /// None matches, or the one that matches needs something that civm does not support.
    pub fn of(rules: &Rules, session: &Session, file: &Path) -> Result<Self, Error> {
        let match_path = rules.match_path(&session.absolute(file));
        let wrong = |error| Error::Rules { path: rules.path.clone(), error };
        let index = rules
            .config
            .position(&match_path)
            .map_err(wrong)?
            .ok_or_else(|| Error::NoRule { config: rules.path.clone(), path: file.to_path_buf() })?;
        let Some(rule) = rules.config.rule(index).transpose().map_err(wrong)? else {
            return Err(Error::NoRule { config: rules.path.clone(), path: file.to_path_buf() });
        };
        let kinds = rule.other_kinds();
        if !kinds.is_empty() {
            let kinds = kinds.join(", ");
            return Err(Error::OtherKeys { path: file.to_path_buf(), kinds });
        }
        let line = rules.config.line(index).unwrap_or(1);
        Ok(Self {
            origin: Origin::Rule { rules: rules.path.clone(), number: index + 1, line },
            groups: rule.recipient_groups(),
            shamir_threshold: rule.shamir_threshold,
            unknown_keys: rules
                .config
                .unknown_keys_of(index + 1)
                .map(|key| (rules.path.clone(), key.clone()))
                .collect(),
            selector: rule.selector.clone(),
            mac_only_encrypted: rule.mac_only_encrypted,
        })
    }

    /// Makes these the recipients of a file: its data key is wrapped for each, itself in one group, a share
    /// of it in each of several.
    ///
    /// # Errors
    /// As [`Plan::check`]; a recipient that cannot be wrapped for. The metadata is as it was then.
    pub fn wrap(&self, metadata: &mut Metadata, key: &DataKey, session: &Session) -> Result<(), Error> {
        self.check(session, metadata.shamir_threshold)?;
        let mut wrapped = Metadata {
            groups: self.groups.iter().map(|_| KeyGroup::default()).collect(),
            ..metadata.clone()
        };
        let parts = wrapped.parts(key, &mut OsRng).map_err(Error::Split)?;
        for ((group, recipients), part) in wrapped.groups.iter_mut().zip(&self.groups).zip(&parts) {
            for text in recipients {
                let failed = |error| Error::Recipient { recipient: text.clone(), error };
                let recipient = session.recipient(text).map_err(failed)?;
                let enc = recipient.wrap(part, &session.prompt).map_err(failed)?;
                group.age.push(AgeKey { recipient: text.clone(), enc });
            }
        }
        *metadata = wrapped;
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
    /// The file's new text for the recipients of a plan: the data key is wrapped again for all of them;
    /// values, MAC and time are not changed.
    ///
    /// # Errors
    /// No identity can decrypt the file, or a recipient cannot be used.
    pub fn with_recipients(mut self, plan: &Plan, session: &Session) -> Result<Vec<u8>, Error> {
        // As in sops, the rule's threshold is ignored: the file keeps its own if it has as many groups.
        let threshold = self.metadata.changes(&plan.groups).threshold_after;
        plan.check(session, threshold)?;
        let key = self.data_key(session.identities())?;
        self.metadata.shamir_threshold = threshold;
        plan.wrap(&mut self.metadata, &key, session)?;
        self.render()
    }
}
