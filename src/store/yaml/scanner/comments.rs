//! Which comment is whose: the line comment of a token, the foot of what precedes, the head of what
//! follows.

use super::Scanner;
use crate::sops::buffer::Buffer;
use crate::store::yaml::cursor::Mark;
use crate::store::yaml::span::Span;
use crate::store::yaml::token::{Comment, Kind};

/// How far the search for a comment looks over white space, in bytes. go-yaml's bound; a comment
/// after more than that is read by the next search, into another place.
const LOOK_AHEAD: usize = 512;

impl<'a> Scanner<'a> {
    /// Takes a comment at the end of the line that the last token is on.
    pub(super) fn scan_line_comment(&mut self, token: Mark) {
        if self.cursor.newlines > 0 {
            return;
        }
        let Some(ahead) = (0..LOOK_AHEAD).find(|&ahead| !self.cursor.is_blank(ahead)) else {
            return;
        };
        if self.cursor.at(ahead) != b'#' {
            return;
        }
        let mut line = Buffer::default();
        let start = self.read_comment(ahead, &mut line);
        self.comments.push_back(Comment { token, start, line, ..Comment::default() });
    }

    /// A line comment between a `-` that opened a list and what is on the next line is the head
    /// of that.
    pub(super) fn lift_line_comment(&mut self) {
        let [.., first, second] = self.tokens.as_slice() else {
            return;
        };
        if first.kind != Kind::BlockSequenceStart
            || second.kind != Kind::BlockEntry
            || self.cursor.is_break(0)
        {
            return;
        }
        let here = self.cursor.mark;
        if let Some(comment) = self.comments.back_mut().filter(|comment| !comment.line.is_empty()) {
            comment.head = std::mem::take(&mut comment.line);
            if comment.start.line == here.line - 1 {
                comment.token = here;
            }
        }
    }

    /// Takes the comments and empty lines up to the next token and parts them into feet and a head.
    ///
    /// The positions follow go-yaml's search step by step, byte-wise look-ahead and CR LF as two
    /// breaks included: other counting would put comments elsewhere.
    pub(super) fn scan_comments(&mut self, scan: Mark) {
        let mut group = Group::new(self, scan);
        let mut ahead = 0;
        while ahead < LOOK_AHEAD {
            group.column += 1;
            if self.cursor.is_blank(ahead) {
                ahead += 1;
                continue;
            }
            let byte = self.cursor.at(ahead);
            let closes_flow = self.flow_level > 0 && (byte == b']' || byte == b'}');
            let end = self.ahead_mark(ahead, &group);
            if closes_flow || self.cursor.is_break_or_end(ahead) {
                if closes_flow || !group.recent_empty {
                    if closes_flow || group.is_foot() {
                        // The last comment inside a flow collection, or one right under a value and
                        // then an empty line.
                        if !group.text.is_empty() {
                            if group.is_dedented() {
                                group.token = group.start;
                            }
                            self.push_foot(&mut group, end);
                        }
                    } else if !group.text.is_empty() && byte != 0 {
                        group.text.push(b'\n');
                    }
                }
                if !self.cursor.is_break(ahead) {
                    break;
                }
                group.first_empty = false;
                group.recent_empty = true;
                group.column = 0;
                group.line += 1;
                ahead += 1;
                continue;
            }
            if !group.text.is_empty() && group.column - 1 < group.indent && group.column != group.start.column
            {
                // A change of column left of the block: what came before belongs to what precedes.
                self.push_foot(&mut group, end);
            }
            if byte != b'#' {
                break;
            }
            if group.text.is_empty() {
                group.start = self.ahead_mark(ahead, &group);
            } else {
                group.text.push(b'\n');
            }
            group.recent_empty = false;
            self.read_comment(ahead, &mut group.text);
            // go-yaml's loop counts on from here without looking at the first byte, the break.
            ahead = 1;
            group.column = 0;
            group.line = self.cursor.mark.line;
            group.indent = self.indent.max(0);
        }
        if !group.text.is_empty() {
            let mut end = self.ahead_mark(ahead, &group);
            end.index -= 1;
            let Group { scan, start, text, .. } = group;
            self.comments.push_back(Comment {
                scan,
                token: start,
                start,
                end,
                head: text,
                ..Comment::default()
            });
        }
    }

    fn push_foot(&mut self, group: &mut Group, end: Mark) {
        self.comments.push_back(Comment {
            scan: group.scan,
            token: group.token,
            start: group.start,
            end,
            foot: std::mem::take(&mut group.text),
            ..Comment::default()
        });
        group.scan = end;
        group.token = end;
    }

    fn ahead_mark(&self, ahead: usize, group: &Group) -> Mark {
        let ahead = i64::try_from(ahead).unwrap_or(0);
        Mark { index: self.cursor.mark.index + ahead, line: group.line, column: group.column }
    }

    /// Takes the text of a comment that starts so many bytes ahead and is on its first character
    /// after it. Gives the place where it starts.
    fn read_comment(&mut self, ahead: usize, into: &mut Buffer) -> Mark {
        let seen = self.cursor.mark.index + i64::try_from(ahead).unwrap_or(0);
        let mut start = None;
        let mut text = Span::default();
        loop {
            let reached = self.cursor.mark.index >= seen;
            if self.cursor.is_break_or_end(0) {
                if reached || self.cursor.is_end() {
                    break;
                }
                self.cursor.skip_line();
            } else if reached {
                start.get_or_insert(self.cursor.mark);
                self.cursor.read(&mut text);
            } else {
                self.cursor.skip();
            }
        }
        into.extend(&text);
        start.unwrap_or(self.cursor.mark)
    }
}

/// Adjacent comment lines.
struct Group {
    scan: Mark,
    token: Mark,
    start: Mark,
    text: Buffer,
    line: i64,
    /// From 1.
    column: i64,
    /// The column of the block collection that is open.
    indent: i64,
    recent_empty: bool,
    first_empty: bool,
    /// The line on which a comment must start to be a foot; -1 at the start of the text.
    foot_line: i64,
    after_value: bool,
}

impl Group {
    fn new(scanner: &Scanner<'_>, scan: Mark) -> Self {
        let mut tokens = scanner.tokens.iter().rev();
        let mut last = tokens.next();
        if last.is_some_and(|token| token.kind == Kind::FlowEntry) {
            last = tokens.next().or(last);
        }
        let cursor = &scanner.cursor;
        let mut foot_line = -1;
        if scan.line > 0 {
            foot_line = cursor.mark.line - cursor.newlines + 1;
            if cursor.newlines == 0 && cursor.mark.column > 1 {
                foot_line += 1;
            }
        }
        Self {
            scan,
            token: last.map(|token| token.start).unwrap_or_default(),
            start: Mark::default(),
            text: Buffer::default(),
            line: cursor.mark.line,
            column: cursor.mark.column,
            indent: scanner.indent.max(0),
            recent_empty: false,
            first_empty: cursor.newlines <= 1,
            foot_line,
            after_value: last.is_some_and(|token| token.kind == Kind::Value),
        }
    }

    fn is_dedented(&self) -> bool {
        self.start.column - 1 < self.indent
    }

    /// Whether the lines before this first empty one belong to what precedes them.
    fn is_foot(&self) -> bool {
        self.first_empty && (self.start.line == self.foot_line && !self.after_value || self.is_dedented())
    }
}
