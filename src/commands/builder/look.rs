//! `civm builder ls --remote` and `purge`: what civm has on a machine that lends itself.

use std::time::{Duration, Instant};

use serde_json::json;

use super::project_builders::chosen;
use super::{Home, parcels_of_controller, reason_failure};
use crate::builder::identity::Pair;
use crate::builder::keeper::reason::{Kind, Reason};
use crate::builder::link::{Link, Target};
use crate::builder::parcels::{self, Loaded};
use crate::builder::push::Binaries;
use crate::builder::ssh::Access;
use crate::builder::ssh::child::Cut;
use crate::builder::wire::{self, Facts, FromRemote, Owner, ToRemote};
use crate::cli::builder::Purge;
use crate::commands::Context;
use crate::edge::atomic;
use crate::edge::private_dir::PrivateDir;
use crate::host::spec::{Arch, Deployed};
use crate::instance::deadline::scaled;
use crate::outcome::{Code, Failure, Outcome};

/// How long a remote may take to look at itself, or to remove what it has.
const ANSWER: Duration = Duration::from_secs(120);
/// How long it bears silence meanwhile, in milliseconds.
const TTL_MS: u64 = 150_000;

/// A machine that lends itself.
struct Lender {
    builder: Deployed,
    arch: Arch,
    key: Option<Pair>,
}

/// The one that a builder is made on, or that `on:` of a builder names.
fn lender(remote: &str, home: &Home, context: &Context) -> Result<Lender, Failure> {
    let is_meant = |builder: &Deployed| builder.name == remote || builder.on.to_string() == remote;
    let unknown = || {
        Failure::new(Code::Generic, format!("no builder is made on `{remote}`")).help(
            "name a builder, or its `on:` as host.yaml has it: the machine's host key is known from there",
        )
    };
    let of_loaded = |loaded: Loaded| -> Result<Lender, Failure> {
        let key = loaded.on_key().map_err(|error| Failure::new(Code::CouldNotReadInput, error))?;
        Ok(Lender { arch: loaded.parcel.machine.arch, builder: loaded.parcel.builder, key })
    };
    let dir = match home {
        Home::Controller(_) => parcels_of_controller(),
        Home::Given(place) => place.parcels(),
        Home::Project(..) => {
            let (found, _) = chosen(&[], None, false, context)?;
            let found = found
                .into_iter()
                .find(|packing| is_meant(&packing.packed.parcel.builder))
                .ok_or_else(unknown)?;
            let names = [found.packed.parcel.builder.name.clone()];
            let opened =
                chosen(&names, Some(&found.of), true, context)?.0.into_iter().next().ok_or_else(unknown)?;
            let key = opened.on_key.as_ref().map(|key| Pair::secret(key)).transpose().map_err(|error| {
                let name = opened.packed.parcel.builder.on_key.clone().unwrap_or_default();
                Failure::new(Code::CouldNotReadInput, format!("the secret `{name}` cannot log in: {error}"))
            })?;
            let parcel = opened.packed.parcel;
            return Ok(Lender { arch: parcel.machine.arch, builder: parcel.builder, key });
        }
    };
    let found = parcels::load(&dir, &mut |complaint| context.screen.warn(complaint))?;
    found.into_iter().find(|loaded| is_meant(&loaded.parcel.builder)).ok_or_else(unknown).and_then(of_loaded)
}

/// Asks a remote something, after its look at itself.
fn ask(
    remote: &str,
    request: Option<&ToRemote>,
    home: &Home,
    context: &Context,
) -> Result<(Facts, Option<FromRemote>), Failure> {
    let lender = lender(remote, home, context)?;
    let environment = &context.environment;
    let dir =
        PrivateDir::in_memory(environment).map_err(|error| Failure::new(Code::Generic, error.to_string()))?;
    let key = lender.key.as_ref().map(|pair| {
        let path = dir.path().join("key");
        atomic::create(&path, &pair.private, 0o600, false).map(|()| path)
    });
    let key = key.transpose().map_err(|error| Failure::new(Code::Generic, error.to_string()))?;
    let builder = &lender.builder;
    let access = Access::new(&builder.on, &builder.on_public_key, key, &builder.name, dir.path());
    let (binaries, cut) = (Binaries::default(), Cut::default());
    let target = Target {
        access: &access,
        arch: lender.arch,
        emulates: false,
        run_with: &builder.run_with,
        binaries: &binaries,
        environment,
        cut: &cut,
    };
    let mut link = Link::open(&target, &mut |what| context.screen.detail(what)).map_err(reason_failure)?;
    let until = Instant::now() + scaled(ANSWER, environment);
    let asked = talk(&mut link, builder, request, until, &mut |warning| context.screen.warn(warning));
    link.close();
    asked.map_err(reason_failure)
}

fn talk(
    link: &mut Link,
    builder: &Deployed,
    request: Option<&ToRemote>,
    until: Instant,
    warn: &mut dyn FnMut(String),
) -> Result<(Facts, Option<FromRemote>), Reason> {
    link.say(&ToRemote::Hello {
        protocol: wire::PROTOCOL,
        civm: env!("CARGO_PKG_VERSION").to_owned(),
        owner: Owner {
            keeper: String::new(),
            host: String::new(),
            project: String::new(),
            builder: String::new(),
        },
        ttl_ms: TTL_MS,
        order: None,
        require: builder.require,
        image: None,
    })?;
    let mut facts = None;
    loop {
        let heard = link.hear(until)?;
        if heard.is_none() && Instant::now() >= until {
            return Err(Reason::new(Kind::Late, format!("{} does not answer in time", builder.on)));
        }
        match heard {
            Some(FromRemote::Facts(found)) => {
                let Some(request) = request else { return Ok((found, None)) };
                facts = Some(found);
                link.say(request)?;
            }
            Some(FromRemote::Warning { message }) => warn(format!("{}: {message}", builder.on)),
            Some(FromRemote::Failed { kind, message, hint }) => {
                return Err(Reason {
                    kind: Kind::Remote(kind),
                    message: format!("{}: {message}", builder.on),
                    hint,
                });
            }
            Some(purged @ FromRemote::Purged { .. }) => {
                if let Some(facts) = facts.take() {
                    return Ok((facts, Some(purged)));
                }
            }
            _ => {}
        }
    }
}

/// Lists what a remote has.
pub(super) fn look(remote: &str, json: bool, home: &Home, context: &Context) -> Outcome {
    let (facts, _) = ask(remote, None, home, context)?;
    if json {
        context.screen.line(format!("{:#}", serde_json::json!(facts)))?;
        return Ok(0);
    }
    let accel = facts.accel.map_or_else(|| "nothing".to_owned(), |accel| accel.to_string());
    let mut text = format!(
        "{} ({}), {} processors, {} GiB of memory, {} GiB of disk free, {accel}: {}\n",
        facts.os,
        facts.arch,
        facts.cpus,
        facts.memory_mib >> 10,
        facts.disk_mib >> 10,
        facts.accel_reason
    );
    for missing in &facts.missing {
        text.push_str(&format!("missing: {}: {}\n", missing.what, missing.remedy));
    }
    for lease in &facts.leases {
        let Owner { host, project, builder, .. } = &lease.owner;
        text.push_str(&format!("builder {builder}, held by {host} for {project}\n"));
    }
    for (path, bytes) in &facts.kept {
        text.push_str(&format!("kept: {path} ({} MiB)\n", bytes >> 20));
    }
    for swept in &facts.swept {
        text.push_str(&format!("removed, since its keeper is gone: {swept}\n"));
    }
    context.screen.data(crate::builder::ssh::child::printable(&text).as_bytes())?;
    Ok(0)
}

/// Removes what a remote keeps.
pub(super) fn purge(args: &Purge, home: &Home, context: &Context) -> Outcome {
    let request = ToRemote::Purge { dry_run: args.dry_run };
    let (_, answer) = ask(&args.remote, Some(&request), home, context)?;
    let Some(FromRemote::Purged { paths, bytes }) = answer else {
        return Err(Failure::new(
            Code::MachineUnavailable,
            format!("{} does not say what it removed", args.remote),
        ));
    };
    if args.json {
        context
            .screen
            .line(format!("{:#}", json!({"dry_run": args.dry_run, "paths": paths, "bytes": bytes})))?;
        return Ok(0);
    }
    for path in &paths {
        context.screen.line(path)?;
    }
    let verb = if args.dry_run { "would be" } else { "were" };
    context.screen.note(format!("{} MiB {verb} removed", bytes >> 20));
    Ok(0)
}
