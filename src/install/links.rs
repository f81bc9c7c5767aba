//! Links from the paths of secrets and templates to their files.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown, symlink};
use std::path::{Path, PathBuf};

use super::entry::{Entry, Owner};
use super::error::Error;
use super::generation::Generation;
use super::validate::Plan;

/// Looks whether every link can be made, before the switch: what is in the way must not hold anything.
pub(super) fn check(plan: &Plan, generation: &Generation) -> Result<(), Error> {
    for (entry, path) in wanted(plan) {
        // Below the link the new generation will be found, which is written by now.
        let inside = path.strip_prefix(&plan.symlink).ok();
        let actual = inside.map_or_else(|| path.to_owned(), |below| generation.path.join(below));
        let taken = |reason: String| Error::Taken { path: path.to_owned(), name: entry.name.clone(), reason };
        if let Some(found) = parent_that_is_not_a_directory(&actual) {
            return Err(taken(format!("{} is not a directory", found.display())));
        }
        let Ok(found) = fs::symlink_metadata(&actual) else { continue };
        if inside.is_some() {
            return Err(taken("another secret lies there".into()));
        }
        if found.is_dir() {
            let mut entries = fs::read_dir(&actual).map_err(Error::io("list", &actual))?;
            if entries.next().is_some() {
                return Err(taken("there is a directory that is not empty".into()));
            }
        }
    }
    Ok(())
}

/// Makes the links. They lead through the stable link, so they hold for later generations, and belong to the
/// owner of the secret.
pub(super) fn make(plan: &Plan) -> Result<(), Error> {
    for (entry, path) in wanted(plan) {
        let target = plan.symlink.join(&entry.below);
        let owner = (!plan.user_mode).then_some(entry.owner);
        if let Some(parent) = path.parent() {
            make_directories(parent, !plan.user_mode).map_err(Error::io("create directory", parent))?;
        }
        if !stands(path, &target, owner) {
            if fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
                fs::remove_dir(path).map_err(Error::io("remove", path))?;
            }
            replace(path, &target, owner).map_err(Error::io("link", path))?;
        }
    }
    Ok(())
}

/// Makes a directory and its missing parents. Each belongs to whoever has the directory that it is made in, so that what is
/// made below a user's home is the user's (sops-nix leaves it to root).
fn make_directories(path: &Path, give: bool) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return fs::create_dir(path);
    };
    make_directories(parent, give)?;
    fs::create_dir(path)?;
    let owner = fs::metadata(parent)?;
    if give { lchown(path, Some(owner.uid()), Some(owner.gid())) } else { Ok(()) }
}

fn wanted(plan: &Plan) -> impl Iterator<Item = (&Entry, &Path)> {
    plan.entries().filter_map(|entry| Some((entry, entry.link.as_deref()?)))
}

fn stands(path: &Path, target: &Path, owner: Option<Owner>) -> bool {
    let same_owner = |owner: Owner| {
        fs::symlink_metadata(path).is_ok_and(|found| found.uid() == owner.uid && found.gid() == owner.gid)
    };
    fs::read_link(path).is_ok_and(|found| found == target) && owner.is_none_or(same_owner)
}

/// Puts a link at a path in one step; a file or another link there gives way.
pub(super) fn replace(path: &Path, target: &Path, owner: Option<Owner>) -> io::Result<()> {
    let directory = path.parent().unwrap_or(path);
    let new = tempfile::Builder::new().prefix(".civm-").make_in(directory, |new| symlink(target, new))?;
    owner.map_or(Ok(()), |owner| lchown(new.path(), Some(owner.uid), Some(owner.gid)))?;
    new.into_temp_path().persist(path)?;
    Ok(())
}

/// Puts a link where a directory is, in one step where the system can do that; returns where the directory is then.
pub(super) fn exchange(path: &Path, target: &Path) -> io::Result<PathBuf> {
    let directory = path.parent().unwrap_or(path);
    let new = tempfile::Builder::new().prefix(".civm-").make_in(directory, |new| symlink(target, new))?;
    swap(new.path(), path)?;
    new.into_temp_path().keep().map_err(Into::into)
}

#[cfg(target_env = "gnu")]
fn swap(link: &Path, dir: &Path) -> io::Result<()> {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    renameat2(AT_FDCWD, link, AT_FDCWD, dir, RenameFlags::RENAME_EXCHANGE).map_err(Into::into)
}

/// Without the system's help: for a moment there is nothing.
#[cfg(not(target_env = "gnu"))]
fn swap(link: &Path, dir: &Path) -> io::Result<()> {
    let aside = tempfile::tempdir_in(dir.parent().unwrap_or(dir))?;
    let old = aside.path().join("old");
    fs::rename(dir, &old)?;
    fs::rename(link, dir)?;
    fs::rename(old, link)
}

/// The nearest parent that exists and is not a directory.
fn parent_that_is_not_a_directory(path: &Path) -> Option<PathBuf> {
    path.ancestors().skip(1).find_map(|parent| match fs::metadata(parent) {
        Ok(found) if found.is_dir() => None,
        Ok(_) => Some(parent.to_owned()),
        Err(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_belong_to_whoever_has_the_one_they_are_made_in() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = dir.path().join("home/alice");
        fs::create_dir_all(&home).expect("made");
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root can give a directory to somebody else");
            return;
        }
        lchown(&home, Some(4001), Some(4002)).expect("given away");
        make_directories(&home.join(".config/app"), true).expect("made");
        make_directories(&dir.path().join("etc/app"), true).expect("made");
        make_directories(&home.join(".cache"), false).expect("made");
        let owner = |path: &str| {
            let found = fs::metadata(dir.path().join(path)).expect("there");
            (found.uid(), found.gid())
        };
        assert_eq!(
            (owner("home/alice/.config"), owner("home/alice/.config/app")),
            ((4001, 4002), (4001, 4002))
        );
        assert_eq!((owner("etc/app"), owner("home/alice/.cache")), ((0, 0), (0, 0)));
        assert!(make_directories(&home.join(".config/app"), true).is_ok(), "one that is there stays");
        fs::write(home.join("file"), "").expect("written");
        assert!(make_directories(&home.join("file/below"), true).is_err());
    }
}
