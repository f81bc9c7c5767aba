//! The command line's types: names, help and value parsers, no work.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};

pub mod console;
pub mod down;
pub mod git;
pub mod init;
pub mod keys;
pub mod links;
pub mod ls;
pub mod secrets;
pub mod secrets_git;
pub mod ssh;
pub mod up;

/// Secrets in sops files, and virtual machines that boot with them.
#[derive(Debug, Parser)]
#[command(name = "civm", version, about, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Args, Clone, Debug, Default)]
pub struct Global {
    /// The project: the directory with hosts/ and .sops.yaml (default: $CIVM_PROJECT, else found upwards
    /// from here)
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub project: Option<PathBuf>,
    /// Only errors and what was asked for
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

/// The command line of another tool, as it stands.
#[derive(Args, Clone, Debug)]
pub struct Persona {
    /// The tool's own arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    pub args: Vec<OsString>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a project: .sops.yaml with you as its first reader, and hosts/
    Init(init::Init),
    /// ssh and age keys
    Keys(keys::Keys),
    /// Secrets in sops files
    Secrets(Box<secrets::Secrets>),
    /// git set up for sops files
    Git(git::Git),
    /// Stop a host: ask its guest, then QEMU, then the kernel; make sure that nothing is left
    #[command(visible_alias = "stop")]
    Down(down::Down),
    /// List running hosts, and those that are defined and do not run
    #[command(visible_alias = "list")]
    Ls(ls::Ls),
    /// Log in to a running host, or run a command there; the exit code is the command's
    Ssh(ssh::Ssh),
    /// Attach to the serial console of a running host
    Console(console::Console),
    /// Start a host: decrypt its ssh key, stage it, boot, wait until it is ready
    Up(up::Up),
    /// Be sops: take its command line and answer as it does
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Sops(Persona),
    /// Be ssh-to-age: take its command line and answer as it does
    #[command(disable_help_flag = true, disable_version_flag = true)]
    SshToAge(Persona),
    /// Make links under the names of sops and ssh-to-age, by which civm is called as these tools
    Links(links::Links),
    /// Print the JSON schema of host.yaml, for editors
    Schema,
    /// Print a script that completes civm's command line in a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write a man page for civm and each of its commands into a directory
    Man {
        /// Where to; made where it does not exist
        #[arg(value_hint = ValueHint::DirPath)]
        dir: PathBuf,
    },
}
