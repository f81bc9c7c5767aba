//! Arguments of `civm image …`.

use clap::{Args, Subcommand};

use super::up::{Accel, Resources};

/// `civm image`.
#[derive(Args, Clone, Debug)]
pub struct Image {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done with images.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List the images that are built
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Build the images of hosts, as `up` would; an image that is built already is kept
    Build(Build),
    /// Make the templates of hosts: new machines of them then start in a fraction of the time
    Warm(Warm),
    /// Remove images; one that a machine runs from is refused
    #[command(visible_alias = "remove")]
    Rm(Rm),
    /// Remove images that no host of this project needs and that nobody has used for a while
    Gc(Gc),
}

/// `civm image ls`.
#[derive(Args, Clone, Debug)]
pub struct Ls {
    /// Print a JSON array, for scripts
    #[arg(long)]
    pub json: bool,
}

/// `civm image build`.
#[derive(Args, Clone, Debug)]
pub struct Build {
    /// The hosts: directories in hosts/
    #[arg(required = true, value_name = "HOST")]
    pub hosts: Vec<String>,
    /// Print a JSON array of the images, for scripts
    #[arg(long)]
    pub json: bool,
}

/// `civm image warm`.
#[derive(Args, Clone, Debug)]
pub struct Warm {
    /// The hosts: directories in hosts/
    #[arg(required = true, value_name = "HOST")]
    pub hosts: Vec<String>,
    /// How to run the guests
    #[arg(long, value_enum, default_value_t)]
    pub accel: Accel,
    /// What the machine has.
    #[command(flatten)]
    pub resources: Resources,
}

/// `civm image rm`.
#[derive(Args, Clone, Debug)]
pub struct Rm {
    /// The images, as `civm image ls` shows them, or the first digits of each
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// `civm image gc`.
#[derive(Args, Clone, Debug)]
pub struct Gc {
    /// How old and unused
    #[command(flatten)]
    pub age: Age,
    /// Print a JSON object, for scripts
    #[arg(long)]
    pub json: bool,
}

/// What `gc` may remove.
#[derive(Args, Clone, Copy, Debug)]
pub struct Age {
    /// Only list what would be removed, and its size
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Keep what was used in the last so many days
    #[arg(long, value_name = "DAYS", default_value_t = 14)]
    pub older_than: u32,
}
