//! What QEMU and the guest say, and what follows from it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::watch::{Machine, QUIT};
use crate::instance::deadline::scaled;
use crate::instance::event::{Event, Health};
use crate::instance::stage::ending::Ending;
use crate::instance::stage::pulse;
use crate::instance::stage::report::Report;
use crate::instance::state::Phase;
use crate::vm::agent;
use crate::vm::qmp::Message;

/// Resets that a boot may begin with.
const SILENT_RESETS: u32 = 3;
/// The number of our questions after the machine's state.
pub(super) const STATUS_ID: u64 = 1;

/// What is known of one boot of the guest.
#[derive(Debug, Default)]
pub(super) struct Boot {
    /// The guest has reported something.
    heard: bool,
    /// It sent a report that this civm does not know.
    unknown_report: bool,
    /// Resets before it reported anything.
    resets: u32,
}

impl Boot {
    /// Whether a reset is one of the few that come before a guest has begun.
    fn is_silent(&mut self) -> bool {
        self.resets += 1;
        !self.heard && self.resets <= SILENT_RESETS
    }
}

impl Machine {
    pub(super) fn hear_qemu(&mut self, report: &mut Report) {
        self.qemu.take_messages();
        for message in std::mem::take(&mut self.qemu.events) {
            self.qemu_said(message, report);
        }
        let Some(lines) = self.qemu.qmp.receive() else {
            self.channels.qmp = false;
            return;
        };
        for line in lines {
            if let Ok(message) = Message::parse(&line) {
                self.qemu_said(message, report);
            }
        }
    }

    fn qemu_said(&mut self, message: Message, report: &mut Report) {
        match message {
            Message::Event { name, data } => match name.as_str() {
                "SHUTDOWN" => {
                    let why = data.get("reason").and_then(Value::as_str).unwrap_or("unknown");
                    self.cause.get_or_insert_with(|| describe_shutdown(why));
                }
                "RESET" if data.get("guest").and_then(Value::as_bool) == Some(true) => {
                    self.guest_reset(report);
                }
                "GUEST_PANICKED" => self.guest_panicked(report),
                "RESUME" => self.went_on(),
                _ => {}
            },
            Message::Return { id: Some(STATUS_ID), value } => {
                let (asked, late) = self.pulse.answered(Instant::now());
                let status = value.get("status").and_then(Value::as_str).unwrap_or_default();
                let health = pulse::health(status);
                for socket in asked {
                    report.answer(socket, &Event::Status { health });
                }
                if late {
                    self.went_on();
                }
            }
            Message::Greeting | Message::Return { .. } | Message::Failure { .. } => {}
        }
    }

    /// Answers those who wait for a QEMU that says nothing.
    pub(super) fn tell_of_silence(&mut self, report: &mut Report) {
        for socket in self.pulse.given_up(Instant::now()) {
            report.answer(socket, &Event::Status { health: Health::Frozen });
        }
    }

    /// The machine stood still, and its clock with it.
    pub(super) fn went_on(&mut self) {
        if self.record.phase == Phase::Ready {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let unix_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
            self.qemu.tell_guest(agent::Command::SetTime { unix_ms });
        }
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
        let key_taken = event == agent::Event::KeyTaken;
        let ready = matches!(event, agent::Event::Ready { .. });
        if ready && self.record.phase == Phase::Booting {
            // The record is written before anybody is told.
            self.record.phase = Phase::Ready;
            self.console.catch_up();
            self.console.boot_ended();
            self.save();
        }
        let event = Event::Guest { report: event };
        if ready {
            report.send(&event);
        } else {
            report.send_of_guest(&event);
        }
        if key_taken && !self.record.key_removed {
            match self.share.remove_secrets() {
                Ok(true) => report.send(&Event::KeyRemoved),
                Ok(false) => {}
                Err(error) => {
                    let message = format!("cannot remove the staged key: {error}");
                    report.send(&Event::Warning { message });
                    return;
                }
            }
            self.record.key_removed = true;
            self.save();
        }
    }

    /// A guest that is ready may reset: it boots again, and its secrets are staged again. One that resets before it
    /// is ready would go on doing so, one that was told to stop has shut down already, and one whose kernel panicked
    /// without a driver of the panic device (Debian's for aarch64 has none) would be lost without a word.
    fn guest_reset(&mut self, report: &mut Report) {
        self.qemu.agent.clear();
        self.console.catch_up();
        match self.record.phase {
            Phase::Ready if self.ending == Ending::Running && self.console.panic_message().is_none() => {
                if let Err(error) = self.share.restage() {
                    self.give_up(
                        format!("the guest reset, and its key cannot be staged again: {error}"),
                        report,
                    );
                    return;
                }
                self.console.boot_begins();
                self.console.say("the guest boots again");
                (self.record.phase, self.record.key_removed) = (Phase::Booting, false);
                self.boot = Boot::default();
                self.save();
                report.send(&Event::Rebooting);
            }
            Phase::Panicked | Phase::Ended => {}
            Phase::Stopping => self.give_up("the guest reset after it was told to stop".to_owned(), report),
            Phase::Starting | Phase::Booting | Phase::Ready => {
                let why = match self.console.panic_message() {
                    Some(message) => format!("the guest's kernel panicked: {message}"),
                    // Firmware resets once more before it boots.
                    None if self.boot.is_silent() => return,
                    None => "the guest reset before it was ready".to_owned(),
                };
                self.failed = true;
                self.give_up(why, report);
            }
        }
    }

    /// QEMU has paused the machine; its console can still be looked at.
    fn guest_panicked(&mut self, report: &mut Report) {
        if self.record.phase == Phase::Panicked {
            return;
        }
        // Its last lines may come after the event.
        self.console.catch_up();
        let message = self.console.panic_message().unwrap_or_else(|| "without a message".to_owned());
        let reason = format!("the guest's kernel panicked: {message}");
        self.console.say(&reason);
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

    /// Ends the machine without asking the guest, which cannot answer.
    pub(super) fn give_up(&mut self, cause: String, report: &mut Report) {
        self.cause = Some(cause);
        if let Some(step) = self.ending.quit(Instant::now(), scaled(QUIT, &self.environment)) {
            self.step(step, report);
        }
    }
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
