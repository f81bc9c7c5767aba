//! What is asked over the control socket, and what is answered.

use std::io;
use std::time::{Duration, Instant};

use super::guest::millis;
use super::watch::Machine;
use crate::instance::deadline::scaled;
use crate::instance::event::{Event, Health};
use crate::instance::stage::control::{Asked, Asker};
use crate::instance::stage::incoming::Incoming;
use crate::instance::stage::pulse;
use crate::instance::stage::report::Report;
use crate::instance::state::Phase;
use crate::instance::wire::{Code, Failure, MachineFacts, Request, StagedFiles, Status, Typing, Within};
use crate::vm::agent;
use crate::vm::qmp;

/// How long a guest may take to answer at most, whatever the one who asks says.
const GUEST_MAX: Duration = Duration::from_secs(3600);
/// How long a key that was staged for a running guest lies in the share at most.
const KEY_STAGED: Duration = Duration::from_secs(60);

impl Machine {
    pub(super) fn requested(&mut self, asked: Asked, report: &mut Report) {
        match asked {
            Asked::Request(who, request) => self.request(who, request, report),
            Asked::Files(who, Ok(files)) => {
                let staged = self.adopt(who, files);
                let failed = |error: io::Error| Failure::new(Code::Failed, error.to_string());
                report.answer(who, staged.map(|files| StagedFiles { files }).map_err(failed));
            }
            // Where its files end is not known any more.
            Asked::Files(who, Err(error)) => {
                report.answer_last(who, Failure::new(Code::Failed, error.to_string()));
            }
        }
    }

    fn request(&mut self, who: Asker, request: Request, report: &mut Report) {
        let now = Instant::now();
        match request {
            // The connection answers that itself.
            Request::Hello(_) => {}
            Request::Status if self.qemu.is_stopped() => self.tell_status(who, Health::Frozen, None, report),
            Request::Status => {
                if self.pulse.wanted(who, now) {
                    self.qemu.command(qmp::Command::QueryStatus);
                }
            }
            Request::Machine if self.facts.has_room() => {
                let id = self.qemu.command(qmp::Command::QueryBlock);
                self.facts.add(id, who, now + scaled(pulse::PATIENCE, &self.environment));
            }
            Request::Stop { patience_ms, quit_ms, hurry } => {
                let (patience, quit) = (Duration::from_millis(patience_ms), Duration::from_millis(quit_ms));
                self.stop_within("as asked", patience, quit, hurry, report);
                report.answer(who, Ok(self.within()));
            }
            Request::Kill => {
                report.answer(who, Ok(self.within()));
                let step = self.ending.kill();
                self.step(step, report);
            }
            Request::Subscribe => {
                let subscribed = report.control.as_mut().is_some_and(|control| control.subscribe(who));
                let busy = || Failure::new(Code::Busy, "too many are sent events already");
                report.answer(who, subscribed.then_some(()).ok_or_else(busy));
            }
            Request::ConsoleSize { rows, columns } => {
                self.qemu.tell_guest(agent::Command::ConsoleSize { rows, columns });
                report.answer(who, Ok(()));
            }
            Request::Console { typing } => self.attach(who, typing, report),
            Request::Guest { .. } if self.record.phase != Phase::Ready => self.not_ready(who, report),
            Request::Guest { .. } if !self.boot.is_heard() => {
                report.refuse(who, Code::NoAnswer, "there is no agent in the guest");
            }
            Request::Guest { question, within_ms } if self.questions.has_room() => {
                self.last_question += 1;
                let id = self.last_question;
                let within = Duration::from_millis(within_ms).min(GUEST_MAX);
                self.questions.add(id, who, now + within);
                self.qemu.tell_guest(agent::Command::Ask { id, question });
            }
            Request::Stage { .. } if self.record.phase != Phase::Ready => self.not_ready(who, report),
            Request::Stage { trial }
                if !report.control.as_ref().is_some_and(|control| control.takes_files()) =>
            {
                match self.share.begin() {
                    Ok(mut files) => {
                        files.trial = trial;
                        if let Some(control) = &mut report.control {
                            control.take_files(who, files);
                        }
                    }
                    Err(error) => report.refuse(who, Code::Failed, error.to_string()),
                }
            }
            Request::Machine | Request::Guest { .. } | Request::Stage { .. } => {
                report.refuse(who, Code::Busy, "too many have asked the same and wait");
            }
        }
    }

    fn not_ready(&self, who: Asker, report: &mut Report) {
        report.refuse(who, Code::NotReady, format!("the machine is {}", self.record.phase));
    }

    pub(super) fn tell_status(
        &self,
        who: Asker,
        health: Health,
        run_state: Option<String>,
        report: &mut Report,
    ) {
        report.answer(who, Ok(Status { health, phase: Some(self.record.phase), run_state }));
    }

    pub(super) fn tell_facts(
        &mut self,
        who: Asker,
        answer: Result<qmp::Answer, qmp::Error>,
        report: &mut Report,
    ) {
        let facts = match answer {
            Ok(qmp::Answer::Blocks(drives)) => Ok(MachineFacts { qemu: self.qemu.version.clone(), drives }),
            Ok(_) => Err("QEMU answered something else".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        report.answer(who, facts.map_err(|reason| Failure::new(Code::Failed, reason)));
    }

    /// How long the end may take from now on.
    fn within(&self) -> Within {
        Within { within_ms: millis(self.ending.left(Instant::now())) }
    }

    /// The connection becomes one with the console.
    fn attach(&mut self, who: Asker, typing: Typing, report: &mut Report) {
        let Some(seat) = self.console.seat(typing) else {
            return report.refuse(who, Code::Busy, "too many are attached to the console already");
        };
        report.answer(who, Ok(seat));
        if let Some((socket, output)) = report.control.as_mut().and_then(|control| control.release(who)) {
            self.console.attach(socket, output, typing);
        }
    }

    /// Takes over files that have come; what they say of the key is what the next boot finds as well.
    fn adopt(&mut self, who: Asker, files: Incoming) -> io::Result<usize> {
        if self.record.phase != Phase::Ready {
            return Err(io::Error::other(format!("the machine is {}", self.record.phase)));
        }
        if files.trial {
            let count = self.share.try_out(&files)?;
            self.tried = Some(who);
            return Ok(count);
        }
        let count = self.share.adopt(files)?;
        self.tried = None;
        self.staged = Some((who, Instant::now() + scaled(KEY_STAGED, &self.environment)));
        self.record.key_removed = false;
        self.save();
        Ok(count)
    }

    /// Takes back the key of somebody who is gone, or has taken too long, and files that somebody who is gone tried.
    pub(super) fn look_after_staged(&mut self, report: &mut Report) {
        let is_there = |who| report.control.as_ref().is_some_and(|control| control.is_connected(who));
        if self.tried.is_some_and(|who| !is_there(who)) {
            self.end_trial(report);
        }
        let Some((who, until)) = self.staged else { return };
        let connected = report.control.as_ref().is_some_and(|control| control.is_connected(who));
        if !connected || Instant::now() >= until {
            self.take_key_back(report);
        }
    }

    /// Puts back what was in the share before somebody tried other files.
    pub(super) fn end_trial(&mut self, report: &mut Report) {
        self.tried = None;
        if let Err(error) = self.share.roll_back() {
            let message = format!("cannot put back the files of the share: {error}");
            report.send(&Event::Warning { message });
        }
    }

    /// Removes the staged key: the guest has it, or is not to have it any more.
    pub(super) fn take_key_back(&mut self, report: &mut Report) {
        self.staged = None;
        match self.share.remove_secrets() {
            Ok(true) => report.send(&Event::KeyRemoved),
            Ok(false) => {}
            Err(error) => {
                let message = format!("cannot remove the staged key: {error}");
                return report.send(&Event::Warning { message });
            }
        }
        self.record.key_removed = true;
        self.save();
    }

    /// The guest has answered a question.
    pub(super) fn guest_answered(&mut self, id: u64, answer: &agent::Answer, report: &mut Report) {
        if self.staged.is_some() && !matches!(answer, agent::Answer::Report(_)) {
            self.take_key_back(report);
        }
        if self.tried.is_some() && !matches!(answer, agent::Answer::Report(_)) {
            self.end_trial(report);
        }
        // Of one who has given up, or of a question that nobody asked.
        if let Some(who) = self.questions.take(id) {
            report.answer(who, Ok(answer));
        }
    }

    /// Answers those who wait for a QEMU or a guest that says nothing.
    pub(super) fn tell_of_silence(&mut self, report: &mut Report) {
        let now = Instant::now();
        for who in self.pulse.given_up(now) {
            self.tell_status(who, Health::Frozen, None, report);
        }
        for who in self.facts.overdue(now) {
            report.refuse(who, Code::NoAnswer, "QEMU does not answer");
        }
        for who in self.questions.overdue(now) {
            report.refuse(who, Code::NoAnswer, "the guest did not answer in time");
        }
    }

    /// The guest will answer nothing that was asked until now.
    pub(super) fn give_up_questions(&mut self, reason: &str, report: &mut Report) {
        for who in self.questions.drain() {
            report.refuse(who, Code::NoAnswer, reason);
        }
    }
}
