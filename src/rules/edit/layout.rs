//! The layout of a `.sops.yaml`, line by line.

use std::ops::Range;

use super::super::Error;
use super::spell::scalar;

/// The byte order mark that may precede a text.
const MARK: char = '\u{feff}';

/// The lines of the two sections that an edit touches.
#[derive(Debug)]
pub(super) struct Layout {
    lines: usize,
    crlf: bool,
    keys: Option<Section>,
    rules: Option<Section>,
    items: Vec<Item>,
}

/// A top-level key and the lines below it.
#[derive(Debug)]
struct Section {
    header: usize,
    /// Whether its entries are on the line of the key.
    inline: bool,
    /// The lines after the header up to the last line of content.
    body: Range<usize>,
}

/// One entry of `creation_rules`.
#[derive(Debug)]
pub(super) struct Item {
    /// The lines of its content.
    pub(super) lines: Range<usize>,
    /// The first of the comment lines that belong to it, or its own first line.
    from: usize,
    /// Columns of the hyphen and of the first key after it.
    pub(super) indent: Indent,
}

/// The columns at which a list item starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Indent {
    /// The column of the hyphen.
    pub(super) hyphen: usize,
    /// The column of its content.
    pub(super) content: usize,
}

/// Lines to insert before a line.
#[derive(Debug)]
pub(super) struct Splice {
    line: usize,
    text: String,
}

impl Splice {
    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// The text with the new lines inserted. A missing final newline stays missing.
    pub(super) fn apply(&self, text: &str) -> String {
        let at: usize = text.split_inclusive('\n').take(self.line).map(str::len).sum();
        // A byte order mark stays at the start.
        let at = at.max(text.len() - text.trim_start_matches(MARK).len());
        let (before, after) = text.split_at(at);
        if before.trim_start_matches(MARK).is_empty() || before.ends_with('\n') {
            return format!("{before}{}{after}", self.text);
        }
        let newline = if self.text.ends_with("\r\n") { "\r\n" } else { "\n" };
        format!("{before}{newline}{}", self.text.strip_suffix(newline).unwrap_or(&self.text))
    }
}

/// A line without its comment, as far as that can be determined without parsing quotes.
pub(super) fn code(line: &str) -> &str {
    let comment =
        |(index, _): &(usize, &str)| line[..*index].chars().next_back().is_none_or(char::is_whitespace);
    let end = line.match_indices('#').find(comment).map_or(line.len(), |(index, _)| index);
    line[..end].trim_end()
}

fn is_content(line: &str) -> bool {
    !code(line).is_empty()
}

fn column(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// The columns of a list item, if the line starts one.
pub(super) fn item_indent(line: &str) -> Option<Indent> {
    let hyphen = column(line);
    let behind = code(line)[hyphen.min(code(line).len())..].strip_prefix('-')?;
    let content = behind.trim_start_matches(' ');
    let gap = behind.len() - content.len();
    // A lone hyphen has its content on the next line, usually indented by two more.
    let gap = if content.is_empty() { 1 } else { gap };
    (gap > 0).then_some(Indent { hyphen, content: hyphen + 1 + gap })
}

impl Layout {
    pub(super) fn of(text: &str) -> Result<Self, Error> {
        let lines: Vec<&str> = text.trim_start_matches(MARK).lines().collect();
        let keys = section(&lines, "keys");
        let rules = section(&lines, "creation_rules");
        if let Some(rules) = rules.as_ref().filter(|rules| rules.inline) {
            let line = rules.header + 1;
            return Err(Error::Edit(format!(
                "line {line}: the entries of creation_rules are not on lines of their own"
            )));
        }
        let items = rules.as_ref().map(|rules| items(&lines, rules)).unwrap_or_default();
        Ok(Self { lines: lines.len(), crlf: text.contains("\r\n"), keys, rules, items })
    }

    pub(super) fn items(&self) -> &[Item] {
        &self.items
    }

    /// The line before which a rule with this index is inserted.
    pub(super) fn rule_line(&self, position: usize) -> usize {
        match (self.items.get(position), &self.rules) {
            (Some(item), _) => item.from,
            (None, Some(rules)) => self.items.last().map_or(rules.body.end, |last| last.lines.end),
            (None, None) => self.lines,
        }
    }

    /// The line of an anchor.
    pub(super) fn anchor_line(&self, text: &str, name: &str) -> Option<usize> {
        let anchor = format!("&{name}");
        text.lines().position(|line| {
            code(line).split([' ', '[', ',', '\t']).any(|word| word.trim_end_matches([']', '}']) == anchor)
        })
    }

    /// Adds an anchor after the last one under `keys`.
    pub(super) fn anchor_splice(&self, text: &str, name: &str, recipient: &str) -> Result<Splice, Error> {
        let entry = format!("&{name} {}", scalar(recipient));
        let Some(keys) = &self.keys else {
            let line = self.rules.as_ref().map_or(self.lines, |rules| comments_above(text, rules.header, 0));
            return Ok(self.splice(line, &format!("keys:\n  - {entry}\n")));
        };
        if keys.inline {
            return Err(Error::Edit(format!("line {}: keys is not a list of names", keys.header + 1)));
        }
        if keys.body.is_empty() {
            return Ok(self.splice(keys.body.start, &format!("  - {entry}\n")));
        }
        let lines: Vec<&str> = text.lines().collect();
        let body = || keys.body.clone().rev();
        let anchored = body().find_map(|index| {
            let line = code(lines[index]);
            let start = column(line);
            if let Some(indent) = item_indent(line) {
                let anchored = line[indent.content.min(line.len())..].starts_with('&');
                return anchored.then(|| (index, format!("{}{entry}", hyphened(indent))));
            }
            // `alice: &alice age1…`, in a mapping of names.
            let (key, value) = line[start..].split_once(": ")?;
            let named = !key.contains(' ') && value.trim_start().starts_with('&');
            named.then(|| (index, format!("{}{name}: {entry}", " ".repeat(start))))
        });
        let listed = || {
            let index = body().find(|&index| item_indent(lines[index]).is_some())?;
            item_indent(lines[index]).map(|indent| (index, format!("{}{entry}", hyphened(indent))))
        };
        let (index, new) = anchored.or_else(listed).ok_or_else(|| {
            Error::Edit(format!(
                "line {}: keys is not a list of names; add `{entry}` by hand",
                keys.header + 1
            ))
        })?;
        // A scalar may continue on the next lines, indented further.
        let own = column(lines[index]);
        let further = |line: &&&str| is_content(line) && column(line) > own;
        let end = index + 1 + lines[index + 1..keys.body.end].iter().take_while(further).count();
        Ok(self.splice(end, &format!("{new}\n")))
    }

    /// Inserts a rule before the one at an index, or after the last.
    pub(super) fn rule_splice(
        &self,
        text: &str,
        position: usize,
        rule: impl FnOnce(Indent) -> String,
    ) -> Result<Splice, Error> {
        let indent = self.items.first().map_or(Indent { hyphen: 2, content: 4 }, |item| item.indent);
        let rule = rule(indent);
        let Some(rules) = &self.rules else {
            return Ok(self.splice(self.lines, &format!("creation_rules:\n{rule}")));
        };
        if position > self.items.len() || (self.items.is_empty() && !rules.body.is_empty()) {
            let line = rules.header + 1;
            return Err(Error::Edit(format!("line {line}: the layout of creation_rules is not understood")));
        }
        let blank = |line: usize| text.lines().nth(line).is_some_and(|line| line.trim().is_empty());
        let spaced = self
            .items
            .last()
            .is_some_and(|last| self.items.len() > 1 && last.from.checked_sub(1).is_some_and(blank));
        let rule = match (spaced, position < self.items.len()) {
            (false, _) => rule,
            (true, true) => rule + "\n",
            (true, false) => "\n".to_owned() + &rule,
        };
        Ok(self.splice(self.rule_line(position), &rule))
    }

    fn splice(&self, line: usize, text: &str) -> Splice {
        let text = if self.crlf { text.replace('\n', "\r\n") } else { text.to_owned() };
        Splice { line, text }
    }
}

fn hyphened(indent: Indent) -> String {
    format!("{}-{}", " ".repeat(indent.hyphen), " ".repeat(indent.content - indent.hyphen - 1))
}

/// The first of the comment lines directly above a line that belong to it: those not indented further.
fn comments_above(text: &str, line: usize, indent: usize) -> usize {
    let lines: Vec<&str> = text.lines().take(line).collect();
    line - comments_before(&lines, indent)
}

fn comments_before(lines: &[&str], indent: usize) -> usize {
    let comment = |line: &&&str| line.trim_start().starts_with('#') && column(line) <= indent;
    lines.iter().rev().take_while(comment).count()
}

fn section(lines: &[&str], name: &str) -> Option<Section> {
    let is_header = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':'));
    let header = lines.iter().position(is_header)?;
    let inline = code(lines[header]).len() > name.len() + 1;
    let start = header + 1;
    let mut end = start;
    for (index, line) in lines.iter().enumerate().skip(start) {
        let inside = column(line) > 0 || item_indent(line).is_some();
        if !is_content(line) {
            continue;
        }
        if !inside {
            break;
        }
        end = index + 1;
    }
    Some(Section { header, inline, body: start..end })
}

fn items(lines: &[&str], rules: &Section) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    for index in rules.body.clone() {
        let Some(indent) = item_indent(lines[index]) else { continue };
        if items.first().is_some_and(|first| first.indent.hyphen != indent.hyphen) {
            continue;
        }
        let from = index - comments_before(&lines[rules.body.start..index], indent.hyphen);
        items.push(Item { lines: index..rules.body.end, from, indent });
    }
    for index in 1..items.len() {
        items[index - 1].lines.end = items[index].from;
    }
    if let Some(last) = items.last_mut() {
        // Comment lines indented further than its hyphen belong to the previous rule.
        let comment = |line: &&&str| line.trim_start().starts_with('#') && column(line) > last.indent.hyphen;
        last.lines.end += lines[last.lines.end..].iter().take_while(comment).count();
    }
    items
}
