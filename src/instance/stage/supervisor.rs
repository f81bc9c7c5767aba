//! The supervisor: stages the files, runs QEMU as its child and stays until it is gone.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::{Mode as Bits, umask};

use crate::edge::environment::Environment;
use crate::edge::hardening::forbid_core_dumps;
use crate::instance::deadline::scaled;
use crate::instance::event::Event;
use crate::instance::plan::{Plan, receive_object};
use crate::instance::stage::control::Control;
use crate::instance::stage::qemu::{self, Channels};
use crate::instance::stage::report::Report;
use crate::instance::stage::share::Share;
use crate::instance::stage::{Mode, child, namespaces};
use crate::instance::state::{Phase, Place, Record, lock_patiently};

mod watch;

/// How long QEMU may take to answer on its control channel; a loaded machine is slow to load it.
const GREETING: Duration = Duration::from_secs(20);

/// The hidden subcommand: `MODE KEEPER RUNTIME STATE PROJECT HOST`.
pub(super) fn run(arguments: Vec<OsString>) -> ExitCode {
    let [mode, keeper, runtime, state, project, host] = arguments.as_slice() else {
        return ExitCode::from(2);
    };
    let (Some(mode), Some(host)) = (Mode::parse(mode), host.to_str()) else { return ExitCode::from(2) };
    let place = Place { project: project.into(), host: host.to_owned(), path: state.into() };
    let mut report = Report::to_caller();
    report.log_to(&place.events(), false);
    match Stage::open(mode, keeper, PathBuf::from(runtime), place, &mut report) {
        Ok(stage) => stage.run(report),
        Err(error) => {
            report.send(&Event::Unavailable { reason: error.to_string() });
            ExitCode::FAILURE
        }
    }
}

/// A stage that is open: the share is there, empty.
struct Stage {
    mode: Mode,
    keeper: OsString,
    runtime: PathBuf,
    place: Place,
    share: Share,
    control: Control,
    signals: watch::Signals,
    environment: Environment,
    _lock: File,
}

impl Stage {
    fn open(
        mode: Mode,
        keeper: &OsStr,
        runtime: PathBuf,
        place: Place,
        report: &mut Report,
    ) -> io::Result<Self> {
        let signals = watch::Signals::watch()?;
        // In namespaces the kernel cleans up; in memory we want to be told, and do it.
        let fate = if mode == Mode::Namespaces { Signal::SIGKILL } else { Signal::SIGTERM };
        if !child::follow_parent(keeper, fate) {
            return Err(io::Error::other("its keeper is gone"));
        }
        umask(Bits::from_bits_truncate(0o077));
        let lock = lock_patiently(&place.supervisor_lock()).map_err(io::Error::other)?;
        let lock = lock.ok_or_else(|| io::Error::other("another supervisor of this instance lives"))?;
        let share = Share::create(runtime.join("share"))?;
        if mode == Mode::Namespaces {
            namespaces::mount_private(share.path())?;
        }
        forbid_core_dumps();
        let control = Control::listen(&runtime.join("control.sock"))?;
        report.send(&Event::Opened { namespaces: mode == Mode::Namespaces, runtime: runtime.clone() });
        let environment = Environment::of_process();
        Ok(Self {
            mode,
            keeper: keeper.to_owned(),
            runtime,
            place,
            share,
            control,
            signals,
            environment,
            _lock: lock,
        })
    }

    fn run(self, mut report: Report) -> ExitCode {
        let place = self.place.clone();
        match self.start(&mut report) {
            Ok(mut machine) => machine.watch(&mut report),
            Err(reason) => {
                // Before a plan has come, the record is that of an earlier run.
                if let Some(record) = place.record().filter(|record| record.phase != Phase::Ended) {
                    finish(&place, record, &reason);
                }
                report.send(&Event::Ended { reason, clean: false });
                ExitCode::FAILURE
            }
        }
    }

    fn start(self, report: &mut Report) -> Result<watch::Machine, String> {
        let mut caller = Caller;
        let plan: Option<Plan> =
            receive_object(&mut caller).map_err(|error| format!("no plan came: {error}"))?;
        let Some(Plan { machine, accel, qemu, mut record }) = plan else {
            return Err("the caller gave up".to_owned());
        };
        record.runtime = Some(self.runtime.clone());
        record.namespaces = self.mode == Mode::Namespaces;
        record.phase = Phase::Starting;
        record.save(&self.place.path).map_err(|error| error.to_string())?;
        let started = (|| {
            let files = self.share.receive(&mut caller).map_err(|error| error.to_string())?;
            report.send(&Event::Staged { files });
            let disk = machine.disk.as_ref().map(|disk| lock_disk(&disk.path)).transpose()?;
            let channels = Channels::open().map_err(|error| error.to_string())?;
            let log = self.place.console_log();
            let spec = machine.spec(accel, &self.runtime, Some(log), channels.qmp(), channels.agent());
            let spec = spec.map_err(|error| error.to_string())?;
            let log = OpenOptions::new().append(true).create(true).open(self.place.qemu_log());
            let log = log.map_err(|error| error.to_string())?;
            let patience = scaled(GREETING, &self.environment);
            let qemu = qemu::start(&qemu, &spec, channels, self.mode, &log, patience)?;
            Ok((qemu, disk))
        })();
        let (qemu, disk) = match started {
            Ok(started) => started,
            Err(reason) => {
                self.share.remove();
                return Err(reason);
            }
        };
        (record.accel, record.forwards) = (Some(qemu.accel), qemu.forwards.clone());
        record.phase = Phase::Booting;
        let started = Event::Started { accel: qemu.accel, forwards: qemu.forwards.clone() };
        let machine = watch::Machine::new(self, qemu, disk, record);
        // Whoever hears of it finds it in the record.
        machine.save();
        report.send(&started);
        Ok(machine)
    }
}

/// The caller's socket, our standard input, read without a buffer of its own.
#[derive(Clone, Copy, Debug)]
struct Caller;

impl Read for Caller {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        nix::unistd::read(io::stdin(), buffer).map_err(Into::into)
    }
}

/// Holds a disk against every other instance; QEMU's own lock is of another kind and comes on top.
fn lock_disk(path: &Path) -> Result<File, String> {
    let file = File::open(path).map_err(|error| format!("cannot open disk {}: {error}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(format!("disk {} is in use by another instance", path.display())),
    }
}

fn finish(place: &Place, mut record: Record, reason: &str) {
    (record.phase, record.runtime) = (Phase::Ended, None);
    record.reason = Some(reason.to_owned());
    // The keeper writes it again.
    let _ = record.save(&place.path);
}
