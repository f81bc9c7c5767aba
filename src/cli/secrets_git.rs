//! `civm secrets …` for what git keeps: merges, differences, new content.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::secrets::Input;
use crate::store::Format;

/// `civm secrets merge`.
#[derive(Args, Clone, Debug)]
pub struct Merge {
    /// The file, as git left it unmerged
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// How to go on where both sides changed the same value
    #[command(flatten)]
    pub editing: Editing,
    /// Go on although the MAC of a version does not match
    #[arg(long)]
    pub ignore_mac: bool,
}

/// `civm secrets merge-driver`.
#[derive(Args, Clone, Debug)]
pub struct MergeDriver {
    /// What both sides started from (git's %O); empty where both have made the file
    pub base: PathBuf,
    /// Our version, replaced by the merged one (git's %A)
    pub ours: PathBuf,
    /// Their version (git's %B)
    pub theirs: PathBuf,
    /// The file's name in the repository (git's %P): it chooses format and rules
    pub pathname: Option<PathBuf>,
    /// The length of a conflict marker (git's %L)
    #[arg(long, value_name = "SIZE", default_value_t = 7)]
    pub marker_size: usize,
    /// What the versions are called in a file that is not encrypted (git's %S, %X, %Y)
    #[arg(long, num_args = 3, allow_hyphen_values = true, value_names = ["BASE", "OURS", "THEIRS"])]
    pub labels: Vec<String>,
    /// The versions are common ancestors that git merges first: where they conflict, neither counts
    #[arg(long)]
    pub common_ancestors: bool,
    /// How to go on where both sides changed the same value
    #[command(flatten)]
    pub editing: Editing,
}

/// Whether conflicts go to the editor.
#[derive(Args, Clone, Copy, Debug, Default)]
#[group(multiple = false)]
pub struct Editing {
    /// Resolve conflicts in the editor even where nobody seems to sit at a terminal
    #[arg(long)]
    pub edit: bool,
    /// Leave conflicts to `civm secrets merge`, never open the editor
    #[arg(long)]
    pub no_edit: bool,
}

/// `civm secrets textconv`.
#[derive(Args, Clone, Debug)]
pub struct Textconv {
    /// The file
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// The file's format
    #[command(flatten)]
    pub input: Input,
}

/// `civm secrets diff`.
#[derive(Args, Clone, Debug)]
pub struct Diff {
    /// Up to two revisions (default: HEAD and the files as they are), then files; or two files
    #[arg(value_name = "REV|PATH", value_hint = ValueHint::AnyPath)]
    pub args: Vec<String>,
    /// Only these files
    #[arg(last = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Compare with what is staged in place of the files as they are
    #[arg(long, visible_alias = "cached")]
    pub staged: bool,
    /// Print the values, too
    #[arg(long)]
    pub show: bool,
    /// One JSON object with every file
    #[arg(long)]
    pub json: bool,
    /// Exit with 1 where anything differs
    #[arg(long)]
    pub exit_code: bool,
}

/// `civm secrets replace`.
#[derive(Args, Clone, Debug)]
pub struct Replace {
    /// The encrypted file
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// The new plaintext (default: stdin)
    #[arg(long, value_name = "PLAINTEXT", value_hint = ValueHint::FilePath)]
    pub from: Option<PathBuf>,
    /// The plaintext's format (default: the file's own)
    #[arg(long, value_name = "FORMAT")]
    pub input_type: Option<Format>,
    /// The encrypted file's format (default: what its ending says)
    #[arg(long, value_name = "FORMAT")]
    pub output_type: Option<Format>,
    /// Go on although the file's MAC does not match
    #[arg(long)]
    pub ignore_mac: bool,
}
