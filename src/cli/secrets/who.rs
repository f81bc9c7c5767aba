//! `civm secrets who`.

use clap::{Args, ValueHint};

/// `civm secrets who`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Names are the anchors in the .sops.yaml that governs a file; an ssh key and the age recipient derived from it count as one \
key. The table shows the files as they are now: + marks a reader that `civm secrets update-all` would add, - one that it would \
remove. Many files with the same readers share one row. Files that a .civmignore excludes are not shown.

    civm secrets who                        # every file and its readers
    civm secrets who hosts/web/secrets.yaml
    civm secrets who alice                  # the files that alice can read")]
pub struct Who {
    /// A sops file or directory, a name from .sops.yaml, or a recipient (default: every sops file)
    #[arg(value_name = "PATH|RECIPIENT", value_hint = ValueHint::AnyPath)]
    pub about: Vec<String>,
    /// Show a row for each file, even if many have the same readers
    #[arg(long)]
    pub all: bool,
    /// Print a JSON object that lists every file
    #[arg(long)]
    pub json: bool,
}
