//! The record of a running instance, for every other civm to read.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::instance::error::Error;
use crate::instance::state::{Place, Process};
use crate::instance::wire::PROTOCOL;
use crate::vm::ports::{Forward, SSH};
use crate::vm::spec::Accel;

/// Name of the record in an instance's state directory.
pub(super) const FILE: &str = "instance.json";
/// What this civm writes. Whatever a later version changes, `version` and `phase` stay.
const VERSION: u32 = 3;
/// The oldest that it reads: [`upgrade`] says what came since.
const OLDEST: u32 = 2;
/// The most that is read of such a file, in bytes: a record has a thousand, and its forwards.
const LENGTH_MAX: u64 = 1 << 20;
/// Names of the sockets in the instance's directory in memory.
pub(crate) const CONSOLE_SOCKET: &str = "console.sock";
pub(crate) const CONTROL_SOCKET: &str = "control.sock";

/// How far an instance has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Its files are being staged, or QEMU is coming up.
    Starting,
    /// The guest boots.
    Booting,
    /// The guest said that it is ready.
    Ready,
    /// The guest's kernel panicked, and the machine stands still.
    Panicked,
    /// It was asked to stop.
    Stopping,
    /// It is over.
    Ended,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Booting => "booting",
            Self::Ready => "ready",
            Self::Panicked => "panicked",
            Self::Stopping => "stopping",
            Self::Ended => "ended",
        })
    }
}

/// A running instance, or the last run of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The version of what follows; the first civm wrote none.
    pub version: u32,
    /// The project's directory.
    pub project: PathBuf,
    /// The instance's name.
    pub name: String,
    /// The host that it is a machine of.
    pub host: String,
    /// How far it has come.
    pub phase: Phase,
    /// Seconds since the epoch.
    pub started_at: u64,
    /// What executes it.
    pub accel: Option<Accel>,
    /// Why that one.
    #[serde(default)]
    pub accel_reason: Option<String>,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// Its disk.
    pub disk: Option<PathBuf>,
    /// Whether that disk goes with the instance.
    pub ephemeral: bool,
    /// Its forwards, with the ports that were chosen.
    pub forwards: Vec<Forward>,
    /// Its directory in memory: sockets, and the mount point of the share.
    pub runtime: Option<PathBuf>,
    /// Whether its share is in namespaces of its own.
    pub namespaces: bool,
    /// Whether the staged key has been taken back.
    pub key_removed: bool,
    /// The control protocol that its supervisor speaks; 0 where it does not say.
    #[serde(default)]
    pub protocol: u32,
    /// QEMU's process.
    pub qemu: Option<Process>,
    /// Whether its guest has the project's source beside the link that leads to it. An older civm's has it in place of
    /// the link.
    #[serde(default)]
    pub links_source: bool,
    /// How it ended, or why its kernel panicked.
    pub reason: Option<String>,
}

/// The part of a record that every version has.
#[derive(Debug, Deserialize)]
struct Head {
    #[serde(default)]
    version: u32,
    #[serde(default)]
    phase: Option<String>,
}

impl Record {
    /// The record of an instance about to start.
    #[must_use]
    pub fn new(place: &Place, host: &str, started_at: u64) -> Self {
        Self {
            version: VERSION,
            project: place.project.clone(),
            name: place.name.clone(),
            host: host.to_owned(),
            phase: Phase::Starting,
            started_at,
            accel: None,
            accel_reason: None,
            cpus: 0,
            memory_mib: 0,
            disk: None,
            ephemeral: false,
            forwards: Vec::new(),
            runtime: None,
            namespaces: false,
            key_removed: false,
            protocol: PROTOCOL,
            qemu: None,
            links_source: true,
            reason: None,
        }
    }

    /// The record in a directory; `None` where there is none, or only that of a run of another version of civm which
    /// is over.
    ///
    /// # Errors
    /// There is one that this civm cannot read: it must be left alone, and whatever it stands for as well.
    pub(crate) fn load(directory: &Path) -> Result<Option<Self>, Error> {
        let path = directory.join(FILE);
        let text = match read_small(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file("cannot read", path)(error)),
        };
        let foreign = |reason: String| Err(Error::Record { path: path.clone(), reason });
        let head: Head = match serde_json::from_slice(&text) {
            Ok(head) => head,
            Err(error) => return foreign(format!("it is damaged ({error})")),
        };
        match head.version {
            OLDEST..=VERSION => {
                match serde_json::from_slice(&text).and_then(|map| upgrade(map, head.version)) {
                    Ok(record) => Ok(Some(record)),
                    Err(error) => foreign(format!("it is damaged ({error})")),
                }
            }
            _ if head.phase.as_deref() == Some("ended") => Ok(None),
            version if version < OLDEST => foreign(format!(
                "an older civm wrote it (version {version}, this one reads {OLDEST} to {VERSION})"
            )),
            version => foreign(format!(
                "a newer civm wrote it (version {version}, this one reads {OLDEST} to {VERSION})"
            )),
        }
    }

    /// Whether a directory has one, be it of another version of civm.
    pub(crate) fn is_in(directory: &Path) -> bool {
        directory.join(FILE).exists()
    }

    /// Writes the record, in one step.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn save(&self, directory: &Path) -> Result<(), Error> {
        let path = directory.join(FILE);
        let text = serde_json::to_vec_pretty(self).map_err(std::io::Error::other);
        text.and_then(|text| crate::edge::atomic::replace(&path, &text, 0o600).map_err(std::io::Error::other))
            .map_err(Error::file("cannot write", &path))
    }

    /// Removes the disk of a run that is over, where it was only for that run.
    pub(crate) fn remove_ephemeral_disk(&mut self, directory: &Path) {
        // Nothing but what civm made in the instance's own directory.
        if let Some(disk) = self.disk.take_if(|disk| self.ephemeral && disk.parent() == Some(directory)) {
            let _ = fs::remove_file(disk);
        }
    }

    /// The forward that leads to the guest's sshd.
    #[must_use]
    pub fn ssh(&self) -> Option<Forward> {
        self.forwards.iter().find(|forward| forward.guest_port == SSH).copied()
    }

    /// The serial console's socket.
    #[must_use]
    pub fn console(&self) -> Option<PathBuf> {
        self.runtime.as_ref().map(|runtime| runtime.join(CONSOLE_SOCKET))
    }

    /// The supervisor's own socket.
    #[must_use]
    pub fn control(&self) -> Option<PathBuf> {
        self.runtime.as_ref().map(|runtime| runtime.join(CONTROL_SOCKET))
    }
}

/// Reads a small file of an instance, of anything else no more than that.
pub(crate) fn read_small(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    // To open a pipe would wait for its other end.
    let file = fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    file.take(LENGTH_MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// Brings what an older civm wrote up to date: in version 2 an instance had its host's name. What it does not have at
/// all says so by being absent.
fn upgrade(mut record: Map<String, Value>, version: u32) -> serde_json::Result<Record> {
    if version < VERSION {
        record.insert("version".to_owned(), VERSION.into());
        record.insert("name".to_owned(), record.get("host").cloned().unwrap_or_default());
    }
    serde_json::from_value(Value::Object(record))
}

#[cfg(test)]
mod tests {
    use super::{FILE, Head, Phase, Record, VERSION};
    use crate::instance::error::Error;
    use crate::instance::state::Place;
    use std::fs;

    #[test]
    fn a_record_of_another_civm_is_told_from_none_and_from_one_that_is_over() {
        let directory = tempfile::tempdir().unwrap();
        let load = |text: &str| {
            fs::write(directory.path().join(FILE), text).unwrap();
            Record::load(directory.path())
        };
        assert_eq!(Record::load(directory.path()).unwrap(), None);
        let reason = |text: &str| match load(text) {
            Err(Error::Record { reason, path }) => {
                assert_eq!(path, directory.path().join(FILE));
                reason
            }
            other => panic!("{text}: {other:?}"),
        };
        assert!(
            reason(r#"{"version": 99, "phase": "ready"}"#).starts_with("a newer civm wrote it (version 99")
        );
        assert!(reason(r#"{"version": 99, "phase": "resting"}"#).starts_with("a newer civm"));
        assert!(
            reason(r#"{"phase": "booting", "host": "a"}"#).starts_with("an older civm wrote it (version 0")
        );
        let older = load(
            r#"{"version": 2, "project": "/p", "host": "a", "phase": "ready", "started_at": 1, "accel": "tcg",
            "cpus": 2, "memory_mib": 512, "disk": null, "ephemeral": false, "forwards": [], "runtime": "/run/x",
            "namespaces": true, "key_removed": true, "reason": null}"#,
        );
        let older = older.unwrap().unwrap();
        assert_eq!((older.version, older.name.as_str(), older.protocol, older.qemu), (VERSION, "a", 0, None));
        assert!(!older.links_source);
        for damaged in ["", "{", "nonsense", &format!(r#"{{"version": {VERSION}, "phase": "ready"}}"#)] {
            assert!(reason(damaged).starts_with("it is damaged"), "{damaged}");
        }
        let endless = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/zero", endless.path().join(FILE)).unwrap();
        assert!(matches!(Record::load(endless.path()), Err(Error::Record { .. })));
        assert_eq!(load(r#"{"phase": "ended"}"#).unwrap(), None);
        assert_eq!(load(r#"{"version": 99, "phase": "ended"}"#).unwrap(), None);
        let place = Place { project: "/p".into(), name: "a".into(), path: directory.path().into() };
        let record = Record { phase: Phase::Ready, ..Record::new(&place, "a", 1) };
        record.save(directory.path()).unwrap();
        assert_eq!(Record::load(directory.path()).unwrap(), Some(record));
        let head: Head = serde_json::from_slice(&fs::read(directory.path().join(FILE)).unwrap()).unwrap();
        assert_eq!((head.version, head.phase.as_deref()), (VERSION, Some("ready")));
    }
}
