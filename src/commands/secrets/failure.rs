//! What a failed secrets command says and with which code it ends.

use crate::outcome::{Code, Failure};
use crate::secrets::Error;
use crate::secrets::exec::VariableError;
use crate::sops;

/// The exit code, the words and the advice for an error. Codes are sops' own.
pub(in crate::commands) fn failure(error: Error) -> Failure {
    let code = Code::of_secrets(&error);
    let help = help(&error);
    let message = match &error {
        // The tree says it all, in sops' words first.
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
            format!("both versions are in it, encrypted; `civm secrets merge {}` resolves it", path.display())
        }
        Error::CommentsMove(_) => {
            "put each such comment right above a key of a mapping, not in front of a list or of its items"
                .to_owned()
        }
        Error::NoConfig(_) => {
            "`civm init` makes a .sops.yaml; or name recipients with --age, or SOPS_AGE_RECIPIENTS".to_owned()
        }
        Error::NoRule { config, .. } => {
            format!("add a rule whose path_regex matches it to `{}`", config.display())
        }
        Error::Sops { error: sops::Error::MetadataNotFound, path } => {
            format!("it is not encrypted; `civm secrets encrypt -i {}` does that", path.display())
        }
        Error::Sops { error: sops::Error::MacMismatch, .. } => {
            "it was changed without sops; see what with `git log -p`, or read it with --ignore-mac".to_owned()
        }
        Error::ChangedMeanwhile { path, saved } => format!(
            "see what differs with `civm secrets diff {} {}`, edit it again, then remove your version",
            path.display(),
            saved.display()
        ),
        Error::Variable { error: VariableError::Complex(_), .. } => {
            "--skip-nested leaves mappings and lists out, --flatten makes variables of what is in them"
                .to_owned()
        }
        Error::Editor(_) => "set EDITOR to an editor that waits until you close the file".to_owned(),
        _ => return None,
    })
}
