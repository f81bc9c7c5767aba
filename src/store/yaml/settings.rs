//! A settings file such as `.sops.yaml`, read into types as go-yaml does it: a text is any scalar as it is spelled, a
//! flag may be `yes` or `on`, a number may be written as a float, and null items of a list do not count.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use super::limits;
use super::node::{Content, Id, Nodes, Tag};
use super::parser::Parser;
use super::{reader, resolve};
use crate::sops::tree::Value;
use crate::store::Error;

/// Nodes that may be looked at, aliases followed. No settings file comes near it; one made of aliases to aliases does.
const VISITS: usize = 100_000;

/// Names less similar than this are not suggested.
const ALIKE: f64 = 0.75;

/// The first document of a file. Others do not count.
pub struct Document {
    nodes: Nodes<'static>,
    root: Option<Id>,
    visits: Cell<usize>,
}

/// A node of it; where it was an alias, what that stands for.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    document: &'a Document,
    id: Id,
    /// Its line, from 1.
    pub line: usize,
}

/// A key and its value.
#[derive(Clone)]
pub struct Entry<'a> {
    /// The key as it is spelled.
    pub name: String,
    /// The line of the key, from 1.
    pub line: usize,
    /// The value.
    pub value: Node<'a>,
}

impl Document {
    /// Reads a file, in UTF-8 or in UTF-16 with a byte order mark.
    ///
    /// # Errors
    /// Text that is not YAML, or beyond a limit.
    pub fn parse(input: &[u8]) -> Result<Self, Error> {
        let text = reader::read(input)?;
        let mut parser = Parser::new(&text);
        let root = parser.next_document()?.map(|document| document.root);
        Ok(Self { nodes: parser.nodes.into_owned(), root, visits: Cell::new(0) })
    }

    /// Its root; `None` where it holds nothing.
    ///
    /// # Errors
    /// An alias inside what it stands for.
    pub fn root(&self) -> Result<Option<Node<'_>>, Error> {
        let node = self.root.map(|id| self.node(id)).transpose()?;
        Ok(node.filter(|node| !node.is_null()))
    }

    fn node(&self, mut id: Id) -> Result<Node<'_>, Error> {
        let line = self.nodes.get(id).line;
        self.visits.set(self.visits.get() + 1);
        if self.visits.get() > VISITS {
            return Err(Error::Limit { line, limit: VISITS, what: "values expanded from aliases" });
        }
        // An anchor comes before its aliases, so this terminates.
        while let Content::Alias(target) = self.nodes.get(id).content {
            id = target;
        }
        Ok(Node { document: self, id, line })
    }
}

impl<'a> Node<'a> {
    fn content(&self) -> &'a Content<'static> {
        &self.document.nodes.get(self.id).content
    }

    /// Its value, where it is a scalar.
    fn scalar(&self) -> Result<Option<Value>, Error> {
        let Content::Scalar { text, tag } = self.content() else { return Ok(None) };
        let value = resolve::value(text, *tag);
        value.map(Some).ok_or_else(|| self.wrong("the value does not match its tag"))
    }

    /// Whether it is null or not there at all.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self.scalar(), Ok(Some(Value::Null)))
    }

    /// Whether it is a string where any type may be.
    #[must_use]
    pub fn is_string(&self) -> bool {
        matches!(self.scalar(), Ok(Some(Value::Str(_))))
    }

    /// An error about it.
    #[must_use]
    pub fn wrong(&self, message: impl Into<String>) -> Error {
        Error::Syntax { line: self.line, message: message.into() }
    }

    /// A scalar as it is spelled, so that `12` and `true` are text as well; `None` is null.
    ///
    /// # Errors
    /// A list or a mapping.
    pub fn text(&self) -> Result<Option<String>, Error> {
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match (self.content(), self.scalar()?) {
            (_, Some(Value::Null)) => Ok(None),
            (Content::Scalar { tag: Tag::Binary, .. }, Some(Value::Str(bytes))) => {
                Ok(Some(lossy(bytes.as_bytes())))
            }
            (Content::Scalar { text, .. }, _) => Ok(Some(lossy(text))),
            _ => Err(self.wrong(format!("expected a string, but got {}", self.kind()))),
        }
    }

    /// A flag, in YAML 1.1's words too; `None` is null.
    ///
    /// # Errors
    /// Anything else.
    pub fn flag(&self) -> Result<Option<bool>, Error> {
        let word = match self.scalar()? {
            Some(Value::Null) => return Ok(None),
            Some(Value::Bool(flag)) => return Ok(Some(flag)),
            Some(Value::Str(text)) => text.as_str().unwrap_or_default().to_owned(),
            _ => String::new(),
        };
        match word.as_str() {
            "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Ok(Some(true)),
            "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Ok(Some(false)),
            _ => Err(self.wrong("expected true or false")),
        }
    }

    /// A whole number; what a float has after its point is cut off. `None` is null.
    ///
    /// # Errors
    /// Anything else, or a number out of range.
    pub fn number(&self) -> Result<Option<i64>, Error> {
        let number = match self.scalar()? {
            Some(Value::Null) => return Ok(None),
            Some(Value::Int(number)) => Some(number),
            Some(Value::Float(number)) => format!("{:.0}", number.trunc()).parse().ok(),
            _ => None,
        };
        number.map(Some).ok_or_else(|| self.wrong("expected a whole number"))
    }

    /// The items of a list, without those that are null; `None` is null.
    ///
    /// # Errors
    /// Anything else.
    pub fn items(&self) -> Result<Option<Vec<Self>>, Error> {
        let items = self.all_items()?;
        Ok(items.map(|items| items.into_iter().filter(|item| !item.is_null()).collect()))
    }

    /// The items of a list with those that are null.
    ///
    /// # Errors
    /// As [`Node::items`].
    pub fn all_items(&self) -> Result<Option<Vec<Self>>, Error> {
        match self.content() {
            Content::Sequence(items) => {
                items.iter().map(|item| self.document.node(*item)).collect::<Result<_, _>>().map(Some)
            }
            _ if self.is_null() => Ok(None),
            _ => Err(self.wrong(format!("expected a list, but got {}", self.kind()))),
        }
    }

    /// The entries of a mapping, its own first and then those of its merge keys that it does not have itself; none
    /// of null.
    ///
    /// # Errors
    /// Anything else, a key that is given twice or is not a scalar, a merge key whose value is not mappings.
    pub fn entries(&self) -> Result<Vec<Entry<'a>>, Error> {
        let mut entries = Vec::new();
        self.collect(&mut HashSet::new(), 0, &mut entries)?;
        Ok(entries)
    }

    fn collect(
        &self,
        seen: &mut HashSet<String>,
        depth: usize,
        entries: &mut Vec<Entry<'a>>,
    ) -> Result<(), Error> {
        let children = match self.content() {
            Content::Mapping(children) => children,
            _ if depth == 0 && self.is_null() => return Ok(()),
            _ if depth == 0 => return Err(self.wrong(format!("expected a mapping, but got {}", self.kind()))),
            _ => return Err(self.wrong("the merge key '<<' needs a mapping or a list of mappings")),
        };
        if depth > limits::DEPTH {
            return Err(Error::Limit { line: self.line, limit: limits::DEPTH, what: "levels of nesting" });
        }
        let mut lines = HashMap::new();
        let mut merges = Vec::new();
        for pair in children.chunks_exact(2) {
            let (key, value) = (self.document.node(pair[0])?, self.document.node(pair[1])?);
            if let Content::Scalar { text, tag: Tag::None | Tag::Merge } = key.content()
                && **text == *b"<<"
            {
                merges.push(value);
                continue;
            }
            let Some(name) = key.text()? else { continue };
            if let Some(first) = lines.insert(name.clone(), key.line) {
                return Err(key.wrong(format!("`{name}` is given already, on line {first}")));
            }
            if seen.insert(name.clone()) {
                entries.push(Entry { name, line: key.line, value });
            }
        }
        for merged in merges {
            match merged.content() {
                Content::Sequence(_) => {
                    for item in merged.all_items()?.unwrap_or_default() {
                        item.collect(seen, depth + 1, entries)?;
                    }
                }
                _ => merged.collect(seen, depth + 1, entries)?,
            }
        }
        Ok(())
    }

    /// What it is, in words.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.content() {
            Content::Mapping(_) => "a mapping",
            Content::Sequence(_) => "a list",
            _ if self.is_null() => "nothing",
            _ if self.is_string() => "text",
            _ => "a number, a boolean or a time",
        }
    }
}

/// The known name that looks most like a given one, if any does: what was probably meant.
pub fn alike<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (likeness(given, name), name))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, name)| name)
}

/// From 0 to 1. In a short name two letters that changed places make nothing alike, hence the second measure.
fn likeness(given: &str, name: &str) -> f64 {
    let swapped = if strsim::damerau_levenshtein(given, name) <= 1 { ALIKE } else { 0.0 };
    strsim::jaro_winkler(given, name).max(swapped)
}
