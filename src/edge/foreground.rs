//! A child process that takes this process's place: signals are passed on to it, and this process outlives it to
//! clean up.

use std::fs::{self, File};
use std::io;
use std::process::{Command, ExitStatus};
use std::thread;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, getpgrp, tcgetpgrp};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use super::cleanup::leave_signals;

/// The signals that are passed on: those that users and supervisors send to a program.
const PASSED_ON: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];
/// Those that a terminal sends to its whole foreground process group.
const OF_TERMINAL: [i32; 2] = [SIGINT, SIGQUIT];

/// From here on none of the signals that are passed on ends this process, also after the child has exited: there may
/// be something to clean up.
pub struct Foreground {
    signals: Signals,
}

impl Foreground {
    /// Begins to watch. Signals that this process was told to ignore, as `nohup` does, stay ignored, by the child as
    /// well.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn watch() -> io::Result<Self> {
        leave_signals();
        Ok(Self { signals: Signals::new(heeded(PASSED_ON))? })
    }

    /// Starts a command, passes signals on to it and waits until it exits.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn run(mut self, command: &mut Command) -> io::Result<ExitStatus> {
        let mut child = command.spawn()?;
        let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        let handle = self.signals.handle();
        thread::scope(|scope| {
            scope.spawn(|| self.signals.forever().for_each(|signal| pass_on(signal, pid)));
            // Not reaped before the last signal was passed on: until then its number is nobody else's.
            while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
            handle.close();
        });
        child.wait()
    }
}

fn pass_on(signal: i32, child: Pid) {
    if OF_TERMINAL.contains(&signal) && in_foreground() {
        // The terminal sent it to the child as well; a second one would mean something else to many programs.
        return;
    }
    if let Ok(signal) = Signal::try_from(signal) {
        let _ = kill(child, signal);
    }
}

/// Whether this process is among those that its terminal sends signals to.
fn in_foreground() -> bool {
    File::open("/dev/tty").is_ok_and(|terminal| tcgetpgrp(terminal) == Ok(getpgrp()))
}

/// Those of these signals that this process was not told to ignore.
pub fn heeded(signals: impl IntoIterator<Item = i32>) -> impl Iterator<Item = i32> {
    let ignored = ignored();
    signals.into_iter().filter(move |signal| ignored >> (signal - 1) & 1 == 0)
}

/// The signals that this process ignores, a bit each, from signal 1 on.
pub(super) fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0)
}

/// The exit code of a child as a shell reports it, but 255 for a signal, as in sops.
#[must_use]
pub fn code(status: ExitStatus) -> u8 {
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn a_signal_reaches_the_child_and_not_this_process() {
        let directory = tempfile::tempdir().expect("a directory");
        let ready = directory.path().join("ready");
        let foreground = Foreground::watch().expect("watched");
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg("trap 'exit 7' USR1; : > \"$0\"; while :; do sleep 0.05; done").arg(&ready);
        let status = thread::scope(|scope| {
            scope.spawn(|| {
                let end = Instant::now() + Duration::from_secs(20);
                while !ready.exists() && Instant::now() < end {
                    thread::sleep(Duration::from_millis(10));
                }
                // Not one that other tests of this process end at.
                kill(Pid::this(), Signal::SIGUSR1).expect("sent");
            });
            foreground.run(&mut command).expect("runs")
        });
        assert_eq!(code(status), 7);
    }

    #[test]
    fn an_end_by_a_signal_is_255() {
        let run = |script: &str| Command::new("/bin/sh").args(["-c", script]).status().expect("runs");
        assert_eq!(code(run("exit 0")), 0);
        assert_eq!(code(run("exit 9")), 9);
        assert_eq!(code(run("kill -9 $$")), 255);
    }
}
