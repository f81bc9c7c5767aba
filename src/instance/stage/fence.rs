//! The fence of a guest's network, as a process of its own: it reads what a hostile guest writes, and has nothing
//! that is worth having. It takes the guest's frames from QEMU and gives those back that may go on.
//!
//! Without it no frame leaves the guest: QEMU gives them to the fence, or to nobody.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use crate::edge::environment::Environment;
use crate::instance::stage::user::QemuUser;
use crate::instance::stage::{FENCE, Mode, SELF, child};
use crate::vm::network::fence::Sieve;
use crate::vm::spec::{self, Channel};

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;
/// Bytes that wait for QEMU; what comes on top is lost, as on a wire. The fence reads on in any case: QEMU stands
/// still until its frames are taken.
const WAITING_MAX: usize = 1 << 20;
/// How long a QEMU that is started by hand may take to open its sockets.
const OPENED: Duration = Duration::from_secs(60);

/// A fence that runs, and QEMU's ends of its sockets.
#[derive(Debug)]
pub(super) struct Fence {
    pub(super) pid: Pid,
    out: UnixStream,
    back: UnixStream,
}

impl Fence {
    /// Starts it. The state directory is on its command line for those who read the list of processes.
    pub(super) fn start(mode: Mode, user: Option<QemuUser>, state: &Path) -> io::Result<Self> {
        let (out, theirs_out) = UnixStream::pair()?;
        let (back, theirs_back) = UnixStream::pair()?;
        let mut command = match mode {
            // The kernel ends it with the first process of its PID namespace.
            Mode::Namespaces => Command::new(SELF),
            Mode::Memory => child::command(SELF, &Environment::of_process()),
        };
        command.arg(FENCE).arg(state).env_clear().stdin(OwnedFd::from(theirs_out));
        command.stdout(OwnedFd::from(theirs_back)).stderr(Stdio::null());
        if let Some(user) = user {
            user.run(&mut command);
        }
        let spawned = command.spawn()?;
        let pid = i32::try_from(spawned.id()).map(Pid::from_raw).map_err(io::Error::other)?;
        // From here on QEMU inherits them.
        for end in [&out, &back] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(Self { pid, out, back })
    }

    /// QEMU's ends.
    pub(super) fn channels(&self) -> spec::Fence {
        let descriptor = |end: &UnixStream| Channel::Descriptor(end.as_raw_fd());
        spec::Fence { out: descriptor(&self.out), back: descriptor(&self.back) }
    }
}

/// The hidden subcommand: `STATE`, between standard input and output; or by hand `OUT BACK`, two sockets on which QEMU
/// listens. Ends with QEMU.
pub(super) fn run(arguments: &[OsString]) -> ExitCode {
    let ends = match arguments {
        [_state] => standard(),
        [out, back] => {
            let until = Instant::now() + OPENED;
            connect(out.as_ref(), until).and_then(|out| Ok((out, connect(back.as_ref(), until)?)))
        }
        _ => return ExitCode::from(2),
    };
    match ends.and_then(|(out, back)| pump(&out, &back)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn standard() -> io::Result<(UnixStream, UnixStream)> {
    let (out, back) = (io::stdin().as_fd().try_clone_to_owned()?, io::stdout().as_fd().try_clone_to_owned()?);
    Ok((out.into(), back.into()))
}

fn connect(path: &Path, until: Instant) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path) {
            Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(50)),
            other => return other,
        }
    }
}

/// Carries frames until QEMU is gone.
fn pump(out: &UnixStream, back: &UnixStream) -> io::Result<()> {
    back.set_nonblocking(true)?;
    let mut sieve = Sieve::default();
    let mut waiting: Vec<u8> = Vec::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let mut watched = [
            PollFd::new(out.as_fd(), PollFlags::POLLIN),
            PollFd::new(
                back.as_fd(),
                if waiting.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT },
            ),
        ];
        match poll(&mut watched, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
            Ok(_) => {}
        }
        let [from, to] = watched.map(|end| end.any().unwrap_or_default());
        if from {
            let count = match (&*out).read(&mut chunk) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                other => other?,
            };
            let frames = sieve.sift(chunk.get(..count).unwrap_or_default(), |frame| {
                if waiting.len() + frame.len() <= WAITING_MAX {
                    waiting.extend_from_slice(frame);
                }
            });
            frames.map_err(io::Error::other)?;
        }
        if (from || to) && !waiting.is_empty() {
            match (&*back).write(&waiting) {
                Ok(count) => drop(waiting.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // QEMU is on its way out.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}
