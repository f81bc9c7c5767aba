//! Watching over a running machine: one loop over everything that can happen.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;
use signal_hook::consts::{SIGCHLD, SIGTERM};

use crate::edge::environment::Environment;
use crate::instance::deadline::scaled;
use crate::instance::event::{Ask, Event};
use crate::instance::plan::DETACH;
use crate::instance::stage::child::has_parent;
use crate::instance::stage::control::Control;
use crate::instance::stage::ending::{Ending, Step};
use crate::instance::stage::qemu::Qemu;
use crate::instance::stage::report::Report;
use crate::instance::stage::share::Share;
use crate::instance::stage::supervisor::{Caller, Stage, finish};
use crate::instance::state::{Phase, Place, Record};
use crate::vm::agent;
use crate::vm::qmp::Message;

/// How long a guest may take to power off when its caller is gone or the system goes down.
const PATIENCE: Duration = Duration::from_secs(20);
/// The same for a guest that is not ready yet: it hardly can, and has little to lose.
const PATIENCE_BOOTING: Duration = Duration::from_secs(5);
/// How long QEMU may take to quit when told.
const QUIT: Duration = Duration::from_secs(5);
/// How long the kernel may take to end a killed QEMU.
const KILLED: Duration = Duration::from_secs(5);

/// Sockets that become readable with a signal.
pub(super) struct Signals {
    any: UnixStream,
    asked: UnixStream,
}

impl Signals {
    pub(super) fn watch() -> io::Result<Self> {
        let (any, write) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(SIGCHLD, write)?;
        let (asked, write) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(SIGTERM, write)?;
        any.set_nonblocking(true)?;
        asked.set_nonblocking(true)?;
        Ok(Self { any, asked })
    }

    /// Empties both; says whether we were asked to end.
    fn drain(&self) -> bool {
        let mut bytes = [0; 64];
        while (&self.any).read(&mut bytes).is_ok_and(|count| count > 0) {}
        let mut asked = false;
        while (&self.asked).read(&mut bytes).is_ok_and(|count| count > 0) {
            asked = true;
        }
        asked
    }
}

/// A machine that runs.
pub(super) struct Machine {
    keeper: OsString,
    runtime: PathBuf,
    place: Place,
    share: Share,
    control: Control,
    signals: Signals,
    environment: Environment,
    qemu: Qemu,
    record: Record,
    ending: Ending,
    caller: bool,
    channels: Channels,
    /// What QEMU said of the reason why the machine went down.
    shutdown: Option<String>,
    _locks: (File, Option<File>),
}

/// Which of QEMU's channels are open.
struct Channels {
    qmp: bool,
    agent: bool,
}

impl Machine {
    pub(super) fn new(stage: Stage, qemu: Qemu, disk: Option<File>, record: Record) -> Self {
        Self {
            keeper: stage.keeper,
            runtime: stage.runtime,
            place: stage.place,
            share: stage.share,
            control: stage.control,
            signals: stage.signals,
            environment: stage.environment,
            qemu,
            record,
            ending: Ending::Not,
            caller: true,
            channels: Channels { qmp: true, agent: true },
            shutdown: None,
            _locks: (stage._lock, disk),
        }
    }

    pub(super) fn save(&self) {
        // Another civm then sees an older state; the machine runs all the same.
        let _ = self.record.save(&self.place.path);
    }

    /// Stays until QEMU is gone.
    pub(super) fn watch(&mut self, report: &mut Report) -> ExitCode {
        let exit = loop {
            if let Some(exit) = self.qemu.exit() {
                break Some(exit);
            }
            self.wait();
            if self.signals.drain() {
                self.asked_by_signal(report);
            }
            self.hear_qemu();
            self.hear_guest(report);
            self.hear_caller(report);
            for (ask, socket) in self.control.receive() {
                self.answer(ask, socket, report);
            }
            if let Some(step) = self.ending.due(Instant::now()) {
                self.step(step, report);
            }
            if self.ending == Ending::Killed {
                break self.qemu.wait(KILLED);
            }
        };
        // What QEMU and the guest said last.
        self.hear_qemu();
        self.hear_guest(report);
        self.share.remove();
        let clean = self.ending != Ending::Not || self.shutdown.is_some();
        let reason = match (&self.shutdown, exit) {
            (_, None) => "QEMU could not be ended".to_owned(),
            (Some(shutdown), _) => shutdown.clone(),
            (None, Some(exit)) => exit.to_string(),
        };
        finish(&self.place, self.record.clone(), &reason);
        report.send(&Event::Ended { reason, clean });
        if !has_parent(&self.keeper) {
            // Nobody cleans up after us.
            let _ = std::fs::remove_dir_all(&self.runtime);
        }
        if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn wait(&self) {
        let stdin = io::stdin();
        let mut watched = vec![self.signals.any.as_fd(), self.signals.asked.as_fd()];
        if self.channels.qmp {
            watched.push(self.qemu.qmp.socket.as_fd());
        }
        if self.channels.agent {
            watched.push(self.qemu.agent.socket.as_fd());
        }
        if self.caller {
            watched.push(stdin.as_fd());
        }
        watched.extend(self.control.descriptors());
        let mut watched: Vec<PollFd<'_>> =
            watched.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let left = self.ending.next().map(|until| until.saturating_duration_since(Instant::now()));
        let timeout = match left {
            // A little more, so that the step is due when we wake.
            Some(left) => PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        let _ = poll(&mut watched, timeout);
    }

    fn hear_qemu(&mut self) {
        let Some(lines) = self.qemu.qmp.receive() else {
            self.channels.qmp = false;
            return;
        };
        for line in lines {
            let Ok(Message::Event { name, data }) = Message::parse(&line) else { continue };
            if name == "SHUTDOWN" {
                let why = data.get("reason").and_then(Value::as_str).unwrap_or("unknown");
                self.shutdown = Some(describe_shutdown(why));
            }
        }
    }

    fn hear_guest(&mut self, report: &mut Report) {
        let Some(lines) = self.qemu.agent.receive() else {
            self.channels.agent = false;
            return;
        };
        for line in lines {
            match agent::Event::parse(&line) {
                Ok(event) => self.guest_reported(event, report),
                // Its text stays away from logs and terminals.
                Err(_) => report.send(&Event::Warning { message: "the guest sent an unknown report".into() }),
            }
        }
    }

    fn guest_reported(&mut self, event: agent::Event, report: &mut Report) {
        let key_taken = event == agent::Event::KeyTaken;
        if matches!(event, agent::Event::Ready { .. }) && self.record.phase == Phase::Booting {
            // Whoever hears of it finds it in the record.
            self.record.phase = Phase::Ready;
            self.save();
        }
        report.send(&Event::Guest { report: event });
        if key_taken {
            match self.share.remove_secrets() {
                Ok(true) => report.send(&Event::KeyRemoved),
                Ok(false) => {}
                Err(error) => {
                    report
                        .send(&Event::Warning { message: format!("cannot remove the staged key: {error}") });
                    return;
                }
            }
            self.record.key_removed = true;
            self.save();
        }
    }

    fn hear_caller(&mut self, report: &mut Report) {
        if !self.caller {
            return;
        }
        let stdin = io::stdin();
        let mut watched = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        if !poll(&mut watched, PollTimeout::ZERO).is_ok_and(|count| count > 0) {
            return;
        }
        let mut word = [0];
        match Caller.read(&mut word) {
            Ok(1) if word == [DETACH] => self.caller = false,
            Ok(1) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => {
                self.caller = false;
                report.caller_left();
                self.stop("its caller is gone", PATIENCE, QUIT, report);
            }
        }
    }

    fn asked_by_signal(&mut self, report: &mut Report) {
        if has_parent(&self.keeper) {
            self.stop("SIGTERM", PATIENCE, QUIT, report);
        } else {
            let step = self.ending.kill();
            self.step(step, report);
        }
    }

    fn answer(&mut self, ask: Ask, socket: Option<UnixStream>, report: &mut Report) {
        if let Some(socket) = socket {
            report.listen(socket);
        }
        match ask {
            Ask::Stop { patience_ms, quit_ms } => {
                let (patience, quit) = (Duration::from_millis(patience_ms), Duration::from_millis(quit_ms));
                self.stop_within("asked to", patience, quit, report);
            }
            Ask::Kill => {
                let step = self.ending.kill();
                self.step(step, report);
            }
        }
    }

    fn stop(&mut self, reason: &str, patience: Duration, quit: Duration, report: &mut Report) {
        let (patience, quit) = (scaled(patience, &self.environment), scaled(quit, &self.environment));
        self.stop_within(reason, patience, quit, report);
    }

    fn stop_within(&mut self, reason: &str, patience: Duration, quit: Duration, report: &mut Report) {
        let ready = self.record.phase == Phase::Ready;
        let most = scaled(PATIENCE_BOOTING, &self.environment);
        let patience = if ready { patience } else { patience.min(most) };
        if let Some(step) = self.ending.begin(Instant::now(), patience, quit) {
            self.record.phase = Phase::Stopping;
            self.save();
            report.send(&Event::Stopping { reason: reason.to_owned() });
            // A guest that goes down needs no key.
            if self.share.remove_secrets().is_ok_and(|any| any) {
                report.send(&Event::KeyRemoved);
            }
            self.step(step, report);
        }
    }

    fn step(&mut self, step: Step, report: &mut Report) {
        match step {
            Step::Ask => self.qemu.power_off(),
            Step::Quit => {
                report.send(&Event::Insisting { how: "telling QEMU to quit".into() });
                self.qemu.quit();
            }
            Step::Kill => {
                report.send(&Event::Insisting { how: "killing QEMU".into() });
                self.qemu.kill();
            }
        }
    }
}

/// QEMU's `ShutdownCause` in words.
fn describe_shutdown(cause: &str) -> String {
    match cause {
        "guest-shutdown" => "the guest powered off".to_owned(),
        "guest-reset" => "the guest asked for a reset".to_owned(),
        "guest-panic" => "the guest panicked".to_owned(),
        "host-qmp-quit" => "QEMU was told to quit".to_owned(),
        "host-signal" => "QEMU was ended by a signal".to_owned(),
        other => format!("the machine went down ({other})"),
    }
}
