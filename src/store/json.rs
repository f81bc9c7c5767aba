//! JSON as sops reads and writes it, byte for byte.
//!
//! The model is Go's `encoding/json` as used by sops 3.13.3: entries stay in order, duplicate keys are kept,
//! anything after the top-level object is ignored, integers and floats are distinct, and escapes are Go's.
//! serde_json is not suitable: it reads `-0` as a float, refuses lone surrogates and bytes that are not UTF-8,
//! and leaves plaintext behind in its buffers. Where sops would lose data, this store is stricter:
//!
//! - a text that ends inside its top-level object is an error, whereas sops silently drops the last entry of
//!   some such texts;
//! - several documents are not written to one encrypted file, of which sops keeps only the first.

mod emitter;
mod reader;
mod string;
#[cfg(test)]
mod tests;
mod verify;

use crate::sops::tree::{Tree, Value};
use crate::store::{Error, Store};

use emitter::Emitter;
use reader::Reader;

/// What a new file starts with.
const EXAMPLE: &str = r#"{
	"example_key": "example_value",
	"example_list": [
		"replace all of this by your own values",
		"they are encrypted when you leave the editor"
	]
}
"#;

/// The JSON store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json {
    /// Spaces of indentation as configured (`stores.json.indent`). -1 is a tab, and below that nothing
    /// can be written.
    pub indent: i64,
}

/// Reads a single value, as given on a command line.
///
/// # Errors
/// It is not JSON, or there is something after it.
pub fn value(text: &[u8]) -> Result<Value, Error> {
    Reader::new(text).lone_value()
}

impl Store for Json {
    fn load(&self, input: &[u8]) -> Result<Tree, Error> {
        Ok(Tree { documents: vec![Reader::new(input).document()?] })
    }

    fn emit(&self, tree: &Tree) -> Result<Vec<u8>, Error> {
        match tree.documents.len() {
            0 | 1 => self.emit_plain(tree),
            _ => Err(Error::Unwritable("a JSON file holds one document, and there are several".to_owned())),
        }
    }

    /// Of several documents the first, as in sops.
    fn emit_plain(&self, tree: &Tree) -> Result<Vec<u8>, Error> {
        let mut emitter = Emitter::new(self.indent)?;
        let Some(branch) = tree.documents.first() else {
            return Err(Error::Unwritable("there is no document to write".to_owned()));
        };
        emitter.document(branch)?;
        Ok(emitter.finish())
    }

    fn emit_value(&self, value: &Value) -> Result<Vec<u8>, Error> {
        let mut emitter = Emitter::new(self.indent)?;
        emitter.value(value)?;
        Ok(emitter.finish())
    }

    fn verify(&self, tree: &Tree, emitted: &[u8]) -> Result<(), Error> {
        verify::verify(tree, emitted)
    }

    fn example(&self) -> &'static str {
        EXAMPLE
    }
}
