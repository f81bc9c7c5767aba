//! From encrypted files to the bytes of each secret. Every file is read once and decrypted once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::error::Error;
use super::opener::Opener;
use super::validate::{Plan, Planned};
use crate::sops::text::Text;
use crate::sops::tree::{Item, Key, Tree, Value, get};
use crate::store::Format;

/// YAML's merge key.
const MERGE: &str = "<<";

/// The text of the encrypted files, each with its format.
pub(super) type Files = BTreeMap<PathBuf, (Format, Vec<u8>)>;

/// Reads every file and looks each key up in what is not secret: the names, and the types that ENC tokens carry.
pub(super) fn read<O: Opener>(plan: &Plan, opener: &O) -> Result<Files, Error> {
    let mut files = Files::new();
    let mut trees: BTreeMap<&Path, Tree> = BTreeMap::new();
    for secret in &plan.secrets {
        let path = &secret.file;
        if !files.contains_key(path) {
            let text = fs::read(path).map_err(Error::io("read", path))?;
            let tree = opener.read(path, &text, secret.format).map_err(|source| Error::Unreadable {
                path: path.clone(),
                format: secret.format.name(),
                source,
            })?;
            trees.insert(path, tree);
            files.insert(path.clone(), (secret.format, text));
        }
        if let Some(tree) = trees.get(path.as_path())
            && takes_key(secret)
        {
            check(tree, &secret.key, secret.format).map_err(|reason| bad_key(secret, reason))?;
        }
    }
    Ok(files)
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

/// Decrypts every file and takes the bytes of each secret, in the plan's order.
pub(super) fn decrypt<O: Opener>(
    plan: &Plan,
    files: Files,
    identities: &[O::Identity],
    opener: &O,
) -> Result<Vec<Zeroizing<Vec<u8>>>, Error> {
    let mut trees = BTreeMap::new();
    for (path, (format, text)) in files {
        let tree = opener
            .decrypt(&path, &text, format, identities)
            .map_err(|source| Error::Decrypt { path: path.clone(), source })?;
        trees.insert(path, tree);
    }
    plan.secrets
        .iter()
        .map(|secret| match trees.get(&secret.file) {
            Some(tree) if takes_key(secret) => one_value(secret, tree),
            Some(tree) => opener.emit(tree, secret.format).map_err(|source| Error::Emit {
                path: secret.file.clone(),
                format: secret.format.name(),
                source,
            }),
            None => Err(bad_key(secret, "its file was not read".into())),
        })
        .collect()
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
    Error::Key { name: secret.name.clone(), path: secret.file.clone(), reason }
}
