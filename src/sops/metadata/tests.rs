//! The layouts that sops has written, and the one that is written today.

use super::super::testing::{json, tree, value};
use super::super::tree::{Branch, Comment, Item};
use super::*;

/// The `sops` branch of a JSON text.
fn branch(json: &str) -> Branch {
    tree(json).documents.remove(0)
}

fn read(json: &str) -> Result<Metadata, Error> {
    Metadata::from_branch(&branch(json))
}

fn written(metadata: &Metadata) -> String {
    json(&metadata.to_branch()).to_string()
}

const MINIMAL: &str = r#"{"age":[{"enc":"E","recipient":"age1a"}],"lastmodified":"2026-01-02T03:04:05Z","mac":"M",
    "unencrypted_suffix":"_unencrypted","version":"3.13.3"}"#;

fn compact(json: &str) -> String {
    serde_json::from_str::<serde_json::Value>(json).expect("JSON").to_string()
}

/// The minimal metadata with one field more.
fn with(field: &str) -> String {
    MINIMAL.replace(r#""version""#, &format!("{field},\"version\""))
}

#[test]
fn today_s_layout_is_read_and_written() {
    assert_eq!(written(&read(MINIMAL).expect("good")), compact(MINIMAL));
}

#[test]
fn older_layouts_become_today_s() {
    // Up to 3.9: the order of a structure, empty lists written out; JSON had null in their place.
    let old = r#"{"shamir_threshold":0,"key_groups":[],"kms":null,"gcp_kms":[],"azure_kv":[],"hc_vault":[],
        "age":[{"recipient":"age1a","enc":"E"}],"lastmodified":"2026-01-02T03:04:05Z","mac":"M","pgp":null,
        "version":"3.13.3","unknown":{"a":1}}"#;
    assert_eq!(written(&read(old).expect("good")), compact(MINIMAL));
}

#[test]
fn the_default_selector_is_written_out() {
    let none = MINIMAL.replace("\"unencrypted_suffix\":\"_unencrypted\",", "");
    let metadata = read(&none).expect("good");
    assert_eq!(metadata.selector, Some(Selector::default()));
    assert_eq!(written(&metadata), compact(MINIMAL));
    let binary = Metadata { selector: None, ..metadata };
    assert_eq!(written(&binary), compact(&none));
}

#[test]
fn one_of_the_six_selectors_is_read() {
    for name in super::super::selector::NAMES {
        let text = MINIMAL.replace(r#""unencrypted_suffix":"_unencrypted""#, &format!("\"{name}\":\"x\""));
        let selector = read(&text).expect("good").selector.expect("one");
        assert_eq!((selector.name(), selector.value()), (name, "x"));
    }
    let two = with(r#""encrypted_regex":"x""#);
    assert_eq!(read(&two), Err(Error::SeveralSelectors));
    let empty = with(r#""encrypted_regex":"""#);
    assert!(read(&empty).is_ok());
}

#[test]
fn a_selector_that_does_not_compile_is_refused() {
    let bad = MINIMAL.replace(r#""unencrypted_suffix":"_unencrypted""#, r#""encrypted_regex":"(""#);
    let error = read(&bad).expect_err("no expression").to_string();
    assert!(error.starts_with("encrypted_regex: invalid regular expression `(`: "), "{error}");
}

#[test]
fn flags_and_numbers_are_converted_weakly() {
    for (field, expected) in [
        (r#""mac_only_encrypted":true"#, true),
        (r#""mac_only_encrypted":"true""#, true),
        (r#""mac_only_encrypted":1"#, true),
        (r#""mac_only_encrypted":false"#, false),
        (r#""mac_only_encrypted":null"#, false),
    ] {
        assert_eq!(read(&with(field)).expect(field).mac_only_encrypted, expected, "{field}");
    }
    for field in [r#""shamir_threshold":2"#, r#""shamir_threshold":2.0"#, r#""shamir_threshold":"2""#] {
        assert_eq!(read(&with(field)).expect(field).shamir_threshold, 2, "{field}");
    }
    let version = MINIMAL.replace(r#""3.13.3""#, "3.5");
    assert_eq!(read(&version).expect("a number").version, "3.5");
}

#[test]
fn several_groups_are_written_with_their_empty_lists() {
    let groups = r#"{"key_groups":[{"age":[{"enc":"E","recipient":"age1a"}],"hc_vault":[]},
        {"age":[],"hc_vault":[],"pgp":[{"created_at":"2026-01-01T00:00:00Z","enc":"P","fp":"F"}]}],
        "lastmodified":"2026-01-02T03:04:05Z","mac":"M","shamir_threshold":2,
        "unencrypted_suffix":"_unencrypted","version":"3.13.3"}"#;
    let metadata = read(groups).expect("good");
    assert_eq!((metadata.groups.len(), metadata.shamir_threshold), (2, 2));
    assert_eq!(metadata.other_kinds(), ["pgp"]);
    assert_eq!(written(&metadata), compact(groups));
    let one = groups.replace(
        r#",
        {"age":[],"hc_vault":[],"pgp":[{"created_at":"2026-01-01T00:00:00Z","enc":"P","fp":"F"}]}"#,
        "",
    );
    assert!(written(&read(&one).expect("good")).starts_with(r#"{"age":[{"#));
}

#[test]
fn a_list_of_keys_wins_over_key_groups() {
    let both = with(r#""key_groups":[{"age":[{"recipient":"age1x","enc":"X"}]}]"#);
    let metadata = read(&both).expect("good");
    assert_eq!(metadata.age_keys().map(|key| key.recipient.as_str()).collect::<Vec<_>>(), ["age1a"]);
}

#[test]
fn keys_of_other_kinds_stay_and_are_sorted() {
    let text = with(
        r#""pgp":[{"fp":"F","created_at":"C","enc":"P"}],"kms":[{"context":{"b":"1","a":null},"arn":"A"}]"#,
    );
    let metadata = read(&text).expect("good");
    assert_eq!(metadata.other_kinds(), ["kms", "pgp"]);
    let written = written(&metadata);
    assert!(written.contains(r#""kms":[{"arn":"A","context":{"a":null,"b":"1"}}]"#), "{written}");
    assert!(written.contains(r#""pgp":[{"created_at":"C","enc":"P","fp":"F"}]"#), "{written}");
}

#[test]
fn what_a_formatter_did_is_forgiven() {
    let mut unquoted = branch(MINIMAL);
    let time = Time::parse_rfc3339("2026-01-02T03:04:05.5+02:00").expect("a time");
    let position = unquoted.iter().position(
        |item| matches!(item, Item::Entry(_, value) if *value == Value::str("2026-01-02T03:04:05Z")),
    );
    unquoted[position.expect("lastmodified")] = Item::entry("lastmodified", Value::Time(time));
    unquoted.insert(0, Item::Comment(Comment::line(" dropped")));
    let metadata = Metadata::from_branch(&unquoted).expect("good");
    assert_eq!(metadata.last_modified, time);
    // The offset stays, the fraction goes: that is what authenticates the MAC.
    assert!(written(&metadata).contains(r#""lastmodified":"2026-01-02T03:04:05+02:00""#));
}

#[test]
fn fields_of_a_wrong_form_are_named() {
    let no_time = MINIMAL.replace("2026-01-02T03:04:05Z", "yesterday");
    for (text, expected) in [
        (no_time.as_str(), "sops metadata: lastmodified: it is not an RFC 3339 time"),
        (r#"{"age":[{"enc":"E"}]}"#, "sops metadata: lastmodified: it is missing"),
        (&with(r#""mac_only_encrypted":[]"#), "sops metadata: mac_only_encrypted: expected true or false"),
        (&with(r#""shamir_threshold":1.5"#), "sops metadata: shamir_threshold: expected a number"),
        (
            &with(r#""key_groups":[{"age":["x"]}]"#),
            "sops metadata: key_groups[0].age[0]: expected a mapping, but got a string",
        ),
        (&with(r#""pgp":"x""#), "sops metadata: pgp: expected a list, but got a string"),
        (&MINIMAL.replace(r#""E""#, "{}"), "sops metadata: age[0].enc: expected a string, but got a mapping"),
        (r#"{"lastmodified":"2026-01-02T03:04:05Z","version":"3.13.3"}"#, "no keys found in file"),
    ] {
        assert_eq!(read(text).expect_err(text).to_string(), expected);
    }
}

#[test]
fn a_lone_key_counts_as_a_list_of_one() {
    let lone = MINIMAL.replace("[{", "{").replace("}]", "}");
    assert_eq!(written(&read(&lone).expect("good")), compact(MINIMAL));
    assert_eq!(value(&serde_json::json!([])), Value::List(Vec::new()));
}

#[test]
fn a_file_is_complete_with_version_and_mac() {
    let metadata = read(MINIMAL).expect("good");
    assert!(metadata.is_complete());
    assert!(!Metadata { mac: String::new(), ..metadata.clone() }.is_complete());
    let no_version = Metadata { version: String::new(), ..metadata };
    assert!(!no_version.is_complete());
    assert!(no_version.check_version().is_err());
}
