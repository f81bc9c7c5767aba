//! What the hub answers those who ask, and what it tells systemd.

use std::sync::mpsc::SyncSender;
use std::time::Duration;

use super::dial::Refusal;
use super::hub::Hub;
use super::socket::{PROTOCOL, Reply, Request};
use super::state::{Input, Phase};
use super::{Caller, builders::Builder, listen, notify};

/// How many may follow the log at once.
const FOLLOWERS_MAX: usize = 64;

/// Somebody who follows the log.
pub(super) struct Follower {
    builder: Option<String>,
    reply: SyncSender<Reply>,
}

fn error(message: impl Into<String>) -> Reply {
    Reply { error: Some(message.into()), ..Reply::default() }
}

impl Hub<'_> {
    /// Answers a request.
    pub(super) fn answer(&mut self, request: Request, reply: SyncSender<Reply>, owner: bool) {
        let changes = matches!(request, Request::Up { .. } | Request::Down { .. } | Request::Drain { .. });
        let answer = if changes && !owner {
            error("only root and the user who runs the keeper may do that")
        } else {
            self.reply(request, &reply)
        };
        // Whoever reads so slowly that this does not fit in does not read any more.
        let _ = reply.try_send(answer);
    }

    fn reply(&mut self, request: Request, reply: &SyncSender<Reply>) -> Reply {
        let ok = Reply { ok: Some(true), ..Reply::default() };
        let done = match request {
            Request::Version => {
                return Reply {
                    protocol: Some(PROTOCOL),
                    civm: Some(env!("CARGO_PKG_VERSION").to_owned()),
                    ..Reply::default()
                };
            }
            Request::List => return Reply { builders: Some(self.views()), ..Reply::default() },
            Request::Up { builders } => {
                if self.is_ending() {
                    return error("the keeper is about to end");
                }
                self.reload(false);
                self.each(&builders, |_| Input::Up)
            }
            Request::Down { builders, within_ms } => self.each(&builders, |builder: &Builder| {
                let within = within_ms.map(Duration::from_millis);
                Input::Down { within: Some(within.unwrap_or(builder.loaded.parcel.builder.drain)) }
            }),
            Request::Drain { builders } => self.each(&builders, |_| Input::Down { within: None }),
            Request::Logs { builder, follow } => self.logs(builder, follow, reply),
            Request::Events => self.follow(None, reply),
            Request::Dial { .. } | Request::Unknown => {
                Err("this keeper does not know such a request: it is an older civm".to_owned())
            }
        };
        done.map_or_else(error, |()| ok)
    }

    fn each(&mut self, names: &[String], input: impl Fn(&Builder) -> Input) -> Result<(), String> {
        if let Some(unknown) = names.iter().find(|name| !self.builders.contains_key(*name)) {
            return Err(self.unknown(unknown));
        }
        let chosen: Vec<String> =
            self.builders.keys().filter(|name| names.is_empty() || names.contains(name)).cloned().collect();
        for name in chosen {
            let Some(builder) = self.builders.get_mut(&name) else { continue };
            let input = input(builder);
            match (&builder.next, &input) {
                // It goes first, to come back as something else.
                (Some(Some(_)), Input::Up) => builder.next_is_wanted = true,
                (next, _) => {
                    if next.is_some() {
                        builder.next_is_wanted = false;
                    }
                    self.step(&name, input);
                }
            }
        }
        Ok(())
    }

    fn logs(
        &mut self,
        builder: Option<String>,
        follow: bool,
        reply: &SyncSender<Reply>,
    ) -> Result<(), String> {
        if let Some(name) = &builder
            && !self.builders.contains_key(name)
        {
            return Err(self.unknown(name));
        }
        let chosen = |one: &&Builder| builder.as_deref().is_none_or(|name| name == one.loaded.name());
        let mut lines: Vec<_> =
            self.builders.values().filter(chosen).flat_map(Builder::lines).cloned().collect();
        lines.sort_by_key(|line| line.at);
        let skip = lines.len().saturating_sub(200);
        for line in lines.into_iter().skip(skip) {
            let _ = reply.try_send(Reply { line: Some(line), ..Reply::default() });
        }
        if follow { self.follow(builder, reply) } else { Ok(()) }
    }

    fn follow(&mut self, builder: Option<String>, reply: &SyncSender<Reply>) -> Result<(), String> {
        if self.followers.len() >= FOLLOWERS_MAX {
            return Err("too many follow the log already".to_owned());
        }
        self.followers.push(Follower { builder, reply: reply.clone() });
        Ok(())
    }

    /// Writes a line into a builder's log, for all who want to know.
    pub(super) fn log(&mut self, name: &str, text: &str) {
        let Some(builder) = self.builders.get_mut(name) else { return };
        let line = builder.log(text);
        (self.tell)(&line);
        self.followers.retain(|follower| {
            let wanted = follower.builder.as_deref().is_none_or(|builder| builder == line.builder);
            !wanted || follower.reply.try_send(Reply { line: Some(line.clone()), ..Reply::default() }).is_ok()
        });
    }

    /// Tells somebody that they wait.
    pub(super) fn say_waiting(&self, name: &str, caller: &Caller) {
        let Some(builder) = self.builders.get(name) else { return };
        let on = &builder.loaded.parcel.builder.on;
        let how = match builder.state.phase() {
            Phase::Ready { .. } if builder.state.is_away() => "does not answer just now".to_owned(),
            Phase::Ready { .. } => "has as many connections as it may have".to_owned(),
            phase => format!("is {}", phase.name()),
        };
        let waiting = format!("`{name}` on {on} {how}");
        tell(caller, Reply { waiting: Some(waiting), ..Reply::default() });
    }

    /// Turns somebody away.
    pub(super) fn say_refused(&self, name: &str, why: Refusal, caller: &Caller) {
        let reason = self.builders.get(name).and_then(|builder| builder.state.phase().reason().cloned());
        let because = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let (kind, text) = match why {
            Refusal::Elsewhere => {
                ("elsewhere", format!("`{name}` is not ready, and another builder of its system is"))
            }
            Refusal::Stopped => {
                ("stopped", format!("`{name}` was stopped; `civm builder up {name}` starts it"))
            }
            Refusal::Draining => ("draining", format!("`{name}` is about to stop, and takes no more builds")),
            Refusal::Failed => {
                let hint =
                    reason.and_then(|reason| reason.hint).map(|hint| format!("; {hint}")).unwrap_or_default();
                ("failed", format!("`{name}` failed{because}{hint}"))
            }
            Refusal::Late => ("late", format!("`{name}` was not ready in time{because}")),
            Refusal::Full => ("full", format!("too many wait for `{name}` already")),
        };
        tell(caller, Reply { refused: Some(text), kind: Some(kind.to_owned()), ..Reply::default() });
    }

    /// Tells systemd how the builders are, where that has changed.
    pub(super) fn tell_status(&mut self) {
        let of = |wanted: &str| {
            let names = self.builders.iter().filter(|(_, builder)| builder.state.phase().name() == wanted);
            names.map(|(name, _)| name.as_str()).collect::<Vec<_>>()
        };
        let mut status = format!("{} of {} builders are ready", of("ready").len(), self.builders.len());
        for state in ["failed", "waiting"] {
            let names = of(state);
            if !names.is_empty() {
                status.push_str(&format!("; {state}: {}", names[..names.len().min(10)].join(", ")));
            }
        }
        if status != self.status {
            notify(&[sd_notify::NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    /// What a builder's log says of a new phase.
    pub(super) fn phase_line(builder: &Builder) -> String {
        let on = &builder.loaded.parcel.builder.on;
        match builder.state.phase() {
            Phase::Idle => "gone".to_owned(),
            Phase::Waiting { reason, .. } => format!("{reason}; it is tried again"),
            Phase::Connecting => format!("connecting to {on}"),
            Phase::Preparing => format!("{on} answers"),
            Phase::Starting => "booting".to_owned(),
            Phase::Ready { .. } => "ready".to_owned(),
            Phase::Draining { .. } => {
                format!("takes no new builds; {} connections are still open", builder.state.connections())
            }
            Phase::Stopping { .. } => "stopping".to_owned(),
            Phase::Failed(reason) => {
                let hint = reason.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
                format!("failed: {reason}{hint}")
            }
        }
    }
}

/// Says something to somebody who came through the socket. Whoever does not read it does not get it.
pub(super) fn tell(caller: &Caller, reply: Reply) {
    if let Caller::Socket(stream) = caller {
        // A line of it fits into the socket at once, or nobody reads there.
        let _ = stream.set_nonblocking(true);
        let _ = listen::answer(stream, &reply);
        let _ = stream.set_nonblocking(false);
    }
}
