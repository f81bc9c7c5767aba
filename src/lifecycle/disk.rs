//! The disk of an instance: found and checked before anything is started, created or grown once its image exists.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::edge::environment::Environment;
use crate::edge::git::Git;
use crate::host::parcel::Order;
use crate::host::spec::{Arch, Spec};
use crate::image::{Image, disk};
use crate::instance::Place;
use crate::lifecycle::kept::Kept;
use crate::lifecycle::{Error, Observer, Progress, Request, Site, nixos};

const MIB: u64 = 1 << 20;
/// In an instance's state directory: what its disk was made of.
const STAMP: Kept = Kept {
    file: "disk.json",
    remedy: |name| {
        format!(
            "remove it if the disk was made for this host, else `civm up {name} --fresh` makes a new disk: what is on \
             the old one is lost then"
        )
    },
};

/// What a disk was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    host: String,
    arch: Arch,
    suite: Option<String>,
    /// Made by the runner of a NixOS configuration.
    #[serde(default)]
    nixos: bool,
}

impl Stamp {
    fn of(order: &Order) -> Self {
        Self { host: order.host.clone(), arch: order.arch, suite: order.suite.clone(), nixos: false }
    }

    fn load(place: &Place) -> Result<Option<Self>, Error> {
        STAMP.load(place)
    }

    fn save(&self, place: &Place) -> Result<(), Error> {
        STAMP.save(place, self)
    }
}

/// The disk beside hosts/, or one in the instance's own state that goes with it.
#[derive(Debug)]
pub(super) struct RootDisk {
    pub(super) path: PathBuf,
    pub(super) ephemeral: bool,
    /// Its virtual size, if it exists already.
    size: Option<u64>,
    /// Whether it is removed before one is made.
    fresh: bool,
    stamp: Option<Stamp>,
}

impl RootDisk {
    /// One that goes with the run.
    pub(super) fn ephemeral(place: &Place) -> Self {
        let path = place.ephemeral_disk();
        Self { path, ephemeral: true, size: None, fresh: false, stamp: None }
    }

    /// Finds it. A disk that must not be passed to QEMU is refused.
    pub(super) fn find(site: &Site, request: &Request, spec: &Spec, place: &Place) -> Result<Self, Error> {
        let fresh = request.fresh;
        if request.ephemeral {
            return Ok(Self { fresh, ..Self::ephemeral(place) });
        }
        let path = nixos::disk(site, spec, place);
        let inspect = if spec.nixos().is_some() { disk::inspect_of_runner } else { disk::inspect };
        let found = if fresh { None } else { inspect(&path)? };
        if found.as_ref().is_some_and(|found| found.link_to.is_some()) && is_tracked(site, &path) {
            // The author of the project could point to any of this user's disks.
            return Err(Error::TrackedLink(path));
        }
        let stamp = if found.is_some() { Stamp::load(place)? } else { None };
        let is_nixos = spec.nixos().is_some();
        if let Some(stamp) = &stamp
            && (stamp.arch != spec.arch || stamp.host != spec.name || stamp.nixos != is_nixos)
        {
            let system = if stamp.nixos { "NixOS" } else { "Debian" };
            let made_for = format!("host `{}` with {system} on {}", stamp.host, stamp.arch);
            return Err(Error::OtherDisk { path, made_for });
        }
        Ok(Self { path, ephemeral: false, size: found.map(|found| found.virtual_size), fresh, stamp })
    }

    /// Whether there is one already that will be used.
    pub(super) fn will_be_kept(&self) -> bool {
        self.size.is_some()
    }

    /// Creates it if there is none, and grows it if host.yaml asks for more. An ephemeral disk is deleted when the
    /// returned value is dropped: by then QEMU has it open, or was not started.
    pub(super) fn make(
        &self,
        order: &Order,
        image: &Image,
        place: &Place,
        environment: &Environment,
        observer: &mut dyn Observer,
    ) -> Result<Ephemeral, Error> {
        let (path, size) = (&self.path, order.disk_mib * MIB);
        if self.ephemeral {
            remove(path)?;
            let made = Ephemeral(Some(path.clone()));
            disk::overlay(image, path, size, environment)?;
            return Ok(made);
        }
        if self.fresh {
            // The old one does not go for one that cannot be made.
            disk::check_size(image, path, size)?;
            if remove(path)? {
                observer.tell(Progress::DiskRemoved { path });
            }
        }
        let Some(has) = self.size else {
            let had = place.record().and_then(|record| record.disk).is_some_and(|disk| disk == *path);
            if had && !self.fresh {
                observer.tell(Progress::DiskGone { path });
            }
            disk::create(image, path, size, environment)?;
            Stamp::of(order).save(place)?;
            return Ok(Ephemeral(None));
        };
        if let Some(stamp) = self.stamp.as_ref().filter(|stamp| stamp.suite != order.suite) {
            let name =
                |suite: &Option<String>| suite.clone().unwrap_or_else(|| "this machine's own".to_owned());
            let difference = format!("release {}, not {}", name(&stamp.suite), name(&order.suite));
            observer.tell(Progress::DiskOfOtherImage { path, difference });
        }
        if has < size {
            disk::resize(path, size, environment)?;
        } else if has > size {
            observer.tell(Progress::DiskLarger { path, has_mib: has / MIB, wanted_mib: size / MIB });
        }
        Ok(Ephemeral(None))
    }
}

impl RootDisk {
    /// The runner of a NixOS machine makes its disk itself where there is none, and never grows one.
    pub(super) fn leave_to_runner(
        &self,
        order: &Order,
        place: &Place,
        observer: &mut dyn Observer,
    ) -> Result<Ephemeral, Error> {
        let (path, size) = (&self.path, order.disk_mib * MIB);
        if self.ephemeral {
            remove(path)?;
            return Ok(Ephemeral(Some(path.clone())));
        }
        if self.fresh && remove(path)? {
            observer.tell(Progress::DiskRemoved { path });
        }
        match self.size {
            None => Stamp { nixos: true, ..Stamp::of(order) }.save(place)?,
            Some(has) if has != size => {
                let difference = format!("{} MiB, not {} MiB", has / MIB, size / MIB);
                observer.tell(Progress::DiskOfOtherImage { path, difference });
            }
            Some(_) => {}
        }
        Ok(Ephemeral(None))
    }
}

/// The file of a disk that nobody needs once QEMU has it open, if it is such a disk.
#[must_use]
pub(super) struct Ephemeral(Option<PathBuf>);

impl Drop for Ephemeral {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // The stage has removed it already, unless the start failed.
            let _ = fs::remove_file(path);
        }
    }
}

/// Whether the file is in git's index. A project outside git has no such files; if git cannot tell, the file counts as
/// one.
fn is_tracked(site: &Site, path: &Path) -> bool {
    let root = site.project.root();
    let args = ["--literal-pathspecs", "ls-files", "-z", "--"].map(OsStr::new);
    let git = Git::in_repository_of(root, &site.environment.for_tools());
    match git.records(args.into_iter().chain([path.as_os_str()]), None) {
        Ok(listed) => !listed.is_empty(),
        Err(_) => root.ancestors().any(|directory| directory.join(".git").exists()),
    }
}

/// Removes a file, and says whether there was one.
fn remove(path: &Path) -> Result<bool, Error> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(Error::File { what: "cannot remove", path: path.to_owned(), source }),
    }
}
