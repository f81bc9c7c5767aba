//! What this room keeps in an instance's state directory: small JSON files of its own, each with a version.

use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::edge::atomic;
use crate::instance::Place;
use crate::instance::state::read_small;
use crate::lifecycle::Error;

/// What this civm writes into each of them. The first civm wrote none, and the same otherwise.
const VERSION: u64 = 1;
const KEY: &str = "version";

/// One of the files.
pub(super) struct Kept {
    pub(super) file: &'static str,
    /// What to do about a damaged one, of the instance with this name.
    pub(super) remedy: fn(&str) -> String,
}

#[derive(Serialize)]
struct Versioned<'a, T> {
    version: u64,
    #[serde(flatten)]
    value: &'a T,
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    version: u64,
}

impl Kept {
    /// Writes it; one that would be the same is left as it is, and so is one that a newer civm wrote.
    pub(super) fn save(&self, place: &Place, value: &impl Serialize) -> Result<(), Error> {
        self.refuse_newer(place)?;
        let path = place.path.join(self.file);
        let text =
            serde_json::to_vec_pretty(&Versioned { version: VERSION, value }).map_err(io::Error::other);
        text.and_then(|text| atomic::update(&path, &text, 0o600).map_err(io::Error::other))
            .map_err(|source| Error::File { what: "cannot write", path, source })
    }

    /// Reads it; `None` where there is none.
    pub(super) fn load<T: DeserializeOwned>(&self, place: &Place) -> Result<Option<T>, Error> {
        let path = place.path.join(self.file);
        let damaged = |reason: String| Error::Damaged {
            path: path.clone(),
            reason,
            remedy: (self.remedy)(&place.name),
        };
        let Some(text) = self.read(&path)? else { return Ok(None) };
        let mut map: Map<String, Value> =
            serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        let version = map.remove(KEY).map_or(Some(0), |version| version.as_u64());
        match version {
            Some(0..=VERSION) => {}
            Some(version) => return Err(Error::Newer { path, version, reads: VERSION }),
            None => return Err(damaged("its version is not a number".to_owned())),
        }
        serde_json::from_value(Value::Object(map)).map(Some).map_err(|error| damaged(error.to_string()))
    }

    /// An error if a newer civm wrote it. A damaged one may be written anew.
    pub(super) fn refuse_newer(&self, place: &Place) -> Result<(), Error> {
        let path = place.path.join(self.file);
        let text = self.read(&path)?.unwrap_or_default();
        match serde_json::from_slice(&text) {
            Ok(Head { version }) if version > VERSION => Err(Error::Newer { path, version, reads: VERSION }),
            _ => Ok(()),
        }
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, Error> {
        match read_small(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::File { what: "cannot read", path: path.to_owned(), source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const FILE: Kept = Kept { file: "some.json", remedy: |name| format!("`civm up {name}` writes it anew") };

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Machine {
        #[serde(default)]
        cpus: Option<u32>,
        host: String,
    }

    fn place(directory: &Path) -> Place {
        Place { project: "/p".into(), name: "a".into(), path: directory.into() }
    }

    #[test]
    fn what_is_damaged_is_told_and_what_a_newer_civm_wrote_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (place, path) = (place(directory.path()), directory.path().join(FILE.file));
        let load = || FILE.load::<Machine>(&place);
        assert_eq!(load().unwrap(), None);
        let value = Machine { cpus: Some(2), host: "h".into() };
        FILE.save(&place, &value).unwrap();
        assert_eq!(load().unwrap().as_ref(), Some(&value));
        assert!(fs::read_to_string(&path).unwrap().contains("\"version\": 1"));
        // One of the first civm, which had no version.
        fs::write(&path, r#"{"host": "h", "cpus": 2}"#).unwrap();
        assert_eq!(load().unwrap().as_ref(), Some(&value));
        for text in
            ["", "{", "[]", "null", "{}", r#"{"host": 1}"#, r#"{"version": "x", "host": "h"}"#, "\0\0"]
        {
            fs::write(&path, text).unwrap();
            match load() {
                Err(Error::Damaged { path: told, remedy, .. }) => {
                    assert_eq!((told, remedy.as_str()), (path.clone(), "`civm up a` writes it anew"));
                }
                other => panic!("{text}: {other:?}"),
            }
            FILE.save(&place, &value).unwrap();
            assert_eq!(load().unwrap().as_ref(), Some(&value), "{text}");
        }
        let newer = r#"{"version": 2, "hosts": ["h"]}"#;
        fs::write(&path, newer).unwrap();
        assert!(matches!(load(), Err(Error::Newer { version: 2, .. })));
        assert!(matches!(FILE.save(&place, &value), Err(Error::Newer { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), newer);
    }

    #[test]
    fn what_is_no_file_neither_hangs_nor_fills_the_memory() {
        let directory = tempfile::tempdir().unwrap();
        let (place, path) = (place(directory.path()), directory.path().join(FILE.file));
        symlink("/dev/zero", &path).unwrap();
        assert!(matches!(FILE.load::<Machine>(&place), Err(Error::Damaged { .. })));
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(matches!(FILE.load::<Machine>(&place), Err(Error::Damaged { .. })));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(FILE.load::<Machine>(&place), Err(Error::File { .. })));
    }
}
