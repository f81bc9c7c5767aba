//! Parses an expression as Go does, and rewrites it for the `regex` crate.
//!
//! Captures and preferences make no difference to whether there is a match, so groups
//! lose their names and repetitions their laziness.

use super::escape::{Input, bracketed, escape, literal, named_class};

/// `\B`, the one part that could match between the bytes of a character.
pub(super) const NOT_BOUNDARY: &str = r"(?-u:\B)";

/// The maximum repeat count, alone and multiplied by the repetitions inside it.
const REPEAT_LIMIT: u32 = 1000;

/// How deep groups may be nested, as in Go.
const DEPTH_LIMIT: usize = 1000;

/// `i`, `m` and `s`. (`U` swaps laziness, which changes no answer.)
#[derive(Clone, Copy, Default)]
struct Flags {
    ignore_case: bool,
    multi_line: bool,
    dot_newline: bool,
}

/// Something that a repetition operator after it would repeat.
struct Item {
    text: String,
    /// How often the innermost thing in it is repeated by counted repetitions.
    weight: u32,
}

/// An open group.
#[derive(Default)]
struct Group {
    /// The flags before it, which come back at its end.
    outer: Flags,
    /// The alternatives before the present one.
    alternatives: Vec<Item>,
    items: Vec<Item>,
}

impl Group {
    fn close_alternative(&mut self) {
        let text = self.items.iter().map(|item| item.text.as_str()).collect();
        let weight = self.items.iter().map(|item| item.weight).max().unwrap_or(1);
        self.items.clear();
        self.alternatives.push(Item { text, weight });
    }

    fn close(mut self) -> Item {
        self.close_alternative();
        let texts: Vec<&str> = self.alternatives.iter().map(|item| item.text.as_str()).collect();
        let weight = self.alternatives.iter().map(|item| item.weight).max().unwrap_or(1);
        Item { text: format!("(?:{})", texts.join("|")), weight }
    }
}

/// The expression in our dialect.
pub(super) fn translate(source: &str) -> Result<String, String> {
    let mut parser = Parser { flags: Flags::default(), open: Vec::new(), group: Group::default() };
    let mut input = Input(source);
    let mut after_repeat = false;
    while let Some(next) = input.peek() {
        let repeat = match next {
            '*' | '+' | '?' => {
                input.next();
                Some((next.to_string(), 1, false))
            }
            '{' => counted(&mut input)?,
            _ => None,
        };
        let Some((operator, times, counted)) = repeat else {
            parser.item(&mut input)?;
            after_repeat = false;
            continue;
        };
        input.eat("?");
        if after_repeat {
            return Err(format!("invalid nested repetition operator at `{operator}`"));
        }
        parser.repeat(&operator, times, counted)?;
        after_repeat = true;
    }
    if !parser.open.is_empty() {
        return Err("missing closing )".to_owned());
    }
    Ok(parser.group.close().text)
}

/// `{2}`, `{2,}` or `{2,5}`; `None` where the brace is itself.
fn counted(input: &mut Input<'_>) -> Result<Option<(String, u32, bool)>, String> {
    let Some((inside, rest)) = input.0[1..].split_once('}') else { return Ok(None) };
    let (low, high) = inside.split_once(',').map_or((inside, inside), |(low, high)| (low, high));
    let digits = |text: &str| {
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        plain && (text.len() == 1 || !text.starts_with('0'))
    };
    let endless = high.is_empty() && inside.contains(',');
    if !digits(low) || !(endless || digits(high)) {
        return Ok(None);
    }
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number <= REPEAT_LIMIT);
    let too_large = || format!("invalid repeat count `{{{inside}}}`");
    let low = number(low).ok_or_else(too_large)?;
    let high = if endless { None } else { Some(number(high).ok_or_else(too_large)?) };
    if high.is_some_and(|high| high < low) {
        return Err(too_large());
    }
    input.0 = rest;
    let times = high.unwrap_or(low.max(1));
    // Go counts only what repeats twice or more against its limit.
    Ok(Some((format!("{{{inside}}}"), times, times >= 2)))
}

struct Parser {
    flags: Flags,
    open: Vec<Group>,
    group: Group,
}

impl Parser {
    fn item(&mut self, input: &mut Input<'_>) -> Result<(), String> {
        let Some(next) = input.peek() else { return Ok(()) };
        if next == '\\' {
            return self.backslash(input);
        }
        input.next();
        match next {
            '(' if self.open.len() >= DEPTH_LIMIT => return Err("expression nests too deeply".to_owned()),
            '(' if input.eat("?") => return self.special_group(input),
            '(' => self.open_group(),
            ')' => self.close_group()?,
            '|' => self.group.close_alternative(),
            '^' if self.flags.multi_line => self.push("(?m:^)"),
            '^' => self.push(r"\A"),
            '$' if self.flags.multi_line => self.push("(?m:$)"),
            '$' => self.push(r"\z"),
            '.' if self.flags.dot_newline => self.push("(?s:.)"),
            '.' => self.push("."),
            '[' => {
                let class = bracketed(input)?;
                self.push_folding(&class);
            }
            other => self.push_folding(&literal(u32::from(other))),
        }
        Ok(())
    }

    fn backslash(&mut self, input: &mut Input<'_>) -> Result<(), String> {
        for (name, text) in [(r"\A", r"\A"), (r"\z", r"\z"), (r"\b", r"(?-u:\b)"), (r"\B", NOT_BOUNDARY)] {
            if input.eat(name) {
                self.push(text);
                return Ok(());
            }
        }
        if input.eat(r"\Q") {
            let quoted = match input.until(r"\E") {
                Some(quoted) => quoted,
                None => std::mem::take(&mut input.0),
            };
            quoted.chars().for_each(|character| self.push_folding(&literal(u32::from(character))));
            return Ok(());
        }
        if let Some(class) = named_class(input)? {
            self.push_folding(&format!("[{}]", class.0));
            return Ok(());
        }
        input.next();
        let code = escape(input)?;
        self.push_folding(&literal(code));
        Ok(())
    }

    /// What follows `(?`: a name, or flags, for a group or from here on.
    fn special_group(&mut self, input: &mut Input<'_>) -> Result<(), String> {
        if input.0.starts_with("P<") || input.0.starts_with('<') {
            input.eat("P");
            input.eat("<");
            let name = input.until(">").unwrap_or_default();
            if name.is_empty() || !name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()) {
                return Err("invalid named capture".to_owned());
            }
            self.open_group();
            return Ok(());
        }
        let mut flags = self.flags;
        let (mut on, mut any) = (true, false);
        while let Some(next) = input.next() {
            match next {
                'i' => flags.ignore_case = on,
                'm' => flags.multi_line = on,
                's' => flags.dot_newline = on,
                'U' => {}
                '-' if on => {
                    (on, any) = (false, false);
                    continue;
                }
                ':' | ')' if on || any => {
                    if next == ':' {
                        self.open_group();
                    }
                    self.flags = flags;
                    return Ok(());
                }
                _ => break,
            }
            any = true;
        }
        Err("invalid or unsupported Perl syntax after `(?`".to_owned())
    }

    fn open_group(&mut self) {
        let group = Group { outer: self.flags, ..Group::default() };
        self.open.push(std::mem::replace(&mut self.group, group));
    }

    fn close_group(&mut self) -> Result<(), String> {
        let outer = self.open.pop().ok_or("unexpected )")?;
        let group = std::mem::replace(&mut self.group, outer);
        self.flags = group.outer;
        self.group.items.push(group.close());
        Ok(())
    }

    fn repeat(&mut self, operator: &str, times: u32, counted: bool) -> Result<(), String> {
        let missing = || format!("missing argument to repetition operator `{operator}`");
        let item = self.group.items.pop().ok_or_else(missing)?;
        let weight = if times == 0 { 1 } else { item.weight.saturating_mul(times) };
        if counted && weight > REPEAT_LIMIT {
            return Err(format!("invalid repeat count `{operator}`"));
        }
        self.group.items.push(Item { text: format!("(?:{}){operator}", item.text), weight });
        Ok(())
    }

    fn push(&mut self, text: &str) {
        self.group.items.push(Item { text: text.to_owned(), weight: 1 });
    }

    /// Something whose case may count.
    fn push_folding(&mut self, text: &str) {
        let text = if self.flags.ignore_case { format!("(?i:{text})") } else { text.to_owned() };
        self.group.items.push(Item { text, weight: 1 });
    }
}
