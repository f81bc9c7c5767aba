//! Pieces of a text are together what the whole text is, or nothing.

use proptest::prelude::*;

use super::super::verify::same_in_pieces;
use super::super::{load_in_pieces, load_whole};
use super::*;

/// Lines of which each begins, goes on with or ends something that a piece's edge could fall into.
const LINES: [&str; 54] = [
    "a: b",
    "-",
    "  -",
    ":",
    "  !!str",
    "w: !!seq # c",
    "? a2",
    "- !!str # c",
    "  - !!str # c",
    "b:",
    "c: # c",
    "d: e # c",
    "e: |",
    "f: |+",
    "g: >-",
    "h: 'q",
    "i: \"q",
    "q'",
    "q\"",
    "j: [1,",
    "2]",
    "k: {x: 1,",
    "y: 2}",
    "l: &a 1",
    "m: *a",
    "n: !!str",
    "o: !!binary aGk=",
    "<<: {a: b}",
    "? k",
    ": v",
    "foo",
    "1: x",
    "\"z\": x",
    "  x: 1",
    "    x: 1",
    "  - i",
    "- i",
    "  # c",
    "# c",
    "#",
    "",
    "  ",
    "  text",
    "\ttab",
    "---",
    "...",
    "--- x",
    "%YAML 1.1",
    "p: x\r",
    "r: \u{2028}",
    "s: # c\n  # d\n  x: y",
    "t:\n  x: y",
    "u:\n- x\n- y",
    "v: x\n  y",
];

/// Lines, most of them after some that make a key of their own.
fn text() -> impl Strategy<Value = String> {
    let line = prop::sample::select(LINES.as_slice());
    prop::collection::vec((line, any::<bool>()), 1..10).prop_map(|lines| {
        let mut text = String::new();
        for (at, (line, own)) in lines.into_iter().enumerate() {
            if own {
                text.push_str(&format!("key{at}: value\n"));
            }
            text.push_str(line);
            text.push('\n');
        }
        text
    })
}

fn shape(branch: &Branch) -> String {
    let emitted = Yaml::default().emit(&Tree { documents: vec![branch.clone()] });
    format!("{branch:?} {:?}", emitted.map(|text| String::from_utf8_lossy(&text).into_owned()))
}

fn check_same(text: &[u8]) {
    let Some(branch) = load_in_pieces(text, 1) else { return };
    let text = String::from_utf8_lossy(text).into_owned();
    let whole = load_whole(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text:?}"));
    assert_eq!(whole.documents.len(), 1, "{text:?}");
    assert_eq!(shape(&branch), shape(&whole.documents[0]), "{text:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn pieces_are_the_whole(text in text()) {
        check_same(text.as_bytes());
    }
}

#[test]
fn goldens_are_the_same_in_pieces() {
    for (_, input, four, two) in GOLDEN {
        [input, four, two].into_iter().for_each(check_same);
    }
}

fn service(at: usize) -> Item {
    let inside = vec![
        Item::Comment(Comment::line(" settings")),
        Item::entry("text", Value::str("one\ntwo\n")),
        Item::entry("list", Value::List(vec![Value::Int(1), Value::str("x: y")])),
    ];
    Item::entry(format!("service_{at}"), Value::Map(inside))
}

#[test]
fn a_text_that_is_broken_at_an_edge_is_found() {
    let tree = Tree { documents: vec![(0..6).map(service).collect()] };
    let text = Yaml::default().emit(&tree).unwrap();
    let entry = text.len() / 6;
    assert_eq!(load_in_pieces(&text, 1), Some(tree.documents[0].clone()));
    assert!(same_in_pieces(&tree, &text, 1) && same_in_pieces(&tree, &text, 2 * entry));
    let broken = |new: Vec<u8>| {
        for least in [1, entry, 2 * entry] {
            assert!(!same_in_pieces(&tree, &new, least), "{}", String::from_utf8_lossy(&new));
        }
        assert!(verify(&tree, &new).is_err());
    };
    let edge = |at: usize| at * entry;
    for at in 0..6 {
        let (start, end) = (edge(at), edge(at + 1));
        broken([&text[..start], &text[end..]].concat());
        broken([&text[..end], &text[start..]].concat());
        broken([&text[..end], b"more: x\n", &text[end..]].concat());
        broken([&text[..end], b"    more: x\n", &text[end..]].concat());
        broken([&text[..end], b"---\n", &text[end..]].concat());
        broken([&text[..start], b"'", &text[start..]].concat());
        broken([&text[..start], b" ", &text[start..]].concat());
        broken([&text[..end - 1], &text[end..]].concat().repeat(1 + usize::from(at == 5)));
        let mut other = text.clone();
        other[start] = b'S';
        broken(other);
    }
    let twice = Tree { documents: vec![[0, 1, 2, 1].map(service).into()] };
    let text = Yaml::default().emit(&twice).unwrap();
    assert!(!same_in_pieces(&twice, &text, 1) && load_in_pieces(&text, 1).is_none());
}

#[test]
fn comments_without_a_node_at_a_piece_s_end_are_not_lost() {
    for text in [
        "a:\n# c\n-\nb: 1\n",
        "a:\n  # c\n  -\nb: 1\n",
        "a:\n- x\n# c\n-\nb: 1\n",
        "? a\n# c\n:\nb: 1\n",
        "a:\n  # c\n  !!str\nb: 1\n",
        "a: !!seq # c\n-\nb: 1\n",
        "a:\n- !!str # c\n-\nb: 1\n",
    ] {
        check_same(text.as_bytes());
    }
}

#[test]
fn what_holds_beyond_a_piece_is_not_divided() {
    for text in [
        "a: &x 1\nb: 2\n",
        "a: 1\nb: *x\n",
        "a: 1\n---\nb: 2\n",
        "a: 1\n...\nb: 2\n",
        "a: 1\na: 2\n",
        "1: a\n2: b\n",
    ] {
        assert!(load_in_pieces(text.as_bytes(), 1).is_none(), "{text:?}");
    }
}
