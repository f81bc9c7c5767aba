//! Arguments of `civm git …`.

use clap::{Args, Subcommand};

/// Options of every git command.
#[derive(Args, Clone, Debug)]
pub struct Git {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What can be set up in git.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Let git merge sops files by value, and show their plaintext in diffs
    Install(Install),
    /// Remove what install has set up
    Uninstall(Uninstall),
}

/// `civm git install`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Two things are set up. git's configuration gets civm as a merge driver and for diffs. .gitattributes says which files
civm is for: patterns made from the path_regex of the rules in .sops.yaml, and .sops.yaml itself. Commit
.gitattributes; run this again after the rules have changed. Other lines of both stay as they are.

A file that matches a pattern but is not a sops file is merged and shown by git as before (git does not tell a merge
driver about -X ours and -X theirs). Where civm is not installed, git goes on without it.

After a conflict the file holds both versions, encrypted, between git's markers. No program decrypts it until
`civm secrets merge FILE` has resolved the conflict.

Diffs show plaintext to whoever has an identity. It is not stored anywhere.")]
pub struct Install {
    /// Set it up for all repositories of this user, not only for this one
    #[arg(long)]
    pub global: bool,
    /// Check the files before each commit with a pre-commit hook, unless there is one already
    #[arg(long)]
    pub hooks: bool,
    /// Change nothing; exit with 1 if something is missing
    #[arg(long)]
    pub check: bool,
}

/// `civm git uninstall`.
#[derive(Args, Clone, Debug)]
pub struct Uninstall {
    /// Remove it from the configuration of this user, not of this repository
    #[arg(long)]
    pub global: bool,
}
