//! Documents as nodes: what the parser makes, before types are resolved and aliases expanded.

use super::span::Span;
use crate::sops::buffer::Buffer;

/// A node's place among all nodes of a file.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Id(u32);

/// All nodes of a file. Anchors hold across documents, so nodes outlive theirs.
#[derive(Default)]
pub(super) struct Nodes<'a>(Vec<Node<'a>>);

pub(super) struct Node<'a> {
    pub(super) content: Content<'a>,
    /// From 1.
    pub(super) line: usize,
    pub(super) comments: Comments,
}

pub(super) enum Content<'a> {
    Scalar {
        text: Span<'a>,
        tag: Tag,
    },
    /// Keys and values in turn.
    Mapping(Vec<Id>),
    Sequence(Vec<Id>),
    Alias(Id),
}

/// What decides the type of a scalar.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    /// A plain scalar without a tag: its text decides.
    None,
    Str,
    Null,
    Bool,
    Int,
    Float,
    Timestamp,
    Binary,
    /// The tag of the key `<<`; a string otherwise.
    Merge,
    /// Any other: the text is a string.
    Unknown,
}

/// The comments of a node, line by line with their `#`.
#[derive(Default)]
pub(super) struct Comments(Option<Box<Texts>>);

/// The three places of a comment.
#[derive(Default)]
pub(super) struct Texts {
    pub(super) head: Buffer,
    pub(super) line: Buffer,
    pub(super) foot: Buffer,
}

/// One document.
pub(super) struct Document {
    pub(super) root: Id,
    pub(super) head: Buffer,
    pub(super) foot: Buffer,
}

impl<'a> Nodes<'a> {
    pub(super) fn add(&mut self, node: Node<'a>) -> Id {
        // An input of the largest size has fewer nodes.
        let id = Id(u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        self.0.push(node);
        id
    }

    pub(super) fn get(&self, id: Id) -> &Node<'a> {
        &self.0[id.0 as usize]
    }

    pub(super) fn get_mut(&mut self, id: Id) -> &mut Node<'a> {
        &mut self.0[id.0 as usize]
    }
}

impl Nodes<'_> {
    /// The same without the input.
    pub(super) fn into_owned(self) -> Nodes<'static> {
        let owned = |node: Node<'_>| Node {
            content: node.content.into_owned(),
            line: node.line,
            comments: node.comments,
        };
        Nodes(self.0.into_iter().map(owned).collect())
    }
}

impl Content<'_> {
    fn into_owned(self) -> Content<'static> {
        match self {
            Self::Scalar { text, tag } => Content::Scalar { text: text.into_owned(), tag },
            Self::Mapping(children) => Content::Mapping(children),
            Self::Sequence(children) => Content::Sequence(children),
            Self::Alias(target) => Content::Alias(target),
        }
    }
}

impl Comments {
    pub(super) fn new(head: Buffer, line: Buffer, foot: Buffer) -> Self {
        if head.is_empty() && line.is_empty() && foot.is_empty() {
            Self(None)
        } else {
            Self(Some(Box::new(Texts { head, line, foot })))
        }
    }

    pub(super) fn head(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |texts| &texts.head)
    }

    pub(super) fn line(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |texts| &texts.line)
    }

    pub(super) fn foot(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |texts| &texts.foot)
    }

    pub(super) fn take_foot(&mut self) -> Buffer {
        self.0.as_mut().map(|texts| std::mem::take(&mut texts.foot)).unwrap_or_default()
    }

    pub(super) fn set_line(&mut self, line: Buffer) {
        if !line.is_empty() || self.0.is_some() {
            self.0.get_or_insert_default().line = line;
        }
    }

    pub(super) fn set_foot(&mut self, foot: Buffer) {
        if !foot.is_empty() || self.0.is_some() {
            self.0.get_or_insert_default().foot = foot;
        }
    }
}

impl Tag {
    /// The type that a tag names, in its short (`!!int`) or its long form.
    pub(super) fn named(tag: &[u8]) -> Self {
        let name = tag.strip_prefix(b"tag:yaml.org,2002:").or_else(|| tag.strip_prefix(b"!!"));
        match name {
            Some(b"str") => Self::Str,
            Some(b"null") => Self::Null,
            Some(b"bool") => Self::Bool,
            Some(b"int") => Self::Int,
            Some(b"float") => Self::Float,
            Some(b"timestamp") => Self::Timestamp,
            Some(b"binary") => Self::Binary,
            Some(b"merge") => Self::Merge,
            _ => Self::Unknown,
        }
    }
}
