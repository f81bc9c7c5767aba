//! Files of a guest that are made from other keys of host.yaml: nix.conf, machines, ssh's known hosts.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::layer::File;
use super::spec::{Jobs, Spec};

pub mod builders;
mod nix;

/// The link to the installed secrets.
pub const SECRETS: &str = "/run/secrets";
/// Nix's configuration.
const NIX_CONF: &str = "/etc/nix/nix.conf";
/// It reads them when it starts, a new list of builders at each build.
const NIX_DAEMON: &str = "nix-daemon.service";
/// Host keys that every user's ssh knows.
const KNOWN_HOSTS: &str = "/etc/ssh/ssh_known_hosts";
/// sshd's part for a machine that others build on.
const SSHD: &str = "/etc/ssh/civm.d/builder.conf";
/// nix-daemon's.
const NIX_LIMITS: &str = "/etc/systemd/system/nix-daemon.service.d/civm.conf";
/// Configuration that every user may read.
const READABLE: u32 = 0o644;

/// A client that is frozen keeps its builds running for as long as its connection: a minute.
const SSHD_TEXT: &str = "ClientAliveInterval 15\nClientAliveCountMax 4\n";
/// Builds at once have many files open.
const NIX_LIMITS_TEXT: &str = "[Service]\nLimitNOFILE=1048576\n";

/// The files of a host.
#[must_use]
pub fn files(spec: &Spec) -> BTreeMap<String, File> {
    let file = |(path, text): (&str, String)| {
        let unit = |unit: &str| vec![unit.to_owned()];
        let (restart_units, reload_units) = match path {
            NIX_CONF => (unit(NIX_DAEMON), Vec::new()),
            SSHD => (Vec::new(), unit("civm-sshd.service")),
            _ => (Vec::new(), Vec::new()),
        };
        (path.to_owned(), File { text, mode: READABLE, restart_units, reload_units })
    };
    contents(spec).into_iter().map(file).collect()
}

/// Their paths.
pub(super) fn paths(spec: &Spec) -> impl Iterator<Item = &'static str> {
    let noted = spec.nix.iter().filter(|nix| !nix.deployed.is_empty()).map(|_| builders::DEPLOYED);
    contents(spec).into_keys().chain(noted)
}

fn contents(spec: &Spec) -> BTreeMap<&'static str, String> {
    let mut out = BTreeMap::new();
    if let Some(nix) = &spec.nix {
        out.insert(NIX_CONF, nix::conf(nix, spec));
        out.append(&mut builders::files(nix));
    }
    let known = known_hosts(spec);
    if !known.is_empty() {
        out.insert(KNOWN_HOSTS, known);
    }
    if is_builder(spec) {
        out.insert(SSHD, SSHD_TEXT.to_owned());
        out.insert(NIX_LIMITS, NIX_LIMITS_TEXT.to_owned());
    }
    out
}

/// Whether others build on a host: somebody besides root may send its Nix what they want.
fn is_builder(spec: &Spec) -> bool {
    spec.nix.as_ref().is_some_and(|nix| {
        nix.max_jobs != Some(Jobs::Count(0)) && nix.trusted_users.iter().any(|user| user != "root")
    })
}

fn known_hosts(spec: &Spec) -> String {
    let mut out = String::new();
    for (name, keys) in &spec.known_hosts {
        for key in keys {
            let _ = writeln!(out, "{name} {key}");
        }
    }
    out + &builders::known_hosts(spec.nix.as_ref().map_or(&[], |nix| &nix.builders))
}

#[cfg(test)]
mod tests;
