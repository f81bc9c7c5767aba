//! Nix configuration, remote builders and known hosts.

use std::collections::BTreeMap;

use ssh_key::PublicKey;

use super::check::{Checked, entries, is_word};
use super::load::Sources;
use super::raw::{self, Mapping};
use super::units::{Either, Plain};
use super::{Builder, Jobs, Nix, SSH_PORT, Secret};

/// Experimental features of a host that names none.
const FEATURES: [&str; 2] = ["nix-command", "flakes"];

pub(super) fn nix(nix: raw::Nix, secrets: &[Secret], sources: &Sources) -> Checked<Nix> {
    let max_jobs = match nix.max_jobs {
        None => None,
        Some(Plain(text)) if text == "auto" => Some(Jobs::Auto),
        Some(Plain(text)) => match text.parse() {
            Ok(count) => Some(Jobs::Count(count)),
            Err(_) => {
                let message = format!("max_jobs is `{text}`: it can be a number or `auto`");
                return Err(sources.error(&["nix", "max_jobs"], message));
            }
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
    let mut builders = Vec::new();
    for (name, raw) in entries(nix.builders) {
        builders.push(builder(name, raw, secrets, sources)?);
    }
    if max_jobs == Some(Jobs::Count(0)) && builders.is_empty() {
        let message = "max_jobs is 0 and there is no builder: nothing could be built";
        return Err(sources.error(&["nix", "max_jobs"], message));
    }
    Ok(Nix {
        trusted_users: words("trusted_users", nix.trusted_users)?.unwrap_or_default(),
        max_jobs,
        substituters: words("substituters", nix.substituters)?,
        trusted_public_keys: words("trusted_public_keys", nix.trusted_public_keys)?.unwrap_or_default(),
        experimental_features: words("experimental_features", nix.experimental_features)?
            .unwrap_or_else(|| FEATURES.map(str::to_owned).to_vec()),
        sandbox: nix.sandbox.unwrap_or(true),
        builders_use_substitutes: nix.builders_use_substitutes.unwrap_or(true),
        builders,
        deployed: Vec::new(),
    })
}

fn builder(name: String, raw: raw::Builder, secrets: &[Secret], sources: &Sources) -> Checked<Builder> {
    let fail = |field: &str, message: String| sources.error(&["nix", "builders", &name, field], message);
    let missing = |field: &'static str| move || (field, format!("the builder has no `{field}`"));
    let need = |field: &'static str, value: Option<String>| {
        let (field, message) = match value {
            Some(value) if is_word(&value, "._:-") && !value.starts_with('-') => return Ok(value),
            Some(value) => (field, format!("`{value}` is not a {field}")),
            None => missing(field)(),
        };
        Err(fail(field, message))
    };
    if !is_word(&name, "._-") || name.starts_with('-') {
        return Err(fail("", format!("`{name}` cannot be the name of a builder")));
    }
    let list = |field: &'static str, list: Option<Vec<String>>| {
        let list = list.unwrap_or_default();
        match list.iter().find(|word| !is_word(word, "_-")) {
            Some(word) => Err(fail(field, format!("`{word}` is not one word"))),
            None => Ok(list),
        }
    };
    let systems = list("systems", raw.systems)?;
    if systems.is_empty() {
        return Err(fail("systems", "the builder has no `systems`".into()));
    }
    let key = raw.key.ok_or_else(|| fail("key", "the builder has no `key`".into()))?;
    if !secrets.iter().any(|secret| secret.name == key) {
        return Err(fail("key", format!("`{key}` is not one of this host's `secrets`")));
    }
    let count = |field: &'static str, value: Option<u32>| match value.unwrap_or(1) {
        0 => Err(fail(field, format!("{field} is 0: it must be at least 1"))),
        count => Ok(count),
    };
    let public_key = raw.public_key.ok_or_else(|| {
        fail(
            "public_key",
            "the builder has no `public_key`: a host key that is not known would be trusted blindly".into(),
        )
    })?;
    Ok(Builder {
        host: need("host", raw.host)?,
        port: raw.port.unwrap_or(SSH_PORT),
        user: need("user", raw.user)?,
        max_jobs: count("max_jobs", raw.max_jobs)?,
        speed: count("speed", raw.speed)?,
        features: list("features", raw.features)?,
        mandatory_features: list("mandatory_features", raw.mandatory_features)?,
        public_key: public(&public_key).map_err(|message| fail("public_key", message))?,
        systems,
        key,
        name,
    })
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
        let keys: Result<Vec<String>, String> = keys.iter().map(|key| public(key)).collect();
        out.insert(name.clone(), keys.map_err(|message| sources.error(&path, message))?);
    }
    Ok(out)
}

/// A public key without its comment. The text is never repeated: it may be a private key by mistake.
fn public(text: &str) -> Result<String, String> {
    let key = PublicKey::from_openssh(text.trim()).map(|mut key| {
        key.set_comment("");
        key.to_openssh()
    });
    match key {
        Ok(Ok(line)) => Ok(line.trim_end().to_owned()),
        _ => Err("this is not a public key, such as `ssh-ed25519 AAAA…`".into()),
    }
}

/// Values of nix.conf are separated by blanks.
fn is_one_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_whitespace) && !text.starts_with('#')
}
