//! Detecting the format of an encrypted file from its content, because not every file name gives it.

use std::path::Path;

use memchr::memmem;

use super::binary::DATA;
use super::{Format, Indents};
use crate::sops::metadata::KEY;
use crate::sops::tree::{self, Branch, Item, Key, Value};

/// What every encrypted value starts with, the MAC among them.
const TOKEN: &[u8] = b"ENC[AES256_GCM,";
/// The byte order mark that some editors put at the start of a text.
const BOM: &[u8] = b"\xef\xbb\xbf";

impl Format {
    /// The format of an encrypted file: what its name says, unless the text has no metadata in that form and has it
    /// in another.
    #[must_use]
    pub fn of_encrypted(path: &Path, text: &[u8]) -> Self {
        match Self::of_ending(path) {
            Some(format) if format.may_be(text) => format,
            named => Self::recognise(text).or(named).unwrap_or(Self::Binary),
        }
    }

    /// The format in which a whole text is a sops file; `None` for any other text, also for one that only quotes a
    /// sops file, as documentation and source code do.
    #[must_use]
    pub fn recognise(text: &[u8]) -> Option<Self> {
        // JSON before YAML, which JSON is as well.
        let formats = [Self::Json, Self::Dotenv, Self::Ini, Self::Yaml];
        formats.into_iter().filter(|format| format.may_be(text)).find_map(|format| {
            let tree = format.store(Indents::default()).load(text).ok()?;
            if format == Self::Json && !is_json_alone(text) {
                return None;
            }
            let branch = tree.documents.iter().find(|branch| has_metadata(branch))?;
            let binary = format == Self::Json && is_content_alone(branch);
            Some(if binary { Self::Binary } else { format })
        })
    }

    /// Whether a text may be a sops file of this format: quick, and misses none.
    fn may_be(self, text: &[u8]) -> bool {
        let starts = |piece: &[u8]| {
            memmem::find_iter(text, piece).any(|at| {
                let before = &text[..at];
                before.is_empty() || before.ends_with(b"\n") || before == BOM
            })
        };
        let contains = |piece: &[u8]| memmem::find(text, piece).is_some();
        contains(TOKEN)
            && match self {
                Self::Yaml => starts(b"sops:") || starts(b"'sops':") || contains(b"\"sops\""),
                Self::Json | Self::Binary => contains(b"\"sops\""),
                Self::Dotenv => starts(b"sops_mac="),
                Self::Ini => starts(b"[sops]"),
            }
    }
}

/// Whether a text may be a sops file of any format: quick, and misses none.
#[must_use]
pub fn may_be_encrypted(text: &[u8]) -> bool {
    Format::ALL.into_iter().any(|format| format.may_be(text))
}

/// Whether nothing follows the JSON, which sops would not look at.
fn is_json_alone(text: &[u8]) -> bool {
    let text = text.strip_prefix(BOM).unwrap_or(text);
    serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
}

/// Whether a document has sops' metadata, be it damaged.
fn has_metadata(branch: &Branch) -> bool {
    branch.iter().any(|item| match item {
        Item::Entry(Key::Str(key), Value::Map(metadata)) => {
            key.as_bytes() == KEY.as_bytes() && tree::get(metadata, "mac").is_some()
        }
        _ => false,
    })
}

/// Whether a document is a file's content as one value: as sops reads JSON that no name tells it to be.
fn is_content_alone(branch: &Branch) -> bool {
    branch.iter().all(|item| match item {
        Item::Entry(Key::Str(key), value) => {
            key.as_bytes() == KEY.as_bytes()
                || key.as_bytes() == DATA.as_bytes() && matches!(value, Value::Str(_))
        }
        Item::Entry(..) => false,
        Item::Comment(_) => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str]";

    fn of(name: &str) -> Vec<u8> {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sops/3.13.3/encrypted").join(name);
        std::fs::read(path).expect("a file that sops wrote")
    }

    #[test]
    fn what_sops_wrote_is_recognised_in_every_format() {
        for (name, format) in [
            ("small.yaml", Format::Yaml),
            ("comments.yaml", Format::Yaml),
            ("groups.yaml", Format::Yaml),
            ("small.json", Format::Json),
            ("types.json", Format::Json),
            ("small.env", Format::Dotenv),
            ("groups.env", Format::Dotenv),
            ("small.ini", Format::Ini),
            ("groups.ini", Format::Ini),
            ("small.bin", Format::Binary),
            ("empty.bin", Format::Binary),
        ] {
            let text = of(name);
            assert_eq!(Format::recognise(&text), Some(format), "{name}");
            assert!(may_be_encrypted(&text), "{name}");
            for other in ["secrets", "x.enc", ".env.production", "app.conf", "wrong.yaml", "wrong.ini"] {
                let found = Format::of_encrypted(Path::new(other), &text);
                let by_name = other == "wrong.yaml" && [Format::Json, Format::Binary].contains(&format);
                // JSON is YAML as well, and sops reads it so.
                assert_eq!(found, if by_name { Format::Yaml } else { format }, "{name} as {other}");
            }
        }
    }

    #[test]
    fn what_merely_quotes_a_sops_file_is_not_one() {
        let yaml = String::from_utf8(of("small.yaml")).expect("UTF-8");
        let json = String::from_utf8(of("small.json")).expect("UTF-8");
        for text in [
            String::new(),
            "a: b\n".to_owned(),
            format!("# How it looks\n\nLike this:\n\n```yaml\n{yaml}```\n"),
            format!("const TEXT: &str = \"\n{yaml}\";\n"),
            format!("{{\n{yaml}}}\n"),
            format!("[{json}]"),
            format!("{json}and more\n"),
            format!("cat <<END\nsops_mac={TOKEN}\nEND\n"),
            format!("It is\n\n[sops]\nmac = {TOKEN}\n"),
            format!("{{\"data\": \"{TOKEN}\", \"sops\": {{}}}}\n"),
            format!("{{\"sops\": \"mac\", \"a\": \"{TOKEN}\"}}\n"),
        ] {
            assert_eq!(Format::recognise(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_name_counts_where_the_text_may_be_of_its_format() {
        let path = Path::new("a.json");
        assert_eq!(Format::of_encrypted(path, &of("small.bin")), Format::Json);
        assert_eq!(Format::of_encrypted(path, b"{}"), Format::Json);
        assert_eq!(Format::of_encrypted(Path::new("a"), b"{}"), Format::Binary);
        let damaged = format!("a: {TOKEN}\nsops:\n\tmac: {TOKEN}\n");
        assert_eq!(Format::of_encrypted(Path::new("a.yaml"), damaged.as_bytes()), Format::Yaml);
    }
}
