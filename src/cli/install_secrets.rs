//! `civm install-secrets`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

/// `civm install-secrets MANIFEST`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The manifest is the JSON that sops-nix writes (manifest.json). Files are decrypted with the keys that it names and with \
the identities that are found where sops looks for them. Until the link to the new secrets is switched, the old ones \
stay as they are.")]
pub struct InstallSecrets {
    /// The manifest
    #[arg(value_hint = ValueHint::FilePath)]
    pub manifest: PathBuf,
    /// Only check: the manifest alone, or also the encrypted files that it names (the default). Needs no key
    #[arg(long, value_enum, value_name = "WHAT", num_args = 0..=1, default_missing_value = "files", require_equals = true)]
    pub check: Option<Check>,
    /// Only print what would change
    #[arg(long, conflicts_with = "check")]
    pub dry_run: bool,
    /// Install what can be installed; a secret that cannot keeps its old value. Exits with 1 if something was left out
    #[arg(long, conflicts_with = "check")]
    pub partial: bool,
    /// Do not look up users and groups; everything belongs to root
    #[arg(long)]
    pub ignore_passwd: bool,
}

/// What `--check` looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Check {
    /// The manifest alone
    Manifest,
    /// Also the files that it names
    Files,
}
