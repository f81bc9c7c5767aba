//! Lines of `NAME=value` as sops reads and writes them, byte for byte.
//!
//! A name is everything before the first `=` (including spaces and `export `), a value everything after
//! it: quotes are part of it, and only `\n` has a meaning, a newline. A line that starts with `#` is a
//! comment; empty lines are ignored. Where sops would lose data, this store does not:
//!
//! - a name that cannot be a name (with a `=` or a newline in it, or a `#` at its start) is not written;
//! - several documents are not written into one encrypted file, of which sops keeps the first;
//! - null and clear values that their MAC would not match on reading are not written into an encrypted file.
//!
//! In an encrypted file, quotes that another tool has put around the metadata and the ciphertexts are
//! removed, and so is a carriage return after the metadata.

#[cfg(test)]
mod tests;

use super::flat;
use super::texts::{compare, escaped, leaf_bytes, only_document, spelled, unescaped};
use super::{Error, Store};
use crate::sops::buffer::Buffer;
use crate::sops::document::{IsMetadata, is_metadata};
use crate::sops::key_path::{KeyPath, Step};
use crate::sops::metadata::KEY;
use crate::sops::text::Text;
use crate::sops::tree::{Branch, Comment, Item, Key, Tree, Value};
use crate::sops::value::describe;

/// What the names of the metadata start with.
const PREFIX: &[u8] = b"sops_";

/// What a new file starts with.
const EXAMPLE: &str = "\
# Everything below is an example: replace it by your own values.
# They are encrypted when you leave the editor; leave without a change to make no file.
EXAMPLE_KEY=example_value
EXAMPLE_LINES=one\\ntwo
";

/// The dotenv store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dotenv;

enum Line<'a> {
    Comment(&'a [u8]),
    Entry { name: &'a [u8], value: &'a [u8] },
}

/// The lines that say something, with their numbers.
fn lines(input: &[u8]) -> impl Iterator<Item = Result<(usize, Line<'_>), Error>> {
    let lines = input.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    lines.map(|(at, line)| {
        let content = if let Some(comment) = line.strip_prefix(b"#") {
            Line::Comment(comment)
        } else if let Some(equals) = line.iter().position(|byte| *byte == b'=') {
            Line::Entry { name: &line[..equals], value: &line[equals + 1..] }
        } else {
            let message =
                "there is no `=` on this line: it must be `NAME=value` or start with `#`".to_owned();
            return Err(Error::Syntax { line: at + 1, message });
        };
        Ok((at + 1, content))
    })
}

/// A text without a pair of quotes around it.
fn unquoted(text: &[u8]) -> &[u8] {
    match text {
        [b'"', inner @ .., b'"'] | [b'\'', inner @ .., b'\''] => inner,
        _ => text,
    }
}

/// A value of an encrypted file: quotes around a ciphertext are not part of it.
fn without_quotes_of_token(value: &[u8]) -> &[u8] {
    let inner = unquoted(value);
    if inner.starts_with(b"ENC[") && inner.ends_with(b"]") { inner } else { value }
}

fn entry(name: &[u8], value: &[u8]) -> Item {
    Item::entry(name.to_vec(), Value::Str(unescaped(value)))
}

fn comment(text: &[u8]) -> Item {
    Item::Comment(Comment::line(text.to_vec()))
}

fn document(tree: &Tree) -> Result<&Branch, Error> {
    only_document(tree, "a dotenv file")
}

/// Writes the entries and comments of a document.
fn write(out: &mut Buffer, item: &Item) -> Result<(), Error> {
    match item {
        Item::Comment(comment) => {
            for line in comment.text.as_bytes().split(|byte| *byte == b'\n') {
                out.push(b'#');
                out.extend(line);
                out.push(b'\n');
            }
            Ok(())
        }
        Item::Entry(Key::Str(name), value) => {
            let unwritable = |reason: String| {
                let place = KeyPath::from(vec![Step::Key(name.clone())]);
                Error::Unwritable(format!("{place} cannot be in a dotenv file: {reason}"))
            };
            let bytes = name.as_bytes();
            if bytes.starts_with(b"#") || bytes.contains(&b'=') || bytes.contains(&b'\n') {
                return Err(unwritable(
                    "a name must not contain `=` or a newline, or start with `#`".to_owned(),
                ));
            }
            let Some(value) = spelled(value) else {
                return Err(unwritable(format!("its value is {}", describe(value))));
            };
            line(out, bytes, &value);
            Ok(())
        }
        Item::Entry(Key::Other(_), _) => {
            Err(Error::Unwritable("a name in a dotenv file must be a string".to_owned()))
        }
    }
}

fn line(out: &mut Buffer, name: &[u8], value: &[u8]) {
    out.extend(name);
    out.push(b'=');
    escaped(out, value);
    out.push(b'\n');
}

impl Store for Dotenv {
    fn load(&self, input: &[u8]) -> Result<Tree, Error> {
        let mut branch = Branch::new();
        let mut metadata = Vec::new();
        for line in lines(input) {
            match line? {
                (_, Line::Comment(text)) => branch.push(comment(text)),
                (number, Line::Entry { name, value }) => {
                    if let Some(name) = name.strip_prefix(PREFIX) {
                        let value = unquoted(value.strip_suffix(b"\r").unwrap_or(value));
                        metadata.push(flat::Line { name, value, number });
                    } else {
                        branch.push(entry(name, without_quotes_of_token(value)));
                    }
                }
            }
        }
        if !metadata.is_empty() {
            branch.push(Item::entry(KEY, Value::Map(flat::unflatten(&metadata)?)));
        }
        Ok(Tree { documents: vec![branch] })
    }

    fn emit(&self, tree: &Tree) -> Result<Vec<u8>, Error> {
        let mut out = Buffer::default();
        for item in document(tree)? {
            match item {
                Item::Entry(_, Value::Map(metadata)) if is_metadata(item) => {
                    for (name, value) in flat::flatten(metadata)? {
                        line(&mut out, &[PREFIX, name.as_bytes()].concat(), value.as_bytes());
                    }
                }
                Item::Entry(Key::Str(name), _) if name.as_bytes().starts_with(PREFIX) => {
                    let place = KeyPath::from(vec![Step::Key(name.clone())]);
                    return Err(Error::Unwritable(format!(
                        "{place} starts with `sops_`, as only the metadata of a dotenv file may; rename it"
                    )));
                }
                _ => write(&mut out, item)?,
            }
        }
        Ok(out.into_vec())
    }

    fn load_plain(&self, input: &[u8]) -> Result<Tree, Error> {
        let items = lines(input).map(|line| {
            Ok(match line?.1 {
                Line::Comment(text) => comment(text),
                Line::Entry { name, value } => entry(name, value),
            })
        });
        Ok(Tree { documents: vec![items.collect::<Result<_, _>>()?] })
    }

    /// Of several documents the first, as in sops.
    fn emit_plain(&self, tree: &Tree) -> Result<Vec<u8>, Error> {
        let mut out = Buffer::default();
        let first = tree.documents.first().map(Vec::as_slice).unwrap_or_default();
        first.iter().try_for_each(|item| write(&mut out, item))?;
        Ok(out.into_vec())
    }

    /// Strings only, as in sops.
    fn emit_value(&self, value: &Value) -> Result<Vec<u8>, Error> {
        match value {
            Value::Str(text) | Value::Bytes(text) => Ok(Text::as_bytes(text).to_vec()),
            other => Err(Error::Unwritable(format!(
                "a value in a dotenv file must be a string, but this is {}",
                describe(other)
            ))),
        }
    }

    /// A value may be called `sops` here: the metadata has other names in the text, and is a mapping in the tree.
    fn is_metadata(&self) -> IsMetadata {
        |item| is_metadata(item) && matches!(item, Item::Entry(_, Value::Map(_)))
    }

    fn is_encrypted(&self, branch: &Branch) -> bool {
        branch.iter().any(|item| match item {
            Item::Entry(Key::Str(name), _) => name.as_bytes().starts_with(PREFIX),
            _ => false,
        })
    }

    fn verify(&self, tree: &Tree, emitted: &[u8]) -> Result<(), Error> {
        let read = self.load(emitted)?;
        let meant = document(tree)?;
        compare(meant, document(&read)?, leaf_bytes(meant))
    }

    /// A `\n` that is not a newline, which can come from other formats or `set`, would become one.
    fn verify_plain(&self, tree: &Tree, emitted: &[u8]) -> Result<(), Error> {
        let read = self.load_plain(emitted)?;
        compare(document(tree)?, document(&read)?, spelled)
    }

    fn example(&self) -> &'static str {
        EXAMPLE
    }
}
