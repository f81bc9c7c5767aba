//! `civm secrets exec-env` and `civm secrets exec-file`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::Input;
use crate::secrets::exec::Nested;
use crate::store::Format;

/// `civm secrets exec-env`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The scalar values (strings, numbers, …) at the top level of the first document become variables. Mappings and lists cannot, so \
a file that contains any is refused without --skip-nested or --flatten. The exit code is the command's own, or 255 if a \
signal killed it.

    civm secrets exec-env secrets.env -- terraform apply
    civm secrets exec-env --flatten secrets.yaml -- sh -c 'psql -U \"$db_user\"'
    civm secrets exec-env secrets.yaml -- sh -c 'curl -H \"Authorization: $TOKEN\" …'")]
pub struct ExecEnv {
    /// The encrypted file
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// The command; it is not passed to a shell
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
    /// What becomes of mappings and lists
    #[command(flatten)]
    pub nested: NestedFlags,
    /// Pass the command no environment variables other than the secrets
    #[arg(long)]
    pub pristine: bool,
    /// Run the command as this user; requires root
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Replace this process with the command, instead of running it as a child
    #[arg(long)]
    pub same_process: bool,
    /// The file's format
    #[command(flatten)]
    pub input: Input,
}

/// What to do with mappings and lists where only scalars fit.
#[derive(Args, Clone, Copy, Debug, Default)]
#[group(id = "nested", multiple = false)]
pub struct NestedFlags {
    /// Leave out mappings and lists
    #[arg(long)]
    pub skip_nested: bool,
    /// Turn each value in mappings and lists into a variable, named after its path with _ between the keys: db_user, list_0
    #[arg(long)]
    pub flatten: bool,
}

impl NestedFlags {
    /// The requested handling.
    #[must_use]
    pub fn how(self) -> Nested {
        match (self.skip_nested, self.flatten) {
            (true, _) => Nested::Skip,
            (_, true) => Nested::Flatten,
            _ => Nested::Refuse,
        }
    }
}

/// `civm secrets exec-file`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The plaintext is passed through a named pipe that no other user can open, and is not written anywhere else. The pipe can be \
opened repeatedly, but not by two programs at once, and it is not seekable: use --no-fifo for programs that need that. The \
exit code is the command's own, or 255 if a signal killed it.

    civm secrets exec-file secrets.yaml -- ansible-playbook -e @{} site.yml")]
pub struct ExecFile {
    /// The encrypted file
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// The command, with {} as a placeholder for the path to the plaintext; it is not passed to a shell
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
    /// Use a regular file in memory instead of a named pipe
    #[arg(long)]
    pub no_fifo: bool,
    /// The file name that the command sees (default: the file's own)
    #[arg(long, value_name = "NAME")]
    pub filename: Option<PathBuf>,
    /// Run the command as this user; requires root
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// The file's format
    #[command(flatten)]
    pub input: Input,
    /// The format of the plaintext (default: the file's own)
    #[arg(long, value_name = "FORMAT")]
    pub output_type: Option<Format>,
}
