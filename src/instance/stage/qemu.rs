//! QEMU as the supervisor's child.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::edge::environment::Environment;
use crate::instance::stage::fence::Fence;
use crate::instance::stage::lines::{LINE_MAX, Lines};
use crate::instance::stage::log::Log;
use crate::instance::stage::template::Resumed;
use crate::instance::stage::user::QemuUser;
use crate::instance::stage::{Mode, child};
use crate::instance::state::Process;
use crate::vm::agent;
use crate::vm::argv;
use crate::vm::ports::Forward;
use crate::vm::qmp::{self, Message, Session};
use crate::vm::runner;
use crate::vm::spec::{Accel, Channel, Spec};

mod greeting;

use greeting::{Asking, CLOSED, Greeting, greet};

/// Pieces of QEMU's messages that are taken at once: more than a socket holds.
const MESSAGE_PIECES: usize = 128;

/// How QEMU's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Code(i32),
    Signal(Signal),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "QEMU exited with status {code}"),
            Self::Signal(signal) => write!(f, "QEMU was killed by {signal}"),
        }
    }
}

/// What a signal did to QEMU's process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stopped {
    /// It stands still (SIGSTOP).
    now: bool,
    /// It went on after standing still, and nobody has been told yet.
    resumed: bool,
}

/// QEMU's process and that of its fence, as far as the kernel has told.
#[derive(Debug)]
struct Processes {
    qemu: Pid,
    exit: Option<Exit>,
    stopped: Stopped,
    fence: Option<Pid>,
    /// The fence ended in another way than it does with QEMU.
    fence_failed: bool,
}

/// A running QEMU and our ends of its channels.
#[derive(Debug)]
pub(super) struct Qemu {
    processes: Processes,
    /// Its process, as everybody else sees it.
    pub(super) process: Option<Process>,
    pub(super) qmp: Lines,
    session: Session,
    pub(super) agent: Lines,
    messages: Messages,
    /// What it says executes the guest.
    pub(super) accel: Accel,
    /// What listens.
    pub(super) forwards: Vec<Forward>,
    /// Its version.
    pub(super) version: Option<String>,
    /// What happened before it had answered.
    events: Vec<Message>,
}

/// The sockets that QEMU will inherit, and our ends.
pub(super) struct Channels {
    qmp: (UnixStream, UnixStream),
    agent: (UnixStream, UnixStream),
    console: (UnixStream, UnixStream),
}

impl Channels {
    pub(super) fn open() -> io::Result<Self> {
        let channels =
            Self { qmp: UnixStream::pair()?, agent: UnixStream::pair()?, console: UnixStream::pair()? };
        for theirs in [&channels.qmp.1, &channels.agent.1, &channels.console.1] {
            fcntl(theirs, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(channels)
    }

    pub(super) fn qmp(&self) -> Channel {
        Channel::Descriptor(self.qmp.1.as_raw_fd())
    }

    pub(super) fn agent(&self) -> Channel {
        Channel::Descriptor(self.agent.1.as_raw_fd())
    }

    pub(super) fn console(&self) -> Channel {
        Channel::Descriptor(self.console.1.as_raw_fd())
    }
}

/// QEMU's own messages on their way into a log that a guest cannot make grow without end.
#[derive(Debug)]
struct Messages {
    socket: UnixStream,
    open: bool,
    log: Log,
}

impl Messages {
    fn new(socket: UnixStream, log: Log) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, open: true, log })
    }

    /// Writes down what has come, within reason: a guest may make QEMU write faster than anybody reads.
    fn take(&mut self) {
        let mut chunk = [0; 4096];
        for _ in 0..MESSAGE_PIECES {
            if !self.open {
                return;
            }
            match self.socket.read(&mut chunk) {
                Ok(0) => self.open = false,
                Ok(count) => self.log.append(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.open = false,
            }
        }
    }
}

/// How QEMU is run.
pub(super) struct Run<'a> {
    pub(super) program: &'a Path,
    pub(super) spec: &'a Spec,
    pub(super) mode: Mode,
    /// The user that it runs as, where that is not ours.
    pub(super) user: Option<QemuUser>,
    /// The fence that it is started with.
    pub(super) fence: Option<Fence>,
    pub(super) log: Log,
    /// What a resumed machine goes on from.
    pub(super) resumed: Option<Resumed>,
    /// How long it may take to answer.
    pub(super) patience: Duration,
}

/// Starts QEMU and waits until it answers; gives our end of the guest's console as well.
pub(super) fn start(run: Run<'_>, channels: Channels) -> Result<(Qemu, UnixStream), String> {
    let Run { program, spec, mode, user, fence, log, resumed, patience } = run;
    let runner = spec.draft().runner.as_ref();
    let program = runner.map_or(program, |runner| runner.program.as_path());
    let mut command = match mode {
        // The kernel ends it with the first process of its PID namespace.
        Mode::Namespaces => Command::new(program),
        Mode::Memory => child::command(program, &Environment::of_process()),
    };
    let (messages, theirs) = UnixStream::pair().map_err(|error| error.to_string())?;
    let (err, out) = (theirs.try_clone().map_err(|error| error.to_string())?, theirs);
    command.env_clear().stdin(Stdio::null());
    match runner {
        None => command.args(argv::render(spec)),
        Some(runner) => {
            let runner::Call { variables, arguments } = runner::call(spec, runner);
            // A script, which looks for its programs and for its user's home.
            command.envs(Environment::of_process().for_tools().iter()).envs(variables).args(arguments)
        }
    };
    command.stdout(OwnedFd::from(out)).stderr(OwnedFd::from(err));
    if let Some(user) = user {
        user.run(&mut command);
    }
    let spawned = command.spawn().map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    // With their ends closed here, QEMU's end is seen as the end of its channels.
    drop(command);
    let pid = i32::try_from(spawned.id()).map(Pid::from_raw).map_err(|error| error.to_string())?;
    let Channels { qmp: (qmp, of_qmp), agent: (agent, of_agent), console: (console, of_console) } = channels;
    let mut processes = Processes::new(pid, fence.as_ref().map(|fence| fence.pid));
    drop((of_qmp, of_agent, of_console, fence));
    let mut messages = Messages::new(messages, log).map_err(|error| error.to_string())?;
    let speaks = speaks(&qmp, patience, || {
        processes.reap();
        processes.exit.is_some()
    });
    let greeted = if speaks {
        let state = resumed.map(Resumed::state).transpose();
        state.and_then(|state| greet(qmp, patience, state))
    } else {
        Err(CLOSED.to_owned())
    };
    let agent = Lines::new(agent, LINE_MAX).map_err(|error| error.to_string());
    match greeted.and_then(|greeted| Ok((greeted, agent?))) {
        Ok((Greeting { qmp, session, accel, forwards, version, events }, agent)) => {
            let process = Process::of_child(pid);
            let qemu =
                Qemu { processes, process, qmp, session, agent, messages, accel, forwards, version, events };
            Ok((qemu, console))
        }
        Err(error) => {
            // A QEMU that refuses its arguments closes its channels a moment before it exits.
            let rest = Duration::from_secs(2);
            let exit = processes.wait(rest).or_else(|| {
                let _ = kill(pid, Signal::SIGKILL);
                processes.wait(rest);
                None
            });
            messages.take();
            let silent = || format!("QEMU did not answer within {} s", patience.as_secs());
            Err(match exit {
                Some(exit) => exit.to_string(),
                None if speaks => error,
                None => silent(),
            })
        }
    }
}

/// Waits for the first word. A QEMU that has ended says none, even where a process that it left behind keeps its
/// channels open.
fn speaks(qmp: &UnixStream, patience: Duration, mut is_gone: impl FnMut() -> bool) -> bool {
    let step = PollTimeout::from(50_u8);
    let until = Instant::now() + patience;
    loop {
        let mut watched = [PollFd::new(qmp.as_fd(), PollFlags::POLLIN)];
        if poll(&mut watched, step).is_ok_and(|count| count > 0) {
            return true;
        }
        if is_gone() || Instant::now() >= until {
            return false;
        }
    }
}

impl Processes {
    fn new(qemu: Pid, fence: Option<Pid>) -> Self {
        Self { qemu, exit: None, stopped: Stopped::default(), fence, fence_failed: false }
    }

    /// Waits for QEMU's end, for a while.
    fn wait(&mut self, patience: Duration) -> Option<Exit> {
        let step = Duration::from_millis(20);
        let mut waited = Duration::ZERO;
        while self.exit.is_none() && waited < patience {
            self.reap();
            if self.exit.is_none() {
                std::thread::sleep(step);
                waited += step;
            }
        }
        self.exit
    }

    /// Reaps whatever has ended: the first process of a PID namespace inherits orphans.
    fn reap(&mut self) {
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED | WaitPidFlag::WCONTINUED;
        loop {
            match waitpid(None, Some(flags)) {
                Ok(WaitStatus::Exited(who, code)) if who == self.qemu => self.exit = Some(Exit::Code(code)),
                Ok(WaitStatus::Signaled(who, signal, _)) if who == self.qemu => {
                    self.exit = Some(Exit::Signal(signal));
                }
                Ok(WaitStatus::Stopped(who, _)) if who == self.qemu => self.stopped.now = true,
                Ok(WaitStatus::Continued(who)) if who == self.qemu => {
                    self.stopped = Stopped { now: false, resumed: true };
                }
                Ok(WaitStatus::Exited(who, code)) if Some(who) == self.fence => self.fence_failed = code != 0,
                Ok(WaitStatus::Signaled(who, ..)) if Some(who) == self.fence => self.fence_failed = true,
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }
}

impl Qemu {
    /// How it ended, once it has.
    pub(super) fn exit(&mut self) -> Option<Exit> {
        if self.processes.exit.is_none() {
            self.processes.reap();
        }
        self.processes.exit
    }

    /// Waits for its end, for a while.
    pub(super) fn wait(&mut self, patience: Duration) -> Option<Exit> {
        self.processes.wait(patience)
    }

    /// Whether the fence of its network has gone while QEMU runs: its guest reaches nothing any more.
    pub(super) fn lost_its_fence(&self) -> bool {
        self.processes.exit.is_none() && self.processes.fence_failed
    }

    /// Whether a signal has stopped it.
    pub(super) fn is_stopped(&self) -> bool {
        self.processes.stopped.now
    }

    /// Whether it went on after a signal had stopped it; said once.
    pub(super) fn was_resumed(&mut self) -> bool {
        std::mem::take(&mut self.processes.stopped.resumed)
    }

    /// What to wait for besides its channels: its messages.
    pub(super) fn watched(&self) -> Option<BorrowedFd<'_>> {
        self.messages.open.then(|| self.messages.socket.as_fd())
    }

    /// Writes down its messages.
    pub(super) fn take_messages(&mut self) {
        self.messages.take();
    }

    /// Presses the power button and tells the guest's agent; neither waits for an answer. A machine that stands
    /// still goes on first, so that its guest can power off.
    pub(super) fn power_off(&mut self) {
        let _ = kill(self.processes.qemu, Signal::SIGCONT);
        self.command(qmp::Command::Continue);
        self.tell_guest(agent::Command::PowerOff);
        self.command(qmp::Command::SystemPowerdown);
    }

    /// Asks QEMU to end at once.
    pub(super) fn quit(&mut self) {
        let _ = kill(self.processes.qemu, Signal::SIGCONT);
        self.command(qmp::Command::Quit);
    }

    /// Stops the machine, and writes its state to a file.
    pub(super) fn freeze(&mut self, state: &File, patience: Duration) -> Result<(), String> {
        Asking::new(&mut self.qmp, &mut self.session, &mut self.events, patience).freeze(state.as_fd())
    }

    /// Sends a command to the guest's agent.
    pub(super) fn tell_guest(&mut self, command: agent::Command) {
        if let Ok(line) = serde_json::to_string(&command) {
            self.agent.send(format!("{line}\n").as_bytes());
        }
    }

    /// Sends a command to QEMU; its answer has the number that this gives.
    pub(super) fn command(&mut self, command: qmp::Command) -> u64 {
        let (id, line) = self.session.ask(command);
        self.qmp.send(line.as_bytes());
        id
    }

    /// What QEMU has said; `None` once it says no more.
    pub(super) fn hear(&mut self) -> Option<Vec<Message>> {
        let mut messages = std::mem::take(&mut self.events);
        match self.qmp.receive() {
            // What is not a message says nothing.
            Some(lines) => messages.extend(lines.iter().filter_map(|line| self.session.hear(line).ok())),
            None if messages.is_empty() => return None,
            None => {}
        }
        Some(messages)
    }

    /// Ends it without asking.
    pub(super) fn kill(&self) {
        if self.processes.exit.is_none() {
            let _ = kill(self.processes.qemu, Signal::SIGKILL);
        }
    }
}
