//! Who can read which files now, and after `update-all`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use super::discover::{Found, sops_files};
use super::error::Error;
use super::file::SopsFile;
use super::session::{Rules, Session};
use super::update_all::as_rules_see;
use crate::keys::recipient::{SameKey, same_key};

/// How a recipient relates to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It can read the file.
    Reads,
    /// It can read the file once the file is updated.
    Added,
    /// It can read the file until the file is updated.
    Removed,
}

/// A recipient of a file, or of its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader {
    /// Its text in the file, else in the rule.
    pub recipient: String,
    /// The key, independent of its form.
    pub key: SameKey,
    /// How it relates to the file.
    pub standing: Standing,
}

/// Who can read a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readers {
    /// Whether a rule matches the file. Without one, the file is never updated.
    pub ruled: bool,
    /// How many of the groups are needed.
    pub needed: usize,
    /// The recipients, group by group.
    pub groups: Vec<Vec<Reader>>,
}

/// A file and its readers.
#[derive(Debug)]
pub struct FileReaders {
    /// Its real path.
    pub path: PathBuf,
    /// The rules that govern it, if they can be read: they hold the names of its readers.
    pub rules: Option<Arc<Rules>>,
    /// Who can read it, or the error.
    pub readers: Result<Readers, Error>,
}

/// Who can read the sops files below the paths, in the order of their paths. Needs no key. A file that no rule matches
/// and that cannot be read is skipped, unless it was named itself.
#[must_use]
pub fn who(session: &Session, paths: &[PathBuf]) -> Vec<FileReaders> {
    sops_files(paths, &session.environment)
        .into_par_iter()
        .filter_map(|Found { path, named, text }| {
            let wanted = of_rule(session, &path);
            let unruled = matches!(wanted, Ok(Wanted::Nothing));
            let readers = text.and_then(|text| of_file(session, &path, &text, wanted?));
            let told = named || !unruled || readers.is_ok();
            let rules = session.rules(&path).ok().flatten();
            told.then_some(FileReaders { path, rules, readers })
        })
        .collect()
}

impl Readers {
    /// How a key relates to the file; `None` if it is not among its recipients. A key in several groups reads the file
    /// if it does so in one of them.
    #[must_use]
    pub fn standing(&self, key: &SameKey) -> Option<Standing> {
        let all: Vec<Standing> = self
            .groups
            .iter()
            .flatten()
            .filter(|reader| reader.key == *key)
            .map(|reader| reader.standing)
            .collect();
        let has = |standing| all.contains(&standing);
        match (has(Standing::Reads), has(Standing::Removed), has(Standing::Added)) {
            (true, _, _) | (_, true, true) => Some(Standing::Reads),
            (_, true, _) => Some(Standing::Removed),
            (_, _, true) => Some(Standing::Added),
            _ => None,
        }
    }
}

fn of_file(session: &Session, path: &Path, text: &[u8], wanted: Wanted) -> Result<Readers, Error> {
    let file = SopsFile::parse(session, path, text)?;
    let ruled = !matches!(wanted, Wanted::Nothing);
    let wanted = match wanted {
        Wanted::Groups(groups) => Some(groups),
        Wanted::Nothing | Wanted::Unknown => None,
    };
    let has: Vec<Vec<String>> = file.metadata.groups.iter().map(|group| group.names()).collect();
    let count = has.len().max(wanted.as_ref().map_or(0, Vec::len));
    let groups = (0..count).map(|index| {
        let has = has.get(index).map(Vec::as_slice).unwrap_or_default();
        let wants = wanted.as_ref().map(|groups| groups.get(index).map(Vec::as_slice).unwrap_or_default());
        group(has, wants)
    });
    Ok(Readers { ruled, needed: file.metadata.groups_needed(), groups: groups.collect() })
}

/// The recipients in the rule of a file.
enum Wanted {
    /// There is no rule.
    Nothing,
    /// The rule has keys of other kinds, which are not read, so no recipient counts as added or removed.
    Unknown,
    /// These recipients, group by group.
    Groups(Vec<Vec<String>>),
}

fn of_rule(session: &Session, path: &Path) -> Result<Wanted, Error> {
    let seen = session.absolute(&as_rules_see(session, path)?);
    let Some(rules) = session.rules(path)? else { return Ok(Wanted::Nothing) };
    let rule = rules
        .config
        .rule_for(rules.match_path(&seen))
        .map_err(|error| Error::Rules { path: rules.path.clone(), error })?;
    Ok(match rule {
        None => Wanted::Nothing,
        Some(rule) if !rule.other_kinds().is_empty() => Wanted::Unknown,
        Some(rule) => Wanted::Groups(rule.recipient_groups()),
    })
}

fn group(has: &[String], wants: Option<&[String]>) -> Vec<Reader> {
    let mut readers: Vec<Reader> = Vec::new();
    let mut add = |recipient: &String, standing| {
        let key = same_key(recipient);
        if !readers.iter().any(|reader| reader.key == key) {
            readers.push(Reader { recipient: recipient.clone(), key, standing });
        }
    };
    for recipient in has {
        let key = same_key(recipient);
        let stays = wants.is_none_or(|wants| wants.iter().any(|wanted| same_key(wanted) == key));
        add(recipient, if stays { Standing::Reads } else { Standing::Removed });
    }
    for recipient in wants.unwrap_or_default() {
        add(recipient, Standing::Added);
    }
    readers
}

#[cfg(test)]
mod tests {
    use super::*;

    const SSH: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFj8dFyP9VskLsiSbgTcq7a+EnXF3jT5HvW+pwUT+ZvE";
    const SSH_AS_AGE: &str = "age1ega644j3ux6kqwm8tyvh4hyzfy9e9rsdtn7f8l2mrjtl7k3075vsgx0fws";

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn who_stays_comes_and_goes_is_told_whatever_form_a_key_has() {
        let readers = group(&texts(&["a", SSH, "b"]), Some(&texts(&[SSH_AS_AGE, "c", "a"])));
        let shown: Vec<_> =
            readers.iter().map(|reader| (reader.recipient.as_str(), reader.standing)).collect();
        assert_eq!(
            shown,
            [
                ("a", Standing::Reads),
                (SSH, Standing::Reads),
                ("b", Standing::Removed),
                ("c", Standing::Added)
            ]
        );
        let readers = group(&texts(&["a", "b"]), None);
        assert!(readers.iter().all(|reader| reader.standing == Standing::Reads));
    }

    #[test]
    fn a_key_that_moves_between_groups_goes_on_reading() {
        let groups =
            vec![group(&texts(&["a", "b"]), Some(&texts(&["b"]))), group(&[], Some(&texts(&["a", "c"])))];
        let readers = Readers { ruled: true, needed: 2, groups };
        let standing = |text: &str| readers.standing(&same_key(text));
        assert_eq!(standing("a"), Some(Standing::Reads));
        assert_eq!(standing("c"), Some(Standing::Added));
        assert_eq!(standing("d"), None);
    }
}
