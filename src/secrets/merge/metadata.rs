//! Merging metadata: recipients, and which values are encrypted.

use crate::secrets::error::Error;
use crate::secrets::recipients::{Origin, Plan, check_groups};
use crate::secrets::session::Session;
use crate::sops::data_key::DataKey;
use crate::sops::metadata::{AgeKey, KeyGroup, Metadata, OtherKeys, is_newer};

/// Changes that cannot be merged.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Both sides changed it in different ways.
    #[error("both sides changed {0} in different ways")]
    Both(&'static str),
    /// Each side removed the recipients that the other kept.
    #[error("no recipient would be left: each side removed those that the other kept")]
    NoRecipients,
    /// A master key of another kind belongs to the other data key.
    #[error(
        "the side with the new data key does not have the key `{0}`, and civm encrypts only to age recipients"
    )]
    OtherKey(String),
    /// A recipient that cannot be used.
    #[error(transparent)]
    Recipient(#[from] Box<Error>),
}

/// One side of a merge.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) metadata: &'a Metadata,
    /// Whether its data key is the merged file's, so that what it wrapped for a recipient can stay.
    pub(super) has_key: bool,
}

/// The change of one side; `None` if both sides made different changes.
fn either<'a, T: PartialEq>(base: Option<&T>, ours: &'a T, theirs: &'a T) -> Option<&'a T> {
    if ours == theirs || base == Some(theirs) {
        Some(ours)
    } else if base == Some(ours) {
        Some(theirs)
    } else {
        None
    }
}

/// Merges the metadata for a file with this data key. MAC and time are set when the file is encrypted.
pub(super) fn merge(
    base: Option<&Metadata>,
    ours: Side<'_>,
    theirs: Side<'_>,
    key: &DataKey,
    session: &Session,
) -> Result<Metadata, Refused> {
    let mut merged = ours.metadata.clone();
    let (one, other) = (ours.metadata, theirs.metadata);
    let selector = either(base.map(|base| &base.selector), &one.selector, &other.selector);
    merged.selector = selector.ok_or(Refused::Both("which values are encrypted"))?.clone();
    let only_encrypted =
        either(base.map(|base| &base.mac_only_encrypted), &one.mac_only_encrypted, &other.mac_only_encrypted);
    merged.mac_only_encrypted = *only_encrypted.ok_or(Refused::Both("what the MAC covers"))?;
    if is_newer(&other.version, &one.version) {
        merged.version.clone_from(&other.version);
    }
    let grouped = [base, Some(one), Some(other)].into_iter().flatten().any(|side| side.groups.len() != 1);
    if grouped {
        merged = with_groups(merged, base, ours, theirs, key, session)?;
    } else {
        let threshold = base.map(|base| &base.shamir_threshold);
        let threshold = either(threshold, &one.shamir_threshold, &other.shamir_threshold);
        merged.shamir_threshold = *threshold.ok_or(Refused::Both("the Shamir threshold"))?;
        merged.groups = vec![one_group(base, ours, theirs, key, session)?];
    }
    let keys = |group: &KeyGroup| {
        group.age.len() + group.others.iter().map(|keys| keys.entries.len()).sum::<usize>()
    };
    let sizes: Vec<usize> = merged.groups.iter().map(keys).collect();
    check_groups(&Origin::Merge, &sizes, merged.shamir_threshold).map_err(Box::new)?;
    Ok(merged)
}

/// Several key groups hold shares of one split, so all of them come from one side.
fn with_groups(
    mut merged: Metadata,
    base: Option<&Metadata>,
    ours: Side<'_>,
    theirs: Side<'_>,
    key: &DataKey,
    session: &Session,
) -> Result<Metadata, Refused> {
    let of = |metadata: &Metadata| {
        let sorted = |mut names: Vec<String>| {
            names.sort_unstable();
            names
        };
        let groups: Vec<_> = metadata.names().into_iter().map(sorted).collect();
        (groups, metadata.shamir_threshold)
    };
    let (base, one, other) = (base.map(of), of(ours.metadata), of(theirs.metadata));
    let chosen = either(base.as_ref(), &one, &other).ok_or(Refused::Both("the key groups"))?;
    let sides = [(ours, &one), (theirs, &other)];
    let as_chosen = sides.iter().filter(|(_, groups)| *groups == chosen).map(|(side, _)| side);
    let mut as_chosen = as_chosen.clone().filter(|side| side.has_key).chain(as_chosen);
    let Some(side) = as_chosen.next() else { return Err(Refused::Both("the key groups")) };
    merged.groups.clone_from(&side.metadata.groups);
    merged.shamir_threshold = side.metadata.shamir_threshold;
    if !side.has_key {
        if let Some(kind) = merged.other_kinds().first() {
            return Err(Refused::OtherKey((*kind).to_owned()));
        }
        let groups = merged.groups.iter();
        let groups =
            groups.map(|group| group.age.iter().map(|key| key.recipient.clone()).collect()).collect();
        let plan = Plan::of_groups(groups);
        plan.wrap(&mut merged, key, session).map_err(Box::new)?;
    }
    Ok(merged)
}

/// The recipients that either side added, without those that either side removed.
fn one_group(
    base: Option<&Metadata>,
    ours: Side<'_>,
    theirs: Side<'_>,
    key: &DataKey,
    session: &Session,
) -> Result<KeyGroup, Refused> {
    let names = |metadata: &Metadata| metadata.names().concat();
    let (before, one, other) =
        (base.map(names).unwrap_or_default(), names(ours.metadata), names(theirs.metadata));
    let stays = |name: &&String| other.contains(name) || !before.contains(name);
    let added = other.iter().filter(|name| !one.contains(name) && !before.contains(name));
    let wanted: Vec<&String> = one.iter().filter(stays).chain(added).collect();
    if wanted.is_empty() {
        return Err(Refused::NoRecipients);
    }
    let mut group = KeyGroup::default();
    let sources =
        || [ours, theirs].into_iter().filter(|side| side.has_key).flat_map(|side| &side.metadata.groups);
    for name in wanted {
        if let Some(known) = sources().flat_map(|group| &group.age).find(|age| age.recipient == *name) {
            group.age.push(known.clone());
        } else if let Some((kind, entry)) = sources().find_map(|group| other_key(group, name)) {
            match group.others.iter_mut().find(|keys| keys.kind == kind) {
                Some(keys) => keys.entries.push(entry),
                None => group.others.push(OtherKeys { kind, entries: vec![entry] }),
            }
        } else if [ours, theirs].iter().any(|side| side.metadata.age_keys().any(|age| age.recipient == *name))
        {
            let failed = |error| Box::new(Error::Recipient { recipient: name.clone(), error });
            let recipient = session.recipient(name).map_err(failed)?;
            let enc = recipient.wrap(key.as_bytes(), &session.prompt).map_err(failed)?;
            group.age.push(AgeKey { recipient: name.clone(), enc });
        } else {
            return Err(Refused::OtherKey(name.clone()));
        }
    }
    Ok(group)
}

fn other_key(group: &KeyGroup, name: &str) -> Option<(&'static str, crate::sops::tree::Value)> {
    group.others.iter().find_map(|keys| {
        keys.named().find(|(known, _)| known == name).map(|(_, entry)| (keys.kind, entry.clone()))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::edge::environment::Environment;
    use crate::edge::terminal::Nobody;
    use crate::sops::selector::Selector;
    use crate::sops::time::Time;
    use crate::sops::tree::{Item, Value};

    /// Recipients that can be used.
    const X: &str = "age1e63wmgw3vaj3veyfsae6ca73qpx8j8xj38r6yk7nk9nvhcr92vvsexht4t";
    const Y: &str = "age12h7333pd5phz20zqy2xqurkpuanr288ud8lyjxvgh2j6jdu3w4asgvy23q";

    /// Metadata whose wrapped keys say whose they are.
    fn of(side: &str, groups: &[&[&str]]) -> Metadata {
        let group = |recipients: &&[&str]| KeyGroup {
            age: recipients
                .iter()
                .map(|&recipient| AgeKey { recipient: recipient.to_owned(), enc: side.to_owned() })
                .collect(),
            others: Vec::new(),
        };
        Metadata::new(groups.iter().map(group).collect(), Some(Selector::default()), Time::EPOCH, "3.9.0")
    }

    fn merged(
        base: Option<&Metadata>,
        ours: (&Metadata, bool),
        theirs: (&Metadata, bool),
    ) -> Result<Metadata, String> {
        let session = Session::new(Environment::empty(), Arc::new(Nobody), "/".into());
        let key = DataKey::from_bytes(&[7; 32]).unwrap();
        let side = |(metadata, has_key)| Side { metadata, has_key };
        merge(base, side(ours), side(theirs), &key, &session).map_err(|error| error.to_string())
    }

    /// The recipients, each with whose wrapped key it has.
    fn keys(metadata: &Metadata) -> Vec<(&str, &str)> {
        metadata
            .age_keys()
            .map(|key| {
                let enc = if key.enc.starts_with("-----BEGIN") { "new" } else { key.enc.as_str() };
                (key.recipient.as_str(), enc)
            })
            .collect()
    }

    #[test]
    fn whoever_was_added_stays_and_whoever_was_removed_goes() {
        let base = of("base", &[&["a", "b", "c"]]);
        let ours = of("ours", &[&["a", "b", "new"]]);
        let theirs = of("theirs", &[&["more", "b", "c"]]);
        let merged = merged(Some(&base), (&ours, true), (&theirs, true)).unwrap();
        assert_eq!(keys(&merged), [("b", "ours"), ("new", "ours"), ("more", "theirs")]);
    }

    #[test]
    fn a_key_of_the_side_without_the_data_key_is_wrapped_anew() {
        let base = of("base", &[&["a"]]);
        let ours = of("ours", &[&["a", X]]);
        let theirs = of("theirs", &[&["a", Y]]);
        let all = merged(Some(&base), (&ours, true), (&theirs, false)).unwrap();
        assert_eq!(keys(&all), [("a", "ours"), (X, "ours"), (Y, "new")]);
        let all = merged(Some(&base), (&ours, false), (&theirs, true)).unwrap();
        assert_eq!(keys(&all), [("a", "theirs"), (X, "new"), (Y, "theirs")]);
        let mut theirs = of("theirs", &[&["a", "age1nobody"]]);
        assert!(merged(Some(&base), (&ours, true), (&theirs, false)).unwrap_err().contains("age1nobody"));
        let entry = Value::Map(vec![Item::entry("fp", Value::str("ABC"))]);
        theirs.groups[0] = KeyGroup {
            age: ours.groups[0].age.clone(),
            others: vec![OtherKeys { kind: "pgp", entries: vec![entry] }],
        };
        assert!(merged(Some(&base), (&ours, true), (&theirs, false)).unwrap_err().contains("pgp ABC"));
        let all = merged(Some(&base), (&ours, true), (&theirs, true)).unwrap();
        assert_eq!(all.groups[0].others, theirs.groups[0].others);
    }

    #[test]
    fn nobody_left_is_refused() {
        let base = of("base", &[&["a", "b"]]);
        let (ours, theirs) = (of("ours", &[&["a"]]), of("theirs", &[&["b"]]));
        assert!(merged(Some(&base), (&ours, true), (&theirs, true)).is_err());
    }

    #[test]
    fn no_group_is_left_empty() {
        let base = of("base", &[&["a"], &["b"]]);
        let theirs = of("theirs", &[&["a", "c"], &[]]);
        for (ours, theirs) in [(&base, &theirs), (&theirs, &base), (&theirs, &theirs)] {
            let refused = merged(Some(&base), (ours, true), (theirs, true)).unwrap_err();
            assert!(refused.contains("key group 2 of 2 has no recipient"), "{refused}");
        }
        let none = of("theirs", &[]);
        assert!(merged(Some(&base), (&base, true), (&none, true)).is_err());
        let four = |threshold| Metadata { shamir_threshold: threshold, ..base.clone() };
        assert!(
            merged(Some(&base), (&base, true), (&four(4), true))
                .unwrap_err()
                .contains("the threshold 4 is not valid")
        );
        // A key of another kind is somebody as well.
        let mut other = of("ours", &[&["a"], &[]]);
        let entry = Value::Map(vec![Item::entry("fp", Value::str("ABC"))]);
        other.groups[1].others = vec![OtherKeys { kind: "pgp", entries: vec![entry] }];
        assert!(merged(Some(&base), (&base, true), (&other, true)).is_ok());
    }

    #[test]
    fn key_groups_come_from_the_side_that_changed_them() {
        let base = of("base", &[&["a"], &["b"]]);
        let ours = of("ours", &[&["a"], &["b"]]);
        let theirs = of("theirs", &[&["a", "c"], &["b"]]);
        let all = merged(Some(&base), (&ours, true), (&theirs, true)).unwrap();
        assert_eq!(keys(&all), [("a", "theirs"), ("c", "theirs"), ("b", "theirs")]);
        let ours = of("ours", &[&["a"], &["b"], &["d"]]);
        let refused = merged(Some(&base), (&ours, true), (&theirs, true)).unwrap_err();
        assert!(refused.contains("the key groups"), "{refused}");
        // Shares of another data key are of no use.
        let (ours, theirs) = (of("ours", &[&["a"], &["b"]]), of("theirs", &[&[X], &[Y]]));
        let all = merged(Some(&base), (&ours, true), (&theirs, false)).unwrap();
        assert_eq!((keys(&all), all.shamir_threshold), (vec![(X, "new"), (Y, "new")], 2));
    }

    #[test]
    fn settings_that_both_changed_are_refused() {
        let base = of("base", &[&["a"]]);
        let with = |suffix: &str| {
            let selector = Some(Selector::EncryptedSuffix(suffix.to_owned()));
            Metadata { selector, version: "3.10.0".to_owned(), ..of("x", &[&["a"]]) }
        };
        let all = merged(Some(&base), (&base, true), (&with("1"), true)).unwrap();
        assert_eq!((all.selector, all.version.as_str()), (with("1").selector, "3.10.0"));
        assert!(
            merged(Some(&base), (&with("1"), true), (&with("2"), true)).unwrap_err().contains("encrypted")
        );
        assert!(merged(None, (&with("1"), true), (&with("2"), true)).is_err());
        assert!(merged(None, (&with("1"), true), (&with("1"), true)).is_ok());
    }
}
