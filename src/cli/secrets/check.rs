//! `civm secrets check`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// `civm secrets check`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Needs no key and asks nothing. Looked at are the creation rules, whether every sops file has the recipients, groups
and selector of its rule, whether every value is encrypted that is to be, whether the metadata is well formed, and
whether a file that a rule is for is not encrypted at all. Where an identity is at hand, MACs are verified.

Files that are no sops files and that no rule is for are passed over, so that a hook can name all files of a commit.
A rule that matches .sops.yaml itself, as `.*` does, flags no plaintext. Where .sops.yaml is named or staged, every
sops file is looked at: the change may put any of them behind.

    civm secrets check --staged     # in .git/hooks/pre-commit
    civm secrets check              # in CI

Exit code 1 where something is found.")]
pub struct Check {
    /// Only these files and directories
    #[arg(value_hint = ValueHint::AnyPath)]
    pub paths: Vec<PathBuf>,
    /// What is staged for the next commit, as it is in git's index, instead of the files
    #[arg(long)]
    pub staged: bool,
    /// Also find fault with sops files that no rule is for
    #[arg(long)]
    pub strict: bool,
    /// One JSON object with every finding
    #[arg(long)]
    pub json: bool,
}
