//! The verbs on instances that exist.

use std::ffi::OsString;

use clap::{Args, ValueEnum};

use super::values::{Endpoint, endpoint};

/// `civm down`.
#[derive(Args, Clone, Debug)]
pub struct Down {
    /// The instances
    #[arg(required_unless_present = "all", value_name = "INSTANCE")]
    pub instances: Vec<String>,
    /// Stop all of this project's instances
    #[arg(long, conflicts_with = "instances")]
    pub all: bool,
    /// How many seconds the guest may take to power off [default: 30; a `down` already in progress keeps its own timeout]
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
}

/// `civm rm`.
#[derive(Args, Clone, Debug)]
pub struct Rm {
    /// The instances
    #[arg(required = true, value_name = "INSTANCE")]
    pub instances: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Stop an instance that is running first
    #[arg(short, long)]
    pub force: bool,
}

/// `civm status` and `civm inspect`.
#[derive(Args, Clone, Debug)]
pub struct Status {
    /// The instance
    pub instance: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `civm inspect`.
#[derive(Args, Clone, Debug)]
pub struct Inspect {
    /// The instance
    pub instance: String,
}

/// `civm apply`.
#[derive(Args, Clone, Debug)]
pub struct Apply {
    /// The instance
    pub instance: String,
    /// Only print what would be changed
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `civm wait`.
#[derive(Args, Clone, Debug)]
pub struct Wait {
    /// The instance
    pub instance: String,
    /// What to wait for
    #[arg(long = "for", value_enum, default_value_t, value_name = "WHAT")]
    pub what: Awaited,
    /// For how many seconds at most [default: for ever]
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
}

/// What `civm wait` waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Awaited {
    /// The guest said that it is ready
    #[default]
    Ready,
    /// A login works
    Ssh,
    /// The instance is no longer running
    Ended,
}

/// `civm ssh`.
#[derive(Args, Clone, Debug)]
pub struct Ssh {
    /// The instance
    pub instance: String,
    /// The user to log in as; civm's own key is accepted only for root
    #[arg(short, long, value_name = "USER", default_value = "root")]
    pub login: String,
    /// Allocate a terminal for the command, like `ssh -t`
    #[arg(short, long)]
    pub tty: bool,
    /// A command for the guest's shell; put `--` before it if it begins with a hyphen
    #[arg(trailing_var_arg = true)]
    pub command: Vec<OsString>,
}

/// `civm exec`.
#[derive(Args, Clone, Debug)]
pub struct Exec {
    /// The instance
    pub instance: String,
    /// The user to run it as; civm's own key is accepted only for root
    #[arg(short, long, value_name = "USER", default_value = "root")]
    pub login: String,
    /// Allocate a terminal for the command
    #[arg(short, long)]
    pub tty: bool,
    /// The program and its arguments, passed on word by word
    #[arg(trailing_var_arg = true, required = true)]
    pub command: Vec<OsString>,
}

/// `civm cp`.
#[derive(Args, Clone, Debug)]
pub struct Cp {
    /// What to copy, then where to: paths of this machine, or INSTANCE:PATH; directories are copied whole
    #[arg(required = true, num_args = 2.., value_name = "PATH", value_parser = endpoint)]
    pub paths: Vec<Endpoint>,
    /// The user to log in as; civm's own key is accepted only for root
    #[arg(short, long, value_name = "USER", default_value = "root")]
    pub login: String,
}

/// `civm logs`.
#[derive(Args, Clone, Debug)]
pub struct Logs {
    /// The instance
    pub instance: String,
    /// Which log
    #[arg(long, value_enum, default_value_t)]
    pub log: Log,
    /// Print what is added from now on as well, until the instance ends
    #[arg(short, long)]
    pub follow: bool,
    /// The boot: 0 is the last one, 1 the one before it
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub boot: u32,
}

/// A log of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Log {
    /// What the serial console showed until the guest was ready
    #[default]
    Console,
    /// QEMU's own messages
    Qemu,
    /// What happened to the instance, as JSON lines
    Events,
}

/// `civm ssh-config`.
#[derive(Args, Clone, Debug)]
pub struct SshConfig {
    /// The instances (default: those of this project that are running)
    #[arg(value_name = "INSTANCE")]
    pub instances: Vec<String>,
    /// The user to log in as; civm's own key is accepted only for root
    #[arg(short, long, value_name = "USER", default_value = "root")]
    pub login: String,
}

/// `civm port`.
#[derive(Args, Clone, Debug)]
pub struct Port {
    /// The instance
    pub instance: String,
    /// The port of the guest (default: all that are forwarded)
    pub port: Option<u16>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
