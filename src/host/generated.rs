//! Files of a guest that are made from other keys of host.yaml: nix.conf, machines, ssh's known hosts.

use std::collections::BTreeMap;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::layer::File;
use super::spec::{Builder, Jobs, Nix, SSH_PORT, Spec};

/// The link to the installed secrets.
pub const SECRETS: &str = "/run/secrets";
/// Nix's configuration.
const NIX_CONF: &str = "/etc/nix/nix.conf";
/// It reads them when it starts, a new list of builders at each build.
const NIX_DAEMON: &str = "nix-daemon.service";
/// Nix's remote builders.
const MACHINES: &str = "/etc/nix/machines";
/// Host keys that every user's ssh knows.
const KNOWN_HOSTS: &str = "/etc/ssh/ssh_known_hosts";
/// What ssh has to know of builders that do not listen on port 22.
const SSH_CONFIG: &str = "/etc/ssh/ssh_config.d/50-civm-builders.conf";
/// Configuration that every user may read.
const READABLE: u32 = 0o644;

/// The files of a host.
#[must_use]
pub fn files(spec: &Spec) -> BTreeMap<String, File> {
    let file = |(path, text): (&str, String)| {
        let restart_units = if path == NIX_CONF { vec![NIX_DAEMON.to_owned()] } else { Vec::new() };
        (path.to_owned(), File { text, mode: READABLE, restart_units, reload_units: Vec::new() })
    };
    contents(spec).into_iter().map(file).collect()
}

/// Their paths.
pub(super) fn paths(spec: &Spec) -> impl Iterator<Item = &'static str> {
    contents(spec).into_keys()
}

fn contents(spec: &Spec) -> BTreeMap<&'static str, String> {
    let mut out = BTreeMap::new();
    let builders = spec.nix.as_ref().map_or(&[][..], |nix| &nix.builders);
    if let Some(nix) = &spec.nix {
        out.insert(NIX_CONF, nix_conf(nix));
        if !builders.is_empty() {
            out.insert(MACHINES, builders.iter().map(machine).collect());
        }
    }
    let known = known_hosts(spec, builders);
    if !known.is_empty() {
        out.insert(KNOWN_HOSTS, known);
    }
    let config: String = builders.iter().filter(|builder| builder.port != SSH_PORT).map(ssh_config).collect();
    if !config.is_empty() {
        out.insert(SSH_CONFIG, config);
    }
    out
}

fn nix_conf(nix: &Nix) -> String {
    let mut trusted = vec!["root".to_owned()];
    trusted.extend(nix.trusted_users.iter().filter(|user| *user != "root").cloned());
    let mut lines = vec![
        ("build-users-group", "nixbld".to_owned()),
        ("sandbox", nix.sandbox.to_string()),
        ("trusted-users", trusted.join(" ")),
        ("experimental-features", nix.experimental_features.join(" ")),
        ("builders-use-substitutes", nix.builders_use_substitutes.to_string()),
    ];
    match nix.max_jobs {
        Some(Jobs::Auto) => lines.push(("max-jobs", "auto".into())),
        Some(Jobs::Count(count)) => lines.push(("max-jobs", count.to_string())),
        None => {}
    }
    if let Some(substituters) = &nix.substituters {
        lines.push(("substituters", substituters.join(" ")));
    }
    if !nix.trusted_public_keys.is_empty() {
        lines.push(("trusted-public-keys", nix.trusted_public_keys.join(" ")));
    }
    lines.into_iter().fold(String::new(), |mut out, (key, value)| {
        out.push_str(format!("{key} = {value}").trim_end());
        out.push('\n');
        out
    })
}

/// The name that ssh knows a builder by: an alias where the port is not ssh's own, since the URIs of older Nix
/// (2.8 in Debian 12) take no port.
fn ssh_name(builder: &Builder) -> &str {
    if builder.port == SSH_PORT { &builder.host } else { &builder.name }
}

/// A line of the machines file: URI, systems, key file, jobs, speed, features, mandatory features, host key.
fn machine(builder: &Builder) -> String {
    format!(
        "ssh-ng://{}@{} {} {SECRETS}/{} {} {} {} {} {}\n",
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

fn known_hosts(spec: &Spec, builders: &[Builder]) -> String {
    let mut out = String::new();
    for (name, keys) in &spec.known_hosts {
        for key in keys {
            let _ = writeln!(out, "{name} {key}");
        }
    }
    for builder in builders {
        let _ = writeln!(out, "{} {}", ssh_name(builder), builder.public_key);
    }
    out
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
