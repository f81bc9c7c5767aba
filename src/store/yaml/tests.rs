use super::verify::verify;
use super::*;
use crate::sops::tree::{Branch, Comment, Item, Key, get};

mod bounds;
mod pieces;
mod random;

/// Inputs and what sops makes of them; `tests/store/yaml/README.md` tells how they were made.
macro_rules! golden {
    ($($name:literal),* $(,)?) => {
        [$((
            $name,
            include_bytes!(concat!("../../../tests/store/yaml/", $name, ".in.yaml")).as_slice(),
            include_bytes!(concat!("../../../tests/store/yaml/", $name, ".4.yaml")).as_slice(),
            include_bytes!(concat!("../../../tests/store/yaml/", $name, ".2.yaml")).as_slice(),
        )),*]
    };
}

/// A name, an input, what sops makes of it at indent 4 and at indent 2.
type Golden = (&'static str, &'static [u8], &'static [u8], &'static [u8]);

const GOLDEN: [Golden; 15] = golden![
    "aliases",
    "binary",
    "blocks",
    "comments",
    "documents",
    "flow",
    "lists",
    "mark",
    "moved",
    "odd_indent",
    "scalars",
    "strings",
    "tabs",
    "utf16",
    "windows",
];

fn load(text: &str) -> Tree {
    Yaml::default().load(text.as_bytes()).expect(text)
}

fn error(text: &str) -> Error {
    Yaml::default().load(text.as_bytes()).expect_err(text)
}

fn error_line(text: &str) -> usize {
    match error(text) {
        Error::Syntax { line, .. } | Error::Limit { line, .. } => line,
        other => panic!("{text}: {other}"),
    }
}

fn emit(tree: &Tree) -> String {
    let bytes = Yaml::default().emit(tree).expect("emits");
    verify(tree, &bytes).expect("reads back");
    String::from_utf8(bytes).expect("text")
}

fn rewrite(text: &str) -> String {
    emit(&load(text))
}

fn tree(items: Vec<Item>) -> Tree {
    Tree { documents: vec![items] }
}

fn difference(expected: &[u8], found: &[u8]) -> String {
    let (expected, found) = (String::from_utf8_lossy(expected), String::from_utf8_lossy(found));
    let line = expected.lines().zip(found.lines()).position(|(expected, found)| expected != found);
    let at = line.unwrap_or_else(|| expected.lines().count().min(found.lines().count()));
    format!(
        "line {}: expected {:?}, found {:?}",
        at + 1,
        expected.lines().nth(at).unwrap_or_default(),
        found.lines().nth(at).unwrap_or_default()
    )
}

#[test]
fn files_are_written_as_sops_writes_them() {
    for (name, input, at_four, at_two) in GOLDEN {
        let tree = Yaml::default().load(input).unwrap_or_else(|error| panic!("{name}: {error}"));
        for (indent, expected) in
            [(0, at_four), (4, at_four), (2, at_two), (1, at_two), (10, at_two), (i64::MAX, at_two)]
        {
            let found = Yaml { indent }.emit(&tree).expect(name);
            assert!(found == expected, "{name} at {indent}: {}", difference(expected, &found));
        }
        verify(&tree, at_four).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn odd_bytes_in_files_are_errors_or_values_but_never_panics() {
    for (_, input, ..) in GOLDEN {
        let input = &input[..input.len().min(180)];
        for end in 0..input.len() {
            check_does_not_panic(&input[..end]);
        }
        for at in 0..input.len() {
            for byte in [
                0,
                b'\n',
                b' ',
                b'\t',
                b'#',
                b':',
                b'-',
                b'"',
                b'[',
                b'}',
                b'*',
                b'!',
                0xC2,
                input[at] ^ 0x20,
            ] {
                let mut flipped = input.to_vec();
                flipped[at] = byte;
                check_does_not_panic(&flipped);
            }
        }
    }
}

fn check_does_not_panic(input: &[u8]) {
    if let Ok(tree) = Yaml::default().load(input) {
        let emitted = Yaml::default().emit(&tree).expect("what is read can be written");
        // What sops cannot read back either, such as two keys with one spelling, is found here.
        let _ = verify(&tree, &emitted);
    }
}

#[test]
fn documents_without_entries_are_empty_mappings() {
    for (text, expected) in [
        ("---\n", "{}\n"),
        ("null\n", "{}\n"),
        ("---\n# only\n--- # line\nb: 1\n--- ~\n---\n", "# only\n{}\n---\n# line\nb: 1\n---\n{}\n---\n{}\n"),
        ("# a\n\n# b\n---\n# c\n{} # d\n# e\n", "# a\n# b\n# c\n# d\n# e\n{}\n"),
    ] {
        assert_eq!(rewrite(text), expected);
    }
    assert_eq!(Yaml::default().emit(&Tree::default()), Ok(Vec::new()));
}

#[test]
fn a_file_without_documents_is_refused() {
    assert_eq!(error(""), Error::Empty);
    for text in ["\n", "# only a comment\n", "\u{FEFF}"] {
        assert!(matches!(error(text), Error::Syntax { .. }), "{text:?}");
    }
}

#[test]
fn a_document_must_be_a_mapping() {
    for text in ["- a\n", "a\n", "a: 1\n---\n- b\n", "12\n", "\"\"\n"] {
        assert!(matches!(error(text), Error::Syntax { .. }), "{text:?}");
    }
}

#[test]
fn equal_keys_are_refused_in_the_first_document_only() {
    assert_eq!(error_line("a: 1\nb:\n  - c: 1\n    c: 2\n"), 4);
    assert_eq!(error_line("1: a\n\"1\": b\n"), 2);
    assert_eq!(rewrite("a: 1\n---\nb: 1\nb: 2\n"), "a: 1\n---\nb: 1\nb: 2\n");
}

#[test]
fn merge_keys_need_mappings_in_the_first_document() {
    assert_eq!(error_line("a: 1\n<<: x\n"), 2);
    assert_eq!(error_line("a: 1\n<<: [x]\n"), 2);
    assert_eq!(rewrite("\"<<\": x\n"), "\"<<\": x\n");
    assert_eq!(rewrite("a: 1\n---\n<<: x\n"), "a: 1\n---\n\"<<\": x\n");
}

#[test]
fn errors_name_the_line() {
    for (text, line) in [
        ("a: 1\nb: \"x\n", 2),
        ("a: 1\nb\nc: 2\n", 2),
        ("a: 1\n\tb: 2\n", 2),
        ("a: [1\nb: 2\n", 1),
        ("a: *x\n", 1),
        ("a: 1\n\n  b: 2\n", 3),
        ("a: !!int x\n", 1),
        ("a: !!binary '*'\n", 1),
        ("a: 1\n? [b]\n: 2\n", 2),
        ("a: 1\n---\n? {b: c}\n: 2\n", 3),
        ("a: &x [*x]\n", 1),
        ("a: !e!x 1\n", 1),
        ("a: \"\\q\"\n", 1),
        ("a: \x07\n", 1),
        ("%YAML 1.2\n---\na: 1\n", 1),
        ("a: |0\n  x\n", 1),
        ("a: @x\n", 1),
    ] {
        assert_eq!(error_line(text), line, "{text:?}");
    }
    assert_eq!(
        Yaml::default().load(b"a: 1\nb: \xFF\n"),
        Err(Error::Syntax { line: 2, message: "bytes that are not UTF-8".to_owned() })
    );
}

#[test]
fn keys_that_are_no_strings_are_kept_as_what_they_are() {
    let tree = load("1: a\ntrue: b\n~: c\n2020-01-01: d\n1.0: e\n'2': f\n18446744073709551615: g\n");
    let keys: Vec<_> = tree.documents[0]
        .iter()
        .map(|item| match item {
            Item::Entry(Key::Str(_), _) => "string",
            Item::Entry(Key::Other(Value::Int(1)), _) => "int",
            Item::Entry(Key::Other(Value::Bool(true)), _) => "bool",
            Item::Entry(Key::Other(Value::Null), _) => "null",
            Item::Entry(Key::Other(Value::Time(_)), _) => "time",
            Item::Entry(Key::Other(Value::Float(_)), _) => "float",
            Item::Entry(Key::Other(Value::Uint(u64::MAX)), _) => "uint",
            _ => "other",
        })
        .collect();
    assert_eq!(keys, ["int", "bool", "null", "time", "float", "string", "uint"]);
    // As in sops: a second reading would refuse the float's new spelling as equal to the integer.
    let bytes = Yaml::default().emit(&tree).expect("emits");
    let expected =
        "1: a\ntrue: b\nnull: c\n2020-01-01T00:00:00Z: d\n1: e\n\"2\": f\n18446744073709551615: g\n";
    assert_eq!(String::from_utf8_lossy(&bytes), expected);
    assert!(verify(&tree, &bytes).is_err());
}

#[test]
fn texts_that_sops_loses_are_kept() {
    for text in ["\tx\ny\n", " x\ny", "\nx\n", "\n\tx", "  x\n\n", " \tx\n\n\ny"] {
        let value = || Value::str(text);
        let tree = tree(vec![
            Item::entry("value", value()),
            Item::entry(text, value()),
            Item::entry("list", Value::List(vec![value(), Value::List(vec![value()])])),
            Item::entry(
                "map",
                Value::Map(vec![Item::entry(
                    "in",
                    Value::List(vec![Value::Map(vec![
                        Item::entry("a", value()),
                        Item::entry(text, value()),
                    ])]),
                )]),
            ),
        ]);
        for indent in [0, 2, 3, 9] {
            let emitted = Yaml { indent }.emit(&tree).expect("emits");
            assert_eq!(verify(&tree, &emitted), Ok(()), "{text:?} at {indent}");
        }
    }
    let list = tree(vec![Item::entry("l", Value::List(vec![Value::str(" x\ny"), Value::str("\n\n")]))]);
    assert_eq!(emit(&list), "l:\n    - |2-\n       x\n      y\n    - |4+\n\n\n");
}

#[test]
fn comments_leave_the_values_beside_them_alone() {
    let inline = |text: &str| Value::Comment(Comment { text: text.into(), inline: true });
    let list = vec![inline(" a"), inline(" b"), Value::str("x\n")];
    assert_eq!(emit(&tree(vec![Item::entry("l", Value::List(list))])), "l:\n    - \"x\\n\" # a\n    # b\n");
    let breaks =
        vec![Value::Map(vec![Item::entry("k", Value::str("x\n\n"))]), Value::Comment(Comment::line(" a"))];
    assert_eq!(
        emit(&tree(vec![Item::entry("l", Value::List(breaks))])),
        "l:\n    - k: |+\n        x\n\n# a\n"
    );
    let maps = vec![inline(" a"), Value::Map(vec![Item::entry("k", Value::Null)]), Value::List(Vec::new())];
    assert_eq!(emit(&tree(vec![Item::entry("l", Value::List(maps))])), "l:\n    - k: null\n    - [] # a\n");
}

#[test]
fn comments_stand_in_the_collection_they_are_aligned_with() {
    let tree = load("a:\n  b: 1\n  # in a\n# outside\nc: # line of c\n  - 1 # inline\n");
    let Some(Value::Map(a)) = get(&tree.documents[0], "a") else { panic!("a is a mapping") };
    assert_eq!(a[1], Item::Comment(Comment::line(" in a")));
    assert_eq!(tree.documents[0][1], Item::Comment(Comment::line(" outside")));
    let Some(Value::List(c)) = get(&tree.documents[0], "c") else { panic!("c is a list") };
    assert_eq!(c[0], Value::Comment(Comment { text: " inline".into(), inline: true }));
}

#[test]
fn values_alone_are_written_with_the_default_indent() {
    let yaml = Yaml { indent: 2 };
    let list =
        Value::List(vec![Value::Int(1), Value::Map(vec![Item::entry("a", Value::List(vec![Value::Null]))])]);
    for (value, expected) in [
        (Value::Int(12), "12\n"),
        (Value::Null, "null\n"),
        (Value::Bool(true), "true\n"),
        (Value::Float(1e21), "1e+21\n"),
        (Value::str("12"), "\"12\"\n"),
        (Value::str("a\nb"), "|-\n    a\n    b\n"),
        (Value::List(Vec::new()), "[]\n"),
        (list, "- 1\n- a:\n    - null\n"),
    ] {
        assert_eq!(
            yaml.emit_value(&value).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
            Ok(expected.to_owned())
        );
    }
}

#[test]
fn a_negative_indent_writes_nothing() {
    assert!(matches!(Yaml { indent: -1 }.emit(&load("a: 1\n")), Err(Error::Unwritable(_))));
}

#[test]
fn a_comment_in_the_place_of_a_value_is_refused() {
    let tree = tree(vec![Item::entry("a", Value::Comment(Comment::line("x")))]);
    assert!(matches!(Yaml::default().emit(&tree), Err(Error::Unwritable(_))));
}

#[test]
fn verify_finds_a_changed_value_and_says_where() {
    let tree = load("a:\n  - b: 1\n    c: x\n");
    assert_eq!(verify(&tree, b"a: [{b: 1, c: x}] # comments do not count\n"), Ok(()));
    for (text, place) in [
        ("a: [{b: 1, c: y}]\n", "a.0.c"),
        ("a: [{b: '1', c: x}]\n", "a.0.b"),
        ("a: [{b: 1, d: x}]\n", "a.0.c"),
        ("a: [{b: 1}]\n", "a.0"),
        ("a: []\n", "a"),
        ("b: []\n", "a"),
    ] {
        let message = verify(&tree, text.as_bytes()).expect_err(text).to_string();
        assert!(message.contains(&format!("at {place} ")), "{message}");
    }
    assert!(verify(&tree, b"").is_err());
    assert!(verify(&tree, b"a: [").is_err());
    assert_eq!(verify(&load("a: 1.0\nb: .nan\nc: -0.0\n"), b"a: 1\nb: .nan\nc: -0\n"), Ok(()));
}

#[test]
fn keys_are_found_by_their_path() {
    let text = b"a: 1\nb:\n  c:\n    - x\n    - d: 1\n      \"e\": 2\nf: &f\n  g: 1\nh: *f\n";
    for (path, line) in [
        (&["a"][..], Some(1)),
        (&["b", "c"], Some(3)),
        (&["b", "c", "1", "e"], Some(6)),
        (&["b", "c", "0"], Some(4)),
        (&["h", "g"], Some(8)),
        (&["b", "x"], None),
        (&["a", "x"], None),
        (&["b", "c", "2"], None),
    ] {
        assert_eq!(line_of(text, path), line, "{path:?}");
    }
    assert_eq!(line_of(b"[", &["a"]), None);
}

#[test]
fn nesting_is_bounded() {
    let deepest = limits::DEPTH - 2;
    for (open, close) in [("[", "]"), ("{a: ", "}")] {
        let fits = format!("a: {}{}\n", open.repeat(deepest), close.repeat(deepest));
        let tree = load(&fits);
        let emitted = Yaml::default().emit(&tree).expect("emits");
        assert_eq!(verify(&tree, &emitted), Ok(()));
        let deeper = format!("a: {}{}\n", open.repeat(deepest + 3), close.repeat(deepest + 3));
        assert!(matches!(error(&deeper), Error::Limit { line: 1, .. }));
        assert!(matches!(error(&format!("a: {}", open.repeat(1_000_000))), Error::Limit { line: 1, .. }));
    }
    assert!(matches!(error(&format!("a:\n{}", "- ".repeat(1_000_000))), Error::Limit { line: 2, .. }));
}
