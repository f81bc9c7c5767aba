//! Files of any content: in plaintext their bytes, encrypted a JSON object with one value.

use crate::sops::document;
use crate::sops::text::Text;
use crate::sops::tree::{self, Branch, Item, Tree, Value};
use crate::store::json::Json;
use crate::store::{Error, Store};

/// The key that the content stands under.
const DATA: &str = "data";

/// What a new file starts with.
const EXAMPLE: &str = "Replace this line by the content of the file, which is encrypted as one value.\n";

/// The binary store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binary {
    /// The store of the encrypted form.
    json: Json,
}

impl Binary {
    /// A store that indents its JSON by so many spaces (`stores.json_binary.indent`), by a tab for -1.
    #[must_use]
    pub fn new(indent: i64) -> Self {
        Self { json: Json { indent } }
    }
}

/// The content of a file, where the document has one.
fn content(branch: &Branch) -> Option<&Text> {
    match tree::get(branch, DATA) {
        Some(Value::Str(text) | Value::Bytes(text)) => Some(text),
        _ => None,
    }
}

impl Store for Binary {
    fn load(&self, input: &[u8]) -> Result<Tree, Error> {
        self.json.load(input)
    }

    fn emit(&self, tree: &Tree) -> Result<Vec<u8>, Error> {
        self.json.emit(tree)
    }

    fn load_plain(&self, input: &[u8]) -> Result<Tree, Error> {
        Ok(Tree { documents: vec![vec![Item::entry(DATA, Value::str(input.to_vec()))]] })
    }

    fn emit_plain(&self, tree: &Tree) -> Result<Vec<u8>, Error> {
        match tree.documents.as_slice() {
            [branch] => content(branch).map(|text| text.as_bytes().to_vec()),
            _ => None,
        }
        .ok_or_else(|| {
            Error::Unwritable(format!("a binary file is one document with a text `{DATA}`, and this one is not"))
        })
    }

    /// Only the content itself can be extracted, and text is not the store's concern.
    fn emit_value(&self, _: &Value) -> Result<Vec<u8>, Error> {
        Err(Error::Unwritable(format!("a binary file has no value but [\"{DATA}\"]")))
    }

    /// Also where the content itself is an encrypted file: sops would encrypt it a second time.
    fn is_encrypted(&self, branch: &Branch) -> bool {
        branch.iter().any(document::is_metadata)
            || content(branch)
                .and_then(|text| self.json.load(text.as_bytes()).ok())
                .is_some_and(|tree| document::split(tree).is_ok())
    }

    fn verify(&self, tree: &Tree, emitted: &[u8]) -> Result<(), Error> {
        self.json.verify(tree, emitted)
    }

    fn is_single_value(&self) -> bool {
        true
    }

    fn example(&self) -> &'static str {
        EXAMPLE
    }
}
