//! `sops filestatus`.

use std::path::Path;

use super::context::{Context, print, print_error};
use super::end::{End, Outcome};
use super::flags::{CHECK_FILE, INPUT_TYPE};
use super::log::harmless;
use crate::secrets::check::Source;
use crate::secrets::discover::candidates;
use crate::secrets::session::read;
use crate::secrets::{self, Error, status};
use crate::store;

pub(super) fn run(context: &Context) -> Outcome {
    // The path as it was given: it is named in the words.
    let path = Path::new(context.file()?);
    let store = context.stores_at(path, path)?.input;
    let failed = |end: End| {
        End::Fatal(format!("cannot check file status: cannot load encrypted file: {}", end.into_message()))
    };
    let text = read(path).map_err(|error| failed(error.into()))?;
    context.in_front(&[CHECK_FILE])?;
    if context.given.is_on(&CHECK_FILE) {
        return check(context, path);
    }
    let encrypted = match status::metadata(&*store, path, &text) {
        Ok(metadata) => metadata.is_some(),
        Err(Error::Store { error: store::Error::Empty, .. }) => false,
        Err(error) => return Err(failed(End::loading(error))),
    };
    print(format!("{{\"encrypted\":{encrypted}}}\n").as_bytes())
}

/// What `civm secrets check` finds in the file.
fn check(context: &Context, path: &Path) -> Outcome {
    context.alone(&CHECK_FILE, &[INPUT_TYPE])?;
    let session = &context.session;
    let sources = candidates(&[path.to_path_buf()], &session.environment).into_iter().map(Source::of);
    let report = secrets::check::check(session, sources.collect(), false);
    for path in &report.unruled {
        context.log.warn(&format!("no rule for {}", session.shown(path)));
    }
    for finding in &report.findings {
        print(harmless(&format!("{}\n", finding.line(session))).as_bytes())?;
    }
    for line in report.help() {
        print_error(&format!("help: {line}"));
    }
    Ok(u8::from(report.fails()))
}
