//! `sops filestatus`.

use std::path::Path;

use super::context::{Context, print};
use super::end::{End, Outcome};
use crate::secrets::session::read;
use crate::secrets::{Error, status};
use crate::store;

pub(super) fn run(context: &Context) -> Outcome {
    // The path as it was given: it is named in the words.
    let path = Path::new(context.file()?);
    let store = context.stores(path)?.input;
    let failed = |end: End| {
        End::Fatal(format!("cannot check file status: cannot load encrypted file: {}", end.into_words()))
    };
    let text = read(path).map_err(|error| failed(error.into()))?;
    let encrypted = match status::metadata(&*store, path, &text) {
        Ok(metadata) => metadata.is_some(),
        Err(Error::Store { error: store::Error::Empty, .. }) => false,
        Err(error) => return Err(failed(End::loading(error))),
    };
    print(format!("{{\"encrypted\":{encrypted}}}\n").as_bytes())
}
