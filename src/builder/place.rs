//! The directory of a running keeper: its socket, the keys that log in to builders, and what nix and ssh read.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use sha2::{Digest as _, Sha256};

use super::parcels::Loaded;
use super::ssh;
use crate::edge::account::{self, Group};
use crate::edge::environment::Environment;
use crate::edge::lock::{Lock, open_file};
use crate::edge::private_dir::{self, PrivateDir};
use crate::edge::{atomic, hex};
use crate::host::generated::builders::GROUP;

/// The file that a keeper locks in a directory that is not private.
const LOCK: &str = ".lock";
/// The private key, below a user's directory.
const KEY: &str = "id_ed25519";
/// What the key of a builder of its own begins with, there.
const FOR: &str = "for-";

/// Where a keeper's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The directory.
    pub dir: PathBuf,
}

/// A place that is this process's alone; what is in it goes with this value.
pub struct Held {
    /// The place.
    pub place: Place,
    how: How,
}

enum How {
    /// Private, in memory, and gone with this value.
    Private(#[expect(dead_code, reason = "it removes the directory when it is dropped")] PrivateDir),
    /// A directory of the system, which stays, and which a group may enter.
    System { group: Option<u32>, _lock: Lock },
}

impl Place {
    /// The one at a path.
    #[must_use]
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The one of a project, for this user.
    #[must_use]
    pub fn of_project(root: &Path, environment: &Environment) -> Option<Self> {
        private_dir::named(environment, &name(root)).map(|dir| Self { dir })
    }

    /// The socket that a keeper listens on.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("keeper.sock")
    }

    /// What nix reads: the builders.
    #[must_use]
    pub fn machines(&self) -> PathBuf {
        self.dir.join("machines")
    }

    /// What ssh reads: how a builder is reached.
    #[must_use]
    pub fn ssh_config(&self) -> PathBuf {
        self.dir.join("ssh_config")
    }

    /// What ssh reads: the builders' host keys.
    #[must_use]
    pub fn known_hosts(&self) -> PathBuf {
        self.dir.join("known_hosts")
    }

    /// For remote-store builds: a store for each system.
    #[must_use]
    pub fn builders_json(&self) -> PathBuf {
        self.dir.join("builders.json")
    }

    /// What the builders are made of, where no share has it.
    #[must_use]
    pub fn parcels(&self) -> PathBuf {
        self.dir.join("parcels")
    }

    /// The key of a user, or of a builder that has one of its own; `%u` stands for the user in ssh's configuration.
    #[must_use]
    pub fn key(&self, user: &str, builder: Option<&Loaded>) -> PathBuf {
        let own = builder.filter(|builder| builder.parcel.builder.key.is_some());
        let file = own.map_or_else(|| KEY.to_owned(), |builder| format!("{FOR}{}", builder.name()));
        self.dir.join("keys").join(user).join(file)
    }
}

/// The name of a project's place.
fn name(root: &Path) -> String {
    format!("builders-{}", &hex::encode(&Sha256::digest(root.as_os_str().as_encoded_bytes()))[..12])
}

impl Held {
    /// Takes the place of a project; `None` where another keeper has it.
    ///
    /// # Errors
    /// There is no place in memory, or the system refuses.
    pub fn of_project(root: &Path, environment: &Environment) -> Result<Option<Self>, String> {
        let dir = PrivateDir::in_memory_as(environment, &name(root)).map_err(|error| error.to_string())?;
        Ok(dir.map(|dir| Self { place: Place::at(dir.path()), how: How::Private(dir) }))
    }

    /// Takes a directory of the system, made if need be; `None` where another keeper has it. What a killed keeper left
    /// there is removed.
    ///
    /// # Errors
    /// The system refuses.
    pub fn of_system(dir: &Path) -> Result<Option<Self>, String> {
        let failed = |error: io::Error| format!("cannot use {}: {error}", dir.display());
        let group = group();
        DirBuilder::new().recursive(true).mode(0o750).create(dir).map_err(failed)?;
        // It is emptied, now and at the end: somebody's own files are never among what goes.
        let names = fs::read_dir(dir).map_err(failed)?.flatten().map(|entry| entry.file_name());
        if let Some(name) = names.into_iter().find(|name| name != LOCK && !is_keepers(name)) {
            return Err(format!(
                "{} is not the directory of a keeper of builders: `{}` is in it; name a new or an empty one",
                dir.display(),
                name.display()
            ));
        }
        let lock = open_file(&dir.join(LOCK)).and_then(Lock::try_open).map_err(failed)?;
        let Some(lock) = lock else { return Ok(None) };
        clear(dir);
        // What is made in it belongs to the group as well.
        let mode = if group.is_some() { 0o2750 } else { 0o700 };
        if let Some(group) = group {
            chown(dir, None, Some(group)).map_err(failed)?;
        }
        fs::set_permissions(dir, fs::Permissions::from_mode(mode)).map_err(failed)?;
        Ok(Some(Self { place: Place::at(dir), how: How::System { group, _lock: lock } }))
    }

    /// The users who may build: in a controller root and the members of its group, else this one.
    #[must_use]
    pub fn users(&self, environment: &Environment) -> Vec<String> {
        let own = account::user_name(Uid::effective(), environment);
        let mut users: Vec<String> = own.into_iter().collect();
        if let How::System { group: Some(_), .. } = self.how {
            // Who has no account any more builds nothing.
            let is_there = |user: &String| account::Account::find(user, environment).is_ok();
            users.extend(members().into_iter().filter(is_there));
        }
        users.sort();
        users.dedup();
        users
    }

    /// Lets those who may build reach a socket.
    ///
    /// # Errors
    /// The system refuses.
    pub fn open_socket(&self, path: &Path) -> io::Result<()> {
        let mode = if matches!(self.how, How::System { group: Some(_), .. }) { 0o660 } else { 0o600 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }

    /// The permission bits of what nix and ssh read.
    #[must_use]
    pub fn readable(&self) -> u32 {
        if matches!(self.how, How::System { group: Some(_), .. }) { 0o640 } else { 0o600 }
    }

    /// The file with the key that logs in to a builder's remote, where that key is a secret; written anew, for the
    /// secret may have changed.
    ///
    /// # Errors
    /// The secret cannot be read, or is not a key.
    pub fn remote_key(&self, builder: &Loaded) -> Result<Option<PathBuf>, String> {
        let Some(pair) = builder.on_key()? else { return Ok(None) };
        let dir = self.place.dir.join("remotes");
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(|error| error.to_string())?;
        let path = dir.join(builder.name());
        atomic::create(&path, &pair.private, 0o600, true).map_err(|error| error.to_string())?;
        Ok(Some(path))
    }

    /// Removes the copies of a builder's keys that nobody wants any more: the one that logs in to its remote, those of who
    /// may build on it, and what it was made of where that is the keeper's own: who wants it again brings it again.
    pub fn remove_keys(&self, name: &str) {
        let dir = &self.place.dir;
        let _ = fs::remove_file(dir.join("remotes").join(name));
        for user in fs::read_dir(dir.join("keys")).into_iter().flatten().flatten() {
            let _ = fs::remove_file(user.path().join(format!("{FOR}{name}")));
        }
        if matches!(self.how, How::Private(_)) {
            let _ = fs::remove_dir_all(self.place.parcels().join(name));
        }
    }

    /// Writes a private key for a user, who owns it: ssh refuses a key that others may read.
    ///
    /// # Errors
    /// The system refuses.
    pub fn write_key(
        &self,
        user: &str,
        path: &Path,
        text: &[u8],
        environment: &Environment,
    ) -> Result<(), String> {
        let failed = |error: io::Error| format!("cannot write {}: {error}", path.display());
        let dir = path.parent().unwrap_or(path);
        // Who enters it has come through the keeper's directory, and finds nothing but this key.
        DirBuilder::new().recursive(true).mode(0o711).create(dir).map_err(failed)?;
        for dir in dir.ancestors().take_while(|dir| *dir != self.place.dir) {
            // Whatever the umask is.
            fs::set_permissions(dir, fs::Permissions::from_mode(0o711)).map_err(failed)?;
        }
        atomic::create(path, text, 0o600, true).map_err(|error| error.to_string())?;
        if Uid::effective().is_root() && user != "root" {
            let account = account::Account::find(user, environment).map_err(|error| error.to_string())?;
            account.give(path).map_err(failed)?;
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let How::System { .. } = self.how {
            clear(&self.place.dir);
        }
    }
}

/// Whether a keeper makes something of this name in its directory.
fn is_keepers(name: &OsStr) -> bool {
    const NAMES: [&str; 8] = [
        "builders.json",
        "keeper.sock",
        "keys",
        "known_hosts",
        "machines",
        "parcels",
        "remotes",
        "ssh_config",
    ];
    // ssh's sockets and lists of host keys for each remote, and what is being written.
    atomic::is_temporary(name)
        || name.to_str().is_some_and(|name| NAMES.contains(&name) || ssh::is_file(name))
}

/// Removes all that a keeper makes, but for the lock.
fn clear(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if !is_keepers(&entry.file_name()) {
            continue;
        }
        let path = entry.path();
        let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
    }
}

fn group_file() -> String {
    fs::read_to_string("/etc/group").unwrap_or_default()
}

fn group() -> Option<u32> {
    let of_group = |group: Group<'_>| (group.name == GROUP).then_some(group.gid);
    Uid::effective().is_root().then(|| account::groups(&group_file()).find_map(of_group)).flatten()
}

fn members() -> Vec<String> {
    let text = group_file();
    let of_group = account::groups(&text).filter(|group| group.name == GROUP);
    of_group.flat_map(|group| group.members).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::{Held, Place};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_directory_with_somebody_s_own_files_is_refused_and_not_emptied() {
        let base = tempfile::tempdir().unwrap();
        let own = base.path().join("thesis.tex");
        std::fs::write(&own, "all of it").unwrap();
        std::fs::write(base.path().join("machines"), "").unwrap();
        let error = Held::of_system(base.path()).map(|_| ()).unwrap_err();
        assert!(error.contains("`thesis.tex` is in it"), "{error}");
        let left = std::fs::read_dir(base.path()).unwrap().count();
        assert_eq!((std::fs::read_to_string(&own).unwrap().as_str(), left), ("all of it", 2));
        // What is put there later stays as well.
        std::fs::remove_file(&own).unwrap();
        let held = Held::of_system(base.path()).unwrap().expect("nobody has it");
        std::fs::write(&own, "again").unwrap();
        drop(held);
        assert!(own.exists() && !base.path().join("machines").exists());
    }

    #[test]
    fn a_place_is_one_keeper_s_and_is_left_empty() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("run");
        let held = Held::of_system(&dir).unwrap().expect("nobody has it");
        assert!(Held::of_system(&dir).unwrap().is_none());
        std::fs::create_dir(dir.join("keys")).unwrap();
        for name in ["machines", "m-0123456789", "m-0123456789.AbCdEfGhIjKlMnOp", "h-0123456789"] {
            std::fs::write(dir.join(name), "").unwrap();
        }
        assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o007, 0, "nobody else enters");
        drop(held);
        let left: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [".lock"]);
        assert!(Place::at(&dir).socket().ends_with("keeper.sock"));
    }
}
