//! Flattening, and what contradicts itself on the way back.

use super::*;
use crate::sops::metadata::Metadata;
use crate::sops::tree::{Comment, get};

fn line<'a>((at, (name, value)): (usize, &(&'a str, &'a str))) -> Line<'a> {
    Line { name: name.as_bytes(), value: value.as_bytes(), number: at + 1 }
}

fn read(lines: &[(&str, &str)]) -> Result<Branch, Error> {
    unflatten(&lines.iter().enumerate().map(line).collect::<Vec<_>>())
}

fn written(branch: &Branch) -> Vec<(String, String)> {
    let text = |text: Text| text.as_str().expect("UTF-8").to_owned();
    flatten(branch).expect("flat").into_iter().map(|(name, value)| (text(name), text(value))).collect()
}

fn map(entries: Vec<(&str, Value)>) -> Branch {
    entries.into_iter().map(|(name, value)| Item::entry(name, value)).collect()
}

#[test]
fn every_step_has_its_separator() {
    let key = |enc: &str| Value::Map(map(vec![("enc", Value::str(enc)), ("recipient", Value::str("age1x"))]));
    let branch = map(vec![
        ("age", Value::List(vec![key("a\nb\n"), Value::Comment(Comment::line("c")), key("")])),
        ("key_groups", Value::List(vec![Value::Map(map(vec![("hc_vault", Value::List(vec![]))]))])),
        ("mac_only_encrypted", Value::Bool(true)),
        ("shamir_threshold", Value::Int(2)),
    ]);
    let lines = [
        ("age__list_0__map_enc", "a\\nb\\n"),
        ("age__list_0__map_recipient", "age1x"),
        ("age__list_1__map_enc", ""),
        ("age__list_1__map_recipient", "age1x"),
        ("mac_only_encrypted", "true"),
        ("shamir_threshold", "2"),
    ];
    assert_eq!(written(&branch), lines.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn lines_are_read_in_any_order() {
    let lines = [
        ("shamir_threshold", "2"),
        ("key_groups__list_1__map_age__list_0__map_recipient", "age1b"),
        ("mac_only_encrypted", "true"),
        ("key_groups__list_0__map_age__list_0__map_recipient", "age1a"),
        ("version", "3.13.3"),
        ("key_groups__list_1__map_age__list_0__map_enc", "two\\n"),
        ("key_groups__list_1__map_pgp__list_0__map_fp", "ABC"),
        ("lastmodified", "2026-01-01T00:00:00Z"),
        ("key_groups__list_0__map_age__list_0__map_enc", "one\\n"),
    ];
    let branch = read(&lines).expect("metadata");
    let metadata = Metadata::from_branch(&branch).expect("metadata");
    assert_eq!((metadata.shamir_threshold, metadata.mac_only_encrypted), (2, true));
    let enc: Vec<_> = metadata.age_keys().map(|key| (key.recipient.as_str(), key.enc.as_str())).collect();
    assert_eq!(enc, [("age1a", "one\n"), ("age1b", "two\n")]);
    assert_eq!(metadata.other_kinds(), ["pgp"]);
    let mut again = written(&branch);
    let mut lines = lines.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    again.sort();
    lines.sort();
    assert_eq!(again, lines);
}

#[test]
fn keys_of_other_kinds_survive() {
    let lines = [
        ("kms__list_0__map_arn", "arn:aws"),
        ("kms__list_0__map_aws_profile", ""),
        ("kms__list_0__map_context__map_a", "1"),
        ("kms__list_0__map_created_at", "2026-01-01T00:00:00Z"),
        ("kms__list_0__map_enc", "x"),
        ("lastmodified", "2026-01-01T00:00:00Z"),
        ("mac", "ENC[]"),
        ("pgp__list_0__map_created_at", "2026-01-01T00:00:00Z"),
        ("pgp__list_0__map_enc", "-----BEGIN\\n\\nx\\n-----END"),
        ("pgp__list_0__map_fp", "ABC"),
        ("unencrypted_suffix", "_unencrypted"),
        ("version", "3.13.3"),
    ];
    let metadata = Metadata::from_branch(&read(&lines).expect("metadata")).expect("metadata");
    let again = written(&metadata.to_branch());
    assert_eq!(again, lines.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn contradictions_name_the_line() {
    let deep = "a".to_owned() + &"__map_a".repeat(40);
    for (lines, number, word) in [
        (vec![("mac", "1"), ("version", "2"), ("mac", "3")], 3, "Duplicate value: `mac`"),
        (vec![("age", "1"), ("age__list_0", "2")], 1, "Type mismatch"),
        (vec![("age__map_x", "1"), ("age__list_0", "2")], 2, "Type mismatch"),
        (vec![("mac", "1"), ("age__list_1", "2"), ("age__list_2", "2")], 2, "Incomplete list"),
        (vec![("age__list_0", "1"), ("age__list_2", "2")], 1, "Incomplete list"),
        (vec![("age__list_x", "1")], 1, "without a number"),
        (vec![("age__list_", "1")], 1, "without a number"),
        (vec![(&deep, "1")], 1, ""),
    ] {
        match read(&lines) {
            Err(Error::Syntax { line, message }) => {
                assert_eq!(line, number, "{message}");
                assert!(message.contains(word), "{message} has no {word}");
            }
            Err(Error::Limit { line, .. }) => assert_eq!((line, word), (1, "")),
            other => panic!("{lines:?}: {other:?}"),
        }
    }
    // Not below a list: the first step is a name, whatever comes first.
    let branch = read(&[("__list_0", "1")]).expect("metadata");
    assert!(matches!(get(&branch, ""), Some(Value::List(_))));
}

#[test]
fn names_that_collide_are_not_written() {
    let branch =
        map(vec![("a", Value::Map(map(vec![("b", Value::str("1"))]))), ("a__map_b", Value::str("2"))]);
    assert!(matches!(flatten(&branch), Err(Error::Unwritable(_))));
}
