//! A project: the directory with `hosts/` and `.sops.yaml`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{Error, alike};
use super::rootfs;
use super::spec::load::{self, ProjectFiles, SecretsFile, Source};
use super::spec::{Arch, Spec};
use crate::install::{Native, Opener as _};
use crate::store::Format;

/// The directory of the hosts.
pub const HOSTS: &str = "hosts";
/// The creation rules.
pub const RULES: &str = ".sops.yaml";
/// The description of what Nix builds, in a project of Nix's users.
pub const FLAKE_FILE: &str = "flake.nix";
/// The description of a host, in its directory.
pub const HOST_FILE: &str = "host.yaml";
/// The secrets of a host, in its directory.
pub const SECRETS_FILE: &str = "secrets.yaml";
/// The schema of host.yaml for editors, beside the directories of the hosts.
pub const SCHEMA_FILE: &str = "host.schema.json";
/// Files laid over the image, in a host's directory.
pub const ROOTFS_DIR: &str = "rootfs";

/// The most bytes of a host.yaml.
const HOST_FILE_MAX: u64 = 1 << 20;
/// The most bytes of a file of secrets: more do not fit into what a machine is given.
pub const SECRETS_MAX: u64 = 16 << 20;
/// A host's name is a label of DNS, which has at most 63 characters (RFC 1035).
const NAME_MAX: usize = 63;

/// A project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    root: PathBuf,
}

impl Project {
    /// Finds the project that a directory belongs to: the nearest one upwards with `hosts/`, else the nearest
    /// with `.sops.yaml`, else the nearest with `flake.nix`.
    ///
    /// # Errors
    /// No such directory.
    pub fn find(start: &Path) -> Result<Self, Error> {
        let start = fs::canonicalize(start).map_err(|source| Error::Read { path: start.into(), source })?;
        let with = |is: fn(&Path) -> bool| start.ancestors().find(|dir| is(dir)).map(Path::to_owned);
        match with(has_hosts).or_else(|| with(has_rules)).or_else(|| with(has_flake)) {
            Some(root) => Ok(Self { root }),
            None => Err(Error::NoProject { start }),
        }
    }

    /// Takes a directory as the project (`--project DIR`).
    ///
    /// # Errors
    /// A directory that has neither `hosts/` nor `.sops.yaml` nor `flake.nix`.
    pub fn at(dir: &Path) -> Result<Self, Error> {
        let root = fs::canonicalize(dir).map_err(|source| Error::Read { path: dir.into(), source })?;
        if has_hosts(&root) || has_rules(&root) || has_flake(&root) {
            Ok(Self { root })
        } else {
            Err(Error::NotAProject { dir: root })
        }
    }

    /// A directory that need not have any of those: machines of flakes that are elsewhere can be started in it.
    ///
    /// # Errors
    /// No such directory.
    pub fn bare(dir: &Path) -> Result<Self, Error> {
        let root = fs::canonicalize(dir).map_err(|source| Error::Read { path: dir.into(), source })?;
        Ok(Self { root })
    }

    /// Its directory, absolute and without links.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its `.sops.yaml`, whether it exists or not.
    #[must_use]
    pub fn rules_file(&self) -> PathBuf {
        self.root.join(RULES)
    }

    /// The directory of a host, whether it exists or not.
    #[must_use]
    pub fn host_dir(&self, name: &str) -> PathBuf {
        self.root.join(HOSTS).join(name)
    }

    /// The description of a host, whether it exists or not.
    #[must_use]
    pub fn host_file(&self, name: &str) -> PathBuf {
        self.host_dir(name).join(HOST_FILE)
    }

    /// The encrypted secrets of a host, whether they exist or not.
    #[must_use]
    pub fn secrets_file(&self, name: &str) -> PathBuf {
        self.host_dir(name).join(SECRETS_FILE)
    }

    /// The files laid over a host's image, whether they exist or not.
    #[must_use]
    pub fn rootfs_dir(&self, name: &str) -> PathBuf {
        self.host_dir(name).join(ROOTFS_DIR)
    }

    /// The disk of a host, whether it exists or not.
    #[must_use]
    pub fn disk(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}.qcow2"))
    }

    /// The names of all hosts, sorted.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn hosts(&self) -> Result<Vec<String>, Error> {
        let dir = self.root.join(HOSTS);
        let failed = |source| Error::Read { path: dir.clone(), source };
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            if let Ok(name) = entry.file_name().into_string()
                && is_name(&name)
                && entry.path().join(HOST_FILE).is_file()
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Reads a host: its host.yaml, those that it extends, checked as a whole for one kind of machine:
    /// `native` where host.yaml names none.
    ///
    /// # Errors
    /// No such host, a file that cannot be read, or a description that is not valid.
    pub fn load(&self, name: &str, native: Arch) -> Result<Spec, Error> {
        load::load(name, native, &|name| self.names_of_secrets(name), &|name| self.source(name))
    }

    /// The file of secrets of a host, with what of it can be read without a key.
    fn names_of_secrets(&self, name: &str) -> Option<SecretsFile> {
        let path = self.secrets_file(name);
        path.symlink_metadata().ok()?;
        let text = self.read(&path, SECRETS_MAX).ok();
        let tree = text.and_then(|text| Native::default().read(&path, &text, Format::Yaml).ok());
        let tree = tree.map(|file| file.tree);
        let project = self.clone();
        let read = move |path: &str| {
            project.read(&project.root.join(path), SECRETS_MAX).map_err(|error| error.to_string())
        };
        Some(SecretsFile { path, tree, project: ProjectFiles::new(read) })
    }

    /// Reads a file of the project. Somebody else may have written the project: what is not a plain file of it, or
    /// a link that leads out of it, is not read.
    ///
    /// # Errors
    /// It cannot be read, is too large, or does not belong to the project.
    pub fn read(&self, path: &Path, most: u64) -> Result<Vec<u8>, Error> {
        let failed = |source| Error::Read { path: path.into(), source };
        let real = fs::canonicalize(path).map_err(failed)?;
        if !real.starts_with(&self.root) {
            return Err(Error::Outside { path: path.into(), target: real });
        }
        let found = fs::metadata(&real).map_err(failed)?;
        if !found.is_file() {
            return Err(Error::NotAFile { path: path.into() });
        }
        if found.len() > most {
            return Err(Error::TooLarge { path: path.into(), most });
        }
        fs::read(&real).map_err(failed)
    }

    /// The files that are laid over a host's image: those of the hosts that it extends, and over them its own.
    ///
    /// # Errors
    /// As [`rootfs::read`].
    pub fn rootfs(&self, spec: &Spec) -> Result<Vec<rootfs::Entry>, Error> {
        let chain = spec.extends.iter().rev().chain([&spec.name]);
        chain
            .map(|name| {
                let dir = self.rootfs_dir(name);
                match fs::canonicalize(&dir) {
                    Ok(real) if !real.starts_with(&self.root) => {
                        Err(Error::Outside { path: dir, target: real })
                    }
                    _ => rootfs::read(&dir),
                }
            })
            .try_fold(Vec::new(), |base, over| over.map(|over| rootfs::overlay(base, over)))
    }

    /// The description of a host that a flake has and this project has no host.yaml for.
    ///
    /// # Errors
    /// The name cannot be a host's, or the configuration is not one.
    pub fn of_flake(
        &self,
        name: &str,
        flake: &str,
        configuration: &str,
        native: Arch,
    ) -> Result<Spec, Error> {
        let image = serde_json::json!({"provider": "nixos", "flake": flake, "configuration": configuration});
        let text = format!("image: {image}\n");
        let file = PathBuf::from(format!("{flake}#{configuration}"));
        load::load(name, native, &|name| self.names_of_secrets(name), &|_| {
            Ok(Source { file: file.clone(), text: text.clone() })
        })
    }

    fn source(&self, name: &str) -> Result<Source, Error> {
        if !is_name(name) {
            return Err(Error::BadName { name: name.into() });
        }
        let file = self.host_file(name);
        match self.read(&file, HOST_FILE_MAX) {
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Ok(Source { file, text }),
                Err(_) => Err(Error::Read { path: file, source: io::Error::other("it is not UTF-8 text") }),
            },
            Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let known = self.hosts()?;
                let suggestion = alike(name, known.iter().map(String::as_str));
                Err(Error::NoHost { name: name.into(), hosts: self.root.join(HOSTS), suggestion, known })
            }
            Err(error) => Err(error),
        }
    }
}

/// The host.yaml of a new host, which is reached by ssh on a port of this machine.
#[must_use]
pub fn starter(ssh_port: u16) -> String {
    format!(
        "# yaml-language-server: $schema=../{SCHEMA_FILE}\ncpus: 2\nmemory: 2G\ndisk: 16G\n\nforwards:\n  ssh: {ssh_port}\n"
    )
}

/// Whether a name can be a host's: it becomes a directory, a host name and a part of file names.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let inner = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    inner && !name.is_empty() && name.len() <= NAME_MAX && !name.starts_with('-') && !name.ends_with('-')
}

fn has_hosts(dir: &Path) -> bool {
    dir.join(HOSTS).is_dir()
}

fn has_flake(dir: &Path) -> bool {
    dir.join(FLAKE_FILE).is_file()
}

fn has_rules(dir: &Path) -> bool {
    dir.join(RULES).is_file()
}

#[cfg(test)]
mod tests;
