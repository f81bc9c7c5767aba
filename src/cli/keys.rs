//! Arguments of `civm keys …`.

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
    /// Print the age recipient of an ssh ed25519 key, or its age identity with --private
    FromSsh(FromSsh),
    /// Save the age identity of your ssh key, or a post-quantum one, where sops looks for it
    Init(Init),
    /// Add a host: an ssh key, a rule in .sops.yaml, a secrets file and a host.yaml
    NewHost(NewHost),
    /// Add a named key to .sops.yaml and to its rules
    Add(Add),
    /// Remove a key from .sops.yaml
    #[command(visible_alias = "remove")]
    Rm(Rm),
}

/// `civm keys from-ssh`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Public keys are read in the format of authorized_keys, known_hosts or ssh-keyscan's output. Each ed25519 key yields a \
recipient; keys of other types are skipped.

    ssh-keyscan host | civm keys from-ssh
    civm keys from-ssh --private -i ~/.ssh/id_ed25519 -o identity.txt

The passphrase is taken from SSH_TO_AGE_PASSPHRASE; if that is not set, civm asks for it on the terminal.")]
pub struct FromSsh {
    /// The key, or - for stdin (default: stdin if something is piped in, else ~/.ssh/id_ed25519.pub; with --private, or
    /// if there is no such file, ~/.ssh/id_ed25519)
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub input: Option<PathBuf>,
    /// Convert a private key to an age identity
    #[arg(long)]
    pub private: bool,
    /// Write to this file instead of stdout; an identity is written with mode 0600
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Replace the output file if it exists
    #[arg(long, requires = "output")]
    pub force: bool,
    /// Read the passphrase from stdin
    #[arg(long, requires = "private")]
    pub passphrase_stdin: bool,
}

/// `civm keys init`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The identity is added to sops/age/keys.txt in your configuration directory; whatever the file already holds is kept. civm \
itself does not need this, because it can use the ssh key directly; sops and age do.

A file whose recipients are all post-quantum is meant to withstand quantum computers. Reading it takes civm, sops 3.12 \
or later, or age 1.3 or later.

The passphrase is taken from SSH_TO_AGE_PASSPHRASE; if that is not set, civm asks for it on the terminal.")]
pub struct Init {
    /// Your ssh private key (default: ~/.ssh/id_ed25519)
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub input: Option<PathBuf>,
    /// Save a post-quantum identity instead of your ssh key's; one is generated if the file has none
    #[arg(long, conflicts_with = "input")]
    pub post_quantum: bool,
}

/// `civm keys new-host`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The new secrets file can be read by the host itself, by the recipients that all rules have in common (by you, if there \
are none), and by those given with --recipient. The existing lines of .sops.yaml are not changed.")]
pub struct NewHost {
    /// The host's name: a directory in hosts/, and the guest's hostname
    pub name: String,
    /// An additional recipient of the host's secrets; may be repeated
    #[arg(short, long, value_name = "RECIPIENT")]
    pub recipient: Vec<String>,
}
