//! `civm git …`.

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
    /// Let git merge sops files by value and show their plaintext in differences
    Install(Install),
    /// Take out of git what install has put there
    Uninstall(Uninstall),
}

/// `civm git install`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Names civm in git's configuration as a merge driver and for differences, and the sops files of the repository in
.gitattributes, between two comments: commit that file, and run this again when there are new ones. All else in both
stays as it is. Where civm is missing, git goes on as it does without it.

Plaintext is shown in differences to whoever has an identity, and stored nowhere.")]
pub struct Install {
    /// Set it up for all repositories of this user, not for this one alone
    #[arg(long)]
    pub global: bool,
    /// Check the project's files before each commit, unless there is a pre-commit hook already
    #[arg(long)]
    pub hooks: bool,
    /// Change nothing, exit with 1 where something is missing
    #[arg(long)]
    pub check: bool,
}

/// `civm git uninstall`.
#[derive(Args, Clone, Debug)]
pub struct Uninstall {
    /// From the configuration of this user, not of this repository
    #[arg(long)]
    pub global: bool,
}
