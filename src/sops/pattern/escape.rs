//! Escapes and bracketed character classes.

use super::unicode;

/// The rest of an expression.
pub(super) struct Input<'a>(pub(super) &'a str);

impl<'a> Input<'a> {
    pub(super) fn peek(&self) -> Option<char> {
        self.0.chars().next()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.0 = &self.0[next.len_utf8()..];
        Some(next)
    }

    pub(super) fn eat(&mut self, text: &str) -> bool {
        match self.0.strip_prefix(text) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    /// The text before a mark, which is consumed with it.
    pub(super) fn until(&mut self, mark: &str) -> Option<&'a str> {
        let (before, rest) = self.0.split_once(mark)?;
        self.0 = rest;
        Some(before)
    }
}

/// A part of a class in the `regex` crate's dialect: something that is valid between brackets.
pub(super) struct Part(pub(super) String);

impl Part {
    /// The part that adds no character.
    pub(super) fn nothing() -> Self {
        Self(r"[^\x{0}-\x{10FFFF}]".to_owned())
    }

    /// The characters of a range, without the surrogates that a Go expression may name but no text holds.
    fn range(low: u32, high: u32) -> Self {
        let below = (low < 0xD800).then(|| (low, high.min(0xD7FF)));
        let above = (high > 0xDFFF).then(|| (low.max(0xE000), high));
        let ranges: Vec<String> = [below, above]
            .into_iter()
            .flatten()
            .map(|(low, high)| format!(r"\x{{{low:X}}}-\x{{{high:X}}}"))
            .collect();
        if ranges.is_empty() { Self::nothing() } else { Self(ranges.concat()) }
    }
}

/// A character on its own.
pub(super) fn literal(code: u32) -> String {
    match char::from_u32(code) {
        Some(character) if character.is_ascii_alphanumeric() => character.to_string(),
        Some(_) => format!(r"\x{{{code:X}}}"),
        None => Part::nothing().0,
    }
}

/// `\d`, `\s`, `\w` and their opposites, and `\p…`, if the input starts with one.
pub(super) fn named_class(input: &mut Input<'_>) -> Result<Option<Part>, String> {
    for (name, class) in [
        (r"\d", "0-9"),
        (r"\D", "[^0-9]"),
        (r"\s", r"\t\n\x0C\r\x20"),
        (r"\S", r"[^\t\n\x0C\r\x20]"),
        (r"\w", "0-9A-Za-z_"),
        (r"\W", "[^0-9A-Za-z_]"),
    ] {
        if input.eat(name) {
            return Ok(Some(Part(class.to_owned())));
        }
    }
    let mut negated = if input.eat(r"\p") {
        false
    } else if input.eat(r"\P") {
        true
    } else {
        return Ok(None);
    };
    let mut letter = [0; 4];
    let mut name = match input.next() {
        // Without a name Go takes the two characters for an escape, which it does not know.
        None => return Err("invalid escape".to_owned()),
        Some('{') => input.until("}").ok_or("a character class name has no end")?,
        Some(only) => only.encode_utf8(&mut letter),
    };
    if let Some(positive) = name.strip_prefix('^') {
        negated = !negated;
        name = positive;
    }
    let class = unicode::class(name, negated);
    class.map(Some).ok_or_else(|| format!("unknown character class `{name}`"))
}

/// The character after a backslash that is already consumed.
pub(super) fn escape(input: &mut Input<'_>) -> Result<u32, String> {
    let character = input.next().ok_or("trailing backslash")?;
    let known = match character {
        'a' => Some(7),
        'f' => Some(12),
        'n' => Some(10),
        'r' => Some(13),
        't' => Some(9),
        'v' => Some(11),
        'x' => hexadecimal(input),
        '0'..='7' => octal(character, input),
        _ if character.is_ascii() && !character.is_ascii_alphanumeric() => Some(u32::from(character)),
        _ => None,
    };
    known.ok_or_else(|| format!(r"invalid escape `\{character}`"))
}

/// Up to three octal digits; one digit alone, unless it is 0, would be a back-reference.
fn octal(first: char, input: &mut Input<'_>) -> Option<u32> {
    let mut code = first.to_digit(8)?;
    if first != '0' && input.peek().and_then(|next| next.to_digit(8)).is_none() {
        return None;
    }
    for _ in 0..2 {
        let Some(digit) = input.peek().and_then(|next| next.to_digit(8)) else { break };
        input.next();
        code = code * 8 + digit;
    }
    Some(code)
}

/// Two hexadecimal digits, or any number of them in braces.
fn hexadecimal(input: &mut Input<'_>) -> Option<u32> {
    if !input.eat("{") {
        let (high, low) = (input.next()?.to_digit(16)?, input.next()?.to_digit(16)?);
        return Some(high * 16 + low);
    }
    let digits = input.until("}")?;
    if digits.is_empty() {
        return None;
    }
    digits.chars().try_fold(0, |code: u32, digit| {
        let code = code * 16 + digit.to_digit(16)?;
        (code <= u32::from(char::MAX)).then_some(code)
    })
}

/// A class in brackets, the first of which is consumed already, as a class of our dialect.
pub(super) fn bracketed(input: &mut Input<'_>) -> Result<String, String> {
    let negated = input.eat("^");
    let mut parts = String::new();
    let mut first = true;
    while first || input.peek() != Some(']') {
        first = false;
        if input.peek().is_none() {
            return Err("missing closing ]".to_owned());
        }
        if let Some(part) = posix_class(input)? {
            parts.push_str(part);
        } else if let Some(part) = named_class(input)? {
            parts.push_str(&part.0);
        } else {
            let low = class_character(input)?;
            // A hyphen before the bracket is itself.
            let range = input.0.starts_with('-') && input.0.len() >= 2 && !input.0.starts_with("-]");
            let high = if range && input.eat("-") { class_character(input)? } else { low };
            if high < low {
                return Err("invalid character class range".to_owned());
            }
            parts.push_str(&Part::range(low, high).0);
        }
    }
    input.next();
    Ok(format!("[{}{parts}]", if negated { "^" } else { "" }))
}

fn class_character(input: &mut Input<'_>) -> Result<u32, String> {
    match input.next().ok_or("missing closing ]")? {
        '\\' => escape(input),
        other => Ok(u32::from(other)),
    }
}

/// `[:alpha:]` and its like. Our dialect has the same names with the same meaning.
fn posix_class(input: &mut Input<'_>) -> Result<Option<&'static str>, String> {
    const CLASSES: [&str; 28] = [
        "[:alnum:]",
        "[:^alnum:]",
        "[:alpha:]",
        "[:^alpha:]",
        "[:ascii:]",
        "[:^ascii:]",
        "[:blank:]",
        "[:^blank:]",
        "[:cntrl:]",
        "[:^cntrl:]",
        "[:digit:]",
        "[:^digit:]",
        "[:graph:]",
        "[:^graph:]",
        "[:lower:]",
        "[:^lower:]",
        "[:print:]",
        "[:^print:]",
        "[:punct:]",
        "[:^punct:]",
        "[:space:]",
        "[:^space:]",
        "[:upper:]",
        "[:^upper:]",
        "[:word:]",
        "[:^word:]",
        "[:xdigit:]",
        "[:^xdigit:]",
    ];
    if !input.0.starts_with("[:") || !input.0[2..].contains(":]") {
        return Ok(None);
    }
    match CLASSES.into_iter().find(|class| input.eat(class)) {
        Some(class) => Ok(Some(class)),
        None => Err("unknown character class in brackets".to_owned()),
    }
}
