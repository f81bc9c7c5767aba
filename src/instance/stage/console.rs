//! The serial console: shown to everybody who attaches, typed on by one of them, and written to a log while the guest
//! boots.
//!
//! Who attaches first to type is the one who types; when they leave, the next who types is. Others are told so, and may
//! take over.
//!
//! What is typed or printed after that may be secret, so it reaches no disk unless host.yaml asks for it. A viewer
//! that does not read loses output; the guest never waits for one.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags};
use zeroize::Zeroizing;

use crate::instance::plan::ConsoleLog;
use crate::instance::stage::log::Log;
use crate::instance::stage::outlet::Outlet;
use crate::instance::wire::{Seat, Typing};
use crate::vm::agent::printable;

/// Bytes of the log of one boot.
const LOG_MAX: u64 = 512 << 10;
/// Bytes that wait for a slow viewer.
const VIEWER_MAX: usize = 256 << 10;
/// Bytes that wait for a guest that does not read its console.
const INPUT_MAX: usize = 16 << 10;
/// Viewers at a time; a further one waits.
const VIEWERS_MAX: usize = 16;
/// Bytes of output that are remembered.
const RECENT_MAX: usize = 64 << 10;
/// Bytes of the line that has begun, such as a prompt, that a new viewer is shown.
const LINE_MAX: usize = 512;
/// Bytes taken from the guest at once.
const READ_MAX: usize = 64 << 10;
/// Pieces that are taken at most to catch up with a guest: one that floods its console is never done.
const CATCH_UP_PIECES: usize = 64;
/// What a kernel writes when it gives up.
const PANIC: &str = "Kernel panic - not syncing: ";
/// Longest part of that message, in characters.
const PANIC_MAX: usize = 200;
/// Lines of the kernel before and after it that are written down.
const PANIC_LINES: usize = 60;
/// What a kernel that restarts in good order writes last, whatever was shown before.
const RESTART: &str = "reboot: Restarting system";

/// Somebody who is attached.
#[derive(Debug)]
struct Viewer {
    number: u64,
    /// Whether they want to type at all.
    types: bool,
    /// They have been told that somebody else types.
    told: bool,
    socket: UnixStream,
    output: Outlet,
    /// Output was dropped; the viewer is told when there is room.
    lost: bool,
}

impl Viewer {
    fn show(&mut self, bytes: &[u8]) {
        self.lost |= !self.output.push(bytes, VIEWER_MAX);
    }

    fn tell(&mut self, message: &str) {
        self.show(format!("\r\ncivm: {message}\r\n").as_bytes());
    }

    fn tell_of_another(&mut self) {
        if !std::mem::replace(&mut self.told, true) {
            self.tell("somebody else types on this console; `civm console --take` takes over");
        }
    }

    fn flush(&mut self) -> bool {
        let mut socket = &self.socket;
        let open = self.output.flush(|bytes| socket.write(bytes));
        if self.lost && self.output.len() == 0 {
            self.lost = false;
            self.output.push(b"\r\ncivm: output was lost here\r\n", VIEWER_MAX);
        }
        open
    }
}

/// The console of a machine.
#[derive(Debug)]
pub(super) struct Console {
    listener: UnixListener,
    guest: UnixStream,
    open: bool,
    viewers: Vec<Viewer>,
    /// Who types.
    writer: Option<u64>,
    last_viewer: u64,
    input: Outlet,
    /// The last output, in memory alone.
    recent: Zeroizing<Vec<u8>>,
    log: Option<Log>,
    log_path: PathBuf,
    wanted: ConsoleLog,
}

impl Console {
    /// Listens at `socket` for viewers of the console that `guest` leads to.
    pub(super) fn open(
        socket: &Path,
        guest: UnixStream,
        log_path: PathBuf,
        wanted: ConsoleLog,
    ) -> io::Result<Self> {
        let listener = UnixListener::bind(socket)?;
        listener.set_nonblocking(true)?;
        guest.set_nonblocking(true)?;
        let log = Some(Log::begin(log_path.clone(), LOG_MAX)?);
        let recent = Zeroizing::new(Vec::with_capacity(RECENT_MAX));
        let (viewers, input) = (Vec::new(), Outlet::default());
        let (open, writer, last_viewer) = (true, None, 0);
        Ok(Self { listener, guest, open, viewers, writer, last_viewer, input, recent, log, log_path, wanted })
    }

    /// What to wait for.
    pub(super) fn watched(&self) -> Vec<PollFd<'_>> {
        let mut watched = Vec::new();
        if self.viewers.len() < VIEWERS_MAX {
            watched.push(PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
        }
        if self.open {
            let write = if self.input.len() > 0 { PollFlags::POLLOUT } else { PollFlags::empty() };
            watched.push(PollFd::new(self.guest.as_fd(), PollFlags::POLLIN | write));
        }
        // Who types faster than the guest reads waits.
        let read = if self.input.len() < INPUT_MAX { PollFlags::POLLIN } else { PollFlags::empty() };
        // One of whom nothing is wanted is left out: that it hung up would wake us again and again.
        watched.extend(self.viewers.iter().filter_map(|viewer| {
            let write = if viewer.output.len() > 0 { PollFlags::POLLOUT } else { PollFlags::empty() };
            (!(read | write).is_empty()).then(|| PollFd::new(viewer.socket.as_fd(), read | write))
        }));
        watched
    }

    /// Does what there is to do; `false` where the guest had nothing to show.
    pub(super) fn serve(&mut self) -> bool {
        self.accept();
        let heard = self.hear_guest();
        self.hear_viewers();
        let mut guest = &self.guest;
        self.open &= self.input.flush(|bytes| guest.write(bytes));
        let writer = &mut self.writer;
        self.viewers.retain_mut(|viewer| {
            let open = viewer.flush();
            writer.take_if(|writer| !open && *writer == viewer.number);
            open
        });
        heard
    }

    /// Takes what the guest has written until now, within reason.
    pub(super) fn catch_up(&mut self) {
        for _ in 0..CATCH_UP_PIECES {
            if !self.serve() {
                return;
            }
        }
    }

    /// The guest boots again: its output is logged, and the log of the boot before is kept.
    pub(super) fn boot_begins(&mut self) {
        self.recent.clear();
        // Closed first, so that it is not written to any more.
        self.log = None;
        self.log = Log::begin(self.log_path.clone(), LOG_MAX).ok();
    }

    /// The guest is ready: what follows is shown to viewers and not logged.
    pub(super) fn boot_ended(&mut self) {
        if self.wanted == ConsoleLog::Always {
            return;
        }
        if let Some(mut log) = self.log.take() {
            log.append(b"\r\ncivm: the guest is ready; from here on the console is not logged\r\n");
        }
    }

    /// Shows a message of civm's to all viewers.
    pub(super) fn say(&mut self, line: &str) {
        self.viewers.iter_mut().for_each(|viewer| viewer.tell(line));
        if let Some(log) = &mut self.log {
            log.append(format!("\r\ncivm: {line}\r\n").as_bytes());
        }
    }

    /// Whether somebody is attached.
    pub(super) fn is_watched(&self) -> bool {
        !self.viewers.is_empty()
    }

    /// The place that somebody would have who attaches now; `None` where there is none left.
    pub(super) fn seat(&self, typing: Typing) -> Option<Seat> {
        let types = match typing {
            Typing::No => false,
            Typing::Offered => self.writer.is_none(),
            Typing::Taken => true,
        };
        (self.viewers.len() < VIEWERS_MAX).then_some(Seat { types, another: self.writer.is_some() })
    }

    /// Attaches somebody who is still to be sent `output`.
    pub(super) fn attach(&mut self, socket: UnixStream, output: Outlet, typing: Typing) {
        let Some(seat) = self.seat(typing) else { return };
        let number = self.add(socket, output, typing != Typing::No);
        if typing == Typing::Offered && !seat.types {
            if let Some(viewer) = self.viewers.last_mut() {
                viewer.tell_of_another();
            }
        } else if seat.types {
            let before = self.writer.replace(number);
            if let Some(before) = self.viewers.iter_mut().find(|viewer| Some(viewer.number) == before) {
                before.told = true;
                before.tell("somebody else types on this console from now on");
            }
        }
    }

    fn add(&mut self, socket: UnixStream, output: Outlet, types: bool) -> u64 {
        self.last_viewer += 1;
        let number = self.last_viewer;
        let mut viewer = Viewer { number, types, told: false, socket, output, lost: false };
        viewer.show(self.current_line());
        self.viewers.push(viewer);
        number
    }

    /// Writes down what the kernel said around its panic, where the log has been closed: its own lines and no others.
    pub(super) fn log_panic(&mut self) {
        if self.log.is_some() {
            return;
        }
        let Ok(mut log) = Log::go_on(self.log_path.clone(), LOG_MAX) else { return };
        let text = String::from_utf8_lossy(&self.recent);
        let is_kernels = |line: &&str| {
            let time = line.strip_prefix('[').and_then(|rest| rest.split_once(']'));
            time.is_some_and(|(time, _)| time.trim().parse::<f64>().is_ok())
        };
        let lines: Vec<&str> = text.lines().filter(is_kernels).collect();
        log.append(b"\r\ncivm: the guest's kernel panicked; its last lines:\r\n");
        for line in lines.iter().skip(lines.len().saturating_sub(PANIC_LINES)) {
            log.append(format!("{line}\r\n").as_bytes());
        }
    }

    /// Why the guest's kernel panicked, where it wrote that on its console.
    pub(super) fn panic_message(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.recent);
        let (_, message) = text.rsplit_once(PANIC)?;
        if message.contains(RESTART) {
            return None;
        }
        let message: String = message.lines().next()?.chars().take(PANIC_MAX).collect();
        Some(printable(&message).trim().to_owned())
    }

    fn accept(&mut self) {
        while self.viewers.len() < VIEWERS_MAX {
            let Ok((socket, _)) = self.listener.accept() else { return };
            if socket.set_nonblocking(true).is_err() {
                continue;
            }
            self.add(socket, Outlet::default(), true);
        }
    }

    /// The line that has begun, a prompt mostly.
    fn current_line(&self) -> &[u8] {
        let line = self.recent.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        line.get(line.len().saturating_sub(LINE_MAX)..).unwrap_or_default()
    }

    fn hear_guest(&mut self) -> bool {
        if !self.open {
            return false;
        }
        let mut chunk = Zeroizing::new(vec![0; READ_MAX]);
        match self.guest.read(&mut chunk) {
            Ok(0) => self.open = false,
            Ok(count) => {
                let shown = chunk.get(..count).unwrap_or_default();
                self.remember(shown);
                if let Some(log) = &mut self.log {
                    log.append(shown);
                }
                self.viewers.iter_mut().for_each(|viewer| viewer.show(shown));
                return true;
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.open = false,
        }
        false
    }

    /// Keeps the last output. The buffer never grows, so that no copy of it is left in memory.
    fn remember(&mut self, shown: &[u8]) {
        let shown = shown.get(shown.len().saturating_sub(RECENT_MAX / 2)..).unwrap_or_default();
        if self.recent.len() + shown.len() > RECENT_MAX {
            self.recent.drain(..RECENT_MAX / 2);
        }
        self.recent.extend_from_slice(shown);
    }

    fn hear_viewers(&mut self) {
        let mut chunk = Zeroizing::new([0; 4096]);
        let (input, writer) = (&mut self.input, &mut self.writer);
        self.viewers.retain_mut(|viewer| {
            if input.len() >= INPUT_MAX {
                return true;
            }
            let is_again = |error: &io::Error| {
                matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
            };
            match viewer.socket.read(&mut chunk[..]) {
                Err(error) if is_again(&error) => {}
                // One who leaves while something waits to be shown is gone with an error.
                Ok(0) | Err(_) => {
                    writer.take_if(|writer| *writer == viewer.number);
                    return false;
                }
                Ok(_) if !viewer.types => {}
                Ok(count) if *writer.get_or_insert(viewer.number) == viewer.number => {
                    input.push(chunk.get(..count).unwrap_or_default(), 2 * INPUT_MAX);
                }
                Ok(_) => viewer.tell_of_another(),
            }
            true
        });
    }
}

#[cfg(test)]
mod tests;
