//! Shared by the tests of this module: identities, and JSON as the simplest way to build a tree.

use std::io::Read;

use age::armor::ArmoredReader;
use serde_json::{Map, Number, Value as Json};

use super::data_key::DataKey;
use super::metadata::Metadata;
use super::tree::{Branch, Item, Key, Tree, Value};

const KEYS: &str = include_str!("../../tests/sops/keys.txt");

/// The two identities of `tests/sops/keys.txt`.
pub(super) fn identities() -> Vec<age::x25519::Identity> {
    KEYS.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.parse().expect("an identity"))
        .collect()
}

/// What an armored age file holds for one of the identities.
pub(super) fn unwrap(enc: &str) -> Option<Vec<u8>> {
    let identities = identities();
    let decryptor = age::Decryptor::new(ArmoredReader::new(enc.as_bytes())).ok()?;
    let identities = identities.iter().map(|identity| identity as &dyn age::Identity);
    let mut secret = Vec::new();
    decryptor.decrypt(identities).ok()?.read_to_end(&mut secret).ok()?;
    Some(secret)
}

/// The data key of a file with a single group.
pub(super) fn data_key(metadata: &Metadata) -> DataKey {
    let wrapped = metadata.age_keys().next().expect("a recipient");
    DataKey::from_bytes(&unwrap(&wrapped.enc).expect("one of ours")).expect("32 bytes")
}

pub(super) fn tree(json: &str) -> Tree {
    match value(&serde_json::from_str(json).expect("JSON")) {
        Value::Map(branch) => Tree { documents: vec![branch] },
        _ => panic!("not an object"),
    }
}

pub(super) fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Bool(*flag),
        Json::Number(number) => number
            .as_i64()
            .map(Value::Int)
            .or_else(|| number.as_f64().map(Value::Float))
            .expect("a number in range"),
        Json::String(text) => Value::str(text.as_str()),
        Json::Array(items) => Value::List(items.iter().map(value).collect()),
        Json::Object(entries) => {
            Value::Map(entries.iter().map(|(key, json)| Item::entry(key.as_str(), value(json))).collect())
        }
    }
}

/// The tree as JSON; comments are left out.
pub(super) fn json(branch: &Branch) -> Json {
    let mut map = Map::new();
    for item in branch {
        if let Item::Entry(Key::Str(key), value) = item {
            map.insert(key.as_str().expect("UTF-8").to_owned(), json_value(value));
        }
    }
    Json::Object(map)
}

fn json_value(value: &Value) -> Json {
    match value {
        Value::Bool(flag) => Json::Bool(*flag),
        Value::Int(number) => Json::Number((*number).into()),
        Value::Float(number) => Json::Number(Number::from_f64(*number).expect("finite")),
        Value::Str(text) => Json::String(text.as_str().expect("UTF-8").to_owned()),
        Value::Map(branch) => json(branch),
        Value::List(items) => Json::Array(
            items.iter().filter(|item| !matches!(item, Value::Comment(_))).map(json_value).collect(),
        ),
        _ => Json::Null,
    }
}
