//! Writing the `sops` branch as sops 3.13 does: every level in alphabetical order, empty fields left out.

use super::super::tree::{Branch, Item, Value};
use super::{AgeKey, KeyGroup, Metadata, OTHER_KINDS};

impl Metadata {
    /// The branch under `sops`.
    #[must_use]
    pub fn to_branch(&self) -> Branch {
        let mut fields: Vec<(&str, Value)> = Vec::new();
        if let [group] = self.groups.as_slice() {
            if !group.age.is_empty() {
                fields.push(("age", age(&group.age)));
            }
            fields.extend(group.others.iter().map(|keys| (keys.kind, Value::List(keys.entries.clone()))));
        } else if !self.groups.is_empty() {
            let groups = self.groups.iter().map(|group| Value::Map(group_branch(group))).collect();
            fields.push(("key_groups", Value::List(groups)));
        }
        if self.shamir_threshold != 0 {
            fields.push(("shamir_threshold", Value::Int(self.shamir_threshold)));
        }
        if let Some(selector) = &self.selector {
            fields.push((selector.name(), Value::str(selector.value())));
        }
        if self.mac_only_encrypted {
            fields.push(("mac_only_encrypted", Value::Bool(true)));
        }
        fields.push(("lastmodified", Value::str(self.last_modified.whole_second().to_string())));
        fields.push(("mac", Value::str(self.mac.as_str())));
        fields.push(("version", Value::str(self.version.as_str())));
        sorted(fields)
    }
}

/// One of several groups. sops never leaves out `age` and `hc_vault` here.
fn group_branch(group: &KeyGroup) -> Branch {
    let mut fields = vec![("age", age(&group.age))];
    for kind in OTHER_KINDS {
        let entries: Vec<_> = group
            .others
            .iter()
            .filter(|keys| keys.kind == kind)
            .flat_map(|keys| keys.entries.iter().cloned())
            .collect();
        if !entries.is_empty() || kind == "hc_vault" {
            fields.push((kind, Value::List(entries)));
        }
    }
    sorted(fields)
}

fn age(keys: &[AgeKey]) -> Value {
    let entry = |key: &AgeKey| {
        Value::Map(vec![
            Item::entry("enc", Value::str(key.enc.as_str())),
            Item::entry("recipient", Value::str(key.recipient.as_str())),
        ])
    };
    Value::List(keys.iter().map(entry).collect())
}

fn sorted(mut fields: Vec<(&str, Value)>) -> Branch {
    fields.sort_by_key(|(name, _)| *name);
    fields.into_iter().map(|(name, value)| Item::entry(name, value)).collect()
}
