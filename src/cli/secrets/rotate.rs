//! `civm secrets rotate` and `civm secrets groups`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::Input;

/// `civm secrets rotate`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Anyone who could read a file may have kept its data key, and can use it to read later versions even after being removed from \
the recipients. A new data key prevents that; the values that they have already read are still known to them.

The file's recipients are kept, except for --add-age and --rm-age; .sops.yaml is not read. Change it as well \
(`civm keys add`, `civm keys rm`), or the next `update-all` undoes your change.")]
pub struct Rotate {
    /// Files, or directories that contain sops files
    #[arg(required_unless_present = "all", value_hint = ValueHint::AnyPath)]
    pub files: Vec<PathBuf>,
    /// Every sops file in the project
    #[arg(long, conflicts_with_all = ["files", "input_type"])]
    pub all: bool,
    /// Add this recipient to the files; may be repeated
    #[arg(long, value_name = "RECIPIENT")]
    pub add_age: Vec<String>,
    /// Remove this recipient from every key group, in whatever form it is written; may be repeated
    #[arg(long, value_name = "RECIPIENT")]
    pub rm_age: Vec<String>,
    /// The file's format
    #[command(flatten)]
    pub input: Input,
    /// Accepted because sops needs it; files are always changed in place here
    #[arg(short, long, hide = true)]
    pub in_place: bool,
}

/// `civm secrets groups`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Decrypting a file with several key groups takes one member of each group, or of as many groups as the threshold says. The \
values, the MAC and the time of the last change are not changed.")]
pub struct Groups {
    /// What to do
    #[command(subcommand)]
    pub command: GroupsCommand,
}

/// What can be done with the key groups of a file.
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
        /// How many groups are needed to decrypt the file (default: unchanged, or all of them)
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
        threshold: Option<u32>,
    },
    /// Remove a group
    #[command(visible_alias = "delete")]
    Rm {
        /// The encrypted file
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Its number; 0 is the first
        group: usize,
        /// How many groups are needed to decrypt the file (default: unchanged)
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
        threshold: Option<u32>,
    },
}
