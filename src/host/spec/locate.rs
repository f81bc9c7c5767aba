//! The line of a key or list item in a YAML text.
//!
//! The YAML reader does not keep positions, but its errors have them: the text is read once more, by a reader that fails
//! on purpose where the path ends.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The words by which the failure on purpose is told from any other.
const HERE: &str = "the place that was looked for";

/// The line, from 1, of what a path leads to: keys of mappings, and positions in lists.
pub(super) fn line(text: &str, path: &[&str]) -> Option<usize> {
    let error = Walk(path).deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    error.to_string().contains(HERE).then(|| error.location().map(|place| place.line())).flatten()
}

struct Walk<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.0.is_empty() {
            return Ok(());
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping or a list")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((first, rest)) = self.0.split_first() else { return Ok(()) };
        while let Some(found) = map.next_key_seed(Key { wanted: first, last: rest.is_empty() })? {
            if found {
                map.next_value_seed(Walk(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some((first, rest)) = self.0.split_first() else { return Ok(()) };
        let Ok(wanted) = first.parse::<usize>() else { return Ok(()) };
        for _ in 0..wanted {
            if list.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
        }
        let inner =
            if rest.is_empty() { list.next_element_seed(Here)? } else { list.next_element_seed(Walk(rest))? };
        if inner.is_some() {
            while list.next_element::<IgnoredAny>()?.is_some() {}
        }
        Ok(())
    }
}

/// A key: whether it is the wanted one, or the failure on purpose where the path ends with it.
struct Key<'a> {
    wanted: &'a str,
    last: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        let found = key == self.wanted;
        if found && self.last { Err(E::custom(HERE)) } else { Ok(found) }
    }
}

/// Fails at whatever value comes.
struct Here;

impl<'de> DeserializeSeed<'de> for Here {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Here {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HERE)
    }
}

#[cfg(test)]
mod tests {
    use super::line;

    const TEXT: &str =
        "a: 1\n# comment\nusers:\n  one:\n    keys:\n      - x\n      - y: 2\n  two: {uid: 3}\nb: [4]\n";

    #[test]
    fn a_path_has_its_line() {
        assert_eq!(line(TEXT, &["a"]), Some(1));
        assert_eq!(line(TEXT, &["users"]), Some(3));
        assert_eq!(line(TEXT, &["users", "one", "keys"]), Some(5));
        assert_eq!(line(TEXT, &["users", "one", "keys", "0"]), Some(6));
        assert_eq!(line(TEXT, &["users", "one", "keys", "1", "y"]), Some(7));
        assert_eq!(line(TEXT, &["users", "two", "uid"]), Some(8));
        assert_eq!(line(TEXT, &["b", "0"]), Some(9));
    }

    #[test]
    fn what_is_not_there_has_none() {
        for path in [&["c"][..], &["a", "b"], &["users", "one", "keys", "7"], &["b", "x"], &[]] {
            assert_eq!(line(TEXT, path), None, "{path:?}");
        }
        assert_eq!(line("a: [", &["a"]), Some(1), "the text is broken only behind it");
    }
}
