//! The positions of all parts of a document in its text, for edits that keep all other bytes.

mod ends;
#[cfg(test)]
mod tests;

use std::ops::Range;

use super::limits;
use super::reader;
use super::scanner::Scanner;
use super::token::Kind;
use crate::store::Error;

/// A node and the bytes that it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// From its first byte, including anchor and tag, to after its last. For a block-style collection that is
    /// the last byte of its last child; a missing value is an empty range right after the indicator before it.
    pub span: Range<usize>,
    /// Where the content starts, after anchor and tag.
    pub content: usize,
    /// The name of its anchor.
    pub anchor: Option<String>,
    /// What it is.
    pub body: Body,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A scalar: its text, with quotes and folds resolved.
    Scalar(String),
    /// `*name`.
    Alias(String),
    /// A mapping.
    Map {
        /// Whether it is in braces.
        flow: bool,
        /// Its entries in order.
        entries: Vec<Entry>,
    },
    /// A list.
    List {
        /// Whether it is in brackets.
        flow: bool,
        /// Its items in order.
        items: Vec<Item>,
    },
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Node,
    /// The value.
    pub value: Node,
}

/// An item of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where its hyphen is; in brackets where it starts.
    pub at: usize,
    /// The item.
    pub node: Node,
}

impl Node {
    /// The value of a key of a mapping.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        let Body::Map { entries, .. } = &self.body else { return None };
        let named = |entry: &&Entry| matches!(&entry.key.body, Body::Scalar(key) if key == name);
        entries.iter().find(named).map(|entry| &entry.value)
    }

    /// The items of a list; none of anything else.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        match &self.body {
            Body::List { items, .. } => items,
            _ => &[],
        }
    }

    /// The node of an anchor, below this one or it itself.
    #[must_use]
    pub fn anchored(&self, name: &str) -> Option<&Self> {
        if self.anchor.as_deref() == Some(name) {
            return Some(self);
        }
        match &self.body {
            Body::Map { entries, .. } => entries
                .iter()
                .find_map(|entry| entry.key.anchored(name).or_else(|| entry.value.anchored(name))),
            Body::List { items, .. } => items.iter().find_map(|item| item.node.anchored(name)),
            Body::Scalar(_) | Body::Alias(_) => None,
        }
    }
}

/// The first document of a text; `None` where there is none.
///
/// # Errors
/// Text that is not YAML, or beyond a limit.
pub fn outline(text: &str) -> Result<Option<Node>, Error> {
    let mark = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut reader = Reader { text, tokens: tokens(text, mark)?, at: 0, depth: 0 };
    while [Kind::StreamStart, Kind::VersionDirective, Kind::TagDirective, Kind::DocumentStart]
        .contains(&reader.kind())
    {
        reader.at += 1;
    }
    if [Kind::StreamEnd, Kind::DocumentEnd].contains(&reader.kind()) {
        return Ok(None);
    }
    reader.node(0, true).map(Some)
}

struct Token {
    kind: Kind,
    /// In bytes.
    start: usize,
    value: String,
}

fn tokens(text: &str, mark: usize) -> Result<Vec<Token>, Error> {
    let source = reader::read(text.as_bytes())?;
    // Marks count characters.
    let places: Vec<usize> = text[mark..].char_indices().map(|(at, _)| at + mark).collect();
    let mut scanner = Scanner::new(&source, 0);
    let mut tokens = Vec::new();
    loop {
        let token = scanner.peek()?;
        let kind = token.kind;
        let index = usize::try_from(token.start.index).unwrap_or(usize::MAX);
        let start = places.get(index).copied().unwrap_or(text.len());
        tokens.push(Token { kind, start, value: String::from_utf8_lossy(&token.value).into_owned() });
        scanner.skip();
        if kind == Kind::StreamEnd {
            return Ok(tokens);
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Reader<'_> {
    fn token(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn kind(&self) -> Kind {
        self.token().map_or(Kind::StreamEnd, |token| token.kind)
    }

    fn start(&self) -> usize {
        self.token().map_or(self.text.len(), |token| token.start)
    }

    fn line(&self) -> usize {
        self.text[..self.start()].matches('\n').count() + 1
    }

    fn unexpected(&self) -> Error {
        Error::Syntax { line: self.line(), message: "unexpected content".to_owned() }
    }

    /// The node that starts here; an empty one at `missing` where none does.
    fn node(&mut self, missing: usize, indentless: bool) -> Result<Node, Error> {
        if self.depth >= limits::DEPTH {
            return Err(Error::Limit { line: self.line(), limit: limits::DEPTH, what: "levels of nesting" });
        }
        self.depth += 1;
        let node = self.node_inside(missing, indentless);
        self.depth -= 1;
        node
    }

    fn node_inside(&mut self, missing: usize, indentless: bool) -> Result<Node, Error> {
        let (mut start, mut end, mut anchor) = (None, missing, None);
        while [Kind::Anchor, Kind::Tag].contains(&self.kind()) {
            start.get_or_insert(self.start());
            end = self.end_of_word();
            if self.kind() == Kind::Anchor {
                anchor = self.token().map(|token| token.value.clone());
            }
            self.at += 1;
        }
        let content = self.start();
        let value = || self.token().map(|token| token.value.clone()).unwrap_or_default();
        let (body, content, end) = match self.kind() {
            Kind::Alias => {
                let (name, end) = (value(), self.end_of_word());
                self.at += 1;
                (Body::Alias(name), content, end)
            }
            Kind::Scalar => {
                let (text, end) = (value(), self.end_of_scalar());
                self.at += 1;
                (Body::Scalar(text), content, end)
            }
            Kind::FlowSequenceStart => {
                let (items, end) = self.flow_list()?;
                (Body::List { flow: true, items }, content, end)
            }
            Kind::FlowMappingStart => {
                let (entries, end) = self.flow_map()?;
                (Body::Map { flow: true, entries }, content, end)
            }
            Kind::BlockSequenceStart => {
                self.at += 1;
                let (items, last) = self.block_list(false)?;
                self.expect(Kind::BlockEnd)?;
                (Body::List { flow: false, items }, content, last)
            }
            Kind::BlockEntry if indentless => {
                let (items, last) = self.block_list(true)?;
                (Body::List { flow: false, items }, content, last)
            }
            Kind::BlockMappingStart => {
                self.at += 1;
                let (entries, last) = self.block_map()?;
                (Body::Map { flow: false, entries }, content, last)
            }
            _ => (Body::Scalar(String::new()), end, end),
        };
        let start = start.unwrap_or(content);
        Ok(Node { span: start..end, content, anchor, body })
    }

    fn expect(&mut self, kind: Kind) -> Result<(), Error> {
        if self.kind() != kind {
            return Err(self.unexpected());
        }
        self.at += 1;
        Ok(())
    }

    fn block_list(&mut self, indentless: bool) -> Result<(Vec<Item>, usize), Error> {
        let (mut items, mut end) = (Vec::new(), self.start());
        while self.kind() == Kind::BlockEntry {
            let at = self.start();
            self.at += 1;
            let empty = match self.kind() {
                Kind::BlockEntry | Kind::BlockEnd => true,
                Kind::Key | Kind::Value => indentless,
                _ => false,
            };
            let node = if empty { nothing(at + 1) } else { self.node(at + 1, false)? };
            end = node.span.end;
            items.push(Item { at, node });
        }
        Ok((items, end))
    }

    fn block_map(&mut self) -> Result<(Vec<Entry>, usize), Error> {
        let (mut entries, mut end) = (Vec::new(), self.start());
        loop {
            match self.kind() {
                Kind::BlockEnd => {
                    self.at += 1;
                    return Ok((entries, end));
                }
                Kind::Key => {
                    let at = self.start();
                    self.at += 1;
                    let key = self.part(at)?;
                    let value = if self.kind() == Kind::Value {
                        let at = self.start();
                        self.at += 1;
                        self.part(at + 1)?
                    } else {
                        nothing(key.span.end)
                    };
                    end = value.span.end;
                    entries.push(Entry { key, value });
                }
                _ => return Err(self.unexpected()),
            }
        }
    }

    /// A key after its `?` or a value after its `:`.
    fn part(&mut self, missing: usize) -> Result<Node, Error> {
        match self.kind() {
            Kind::Key | Kind::Value | Kind::BlockEnd => Ok(nothing(missing)),
            _ => self.node(missing, true),
        }
    }

    fn flow_list(&mut self) -> Result<(Vec<Item>, usize), Error> {
        self.at += 1;
        let mut items = Vec::new();
        loop {
            let at = self.start();
            match self.kind() {
                Kind::FlowSequenceEnd => {
                    self.at += 1;
                    return Ok((items, at + 1));
                }
                Kind::FlowEntry => self.at += 1,
                Kind::Key => {
                    let entry = self.flow_entry()?;
                    let span = entry.key.span.start..entry.value.span.end;
                    let body = Body::Map { flow: true, entries: vec![entry] };
                    items.push(Item { at, node: Node { content: span.start, span, anchor: None, body } });
                }
                _ => {
                    let before = self.at;
                    let node = self.node(at, false)?;
                    if self.at == before {
                        return Err(self.unexpected());
                    }
                    items.push(Item { at, node });
                }
            }
        }
    }

    fn flow_map(&mut self) -> Result<(Vec<Entry>, usize), Error> {
        self.at += 1;
        let mut entries = Vec::new();
        loop {
            let at = self.start();
            match self.kind() {
                Kind::FlowMappingEnd => {
                    self.at += 1;
                    return Ok((entries, at + 1));
                }
                Kind::FlowEntry => self.at += 1,
                Kind::Key => entries.push(self.flow_entry()?),
                _ => {
                    let before = self.at;
                    let key = self.node(at, false)?;
                    if self.at == before {
                        return Err(self.unexpected());
                    }
                    let value = nothing(key.span.end);
                    entries.push(Entry { key, value });
                }
            }
        }
    }

    fn flow_entry(&mut self) -> Result<Entry, Error> {
        let at = self.start();
        self.at += 1;
        let key = self.node(at, false)?;
        if self.kind() != Kind::Value {
            let value = nothing(key.span.end);
            return Ok(Entry { key, value });
        }
        let at = self.start();
        self.at += 1;
        let value = self.node(at + 1, false)?;
        Ok(Entry { key, value })
    }

    /// Behind an anchor, an alias or a tag: none of them has a space in it.
    fn end_of_word(&self) -> usize {
        let start = self.start();
        match self.token() {
            Some(Token { kind: Kind::Anchor | Kind::Alias, value, .. }) => start + 1 + value.len(),
            _ => {
                let rest = &self.text[start..];
                start + rest.find(|c: char| c.is_whitespace() || ",]}".contains(c)).unwrap_or(rest.len())
            }
        }
    }

    fn end_of_scalar(&self) -> usize {
        let start = self.start();
        // The end of a collection is marked a character early.
        let behind = self.tokens[self.at + 1..].iter().find(|token| token.kind != Kind::BlockEnd);
        let next = behind.map_or(self.text.len(), |token| token.start).max(start);
        let text = &self.text[start..next];
        let length = match text.as_bytes().first() {
            Some(b'\'') => ends::single_quoted(text),
            Some(b'"') => ends::double_quoted(text),
            Some(b'|' | b'>') => ends::block(text),
            _ => ends::plain(text),
        };
        start + length
    }
}

fn nothing(at: usize) -> Node {
    Node { span: at..at, content: at, anchor: None, body: Body::Scalar(String::new()) }
}
