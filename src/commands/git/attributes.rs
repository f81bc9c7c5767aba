//! civm's block of lines in `.gitattributes`, between two comments. All other lines are kept unchanged.

/// The line before civm's.
pub(super) const BEGIN: &str = "# civm: sops files; `civm git install` renews these lines";
/// The line after them.
pub(super) const END: &str = "# civm: end";
/// The attributes of sops files.
const ATTRIBUTES: &str = "diff=civm merge=civm";
/// The line for the rules file: when two people each add a key, they change the same lines of it.
const RULES: &str = ".sops.yaml merge=civm";

/// civm's opening comment has no closing one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("civm's block starts at line {0} but has no end line")]
pub(super) struct OpenBlock(usize);

/// The text with civm's block replaced by a line for each pattern.
pub(super) fn with_block(text: &[u8], patterns: &[String]) -> Result<Vec<u8>, OpenBlock> {
    let (before, after) = split(text)?;
    if patterns.is_empty() {
        return Ok([before, after].concat());
    }
    let lines: String = patterns.iter().map(|pattern| format!("{pattern} {ATTRIBUTES}\n")).collect();
    let gap: &[u8] = if before.is_empty() || before.ends_with(b"\n") { b"" } else { b"\n" };
    Ok([before, gap, format!("{BEGIN}\n{RULES}\n{lines}{END}\n").as_bytes(), after].concat())
}

/// The text without civm's lines.
pub(super) fn without_block(text: &[u8]) -> Result<Vec<u8>, OpenBlock> {
    let (before, after) = split(text)?;
    Ok([before, after].concat())
}

/// What comes before civm's lines, and what comes after them.
fn split(text: &[u8]) -> Result<(&[u8], &[u8]), OpenBlock> {
    let mut offset = 0;
    let mut start = None;
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let (at, bare) = (offset, line.trim_ascii_end());
        offset += line.len();
        match start {
            None if bare == BEGIN.as_bytes() => start = Some((at, number + 1)),
            Some((begin, _)) if bare == END.as_bytes() => return Ok((&text[..begin], &text[offset..])),
            _ => {}
        }
    }
    match start {
        Some((_, number)) => Err(OpenBlock(number)),
        None => Ok((text, b"")),
    }
}

/// A pattern for this path alone.
pub(super) fn of_path(path: &[u8]) -> String {
    let mut glob = b"/".to_vec();
    for &byte in path {
        if b"*?[\\".contains(&byte) {
            glob.push(b'\\');
        }
        glob.push(byte);
    }
    quoted(&glob)
}

/// A glob as written in the file: in quotes where needed, because a space would end it.
pub(super) fn quoted(glob: &[u8]) -> String {
    let plain = glob.iter().all(|byte| matches!(byte, b'!'..=b'~') && *byte != b'"');
    if plain && !glob.starts_with(b"#") && !glob.starts_with(b"!") {
        return String::from_utf8_lossy(glob).into_owned();
    }
    let mut text = String::from("\"");
    for &byte in glob {
        match byte {
            b'\\' | b'"' => text.extend(['\\', char::from(byte)]),
            b' '..=b'~' => text.push(char::from(byte)),
            other => text.push_str(&format!("\\{other:03o}")),
        }
    }
    text + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str, patterns: &[&str]) -> String {
        let patterns: Vec<_> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        String::from_utf8(with_block(text.as_bytes(), &patterns).unwrap()).unwrap()
    }

    #[test]
    fn other_lines_stay_whatever_is_done() {
        for text in ["", "*.png binary\n", "a\r\n\n# b\n"] {
            let one = with(text, &["/a", "/b"]);
            assert!(one.starts_with(text) && one.contains("\n/b diff=civm merge=civm\n"), "{one}");
            assert_eq!(with(&one, &["/a", "/b"]), one);
            let after = format!("{one}*.txt text\n");
            let changed = with(&after, &["/c"]);
            assert!(changed.starts_with(text) && changed.ends_with("end\n*.txt text\n"), "{changed}");
            assert!(!changed.contains("/a diff"), "{changed}");
            assert_eq!(without_block(changed.as_bytes()).unwrap(), format!("{text}*.txt text\n").as_bytes());
        }
        assert!(with("no newline", &["/a"]).starts_with("no newline\n# civm"));
        assert_eq!(with("x\n", &[]), "x\n");
    }

    #[test]
    fn a_block_without_an_end_is_not_touched() {
        let text = format!("a\n{BEGIN}\n/x y\n");
        assert_eq!(with_block(text.as_bytes(), &[]), Err(OpenBlock(2)));
        assert_eq!(without_block(text.as_bytes()), Err(OpenBlock(2)));
    }

    #[test]
    fn a_pattern_matches_its_path_alone() {
        assert_eq!(of_path(b"a/b.yaml"), "/a/b.yaml");
        assert_eq!(of_path(b"#a"), "/#a");
        assert_eq!(of_path(b"a*[b]"), r"/a\*\[b]");
        assert_eq!(of_path("a b\"\u{e9}".as_bytes()), r#""/a b\"\303\251""#);
        assert_eq!(of_path(br"x y\z"), r#""/x y\\\\z""#);
        assert_eq!(quoted(b"*.sops.yaml"), "*.sops.yaml");
        assert_eq!(quoted(b"a b/**"), r#""a b/**""#);
    }
}
