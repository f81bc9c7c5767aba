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
    /// Make git merge sops files value by value, and show their plaintext in diffs
    Install(Install),
    /// Undo what `install` set up
    Uninstall(Uninstall),
}

/// `civm git install`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
This sets up two things. In git's configuration, civm becomes a merge driver and a diff filter. In .gitattributes, patterns \
derived from the path_regex of each rule in .sops.yaml select the files that civm handles, and .sops.yaml itself. Commit \
.gitattributes, and run this again when the rules change. All other lines of both files are kept.

A file that matches a pattern but is not a sops file is merged and shown by git as usual (but git does not tell a merge \
driver about -X ours and -X theirs). Where civm is not installed, git works as if none of this had been set up.

After a conflict, the file holds both versions, encrypted, between git's markers. No tool decrypts it until \
`civm secrets merge FILE` has resolved the conflict.

Diffs show plaintext to anyone who has an identity for the file. The plaintext is not stored anywhere.")]
pub struct Install {
    /// Set it up in your global configuration, for all your repositories, instead of only for this one
    #[arg(long)]
    pub global: bool,
    /// Also install a pre-commit hook that checks the files, unless there is a hook already
    #[arg(long)]
    pub hooks: bool,
    /// Change nothing; exit with 1 if something is missing
    #[arg(long)]
    pub check: bool,
}

/// `civm git uninstall`.
#[derive(Args, Clone, Debug)]
pub struct Uninstall {
    /// Remove it from your global configuration instead of from this repository's
    #[arg(long)]
    pub global: bool,
}
