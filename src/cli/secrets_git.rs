//! Arguments of the `civm secrets` commands that work with git (merge, diff, textconv), and of `replace`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::secrets::Input;
use crate::store::Format;

/// `civm secrets merge`.
#[derive(Args, Clone, Debug)]
pub struct Merge {
    /// The file with the conflict
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// What to do where both sides changed the same value
    #[command(flatten)]
    pub editing: Editing,
    /// Merge even if the MAC of a version does not match
    #[arg(long)]
    pub ignore_mac: bool,
}

/// `civm secrets merge-driver`.
#[derive(Args, Clone, Debug)]
pub struct MergeDriver {
    /// The merge base (git's %O); empty if both sides added the file
    pub base: PathBuf,
    /// Our version, which the result replaces (git's %A)
    pub ours: PathBuf,
    /// Their version (git's %B)
    pub theirs: PathBuf,
    /// The file's path in the repository (git's %P), which determines its format and rule
    pub pathname: Option<PathBuf>,
    /// The length of a conflict marker (git's %L)
    #[arg(long, value_name = "SIZE", default_value_t = 7)]
    pub marker_size: usize,
    /// Labels of the conflict markers in a file that is not encrypted (git's %S, %X, %Y)
    #[arg(long, num_args = 3, allow_hyphen_values = true, value_names = ["BASE", "OURS", "THEIRS"])]
    pub labels: Vec<String>,
    /// The versions are common ancestors that git merges first: in a conflict, take the base
    #[arg(long)]
    pub common_ancestors: bool,
    /// What to do where both sides changed the same value
    #[command(flatten)]
    pub editing: Editing,
}

/// Whether conflicts are resolved in the editor.
#[derive(Args, Clone, Copy, Debug, Default)]
#[group(multiple = false)]
pub struct Editing {
    /// Resolve conflicts in the editor even if there is no terminal
    #[arg(long)]
    pub edit: bool,
    /// Never open the editor; leave conflicts for `civm secrets merge`
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
    /// Up to two revisions (default: HEAD and the working tree), then files; or two files to compare
    #[arg(value_name = "REV|PATH", value_hint = ValueHint::AnyPath)]
    pub args: Vec<String>,
    /// Only these files
    #[arg(last = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Compare with the index instead of the working tree
    #[arg(long, visible_alias = "cached")]
    pub staged: bool,
    /// Print the values as well
    #[arg(long)]
    pub show: bool,
    /// Print a JSON object that lists every file
    #[arg(long)]
    pub json: bool,
    /// Exit with code 1 if anything differs
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
    /// The encrypted file's format (default: from its extension)
    #[arg(long, value_name = "FORMAT")]
    pub output_type: Option<Format>,
    /// Continue even if the file's MAC does not match
    #[arg(long)]
    pub ignore_mac: bool,
}
