//! The error tree in sops' words: the same bytes that sops 3.13 prints.

use super::{GroupResult, KeyResult, Reason, RetrievalError};
use crate::edge::terminal::PromptError;
use crate::keys::identity::{OpenError, Part};

/// Columns of a key's message, and of the last paragraph.
const MESSAGE_COLUMNS: usize = 60;
const TRAILER_COLUMNS: usize = 75;
/// Of a data key whose age file has a sound header; what was wrong with the places is not added to it.
const PAYLOAD: &str = "failed to copy age decrypted data into bytes.Buffer: failed to decrypt and authenticate payload \
                       chunk, file may be corrupted or tampered with";

pub(super) fn render(error: &RetrievalError, colours: bool) -> String {
    let groups = error.groups.iter().enumerate().map(|(index, group)| render_group(index, group, colours));
    let groups = groups.collect::<Vec<_>>().join("\n\n");
    let trailer = wrap(&trailer(error), TRAILER_COLUMNS);
    format!("Failed to get the data key required to decrypt the SOPS file.\n\n{groups}\n\n{trailer}")
}

fn render_group(index: usize, group: &GroupResult, colours: bool) -> String {
    let header = format!("Group {index}: {}", status(group.opened, colours));
    if group.opened {
        return header;
    }
    let keys = group.keys.iter().map(|key| render_key(key, colours)).collect::<Vec<_>>().join("\n\n");
    format!("{header}\n{}", indent(&keys, "  "))
}

fn render_key(key: &KeyResult, colours: bool) -> String {
    let mut message = indent(&wrap(&message(key), MESSAGE_COLUMNS), "  | ");
    message.replace_range(..1, "-");
    format!("{}: {}\n{}", key.name, status(false, colours), indent(&message, "  "))
}

fn status(success: bool, colours: bool) -> &'static str {
    match (success, colours) {
        (true, false) => "SUCCESS",
        (false, false) => "FAILED",
        (true, true) => "\x1b[32mSUCCESS\x1b[0m",
        (false, true) => "\x1b[31mFAILED\x1b[0m",
    }
}

fn message(key: &KeyResult) -> String {
    let error = match &key.reason {
        Reason::OtherKind(kind) => return format!("{kind} keys are not supported"),
        Reason::Age(error) => error,
    };
    if key.as_sops.identities == 0 {
        return key.as_sops.message("failed to load age identities");
    }
    let said = match error {
        OpenError::NoMatch if key.as_sops.identities == 1 => {
            let plugin = key.as_sops.plugin.as_ref().map_or(String::new(), |name| format!("{name} plugin: "));
            format!(
                "identity did not match any of the recipients: {plugin}incorrect identity for recipient block"
            )
        }
        OpenError::NoMatch => "no identity matched any of the recipients".into(),
        OpenError::Damaged { part: Part::Header, reason } => format!("failed to read header: {reason}"),
        OpenError::Damaged { part: Part::Mac, .. } => "bad header MAC".into(),
        OpenError::Damaged { part: Part::Payload, .. } => return PAYLOAD.into(),
        OpenError::Plugin { name, reason: Some(reason) } => format!("{name} plugin: {reason}"),
        OpenError::Plugin { name, reason: None } => format!(
            "{name} plugin: couldn't start plugin: \"{name}\" plugin not found: exec: \"age-plugin-{name}\": \
             executable file not found in $PATH"
        ),
        OpenError::Locked { name, ssh, reason } => locked(name, *ssh, reason),
    };
    key.as_sops.message(&format!("failed to create reader for decrypting sops data key with age: {said}"))
}

fn locked(name: &str, ssh: bool, reason: &str) -> String {
    let mut reason = reason.to_owned();
    if reason == PromptError::NoTerminal.to_string() {
        reason += ": open /dev/tty: no such device or address";
    } else if reason == "incorrect passphrase" {
        let wrong = "failed to decrypt SSH key file: x509: decryption password incorrect";
        return if ssh { wrong.into() } else { reason };
    }
    if ssh {
        format!("failed to obtain passphrase: could not read passphrase for {name:?}: {reason}")
    } else {
        format!("failed to decrypt identity file: could not read passphrase: {reason}")
    }
}

fn trailer(error: &RetrievalError) -> String {
    let opened = error.groups.iter().filter(|group| group.opened).count();
    match error.threshold {
        0 => "Recovery failed because no master key was able to decrypt the file. In order for SOPS to recover \
              the file, at least one key has to be successful, but none were."
            .into(),
        needed => format!(
            "Recovery failed because the file was encrypted with a Shamir threshold of {needed}, but only \
             {opened} part(s) were successfully recovered, one for each successful key group. In order for SOPS \
             to recover the file, at least {needed} groups have to be successful. In order for a group to be \
             successful, decryption has to succeed with any of the keys in that key group."
        ),
    }
}

/// Every line with a prefix, empty ones too; no line is added at the end.
fn indent(text: &str, prefix: &str) -> String {
    text.split_inclusive('\n').flat_map(|line| [prefix, line]).collect()
}

/// Breaks lines at white space as sops does: the space at a break is dropped, other space stays, and a word
/// longer than a line gets a line of its own.
fn wrap(text: &str, columns: usize) -> String {
    text.split('\n').map(|line| wrap_line(line, columns)).collect::<Vec<_>>().join("\n")
}

fn wrap_line(line: &str, columns: usize) -> String {
    let mut wrapped = String::with_capacity(line.len() + line.len() / columns);
    let mut column = 0;
    let mut rest = line;
    while !rest.is_empty() {
        let (space, after) = split_at(rest, |character| !is_space(character));
        let (word, after) = split_at(after, is_space);
        rest = after;
        let (gap, length) = (space.chars().count(), word.chars().count());
        // A word too long for any line breaks as soon as its first part would not fit.
        if column + gap + length.min(columns - 1) > columns {
            if !word.is_empty() {
                wrapped.push('\n');
            }
            column = length;
        } else {
            wrapped.push_str(space);
            column += gap + length;
        }
        wrapped.push_str(word);
    }
    wrapped
}

fn split_at(text: &str, end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(end).unwrap_or(text.len()))
}

/// A no-break space does not break.
fn is_space(character: char) -> bool {
    character.is_whitespace() && character != '\u{a0}'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_the_last_space_that_fits() {
        assert_eq!(wrap("aa bb cc", 5), "aa bb\ncc");
        assert_eq!(wrap("aa bb cc", 8), "aa bb cc");
        assert_eq!(wrap("aa  bb", 6), "aa  bb");
        assert_eq!(wrap("aa  bb", 5), "aa\nbb");
        assert_eq!(wrap("a\nb c", 9), "a\nb c");
    }

    #[test]
    fn a_word_longer_than_a_line_gets_its_own() {
        assert_eq!(wrap("a bbbbbbbb c", 5), "a\nbbbbbbbb\nc");
        assert_eq!(wrap("bbbbbbbb c", 5), "bbbbbbbb\nc");
    }

    #[test]
    fn every_line_is_indented_and_none_is_added() {
        assert_eq!(indent("a\n\nb", "  "), "  a\n  \n  b");
    }
}
