//! The check of a manifest, before any file is opened.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::error::Error;
use super::manifest::{self, Manifest, Secret};
use super::{Options, paths};
use crate::store::Format;

/// Owner of a file, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A manifest that makes sense.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What to install.
    pub secrets: Vec<Planned>,
    /// Where the generations lie.
    pub mount_point: PathBuf,
    /// The link to the current one.
    pub symlink: PathBuf,
    /// How many generations stay; 0 keeps all.
    pub keep: u64,
    /// Group of the directories.
    pub keys_gid: u32,
    /// A tmpfs in place of the ramfs.
    pub tmpfs: bool,
    /// Nothing is mounted and nobody's files are given away.
    pub user_mode: bool,
}

/// A secret that makes sense.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its name in the manifest.
    pub name: String,
    /// Its path below a generation.
    pub below: PathBuf,
    /// Its key in the file.
    pub key: String,
    /// Where a link to it is wanted.
    pub link: Option<PathBuf>,
    /// Who owns it.
    pub owner: Owner,
    /// Permission bits.
    pub mode: u32,
    /// The encrypted file.
    pub file: PathBuf,
    /// The file's format.
    pub format: Format,
}

/// The permission bits that have an effect.
const PERMISSIONS: u32 = 0o777;
/// Owners of the directories, the first group that there is.
const KEYS_GROUPS: [&str; 2] = ["keys", "nogroup"];

/// Checks a manifest without opening any file that it names.
///
/// # Errors
/// The first thing in it that cannot be.
pub fn plan(manifest: &Manifest, options: &Options) -> Result<Plan, Error> {
    for (field, value) in
        [("secretsMountPoint", &manifest.secrets_mount_point), ("symlinkPath", &manifest.symlink_path)]
    {
        if value.is_empty() {
            return invalid(format!("{field} is missing"));
        }
    }
    exclusive_keys(manifest)?;
    if !manifest.templates.is_empty() {
        return invalid("it has templates, which this program does not render".into());
    }
    let Ok(keep) = u64::try_from(manifest.keep_generations) else {
        return invalid(format!("keepGenerations is {}, below zero", manifest.keep_generations));
    };
    let expand = |path: &str| paths::expand(path, manifest.user_mode, options.runtime_dir.as_deref());
    let symlink = expand(&manifest.symlink_path)?;
    let mut secrets = Vec::with_capacity(manifest.secrets.len());
    for secret in &manifest.secrets {
        secrets.push(planned(secret, &symlink, &expand(&secret.path)?, options)?);
    }
    formats_agree(&secrets)?;
    names_fit(&secrets)?;
    links_differ(&secrets)?;
    Ok(Plan {
        secrets,
        mount_point: expand(&manifest.secrets_mount_point)?,
        symlink,
        keep,
        keys_gid: keys_gid(options)?,
        tmpfs: manifest.use_tmpfs,
        user_mode: manifest.user_mode,
    })
}

fn invalid<T>(reason: String) -> Result<T, Error> {
    Err(Error::Invalid(reason))
}

fn exclusive_keys(manifest: &Manifest) -> Result<(), Error> {
    if manifest.gnupg_home.is_empty() {
        return Ok(());
    }
    if !manifest.ssh_key_paths.is_empty() {
        return invalid("gnupgHome and sshKeyPaths were specified, they are mutually exclusive".into());
    }
    if !manifest.age_key_file.is_empty() {
        return invalid("gnupgHome and ageKeyFile were specified, they are mutually exclusive".into());
    }
    Ok(())
}

fn planned(secret: &Secret, symlink: &Path, path: &Path, options: &Options) -> Result<Planned, Error> {
    let name = &secret.name;
    let below = paths::below(name)?;
    let mode = match u32::from_str_radix(&secret.mode, 8) {
        // A sign is not a digit, and the field of the mode has 16 bits.
        Ok(mode) if mode <= u32::from(u16::MAX) && !secret.mode.starts_with('+') => mode & PERMISSIONS,
        _ => return invalid(format!("invalid number in mode: {}", secret.mode)),
    };
    let Some(format) = manifest::format(&secret.format) else {
        return invalid(format!("secret {name} has the unknown format {}", secret.format));
    };
    if secret.sops_file.is_empty() {
        return invalid(format!("secret {name} has no sopsFile"));
    }
    if !path.is_absolute() {
        let what = if secret.path.is_empty() { "no path" } else { "a path that is not absolute" };
        return invalid(format!("secret {name} has {what}"));
    }
    if path == symlink {
        return invalid(format!(
            "the path of secret {name} is the link to all secrets, {}",
            symlink.display()
        ));
    }
    let link = (path != symlink.join(&below)).then(|| path.to_owned());
    Ok(Planned {
        name: name.clone(),
        below,
        key: secret.key.clone(),
        link,
        owner: owner(secret, options)?,
        mode,
        file: PathBuf::from(&secret.sops_file),
        format,
    })
}

fn owner(secret: &Secret, options: &Options) -> Result<Owner, Error> {
    if options.ignore_passwd {
        return Ok(Owner { uid: 0, gid: 0 });
    }
    let id = |what: &str, named: Option<(&String, Option<u32>)>, number: i64| match named {
        Some((name, None)) => invalid(format!("failed to lookup {what} '{name}'")),
        Some((_, Some(id))) => Ok(id),
        // The highest number means "leave alone" to chown.
        None => match u32::try_from(number) {
            Ok(id) if id != u32::MAX => Ok(id),
            _ => invalid(format!("secret {} has the impossible {what} number {number}", secret.name)),
        },
    };
    let user = secret.owner.as_ref().map(|name| (name, options.accounts.user(name)));
    let group = secret.group.as_ref().map(|name| (name, options.accounts.group(name)));
    Ok(Owner { uid: id("user", user, secret.uid)?, gid: id("group", group, secret.gid)? })
}

fn keys_gid(options: &Options) -> Result<u32, Error> {
    if options.ignore_passwd {
        return Ok(0);
    }
    KEYS_GROUPS.iter().find_map(|name| options.accounts.group(name)).ok_or(Error::NoKeysGroup)
}

fn formats_agree(secrets: &[Planned]) -> Result<(), Error> {
    let mut seen: BTreeMap<&Path, &Planned> = BTreeMap::new();
    for secret in secrets {
        let first = seen.entry(&secret.file).or_insert(secret);
        if first.format != secret.format {
            return invalid(format!(
                "secret {} defined the format of {} as {}, but it was specified as {} in {} before",
                secret.name,
                secret.file.display(),
                secret.format.name(),
                first.format.name(),
                first.name
            ));
        }
    }
    Ok(())
}

fn names_fit(secrets: &[Planned]) -> Result<(), Error> {
    let mut names: BTreeMap<&Path, &str> = BTreeMap::new();
    for secret in secrets {
        if let Some(other) = names.insert(&secret.below, &secret.name) {
            return invalid(format!("two secrets have one name, {other} and {}", secret.name));
        }
    }
    for secret in secrets {
        for directory in secret.below.ancestors().skip(1) {
            if let Some(other) = names.get(directory) {
                return invalid(format!(
                    "secret {} needs a directory where secret {other} is a file",
                    secret.name
                ));
            }
        }
    }
    Ok(())
}

fn links_differ(secrets: &[Planned]) -> Result<(), Error> {
    let mut links = BTreeSet::new();
    for secret in secrets {
        if let Some(link) = &secret.link
            && !links.insert(link)
        {
            return invalid(format!("two secrets have the path {}", link.display()));
        }
    }
    Ok(())
}
