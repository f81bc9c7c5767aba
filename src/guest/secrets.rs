//! The secrets of the layer: its manifest installed by the one code path there is for it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::notes::Notes;
use super::state::{self, State};
use super::{Error, files, share};
use crate::host::generated::SECRETS;
use crate::host::layer::{Layer, MANIFEST};
use crate::install::accounts::Accounts;
use crate::install::manifest::Manifest;
use crate::install::native::Native;
use crate::install::{self, Changes, Log, Options};
use crate::vm::agent::answer::{How, What};

/// The name that the journal's lines begin with.
const PROGRAM: &str = "civm";

/// The manifest that lies in the share, where the layer has secrets. One that has none any more stands for itself: the
/// secrets that are there go.
pub(super) fn manifest(layer: &Layer) -> Result<Option<Manifest>, Error> {
    if !layer.secrets {
        return Ok(fs::read_link(SECRETS).is_ok().then(crate::host::compose::no_secrets));
    }
    let path = share::in_share(MANIFEST);
    let text = fs::read(&path).map_err(Error::io("read", &path))?;
    Manifest::parse(&text).map(Some).map_err(|error| Error::content(&path, error.to_string()))
}

/// Secrets that are decrypted, and wait for their owners.
pub(super) struct Opened {
    manifest: Manifest,
    secrets: install::Opened,
}

impl Opened {
    /// Whether everybody is there who is to own one.
    pub(super) fn has_owners(&self) -> Result<bool, Error> {
        let accounts = Accounts::read(Path::new("/")).map_err(failed)?;
        Ok(have_owners(&self.manifest, &accounts))
    }
}

fn have_owners(manifest: &Manifest, accounts: &Accounts) -> bool {
    let secrets = manifest.secrets.iter().map(|secret| (&secret.owner, &secret.group));
    let templates = manifest.templates.iter().map(|template| (&template.owner, &template.group));
    secrets.chain(templates).all(|(owner, group)| {
        owner.as_ref().is_none_or(|name| accounts.user(name).is_some())
            && group.as_ref().is_none_or(|name| accounts.group(name).is_some())
    })
}

/// Decrypts the secrets of the share, where the layer has some, on the way: whoever is to own them may not be there yet.
pub(super) fn open(layer: &Layer) -> Result<Option<Opened>, Error> {
    let Some(manifest) = manifest(layer)? else { return Ok(None) };
    let options = Options { ignore_passwd: true, dry_run: true, ..Options::default() };
    let secrets = install::open(
        &manifest,
        &options,
        &Native::default(),
        &mut log(&mut io::stdout(), &mut io::stdout()),
    );
    Ok(Some(Opened { manifest, secrets: secrets.map_err(failed)? }))
}

/// Installs them: how many secrets, and the recipient that the host key stands for. Its log goes to the journal.
pub(super) fn apply(
    layer: &Layer,
    opened: Option<Opened>,
    dry_run: bool,
    notes: &mut Notes,
) -> Result<Option<(usize, String)>, Error> {
    let Some(Opened { manifest, mut secrets }) = opened else { return Ok(None) };
    let mut accounts = Accounts::read(Path::new("/")).map_err(failed)?;
    if dry_run {
        // They are made before their secrets are.
        let users = layer.users.iter().map(|user| user.name.as_str());
        let groups = layer.users.iter().flat_map(|user| user.groups.iter().chain([&user.name]));
        accounts = accounts.with_missing(users, groups.chain(&layer.groups).map(String::as_str));
    }
    let options = Options { accounts, dry_run, keep_alike: true, ..Options::default() };
    secrets.assign(&manifest, &options).map_err(failed)?;
    let report = secrets.install(&manifest, &options, &mut log(&mut io::stdout(), &mut io::stdout()));
    let report = report.map_err(failed)?;
    note(report.difference.secrets, notes, str::to_owned);
    note(report.difference.templates, notes, rendered);
    if !dry_run {
        let dir = Path::new(state::DIR);
        let mut state = State::load(dir)?;
        remember_links(&manifest, &mut state)?;
        state.save(dir)?;
    }
    let recipient = report.recipients.into_iter().next().unwrap_or_default();
    Ok(layer.secrets.then_some((report.installed.len(), recipient)))
}

fn failed(error: install::error::Error) -> Error {
    Error::content(share::in_share(MANIFEST), error.to_string())
}

fn log<'a>(changes: &'a mut io::Stdout, messages: &'a mut io::Stdout) -> Log<'a> {
    Log { program: PROGRAM, changes, messages }
}

/// How a rendered template is called among the secrets: by its path.
pub(super) fn rendered(name: &str) -> String {
    format!("rendered/{name}")
}

fn note(changes: Changes, notes: &mut Notes, named: impl Fn(&str) -> String) {
    let lists = [
        (How::Added, changes.added),
        (How::Changed, changes.modified),
        (How::Changed, changes.reassigned),
        (How::Removed, changes.removed),
    ];
    for (how, names) in lists {
        names.iter().for_each(|name| notes.note(What::Secret, how, named(name)));
    }
}

/// Removes the links to secrets that an earlier manifest had elsewhere and this one has not.
fn remember_links(manifest: &Manifest, state: &mut State) -> Result<(), Error> {
    let below = Path::new(SECRETS);
    let templates = manifest.templates.iter().map(|template| PathBuf::from(&template.path));
    let paths = manifest.secrets.iter().map(|secret| PathBuf::from(&secret.path)).chain(templates);
    let wanted: BTreeSet<PathBuf> = paths.filter(|path| !path.starts_with(below)).collect();
    for path in state.links.difference(&wanted) {
        // What was put in its place meanwhile is not ours.
        if fs::read_link(path).is_ok_and(|to| to.starts_with(below)) {
            files::remove(path)?;
        }
    }
    state.links = wanted;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::install::manifest::{Secret, Template};

    #[test]
    fn the_owners_of_secrets_and_templates_have_to_be_there() {
        let accounts = Accounts::parse("root:x:0:0::/:/bin/sh\n", "root:x:0:\nkeys:x:96:\n");
        let named = |name: &str| (name != "-").then(|| name.to_owned());
        let with = |owner, group| Manifest {
            secrets: vec![Secret { owner: named(owner), group: named(group), ..Secret::default() }],
            ..Manifest::default()
        };
        assert!(have_owners(&with("-", "-"), &accounts) && have_owners(&with("root", "keys"), &accounts));
        assert!(
            !have_owners(&with("postgres", "-"), &accounts)
                && !have_owners(&with("-", "ssl-cert"), &accounts)
        );
        let template = Template { owner: named("postgres"), ..Template::default() };
        assert!(!have_owners(&Manifest { templates: vec![template], ..Manifest::default() }, &accounts));
    }

    #[test]
    fn links_to_secrets_go_with_them() {
        let dir = tempfile::tempdir().expect("tempdir");
        let at = |name: &str| dir.path().join(name);
        let manifest = |paths: &[PathBuf]| {
            let secret = |path: &PathBuf| Secret { path: path.display().to_string(), ..Secret::default() };
            Manifest { secrets: paths.iter().map(secret).collect(), ..Manifest::default() }
        };
        let mut state = State::default();
        for name in ["a", "b"] {
            symlink("/run/secrets/x", at(name)).expect("link");
        }
        let all = [at("a"), at("b"), at("c"), PathBuf::from("/run/secrets/d")];
        remember_links(&manifest(&all), &mut state).expect("remembered");
        assert_eq!(state.links.len(), 3);
        fs::write(at("c"), "the guest's own").expect("write");
        remember_links(&manifest(&all[1..2]), &mut state).expect("remembered");
        assert!(at("a").symlink_metadata().is_err() && at("b").symlink_metadata().is_ok());
        assert!(at("c").exists());
    }
}
