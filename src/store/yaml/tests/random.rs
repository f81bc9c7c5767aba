//! Random trees: whatever is in them, what is written reads back.

use proptest::prelude::*;

use super::*;
use crate::sops::time::Time;

/// Pieces of text that styles, escapes and types hang on.
fn text() -> impl Strategy<Value = String> {
    const PIECES: [&str; 46] = [
        "a", "b c", " ", "  ", "\n", "\n\n", "\t", "\r", ":", ": ", "#", " #", "-", "- ", "?", "? ", "'",
        "\"", "\\", "|", ">", "&", "*", "!", "%", "@", "`", "[", "]", "{", "}", ",", "---", "...", "0", "1",
        "0x", "_", ".", "e", "true", "null", "é", "😀", "\u{FEFF}", "\u{2028}",
    ];
    prop::collection::vec(prop::sample::select(PIECES.as_slice()), 0..6).prop_map(|pieces| pieces.concat())
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => text().prop_map(String::into_bytes),
        1 => any::<String>().prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..80),
    ]
}

fn time() -> impl Strategy<Value = Time> {
    (0..=9999_u16, 1..=12_u8, 1..=28_u8, 0..24_u8, 0..60_u8, 0..60_u8, 0..1_000_000_000_u32, -1439..1440_i16)
        .prop_map(|(year, month, day, hour, minute, second, nanosecond, offset_minutes)| Time {
            year,
            month,
            day,
            hour,
            minute,
            second,
            nanosecond,
            offset_minutes,
        })
}

fn comment() -> impl Strategy<Value = Comment> {
    ("[ -~]{0,6}", any::<bool>()).prop_map(|(text, inline)| Comment { text: text.into(), inline })
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (i64::MAX as u64 + 1..).prop_map(Value::Uint),
        any::<f64>().prop_map(Value::Float),
        time().prop_map(Value::Time),
        bytes().prop_map(|bytes| Value::Str(bytes.into())),
        bytes().prop_map(|bytes| Value::Str(bytes.into())),
    ]
}

/// Entries with comments between them; no two keys have the same text.
fn branch(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Branch> {
    let entry = (prop::collection::vec(comment(), 0..3), bytes(), value);
    (prop::collection::vec(entry, 0..5), prop::collection::vec(comment(), 0..2)).prop_map(
        |(entries, last)| {
            let mut branch = Branch::new();
            for (at, (comments, mut key, value)) in entries.into_iter().enumerate() {
                branch.extend(comments.into_iter().map(Item::Comment));
                key.extend(at.to_string().bytes());
                branch.push(Item::Entry(Key::Str(key.into()), value));
            }
            branch.extend(last.into_iter().map(Item::Comment));
            branch
        },
    )
}

fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(4, 24, 4, |inner| {
        let item = prop_oneof![4 => inner.clone(), 1 => comment().prop_map(Value::Comment)];
        prop_oneof![
            prop::collection::vec(item, 0..5).prop_map(Value::List),
            branch(inner).prop_map(Value::Map)
        ]
    })
}

proptest! {
    #[test]
    fn every_tree_reads_back(
        documents in prop::collection::vec(branch(value()), 1..3),
        indent in prop::sample::select([0, 1, 2, 3, 4, 5, 8, 9, 12].as_slice()),
    ) {
        let tree = Tree { documents };
        let emitted = Yaml { indent }.emit(&tree).expect("emits");
        prop_assert_eq!(verify(&tree, &emitted), Ok(()), "{}", String::from_utf8_lossy(&emitted));
        let again = Yaml { indent }.load(&emitted).expect("reads back");
        let second = Yaml { indent }.emit(&again).expect("emits again");
        prop_assert_eq!(verify(&again, &second), Ok(()));
    }

    #[test]
    fn no_text_makes_the_reader_panic(input in prop::collection::vec(bytes(), 0..20)) {
        check_does_not_panic(&input.concat());
    }
}
