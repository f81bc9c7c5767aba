//! `civm builder doctor`: everything that a build on the builders needs, tried as this very user.

use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::unistd::Uid;
use serde_json::json;

use super::Home;
use crate::builder::keeper::socket::View;
use crate::builder::nixd;
use crate::builder::ssh::child::{Cut, Ssh};
use crate::cli::builder::Doctor;
use crate::commands::Context;
use crate::edge::process;
use crate::instance::deadline::scaled;
use crate::outcome::{Code, Failure, Outcome};

/// How long a login through nix's own way may take.
const LOGIN: Duration = Duration::from_secs(60);

/// What was looked at.
struct Finding {
    about: String,
    /// What is wrong, and what to do about it.
    problem: Option<(String, Option<String>)>,
}

impl Finding {
    fn good(about: impl Into<String>) -> Self {
        Self { about: about.into(), problem: None }
    }

    fn bad(about: impl Into<String>, what: impl Into<String>, help: Option<String>) -> Self {
        Self { about: about.into(), problem: Some((what.into(), help)) }
    }
}

/// Checks all, or one; exits with 1 if anything is wrong.
pub(super) fn run(args: &Doctor, home: &Home, context: &Context) -> Outcome {
    let views = home.list()?;
    let chosen: Vec<&View> =
        views.iter().filter(|view| args.builder.as_deref().is_none_or(|name| name == view.name)).collect();
    if let (Some(name), true) = (&args.builder, chosen.is_empty()) {
        return Err(Failure::new(Code::Generic, format!("no builder `{name}` here")));
    }
    let mut findings = vec![Finding::good("the keeper answers")];
    findings.extend(nix_configuration(home, context));
    for view in chosen {
        findings.extend(builder(view, home, context));
    }
    let problems = findings.iter().filter(|finding| finding.problem.is_some()).count();
    if args.json {
        let list: Vec<_> = findings
            .iter()
            .map(|Finding { about, problem }| {
                let (what, help) = problem.clone().unzip();
                json!({"about": about, "ok": problem.is_none(), "problem": what, "help": help.flatten()})
            })
            .collect();
        context.screen.line(format!("{:#}", json!(list)))?;
    } else {
        for Finding { about, problem } in &findings {
            match problem {
                None => context.screen.line(format!("ok       {about}"))?,
                Some((what, help)) => {
                    context.screen.line(format!("problem  {about}: {what}"))?;
                    for help in help.iter().flat_map(|help| help.lines()) {
                        context.screen.line(format!("         help: {help}"))?;
                    }
                }
            }
        }
    }
    Ok(u8::from(problems > 0))
}

/// Whether nix here is told of the builders. On a laptop `exec` tells it.
fn nix_configuration(home: &Home, context: &Context) -> Vec<Finding> {
    let Home::Controller(place) = home else { return Vec::new() };
    let mut found = Vec::new();
    let nix_daemon = Uid::effective().is_root();
    let about = "builds are tried as the daemon's user";
    found.push(if nix_daemon {
        Finding::good(about)
    } else {
        let help = Some("run this as root as well: the nix-daemon connects as root".to_owned());
        Finding::bad(about, "this is another user", help)
    });
    let wanted = format!("@{}", place.machines().display());
    let about = "nix.conf names the list of builders";
    let text = std::fs::read_to_string("/etc/nix/nix.conf").unwrap_or_default();
    let named = text.lines().any(|line| line.trim_start().starts_with("builders") && line.contains(&wanted));
    found.push(if named {
        Finding::good(about)
    } else {
        Finding::bad(about, format!("no line `builders` with `{wanted}`"), None)
    });
    let nix = context.environment.find_program("nix");
    let version = nix.and_then(|nix| {
        process::capture(process::command(nix, &context.environment.for_tools()).arg("--version"), None).ok()
    });
    found.push(match version {
        Some(version) => Finding::good(String::from_utf8_lossy(&version).trim().to_owned()),
        None => Finding::bad("nix", "cannot be run here", None),
    });
    found
}

fn builder(view: &View, home: &Home, context: &Context) -> Vec<Finding> {
    let name = &view.name;
    let about = format!("`{name}` on {}", view.on);
    if view.state != "ready" {
        let reason = view.reason.as_ref();
        if view.state == "idle" && view.wanted {
            return vec![Finding::good(format!("{about} is started on demand"))];
        }
        let what = reason.map_or_else(|| format!("it is {}", view.state), ToString::to_string);
        return vec![Finding::bad(about, what, reason.and_then(|reason| reason.hint.clone()))];
    }
    let mut found: Vec<Finding> =
        view.warnings.iter().map(|warning| Finding::bad(about.clone(), warning.clone(), None)).collect();
    let listed = std::fs::read_to_string(home.place().machines()).unwrap_or_default();
    if !listed.lines().any(|line| line.contains(&format!("@{name}"))) {
        found.push(Finding::bad(about.clone(), "nix's list does not have it, or cannot be read", None));
    }
    found.push(match login(name, home, context) {
        Ok(version) => Finding::good(format!("{about}: nix {version} answers")),
        Err((what, help)) => Finding::bad(about, what, help),
    });
    found
}

/// The way that nix goes: ssh, its alias, the keeper's socket, the builder's sshd, nix-daemon.
fn login(name: &str, home: &Home, context: &Context) -> Result<String, (String, Option<String>)> {
    let failed = |what: String| (what, None);
    let mut arguments: Vec<std::ffi::OsString> = Vec::new();
    if !matches!(home, Home::Controller(_)) {
        arguments.extend(["-F".into(), home.place().ssh_config().into_os_string()]);
    }
    arguments.extend(["--", name, "nix-daemon --stdio"].map(Into::into));
    let cut = Cut::default();
    let ssh = Ssh::start(&arguments, Stdio::piped(), Stdio::piped(), &context.environment, &cut)
        .map_err(|reason| (reason.message, reason.hint))?;
    let (Some(stdin), Some(stdout)) = ssh.pipes() else { return Err(failed("no pipes to ssh".to_owned())) };
    let until = Instant::now() + scaled(LOGIN, &context.environment);
    let watched = cut.clone();
    std::thread::spawn(move || {
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        watched.now();
    });
    match nixd::handshake(stdout, stdin) {
        Ok(daemon) if daemon.trusted == Some(false) => {
            let help = "add the builder's user to `nix.trusted_users` of its host".to_owned();
            Err(("nix there does not trust the user that logs in".to_owned(), Some(help)))
        }
        Ok(daemon) => Ok(daemon.version.unwrap_or_default()),
        Err(error) => {
            ssh.wait(Instant::now() + Duration::from_secs(1));
            let said = ssh.said();
            let last = said.lines().rev().find(|line| !line.trim().is_empty());
            Err(failed(last.map_or_else(|| error.to_string(), |line| line.trim().to_owned())))
        }
    }
}
