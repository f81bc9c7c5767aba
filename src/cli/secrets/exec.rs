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
The strings, numbers, … at the top level of the first document become variables. Mappings and lists cannot, so a file that has \
some is refused without --skip-nested or --flatten. The exit code is the command's own, or 255 if a signal ended it.

    civm secrets exec-env secrets.env -- terraform apply
    civm secrets exec-env --flatten secrets.yaml -- sh -c 'psql -U \"$db_user\"'
    civm secrets exec-env secrets.yaml -- sh -c 'curl -H \"Authorization: $TOKEN\" …'")]
pub struct ExecEnv {
    /// The encrypted file
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// The command; no shell reads it
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
    /// What becomes of mappings and lists
    #[command(flatten)]
    pub nested: NestedFlags,
    /// No variables but the secrets
    #[arg(long)]
    pub pristine: bool,
    /// Run it as this user; only root can
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Run it in the place of this process
    #[arg(long)]
    pub same_process: bool,
    /// The file's format
    #[command(flatten)]
    pub input: Input,
}

/// What becomes of mappings and lists where only plain values fit.
#[derive(Args, Clone, Copy, Debug, Default)]
#[group(id = "nested", multiple = false)]
pub struct NestedFlags {
    /// Leave out mappings and lists
    #[arg(long)]
    pub skip_nested: bool,
    /// Make each value in mappings and lists a variable, named by its path with _ between the keys: db_user, list_0
    #[arg(long)]
    pub flatten: bool,
}

impl NestedFlags {
    /// What was asked for.
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
The plaintext comes out of a pipe that nobody else can open, and is nowhere but there. It can be opened again and again, \
but not in the very same instant by two programs, and nothing can go back in it: for programs that do that there is \
--no-fifo. The exit code is the command's own, 255 where a signal ended it.

    civm secrets exec-file secrets.yaml -- ansible-playbook -e @{} site.yml")]
pub struct ExecFile {
    /// The encrypted file
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// The command, with {} where the path of the plaintext is to be; no shell reads it
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
    /// A regular file instead of a pipe, in memory
    #[arg(long)]
    pub no_fifo: bool,
    /// The name that the command sees (default: the file's own)
    #[arg(long, value_name = "NAME")]
    pub filename: Option<PathBuf>,
    /// Run it as this user; only root can
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// The file's format
    #[command(flatten)]
    pub input: Input,
    /// The plaintext's format (default: the file's own)
    #[arg(long, value_name = "FORMAT")]
    pub output_type: Option<Format>,
}
