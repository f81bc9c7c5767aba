//! The third step: what a new generation has otherwise than the active one.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::decrypt::Decrypted;
use super::entry::{Entry, Owner};
use super::error::Error;
use super::template::RENDERED;
use super::validate::Plan;

/// What two generations have not alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// There is no active generation: everything is new, and nothing that uses it runs yet.
    pub first: bool,
    /// Secrets.
    pub secrets: Changes,
    /// Rendered templates.
    pub templates: Changes,
    /// Units to restart, in the manifest's order; one is there as often as something that it uses has changed.
    pub restart: Vec<String>,
    /// Units to reload, likewise.
    pub reload: Vec<String>,
}

/// Names, each list sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Only the new generation has them.
    pub added: Vec<String>,
    /// Their content is another.
    pub modified: Vec<String>,
    /// Only their owner or mode is another.
    pub reassigned: Vec<String>,
    /// Only the active generation has them.
    pub removed: Vec<String>,
}

impl Changes {
    /// Whether both generations are alike.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        [&self.added, &self.modified, &self.reassigned, &self.removed].into_iter().all(Vec::is_empty)
    }
}

/// How a file of the active generation compares with the new one.
enum Alike {
    Wholly,
    InContent,
    Not,
}

impl Difference {
    /// Whether a new generation would be as the active one is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.first && self.secrets.is_empty() && self.templates.is_empty()
    }

    /// What the active generation, where there is one, has otherwise. Nothing is written.
    ///
    /// # Errors
    /// A file of the active generation that cannot be read.
    pub(super) fn to(new: &Decrypted) -> Result<Self, Error> {
        let active = active(&new.plan);
        let mut left = active.as_deref().map_or_else(|| Ok(BTreeSet::new()), files)?;
        let mut difference = Self { first: active.is_none(), ..Self::default() };
        let active = active.as_deref();
        let mut units = |entry: &Entry| {
            difference.restart.extend_from_slice(&entry.restart);
            difference.reload.extend_from_slice(&entry.reload);
        };
        difference.secrets = changes(new.secrets(), active, &mut left, new.plan.user_mode, &mut units)?;
        difference.templates = changes(new.templates(), active, &mut left, new.plan.user_mode, &mut units)?;
        for path in left {
            let (changes, name) = match path.strip_prefix(RENDERED) {
                Ok(name) => (&mut difference.templates, name),
                Err(_) => (&mut difference.secrets, path.as_path()),
            };
            changes.removed.push(name.to_string_lossy().into_owned());
        }
        Ok(difference)
    }
}

fn changes<'a>(
    new: impl Iterator<Item = (&'a Entry, &'a [u8])>,
    active: Option<&Path>,
    left: &mut BTreeSet<PathBuf>,
    user_mode: bool,
    changed: &mut impl FnMut(&Entry),
) -> Result<Changes, Error> {
    let mut changes = Changes::default();
    for (entry, content) in new {
        let list = match active {
            Some(active) if left.remove(&entry.below) => {
                let path = active.join(&entry.below);
                match compare(&path, entry, content, user_mode).map_err(Error::io("read", &path))? {
                    Alike::Wholly => continue,
                    Alike::InContent => {
                        changes.reassigned.push(entry.name.clone());
                        continue;
                    }
                    Alike::Not => &mut changes.modified,
                }
            }
            _ => &mut changes.added,
        };
        list.push(entry.name.clone());
        changed(entry);
    }
    for list in [&mut changes.added, &mut changes.modified, &mut changes.reassigned] {
        list.sort_unstable();
    }
    Ok(changes)
}

/// The directory that the link leads to.
pub(super) fn active(plan: &Plan) -> Option<PathBuf> {
    fs::read_link(&plan.symlink).ok()?;
    fs::canonicalize(&plan.symlink).ok().filter(|target| target.is_dir())
}

/// The files of a generation, below it.
fn files(generation: &Path) -> Result<BTreeSet<PathBuf>, Error> {
    let mut out = BTreeSet::new();
    for entry in walkdir::WalkDir::new(generation).min_depth(1) {
        let entry = entry.map_err(|error| Error::io("list", generation)(error.into()))?;
        if !entry.file_type().is_dir() {
            out.insert(entry.path().strip_prefix(generation).unwrap_or(entry.path()).to_owned());
        }
    }
    Ok(out)
}

fn compare(path: &Path, entry: &Entry, content: &[u8], user_mode: bool) -> io::Result<Alike> {
    let mut file = fs::File::open(path)?;
    let found = file.metadata()?;
    if found.len() != content.len() as u64 {
        return Ok(Alike::Not);
    }
    let mut old = Zeroizing::new(Vec::with_capacity(content.len() + 1));
    file.read_to_end(&mut old)?;
    if *old != content {
        return Ok(Alike::Not);
    }
    let owner = Owner { uid: found.uid(), gid: found.gid() };
    let wholly = found.permissions().mode() & 0o7777 == entry.mode && (user_mode || owner == entry.owner);
    Ok(if wholly { Alike::Wholly } else { Alike::InContent })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::symlink;

    use super::super::partial::Partial;
    use super::super::validate::Planned;
    use super::*;
    use crate::store::Format;

    fn planned(name: &str, mode: u32) -> Planned {
        let entry = Entry {
            name: name.to_owned(),
            below: name.into(),
            link: None,
            owner: Owner { uid: 0, gid: 0 },
            mode,
            restart: vec![format!("{name}.service")],
            reload: Vec::new(),
        };
        Planned { entry, key: name.to_owned(), file: "/f".into(), format: Format::Yaml }
    }

    fn decrypted(dir: &Path, secrets: &[(&str, u32, &str)]) -> Decrypted {
        let plan = Plan {
            secrets: secrets.iter().map(|(name, mode, _)| planned(name, *mode)).collect(),
            templates: Vec::new(),
            placeholders: BTreeMap::new(),
            mount_point: dir.join("d"),
            symlink: dir.join("link"),
            keep: 1,
            keys_gid: 0,
            tmpfs: false,
            user_mode: true,
            partial: Partial::default(),
        };
        let contents: Vec<&[u8]> = secrets.iter().map(|(_, _, text)| text.as_bytes()).collect();
        Decrypted::with(plan, &contents)
    }

    #[test]
    fn generations_are_compared_by_name_value_and_mode() {
        let dir = tempfile::tempdir().expect("tempdir");
        let new = |secrets: &[(&str, u32, &str)]| {
            Difference::to(&decrypted(dir.path(), secrets)).expect("a difference")
        };
        let first = [("a", 0o400, "1"), ("b", 0o400, "2"), ("c/d", 0o440, "3")];
        let made = new(&first);
        assert_eq!((made.first, &made.secrets.added[..]), (true, &["a", "b", "c/d"].map(str::to_owned)[..]));
        assert!(!dir.path().join("d").exists(), "nothing is made");
        super::super::activate::activate(&decrypted(dir.path(), &first)).expect("activated");
        assert_eq!(new(&first), Difference::default());
        let second = [("e", 0o400, ""), ("a", 0o400, "x"), ("c/d", 0o400, "3")];
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let wanted = Changes {
            added: names(&["e"]),
            modified: names(&["a"]),
            reassigned: names(&["c/d"]),
            removed: names(&["b"]),
        };
        let made = new(&second);
        assert_eq!(made.secrets, wanted);
        assert_eq!(made.restart, ["e.service", "a.service"], "an owner or a mode restarts nothing");
        assert_eq!(new(&first), Difference::default(), "comparing changes nothing");
    }

    #[test]
    fn a_link_to_another_directory_counts_as_what_was_there() {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::create_dir(dir.path().join("other")).expect("mkdir");
        fs::write(dir.path().join("other/a"), "1").expect("write");
        symlink(dir.path().join("other"), dir.path().join("link")).expect("link");
        let difference = Difference::to(&decrypted(dir.path(), &[("b", 0o400, "1")])).expect("a difference");
        assert!(!difference.first);
        assert_eq!(
            (&difference.secrets.added[..], &difference.secrets.removed[..]),
            (&["b".to_owned()][..], &["a".to_owned()][..])
        );
        fs::remove_dir_all(dir.path().join("other")).expect("removed");
        assert!(Difference::to(&decrypted(dir.path(), &[])).expect("a difference").first, "it leads nowhere");
    }
}
