//! What the guest remembers from one boot to the next: what earlier layers brought.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Error, console};

/// Directory of civm's own files on the guest's disk.
pub(super) const DIR: &str = "/var/lib/civm";
const FILE: &str = "state.json";

/// What earlier layers brought, so that it goes when a layer no longer has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    /// Files laid over the image, below the root.
    pub(super) files: BTreeSet<PathBuf>,
    /// Directories made for them.
    pub(super) dirs: BTreeSet<PathBuf>,
    /// Users made for a layer.
    pub(super) users: BTreeSet<String>,
    /// Those of them that the layer no longer has.
    pub(super) locked: BTreeSet<String>,
    /// Links from elsewhere to secrets.
    pub(super) links: BTreeSet<PathBuf>,
}

impl State {
    /// Reads it; a disk that has none yet has an empty one. So has one that was cut off in the middle of
    /// writing it: what earlier layers brought may stay then, but the guest boots.
    pub(super) fn load(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                console::log(&format!("{} is damaged ({error}): starting anew", path.display()));
                Self::default()
            })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }

    /// Writes it where it has changed, and waits for the disk.
    pub(super) fn save(&self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(FILE);
        let failed = || Error::io("write", &path);
        let bytes = serde_json::to_vec_pretty(self).map_err(std::io::Error::from).map_err(failed())?;
        if fs::read(&path).is_ok_and(|old| old == bytes) {
            return Ok(());
        }
        fs::create_dir_all(dir).map_err(failed())?;
        let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed())?;
        file.write_all(&bytes).map_err(failed())?;
        file.as_file().sync_all().map_err(failed())?;
        file.persist(&path).map(drop).map_err(|error| failed()(error.error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().expect("tempdir");
        let dir = dir.path().join("new");
        assert_eq!(State::load(&dir).expect("empty"), State::default());
        let state = State { users: ["a".to_owned()].into(), ..State::default() };
        state.save(&dir).expect("save");
        assert_eq!(State::load(&dir).expect("load"), state);
    }

    #[test]
    fn a_damaged_memory_keeps_nobody_from_booting() {
        let dir = tempfile::tempdir().expect("tempdir");
        for damaged in ["", "{\"files\": [", "[]"] {
            fs::write(dir.path().join(FILE), damaged).expect("write");
            assert_eq!(State::load(dir.path()).expect("load"), State::default(), "{damaged}");
        }
    }
}
