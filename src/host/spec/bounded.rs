//! How much a YAML text becomes once its aliases are expanded.
//!
//! A project that somebody else wrote may hold a host.yaml of aliases to aliases, which would fill the memory. So the
//! text is read once by a reader that keeps nothing and stops at a limit.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Values and keys; without aliases, no text of the size that is read has as many.
const NODES: usize = 1 << 20;
/// Bytes of their text.
const BYTES: usize = 16 << 20;

/// Checks that a text stays within the limits. Whatever else is wrong with it is an error as well.
///
/// # Errors
/// It does not, or is not YAML.
pub(super) fn check(text: &str) -> Result<(), serde_yaml::Error> {
    let count = Count { nodes: Cell::new(0), bytes: Cell::new(0) };
    (&count).deserialize(serde_yaml::Deserializer::from_str(text))
}

struct Count {
    nodes: Cell<usize>,
    bytes: Cell<usize>,
}

impl Count {
    fn add<E: Error>(&self, bytes: usize) -> Result<(), E> {
        self.nodes.set(self.nodes.get() + 1);
        self.bytes.set(self.bytes.get() + bytes);
        if self.nodes.get() > NODES || self.bytes.get() > BYTES {
            return Err(E::custom("too much comes out of its aliases"));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for &Count {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Count {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.add(0)
    }
    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.add(0)
    }
    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.add(0)
    }
    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.add(0)
    }
    fn visit_i128<E: Error>(self, _: i128) -> Result<(), E> {
        self.add(0)
    }
    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.add(0)
    }
    fn visit_u128<E: Error>(self, _: u128) -> Result<(), E> {
        self.add(0)
    }
    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.add(0)
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.add(text.len())
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.add(0)?;
        while list.next_element_seed(self)?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.add(0)?;
        while map.next_entry_seed(self, self)?.is_some() {}
        Ok(())
    }
    /// A value with a tag of its own, which no host.yaml has: the tag goes for nothing, the value counts.
    fn visit_enum<A: serde::de::EnumAccess<'de>>(self, data: A) -> Result<(), A::Error> {
        use serde::de::VariantAccess as _;
        let ((), value) = data.variant_seed(self)?;
        value.newtype_variant_seed(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_text_passes() {
        for text in [
            "",
            "a: 1\n",
            "a: &a [1, 2.5, ~, true, x]\nb: *a\n",
            "a: !t {b: -1}\nc: !u x\nd: 99999999999999999999\n",
        ] {
            assert!(check(text).is_ok(), "{text}: {:?}", check(text));
        }
        // Without aliases nothing of the largest size is too much.
        check(&format!("[{}]", "x,".repeat((1 << 19) - 1))).expect("a list");
        assert!(check("a: [\n").is_err());
    }

    #[test]
    fn what_comes_out_of_aliases_is_bounded() {
        let list = format!("a: &a [{}]\nb: [{}]\n", "x,".repeat(100_000), "*a,".repeat(100_000));
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), "*a,".repeat(100_000));
        let mut nested = "a0: &a0 [x, x]\n".to_owned();
        for at in 1..60 {
            nested.push_str(&format!("a{at}: &a{at} [*a{0}, *a{0}]\n", at - 1));
        }
        for text in [list, long, nested] {
            let error = check(&text).expect_err("a bomb").to_string();
            assert!(error.contains("aliases") || error.contains("repetition limit"), "{error}");
        }
    }
}
