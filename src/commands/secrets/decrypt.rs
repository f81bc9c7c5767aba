//! `civm secrets decrypt`.

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::failure::failure;
use crate::cli::secrets::{Decrypt, PlainFormat};
use crate::commands::Context;
use crate::edge::atomic;
use crate::outcome::{Code, Failure, Outcome};
use crate::secrets::exec::{Nested, Variables};
use crate::secrets::file::{OpenFile, SopsFile};
use crate::secrets::rewrite::transform;
use crate::secrets::session::read;
use crate::secrets::{Error, Session};
use crate::sops::document::MacCheck;
use crate::sops::key_path::KeyPath;
use crate::store::Format;

/// The name of standard input if none is given.
const STDIN: &str = "stdin";

pub(super) fn run(args: &Decrypt, session: &Session, context: &Context) -> Outcome {
    if args.nested.how() != Nested::Refuse && args.output_type != Some(PlainFormat::Sh) {
        let message = "--skip-nested and --flatten require --output-type sh";
        return Err(Failure::new(Code::ConflictingParameters, message));
    }
    if args.in_place && args.output.is_none() && args.output_type == Some(PlainFormat::Sh) {
        // The lines cannot be encrypted again as the file that they replace, and may leave out nested values.
        let message = "--output-type sh prints lines for a shell: it cannot be combined with --in-place";
        return Err(Failure::new(Code::ConflictingParameters, message));
    }
    let path = match &args.extract {
        Some(path) => Some(parse(path)?),
        None => None,
    };
    let file = super::named(args.file.as_ref());
    let text = match file {
        Some(file) => Zeroizing::new(read(file).map_err(failure)?),
        None => from_stdin(args)?,
    };
    let name = args.filename_override.as_deref().or(file).unwrap_or(Path::new(STDIN));
    let mac = if args.ignore_mac { MacCheck::Ignore } else { MacCheck::Verify };
    let input = session.format_of_encrypted(name, &text);
    // A single value, or part of a file, is printed unchanged, whatever the extension of the output file.
    let output = args.output.as_deref().filter(|_| input != Format::Binary && path.is_none());
    let output = match args.output_type {
        Some(PlainFormat::File(format)) => format,
        Some(PlainFormat::Sh) => input,
        None => output.and_then(Format::of_ending).unwrap_or(input),
    };
    let stores = session.stores(name, input, output).map_err(failure)?;
    let loaded = |text: &[u8]| SopsFile::of_store(Arc::clone(&stores.input), name, text).map_err(failure);
    let decrypted = |file: SopsFile| {
        let mut open = file
            .open_to_read(session.identities(), mac)
            .map_err(failure)?
            .with_store(Arc::clone(&stores.output));
        let warnings = std::mem::take(&mut open.warnings);
        let plain = match &path {
            _ if args.output_type == Some(PlainFormat::Sh) => for_shells(args, &open),
            Some(path) => open.extract(path).map_err(|error| super::not_written(error, input, output)),
            None => super::plaintext(&open, input, output),
        }?;
        Ok::<_, Failure>((plain, warnings))
    };
    if args.in_place && args.output.is_none() {
        let in_place = |text: &[u8]| {
            let (plain, warnings) = decrypted(loaded(text)?)?;
            Ok::<_, Failure>((Some(plain), warnings))
        };
        let warnings = transform(file.unwrap_or(name), in_place)?;
        super::warn(context, name, &warnings);
        return Ok(0);
    }
    let file = loaded(&text)?;
    // It is as large as what was read from it, and nobody asks for it any more.
    drop(text);
    let (plain, warnings) = decrypted(file)?;
    super::warn(context, name, &warnings);
    match &args.output {
        // Plaintext is readable only by its owner, whatever the umask.
        Some(output) => {
            atomic::create(output, &plain, 0o600, true).map_err(|error| failure(error.into()))?;
        }
        None => context.screen.data(&plain)?,
    }
    Ok(0)
}

/// Lines that a shell can `eval`.
fn for_shells(args: &Decrypt, open: &OpenFile) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if args.extract.is_some() {
        let message = "--output-type sh prints whole files: it cannot be combined with --extract";
        return Err(Failure::new(Code::ConflictingParameters, message));
    }
    if open.tree.documents.len() > 1 {
        let message = format!(
            "`{}` has {} documents, but variables can come from only one",
            open.path.display(),
            open.tree.documents.len()
        );
        return Err(Failure::new(Code::Dump, message));
    }
    let lines = Variables::of(open, args.nested.how()).and_then(|variables| {
        variables.for_shells().map_err(|error| Error::Variable { path: open.path.clone(), error })
    });
    lines.map_err(failure)
}

/// A key path, with sops' exit code if it is malformed.
fn parse(text: &str) -> Result<KeyPath, Failure> {
    KeyPath::parse(text).map_err(|error| {
        Failure::new(Code::InvalidTreePath, format!("error parsing --extract path: {error}"))
            .help("a path looks like '[\"key\"][\"inner\"][0]'")
    })
}

fn from_stdin(args: &Decrypt) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if args.in_place {
        return Err(Failure::new(Code::NoFileSpecified, "stdin cannot be decrypted in place"));
    }
    super::stdin()
}
