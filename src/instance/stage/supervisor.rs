//! The supervisor: stages the files, runs QEMU as its child and stays until it is gone.

use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::{Mode as Bits, umask};

use crate::edge::environment::Environment;
use crate::edge::frame;
use crate::edge::hardening::forbid_core_dumps;
use crate::edge::lock::Lock;
use crate::instance::deadline::scaled;
use crate::instance::event::Event;
use crate::instance::plan::{Plan, Template, Wiring};
use crate::instance::stage::console::Console;
use crate::instance::stage::control::Control;
use crate::instance::stage::fence::Fence;
use crate::instance::stage::log::{Log, QEMU_LOG_MAX};
use crate::instance::stage::qemu::{self, Channels, Qemu};
use crate::instance::stage::report::Report;
use crate::instance::stage::share::Share;
use crate::instance::stage::user::Inherited;
use crate::instance::stage::{Mode, child, namespaces, template};
use crate::instance::state::{CONSOLE_SOCKET, CONTROL_SOCKET, Phase, Place, Record, lock_patiently};
use crate::vm::network::Network;
use crate::vm::runner::Runner;

mod disk;
mod guest;
mod requests;
mod signals;
mod watch;

use watch::Machine;

/// How long QEMU may take to answer on its control channel; a loaded machine is slow to load it.
const GREETING: Duration = Duration::from_secs(20);
/// The same where a runner first makes what QEMU is to open.
const RUNNER: Duration = Duration::from_secs(590);
/// Where a runner finds the directory for its own files.
const TEMPORARY: &str = "t";
/// Where a runner's QEMU finds the share: it may open it to be written to.
const READ_ONLY: &str = "share-read-only";

/// The hidden subcommand: `MODE KEEPER RUNTIME STATE PROJECT NAME`.
pub(super) fn run(arguments: Vec<OsString>) -> ExitCode {
    let [mode, keeper, runtime, state, project, name] = arguments.as_slice() else {
        return ExitCode::from(2);
    };
    let (Some(mode), Some(name)) = (Mode::parse(mode), name.to_str()) else { return ExitCode::from(2) };
    let place = Place { project: project.into(), name: name.to_owned(), path: state.into() };
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
    signals: signals::Signals,
    environment: Environment,
    _lock: Lock,
}

impl Stage {
    fn open(
        mode: Mode,
        keeper: &OsStr,
        runtime: PathBuf,
        place: Place,
        report: &mut Report,
    ) -> io::Result<Self> {
        let signals = signals::Signals::watch()?;
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
        report.control = Some(Control::listen(&runtime.join(CONTROL_SOCKET))?);
        report.send(&Event::Opened { namespaces: mode == Mode::Namespaces, runtime: runtime.clone() });
        let environment = Environment::of_process();
        Ok(Self { mode, keeper: keeper.to_owned(), runtime, place, share, signals, environment, _lock: lock })
    }

    fn run(self, mut report: Report) -> ExitCode {
        let place = self.place.clone();
        match self.start(&mut report) {
            Ok(mut machine) => machine.watch(&mut report),
            Err(reason) => {
                // Before a plan has come, the record is that of an earlier run.
                if let Ok(Some(record)) = Record::load(&place.path)
                    && record.phase != Phase::Ended
                {
                    finish(&place, record, &reason);
                }
                report.send(&Event::Ended { reason, clean: false });
                report.finish();
                ExitCode::FAILURE
            }
        }
    }

    fn start(mut self, report: &mut Report) -> Result<Machine, String> {
        let mut caller = Caller;
        let plan: Option<Plan> =
            frame::receive(&mut caller).map_err(|error| format!("no plan came: {error}"))?;
        let Some(mut plan) = plan else {
            return Err("the caller gave up".to_owned());
        };
        let record = &mut plan.record;
        record.runtime = Some(self.runtime.clone());
        record.namespaces = self.mode == Mode::Namespaces;
        record.phase = Phase::Starting;
        record.save(&self.place.path).map_err(|error| error.to_string())?;
        let started = self.launch(&plan, &mut caller, report);
        let (qemu, console, disk, resumed) = match started {
            Ok(started) => started,
            Err(reason) => {
                self.share.remove();
                return Err(reason);
            }
        };
        let mut record = plan.record;
        (record.accel, record.forwards) = (Some(qemu.accel), qemu.forwards.clone());
        record.qemu = qemu.process;
        record.phase = Phase::Booting;
        let started = Event::Started { accel: qemu.accel, forwards: qemu.forwards.clone() };
        let mut machine = Machine::new(self, qemu, console, disk, record, plan.template);
        if resumed {
            machine.boot.heard = true;
            machine.release(true);
        }
        // The record is written before anybody is told.
        machine.save();
        report.send(&started);
        Ok(machine)
    }

    /// Stages the files and starts QEMU; its console, the lock on its disk, and whether it was resumed come with it.
    fn launch(
        &mut self,
        plan: &Plan,
        caller: &mut Caller,
        report: &mut Report,
    ) -> Result<(Qemu, Console, Option<Lock>, bool), String> {
        let failed = |error: io::Error| error.to_string();
        let files = self.share.receive(caller, plan.user).map_err(failed)?;
        report.send(&Event::Staged { files });
        let machine = &plan.machine;
        // A runner makes its disk itself where there is none.
        let disk = machine.disk.as_ref().filter(|disk| machine.runner.is_none() || disk.path.exists());
        let disk = disk.map(disk::Files::open).transpose()?;
        let mut resumed = matches!(plan.template, Some(Template::Resume { .. }));
        let (qemu, guest) = match self.start_qemu(plan, plan.template.as_ref(), disk.as_ref()) {
            Err(reason) if matches!(plan.template, Some(Template::Resume { required: false, .. })) => {
                // Its disk is as it was when the template was frozen: as after a power cut, before anything was written
                // to it that matters.
                let message = format!("cannot resume the template, so it boots: {reason}");
                report.send(&Event::Warning { message });
                resumed = false;
                self.start_qemu(plan, None, disk.as_ref())?
            }
            started => started?,
        };
        if resumed {
            report.send(&Event::Resumed);
        }
        let socket = self.runtime.join(CONSOLE_SOCKET);
        let console = Console::open(&socket, guest, self.place.console_log(), plan.machine.console_log);
        let console = console.map_err(|error| {
            qemu.kill();
            format!("cannot open the console {} or its log: {error}", socket.display())
        })?;
        if let Some(disk) = plan.machine.disk.as_ref().filter(|disk| disk.ephemeral) {
            // QEMU has it open: whatever is killed, it is gone with QEMU.
            let _ = std::fs::remove_file(&disk.path);
        }
        Ok((qemu, console, disk.map(disk::Files::into_lock), resumed))
    }

    /// Starts QEMU, and gives our end of the console as well.
    fn start_qemu(
        &self,
        plan: &Plan,
        template: Option<&Template>,
        disk: Option<&disk::Files>,
    ) -> Result<(Qemu, UnixStream), String> {
        let failed = |error: io::Error| error.to_string();
        let (user, mut machine) = (plan.user, plan.machine.clone());
        let runner = machine.runner.clone();
        // Before what QEMU alone inherits is open.
        let fence = (machine.network == Network::NoHost)
            .then(|| Fence::start(self.mode, user, &self.place.path))
            .transpose()
            .map_err(|error| format!("cannot start the fence of the guest's network: {error}"))?;
        let mut inherited = Inherited::default();
        let channels = Channels::open().map_err(failed)?;
        let template = template
            .map(|template| template::open(template, machine.memory_mib, user, &mut inherited))
            .transpose()?;
        let mut wiring = Wiring {
            console: channels.console(),
            qmp: channels.qmp(),
            agent: channels.agent(),
            share: self.share.path().to_owned(),
            // A runner opens its disk by its name.
            disk_files: disk
                .filter(|_| runner.is_none())
                .map(|disk| disk.inherit(&mut inherited))
                .transpose()
                .map_err(failed)?,
            fence: fence.as_ref().map(Fence::channels),
            memory_file: template.as_ref().map(|template| template.memory.clone()),
        };
        if user.is_some() {
            // The ways to them are root's alone.
            for path in
                [Some(&mut machine.boot.kernel), machine.boot.initrd.as_mut(), Some(&mut wiring.share)]
                    .into_iter()
                    .flatten()
            {
                *path = inherited.path(path).map_err(failed)?;
            }
        }
        if let Some(runner) = &runner {
            wiring.share = self.runtime.join(READ_ONLY);
            make_directory(&wiring.share)?;
            namespaces::bind_read_only(self.share.path(), &wiring.share).map_err(failed)?;
            // What an earlier run left there was of that run alone.
            let _ = std::fs::remove_dir_all(&runner.temporary);
            make_directory(&runner.temporary)?;
            // Sockets that it makes there have short paths only.
            let short = self.runtime.join(TEMPORARY);
            make_directory(&short)?;
            namespaces::bind(&runner.temporary, &short).map_err(failed)?;
            machine.runner = Some(Runner { temporary: short, ..runner.clone() });
        }
        let spec = machine.spec(plan.accel, plan.tsc_khz, wiring).map_err(|error| error.to_string())?;
        let log = Log::go_on(self.place.qemu_log(), QEMU_LOG_MAX).map_err(failed)?;
        let patience = scaled(if runner.is_some() { RUNNER } else { GREETING }, &self.environment);
        let resumed = template.and_then(|template| template.resumed);
        let run = qemu::Run {
            program: &plan.qemu,
            spec: &spec,
            mode: self.mode,
            user,
            fence,
            log,
            resumed,
            patience,
        };
        qemu::start(run, channels).map_err(|reason| match user {
            Some(_) if plan.machine.forwards.iter().any(|forward| (1..1024).contains(&forward.host_port)) => {
                format!(
                    "{reason} (only root may listen on ports below 1024: use higher ones, or --qemu-as-root)"
                )
            }
            _ => reason,
        })
    }
}

fn make_directory(path: &Path) -> Result<(), String> {
    let made = DirBuilder::new().mode(0o700).create(path);
    made.map_err(|error| format!("cannot create {}: {error}", path.display()))
}

/// The caller's socket, our standard input, read without a buffer of its own.
#[derive(Clone, Copy, Debug)]
struct Caller;

impl Read for Caller {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        nix::unistd::read(io::stdin(), buffer).map_err(Into::into)
    }
}

fn finish(place: &Place, mut record: Record, reason: &str) {
    (record.phase, record.runtime) = (Phase::Ended, None);
    record.reason = Some(reason.to_owned());
    // The keeper writes it again.
    let _ = record.save(&place.path);
}
