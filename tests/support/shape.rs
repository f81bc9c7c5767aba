//! Encrypted files without what is random in them, in every format.

/// The encrypted text without its random parts: ciphertexts become their type, armor and the time go.
pub fn shape(text: &str) -> String {
    let text =
        between(text, "-----BEGIN AGE ENCRYPTED FILE-----", "-----END AGE ENCRYPTED FILE-----", |_| {
            "<age>".to_owned()
        });
    let lines = text.lines().map(|line| match line.split_once("lastmodified") {
        Some((before, after)) => {
            format!("{before}lastmodified{}", if after.ends_with(',') { "," } else { "" })
        }
        None => without_ciphertexts(line),
    });
    let mut text = lines.collect::<Vec<_>>().join("\n");
    if text.is_empty() {
        text.push('\n');
    }
    text
}

/// A line in which every ciphertext became its type.
pub fn without_ciphertexts(line: &str) -> String {
    between(line, "ENC[AES256_GCM,", "]", |token| {
        token.rsplit_once(",type:").map_or_else(|| token.to_owned(), |(_, kind)| format!("<{kind}"))
    })
}

/// Replaces every stretch from one mark to the next of the other, both included.
fn between(text: &str, from: &str, to: &str, with: impl Fn(&str) -> String) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(from) {
        let Some(end) = rest[start..].find(to) else { break };
        let end = start + end + to.len();
        out += &rest[..start];
        out += &with(&rest[start..end]);
        rest = &rest[end..];
    }
    out + rest
}

/// Whether a file holds anything that sops encrypts.
pub fn is_encrypted(content: &[u8]) -> bool {
    let text = String::from_utf8_lossy(content);
    text.contains("ENC[AES256_GCM,") || text.contains("-----BEGIN AGE ENCRYPTED FILE-----")
}

/// For each line of a text that is not its time: whether it stands in the new text as well.
pub fn kept<'a>(before: &'a str, after: &str) -> Vec<(&'a str, bool)> {
    let lines: std::collections::BTreeSet<&str> = after.lines().collect();
    let timeless = before.lines().filter(|line| !line.contains("lastmodified"));
    timeless.map(|line| (line, lines.contains(line))).collect()
}
