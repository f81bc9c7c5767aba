//! `civm keys rm`.

use super::rules::RulesFile;
use crate::cli::keys::Rm;
use crate::commands::{Context, secrets};
use crate::edge::terminal::{self, Prompt};
use crate::keys::recipient::{Recipient, same_key, shown};
use crate::outcome::{Code, Failure, Outcome};
use crate::rules::edit::remove_key;

pub(super) fn run(args: &Rm, prompt: &dyn Prompt, context: &Context) -> Outcome {
    let session = secrets::session(context, None)?;
    let (recipient, path) = {
        let file = RulesFile::find(&session)?;
        let recipient = recipient_to_remove(&args.key, &file)?;
        let key = same_key(&recipient);
        let after =
            remove_key(&file.text, &|other| same_key(other) == key).map_err(|error| file.wrong(&error))?;
        file.replace(&after)?;
        (recipient, file.path.clone())
    };
    context.screen.note(format!("removed {1} ({2}) from `{0}`", path.display(), args.key, shown(&recipient)));
    let Some(commands) = secrets::to_forget(&recipient, context)? else {
        context.screen.note("no file that was looked at has it as a recipient");
        return Ok(0);
    };
    context.screen.note(
        "some files still have it as a recipient, and anyone who could read them may know their data keys",
    );
    let question = "remove it from the files and rotate their data keys?";
    let answer = (!args.yes && terminal::stderr_is_terminal()).then(|| prompt.confirm(question, true));
    let is_answered = matches!(answer, Some(Ok(_)));
    if args.yes || matches!(answer, Some(Ok(true))) {
        return secrets::forget(&recipient, context);
    }
    context.screen.note("next:");
    context.screen.note(commands);
    context.screen.note(secrets::CHANGE_THEM_TOO);
    // Nobody has decided that the files stay as they are: a script must not take that for done.
    Ok(if is_answered { 0 } else { Code::Generic as u8 })
}

/// The recipient that the argument names.
fn recipient_to_remove(key: &str, file: &RulesFile) -> Result<String, Failure> {
    let key = key.trim();
    if let Some(recipient) = file.recipient_of(key) {
        return Ok(recipient);
    }
    if Recipient::parse(key).is_ok() || key.starts_with("age1") || key.starts_with("ssh-") {
        return Ok(key.to_owned());
    }
    let names: Vec<String> = crate::rules::names(&file.text).into_values().collect();
    let failure = file.wrong(&format!("there is no key named {}", shown(key)));
    Err(if names.is_empty() { failure } else { failure.help(format!("known names: {}", names.join(", "))) })
}
