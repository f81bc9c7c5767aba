//! What a guest does with its secrets: a sops-nix manifest becomes `/run/secrets`.
//!
//! This is the only way by which a secret reaches `/run/secrets`. The order is that of sops-nix:
//! the manifest is checked, the files are looked at, a ramfs is mounted, the keys are imported, every
//! file is decrypted (once), a new generation is written beside the current one, and only then the
//! link is switched. Up to the switch a failure leaves the secrets that were there in place.
//!
//! Some things are done otherwise. The imported identities stay in memory: no `age-keys.txt` is left in
//! the mount point. A mode is the mode that was asked for, whatever the umask. A dry run writes no secret. And units are
//! restarted when their new secrets are there.
//!
//! The steps are types, each of which can be tried without the others:
//!
//! 1. [`Plan`]: what a manifest asks for, checked ([`validate::plan`]).
//! 2. [`Decrypted`]: the plan with the bytes of each secret.
//! 3. [`Difference`]: what of that is not as in the generation that is active.
//! 4. Activation: a new generation, the link, the links from elsewhere, the old generations' end.
//!
//! What opens a sops file is handed in as an [`Opener`]; [`native::Native`] does it with civm's own rooms.

pub mod accounts;
mod activate;
mod contents;
mod decrypt;
mod difference;
mod entry;
pub mod error;
mod generation;
mod keys;
mod links;
mod log;
pub mod manifest;
mod mount;
pub mod native;
pub mod opener;
mod options;
mod partial;
mod template;
mod units;
pub mod validate;
mod write;

pub use accounts::Accounts;
pub use decrypt::Decrypted;
pub use difference::{Changes, Difference};
pub use entry::{Entry, Owner};
pub use error::Error;
pub use log::Log;
pub use manifest::Manifest;
pub use native::Native;
pub use opener::{Imported, Opener};
pub use options::Options;
pub use partial::LeftOut;
pub use units::Units;
pub use validate::Plan;

use crate::sops::tree::Tree;
use crate::store::Format;

/// How far a manifest is checked without installing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The manifest alone.
    Manifest,
    /// Also the encrypted files that it names, without a key.
    Files,
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The number of the new generation; none where nothing was written.
    pub generation: Option<u64>,
    /// What the generation that was active before had otherwise.
    pub difference: Difference,
    /// Names of the secrets that are installed, in the manifest's order.
    pub installed: Vec<String>,
    /// Names of the templates that are rendered, in the manifest's order.
    pub rendered: Vec<String>,
    /// The recipients of the identities that were imported from ssh keys.
    pub recipients: Vec<String>,
    /// What could not be installed, where the rest was.
    pub left_out: Vec<LeftOut>,
}

/// Whether a YAML or JSON file of secrets, read without a key, has a value that can be installed under a key with `/` between
/// levels. The installation looks in the same way; here it can be known before a guest is started.
///
/// # Errors
/// Why it could not be installed.
pub fn check_key(tree: &Tree, key: &str, format: Format) -> Result<(), String> {
    contents::check(tree, key, format)
}

/// Checks a manifest without a key; nothing is written and nobody's account is looked up.
///
/// # Errors
/// The first thing that is wrong in the manifest or in a file that it names.
pub fn check<O: Opener>(manifest: &Manifest, options: &Options, how: Check, opener: &O) -> Result<(), Error> {
    let mut options = Options { ignore_passwd: true, partial: false, ..options.clone() };
    // Where a manifest is built, nobody's runtime directory is there.
    options.runtime_dir.get_or_insert_with(|| "/run/user".into());
    let mut plan = validate::plan(manifest, &options)?;
    if how == Check::Files {
        contents::read(&mut plan, opener)?;
    }
    Ok(())
}

/// Installs the secrets of a manifest.
///
/// # Errors
/// The first thing that is wrong: in the manifest, in a file it names, with the keys, or on the way to the
/// new generation. The link still leads to the old generation then, unless the error speaks of a link, of units or of
/// a generation that could not be removed.
pub fn run<O: Opener>(
    manifest: &Manifest,
    options: &Options,
    opener: &O,
    log: &mut Log<'_>,
) -> Result<Report, Error> {
    open(manifest, options, opener, log)?.install(manifest, options, log)
}

/// Secrets that are decrypted, and not installed yet.
pub struct Opened {
    decrypted: Decrypted,
    recipients: Vec<String>,
}

/// The first half of [`run`]: decrypts what a manifest names. After a dry one, the secrets can still be installed, when
/// their owners are there ([`Opened::assign`]).
///
/// # Errors
/// As those of [`run`].
pub fn open<O: Opener>(
    manifest: &Manifest,
    options: &Options,
    opener: &O,
    log: &mut Log<'_>,
) -> Result<Opened, Error> {
    let mut plan = validate::plan(manifest, options)?;
    let (files, without) = contents::read(&mut plan, opener)?;
    if !options.dry_run {
        mount::prepare(&plan)?;
    }
    let named = keys::import(manifest, opener, log)?;
    let nothing_named = named.identities.is_empty();
    let keys = opener.keys(named.identities);
    let decrypted = Decrypted::of(plan, files, without, &keys, opener).inspect_err(|_| {
        if nothing_named {
            log.note("the manifest names no age key that could be used");
        }
    })?;
    Ok(Opened { decrypted, recipients: named.recipients })
}

impl Opened {
    /// Has them owned by the accounts that there are by now.
    ///
    /// # Errors
    /// One that the manifest names is not there.
    pub fn assign(&mut self, manifest: &Manifest, options: &Options) -> Result<(), Error> {
        self.decrypted.plan.take_owners(&validate::plan(manifest, options)?);
        Ok(())
    }

    /// The second half of [`run`]: makes them a generation, and switches to it.
    ///
    /// # Errors
    /// As those of [`run`].
    pub fn install(self, manifest: &Manifest, options: &Options, log: &mut Log<'_>) -> Result<Report, Error> {
        let Self { decrypted, recipients } = self;
        let plan = &decrypted.plan;
        if !options.dry_run {
            mount::prepare(plan)?;
        }
        let difference = Difference::to(&decrypted)?;
        // sops-nix tells nobody of changes in user mode, nor of the first generation.
        let tells = !plan.user_mode && !difference.first;
        if tells {
            if manifest.logging.secret_changes {
                log.changes(&difference, options.dry_run);
            }
            options.units.list(&difference, options.dry_run, log)?;
        }
        let installed = plan.secrets.iter().map(|secret| secret.entry.name.clone()).collect();
        let rendered = plan.templates.iter().map(|template| template.entry.name.clone()).collect();
        let left_out = plan.partial.left_out.clone();
        let mut report = Report { generation: None, difference, installed, rendered, recipients, left_out };
        if !options.dry_run {
            let kept = options.keep_alike && activate::keep(&decrypted, &report.difference)?;
            if !kept {
                report.generation = Some(activate::activate(&decrypted)?);
            }
            keys::remove_copy(plan, manifest)?;
            if tells {
                options.units.order(&report.difference, log)?;
            }
        }
        Ok(report)
    }
}

#[cfg(test)]
mod tests;
