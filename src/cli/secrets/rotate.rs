//! `civm secrets rotate` and `civm secrets groups`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::Input;

/// `civm secrets rotate`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Who could read a file knows its data key, and reads with it what the file becomes, even where he is none of its \
recipients any more. A new data key ends that; what he read before, he knows still.

The recipients stay as they are in the file, but for --add-age and --rm-age; .sops.yaml is not looked at. Change it, too \
(`civm keys add`, `civm keys rm`), or the next `update-all` takes this back.")]
pub struct Rotate {
    /// The files, and directories with sops files below
    #[arg(required_unless_present = "all", value_hint = ValueHint::AnyPath)]
    pub files: Vec<PathBuf>,
    /// Every sops file of the project
    #[arg(long, conflicts_with_all = ["files", "input_type"])]
    pub all: bool,
    /// Let this recipient read the files, too; may be repeated
    #[arg(long, value_name = "RECIPIENT")]
    pub add_age: Vec<String>,
    /// Keep this recipient out, in every group and whatever its form; may be repeated
    #[arg(long, value_name = "RECIPIENT")]
    pub rm_age: Vec<String>,
    /// The file's format
    #[command(flatten)]
    pub input: Input,
    /// What sops wants to be told, and what is always done here
    #[arg(short, long, hide = true)]
    pub in_place: bool,
}

/// `civm secrets groups`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Where a file has several key groups, one reader of each is needed to open it, or of as many as the threshold says. The \
values, the MAC and the time of the last change stay as they are.")]
pub struct Groups {
    /// What to do
    #[command(subcommand)]
    pub command: GroupsCommand,
}

/// What can be done with a file's key groups.
#[derive(Clone, Debug, Subcommand)]
pub enum GroupsCommand {
    /// Add a group
    Add {
        /// The encrypted file
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Its members
        #[arg(required = true, value_name = "RECIPIENT")]
        recipients: Vec<String>,
        /// How many groups are needed to open the file (default: as before, or all of them)
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
        threshold: Option<u32>,
    },
    /// Remove a group
    #[command(visible_alias = "delete")]
    Rm {
        /// The encrypted file
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Which: 0 is the first
        group: usize,
        /// How many groups are needed to open the file (default: as before)
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
        threshold: Option<u32>,
    },
}
