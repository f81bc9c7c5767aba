//! The names of recipients: their YAML anchors.

use std::collections::BTreeMap;

use crate::store::yaml::outline::{Body, outline};

/// The anchor name of each recipient that has one: `- &alice age1…` names it alice. The first name
/// of a recipient counts.
#[must_use]
pub fn names(text: &str) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for line in text.lines() {
        let mut rest = line;
        while let Some((name, recipient, tail)) = next_anchor(rest) {
            names.entry(recipient).or_insert(name);
            rest = tail;
        }
    }
    names
}

/// The recipient that has a name, however it is laid out.
#[must_use]
pub fn recipient_of(text: &str, name: &str) -> Option<String> {
    let known = names(text).into_iter().find(|(_, known)| known == name).map(|(recipient, _)| recipient);
    known.or_else(|| {
        let root = outline(text).ok()??;
        let Body::Scalar(recipient) = &root.anchored(name)?.body else { return None };
        let recipient = recipient.trim();
        is_recipient(recipient).then(|| recipient.to_owned())
    })
}

fn is_recipient(text: &str) -> bool {
    text.starts_with("age1") || text.starts_with("ssh-")
}

/// The next `&name recipient` of a line, and what follows.
fn next_anchor(line: &str) -> Option<(String, String, &str)> {
    let mut from = 0;
    while let Some(position) = line[from..].find(['&', '#']) {
        let position = from + position;
        from = position + 1;
        // Both signs count only where a token starts.
        if !line[..position].chars().next_back().is_none_or(|before| " \t[,-".contains(before)) {
            continue;
        }
        if line[position..].starts_with('#') {
            return None;
        }
        let tail = &line[position + 1..];
        let name: String = tail.chars().take_while(|c| !c.is_whitespace() && !"[]{},".contains(*c)).collect();
        let value = tail[name.len()..].trim_start();
        let (recipient, rest) = scalar(value);
        if !name.is_empty() && is_recipient(recipient) {
            return Some((name, recipient.to_owned(), rest));
        }
    }
    None
}

/// A scalar at the start of a text, and what follows it.
fn scalar(text: &str) -> (&str, &str) {
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote)
            && let Some((inside, rest)) = inner.split_once(quote)
        {
            return (inside, rest);
        }
    }
    let end = [text.find(" #"), text.find([',', ']', '}'])].into_iter().flatten().min().unwrap_or(text.len());
    (text[..end].trim_end(), &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_its_recipient_in_every_layout() {
        let text = "keys:\n  - &a age1a # his\n  - &b >-\n    age1b\n  - &c\n    age1c\n  - &d [age1d]\n  - &e word\n";
        let of = |name: &str| recipient_of(text, name);
        assert_eq!(
            (of("a"), of("b"), of("c")),
            (Some("age1a".into()), Some("age1b".into()), Some("age1c".into()))
        );
        assert_eq!((of("d"), of("e"), of("f")), (None, None, None));
    }

    #[test]
    fn anchors_name_recipients() {
        let text = "keys:\n  - &alice age1aaa # her laptop\n  - &bob 'age1bbb'\n  # - &old age1old\n\
                    - &ssh ssh-ed25519 AAAA bob@host\r\nx: [&c age1c, &d \"age1d\"]\nn: &block\n  - age1e\n\
                    - &again age1aaa\n";
        let names = names(text);
        let pairs: Vec<_> = names.iter().map(|(one, other)| (one.as_str(), other.as_str())).collect();
        assert_eq!(
            pairs,
            [
                ("age1aaa", "alice"),
                ("age1bbb", "bob"),
                ("age1c", "c"),
                ("age1d", "d"),
                ("ssh-ed25519 AAAA bob@host", "ssh"),
            ]
        );
    }
}
