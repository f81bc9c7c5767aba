//! `sops filestatus`.

use std::path::Path;

use super::context::{Context, print};
use super::end::{End, Outcome};
use crate::secrets::session::read;
use crate::secrets::status;

pub(super) fn run(context: &Context) -> Outcome {
    // The path as it was given: it is named in the words.
    let path = Path::new(context.file()?);
    let store = context.stores(path)?.input;
    let failed = |end: End| {
        End::Fatal(format!("cannot check file status: cannot load encrypted file: {}", end.into_words()))
    };
    let text = read(&context.session.directory.join(path)).map_err(|error| failed(error.into()))?;
    let metadata = status::metadata(&*store, path, &text).map_err(|error| failed(End::loading(error)))?;
    print(format!("{{\"encrypted\":{}}}\n", metadata.is_some()).as_bytes())
}
