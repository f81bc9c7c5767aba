//! The command line: argument types, help texts and value parsers. Nothing here does any work.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};

pub mod builder;
pub mod console;
pub mod doctor;
pub mod gc;
pub mod git;
pub mod image;
pub mod init;
pub mod install_secrets;
pub mod instance;
pub mod keys;
pub mod links;
pub mod ls;
pub mod remote;
pub mod secrets;
pub mod secrets_git;
pub mod up;
pub mod values;

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
    /// Install the secrets of a sops-nix manifest on this machine
    InstallSecrets(install_secrets::InstallSecrets),
    /// Start an instance of a host: decrypt its ssh key, stage it, boot, and wait until the guest is ready
    Up(up::Up),
    /// Stop instances: ask the guest to power off, then QEMU to quit, then kill it; leave nothing behind
    #[command(visible_alias = "stop")]
    Down(instance::Down),
    /// Stop an instance, if it runs, and start it with the same disk and ports; changes to its host.yaml and secrets take effect
    Restart(up::Restart),
    /// Bring a running instance in line with its host.yaml, files and secrets, without a restart
    Apply(instance::Apply),
    /// Remove instances: their disks and everything civm keeps of them
    Rm(instance::Rm),
    /// List your instances, and this project's hosts that have none
    #[command(visible_aliases = ["list", "ps"])]
    Ls(ls::Ls),
    /// Show how an instance is
    Status(instance::Status),
    /// Print everything that civm knows of an instance, as JSON: paths, ports, processes, QEMU's arguments
    Inspect(instance::Inspect),
    /// Wait until an instance is ready, accepts a login, or has ended
    Wait(instance::Wait),
    /// Log in to a running instance, or run a command in a shell there; exits with the command's exit code
    Ssh(instance::Ssh),
    /// Run a program in a running instance, with its arguments as they are; exits with the program's exit code
    Exec(instance::Exec),
    /// Copy files and directories to or from a running instance
    Cp(instance::Cp),
    /// Print the logs of an instance
    Logs(instance::Logs),
    /// Attach to the serial console of a running instance
    Console(console::Console),
    /// Print the ports of this machine that lead into an instance
    Port(instance::Port),
    /// Print a configuration with which ssh, scp, rsync and editors reach instances
    SshConfig(instance::SshConfig),
    /// Make builders for Nix on other machines, and use them
    Builder(Box<builder::Builder>),
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
    /// Act as sops-install-secrets of sops-nix: same command line, same answers
    #[command(disable_help_flag = true, disable_version_flag = true)]
    SopsInstallSecrets(Persona),
    /// Create links named sops, ssh-to-age and sops-install-secrets; called through one of them, civm acts as that tool
    Links(links::Links),
    /// Lend this machine to a keeper of builders on another one
    #[command(hide = true)]
    Remote(remote::Remote),
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
