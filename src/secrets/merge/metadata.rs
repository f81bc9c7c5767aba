//! The metadata of a merged file: who can read it and what of it is encrypted, from both sides.

use crate::keys::recipient::Recipient;
use crate::secrets::error::Error;
use crate::secrets::recipients::Plan;
use crate::secrets::session::Session;
use crate::sops::data_key::DataKey;
use crate::sops::metadata::{AgeKey, KeyGroup, Metadata, OtherKeys, is_newer};

/// Changes that cannot be merged.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Both sides changed it, and differently.
    #[error("both sides changed {0}, and differently")]
    Both(&'static str),
    /// A key of another kind came with another data key.
    #[error(
        "the side that changed the data key does not have the key `{0}`, and civm encrypts to age recipients only"
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

/// What one side changed; `None` where both did, and differently.
fn either<'a, T: PartialEq>(base: Option<&T>, ours: &'a T, theirs: &'a T) -> Option<&'a T> {
    if ours == theirs || base == Some(theirs) {
        Some(ours)
    } else if base == Some(ours) {
        Some(theirs)
    } else {
        None
    }
}

/// Merges the metadata for a file with this data key. MAC and time are ours: sealing sets both.
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
        return with_groups(merged, base, ours, theirs, key, session);
    }
    let threshold = base.map(|base| &base.shamir_threshold);
    let threshold = either(threshold, &one.shamir_threshold, &other.shamir_threshold);
    merged.shamir_threshold = *threshold.ok_or(Refused::Both("the Shamir threshold"))?;
    merged.groups = vec![one_group(base, ours, theirs, key, session)?];
    Ok(merged)
}

/// Several groups hold shares that belong together: they come from one side.
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
        let plan = Plan { groups, ..Plan::default() };
        plan.wrap(&mut merged, key, session).map_err(Box::new)?;
    }
    Ok(merged)
}

/// Whoever either side added, without whom either side removed.
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
        return Err(Refused::Both("the recipients, so that none is left"));
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
            let recipient = Recipient::parse(name).map_err(failed)?;
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
