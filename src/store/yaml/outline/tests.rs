//! Pieces of texts by their place.

use proptest::prelude::*;

use super::*;

fn root(text: &str) -> Node {
    outline(text).expect(text).expect(text)
}

/// The node at a path of keys and positions.
fn at<'a>(node: &'a Node, path: &[&str]) -> &'a Node {
    path.iter().fold(node, |node, step| match step.parse::<usize>() {
        Ok(index) => &node.items()[index].node,
        Err(_) => node.get(step).expect(step),
    })
}

#[test]
fn every_form_of_a_scalar_ends_where_it_ends() {
    let text = "\
a: plain text # comment
b: 'it''s' # c
c: \"a\\\"b\" # c
d: two
  lines
  # comment
e: >-
  folded,
  text

  # not a comment
# comment
f: |
    literal
  # comment
g: &anchor !!str tagged
h: *anchor
i:
j: ü
k: last";
    let root = root(text);
    for (key, piece, value) in [
        ("a", "plain text", "plain text"),
        ("b", "'it''s'", "it's"),
        ("c", "\"a\\\"b\"", "a\"b"),
        ("d", "two\n  lines", "two lines"),
        ("e", ">-\n  folded,\n  text\n\n  # not a comment", "folded, text\n# not a comment"),
        ("f", "|\n    literal", "literal\n"),
        ("g", "&anchor !!str tagged", "tagged"),
        ("i", "", ""),
        ("j", "ü", "ü"),
        ("k", "last", "last"),
    ] {
        let node = at(&root, &[key]);
        assert_eq!(&text[node.span.clone()], piece);
        assert_eq!(node.body, Body::Scalar(value.to_owned()), "{key}");
    }
    assert_eq!(at(&root, &["h"]).body, Body::Alias("anchor".to_owned()));
    assert_eq!(root.anchored("anchor"), Some(at(&root, &["g"])));
    assert_eq!(at(&root, &["g"]).content, text.find("tagged").expect("there"));
}

#[test]
fn lists_and_mappings_are_found_in_block_and_in_flow() {
    let text = "\u{feff}# é\r\nx: [a, 'b, c', {k: v, l}, &n d, *n, p: q]\r\ny:\r\n- one\r\n-\r\n- - in\r\n  - k: v\r\n    l: w\r\nz:\r\n    - last # c\r\n";
    let root = root(text);
    let piece = |path: &[&str]| &text[at(&root, path).span.clone()];
    assert_eq!(piece(&["x"]), "[a, 'b, c', {k: v, l}, &n d, *n, p: q]");
    assert_eq!(piece(&["x", "1"]), "'b, c'");
    assert_eq!(piece(&["x", "2", "k"]), "v");
    assert_eq!((piece(&["x", "3"]), piece(&["x", "4"]), piece(&["x", "5", "p"])), ("&n d", "*n", "q"));
    assert_eq!(piece(&["y"]), "- one\r\n-\r\n- - in\r\n  - k: v\r\n    l: w");
    assert_eq!((piece(&["y", "0"]), piece(&["y", "1"])), ("one", ""));
    assert_eq!(piece(&["y", "2", "1", "l"]), "w");
    let item = &at(&root, &["z"]).items()[0];
    assert_eq!((&text[item.at..item.at + 1], &text[item.node.span.clone()]), ("-", "last"));
}

#[test]
fn only_the_first_document_is_outlined_and_nothing_is_none() {
    let first = root("%YAML 1.2\n---\na: b\n---\nc: d\n");
    assert!(first.get("a").is_some() && first.get("c").is_none());
    for text in ["", "# nothing\n", "---\n...\n"] {
        assert!(outline(text).expect(text).is_none_or(|node| node.span.is_empty()), "{text:?}");
    }
    for text in ["[a", "a: b: c", "{a: b", "[: ]]"] {
        assert!(outline(text).is_err(), "{text}");
    }
}

/// Every span lies in the text between its characters, and children lie inside of their collection, in order.
fn sound(text: &str, node: &Node, least: usize) -> usize {
    assert!(text.get(node.span.clone()).is_some(), "{text:?}");
    assert!(least <= node.span.start && node.span.start <= node.content, "{text:?}");
    let children: Vec<&Node> = match &node.body {
        Body::Map { entries, .. } => entries.iter().flat_map(|entry| [&entry.key, &entry.value]).collect(),
        Body::List { items, .. } => items.iter().map(|item| &item.node).collect(),
        Body::Scalar(_) | Body::Alias(_) => Vec::new(),
    };
    let end = children.into_iter().fold(node.content, |least, child| sound(text, child, least));
    assert!(end <= node.span.end, "{text:?}");
    node.span.end
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_yaml_has_a_sound_outline(pieces in prop::collection::vec(prop::sample::select(&[
        "a", "b: ", "- ", "\n", "\n  ", "\n- ", "\n  - ", "[", "]", "{", "}", ", ", ": ", "? ", "#", " # c", "'", "\"", "''",
        "\\", "|\n  ", ">-\n  ", "&a ", "*a", "!t ", "é", "😀", "\r\n", "---\n", "...\n", "\u{feff}", "\u{2028}", "\t",
    ][..]), 0..14)) {
        let text = pieces.concat();
        if let Ok(Some(node)) = outline(&text) {
            sound(&text, &node, 0);
        }
    }
}
