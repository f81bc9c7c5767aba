//! What can go wrong with an instance.

use std::io;
use std::path::PathBuf;

use crate::instance::control;
use crate::vm::spec;

/// Why an instance was not started, found or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nowhere to keep state.
    #[error("nowhere to keep state: XDG_STATE_HOME is not set, and this account has no home directory")]
    NoHome,
    /// The state directory is somebody else's, who could replace the keys in it, or not remove what is left there.
    #[error("{} belongs to user {owner}, not to user {own}, who runs civm", .path.display())]
    ForeignState {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who runs civm.
        own: u32,
    },
    /// A machine that cannot be.
    #[error("{0}")]
    Spec(#[from] spec::Error),
    /// A machine whose guest's clock would not run at the right pace.
    #[error("`machine: {machine_type}` cannot run without KVM here: {reason}")]
    NoTsc {
        /// Its type.
        machine_type: spec::MachineType,
        /// Why not.
        reason: String,
    },
    /// A file or directory of ours failed.
    #[error("{what} {}: {source}", .path.display())]
    File {
        /// What was tried (`cannot create`).
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A record that this civm cannot read. Nothing is stopped, started or removed on its account.
    #[error("cannot read the record {}: {reason}", .path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A program that is not installed.
    #[error("`{0}` is not in PATH")]
    NoProgram(&'static str),
    /// A program could not be started.
    #[error("cannot run `{program}`: {source}")]
    Spawn {
        /// Its name.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// Neither namespaces nor a private directory in memory can be had.
    #[error("nowhere to put the staged files: {namespaces}; {memory}")]
    NoStage {
        /// What became of the namespaces.
        namespaces: String,
        /// What became of the directories in memory.
        memory: String,
    },
    /// The instance runs already, or is being started or stopped.
    #[error("`{0}` is running already")]
    Running(String),
    /// The instance is there, but will not be of use before it is stopped.
    #[error("`{name}` is running already: {reason}")]
    Unfinished {
        /// The instance.
        name: String,
        /// What is the matter with it.
        reason: String,
    },
    /// A port is taken.
    #[error("port {port} on {address} is taken: {holder}")]
    Port {
        /// The port.
        port: u16,
        /// The address it was wanted on.
        address: std::net::Ipv4Addr,
        /// Who has it.
        holder: String,
    },
    /// The kernel does not give the port to this user.
    #[error("cannot listen on port {port} of {address}: {reason}")]
    PortRefused {
        /// The port.
        port: u16,
        /// The address.
        address: std::net::Ipv4Addr,
        /// Why.
        reason: String,
    },
    /// The disk is another machine's.
    #[error("disk {} is in use{}", .path.display(), .holder.as_ref().map(|h| format!(" by {h}")).unwrap_or_default())]
    DiskInUse {
        /// The disk.
        path: PathBuf,
        /// Whose, in words, where known.
        holder: Option<String>,
    },
    /// More than this machine can give.
    #[error("{0}")]
    Impossible(String),
    /// KVM was asked for and does not work.
    #[error("KVM was asked for and does not work: {0}")]
    NoKvm(String),
    /// The stage ended, or said something unexpected.
    #[error("the stage failed: {0}")]
    Stage(String),
    /// A staged file that no share can hold.
    #[error("cannot stage `{path}`: {reason}")]
    Staged {
        /// Its path in the share.
        path: String,
        /// Why.
        reason: String,
    },
    /// QEMU ended before the guest was ready.
    #[error("{}", ended(.reason, .tail))]
    Ended {
        /// How QEMU ended.
        reason: String,
        /// The last lines of QEMU's messages and of the console.
        tail: Tail,
    },
    /// The guest said that it cannot get ready.
    #[error("{}", ended(&format!("the guest failed: {message}"), .tail))]
    Guest {
        /// What it said.
        message: String,
        /// The last lines of QEMU's messages and of the console.
        tail: Tail,
    },
    /// The deadline passed.
    #[error("{}", ended(&format!("not ready after {seconds} s ({waiting_for})"), .tail))]
    NotReady {
        /// The deadline, in seconds.
        seconds: u64,
        /// What had not come.
        waiting_for: String,
        /// The last lines of QEMU's messages and of the console.
        tail: Tail,
    },
    /// No such instance is running.
    #[error("`{0}` is not running")]
    NotRunning(String),
    /// Something survived a stop.
    #[error("`{host}` is not completely stopped: {}", .left.join("; "))]
    Left {
        /// The instance.
        host: String,
        /// What is left.
        left: Vec<String>,
    },
    /// A key of ours could not be made or read.
    #[error("ssh key {}: {reason}", .path.display())]
    Key {
        /// The key's file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// An instance without what a command needs.
    #[error("`{host}`: {reason}")]
    Unfit {
        /// The instance.
        host: String,
        /// What it lacks.
        reason: String,
    },
    /// A machine that cannot answer.
    #[error("`{host}` {reason}")]
    NoAnswer {
        /// The instance.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The supervisor of a running instance did not do what it was asked.
    #[error("`{host}`: {source}")]
    Control {
        /// The instance.
        host: String,
        /// Why not.
        source: control::Error,
    },
    /// The terminal failed.
    #[error("terminal: {0}")]
    Terminal(io::Error),
}

impl Error {
    /// For `map_err` on work with a file.
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}

/// The last lines that QEMU and the guest left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Of QEMU's own messages.
    pub qemu: Vec<String>,
    /// Of the serial console.
    pub console: Vec<String>,
}

fn ended(reason: &str, tail: &Tail) -> String {
    let mut text = reason.to_owned();
    for (title, lines) in [("QEMU said", &tail.qemu), ("last lines of the console", &tail.console)] {
        if !lines.is_empty() {
            text.push_str(&format!("\n{title}:"));
            for line in lines {
                text.push_str("\n  ");
                text.push_str(line);
            }
        }
    }
    text
}
