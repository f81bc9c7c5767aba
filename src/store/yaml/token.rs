//! What the scanner hands to the parser: tokens and the comments between them.

use super::cursor::Mark;
use super::span::Span;
use crate::sops::buffer::Buffer;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    StreamStart,
    StreamEnd,
    VersionDirective,
    TagDirective,
    DocumentStart,
    DocumentEnd,
    BlockSequenceStart,
    BlockMappingStart,
    BlockEnd,
    FlowSequenceStart,
    FlowSequenceEnd,
    FlowMappingStart,
    FlowMappingEnd,
    BlockEntry,
    FlowEntry,
    Key,
    Value,
    Alias,
    Anchor,
    Tag,
    Scalar,
}

/// One token.
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) start: Mark,
    /// The scalar's text, the anchor's name, the tag's or directive's handle.
    pub(super) value: Span<'a>,
    /// The tag's suffix, the directive's prefix.
    pub(super) suffix: Span<'a>,
    /// Whether a scalar is plain, which lets it be more than a string.
    pub(super) plain: bool,
}

impl Token<'_> {
    pub(super) fn new(kind: Kind, start: Mark) -> Self {
        Self { kind, start, value: Span::default(), suffix: Span::default(), plain: false }
    }
}

/// A comment, or several lines of it, on its way to the token it belongs to. One of the three texts
/// is set.
#[derive(Default)]
pub(super) struct Comment {
    /// Where the search that found it began.
    pub(super) scan: Mark,
    /// The token it belongs to is the first at or after this place.
    pub(super) token: Mark,
    pub(super) start: Mark,
    pub(super) end: Mark,
    pub(super) head: Buffer,
    pub(super) line: Buffer,
    pub(super) foot: Buffer,
}
