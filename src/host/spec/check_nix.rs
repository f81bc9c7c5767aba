//! Nix configuration and known hosts.

use std::collections::BTreeMap;

use super::check::{Checked, Facts, entries, is_word};
use super::check_builders::{self, Builders};
use super::load::Sources;
use super::raw::{self, Mapping};
use super::units::{Either, Plain};
use super::{Free, Jobs, Nix, Secret, Size};

/// Experimental features of a host that names none.
const FEATURES: [&str; 2] = ["nix-command", "flakes"];
/// The word for a value that follows from the machine.
pub(super) const AUTO: &str = "auto";

pub(super) fn nix(nix: raw::Nix, secrets: &[Secret], facts: &Facts<'_>, sources: &Sources) -> Checked<Nix> {
    let at = |field: &str, message: String| sources.error(&["nix", field], message);
    let jobs = |field: &str, value: Option<Plain>| match value {
        None => Ok(None),
        Some(Plain(text)) if text == AUTO => Ok(Some(Jobs::Auto)),
        Some(Plain(text)) => match text.parse() {
            Ok(count) => Ok(Some(Jobs::Count(count))),
            Err(_) => Err(at(field, format!("{field} is `{text}`: it can be a number or `{AUTO}`"))),
        },
    };
    let words =
        |field: &str, list: Option<Vec<String>>| match list {
            Some(list) => match list.iter().position(|word| !is_one_word(word)) {
                Some(at) => Err(sources
                    .error(&["nix", field, &at.to_string()], format!("`{}` is not one word", list[at]))),
                None => Ok(Some(list)),
            },
            None => Ok(None),
        };
    let free = |field: &str, value: Option<Plain>| match value {
        None => Ok(None),
        Some(Plain(text)) if text == AUTO => Ok(Some(Free::Auto)),
        Some(Plain(text)) => match Size::parse(&text) {
            Ok(size) => Ok(Some(Free::Size(size))),
            Err(error) => Err(at(field, format!("{error}, or `{AUTO}`"))),
        },
    };
    let (min_free, max_free) = (free("min_free", nix.min_free)?, free("max_free", nix.max_free)?);
    if let (Some(Free::Size(min)), Some(Free::Size(max))) = (min_free, max_free)
        && max < min
    {
        return Err(at("max_free", format!("max_free is {max}, less than min_free ({min})")));
    }
    let max_jobs = jobs("max_jobs", nix.max_jobs)?;
    let trusted_users = words("trusted_users", nix.trusted_users)?.unwrap_or_default();
    let Builders { fixed, deployed } = check_builders::builders(nix.builders, secrets, facts, sources)?;
    if max_jobs == Some(Jobs::Count(0)) && fixed.is_empty() && deployed.is_empty() {
        return Err(at("max_jobs", "max_jobs is 0 and there is no builder: nothing could be built".into()));
    }
    Ok(Nix {
        trusted_users,
        max_jobs,
        cores: jobs("cores", nix.cores)?,
        substituters: words("substituters", nix.substituters)?,
        trusted_public_keys: words("trusted_public_keys", nix.trusted_public_keys)?.unwrap_or_default(),
        experimental_features: words("experimental_features", nix.experimental_features)?
            .unwrap_or_else(|| FEATURES.map(str::to_owned).to_vec()),
        sandbox: nix.sandbox.unwrap_or(true),
        builders_use_substitutes: nix.builders_use_substitutes.unwrap_or(true),
        connect_timeout: nix.connect_timeout,
        log_lines: nix.log_lines,
        min_free,
        max_free,
        system_features: words("system_features", nix.system_features)?,
        extra_platforms: words("extra_platforms", nix.extra_platforms)?.unwrap_or_default(),
        extra: extra(nix.extra, sources)?,
        builders: fixed,
        deployed,
    })
}

/// Keys of nix.conf that other keys of host.yaml stand for: written twice, the last one would count in silence.
const OWN: [&str; 16] = [
    "build-users-group",
    "builders",
    "builders-use-substitutes",
    "connect-timeout",
    "cores",
    "experimental-features",
    "extra-platforms",
    "log-lines",
    "max-free",
    "max-jobs",
    "min-free",
    "sandbox",
    "substituters",
    "system-features",
    "trusted-public-keys",
    "trusted-users",
];

/// Further lines of nix.conf.
fn extra(lines: Option<Vec<String>>, sources: &Sources) -> Checked<Vec<String>> {
    let lines = lines.unwrap_or_default();
    for (at, line) in lines.iter().enumerate() {
        let path = ["nix", "extra", &at.to_string()];
        let key = line.split_once('=').map(|(key, _)| key.trim());
        match key {
            Some(key) if is_word(key, "-") && !line.contains('\n') => {
                if OWN.contains(&key) {
                    let message = format!(
                        "`{key}` is written by civm: use `{}` of `nix:`, or `extra-{key}` where nix has it",
                        key.replace('-', "_")
                    );
                    return Err(sources.error(&path, message));
                }
            }
            _ => {
                let message = format!("`{line}` is not a line of nix.conf: write `key = value`");
                return Err(sources.error(&path, message));
            }
        }
    }
    Ok(lines)
}

pub(super) fn known_hosts(
    known: Option<Mapping<Either<String, Vec<String>>>>,
    sources: &Sources,
) -> Checked<BTreeMap<String, Vec<String>>> {
    let mut out = BTreeMap::new();
    for (name, keys) in entries(known) {
        let path = ["known_hosts", name.as_str()];
        if !is_word(&name, "._:-[],*") {
            return Err(sources.error(&path, format!("`{name}` is not a host name")));
        }
        let keys = match keys {
            Either::Short(key) => vec![key],
            Either::Long(keys) => keys,
        };
        let keys: Result<Vec<String>, String> = keys.iter().map(|key| check_builders::public(key)).collect();
        out.insert(name.clone(), keys.map_err(|message| sources.error(&path, message))?);
    }
    Ok(out)
}

/// Values of nix.conf are separated by blanks.
fn is_one_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_whitespace) && !text.starts_with('#')
}
