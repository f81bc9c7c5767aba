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

/// For each line of a text but those of its time and MAC, which are the same in the same second: whether it stands in
/// the new text as well.
pub fn kept<'a>(before: &'a str, after: &str) -> Vec<(&'a str, bool)> {
    let lines: std::collections::BTreeSet<&str> = after.lines().collect();
    let is_of_time = |line: &str| {
        let name = line.trim_start_matches(['\t', ' ', '"']);
        line.contains("lastmodified")
            || ["mac:", "mac\":", "mac ", "sops_mac="].iter().any(|mac| name.starts_with(mac))
    };
    let timeless = before.lines().filter(|line| !is_of_time(line));
    timeless.map(|line| (line, lines.contains(line))).collect()
}
