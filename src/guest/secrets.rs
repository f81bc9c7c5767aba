//! The secrets of the layer: its manifest installed by the one code path there is for it.

use std::fs;
use std::io;
use std::path::Path;

use super::{Error, events, share};
use crate::host::layer::{Layer, MANIFEST};
use crate::install::accounts::Accounts;
use crate::install::manifest::Manifest;
use crate::install::native::Native;
use crate::install::{self, Options};
use crate::vm::agent::Event;

/// The name that the journal's lines begin with.
const PROGRAM: &str = "civm";

/// Installs the manifest of the share where the layer has one. Its log goes to the journal.
pub(super) fn install(layer: &Layer) -> Result<(), Error> {
    if !layer.secrets {
        return Ok(());
    }
    let path = share::in_share(MANIFEST);
    let failed = |error: install::error::Error| Error::content(&path, error.to_string());
    let text = fs::read(&path).map_err(Error::io("read", &path))?;
    let manifest = Manifest::parse(&text).map_err(failed)?;
    let accounts = Accounts::read(Path::new("/")).map_err(failed)?;
    let options = Options { program: PROGRAM.to_owned(), accounts, ..Options::default() };
    let report = install::run(&manifest, &options, &Native, &mut io::stdout()).map_err(failed)?;
    let recipient = report.recipients.into_iter().next().unwrap_or_default();
    events::send(&Event::SecretsInstalled { count: report.installed.len(), recipient });
    Ok(())
}
