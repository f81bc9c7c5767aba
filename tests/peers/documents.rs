//! Random YAML documents, made so that every kind of value, comment and nesting occurs.

use proptest::prelude::*;

/// Scalars as a person might write them, each with a rule of its own in sops' reader or writer.
const SCALARS: [&str; 58] = [
    "plain",
    "two words",
    "1",
    "0",
    "-7",
    "+1",
    "012",
    "0o14",
    "0x1F",
    "-0x10",
    "0b101",
    "1_000",
    "08",
    "1.5",
    "1.0",
    "-2.75",
    "1e3",
    "1E3",
    ".5",
    "1.",
    "1e400",
    "0.00001234",
    "1234567.5",
    "1000000.0",
    "100000.0",
    ".inf",
    "-.INF",
    "true",
    "False",
    "TRUE",
    "yes",
    "on",
    "n",
    "Off",
    "~",
    "null",
    "''",
    "\"\"",
    "2020-01-01",
    "2020-1-1",
    "2001-12-14t21:59:43.10-05:00",
    "2001-12-14 21:59:43.10",
    "2001-12-14T21:59:43Z",
    "12:30:45",
    "1:30",
    "'single ''quoted'''",
    "\"tab\\tand \\\"quotes\\\"\"",
    "\"\\U0001F600\"",
    "\"line\\nline\\n\"",
    "\"line\\n\\n\"",
    "\" leading\"",
    "\"trailing \"",
    "'# no comment'",
    "'a: b'",
    "\"\\r\\n\"",
    "äöü €",
    "9223372036854775807",
    "'ENC[x]'",
];
const KEYS: [&str; 20] = [
    "a",
    "key",
    "some_key",
    "with space",
    "dash-ed",
    "n",
    "yes",
    "null",
    "'12'",
    "\"1.5\"",
    "dotted.key",
    "k:z",
    "пароль",
    "clear_unencrypted",
    "ünï",
    "'quoted: key'",
    "\"esc\\taped\"",
    "x1",
    "A",
    "_",
];
/// Not among them: the empty comment, which sops turns into an item `""` of a list and civm keeps.
const COMMENTS: [&str; 5] = ["# a comment", "#tight", "##double", "# ends with space ", "# key: value"];

/// A node before it is written down.
#[derive(Clone, Debug)]
pub enum Node {
    Scalar(String),
    Block(Vec<String>),
    Map(Vec<(Option<usize>, String, Option<usize>, Node)>),
    List(Vec<(Option<usize>, Node)>),
}

fn scalar() -> impl Strategy<Value = Node> {
    prop_oneof![
        6 => (0..SCALARS.len()).prop_map(|at| Node::Scalar(SCALARS[at].to_owned())),
        2 => "[ -~äß€]{0,30}".prop_map(|text| Node::Scalar(quoted(&text))),
        1 => any::<i64>().prop_map(|n| Node::Scalar(n.to_string())),
        1 => any::<f64>().prop_filter("sops breaks its own MAC with a clear -0.0", |f| f.is_finite() && *f != 0.0).prop_map(|f| Node::Scalar(format!("{f:e}"))),
        1 => proptest::collection::vec("[a-z][ -~]{0,20}[a-z]", 1..4).prop_map(Node::Block),
    ]
}

/// JSON's quoting is YAML's, but for the slash.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string")
}

fn comment() -> impl Strategy<Value = Option<usize>> {
    prop_oneof![4 => Just(None), 1 => (0..COMMENTS.len()).prop_map(Some)]
}

fn node() -> impl Strategy<Value = Node> {
    scalar().prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            map(inner.clone()),
            proptest::collection::vec((comment(), inner), 1..5).prop_map(Node::List),
        ]
    })
}

fn map(inner: impl Strategy<Value = Node> + Clone) -> impl Strategy<Value = Node> {
    proptest::collection::vec((comment(), 0..KEYS.len(), comment(), inner), 1..6).prop_map(|entries| {
        let mut seen = std::collections::BTreeSet::new();
        let entries = entries
            .into_iter()
            .filter(|(_, key, _, _)| seen.insert(*key))
            .map(|(above, key, inline, node)| (above, KEYS[key].to_owned(), inline, node))
            .collect();
        Node::Map(entries)
    })
}

/// A whole file of one to two documents.
pub fn file() -> impl Strategy<Value = String> {
    proptest::collection::vec(map(node().boxed()), 1..3)
        .prop_map(|documents| documents.iter().map(written).collect::<Vec<_>>().join("---\n"))
}

fn written(node: &Node) -> String {
    let mut text = String::new();
    write(node, 0, &mut text);
    text
}

fn write(node: &Node, indent: usize, text: &mut String) {
    let pad = " ".repeat(indent);
    match node {
        Node::Map(entries) => {
            for (above, key, inline, value) in entries {
                above_line(above, &pad, text);
                text.push_str(&format!("{pad}{key}:"));
                value_after(value, indent + 2, inline, text);
            }
        }
        Node::List(items) => {
            for (above, value) in items {
                above_line(above, &pad, text);
                text.push_str(&format!("{pad}-"));
                value_after(value, indent + 2, &None, text);
            }
        }
        Node::Scalar(_) | Node::Block(_) => unreachable!("written by value_after"),
    }
}

fn above_line(comment: &Option<usize>, pad: &str, text: &mut String) {
    if let Some(at) = comment {
        text.push_str(&format!("{pad}{}\n", COMMENTS[*at]));
    }
}

fn value_after(value: &Node, indent: usize, inline: &Option<usize>, text: &mut String) {
    match value {
        Node::Scalar(scalar) => {
            text.push_str(&format!(" {scalar}"));
            if let Some(at) = inline {
                text.push_str(&format!(" {}", COMMENTS[*at]));
            }
            text.push('\n');
        }
        Node::Block(lines) => {
            text.push_str(" |\n");
            for line in lines {
                text.push_str(&format!("{}{line}\n", " ".repeat(indent)));
            }
        }
        collection => {
            text.push('\n');
            write(collection, indent, text);
        }
    }
}
