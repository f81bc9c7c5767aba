//! What nix and ssh read of the builders, as text, and how it is put in place.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::parcels::Loaded;
use super::place::{Held, Place};
use crate::edge::atomic;
use crate::host::generated::builders::{Paths, alias};

/// What nix says of itself where nobody asked it, but for what takes a processor of its own.
const FEATURES: [&str; 3] = ["benchmark", "big-parallel", "nixos-test"];

/// What a builder says of itself once it is ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// Nix's version.
    pub version: Option<String>,
    /// Whether it trusts the user.
    pub trusted: Option<bool>,
    /// Its system features.
    pub features: Option<Vec<String>>,
    /// Systems that it builds for besides its own.
    pub extra_platforms: Vec<String>,
}

/// A builder as it is told to nix.
#[derive(Clone, Copy)]
pub struct Told<'a> {
    /// What it is made of.
    pub loaded: &'a Loaded,
    /// Its host key, `type base64`.
    pub host_key: &'a str,
    /// What it has said of itself, now or before.
    pub learned: Option<&'a Learned>,
    /// How many connections the way to it bears, where that is less than it could build.
    pub most: Option<u32>,
    /// Whether builds go there.
    pub published: bool,
}

impl Told<'_> {
    fn systems(&self) -> Vec<String> {
        let mut systems = vec![self.loaded.system()];
        for system in self.learned.iter().flat_map(|learned| &learned.extra_platforms) {
            if !systems.contains(system) {
                systems.push(system.clone());
            }
        }
        systems
    }

    /// Its system features: what host.yaml says, else what it says itself, else nix's defaults.
    #[must_use]
    pub fn features(&self) -> Vec<String> {
        let said = self.learned.and_then(|learned| learned.features.clone());
        let defaults = || FEATURES.map(str::to_owned).to_vec();
        self.loaded.parcel.builder.features.clone().or(said).unwrap_or_else(defaults)
    }

    /// Builds at a time.
    #[must_use]
    pub fn jobs(&self) -> u32 {
        self.loaded.parcel.builder.max_jobs.unwrap_or(1).min(self.most.unwrap_or(u32::MAX))
    }

    /// Its store, as nix names it.
    #[must_use]
    pub fn store(&self) -> String {
        format!("ssh-ng://{}@{}?trusted=true", self.loaded.parcel.builder.user, self.loaded.name())
    }
}

/// nix's list of builders: URI, systems, key file, jobs, speed, features, mandatory features, host key. The key file is
/// named by ssh's configuration.
#[must_use]
pub fn machines(builders: &[Told<'_>]) -> String {
    let mut text = String::new();
    for told in builders.iter().filter(|told| told.published) {
        let builder = &told.loaded.parcel.builder;
        let _ = writeln!(
            text,
            "{} {} - {} {} {} {} {}",
            told.store(),
            told.systems().join(","),
            told.jobs(),
            builder.speed,
            list(&told.features()),
            list(&builder.mandatory_features),
            STANDARD.encode(told.host_key),
        );
    }
    text
}

fn list(words: &[String]) -> String {
    if words.is_empty() { "-".into() } else { words.join(",") }
}

/// ssh's configuration: every builder is reached through the keeper's socket, under its own name.
#[must_use]
pub fn ssh_config(builders: &[Told<'_>], place: &Place, civm: &Path) -> String {
    let dir = format!("CIVM_BUILDERS={}", place.dir.display());
    let paths = |loaded| Paths {
        civm: format!("env {} {}", word(&dir), word(&civm.to_string_lossy())),
        identity: format!("\"{}\"", place.key("%u", Some(loaded)).display()),
        known_hosts: format!("\"{}\"", tokens(&place.known_hosts().to_string_lossy())),
    };
    builders.iter().map(|told| alias(&told.loaded.parcel.builder, &paths(told.loaded))).collect()
}

/// A word of a command of ssh's configuration, which a shell reads after ssh has looked for `%`.
fn word(text: &str) -> String {
    let text = tokens(text);
    shlex::try_quote(&text).map_or_else(|_| text.clone(), std::borrow::Cow::into_owned)
}

fn tokens(text: &str) -> String {
    text.replace('%', "%%")
}

/// ssh's list of host keys.
#[must_use]
pub fn known_hosts(builders: &[Told<'_>]) -> String {
    builders.iter().fold(String::new(), |mut text, told| {
        let _ = writeln!(text, "{} {}", told.loaded.name(), told.host_key);
        text
    })
}

/// For each system the store of the fastest builder.
#[must_use]
pub fn stores(builders: &[Told<'_>]) -> BTreeMap<String, String> {
    let mut best: BTreeMap<String, &Told<'_>> = BTreeMap::new();
    for told in builders.iter().filter(|told| told.published) {
        for system in told.systems() {
            let speed = |told: &Told<'_>| told.loaded.parcel.builder.speed;
            if best.get(&system).is_none_or(|known| speed(known) < speed(told)) {
                best.insert(system, told);
            }
        }
    }
    best.into_iter().map(|(system, told)| (system, told.store())).collect()
}

/// Puts all of it in place. What has not changed is not written.
///
/// # Errors
/// A file cannot be written.
pub fn write(held: &Held, builders: &[Told<'_>], civm: &Path) -> Result<(), String> {
    let place = &held.place;
    let stores = serde_json::to_string_pretty(&stores(builders)).map_err(|error| error.to_string())? + "\n";
    for (path, text) in [
        (place.known_hosts(), known_hosts(builders)),
        (place.ssh_config(), ssh_config(builders, place, civm)),
        (place.machines(), machines(builders)),
        (place.builders_json(), stores),
    ] {
        atomic::update(&path, text.as_bytes(), held.readable()).map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::parcels::tests::loaded;

    #[test]
    fn nix_and_ssh_read_this() {
        let dir = Path::new("/parcels");
        let (mut big, mut small, hidden) = (loaded("big", dir), loaded("small", dir), loaded("hidden", dir));
        big.parcel.builder.mandatory_features = vec!["big-parallel".into()];
        small.parcel.builder.speed = 1;
        small.parcel.builder.max_jobs = Some(2);
        small.parcel.builder.features = Some(Vec::new());
        small.parcel.builder.key = Some("vm_builder_ssh_key".into());
        let learned = Learned {
            features: Some(vec!["kvm".into(), "big-parallel".into()]),
            extra_platforms: vec!["i686-linux".into(), "x86_64-linux".into()],
            ..Learned::default()
        };
        let told = |loaded, learned, published| {
            let host_key = "ssh-ed25519 AAAA";
            Told { loaded, host_key, learned, most: None, published }
        };
        let all = [told(&big, Some(&learned), true), told(&hidden, None, false), told(&small, None, true)];
        assert_eq!([None, Some(1), Some(8)].map(|most| Told { most, ..all[2] }.jobs()), [2, 1, 2]);
        assert_eq!(
            machines(&all),
            "ssh-ng://vm-builder@big?trusted=true x86_64-linux,i686-linux - 1 10 kvm,big-parallel big-parallel c3NoLWVkMjU1MTkgQUFBQQ==\n\
             ssh-ng://vm-builder@small?trusted=true x86_64-linux - 2 1 - - c3NoLWVkMjU1MTkgQUFBQQ==\n"
        );
        assert_eq!(
            known_hosts(&all),
            "big ssh-ed25519 AAAA\nhidden ssh-ed25519 AAAA\nsmall ssh-ed25519 AAAA\n"
        );
        assert_eq!(
            stores(&all).into_iter().collect::<Vec<_>>(),
            [
                ("i686-linux".to_owned(), "ssh-ng://vm-builder@big?trusted=true".to_owned()),
                ("x86_64-linux".to_owned(), "ssh-ng://vm-builder@big?trusted=true".to_owned()),
            ]
        );
        let config =
            ssh_config(&all, &Place::at(Path::new("/run/civm/builders")), Path::new("/run/civm/civm"));
        let block = config.split("Host ").nth(1).unwrap();
        for line in [
            "ProxyCommand env 'CIVM_BUILDERS=/run/civm/builders' /run/civm/civm builder dial big",
            "User vm-builder",
            "IdentityFile \"/run/civm/builders/keys/%u/id_ed25519\"",
            "HostKeyAlias big",
            "UserKnownHostsFile \"/run/civm/builders/known_hosts\"",
            "StrictHostKeyChecking yes",
            "ConnectTimeout 630",
        ] {
            assert!(block.lines().any(|found| found.trim() == line), "{line}: {block}");
        }
        assert!(config.contains("IdentityFile \"/run/civm/builders/keys/%u/for-small\""));
        assert_eq!(all[1].features(), ["benchmark", "big-parallel", "nixos-test"]);
    }
}
