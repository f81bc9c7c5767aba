//! Random files of every format under random rules, encrypted, decrypted and changed by sops and by civm under its
//! name: what one writes the other reads, and the same commands leave the same.
//!
//! `CIVM_CASES` says how many; where civm does otherwise by intent, [`DIFFERENCES`] knows its words, and
//! docs/differences.md the reasons.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use regex::Regex;

use super::texts::Tools;
use super::yaml::{IDENTITY, cases};
use super::{documents, dotenv, ini, json};
use crate::support::shape::{is_encrypted, shape};
use crate::support::{Ran, civm_binary, run};

const THIRD: &str = "age12h7333pd5phz20zqy2xqurkpuanr288ud8lyjxvgh2j6jdu3w4asgvy23q";
const OTHER: &str = "age10yxnlmgmfxvptr92k8mj0y4sz2qnkwyf98k4gku43kyps0e8a5ws9nauq8";

/// What civm says where sops opens the editor again and again, though nobody presses enter.
const NOBODY: &str = "there is no terminal to ask";

/// What civm says where it refuses on purpose what sops does.
const DIFFERENCES: [&str; 11] = [
    // A value that its MAC would not match, or that would be another one.
    "would not read back as it is",
    // Comments that select what is encrypted, and move.
    "comments that select",
    // More documents than the format holds.
    "holds one document",
    // sops does nothing, and says nothing.
    "Unsupported type",
    "cannot be used on",
    // A key that files of the format cannot have.
    "cannot be in a",
    "has a key twice",
    "is reserved for",
    // Data that sops would drop while reading.
    "sops would",
    "this key is already in the mapping",
    // What nobody would decrypt again.
    "with nothing but a string `data`",
];

#[derive(Clone, Debug)]
struct Case {
    ending: &'static str,
    plain: Vec<u8>,
    rules: String,
    change: Vec<String>,
}

fn one_of<const N: usize>(texts: [&'static str; N]) -> impl Strategy<Value = &'static str> + Clone {
    (0..N).prop_map(move |at| texts[at])
}

/// Rules that the identity of the tests opens; `R` stands for its recipient, `O` for another.
fn rules() -> impl Strategy<Value = String> {
    let keys = one_of([
        "age: R",
        "age: [R, O]",
        "age: ' R , O,'",
        "age: ['R,O', R]",
        "age: O\n    key_groups:\n      - age: [R, O]",
        "key_groups:\n      - age: [O]\n        merge: [{age: [R]}, ~]\n      -",
        "key_groups:\n      - age: [R]\n      - age: [R, O]",
        "key_groups:\n      - age: [R]\n      - age: [O]\n      - age: [R]\n    shamir_threshold: 2",
        "shamir_threshold: 2.0\n    key_groups:\n      - age: [R]\n      - age: [R]",
        "shamir_threshold: 3\n    age: R",
    ]);
    let selector = one_of([
        "",
        "",
        "",
        "unencrypted_suffix: _unencrypted",
        "unencrypted_suffix: 1",
        "encrypted_suffix: key",
        "encrypted_suffix: a",
        "unencrypted_regex: ^[a-kA-K]",
        "encrypted_regex: '^(a|key|\\w+)$'",
        "encrypted_regex: .",
        "unencrypted_comment_regex: 'key: |tight'",
        "encrypted_comment_regex: comment|double",
    ]);
    let mac =
        one_of(["", "", "mac_only_encrypted: true", "mac_only_encrypted: Yes", "mac_only_encrypted: off"]);
    let path = one_of(["", "path_regex: .", "path_regex: plain\\.", "path_regex: ~"]);
    let stores = one_of([
        "",
        "",
        "stores: {yaml: {indent: 2}}\n",
        "stores: {json: {indent: 0}, json_binary: {indent: 2}, yaml: {indent: 1.0}}\n",
    ]);
    (keys, selector, mac, path, stores).prop_map(|(keys, selector, mac, path, stores)| {
        let fields = [path, keys, selector, mac].into_iter().filter(|field| !field.is_empty());
        let fields = fields.collect::<Vec<_>>().join("\n    ");
        format!("creation_rules:\n  - ~\n  - path_regex: ^nowhere\n    kms: 5\n  - {fields}\n{stores}")
    })
}

/// A command on the encrypted file, whose name comes last.
fn change() -> impl Strategy<Value = Vec<String>> {
    let path = one_of([
        "[\"a\"]",
        "[\"key\"]",
        "[\"A\"]",
        "[\"s\"]",
        "[\"s\"][\"k\"]",
        "[\"data\"]",
        "[\"a\"][0]",
        "[\"some_key\"][\"a\"]",
        "[\"new\"][\"x\"]",
        "[\"key\"][1][\"a\"]",
        "[\"clear_unencrypted\"]",
        "[\"x1\"]",
    ]);
    let value = one_of([
        "\"x\"",
        "\"\"",
        "2",
        "-1.5",
        "true",
        "null",
        "{\"k\": [1, \"v\"]}",
        "\"two\\nlines\"",
        "{}",
    ]);
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    prop_oneof![
        4 => (path.clone(), value).prop_map(move |(path, value)| words(&["set", path, value])),
        2 => (path.clone(), any::<bool>()).prop_map(move |(path, idempotent)| {
            if idempotent { words(&["unset", "--idempotent", path]) } else { words(&["unset", path]) }
        }),
        1 => path.prop_map(move |path| words(&["decrypt", "--extract", path])),
        2 => one_of(["yaml", "json", "dotenv", "ini", "binary"])
            .prop_map(move |format| words(&["decrypt", "--output-type", format])),
        1 => Just(words(&["updatekeys", "--yes"])),
        1 => Just(words(&["rotate", "-i", "--add-age", THIRD])),
        1 => Just(words(&["rotate", "-i", "--rm-age", OTHER])),
        1 => Just(words(&["groups", "add", "-i", "--age", OTHER, "-f"])),
        1 => Just(words(&["groups", "delete", "-i", "0", "-f"])),
        1 => Just(words(&["filestatus"])),
        2 => one_of(["s/a/b/", "$d", "1d", "s/1/2/g", "s/$/ /", "y/ab/ba/"]).prop_map(move |edit| words(&["edit", edit])),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let file = prop_oneof![
        3 => documents::file().prop_map(|text| ("yaml", text.into_bytes())),
        2 => json::file().prop_map(|text| ("json", text)),
        2 => dotenv::file().prop_map(|text| ("env", text.into_bytes())),
        2 => ini::file().prop_map(|text| ("ini", text.into_bytes())),
        1 => proptest::collection::vec(any::<u8>(), 0..60).prop_map(|bytes| ("bin", bytes)),
    ];
    (file, rules(), change()).prop_map(|((ending, plain), rules, change)| Case {
        ending,
        plain,
        rules,
        change,
    })
}

struct Both<'a> {
    tools: &'a Tools,
    civm: std::path::PathBuf,
}

impl Both<'_> {
    fn run(&self, real: bool, words: &[&str], name: &str) -> Ran {
        let mut command = self.tools.scene.command(if real { &self.tools.sops } else { &self.civm });
        let mut words = words.to_vec();
        if let ["edit", edit] = words[..] {
            // sops opens it again on what is not valid, for ever: the second time it fails.
            let script = "[ -e ../edited ] && exit 1; touch ../edited; sed -i \"$0\" \"$1\"";
            let _ = std::fs::remove_file(self.tools.scene.path("edited"));
            command.env(
                "EDITOR",
                format!(
                    "sh -c '{}' '{edit}'",
                    script.replace("../edited", &self.tools.scene.path("edited").display().to_string())
                ),
            );
            words = vec!["edit"];
        }
        // sops takes the file before the path.
        let at = if matches!(words.first(), Some(&("set" | "unset"))) {
            words.iter().position(|word| word.starts_with('[')).unwrap_or(words.len())
        } else {
            words.len()
        };
        words.insert(at, name);
        run(command.args(words).env("SOPS_AGE_KEY", IDENTITY))
    }

    fn readable(&self, name: &str) -> Ran {
        self.run(true, &["decrypt"], name)
    }

    /// Whether a difference in exit codes is one that is meant: sops panics or makes what it cannot read itself, or
    /// civm says which of [`DIFFERENCES`] it is.
    fn is_meant(&self, theirs: &Ran, ours: &Ran, left: &str) -> bool {
        theirs.stderr.contains("goroutine")
            || ours.stderr.contains(NOBODY)
            || theirs.code == 0 && DIFFERENCES.iter().any(|words| ours.stderr.contains(words))
            || theirs.code == 0 && self.readable(left).code != 0
    }

    /// Whether both did it. That only one did is a fault, unless it is meant.
    fn both_did(&self, words: &[&str], theirs: &Ran, ours: &Ran, left: &str) -> Result<bool, TestCaseError> {
        prop_assert!(
            theirs.code == ours.code || self.is_meant(theirs, ours, left),
            "{:?}: {} {}\n---\n{} {}",
            words,
            theirs.code,
            theirs.stderr,
            ours.code,
            ours.stderr
        );
        Ok(theirs.code == 0 && ours.code == 0)
    }

    fn play(&self, case: &Case) -> Result<(), TestCaseError> {
        let scene = &self.tools.scene;
        let rules = case.rules.replace('R', &self.tools.recipient).replace('O', OTHER);
        scene.write(".sops.yaml", rules);
        let name = |stem: &str| format!("{stem}.{}", case.ending);
        let (plain, theirs_name, ours_name) = (name("plain"), name("theirs.plain"), name("ours.plain"));
        scene.write(&plain, &case.plain);
        let [theirs, ours] = [true, false].map(|real| self.run(real, &["encrypt"], &plain));
        scene.write(&theirs_name, &theirs.stdout);
        scene.write(&ours_name, &ours.stdout);
        if !self.both_did(&["encrypt"], &theirs, &ours, &theirs_name)? {
            return Ok(());
        }
        let want = self.readable(&theirs_name);
        if want.code != 0 {
            // What sops cannot read again need not be made alike.
            prop_assert_eq!(self.readable(&ours_name).code, 0, "neither can be read");
            return Ok(());
        }
        prop_assert_eq!(shape(&text(&theirs)), shape(&text(&ours)), "encrypted forms differ");
        for (who, got) in [
            ("ours by them", self.readable(&ours_name)),
            ("theirs by us", self.run(false, &["decrypt"], &theirs_name)),
            ("ours by us", self.run(false, &["decrypt"], &ours_name)),
        ] {
            prop_assert_eq!(got.code, 0, "{}: {}", who, got.stderr);
            prop_assert!(want.stdout == got.stdout, "{}:\n{}\n---\n{}", who, text(&want), text(&got));
        }
        // Both change the same file.
        scene.write(&ours_name, &theirs.stdout);
        let words: Vec<&str> = case.change.iter().map(String::as_str).collect();
        let (theirs, ours) = (self.run(true, &words, &theirs_name), self.run(false, &words, &ours_name));
        if !self.both_did(&words, &theirs, &ours, &theirs_name)? {
            return Ok(());
        }
        // Of a text that starts with an empty line or a space, sops gives a wrong indent in lists.
        let indent = Regex::new(r"(?m)(- \|)\d").expect("a pattern");
        let plain = |ran: &Ran| indent.replace_all(&text(ran), "$1").into_owned();
        let printed = |ran: &Ran| if is_encrypted(&ran.stdout) { shape(&text(ran)) } else { plain(ran) };
        prop_assert_eq!(printed(&theirs), printed(&ours), "printed otherwise");
        let (want, got) = (self.readable(&theirs_name), self.readable(&ours_name));
        // sops alone loses a comment that nothing follows any more, and all but the last of those that come to stand
        // above one key when the key between them goes.
        let goes = words == ["edit", "$d"] || words.first() == Some(&"unset");
        let cut = case.ending == "ini" && goes;
        if want.code == 0 {
            prop_assert_eq!(got.code, 0, "{}", got.stderr);
            let without = |text: String| match cut {
                true => text.lines().filter(|line| !line.starts_with([';', '#'])).map(str::trim).collect(),
                false => text,
            };
            let left = |name: &str| without(shape(&scene.read(name)));
            prop_assert_eq!(without(text(&want)), without(text(&got)), "holds something else");
            prop_assert_eq!(left(&theirs_name), left(&ours_name), "left otherwise");
        }
        Ok(())
    }
}

fn text(ran: &Ran) -> String {
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

#[test]
fn random_files_under_random_rules_are_handled_as_sops_does() {
    let Some(tools) = Tools::new() else { return };
    let civm = tools.scene.path("sops");
    std::os::unix::fs::symlink(civm_binary(), &civm).expect("a link");
    let both = Both { tools: &tools, civm };
    // Each on its own: shrinking would play hundreds more, and one fault must not hide the others.
    // The same cases in every run, unless a number is asked for: then others.
    let mut runner = match std::env::var_os("CIVM_CASES") {
        Some(_) => TestRunner::default(),
        None => TestRunner::deterministic(),
    };
    let (strategy, count) = (case(), cases(150));
    let mut faults = Vec::new();
    for _ in 0..count {
        let case = strategy.new_tree(&mut runner).expect("a case").current();
        if let Err(fault) = both.play(&case) {
            let plain = String::from_utf8_lossy(&case.plain).into_owned();
            faults.push(format!("{case:?}\n{plain}\n{fault}\n"));
        }
    }
    assert!(faults.is_empty(), "{} of {count} differ:\n{}", faults.len(), faults.join("\n"));
}
