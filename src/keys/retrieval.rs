//! Retrieving a file's data key from its master keys, or the reasons why that failed.
//!
//! Each master key wraps the data key (or one share of it) on its own. Identities that need no interaction are tried on
//! all of them before the user is asked for anything.

/// What civm adds under the tree: identities, public halves, advice.
mod explanation;
/// The error tree in sops' words.
mod tree;

use std::fmt;

use zeroize::Zeroizing;

use super::identity::{AsSops, Belongs, Identities, OpenError, Report};

/// A key that wraps the data key, as a file names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MasterKey<'a> {
    /// An age recipient.
    Age {
        /// As written in the file.
        recipient: &'a str,
        /// The armored age file for it.
        enc: &'a str,
    },
    /// A key of a kind that civm does not support, such as `pgp`.
    Other {
        /// Its kind.
        kind: &'a str,
        /// Its fingerprint, resource or address.
        name: &'a str,
    },
}

/// Keys of which any one decrypts this group's part.
pub type KeyGroup<'a> = Vec<MasterKey<'a>>;

/// The data key could not be retrieved: the error for each master key, and the available identities.
#[derive(Clone, Debug)]
pub struct RetrievalError {
    /// The groups, in the order of the file.
    pub groups: Vec<GroupResult>,
    /// How many groups are needed; 0 where the file has one group.
    pub threshold: usize,
    /// Where identities were searched for, and what was found.
    pub identities: Vec<Report>,
}

/// The result for a group.
#[derive(Clone, Debug)]
pub struct GroupResult {
    /// Whether one of its keys decrypted its part.
    pub opened: bool,
    /// Its keys in the order of the file; empty where it is opened.
    pub keys: Vec<KeyResult>,
}

/// The result for a master key.
#[derive(Clone, Debug)]
pub struct KeyResult {
    /// The recipient, or the name of a key of another kind.
    pub name: String,
    /// Why it failed.
    pub reason: Reason,
    /// Whether one of the identities should have opened it.
    pub belongs: Belongs,
    /// What sops would have found.
    as_sops: AsSops,
}

/// Why a master key failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// An age recipient whose entry could not be decrypted.
    Age(OpenError),
    /// A kind that civm does not support.
    OtherKind(String),
}

/// The data key of a file with one key group, or the shares of one with several (as many as are needed,
/// unless more groups open without asking).
///
/// `threshold` is the file's; 0 means all groups. With one group it has no meaning.
///
/// # Errors
///
/// Too few groups opened.
pub fn parts(
    groups: &[KeyGroup<'_>],
    threshold: usize,
    identities: &Identities,
) -> Result<Vec<Zeroizing<Vec<u8>>>, Box<RetrievalError>> {
    let needed = match (groups.len(), threshold) {
        (count @ (0 | 1), _) | (count, 0) => count.max(1),
        (_, threshold) => threshold,
    };
    let mut parts: Vec<Option<Zeroizing<Vec<u8>>>> =
        groups.iter().map(|group| open_without_asking(group, identities)).collect();
    let mut results: Vec<Vec<KeyResult>> = groups.iter().map(|_| Vec::new()).collect();
    let mut opened = parts.iter().flatten().count();
    for ((group, part), result) in groups.iter().zip(&mut parts).zip(&mut results) {
        if part.is_some() || opened >= needed {
            continue;
        }
        match open_asking(group, identities) {
            Ok(asked_for) => {
                *part = Some(asked_for);
                opened += 1;
            }
            Err(keys) => *result = keys,
        }
    }
    if opened >= needed {
        return Ok(parts.into_iter().flatten().collect());
    }
    let results = results.into_iter().zip(&parts);
    Err(Box::new(RetrievalError {
        groups: results.map(|(keys, part)| GroupResult { opened: part.is_some(), keys }).collect(),
        threshold: if groups.len() > 1 { needed } else { 0 },
        identities: identities.reports(),
    }))
}

fn open_without_asking(group: &[MasterKey<'_>], identities: &Identities) -> Option<Zeroizing<Vec<u8>>> {
    group.iter().find_map(|key| match key {
        MasterKey::Age { recipient, enc } => identities.open_silently(recipient, enc).ok(),
        MasterKey::Other { .. } => None,
    })
}

fn open_asking(
    group: &[MasterKey<'_>],
    identities: &Identities,
) -> Result<Zeroizing<Vec<u8>>, Vec<KeyResult>> {
    let mut results = Vec::new();
    for key in group {
        match *key {
            MasterKey::Age { recipient, enc } => match identities.open(recipient, enc) {
                Ok(opened) => return Ok(opened),
                Err(error) => results.push(KeyResult {
                    name: recipient.to_owned(),
                    reason: Reason::Age(error),
                    belongs: identities.belongs(recipient),
                    as_sops: identities.as_sops(recipient),
                }),
            },
            MasterKey::Other { kind, name } => results.push(KeyResult {
                name: name.to_owned(),
                reason: Reason::OtherKind(kind.to_owned()),
                belongs: Belongs::No,
                as_sops: AsSops::default(),
            }),
        }
    }
    Err(results)
}

impl RetrievalError {
    /// sops' error tree, byte for byte, without a final newline.
    #[must_use]
    pub fn sops_text(&self, colours: bool) -> String {
        tree::render(self, colours)
    }

    /// What civm adds: which identities were looked for and where, and their public halves.
    #[must_use]
    pub fn explanation(&self) -> String {
        explanation::render(self)
    }

    /// What to do next, a line each.
    #[must_use]
    pub fn advice(&self) -> Vec<String> {
        explanation::advice(self)
    }

    /// The tree and what civm adds under it; [`Self::advice`] belongs below that.
    #[must_use]
    pub fn render(&self, colours: bool) -> String {
        format!("{}\n\n{}", self.sops_text(colours), self.explanation())
    }
}

impl fmt::Display for RetrievalError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let opened = self.groups.iter().filter(|group| group.opened).count();
        match self.threshold {
            0 => formatter.write_str("no identity can decrypt the file"),
            needed => write!(
                formatter,
                "only {opened} of the {needed} key groups that are needed could be decrypted"
            ),
        }
    }
}

impl std::error::Error for RetrievalError {}

#[cfg(test)]
mod tests;
