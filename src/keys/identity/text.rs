//! Parsing identities: one per line or word, with comments.
//!
//! This accepts more than sops (space around a line, a byte order mark, good lines next to a bad
//! one); what sops itself would have done with the text is kept for the error tree.

use super::Key;
use super::as_sops::fault;
use crate::keys::native::hybrid::IDENTITY_START as POST_QUANTUM;
use crate::keys::native::{AgeIdentity, NativeKeyError};

/// The identities found in a text.
pub(super) struct Identities {
    pub(super) keys: Vec<Key>,
    /// By line; without any of the text.
    pub(super) problems: Vec<String>,
    /// How many sops would have read, or why it would have refused the whole text.
    pub(super) as_sops: Result<usize, String>,
}

/// Reads identities. sops takes several on a line only from a variable: `several_on_a_line`.
pub(super) fn parse(text: &[u8], several_on_a_line: bool) -> Identities {
    let text = String::from_utf8_lossy(text);
    let as_sops = as_sops(&text, several_on_a_line);
    let mut found = Identities { keys: Vec::new(), problems: Vec::new(), as_sops };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    if text.contains("-----BEGIN ") && text.contains("PRIVATE KEY-----") {
        found.problems.push(
            "contains an ssh private key, which is read only from ~/.ssh and from what \
             SOPS_AGE_SSH_PRIVATE_KEY_FILE names"
                .into(),
        );
        return found;
    }
    for (line, number) in text.lines().zip(1..) {
        for word in line.split_whitespace().take_while(|word| !word.starts_with('#')) {
            match read(word) {
                Ok(key) => found.keys.push(key),
                Err(reason) => found.problems.push(format!("line {number}: {reason}")),
            }
        }
    }
    found
}

fn read(word: &str) -> Result<Key, String> {
    if word.starts_with("AGE-PLUGIN-") {
        return word.parse().map(Key::Plugin).map_err(|_| "a damaged plugin identity".into());
    }
    if word.starts_with("age1") || word.starts_with("ssh-") {
        return Err("a recipient (a public key) where an identity is expected".into());
    }
    if !is_native(word) {
        return Err("not an age identity".into());
    }
    AgeIdentity::parse(word).map(Key::Native).map_err(|error| error.to_string())
}

fn is_native(word: &str) -> bool {
    word.starts_with("AGE-SECRET-KEY-1") || word.starts_with(POST_QUANTUM)
}

/// sops' own reading: no trimming, and one bad line spoils all.
fn as_sops(text: &str, several_on_a_line: bool) -> Result<usize, String> {
    let mut count = 0;
    let text = text.strip_suffix('\n').unwrap_or(text);
    for line in text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words: Vec<&str> = if several_on_a_line { line.split_whitespace().collect() } else { vec![line] };
        for word in words {
            if is_native(word) {
                AgeIdentity::parse(word).map_err(|error| {
                    let reason = match error {
                        NativeKeyError::Encoding => fault(word),
                        _ if word.starts_with(POST_QUANTUM) => "invalid MLKEM768-X25519 secret key".into(),
                        _ => "invalid X25519 secret key".into(),
                    };
                    format!("malformed secret key: {reason}")
                })?;
            } else if word.starts_with("AGE-PLUGIN-") {
                let plugin: Result<age::plugin::Identity, _> = word.parse();
                plugin.map_err(|_| format!("invalid identity encoding: {}", fault(word)))?;
            } else {
                return Err("unknown identity type".into());
            }
            count += 1;
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> String {
        AgeIdentity::generate().to_text().to_string()
    }

    fn outcome(text: &str) -> (usize, usize, Result<usize, String>) {
        let found = parse(text.as_bytes(), false);
        (found.keys.len(), found.problems.len(), found.as_sops)
    }

    #[test]
    fn comments_blank_lines_and_carriage_returns_are_passed_over() {
        let text = format!("# created: today\r\n\r\n{}\r\n{}", key(), key());
        assert_eq!(outcome(&text), (2, 0, Ok(2)));
    }

    #[test]
    fn space_and_a_byte_order_mark_are_accepted_where_sops_refuses_the_text() {
        let unknown = Err("unknown identity type".to_owned());
        assert_eq!(outcome(&format!("  {} \n", key())), (1, 0, unknown.clone()));
        assert_eq!(outcome(&format!("\u{feff}{}", key())), (1, 0, unknown.clone()));
        assert_eq!(outcome(&format!("{}\nrubbish\n", key())), (1, 1, unknown));
    }

    #[test]
    fn several_on_a_line_are_read() {
        let text = format!("{} {}", key(), key());
        let found = parse(text.as_bytes(), true);
        assert_eq!((found.keys.len(), found.as_sops), (2, Ok(2)));
    }

    #[test]
    fn a_problem_names_its_line_and_repeats_nothing_of_it() {
        let damaged = key().replace("AGE-SECRET-KEY-1", "AGE-SECRET-KEY-1Q");
        let text = format!("# comment\n{damaged}\nrubbish-that-may-be-secret\n-----BEGIN\n");
        let found = parse(text.as_bytes(), false);
        assert_eq!(found.problems.len(), 3, "{:?}", found.problems);
        assert!(found.problems[0].starts_with("line 2: "));
        for problem in &found.problems {
            assert!(!problem.contains("rubbish") && !problem.contains(&damaged), "{problem}");
        }
    }

    #[test]
    fn an_ssh_key_among_identities_is_pointed_out() {
        let (keys, problems, _) = outcome("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n");
        assert_eq!((keys, problems), (0, 1));
    }
}
