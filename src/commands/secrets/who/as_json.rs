//! What `civm secrets who --json` prints.

use serde_json::{Value, json};

use super::Names;
use crate::keys::recipient::SameKey;
use crate::secrets::who::{FileReaders, Reader, Standing};

/// A file and its readers.
pub(super) fn file(read: &FileReaders, names: &Names) -> Value {
    let path = read.path.to_string_lossy();
    match &read.readers {
        Err(error) => json!({ "path": path, "error": error.to_string() }),
        Ok(readers) => {
            let reader = |reader: &Reader| {
                json!({
                    "recipient": reader.recipient,
                    "name": names.of(read, &reader.key),
                    "state": state(reader.standing),
                })
            };
            let groups: Vec<Vec<_>> =
                readers.groups.iter().map(|group| group.iter().map(reader).collect()).collect();
            json!({ "path": path, "rule": readers.ruled, "groups_needed": readers.needed, "groups": groups })
        }
    }
}

/// A key and the files that it can read.
pub(super) fn key(key: &SameKey, name: &str, files: &[FileReaders]) -> Value {
    let files: Vec<_> = files
        .iter()
        .filter_map(|read| {
            let readers = read.readers.as_ref().ok()?;
            let standing = readers.standing(key)?;
            Some(json!({
                "path": read.path.to_string_lossy(),
                "state": state(standing),
                "groups": readers.groups.len(),
                "groups_needed": readers.needed,
            }))
        })
        .collect();
    json!({ "name": name, "files": files })
}

fn state(standing: Standing) -> &'static str {
    match standing {
        Standing::Reads => "reads",
        Standing::Added => "added",
        Standing::Removed => "removed",
    }
}
