//! Which values are the same: digests of them, so that nothing has to be compared or copied twice.

use sha2::{Digest as _, Sha256};

use super::tree::{Branch, Comment, Item, Key, Value};
use super::value;

/// A digest of a value's type and content. NaN equals itself here.
pub(super) type Fingerprint = [u8; 32];

/// The digest of a value with all that is in it.
pub(super) fn of(value: &Value) -> Fingerprint {
    let mut hash = Sha256::new();
    add(&mut hash, value);
    hash.finalize().into()
}

/// The digest of a key.
pub(super) fn of_key(key: &Key) -> Fingerprint {
    let mut hash = Sha256::new();
    add_key(&mut hash, key);
    hash.finalize().into()
}

/// The digest of a mapping.
pub(super) fn of_branch(branch: &Branch) -> Fingerprint {
    let mut hash = Sha256::new();
    add_branch(&mut hash, branch);
    hash.finalize().into()
}

/// Whether two values, either of which may be missing, are the same.
pub(super) fn same(one: Option<&Value>, other: Option<&Value>) -> bool {
    one.map(of) == other.map(of)
}

/// The sign says what follows, the length where it ends.
fn begin(hash: &mut Sha256, sign: u8, length: usize) {
    hash.update([sign]);
    hash.update(length.to_be_bytes());
}

fn add(hash: &mut Sha256, value: &Value) {
    match value {
        Value::Map(branch) => add_branch(hash, branch),
        Value::List(items) => {
            begin(hash, b'l', items.len());
            items.iter().for_each(|item| add(hash, item));
        }
        Value::Comment(comment) => add_comment(hash, comment),
        Value::Null => begin(hash, b'0', 0),
        Value::Uint(number) => {
            begin(hash, b'u', 8);
            hash.update(number.to_be_bytes());
        }
        leaf => {
            let sign = match leaf {
                Value::Bool(_) => b't',
                Value::Int(_) => b'i',
                Value::Float(_) => b'f',
                Value::Time(_) => b'd',
                Value::Bytes(_) => b'b',
                _ => b's',
            };
            if let Some(bytes) = value::to_bytes(leaf) {
                begin(hash, sign, bytes.len());
                hash.update(&*bytes);
            }
        }
    }
}

fn add_branch(hash: &mut Sha256, branch: &Branch) {
    begin(hash, b'm', branch.len());
    for item in branch {
        match item {
            Item::Comment(comment) => add_comment(hash, comment),
            Item::Entry(key, value) => {
                add_key(hash, key);
                add(hash, value);
            }
        }
    }
}

fn add_key(hash: &mut Sha256, key: &Key) {
    match key {
        Key::Str(text) => {
            begin(hash, b'k', text.len());
            hash.update(text.as_bytes());
        }
        Key::Other(value) => {
            begin(hash, b'o', 1);
            add(hash, value);
        }
    }
}

fn add_comment(hash: &mut Sha256, comment: &Comment) {
    begin(hash, if comment.inline { b'~' } else { b'#' }, comment.text.len());
    hash.update(comment.text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_content_and_structure_count() {
        let values = [
            Value::Null,
            Value::Bool(true),
            Value::Int(1),
            Value::Uint(1),
            Value::Float(1.0),
            Value::Float(-0.0),
            Value::Float(0.0),
            Value::str("1"),
            Value::str(""),
            Value::Bytes("1".into()),
            Value::List(vec![]),
            Value::List(vec![Value::str("1")]),
            Value::List(vec![Value::str("1"), Value::str("")]),
            Value::List(vec![Value::List(vec![Value::str("1")])]),
            Value::Map(vec![]),
            Value::Map(vec![Item::entry("1", Value::Null)]),
            Value::Comment(Comment::line("1")),
            Value::Comment(Comment { text: "1".into(), inline: true }),
        ];
        for (at, one) in values.iter().enumerate() {
            for (other_at, other) in values.iter().enumerate() {
                assert_eq!(same(Some(one), Some(other)), at == other_at, "{at} {other_at}");
            }
        }
        assert!(!same(Some(&Value::Null), None) && same(None, None));
        assert!(same(Some(&Value::Float(f64::NAN)), Some(&Value::Float(f64::NAN))));
    }
}
