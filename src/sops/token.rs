//! The ENC token: the string that stands in place of a value.
//!
//! `ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]`, the first three in standard base64 with padding.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::error::ValueError;

const PREFIX: &[u8] = b"ENC[AES256_GCM,data:";

/// Go's `base64.StdEncoding`: padding required, unused bits of the last digit not looked at.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// The type of a token's plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `str`
    Str,
    /// `int`
    Int,
    /// `float`
    Float,
    /// `bool`
    Bool,
    /// `time`
    Time,
    /// `comment`
    Comment,
    /// `bytes`, which only old versions of sops wrote.
    Bytes,
}

impl Kind {
    const ALL: [Self; 7] =
        [Self::Str, Self::Int, Self::Float, Self::Bool, Self::Time, Self::Comment, Self::Bytes];

    /// The name in the token.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Str => "str",
            Self::Int => "int",
            Self::Float => "float",
            Self::Bool => "bool",
            Self::Time => "time",
            Self::Comment => "comment",
            Self::Bytes => "bytes",
        }
    }
}

/// A token, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The ciphertext followed by its 16-byte tag, as AES-GCM expects it.
    pub sealed: Vec<u8>,
    /// The nonce.
    pub nonce: Vec<u8>,
    /// How the plaintext is to be read. Not authenticated: whoever can write the file can change it.
    pub kind: Kind,
}

/// Bytes of an AES-GCM tag.
pub(super) const TAG_LEN: usize = 16;

impl Token {
    /// Parses a token. As in sops, it must start the text, and anything after its last
    /// bracket (on the first line) is ignored.
    ///
    /// # Errors
    /// A text that is not a token; a part that is not base64; no nonce; an unknown type.
    pub fn parse(text: &[u8]) -> Result<Self, ValueError> {
        let body = text.strip_prefix(PREFIX).ok_or(ValueError::NotAToken)?;
        let line = memchr::memchr(b'\n', body).map_or(body, |length| &body[..length]);
        let end = memchr::memrchr(b']', line).ok_or(ValueError::NotAToken)?;
        let (rest, kind) = split_last(&line[..end], b",type:")?;
        let (rest, tag) = split_last(rest, b",tag:")?;
        let (data, iv) = split_last(rest, b",iv:")?;
        if [data, iv, tag, kind].iter().any(|part| part.is_empty()) {
            return Err(ValueError::NotAToken);
        }
        let mut sealed = Vec::with_capacity(3 * data.len().div_ceil(4) + TAG_LEN + 2);
        decode("data", data, &mut sealed)?;
        let mut nonce = Vec::new();
        decode("iv", iv, &mut nonce)?;
        // Line breaks alone decode to nothing, and a nonce of nothing opens nothing.
        if nonce.is_empty() {
            return Err(ValueError::NonceLength(0));
        }
        decode("tag", tag, &mut sealed)?;
        let kind = Kind::ALL.into_iter().find(|known| known.name().as_bytes() == kind);
        Ok(Self { sealed, nonce, kind: kind.ok_or(ValueError::UnknownType)? })
    }

    /// The token's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let (data, tag) = self.sealed.split_at(self.sealed.len().saturating_sub(TAG_LEN));
        let name = self.kind.name();
        let base64: usize = [data, tag, &self.nonce].iter().map(|part| 4 * part.len().div_ceil(3)).sum();
        let size = "ENC[AES256_GCM,data:,iv:,tag:,type:]".len() + base64 + name.len();
        let mut text = String::with_capacity(size);
        text.push_str("ENC[AES256_GCM,data:");
        BASE64.encode_string(data, &mut text);
        text.push_str(",iv:");
        BASE64.encode_string(&self.nonce, &mut text);
        text.push_str(",tag:");
        BASE64.encode_string(tag, &mut text);
        text.push_str(",type:");
        text.push_str(name);
        text.push(']');
        text
    }
}

fn split_last<'a>(text: &'a [u8], separator: &[u8]) -> Result<(&'a [u8], &'a [u8]), ValueError> {
    let position = memchr::memrchr_iter(separator[0], text)
        .find(|&position| text[position..].starts_with(separator))
        .ok_or(ValueError::NotAToken)?;
    Ok((&text[..position], &text[position + separator.len()..]))
}

/// Go's decoder skips carriage returns inside base64.
fn decode(part: &'static str, text: &[u8], into: &mut Vec<u8>) -> Result<(), ValueError> {
    let decoded = if memchr::memchr(b'\r', text).is_some() {
        BASE64.decode_vec(text.iter().copied().filter(|&byte| byte != b'\r').collect::<Vec<_>>(), into)
    } else {
        BASE64.decode_vec(text, into)
    };
    decoded.map_err(|_| ValueError::NotBase64(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "ENC[AES256_GCM,data:AQI=,iv:AwQF,tag:AAAAAAAAAAAAAAAAAAAAAA==,type:int]";

    fn token() -> Token {
        let mut sealed = vec![1, 2];
        sealed.extend([0; TAG_LEN]);
        Token { sealed, nonce: vec![3, 4, 5], kind: Kind::Int }
    }

    #[test]
    fn a_nonce_of_line_breaks_is_none() {
        let text = b"ENC[AES256_GCM,data:NsU2,iv:\r\r\r\r,tag:2+kU3ewvJb2Ui1znIBEh6A==,type:str]";
        assert_eq!(Token::parse(text), Err(ValueError::NonceLength(0)));
    }

    #[test]
    fn a_token_is_read_and_written_alike() {
        assert_eq!(Token::parse(TEXT.as_bytes()), Ok(token()));
        assert_eq!(token().to_text(), TEXT);
    }

    #[test]
    fn what_follows_the_last_bracket_is_ignored() {
        assert_eq!(Token::parse(format!("{TEXT}junk").as_bytes()), Ok(token()));
        assert_eq!(Token::parse(format!("{TEXT}\nmore]").as_bytes()), Ok(token()));
        assert_eq!(Token::parse(format!("{TEXT}junk]").as_bytes()), Err(ValueError::UnknownType));
    }

    #[test]
    fn what_go_s_base64_accepts_is_accepted() {
        // Unused bits set, and a carriage return in the middle.
        assert_eq!(Token::parse(TEXT.replace("AQI=", "AQJ=").as_bytes()), Ok(token()));
        assert_eq!(Token::parse(TEXT.replace("AQI=", "AQ\rI=").as_bytes()), Ok(token()));
        assert_eq!(Token::parse(TEXT.replace("AQI=", "AQI").as_bytes()), Err(ValueError::NotBase64("data")));
        assert_eq!(Token::parse(TEXT.replace("AwQF", "Aw-F").as_bytes()), Err(ValueError::NotBase64("iv")));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for text in [
            "",
            "plain",
            " ENC[AES256_GCM,data:AQI=,iv:AwQF,tag:AAAA,type:int]",
            "ENC[AES256_GCM,data:,iv:AwQF,tag:AAAA,type:str]",
            "ENC[AES256_GCM,data:AQI=,iv:AwQF,tag:AAAA,type:]",
            "ENC[AES256_GCM,data:AQI=,tag:AAAA,type:str]",
            "ENC[AES256_GCM,data:AQI=,iv:AwQF,tag:AAAA,type:str",
            "ENC[AES256_GCM,data:AQI=,iv:AwQF\n,tag:AAAA,type:str]",
        ] {
            assert_eq!(Token::parse(text.as_bytes()), Err(ValueError::NotAToken), "{text}");
        }
        let unknown = TEXT.replace("type:int", "type:blob");
        assert_eq!(Token::parse(unknown.as_bytes()), Err(ValueError::UnknownType));
    }
}
