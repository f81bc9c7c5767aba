//! `sops decrypt` and `sops -d`.

use std::path::Path;

use super::context::{Context, conflict, print};
use super::encrypt::named;
use super::end::{End, Outcome};
use super::flags::{EXTRACT, IN_PLACE, OUTPUT, OUTPUT_TYPE, TEXTCONV};
use super::source::Source;
use crate::outcome::Code;
use crate::secrets::file::SopsFile;
use crate::secrets::{self, Error};
use crate::sops::key_path::{KeyPath, PathError, Step};
use crate::store::{self, Format};

pub(super) fn run(context: &Context) -> Outcome {
    let source = match context.given.positional.first() {
        Some(file) => Source::File(context.session.absolute(Path::new(file))),
        None if context.given.is_on(&IN_PLACE) => {
            return Err(conflict("Error: cannot use --in-place when reading from stdin"));
        }
        None => Source::Stdin,
    };
    context.warn_of_more();
    context.one_target()?;
    if let Source::File(path) = &source {
        Context::must_exist(path)?;
    }
    context.in_front(&[TEXTCONV])?;
    if context.given.is_on(&TEXTCONV) { textconv(context, &source) } else { decrypt(context, &source) }
}

/// What git compares: the plaintext, or the text as it is where nothing at hand opens it.
fn textconv(context: &Context, source: &Source) -> Outcome {
    context.alone(&TEXTCONV, &[IN_PLACE, OUTPUT, OUTPUT_TYPE, EXTRACT])?;
    let name = named(context, source.path());
    let text = source.read()?;
    let format = context.format_of_encrypted(&name, &text);
    match secrets::textconv::textconv(&context.session, format, &name, &text) {
        Ok(plain) => print(&plain),
        Err(error) => {
            context.log.info(&format!("shown encrypted: {error}"));
            print(&text)
        }
    }
}

/// Decrypts a text that is there.
pub(super) fn decrypt(context: &Context, source: &Source) -> Outcome {
    let name = named(context, source.path());
    // Broken rules are an error before the file is read.
    context.stores(&name)?;
    context.check_order()?;
    let path = KeyPath::parse(&context.text(&EXTRACT)).map_err(|error| {
        End::Exit(Code::InvalidTreePath, format!("error parsing --extract path: {error}"))
    })?;
    let read = |text: &[u8]| {
        let stores = context.stores_of_encrypted(&name, text)?;
        let file = SopsFile::of_store(stores.input, &name, text).map_err(End::loading)?;
        Ok((file, stores.output, stores.output_format))
    };
    context.deliver(source, true, read, |(file, output, format)| {
        let open = context.opened_to_read(file)?.with_store(output);
        let plain = if path.is_empty() { open.plaintext() } else { open.extract(&path) };
        plain.map_err(|error| dumping(error, format))
    })
}

/// A plaintext that could not be written.
pub(super) fn dumping(error: Error, format: Format) -> End {
    match error {
        Error::Path { error: PathError::NotFound(Step::Key(key)), .. } => {
            let key = String::from_utf8_lossy(key.as_bytes());
            End::generic(format!("error truncating tree: component ['{key}'] not found"))
        }
        Error::Path { error, .. } => End::generic(format!("error truncating tree: {error}")),
        Error::Store { error: store::Error::Unwritable(why), .. } => {
            let hint = match format {
                Format::Binary => {
                    "\n\nThis is likely not an encrypted binary file? If not, use --output-type to select the \
                     correct output type."
                }
                _ => "",
            };
            End::Exit(Code::Dump, format!("Error dumping file: {why}{hint}"))
        }
        other => other.into(),
    }
}
