//! The check of a manifest, before any file is opened.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::entry::{self, Entry, Owner, Wanted, invalid};
use super::error::Error;
use super::manifest::{self, Manifest, Secret};
use super::partial::Partial;
use super::{Options, template};
use crate::store::Format;

/// A manifest that makes sense.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What to install.
    pub secrets: Vec<Planned>,
    /// What to render.
    pub templates: Vec<template::Planned>,
    /// The placeholder of each secret, by its name.
    pub placeholders: BTreeMap<String, String>,
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
    /// What is left out.
    pub(super) partial: Partial,
}

impl Plan {
    /// Takes over who owns what from another plan of the same manifest.
    pub(super) fn take_owners(&mut self, other: &Self) {
        self.keys_gid = other.keys_gid;
        let secrets = other.secrets.iter().map(|secret| &secret.entry);
        let owners: BTreeMap<&str, Owner> = secrets.map(|entry| (entry.name.as_str(), entry.owner)).collect();
        for entry in self.secrets.iter_mut().map(|secret| &mut secret.entry) {
            entry.owner = owners.get(entry.name.as_str()).copied().unwrap_or(entry.owner);
        }
        let templates = other.templates.iter().map(|template| &template.entry);
        let owners: BTreeMap<&str, Owner> =
            templates.map(|entry| (entry.name.as_str(), entry.owner)).collect();
        for entry in self.templates.iter_mut().map(|template| &mut template.entry) {
            entry.owner = owners.get(entry.name.as_str()).copied().unwrap_or(entry.owner);
        }
    }
}

/// A secret that makes sense.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The file that it becomes.
    pub entry: Entry,
    /// Its key in the encrypted file.
    pub key: String,
    /// The encrypted file.
    pub file: PathBuf,
    /// The file's format.
    pub format: Format,
}

/// How a secret is called in messages.
pub(super) const KIND: &str = "secret";
/// Owners of the directories, the first group that there is.
const KEYS_GROUPS: [&str; 2] = ["keys", "nogroup"];

/// Checks a manifest without opening any encrypted file that it names.
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
    usable_keys(manifest)?;
    let Ok(keep) = u64::try_from(manifest.keep_generations) else {
        return invalid(format!("keepGenerations is {}, below zero", manifest.keep_generations));
    };
    let user_mode = manifest.user_mode;
    let expand = |path: &str| entry::expand(path, user_mode, options.runtime_dir.as_deref());
    let symlink = expand(&manifest.symlink_path)?;
    let placeholders = template::placeholders(manifest)?;
    let mut partial = Partial { allowed: options.partial, ..Partial::default() };
    let mut secrets = Vec::with_capacity(manifest.secrets.len());
    for secret in &manifest.secrets {
        secrets.extend(partial.take(KIND, &secret.name, planned(secret, &symlink, user_mode, options))?);
    }
    formats_agree(&secrets)?;
    let mut templates = Vec::with_capacity(manifest.templates.len());
    for template in &manifest.templates {
        let planned = template::plan(template, &symlink, user_mode, options);
        templates.extend(partial.take(template::KIND, &template.name, planned)?);
    }
    template::check_placeholders(&placeholders, &templates)?;
    let plan = Plan {
        secrets,
        templates,
        placeholders,
        mount_point: expand(&manifest.secrets_mount_point)?,
        symlink,
        keep,
        keys_gid: keys_gid(options)?,
        tmpfs: manifest.use_tmpfs,
        user_mode,
        partial,
    };
    names_fit(&plan)?;
    links_differ(&plan)?;
    Ok(plan)
}

impl Plan {
    /// Every file of the generation.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        let secrets = self.secrets.iter().map(|secret| &secret.entry);
        secrets.chain(self.templates.iter().map(|template| &template.entry))
    }
}

fn usable_keys(manifest: &Manifest) -> Result<(), Error> {
    if manifest.gnupg_home.is_empty() {
        return Ok(());
    }
    if !manifest.ssh_key_paths.is_empty() {
        return invalid("gnupgHome and sshKeyPaths were specified, they are mutually exclusive".into());
    }
    if !manifest.age_key_file.is_empty() {
        return invalid("gnupgHome and ageKeyFile were specified, they are mutually exclusive".into());
    }
    if manifest.age_ssh_key_paths.is_empty() {
        return invalid(
            "gnupgHome names a PGP keyring, and PGP keys are not supported: give this machine an age recipient \
             (`civm keys from-ssh` makes one of its ssh host key), and name its key in ageSshKeyPaths or ageKeyFile"
                .into(),
        );
    }
    Ok(())
}

fn planned(secret: &Secret, symlink: &Path, user_mode: bool, options: &Options) -> Result<Planned, Error> {
    let name = &secret.name;
    let wanted = Wanted {
        kind: KIND,
        name,
        below: entry::below(KIND, name)?,
        path: &secret.path,
        owner: secret.owner.as_ref(),
        uid: secret.uid,
        group: secret.group.as_ref(),
        gid: secret.gid,
        mode: &secret.mode,
        restart: &secret.restart_units,
        reload: &secret.reload_units,
    };
    let entry = wanted.entry(symlink, user_mode, options)?;
    let Some(format) = manifest::format(&secret.format) else {
        return invalid(format!("secret {name} has the unknown format {}", secret.format));
    };
    if secret.sops_file.is_empty() {
        return invalid(format!("secret {name} has no sopsFile"));
    }
    Ok(Planned { entry, key: secret.key.clone(), file: PathBuf::from(&secret.sops_file), format })
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
                secret.entry.name,
                secret.file.display(),
                secret.format.name(),
                first.format.name(),
                first.entry.name
            ));
        }
    }
    Ok(())
}

fn names_fit(plan: &Plan) -> Result<(), Error> {
    let mut names: BTreeMap<&Path, &str> = BTreeMap::new();
    for entry in plan.entries() {
        if let Some(other) = names.insert(&entry.below, &entry.name) {
            return invalid(format!(
                "two files of a generation have one name: {other} and {}, which is {}",
                entry.name,
                entry.below.display()
            ));
        }
    }
    for entry in plan.entries() {
        for directory in entry.below.ancestors().skip(1) {
            if let Some(other) = names.get(directory) {
                return invalid(format!("{} needs a directory where secret {other} is a file", entry.name));
            }
        }
    }
    Ok(())
}

fn links_differ(plan: &Plan) -> Result<(), Error> {
    let mut links = BTreeSet::new();
    for entry in plan.entries() {
        if let Some(link) = &entry.link
            && !links.insert(link)
        {
            return invalid(format!("{} is the path of two secrets or templates", link.display()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::manifest::Template;
    use super::super::{Accounts, Owner};
    use super::*;

    #[test]
    fn owners_are_taken_over_by_name() {
        let secret = |name: &str, owner: &str| Secret {
            name: name.into(),
            key: name.into(),
            path: format!("/run/secrets/{name}"),
            sops_file: "/file".into(),
            mode: "0400".into(),
            owner: Some(owner.into()),
            group: Some("late".into()),
            ..Secret::default()
        };
        let template = Template {
            name: "t".into(),
            content: "text".into(),
            path: "/run/secrets/rendered/t".into(),
            mode: "0400".into(),
            owner: Some("late".into()),
            ..Template::default()
        };
        let manifest = Manifest {
            secrets: vec![secret("a", "late"), secret("b", "root")],
            templates: vec![template],
            secrets_mount_point: "/run/secrets.d".into(),
            symlink_path: "/run/secrets".into(),
            age_ssh_key_paths: vec!["/key".into()],
            placeholder_by_secret_name: ["a", "b"].map(|name| (name.into(), format!("<{name}>"))).into(),
            ..Manifest::default()
        };
        let early = Options { ignore_passwd: true, ..Options::default() };
        let mut first = plan(&manifest, &early).expect("nobody is looked up");
        let accounts =
            Accounts::parse("root:x:0:0::/:/bin/sh\nlate:x:7:8::/:/bin/sh\n", "late:x:8:\nkeys:x:96:\n");
        let then = plan(&manifest, &Options { accounts, ..Options::default() }).expect("all are there");
        first.take_owners(&then);
        let owners: Vec<Owner> = first.secrets.iter().map(|secret| secret.entry.owner).collect();
        assert_eq!(owners, [Owner { uid: 7, gid: 8 }, Owner { uid: 0, gid: 8 }]);
        assert_eq!(first.templates[0].entry.owner, Owner { uid: 7, gid: 0 });
        assert_eq!(first.keys_gid, 96);
    }
}
