//! Which secrets are installed, and for whom.

use std::path::Path;

use super::Secret;
use super::check::{Checked, Facts, entries, is_unit, is_word};
use super::load::Sources;
use super::raw;
use super::units::{Mode, Names};
use crate::host::generated::SECRETS;

/// Mode of a secret that names none.
const SECRET_MODE: u32 = 0o400;

pub(super) fn secrets(
    secrets: Option<Names<String, raw::Secret>>,
    facts: &Facts<'_>,
    sources: &Sources,
) -> Checked<Vec<Secret>> {
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
    if !list.is_empty() && facts.secrets_host.is_none() {
        let message = format!("secrets are named, but hosts/{} has no secrets.yaml", facts.name);
        return Err(sources.error(&["secrets"], message));
    }
    let mut out: Vec<Secret> = Vec::with_capacity(list.len());
    for (at, name, raw) in list {
        let path = ["secrets", at.as_str()];
        let secret = secret(name, raw, &path, sources)?;
        if out.iter().any(|other| clash(&other.name, &secret.name)) {
            return Err(
                sources.error(&path, format!("`{}` and another secret need the same place", secret.name))
            );
        }
        if secret.path.is_some() && out.iter().any(|other| other.path == secret.path) {
            return Err(sources.error(&path, "two secrets have the same path"));
        }
        out.push(secret);
    }
    Ok(out)
}

fn secret(name: String, raw: raw::Secret, at: &[&str; 2], sources: &Sources) -> Checked<Secret> {
    let fail = |field: &str, message: String| sources.error(&[at[0], at[1], field], message);
    if name.split('/').any(|part| part == ".." || part == "." || !is_word(part, "_.@+-")) {
        let message = format!(
            "`{name}` is no name of a secret: letters, digits and _ . @ + -, with `/` between folders"
        );
        return Err(fail("", message));
    }
    let key = raw.key.unwrap_or_else(|| name.clone());
    if key.split('/').any(str::is_empty) {
        return Err(fail("key", format!("`{key}` is no key: names with `/` between levels")));
    }
    let account = |field: &str, value: Option<String>| {
        let value = value.unwrap_or_else(|| "root".into());
        if is_word(&value, "_.-") {
            return Ok(value);
        }
        Err(fail(field, format!("`{value}` is no name")))
    };
    for (at, unit) in raw.restart_units.iter().flatten().enumerate() {
        is_unit(unit).map_err(|message| fail("restart_units", format!("{message} (entry {})", at + 1)))?;
    }
    if let Some(path) = &raw.path {
        let inside = Path::new(path).starts_with(SECRETS) && Path::new(path) != Path::new(SECRETS);
        if !inside {
            super::check::is_path(path).map_err(|message| fail("path", message))?;
        }
    }
    Ok(Secret {
        key,
        owner: account("owner", raw.owner)?,
        group: account("group", raw.group)?,
        mode: raw.mode.map_or(SECRET_MODE, |Mode(mode)| mode),
        path: raw.path,
        restart_units: raw.restart_units.unwrap_or_default(),
        name,
    })
}

/// Whether two names are one, or one needs a folder where the other is a file.
fn clash(one: &str, other: &str) -> bool {
    let (one, other) = (Path::new(one), Path::new(other));
    one.starts_with(other) || other.starts_with(one)
}
