//! The manifest of sops-nix: what to install, from which files, for whom.
//!
//! It is read as Go's `encoding/json` reads it: keys match in any case, unknown ones are ignored, `null` and
//! a missing key are the zero value, of a repeated key the last counts, and only the first JSON value of
//! the file is looked at.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::Error;
use crate::store::Format;

/// A manifest, as written by sops-nix and by the host layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Manifest {
    /// What to install.
    pub secrets: Vec<Secret>,
    /// Files that are put together from secrets.
    pub templates: Vec<Template>,
    /// What stands for a secret in a template.
    pub placeholder_by_secret_name: BTreeMap<String, String>,
    /// Where the generations lie (`/run/secrets.d`).
    pub secrets_mount_point: String,
    /// The link to the current generation (`/run/secrets`).
    pub symlink_path: String,
    /// How many generations stay; 0 keeps all.
    pub keep_generations: i64,
    /// RSA keys for PGP. They are ignored, with a word in the log.
    pub ssh_key_paths: Vec<PathBuf>,
    /// The PGP keyring, which is of no use here.
    pub gnupg_home: String,
    /// A file of age identities.
    pub age_key_file: String,
    /// ssh ed25519 private keys that become age identities.
    pub age_ssh_key_paths: Vec<PathBuf>,
    /// A tmpfs without swap in place of the ramfs.
    pub use_tmpfs: bool,
    /// For one user: nothing is mounted and every file is the caller's own.
    pub user_mode: bool,
    /// What is logged.
    pub logging: Logging,
}

/// What is logged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Logging {
    /// A line for every imported key.
    pub key_import: bool,
    /// A line for new, changed and removed secrets.
    pub secret_changes: bool,
}

/// One secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Secret {
    /// Its path below a generation.
    pub name: String,
    /// Its key in the file, `/` between levels; empty means the whole file.
    pub key: String,
    /// Where it is found; a link leads from there, unless it lies below the link to the generation anyway.
    pub path: String,
    /// Name of its owner.
    pub owner: Option<String>,
    /// Number of its owner, where there is no name.
    pub uid: i64,
    /// Name of its group.
    pub group: Option<String>,
    /// Number of its group, where there is no name.
    pub gid: i64,
    /// The encrypted file.
    pub sops_file: String,
    /// The file's format; empty means YAML.
    pub format: String,
    /// Permission bits in octal.
    pub mode: String,
    /// Units to restart when the secret changes.
    pub restart_units: Vec<String>,
    /// Units to reload when the secret changes.
    pub reload_units: Vec<String>,
}

/// A file that is put together from secrets: a text with placeholders.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Template {
    /// Its path below `rendered/` of a generation.
    pub name: String,
    /// The text; where it is empty, that of the file counts.
    pub content: String,
    /// A file with the text.
    pub file: String,
    /// Where it is found; a link leads from there, unless it lies below the link to the generation anyway.
    pub path: String,
    /// Permission bits in octal.
    pub mode: String,
    /// Name of its owner.
    pub owner: Option<String>,
    /// Number of its owner, where there is no name.
    pub uid: i64,
    /// Name of its group.
    pub group: Option<String>,
    /// Number of its group, where there is no name.
    pub gid: i64,
    /// Units to restart when the rendered text changes.
    pub restart_units: Vec<String>,
    /// Units to reload when the rendered text changes.
    pub reload_units: Vec<String>,
}

/// The format that a manifest names; the empty name means YAML.
pub(super) fn format(name: &str) -> Option<Format> {
    if name.is_empty() { Some(Format::Yaml) } else { Format::of_name(name) }
}

const MANIFEST_KEYS: [&str; 13] = [
    "secrets",
    "templates",
    "placeholderBySecretName",
    "secretsMountPoint",
    "symlinkPath",
    "keepGenerations",
    "sshKeyPaths",
    "gnupgHome",
    "ageKeyFile",
    "ageSshKeyPaths",
    "useTmpfs",
    "userMode",
    "logging",
];
const SECRET_KEYS: [&str; 12] = [
    "name",
    "key",
    "path",
    "owner",
    "uid",
    "group",
    "gid",
    "sopsFile",
    "format",
    "mode",
    "restartUnits",
    "reloadUnits",
];
const TEMPLATE_KEYS: [&str; 11] = [
    "name",
    "content",
    "file",
    "path",
    "mode",
    "owner",
    "uid",
    "group",
    "gid",
    "restartUnits",
    "reloadUnits",
];
const LOGGING_KEYS: [&str; 2] = ["keyImport", "secretChanges"];

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// Text that is not a JSON object, or a field of another type.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let first = serde_json::Deserializer::from_slice(text).into_iter::<Value>().next();
        let mut fields = match first.transpose().map_err(Error::Parse)? {
            None => return Err(Error::EmptyManifest),
            Some(Value::Null) => Map::new(),
            Some(Value::Object(fields)) => canonical(fields, &MANIFEST_KEYS),
            Some(_) => return Err(Error::NoObject),
        };
        for (list, known) in [("secrets", &SECRET_KEYS[..]), ("templates", &TEMPLATE_KEYS)] {
            if let Some(Value::Array(entries)) = fields.get_mut(list) {
                entries.iter_mut().for_each(|entry| canonical_in_place(entry, known));
            }
        }
        if let Some(logging) = fields.get_mut("logging") {
            canonical_in_place(logging, &LOGGING_KEYS);
        }
        serde_json::from_value(Value::Object(fields)).map_err(Error::Parse)
    }
}

fn canonical_in_place(value: &mut Value, known: &[&str]) {
    if let Value::Object(fields) = value {
        *value = Value::Object(canonical(std::mem::take(fields), known));
    }
}

/// The known keys in their own spelling, without those that are `null`.
fn canonical(fields: Map<String, Value>, known: &[&str]) -> Map<String, Value> {
    let mut out = Map::new();
    for (key, value) in fields {
        let Some(name) = known.iter().find(|name| name.eq_ignore_ascii_case(&key)) else { continue };
        if !value.is_null() {
            out.insert((*name).to_owned(), value);
        }
    }
    out
}
