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
const KEYPATH: &str = "Where the value is: key, key/key/0, or sops' '[\"key\"][0]'";

/// Options of every secrets command.
#[derive(Args, Clone, Debug)]
pub struct Secrets {
    /// The file of creation rules (default: $SOPS_CONFIG, else the .sops.yaml found upwards from here, or a nearer one
    /// above the file)
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Spaces per level in YAML and JSON; -1 is a tab in JSON (default: as in .sops.yaml)
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
    /// Edit the plaintext in your editor; only what you change is encrypted again
    Edit(Edit),
    /// Set one value
    Set(Set),
    /// Remove one value
    Unset(Unset),
    /// Encrypt files under new data keys
    Rotate(Rotate),
    /// Add or remove key groups
    Groups(Groups),
    /// Tell whether files are encrypted
    Status(Status),
    /// Run a command with the values of a file as environment variables
    ExecEnv(ExecEnv),
    /// Run a command with the path of a file that holds the plaintext
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
    /// Merge a file that git left unmerged; conflicting values open in the editor
    Merge(secrets_git::Merge),
    /// Merge three versions of a file, for git
    MergeDriver(secrets_git::MergeDriver),
    /// Print a file's plaintext for `git diff`, or the file as it is if no identity opens it
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
        "output", "age", "filename_override", "input_type", "output_type", "Selector"
    ])]
    pub all: bool,
    /// With --all: do not ask
    #[arg(short, long, requires = "all")]
    pub yes: bool,
    /// Encrypt the file in place
    #[arg(short, long, conflicts_with = "output")]
    pub in_place: bool,
    /// Write here instead of stdout
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Encrypt for these age recipients instead of the rule's; may be repeated (default:
    /// $SOPS_AGE_RECIPIENTS)
    #[arg(short, long, value_name = "RECIPIENT")]
    pub age: Vec<String>,
    /// Choose the rule and the format as if the file had this name
    #[arg(long, value_name = "PATH")]
    pub filename_override: Option<PathBuf>,
    /// The file's format
    #[command(flatten)]
    pub input: Input,
    /// The format of the encrypted file (default: by the ending of --output or of the file)
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
    /// Do not encrypt values whose key, or a key above it, ends in this
    #[arg(long, value_name = "SUFFIX")]
    pub unencrypted_suffix: Option<String>,
    /// Encrypt only values whose key, or a key above it, ends in this
    #[arg(long, value_name = "SUFFIX")]
    pub encrypted_suffix: Option<String>,
    /// Do not encrypt values whose key, or a key above it, matches this
    #[arg(long, value_name = "REGEX")]
    pub unencrypted_regex: Option<String>,
    /// Encrypt only values whose key, or a key above it, matches this
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
    /// The encrypted file; - or none for stdin
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// Decrypt the file in place
    #[arg(short, long, conflicts_with_all = ["output", "extract"])]
    pub in_place: bool,
    /// Write here instead of stdout, readable only by you
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Only the value at this path
    #[arg(long, value_name = "PATH", help = "Only the value at this path, as in '[\"key\"][0]'")]
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
    /// The format of the plaintext; sh prints lines that a shell can eval (default: by the ending of --output, else
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
    /// The file; a new one starts from an example
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
    /// Change nothing and exit with 1 if a file is out of date; needs no key
    #[arg(long, conflicts_with = "dry_run")]
    pub check: bool,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Also fail if no rule matches a sops file; otherwise only if that file was named
    #[arg(long)]
    pub strict: bool,
    /// Print one JSON object with every file
    #[arg(long)]
    pub json: bool,
}
