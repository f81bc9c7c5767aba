//! Which secrets are installed, and for whom.

use std::collections::BTreeMap;
use std::path::Path;

use super::Secret;
use super::check::{Checked, Facts, entries, is_word};
use super::check_system::unit_list;
use super::load::{SecretsFile, Sources};
use super::raw;
use super::units::{Mode, Names};
use crate::host::error::{SpecError, alike};
use crate::host::generated::SECRETS;
use crate::host::layer::HOST_KEY_SECRET;
use crate::install::{Native, Opener as _};
use crate::sops::tree::{Item, Key, Tree, Value};
use crate::store::Format;

/// Encrypted files of the project, by path.
type SopsFiles = BTreeMap<String, Vec<u8>>;

/// Mode of a secret that names none.
pub(super) const SECRET_MODE: u32 = 0o400;

pub(super) fn secrets(
    secrets: Option<Names<String, raw::Secret>>,
    facts: &Facts<'_>,
    sources: &Sources,
) -> Checked<(Vec<Secret>, SopsFiles)> {
    let mut others = SopsFiles::new();
    let list: Vec<(String, String, raw::Secret)> = match secrets {
        None => Vec::new(),
        Some(Names::List(names)) => names
            .into_iter()
            .enumerate()
            .map(|(at, name)| (at.to_string(), name, raw::Secret::default()))
            .collect(),
        Some(Names::Map(map)) => {
            entries(Some(map)).map(|(name, secret)| (name.clone(), name, secret)).collect()
        }
    };
    let Some((_, file)) = &facts.secrets else {
        if list.is_empty() {
            return Ok((Vec::new(), others));
        }
        let message = format!("secrets are named, but hosts/{} has no secrets.yaml", facts.name);
        return Err(sources.error(&["secrets"], message));
    };
    let mut out: Vec<Secret> = Vec::with_capacity(list.len());
    for (at, name, raw) in list {
        let path = ["secrets", at.as_str()];
        let secret = secret(name, raw, &path, sources)?;
        match &secret.file {
            None => in_file(&secret, file, &path, sources)?,
            Some(other) => in_other_file(&secret, other, file, &mut others)
                .map_err(|message| sources.error(&[path[0], path[1], "file"], message))?,
        }
        if out.iter().any(|other| clash(&other.name, &secret.name)) {
            return Err(sources
                .error(&path, format!("`{}` and another secret would have the same path", secret.name)));
        }
        if secret.path.is_some() && out.iter().any(|other| other.path == secret.path) {
            return Err(sources.error(&path, "two secrets have the same path"));
        }
        out.push(secret);
    }
    Ok((out, others))
}

/// Whether a name is a path below the directory of secrets.
pub(super) fn is_name(name: &str) -> bool {
    name.split('/').all(|part| part != ".." && part != "." && is_word(part, "_.@+-"))
}

/// The name of an owner or group.
pub(super) fn account(value: Option<String>) -> Result<String, String> {
    let value = value.unwrap_or_else(|| "root".into());
    if is_word(&value, "_.-") { Ok(value) } else { Err(format!("`{value}` is not the name of an account")) }
}

/// Whether a link may be made there.
pub(super) fn link(path: &str) -> Result<(), String> {
    let inside = Path::new(path).starts_with(SECRETS) && Path::new(path) != Path::new(SECRETS);
    if inside { Ok(()) } else { super::check::is_path(path) }
}

fn secret(name: String, raw: raw::Secret, at: &[&str; 2], sources: &Sources) -> Checked<Secret> {
    let fail = |field: &str, message: String| sources.error(&[at[0], at[1], field], message);
    if !is_name(&name) {
        let message = format!(
            "`{name}` cannot be the name of a secret: letters, digits and _ . @ + -, with `/` between directories"
        );
        return Err(fail("", message));
    }
    let format =
        format(raw.file.as_deref(), raw.format.as_deref()).map_err(|message| fail("format", message))?;
    let key = key(&name, raw.key, raw.file.is_some(), format).map_err(|message| fail("key", message))?;
    let account = |field: &str, value| account(value).map_err(|message| fail(field, message));
    let units = |field: &str, names| unit_list(names, &[at[0], at[1], field], sources);
    if let Some(path) = &raw.path {
        link(path).map_err(|message| fail("path", message))?;
    }
    Ok(Secret {
        file: raw.file,
        format,
        key,
        owner: account("owner", raw.owner)?,
        group: account("group", raw.group)?,
        mode: raw.mode.map_or(SECRET_MODE, |Mode(mode)| mode),
        path: raw.path,
        restart_units: units("restart_units", raw.restart_units)?,
        reload_units: units("reload_units", raw.reload_units)?,
        name,
    })
}

/// The format of the file of a secret: the one that is named, else that of the file's name.
fn format(file: Option<&str>, named: Option<&str>) -> Result<Format, String> {
    match (file, named) {
        (None, None) => Ok(Format::Yaml),
        (None, Some(_)) => Err("`format` is that of a `file`, and none is named".into()),
        (Some(file), None) => Ok(Format::of_path(Path::new(file))),
        (Some(_), Some(name)) => Format::of_name(name)
            .ok_or_else(|| format!("`{name}` is not a format: it can be yaml, json, dotenv, ini or binary")),
    }
}

/// The key in the file; none where the whole file is the secret.
fn key(name: &str, named: Option<String>, of_other_file: bool, format: Format) -> Result<String, String> {
    if !matches!(format, Format::Yaml | Format::Json) {
        return match named {
            None => Ok(String::new()),
            Some(_) => Err(format!("a {} file is installed as a whole and takes no key", format.name())),
        };
    }
    let key = named.unwrap_or_else(|| name.to_owned());
    // All of the host's own file would be the host key as well.
    let is_whole = key.is_empty() && of_other_file;
    if !is_whole && key.split('/').any(str::is_empty) {
        return Err(format!("`{key}` is not a key: write names with `/` between levels"));
    }
    Ok(key)
}

/// The same for another file of the project, which is read for it.
fn in_other_file(secret: &Secret, path: &str, own: &SecretsFile, read: &mut SopsFiles) -> Result<(), String> {
    if !read.contains_key(path) {
        read.insert(path.to_owned(), own.project.read(path)?);
    }
    let text = read.get(path).map_or(&[][..], Vec::as_slice);
    let opener = Native::default();
    let file = opener
        .read(Path::new(path), text, secret.format)
        .map_err(|error| format!("{path} cannot be read as {}: {error}", secret.format.name()))?;
    if secret.key.is_empty() {
        return Ok(());
    }
    crate::install::check_key(opener.tree(&file), &secret.key, secret.format)
        .map_err(|reason| format!("{path}: {reason}"))
}

/// Whether the file of secrets has the key, with a value that can be installed: what the guest would find out.
fn in_file(secret: &Secret, file: &SecretsFile, at: &[&str; 2], sources: &Sources) -> Checked<()> {
    let Some(tree) = &file.tree else { return Ok(()) };
    let Err(reason) = crate::install::check_key(tree, &secret.key, Format::Yaml) else { return Ok(()) };
    let known = leaves(tree);
    let error = sources.error(at, format!("{}: {reason}", file.path.display()));
    let is_there = known.iter().any(|key| Path::new(key).starts_with(&secret.key));
    let suggestion = if is_there { None } else { alike(&secret.key, known.iter().map(String::as_str)) };
    Err(SpecError { suggestion, ..error })
}

/// The keys of the file of secrets that no secret of host.yaml takes.
pub(super) fn unlisted(secrets: &[Secret], facts: &Facts<'_>) -> Vec<String> {
    let Some((_, SecretsFile { tree: Some(tree), .. })) = &facts.secrets else { return Vec::new() };
    let is_listed = |key: &String| secrets.iter().any(|secret| secret.file.is_none() && secret.key == *key);
    leaves(tree).into_iter().filter(|key| key != HOST_KEY_SECRET && !is_listed(key)).collect()
}

/// The keys of all values of a file, `/` between levels.
fn leaves(tree: &Tree) -> Vec<String> {
    fn walk(items: &[Item], above: &str, out: &mut Vec<String>) {
        for item in items {
            let Item::Entry(Key::Str(key), value) = item else { continue };
            let path = format!("{above}{}", String::from_utf8_lossy(key.as_bytes()));
            match value {
                Value::Map(inner) => walk(inner, &format!("{path}/"), out),
                _ => out.push(path),
            }
        }
    }
    let mut out = Vec::new();
    walk(tree.documents.first().map_or(&[], Vec::as_slice), "", &mut out);
    out
}

/// Whether two names are one, or one needs a directory where the other is a file.
fn clash(one: &str, other: &str) -> bool {
    let (one, other) = (Path::new(one), Path::new(other));
    one.starts_with(other) || other.starts_with(one)
}
