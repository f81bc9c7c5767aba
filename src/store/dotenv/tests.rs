//! Golden files of sops, and what only this store does.

use super::*;
use crate::sops::document;
use crate::sops::metadata::Metadata;
use crate::sops::tree::get;

/// Inputs and what sops makes of them; `tests/store/dotenv/README.md` tells how they were made.
macro_rules! golden {
    ($($name:literal),*) => {
        [$((
            $name,
            include_bytes!(concat!("../../../tests/store/dotenv/", $name, ".in.env")).as_slice(),
            include_bytes!(concat!("../../../tests/store/dotenv/", $name, ".env")).as_slice(),
        )),*]
    };
}

/// Files that two versions of sops made.
const MADE_BY: [&str; 2] = [
    include_str!("../../../tests/vectors/install-secrets/common/made-by-3.9.env"),
    include_str!("../../../tests/vectors/install-secrets/common/made-by-3.13.3.env"),
];

fn plain(text: &str) -> Tree {
    Dotenv.load_plain(text.as_bytes()).expect(text)
}

fn tree(items: Vec<Item>) -> Tree {
    Tree { documents: vec![items] }
}

fn metadata(text: &str) -> Metadata {
    document::split(Dotenv.load(text.as_bytes()).expect(text), Dotenv.is_metadata()).expect(text).1
}

#[test]
fn lines_are_written_as_sops_writes_them() {
    for (name, input, output) in golden!["lines", "windows", "blank", "bytes"] {
        let tree = Dotenv.load_plain(input).expect(name);
        let written = Dotenv.emit_plain(&tree).expect(name);
        assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(output), "{name}");
        assert_eq!(written, output, "{name}");
        assert_eq!(Dotenv.verify(&tree, &written), Ok(()), "{name}");
        assert_eq!(Dotenv.verify_plain(&tree, &written), Ok(()), "{name}");
    }
}

#[test]
fn encrypted_files_of_sops_are_written_as_they_were() {
    for text in MADE_BY {
        let (tree, metadata) =
            document::split(Dotenv.load(text.as_bytes()).expect("loads"), Dotenv.is_metadata())
                .expect("metadata");
        assert_eq!(tree.documents[0].len(), 1);
        let whole = document::join(tree, &metadata, Dotenv.is_metadata()).expect("joins");
        let written = Dotenv.emit(&whole).expect("emits");
        assert_eq!(String::from_utf8_lossy(&written), text);
        assert_eq!(Dotenv.verify(&whole, &written), Ok(()));
    }
}

#[test]
fn metadata_is_read_in_any_order_and_in_quotes_of_other_tools() {
    let text = MADE_BY[1];
    let as_it_is = metadata(text);
    let mut lines: Vec<_> = text.lines().collect();
    lines.reverse();
    assert_eq!(metadata(&lines.join("\n")), as_it_is);
    assert_eq!(metadata(&text.replace('\n', "\r\n")), as_it_is);
    for quote in ["\"", "'"] {
        let quoted: String = text
            .lines()
            .map(|line| line.split_once('=').expect("an entry"))
            .map(|(name, value)| format!("{name}={quote}{value}{quote}\n"))
            .collect();
        let (tree, found) =
            document::split(Dotenv.load(quoted.as_bytes()).expect("loads"), Dotenv.is_metadata())
                .expect("metadata");
        assert_eq!(found, as_it_is);
        assert!(
            matches!(get(&tree.documents[0], "ALPHA"), Some(Value::Str(token)) if token.as_bytes().starts_with(b"ENC["))
        );
    }
}

#[test]
fn clear_values_keep_their_quotes() {
    let tree = Dotenv.load(b"A=\"x\"\nB='ENC['\n").expect("loads");
    assert_eq!(tree, plain("A=\"x\"\nB='ENC['\n"));
}

#[test]
fn a_line_without_a_sign_is_named_and_not_shown() {
    for (text, at) in [("A=1\nhunter2\n", 2), ("\n\n\r\n", 3), (" # hunter2", 1)] {
        let error = Dotenv.load_plain(text.as_bytes()).expect_err(text);
        assert!(matches!(&error, Error::Syntax { line, .. } if *line == at), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert_eq!(Dotenv.load(text.as_bytes()), Err(error));
    }
}

#[test]
fn an_empty_file_is_a_document_without_entries() {
    for text in ["", "\n\n"] {
        assert_eq!(plain(text), tree(vec![]));
        assert_eq!(Dotenv.emit_plain(&plain(text)), Ok(Vec::new()));
    }
}

#[test]
fn a_name_with_the_prefix_counts_as_encrypted_and_is_not_written_as_data() {
    let tree = plain("A=1\nsops_mac=x\n");
    assert!(Dotenv.is_encrypted(&tree.documents[0]));
    assert!(!Dotenv.is_encrypted(&plain("sops=1\nSOPS_A=1\n#sops_a\n").documents[0]));
    assert!(
        matches!(Dotenv.emit(&tree), Err(Error::Unwritable(reason)) if reason.contains("[\"sops_mac\"]"))
    );
    // But a value may be called just that.
    let tree = Dotenv.load(b"A=1\nsops=x\n").expect("loads");
    assert!(!tree.documents[0].iter().any(Dotenv.is_metadata()));
}

#[test]
fn what_has_no_place_in_a_line_is_not_written() {
    for (name, value) in [
        ("a=b", Value::str("x")),
        ("#a", Value::str("x")),
        ("a\nb", Value::str("x")),
        ("m", Value::Map(vec![])),
        ("l", Value::List(vec![])),
    ] {
        let tree = tree(vec![Item::entry(name, value)]);
        assert!(matches!(Dotenv.emit_plain(&tree), Err(Error::Unwritable(_))), "{name}");
        assert!(matches!(Dotenv.emit(&tree), Err(Error::Unwritable(_))), "{name}");
    }
    // Of several documents a plaintext has the first, as in sops; no file is encrypted without the others.
    let tree = Tree { documents: vec![vec![Item::entry("a", Value::str("x"))], vec![]] };
    assert_eq!(Dotenv.emit_plain(&tree).as_deref(), Ok(&b"a=x\n"[..]));
    assert!(matches!(Dotenv.emit(&tree), Err(Error::Unwritable(_))));
}

#[test]
fn what_is_no_text_is_spelled_and_encrypted_only_where_its_mac_holds() {
    for (value, text, holds) in [
        (Value::Null, "<nil>", false),
        (Value::Bool(true), "true", false),
        (Value::Int(-5), "-5", true),
        (Value::Float(2.0), "2.0", false),
        (Value::Float(2.5), "2.5", true),
        (Value::Float(-0.0), "-0.0", false),
        (Value::Float(100_000.0), "100000.0", false),
        (Value::Float(1e6), "1E+06", false),
        (Value::Float(0.0001), "0.0001", true),
        (Value::Float(1e-5), "1E-05", false),
        (Value::Float(f64::INFINITY), "+Inf", true),
        (Value::Float(f64::NAN), "NaN", true),
        (Value::str("a\nb"), "a\\nb", true),
        (Value::str("a\\nb"), "a\\nb", false),
    ] {
        let tree = tree(vec![Item::entry("k", value)]);
        let written = Dotenv.emit_plain(&tree).expect(text);
        assert_eq!(String::from_utf8_lossy(&written), format!("k={text}\n"));
        let verified = Dotenv.verify(&tree, &written);
        assert_eq!(verified.is_ok(), holds, "{text}: {verified:?}");
    }
}

#[test]
fn a_plaintext_that_reads_back_as_something_else_is_not_for_an_editor() {
    let shown = tree(vec![Item::entry("k", Value::Bool(true)), Item::entry("l", Value::str("a\nb"))]);
    let written = Dotenv.emit_plain(&shown).expect("emits");
    assert_eq!(Dotenv.verify_plain(&shown, &written), Ok(()));
    let changed = tree(vec![Item::entry("k", Value::str("C:\\new"))]);
    let written = Dotenv.emit_plain(&changed).expect("emits");
    let error = Dotenv.verify_plain(&changed, &written).expect_err("a newline would come of it");
    assert!(error.to_string().contains("[\"k\"]"), "{error}");
}

#[test]
fn the_example_is_a_document() {
    assert_eq!(Dotenv.emit_plain(&plain(EXAMPLE)), Ok(EXAMPLE.as_bytes().to_vec()));
}
