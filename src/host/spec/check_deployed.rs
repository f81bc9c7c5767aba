//! Builders that the keeper of builders makes of another host of the project, on other people's machines.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::check::{self, Checked, Facts, is_word};
use super::check_builders::Entry;
use super::check_nix::AUTO;
use super::units::{Either, Period, Plain};
use super::{Arch, Deployed, Jobs, Remote, Require, SSH_PORT, Spec, Start, raw, tuning};
use crate::host::error::{Error, SpecError};

/// Who builds as root does on every machine.
const ROOT: &str = "root";
/// Names in the keeper's directory that are not builders'.
const TAKEN: [&str; 6] = ["builders.json", "keeper.sock", "keys", "known_hosts", "machines", "ssh_config"];
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Ports that an ordinary user may listen on.
const PORTS: RangeInclusive<u16> = 1024..=u16::MAX;

/// A builder as its controller's host.yaml has it.
pub(super) fn builder(entry: &Entry<'_>, raw: raw::Builder, facts: &Facts<'_>) -> Checked<Deployed> {
    let fail = |field: &str, message: String| Err(entry.fail(field, message));
    let only_fixed = [
        ("host", raw.host.is_some(), "on: USER@HOST"),
        ("systems", raw.systems.is_some(), "arch"),
        ("public_key", raw.public_key.is_some(), "on_public_key, for the machine where it is made"),
    ];
    if let Some((field, _, instead)) = only_fixed.into_iter().find(|(_, is_there, _)| *is_there) {
        let message = format!(
            "`{field}` is for builders that are there already and does not go with `deploy`: write `{instead}`, or \
             give the builder another name where an extended host has this one"
        );
        return fail(field, message);
    }
    if TAKEN.contains(&entry.name) {
        return fail("", format!("`{}` cannot be the name of a builder that is deployed", entry.name));
    }
    let arch = raw
        .arch
        .as_deref()
        .map(check::arch_named)
        .transpose()
        .map_err(|message| entry.fail("arch", message))?;
    let host = raw.deploy.unwrap_or_default();
    let spec = of_project(entry, &host, arch, facts)?;
    let user = user(entry, &host, &spec, raw.user)?;
    let on = raw.on.ok_or_else(|| {
        entry.fail("on", "the builder has no `on`: where it is made, such as `on: user@host.example.org`")
    })?;
    let period = |field: &str, value: Option<Period>, or: Duration, range: RangeInclusive<Duration>| {
        let value = value.map_or(or, |Period(value)| value);
        if range.contains(&value) {
            return Ok(value);
        }
        let (least, most) = (range.start().as_secs(), range.end().as_secs());
        Err(entry.fail(field, format!("{field} is {} s: it can be {least} s to {most} s", value.as_secs())))
    };
    let max_jobs = match raw.max_jobs {
        Some(Plain(text)) if text != AUTO => entry.jobs(&text, " or `auto`")?,
        _ => tuning::load(spec.cpus, spec.memory).max_jobs,
    };
    let features = match raw.features {
        None => None,
        Some(Either::Short(word)) if word == AUTO => None,
        Some(Either::Short(word)) => {
            return fail("features", format!("features is `{word}`: it can be a list or `{AUTO}`"));
        }
        Some(Either::Long(list)) => Some(entry.words("features", Some(list))?),
    };
    if let Some(port) = raw.port.filter(|port| !PORTS.contains(port)) {
        let message = format!(
            "port is {port}: the port of the controller's loopback can be {} to {}",
            PORTS.start(),
            PORTS.end()
        );
        return fail("port", message);
    }
    let run_with = raw.run_with.unwrap_or_default();
    if run_with.iter().any(|word| word.is_empty() || word.contains(['\n', '\0'])) {
        return fail(
            "run_with",
            "run_with is a list of words, such as [nix, shell, \"nixpkgs#qemu\", -c]".into(),
        );
    }
    let missing = "the builder has no `on_public_key`, the host key of the machine where it is made";
    Ok(Deployed {
        on: remote(&on).map_err(|message| entry.fail("on", message))?,
        on_key: raw.on_key.map(|name| entry.secret("on_key", name)).transpose()?,
        on_public_key: entry.public("on_public_key", raw.on_public_key.as_ref(), missing)?,
        key: raw.key.map(|name| entry.secret("key", name)).transpose()?,
        max_jobs: Some(max_jobs),
        speed: entry.count("speed", raw.speed)?,
        features,
        mandatory_features: entry.words("mandatory_features", raw.mandatory_features)?,
        start: one_of(
            entry,
            "start",
            raw.start,
            &[("always", Start::Always), ("on-demand", Start::OnDemand)],
        )?,
        require: one_of(entry, "require", raw.require, &[("kvm", Require::Kvm), ("any", Require::Any)])?,
        idle: period("idle", raw.idle, 30 * MINUTE, SECOND..=DAY)?,
        hold: period("hold", raw.hold, 10 * MINUTE, SECOND..=HOUR)?,
        ttl: period("ttl", raw.ttl, MINUTE, 15 * SECOND..=HOUR)?,
        drain: period("drain", raw.drain, 5 * MINUTE, Duration::ZERO..=DAY)?,
        port: raw.port,
        run_with,
        arch: spec.arch,
        name: entry.name.to_owned(),
        host,
        user,
    })
}

/// The host of the project that a builder is made of.
fn of_project(entry: &Entry<'_>, host: &str, arch: Option<Arch>, facts: &Facts<'_>) -> Checked<Spec> {
    let fail = |field: &str, message: String| Err(entry.fail(field, message));
    if host == facts.name {
        return fail("deploy", format!("`{host}` cannot deploy itself"));
    }
    let Some(read) = facts.builders else {
        let message = format!("`{}` is deployed as a builder itself, so it cannot deploy others", facts.name);
        return fail("deploy", message);
    };
    let spec = match read(host, arch.unwrap_or(facts.arch)) {
        Ok(spec) => spec,
        Err(Error::NoHost { suggestion, .. }) => {
            let error = entry.fail("deploy", format!("there is no host `{host}` to deploy"));
            return Err(SpecError { suggestion, ..error });
        }
        Err(Error::Spec(error)) => return Err(error),
        Err(error) => return fail("deploy", error.to_string()),
    };
    if let Some(arch) = arch.filter(|arch| *arch != spec.arch) {
        return fail("arch", format!("arch is `{arch}`, but hosts/{host}/host.yaml says {}", spec.arch));
    }
    if !spec.artifacts.is_empty() {
        let message = format!("host `{host}` has artifacts, which a builder that is deployed is not given");
        return fail("deploy", message);
    }
    match &spec.nix {
        None => fail("deploy", format!("host `{host}` has no `nix:`, so it cannot be a builder")),
        Some(nix) if nix.max_jobs == Some(Jobs::Count(0)) => fail(
            "deploy",
            format!("host `{host}` builds nothing itself (its max_jobs is 0), so it cannot be a builder"),
        ),
        Some(_) => Ok(spec),
    }
}

/// Who builds there. Where nobody is named, the one user whom its Nix trusts.
fn user(entry: &Entry<'_>, host: &str, spec: &Spec, wanted: Option<String>) -> Checked<String> {
    let fail = |message: String| Err(entry.fail("user", message));
    let trusted = spec.nix.as_ref().map_or(&[][..], |nix| &nix.trusted_users);
    let is_user = |name: &String| spec.users.iter().any(|user| user.name == **name);
    let Some(user) = wanted else {
        let possible: Vec<&String> = trusted.iter().filter(|name| is_user(name)).collect();
        return match possible[..] {
            [one] => Ok(one.clone()),
            [] => fail(format!(
                "host `{host}` has no user whom its Nix trusts: it needs one in `users` that `nix.trusted_users` names"
            )),
            _ => fail(format!("host `{host}` has several trusted users: say which one with `user`")),
        };
    };
    if user == ROOT {
        return Ok(user);
    }
    if !is_user(&user) {
        return fail(format!("host `{host}` has no user `{user}`"));
    }
    if !trusted.contains(&user) {
        return fail(format!(
            "the Nix of host `{host}` does not trust `{user}`, and would refuse what is sent to it: add it to \
             `nix.trusted_users` there"
        ));
    }
    Ok(user)
}

/// One of some words; the first where none is given.
fn one_of<T: Copy + Default>(
    entry: &Entry<'_>,
    field: &str,
    word: Option<String>,
    known: &[(&str, T)],
) -> Checked<T> {
    let Some(word) = word else { return Ok(T::default()) };
    let found = known.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        entry.fail(field, format!("{field} is `{word}`: it can be `{}`", names.join("` or `")))
    })
}

/// `USER@HOST[:PORT]`, with an IPv6 address in brackets.
fn remote(text: &str) -> Result<Remote, String> {
    let bad = || format!("`{text}` is not a machine: write USER@HOST or USER@HOST:PORT");
    let (user, rest) = text.rsplit_once('@').ok_or_else(|| {
        format!("`{text}` has no user: write USER@HOST, the account there that civm may use")
    })?;
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest),
        None => rest.find(':').map_or((rest, ""), |at| rest.split_at(at)),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port: &u16| *port != 0).ok_or_else(bad)?,
        None if port.is_empty() => SSH_PORT,
        None => return Err(bad()),
    };
    let is_host = is_word(host, "._:-") && !host.starts_with('-');
    if !is_host || !is_word(user, "._-") || user.starts_with('-') {
        return Err(bad());
    }
    Ok(Remote { user: user.to_owned(), host: host.to_owned(), port })
}
