//! Files of the layer, laid over the image; those that a layer no longer has go again.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use super::Error;
use super::state::State;
use crate::host::rootfs::{Entry, Kind};

/// Mode of directories that a layer needs without describing them.
const DIR_MODE: u32 = 0o755;
/// Below the state's directory: what the image had where the layer has a file now.
const ORIGINALS: &str = "originals";

/// Lays files over the root.
pub(super) struct Overlay<'a> {
    root: &'a Path,
    originals: PathBuf,
    state: &'a mut State,
    placed: BTreeSet<PathBuf>,
    /// Directories that the layer itself describes.
    described: BTreeSet<PathBuf>,
}

impl<'a> Overlay<'a> {
    /// `state_dir` is where what the layer covers is kept.
    pub(super) fn new(root: &'a Path, state_dir: &Path, state: &'a mut State) -> Self {
        Self {
            root,
            originals: state_dir.join(ORIGINALS),
            state,
            placed: BTreeSet::new(),
            described: BTreeSet::new(),
        }
    }

    /// Lays one entry over the root, below which `path` is.
    pub(super) fn place(&mut self, entry: &Entry) -> Result<(), Error> {
        let path = inside(&entry.path)?;
        let target = self.root.join(&path);
        if matches!(entry.kind, Kind::Directory) {
            self.make_dir(&path, entry.mode)?;
            // One of the image keeps the mode that the image gave it.
            if self.state.dirs.contains(&path) {
                set_dir_mode(&target, entry.mode)?;
            }
            self.described.insert(path);
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.make_dir(parent, DIR_MODE)?;
        }
        if target.symlink_metadata().is_ok_and(|data| data.is_dir()) {
            self.take_back(&path)?;
        }
        if target.symlink_metadata().is_ok_and(|data| data.is_dir()) {
            return Err(Error::content(&target, "is a directory where the layer has a file"));
        }
        self.keep_original(&path)?;
        self.state.files.insert(path.clone());
        self.placed.insert(path);
        match &entry.kind {
            Kind::File(content) => write(&target, content, entry.mode),
            Kind::Link(to) => link(&target, to),
            Kind::Directory => Ok(()),
        }
    }

    /// Removes what earlier layers brought and this one has not, giving back what the image had.
    pub(super) fn finish(self) -> Result<(), Error> {
        let gone: Vec<PathBuf> = self.state.files.difference(&self.placed).cloned().collect();
        for path in gone {
            let target = self.root.join(&path);
            let original = self.originals.join(&path);
            remove(&target)?;
            if original.symlink_metadata().is_ok() {
                copy(&original, &target)?;
                remove(&original)?;
            }
            self.state.files.remove(&path);
        }
        // The deepest first; one that is still in use stays and is asked about again.
        let dirs: Vec<PathBuf> = self.state.dirs.iter().rev().cloned().collect();
        for path in dirs {
            let used = self.placed.iter().chain(&self.described).any(|kept| kept.starts_with(&path));
            if !used && fs::remove_dir(self.root.join(&path)).is_ok() {
                self.state.dirs.remove(&path);
            }
        }
        Ok(())
    }

    /// A directory with its parents; one that is there stays as it is, here.
    fn make_dir(&mut self, path: &Path, mode: u32) -> Result<(), Error> {
        let target = self.root.join(path);
        if path.as_os_str().is_empty() || target.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.make_dir(parent, DIR_MODE)?;
        }
        self.take_back(path)?;
        DirBuilder::new().mode(mode).create(&target).map_err(Error::io("create", &target))?;
        fs::set_permissions(&target, Permissions::from_mode(mode)).map_err(Error::io("create", &target))?;
        self.state.dirs.insert(path.to_owned());
        Ok(())
    }

    /// Removes what an earlier layer brought at a path that is to be something else now, and below it.
    fn take_back(&mut self, path: &Path) -> Result<(), Error> {
        let below = |known: &BTreeSet<PathBuf>| -> Vec<PathBuf> {
            known.iter().rev().filter(|one| one.starts_with(path)).cloned().collect()
        };
        for file in below(&self.state.files) {
            remove(&self.root.join(&file))?;
            self.state.files.remove(&file);
        }
        for dir in below(&self.state.dirs) {
            // One that holds something of the guest's own stays.
            if fs::remove_dir(self.root.join(&dir)).is_ok() {
                self.state.dirs.remove(&dir);
            }
        }
        Ok(())
    }

    /// Before the first layer covers a file of the image, a copy is put aside.
    fn keep_original(&self, path: &Path) -> Result<(), Error> {
        let target = self.root.join(path);
        if self.state.files.contains(path) || target.symlink_metadata().is_err() {
            return Ok(());
        }
        let original = self.originals.join(path);
        if original.symlink_metadata().is_ok() {
            // Of a boot that was cut off before it could remember the file.
            return Ok(());
        }
        if let Some(parent) = original.parent() {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700).create(parent).map_err(Error::io("create", parent))?;
        }
        copy(&target, &original)
    }
}

/// The path without a leading `/`; one that leads out is no path of a layer.
fn inside(path: &Path) -> Result<PathBuf, Error> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => clean.push(name),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::content(path, "leads out of the root"));
            }
        }
    }
    if clean.as_os_str().is_empty() {
        Err(Error::content(path, "is not a path of a file"))
    } else {
        Ok(clean)
    }
}

/// Replaces a file at once: whoever has it open keeps the old one.
pub(super) fn write(target: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let failed = || Error::io("write", target);
    let data = target.symlink_metadata();
    let same_mode = data.is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o7777 == mode);
    if same_mode && fs::read(target).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let dir = target.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new().prefix(".civm-").tempfile_in(dir).map_err(failed())?;
    file.write_all(content).map_err(failed())?;
    file.as_file().set_permissions(Permissions::from_mode(mode)).map_err(failed())?;
    file.persist(target).map(drop).map_err(|error| failed()(error.error))
}

fn link(target: &Path, to: &Path) -> Result<(), Error> {
    if fs::read_link(target).is_ok_and(|old| old == to) {
        return Ok(());
    }
    remove(target)?;
    symlink(to, target).map_err(Error::io("create", target))
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let done = match fs::read_link(from) {
        Ok(link) => symlink(link, to),
        Err(_) => fs::copy(from, to).map(drop),
    };
    done.map_err(Error::io("copy", from))
}

fn set_dir_mode(dir: &Path, mode: u32) -> Result<(), Error> {
    let failed = || Error::io("change", dir);
    let data = dir.symlink_metadata().map_err(failed())?;
    if !data.is_dir() || data.permissions().mode() & 0o7777 == mode {
        return Ok(());
    }
    fs::set_permissions(dir, Permissions::from_mode(mode)).map_err(failed())
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    struct Guest {
        _dir: tempfile::TempDir,
        root: PathBuf,
        memory: PathBuf,
    }

    impl Guest {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("tempdir");
            let (root, memory) = (dir.path().join("root"), dir.path().join("state"));
            fs::create_dir_all(root.join("etc")).expect("mkdir");
            Self { _dir: dir, root, memory }
        }

        fn boot(&self, entries: &[Entry]) -> Result<(), Error> {
            let mut state = State::load(&self.memory)?;
            let mut overlay = Overlay::new(&self.root, &self.memory, &mut state);
            for entry in entries {
                overlay.place(entry)?;
            }
            overlay.finish()?;
            state.save(&self.memory)
        }

        fn read(&self, path: &str) -> Option<String> {
            fs::read_to_string(self.root.join(path)).ok()
        }
    }

    fn file(path: &str, content: &str, mode: u32) -> Entry {
        Entry { path: path.into(), mode, kind: Kind::File(content.into()) }
    }

    #[test]
    fn files_come_with_their_modes_and_go_with_the_layer() {
        let guest = Guest::new();
        guest.boot(&[file("opt/a/b/run", "x", 0o750), file("/etc/conf", "y", 0o640)]).expect("boot");
        let mode = guest.root.join("opt/a/b/run").metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o750);
        guest.boot(&[file("etc/conf", "z", 0o640)]).expect("boot");
        assert_eq!(guest.read("etc/conf").as_deref(), Some("z"));
        assert!(!guest.root.join("opt").exists(), "directories made for a file go with it");
        guest.boot(&[]).expect("boot");
        assert!(!guest.root.join("etc/conf").exists());
        assert!(guest.root.join("etc").exists(), "directories of the image stay");
    }

    #[test]
    fn what_the_image_had_comes_back() {
        let guest = Guest::new();
        fs::write(guest.root.join("etc/nix.conf"), "image").expect("write");
        for _ in 0..2 {
            guest.boot(&[file("etc/nix.conf", "layer", 0o644)]).expect("boot");
            assert_eq!(guest.read("etc/nix.conf").as_deref(), Some("layer"));
        }
        guest.boot(&[]).expect("boot");
        assert_eq!(guest.read("etc/nix.conf").as_deref(), Some("image"));
    }

    #[test]
    fn a_file_may_become_a_directory_and_back() {
        let guest = Guest::new();
        for _ in 0..2 {
            guest.boot(&[file("srv/app", "a file", 0o644)]).expect("boot");
            assert_eq!(guest.read("srv/app").as_deref(), Some("a file"));
            guest.boot(&[file("srv/app/conf", "inside", 0o644)]).expect("boot");
            assert_eq!(guest.read("srv/app/conf").as_deref(), Some("inside"));
        }
        fs::write(guest.root.join("srv/app/own"), "the guest's").expect("write");
        assert!(
            guest.boot(&[file("srv/app", "a file", 0o644)]).is_err(),
            "what the guest wrote is not removed"
        );
        assert_eq!(guest.read("srv/app/own").as_deref(), Some("the guest's"));
    }

    #[test]
    fn an_empty_directory_stays_with_its_mode_until_the_layer_drops_it() {
        let guest = Guest::new();
        let dir = |path: &str, mode| Entry { path: path.into(), mode, kind: Kind::Directory };
        let mode = |path: &str| guest.root.join(path).metadata().map(|data| data.mode() & 0o7777).ok();
        for wanted in [0o750, 0o750, 0o1777] {
            guest.boot(&[dir("srv", 0o755), dir("srv/a", wanted)]).expect("boot");
            assert_eq!((mode("srv"), mode("srv/a")), (Some(0o755), Some(wanted)));
        }
        // What is made in it does not change it.
        guest.boot(&[dir("srv/a", 0o700), file("srv/a/f", "", 0o644)]).expect("boot");
        assert_eq!(mode("srv/a"), Some(0o700));
        guest.boot(&[]).expect("boot");
        assert_eq!(mode("srv"), None);
    }

    #[test]
    fn a_directory_of_the_image_keeps_its_mode() {
        let guest = Guest::new();
        let before = guest.root.join("etc").metadata().expect("there").mode();
        guest.boot(&[Entry { path: "etc".into(), mode: 0o700, kind: Kind::Directory }]).expect("boot");
        assert_eq!(guest.root.join("etc").metadata().expect("there").mode(), before);
    }

    #[test]
    fn a_directory_in_use_by_others_stays() {
        let guest = Guest::new();
        guest.boot(&[file("opt/x/ours", "", 0o644)]).expect("boot");
        fs::write(guest.root.join("opt/x/theirs"), "").expect("write");
        guest.boot(&[]).expect("boot");
        assert!(guest.root.join("opt/x/theirs").exists());
        assert!(!guest.root.join("opt/x/ours").exists());
    }

    #[test]
    fn links_are_laid_as_links() {
        let guest = Guest::new();
        let entry = Entry { path: "etc/l".into(), mode: 0o777, kind: Kind::Link("/run/x".into()) };
        guest.boot(std::slice::from_ref(&entry)).expect("boot");
        guest.boot(&[entry]).expect("boot");
        assert_eq!(fs::read_link(guest.root.join("etc/l")).expect("link"), Path::new("/run/x"));
        guest.boot(&[]).expect("boot");
        assert!(guest.root.join("etc/l").symlink_metadata().is_err());
    }

    #[test]
    fn a_path_that_leads_out_is_refused() {
        let guest = Guest::new();
        assert!(guest.boot(&[file("../x", "", 0o644)]).is_err());
        assert!(guest.boot(&[file("/", "", 0o644)]).is_err());
        assert!(guest.boot(&[file("etc", "", 0o644)]).is_err(), "a directory is not replaced by a file");
    }
}
