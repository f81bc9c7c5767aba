//! JSON and binary files between civm and the real sops, both ways.

use std::path::PathBuf;
use std::process::Command;

use proptest::collection::vec;
use proptest::prelude::*;

use super::yaml::{IDENTITY, each, recipient};
use crate::support::shape::without_ciphertexts;
use crate::support::{Ran, Scene, peer, run, run_with};

const OTHER: &str = "age10yxnlmgmfxvptr92k8mj0y4sz2qnkwyf98k4gku43kyps0e8a5ws9nauq8";
/// Pieces of texts, each with a rule of its own in the reader or the writer.
const PIECES: [&[u8]; 29] = [
    b"\\u0000",
    b"\\u001f",
    b"\\u007f",
    b"\x7f",
    b"\\b",
    b"\\f",
    b"\\n",
    b"\\r",
    b"\\t",
    b"\\/",
    b"\\\\",
    b"\\\"",
    b"<",
    b">",
    b"&",
    b"\\u003c",
    b"\\u2028",
    "\u{2029}".as_bytes(),
    "\u{202a}".as_bytes(),
    "\u{fffd}".as_bytes(),
    b"\\uD83D\\ude00",
    b"\\ud83d",
    b"\\ude00",
    b"\xff",
    b"\xe2\x82",
    b"\xed\xa0\x80",
    b"ENC[AES256_GCM,data:",
    b"]",
    b" ",
];
const KEYS: [&str; 14] = [
    "a",
    "b",
    "key",
    "clear_unencrypted",
    "",
    "k:z",
    "with space",
    "пароль",
    "data",
    "sops_",
    "a<b",
    "1",
    "\\ud800",
    "monkey",
];
const SPACES: [&str; 5] = ["", " ", "\n", "\t", " \r\n "];

fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        2 => (0..PIECES.len()).prop_map(|at| PIECES[at].to_vec()),
        1 => any::<char>().prop_map(|character| serde_json::to_string(&character).expect("a string")[1..].trim_end_matches('"').as_bytes().to_vec()),
        2 => "[a-zäß€ ]{1,12}".prop_map(String::into_bytes),
    ];
    vec(piece, 0..6).prop_map(|pieces| quoted(&pieces.concat()))
}

fn quoted(text: &[u8]) -> Vec<u8> {
    [b"\"", text, b"\""].concat()
}

fn number() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => any::<i64>().prop_map(|number| number.to_string()),
        1 => any::<u64>().prop_map(|number| number.to_string()),
        2 => any::<f64>().prop_filter("JSON has no others", |float| float.is_finite()).prop_map(|float| format!("{float:e}")),
        2 => "-?(0|[1-9][0-9]{0,22})(\\.[0-9]{1,18})?([eE][-+]?[0-9]{1,2})?",
        1 => "-?[1-9](\\.[0-9]{0,3}[1-9])?[eE]-?(3[0-9]{2}|[12][0-9])",
    ]
    .prop_filter("sops breaks its own MAC with a clear -0.0", |text| {
        text.parse::<i64>().is_ok() || text.parse() != Ok(0.0)
    })
    .prop_map(String::into_bytes)
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![Just("null"), Just("true"), Just("false"), Just("[]"), Just("{ }")];
    let leaf = prop_oneof![
        3 => text(),
        3 => number(),
        1 => word.prop_map(|word| word.as_bytes().to_vec()),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![vec(inner.clone(), 0..6).prop_map(|items| joined(b"[", items, b"]")), object(inner)]
    })
}

/// Keys come from a short list, so that they repeat now and then.
fn object(value: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let key =
        prop_oneof![4 => (0..KEYS.len()).prop_map(|at| quoted(KEYS[at].as_bytes())), 1 => text()].boxed();
    let space = (0..SPACES.len()).prop_map(|at| SPACES[at].as_bytes());
    let entry =
        (key, space, value).prop_map(|(key, space, value)| [&key, space, b":", space, &value].concat());
    vec(entry, 0..7).prop_map(|entries| joined(b"{", entries, b"}"))
}

fn joined(open: &[u8], elements: Vec<Vec<u8>>, close: &[u8]) -> Vec<u8> {
    [open, &elements.join(b", ".as_slice()), close].concat()
}

/// A whole file, with something behind its object now and then.
pub fn file() -> impl Strategy<Value = Vec<u8>> {
    let behind = prop_oneof![4 => Just("\n"), 1 => Just(""), 1 => Just(" } trailing")];
    (object(value().boxed()), behind).prop_map(|(object, behind)| [&object, behind.as_bytes()].concat())
}

/// The encrypted text without its random parts.
fn shape(ran: &[u8]) -> String {
    let text = String::from_utf8_lossy(ran);
    let line = |line: &str| match line.trim_start().split_once(": ") {
        Some((name @ ("\"enc\"" | "\"lastmodified\""), _)) => name.to_owned(),
        _ => without_ciphertexts(line),
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// civm and sops at work on the same files of a scene.
struct Both {
    scene: Scene,
    sops: PathBuf,
    recipient: String,
}

impl Both {
    fn new() -> Option<Self> {
        let scene = Scene::new();
        let (Some(sops), Some(recipient)) = (peer("sops"), recipient(&scene)) else {
            eprintln!("skipped: no sops or age at hand");
            return None;
        };
        Some(Self { scene, sops, recipient })
    }

    fn rule(&self, rule: &str) {
        let rules = format!("creation_rules:\n  - age: {}\n    {rule}\n", self.recipient);
        self.scene.write(".sops.yaml", rules);
    }

    fn sops(&self, args: &[&str]) -> Command {
        let mut command = self.scene.command(&self.sops);
        command.args(args).env("SOPS_AGE_KEY", IDENTITY);
        command
    }

    fn civm(&self, args: &[&str]) -> Command {
        let mut command = self.scene.civm(&["secrets"]);
        command.args(args).env("SOPS_AGE_KEY", IDENTITY);
        command
    }

    /// sops first, then civm.
    fn run(&self, args: &[&str]) -> [Ran; 2] {
        [run(&mut self.sops(args)), run(&mut self.civm(args))]
    }

    /// Encrypts a plaintext with both, and has each read what both have written.
    fn agree(&self, ending: &str, plain: &[u8]) -> Result<(), TestCaseError> {
        let name = |stem: &str| format!("{stem}{ending}");
        let (plain_name, theirs_name, ours_name) = (name("plain"), name("theirs"), name("ours"));
        self.scene.write(&plain_name, plain);
        let [theirs, ours] = self.run(&["encrypt", &plain_name]);
        prop_assert_eq!(theirs.code, ours.code, "{}\n---\n{}", theirs.stderr, ours.stderr);
        if theirs.code != 0 {
            return Ok(());
        }
        prop_assert_eq!(shape(&theirs.stdout), shape(&ours.stdout), "encrypted forms differ");
        self.scene.write(&theirs_name, &theirs.stdout);
        self.scene.write(&ours_name, &ours.stdout);
        let [want, theirs_by_us] = self.run(&["decrypt", &theirs_name]);
        let [ours_by_them, ours_by_us] = self.run(&["decrypt", &ours_name]);
        for (who, got) in
            [("theirs by us", theirs_by_us), ("ours by them", ours_by_them), ("ours by us", ours_by_us)]
        {
            prop_assert_eq!(want.code, got.code, "{}: {}\n---\n{}", who, want.stderr, got.stderr);
            prop_assert!(want.stdout == got.stdout, "{}: {:?}\n---\n{:?}", who, show(&want), show(&got));
        }
        prop_assert_eq!(want.code, 0, "{}", want.stderr);
        prop_assert!(ending == ".json" || want.stdout == plain, "not the bytes that were encrypted");
        Ok(())
    }
}

fn show(ran: &Ran) -> String {
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

/// The lines of a text that another one has as well, in their order.
fn kept<'a>(before: &'a str, after: &str) -> Vec<&'a str> {
    let lines: Vec<&str> = after.lines().collect();
    // The time may be the same or another second.
    let timeless = before.lines().filter(|line| !line.contains("\"lastmodified\""));
    timeless.filter(|line| lines.contains(line)).collect()
}

#[test]
fn random_json_agrees_with_sops_both_ways() {
    let Some(both) = Both::new() else { return };
    both.rule("");
    each(35, file(), |plain| both.agree(".json", plain));
}

#[test]
fn every_selector_chooses_the_json_values_that_sops_chooses() {
    let Some(both) = Both::new() else { return };
    for rule in [
        "encrypted_suffix: key",
        "unencrypted_regex: '^[a-k]'",
        "encrypted_regex: '^(a|key|\\w+ .*)$'",
        "encrypted_comment_regex: 'x'",
        "encrypted_regex: 'key'\n    mac_only_encrypted: true",
    ] {
        both.rule(rule);
        each(4, file(), |plain| both.agree(".json", plain));
    }
}

#[test]
fn random_bytes_agree_with_sops_both_ways() {
    let Some(both) = Both::new() else { return };
    // None of it counts for a binary file.
    both.rule("encrypted_regex: nothing\n    mac_only_encrypted: true");
    let content = prop_oneof![vec(any::<u8>(), 0..200), file(), "[ -~\n]{0,80}".prop_map(String::into_bytes)];
    each(12, content, |plain| both.agree("", plain));
    both.rule("");
    each(6, file(), |plain| both.agree(".JSON", plain));
}

#[test]
fn the_configured_indent_counts_for_both_forms() {
    let Some(both) = Both::new() else { return };
    let plain = b"{\"a\": [1, {\"b\": \"x\"}], \"c\": {}}";
    for indent in [-1, 0, 3] {
        both.rule(&format!(
            "\nstores:\n  json: {{indent: {indent}}}\n  json_binary: {{indent: {}}}",
            indent + 1
        ));
        for ending in [".json", ".bin"] {
            both.agree(ending, plain).unwrap();
        }
    }
    both.rule("\nstores:\n  json: {indent: -2}");
    both.scene.write("plain.json", plain);
    assert_eq!(both.run(&["encrypt", "plain.json"]).map(|ran| ran.code), [4, 4]);
}

#[test]
fn a_value_is_extracted_as_sops_extracts_it() {
    let Some(both) = Both::new() else { return };
    both.rule("");
    both.scene.write(
        "plain.json",
        r#"{"s":"<\n","i":-7,"f":1e21,"b":true,"n":null,"m":{"k":"v"},"l":[1,"x",{"k":[]}],"e":[]}"#,
    );
    both.scene.write("plain.bin", b"\0\xff");
    for name in ["plain.json", "plain.bin"] {
        run(&mut both.civm(&["encrypt", "-i", name])).ok();
    }
    for path in [
        "[\"s\"]",
        "[\"i\"]",
        "[\"f\"]",
        "[\"b\"]",
        "[\"n\"]",
        "[\"m\"]",
        "[\"l\"]",
        "[\"l\"][1]",
        "[\"l\"][2]",
        "[\"l\"][2][\"k\"]",
        "[\"e\"]",
        "[\"x\"]",
        "[\"l\"][3]",
        "",
    ] {
        let [theirs, ours] = both.run(&["decrypt", "--extract", path, "plain.json"]);
        assert_eq!((theirs.code, show(&theirs)), (ours.code, show(&ours)), "{path}");
    }
    for path in ["[\"data\"]", "[\"x\"]", ""] {
        let [theirs, ours] = both.run(&["decrypt", "--extract", path, "plain.bin"]);
        assert_eq!((theirs.code, theirs.stdout), (ours.code, ours.stdout), "{path}");
    }
}

#[test]
fn edits_and_new_recipients_change_the_lines_that_sops_changes() {
    let Some(both) = Both::new() else { return };
    for (ending, plain, edit) in [
        (
            ".json",
            "{\"first\": \"one\", \"n\": 3, \"l\": [\"x\", \"y\"], \"clear_unencrypted\": 1}",
            "s/one/two/",
        ),
        ("", "one\nanother line\n", "s/one/two/"),
    ] {
        both.rule("");
        let (theirs, ours) = (format!("theirs{ending}"), format!("ours{ending}"));
        both.scene.write(&theirs, plain);
        run(&mut both.sops(&["encrypt", "-i", &theirs])).ok();
        let before = both.scene.read(&theirs);
        both.scene.write(&ours, &before);
        let change = |args: &[&str], input: &[u8]| {
            for (mut command, name) in [(both.sops(args), &theirs), (both.civm(args), &ours)] {
                command.arg(name);
                run_with(command.env("EDITOR", format!("sed -i '{edit}'")), input).ok();
            }
            let after = [&theirs, &ours].map(|name| both.scene.read(name));
            assert_eq!(kept(&before, &after[0]), kept(&before, &after[1]), "{args:?} {ending}");
            assert_eq!(shape(after[0].as_bytes()), shape(after[1].as_bytes()), "{args:?} {ending}");
        };
        change(&["edit"], b"");
        both.scene.write(".sops.yaml", format!("creation_rules:\n  - age: {},{OTHER}\n", both.recipient));
        change(&["updatekeys"], b"y\n");
        let [theirs, ours] = both.run(&["decrypt", &ours]);
        assert!(show(&theirs).contains("two"), "{}", theirs.stderr);
        assert_eq!(show(&theirs), show(&ours));
    }
}

#[test]
fn an_encrypted_file_is_not_encrypted_again_whatever_its_name() {
    let Some(both) = Both::new() else { return };
    both.rule("");
    both.scene.write("plain.bin", "content");
    let encrypted = run(&mut both.sops(&["encrypt", "plain.bin"])).ok();
    for name in ["again.bin", "again.json", "again"] {
        both.scene.write(name, &encrypted.stdout);
        run(&mut both.civm(&["encrypt", "-i", name])).code(203);
        assert_eq!(both.scene.read(name).as_bytes(), encrypted.stdout, "{name} is as it was");
    }
}

#[test]
fn what_sops_cuts_short_is_refused() {
    let Some(both) = Both::new() else { return };
    both.rule("");
    for plain in ["{\"a\": 1, \"b\":", "{\"a\": 1, \"b\": [1, 2"] {
        both.scene.write("plain.json", plain);
        assert_eq!(both.run(&["encrypt", "plain.json"]).map(|ran| ran.code), [0, 2], "{plain}");
    }
}

#[test]
fn old_files_with_all_numbers_as_floats_are_read_as_sops_reads_them() {
    let Some(both) = Both::new() else { return };
    both.rule("");
    // A float in YAML has the type that all numbers had in JSON before 3.13.2.
    both.scene.write("old.yaml", "a: 1.0\nb: 1e20\nc: 1.5\nd_unencrypted: 2\n");
    let old = run(&mut both.sops(&["encrypt", "--output-type", "json", "old.yaml"])).ok();
    both.scene.write("old.json", &old.stdout);
    let [theirs, ours] = both.run(&["decrypt", "old.json"]);
    assert_eq!(theirs.ok().out(), ours.ok().out());
}
