//! The message and the exit code of a failed secrets command.

use crate::outcome::{Code, Failure};
use crate::rules::FILE;
use crate::secrets::Error;
use crate::secrets::exec::VariableError;
use crate::sops;

/// The exit code, the message and the advice for an error. The codes are those of sops.
pub(in crate::commands) fn failure(error: Error) -> Failure {
    report(&error)
}

/// The same for one that is only shown.
pub(in crate::commands) fn report(error: &Error) -> Failure {
    let code = Code::of_secrets(error);
    let help = help(error);
    let message = match error {
        // The error tree already explains everything, in sops' words first.
        Error::Locked { path, locked } => {
            return locked.advice().into_iter().fold(
                Failure::new(code, format!("`{}`: {}", path.display(), locked.render(false))),
                Failure::help,
            );
        }
        other => other.to_string(),
    };
    help.into_iter().fold(Failure::new(code, message), Failure::help)
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        failure(error)
    }
}

fn help(error: &Error) -> Option<String> {
    Some(match error {
        Error::AlreadyEncrypted(path) => format!("change it with `civm secrets edit {}`", path.display()),
        Error::Unmerged(path) => {
            format!(
                "it holds both versions, encrypted; `civm secrets merge {}` resolves the conflict",
                path.display()
            )
        }
        Error::CommentsMove(_) => {
            "put each such comment directly above a key of a mapping, not before a list or its items"
                .to_owned()
        }
        Error::NoConfig(_) => {
            "create a .sops.yaml with `civm init`, or give recipients with --age or SOPS_AGE_RECIPIENTS"
                .to_owned()
        }
        Error::NoRule { config, .. } => {
            format!("add a rule with a matching path_regex to `{}`", config.display())
        }
        Error::Sops { error: sops::Error::MetadataNotFound, path } if path.ends_with(FILE) => {
            "it holds the rules, which are not encrypted".to_owned()
        }
        Error::Sops { error: sops::Error::MacUndecryptable(_), .. } => {
            "its metadata or key were changed after encryption; --ignore-mac reads it anyway".to_owned()
        }
        Error::Program { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            "a line for a shell is run with `sh -c '…'`".to_owned()
        }
        Error::Sops { error: sops::Error::MetadataNotFound, path } => {
            format!("it is not encrypted; `civm secrets encrypt -i {}` encrypts it", path.display())
        }
        Error::Sops { error: sops::Error::MacMismatch, .. } => {
            "the file was changed without sops; `git log -p` shows how, and --ignore-mac reads it anyway"
                .to_owned()
        }
        Error::ChangedMeanwhile { path, saved } => format!(
            "see what differs with `civm secrets diff {} {}`, edit it again, then remove your version",
            path.display(),
            saved.display()
        ),
        Error::Variable { error: VariableError::Complex(_), .. } => {
            "--skip-nested leaves mappings and lists out; --flatten turns the values in them into variables"
                .to_owned()
        }
        Error::Editor(_) => "set EDITOR to an editor that waits until you close the file".to_owned(),
        _ => return None,
    })
}
