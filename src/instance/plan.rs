//! What a stage is told to run, and how: over a socket, never by argument, variable or file.
//!
//! First the plan, then one entry after the other, each followed by its bytes, as [`frame`] sends
//! objects. A zero length ends the entries. After that a single `DETACH` lets the instance outlive its caller.

use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::edge::frame;
use crate::instance::error::Error;
use crate::instance::stage::QemuUser;
use crate::instance::state::Record;
use crate::vm::network::Network;
use crate::vm::ports::Forward;
use crate::vm::runner::Runner;
use crate::vm::spec::{
    self, Accel, Arch, Boot, Channel, Console, Disk, DiskFiles, Draft, Fence, MachineType, MemoryFile, Share,
    Spec,
};

/// Tells the stage that the instance may go on without its caller.
pub(crate) const DETACH: u8 = b'd';
/// Tells it that the guest is ready, where the guest itself does not.
pub(crate) const READY: u8 = b'r';
/// In a template's directory: the memory of its machine.
pub const RAM: &str = "ram";
/// In a template's directory: the state of the machine's processors and devices.
pub const STATE: &str = "state";
/// The most files of a share that are taken from a pipe.
const FILES_MAX: usize = 20_000;

/// A machine as its host describes it: all of a [`Draft`] but what its stage decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Its name: the host's.
    pub name: String,
    /// Architecture of the guest.
    pub arch: Arch,
    /// Type of the machine.
    pub machine_type: MachineType,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// Kernel and initrd.
    pub boot: Boot,
    /// The program that runs it in place of QEMU, where it is the machine of a NixOS configuration.
    #[serde(default)]
    pub runner: Option<Runner>,
    /// Root disk.
    pub disk: Option<Disk>,
    /// Forwarded ports.
    pub forwards: Vec<Forward>,
    /// What the guest may reach.
    pub network: Network,
    /// Mount tag of the share.
    pub share_tag: String,
    /// How long the console is written down.
    pub console_log: ConsoleLog,
    /// Arguments for QEMU after all others.
    #[serde(default)]
    pub extra_arguments: Vec<String>,
}

/// How long what the serial console shows is written to its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConsoleLog {
    /// Until the guest is ready: what is typed or shown later may be secret.
    #[default]
    UntilReady,
    /// As long as the machine runs.
    Always,
}

/// Where a machine's sockets, share and disk files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wiring {
    /// The serial console.
    pub console: Channel,
    /// QEMU's control channel.
    pub qmp: Channel,
    /// The port on which the guest reports.
    pub agent: Channel,
    /// The share's directory.
    pub share: PathBuf,
    /// The disk's files, where QEMU inherits them.
    pub disk_files: Option<DiskFiles>,
    /// The fence, where the machine's network has one.
    pub fence: Option<Fence>,
    /// The memory, where it is a file.
    pub memory_file: Option<MemoryFile>,
}

/// What a template has to do with a start. Its directory holds [`RAM`] and [`STATE`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Template {
    /// The machine is frozen at its guest's one point, and becomes the template.
    Make(PathBuf),
    /// The machine begins there. Where QEMU cannot read the template, it boots, unless that is `required` not to.
    Resume {
        /// The template.
        directory: PathBuf,
        /// To fail rather than to boot.
        required: bool,
    },
}

impl Machine {
    /// The whole machine; `tsc_khz` is the rate of the time stamp counter, where the guest is told it.
    ///
    /// # Errors
    /// A machine that cannot be.
    pub fn spec(&self, accel: Accel, tsc_khz: Option<u32>, wiring: Wiring) -> Result<Spec, spec::Error> {
        let draft = Draft {
            name: self.name.clone(),
            arch: self.arch,
            machine_type: self.machine_type,
            accel,
            tsc_khz,
            cpus: self.cpus,
            memory_mib: self.memory_mib,
            memory_file: wiring.memory_file,
            boot: self.boot.clone(),
            runner: self.runner.clone(),
            disk: self.disk.clone(),
            disk_files: wiring.disk_files,
            forwards: self.forwards.clone(),
            network: self.network,
            fence: wiring.fence,
            share: Some(Share { source: wiring.share, tag: self.share_tag.clone() }),
            console: Console { channel: wiring.console },
            qmp: Some(wiring.qmp),
            agent: Some(wiring.agent),
            extra_arguments: self.extra_arguments.clone(),
        };
        Spec::new(draft, Arch::native())
    }
}

/// What a stage runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    pub(crate) machine: Machine,
    pub(crate) accel: Accel,
    pub(crate) tsc_khz: Option<u32>,
    pub(crate) qemu: PathBuf,
    /// The user that QEMU runs as, where that is not ours.
    pub(crate) user: Option<QemuUser>,
    pub(crate) template: Option<Template>,
    pub(crate) record: Record,
}

/// What a file of the share is made of.
pub enum Content {
    /// Bytes, wiped once they are staged.
    Bytes(Zeroizing<Vec<u8>>),
    /// A file that is read while it is staged.
    File(PathBuf),
    /// A symbolic link's target.
    Link(String),
    /// A directory; parents of files need none.
    Directory,
}

/// Something in the share.
pub struct Staged {
    /// Relative path in the share.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// What it is made of.
    pub content: Content,
}

impl Staged {
    /// A file with these bytes.
    #[must_use]
    pub fn bytes(path: impl Into<String>, mode: u32, bytes: Zeroizing<Vec<u8>>) -> Self {
        Self { path: path.into(), mode, content: Content::Bytes(bytes) }
    }
}

impl std::fmt::Debug for Staged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Staged").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The part of a [`Staged`] that goes before its bytes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) mode: u32,
    pub(crate) kind: Kind,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    File { length: u64 },
    Link { target: String },
    Directory,
}

/// Whether a path stays within the share.
pub(crate) fn is_inner(path: &str) -> bool {
    let mut components = Path::new(path).components().peekable();
    components.peek().is_some()
        && components.all(|component| matches!(component, Component::Normal(_)))
        && !path.contains('\0')
}

/// Sends a plan and everything to be staged.
pub(crate) fn send(mut to: impl Write, plan: &Plan, staged: &[Staged]) -> Result<(), Error> {
    let failed = |error: io::Error| Error::Stage(format!("it does not take its plan: {error}"));
    frame::send(&mut to, plan).map_err(failed)?;
    send_files(to, staged)
}

/// Sends what is to be staged.
pub(crate) fn send_files(mut to: impl Write, staged: &[Staged]) -> Result<(), Error> {
    let failed = |error: io::Error| Error::Stage(format!("it does not take its files: {error}"));
    for item in staged {
        if !is_inner(&item.path) {
            return Err(Error::Staged { path: item.path.clone(), reason: "not a path in the share".into() });
        }
        send_item(&mut to, item)?;
    }
    frame::send_end(&mut to).map_err(failed)
}

fn send_item(to: &mut impl Write, item: &Staged) -> Result<(), Error> {
    let failed = |error: io::Error| Error::Staged { path: item.path.clone(), reason: error.to_string() };
    let mut entry =
        |kind| frame::send(to, &Entry { path: item.path.clone(), mode: item.mode, kind }).map_err(failed);
    match &item.content {
        Content::Directory => entry(Kind::Directory),
        Content::Link(target) => entry(Kind::Link { target: target.clone() }),
        Content::Bytes(bytes) => {
            entry(Kind::File { length: bytes.len() as u64 })?;
            to.write_all(bytes).map_err(failed)
        }
        Content::File(path) => {
            let file = std::fs::File::open(path).map_err(failed)?;
            let length = file.metadata().map_err(failed)?.len();
            entry(Kind::File { length })?;
            let copied = io::copy(&mut file.take(length), to).map_err(failed)?;
            if copied == length { Ok(()) } else { Err(failed(io::Error::other("shrank while it was read"))) }
        }
    }
}

/// Takes files as [`send_files`] sends them, into memory: `most` bytes, no more.
///
/// # Errors
/// What comes is not such a list, is more than may come, or ends too early.
pub(crate) fn receive_files(from: &mut impl Read, most: u64) -> io::Result<Vec<Staged>> {
    let wrong = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    let (mut files, mut left) = (Vec::new(), most);
    while let Some(Entry { path, mode, kind }) = frame::receive(from)? {
        if !is_inner(&path) {
            return Err(wrong(format!("`{path}` is not a path in the share")));
        }
        if files.len() == FILES_MAX {
            return Err(wrong(format!("more than {FILES_MAX} files")));
        }
        let content = match kind {
            Kind::Directory => Content::Directory,
            Kind::Link { target } => Content::Link(target),
            Kind::File { length } => {
                left = left.checked_sub(length).ok_or_else(|| wrong(format!("more than {most} bytes")))?;
                let mut bytes = Zeroizing::new(vec![0; usize::try_from(length).unwrap_or(usize::MAX)]);
                from.read_exact(&mut bytes)?;
                Content::Bytes(bytes)
            }
        };
        files.push(Staged { path, mode, content });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::{Content, Entry, Kind, Staged, is_inner, receive_files, send_files, send_item};
    use crate::edge::frame;
    use zeroize::Zeroizing;

    #[test]
    fn only_paths_within_the_share_are_staged() {
        assert!(is_inner("secrets/ssh_host_ed25519_key"));
        for path in ["", "/etc/passwd", "../x", "a/../../x", ".", "a\0b"] {
            assert!(!is_inner(path), "{path:?}");
        }
    }

    #[test]
    fn an_entry_is_followed_by_its_bytes() {
        let mut wire = Vec::new();
        let item = Staged::bytes("a/b", 0o400, Zeroizing::new(b"xyz".to_vec()));
        send_item(&mut wire, &item).unwrap();
        let mut wire = wire.as_slice();
        let entry: Entry = frame::receive(&mut wire).unwrap().unwrap();
        assert_eq!((entry.path.as_str(), entry.mode, entry.kind), ("a/b", 0o400, Kind::File { length: 3 }));
        assert_eq!(wire, b"xyz");
    }

    #[test]
    fn a_file_is_read_while_it_is_sent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        std::fs::write(&path, "content").unwrap();
        let mut wire = Vec::new();
        send_item(&mut wire, &Staged { path: "f".into(), mode: 0o644, content: Content::File(path) })
            .unwrap();
        assert!(wire.ends_with(b"content"));
    }

    #[test]
    fn what_is_sent_is_received_within_bounds() {
        let file = Staged::bytes("a/b", 0o400, Zeroizing::new(b"xyz".to_vec()));
        let link = Staged { path: "l".into(), mode: 0o777, content: Content::Link("/t".into()) };
        let mut wire = Vec::new();
        send_files(&mut wire, &[file, link]).unwrap();
        let received = receive_files(&mut wire.as_slice(), 3).unwrap();
        let [Staged { path, mode: 0o400, content: Content::Bytes(bytes) }, link] = &received[..] else {
            panic!("{received:?}")
        };
        assert_eq!((path.as_str(), bytes.as_slice()), ("a/b", b"xyz".as_slice()));
        assert!(matches!(&link.content, Content::Link(target) if target == "/t"));
        assert!(receive_files(&mut wire.as_slice(), 2).is_err(), "more than may come");
        assert!(receive_files(&mut &wire[..wire.len() - 1], 3).is_err(), "cut off");
        for path in ["../b", "/etc/passwd", ""] {
            let mut wire = Vec::new();
            let entry = Entry { path: path.into(), mode: 0o644, kind: Kind::File { length: 0 } };
            frame::send(&mut wire, &entry).unwrap();
            frame::send_end(&mut wire).unwrap();
            assert!(receive_files(&mut wire.as_slice(), 3).is_err(), "{path:?}");
        }
    }

    #[test]
    fn debug_shows_no_content() {
        let item = Staged::bytes("a", 0o400, Zeroizing::new(b"hidden".to_vec()));
        assert!(!format!("{item:?}").contains("104"));
    }
}
