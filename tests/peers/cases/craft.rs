//! Encrypted files put together by hand, with the ciphers themselves and nothing of civm's own format.

use std::sync::Arc;

use aes_gcm::aead::consts::{U12, U16, U32};
use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::aes::Aes256;
use aes_gcm::{AesGcm, KeyInit as _, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use civm::edge::terminal::{Nobody, Prompt};
use civm::keys::recipient::Recipient;
use serde::Deserialize;
use sha2::{Digest as _, Sha512};

use super::play::Stage;

const DATA_KEY: [u8; 32] = *b"an example of thirty-two letters";

/// A file of values that are sealed one by one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Craft {
    pub file: String,
    #[serde(default = "a_time")]
    lastmodified: String,
    values: Vec<Sealed>,
}

/// One value and the line it stands in, as `{}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    line: String,
    aad: String,
    text: String,
    #[serde(rename = "type", default = "a_string")]
    kind: String,
    /// Bytes of the nonce.
    #[serde(default = "usual")]
    nonce: usize,
    /// What the MAC counts, where it is not the text.
    hash: Option<String>,
}

fn a_time() -> String {
    "2026-01-01T00:00:00Z".to_owned()
}

fn a_string() -> String {
    "str".to_owned()
}

fn usual() -> usize {
    32
}

impl Craft {
    pub fn text(&self, stage: &Stage) -> Vec<u8> {
        let mut text = String::new();
        let mut hash = Sha512::new();
        for value in &self.values {
            let token = token(&value.aad, &value.text, &value.kind, value.nonce);
            text += &value.line.replace("{}", &token);
            text.push('\n');
            hash.update(value.hash.as_ref().unwrap_or(&value.text));
        }
        let mac: String = hash.finalize().iter().map(|byte| format!("{byte:02X}")).collect();
        let nobody: Arc<dyn Prompt> = Arc::new(Nobody);
        let recipient = stage.variable("ALICE");
        let enc =
            Recipient::parse(recipient).expect("a recipient").wrap(&DATA_KEY, &nobody).expect("wrapped");
        let enc = enc.lines().map(|line| format!("            {line}\n")).collect::<String>();
        text += &format!(
            "sops:\n    age:\n        - recipient: {recipient}\n          enc: |\n{enc}    lastmodified: \"{}\"\n    \
             mac: {}\n    version: 3.13.3\n",
            self.lastmodified,
            token(&self.lastmodified, &mac, "str", 32)
        );
        text.into_bytes()
    }
}

fn token(aad: &str, text: &str, kind: &str, nonce: usize) -> String {
    let bytes: Vec<u8> =
        (0..nonce).map(|at| u8::try_from((at * 7 + text.len()) % 251).expect("small")).collect();
    let payload = Payload { msg: text.as_bytes(), aad: aad.as_bytes() };
    let sealed = match nonce {
        12 => AesGcm::<Aes256, U12, U16>::new(&DATA_KEY.into()).encrypt(Nonce::from_slice(&bytes), payload),
        32 => AesGcm::<Aes256, U32, U16>::new(&DATA_KEY.into()).encrypt(Nonce::from_slice(&bytes), payload),
        other => panic!("a nonce of {other} bytes"),
    };
    let sealed = sealed.expect("sealed");
    let (data, tag) = sealed.split_at(sealed.len() - 16);
    let [data, iv, tag] = [data, &bytes, tag].map(|bytes| STANDARD.encode(bytes));
    format!("ENC[AES256_GCM,data:{data},iv:{iv},tag:{tag},type:{kind}]")
}
