//! What updating a file's recipients would change, from the point of view of sops' `updatekeys`.

use super::super::tree::{Item, Key, Value};
use super::{KeyGroup, Metadata, OtherKeys};

/// The difference between a file's key groups and those that it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Group by group, as many as the longer side has.
    pub groups: Vec<GroupChanges>,
    /// The file's threshold; 0 where it has none.
    pub threshold_before: i64,
    /// The threshold that it will have: its own, but not more than there are groups.
    pub threshold_after: i64,
}

/// The difference in one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupChanges {
    /// Keys of both sides, in the order of the wanted ones.
    pub kept: Vec<String>,
    /// Keys that the file does not have.
    pub added: Vec<String>,
    /// Keys that the file has and should not. Keys of other kinds are among them: nothing can ask for
    /// those here.
    pub removed: Vec<String>,
}

impl Changes {
    /// Whether the file is up to date. The order of recipients and repetitions make no difference.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let unchanged = |group: &GroupChanges| group.added.is_empty() && group.removed.is_empty();
        self.threshold_before == self.threshold_after && self.groups.iter().all(unchanged)
    }
}

impl Metadata {
    /// The name of every key, group by group: age recipients as they are written, others by kind and what tells
    /// them from others of it.
    #[must_use]
    pub fn names(&self) -> Vec<Vec<String>> {
        self.groups.iter().map(KeyGroup::names).collect()
    }

    /// Compares the key groups with the recipients that they should have. Needs no key.
    #[must_use]
    pub fn changes(&self, wanted: &[Vec<String>]) -> Changes {
        let count = self.groups.len().max(wanted.len());
        let groups = (0..count).map(|index| {
            let has = self.groups.get(index).map(names).unwrap_or_default();
            let wants = wanted.get(index).map(Vec::as_slice).unwrap_or_default();
            let (kept, added) = wants.iter().cloned().partition(|recipient| has.contains(recipient));
            let removed = has.into_iter().filter(|recipient| !wants.contains(recipient)).collect();
            GroupChanges { kept, added, removed }
        });
        let most = i64::try_from(wanted.len()).unwrap_or(i64::MAX);
        Changes {
            groups: groups.collect(),
            threshold_before: self.shamir_threshold,
            threshold_after: self.shamir_threshold.min(most),
        }
    }
}

pub(super) fn names(group: &KeyGroup) -> Vec<String> {
    let others = group.others.iter().flat_map(OtherKeys::named).map(|(name, _)| name);
    others.chain(group.age.iter().map(|key| key.recipient.clone())).collect()
}

impl OtherKeys {
    /// The entries, each with its name.
    pub fn named(&self) -> impl Iterator<Item = (String, &Value)> {
        self.entries.iter().map(|entry| (other_name(self, entry), entry))
    }
}

/// The kind of a key that is not age's, and what tells it from others of its kind.
fn other_name(keys: &OtherKeys, entry: &Value) -> String {
    let Value::Map(branch) = entry else { return keys.kind.to_owned() };
    let telling =
        ["fp", "arn", "resource_id", "key_id", "vault_url", "vault_address", "name", "key_name", "version"];
    let values = branch.iter().filter_map(|item| match item {
        Item::Entry(Key::Str(key), Value::Str(value)) if telling.iter().any(|name| *key == *name) => {
            value.as_str().ok()
        }
        _ => None,
    });
    std::iter::once(keys.kind).chain(values).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::tree;
    use super::*;

    fn file(groups: &str) -> Metadata {
        let text = format!(
            r#"{{"key_groups":[{groups}],"lastmodified":"2026-01-02T03:04:05Z","shamir_threshold":2}}"#
        );
        Metadata::from_branch(&tree(&text).documents[0]).expect("good")
    }

    fn wanted(groups: &[&[&str]]) -> Vec<Vec<String>> {
        groups.iter().map(|group| group.iter().map(|&recipient| recipient.to_owned()).collect()).collect()
    }

    const TWO: &str = r#"{"age":[{"recipient":"a"},{"recipient":"b"}]},{"age":[{"recipient":"c"}]}"#;

    #[test]
    fn order_and_repetition_are_no_change() {
        assert!(file(TWO).changes(&wanted(&[&["b", "a", "b"], &["c"]])).is_empty());
    }

    #[test]
    fn additions_and_removals_are_told_apart_by_group() {
        let changes = file(TWO).changes(&wanted(&[&["x", "a"], &["c"], &["d"]]));
        assert!(!changes.is_empty());
        let strings = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        assert_eq!(
            changes.groups[0],
            GroupChanges { kept: strings(&["a"]), added: strings(&["x"]), removed: strings(&["b"]) }
        );
        assert_eq!(changes.groups[1], GroupChanges { kept: strings(&["c"]), ..GroupChanges::default() });
        assert_eq!(changes.groups[2], GroupChanges { added: strings(&["d"]), ..GroupChanges::default() });
    }

    #[test]
    fn the_threshold_is_not_more_than_the_groups() {
        let changes = file(TWO).changes(&wanted(&[&["a", "b"]]));
        assert_eq!((changes.threshold_before, changes.threshold_after), (2, 1));
        assert_eq!(changes.groups[1].removed, ["c"]);
    }

    #[test]
    fn keys_of_other_kinds_are_removed_by_their_name() {
        let metadata =
            file(r#"{"age":[{"recipient":"a"}],"pgp":[{"fp":"ABC","enc":"E"}],"kms":[{"arn":"arn:x"}]}"#);
        let changes = metadata.changes(&wanted(&[&["a"]]));
        assert_eq!(changes.groups[0].removed, ["pgp ABC", "kms arn:x"]);
    }
}
