//! Tokens to nodes, with each comment at the node it is about.

use std::collections::HashMap;

use super::limits;
use super::node::{Comments, Content, Document, Id, Node, Nodes, Tag};
use super::scanner::Scanner;
use super::span::Span;
use super::token::{Kind, Token};
use crate::sops::buffer::Buffer;
use crate::store::Error;

mod collections;
mod document;

/// The parser's state.
pub(super) struct Parser<'a> {
    scanner: Scanner<'a>,
    pub(super) nodes: Nodes<'a>,
    anchors: HashMap<Vec<u8>, Id>,
    /// Handles and prefixes of the current document.
    tag_prefixes: Vec<(Span<'a>, Span<'a>)>,
    started: bool,
    /// Comments that were passed and have no node yet.
    head: Buffer,
    line: Buffer,
    foot: Buffer,
    /// The head of a list's item that is a collection.
    stem: Option<Buffer>,
    /// Whether comments had none when a collection ended.
    dropped: bool,
    depth: usize,
}

/// What precedes the content of a node.
struct Properties<'a> {
    anchor: Option<Span<'a>>,
    tag: Option<Span<'a>>,
    line: usize,
}

impl<'a> Parser<'a> {
    /// A parser over text that the reader let pass.
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self::at_line(text, 0)
    }

    /// The same over a part of a text that begins with this line, from 0.
    pub(super) fn at_line(text: &'a [u8], line: usize) -> Self {
        Self {
            scanner: Scanner::new(text, line),
            nodes: Nodes::default(),
            anchors: HashMap::new(),
            tag_prefixes: Vec::new(),
            started: false,
            head: Buffer::default(),
            line: Buffer::default(),
            foot: Buffer::default(),
            stem: None,
            dropped: false,
            depth: 0,
        }
    }

    /// Whether anything that was read has an anchor.
    pub(super) fn has_anchors(&self) -> bool {
        !self.anchors.is_empty()
    }

    /// Whether a collection ended while comments had no node: more text would have given them one.
    pub(super) fn has_dropped(&self) -> bool {
        self.dropped
    }

    /// The next document, none at the end.
    ///
    /// # Errors
    /// Text that is not YAML, or beyond a limit.
    pub(super) fn next_document(&mut self) -> Result<Option<Document>, Error> {
        self.parse_document()
    }

    /// The kind of the next token. Comments before it are taken over on the way.
    fn peek(&mut self) -> Result<Kind, Error> {
        let (kind, index) = {
            let token = self.scanner.peek()?;
            (token.kind, token.start.index)
        };
        while let Some(comment) = self.scanner.comments.front() {
            // An end has no head comment: it is kept for the next token.
            if index < comment.token.index || !comment.head.is_empty() && kind == Kind::BlockEnd {
                break;
            }
            if let Some(comment) = self.scanner.comments.pop_front() {
                for (text, all) in [
                    (&comment.head, &mut self.head),
                    (&comment.foot, &mut self.foot),
                    (&comment.line, &mut self.line),
                ] {
                    if !text.is_empty() {
                        all.extend_line(text);
                    }
                }
            }
        }
        Ok(kind)
    }

    /// The token that was peeked at; stays the next until it is skipped.
    fn token(&mut self) -> Result<&mut Token<'a>, Error> {
        self.scanner.peek()
    }

    fn skip(&mut self) {
        self.scanner.skip();
    }

    fn here(&mut self) -> Result<usize, Error> {
        Ok(line_of(self.token()?))
    }

    fn take_comments(&mut self) -> Comments {
        self.stem = None;
        Comments::new(
            std::mem::take(&mut self.head),
            std::mem::take(&mut self.line),
            std::mem::take(&mut self.foot),
        )
    }

    fn stem_comment(&mut self) -> Comments {
        Comments::new(self.stem.take().unwrap_or_default(), Buffer::default(), Buffer::default())
    }

    /// A node: in block context or in flow, where a list may be at the indent of its key or not.
    fn parse_node(&mut self, block: bool, indentless: bool) -> Result<Id, Error> {
        if self.depth >= limits::DEPTH {
            let line = self.here()?;
            return Err(Error::Limit { line, limit: limits::DEPTH, what: "levels of nesting" });
        }
        self.depth += 1;
        let node = self.parse_node_inside(block, indentless);
        self.depth -= 1;
        node
    }

    fn parse_node_inside(&mut self, block: bool, indentless: bool) -> Result<Id, Error> {
        if self.peek()? == Kind::Alias {
            return self.parse_alias();
        }
        let mut properties = self.parse_properties()?;
        let anchor = properties.anchor.take();
        let line = properties.line;
        let kind = self.peek()?;
        let (content, comments) = match kind {
            Kind::BlockEntry if indentless => (Content::Sequence(Vec::new()), Comments::default()),
            Kind::Scalar => {
                let comments = self.take_comments();
                let token = self.token()?;
                let text = std::mem::take(&mut token.value);
                let plain = token.plain;
                self.skip();
                (Content::Scalar { text, tag: scalar_tag(properties.tag.as_deref(), plain) }, comments)
            }
            Kind::FlowSequenceStart => (Content::Sequence(Vec::new()), self.take_comments()),
            Kind::FlowMappingStart => (Content::Mapping(Vec::new()), self.take_comments()),
            Kind::BlockSequenceStart if block => (Content::Sequence(Vec::new()), self.stem_comment()),
            Kind::BlockMappingStart if block => (Content::Mapping(Vec::new()), self.stem_comment()),
            _ if anchor.is_some() || properties.tag.is_some() => {
                let tag = scalar_tag(properties.tag.as_deref(), true);
                (Content::Scalar { text: Span::default(), tag }, Comments::default())
            }
            _ => return Err(syntax(self.here()?, "a value is missing here")),
        };
        let is_scalar = matches!(content, Content::Scalar { .. });
        let id = self.nodes.add(Node { content, line, comments });
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor.to_vec(), id);
        }
        if !is_scalar {
            self.parse_collection(id, kind)?;
        }
        Ok(id)
    }

    fn parse_collection(&mut self, id: Id, kind: Kind) -> Result<(), Error> {
        match kind {
            Kind::BlockEntry => self.parse_indentless_sequence(id),
            Kind::FlowSequenceStart => self.parse_flow_sequence(id),
            Kind::FlowMappingStart => self.parse_flow_mapping(id),
            Kind::BlockSequenceStart => self.parse_block_sequence(id),
            _ => self.parse_block_mapping(id),
        }
    }

    fn parse_alias(&mut self) -> Result<Id, Error> {
        let comments = self.take_comments();
        let token = self.token()?;
        let line = line_of(token);
        let name = std::mem::take(&mut token.value);
        let Some(&target) = self.anchors.get(&*name) else {
            return Err(syntax(line, "an alias without an anchor before it"));
        };
        self.skip();
        Ok(self.nodes.add(Node { content: Content::Alias(target), line, comments }))
    }

    /// An anchor and a tag, in either order.
    fn parse_properties(&mut self) -> Result<Properties<'a>, Error> {
        let mut properties = Properties { anchor: None, tag: None, line: self.here()? };
        loop {
            match self.peek()? {
                Kind::Anchor if properties.anchor.is_none() => {
                    properties.anchor = Some(std::mem::take(&mut self.token()?.value));
                }
                Kind::Tag if properties.tag.is_none() => {
                    let token = self.token()?;
                    let line = line_of(token);
                    let handle = std::mem::take(&mut token.value);
                    let suffix = std::mem::take(&mut token.suffix);
                    properties.tag = Some(self.resolve_tag(&handle, suffix, line)?);
                }
                _ => return Ok(properties),
            }
            self.skip();
        }
    }

    fn resolve_tag(&self, handle: &[u8], suffix: Span<'a>, line: usize) -> Result<Span<'a>, Error> {
        if handle.is_empty() {
            return Ok(suffix);
        }
        let Some((_, prefix)) = self.tag_prefixes.iter().find(|(known, _)| **known == *handle) else {
            return Err(syntax(line, "a tag whose handle no %TAG directive defines"));
        };
        let mut tag = Buffer::from(&**prefix);
        tag.extend(&suffix);
        Ok(Span::Copy(tag))
    }

    /// A scalar where the text has none.
    fn empty_scalar(&mut self) -> Result<Id, Error> {
        let line = self.here()?;
        let content = Content::Scalar { text: Span::default(), tag: Tag::None };
        Ok(self.nodes.add(Node { content, line, comments: Comments::default() }))
    }
}

fn scalar_tag(tag: Option<&[u8]>, plain: bool) -> Tag {
    match tag {
        None | Some(b"!") if plain => Tag::None,
        None | Some(b"!") => Tag::Str,
        Some(tag) => Tag::named(tag),
    }
}

fn line_of(token: &Token<'_>) -> usize {
    usize::try_from(token.start.line).unwrap_or(0) + 1
}

fn syntax(line: usize, message: &str) -> Error {
    Error::Syntax { line, message: message.to_owned() }
}
