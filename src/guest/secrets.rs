//! The secrets of the layer: its manifest installed by the one code path there is for it.

use std::fs;
use std::io;
use std::path::Path;

use super::notes::Notes;
use super::{Error, share};
use crate::host::generated::SECRETS;
use crate::host::layer::{Layer, MANIFEST};
use crate::install::accounts::Accounts;
use crate::install::manifest::Manifest;
use crate::install::native::Native;
use crate::install::{self, Options};
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

/// Installs the manifest of the share where the layer has one: how many secrets, and the recipient that the host key
/// stands for. Its log goes to the journal.
pub(super) fn apply(
    layer: &Layer,
    dry_run: bool,
    notes: &mut Notes,
) -> Result<Option<(usize, String)>, Error> {
    let Some(manifest) = manifest(layer)? else { return Ok(None) };
    let path = share::in_share(MANIFEST);
    let failed = |error: install::error::Error| Error::content(&path, error.to_string());
    let mut accounts = Accounts::read(Path::new("/")).map_err(failed)?;
    if dry_run {
        // They are made before their secrets are.
        let users = layer.users.iter().map(|user| user.name.as_str());
        let groups = layer.users.iter().flat_map(|user| user.groups.iter().chain([&user.name]));
        accounts = accounts.with_missing(users, groups.chain(&layer.groups).map(String::as_str));
    }
    let options = Options { program: PROGRAM.to_owned(), accounts, dry_run, ..Options::default() };
    let report = install::run(&manifest, &options, &Native, &mut io::stdout()).map_err(failed)?;
    let difference = report.difference;
    let lists = [
        (How::Added, difference.added),
        (How::Changed, difference.changed),
        (How::Removed, difference.removed),
    ];
    for (how, names) in lists {
        names.into_iter().for_each(|name| notes.note(What::Secret, how, name));
    }
    let recipient = report.recipients.into_iter().next().unwrap_or_default();
    Ok(layer.secrets.then_some((report.installed.len(), recipient)))
}
