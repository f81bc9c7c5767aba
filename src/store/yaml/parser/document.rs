//! Documents and the directives before them.

use super::{Parser, syntax};
use crate::sops::buffer::Buffer;
use crate::store::Error;
use crate::store::yaml::node::Document;
use crate::store::yaml::span::Span;
use crate::store::yaml::token::Kind;

impl Parser<'_> {
    pub(super) fn parse_document(&mut self) -> Result<Option<Document>, Error> {
        let first = !self.started;
        if first {
            self.started = true;
            self.peek()?;
            self.skip();
        } else {
            while self.peek()? == Kind::DocumentEnd {
                self.skip();
            }
        }
        let mut head = Buffer::default();
        let root = match self.peek()? {
            Kind::StreamEnd => return Ok(None),
            Kind::VersionDirective | Kind::TagDirective | Kind::DocumentStart => self.parse_explicit()?,
            _ if first => {
                self.process_directives()?;
                head = self.split_document_head();
                self.parse_node(true, false)?
            }
            _ => return Err(syntax(self.here()?, "expected the end of the document, or '---'")),
        };
        if self.peek()? == Kind::DocumentEnd {
            self.skip();
        }
        self.tag_prefixes.clear();
        self.stem = None;
        self.line = Buffer::default();
        let after = std::mem::take(&mut self.head);
        let mut foot = std::mem::take(&mut self.foot);
        if foot.is_empty() {
            foot = after;
        }
        Ok(Some(Document { root, head, foot }))
    }

    fn parse_explicit(&mut self) -> Result<crate::store::yaml::node::Id, Error> {
        self.process_directives()?;
        if self.peek()? != Kind::DocumentStart {
            return Err(syntax(self.here()?, "directives without a '---' after them"));
        }
        self.skip();
        match self.peek()? {
            Kind::VersionDirective
            | Kind::TagDirective
            | Kind::DocumentStart
            | Kind::DocumentEnd
            | Kind::StreamEnd => self.empty_scalar(),
            _ => self.parse_node(true, false),
        }
    }

    /// Parts the comments at the start of the file at their last empty line: what is above it is
    /// about the document, the rest about its first key.
    fn split_document_head(&mut self) -> Buffer {
        let all = &*self.head;
        for at in (1..all.len()).rev() {
            if all[at] != b'\n' {
                continue;
            }
            let end = if at == all.len() - 1 {
                at
            } else if all[at - 1] == b'\n' {
                at - 1
            } else {
                continue;
            };
            let head = Buffer::from(&all[..end]);
            self.head = Buffer::from(&all[at + 1..]);
            return head;
        }
        Buffer::default()
    }

    fn process_directives(&mut self) -> Result<(), Error> {
        let mut version = false;
        loop {
            match self.peek()? {
                Kind::VersionDirective => {
                    let line = self.here()?;
                    if std::mem::replace(&mut version, true) {
                        return Err(syntax(line, "a second %YAML directive"));
                    }
                    if *self.token()?.value != [1, 1] {
                        return Err(syntax(line, "a YAML version other than 1.1"));
                    }
                }
                Kind::TagDirective => {
                    let line = self.here()?;
                    let token = self.token()?;
                    let handle = std::mem::take(&mut token.value);
                    let prefix = std::mem::take(&mut token.suffix);
                    if self.tag_prefixes.iter().any(|(known, _)| **known == *handle) {
                        return Err(syntax(line, "a second %TAG directive for the same handle"));
                    }
                    self.tag_prefixes.push((handle, prefix));
                }
                _ => break,
            }
            self.skip();
        }
        for (handle, prefix) in [("!", "!"), ("!!", "tag:yaml.org,2002:")] {
            if !self.tag_prefixes.iter().any(|(known, _)| **known == *handle.as_bytes()) {
                self.tag_prefixes.push((Span::Input(handle.as_bytes()), Span::Input(prefix.as_bytes())));
            }
        }
        Ok(())
    }
}
