//! What is written down about a running instance, for every other civm to read.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::instance::error::Error;
use crate::instance::state::Place;
use crate::vm::ports::{Forward, SSH};
use crate::vm::spec::Accel;

/// Name of the record in an instance's state directory.
const FILE: &str = "instance.json";

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
            Self::Stopping => "stopping",
            Self::Ended => "ended",
        })
    }
}

/// A running instance, or the last run of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The project's directory.
    pub project: PathBuf,
    /// The host.
    pub host: String,
    /// How far it has come.
    pub phase: Phase,
    /// Seconds since the epoch.
    pub started_at: u64,
    /// What executes it.
    pub accel: Option<Accel>,
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
    /// How it ended.
    pub reason: Option<String>,
}

impl Record {
    /// The record of an instance about to start.
    #[must_use]
    pub fn new(place: &Place, started_at: u64) -> Self {
        Self {
            project: place.project.clone(),
            host: place.host.clone(),
            phase: Phase::Starting,
            started_at,
            accel: None,
            cpus: 0,
            memory_mib: 0,
            disk: None,
            ephemeral: false,
            forwards: Vec::new(),
            runtime: None,
            namespaces: false,
            key_removed: false,
            reason: None,
        }
    }

    /// The record in a state directory; `None` where there is none that can be read.
    #[must_use]
    pub(crate) fn load(directory: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(directory.join(FILE)).ok()?).ok()
    }

    /// Writes the record, in one step.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn save(&self, directory: &Path) -> Result<(), Error> {
        let path = directory.join(FILE);
        // Renamed into place: a reader sees the old record or the new. It need not survive a power cut.
        let fresh = directory.join("instance.json.new");
        let text = serde_json::to_vec_pretty(self).map_err(std::io::Error::other);
        text.and_then(|text| fs::write(&fresh, text))
            .and_then(|()| fs::rename(&fresh, &path))
            .map_err(Error::file("cannot write", &path))
    }

    /// Removes the disk of a run that is over, where it was only for that run.
    pub(crate) fn remove_ephemeral_disk(&mut self, directory: &Path) {
        // Nothing but what civm made in the instance's own directory.
        if let Some(disk) = self.disk.take_if(|disk| self.ephemeral && disk.starts_with(directory)) {
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
        self.runtime.as_ref().map(|runtime| runtime.join("console.sock"))
    }

    /// The supervisor's own socket.
    #[must_use]
    pub fn control(&self) -> Option<PathBuf> {
        self.runtime.as_ref().map(|runtime| runtime.join("control.sock"))
    }
}
