//! INI as sops reads and writes it, byte for byte.
//!
//! The model is go-ini 1.67.3 as used by sops 3.13.3, with sections that may repeat. Anything before the first
//! header belongs to the section `DEFAULT`. Where sops would lose data, this store does not:
//!
//! | in the file | sops | here |
//! |---|---|---|
//! | `k = a;b`, `k = a#b` | the value `a` and a comment | the value `a;b`: a comment needs white space before it |
//! | `k = "a ; b"`, `k = 'a#b'` | the value `"a` and a comment | the value `a ; b` |
//! | `k = #a` | no value, and a comment | an error: it is ambiguous |
//! | a key twice in a section | the last value | an error |
//! | something after a closing quote or bracket | dropped | an error, unless it is a comment |
//! | a comment after a value in backticks or `"""` | dropped | a comment of that key |
//! | a comment at the end of the file | dropped | a comment of the last key or section |
//! | an empty comment line above others | a crash on decryption | an empty line of the comment |
//! | UTF-16 | keys and values with NUL bytes | an error |
//!
//! | in the tree | sops writes | here |
//! |---|---|---|
//! | a value with quotes around it, a backslash at its end, `"""` in it, … | what reads back otherwise | it in other quotes, or an error |
//! | a key with `#`, `;` or `[` at its start, with two kinds of quotes, … | what reads back otherwise | it in other quotes, or an error |
//! | a first section `default` | no header, so that nothing decrypts | its header |
//! | several comments on one key | keeps the last | keeps all |
//! | a mapping or list in a section | Go's notation for it | an error |
//! | null, or clear values that their MAC would not match on reading, for encryption | a file that nobody can decrypt | an error |
//! | several documents, for encryption | a file that nobody can decrypt | an error |
//!
//! Comments from other formats that are outside any section cannot be represented and are left out, as in sops.

mod convert;
mod reader;
mod space;
#[cfg(test)]
mod tests;
mod writer;

use super::flat;
use super::json::Json;
use super::texts::{compare, leaf_bytes, only_document};
use super::{Error, Store};
use crate::sops::metadata::KEY;
use crate::sops::tree::{Branch, Item, Key, Tree, Value};
use convert::{entry, sections, tokens};
use reader::{DEFAULT, attach};

/// What a new file starts with.
const EXAMPLE: &str = "\
; Everything below is an example: replace it by your own values.
; They are encrypted when you leave the editor; leave without a change to make no file.
[example]
key     = value
another = second value
";

/// The INI store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ini;

impl Store for Ini {
    fn load(&self, input: &[u8]) -> Result<Tree, Error> {
        let mut branch = Branch::new();
        let mut sections = reader::read(input)?;
        // sops writes no comment there: this one was the last of the data.
        for at in 1..sections.len() {
            if sections[at].name == KEY {
                let comment = sections[at].comment.take();
                attach(&mut sections[..at], comment);
            }
        }
        for section in sections {
            if section.name == KEY {
                let lines: Vec<_> = section
                    .keys
                    .iter()
                    .map(|pair| flat::Line {
                        name: pair.name.as_bytes(),
                        value: pair.value.as_bytes(),
                        number: pair.line,
                    })
                    .collect();
                branch.push(Item::entry(KEY, Value::Map(flat::unflatten(&lines)?)));
            } else {
                branch.push(entry(section, tokens));
            }
        }
        Ok(Tree { documents: vec![branch] })
    }

    fn emit(&self, tree: &Tree) -> Result<Vec<u8>, Error> {
        writer::write(&sections(only_document(tree, "an INI file")?)?)
    }

    fn load_plain(&self, input: &[u8]) -> Result<Tree, Error> {
        let sections = reader::read(input)?;
        Ok(Tree {
            documents: vec![
                sections.into_iter().map(|section| entry(section, |comment| vec![comment])).collect(),
            ],
        })
    }

    /// Several documents one after the other, as in sops.
    fn emit_plain(&self, tree: &Tree) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        for branch in &tree.documents {
            all.extend(sections(branch)?);
        }
        writer::write(&all)
    }

    /// In JSON, as in sops.
    fn emit_value(&self, value: &Value) -> Result<Vec<u8>, Error> {
        Json { indent: -1 }.emit_value(value)
    }

    fn verify(&self, tree: &Tree, emitted: &[u8]) -> Result<(), Error> {
        let meant = only_document(tree, "an INI file")?;
        let read = self.load(emitted)?;
        let mut found = only_document(&read, "an INI file")?.as_slice();
        // Every file that is read has this section.
        let first = meant.iter().find(|item| matches!(item, Item::Entry(..)));
        if !matches!(first, Some(Item::Entry(Key::Str(name), _)) if *name == DEFAULT) {
            found = found.get(1..).unwrap_or_default();
        }
        compare(meant, found, leaf_bytes(meant))
    }

    fn example(&self) -> &'static str {
        EXAMPLE
    }
}
