//! The third step: what a new generation has otherwise than the active one.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::decrypt::Decrypted;
use super::error::Error;
use super::validate::{Owner, Plan, Planned};

/// Names of secrets that two generations have not alike, each list sorted as the manifest or the directory is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Only the new generation has them.
    pub added: Vec<String>,
    /// Their value, owner or mode is another.
    pub changed: Vec<String>,
    /// Only the active generation has them.
    pub removed: Vec<String>,
}

impl Difference {
    /// Whether both generations are alike.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }

    /// What the active generation, where there is one, has otherwise. Nothing is written.
    ///
    /// # Errors
    /// A file of the active generation that cannot be read.
    pub(super) fn to(new: &Decrypted) -> Result<Self, Error> {
        let mut difference = Self::default();
        let Some(active) = active(&new.plan) else {
            difference.added = new.plan.secrets.iter().map(|secret| secret.name.clone()).collect();
            return Ok(difference);
        };
        let mut left = files(&active)?;
        for (secret, content) in new.secrets() {
            let path = active.join(&secret.below);
            if !left.remove(&secret.below) {
                difference.added.push(secret.name.clone());
            } else if !is_alike(&path, secret, content, new.plan.user_mode)
                .map_err(Error::io("read", &path))?
            {
                difference.changed.push(secret.name.clone());
            }
        }
        difference.removed = left.iter().map(|path| path.to_string_lossy().into_owned()).collect();
        Ok(difference)
    }
}

/// The directory of the active generation.
pub(super) fn active(plan: &Plan) -> Option<PathBuf> {
    let target = fs::read_link(&plan.symlink).ok()?;
    (target.starts_with(&plan.mount_point) && target.is_dir()).then_some(target)
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

fn is_alike(path: &Path, secret: &Planned, content: &[u8], user_mode: bool) -> io::Result<bool> {
    let mut file = fs::File::open(path)?;
    let found = file.metadata()?;
    let owner = Owner { uid: found.uid(), gid: found.gid() };
    if found.len() != content.len() as u64
        || found.permissions().mode() & 0o7777 != secret.mode
        || !(user_mode || owner == secret.owner)
    {
        return Ok(false);
    }
    let mut old = Zeroizing::new(Vec::with_capacity(content.len()));
    file.read_to_end(&mut old)?;
    Ok(*old == content)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::store::Format;

    fn planned(name: &str, mode: u32) -> Planned {
        Planned {
            name: name.to_owned(),
            below: name.into(),
            key: name.to_owned(),
            link: None,
            owner: Owner { uid: 0, gid: 0 },
            mode,
            file: "/f".into(),
            format: Format::Yaml,
        }
    }

    fn decrypted(dir: &Path, secrets: &[(&str, u32, &str)]) -> Decrypted {
        let plan = Plan {
            secrets: secrets.iter().map(|(name, mode, _)| planned(name, *mode)).collect(),
            mount_point: dir.join("d"),
            symlink: dir.join("link"),
            keep: 1,
            keys_gid: 0,
            tmpfs: false,
            user_mode: true,
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
        assert_eq!(new(&first).added, ["a", "b", "c/d"]);
        assert!(!dir.path().join("d").exists(), "nothing is made");
        super::super::activate::activate(&decrypted(dir.path(), &first)).expect("activated");
        assert!(new(&first).is_empty());
        let second = [("a", 0o400, "x"), ("c/d", 0o400, "3"), ("e", 0o400, "")];
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let wanted =
            Difference { added: names(&["e"]), changed: names(&["a", "c/d"]), removed: names(&["b"]) };
        assert_eq!(new(&second), wanted);
        assert!(new(&first).is_empty(), "comparing changes nothing");
    }

    #[test]
    fn what_is_not_a_generation_is_not_compared() {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::create_dir(dir.path().join("other")).expect("mkdir");
        fs::write(dir.path().join("other/a"), "1").expect("write");
        symlink(dir.path().join("other"), dir.path().join("link")).expect("link");
        let difference = Difference::to(&decrypted(dir.path(), &[("a", 0o400, "1")])).expect("a difference");
        assert_eq!((difference.added.len(), difference.removed.len()), (1, 0));
    }
}
