//! From encrypted files to the bytes of each secret. Every file is read once and decrypted once.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::fs;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::error::Error;
use super::opener::Opener;
use super::validate::{KIND, Plan, Planned};
use crate::sops::text::Text;
use crate::sops::tree::{Item, Key, Tree, Value, get};
use crate::store::Format;

/// YAML's merge key.
const MERGE: &str = "<<";

/// The encrypted files, by path. A file that could not be read is there with the first secret that wanted it.
pub(super) type Files<F> = BTreeMap<PathBuf, Result<F, String>>;

/// Reads every file and looks each key up in what is not secret: the names, and the types that ENC tokens carry. What the
/// plan leaves out is moved from its secrets to the second list.
pub(super) fn read<O: Opener>(plan: &mut Plan, opener: &O) -> Result<(Files<O::File>, Vec<Planned>), Error> {
    let mut files = Files::new();
    let mut without = Vec::new();
    for secret in std::mem::take(&mut plan.secrets) {
        let read = look(&secret, &mut files, opener);
        match plan.partial.take(KIND, &secret.entry.name, read)? {
            Some(()) => plan.secrets.push(secret),
            None => without.push(secret),
        }
    }
    Ok((files, without))
}

fn look<O: Opener>(secret: &Planned, files: &mut Files<O::File>, opener: &O) -> Result<(), Error> {
    let file = once(files, secret, || {
        let path = &secret.file;
        let name = || secret.entry.name.clone();
        let failed = |source| Error::SecretFile { name: name(), path: path.clone(), source };
        let text = fs::read(path).map_err(failed)?;
        opener.read(path, &text, secret.format).map_err(|source| Error::Unreadable {
            name: name(),
            path: path.clone(),
            format: secret.format.name(),
            source,
        })
    })?;
    if takes_key(secret) {
        check(opener.tree(file), &secret.key, secret.format).map_err(|reason| bad_key(secret, reason))?;
    }
    Ok(())
}

/// What a file is made into, for the first of its secrets; the others get the same, or hear that it failed before.
fn once<'a, T>(
    known: &'a mut BTreeMap<PathBuf, Result<T, String>>,
    secret: &Planned,
    make: impl FnOnce() -> Result<T, Error>,
) -> Result<&'a T, Error> {
    let entry = match known.entry(secret.file.clone()) {
        MapEntry::Occupied(entry) => entry.into_mut(),
        MapEntry::Vacant(entry) => match make() {
            Ok(made) => entry.insert(Ok(made)),
            Err(error) => {
                entry.insert(Err(secret.entry.name.clone()));
                return Err(error);
            }
        },
    };
    entry.as_ref().map_err(|first| Error::AsBefore { path: secret.file.clone(), first: first.clone() })
}

/// Whether an encrypted file has a value that can be installed; otherwise why not.
pub(super) fn check(tree: &Tree, key: &str, format: Format) -> Result<(), String> {
    match find(tree, key, format)? {
        Value::Str(text) => match token_type(text) {
            None | Some("str" | "time" | "bytes") => Ok(()),
            Some(other) => Err(not_text(key, type_name(other))),
        },
        Value::Time(_) => Ok(()),
        other => Err(not_text(key, kind_name(other))),
    }
}

/// The plaintext of files, by path.
pub(super) struct Plaintexts<'a, O: Opener> {
    opener: &'a O,
    keys: &'a O::Keys,
    encrypted: Files<O::File>,
    decrypted: BTreeMap<PathBuf, Result<Tree, String>>,
}

impl<'a, O: Opener> Plaintexts<'a, O> {
    pub(super) fn new(encrypted: Files<O::File>, keys: &'a O::Keys, opener: &'a O) -> Self {
        Self { opener, keys, encrypted, decrypted: BTreeMap::new() }
    }

    /// The bytes of a secret. Its file is decrypted when the first of its secrets is wanted.
    pub(super) fn of(&mut self, secret: &Planned) -> Result<Zeroizing<Vec<u8>>, Error> {
        let Self { opener, keys, encrypted, decrypted } = self;
        let tree = once(decrypted, secret, || {
            let Some(Ok(file)) = encrypted.remove(&secret.file) else {
                return Err(bad_key(secret, "its file was not read".into()));
            };
            opener.decrypt(file, keys).map_err(|source| Error::Decrypt {
                path: secret.file.clone(),
                name: secret.entry.name.clone(),
                key: if takes_key(secret) { format!(" (key '{}')", secret.key) } else { String::new() },
                source,
            })
        })?;
        if takes_key(secret) {
            return one_value(secret, tree);
        }
        opener.emit(tree, secret.format).map_err(|source| Error::Emit {
            path: secret.file.clone(),
            format: secret.format.name(),
            source,
        })
    }
}

/// Whether one value is taken out of the file; otherwise the file is installed as a whole.
fn takes_key(secret: &Planned) -> bool {
    matches!(secret.format, Format::Yaml | Format::Json) && !secret.key.is_empty()
}

fn one_value(secret: &Planned, tree: &Tree) -> Result<Zeroizing<Vec<u8>>, Error> {
    match find(tree, &secret.key, secret.format).map_err(|reason| bad_key(secret, reason))? {
        Value::Str(text) | Value::Bytes(text) => Ok(Zeroizing::new(text.as_bytes().to_vec())),
        Value::Time(time) => Ok(Zeroizing::new(time.to_string().into_bytes())),
        other => Err(bad_key(secret, not_text(&secret.key, kind_name(other)))),
    }
}

/// The value of a key in the first document; `/` stands between levels.
fn find<'a>(tree: &'a Tree, key: &str, format: Format) -> Result<&'a Value, String> {
    let missing = || format!("the key '{key}' cannot be found");
    let mut branch = tree.documents.first().ok_or_else(missing)?;
    let mut parts = key.split('/').peekable();
    let mut walked = 0;
    while let Some(part) = parts.next() {
        if branch.iter().any(|item| matches!(item, Item::Entry(Key::Other(_), _))) {
            return Err(format!(
                "beside '{}' there is a key that is not a string",
                &key[..walked + part.len()]
            ));
        }
        let value = lookup(branch, part, format).ok_or_else(missing)?;
        walked += part.len();
        match value {
            _ if parts.peek().is_none() => return Ok(value),
            Value::Map(inner) => branch = inner,
            _ => return Err(format!("key '{}' does not refer to a dictionary", &key[..walked])),
        }
        walked += 1;
    }
    Err(missing())
}

/// The value of a key of a mapping. In YAML a merge key stands for mappings whose keys count where the mapping
/// has none of its own. In JSON a key can be there twice, and the last one counts, as for Go's reader.
fn lookup<'a>(branch: &'a [Item], key: &str, format: Format) -> Option<&'a Value> {
    let merged = || match get(branch, MERGE)? {
        Value::Map(inner) => lookup(inner, key, format),
        Value::List(items) => items.iter().find_map(|item| match item {
            Value::Map(inner) => lookup(inner, key, format),
            _ => None,
        }),
        _ => None,
    };
    match format {
        Format::Json => branch.iter().rev().find_map(|item| get(std::slice::from_ref(item), key)),
        _ => get(branch, key).or_else(merged),
    }
}

/// The type in `ENC[…,type:int]`, where the text is such a token.
fn token_type(text: &Text) -> Option<&str> {
    let inner = text.as_str().ok()?.strip_prefix("ENC[")?.strip_suffix(']')?;
    inner.rsplit_once(",type:").map(|(_, kind)| kind)
}

/// The types of ENC tokens in words.
fn type_name(kind: &str) -> &'static str {
    match kind {
        "int" => "an integer",
        "float" => "a float",
        "bool" => "a boolean",
        _ => "no text",
    }
}

fn kind_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Int(_) | Value::Uint(_) => "an integer",
        Value::Float(_) => "a float",
        Value::Str(_) | Value::Bytes(_) => "a string",
        Value::Time(_) => "a time",
        Value::Map(_) => "a dictionary",
        Value::List(_) => "a list",
        Value::Comment(_) => "a comment",
    }
}

fn not_text(key: &str, kind: &str) -> String {
    format!("the value of key '{key}' is not a string but {kind}")
}

fn bad_key(secret: &Planned, reason: String) -> Error {
    Error::Key { name: secret.entry.name.clone(), path: secret.file.clone(), reason }
}
