//! Sections as parts of a tree and back.

use super::reader::{Pair, Section, attach, without_marker};
use crate::sops::buffer::Buffer;
use crate::sops::document::is_metadata;
use crate::sops::key_path::{KeyPath, Step};
use crate::sops::text::Text;
use crate::sops::token::Token;
use crate::sops::tree::{Branch, Comment, Item, Key, Value};
use crate::sops::value::describe;
use crate::store::texts::{repeated, spelled};
use crate::store::{Error, flat};

/// A section as an entry of the document: its comment first, that of a key after the key.
pub(super) fn entry(section: Section, comments: impl Fn(Text) -> Vec<Text>) -> Item {
    let comments = |comment: Option<Text>| {
        comment.map(&comments).unwrap_or_default().into_iter().map(|text| Item::Comment(Comment::line(text)))
    };
    let mut branch: Branch = comments(section.comment).collect();
    for pair in section.keys {
        branch.push(Item::entry(pair.name, Value::Str(pair.value)));
        branch.extend(comments(pair.comment));
    }
    Item::entry(section.name, Value::Map(branch))
}

/// The comments in a comment of an encrypted file: every line one, if all are ciphertexts. sops never writes
/// that, see [`sections`].
pub(super) fn tokens(comment: Text) -> Vec<Text> {
    let lines = comment.as_bytes().split(|byte| *byte == b'\n');
    let lines: Vec<_> = lines.map(|line| without_marker(line).unwrap_or_default()).collect();
    if lines.len() > 1 && lines.iter().all(|line| Token::parse(line).is_ok()) {
        return lines.into_iter().map(|line| line.to_vec().into()).collect();
    }
    vec![comment]
}

/// The sections that a document stands for. Several comments of one key, as other formats have them, are put
/// below each other.
///
/// # Errors
/// Anything that is not a section of scalars.
pub(super) fn sections(branch: &Branch) -> Result<Vec<Section>, Error> {
    let mut sections = Vec::new();
    for item in branch {
        let Item::Entry(key, value) = item else { continue };
        let Key::Str(name) = key else {
            return Err(Error::Unwritable("the name of a section must be a string".to_owned()));
        };
        let Value::Map(items) = value else {
            return Err(unwritable(
                &[name],
                &format!("a section must be a mapping, not {}", describe(value)),
            ));
        };
        let mut section = Section { name: name.clone(), ..Section::default() };
        if is_metadata(item) {
            let lines = flat::flatten(items)?.into_iter();
            section.keys = lines.map(|(name, value)| Pair { name, value, comment: None, line: 0 }).collect();
        } else {
            add(&mut section, items)?;
            if let Some(name) = repeated(section.keys.iter().map(|pair| &pair.name)) {
                return Err(unwritable(&[&section.name, name], "the section has this key twice"));
            }
        }
        sections.push(section);
    }
    Ok(sections)
}

/// The items of a section. The comments behind a key, or behind the header, are one.
fn add(section: &mut Section, items: &[Item]) -> Result<(), Error> {
    let mut comment: Option<Buffer> = None;
    for item in items {
        match item {
            Item::Comment(next) => match &mut comment {
                Some(lines) => {
                    lines.push(b'\n');
                    lines.extend(next.text.as_bytes());
                }
                None => comment.get_or_insert_default().extend(next.text.as_bytes()),
            },
            Item::Entry(Key::Str(name), value) => {
                let Some(text) = spelled(value) else {
                    let reason =
                        format!("its value is {}, but a section can hold only strings", describe(value));
                    return Err(unwritable(&[&section.name, name], &reason));
                };
                let value = text.to_vec().into();
                put(section, comment.take());
                section.keys.push(Pair { name: name.clone(), value, comment: None, line: 0 });
            }
            Item::Entry(Key::Other(_), _) => {
                return Err(unwritable(&[&section.name], "a key in it is not a string"));
            }
        }
    }
    put(section, comment);
    Ok(())
}

fn put(section: &mut Section, comment: Option<Buffer>) {
    if let Some(comment) = comment {
        attach(std::slice::from_mut(section), Some(comment.into_vec().into()));
    }
}

/// Why something of the tree has no place in the format.
pub(super) fn unwritable(path: &[&Text], reason: &str) -> Error {
    let steps: Vec<_> = path.iter().map(|name| Step::Key((*name).clone())).collect();
    Error::Unwritable(format!("{} cannot be in an INI file: {reason}", KeyPath::from(steps)))
}
