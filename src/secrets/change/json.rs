//! A value in JSON, as it stands on a command line.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::super::error::Error;
use crate::sops::tree::{Branch, Item, Value};

/// A value in JSON; its integers are integers.
///
/// # Errors
/// It is no JSON, or a mapping in it has a key twice.
pub fn json_value(text: &[u8]) -> Result<Value, Error> {
    let Json(value) = serde_json::from_slice(text).map_err(|error| Error::NotJson(error.to_string()))?;
    Ok(value)
}

/// A value in JSON as `sops set` takes it: a number alone is a float, whatever it looks like, and a list alone is
/// refused.
///
/// # Errors
/// As [`json_value`]; a list.
pub fn json_value_as_sops(text: &[u8]) -> Result<Value, Error> {
    match json_value(text)? {
        Value::List(_) => Err(Error::ListValue),
        Value::Int(_) | Value::Float(_) => {
            let spelled = str::from_utf8(text).unwrap_or_default().trim();
            let number = spelled.parse().map_err(|_| Error::NotJson("not a number".to_owned()))?;
            Ok(Value::Float(number))
        }
        other => Ok(other),
    }
}

/// A value that reads itself from JSON, its texts wiped when they are dropped.
struct Json(Value);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Json)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    #[expect(clippy::cast_precision_loss, reason = "beyond the signed range a number is a float, as in sops")]
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::str(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::str(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Json(item)) = list.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut branch = Branch::new();
        let mut keys = std::collections::BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if !keys.insert(key.clone()) {
                return Err(A::Error::custom("a mapping has a key twice"));
            }
            let Json(value) = map.next_value()?;
            branch.push(Item::entry(key, value));
        }
        Ok(Value::Map(branch))
    }
}
