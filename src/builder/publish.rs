//! What nix and ssh read of the builders, as text, and how it is put in place.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::parcels::Loaded;
use super::place::{Held, Place};
use crate::edge::atomic;

/// What nix says of itself where nobody asked it, but for what takes a processor of its own.
const FEATURES: [&str; 3] = ["benchmark", "big-parallel", "nixos-test"];
/// How much longer ssh waits for a connection than the keeper holds it, in seconds.
const LONGER: u64 = 30;

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
        let machine = &self.loaded.parcel.machine;
        self.loaded.parcel.builder.max_jobs.unwrap_or_else(|| jobs(machine.cpus, machine.memory_mib))
    }

    /// Its store, as nix names it.
    #[must_use]
    pub fn store(&self) -> String {
        format!("ssh-ng://{}@{}?trusted=true", self.loaded.parcel.builder.user, self.loaded.name())
    }
}

/// How many builds a machine takes at a time: half of its processors, and 4 GiB for each, in groups that leave several
/// processors to a build.
#[must_use]
pub fn jobs(cpus: u32, memory_mib: u64) -> u32 {
    let memory_gib = u32::try_from(memory_mib >> 10).unwrap_or(u32::MAX);
    let budget = (cpus / 2).min(memory_gib.saturating_add(3) / 4).max(1);
    let least = budget.min(budget.div_ceil(3).max(4));
    let processors = cpus.min(budget.saturating_mul(2)).max(1);
    let each = (processors / least).max(1);
    budget.min(processors / each).max(1)
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
    let mut text = String::new();
    for told in builders {
        let (name, builder) = (told.loaded.name(), &told.loaded.parcel.builder);
        let _ = write!(
            text,
            "Host {name}\n  \
             ProxyCommand {} builder dial --socket {} {name}\n  \
             User {}\n  \
             IdentityFile \"{}\"\n  \
             IdentitiesOnly yes\n  \
             IdentityAgent none\n  \
             HostKeyAlias {name}\n  \
             HostKeyAlgorithms ssh-ed25519\n  \
             UserKnownHostsFile \"{}\"\n  \
             GlobalKnownHostsFile /dev/null\n  \
             StrictHostKeyChecking yes\n  \
             UpdateHostKeys no\n  \
             CheckHostIP no\n  \
             BatchMode yes\n  \
             RequestTTY no\n  \
             ForwardAgent no\n  \
             ControlMaster no\n  \
             ControlPath none\n  \
             ConnectTimeout {}\n  \
             ServerAliveInterval 15\n  \
             ServerAliveCountMax 3\n  \
             IPQoS throughput\n",
            word(civm),
            word(&place.socket()),
            builder.user,
            place.key("%u", Some(told.loaded)).display(),
            tokens(&place.known_hosts()),
            seconds(builder.hold) + LONGER,
        );
    }
    text
}

/// A path as a word of a command of ssh's configuration, which a shell reads after ssh has looked for `%`.
fn word(path: &Path) -> String {
    let path = tokens(path);
    shlex::try_quote(&path).map_or_else(|_| path.clone(), std::borrow::Cow::into_owned)
}

fn tokens(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%%")
}

fn seconds(time: Duration) -> u64 {
    time.as_secs().max(1)
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
        let told = |loaded, learned, published| Told { loaded, host_key: "ssh-ed25519 AAAA", learned, published };
        let all = [told(&big, Some(&learned), true), told(&hidden, None, false), told(&small, None, true)];
        assert_eq!(
            machines(&all),
            "ssh-ng://vm-builder@big?trusted=true x86_64-linux,i686-linux - 4 10 kvm,big-parallel big-parallel c3NoLWVkMjU1MTkgQUFBQQ==\n\
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
        let config = ssh_config(&all, &Place::at(Path::new("/run/civm/builders")), Path::new("/run/civm/civm"));
        let block = config.split("Host ").nth(1).unwrap();
        assert_eq!(
            block,
            "big\n  ProxyCommand /run/civm/civm builder dial --socket /run/civm/builders/keeper.sock big\n  \
             User vm-builder\n  IdentityFile \"/run/civm/builders/keys/%u/id_ed25519\"\n  IdentitiesOnly yes\n  \
             IdentityAgent none\n  HostKeyAlias big\n  HostKeyAlgorithms ssh-ed25519\n  \
             UserKnownHostsFile \"/run/civm/builders/known_hosts\"\n  GlobalKnownHostsFile /dev/null\n  \
             StrictHostKeyChecking yes\n  UpdateHostKeys no\n  CheckHostIP no\n  BatchMode yes\n  RequestTTY no\n  \
             ForwardAgent no\n  ControlMaster no\n  ControlPath none\n  ConnectTimeout 630\n  \
             ServerAliveInterval 15\n  ServerAliveCountMax 3\n  IPQoS throughput\n"
        );
        assert!(config.contains("IdentityFile \"/run/civm/builders/keys/%u/for-small\""));
        assert_eq!(all[1].features(), ["benchmark", "big-parallel", "nixos-test"]);
    }

    #[test]
    fn a_machine_takes_as_many_builds_as_it_can_bear() {
        let cases = [(40, 40, 4), (20, 40, 4), (2, 2, 1), (4, 16, 2), (128, 512, 22), (1, 1, 1), (64, 8, 2)];
        for (cpus, gib, wanted) in cases {
            assert_eq!(jobs(cpus, gib << 10), wanted, "{cpus} processors, {gib} GiB");
        }
    }
}
