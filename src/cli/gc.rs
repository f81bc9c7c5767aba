//! Arguments of `civm gc`.

use clap::Args;

use super::image::Age;

/// `civm gc`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Disks of projects are never removed, nor is anything that a running instance or another civm uses, or that a newer civm \
has written. The host key of an instance whose host has no key among its secrets is kept as well: without it, the next \
`up` would make another. Only --gone-projects removes the keys of projects whose directory does not exist any more.")]
pub struct Gc {
    /// How old and unused
    #[command(flatten)]
    pub age: Age,
    /// Also remove the host keys of projects that do not exist any more; a project on a disk that is not mounted now
    /// would lose its keys
    #[arg(long)]
    pub gone_projects: bool,
    /// Print a JSON object, for scripts
    #[arg(long)]
    pub json: bool,
}
