//! `civm builder …`: builders for Nix that are made on other machines, held from here, and gone with all their state
//! when they stop.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

/// Make builders for Nix on other machines, and use them.
///
/// A host's `nix.builders.NAME` with `deploy:` and `on:` is a builder that civm makes over ssh on somebody else's
/// machine. A keeper holds it: in a controller that is a unit, elsewhere `civm builder up` starts it in the background.
/// When the keeper ends, or is killed, or cannot be reached any more, the builder goes, with its disk and its keys.
#[derive(Args, Clone, Debug)]
pub struct Builder {
    /// The directory of the keeper [default: that of this controller, else that of the project]
    #[arg(long, global = true, env = "CIVM_BUILDERS", hide_env_values = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Make builders, and wait until they are ready
    Up(Up),
    /// Stop builders once their builds are done, at the latest after `drain:`, and leave nothing of them on the remotes
    Down(Down),
    /// Take no more builds, wait for those that run, however long they take, and stop
    Drain(Chosen),
    /// List the builders, or what civm keeps on a remote
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Show how a builder is: its state, why, and what to do about it
    Status(Status),
    /// Print what happened to the builders
    Logs(Logs),
    /// Run a command that builds on a builder, which is made for it if need be
    Exec(Exec),
    /// Check everything that a build on the builders needs, as the user that runs this
    Doctor(Doctor),
    /// Remove what civm keeps on a remote: images and pushed binaries
    Purge(Purge),
    /// Run the keeper of builders, until it is told to end
    Run(Run),
    /// Connect standard input and output to a builder's sshd, for ssh's ProxyCommand
    Dial(Dial),
}

/// Builders by name, or all of them.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct Chosen {
    /// The builders
    #[arg(value_name = "NAME")]
    pub builders: Vec<String>,
    /// All of them
    #[arg(long)]
    pub all: bool,
}

/// `civm builder up`.
#[derive(Args, Clone, Debug)]
pub struct Up {
    /// The builders
    #[command(flatten)]
    pub chosen: Chosen,
    /// The host that deploys them, where several give a name to different builders
    #[arg(long, value_name = "HOST")]
    pub of: Option<String>,
    /// Write the list of builders there, as nix reads it with `--builders @FILE`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub machines_file: Option<PathBuf>,
}

/// `civm builder down`.
#[derive(Args, Clone, Debug)]
pub struct Down {
    /// The builders
    #[command(flatten)]
    pub chosen: Chosen,
    /// Do not wait for builds: they fail
    #[arg(long)]
    pub now: bool,
}

/// `civm builder ls`.
#[derive(Args, Clone, Debug)]
pub struct Ls {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Look at the machine that a builder is made on instead: its builders, whosever they are, and what civm keeps there
    #[arg(long, value_name = "REMOTE")]
    pub remote: Option<String>,
}

/// `civm builder status`.
#[derive(Args, Clone, Debug)]
pub struct Status {
    /// The builder
    #[arg(value_name = "NAME")]
    pub builder: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `civm builder logs`.
#[derive(Args, Clone, Debug)]
pub struct Logs {
    /// The builder [default: all]
    #[arg(value_name = "NAME")]
    pub builder: Option<String>,
    /// Go on with what happens from now on
    #[arg(short, long)]
    pub follow: bool,
}

/// `civm builder exec`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "The command runs with NIX_CONFIG (the list of builders, and `max-jobs = 0`), NIX_SSHOPTS (how \
    they are reached) and CIVM_STORE (the builder's store, for `nix build --store \"$CIVM_STORE\" --eval-store auto`).\n\n\
    Where builds go through a nix-daemon, the daemon connects as root and does not see these variables: use \
    `--store \"$CIVM_STORE\"` there.\n\nExample: civm builder exec big -- nix build .#hello"
)]
pub struct Exec {
    /// The builder
    #[arg(value_name = "NAME")]
    pub builder: String,
    /// The host that deploys it, where several give the name to different builders
    #[arg(long, value_name = "HOST")]
    pub of: Option<String>,
    /// Leave the builder up afterwards, if it was made for this command
    #[arg(long)]
    pub keep: bool,
    /// The command
    #[arg(required = true, last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// `civm builder doctor`.
#[derive(Args, Clone, Debug)]
pub struct Doctor {
    /// The builder [default: all]
    #[arg(value_name = "NAME")]
    pub builder: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `civm builder purge`.
#[derive(Args, Clone, Debug)]
pub struct Purge {
    /// The remote: a builder's name, or `user@host[:port]` as in host.yaml
    #[arg(value_name = "REMOTE")]
    pub remote: String,
    /// Only print what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `civm builder run`.
#[derive(Args, Clone, Debug)]
pub struct Run {
    /// What the builders are made of [default: the share of this controller, else the project]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub parcels: Option<PathBuf>,
    /// As `up` starts it: nothing is wanted until somebody asks, and it ends with the last builder
    #[arg(long, hide = true)]
    pub background: bool,
}

/// `civm builder dial`.
#[derive(Args, Clone, Debug)]
pub struct Dial {
    /// The builder
    #[arg(value_name = "NAME")]
    pub builder: String,
}
