//! What QEMU and the guest say, and what follows from it.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::watch::{Machine, QUIT};
use crate::instance::deadline::scaled;
use crate::instance::event::Event;
use crate::instance::stage::ending::Ending;
use crate::instance::stage::pulse;
use crate::instance::stage::report::Report;
use crate::instance::stage::template;
use crate::instance::state::Phase;
use crate::vm::agent;
use crate::vm::qmp::{self, Answer, Message};

/// How long a boot may take to get past its firmware. Until then resets are part of it: SeaBIOS asks for one more, and
/// kernel and firmware ask by several ways, each of which counts where QEMU is slow to stop the processors.
const FIRMWARE: Duration = Duration::from_secs(10);

/// How long QEMU may take to write a machine's state. It takes some tens of milliseconds.
const FROZEN: Duration = Duration::from_secs(20);

/// What is known of one boot of the guest.
#[derive(Debug)]
pub(super) struct Boot {
    begun: Instant,
    /// The guest has reported something.
    pub(super) heard: bool,
    /// It sent a report that this civm does not know.
    unknown_report: bool,
}

impl Boot {
    pub(super) fn new(begun: Instant) -> Self {
        Self { begun, heard: false, unknown_report: false }
    }

    /// Whether the guest's agent has said anything.
    pub(super) fn is_heard(&self) -> bool {
        self.heard
    }

    /// Whether a reset is one of those that come before a guest has begun.
    fn is_in_firmware(&self, now: Instant, within: Duration) -> bool {
        !self.heard && now.saturating_duration_since(self.begun) <= within
    }
}

impl Machine {
    pub(super) fn hear_qemu(&mut self, report: &mut Report) {
        self.qemu.take_messages();
        let Some(messages) = self.qemu.hear() else {
            self.channels.qmp = false;
            return;
        };
        for message in messages {
            self.qemu_said(message, report);
        }
    }

    fn qemu_said(&mut self, message: Message, report: &mut Report) {
        match message {
            Message::Event(qmp::Event::Shutdown { reason }) => {
                self.cause.get_or_insert_with(|| describe_shutdown(&reason));
            }
            Message::Event(qmp::Event::Reset { by_guest: true }) => self.guest_reset(report),
            Message::Event(qmp::Event::GuestPanicked) => self.guest_panicked(report),
            Message::Event(qmp::Event::Resume) => self.went_on(),
            Message::Event(qmp::Event::Reset { .. } | qmp::Event::Other) => {}
            Message::Answer { answer: Ok(Answer::Status(state)), .. } => {
                let (asked, late) = self.pulse.answered(Instant::now());
                for who in asked {
                    self.tell_status(who, pulse::health(&state), Some(state.clone()), report);
                }
                if late {
                    self.went_on();
                }
            }
            Message::Answer { id, answer } => {
                if let Some(who) = self.facts.take(id) {
                    self.tell_facts(who, answer, report);
                }
            }
            Message::Greeting | Message::Stray => {}
        }
    }

    /// The machine stood still, and its clock with it.
    pub(super) fn went_on(&mut self) {
        if self.record.phase == Phase::Ready {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let unix_ms = millis(now);
            self.qemu.tell_guest(agent::Command::SetTime { unix_ms });
        }
    }

    /// Lets a guest that waits at the point go on.
    pub(super) fn release(&mut self, resumed: bool) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let go = agent::Go { resumed, unix_ms: millis(now), seed: rand::random() };
        self.qemu.tell_guest(agent::Command::Go(go));
    }

    /// Makes a template of a machine whose guest waits at the point, and ends it.
    fn freeze(&mut self, directory: &Path, report: &mut Report) {
        let within = scaled(FROZEN, &self.environment);
        let frozen = template::create_state(directory)
            .map_err(|error| error.to_string())
            .and_then(|state| self.qemu.freeze(&state, within));
        match frozen {
            Ok(()) => report.send(&Event::Frozen),
            Err(_) => self.failed = true,
        }
        let cause =
            frozen.map_or_else(|error| format!("cannot freeze it: {error}"), |()| "it was frozen".to_owned());
        self.give_up(cause, report);
    }

    pub(super) fn hear_guest(&mut self, report: &mut Report) {
        let now = Instant::now();
        if self.throttle.closed_until(now).is_some() {
            return;
        }
        let Some(lines) = self.qemu.agent.receive() else {
            self.channels.agent = false;
            return;
        };
        self.throttle.spend(lines.len());
        for line in lines {
            match agent::Event::parse(&line) {
                Ok(event) => self.guest_reported(event, report),
                Err(_) if !self.boot.unknown_report => {
                    self.boot.unknown_report = true;
                    // Its text stays away from logs and terminals; said once, for a guest may send more of them.
                    let message = "the guest sent a report that this civm does not understand".to_owned();
                    report.send_of_guest(&Event::Warning { message });
                }
                Err(_) => {}
            }
        }
    }

    fn guest_reported(&mut self, event: agent::Event, report: &mut Report) {
        self.boot.heard = true;
        if let agent::Event::Answer { id, answer } = &event {
            self.guest_answered(*id, answer, report);
            return;
        }
        match event {
            // A machine that becomes a template waits there.
            agent::Event::Point { .. } if self.template.is_none() => self.release(false),
            agent::Event::Prepared => {
                if let Some(directory) = self.template.take() {
                    self.freeze(&directory, report);
                }
            }
            _ => {}
        }
        let key_taken = event == agent::Event::KeyTaken;
        let ready = matches!(event, agent::Event::Ready { .. });
        if ready {
            self.is_ready();
        }
        let event = Event::Guest { report: event };
        if ready {
            report.send(&event);
        } else {
            report.send_of_guest(&event);
        }
        if key_taken && !self.record.key_removed {
            self.take_key_back(report);
        }
    }

    /// Notes that the boot is over, before anybody is told.
    fn is_ready(&mut self) {
        if self.record.phase == Phase::Booting {
            self.record.phase = Phase::Ready;
            self.console.catch_up();
            self.console.boot_ended();
            self.save();
        }
    }

    /// The caller could log in to a guest that has no agent, or one that says nothing of it.
    pub(super) fn seen_ready(&mut self, report: &mut Report) {
        if self.record.phase == Phase::Booting {
            self.is_ready();
            let uptime_ms = millis(self.boot.begun.elapsed());
            report.send(&Event::Guest { report: agent::Event::Ready { uptime_ms } });
        }
    }

    /// A guest that is ready may reset: it boots again, and its secrets are staged again. One that resets before it
    /// is ready would go on doing so, one that was told to stop has shut down already, and one whose kernel panicked
    /// without a driver of the panic device (Debian's for aarch64 has none) would be lost without a word.
    fn guest_reset(&mut self, report: &mut Report) {
        self.qemu.agent.clear();
        self.staged = None;
        self.give_up_questions("the guest reset before it answered", report);
        self.console.catch_up();
        match self.record.phase {
            Phase::Ready if self.ending == Ending::Running && self.console.panic_message().is_none() => {
                // A guest that boots while somebody tries files finds what it had.
                self.end_trial(report);
                if let Err(error) = self.share.restage() {
                    self.give_up(
                        format!("the guest reset, and its key cannot be staged again: {error}"),
                        report,
                    );
                    return;
                }
                self.console.boot_begins();
                self.console.say("the guest boots again");
                self.record.key_removed = false;
                // A guest without an agent would not say when it is ready again.
                if self.boot.heard {
                    self.record.phase = Phase::Booting;
                    self.boot = Boot::new(Instant::now());
                }
                self.save();
                report.send(&Event::Rebooting);
            }
            Phase::Panicked | Phase::Ended => {}
            Phase::Stopping => self.give_up("the guest reset after it was told to stop".to_owned(), report),
            Phase::Starting | Phase::Booting | Phase::Ready => {
                let why = match self.console.panic_message() {
                    Some(message) => format!("the guest's kernel panicked: {message}"),
                    None if self.boot.is_in_firmware(Instant::now(), scaled(FIRMWARE, &self.environment)) => {
                        return;
                    }
                    None => "the guest reset before it was ready".to_owned(),
                };
                self.failed = true;
                self.give_up(why, report);
            }
        }
    }

    /// QEMU has paused the machine. On a host that nobody watches it would keep its memory, its ports and its disk for
    /// nothing, and the next `up` would find it running: so it ends, with the kernel's last lines in the console's log.
    /// Where somebody looks at its console, it stays until they leave.
    fn guest_panicked(&mut self, report: &mut Report) {
        if self.record.phase == Phase::Panicked {
            return;
        }
        // Its last lines may come after the event.
        self.console.catch_up();
        let message = self.console.panic_message().unwrap_or_else(|| "without a message".to_owned());
        let reason = format!("the guest's kernel panicked: {message}");
        self.console.say(&reason);
        self.console.log_panic();
        self.give_up_questions(&reason, report);
        self.failed = true;
        self.cause = Some(reason.clone());
        if self.ending != Ending::Running {
            self.give_up(reason, report);
            return;
        }
        (self.record.phase, self.record.reason) = (Phase::Panicked, Some(reason));
        self.save();
        report.send(&Event::Panicked { message });
    }

    /// A machine that panicked ends when nobody looks at it any more.
    pub(super) fn look_after_panicked(&mut self, report: &mut Report) {
        let stands = self.record.phase == Phase::Panicked && self.ending == Ending::Running;
        if stands && !self.console.is_watched() {
            let reason =
                self.record.reason.clone().unwrap_or_else(|| "the guest's kernel panicked".to_owned());
            self.give_up(reason, report);
        }
    }

    /// Ends the machine without asking the guest, which cannot answer.
    pub(super) fn give_up(&mut self, cause: String, report: &mut Report) {
        self.cause = Some(cause);
        if let Some(step) = self.ending.quit(Instant::now(), scaled(QUIT, &self.environment)) {
            self.step(step, report);
        }
    }
}

/// A duration as the protocols have it.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// QEMU's `ShutdownCause` as text for the user.
fn describe_shutdown(cause: &str) -> String {
    match cause {
        "guest-shutdown" => "the guest powered off".to_owned(),
        "guest-reset" => "the guest reset".to_owned(),
        "guest-panic" => "the guest's kernel panicked".to_owned(),
        "host-qmp-quit" => "QEMU was told to quit".to_owned(),
        "host-signal" => "QEMU was killed by a signal".to_owned(),
        other => format!("the machine went down ({other})"),
    }
}
