//! `sops set`, `sops unset` and `sops --set`.

use std::path::Path;

use zeroize::Zeroizing;

use super::context::Context;
use super::end::{End, Outcome};
use super::flags::{IDEMPOTENT, VALUE_FILE, VALUE_STDIN};
use crate::edge::stream::read_stdin;
use crate::outcome::Code;
use crate::personas::go_text::reason;
use crate::secrets::Error;
use crate::secrets::change::json_value_as_sops;
use crate::sops::key_path::{KeyPath, PathError, Step};
use crate::sops::tree::Value;

pub(super) fn set(context: &Context) -> Outcome {
    let (from_file, from_stdin) = (context.given.is_on(&VALUE_FILE), context.given.is_on(&VALUE_STDIN));
    if from_file && from_stdin {
        return Err(End::generic("Error: cannot use both --value-file and --value-stdin"));
    }
    let (file, index, value) = match (context.given.positional.as_slice(), from_stdin) {
        ([file, index], true) => (file, index, None),
        ([file, index, value], false) => (file, index, Some(value)),
        (_, true) => {
            return Err(missing(
                "Error: file specified, or index and value are missing. Need precisely 2 positional arguments \
                 since --value-stdin is used.",
            ));
        }
        (_, false) => {
            return Err(missing(
                "Error: no file specified, or index and value are missing. Need precisely 3 positional arguments.",
            ));
        }
    };
    let file = context.session.absolute(Path::new(file));
    context.stores(&file)?;
    let path = KeyPath::parse(&index.to_string_lossy()).map_err(|error| malformed("set index", &error))?;
    let text = match value {
        None => read_stdin().map_err(|error| End::stdin(&error))?,
        Some(value) if from_file => {
            let text = std::fs::read(context.session.directory.join(value)).map_err(|error| {
                End::generic(format!("open {}: {}", value.to_string_lossy(), reason(&error)))
            })?;
            Zeroizing::new(text)
        }
        Some(value) => Zeroizing::new(value.as_encoded_bytes().to_vec()),
    };
    let value = json_value_as_sops(&text)?;
    apply(context, &file, &path, &value)
}

/// `sops --set 'PATH VALUE'`: the path ends at the first bracket that a space follows.
pub(super) fn legacy(context: &Context, file: &Path, text: &str) -> Outcome {
    let wrong = || End::Exit(Code::InvalidSetFormat, "Invalid --set format".to_owned());
    let (path, value) = text.split_once("] ").ok_or_else(wrong)?;
    let value = json_value_as_sops(value.as_bytes())?;
    let path = KeyPath::parse(&format!("{path}]")).map_err(|_| wrong())?;
    apply(context, file, &path, &value)
}

pub(super) fn unset(context: &Context) -> Outcome {
    let [file, index] = context.given.positional.as_slice() else {
        return Err(missing("Error: no file specified, or index is missing"));
    };
    let file = context.session.absolute(Path::new(file));
    context.stores(&file)?;
    let idempotent = context.given.is_on(&IDEMPOTENT);
    let wrong = |error: &PathError| malformed("unset index", error);
    let (path, negative) = match KeyPath::parse(&index.to_string_lossy()) {
        // Only a list minds: where there is none, there is nothing to remove. No list is as long as this.
        Err(PathError::Negative { before, index }) => (before.then(Step::Index(usize::MAX)), Some(index)),
        path => (path.map_err(|error| wrong(&error))?, None),
    };
    context.check_order()?;
    context.change(&file, |text| {
        let mut open = context.open_at(&file, &file, text)?;
        match (open.unset(&path), &negative) {
            (Ok(()), _) => Ok(Some(open.reseal(&context.session)?)),
            (Err(Error::Path { error: PathError::OutOfBounds(_), .. }), Some(index)) => {
                Err(wrong(&PathError::Negative { before: path.clone(), index: *index }))
            }
            (Err(error), _) if idempotent && is_absent(&error) => Ok(None),
            (Err(Error::Path { error: PathError::NotFound(Step::Index(_)), .. }), Some(index)) => {
                Err(End::generic(format!("Key not found: {index}")))
            }
            (Err(error), _) => Err(no_such_value(error)),
        }
    })?;
    Ok(0)
}

fn is_absent(error: &Error) -> bool {
    matches!(error, Error::Path { error, .. } if error.is_absent())
}

fn apply(context: &Context, file: &Path, path: &KeyPath, value: &Value) -> Outcome {
    context.stores(file)?;
    context.check_order()?;
    let written = context.change(file, |text| {
        let mut open = context.open_at(file, file, text)?;
        let changed = open.set(path, value.clone()).map_err(no_such_value)?;
        let writes = changed || !context.given.is_on(&IDEMPOTENT);
        if writes { Ok(Some(open.reseal(&context.session)?)) } else { Ok(None) }
    })?;
    if !written {
        context.log.info("File not written due to no change");
    }
    Ok(0)
}

fn missing(words: &str) -> End {
    End::Exit(Code::NoFileSpecified, words.to_owned())
}

fn malformed(what: &str, error: &PathError) -> End {
    End::Exit(Code::InvalidSetFormat, format!("Invalid {what} format: {error}"))
}

fn no_such_value(error: Error) -> End {
    let Error::Path { error, .. } = error else { return error.into() };
    End::generic(match &error {
        PathError::NotFound(step) => format!("Key not found: {}", step.name()),
        PathError::OutOfBounds(step) => format!("Index {} out of bounds", step.name()),
        PathError::WrongKind { step, container } => {
            let container = container.split_once(' ').map_or(*container, |(_, kind)| kind);
            format!("Unsupported type: {container} for item '{}'", step.name())
        }
        _ => error.to_string(),
    })
}
