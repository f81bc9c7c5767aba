//! An ssh that runs: it ends with the thread that began it, can be cut off from another, and what it says is kept
//! within bounds.

use std::ffi::OsString;
use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::builder::keeper::reason::{Kind, Reason};
use crate::edge::environment::Environment;
use crate::instance::stage::child_command;

/// Stack of the small threads of a keeper, which has several for each builder.
pub const STACK: usize = 256 << 10;
/// Bytes that are kept of what an ssh says first, and of what it says last.
const KEPT: usize = 8 << 10;
/// How often an ssh is looked at that is about to end.
const POLL: Duration = Duration::from_millis(5);

/// What can be cut off from another thread, all at once.
#[derive(Clone, Default)]
pub struct Cut(Arc<Mutex<CutState>>);

#[derive(Default)]
struct CutState {
    done: bool,
    children: Vec<Weak<Mutex<Child>>>,
}

impl Cut {
    /// Kills every ssh that runs under it, and those that are still to be started.
    pub fn now(&self) {
        let mut state = lock(&self.0);
        state.done = true;
        for child in state.children.drain(..).filter_map(|child| child.upgrade()) {
            let _ = lock(&child).kill();
        }
    }

    /// Whether that has happened.
    #[must_use]
    pub fn is_done(&self) -> bool {
        lock(&self.0).done
    }

    fn add(&self, child: &Arc<Mutex<Child>>) {
        let mut state = lock(&self.0);
        state.children.retain(|child| child.strong_count() > 0);
        if state.done {
            let _ = lock(child).kill();
        } else {
            state.children.push(Arc::downgrade(child));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An ssh that runs.
pub struct Ssh {
    child: Arc<Mutex<Child>>,
    said: Arc<Mutex<Said>>,
}

/// The beginning and the end of what somebody says.
#[derive(Default)]
struct Said {
    first: Vec<u8>,
    last: Vec<u8>,
    /// Whether the end of it was reached.
    closed: bool,
}

impl Said {
    fn add(&mut self, bytes: &[u8]) {
        let room = KEPT - self.first.len();
        let (first, rest) = bytes.split_at(bytes.len().min(room));
        self.first.extend_from_slice(first);
        self.last.extend_from_slice(rest);
        let surplus = self.last.len().saturating_sub(KEPT);
        self.last.drain(..surplus);
    }
}

/// The command that runs ssh: with the variables that any program may see, the agent's address, and in English.
///
/// # Errors
/// There is no ssh.
pub fn command(arguments: &[OsString], environment: &Environment) -> Result<Command, Reason> {
    let missing =
        || Reason::new(Kind::Local, "this machine has no `ssh`").hint("sudo apt-get install openssh-client");
    let ssh = environment.find_program("ssh").ok_or_else(missing)?;
    let mut command = child_command(ssh, environment);
    command.args(arguments).env("LC_ALL", "C");
    if let Some(agent) = environment.non_empty("SSH_AUTH_SOCK") {
        command.env("SSH_AUTH_SOCK", agent);
    }
    Ok(command)
}

impl Ssh {
    /// Starts an ssh.
    ///
    /// # Errors
    /// There is none, or the system refuses.
    pub fn start(
        arguments: &[OsString],
        stdin: Stdio,
        stdout: Stdio,
        environment: &Environment,
        cut: &Cut,
    ) -> Result<Self, Reason> {
        let failed = |error: io::Error| Reason::new(Kind::Local, format!("cannot run ssh: {error}"));
        let mut command = command(arguments, environment)?;
        let mut child = command.stdin(stdin).stdout(stdout).stderr(Stdio::piped()).spawn().map_err(failed)?;
        let said = Arc::new(Mutex::new(Said::default()));
        if let Some(pipe) = child.stderr.take() {
            let said = Arc::clone(&said);
            let listen = move || listen(pipe, &said);
            let spawned = thread::Builder::new().name("ssh-stderr".into()).stack_size(STACK).spawn(listen);
            if let Err(error) = spawned {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(error));
            }
        }
        let child = Arc::new(Mutex::new(child));
        cut.add(&child);
        Ok(Self { child, said })
    }

    /// The pipes of its stdin and stdout, where they were asked for.
    pub fn pipes(&self) -> (Option<std::process::ChildStdin>, Option<std::process::ChildStdout>) {
        let mut child = lock(&self.child);
        (child.stdin.take(), child.stdout.take())
    }

    /// Ends it at once.
    pub fn kill(&self) {
        let _ = lock(&self.child).kill();
    }

    /// Waits until it has ended; it is killed where that takes too long, and has no status then.
    pub fn wait(&self, until: Instant) -> Option<ExitStatus> {
        let mut killed = false;
        loop {
            match lock(&self.child).try_wait() {
                Ok(Some(status)) => return (!killed).then_some(status),
                Ok(None) => {}
                Err(_) => return None,
            }
            if Instant::now() >= until && !killed {
                killed = true;
                self.kill();
            }
            thread::sleep(POLL);
        }
    }

    /// Whether it has said this so far.
    #[must_use]
    pub fn has_said(&self, what: &str) -> bool {
        let said = lock(&self.said);
        let has = |bytes: &[u8]| bytes.windows(what.len()).any(|part| part == what.as_bytes());
        has(&said.first) || has(&said.last)
    }

    /// What it has said on stderr. After its end there may still be words on their way: they are waited for, shortly.
    #[must_use]
    pub fn said(&self) -> String {
        let until = Instant::now() + Duration::from_millis(500);
        while !lock(&self.said).closed && Instant::now() < until {
            thread::sleep(POLL);
        }
        let said = lock(&self.said);
        let bytes = [&said.first[..], &said.last[..]].concat();
        printable(&String::from_utf8_lossy(&bytes))
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        self.kill();
        let _ = lock(&self.child).wait();
    }
}

fn listen(mut pipe: impl Read, said: &Mutex<Said>) {
    let mut chunk = [0; 1024];
    while let Ok(count) = pipe.read(&mut chunk) {
        if count == 0 {
            break;
        }
        lock(said).add(&chunk[..count]);
    }
    lock(said).closed = true;
}

/// Text from a remote, without what steers a terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    let keep = |c: char| c == '\n' || c == '\t' || !c.is_control();
    text.chars().filter(|c| *c != '\r').map(|c| if keep(c) { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::{KEPT, Said, printable};

    #[test]
    fn the_beginning_and_the_end_are_kept_and_no_more() {
        let mut said = Said::default();
        said.add(b"first");
        for _ in 0..1000 {
            said.add(&[b'.'; 100]);
        }
        said.add(b"last");
        assert!(said.first.starts_with(b"first") && said.last.ends_with(b"last"));
        assert_eq!((said.first.len(), said.last.len()), (KEPT, KEPT));
        assert_eq!(printable("a\x1b[2Jb\r\n"), "a?[2Jb\n");
    }
}
