//! Starting an instance: checks, accelerator, stage, QEMU.

use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::edge::environment::Environment;
use crate::edge::process;
use crate::instance::accel::{self, AccelRequest, Verdict};
use crate::instance::deadline::scaled;
use crate::instance::error::Error;
use crate::instance::event::Event;
use crate::instance::plan::{self, Machine, Plan, Staged, Template, Wiring};
use crate::instance::preflight::{self, Resources};
use crate::instance::stage::{FENCE, KEEPER, Mode, QemuUser, SELF};
use crate::instance::state::{CONSOLE_SOCKET, Home, Phase, Place, RUN, Record};
use crate::instance::supervise::{Running, Stream};
use crate::instance::tsc;
use crate::vm::argv;
use crate::vm::network::Network;
use crate::vm::runner;
use crate::vm::spec::{Accel, Arch, Channel, Fence, Spec};

/// How long the stage may take to open, or QEMU to answer.
const STAGE: Duration = Duration::from_secs(30);
/// The same where a runner may first make a disk and an image of its store.
const RUNNER: Duration = Duration::from_secs(600);

/// What to start.
#[derive(Debug)]
pub struct Request<'a> {
    /// Where the state of this user's instances is.
    pub home: &'a Home,
    /// Where this one's is.
    pub place: &'a Place,
    /// The host that it is a machine of.
    pub host: &'a str,
    /// The machine.
    pub machine: Machine,
    /// What executes it.
    pub accel: AccelRequest,
    /// Whether root's QEMU stays root, rather than to run as a user of its own.
    pub qemu_as_root: bool,
    /// What the guest finds in its share.
    pub staged: Vec<Staged>,
    /// The template that it is resumed from, or becomes.
    pub template: Option<Template>,
    /// Where those files lie: namespaces if possible, where nothing is said.
    pub mode: Option<Mode>,
    /// The variables of this run.
    pub environment: &'a Environment,
}

/// Starts an instance and returns once QEMU runs; the guest then boots.
///
/// Until [`Running::detach`] the instance lives only as long as the value and this process.
///
/// # Errors
/// What stands in the way, before anything has been started; or how the start failed, after everything has
/// been taken down again.
pub fn start(request: Request<'_>, on: &mut dyn FnMut(&Event)) -> Result<Running, Error> {
    let Request { home, place, host, machine, accel, qemu_as_root, staged, template, mode, environment } =
        request;
    // What another version of civm has written is left alone.
    place.load()?;
    place.sweep();
    if place.is_alive() {
        return Err(Error::Running(place.name.clone()));
    }
    // The request was checked, but what it needs may be gone by now.
    let qemu = find_qemu(&machine, environment)?;
    preflight::check_ports(&machine.forwards, || home.running())?;
    for message in compare(&machine)? {
        on(&Event::Warning { message });
    }
    let user = if qemu_as_root || machine.runner.is_some() {
        None
    } else {
        QemuUser::choose(&place.path, environment)
    };
    let verdict = decide(&machine, &qemu, user, accel, environment)?;
    on(&Event::Accel { accel: verdict.accel, reason: verdict.reason.clone() });
    let tsc_khz = tsc_khz(&machine, verdict.accel, environment)?;
    if let Some(khz) = tsc_khz {
        tsc::remember(khz, environment);
    }
    let mut record = Record::new(place, host, now());
    record.accel_reason = Some(verdict.reason.clone());
    (record.cpus, record.memory_mib) = (machine.cpus, machine.memory_mib);
    record.disk = machine.disk.as_ref().map(|disk| disk.path.clone());
    record.ephemeral = machine.disk.as_ref().is_some_and(|disk| disk.ephemeral);
    record.phase = Phase::Starting;
    let patience = if machine.runner.is_some() { RUNNER } else { STAGE };
    // The guest can write to the share of a runner, which the stage can keep from it only in a namespace.
    let mode = if machine.runner.is_some() { Some(Mode::Namespaces) } else { mode };
    let plan = Plan { machine, accel: verdict.accel, tsc_khz, qemu, user, template, record };
    let (mut stream, lifeline) = open_stage(mode, place, environment, on)?;
    plan::send(&lifeline, &plan, &staged).or_else(|error| stage_gone(&mut stream, error))?;
    drop(staged);
    await_qemu(stream, lifeline, place, scaled(patience, environment), environment, on)
}

/// What will execute a machine.
///
/// # Errors
/// No QEMU, or KVM is demanded and does not work.
pub fn accelerator(
    machine: &Machine,
    place: &Place,
    request: AccelRequest,
    qemu_as_root: bool,
    environment: &Environment,
) -> Result<Verdict, Error> {
    let user = if qemu_as_root { None } else { QemuUser::choose(&place.path, environment) };
    decide(machine, &find_qemu(machine, environment)?, user, request, environment)
}

fn decide(
    machine: &Machine,
    qemu: &Path,
    user: Option<QemuUser>,
    request: AccelRequest,
    environment: &Environment,
) -> Result<Verdict, Error> {
    // What a runner boots says no word that civm knows.
    let boot = machine.runner.is_none().then_some(&machine.boot);
    accel::decide(request, &accel::Probe { arch: machine.arch, qemu, boot, user, environment })
}

/// A stage that closed its socket says why on the other one.
fn stage_gone(stream: &mut Stream, error: Error) -> Result<(), Error> {
    if !matches!(error, Error::Stage(_) | Error::Staged { .. }) {
        return Err(error);
    }
    while let Some(event) = stream.next(Duration::from_secs(2)) {
        if let Event::Ended { reason, .. } = event {
            return Err(Error::Stage(reason));
        }
    }
    Err(error)
}

/// Whether a machine can be started at all, before anything is made for it: programs, ports, disk, means. What is
/// merely unwise is told when it starts.
///
/// # Errors
/// What stands in the way.
pub fn check(home: &Home, machine: &Machine, environment: &Environment) -> Result<(), Error> {
    if machine.runner.is_none() {
        find_qemu(machine, environment)?;
    }
    let running = home.running();
    preflight::check_ports(&machine.forwards, || running.clone())?;
    if let Some(disk) = &machine.disk {
        preflight::check_disk(&disk.path, &running)?;
    }
    compare(machine)?;
    // A machine that cannot be is refused here, not by the stage.
    let accel = if Arch::native() == Some(machine.arch) { Accel::Kvm } else { Accel::Tcg };
    spec(machine, accel, wiring(machine, Path::new("/")), environment)?;
    Ok(())
}

/// What is unwise about a machine on this one.
fn compare(machine: &Machine) -> Result<Vec<String>, Error> {
    let disk = machine.disk.as_ref().map(|disk| disk.path.as_path());
    preflight::compare(machine, &Resources::of_machine(disk))
}

/// The whole machine, with the rate of the time stamp counter where it is wanted.
fn spec(machine: &Machine, accel: Accel, wiring: Wiring, environment: &Environment) -> Result<Spec, Error> {
    Ok(machine.spec(accel, tsc_khz(machine, accel, environment)?, wiring)?)
}

/// The rate of the time stamp counter, which every emulated x86 is told. Those that have another timer do without where
/// it cannot be told, and where they have it they put right what is not exact about it.
fn tsc_khz(machine: &Machine, accel: Accel, environment: &Environment) -> Result<Option<u32>, Error> {
    let machine_type = machine.machine_type;
    if machine_type.wants_tsc_rate(accel) {
        return tsc::measure_khz().map(Some).map_err(|reason| Error::NoTsc { machine_type, reason });
    }
    Ok(if machine_type.takes_tsc_rate(accel) { tsc::known_khz(environment) } else { None })
}

/// All of a machine's wires below one directory.
fn wiring(machine: &Machine, directory: &Path) -> Wiring {
    let socket = |name: &str| Channel::Socket(directory.join(name));
    Wiring {
        console: socket(CONSOLE_SOCKET),
        qmp: socket("qmp.sock"),
        agent: socket("agent.sock"),
        share: directory.join("share"),
        disk_files: None,
        fence: (machine.network == Network::NoHost)
            .then(|| Fence { out: socket("fence-out.sock"), back: socket("fence-back.sock") }),
        memory_file: None,
    }
}

pub(super) fn find_qemu(machine: &Machine, environment: &Environment) -> Result<PathBuf, Error> {
    // A runner brings its own, which need not be in the PATH.
    if let Some(qemu) = machine.runner.as_ref().and_then(|runner| runner.qemu.clone()) {
        return Ok(qemu);
    }
    let name = machine.arch.qemu();
    environment.find_program(name).ok_or(Error::NoProgram(name))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Opens a stage in namespaces, else in memory.
fn open_stage(
    mode: Option<Mode>,
    place: &Place,
    environment: &Environment,
    on: &mut dyn FnMut(&Event),
) -> Result<(Stream, UnixStream), Error> {
    let modes = mode.map_or(vec![Mode::Namespaces, Mode::Memory], |mode| vec![mode]);
    let mut reasons = ["namespaces were not tried".to_owned(), "memory was not tried".to_owned()];
    for mode in modes {
        let (mut stream, lifeline) = spawn_keeper(mode, place, environment)?;
        let event = stream.next(scaled(STAGE, environment));
        let reason = match event {
            Some(Event::Opened { namespaces, runtime }) => {
                if let [refused, _] = &reasons
                    && mode == Mode::Memory
                    && !refused.ends_with("tried")
                {
                    on(&Event::Warning { message: refused.clone() });
                }
                on(&Event::Opened { namespaces, runtime });
                return Ok((stream, lifeline));
            }
            Some(Event::Busy) => return Err(Error::Running(place.name.clone())),
            Some(Event::Unavailable { reason } | Event::Ended { reason, .. }) => reason,
            Some(_) | None => "the stage did not answer".to_owned(),
        };
        stream.finish();
        match (&mut reasons, mode) {
            ([first, _], Mode::Namespaces) => *first = format!("no namespaces ({reason})"),
            ([_, second], Mode::Memory) => *second = reason,
        }
    }
    let [namespaces, memory] = reasons;
    Err(Error::NoStage { namespaces, memory })
}

/// Opens a stage and lets it go again, as a test of what this machine allows.
///
/// # Errors
/// Why it cannot be opened.
pub fn try_stage(mode: Mode, environment: &Environment) -> Result<(), Error> {
    let failed = Error::file("cannot create a directory in", environment.temp_dir());
    let directory = tempfile::tempdir_in(environment.temp_dir()).map_err(failed)?;
    let home = Home::find(&environment.clone().with("XDG_STATE_HOME", directory.path()))?;
    let place = home.project(directory.path())?.place("doctor")?;
    let (mut stream, lifeline) = open_stage(Some(mode), &place, environment, &mut |_| {})?;
    drop(lifeline);
    stream.finish();
    Ok(())
}

fn spawn_keeper(mode: Mode, place: &Place, environment: &Environment) -> Result<(Stream, UnixStream), Error> {
    let failed = |source| Error::Spawn { program: "civm".to_owned(), source };
    let (lifeline, theirs) = UnixStream::pair().map_err(failed)?;
    let mut command = process::command(SELF, &environment.for_tools());
    command
        .arg0("civm")
        .args([KEEPER, mode.argument()])
        .args([place.path.as_os_str(), place.project.as_os_str(), place.name.as_ref()])
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let keeper = command.spawn().map_err(failed)?;
    Ok((Stream::read(keeper)?, lifeline))
}

fn await_qemu(
    mut stream: Stream,
    lifeline: UnixStream,
    place: &Place,
    patience: Duration,
    environment: &Environment,
    on: &mut dyn FnMut(&Event),
) -> Result<Running, Error> {
    loop {
        let Some(event) = stream.next(patience) else {
            drop(lifeline);
            stream.finish();
            return Err(Error::Ended { reason: "the stage went silent".to_owned(), tail: place.tail() });
        };
        on(&event);
        match event {
            Event::Started { forwards, .. } => {
                return Ok(Running::new(stream, lifeline, place.clone(), forwards, environment));
            }
            Event::Ended { reason, .. } | Event::Unavailable { reason } => {
                stream.finish();
                // The console of an earlier run explains nothing.
                let mut tail = place.tail();
                tail.console.clear();
                return Err(Error::Ended { reason, tail });
            }
            _ => {}
        }
    }
}

/// QEMU's command line as civm would run it, quoted for a shell that can run it; sockets and paths stand in for the
/// descriptors that QEMU otherwise inherits.
///
/// # Errors
/// No QEMU, or a machine that cannot be.
pub fn command_line(
    machine: &Machine,
    accel: Accel,
    place: &Place,
    environment: &Environment,
) -> Result<String, Error> {
    let directory = place.path.join(RUN);
    let wiring = wiring(machine, &directory);
    // What QEMU finds when civm starts it has to be made for a QEMU that is started by hand.
    let mut line = format!("mkdir -p -m 700 {} && \\\n", quote(&wiring.share.to_string_lossy()));
    if let Some(Fence { out: Channel::Socket(out), back: Channel::Socket(back) }) = &wiring.fence {
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("civm"));
        let words =
            [program.as_path(), Path::new(FENCE), out, back].map(|word| quote(&word.to_string_lossy()));
        // It waits for QEMU's sockets, and ends with it.
        let _ = writeln!(line, "{{ {} & }} && \\", words.join(" "));
    }
    let spec = spec(machine, accel, wiring, environment)?;
    let (program, arguments) = match &machine.runner {
        None => (find_qemu(machine, environment)?, argv::render(&spec)),
        Some(found) => {
            let runner::Call { variables, arguments } = runner::call(&spec, found);
            let _ = writeln!(line, "mkdir -p -m 700 {} && \\", quote(&found.temporary.to_string_lossy()));
            for (name, value) in variables {
                let _ = writeln!(line, "{name}={} \\", quote(&value));
            }
            (found.program.clone(), arguments)
        }
    };
    line.push_str(&quote(&program.to_string_lossy()));
    for argument in arguments {
        let joint = if argument.starts_with('-') { " \\\n  " } else { " " };
        let _ = write!(line, "{joint}{}", quote(&argument));
    }
    Ok(line)
}

fn quote(argument: &str) -> String {
    // A NUL, which shlex refuses, is in no path or argument of a checked machine.
    shlex::try_quote(argument).map_or_else(|_| argument.to_owned(), std::borrow::Cow::into_owned)
}
