//! The serial console: shared by everybody who attaches, and written to a log while the guest boots.
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
use crate::vm::agent::printable;

/// Bytes of a log; there are two at most.
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
/// What a kernel that restarts in good order writes last, whatever was shown before.
const RESTART: &str = "reboot: Restarting system";

/// Somebody who is attached.
#[derive(Debug)]
struct Viewer {
    socket: UnixStream,
    output: Outlet,
    /// Output was dropped; the viewer is told when there is room.
    lost: bool,
}

impl Viewer {
    fn show(&mut self, bytes: &[u8]) {
        self.lost |= !self.output.push(bytes, VIEWER_MAX);
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
        let log = Some(Log::create(log_path.clone(), LOG_MAX)?);
        let recent = Zeroizing::new(Vec::with_capacity(RECENT_MAX));
        let (viewers, input) = (Vec::new(), Outlet::default());
        Ok(Self { listener, guest, open: true, viewers, input, recent, log, log_path, wanted })
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
        self.viewers.retain_mut(Viewer::flush);
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
        match &mut self.log {
            Some(log) => log.rotate(),
            None => {
                self.log = Log::go_on(self.log_path.clone(), LOG_MAX).ok();
                if let Some(log) = &mut self.log {
                    log.rotate();
                }
            }
        }
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
        let line = format!("\r\ncivm: {line}\r\n");
        self.viewers.iter_mut().for_each(|viewer| viewer.show(line.as_bytes()));
        if let Some(log) = &mut self.log {
            log.append(line.as_bytes());
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
            let mut viewer = Viewer { socket, output: Outlet::default(), lost: false };
            viewer.show(self.current_line());
            self.viewers.push(viewer);
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
        let input = &mut self.input;
        self.viewers.retain_mut(|viewer| {
            if input.len() >= INPUT_MAX {
                return true;
            }
            match viewer.socket.read(&mut chunk[..]) {
                Ok(0) => false,
                Ok(count) => {
                    input.push(chunk.get(..count).unwrap_or_default(), 2 * INPUT_MAX);
                    true
                }
                Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{Console, LOG_MAX, RECENT_MAX};
    use crate::instance::plan::ConsoleLog;
    use std::fs;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::path::Path;
    use std::time::Duration;

    fn console(directory: &Path, wanted: ConsoleLog) -> (Console, UnixStream) {
        let (guest, ours) = UnixStream::pair().unwrap();
        guest.set_nonblocking(true).unwrap();
        (Console::open(&directory.join("s"), ours, directory.join("log"), wanted).unwrap(), guest)
    }

    fn viewer(directory: &Path) -> UnixStream {
        let viewer = UnixStream::connect(directory.join("s")).unwrap();
        viewer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        viewer
    }

    fn read(viewer: &mut UnixStream, length: usize) -> String {
        let mut bytes = vec![0; length];
        viewer.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn what_follows_readiness_is_shown_and_not_written_down() {
        for (wanted, kept) in [(ConsoleLog::UntilReady, false), (ConsoleLog::Always, true)] {
            let directory = tempfile::tempdir().unwrap();
            let (mut console, mut guest) = console(directory.path(), wanted);
            guest.write_all(b"boots\n# ").unwrap();
            console.serve();
            console.boot_ended();
            let mut first = viewer(directory.path());
            let mut second = viewer(directory.path());
            console.serve();
            assert_eq!((read(&mut first, 2), read(&mut second, 2)), ("# ".into(), "# ".into()), "the prompt");
            first.write_all(b"cat key\r").unwrap();
            console.serve();
            let mut typed = [0; 8];
            guest.read_exact(&mut typed).unwrap();
            assert_eq!(&typed, b"cat key\r");
            guest.write_all(b"the secret\n").unwrap();
            console.serve();
            assert_eq!(
                (read(&mut first, 11), read(&mut second, 11)),
                ("the secret\n".into(), "the secret\n".into())
            );
            let log = fs::read_to_string(directory.path().join("log")).unwrap();
            assert!(log.starts_with("boots\n# "), "{log}");
            assert_eq!(log.contains("the secret"), kept, "{log}");
            // A second boot is kept again, beside the first.
            console.boot_begins();
            guest.write_all(b"boots again\n").unwrap();
            console.serve();
            assert_eq!(fs::read_to_string(directory.path().join("log")).unwrap(), "boots again\n");
            assert!(fs::read_to_string(directory.path().join("log.1")).unwrap().starts_with("boots\n"));
        }
    }

    #[test]
    fn a_flood_is_bounded_on_disk_and_in_memory_and_nobody_waits_for_a_viewer_that_sleeps() {
        let directory = tempfile::tempdir().unwrap();
        let (mut console, mut guest) = console(directory.path(), ConsoleLog::Always);
        let mut sleeps = viewer(directory.path());
        let flood = vec![b'x'; 64 << 10];
        let mut written = 0;
        while written < 16 << 20 {
            written += guest.write(&flood).unwrap_or(0);
            console.serve();
        }
        let size = |name: &str| fs::metadata(directory.path().join(name)).unwrap().len();
        assert!(size("log") <= LOG_MAX && size("log.1") <= LOG_MAX);
        assert!(console.recent.capacity() <= RECENT_MAX && console.viewers[0].output.len() <= 256 << 10);
        // Awake again, it is told what it missed, and sees what follows.
        let mut shown = Vec::new();
        sleeps.set_nonblocking(true).unwrap();
        guest.write_all(b"done").unwrap();
        for _ in 0..1000 {
            console.serve();
            let mut chunk = [0; 64 << 10];
            if let Ok(count) = sleeps.read(&mut chunk) {
                shown.extend_from_slice(&chunk[..count]);
            }
        }
        guest.write_all(b"after").unwrap();
        console.serve();
        std::thread::sleep(Duration::from_millis(10));
        let mut chunk = [0; 100];
        let count = sleeps.read(&mut chunk).unwrap();
        shown.extend_from_slice(&chunk[..count]);
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.contains("output was lost here") && shown.ends_with("after"), "{}", shown.len());
    }

    #[test]
    fn the_reason_of_a_panic_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let (mut console, mut guest) = console(directory.path(), ConsoleLog::UntilReady);
        assert_eq!(console.panic_message(), None);
        guest
            .write_all(
                b"[ 1.0] Kernel panic - not syncing: sysrq \x1b[0mtriggered crash\r\n[ 1.1] CPU: 0\r\n",
            )
            .unwrap();
        console.serve();
        assert_eq!(console.panic_message().as_deref(), Some("sysrq [0mtriggered crash"));
        // It was only shown, as from an older log: this kernel lives, and restarts.
        guest.write_all(b"[ 9.0] reboot: Restarting system\r\n").unwrap();
        console.serve();
        assert_eq!(console.panic_message(), None);
    }
}
