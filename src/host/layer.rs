//! The host layer: what of a host travels in the share and is applied in the guest at every boot.
//!
//! It is the JSON file `host/layer.json` of the share; the host writes it, the guest reads it. Beside
//! it lie `host/rootfs/` (files laid over the image), `host/manifest.json` (for `install`) and
//! `host/secrets.yaml` (still encrypted).

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::rootfs::{Entry, Kind};

/// Mount tag of the share.
pub const SHARE_TAG: &str = "shr";
/// Where the guest mounts the share.
pub const SHARE_MOUNT: &str = "/shared";
/// The staged ssh host key, below the share.
pub const HOST_KEY: &str = "secrets/ssh_host_ed25519_key";
/// The secret that is a host's identity: its ssh host key.
pub const HOST_KEY_SECRET: &str = "ssh_host_ed25519_key";
/// The layer, below the share.
pub const LAYER: &str = "host/layer.json";
/// The files laid over the image, below the share.
pub const ROOTFS: &str = "host/rootfs";
/// The sops-nix manifest, below the share.
pub const MANIFEST: &str = "host/manifest.json";
/// Files from the net, below the share, each under its SHA-256.
pub const ARTIFACTS: &str = "artifacts";
/// The project's source, below the share, where host.yaml asks for it: a link to [`SOURCE_MOUNT`]. A guest of NixOS,
/// where nobody mounts it there, has the source itself.
pub const SOURCE: &str = "source";
/// The source itself, in a directory that is open to root alone.
pub const SOURCE_TREE: &str = "project/tree";
/// Where the users of host.yaml read it: of the share they can reach nothing but the link.
pub const SOURCE_MOUNT: &str = "/run/source/project";
/// The group whose members may read it there.
pub const SOURCE_GROUP: &str = "civm-source";

/// What of a host is applied in the guest at every boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// The guest's host name.
    pub hostname: String,
    /// Its time zone, a name below /usr/share/zoneinfo; the image's where it is absent.
    pub timezone: Option<String>,
    /// 32 lower-case hex digits, an instance's own.
    pub machine_id: String,
    /// Seconds since the epoch on the host when the share was staged, for a guest clock that lags.
    pub time: u64,
    /// Whether root gets a shell on the serial console.
    pub console_login: bool,
    /// `authorized_keys` lines that log in as root; civm's own client key is among them.
    pub root_authorized_keys: Vec<String>,
    /// Ordinary users.
    pub users: Vec<User>,
    /// Groups that must exist besides the users' own.
    pub groups: Vec<String>,
    /// systemd units to write and start, by file name.
    pub units: BTreeMap<String, Unit>,
    /// Names of units of the image to start (`nix-daemon.socket`).
    pub services: Vec<String>,
    /// `sysctl` keys and values.
    pub sysctls: BTreeMap<String, String>,
    /// Compressed swap in memory.
    pub zram: Option<Zram>,
    /// Files with generated content, by absolute path (nix.conf, machines, known hosts).
    pub files: BTreeMap<String, File>,
    /// Files from the net to lay over the image, by what they hold; they lie in [`ARTIFACTS`].
    pub artifacts: Vec<Artifact>,
    /// Packages besides those that every image holds; a disk that was made without them gets them.
    pub packages: Vec<String>,
    /// Whether `host/manifest.json` is to be installed.
    pub secrets: bool,
    /// Whether the share holds the project's source, which members of [`SOURCE_GROUP`] may read.
    pub source: bool,
}

/// The most bytes of a rootfs that a layer takes in.
const TAKEN_IN_MAX: usize = 64 << 10;
/// The mode that a directory gets which the layer needs and does not describe.
const DIRECTORY_MODE: u32 = 0o755;

impl Layer {
    /// Takes the files of a small rootfs in, where all of them are text: a guest asks its host for each file and directory of
    /// the share several times. Gives back what is to lie in the share.
    #[must_use]
    pub fn take_in(&mut self, rootfs: Vec<Entry>) -> Vec<Entry> {
        let mut files = BTreeMap::new();
        let mut bytes = 0;
        for entry in &rootfs {
            let (Some(path), Entry { mode, kind, .. }) = (entry.path.to_str(), entry) else { return rootfs };
            match kind {
                Kind::File(content) => {
                    bytes += content.len();
                    let Ok(text) = String::from_utf8(content.clone()) else { return rootfs };
                    files.insert(format!("/{path}"), File { text, mode: *mode, ..File::default() });
                }
                // It is made for a file.
                Kind::Directory if *mode == DIRECTORY_MODE && holds_file(&rootfs, &entry.path) => {}
                Kind::Directory | Kind::Link(_) => return rootfs,
            }
        }
        if bytes > TAKEN_IN_MAX {
            return rootfs;
        }
        for (path, file) in files {
            // A generated file is laid after those of the rootfs.
            self.files.entry(path).or_insert(file);
        }
        Vec::new()
    }
}

fn holds_file(rootfs: &[Entry], directory: &Path) -> bool {
    rootfs.iter().any(|entry| matches!(entry.kind, Kind::File(_)) && entry.path.starts_with(directory))
}

/// A user of the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id; the next free one from 1000 where it is absent.
    pub uid: Option<u32>,
    /// Supplementary groups; made where they do not exist.
    pub groups: Vec<String>,
    /// Login shell.
    pub shell: String,
    /// `authorized_keys` lines.
    pub authorized_keys: Vec<String>,
    /// Whether the user may use sudo without a password, where the image has sudo.
    pub sudo: bool,
}

/// A systemd unit file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// The whole text of the unit.
    pub text: String,
    /// Whether it is started at boot.
    pub start: bool,
}

/// A file with generated content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The content.
    pub text: String,
    /// Permission bits, as a number (0o644 = 420).
    pub mode: u32,
    /// Units to restart when the file changes.
    pub restart_units: Vec<String>,
    /// Units to reload when the file changes.
    pub reload_units: Vec<String>,
}

/// A file from the net.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Where it is wanted.
    pub path: String,
    /// Its SHA-256, as hex digits.
    pub sha256: String,
    /// Permission bits, as a number.
    pub mode: u32,
    /// Name of its owner.
    pub owner: String,
    /// Name of its group.
    pub group: String,
    /// Units to restart when it changes.
    pub restart_units: Vec<String>,
}

/// Compressed swap in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zram {
    /// Size of the device in per cent of the guest's memory.
    pub percent: u32,
    /// The compressor (`zstd`).
    pub algorithm: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, mode: u32, kind: Kind) -> Entry {
        Entry { path: path.into(), mode, kind }
    }

    #[test]
    fn a_small_rootfs_of_text_is_taken_in() {
        let file = |path: &str, text: &str| entry(path, 0o600, Kind::File(text.into()));
        let tree =
            vec![entry("etc", 0o755, Kind::Directory), file("etc/motd", "hi\n"), file("etc/own", "rootfs")];
        let generated = File { text: "generated".into(), ..File::default() };
        let mut layer =
            Layer { files: [("/etc/own".to_owned(), generated.clone())].into(), ..Layer::default() };
        assert_eq!(layer.take_in(tree.clone()), []);
        assert_eq!(layer.files["/etc/motd"], File { text: "hi\n".into(), mode: 0o600, ..File::default() });
        assert_eq!(layer.files["/etc/own"], generated);
        for other in [
            entry("etc/empty", 0o755, Kind::Directory),
            entry("etc", 0o700, Kind::Directory),
            entry("etc/link", 0o777, Kind::Link("motd".into())),
            entry("etc/binary", 0o644, Kind::File(vec![0xff])),
            entry("etc/large", 0o644, Kind::File(vec![b'x'; TAKEN_IN_MAX])),
        ] {
            let tree = [tree.clone(), vec![other]].concat();
            let mut layer = Layer::default();
            assert_eq!(layer.take_in(tree.clone()), tree);
            assert!(layer.files.is_empty());
        }
    }
}
