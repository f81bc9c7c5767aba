//! The writer: what go-ini writes, unless that would not read back.

use super::convert::unwritable;
use super::reader::{DEFAULT, Section, lone_name, lone_value};
use super::space::trim;
use crate::sops::buffer::Buffer;
use crate::store::Error;

/// The text of a file.
///
/// # Errors
/// A name or value that has no form which reads back.
pub(super) fn write(sections: &[Section]) -> Result<Vec<u8>, Error> {
    let mut out = Buffer::default();
    for (at, section) in sections.iter().enumerate() {
        if let Some(text) = &section.comment {
            comment(&mut out, text.as_bytes(), |line| line);
        }
        // Only the name as it is stands for keys without a header; sops also leaves out that of `default`.
        if at > 0 || section.name != DEFAULT {
            header(&mut out, section)?;
        } else if section.keys.is_empty() {
            continue;
        }
        keys(&mut out, section)?;
        if at + 1 < sections.len() {
            out.push(b'\n');
        }
    }
    Ok(out.into_vec())
}

fn header(out: &mut Buffer, section: &Section) -> Result<(), Error> {
    let name = section.name.as_bytes();
    if name.is_empty() || name.contains(&b'\n') {
        return Err(unwritable(
            &[&section.name],
            "the name of a section must not be empty or contain a newline",
        ));
    }
    out.push(b'[');
    out.extend(name);
    out.extend(b"]\n");
    Ok(())
}

/// Above every key its comment; the signs in one column.
fn keys(out: &mut Buffer, section: &Section) -> Result<(), Error> {
    let names = section.keys.iter().map(|pair| {
        name_form(pair.name.as_bytes()).ok_or_else(|| {
            unwritable(&[&section.name, &pair.name], "the key cannot be written so that it reads back")
        })
    });
    let names = names.collect::<Result<Vec<_>, _>>()?;
    let width = names.iter().map(Vec::len).max().unwrap_or(0);
    for (pair, name) in section.keys.iter().zip(names) {
        if let Some(text) = &pair.comment {
            comment(out, text.as_bytes(), trim);
        }
        let value = value_form(pair.value.as_bytes()).ok_or_else(|| {
            unwritable(&[&section.name, &pair.name], "the value cannot be written so that it reads back")
        })?;
        out.extend(&name);
        for _ in name.len()..width {
            out.push(b' ');
        }
        out.extend(b" = ");
        out.extend(&value);
        out.push(b'\n');
    }
    Ok(())
}

/// Every line with a marker: its own, or else `;`. An empty comment is not written.
fn comment(out: &mut Buffer, text: &[u8], trimmed: impl Fn(&[u8]) -> &[u8]) {
    if text.is_empty() {
        return;
    }
    for line in text.split(|byte| *byte == b'\n') {
        let (marker, line) = match line {
            [marker @ (b'#' | b';'), rest @ ..] => (*marker, trim(rest)),
            line => (b';', trimmed(line)),
        };
        out.extend(&[marker, b' ']);
        out.extend(line);
        out.push(b'\n');
    }
}

/// As go-ini writes it if that reads back, or in other quotes or none.
fn name_form(name: &[u8]) -> Option<Vec<u8>> {
    let has = |bytes: &[u8]| name.iter().any(|byte| bytes.contains(byte));
    let usual: &[u8] = match () {
        () if has(b"\"=:") => b"`",
        () if has(b"`") => b"\"\"\"",
        () => b"",
    };
    [usual, b"`", b"\"\"\"", b""]
        .into_iter()
        .map(|quote| [quote, name, quote].concat())
        .find(|form| lone_name(form).is_some_and(|read| read == name))
}

/// As go-ini writes it if that reads back, or in the other quotes.
fn value_form(value: &[u8]) -> Option<Buffer> {
    let has = |bytes: &[u8]| value.iter().any(|byte| bytes.contains(byte));
    let usual: &[u8] = match () {
        () if has(b"\n`") => b"\"\"\"",
        () if has(b"#;") => b"`",
        () if trim(value).len() != value.len() => b"\"",
        () => b"",
    };
    [usual, b"\"\"\"", b"`"].into_iter().find_map(|quote| {
        // Read in context: after a space and before a newline.
        let mut line = Buffer::with_capacity(value.len() + 8);
        line.push(b' ');
        line.extend(quote);
        line.extend(value);
        line.extend(quote);
        line.push(b'\n');
        let reads_back = lone_value(&line).is_some_and(|read| read.as_bytes() == value);
        reads_back.then(|| Buffer::from(&line[1..line.len() - 1]))
    })
}
