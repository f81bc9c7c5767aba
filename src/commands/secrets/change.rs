//! `civm secrets set` and `civm secrets unset`.

use zeroize::Zeroizing;

use super::failure::failure;
use super::key_path;
use crate::cli::secrets::{Set, Unset};
use crate::commands::Context;
use crate::edge::terminal;
use crate::outcome::{Code, Failure, Outcome};
use crate::secrets::change::json_value;
use crate::secrets::rewrite::rewrite;
use crate::secrets::session::read;
use crate::secrets::{Error, Session};
use crate::sops::document::MacCheck;
use crate::sops::text::Text;
use crate::sops::tree::Value;

pub(super) fn set(args: &Set, session: &Session, context: &Context) -> Outcome {
    let path = key_path(&args.path, Code::InvalidSetFormat)?;
    let value = value(args, session)?;
    let warnings = rewrite(session, &args.file, |file| {
        let mut open = file.open(session.identities(), mac(args.ignore_mac))?;
        let warnings = std::mem::take(&mut open.warnings);
        let changed = open.set(&path, value.clone())?;
        let text = if changed || !args.idempotent { Some(open.reseal(session)?) } else { None };
        Ok((text, warnings))
    })
    .map_err(failure)?;
    super::warn(context, &args.file, &warnings);
    if !args.json && args.value.as_deref().is_some_and(is_quoted) {
        context.screen.warn("the value was stored with its quotes: --json reads it as sops would, as JSON");
    }
    Ok(0)
}

/// Whether a value is text in quotes, as sops' own `set` wants it.
fn is_quoted(value: &str) -> bool {
    value.starts_with('"') && serde_json::from_str::<serde::de::IgnoredAny>(value).is_ok()
}

pub(super) fn unset(args: &Unset, session: &Session, context: &Context) -> Outcome {
    let path = key_path(&args.path, Code::InvalidSetFormat)?;
    let warnings = rewrite(session, &args.file, |file| {
        let mut open = file.open(session.identities(), mac(args.ignore_mac))?;
        let warnings = std::mem::take(&mut open.warnings);
        match open.unset(&path) {
            Err(Error::Path { error, .. }) if args.idempotent && error.is_absent() => {
                return Ok((None, warnings));
            }
            result => result?,
        }
        Ok((Some(open.reseal(session)?), warnings))
    })
    .map_err(failure)?;
    super::warn(context, &args.file, &warnings);
    Ok(0)
}

fn mac(ignore: bool) -> MacCheck {
    if ignore { MacCheck::Ignore } else { MacCheck::Verify }
}

/// The value, from the command line, a file or stdin; otherwise the user is asked for it.
fn value(args: &Set, session: &Session) -> Result<Value, Failure> {
    let bytes = if let Some(value) = &args.value {
        Zeroizing::new(value.clone().into_bytes())
    } else if let Some(file) = &args.value_file {
        Zeroizing::new(read(file).map_err(failure)?)
    } else if args.value_stdin || terminal::stdin_is_piped() {
        piped(args)?
    } else {
        asked(args, session)?
    };
    if args.json { json_value(&bytes).map_err(failure) } else { Ok(Value::Str(Text::from(bytes.to_vec()))) }
}

/// What is piped in; nothing at all is more likely a command that failed than an empty secret.
fn piped(args: &Set) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let bytes = super::stdin()?;
    if bytes.is_empty() {
        let (file, path) = (args.file.display(), &args.path);
        return Err(Failure::new(Code::InvalidSetFormat, "no value was given: standard input is empty")
            .help(format!("an empty value is set with `civm secrets set {file} {path} ''`")));
    }
    Ok(bytes)
}

fn asked(args: &Set, session: &Session) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let typed = session.prompt.passphrase(&format!("Value of {}: ", args.path)).map_err(|error| {
        Failure::new(Code::InvalidSetFormat, format!("no value was given: {error}"))
            .help("pipe it in, or give a file with --value-file")
    })?;
    Ok(Zeroizing::new(typed.as_bytes().to_vec()))
}
