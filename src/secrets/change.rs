//! Setting or removing one value of a file.

use super::error::Error;
use super::file::OpenFile;
use crate::sops::key_path::{self, KeyPath, PathError};
use crate::sops::tree::{Branch, Value, repeated_key_in};
use crate::store::json;

impl OpenFile {
    /// Sets a value in the first document, and returns whether that changed anything: if not, `--idempotent` writes
    /// nothing. [`OpenFile::reseal`] gives the file's new text.
    ///
    /// # Errors
    /// A path that does not fit the document.
    pub fn set(&mut self, path: &KeyPath, value: Value) -> Result<bool, Error> {
        self.change(path, |document| key_path::set(document, path, value))
    }

    /// Removes a value from the first document. `--idempotent` ignores the errors for which
    /// [`PathError::is_absent`] is true. [`OpenFile::reseal`] gives the file's new text.
    ///
    /// # Errors
    /// There is no such value.
    pub fn unset(&mut self, path: &KeyPath) -> Result<(), Error> {
        self.change(path, |document| key_path::unset(document, path))
    }

    fn change<T>(
        &mut self,
        path: &KeyPath,
        work: impl FnOnce(&mut Branch) -> Result<T, PathError>,
    ) -> Result<T, Error> {
        let mut none = Branch::new();
        let document = self.tree.documents.first_mut().unwrap_or(&mut none);
        work(document).map_err(|error| Error::Path { path: self.path.clone(), key: path.clone(), error })
    }
}

/// A value in JSON; its integers are integers.
///
/// # Errors
/// It is not JSON, or a mapping in it has a duplicate key.
pub fn json_value(text: &[u8]) -> Result<Value, Error> {
    let value = json::value(text).map_err(Error::NotJson)?;
    if repeated_key_in(&value).is_some() { Err(Error::RepeatedKey) } else { Ok(value) }
}

/// A value in JSON as `sops set` reads it: a number by itself is always a float, and a list by itself is refused.
///
/// # Errors
/// As [`json_value`]; a list.
pub fn json_value_as_sops(text: &[u8]) -> Result<Value, Error> {
    match json_value(text)? {
        Value::List(_) => Err(Error::ListValue),
        // Parsed from the digits again: a large integer would be rounded twice, and `-0` is a distinct float.
        Value::Int(number) => {
            let spelled = str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok());
            Ok(spelled.map_or(Value::Int(number), Value::Float))
        }
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_alone_is_a_float_for_sops_and_itself_for_us() {
        for (text, ours, theirs) in [
            ("2", Value::Int(2), 2.0),
            (" 2.0\n", Value::Float(2.0), 2.0),
            ("9007199254740993", Value::Int(9_007_199_254_740_993), 9_007_199_254_740_992.0),
            (
                "12345678901234567890",
                Value::Float(12_345_678_901_234_567_890.0),
                12_345_678_901_234_567_890.0,
            ),
        ] {
            assert_eq!(json_value(text.as_bytes()).expect(text), ours, "{text}");
            assert_eq!(json_value_as_sops(text.as_bytes()).expect(text), Value::Float(theirs), "{text}");
        }
        let zero = json_value_as_sops(b"-0").expect("a number");
        assert!(matches!(zero, Value::Float(number) if number == 0.0 && number.is_sign_negative()));
    }

    #[test]
    fn a_list_alone_is_ours_only_and_what_is_in_a_mapping_is_the_same() {
        assert_eq!(json_value(b"[1]").expect("a list"), Value::List(vec![Value::Int(1)]));
        assert!(matches!(json_value_as_sops(b"[1]"), Err(Error::ListValue)));
        let text = br#"{"a": [1, 1.5, null]}"#;
        assert_eq!(json_value_as_sops(text).expect("a mapping"), json_value(text).expect("a mapping"));
    }

    #[test]
    fn a_key_twice_in_one_mapping_is_refused() {
        for text in [r#"{"a": 1, "a": 1}"#, r#"[{"b": {"a": 1, "c": 2, "a": 3}}]"#] {
            assert!(matches!(json_value(text.as_bytes()), Err(Error::RepeatedKey)), "{text}");
        }
        assert!(json_value(br#"{"a": {"a": [{"a": 1}, {"a": 1}]}}"#).is_ok());
    }

    #[test]
    fn what_is_no_json_is_refused_without_repeating_it() {
        for text in ["", " ", "hush", "\"hush", "1 2", "{\"a\": hush}", "'hush'", "1e400", "\"\u{7f}\\x\""] {
            let error = json_value_as_sops(text.as_bytes()).expect_err(text);
            assert!(matches!(error, Error::NotJson(_)), "{text}");
            assert!(!error.to_string().contains("hush"), "{error}");
        }
    }
}
