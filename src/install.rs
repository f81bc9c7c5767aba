//! What a guest does with its secrets: a sops-nix manifest becomes `/run/secrets`.
//!
//! This is the only way by which a secret reaches `/run/secrets`. The order is that of sops-nix:
//! the manifest is checked, the files are looked at, a ramfs is mounted, the keys are imported, every
//! file is decrypted (once), a new generation is written beside the current one, and only then the
//! link is switched. Up to the switch a failure leaves the secrets that were there in place.
//!
//! Two things are done otherwise. The imported identities stay in memory: no `age-keys.txt` is left in
//! the mount point. And a mode is the mode that was asked for, whatever the umask.
//!
//! The steps are types, each of which can be tried without the others:
//!
//! 1. [`Plan`]: what a manifest asks for, checked ([`validate::plan`]).
//! 2. [`Decrypted`]: the plan with the bytes of each secret.
//! 3. [`Difference`]: what of that is not as in the generation that is active.
//! 4. Activation: a new generation, the link, the links from elsewhere, the old generations' end.
//!
//! What opens a sops file is handed in as an [`Opener`]; [`native::Native`] does it with civm's own rooms.

use std::io::Write;
use std::path::PathBuf;

pub mod accounts;
mod activate;
mod contents;
mod decrypt;
mod difference;
pub mod error;
mod generation;
mod keys;
mod links;
pub mod manifest;
mod mount;
pub mod native;
pub mod opener;
mod paths;
pub mod validate;
mod write;

pub use accounts::Accounts;
pub use decrypt::Decrypted;
pub use difference::Difference;
pub use error::Error;
pub use manifest::Manifest;
pub use native::Native;
pub use opener::{Imported, Opener};
pub use validate::Plan;

use crate::sops::tree::Tree;
use crate::store::Format;

/// What a run needs to know besides the manifest.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The name that log lines begin with.
    pub program: String,
    /// Users and groups of the machine.
    pub accounts: Accounts,
    /// Look no user or group up: everything belongs to root (secrets that users are made from).
    pub ignore_passwd: bool,
    /// What `%r` stands for in user mode: `$XDG_RUNTIME_DIR`, where it is set.
    pub runtime_dir: Option<PathBuf>,
    /// Only find the difference: nothing is mounted or written.
    pub dry_run: bool,
    /// Leave the active generation where the new one would not differ. sops-nix makes a new one whenever it runs.
    pub keep_alike: bool,
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The number of the new generation; none where nothing was written.
    pub generation: Option<u64>,
    /// What the generation that was active before had otherwise.
    pub difference: Difference,
    /// Names of the manifest's secrets, in its order.
    pub installed: Vec<String>,
    /// The age recipients of the identities that were imported from ssh keys.
    pub recipients: Vec<String>,
}

/// Whether a YAML file of secrets, read without a key, has a value that can be installed under a key with `/` between
/// levels. The installation looks in the same way; here it can be known before a guest is started.
///
/// # Errors
/// Why it could not be installed.
pub fn check_key(tree: &Tree, key: &str) -> Result<(), String> {
    contents::check(tree, key, Format::Yaml)
}

/// Installs the secrets of a manifest.
///
/// Log lines go to `log`; a log that cannot be written to stops nothing.
///
/// # Errors
/// The first thing that is wrong: in the manifest, in a file it names, with the keys, or on the way to the
/// new generation. The link still leads to the old generation then, unless the error speaks of a link or of
/// a generation that could not be removed.
pub fn run<O: Opener>(
    manifest: &Manifest,
    options: &Options,
    opener: &O,
    log: &mut dyn Write,
) -> Result<Report, Error> {
    let plan = validate::plan(manifest, options)?;
    let files = contents::read(&plan, opener)?;
    if !options.dry_run {
        mount::prepare(&plan)?;
    }
    let keys = keys::import(manifest, opener, &options.program, log)?;
    let decrypted = Decrypted::of(plan, files, &keys.identities, opener).inspect_err(|_| {
        if keys.identities.is_empty() {
            keys::say(log, &format!("{}: the manifest names no age key that could be used", options.program));
        }
    })?;
    let difference = Difference::to(&decrypted)?;
    let generation = if options.dry_run || (options.keep_alike && activate::keep(&decrypted, &difference)?) {
        None
    } else {
        Some(activate::activate(&decrypted)?)
    };
    let installed = decrypted.plan.secrets.iter().map(|secret| secret.name.clone()).collect();
    Ok(Report { generation, difference, installed, recipients: keys.recipients })
}

#[cfg(test)]
mod tests;
