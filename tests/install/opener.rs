//! Enough of sops to run the cases: YAML and JSON, one group of age keys, no MAC.

use std::path::Path;
use std::str::FromStr;

use aes_gcm::aead::consts::U32;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{AesGcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use civm::install::manifest::Format;
use civm::install::opener::Cause;
use civm::install::{Imported, Opener};
use civm::sops::tree::{Branch, Item, Key, Tree, Value};
use serde_yaml::Value as Yaml;
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

pub(crate) struct Files;

impl Opener for Files {
    type Identity = age::x25519::Identity;

    fn ssh_key(&self, text: &[u8]) -> Result<Imported<Self::Identity>, Cause> {
        let key = ssh_key::PrivateKey::from_openssh(text)?;
        let pair = key.key_data().ed25519().ok_or("not an ed25519 key")?;
        let scalar = Sha512::digest(pair.private.as_ref());
        let secret =
            bech32::encode_upper::<bech32::Bech32>(bech32::Hrp::parse("age-secret-key-")?, &scalar[..32])?;
        let identity = age::x25519::Identity::from_str(&secret)?;
        let recipient = identity.to_public().to_string();
        Ok(Imported { identity, recipient })
    }

    fn age_keys(&self, text: &[u8]) -> Result<Vec<Self::Identity>, Cause> {
        let lines = std::str::from_utf8(text)?.lines();
        let keys = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        keys.map(|line| Ok(age::x25519::Identity::from_str(line)?)).collect()
    }

    fn read(&self, _: &Path, text: &[u8], format: Format) -> Result<Tree, Cause> {
        let documents = documents(text, format)?;
        let without = |mut document: Yaml| {
            document.as_mapping_mut().map(|mapping| mapping.remove("sops"));
            document
        };
        tree(documents.into_iter().map(without), None)
    }

    fn decrypt(
        &self,
        _: &Path,
        text: &[u8],
        format: Format,
        identities: &[Self::Identity],
    ) -> Result<Tree, Cause> {
        let mut documents = documents(text, format)?;
        let mut metadata = Yaml::Null;
        for document in &mut documents {
            metadata =
                document.as_mapping_mut().and_then(|m| m.remove("sops")).ok_or("sops metadata not found")?;
        }
        let key = data_key(&metadata, identities).ok_or("no identity matched a recipient")?;
        let cipher = AesGcm::new_from_slice(&key)?;
        tree(documents.into_iter(), Some(&cipher))
    }

    fn emit(&self, _: &Tree, _: Format) -> Result<Zeroizing<Vec<u8>>, Cause> {
        Err("whole files are not among these cases".into())
    }
}

type Cipher = AesGcm<aes_gcm::aes::Aes256, U32>;

fn documents(text: &[u8], format: Format) -> Result<Vec<Yaml>, Cause> {
    use serde::Deserialize;
    if format == Format::Json {
        return Ok(vec![serde_json::from_slice(text)?]);
    }
    let mut out = Vec::new();
    for document in serde_yaml::Deserializer::from_slice(text) {
        out.push(Yaml::deserialize(document)?);
    }
    Ok(out)
}

fn data_key(metadata: &Yaml, identities: &[age::x25519::Identity]) -> Option<Vec<u8>> {
    metadata["age"].as_sequence()?.iter().find_map(|stanza| {
        let armored = age::armor::ArmoredReader::new(stanza["enc"].as_str()?.as_bytes());
        let decryptor = age::Decryptor::new(armored).ok()?;
        let mut reader = decryptor.decrypt(identities.iter().map(|i| i as &dyn age::Identity)).ok()?;
        let mut key = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut key).ok()?;
        Some(key)
    })
}

fn tree(documents: impl Iterator<Item = Yaml>, cipher: Option<&Cipher>) -> Result<Tree, Cause> {
    let branch = |document: Yaml| match value(document, cipher, "")? {
        Value::Map(branch) => Ok(branch),
        Value::Null => Ok(Branch::new()),
        _ => Err("the document is no mapping".into()),
    };
    Ok(Tree { documents: documents.map(branch).collect::<Result<_, Cause>>()? })
}

fn value(yaml: Yaml, cipher: Option<&Cipher>, path: &str) -> Result<Value, Cause> {
    Ok(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => Value::Bool(value),
        Yaml::Number(number) => number
            .as_i64()
            .map(Value::Int)
            .unwrap_or_else(|| Value::Float(number.as_f64().unwrap_or_default())),
        Yaml::String(text) => match cipher {
            Some(cipher) if text.starts_with("ENC[") => plain(&text, cipher, path)?,
            _ => Value::str(text),
        },
        Yaml::Sequence(items) => Value::List(
            items.into_iter().map(|item| value(item, cipher, path)).collect::<Result<_, Cause>>()?,
        ),
        Yaml::Mapping(entries) => {
            let mut branch = Branch::new();
            for (key, inner) in entries {
                let Yaml::String(name) = key else {
                    branch.push(Item::Entry(Key::Other(Value::Null), Value::Null));
                    continue;
                };
                let inner = value(inner, cipher, &format!("{path}{name}:"))?;
                branch.push(Item::entry(name, inner));
            }
            Value::Map(branch)
        }
        Yaml::Tagged(tagged) => value(tagged.value, cipher, path)?,
    })
}

fn plain(token: &str, cipher: &Cipher, path: &str) -> Result<Value, Cause> {
    let inner =
        token.strip_prefix("ENC[AES256_GCM,").and_then(|rest| rest.strip_suffix(']')).ok_or("no token")?;
    let field =
        |name: &str| inner.split(',').find_map(|part| part.strip_prefix(name)).ok_or("an incomplete token");
    let mut data = STANDARD.decode(field("data:")?)?;
    data.extend(STANDARD.decode(field("tag:")?)?);
    let iv = STANDARD.decode(field("iv:")?)?;
    let text = cipher
        .decrypt(Nonce::<U32>::from_slice(&iv), Payload { msg: &data, aad: path.as_bytes() })
        .map_err(|_| "a value that cannot be decrypted")?;
    let text = String::from_utf8(text)?;
    Ok(match field("type:")? {
        "int" => Value::Int(text.parse()?),
        "float" => Value::Float(text.parse()?),
        "bool" => Value::Bool(text == "True"),
        // Its text is what is installed, and the cases hold it as sops writes it.
        _ => Value::str(text),
    })
}
