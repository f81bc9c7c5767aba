//! The reader: sections, keys and comments of go-ini's dialect.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::space::{trim, trim_end, trim_start};
use crate::sops::buffer::Buffer;
use crate::sops::text::Text;
use crate::store::Error;

/// The section that the keys before the first header are in.
pub(super) const DEFAULT: &str = "DEFAULT";

const TRIPLE: &[u8] = b"\"\"\"";

/// A section. The comment of a section or key is the one above it, without its marker.
#[derive(Default)]
pub(super) struct Section {
    pub(super) name: Text,
    pub(super) comment: Option<Text>,
    pub(super) keys: Vec<Pair>,
}

/// A key with its value.
pub(super) struct Pair {
    pub(super) name: Text,
    pub(super) value: Text,
    pub(super) comment: Option<Text>,
    /// Counted from 1.
    pub(super) line: usize,
}

/// Reads a whole file. Its first section is always `DEFAULT`.
///
/// # Errors
/// What is not of the dialect or would be lost, by line.
pub(super) fn read(input: &[u8]) -> Result<Vec<Section>, Error> {
    let input = match input {
        [0xFE, 0xFF, ..] | [0xFF, 0xFE, ..] => {
            return Err(wrong(1, "the file is UTF-16, which sops does not support; save it as UTF-8"));
        }
        [0xEF, 0xBB, 0xBF, rest @ ..] => rest,
        _ => input,
    };
    let mut reader = Reader { rest: input, line: 0, comment: Buffer::default() };
    let mut sections = vec![Section { name: DEFAULT.into(), ..Section::default() }];
    let mut places = HashMap::new();
    let mut unnamed = 0;
    while let Some(raw) = reader.next_line() {
        let line = trim_start(raw);
        let at = reader.line;
        match line {
            [] => {}
            [b'#' | b';', ..] => reader.comment.extend(line),
            [b'[', behind @ ..] => {
                let name = reader.header(behind)?;
                sections.push(Section { name, comment: reader.take_comment(), keys: Vec::new() });
                places.clear();
                unnamed = 0;
            }
            _ => {
                let (mut name, behind) = key_name(line, at)?;
                if name == b"-" {
                    unnamed += 1;
                    name = format!("#{unnamed}").into_bytes();
                }
                let value = reader.value(behind)?;
                let Some(section) = sections.last_mut() else { continue };
                match places.entry(name.clone()) {
                    Entry::Vacant(place) => {
                        place.insert(section.keys.len());
                        let comment = reader.take_comment();
                        section.keys.push(Pair { name: name.into(), value, comment, line: at });
                    }
                    Entry::Occupied(place) => {
                        let place: &usize = place.get();
                        let Some(first) = section.keys.get(*place) else { continue };
                        // The same pair again says nothing new. Its comment stays for what follows.
                        if first.value != value {
                            let line = first.line;
                            return Err(wrong(
                                at,
                                format!("the key of line {line} again: sops would drop the first value"),
                            ));
                        }
                    }
                }
            }
        }
    }
    let behind_all = reader.take_comment();
    attach(&mut sections, behind_all);
    Ok(sections)
}

/// Puts a comment that nothing follows above the last key, or else the last header: sops would lose it.
pub(super) fn attach(sections: &mut [Section], comment: Option<Text>) {
    let (Some(comment), Some(section)) = (comment, sections.last_mut()) else { return };
    let place = match section.keys.last_mut() {
        Some(pair) => &mut pair.comment,
        None => &mut section.comment,
    };
    join(place, &comment);
}

/// Puts a comment below another.
fn join(place: &mut Option<Text>, comment: &Text) {
    let mut joined = Buffer::default();
    if let Some(above) = place {
        joined.extend(above.as_bytes());
        joined.push(b'\n');
    }
    joined.extend(comment.as_bytes());
    *place = Some(joined.into_vec().into());
}

/// The value that a text would be read as after `=`, if it is exactly one value.
pub(super) fn lone_value(text: &[u8]) -> Option<Text> {
    let mut reader = Reader { rest: text, line: 0, comment: Buffer::default() };
    let first = reader.next_line()?;
    let value = reader.value(first).ok()?;
    (reader.rest.is_empty() && reader.comment.is_empty()).then_some(value)
}

/// The name that a text would be read as before `=`.
pub(super) fn lone_name(text: &[u8]) -> Option<Vec<u8>> {
    match text {
        [b'#' | b';' | b'[', ..] => None,
        _ => {
            let line = [text, b" = "].concat();
            let (name, behind) = key_name(trim_start(&line), 0).ok()?;
            (behind == b" " && name != b"-" && !name.contains(&b'\n')).then_some(name)
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    /// The number of the line that was read last.
    line: usize,
    /// Comments since the last header or key, with their markers.
    comment: Buffer,
}

impl<'a> Reader<'a> {
    /// The next line with its newline.
    fn next_line(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.iter().position(|byte| *byte == b'\n').map_or(self.rest.len(), |at| at + 1);
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.line += 1;
        Some(line)
    }

    fn take_comment(&mut self) -> Option<Text> {
        let comment = without_marker(trim(&self.comment)).map(|text| Text::from(text.to_vec()));
        self.comment.clear();
        comment
    }

    fn header(&mut self, line: &[u8]) -> Result<Text, Error> {
        let Some(end) = line.iter().rposition(|byte| *byte == b']') else {
            return Err(wrong(self.line, "a `[` without a `]` after it"));
        };
        if end == 0 {
            return Err(wrong(self.line, "a section without a name"));
        }
        self.only_comment(&line[end + 1..])?;
        Ok(line[..end].to_vec().into())
    }

    /// The text after the `=`, and its continuation lines.
    fn value(&mut self, behind: &'a [u8]) -> Result<Text, Error> {
        let text = trim_start(behind);
        let quote = match text {
            [b'"', b'"', b'"', _, ..] => TRIPLE,
            [b'`', ..] => b"`",
            _ => return self.unquoted(trim_end(text)),
        };
        let inner = &text[quote.len()..];
        match rfind(inner, quote) {
            Some(end) => {
                self.only_comment(&inner[end + quote.len()..])?;
                Ok(inner[..end].to_vec().into())
            }
            None => self.lines(inner, quote),
        }
    }

    /// A quoted value of several lines.
    fn lines(&mut self, first: &[u8], quote: &[u8]) -> Result<Text, Error> {
        let start = self.line;
        let mut value = Buffer::from(first);
        while let Some(line) = self.next_line() {
            if let Some(end) = rfind(line, quote) {
                let behind = &line[end + quote.len()..];
                if !trim(behind).ends_with(b"\\") {
                    value.extend(&line[..end]);
                    self.only_comment(behind)?;
                    return Ok(value.into_vec().into());
                }
            }
            value.extend(line);
        }
        Err(wrong(start, "a quoted value without a closing quote"))
    }

    fn unquoted(&mut self, text: &[u8]) -> Result<Text, Error> {
        if let Some(start) = text.strip_suffix(b"\\") {
            return Ok(self.continued(start));
        }
        if let [quote @ (b'"' | b'\''), inner @ ..] = text
            && let Some(end) = inner.iter().position(|byte| byte == quote)
            && matches!(trim_start(&inner[end + 1..]), [] | [b'#' | b';', ..])
        {
            self.only_comment(&inner[end + 1..])?;
            return Ok(inner[..end].to_vec().into());
        }
        let is_marker = |at: &usize| matches!(text[*at], b'#' | b';');
        let starts_comment = |at: &usize| trim_end(&text[..*at]).len() < *at;
        match text {
            // Also a value, and a comment without one.
            [b'#' | b';'] => {}
            [b'#' | b';', next @ ..] if trim_start(next).len() == next.len() => {
                return Err(wrong(
                    self.line,
                    "a value that starts with `#` or `;`, which sops would read as a comment: put the value in \
                     backticks, or the comment on a line of its own",
                ));
            }
            [b'#' | b';', ..] => {}
            _ => match (0..text.len()).filter(is_marker).find(starts_comment) {
                Some(at) => {
                    self.comment.extend(&text[at..]);
                    return Ok(trim_end(&text[..at]).to_vec().into());
                }
                None => return Ok(text.to_vec().into()),
            },
        }
        self.comment.extend(text);
        Ok(Text::default())
    }

    /// A value that continues on the next line while it ends with a backslash.
    fn continued(&mut self, start: &[u8]) -> Text {
        let mut value = Buffer::from(start);
        while let Some(line) = self.next_line() {
            let line = trim(line);
            match line.strip_suffix(b"\\") {
                Some(line) => value.extend(line),
                None => {
                    value.extend(line);
                    break;
                }
            }
        }
        value.into_vec().into()
    }

    /// Takes a comment after something that ended; anything else there would be lost.
    fn only_comment(&mut self, behind: &[u8]) -> Result<(), Error> {
        match trim(behind) {
            [] => Ok(()),
            comment @ [b'#' | b';', ..] => {
                self.comment.extend(comment);
                Ok(())
            }
            _ => Err(wrong(self.line, "only a comment may follow the closing quote or bracket")),
        }
    }
}

/// The key of a line, and the text after its `=` or `:`.
fn key_name(line: &[u8], number: usize) -> Result<(Vec<u8>, &[u8]), Error> {
    let no_delimiter = || wrong(number, "there is no `=` or `:` on this line");
    let quote = match line {
        [b'"', b'"', b'"', _, _, _, _, ..] => TRIPLE,
        [b'"', ..] => b"\"",
        [b'`', ..] => b"`",
        _ => b"".as_slice(),
    };
    let inner = &line[quote.len()..];
    let delimiter = |text: &[u8]| text.iter().position(|byte| matches!(byte, b'=' | b':'));
    let (name, behind) = if quote.is_empty() {
        let at = delimiter(line).ok_or_else(no_delimiter)?;
        (&line[..at], &line[at + 1..])
    } else {
        let end = find(inner, quote).ok_or_else(|| wrong(number, "a quoted key without a closing quote"))?;
        let rest = &inner[end + quote.len()..];
        let at = delimiter(rest).ok_or_else(no_delimiter)?;
        if !trim(&rest[..at]).is_empty() {
            return Err(wrong(number, "something between the key's closing quote and the `=`"));
        }
        (&inner[..end], &rest[at + 1..])
    };
    match trim(name) {
        [] => Err(wrong(number, "a key without a name")),
        name => Ok((name.to_vec(), behind)),
    }
}

/// A comment as sops keeps it, if there is one: without its first marker, more of the same, and spaces.
pub(super) fn without_marker(comment: &[u8]) -> Option<&[u8]> {
    match comment {
        [] => None,
        [marker @ (b'#' | b';'), ..] => {
            let start = comment.iter().position(|byte| byte != marker && *byte != b' ');
            Some(&comment[start.unwrap_or(comment.len())..])
        }
        _ => Some(comment),
    }
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|window| window == word)
}

fn rfind(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).rposition(|window| window == word)
}

fn wrong(line: usize, message: impl Into<String>) -> Error {
    Error::Syntax { line, message: message.into() }
}
