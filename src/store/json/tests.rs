use super::*;
use crate::sops::time::Time;
use crate::sops::tree::{Comment, Item, Key};
use crate::store::limits;

/// A name, an input, what sops makes of it with tabs, without indentation and at indent 2.
type Golden = (&'static str, &'static [u8], [(i64, &'static [u8]); 3]);

/// Inputs and what sops makes of them; `tests/store/json/README.md` tells how they were made.
macro_rules! golden {
    ($($name:literal),* $(,)?) => {
        [$((
            $name,
            include_bytes!(concat!("../../../tests/store/json/", $name, ".in.json")).as_slice(),
            [
                (-1, include_bytes!(concat!("../../../tests/store/json/", $name, ".-1.json")).as_slice()),
                (0, include_bytes!(concat!("../../../tests/store/json/", $name, ".0.json")).as_slice()),
                (2, include_bytes!(concat!("../../../tests/store/json/", $name, ".2.json")).as_slice()),
            ],
        )),*]
    };
}

const GOLDEN: [Golden; 8] =
    golden!["bytes", "collections", "duplicates", "empty", "garbage", "layout", "numbers", "strings"];

const TABS: Json = Json { indent: -1 };

fn load(text: impl AsRef<[u8]>) -> Tree {
    let text = text.as_ref();
    TABS.load(text).unwrap_or_else(|error| panic!("{}: {error}", String::from_utf8_lossy(text)))
}

fn value(text: &str) -> Value {
    let mut tree = load(format!(r#"{{"a":{text}}}"#));
    match tree.documents.pop().and_then(|mut branch| branch.pop()) {
        Some(Item::Entry(_, value)) => value,
        other => panic!("{text}: {other:?}"),
    }
}

fn written(value: &Value) -> Result<String, Error> {
    TABS.emit_value(value).map(|bytes| String::from_utf8(bytes).expect("text"))
}

fn error(text: &str) -> (usize, String) {
    match TABS.load(text.as_bytes()).expect_err(text) {
        Error::Syntax { line, message } => (line, message),
        other => panic!("{text}: {other}"),
    }
}

fn lists(depth: usize) -> String {
    // The object around them is a level as well.
    format!(r#"{{"a":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1))
}

#[test]
fn files_are_written_as_sops_writes_them() {
    for (name, input, outputs) in GOLDEN {
        let tree = load(input);
        for (indent, expected) in outputs {
            let found = Json { indent }.emit(&tree).expect(name);
            let (found, expected) = (String::from_utf8_lossy(&found), String::from_utf8_lossy(expected));
            assert_eq!(found, expected, "{name} at {indent}");
        }
    }
}

#[test]
fn what_was_written_is_written_the_same_again() {
    for (name, _, outputs) in GOLDEN {
        for (indent, text) in outputs.into_iter().filter(|_| name != "numbers") {
            assert!(Json { indent }.emit(&load(text)).expect(name) == text, "{name} at {indent}");
        }
    }
}

#[test]
fn integers_floats_and_texts_are_told_apart() {
    for (text, expected) in [
        ("-0", Value::Int(0)),
        ("-0.0", Value::Float(-0.0)),
        ("9223372036854775807", Value::Int(i64::MAX)),
        ("9223372036854775808", Value::Float(9_223_372_036_854_775_808.0)),
        ("1e2", Value::Float(100.0)),
        ("1e-400", Value::Float(0.0)),
        ("\"1\"", Value::str("1")),
        ("\"\"", Value::str("")),
        ("true", Value::Bool(true)),
        ("null", Value::Null),
    ] {
        assert_eq!(value(text), expected, "{text}");
    }
    assert!(matches!(value("-0.0"), Value::Float(zero) if zero.is_sign_negative()));
}

#[test]
fn every_escape_and_every_odd_byte_is_read_as_go_reads_it() {
    for (text, expected) in [
        (r"\u0041\/\b", "A/\u{8}"),
        (r"\uD83D\uDE00", "😀"),
        (r"\ud800", "\u{fffd}"),
        (r"\ud800\u0041", "\u{fffd}A"),
        (r"\ud800\n", "\u{fffd}\n"),
        (r"\ud800\ud83d\ude00", "\u{fffd}😀"),
        ("\u{7f}\u{2028}", "\u{7f}\u{2028}"),
    ] {
        assert_eq!(value(&format!("\"{text}\"")), Value::str(expected), "{text}");
    }
    let tree = load(b"{\"a\xff\":\"\xe2\x82\\n\xff\"}");
    assert_eq!(tree.documents, [vec![Item::entry("a\u{fffd}", Value::str("\u{fffd}\u{fffd}\n\u{fffd}"))]]);
}

#[test]
fn what_is_no_json_is_refused_with_its_line() {
    for (line, text) in [
        (1, ""),
        (2, " \n"),
        (1, "[1]"),
        (1, "\"x\""),
        (1, "12"),
        (1, "\u{feff}{}"),
        (1, "{\"a\":01}"),
        (2, "{\"a\":1,\n}"),
        (3, "{\"a\":\n[1,\n]}"),
        (2, "{\"a\":1,\n\"b\":\"\t\"}"),
        (1, "{\"a\":\"x\ny\"}"),
        (1, r#"{"a":"\x"}"#),
        (1, r#"{"a":"\u12g4"}"#),
        (1, r#"{"a":"\u+123"}"#),
        (1, r#"{"a":"\u123"}"#),
        (1, "{\"a\":tru}"),
        (1, "{\"a\":nullx}"),
        (1, "{\"a\":True}"),
        (1, "{\"a\" 1}"),
        (1, "{1:1}"),
        (1, "{,}"),
        (1, "{\"a\":1]"),
        (1, "{\"a\":[1}}"),
        (1, "{\"a\":[1 2]}"),
        (1, "{\"a\":.5}"),
        (1, "{\"a\":+5}"),
        (1, "{\"a\":5.}"),
        (1, "{\"a\":-}"),
        (1, "{\"a\":1e}"),
        (1, "{\"a\":1e400}"),
        (1, "{\"a\":-1e400}"),
        (1, "{\"a\":NaN}"),
        (1, "{\"a\":'x'}"),
        (1, "{\"a\":1 // no\n}"),
    ] {
        assert_eq!(error(text).0, line, "{text}");
    }
}

#[test]
fn a_file_that_was_cut_off_is_refused_wherever_it_ends() {
    for (name, input, _) in GOLDEN.into_iter().filter(|(name, ..)| *name != "garbage") {
        let end = input.iter().rposition(|byte| *byte == b'}').expect("an object");
        for cut in 0..end {
            TABS.load(&input[..cut]).expect_err(name);
        }
    }
    // Of these two sops drops the last entry without a word.
    assert!(error(r#"{"a":1,"b":"#).1.contains("ends"));
    assert!(error(r#"{"a":1,"b":[1,2"#).1.contains("ends"));
}

#[test]
fn odd_bytes_in_files_are_errors_or_values_but_never_panics() {
    for (name, input, _) in GOLDEN {
        for at in 0..input.len().min(300) {
            for byte in [0, b'"', b'\\', b'{', b']', b',', b'-', 0xff] {
                let mut text = input.to_vec();
                text[at] = byte;
                if let Ok(tree) = TABS.load(&text) {
                    let emitted = TABS.emit(&tree).expect("what was read can be written");
                    // A float -0 reads back as the integer 0; the encryption makes it 0 beforehand.
                    if name != "numbers" {
                        TABS.verify(&tree, &emitted).expect("what was written reads back");
                    }
                }
            }
        }
    }
}

#[test]
fn an_error_does_not_tell_what_is_in_the_file() {
    for text in [r#"{"a":"s3cret""#, r#"{"a":"s3cret\x"}"#, r#"{"a":s3cret}"#, r#"{"a":1e999}"#, "s3cret"] {
        let message = error(text).1;
        assert!(!message.contains("s3cret") && !message.contains("999"), "{message}");
    }
}

#[test]
fn nesting_has_a_bound_when_read_and_when_written() {
    let tree = load(lists(limits::DEPTH));
    TABS.emit(&tree).expect("is written");
    let deeper = TABS.load(lists(limits::DEPTH + 1).as_bytes());
    assert_eq!(deeper, Err(Error::Limit { line: 1, limit: limits::DEPTH, what: "levels of nesting" }));
    let [Item::Entry(_, list)] = tree.documents[0].as_slice() else { panic!("one entry") };
    let branch = vec![Item::entry("a", Value::List(vec![list.clone()]))];
    TABS.emit(&Tree { documents: vec![branch] }).expect_err("too deep");
}

#[test]
fn values_of_other_formats_are_written_as_sops_writes_them() {
    let time = Time::parse_rfc3339("2001-12-14T21:59:43.10-05:00").expect("a time");
    for (value, expected) in [
        (Value::Time(time), "\"2001-12-14T21:59:43.1-05:00\""),
        (Value::Uint(u64::MAX), "18446744073709551615"),
        (Value::str(b"\xff\xfe\n".to_vec()), r#""\ufffd\ufffd\n""#),
        (Value::List(vec![Value::Comment(Comment::line("c"))]), "[]"),
        (Value::List(vec![Value::Comment(Comment::line("c")), Value::Null]), "[\n\tnull\n]"),
        (Value::Map(vec![Item::Comment(Comment::line("c"))]), "{}"),
    ] {
        assert_eq!(written(&value).as_deref(), Ok(expected));
    }
}

#[test]
fn values_that_json_does_not_have_are_refused() {
    for value in [
        Value::Float(f64::NAN),
        Value::Float(f64::INFINITY),
        Value::Map(vec![Item::entry("a", Value::Comment(Comment::line("c")))]),
        Value::Map(vec![Item::Entry(Key::Other(Value::Int(1)), Value::Null)]),
    ] {
        assert!(matches!(written(&value), Err(Error::Unwritable(_))), "{value:?}");
    }
}

#[test]
fn of_several_documents_the_first_is_printed_and_none_encrypted() {
    let tree = Tree { documents: ["a", "b"].map(|key| vec![Item::entry(key, Value::Int(1))]).to_vec() };
    assert_eq!(TABS.emit_plain(&tree).as_deref(), Ok(b"{\n\t\"a\": 1\n}\n".as_slice()));
    assert!(matches!(TABS.emit(&tree), Err(Error::Unwritable(_))));
    assert!(matches!(TABS.emit(&Tree::default()), Err(Error::Unwritable(_))));
}

#[test]
fn an_indent_is_a_number_of_spaces_or_a_tab() {
    let tree = load(r#"{"a":1}"#);
    for (indent, expected) in
        [(-1, "{\n\t\"a\": 1\n}\n"), (0, "{\n\"a\": 1\n}\n"), (3, "{\n   \"a\": 1\n}\n")]
    {
        assert_eq!(Json { indent }.emit(&tree).as_deref(), Ok(expected.as_bytes()), "{indent}");
    }
    for indent in [-2, i64::MIN, 1001, i64::MAX] {
        assert!(matches!(Json { indent }.emit(&tree), Err(Error::Unwritable(_))), "{indent}");
    }
}

#[test]
fn a_text_that_reads_back_as_something_else_is_noticed_with_its_place() {
    let entry = |key: &str, value| Item::entry(key, value);
    let tree = |value| Tree {
        documents: vec![vec![
            entry("clear", Value::Float(1.0)),
            entry("m", Value::Map(vec![entry("l", Value::List(vec![Value::Null, value]))])),
        ]],
    };
    let verify = |tree: &Tree| TABS.verify(tree, &TABS.emit(tree).expect("is written"));
    assert_eq!(verify(&tree(Value::str("x"))), Ok(()));
    let broken = verify(&tree(Value::str(b"\xff".to_vec()))).expect_err("not what was meant");
    assert!(broken.to_string().contains("m.l.1"), "{broken}");
    let other = TABS.emit(&tree(Value::str("y"))).expect("is written");
    TABS.verify(&tree(Value::str("x")), &other).expect_err("another text");
    TABS.verify(&tree(Value::str("x")), b"{\n\t\"clear\": 1\n}\n").expect_err("less");
}

#[test]
fn the_example_is_what_would_be_written() {
    assert_eq!(TABS.emit(&load(EXAMPLE)).as_deref(), Ok(EXAMPLE.as_bytes()));
}
