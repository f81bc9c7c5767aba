//! The keeper: holds the instance's lock and its directory in memory, and cleans up after the supervisor.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, setsid};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

use crate::edge::environment::Environment;
use crate::edge::private_dir::PrivateDir;
use crate::instance::event::Event;
use crate::instance::stage::log::{Log, QEMU_LOG_MAX};
use crate::instance::stage::report::Report;
use crate::instance::stage::{Mode, SELF, SUPERVISOR, child, namespaces};
use crate::instance::state::{Phase, Place, RUN, lock_patiently};

/// The hidden subcommand: `MODE STATE PROJECT NAME`.
pub(super) fn run(arguments: Vec<OsString>) -> ExitCode {
    let [mode, state, project, name] = arguments.as_slice() else { return ExitCode::from(2) };
    let (Some(mode), Some(name)) = (Mode::parse(mode), name.to_str()) else { return ExitCode::from(2) };
    let place = Place { project: project.into(), name: name.to_owned(), path: state.into() };
    let mut report = Report::to_caller();
    match keep(mode, &place, &mut report) {
        Ok(code) => code,
        Err(error) => {
            report.send(&Event::Unavailable { reason: error.to_string() });
            ExitCode::FAILURE
        }
    }
}

/// The instance's directory in memory, or, for namespaces only, one in its state.
enum Runtime {
    Memory(PrivateDir),
    Disk(PathBuf),
}

impl Runtime {
    fn path(&self) -> &Path {
        match self {
            Self::Memory(directory) => directory.path(),
            Self::Disk(path) => path,
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Self::Disk(path) = self {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

fn keep(mode: Mode, place: &Place, report: &mut Report) -> io::Result<ExitCode> {
    // Away from the caller's terminal and its signals.
    let _ = setsid();
    let Some(_lock) = lock_patiently(&place.lock()).map_err(io::Error::other)? else {
        report.send(&Event::Busy);
        return Ok(ExitCode::FAILURE);
    };
    report.log_to(&place.events(), true);
    // QEMU's messages go there as well.
    let log = Log::begin(place.qemu_log(), QEMU_LOG_MAX)?;
    let runtime = open_runtime(mode, place)?;
    let signals = Signals::watch()?;
    if mode == Mode::Namespaces {
        namespaces::enter(Uid::effective())?;
    }
    let mut supervisor = spawn(mode, place, runtime.path(), &log)?;
    let status = wait(&mut supervisor, &signals)?;
    // Removes what the supervisor's own end did not: sockets, and in `Memory` mode the share.
    drop(runtime);
    conclude(place, status, report);
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn open_runtime(mode: Mode, place: &Place) -> io::Result<Runtime> {
    match (PrivateDir::in_memory(&Environment::of_process()), mode) {
        (Ok(directory), _) => Ok(Runtime::Memory(directory)),
        (Err(error), Mode::Memory) => Err(io::Error::other(error)),
        // Only sockets and an empty mount point are in it: no secret touches the disk.
        (Err(_), Mode::Namespaces) => {
            let path = place.path.join(RUN);
            let _ = std::fs::remove_dir_all(&path);
            DirBuilder::new().mode(0o700).create(&path)?;
            Ok(Runtime::Disk(path))
        }
    }
}

fn spawn(mode: Mode, place: &Place, runtime: &Path, log: &Log) -> io::Result<Child> {
    Command::new(SELF)
        .arg0("civm")
        .args([SUPERVISOR, mode.argument()])
        .arg(child::own_pid().unwrap_or_default())
        .arg(runtime)
        .args([place.path.as_os_str(), place.project.as_os_str(), place.name.as_ref()])
        .stdin(Stdio::inherit())
        .stdout(Stdio::inherit())
        .stderr(log.share()?)
        .spawn()
}

/// Sockets that become readable with a signal.
struct Signals {
    ended: UnixStream,
    asked: UnixStream,
}

impl Signals {
    fn watch() -> io::Result<Self> {
        let (ended, write) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(SIGCHLD, write)?;
        let (asked, write) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(SIGTERM, write.try_clone()?)?;
        signal_hook::low_level::pipe::register(SIGINT, write)?;
        // A terminal that closes is no reason to stop.
        let _ = signal_hook::flag::register(SIGHUP, std::sync::Arc::default())?;
        for socket in [&ended, &asked] {
            socket.set_nonblocking(true)?;
        }
        Ok(Self { ended, asked })
    }

    fn drain(mut socket: &UnixStream) -> bool {
        let mut bytes = [0; 64];
        let mut any = false;
        while socket.read(&mut bytes).is_ok_and(|count| count > 0) {
            any = true;
        }
        any
    }
}

fn wait(supervisor: &mut Child, signals: &Signals) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = supervisor.try_wait()? {
            return Ok(status);
        }
        let watched = [signals.ended.as_fd(), signals.asked.as_fd()];
        let mut watched = watched.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let _ = poll(&mut watched, PollTimeout::NONE);
        Signals::drain(&signals.ended);
        if Signals::drain(&signals.asked)
            && let Ok(pid) = i32::try_from(supervisor.id())
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }
}

/// Writes down how the run ended, where the supervisor could not.
fn conclude(place: &Place, status: ExitStatus, report: &mut Report) {
    let Some(mut record) = place.record() else { return };
    record.runtime = None;
    if record.phase != Phase::Ended {
        let signal = status.signal().and_then(|number| Signal::try_from(number).ok());
        let reason = match signal {
            Some(signal) => format!("the supervisor was killed by {signal}"),
            None => "the supervisor failed".to_owned(),
        };
        report.log_to(&place.events(), false);
        report.send(&Event::Ended { reason: reason.clone(), clean: false });
        record.phase = Phase::Ended;
        record.reason.get_or_insert(reason);
    }
    record.remove_ephemeral_disk(&place.path);
    place.remove_runner_files();
    let _ = record.save(&place.path);
}
