//! YAML as sops reads and writes it, byte for byte.
//!
//! The model is go-yaml 3.0.4 as used by sops 3.13.3: its scanner's rules for comments, its types of
//! scalars, its styles on writing. Where sops would lose data, this store keeps it:
//!
//! - a multi-line string that starts with a tab, or that starts with a space or an empty line and
//!   is in a list, is written so that it reads back;
//! - a key `<<` whose value cannot be merged is quoted;
//! - a multi-line comment does not become part of the string next to it, an empty line
//!   before a comment does not become part of the string above it, and `{}` and `[]` precede their comments;
//! - a value in a later document that does not match its tag is an error, not null.

use rayon::prelude::*;

use crate::sops::tree::{Branch, Tree, Value};
use crate::store::{Error, Store, Surprise, size};

mod chars;
mod check;
mod convert;
mod cursor;
mod emitter;
mod limits;
mod locate;
mod node;
mod number;
pub mod outline;
mod parser;
mod pieces;
mod reader;
mod resolve;
mod scanner;
pub mod settings;
mod span;
mod surprises;
#[cfg(test)]
mod tests;
mod timestamp;
mod token;
mod verify;

use convert::Converter;
use emitter::Emitter;
use parser::Parser;

pub use locate::line_of;
pub use reader::text;

/// The indent when none is configured.
const DEFAULT_INDENT: usize = 4;

/// What a new file starts with.
const EXAMPLE: &str = "\
# Everything below is an example: replace it by your own values.
# They are encrypted when you leave the editor; leave without a change to make no file.
example_key: example_value
example_list:
    - one
    - two
";

/// The YAML store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Yaml {
    /// Spaces of indentation as configured (`stores.yaml.indent`). 0 is the default of 4, 1 and what
    /// is above 9 act as 2, and below 0 nothing can be written.
    pub indent: i64,
}

impl Yaml {
    fn width(self) -> Result<usize, Error> {
        match self.indent {
            0 => Ok(DEFAULT_INDENT),
            indent => usize::try_from(indent)
                .map_err(|_| Error::Unwritable("the indentation of YAML cannot be negative".to_owned())),
        }
    }
}

/// The only document of a text that can be read in pieces of at least so many bytes: see [`pieces`].
fn load_in_pieces(text: &[u8], least: usize) -> Option<Branch> {
    let branches: Option<Vec<Branch>> = pieces::divide(text, least)?
        .into_par_iter()
        .map(|piece| {
            let (parser, document) = piece.read()?;
            Converter::new().document(&parser.nodes, &document).ok()
        })
        .collect();
    let branches = branches?;
    let mut whole = Branch::with_capacity(branches.iter().map(Vec::len).sum());
    branches.into_iter().for_each(|branch| whole.extend(branch));
    pieces::are_distinct(emitter::entries(&whole).map(|(key, _)| key)).then_some(whole)
}

fn load_whole(text: &[u8]) -> Result<Tree, Error> {
    let mut parser = Parser::new(text);
    let mut converter = Converter::new();
    let mut tree = Tree::default();
    while let Some(document) = parser.next_document()? {
        if tree.documents.is_empty() {
            check::first_document(&parser.nodes, document.root)?;
        }
        tree.documents.push(converter.document(&parser.nodes, &document)?);
    }
    if tree.documents.is_empty() {
        return Err(Error::Syntax {
            line: 1,
            message: "there is no document, only comments or white space".to_owned(),
        });
    }
    Ok(tree)
}

impl Store for Yaml {
    fn load(&self, input: &[u8]) -> Result<Tree, Error> {
        if input.is_empty() {
            return Err(Error::Empty);
        }
        let text = reader::read(input)?;
        if let Some(branch) = load_in_pieces(&text, pieces::PIECE) {
            return Ok(Tree { documents: vec![branch] });
        }
        load_whole(&text)
    }

    fn emit(&self, tree: &Tree) -> Result<Vec<u8>, Error> {
        let width = self.width()?;
        let bytes = tree
            .documents
            .iter()
            .map(|branch| size::branch(branch, width.min(*emitter::INDENTS.end())))
            .sum();
        let mut emitter = Emitter::new(width, bytes);
        for (at, branch) in tree.documents.iter().enumerate() {
            emitter.document(branch, at == 0)?;
        }
        Ok(emitter.finish())
    }

    /// A document of its own. As in sops, the configured indent does not count here.
    fn emit_value(&self, value: &Value) -> Result<Vec<u8>, Error> {
        let mut emitter = Emitter::new(DEFAULT_INDENT, 0);
        emitter.value(value)?;
        Ok(emitter.finish())
    }

    fn surprises(&self, input: &[u8]) -> Vec<Surprise> {
        surprises::surprises(input)
    }

    fn verify(&self, tree: &Tree, emitted: &[u8]) -> Result<(), Error> {
        verify::verify(tree, emitted)
    }

    fn example(&self) -> &'static str {
        EXAMPLE
    }
}
