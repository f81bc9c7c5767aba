//! `civm secrets who`.

use clap::{Args, ValueHint};

/// `civm secrets who`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Names are those of the anchors in .sops.yaml; an ssh key and the age recipient that belongs to it are one key. The
files count as they stand: + marks who will read a file after `civm secrets update-all`, - who will not any more.

    civm secrets who                        # every file and its readers
    civm secrets who hosts/web/secrets.yaml
    civm secrets who alice                  # the files that alice reads")]
pub struct Who {
    /// A sops file or directory, a name of .sops.yaml, or a recipient (default: every sops file)
    #[arg(value_name = "PATH|RECIPIENT", value_hint = ValueHint::AnyPath)]
    pub about: Vec<String>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}
