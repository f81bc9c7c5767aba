//! The command line: argument types, help texts and value parsers. Nothing here does any work.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};

pub mod console;
pub mod doctor;
pub mod down;
pub mod gc;
pub mod git;
pub mod image;
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
    /// The project: the directory that holds hosts/ and .sops.yaml (default: $CIVM_PROJECT, else this directory or the
    /// nearest one above it)
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub project: Option<PathBuf>,
    /// Print only errors and the requested output
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print more detail
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

/// The command line of another tool, passed on unchanged.
#[derive(Args, Clone, Debug)]
pub struct Persona {
    /// The tool's own arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    pub args: Vec<OsString>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a project: hosts/, and a .sops.yaml with you as the first reader
    Init(init::Init),
    /// Manage ssh and age keys
    Keys(keys::Keys),
    /// Work with secrets in sops files
    Secrets(Box<secrets::Secrets>),
    /// Set up git for sops files
    Git(git::Git),
    /// Stop a host: ask the guest to power off, then QEMU to quit, then kill it; leave nothing behind
    #[command(visible_alias = "stop")]
    Down(down::Down),
    /// List the hosts that are running, and those that are defined but not running
    #[command(visible_alias = "list")]
    Ls(ls::Ls),
    /// Log in to a running host or run a command on it; exits with the command's exit code
    Ssh(ssh::Ssh),
    /// Attach to the serial console of a running host
    Console(console::Console),
    /// Start a host: decrypt its ssh key, stage it, boot, and wait until the guest is ready
    Up(up::Up),
    /// List, build and remove images
    Image(image::Image),
    /// Remove what nobody needs any more: logs and leftovers of dead instances, old images, unfinished builds
    Gc(gc::Gc),
    /// Check this machine and the project, and say what to do about what is wrong
    Doctor(doctor::Doctor),
    /// Act as sops: same command line, same answers
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Sops(Persona),
    /// Act as ssh-to-age: same command line, same answers
    #[command(disable_help_flag = true, disable_version_flag = true)]
    SshToAge(Persona),
    /// Create links named sops and ssh-to-age; called through one of them, civm acts as that tool
    Links(links::Links),
    /// Print the JSON schema of host.yaml, for editors
    Schema,
    /// Print a shell completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write a man page for civm and each of its commands into a directory
    Man {
        /// The directory to write to; created if it does not exist
        #[arg(value_hint = ValueHint::DirPath)]
        dir: PathBuf,
    },
}
