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

/// How a key path is written.
const KEYPATH: &str = "Where the value is: key, key/key/0, or sops' '[\"key\"][0]'";

/// Options of every secrets command.
#[derive(Args, Clone, Debug)]
pub struct Secrets {
    /// The creation rules (default: $SOPS_CONFIG, else .sops.yaml upwards from here, then from the file)
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Spaces per level of YAML and JSON; -1 is a tab in JSON (default: what .sops.yaml says)
    #[arg(long, global = true, value_name = "SPACES", allow_negative_numbers = true)]
    pub indent: Option<i64>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done with sops files.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Encrypt a plaintext file for the recipients that .sops.yaml gives it
    Encrypt(Encrypt),
    /// Decrypt a file to stdout, to another file or in place
    Decrypt(Decrypt),
    /// Print one value
    Get(Get),
    /// Edit the plaintext in your editor; only what changed is encrypted anew
    Edit(Edit),
    /// Set one value
    Set(Set),
    /// Remove one value
    Unset(Unset),
    /// Encrypt files under new data keys
    Rotate(Rotate),
    /// Add or remove key groups
    Groups(Groups),
    /// Say whether files are encrypted
    Status(Status),
    /// Run a command with the values of a file as its variables
    ExecEnv(ExecEnv),
    /// Run a command with the plaintext of a file as a file of its own
    ExecFile(ExecFile),
    /// Bring the recipients of files in line with .sops.yaml
    Updatekeys(Updatekeys),
    /// Bring the recipients of every sops file of the project in line with .sops.yaml
    UpdateAll(UpdateAll),
    /// Find what is not encrypted or not as .sops.yaml wants it, for hooks and CI
    Check(Check),
    /// Show who can read which files
    Who(Who),
    /// Put a new plaintext into a file; what is the same keeps its ciphertext
    Replace(secrets_git::Replace),
    /// Show which values and recipients differ between revisions, or between two files
    Diff(secrets_git::Diff),
    /// Merge a file that git left unmerged, with the editor where both sides changed a value
    Merge(secrets_git::Merge),
    /// Merge three versions of a file, for git
    MergeDriver(secrets_git::MergeDriver),
    /// Print a file's plaintext for `git diff`, or the file as it is where no identity opens it
    Textconv(secrets_git::Textconv),
}

/// `civm secrets encrypt`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
With --all, the files that `civm secrets check` reports as not encrypted are listed, and encrypted in place when you agree, \
each by its rule in .sops.yaml. One that fails does not stop the others.

    civm secrets encrypt -i hosts/web/secrets.yaml
    generate | civm secrets encrypt --output hosts/web/secrets.yaml -
    civm secrets encrypt --all")]
pub struct Encrypt {
    /// The plaintext; - or none for stdin, to which --output or --filename-override gives a name
    #[arg(value_hint = ValueHint::AnyPath)]
    pub file: Option<PathBuf>,
    /// With --all: more files and directories
    #[arg(requires = "all", value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub more: Vec<PathBuf>,
    /// Encrypt every file of the project, or of these files and directories, that a rule wants encrypted
    #[arg(long, conflicts_with_all = [
        "in_place", "output", "age", "filename_override", "input_type", "output_type", "Selector"
    ])]
    pub all: bool,
    /// With --all: do not ask
    #[arg(short, long, requires = "all")]
    pub yes: bool,
    /// Replace the file by its encrypted form
    #[arg(short, long, conflicts_with = "output")]
    pub in_place: bool,
    /// Write here instead of stdout
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Encrypt for these age recipients in place of the rule's; may be repeated (default:
    /// $SOPS_AGE_RECIPIENTS)
    #[arg(short, long, value_name = "RECIPIENT")]
    pub age: Vec<String>,
    /// Choose rule and format as if the file had this name
    #[arg(long, value_name = "PATH")]
    pub filename_override: Option<PathBuf>,
    /// The file's format
    #[command(flatten)]
    pub input: Input,
    /// The encrypted file's format (default: what the ending of --output or of the file says)
    #[arg(long, value_name = "FORMAT")]
    pub output_type: Option<Format>,
    /// Which values are encrypted, in place of the rule's choice
    #[command(flatten)]
    pub selector: Selector,
}

/// Which values of a new file are encrypted.
#[derive(Args, Clone, Debug, Default)]
#[group(multiple = false)]
pub struct Selector {
    /// Leave values clear whose key, or a key above it, ends so
    #[arg(long, value_name = "SUFFIX")]
    pub unencrypted_suffix: Option<String>,
    /// Encrypt only values whose key, or a key above it, ends so
    #[arg(long, value_name = "SUFFIX")]
    pub encrypted_suffix: Option<String>,
    /// Leave values clear whose key, or a key above it, matches
    #[arg(long, value_name = "REGEX")]
    pub unencrypted_regex: Option<String>,
    /// Encrypt only values whose key, or a key above it, matches
    #[arg(long, value_name = "REGEX")]
    pub encrypted_regex: Option<String>,
    /// Leave values clear that stand under a matching comment
    #[arg(long, value_name = "REGEX")]
    pub unencrypted_comment_regex: Option<String>,
    /// Encrypt only values that stand under a matching comment
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
    /// The encrypted file (default: stdin)
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// Replace the file by its plaintext
    #[arg(short, long, conflicts_with_all = ["output", "extract"])]
    pub in_place: bool,
    /// Write here, readable by you alone, instead of stdout
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Only the value at this path, in sops' spelling
    #[arg(long, value_name = "PATH", help = "Only the value at this path, as in '[\"key\"][0]'")]
    pub extract: Option<String>,
    /// Go on although the file's MAC does not match
    #[arg(long)]
    pub ignore_mac: bool,
    /// Choose the format as if the file had this name
    #[arg(long, value_name = "PATH")]
    pub filename_override: Option<PathBuf>,
    /// The file's format
    #[command(flatten)]
    pub input: Input,
    /// The plaintext's format; sh is lines that a shell can eval (default: by the ending of --output, else the
    /// file's own)
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
    /// The plaintext's format (default: the file's own)
    #[arg(long, value_name = "FORMAT")]
    pub output_type: Option<Format>,
}

/// `civm secrets edit`.
#[derive(Args, Clone, Debug)]
pub struct Edit {
    /// The file; made from an example where it does not exist
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Go on although the file's MAC does not match
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
    /// Change nothing, need no key, exit with 1 where a file is behind
    #[arg(long, conflicts_with = "dry_run")]
    pub check: bool,
    /// Change nothing, show what would be changed
    #[arg(long)]
    pub dry_run: bool,
    /// Fail where no rule is for a sops file, too; without it only where the file itself was named
    #[arg(long)]
    pub strict: bool,
    /// One JSON object with every file
    #[arg(long)]
    pub json: bool,
}
