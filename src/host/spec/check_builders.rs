//! Remote builders: those that are there, and those that are made on demand.

use ssh_key::PublicKey;

use super::check::{Checked, Facts, entries, is_word};
use super::check_deployed;
use super::load::Sources;
use super::raw::{self, Mapping};
use super::units::{Either, Plain};
use super::{Builder, Deployed, SSH_PORT, Secret};
use crate::host::error::SpecError;

/// A host's remote builders.
pub(super) struct Builders {
    pub(super) fixed: Vec<Builder>,
    pub(super) deployed: Vec<Deployed>,
}

pub(super) fn builders(
    builders: Option<Mapping<raw::Builder>>,
    secrets: &[Secret],
    facts: &Facts<'_>,
    sources: &Sources,
) -> Checked<Builders> {
    let (mut fixed, mut deployed): (Vec<Builder>, Vec<Deployed>) = (Vec::new(), Vec::new());
    for (name, raw) in entries(builders) {
        let entry = Entry { name: &name, secrets, sources };
        entry.check_name()?;
        if raw.deploy.is_some() {
            let new = check_deployed::builder(&entry, raw, facts)?;
            if let Some(port) = new.port
                && let Some(other) = deployed.iter().find(|other| other.port == Some(port))
            {
                return Err(entry.fail("port", format!("`{}` has the port {port} too", other.name)));
            }
            deployed.push(new);
        } else {
            fixed.push(builder(&entry, raw)?);
        }
    }
    // An alias of ssh's is for every connection to that name.
    for one in &deployed {
        if let Some(other) = fixed.iter().find(|other| other.host == one.name) {
            let entry = Entry { name: &one.name, secrets, sources };
            let message =
                format!("`{}` is the address of the builder `{}`: use another name", one.name, other.name);
            return Err(entry.fail("", message));
        }
    }
    Ok(Builders { fixed, deployed })
}

/// An entry of `nix.builders`.
pub(super) struct Entry<'a> {
    pub(super) name: &'a str,
    secrets: &'a [Secret],
    sources: &'a Sources,
}

impl Entry<'_> {
    /// An error at one of its keys.
    pub(super) fn fail(&self, field: &str, message: impl Into<String>) -> SpecError {
        self.sources.error(&["nix", "builders", self.name, field], message)
    }

    fn check_name(&self) -> Checked<()> {
        let name = self.name;
        if !is_word(name, "._-") || name.starts_with(['-', '.']) {
            return Err(self.fail("", format!("`{name}` cannot be the name of a builder")));
        }
        if name == "localhost" {
            let message = "Nix builds on `localhost` without ssh: the builder needs another name";
            return Err(self.fail("", message));
        }
        Ok(())
    }

    /// A list of words.
    pub(super) fn words(&self, field: &'static str, list: Option<Vec<String>>) -> Checked<Vec<String>> {
        let list = list.unwrap_or_default();
        match list.iter().find(|word| !is_word(word, "_-")) {
            Some(word) => Err(self.fail(field, format!("`{word}` is not one word"))),
            None => Ok(list),
        }
    }

    /// A number that is not 0.
    pub(super) fn count(&self, field: &'static str, value: Option<u32>) -> Checked<u32> {
        match value.unwrap_or(1) {
            0 => Err(self.fail(field, format!("{field} is 0: it must be at least 1"))),
            count => Ok(count),
        }
    }

    /// A number of builds at a time.
    pub(super) fn jobs(&self, text: &str, or: &str) -> Checked<u32> {
        let count = text.parse();
        let count = count
            .map_err(|_| self.fail("max_jobs", format!("max_jobs is `{text}`: it can be a number{or}")))?;
        self.count("max_jobs", Some(count))
    }

    /// A public key.
    pub(super) fn public(&self, field: &str, key: Option<&String>, missing: &str) -> Checked<String> {
        let key = key.ok_or_else(|| {
            self.fail(field, format!("{missing}: a host key that is not known would be trusted blindly"))
        })?;
        public(key).map_err(|message| self.fail(field, message))
    }

    /// The name of one of the host's secrets.
    pub(super) fn secret(&self, field: &str, name: String) -> Checked<String> {
        if self.secrets.iter().any(|secret| secret.name == name) {
            return Ok(name);
        }
        Err(self.fail(field, format!("`{name}` is not one of this host's `secrets`")))
    }
}

fn builder(entry: &Entry<'_>, raw: raw::Builder) -> Checked<Builder> {
    let only_deployed = [
        ("arch", raw.arch.is_some()),
        ("on", raw.on.is_some()),
        ("on_key", raw.on_key.is_some()),
        ("on_public_key", raw.on_public_key.is_some()),
        ("start", raw.start.is_some()),
        ("require", raw.require.is_some()),
        ("idle", raw.idle.is_some()),
        ("hold", raw.hold.is_some()),
        ("ttl", raw.ttl.is_some()),
        ("drain", raw.drain.is_some()),
        ("run_with", raw.run_with.is_some()),
    ];
    if let Some((field, _)) = only_deployed.into_iter().find(|(_, is_there)| *is_there) {
        let message = format!("`{field}` is for builders that civm makes: it goes with `deploy: HOST`");
        return Err(entry.fail(field, message));
    }
    let need = |field: &'static str, value: Option<String>| {
        let message = match value {
            Some(value) if is_word(&value, "._:-") && !value.starts_with('-') => return Ok(value),
            Some(value) => format!("`{value}` is not a {field}"),
            None => format!("the builder has no `{field}`"),
        };
        Err(entry.fail(field, message))
    };
    let systems = entry.words("systems", raw.systems)?;
    if systems.is_empty() {
        return Err(entry.fail("systems", "the builder has no `systems`"));
    }
    let key = raw.key.ok_or_else(|| entry.fail("key", "the builder has no `key`"))?;
    let key = entry.secret("key", key)?;
    let features = match raw.features {
        None => None,
        Some(Either::Long(list)) => Some(list),
        Some(Either::Short(word)) => {
            let message =
                format!("features is `{word}`: only a builder that civm deploys is asked, so list them");
            return Err(entry.fail("features", message));
        }
    };
    let max_jobs = match raw.max_jobs {
        None => 1,
        Some(Plain(text)) => entry.jobs(&text, "")?,
    };
    Ok(Builder {
        host: need("host", raw.host)?,
        port: raw.port.unwrap_or(SSH_PORT),
        user: need("user", raw.user)?,
        max_jobs,
        speed: entry.count("speed", raw.speed)?,
        features: entry.words("features", features)?,
        mandatory_features: entry.words("mandatory_features", raw.mandatory_features)?,
        public_key: entry.public("public_key", raw.public_key.as_ref(), "the builder has no `public_key`")?,
        systems,
        key,
        name: entry.name.to_owned(),
    })
}

/// A public key without its comment. The text is never repeated: it may be a private key by mistake.
pub(super) fn public(text: &str) -> Result<String, String> {
    let key = PublicKey::from_openssh(text.trim()).map(|mut key| {
        key.set_comment("");
        key.to_openssh()
    });
    match key {
        Ok(Ok(line)) => Ok(line.trim_end().to_owned()),
        _ => Err("this is not a public key, such as `ssh-ed25519 AAAA…`".into()),
    }
}
