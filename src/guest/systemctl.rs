//! Orders to systemd, and the wait for their end.

use std::io;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::manager::Jobs;
use super::{Error, console, units};
use crate::vm::agent::answer::Verb;

/// How long units may take before nobody waits for them any longer; they go on.
const WITHIN: Duration = Duration::from_secs(60);
/// How long they may take before somebody is told what is waited for, and how often.
const SLOW: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);
/// How long most units take.
const MOMENT: Duration = Duration::from_millis(300);

/// What systemctl calls it. Only what runs is restarted or reloaded.
const fn order(verb: Verb) -> &'static str {
    match verb {
        Verb::Stop => "stop",
        Verb::Restart => "try-restart",
        Verb::Reload => "try-reload-or-restart",
        Verb::Start => "start",
    }
}

/// Does it with all the units and waits for the end, for a while; `waiting` hears of those that take long. What was
/// wrong, a sentence each.
pub(super) fn run(verb: Verb, names: &[&str], waiting: impl Fn(String)) -> Result<Vec<String>, Error> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut child = Command::new("systemctl")
        .args([order(verb), "--"])
        .args(names)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::io("run", "systemctl"))?;
    let begun = Instant::now();
    let mut told = None;
    while child.try_wait().map_err(Error::io("wait for", "systemctl"))?.is_none() {
        if begun.elapsed() > WITHIN {
            return Ok(unfinished(verb, names, &states(names)));
        }
        if begun.elapsed() > SLOW && told.is_none_or(|told: Instant| told.elapsed() > SLOW) {
            told = Some(Instant::now());
            let busy = names_in(&states(names), "activating").join(", ");
            if !busy.is_empty() {
                waiting(busy);
            }
        }
        thread::sleep(POLL);
    }
    let output = child.wait_with_output().map_err(Error::io("run", "systemctl"))?;
    if output.status.success() {
        return Ok(Vec::new());
    }
    let messages = String::from_utf8_lossy(&output.stderr);
    Ok(sentences(verb, &messages))
}

/// Starts units and waits for the end as [`run`] does; `asked` is called when systemd knows which, and `lasting` when it
/// takes longer than a moment. `jobs` are those that it was asked for before.
pub(super) fn start(
    jobs: io::Result<Jobs>,
    names: &[&str],
    asked: impl FnOnce(),
    lasting: impl FnOnce(),
    waiting: impl Fn(String),
) -> Result<Vec<String>, Error> {
    let jobs = jobs.and_then(|mut jobs| jobs.start(names).map(|()| jobs));
    asked();
    jobs.and_then(|jobs| await_jobs(jobs, lasting, &waiting)).or_else(|error| {
        console::log(&format!("systemd cannot be asked directly ({error}): systemctl does it"));
        run(Verb::Start, names, waiting)
    })
}

fn await_jobs(mut jobs: Jobs, lasting: impl FnOnce(), waiting: &impl Fn(String)) -> io::Result<Vec<String>> {
    let begun = Instant::now();
    let mut told = begun;
    let mut lasting = Some(lasting);
    while !jobs.pending().is_empty() {
        if begun.elapsed() > WITHIN {
            let words = format!("still starting after {} s", WITHIN.as_secs());
            let pending = jobs.pending().into_iter().filter(|unit| !units::is_own(unit));
            let late = report(&words, &pending.collect::<Vec<_>>());
            jobs.wrong.extend(late);
            break;
        }
        jobs.wait(if lasting.is_some() { MOMENT } else { SLOW })?;
        if begun.elapsed() > MOMENT {
            lasting.take().into_iter().for_each(|lasting| lasting());
        }
        if told.elapsed() > SLOW && !jobs.pending().is_empty() {
            told = Instant::now();
            waiting(jobs.pending().join(", "));
        }
    }
    Ok(jobs.wrong)
}

/// Starts a unit, or waits for the start that is under way, however long that takes.
pub(super) fn reach(name: &str) -> Result<(), Error> {
    carry_out(Verb::Start, Jobs::start, name)
}

/// Stops a unit, and waits for the end.
pub(super) fn stop(name: &str) -> Result<(), Error> {
    carry_out(Verb::Stop, Jobs::stop, name)
}

fn carry_out(verb: Verb, ask: fn(&mut Jobs, &[&str]) -> io::Result<()>, name: &str) -> Result<(), Error> {
    let done = Jobs::begin().and_then(|mut jobs| {
        ask(&mut jobs, &[name])?;
        while !jobs.pending().is_empty() {
            jobs.wait(SLOW)?;
        }
        Ok(jobs.wrong)
    });
    match done {
        Ok(wrong) if wrong.is_empty() => Ok(()),
        Ok(wrong) => Err(Error::content("systemd", wrong.join("; "))),
        Err(_) => console::run("systemctl", &[order(verb), "--", name]),
    }
}

/// One sentence a failed unit; what follows is advice on how to look at it. What does not run is as good as stopped.
fn sentences(verb: Verb, messages: &str) -> Vec<String> {
    let is_advice = |line: &str| line.starts_with("See \"");
    let is_stopped = |line: &str| verb == Verb::Stop && line.trim_end().ends_with("not loaded.");
    messages.lines().filter(|line| !is_advice(line) && !is_stopped(line)).map(str::to_owned).collect()
}

/// Whether a unit runs, or is about to.
pub(super) fn is_active(name: &str) -> bool {
    states(&[name]).iter().any(|(_, state)| matches!(state.as_str(), "active" | "activating" | "reloading"))
}

/// Whether something of the image starts a unit by itself.
pub(super) fn is_enabled(name: &str) -> bool {
    let status = Command::new("systemctl").args(["--quiet", "is-enabled", "--", name]).status();
    status.is_ok_and(|status| status.success())
}

/// Whether the guest is on its way down.
pub(super) fn is_stopping() -> bool {
    let output = Command::new("systemctl").arg("is-system-running").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"stopping")
}

/// The state of each unit: its name and what systemd calls it (`active`, `activating`, `failed`).
fn states(names: &[&str]) -> Vec<(String, String)> {
    let output = Command::new("systemctl")
        .args(["show", "--property=Id,ActiveState", "--"])
        .args(names)
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    parse_states(&output.unwrap_or_default())
}

/// `Id=x.service` and `ActiveState=active`, in this or the other order, a blank line between two units.
fn parse_states(text: &str) -> Vec<(String, String)> {
    text.split("\n\n")
        .filter_map(|unit| {
            let value = |key| unit.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
            Some((value("Id=")?, value("ActiveState=")?))
        })
        .collect()
}

fn names_in(states: &[(String, String)], wanted: &str) -> Vec<String> {
    states.iter().filter(|(_, state)| state == wanted).map(|(name, _)| name.clone()).collect()
}

/// What is wrong with units that are not all as wanted in time. A job that waits or a reload that hangs shows in no state of
/// theirs: all of them are named then.
fn unfinished(verb: Verb, names: &[&str], states: &[(String, String)]) -> Vec<String> {
    let after = WITHIN.as_secs();
    let in_state = [
        ("failed", "failed".to_owned()),
        ("activating", format!("still starting after {after} s")),
        ("deactivating", format!("still stopping after {after} s")),
        ("reloading", format!("still reloading after {after} s")),
    ];
    let not_started = (verb == Verb::Start).then(|| ("inactive", "not started yet".to_owned()));
    let wrong = in_state.into_iter().chain(not_started);
    let told: Vec<String> =
        wrong.filter_map(|(state, words)| report(&words, &names_in(states, state))).collect();
    if told.is_empty() {
        let words = format!("not done with `systemctl {}` after {after} s", order(verb));
        return report(&words, names).into_iter().collect();
    }
    told
}

/// A sentence about units, if there are any.
fn report(words: &str, names: &[impl AsRef<str>]) -> Option<String> {
    let plural = if names.len() == 1 { "unit" } else { "units" };
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    (!names.is_empty()).then(|| format!("{plural} of the host layer {words}: {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_failed_units_are_sentences() {
        let said =
            "Failed to stop a.service: Unit a.service not loaded.\nSee \"systemctl status\"\nJob failed.\n";
        assert_eq!(sentences(Verb::Stop, said), ["Job failed."]);
        assert_eq!(sentences(Verb::Start, said).len(), 2);
    }

    #[test]
    fn units_that_hang_or_failed_are_named() {
        let states = parse_states(
            "Id=slow.service\nActiveState=activating\n\nActiveState=failed\nId=bad.service\n\n\
             Id=good.service\nActiveState=active\n",
        );
        assert_eq!(states.len(), 3);
        assert_eq!(
            unfinished(Verb::Start, &[], &states),
            [
                "unit of the host layer failed: bad.service",
                "unit of the host layer still starting after 60 s: slow.service"
            ]
        );
        let stopped = [("gone.service".to_owned(), "inactive".to_owned())];
        assert_eq!(
            unfinished(Verb::Stop, &["gone.service", "good.service"], &stopped),
            ["units of the host layer not done with `systemctl stop` after 60 s: gone.service, good.service"]
        );
        assert_eq!(
            unfinished(Verb::Reload, &["good.service"], &states[2..]),
            [
                "unit of the host layer not done with `systemctl try-reload-or-restart` after 60 s: good.service"
            ]
        );
    }
}
