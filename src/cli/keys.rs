//! `civm keys …`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

pub use members::{Add, Rm};

mod members;

/// Options of every keys command.
#[derive(Args, Clone, Debug)]
pub struct Keys {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done with keys.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Print the age recipient of an ssh ed25519 key, or with --private its age identity
    FromSsh(FromSsh),
    /// Put the age identity of your ssh key, or a post-quantum one, where sops looks for it
    Init(Init),
    /// Give a new host its ssh key, its place in .sops.yaml, its secrets file and a host.yaml
    NewHost(NewHost),
    /// Give a key a name in .sops.yaml and let it read the files of rules
    Add(Add),
    /// Take a key out of .sops.yaml
    #[command(visible_alias = "remove")]
    Rm(Rm),
}

/// `civm keys from-ssh`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Public keys are read from authorized_keys, known_hosts and ssh-keyscan's output alike, a recipient for each
ed25519 key; keys of other types are skipped.

    ssh-keyscan host | civm keys from-ssh
    civm keys from-ssh --private -i ~/.ssh/id_ed25519 -o identity.txt

A passphrase is taken from SSH_TO_AGE_PASSPHRASE, else asked for on the terminal.")]
pub struct FromSsh {
    /// The key, - for stdin (default: stdin where something is piped in, else ~/.ssh/id_ed25519.pub, with
    /// --private or without that file ~/.ssh/id_ed25519)
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub input: Option<PathBuf>,
    /// Convert a private key to an age identity
    #[arg(long)]
    pub private: bool,
    /// Write here instead of stdout; an identity gets mode 0600
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Replace the output file if there is one
    #[arg(long, requires = "output")]
    pub force: bool,
    /// Read the passphrase from stdin
    #[arg(long, requires = "private")]
    pub passphrase_stdin: bool,
}

/// `civm keys init`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The identity is added to sops/age/keys.txt in your configuration directory; what is in that file stays. civm
itself opens files with the ssh key as it is: this is for sops and age.

No quantum computer is known to break what is encrypted to post-quantum recipients alone; others have to use
sops 3.12 or later, or age 1.3 or later, for them.

A passphrase is taken from SSH_TO_AGE_PASSPHRASE, else asked for on the terminal.")]
pub struct Init {
    /// Your ssh private key (default: ~/.ssh/id_ed25519)
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub input: Option<PathBuf>,
    /// In place of your ssh key's identity, take a new post-quantum one, made where there is none yet
    #[arg(long, conflicts_with = "input")]
    pub post_quantum: bool,
}

/// `civm keys new-host`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The new secrets file can be read by the host itself and by the recipients that all rules have in common; where there
are none, by you; and by those that --recipient names. .sops.yaml is changed only by what is added to it.")]
pub struct NewHost {
    /// Its name: a directory of hosts/, and the guest's host name
    pub name: String,
    /// One more reader of its secrets; may be repeated
    #[arg(short, long, value_name = "RECIPIENT")]
    pub recipient: Vec<String>,
}
