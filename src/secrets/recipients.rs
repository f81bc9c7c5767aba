//! Who can read a file: what the rules want, what the file has, and bringing the two together.

use std::collections::BTreeSet;
use std::path::Path;

use rand::rngs::OsRng;

use super::error::Error;
use super::file::SopsFile;
use super::session::{Rules, Session};
use crate::keys::recipient::Recipient;
use crate::sops::data_key::DataKey;
use crate::sops::metadata::{AgeKey, KeyGroup, Metadata};
use crate::sops::selector::Selector;
use crate::sops::shamir;

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
            groups: rule.groups.iter().map(|group| group.age.clone()).collect(),
            shamir_threshold: rule.shamir_threshold,
            selector: rule.selector.clone(),
            mac_only_encrypted: rule.mac_only_encrypted,
        })
    }

    /// The data key wrapped for every recipient: itself in one group, a share each in several.
    ///
    /// # Errors
    /// A recipient that cannot be used, a threshold that makes no sense.
    pub fn wrap(&self, key: &DataKey, session: &Session) -> Result<Vec<KeyGroup>, Error> {
        wrap(&self.groups, self.shamir_threshold, key, session, Path::new(".sops.yaml"))
    }
}

fn wrap(
    groups: &[Vec<String>],
    threshold: u32,
    key: &DataKey,
    session: &Session,
    path: &Path,
) -> Result<Vec<KeyGroup>, Error> {
    let secrets = if groups.len() == 1 {
        vec![zeroize::Zeroizing::new(key.as_bytes().to_vec())]
    } else {
        shamir::split(key, groups.len(), threshold, &mut OsRng)
            .map_err(|error| Error::Sops { path: path.to_path_buf(), error })?
    };
    groups
        .iter()
        .zip(secrets)
        .map(|(recipients, secret)| {
            let age = recipients
                .iter()
                .map(|text| {
                    let failed = |error| Error::Recipient { recipient: text.clone(), error };
                    let recipient = Recipient::parse(text).map_err(failed)?;
                    let enc = recipient.wrap(&secret, &session.prompt).map_err(failed)?;
                    Ok(AgeKey { recipient: text.clone(), enc })
                })
                .collect::<Result<_, Error>>()?;
            Ok(KeyGroup { age, others: Vec::new() })
        })
        .collect()
}

/// How one group differs from what the rules want.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupChange {
    /// Recipients that stay, in the file's order.
    pub kept: Vec<String>,
    /// Recipients that the rules want and the file lacks.
    pub added: Vec<String>,
    /// Recipients that the file has and the rules do not want.
    pub removed: Vec<String>,
}

/// How a file differs from what the rules want. Order and repetition do not count, as for sops.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Group by group.
    pub groups: Vec<GroupChange>,
    /// The threshold before and after, where it changes.
    pub threshold: Option<(u32, u32)>,
}

impl Change {
    /// Compares a file's recipients with a plan's.
    #[must_use]
    pub fn between(metadata: &Metadata, plan: &Plan) -> Self {
        let had: Vec<Vec<String>> = metadata
            .groups
            .iter()
            .map(|group| group.age.iter().map(|key| key.recipient.clone()).collect())
            .collect();
        let count = had.len().max(plan.groups.len());
        let none = Vec::new();
        let groups = (0..count)
            .map(|at| {
                let had = had.get(at).unwrap_or(&none);
                let want = plan.groups.get(at).unwrap_or(&none);
                let had_set: BTreeSet<&String> = had.iter().collect();
                let want_set: BTreeSet<&String> = want.iter().collect();
                GroupChange {
                    kept: unique(had.iter().filter(|one| want_set.contains(one))),
                    added: unique(want.iter().filter(|one| !had_set.contains(one))),
                    removed: unique(had.iter().filter(|one| !want_set.contains(one))),
                }
            })
            .collect();
        let before = metadata.shamir_threshold;
        let after = before.min(u32::try_from(plan.groups.len()).unwrap_or(u32::MAX));
        Self { groups, threshold: (before != after).then_some((before, after)) }
    }

    /// Whether the file already is as the rules want it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.threshold.is_none()
            && self.groups.iter().all(|group| group.added.is_empty() && group.removed.is_empty())
    }

    /// Every recipient that is added, in whatever group.
    pub fn added(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().flat_map(|group| group.added.iter().map(String::as_str))
    }

    /// Every recipient that is removed, from whatever group.
    pub fn removed(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().flat_map(|group| group.removed.iter().map(String::as_str))
    }

    /// The change as sops shows it before it asks.
    #[must_use]
    pub fn as_sops_shows_it(&self) -> String {
        let mut text = String::from("The following changes will be made to the file's groups:\n");
        if let Some((before, after)) = self.threshold {
            text.push_str(&format!("shamir_threshold: {before} -> {after}\n"));
        }
        for (at, group) in self.groups.iter().enumerate() {
            text.push_str(&format!("Group {}\n", at + 1));
            let lines = [("    ", &group.kept), ("+++ ", &group.added), ("--- ", &group.removed)];
            for (sign, recipients) in lines {
                for recipient in recipients {
                    text.push_str(&format!("{sign}{recipient}\n"));
                }
            }
        }
        text
    }
}

fn unique<'a>(recipients: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    recipients.filter(|one| seen.insert(*one)).cloned().collect()
}

impl SopsFile {
    /// The file's new text for the recipients of a plan: the data key is wrapped anew for all of them;
    /// values, MAC and time stay as they are. Keys of other kinds stay in their groups.
    ///
    /// # Errors
    /// No identity opens the file, or a recipient cannot be used.
    pub fn with_recipients(mut self, plan: &Plan, session: &Session) -> Result<Vec<u8>, Error> {
        let key = self.data_key(session.identities())?;
        let count = u32::try_from(plan.groups.len()).unwrap_or(u32::MAX);
        let mut threshold = self.metadata.shamir_threshold.min(count);
        if threshold == 0 && count > 1 {
            threshold = count;
        }
        self.metadata.groups = wrap(&plan.groups, threshold, &key, session, &self.path)?;
        self.metadata.shamir_threshold = threshold;
        self.render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sops::time::Time;

    fn metadata(groups: &[&[&str]], threshold: u32) -> Metadata {
        let groups = groups
            .iter()
            .map(|group| KeyGroup {
                age: group
                    .iter()
                    .map(|one| AgeKey { recipient: (*one).to_owned(), enc: String::new() })
                    .collect(),
                others: Vec::new(),
            })
            .collect();
        let mut metadata = Metadata::new(groups, None, Time::EPOCH, "3.13.3");
        metadata.shamir_threshold = threshold;
        metadata
    }

    fn plan(groups: &[&[&str]]) -> Plan {
        let groups = groups.iter().map(|group| group.iter().map(|one| (*one).to_owned()).collect()).collect();
        Plan { groups, ..Plan::default() }
    }

    #[test]
    fn order_and_repetition_are_no_change() {
        assert!(Change::between(&metadata(&[&["a", "b"]], 0), &plan(&[&["b", "a", "a"]])).is_empty());
    }

    #[test]
    fn additions_and_removals_are_shown_as_sops_shows_them() {
        let change = Change::between(&metadata(&[&["a", "b"]], 0), &plan(&[&["c", "a"]]));
        assert!(!change.is_empty());
        assert_eq!(
            change.as_sops_shows_it(),
            "The following changes will be made to the file's groups:\nGroup 1\n    a\n+++ c\n--- b\n"
        );
    }

    #[test]
    fn a_threshold_is_capped_by_the_number_of_groups() {
        let change = Change::between(&metadata(&[&["a"], &["b"], &["c"]], 3), &plan(&[&["a"], &["b"]]));
        assert_eq!(change.threshold, Some((3, 2)));
    }
}
