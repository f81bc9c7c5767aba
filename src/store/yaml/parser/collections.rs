//! Mappings and lists, in block and in flow.

use super::{Parser, syntax};
use crate::sops::buffer::Buffer;
use crate::store::Error;
use crate::store::yaml::node::{Comments, Content, Id, Node};
use crate::store::yaml::token::Kind;

impl Parser<'_> {
    pub(super) fn parse_block_sequence(&mut self, id: Id) -> Result<(), Error> {
        self.skip();
        loop {
            match self.peek()? {
                Kind::BlockEntry => {
                    let item = match self.peek_behind_entry()? {
                        Kind::BlockEntry | Kind::BlockEnd => self.empty_scalar()?,
                        _ => self.parse_node(true, false)?,
                    };
                    self.push(id, item);
                }
                Kind::BlockEnd => {
                    self.skip();
                    self.end(id, Buffer::default(), Buffer::default());
                    return Ok(());
                }
                _ => {
                    return Err(syntax(
                        self.here()?,
                        "a list item without its '-', or not aligned with the others",
                    ));
                }
            }
        }
    }

    /// A list at the indent of the key it belongs to.
    pub(super) fn parse_indentless_sequence(&mut self, id: Id) -> Result<(), Error> {
        while self.peek()? == Kind::BlockEntry {
            let item = match self.peek_behind_entry()? {
                Kind::BlockEntry | Kind::Key | Kind::Value | Kind::BlockEnd => self.empty_scalar()?,
                _ => self.parse_node(true, false)?,
            };
            self.push(id, item);
        }
        self.end(id, Buffer::default(), Buffer::default());
        Ok(())
    }

    /// Steps over a `-`. Where a collection follows, the comments before the dash are about the
    /// item as a whole and those after it about its first entry.
    fn peek_behind_entry(&mut self) -> Result<Kind, Error> {
        let stem = self.head.len();
        self.skip();
        let kind = self.peek()?;
        if stem > 0 && matches!(kind, Kind::BlockSequenceStart | Kind::BlockMappingStart) {
            let all = std::mem::take(&mut self.head);
            if all.len() > stem {
                self.head = Buffer::from(&all[stem + 1..]);
            }
            self.stem = Some(Buffer::from(&all[..stem]));
        }
        Ok(kind)
    }

    pub(super) fn parse_block_mapping(&mut self, id: Id) -> Result<(), Error> {
        self.skip();
        loop {
            match self.peek()? {
                Kind::Key => {
                    self.skip();
                    let key = self.parse_block_part()?;
                    // A foot that turns up at a key is that of the entry before.
                    let before = self.children(id).len().checked_sub(2).map(|at| self.children(id)[at]);
                    if let Some(before) = before {
                        let foot = self.nodes.get_mut(key).comments.take_foot();
                        if !foot.is_empty() {
                            self.nodes.get_mut(before).comments.set_foot(foot);
                        }
                    }
                    let value = if self.peek()? == Kind::Value {
                        self.skip();
                        self.parse_block_part()?
                    } else {
                        self.empty_scalar()?
                    };
                    self.push_entry(id, key, value);
                }
                Kind::BlockEnd => {
                    let comments = self.take_end_comments();
                    self.skip();
                    self.end_block_mapping(id, comments);
                    return Ok(());
                }
                _ => {
                    return Err(syntax(
                        self.here()?,
                        "expected a key, aligned with the others of its mapping",
                    ));
                }
            }
        }
    }

    /// A key after its `?` or a value after its `:`.
    fn parse_block_part(&mut self) -> Result<Id, Error> {
        match self.peek()? {
            Kind::Key | Kind::Value | Kind::BlockEnd => self.empty_scalar(),
            _ => self.parse_node(true, true),
        }
    }

    /// The foot of a block mapping is that of its last entry.
    fn end_block_mapping(&mut self, id: Id, (line, foot): (Buffer, Buffer)) {
        let last_key = self.children(id).len().checked_sub(2).map(|at| self.children(id)[at]);
        match last_key {
            Some(key) if !foot.is_empty() => {
                self.nodes.get_mut(key).comments.set_foot(foot);
                self.end(id, line, Buffer::default());
            }
            _ => self.end(id, line, foot),
        }
    }

    pub(super) fn parse_flow_sequence(&mut self, id: Id) -> Result<(), Error> {
        let start = self.here()?;
        self.skip();
        let mut first = true;
        loop {
            let mut kind = self.peek()?;
            if kind != Kind::FlowSequenceEnd && !std::mem::replace(&mut first, false) {
                if kind != Kind::FlowEntry {
                    return Err(syntax(start, "expected ',' or ']' after an item of a list in brackets"));
                }
                self.skip();
                kind = self.peek()?;
            }
            match kind {
                Kind::FlowSequenceEnd => {
                    let (line, foot) = self.take_end_comments();
                    self.skip();
                    self.end(id, line, foot);
                    return Ok(());
                }
                Kind::Key => {
                    let item = self.parse_flow_pair()?;
                    self.push(id, item);
                }
                _ => {
                    let item = self.parse_node(false, false)?;
                    self.push(id, item);
                }
            }
        }
    }

    /// A mapping of one entry without braces, inside brackets.
    fn parse_flow_pair(&mut self) -> Result<Id, Error> {
        let line = self.here()?;
        self.skip();
        let content = Content::Mapping(Vec::new());
        let id = self.nodes.add(Node { content, line, comments: Comments::default() });
        let key = match self.peek()? {
            Kind::Value | Kind::FlowEntry | Kind::FlowSequenceEnd => {
                // As go-yaml has it: the token is skipped with the empty key.
                let key = self.empty_scalar()?;
                self.skip();
                key
            }
            _ => self.parse_node(false, false)?,
        };
        let value = if self.peek()? == Kind::Value {
            self.skip();
            match self.peek()? {
                Kind::FlowEntry | Kind::FlowSequenceEnd => self.empty_scalar()?,
                _ => self.parse_node(false, false)?,
            }
        } else {
            self.empty_scalar()?
        };
        self.push_entry(id, key, value);
        self.peek()?;
        self.end(id, Buffer::default(), Buffer::default());
        Ok(id)
    }

    pub(super) fn parse_flow_mapping(&mut self, id: Id) -> Result<(), Error> {
        let start = self.here()?;
        self.skip();
        let mut first = true;
        loop {
            let mut kind = self.peek()?;
            if kind != Kind::FlowMappingEnd && !std::mem::replace(&mut first, false) {
                if kind != Kind::FlowEntry {
                    return Err(syntax(start, "expected ',' or '}' after an entry of a mapping in braces"));
                }
                self.skip();
                kind = self.peek()?;
            }
            match kind {
                Kind::FlowMappingEnd => {
                    let (line, foot) = self.take_end_comments();
                    self.skip();
                    self.end(id, line, foot);
                    return Ok(());
                }
                Kind::Key => {
                    self.skip();
                    let key = self.parse_flow_part()?;
                    let value = if self.peek()? == Kind::Value {
                        self.skip();
                        match self.peek()? {
                            Kind::FlowEntry | Kind::FlowMappingEnd => self.empty_scalar()?,
                            _ => self.parse_node(false, false)?,
                        }
                    } else {
                        self.empty_scalar()?
                    };
                    self.push_entry(id, key, value);
                }
                _ => {
                    let key = self.parse_node(false, false)?;
                    self.peek()?;
                    let value = self.empty_scalar()?;
                    self.push_entry(id, key, value);
                }
            }
        }
    }

    fn parse_flow_part(&mut self) -> Result<Id, Error> {
        match self.peek()? {
            Kind::Value | Kind::FlowEntry | Kind::FlowMappingEnd => self.empty_scalar(),
            _ => self.parse_node(false, false),
        }
    }

    fn children(&self, id: Id) -> &[Id] {
        match &self.nodes.get(id).content {
            Content::Mapping(children) | Content::Sequence(children) => children,
            Content::Scalar { .. } | Content::Alias(_) => &[],
        }
    }

    fn push(&mut self, id: Id, child: Id) {
        if let Content::Mapping(children) | Content::Sequence(children) = &mut self.nodes.get_mut(id).content
        {
            children.push(child);
        }
    }

    /// Adds an entry; the foot of the value is that of the key.
    fn push_entry(&mut self, id: Id, key: Id, value: Id) {
        if self.nodes.get(key).comments.foot().is_empty() {
            let foot = self.nodes.get_mut(value).comments.take_foot();
            self.nodes.get_mut(key).comments.set_foot(foot);
        }
        self.push(id, key);
        self.push(id, value);
    }

    fn take_end_comments(&mut self) -> (Buffer, Buffer) {
        self.dropped |= !self.head.is_empty() || self.stem.is_some();
        self.head = Buffer::default();
        self.stem = None;
        (std::mem::take(&mut self.line), std::mem::take(&mut self.foot))
    }

    /// The line and foot of a collection are those found at its end.
    fn end(&mut self, id: Id, line: Buffer, foot: Buffer) {
        let comments = &mut self.nodes.get_mut(id).comments;
        comments.set_line(line);
        comments.set_foot(foot);
    }
}
