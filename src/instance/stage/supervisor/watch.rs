//! Watching over a running machine: one loop over everything that can happen.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::guest::{Boot, millis};
use super::signals::Signals;
use crate::edge::environment::Environment;
use crate::edge::lock::Lock;
use crate::instance::deadline::scaled;
use crate::instance::event::Event;
use crate::instance::plan::{DETACH, READY, Template};
use crate::instance::stage::child::has_parent;
use crate::instance::stage::console::Console;
use crate::instance::stage::control::Asker;
use crate::instance::stage::ending::{Ending, Step};
use crate::instance::stage::pulse::{self, Pulse};
use crate::instance::stage::qemu::Qemu;
use crate::instance::stage::report::Report;
use crate::instance::stage::share::Share;
use crate::instance::stage::supervisor::{Caller, Stage, finish};
use crate::instance::stage::throttle::Throttle;
use crate::instance::stage::waiting::Waiting;
use crate::instance::state::{Phase, Place, Record};
use crate::vm::qmp;

/// How long a guest may take to power off when its caller is gone or the system goes down.
const PATIENCE: Duration = Duration::from_secs(20);
/// The same for a guest that is not ready yet: it hardly can, and has little to lose.
const PATIENCE_BOOTING: Duration = Duration::from_secs(5);
/// How long QEMU may take to quit when told.
pub(super) const QUIT: Duration = Duration::from_secs(5);
/// How long the kernel may take to end a killed QEMU.
const KILLED: Duration = Duration::from_secs(5);

/// A machine that runs.
pub(super) struct Machine {
    keeper: OsString,
    runtime: PathBuf,
    place: Place,
    pub(super) share: Share,
    signals: Signals,
    pub(super) environment: Environment,
    pub(super) qemu: Qemu,
    pub(super) console: Console,
    pub(super) record: Record,
    pub(super) ending: Ending,
    caller: bool,
    pub(super) channels: Channels,
    pub(super) throttle: Throttle,
    pub(super) pulse: Pulse,
    /// Questions to the guest's agent, and the number of the last one.
    pub(super) questions: Waiting,
    pub(super) last_question: u64,
    /// Questions to QEMU that somebody asked.
    pub(super) facts: Waiting,
    /// Who has staged files for the running guest, and until when their key lies in the share.
    pub(super) staged: Option<(Asker, Instant)>,
    /// Who tries files in the share.
    pub(super) tried: Option<Asker>,
    /// Why the machine goes down, as far as somebody said so.
    pub(super) cause: Option<String>,
    /// The machine ended in a way that nobody asked for.
    pub(super) failed: bool,
    pub(super) boot: Boot,
    /// Where the template lies that the machine becomes at its guest's one point.
    pub(super) template: Option<PathBuf>,
    _locks: (Lock, Option<Lock>),
}

/// Which of QEMU's channels are open.
pub(super) struct Channels {
    pub(super) qmp: bool,
    pub(super) agent: bool,
}

impl Machine {
    pub(super) fn new(
        stage: Stage,
        qemu: Qemu,
        console: Console,
        disk: Option<Lock>,
        record: Record,
        template: Option<Template>,
    ) -> Self {
        let answer_within = scaled(pulse::PATIENCE, &stage.environment);
        Self {
            keeper: stage.keeper,
            runtime: stage.runtime,
            place: stage.place,
            share: stage.share,
            signals: stage.signals,
            environment: stage.environment,
            qemu,
            console,
            record,
            ending: Ending::Running,
            caller: true,
            channels: Channels { qmp: true, agent: true },
            throttle: Throttle::new(Instant::now()),
            pulse: Pulse::new(Instant::now(), answer_within),
            questions: Waiting::default(),
            last_question: 0,
            facts: Waiting::default(),
            staged: None,
            tried: None,
            cause: None,
            failed: false,
            boot: Boot::new(Instant::now()),
            template: match template {
                Some(Template::Make(directory)) => Some(directory),
                Some(Template::Resume { .. }) | None => None,
            },
            _locks: (stage._lock, disk),
        }
    }

    pub(super) fn save(&self) {
        // Another civm then sees an older state; the machine runs all the same. The second copy is for those who
        // have lost the state directory.
        let _ = self.record.save(&self.place.path);
        let _ = self.record.save(&self.runtime);
    }

    /// Stays until QEMU is gone.
    pub(super) fn watch(&mut self, report: &mut Report) -> ExitCode {
        let exit = loop {
            if let Some(exit) = self.qemu.exit() {
                break Some(exit);
            }
            self.wait(report);
            if self.signals.drain() {
                self.asked_by_signal(report);
            }
            self.hear_qemu(report);
            self.hear_guest(report);
            self.hear_caller(report);
            self.qemu.qmp.flush();
            self.qemu.agent.flush();
            self.console.serve();
            for asked in
                report.control.as_mut().map(|control| control.receive(Instant::now())).unwrap_or_default()
            {
                self.requested(asked, report);
            }
            self.look_after(report);
            report.flush();
            if let Some(step) = self.ending.due(Instant::now()) {
                self.step(step, report);
            }
            if self.ending == Ending::Killed {
                break self.qemu.wait(KILLED);
            }
        };
        // What QEMU and the guest said last.
        self.hear_qemu(report);
        self.hear_guest(report);
        self.console.catch_up();
        self.share.remove();
        self.give_up_questions("the machine ended before the guest answered", report);
        let clean = !self.failed && (self.ending != Ending::Running || self.cause.is_some());
        let reason = match (&self.cause, exit) {
            (_, None) => "QEMU could not be ended".to_owned(),
            (Some(cause), _) => cause.clone(),
            (None, Some(exit)) => exit.to_string(),
        };
        finish(&self.place, self.record.clone(), &reason);
        report.send(&Event::Ended { reason, clean });
        report.finish();
        if !has_parent(&self.keeper) {
            // Nobody cleans up after us.
            let _ = std::fs::remove_dir_all(&self.runtime);
        }
        if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn wait(&mut self, report: &Report) {
        let now = Instant::now();
        let listen_again = self.throttle.closed_until(now);
        let stdin = io::stdin();
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut watched = self.signals.watched().map(readable).to_vec();
        watched.extend(self.channels.qmp.then(|| self.qemu.qmp.watched()));
        watched.extend((self.channels.agent && listen_again.is_none()).then(|| self.qemu.agent.watched()));
        watched.extend(self.qemu.watched().map(readable));
        watched.extend(self.caller.then(|| readable(stdin.as_fd())));
        watched.extend(self.console.watched());
        watched.extend(report.watched(now));
        let staged_until = self.staged.map(|(_, until)| until);
        let seat = report.control.as_ref().and_then(|control| control.next(now));
        let next =
            [self.ending.next(), listen_again, self.facts.next(), self.questions.next(), staged_until, seat];
        let next = next.into_iter().flatten().chain([self.pulse.next()]);
        let left = next.min().map_or(Duration::ZERO, |next| next.saturating_duration_since(now));
        // A little more, so that what is due is so when we wake.
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut watched, timeout);
    }

    /// Sees whether QEMU is alive, and whether the machine stood still.
    fn look_after(&mut self, report: &mut Report) {
        let due = self.pulse.due(Instant::now());
        if due.ask {
            self.qemu.command(qmp::Command::QueryStatus);
        }
        if self.qemu.was_resumed() || due.stood_still {
            self.went_on();
        }
        self.tell_of_silence(report);
        if self.qemu.lost_its_fence() && self.ending == Ending::Running {
            self.failed = true;
            self.give_up("the fence of its network has ended".to_owned(), report);
        }
        self.look_after_staged(report);
        self.look_after_panicked(report);
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
            Ok(1) if word == [READY] => self.seen_ready(report),
            Ok(1) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => {
                self.caller = false;
                report.caller_left();
                self.forsaken(report);
            }
        }
    }

    /// Its caller is gone. A guest whose disk goes with it has nothing to save, and nobody waits for it.
    fn forsaken(&mut self, report: &mut Report) {
        const REASON: &str = "its caller is gone";
        self.stop(REASON, PATIENCE, QUIT, report);
        if self.record.ephemeral {
            self.cause.get_or_insert_with(|| REASON.to_owned());
            let step = self.ending.kill();
            self.step(step, report);
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

    fn stop(&mut self, reason: &str, patience: Duration, quit: Duration, report: &mut Report) {
        let (patience, quit) = (scaled(patience, &self.environment), scaled(quit, &self.environment));
        self.stop_within(reason, patience, quit, false, report);
    }

    pub(super) fn stop_within(
        &mut self,
        reason: &str,
        patience: Duration,
        quit: Duration,
        hurry: bool,
        report: &mut Report,
    ) {
        let panicked = self.record.phase == Phase::Panicked;
        let booting = matches!(self.record.phase, Phase::Starting | Phase::Booting);
        let patience =
            if booting { patience.min(scaled(PATIENCE_BOOTING, &self.environment)) } else { patience };
        let now = Instant::now();
        let first = self.ending == Ending::Running;
        let step = if first && panicked {
            // Nobody is left who could power off.
            self.ending.quit(now, quit)
        } else {
            self.ending.begin(now, patience, quit, hurry)
        };
        let Some(step) = step else { return };
        self.record.phase = Phase::Stopping;
        self.save();
        let within_ms = millis(self.ending.left(now));
        report.send(&Event::Stopping { reason: reason.to_owned(), within_ms });
        // A guest that goes down needs no key.
        if self.share.remove_secrets().is_ok_and(|any| any) {
            report.send(&Event::KeyRemoved);
        }
        self.step(step, report);
    }

    pub(super) fn step(&mut self, step: Step, report: &mut Report) {
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
