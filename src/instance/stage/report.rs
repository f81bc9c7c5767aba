//! Telling what happens: to the caller, to the log of events and to whoever asked the instance to stop.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::instance::event::Event;

/// Events of one run that are logged at most: a guest must not fill the host's disk.
const LOGGED_MAX: usize = 2000;

/// The listeners of an instance.
#[derive(Debug)]
pub(super) struct Report {
    /// The caller reads our standard output until it goes away.
    caller: bool,
    log: Option<File>,
    logged: usize,
    listeners: Vec<UnixStream>,
}

impl Report {
    /// To the caller alone.
    pub(super) fn to_caller() -> Self {
        // A caller that does not read must not hold up a machine.
        let nonblocking = fcntl(io::stdout(), FcntlArg::F_GETFL)
            .map(|flags| OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK)
            .and_then(|flags| fcntl(io::stdout(), FcntlArg::F_SETFL(flags)));
        Self { caller: nonblocking.is_ok(), log: None, logged: 0, listeners: Vec::new() }
    }

    /// To the log as well; `fresh` begins a new one.
    pub(super) fn log_to(&mut self, path: &Path, fresh: bool) {
        let mut options = OpenOptions::new();
        options.create(true).mode(0o600);
        if fresh {
            options.write(true).truncate(true);
        } else {
            options.append(true);
        }
        self.log = options.open(path).ok();
    }

    /// Tells one more listener from now on.
    pub(super) fn listen(&mut self, socket: UnixStream) {
        self.listeners.push(socket);
    }

    /// Forgets the caller.
    pub(super) fn caller_left(&mut self) {
        self.caller = false;
    }

    /// Tells an event.
    pub(super) fn send(&mut self, event: &Event) {
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        if self.caller {
            self.caller = nix::unistd::write(io::stdout(), &line) == Ok(line.len());
        }
        if self.logged < LOGGED_MAX {
            self.logged += 1;
            if let Some(log) = &mut self.log {
                let _ = log.write_all(&line);
            }
        }
        self.listeners.retain_mut(|listener| listener.write_all(&line).is_ok());
    }
}
