//! `civm secrets check`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// `civm secrets check`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
This needs no key and asks no questions. It checks that the creation rules make sense; that every sops file has the \
recipients, key groups and selector of its rule, has well-formed metadata, and has every value encrypted that should be; and \
that no file is in plaintext that must be encrypted according to a rule. If an identity can be used without asking for a \
passphrase, MACs are verified too.

Other files are ignored, so a hook can pass all files of a commit. A rule that matches every file, such as `.*`, or every file \
with an extension, such as `\\.ya?ml$`, reports a plaintext file only if its name suggests secrets and is not one that tools \
use, such as package.json or .github/. Files in which the rule would encrypt nothing are not reported.

A .sops.yaml in a subdirectory governs the files below it. Files listed in a .civmignore (same syntax as .gitignore) are \
not the project's own secrets and are ignored. If a .sops.yaml is given or staged, all sops files are checked.

    civm secrets check --staged     # in .git/hooks/pre-commit
    civm secrets check              # in CI

Exits with code 1 if something is wrong. Warnings, about things that may be intended, count only with --strict.")]
pub struct Check {
    /// Only these files and directories
    #[arg(value_hint = ValueHint::AnyPath)]
    pub paths: Vec<PathBuf>,
    /// Check what is staged in git's index for the next commit, instead of the working tree
    #[arg(long)]
    pub staged: bool,
    /// Also report sops files that match no rule, and treat warnings as errors
    #[arg(long)]
    pub strict: bool,
    /// Print a JSON object that lists every finding
    #[arg(long)]
    pub json: bool,
}
