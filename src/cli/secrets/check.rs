//! `civm secrets check`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// `civm secrets check`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Needs no key and asks nothing. It checks that the creation rules make sense; that every sops file has the recipients, key
groups and selector of its rule, well-formed metadata, and every value encrypted that should be; and that no file is in
plaintext that a rule wants encrypted. If an identity can be used without asking, MACs are verified too.

Other files are ignored, so that a hook can pass all files of a commit. A rule for all files, such as `.*`, or for all files
with an ending, such as `\\.ya?ml$`, reports plaintext only if the file name looks like one for secrets and is not one that
tools use, such as package.json or .github/. Files in which the rule would encrypt nothing are not reported.

A .sops.yaml further down governs the files below it. Files that a .civmignore names (in the syntax of .gitignore) are not
secrets of the project and are ignored. If a .sops.yaml is named or staged, all sops files are checked.

    civm secrets check --staged     # in .git/hooks/pre-commit
    civm secrets check              # in CI

Exit code 1 if something is wrong. Warnings, about things that may be intended, count only with --strict.")]
pub struct Check {
    /// Only these files and directories
    #[arg(value_hint = ValueHint::AnyPath)]
    pub paths: Vec<PathBuf>,
    /// Check what is staged for the next commit, as it is in git's index, instead of the files
    #[arg(long)]
    pub staged: bool,
    /// Also report sops files that no rule matches, and treat warnings as errors
    #[arg(long)]
    pub strict: bool,
    /// Print one JSON object with every finding
    #[arg(long)]
    pub json: bool,
}
