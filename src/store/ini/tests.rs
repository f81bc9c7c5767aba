//! Golden files of sops, and what only this store does.

use super::*;
use crate::sops::document;
use crate::sops::metadata::Metadata;
use crate::sops::tree::{Comment, get};

/// Inputs and what sops makes of them; `tests/store/ini/README.md` tells how they were made.
macro_rules! golden {
    ($($name:literal),*) => {
        [$((
            $name,
            include_bytes!(concat!("../../../tests/store/ini/", $name, ".in.ini")).as_slice(),
            include_bytes!(concat!("../../../tests/store/ini/", $name, ".ini")).as_slice(),
        )),*]
    };
}

/// Files that two versions of sops made.
const MADE_BY: [&str; 2] = [
    include_str!("../../../tests/vectors/install-secrets/common/made-by-3.9.ini"),
    include_str!("../../../tests/vectors/install-secrets/common/made-by-3.13.3.ini"),
];

fn plain(text: &str) -> Tree {
    Ini.load_plain(text.as_bytes()).expect(text)
}

fn written(tree: &Tree) -> String {
    String::from_utf8(Ini.emit_plain(tree).expect("emits")).expect("text")
}

fn rewrite(text: &str) -> String {
    written(&plain(text))
}

fn map(items: Vec<Item>) -> Value {
    Value::Map(items)
}

fn tree(items: Vec<Item>) -> Tree {
    Tree { documents: vec![items] }
}

/// A document of one section with one key.
fn lone(key: &str, value: Value) -> Tree {
    tree(vec![Item::entry("s", map(vec![Item::entry(key, value)]))])
}

fn value_of(text: &str) -> String {
    let tree = plain(text);
    let Some(Value::Map(section)) = get(&tree.documents[0], DEFAULT) else { panic!("{text}") };
    let Some(Value::Str(value)) = get(section, "k") else { panic!("{text}") };
    value.as_str().expect("UTF-8").to_owned()
}

fn split(text: &str) -> (Tree, Metadata) {
    document::split(Ini.load(text.as_bytes()).expect(text), Ini.is_metadata()).expect(text)
}

#[test]
fn files_are_written_as_sops_writes_them() {
    for (name, input, output) in
        golden!["sections", "values", "comments", "names", "windows", "bytes", "empty"]
    {
        let tree = Ini.load_plain(input).expect(name);
        let written = Ini.emit_plain(&tree).expect(name);
        // Behind the last section sops has put an empty line for the metadata.
        let output = output.strip_suffix(b"\n\n").map_or(output.to_vec(), |output| [output, b"\n"].concat());
        assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(&output), "{name}");
        assert_eq!(written, output, "{name}");
        assert_eq!(Ini.verify(&tree, &written), Ok(()), "{name}");
        assert_eq!(Ini.emit_plain(&Ini.load_plain(&written).expect(name)), Ok(written), "{name}");
    }
}

#[test]
fn encrypted_files_of_sops_are_written_as_sops_would_now() {
    for text in MADE_BY {
        let (tree, metadata) = split(text);
        let whole = document::join(tree, &metadata, Ini.is_metadata()).expect("joins");
        let bytes = Ini.emit(&whole).expect("emits");
        let written = String::from_utf8_lossy(&bytes);
        let (mut before, mut after): (Vec<_>, Vec<_>) = (text.lines().collect(), written.lines().collect());
        assert_eq!(before[..4], after[..4]);
        assert!(after[4..].is_sorted());
        before.sort_unstable();
        after.sort_unstable();
        assert_eq!(before, after);
        assert_eq!(Ini.verify(&whole, &bytes), Ok(()));
    }
}

#[test]
fn armor_of_several_lines_is_read_as_sops_3_13_0_wrote_it() {
    let (_, as_it_is) = split(MADE_BY[1]);
    let armored = MADE_BY[1]
        .lines()
        .map(|line| match line.split_once(" = ") {
            Some((name, value)) if value.contains("\\n") => {
                format!("{name} = \"\"\"{}\"\"\"\n", value.replace("\\n", "\n"))
            }
            _ => format!("{line}\n"),
        })
        .collect::<String>();
    assert_eq!(split(&armored).1, as_it_is);
    assert_eq!(split(&armored.replace('\n', "\r\n")).1.version, as_it_is.version);
    let (data, sops) = MADE_BY[1].split_once("\n[sops]\n").expect("metadata");
    assert_eq!(split(&format!("[sops]\n{sops}\n{data}")), split(MADE_BY[1]));
}

#[test]
fn a_comment_in_a_value_needs_white_space_before_it() {
    for (text, value) in [
        ("k = a;b#c", "a;b#c"),
        ("k = a;b ;c", "a;b"),
        ("k = a#\t# c", "a#"),
        ("k = a\u{a0}# c", "a"),
        ("k = \"a ; b\"", "a ; b"),
        ("k = \"a ; b\" ; c", "a ; b"),
        ("k = 'a#b'", "a#b"),
        ("k = 'a#b'#c", "a#b"),
        ("k = \"a ; b", "\"a"),
        ("k = \"a\" ; \"b\"", "a"),
        ("k = `a ; b` ; c", "a ; b"),
        ("k = ; c", ""),
        ("k = ;", ""),
    ] {
        assert_eq!(value_of(text), value, "{text}");
    }
    for (text, again) in [
        ("k = a;b ;c", "; c\nk = `a;b`\n"),
        ("k = `a` ; c", "; c\nk = a\n"),
        ("k = \"\"\"a\"\"\" # c", "# c\nk = a\n"),
    ] {
        assert_eq!(rewrite(text), again.replace("# c", "; c"), "{text}");
    }
}

#[test]
fn a_comment_that_nothing_follows_is_kept() {
    for (text, again) in [
        ("k = v\n# end", "; end\nk = v\n"),
        ("# of k\nk = v\n# end\n# of all\n", "; of k\n; end\n# of all\nk = v\n"),
        ("[s]\n; end", "; end\n[s]\n"),
        ("; of s\n[s]\n; end", "; of s\n; end\n[s]\n"),
        ("# alone", "; alone\n"),
    ] {
        assert_eq!(rewrite(text), again, "{text}");
    }
    // The comment of a file without keys stands above the metadata, where sops loses it.
    let (tree, metadata) = split(MADE_BY[1]);
    drop(tree);
    let whole = document::join(plain("# alone"), &metadata, Ini.is_metadata()).expect("joins");
    let bytes = Ini.emit(&whole).expect("emits");
    let (again, _) = split(&String::from_utf8_lossy(&bytes));
    assert_eq!(written(&again), "; alone\n");
}

#[test]
fn an_empty_comment_line_above_others_is_kept() {
    assert_eq!(rewrite("#\n# foo\nk = v"), "; \n# foo\nk = v\n");
    assert_eq!(rewrite(&rewrite("#\n# foo\nk = v")), "; \n# foo\nk = v\n");
    assert_eq!(rewrite("#\nk = v"), "k = v\n");
}

#[test]
fn what_would_be_lost_is_an_error_with_its_line_and_without_its_text() {
    for (text, at) in [
        ("k = v\nhunter2", 2),
        ("[hunter2\nk = v", 1),
        ("[]\nk = v", 1),
        ("[s] hunter2", 1),
        ("= hunter2", 1),
        ("\"\" = hunter2", 1),
        ("\"k = hunter2", 1),
        ("`k` hunter2 = v", 1),
        ("`hunter2`", 1),
        ("a = 1\nk = #hunter2", 2),
        ("k =;hunter2", 1),
        ("k = `a` hunter2", 1),
        ("k = \"\"\"a\nb\"\"\" hunter2", 2),
        ("\n\nk = \"\"\"hunter2\nb", 3),
        ("k = `hunter2\nb", 1),
        ("k = 1\nj = hunter2\nk = 2", 3),
        ("- = 1\n\"#1\" = 2", 2),
        ("\u{feff}hunter2", 1),
    ] {
        let error = Ini.load_plain(text.as_bytes()).expect_err(text);
        assert!(matches!(&error, Error::Syntax { line, .. } if *line == at), "{text}: {error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert_eq!(Ini.load(text.as_bytes()), Err(error));
    }
    assert!(matches!(Ini.load_plain(b"\xff\xfe[\0s\0]\0"), Err(Error::Syntax { line: 1, .. })));
}

#[test]
fn what_would_read_back_as_something_else_is_written_in_quotes() {
    for (value, form) in [
        ("\"a\"", "\"\"\"\"a\"\"\"\""),
        ("'a'", "\"\"\"'a'\"\"\""),
        ("a\\", "\"\"\"a\\\"\"\""),
        ("\"\"\"", "\"\"\"\"\"\"\"\"\""),
        ("\"\"\"a", "\"\"\"\"\"\"a\"\"\""),
        (" \"a", "\"\"\" \"a\"\"\""),
        ("a\n\"\"\"\nb", "`a\n\"\"\"\nb`"),
        ("#", "`#`"),
        ("`;\"", "\"\"\"`;\"\"\"\""),
        ("\n", "\"\"\"\n\"\"\""),
    ] {
        let tree = lone("k", Value::str(value));
        let text = written(&tree);
        assert_eq!(text, format!("[s]\nk = {form}\n"));
        assert_eq!(Ini.verify(&tree, text.as_bytes()), Ok(()));
    }
    for (key, form) in
        [("#1", "`#1`"), (";", "`;`"), ("a`\"", "a`\""), ("[k", "`[k`"), ("\"a`b", "\"\"\"\"a`b\"\"\"")]
    {
        let tree = lone(key, Value::str("v"));
        let text = Ini.emit_plain(&tree).expect(key);
        assert_eq!(String::from_utf8_lossy(&text), format!("[s]\n{form} = v\n"));
        assert_eq!(Ini.verify(&tree, &text), Ok(()));
    }
    assert_eq!(rewrite("- = a\n- = b\n"), "`#1` = a\n`#2` = b\n");
}

#[test]
fn what_no_quotes_can_hold_is_not_written() {
    for (key, value) in
        [("k", "`\n\"\"\"\n"), ("-", "v"), ("", "v"), (" k", "v"), ("a\nb", "v"), ("`\"\"\"", "v")]
    {
        let error = Ini.emit_plain(&lone(key, Value::str(value))).expect_err(value);
        assert!(error.to_string().contains("[\"s\"]["), "{error}");
    }
    for section in ["", "a\nb"] {
        let tree = tree(vec![Item::entry(section, map(vec![]))]);
        assert!(matches!(Ini.emit_plain(&tree), Err(Error::Unwritable(_))), "{section}");
    }
    for tree in [
        tree(vec![Item::entry("top", Value::str("v"))]),
        lone("k", map(vec![])),
        lone("k", Value::List(vec![])),
        tree(vec![Item::entry(
            "s",
            map(vec![Item::entry("k", Value::str("1")), Item::entry("k", Value::str("2"))]),
        )]),
    ] {
        assert!(matches!(Ini.emit_plain(&tree), Err(Error::Unwritable(_))));
    }
}

#[test]
fn the_header_is_left_out_for_the_default_section_alone() {
    let section = |name: &str| Item::entry(name, map(vec![Item::entry("k", Value::str("v"))]));
    for (name, text) in [("DEFAULT", "k = v\n"), ("default", "[default]\nk = v\n"), ("s", "[s]\nk = v\n")] {
        let tree = tree(vec![section(name)]);
        assert_eq!(written(&tree), text);
        assert_eq!(Ini.verify(&tree, text.as_bytes()), Ok(()));
    }
    let two = tree(vec![section("s"), section("DEFAULT")]);
    assert_eq!(written(&two), "[s]\nk = v\n\n[DEFAULT]\nk = v\n");
    assert_eq!(Ini.verify(&two, written(&two).as_bytes()), Ok(()));
}

#[test]
fn comments_of_other_formats_are_put_below_each_other() {
    let comment = |text: &str| Item::Comment(Comment::line(text));
    let keys = |first: &str, second: &str| {
        let entry = Item::entry("k", Value::str("v"));
        let items = vec![comment(first), comment(second), entry, comment(first), comment(second)];
        tree(vec![comment("no place"), Item::entry("s", map(items))])
    };
    assert_eq!(written(&keys(" one", "two")), ";  one\n; two\n[s]\n; one\n; two\nk = v\n");
    // Encrypted they are told apart again.
    let token = |data: &str| format!("ENC[AES256_GCM,data:{data},iv:eA==,tag:eA==,type:comment]");
    let tokens = keys(&token("eA=="), &token("eQ=="));
    let bytes = Ini.emit(&tokens).expect("emits");
    assert_eq!(Ini.load(&bytes).expect("loads").documents[0][1..], tokens.documents[0][1..]);
}

#[test]
fn only_a_text_is_encrypted_where_it_stays_clear() {
    for (value, text, holds) in [
        (Value::Null, "<nil>", false),
        (Value::Bool(false), "false", false),
        (Value::Int(7), "7", true),
        (Value::Float(1.0), "1.0", false),
    ] {
        let tree = lone("k", value);
        assert_eq!(written(&tree), format!("[s]\nk = {text}\n"));
        assert_eq!(Ini.verify(&tree, written(&tree).as_bytes()).is_ok(), holds, "{text}");
    }
    let several = Tree { documents: vec![vec![], vec![]] };
    assert!(matches!(Ini.emit(&several), Err(Error::Unwritable(_))));
}

#[test]
fn a_section_sops_is_what_makes_a_file_encrypted() {
    assert!(Ini.is_encrypted(&plain("[sops]\n").documents[0]));
    assert!(!Ini.is_encrypted(&plain("sops = 1\n[sops_x]\n[SOPS]\n").documents[0]));
    assert_eq!(Ini.emit_value(&Value::Float(2.5)), Ok(b"2.5".to_vec()));
}

#[test]
fn the_example_is_a_document() {
    assert_eq!(rewrite(EXAMPLE), EXAMPLE);
}

#[test]
fn many_comments_are_put_together_in_linear_time() {
    let start = std::time::Instant::now();
    let of_metadata = format!("[a]\nk = v\n{}", "; c\n[sops]\n".repeat(20_000));
    Ini.load(of_metadata.as_bytes()).expect("loads");
    let mut items = vec![Item::entry("k", Value::str("v"))];
    items.extend((0..20_000).map(|_| Item::Comment(Comment::line(" a comment"))));
    let tree = Tree { documents: vec![vec![Item::entry("a", Value::Map(items))]] };
    assert_eq!(Ini.emit_plain(&tree).expect("emits").len(), "[a]\n; a comment\n".len() + 19_999 * 12 + 6);
    // A quadratic step takes minutes here.
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}
