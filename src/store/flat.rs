//! Metadata as a flat list of names and texts, the form that dotenv and INI files keep it in.
//!
//! A mapping's entry is `__map_NAME` after the name of the mapping, an item of a list `__list_NUMBER`; a
//! newline in a value is written `\n`. Empty mappings and lists have no such form and are left out.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::Error;
use super::texts::{escaped, repeated, spelled, unescaped};
use crate::sops::buffer::Buffer;
use crate::sops::text::Text;
use crate::sops::tree::{Branch, Item, Key, Value};

const MAP: &[u8] = b"__map_";
const LIST: &[u8] = b"__list_";
/// Steps in one name. The metadata of sops has five at most; the context of a KMS key adds one.
const MAX_STEPS: usize = 32;

/// A name and its value, as written in the file.
pub(super) struct Line<'a> {
    /// The name, without what marks it as metadata.
    pub(super) name: &'a [u8],
    /// The value, newlines still written `\n`.
    pub(super) value: &'a [u8],
    /// Where, counted from 1.
    pub(super) number: usize,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Step<'a> {
    Map(&'a [u8]),
    List(usize),
}

/// What one name leads to. A well-formed one has a value, or steps of one kind.
struct Node<'a> {
    value: Option<&'a [u8]>,
    steps: BTreeMap<Step<'a>, Node<'a>>,
    /// The line that came here first, for messages.
    number: usize,
}

/// The metadata that the lines stand for. They may stand in any order.
///
/// # Errors
/// Names that contradict each other, by line.
pub(super) fn unflatten(lines: &[Line<'_>]) -> Result<Branch, Error> {
    let mut root = Node { value: None, steps: BTreeMap::new(), number: 1 };
    for line in lines {
        let mut node = &mut root;
        for step in steps(line)? {
            node = match node.steps.entry(step) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => {
                    place.insert(Node { value: None, steps: BTreeMap::new(), number: line.number })
                }
            };
        }
        if node.value.replace(line.value).is_some() {
            return Err(wrong(line.number, format!("Duplicate value: {} is given twice", shown(line.name))));
        }
    }
    branch(root)
}

/// The metadata's lines in order: names, and values with their newlines written `\n`.
///
/// # Errors
/// A key that is not a string, two values of one name.
pub(super) fn flatten(metadata: &Branch) -> Result<Vec<(Text, Text)>, Error> {
    let mut lines = Vec::new();
    descend(metadata, &[], &mut lines)?;
    match repeated(lines.iter().map(|(name, _)| name)) {
        Some(name) => {
            let name = shown(name.as_bytes());
            Err(Error::Unwritable(format!("the metadata has two values that would both be named {name}")))
        }
        None => Ok(lines),
    }
}

fn steps<'a>(line: &Line<'a>) -> Result<Vec<Step<'a>>, Error> {
    let mut steps = Vec::new();
    let mut rest = line.name;
    let mut in_list = false;
    loop {
        let end = (0..rest.len())
            .find(|at| rest[*at..].starts_with(MAP) || rest[*at..].starts_with(LIST))
            .unwrap_or(rest.len());
        let (name, behind) = rest.split_at(end);
        steps.push(if in_list { Step::List(index(name, line)?) } else { Step::Map(name) });
        if steps.len() > MAX_STEPS {
            return Err(Error::Limit { line: line.number, limit: MAX_STEPS, what: "steps in a name" });
        }
        if let Some(behind) = behind.strip_prefix(MAP) {
            (rest, in_list) = (behind, false);
        } else if let Some(behind) = behind.strip_prefix(LIST) {
            (rest, in_list) = (behind, true);
        } else {
            return Ok(steps);
        }
    }
}

fn index(digits: &[u8], line: &Line<'_>) -> Result<usize, Error> {
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| {
        wrong(line.number, format!("`__list_` without a number after it in {}", shown(line.name)))
    })
}

fn branch(node: Node<'_>) -> Result<Branch, Error> {
    node.steps
        .into_iter()
        .map(|(step, node)| match step {
            Step::Map(name) => Ok(Item::entry(name.to_vec(), value(node)?)),
            Step::List(_) => Err(mismatch(node.number)),
        })
        .collect()
}

fn value(node: Node<'_>) -> Result<Value, Error> {
    match (node.value, node.steps.keys().next()) {
        (Some(_), Some(_)) => Err(mismatch(node.number)),
        (None, Some(Step::List(_))) => list(node),
        (None, _) => Ok(Value::Map(branch(node)?)),
        (Some(value), None) => Ok(Value::Str(unescaped(value))),
    }
}

fn list(node: Node<'_>) -> Result<Value, Error> {
    let number = node.number;
    let items = node.steps.into_iter().enumerate().map(|(at, (step, node))| match step {
        Step::List(index) if index == at => value(node),
        Step::List(_) => Err(wrong(number, format!("Incomplete list: the item {at} is missing"))),
        Step::Map(_) => Err(mismatch(node.number)),
    });
    Ok(Value::List(items.collect::<Result<_, _>>()?))
}

fn mismatch(line: usize) -> Error {
    wrong(line, "Type mismatch: the same name is used for a value and for a mapping or list".to_owned())
}

fn wrong(line: usize, message: String) -> Error {
    Error::Syntax { line, message: format!("in the sops metadata: {message}") }
}

fn shown(name: &[u8]) -> String {
    format!("`{}`", String::from_utf8_lossy(name).escape_debug())
}

fn descend(branch: &Branch, prefix: &[u8], lines: &mut Vec<(Text, Text)>) -> Result<(), Error> {
    for item in branch {
        match item {
            Item::Comment(_) => {}
            Item::Entry(Key::Str(key), value) => leaf(value, [prefix, key.as_bytes()].concat(), lines)?,
            Item::Entry(Key::Other(_), _) => {
                return Err(Error::Unwritable("the metadata has a key that is not a string".to_owned()));
            }
        }
    }
    Ok(())
}

fn leaf(value: &Value, name: Vec<u8>, lines: &mut Vec<(Text, Text)>) -> Result<(), Error> {
    match value {
        Value::Map(branch) => descend(branch, &[name.as_slice(), MAP].concat(), lines),
        Value::List(items) => {
            let items = items.iter().filter(|item| !matches!(item, Value::Comment(_)));
            items.enumerate().try_for_each(|(at, item)| {
                leaf(item, [&name, LIST, at.to_string().as_bytes()].concat(), lines)
            })
        }
        scalar => {
            let mut text = Buffer::default();
            if let Some(bytes) = spelled(scalar) {
                escaped(&mut text, &bytes);
            }
            lines.push((name.into(), text.into_vec().into()));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
