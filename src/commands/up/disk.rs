//! The disk of an instance: found and checked before anything is started, created or grown once its image exists.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::image;
use crate::cli::up::Up;
use crate::commands::Context;
use crate::edge::git::Git;
use crate::host::project::Project;
use crate::host::spec::Spec;
use crate::image::{Image, disk};
use crate::instance::Place;
use crate::outcome::{Code, Failure};

const MIB: u64 = 1 << 20;

/// The disk beside hosts/, or one in the instance's own state that goes with it.
pub(super) struct RootDisk {
    pub(super) path: PathBuf,
    ephemeral: bool,
    /// Its virtual size, if it exists already.
    size: Option<u64>,
}

impl RootDisk {
    /// Finds it. A disk that must not be passed to QEMU is refused.
    pub(super) fn find(
        args: &Up,
        project: &Project,
        spec: &Spec,
        place: &Place,
        context: &Context,
    ) -> Result<Self, Failure> {
        if args.ephemeral {
            return Ok(Self { path: place.ephemeral_disk(), ephemeral: true, size: None });
        }
        let path = project.disk(&spec.name);
        let found = disk::inspect(&path).map_err(image::failure)?;
        if found.as_ref().is_some_and(|found| found.link_to.is_some())
            && is_tracked(project.root(), &path, context)
        {
            // The author of the project could point to any of this user's disks.
            let message =
                format!("`{}` is a link that is part of the project: it is not followed", path.display());
            return Err(Failure::new(Code::MachineUnavailable, message)
                .help("if the link is yours, untrack it with `git rm --cached`; otherwise remove it"));
        }
        Ok(Self { path, ephemeral: false, size: found.map(|found| found.virtual_size) })
    }

    pub(super) fn exists(&self) -> bool {
        self.size.is_some()
    }

    /// Creates it if there is none, and grows it if host.yaml asks for more. An ephemeral disk is deleted when the
    /// returned value is dropped: by then QEMU has it open, or was not started.
    pub(super) fn make(
        &self,
        spec: &Spec,
        image: &Image,
        place: &Place,
        context: &Context,
    ) -> Result<Ephemeral, Failure> {
        let (path, size, environment) = (&self.path, spec.disk.bytes(), &context.environment);
        if self.ephemeral {
            remove(path)?;
            let made = Ephemeral(Some(path.clone()));
            return disk::overlay(image, path, size, environment).map(|()| made).map_err(image::failure);
        }
        let Some(has) = self.size else {
            let had = place.record().and_then(|record| record.disk).is_some_and(|disk| disk == *path);
            if had {
                let words = "has disappeared since the last run: creating a new, empty disk";
                context.screen.warn(format!("`{}` {words}", path.display()));
            }
            disk::create(image, path, size, environment).map_err(image::failure)?;
            return Ok(Ephemeral(None));
        };
        if has < size {
            disk::resize(path, size, environment).map_err(image::failure)?;
        } else if has > size {
            context.screen.warn(format!(
                "`{}` has {} MiB, more than the {} MiB in host.yaml; it is left unchanged",
                path.display(),
                has / MIB,
                size / MIB
            ));
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
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Whether the file is in git's index. A project outside git has no such files; if git cannot tell, the file counts as
/// one.
fn is_tracked(root: &Path, path: &Path, context: &Context) -> bool {
    let args = ["--literal-pathspecs", "ls-files", "-z", "--"].map(OsStr::new);
    let git = Git::in_repository_of(root, &context.environment.for_tools());
    match git.records(args.into_iter().chain([path.as_os_str()]), None) {
        Ok(listed) => !listed.is_empty(),
        Err(_) => root.ancestors().any(|directory| directory.join(".git").exists()),
    }
}

fn remove(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::new(
            Code::CouldNotWriteOutput,
            format!("cannot remove `{}`: {error}", path.display()),
        )),
        _ => Ok(()),
    }
}
