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
fn a_text_that_yaml_reads_as_something_else_is_to_be_quoted() {
    for (field, value) in
        [("path_regex", "1.10"), ("encrypted_suffix", "True"), ("unencrypted_regex", "0x10")]
    {
        for text in [
            format!("creation_rules:\n  - {field}: {value}\n"),
            format!("b: &b {{}}\ncreation_rules: [{{<<: *b, {field}: {value}}}]\n"),
        ] {
            let error = Config::parse(&text).expect_err(&text).to_string();
            assert!(
                error.contains(field) && error.contains("line 2") && error.contains("quote it"),
                "{error}"
            );
        }
        parse(&format!("creation_rules:\n  - {field}: '{value}'\n"));
    }
    assert!(Config::parse("creation_rules: [{key_groups: [{age: [1.10]}]}]").is_err());
    assert!(parse("creation_rules: [{path_regex: ~, encrypted_regex: null}]").rule_for("x").is_ok());
}

#[test]
fn only_the_first_document_counts() {
    for end in ["---\n", "...\n", "--- # more\ncreation_rules: [\n", "---\ncreation_rules: [{age: age1b}]\n"]
    {
        for start in ["", "# comment\n---\n", "%YAML 1.2\n---\n"] {
            let text = format!("{start}creation_rules:\n  - age: age1a\n{end}");
            assert_eq!(recipients(&text), [["age1a"]], "{text}");
            let host = edit::NewHost { name: "web", recipient: "age1w", path: "web.yaml", readers: &[] };
            let after = edit::add_host(&text, host).expect(&text);
            assert!(after.ends_with(end) && after.contains("&web age1w"), "{after}");
        }
    }
}
