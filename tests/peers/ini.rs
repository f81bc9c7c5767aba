//! INI files between civm and the real sops, both ways.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::texts::{Tools, each};

const PLAIN: &str = "\
# first
top = 1
; section
[s] ; inline
first = one
; above
second = \"two words\"
clear_unencrypted = `x;y`
lines = \"\"\"a
b\"\"\"
last =
[s]
first = again
";
const OTHER: &str = "age10yxnlmgmfxvptr92k8mj0y4sz2qnkwyf98k4gku43kyps0e8a5ws9nauq8";

/// What stands behind a sign. Not among them: what sops loses or writes so that it reads back otherwise (the
/// table in the store's documentation), which the unit tests have.
const VALUES: [&str; 34] = [
    "",
    " ",
    "v",
    " two words ",
    " 1.5",
    " =x",
    " a=b:c",
    " C:\\dir\\file",
    " \\n",
    " it's",
    " \"double\"",
    " 'single'",
    " \"\"",
    " \"  padded \"",
    " \"a\" \"b\"",
    " \"open",
    " close\"",
    " `back ; tick`",
    " `say \"x\" #`",
    " \"\"\"tri\"ple`\"\"\"",
    " \"\"\"\"\"\"",
    " \"\"\"two\nlines ; #\n\"\"\"",
    " `a\n\n\tb`",
    " one \\\n  two",
    " a;b\\\n  # two",
    " end \\\n",
    " äöü €",
    " \u{a0}nbsp\u{3000}",
    " %(x)s ${y}",
    " v ; comment",
    " v # comment",
    " v\t;comment",
    " \"v\" ;quoted",
    " \"\"\"v\nw\"\"\" # lines",
];
const KEYS: [&str; 16] = [
    "k",
    "K",
    "key two",
    "a.b",
    "\"q\"",
    "`b:c`",
    "\"d=e\"",
    "\"\"\"f`g\"\"\"",
    "h#i",
    "j;k",
    "l\"m",
    "n`o",
    "ключ",
    "%(x)s",
    "k_unencrypted",
    "]",
];
const SECTIONS: [&str; 9] =
    ["s", "s.t", "DEFAULT", "default", "with space ", "a]b", "Ü", "s_unencrypted", "x;y"];
const COMMENTS: [&str; 8] =
    ["# c", ";tight", "##  double", "; a;b#c", "#!bang", ";\ttab", "# ENC[x]", "; k = v "];

fn one_of<const N: usize>(texts: [&'static str; N]) -> impl Strategy<Value = &'static str> {
    (0..N).prop_map(move |at| texts[at])
}

fn comments() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just(String::new()),
        1 => proptest::collection::vec(one_of(COMMENTS), 1..3).prop_map(|lines| lines.join("\n") + "\n"),
        1 => Just("\n \t\n".to_owned()),
    ]
}

fn keys() -> impl Strategy<Value = String> {
    let key = (
        comments(),
        0..KEYS.len(),
        one_of([" =", "=", ":", "\t: "]),
        one_of(VALUES),
        one_of(["", "  ", "\t"]),
    );
    proptest::collection::vec(key, 0..6).prop_map(|keys| {
        let mut seen = BTreeSet::new();
        keys.into_iter()
            .filter(|(_, key, ..)| seen.insert(*key))
            .map(|(comments, key, sign, value, indent)| {
                format!("{comments}{indent}{}{sign}{value}\n", KEYS[key])
            })
            .collect()
    })
}

pub fn file() -> impl Strategy<Value = String> {
    let section = (comments(), one_of(SECTIONS), one_of(["", " ; c", "#c", "  "]), keys())
        .prop_map(|(comments, name, behind, keys)| format!("{comments}[{name}]{behind}\n{keys}"));
    (keys(), proptest::collection::vec(section, 0..4), any::<bool>()).prop_map(|(top, sections, windows)| {
        let text = top + &sections.concat();
        if windows { text.replace('\n', "\r\n") } else { text }
    })
}

#[test]
fn random_files_agree_with_sops_both_ways() {
    let Some(tools) = Tools::new() else { return };
    each(40, file(), |text| tools.agree_on("ini", text.as_bytes()));
}

#[test]
fn files_of_bytes_agree_with_sops_both_ways() {
    let Some(tools) = Tools::new() else { return };
    for plain in [
        b"".as_slice(),
        b"\n",
        b"k = v\rj = w",
        b"\xef\xbb\xbf[s]\nk = \xe9\xff\n; \xe9\n\xe9 = 1\n",
        b"no sign\n",
        b"[open\nk = v\n",
        b"[]\nk = v\n",
        b"= v\n",
        b"k = `open\n",
        b"k = \"\"\"open\n\n",
        b"\"k = v\n",
        b"[sops]\nk = v\n",
        b"sops = x\n[SOPS]\n",
        b"[s]\nk = a\0b\n",
    ] {
        tools.agree_on("ini", plain).unwrap_or_else(|error| panic!("{plain:?}: {error}"));
    }
}

/// Whatever is in a value: what civm prints is read as that by sops, by civm, and by nobody as anything else.
#[test]
fn every_value_reads_back_from_the_plaintext_in_both_tools() {
    let Some(tools) = Tools::new() else { return };
    let value = prop_oneof!["[ab \"'`#;=\\\\\n\t\r]{0,8}", "[\"`\n#]{0,12}", any::<String>()];
    each(25, proptest::collection::vec(value, 1..8), |values| {
        let entries = values.iter().enumerate().map(|(at, value)| (format!("k{at}"), value.as_str().into()));
        let section = serde_json::Value::Object(entries.collect());
        let json = serde_json::json!({ "DEFAULT": {}, "s": section });
        tools.scene.write("plain.json", json.to_string());
        let args = ["encrypt", "--age", &tools.recipient, "--output-type", "ini", "plain.json"];
        let encrypted = tools.sops(&args);
        prop_assert_eq!(encrypted.code, 0, "{}", encrypted.stderr);
        tools.scene.write("theirs.ini", &encrypted.stdout);
        let printed = tools.civm(&["decrypt", "theirs.ini"]);
        if printed.code == 4 {
            let hard =
                |value: &String| value.contains('\n') && value.contains('`') && value.contains("\"\"\"");
            prop_assert!(values.iter().any(hard), "{}", printed.stderr);
            return Ok(());
        }
        prop_assert_eq!(printed.code, 0, "{}", printed.stderr);
        let theirs = tools.sops_encrypts("again.ini", &printed.stdout, "again-theirs.ini");
        let ours = tools.civm_encrypts("again.ini", &printed.stdout, "again-ours.ini");
        prop_assert_eq!((theirs.code, ours.code), (0, 0), "{}{}", theirs.stderr, ours.stderr);
        for name in ["again-theirs.ini", "again-ours.ini"] {
            let read = tools.sops(&["decrypt", "--output-type", "json", name]);
            prop_assert_eq!(read.code, 0, "{}", read.stderr);
            let read: serde_json::Value = serde_json::from_str(read.out()).expect("JSON");
            prop_assert_eq!(&read, &json, "{}:\n{}", name, printed.out());
        }
        Ok(())
    });
}

/// Whatever is in a file: what civm takes, sops reads as the same values, and none of them changes on the way
/// through a plaintext. Without the markers of comments they are also the values that sops itself reads.
#[test]
fn what_civm_takes_keeps_its_values() {
    let Some(tools) = Tools::new() else { return };
    // Two that sops reads as it should, and writes so that it reads another key.
    for plain in ["b`\"\":", "[]]\naa`\" :;"] {
        keeps_its_values(&tools, plain).unwrap_or_else(|error| panic!("{plain:?}: {error}"));
    }
    let line = prop_oneof![
        "[ab\"'`#;=:\\[\\]\\\\ \t]{0,12}",
        "[ab\"`\\[]{1,4} ?[=:][ab\"'`#; \\\\]{0,10}",
        "[a-z]{1,3} ?= ?[ab\"'`\\\\ ]{0,10}",
        "\\[[a\"\\]#]{1,3}\\]",
    ];
    each(30, proptest::collection::vec(line, 0..4), |lines| keeps_its_values(&tools, &lines.join("\n")));
}

fn keeps_its_values(tools: &Tools, plain: &str) -> Result<(), TestCaseError> {
    let values = |name: &str| {
        let read = tools.sops(&["decrypt", "--output-type", "json", name]);
        (read.code == 0).then(|| read.out().to_owned())
    };
    // What sops reads, had through JSON: its INI writer loses some keys that its reader takes.
    let read_by_sops = |name: &str| {
        let args = ["encrypt", "--age", &tools.recipient, "--output-type", "json", name];
        let encrypted = tools.sops(&args).ok();
        tools.scene.write("theirs.json", &encrypted.stdout);
        values("theirs.json")
    };
    let ours = tools.civm_encrypts("plain.ini", plain, "ours.ini");
    if ours.code != 0 {
        prop_assert!(matches!(ours.code, 2 | 4), "{}", ours.stderr);
        return Ok(());
    }
    let kept = values("ours.ini");
    prop_assert!(kept.is_some(), "sops does not read what civm wrote");
    let printed = tools.civm(&["decrypt", "ours.ini"]);
    prop_assert_eq!(printed.code, 0, "{}", printed.stderr);
    tools.civm_encrypts("again.ini", &printed.stdout, "again-ours.ini").ok();
    prop_assert_eq!(&values("again-ours.ini"), &kept, "{}", printed.out());
    prop_assert_eq!(&read_by_sops("again.ini"), &kept, "{}", printed.out());
    if !plain.contains(['#', ';']) {
        prop_assert_eq!(&read_by_sops("plain.ini"), &kept);
    }
    Ok(())
}

#[test]
fn single_values_are_had_as_sops_extracts_them() {
    let Some(tools) = Tools::new() else { return };
    tools.sops_encrypts("plain.ini", PLAIN, "s.ini").ok();
    for path in ["[\"s\"][\"first\"]", "[\"s\"][\"lines\"]", "[\"DEFAULT\"][\"top\"]", "[\"s\"]", "[\"t\"]"] {
        let want = tools.sops(&["decrypt", "--extract", path, "s.ini"]);
        let got = tools.civm(&["get", "s.ini", path]);
        assert_eq!((want.code, want.out()), (got.code, got.out()), "{path}: {}", got.stderr);
    }
}

#[test]
fn an_edit_changes_the_lines_that_sops_changes() {
    let Some(tools) = Tools::new() else { return };
    let edits = [
        "s/= one/= changed/",
        "/above/d",
        "s/section/other/",
        "s/^last.*/last = x/",
        "/^first/d",
        "s/^b\"/c\"/",
    ];
    tools.edit_alike("ini", PLAIN, &edits);
}

#[test]
fn updatekeys_leaves_what_sops_leaves() {
    let Some(tools) = Tools::new() else { return };
    tools.update_alike("ini", PLAIN, OTHER);
}
