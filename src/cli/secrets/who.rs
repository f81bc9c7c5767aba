//! `civm secrets who`.

use clap::{Args, ValueHint};

/// `civm secrets who`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Names are those of the anchors in the .sops.yaml that governs a file; an ssh key and the age recipient derived from it
are one key. Files are shown as they are now: + marks who can read a file after `civm secrets update-all`, - who no longer
can. Many files with the same readers share one row. Files that a .civmignore excludes are not shown.

    civm secrets who                        # every file and its readers
    civm secrets who hosts/web/secrets.yaml
    civm secrets who alice                  # the files that alice can read")]
pub struct Who {
    /// A sops file or directory, a name of .sops.yaml, or a recipient (default: every sops file)
    #[arg(value_name = "PATH|RECIPIENT", value_hint = ValueHint::AnyPath)]
    pub about: Vec<String>,
    /// Show a row for each file, even if many have the same readers
    #[arg(long)]
    pub all: bool,
    /// Print one JSON object with every file
    #[arg(long)]
    pub json: bool,
}
