//! Files with arbitrary content: raw bytes in plaintext, a JSON object with one value when encrypted.

use crate::sops::document;
use crate::sops::text::Text;
use crate::sops::tree::{self, Branch, Item, Tree, Value};
use crate::store::json::Json;
use crate::store::{Error, Store};

/// The key of the content.
pub(super) const DATA: &str = "data";

/// What a new file starts with.
const EXAMPLE: &str =
    "Replace this line with the content of the file, which is encrypted as a single value.\n";

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

fn not_content() -> Error {
    Error::Unwritable(format!(
        "a binary file must be a single document with nothing but a string `{DATA}`; --output-type says what else it is to be"
    ))
}

impl Store for Binary {
    fn load(&self, input: &[u8]) -> Result<Tree, Error> {
        self.json.load(input)
    }

    /// Only what can be decrypted to a file again, and not to JSON with pieces of one.
    fn emit(&self, tree: &Tree) -> Result<Vec<u8>, Error> {
        let is_content_alone = |branch: &Branch| {
            content(branch).is_some()
                && branch.iter().filter(|item| !document::is_metadata(item)).count() == 1
        };
        match tree.documents.as_slice() {
            [branch] if is_content_alone(branch) => self.json.emit(tree),
            _ => Err(not_content()),
        }
    }

    fn load_plain(&self, input: &[u8]) -> Result<Tree, Error> {
        Ok(Tree { documents: vec![vec![Item::entry(DATA, Value::str(input.to_vec()))]] })
    }

    fn emit_plain(&self, tree: &Tree) -> Result<Vec<u8>, Error> {
        match tree.documents.as_slice() {
            [branch] => content(branch).map(|text| text.as_bytes().to_vec()),
            _ => None,
        }
        .ok_or_else(not_content)
    }

    /// Only the content itself can be extracted, and text is not the store's concern.
    fn emit_value(&self, _: &Value) -> Result<Vec<u8>, Error> {
        Err(Error::Unwritable(format!("the only value in a binary file is [\"{DATA}\"]")))
    }

    /// Also where the content itself is an encrypted file: sops would encrypt it a second time.
    fn is_encrypted(&self, branch: &Branch) -> bool {
        branch.iter().any(document::is_metadata)
            || content(branch)
                .and_then(|text| self.json.load(text.as_bytes()).ok())
                .is_some_and(|tree| document::split(tree, document::is_metadata).is_ok())
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

#[cfg(test)]
mod tests {
    use super::*;

    const TABS: Binary = Binary { json: Json { indent: -1 } };

    fn tree(branch: Branch) -> Tree {
        Tree { documents: vec![branch] }
    }

    #[test]
    fn any_bytes_are_the_value_of_data_and_come_back() {
        for content in [b"".as_slice(), b"text\n", b"\0\xff\xfe\x80", b"{\"a\": 1}"] {
            let tree = TABS.load_plain(content).expect("anything goes");
            assert_eq!(tree.documents, [vec![Item::entry("data", Value::str(content.to_vec()))]]);
            assert_eq!(TABS.emit_plain(&tree).as_deref(), Ok(content));
        }
    }

    #[test]
    fn the_encrypted_form_is_json() {
        let tree = TABS.load_plain(b"ENC[x]").expect("anything goes");
        let emitted = TABS.emit(&tree).expect("is written");
        assert_eq!(emitted, b"{\n\t\"data\": \"ENC[x]\"\n}\n");
        assert_eq!(TABS.load(&emitted), Ok(tree.clone()));
        assert_eq!(TABS.verify(&tree, &emitted), Ok(()));
        assert_eq!(Binary::new(1).emit(&tree).as_deref(), Ok(b"{\n \"data\": \"ENC[x]\"\n}\n".as_slice()));
    }

    #[test]
    fn what_has_no_content_is_no_binary_file() {
        let data = |value| tree(vec![Item::entry("data", value)]);
        let mut two = data(Value::str("a"));
        two.documents.extend(data(Value::str("b")).documents);
        for tree in [data(Value::Int(1)), tree(vec![Item::entry("other", Value::str("x"))]), two] {
            assert!(matches!(TABS.emit_plain(&tree), Err(Error::Unwritable(_))));
        }
        assert!(matches!(TABS.emit_value(&Value::Int(1)), Err(Error::Unwritable(_))));
        assert_eq!(TABS.emit_plain(&data(Value::Bytes("old".into()))).as_deref(), Ok(b"old".as_slice()));
    }

    #[test]
    fn an_encrypted_file_is_noticed_and_other_json_is_not() {
        let is_encrypted = |content: &[u8]| {
            let tree = TABS.load_plain(content).expect("anything goes");
            tree.documents.iter().any(|branch| TABS.is_encrypted(branch))
        };
        assert!(is_encrypted(include_bytes!("../../tests/sops/types.enc.json")));
        for content in [r#"{"a": 1}"#, r#"{"sops": {"version": "3.13.3"}}"#, "{\"sops\": 1}", "sops", ""] {
            assert!(!is_encrypted(content.as_bytes()), "{content}");
        }
        assert!(TABS.is_encrypted(&vec![Item::entry("sops", Value::Null)]));
    }
}
