//! What Nix and ssh are told of remote builders.
//!
//! Builders that are deployed are in here by name alone: what changes while they come and go, the keeper of builders
//! writes below [`KEEPER`].

use std::collections::BTreeMap;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::SECRETS;
use crate::host::layer::Unit;
use crate::host::spec::{Builder, Deployed, Nix, SSH_PORT};

/// Nix's remote builders.
pub const MACHINES: &str = "/etc/nix/machines";
/// The directory of the keeper of builders in a guest.
pub const KEEPER: &str = "/run/civm/builders";
/// Those of Nix's remote builders that are deployed.
pub const DEPLOYED_MACHINES: &str = "/run/civm/builders/machines";
/// The store to build in for each system, as JSON: for `nix build --store`.
pub const STORES: &str = "/etc/civm/builders.json";
/// What ssh has to know of builders that do not listen on port 22.
pub const SSH_CONFIG: &str = "/etc/ssh/ssh_config.d/50-civm-builders.conf";
/// What ssh has to know of those that are deployed.
pub const DEPLOYED_SSH_CONFIG: &str = "/etc/ssh/ssh_config.d/50-civm-ephemeral.conf";
/// Those who may use the builders that are deployed.
pub const GROUP: &str = "civm-builders";
/// The unit of the keeper of builders.
pub const UNIT: &str = "civm-builders.service";
/// What each builder that is deployed is made of, as a hash; the keeper looks at its builders again when it changes.
pub const DEPLOYED: &str = "/etc/civm/deployed";

/// The unit of the keeper. It gets the time to say good-bye to all builders: its ssh connections end after it, not with
/// it. There is no unit behind the guest's network, which is up to the end.
const UNIT_TEXT: &str = "\
[Unit]
Description=Builders that this machine makes for itself
After=civm-sshd.service

[Service]
Type=notify
Environment=HOME=/root
ExecStart=/run/civm/civm builder run
ExecReload=/bin/kill -HUP $MAINPID
KillMode=mixed
TimeoutStopSec=20
Restart=on-failure
RestartSec=1
LimitNOFILE=65536
";

/// The unit of the keeper of builders.
pub(crate) fn unit() -> Unit {
    Unit { text: UNIT_TEXT.to_owned(), start: true }
}

/// The files of these builders, by path.
pub(super) fn files(nix: &Nix) -> BTreeMap<&'static str, String> {
    let mut out = BTreeMap::new();
    let mut put = |path, text: String| {
        if !text.is_empty() {
            out.insert(path, text);
        }
    };
    put(MACHINES, nix.builders.iter().map(machine).collect());
    put(SSH_CONFIG, nix.builders.iter().filter(|one| one.port != SSH_PORT).map(ssh_config).collect());
    put(DEPLOYED_SSH_CONFIG, nix.deployed.iter().map(|one| alias(one, &Paths::guest(one))).collect());
    put(STORES, stores(nix));
    out
}

/// Lines of ssh's known hosts.
pub(super) fn known_hosts(builders: &[Builder]) -> String {
    builders.iter().fold(String::new(), |mut out, builder| {
        let _ = writeln!(out, "{} {}", ssh_name(builder), builder.public_key);
        out
    })
}

/// The name that ssh knows a builder by: an alias where the port is not ssh's own, since the URIs of older Nix
/// (2.8 in Debian 12) take no port.
fn ssh_name(builder: &Builder) -> &str {
    if builder.port == SSH_PORT { &builder.host } else { &builder.name }
}

/// A line of the machines file: URI, systems, key file, jobs, speed, features, mandatory features, host key. Without
/// `trusted`, what comes back from one builder is "not valid" when it is sent to another.
fn machine(builder: &Builder) -> String {
    format!(
        "ssh-ng://{}@{}?trusted=true {} {SECRETS}/{} {} {} {} {} {}\n",
        builder.user,
        ssh_name(builder),
        builder.systems.join(","),
        builder.key,
        builder.max_jobs,
        builder.speed,
        list(&builder.features),
        list(&builder.mandatory_features),
        STANDARD.encode(&builder.public_key),
    )
}

fn list(words: &[String]) -> String {
    if words.is_empty() { "-".into() } else { words.join(",") }
}

fn ssh_config(builder: &Builder) -> String {
    // The key is looked up by the alias: there is no other entry for it.
    format!(
        "Host {name}\n  HostName {}\n  Port {}\n  HostKeyAlias {name}\n",
        builder.host,
        builder.port,
        name = builder.name
    )
}

/// The store of each system's fastest builder, the first of them where several are as fast.
fn stores(nix: &Nix) -> String {
    let fixed = nix.builders.iter().flat_map(|builder| {
        let key = format!("{SECRETS}/{}", builder.key);
        let uri = format!("ssh-ng://{}@{}?ssh-key={key}&trusted=true", builder.user, ssh_name(builder));
        builder.systems.iter().map(move |system| (system.clone(), builder.speed, uri.clone()))
    });
    // The alias has the key: each user's own copy, which ssh would refuse to read of another user.
    let deployed = nix.deployed.iter().map(|builder| {
        (builder.system(), builder.speed, format!("ssh-ng://{}@{}?trusted=true", builder.user, builder.name))
    });
    let mut best: BTreeMap<String, (u32, String)> = BTreeMap::new();
    for (system, speed, uri) in fixed.chain(deployed) {
        if best.get(&system).is_none_or(|(known, _)| *known < speed) {
            best.insert(system, (speed, uri));
        }
    }
    if best.is_empty() {
        return String::new();
    }
    let stores: serde_json::Map<String, serde_json::Value> =
        best.into_iter().map(|(system, (_, uri))| (system, uri.into())).collect();
    format!("{:#}\n", serde_json::Value::Object(stores))
}

/// Where ssh finds what belongs to a builder that is deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// civm's binary, as a word of a shell.
    pub civm: String,
    /// The private key; `%u` stands for who builds.
    pub identity: String,
    /// The host keys of the builders.
    pub known_hosts: String,
}

impl Paths {
    /// Those in a controller's guest.
    #[must_use]
    pub fn guest(builder: &Deployed) -> Self {
        let identity = match &builder.key {
            Some(secret) => format!("{SECRETS}/{secret}"),
            None => format!("{KEEPER}/keys/%u/id_ed25519"),
        };
        Self { civm: "/run/civm/civm".to_owned(), identity, known_hosts: format!("{KEEPER}/known_hosts") }
    }
}

/// ssh's alias of a builder that is deployed. It connects through the keeper's socket, and waits as long as the
/// keeper holds the connection. Half-open connections end after 45 s. Nothing of another configuration comes in between.
#[must_use]
pub fn alias(builder: &Deployed, paths: &Paths) -> String {
    let Paths { civm, identity, known_hosts } = paths;
    let (name, user) = (&builder.name, &builder.user);
    let patience = builder.hold.as_secs().saturating_add(30);
    format!(
        "Host {name}
  ProxyCommand {civm} builder dial {name}
  User {user}
  IdentityFile {identity}
  IdentitiesOnly yes
  HostKeyAlias {name}
  UserKnownHostsFile {known_hosts}
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  VerifyHostKeyDNS no
  UpdateHostKeys no
  BatchMode yes
  RequestTTY no
  ForwardAgent no
  ControlMaster no
  ControlPath none
  ConnectTimeout {patience}
  ServerAliveInterval 15
  ServerAliveCountMax 3
  IPQoS throughput
"
    )
}
