//! `civm secrets …`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::secrets_git;
use crate::store::Format;

pub use change::{Set, Unset};
pub use check::Check;
pub use exec::{ExecEnv, ExecFile, NestedFlags};
pub use formats::{Input, PlainFormat};
pub use rotate::{Groups, GroupsCommand, Rotate};
pub use status::Status;
pub use who::Who;

mod change;
mod check;
mod exec;
mod formats;
mod rotate;
mod status;
mod who;

/// How to write a key path.
const KEYPATH: &str = "The path to the value: key, key/key/0, or in sops' syntax '[\"key\"][0]'";

/// Options of every secrets command.
#[derive(Args, Clone, Debug)]
pub struct Secrets {
    /// The file with the creation rules (default: $SOPS_CONFIG, else the nearest .sops.yaml in or above the current
    /// directory, or one closer to the file)
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Indentation of YAML and JSON, in spaces; -1 means a tab in JSON (default: as in .sops.yaml)
    #[arg(long, global = true, value_name = "SPACES", allow_negative_numbers = true)]
    pub indent: Option<i64>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done with sops files.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Encrypt a plaintext file for the recipients listed in .sops.yaml
    Encrypt(Encrypt),
    /// Decrypt a file to stdout, to another file or in place
    Decrypt(Decrypt),
    /// Print one value
    Get(Get),
    /// Edit the plaintext in your editor; only the values that you change are encrypted again
    Edit(Edit),
    /// Set one value
    Set(Set),
    /// Remove one value
    Unset(Unset),
    /// Re-encrypt files with new data keys
    Rotate(Rotate),
    /// Add or remove key groups
    Groups(Groups),
    /// Show whether files are encrypted
    Status(Status),
    /// Run a command with a file's values as environment variables
    ExecEnv(ExecEnv),
    /// Run a command with the path to a file that holds the plaintext
    ExecFile(ExecFile),
    /// Update the recipients of files to match .sops.yaml
    Updatekeys(Updatekeys),
    /// Update the recipients of every sops file in the project to match .sops.yaml
    UpdateAll(UpdateAll),
    /// Check that everything is encrypted as .sops.yaml requires, for hooks and CI
    Check(Check),
    /// Show who can read which files
    Who(Who),
    /// Replace the plaintext of a file; unchanged values keep their ciphertext
    Replace(secrets_git::Replace),
    /// Show which values and recipients differ between revisions, or between two files
    Diff(secrets_git::Diff),
    /// Resolve a merge conflict in a file; conflicting values open in your editor
    Merge(secrets_git::Merge),
    /// Merge three versions of a file, for git
    MergeDriver(secrets_git::MergeDriver),
    /// Print a file's plaintext for `git diff`, or the file unchanged if no identity can decrypt it
    Textconv(secrets_git::Textconv),
}

/// `civm secrets encrypt`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
With --all, civm lists the files that `civm secrets check` reports as not encrypted and, if you agree, encrypts them in place, \
each according to its rule in .sops.yaml. If one fails, the others are still encrypted.

    civm secrets encrypt -i hosts/web/secrets.yaml
    generate | civm secrets encrypt --output hosts/web/secrets.yaml -
    civm secrets encrypt --all")]
pub struct Encrypt {
    /// The plaintext file; with - or no FILE, stdin, with the name given by --output or --filename-override
    #[arg(value_hint = ValueHint::AnyPath)]
    pub file: Option<PathBuf>,
    /// With --all: more files and directories
    #[arg(requires = "all", value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub more: Vec<PathBuf>,
    /// Encrypt every file in the project, or in the given files and directories, that a rule says must be encrypted
    #[arg(long, conflicts_with_all = [
        "output", "age", "filename_override", "input_type", "output_type", "Selector"
    ])]
    pub all: bool,
    /// With --all: do not ask
    #[arg(short, long, requires = "all")]
    pub yes: bool,
    /// Encrypt the file in place
    #[arg(short, long, conflicts_with = "output")]
    pub in_place: bool,
    /// Write to this file instead of stdout
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Encrypt for this age recipient instead of the rule's recipients; may be repeated (default:
    /// $SOPS_AGE_RECIPIENTS)
    #[arg(short, long, value_name = "RECIPIENT")]
    pub age: Vec<String>,
    /// Choose the rule and the format as if the file had this name
    #[arg(long, value_name = "PATH")]
    pub filename_override: Option<PathBuf>,
    /// The file's format
    #[command(flatten)]
    pub input: Input,
    /// The format of the encrypted file (default: from the extension of --output, else of the file)
    #[arg(long, value_name = "FORMAT")]
    pub output_type: Option<Format>,
    /// Which values are encrypted, if the rule does not say
    #[command(flatten)]
    pub selector: Selector,
}

/// Which values of a new file are encrypted.
#[derive(Args, Clone, Debug, Default)]
#[group(multiple = false)]
pub struct Selector {
    /// Do not encrypt values whose key, or a parent key, ends with this
    #[arg(long, value_name = "SUFFIX")]
    pub unencrypted_suffix: Option<String>,
    /// Encrypt only values whose key, or a parent key, ends with this
    #[arg(long, value_name = "SUFFIX")]
    pub encrypted_suffix: Option<String>,
    /// Do not encrypt values whose key, or a parent key, matches this
    #[arg(long, value_name = "REGEX")]
    pub unencrypted_regex: Option<String>,
    /// Encrypt only values whose key, or a parent key, matches this
    #[arg(long, value_name = "REGEX")]
    pub encrypted_regex: Option<String>,
    /// Do not encrypt values under a comment that matches this
    #[arg(long, value_name = "REGEX")]
    pub unencrypted_comment_regex: Option<String>,
    /// Encrypt only values under a comment that matches this
    #[arg(long, value_name = "REGEX")]
    pub encrypted_comment_regex: Option<String>,
}

/// `civm secrets decrypt`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
    civm secrets decrypt hosts/web/secrets.yaml
    git show HEAD~1:app.env | civm secrets decrypt -
    eval \"$(civm secrets decrypt --output-type sh app.env)\"")]
pub struct Decrypt {
    /// The encrypted file; with - or no FILE, stdin
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// Decrypt the file in place
    #[arg(short, long, conflicts_with_all = ["output", "extract"])]
    pub in_place: bool,
    /// Write to this file instead of stdout, readable only by you
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Only the value at this path
    #[arg(long, value_name = "PATH", help = "Print only the value at this path, such as '[\"key\"][0]'")]
    pub extract: Option<String>,
    /// Continue even if the file's MAC does not match
    #[arg(long)]
    pub ignore_mac: bool,
    /// Choose the format as if the file had this name
    #[arg(long, value_name = "PATH")]
    pub filename_override: Option<PathBuf>,
    /// The file's format
    #[command(flatten)]
    pub input: Input,
    /// The format of the plaintext; sh prints lines that a shell can eval (default: from the extension of --output, else
    /// the file's own)
    #[arg(long, value_name = "FORMAT")]
    pub output_type: Option<PlainFormat>,
    /// With --output-type sh: what becomes of mappings and lists
    #[command(flatten)]
    pub nested: NestedFlags,
}

/// `civm secrets get`.
#[derive(Args, Clone, Debug)]
pub struct Get {
    /// The encrypted file
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Where the value is
    #[arg(value_name = "KEYPATH", help = KEYPATH)]
    pub path: String,
    /// The file's format
    #[command(flatten)]
    pub input: Input,
    /// The format of the plaintext (default: the file's own)
    #[arg(long, value_name = "FORMAT")]
    pub output_type: Option<Format>,
}

/// `civm secrets edit`.
#[derive(Args, Clone, Debug)]
pub struct Edit {
    /// The file; if it does not exist, it is created from an example
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Continue even if the file's MAC does not match
    #[arg(long)]
    pub ignore_mac: bool,
    /// The file's format
    #[command(flatten)]
    pub input: Input,
}

/// `civm secrets updatekeys`.
#[derive(Args, Clone, Debug)]
pub struct Updatekeys {
    /// The files
    #[arg(required = true, value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// The file's format
    #[command(flatten)]
    pub input: Input,
}

/// `civm secrets update-all`.
#[derive(Args, Clone, Debug, Default)]
pub struct UpdateAll {
    /// Only these files and directories
    #[arg(value_hint = ValueHint::AnyPath)]
    pub paths: Vec<PathBuf>,
    /// Change nothing, and exit with code 1 if a file is out of date; needs no key
    #[arg(long, conflicts_with = "dry_run")]
    pub check: bool,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Also fail if a sops file matches no rule; without this, only if that file was given by name
    #[arg(long)]
    pub strict: bool,
    /// Print a JSON object that lists every file
    #[arg(long)]
    pub json: bool,
}
