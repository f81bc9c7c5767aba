//! Files from the net.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::check::{Checked, entries, is_path, is_word};
use super::check_system::unit_list;
use super::load::Sources;
use super::raw::{self, Mapping};
use super::units::Mode;
use super::{Artifact, ArtifactSource};
use crate::edge::hex;
use crate::host::layer;

/// Mode of an artifact that names none.
const MODE: u32 = 0o644;
/// Where a file's own name stands in the destination of a list.
const NAME: &str = "{name}";

pub(super) fn artifacts(
    artifacts: Option<Mapping<raw::Artifact>>,
    sources: &Sources,
) -> Checked<Vec<Artifact>> {
    let mut out = Vec::new();
    for (path, raw) in entries(artifacts) {
        let fail = |field: &str, message: String| sources.error(&["artifacts", &path, field], message);
        let plain = path.replace(NAME, "x").replace("{version}", "x");
        is_path(&plain).map_err(|message| fail("", message.replace(&plain, &path)))?;
        let source = match (raw.url, raw.sha256, raw.from) {
            (Some(url), Some(sha256), None) => {
                check_url(&url).map_err(|message| fail("url", message))?;
                let sha256 = check_sha256(&sha256).map_err(|message| fail("sha256", message))?;
                ArtifactSource::Url { url, sha256 }
            }
            (None, None, Some(file)) => {
                if !file.split('/').all(|part| is_word(part, "._-") && !part.starts_with('.')) {
                    return Err(fail("from", format!("`{file}` is not a file beside host.yaml")));
                }
                if !path.contains(NAME) {
                    let message =
                        format!("the destination of a list needs `{NAME}`, such as /opt/plugins/{NAME}.jpi");
                    return Err(fail("", message));
                }
                ArtifactSource::List(file)
            }
            (Some(_), None, None) => {
                let message = "the artifact has no `sha256`: `sha256sum FILE` prints it, once you have checked the file";
                return Err(fail("sha256", message.into()));
            }
            _ => return Err(fail("", "an artifact has `url` and `sha256`, or `from` and neither".into())),
        };
        let account = |field: &str, name: Option<String>| {
            let name = name.unwrap_or_else(|| "root".into());
            if is_word(&name, "_.-") {
                Ok(name)
            } else {
                Err(fail(field, format!("`{name}` is not the name of an account")))
            }
        };
        let units = |field: &str, names| unit_list(names, &["artifacts", &path, field], sources);
        let layer = layer::Artifact {
            sha256: String::new(),
            mode: raw.mode.map_or(MODE, |Mode(mode)| mode),
            owner: account("owner", raw.owner)?,
            group: account("group", raw.group)?,
            restart_units: units("restart_units", raw.restart_units)?,
            path: path.clone(),
        };
        out.push(Artifact { source, layer });
    }
    Ok(out)
}

/// Whether something can be fetched from there.
///
/// # Errors
/// It is not an https URL.
pub fn check_url(url: &str) -> Result<(), String> {
    let rest =
        url.strip_prefix("https://").filter(|rest| !rest.is_empty() && !rest.starts_with(['/', ':', '@']));
    if rest.is_none() || url.chars().any(|c| c.is_whitespace() || c.is_control()) || !url.is_ascii() {
        return Err(format!("`{url}` is not an https URL"));
    }
    Ok(())
}

/// Bytes of a SHA-256.
const LENGTH: usize = 32;
/// The digits of Nix' base32.
const NIX_DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// Reads a SHA-256 in one of its usual forms (hex digits, `sha256-` and base64, Nix' base32), as hex digits.
///
/// # Errors
/// It is none of them.
pub fn check_sha256(text: &str) -> Result<String, String> {
    let plain = text.strip_prefix("sha256:").unwrap_or(text);
    let bytes = match text.strip_prefix("sha256-") {
        Some(base64) => STANDARD.decode(base64).ok(),
        None if plain.len() == 2 * LENGTH => from_hex(plain),
        None => from_nix(plain),
    };
    bytes.filter(|bytes| bytes.len() == LENGTH).map(|bytes| hex::encode(&bytes)).ok_or_else(|| {
        format!("`{text}` is not a SHA-256: write 64 hex digits, sha256-… with base64, or Nix' 52 characters")
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    Some(digits?.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

/// Five bits a digit, the least significant ones last; a digit may not reach beyond the last byte.
fn from_nix(text: &str) -> Option<Vec<u8>> {
    if text.len() != (LENGTH * 8).div_ceil(5) {
        return None;
    }
    let mut bytes = vec![0_u8; LENGTH];
    for (at, digit) in text.bytes().rev().enumerate() {
        let value = NIX_DIGITS.iter().position(|known| *known == digit)?;
        let (byte, shift) = (at * 5 / 8, at * 5 % 8);
        let bits = u16::try_from(value).ok()? << shift;
        let [low, high] = bits.to_le_bytes();
        *bytes.get_mut(byte)? |= low;
        match bytes.get_mut(byte + 1) {
            Some(next) => *next |= high,
            None if high == 0 => {}
            None => return None,
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `foo`; the other forms are those of `nix hash`.
    const HEX: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";

    #[test]
    fn a_sha256_has_three_forms() {
        for form in [
            HEX,
            "2C26B46B68FFC68FF99B453C1D30413413422D706483BFA0F98A5E886266E7AE",
            "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
            "sha256-LCa0a2j/xo/5m0U8HTBBNBNCLXBkg7+g+YpeiGJm564=",
            "1bp7cri8hplaz6hbz0v4f0nl44rl84q1sg25kgwqzipzd1mv89ic",
            "sha256:1bp7cri8hplaz6hbz0v4f0nl44rl84q1sg25kgwqzipzd1mv89ic",
        ] {
            assert_eq!(check_sha256(form).as_deref(), Ok(HEX), "{form}");
        }
    }

    #[test]
    fn what_is_not_one_is_refused() {
        for text in [
            "",
            "abc",
            &HEX[1..],
            &HEX.replace('2', "g"),
            "sha256-LCa0a2j/xo/5m0U8HTBBNBNCLXBkg7+g+YpeiGJm5w==",
            "sha512-LCa0a2j/xo/5m0U8HTBBNBNCLXBkg7+g+YpeiGJm564=",
            // Digits that there are not, and a first one that does not fit.
            "1bp7cri8hplaz6hbz0v4f0nl44rl84q1sg25kgwqzipzd1mv89ie",
            "zbp7cri8hplaz6hbz0v4f0nl44rl84q1sg25kgwqzipzd1mv89ic",
        ] {
            assert!(check_sha256(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_https_is_fetched() {
        assert_eq!(check_url("https://example.org:8443/a/b.war?x=1"), Ok(()));
        for url in
            ["http://e.org/x", "file:///etc/passwd", "https://", "https:///x", "https://e.org/a b", "e.org"]
        {
            assert!(check_url(url).is_err(), "{url}");
        }
    }
}
