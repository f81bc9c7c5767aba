//! Reading the `sops` branch: any order of keys, all three layouts that sops has written.

use super::super::error::Error;
use super::super::selector::{NAMES, Selector};
use super::super::time::Time;
use super::super::tree::{Branch, Item, Key, Value};
use super::fields::{branches, entries, flag, number, text, wrong};
use super::{AgeKey, KeyGroup, Metadata, OTHER_KINDS, OtherKeys};

/// What sops 1 told the reader of a file.
const ATTENTION: &str = "attention";

impl Metadata {
    /// Reads the branch. Unknown keys are only recorded, and comments are skipped, as sops drops them.
    ///
    /// # Errors
    /// A field of a wrong type, no keys at all, more than one selector, a selector that does not
    /// compile, an invalid time.
    pub fn from_branch(branch: &Branch) -> Result<Self, Error> {
        let mut flat = KeyGroup::default();
        let mut grouped = Vec::new();
        let mut selectors = Vec::new();
        let mut shamir_threshold = 0;
        let mut mac_only_encrypted = false;
        let mut last_modified = None;
        let mut mac = String::new();
        let mut version = String::new();
        let mut unknown = Vec::new();
        for entry in entries(branch, super::KEY) {
            let (key, value) = entry?;
            match key {
                "key_groups" => {
                    for (index, group) in branches(value, key)?.into_iter().enumerate() {
                        grouped.push(group_of(group, &format!("key_groups[{index}]"), &mut unknown)?);
                    }
                }
                "shamir_threshold" => shamir_threshold = number(value, key)?,
                "mac_only_encrypted" => mac_only_encrypted = flag(value, key)?,
                "lastmodified" => last_modified = Some(time(value)?),
                "mac" => mac = text(value, key)?,
                "version" => version = text(value, key)?,
                _ if NAMES.contains(&key) => selectors.push((key, text(value, key)?)),
                ATTENTION => {}
                _ => take_keys(&mut flat, key, value, key, &mut unknown)?,
            }
        }
        let last_modified = last_modified.ok_or_else(|| wrong("lastmodified", "it is missing"))?;
        let groups = if flat != KeyGroup::default() { vec![flat] } else { grouped };
        if groups.is_empty() {
            return Err(Error::NoKeys);
        }
        let selector = Selector::only(selectors.iter().map(|(name, value)| (*name, value.as_str())))?;
        let selector = Some(selector.unwrap_or_default());
        Ok(Self {
            groups,
            shamir_threshold,
            selector,
            mac_only_encrypted,
            last_modified,
            mac,
            version,
            unknown,
        })
    }
}

/// The time of the last change. A string, unless a formatter took its quotes off.
fn time(value: &Value) -> Result<Time, Error> {
    if let Value::Time(time) = value {
        return Ok(*time);
    }
    let field = "lastmodified";
    Time::parse_rfc3339(&text(value, field)?).ok_or_else(|| wrong(field, "it is not an RFC 3339 time"))
}

fn group_of(branch: &Branch, field: &str, unknown: &mut Vec<String>) -> Result<KeyGroup, Error> {
    let mut group = KeyGroup::default();
    for entry in entries(branch, field) {
        let (key, value) = entry?;
        take_keys(&mut group, key, value, &format!("{field}.{key}"), unknown)?;
    }
    Ok(group)
}

/// Adds the keys of one kind to a group; other names are recorded.
fn take_keys(
    group: &mut KeyGroup,
    key: &str,
    value: &Value,
    field: &str,
    unknown: &mut Vec<String>,
) -> Result<(), Error> {
    if key == "age" {
        for (index, branch) in branches(value, field)?.into_iter().enumerate() {
            group.age.push(age_key(branch, &format!("{field}[{index}]"), unknown)?);
        }
    } else if let Some(kind) = OTHER_KINDS.into_iter().find(|kind| *kind == key) {
        let entries: Vec<_> =
            branches(value, field)?.into_iter().map(|branch| Value::Map(plain(branch))).collect();
        if !entries.is_empty() {
            group.others.push(OtherKeys { kind, entries });
        }
    } else {
        unknown.push(field.to_owned());
    }
    Ok(())
}

fn age_key(branch: &Branch, field: &str, unknown: &mut Vec<String>) -> Result<AgeKey, Error> {
    let mut key = AgeKey { recipient: String::new(), enc: String::new() };
    for entry in entries(branch, field) {
        let (name, value) = entry?;
        match name {
            "recipient" => key.recipient = text(value, &format!("{field}.recipient"))?,
            "enc" => key.enc = text(value, &format!("{field}.enc"))?,
            _ => unknown.push(format!("{field}.{name}")),
        }
    }
    Ok(key)
}

/// A key of another kind without comments, its own keys in order, and its times as text again: what
/// sops itself would write.
fn plain(branch: &Branch) -> Branch {
    let mut plain: Vec<(Vec<u8>, Item)> = branch
        .iter()
        .filter_map(|item| match item {
            Item::Entry(Key::Str(key), value) => {
                let item = Item::Entry(Key::Str(key.clone()), plain_value(value));
                Some((key.as_bytes().to_vec(), item))
            }
            _ => None,
        })
        .collect();
    plain.sort_by(|one, other| one.0.cmp(&other.0));
    plain.into_iter().map(|(_, item)| item).collect()
}

fn plain_value(value: &Value) -> Value {
    match value {
        Value::Map(branch) => Value::Map(plain(branch)),
        Value::List(items) => Value::List(
            items.iter().filter(|item| !matches!(item, Value::Comment(_))).map(plain_value).collect(),
        ),
        Value::Time(time) => Value::str(time.to_string()),
        other => other.clone(),
    }
}
