//! Random patterns of selectors and path rules, as Go's regexp understands them.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use civm::sops::pattern::Pattern;
use rand::Rng;
use rand::seq::SliceRandom as _;
use serde_json::{Value, json};

use super::yaml::cases;
use crate::support::{peer, run_with};

/// Pieces of the syntax, of texts, and of what looks like syntax elsewhere.
const PIECES: [&str; 79] = [
    "a",
    "b",
    "k",
    "K",
    "s",
    "ſ",
    "é",
    "я",
    "0",
    "_",
    "-",
    ".",
    "/",
    " ",
    "^",
    "$",
    "\\.",
    "\\/",
    "\\-",
    "\\_",
    "\\d",
    "\\D",
    "\\w",
    "\\W",
    "\\s",
    "\\S",
    "\\b",
    "\\B",
    "\\A",
    "\\z",
    "\\Z",
    "\\pL",
    "\\PN",
    "\\p{Greek}",
    "\\p{^Lu}",
    "\\p{Foo}",
    "\\x41",
    "\\x{3c9}",
    "\\x{110000}",
    "\\012",
    "\\0",
    "\\1",
    "\\8",
    "\\n",
    "\\t",
    "\\v",
    "\\a",
    "\\e",
    "\\C",
    "\\Q",
    "\\E",
    "\\Qa.b\\E",
    "\\u0041",
    "\\<",
    "\\>",
    "\\'",
    "\\ä",
    "[ab]",
    "[^ab]",
    "[a-k]",
    "[k-a]",
    "[]a]",
    "[^]a]",
    "[a-]",
    "[-a]",
    "[[:alpha:]]",
    "[[:^digit:]]",
    "[[:foo:]]",
    "[a&&b]",
    "[a--b]",
    "[a~~b]",
    "[[a]",
    "[\\w-]",
    "[\\d\\pL]",
    "[\\b]",
    "[a-\\d]",
    "[\\Qa\\E]",
    "[]",
    "[^\\n]",
];
const REPEATS: [&str; 16] = [
    "*", "+", "?", "*?", "+?", "??", "{2}", "{1,2}", "{0,}", "{2,1}", "{,2}", "{1001}", "{a}", "{", "**",
    "{2}?",
];
const GROUPS: [&str; 13] = [
    "(", "(?:", "(?i:", "(?i)(", "(?s:", "(?m:", "(?-i:", "(?U:", "(?P<n>", "(?<n>", "(?=", "(?x:", "(?i-s:",
];
const TEXTS: [&str; 24] = [
    "",
    "a",
    "b",
    "k",
    "K",
    "s",
    "S",
    "ſ",
    "\u{212a}",
    "é",
    "я",
    "ω",
    "Ω",
    "0",
    "_",
    "-",
    ".",
    "&",
    "~",
    "[",
    "\n",
    "a\nb",
    "hosts/a/secrets.yaml",
    "ab_0 {,2}a.b\\",
];

fn pattern(rng: &mut impl Rng, depth: u32) -> String {
    let mut text = String::new();
    for _ in 0..rng.gen_range(1..=4) {
        match rng.gen_range(0..10) {
            0 | 1 if depth > 0 => {
                text += GROUPS.choose(rng).expect("some");
                text += &pattern(rng, depth - 1);
                // Now and then one is left open.
                text.push_str(if rng.gen_ratio(1, 30) { "" } else { ")" });
            }
            2 if depth > 0 => {
                text.push('|');
                text += &pattern(rng, depth - 1);
            }
            _ => text += PIECES.choose(rng).expect("some"),
        }
        if rng.gen_ratio(1, 4) {
            text += REPEATS.choose(rng).expect("some");
        }
    }
    text
}

#[test]
fn random_patterns_match_what_they_match_in_go() {
    let Some(go) = peer("go") else { return eprintln!("skipped: no go at hand") };
    let mut rng = rand::thread_rng();
    let patterns: Vec<String> = (0..cases(2000)).map(|_| pattern(&mut rng, 3)).collect();
    let mut questions = String::new();
    for pattern in &patterns {
        writeln!(questions, "{}", json!({"Pattern": pattern, "Texts": TEXTS})).expect("written");
    }
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/re2/main.go");
    // With the user's own environment: that is where Go keeps what it has built.
    let answers = run_with(Command::new(go).arg("run").arg(program), questions.as_bytes()).ok();
    let answers: Vec<Value> =
        answers.out().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(answers.len(), patterns.len());
    let mut accepted = 0;
    let mut faults = Vec::new();
    for (pattern, answer) in patterns.iter().zip(&answers) {
        match (Pattern::new(pattern), answer.as_array()) {
            (Err(_), None) => {}
            (Ok(_), None) => faults.push(format!("{pattern:?}: Go refuses it")),
            (Err(error), Some(_)) => faults.push(format!("{pattern:?}: only civm refuses it: {error}")),
            (Ok(ours), Some(theirs)) => {
                accepted += 1;
                for (text, theirs) in TEXTS.iter().zip(theirs) {
                    if theirs.as_bool() != Some(ours.is_match(text.as_bytes())) {
                        faults.push(format!("{pattern:?} with {text:?}: Go says {theirs}"));
                    }
                }
            }
        }
    }
    assert!(accepted > patterns.len() / 4, "{accepted} of the patterns are understood");
    assert!(faults.is_empty(), "{} differ:\n{}", faults.len(), faults.join("\n"));
}
