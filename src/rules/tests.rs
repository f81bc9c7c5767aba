//! What sops reads in a `.sops.yaml`, read alike.

use super::*;

fn parse(text: &str) -> Config {
    Config::parse(text).expect("it parses")
}

fn recipients(text: &str) -> Vec<Vec<String>> {
    let config = parse(text);
    let rule = config.rule_for("any").expect("a usable rule").expect("a rule");
    rule.recipient_groups()
}

const TYPICAL: &str = "\
keys:
  - &admin age1admin
  - &web age1web
creation_rules:
  - path_regex: hosts/web/secrets\\.yaml$
    key_groups:
      - age: [*admin, *web, *admin]
  - path_regex: '^data/'
    encrypted_regex: ^(data|stringData)$
    mac_only_encrypted: yes
    age: >-
      age1admin,
      age1other
  - age: age1last
stores:
  yaml:
    indent: 2
destination_rules:
  - s3_bucket: x
";

#[test]
fn the_first_rule_that_matches_wins() {
    let config = parse(TYPICAL);
    let rule = |path: &str| config.rule_for(path).expect("usable").expect("a rule").path_regex.clone();
    assert_eq!(rule("hosts/web/secrets.yaml"), "hosts/web/secrets\\.yaml$");
    // The search is unanchored.
    assert_eq!(rule("other/hosts/web/secrets.yaml"), "hosts/web/secrets\\.yaml$");
    assert_eq!(rule("data/x.json"), "^data/");
    assert_eq!(rule("hosts/web/secrets.yaml.bak"), "");
    assert_eq!(config.stores.yaml, 2);
    assert_eq!(config.stores.json, -1);
}

#[test]
fn a_rule_has_its_recipients_and_its_selector() {
    let config = parse(TYPICAL);
    let web = config.rule_for("hosts/web/secrets.yaml").expect("usable").expect("a rule");
    assert_eq!(web.recipients().collect::<Vec<_>>(), ["age1admin", "age1web"]);
    assert_eq!((web.selector.clone(), web.mac_only_encrypted), (None, false));
    let data = config.rule_for("data/x").expect("usable").expect("a rule");
    assert_eq!(data.recipients().collect::<Vec<_>>(), ["age1admin", "age1other"]);
    assert_eq!(data.selector.as_ref().map(Selector::name), Some("encrypted_regex"));
    assert!(data.mac_only_encrypted);
}

#[test]
fn age_is_read_in_all_its_spellings() {
    let two = [["age1a".to_owned(), "age1b".to_owned()]];
    for age in [
        "age: age1a,age1b",
        "age: ' age1a , age1b, '",
        "age: [age1a, age1b]",
        "age: ['age1a,age1b']",
        "age:\n    - age1a\n    - age1b",
        "age: >-\n      age1a,\n      age1b",
        "key_groups: [{age: [age1a, age1b]}]",
        "key_groups: [{age: ['age1a,age1b', age1a]}]",
        "key_groups: [{merge: [{age: [age1a]}], age: [age1b, age1a]}]",
        "age: age1ignored\n    key_groups:\n      - age: [age1a, age1b]",
    ] {
        assert_eq!(recipients(&format!("creation_rules:\n  - {age}\n")), two, "{age}");
    }
    // Only groups are without duplicates.
    assert_eq!(recipients("creation_rules: [{age: 'age1a,age1a'}]"), [["age1a", "age1a"]]);
    assert_eq!(
        recipients("creation_rules: [{key_groups: [{age: [age1a]}, {age: [age1b]}]}]"),
        [["age1a"], ["age1b"]]
    );
    assert_eq!(recipients("creation_rules: [{path_regex: ''}]"), [Vec::<String>::new()]);
}

#[test]
fn merge_keys_and_aliases_are_resolved() {
    let text = "\
base: &base
  mac_only_encrypted: true
  age: age1a
creation_rules:
  - <<: *base
    path_regex: x
";
    let config = parse(text);
    let rule = config.rule_for("x").expect("usable").expect("a rule");
    assert!(rule.mac_only_encrypted);
    assert_eq!(rule.recipients().collect::<Vec<_>>(), ["age1a"]);
}

#[test]
fn other_kinds_of_keys_are_named() {
    let text = "creation_rules: [{pgp: ABC, kms: [], age: age1a, gcp_kms: [x]}]";
    assert_eq!(parse(text).rules().expect("usable")[0].other_kinds(), ["gcp_kms", "pgp"]);
    let text =
        "creation_rules: [{key_groups: [{pgp: [A], merge: [{hc_vault: [B]}]}, {azure_keyvault: [{}]}]}]";
    assert_eq!(parse(text).rules().expect("usable")[0].other_kinds(), ["azure_keyvault", "hc_vault", "pgp"]);
}

#[test]
fn no_section_and_an_empty_one_are_different() {
    for (text, has) in
        [("", false), ("keys: []", false), ("creation_rules:", false), ("creation_rules: []", true)]
    {
        let config = parse(text);
        assert_eq!(config.has_creation_rules(), has, "{text}");
        assert_eq!(config.rule_for("x"), Ok(None));
    }
}

#[test]
fn wrong_types_and_repeated_keys_are_errors_with_their_line() {
    for (text, line) in [
        ("creation_rules:\n  - path_regex: [x]\n", "line 2"),
        ("creation_rules:\n  - shamir_threshold: two\n", "line 2"),
        ("creation_rules:\n  - key_groups:\n      - age: age1a\n", "line 3"),
        ("creation_rules:\n  age: age1a\n", "line 2"),
        ("creation_rules:\n  - age: a\n    age: b\n", "line 2"),
        ("stores: {yaml: {indent: wide}}", "line 1"),
        ("creation_rules: [", "line 2"),
    ] {
        let error = Config::parse(text).expect_err(text).to_string();
        assert!(error.contains(line), "{text}: {error}");
    }
}

#[test]
fn what_is_wrong_with_a_rule_shows_when_it_is_reached() {
    let text = "\
creation_rules:
  - path_regex: ^a
    age: age1a
  - path_regex: '('
  - path_regex: ^b
";
    let config = parse(text);
    assert!(config.rule_for("a").is_ok_and(|rule| rule.is_some()));
    let error = config.rule_for("b").expect_err("the second rule").to_string();
    assert!(error.starts_with("creation rule 2: path_regex: "), "{error}");
    for rule in [
        "age: [[age1a]]",
        "age: {a: b}",
        "age: [age1a, '']",
        "encrypted_regex: '('",
        "encrypted_regex: a\n    unencrypted_suffix: b",
    ] {
        let config = parse(&format!("creation_rules:\n  - {rule}\n"));
        let error = config.rule_for("x").expect_err(rule).to_string();
        assert!(error.starts_with("creation rule 1: "), "{error}");
    }
}

#[test]
fn recipients_of_all_rules_are_the_common_ones() {
    let text =
        "creation_rules: [{age: 'age1a,age1b'}, {key_groups: [{age: [age1c]}, {age: [age1b, age1a]}]}]";
    assert_eq!(parse(text).common_recipients(), Ok(vec!["age1a".to_owned(), "age1b".to_owned()]));
    let text = "creation_rules: [{age: age1a}, {age: age1b}]";
    assert_eq!(parse(text).common_recipients(), Ok(Vec::new()));
    assert_eq!(parse("").common_recipients(), Ok(Vec::new()));
}

#[test]
fn a_text_counts_as_it_is_spelled() {
    for (value, path) in
        [("1.10", "1.10"), ("True", "True"), ("0x10", "0x10"), ("012", "012"), ("1_000", "1_000")]
    {
        for text in [
            format!("creation_rules:\n  - path_regex: {value}\n    age: A\n"),
            format!("b: &b {{age: A}}\ncreation_rules: [{{<<: *b, path_regex: {value}}}]\n"),
        ] {
            let config = parse(&text);
            assert!(config.rule_for(path).expect("usable").is_some(), "{text}");
            assert_eq!(config.rule_for("x"), Ok(None), "{text}");
        }
    }
    assert_eq!(recipients("creation_rules: [{key_groups: [{age: [1.10]}]}]"), [["1.10"]]);
    assert!(parse("creation_rules: [{path_regex: ~, encrypted_regex: null}]").rule_for("x").is_ok());
    let rule = |text: &str| parse(text).rule_for("x").expect("usable").expect("a rule").clone();
    for flag in ["y", "Yes", "YES", "on", "On", "true", "TRUE", "'yes'"] {
        assert!(
            rule(&format!("creation_rules: [{{mac_only_encrypted: {flag}}}]")).mac_only_encrypted,
            "{flag}"
        );
    }
    for flag in ["'true'", "1", "''", "yEs"] {
        assert!(
            Config::parse(&format!("creation_rules: [{{mac_only_encrypted: {flag}}}]")).is_err(),
            "{flag}"
        );
    }
    for (number, wanted) in [("2", 2), ("2.9", 2), ("-1", -1), ("0x3", 3), ("1e1", 10), ("~", 0)] {
        let text = format!("creation_rules: [{{shamir_threshold: {number}}}]");
        assert_eq!(rule(&text).shamir_threshold, wanted, "{number}");
    }
}

#[test]
fn null_items_do_not_count() {
    assert_eq!(recipients("creation_rules: [~, {age: A}]"), [["A"]]);
    assert_eq!(recipients("creation_rules:\n  - key_groups:\n    - age: [A, ~]\n    -\n"), [["A"]]);
    assert_eq!(recipients("creation_rules: [{key_groups: [~], age: A}]"), [["A"]]);
    assert_eq!(recipients("creation_rules: [{key_groups: [{merge: [~, {age: [A]}]}]}]"), [["A"]]);
    // An empty mapping is a group.
    assert_eq!(
        recipients("creation_rules: [{key_groups: [{}, {age: ['']}]}]"),
        [Vec::<String>::new(), Vec::new()]
    );
}

#[test]
fn keys_that_sops_does_not_know_are_named_with_their_line() {
    let text = "keys: [&a A]\ncreation_rule: []\ncreation_rules:\n  - path_regexp: x\n    age: *a\n  - age: A\n    \
                note: for us\n    key_groups:\n      - aeg: [A]\nstores: {yaml: {indnt: 2}}\n";
    let keys: Vec<_> = parse(text)
        .unknown_keys
        .into_iter()
        .map(|unknown| (unknown.rule, unknown.line, unknown.key, unknown.meant))
        .collect();
    assert_eq!(
        keys,
        [
            (None, 2, "creation_rule".to_owned(), Some("creation_rules")),
            (Some(1), 4, "path_regexp".to_owned(), Some("path_regex")),
            (Some(2), 7, "note".to_owned(), None),
            (Some(2), 9, "aeg".to_owned(), Some("age")),
            (None, 10, "indnt".to_owned(), Some("indent")),
        ]
    );
    assert_eq!(parse(TYPICAL).unknown_keys, []);
}

#[test]
fn conflict_markers_are_called_by_their_name() {
    let text = "creation_rules:\n<<<<<<< HEAD\n  - age: A\n=======\n  - age: B\n>>>>>>> b1\n";
    assert_eq!(Config::parse(text), Err(Error::Conflict { line: 2 }));
}

#[test]
fn aliases_of_aliases_are_bounded() {
    let mut text = "a0: &a0 {age: [A]}\n".to_owned();
    for at in 1..40 {
        let before = at - 1;
        text.push_str(&format!("a{at}: &a{at} {{merge: [*a{before}, *a{before}]}}\n"));
    }
    text.push_str("creation_rules: [{key_groups: [*a39]}]\n");
    let error = Config::parse(&text).expect_err("a bomb").to_string();
    assert!(error.contains("more than"), "{error}");
    for cycle in ["{merge: [*g]}", "{<<: *g}"] {
        let text = format!("creation_rules: [{{key_groups: [&g {cycle}]}}]\n");
        assert!(Config::parse(&text).is_err(), "{text}");
    }
}

#[test]
fn a_text_with_a_byte_order_mark_is_read() {
    assert_eq!(recipients("\u{feff}creation_rules: [{age: A}]"), [["A"]]);
    assert_eq!(recipients("{\"creation_rules\":[{\"age\":\"A\"}]}"), [["A"]]);
}

#[test]
fn only_the_first_document_counts() {
    for end in ["---\n", "...\n", "--- # more\ncreation_rules: [\n", "---\ncreation_rules: [{age: age1b}]\n"]
    {
        for start in ["", "# comment\n---\n", "%YAML 1.1\n---\n"] {
            let text = format!("{start}creation_rules:\n  - age: age1a\n{end}");
            assert_eq!(recipients(&text), [["age1a"]], "{text}");
            let host = edit::NewHost { name: "web", recipient: "age1w", path: "web.yaml", readers: &[] };
            let after = edit::add_host(&text, host).expect(&text);
            assert!(after.ends_with(end) && after.contains("&web age1w"), "{after}");
        }
    }
}
