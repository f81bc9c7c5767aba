//! Keys in and out of rules of every form, and every byte beside them.

use proptest::prelude::*;

use super::*;

const CAROL: &str = "age1carol";

fn add(text: &str, rules: &[usize]) -> Result<String, Error> {
    add_key(text, NewKey { name: "carol", recipient: CAROL, rules, group: None })
}

fn remove(text: &str, recipient: &str) -> Result<String, Error> {
    remove_key(text, &|other| other == recipient)
}

/// The first rule's recipients before and after, and the two texts of it.
fn changed(before: &str, after: &str) {
    let keys = "keys:\n  - &alice age1alice\n  - &bob age1bob\n";
    let text = format!("{keys}creation_rules:\n{before}");
    let added = add(&text, &[0]).expect(&text);
    let wanted = format!("{keys}  - &carol age1carol\ncreation_rules:\n{after}");
    assert_eq!(added, wanted);
}

#[test]
fn a_key_goes_into_a_rule_of_any_form() {
    for (before, after) in [
        ("  - age: [*alice, *bob]\n", "  - age: [*alice, *bob, *carol]\n"),
        ("  - age: [*alice]  # them\n", "  - age: [*alice, *carol]  # them\n"),
        ("  - age: []\n", "  - age: [*carol]\n"),
        ("  - age:\n    path_regex: x\n", "  - age: [*carol]\n    path_regex: x\n"),
        ("  - age: [*alice,*bob]\n", "  - age: [*alice,*bob, *carol]\n"),
        ("  - {age: [*alice], path_regex: x}\n", "  - {age: [*alice, *carol], path_regex: x}\n"),
        ("  - age: age1alice,age1bob\n", "  - age: age1alice,age1bob,age1carol\n"),
        ("  - age: age1alice, age1bob # them\n", "  - age: age1alice, age1bob, age1carol # them\n"),
        ("  - age: age1alice\n", "  - age: age1alice,age1carol\n"),
        ("  - age: 'age1alice'\n", "  - age: 'age1alice,age1carol'\n"),
        ("  - age: \"age1alice, age1bob\"\n", "  - age: \"age1alice, age1bob, age1carol\"\n"),
        ("  - age: *alice\n", "  - age: [*alice, *carol]\n"),
        ("  - age: &a age1alice\n", "  - age: [&a age1alice, *carol]\n"),
        (
            "  - age: >-\n      age1alice,\n      age1bob\n    path_regex: x\n",
            "  - age: >-\n      age1alice,\n      age1bob,\n      age1carol\n    path_regex: x\n",
        ),
        ("  - age: |\n      age1alice\n", "  - age: |\n      age1alice,age1carol\n"),
        ("  - age: age1alice,\n      age1bob\n", "  - age: age1alice,\n      age1bob,\n      age1carol\n"),
        (
            "  - age:\n      - *alice # first\n      # last\n      - age1bob # second\n\n  - age: age1x\n",
            "  - age:\n      - *alice # first\n      # last\n      - age1bob # second\n      - *carol\n\n  - age: age1x\n",
        ),
        ("  - age:\n    - age1alice,age1bob", "  - age:\n    - age1alice,age1bob\n    - *carol"),
        (
            "  - age:\n    -   >-\n        age1alice\n",
            "  - age:\n    -   >-\n        age1alice\n    -   *carol\n",
        ),
        (
            "  - age: [\n      *alice, # first\n      *bob # second\n    ]\n",
            "  - age: [\n      *alice, # first\n      *bob, # second\n      *carol\n    ]\n",
        ),
        (
            "  - age: [\n      *alice,\n      *bob,\n    ]\n",
            "  - age: [\n      *alice,\n      *bob,\n      *carol,\n    ]\n",
        ),
        (
            "  - key_groups:\n      - pgp: [X]\n        age:\n          - *alice\n",
            "  - key_groups:\n      - pgp: [X]\n        age:\n          - *alice\n          - *carol\n",
        ),
        (
            "  - key_groups:\n    - merge:\n      - age: [*bob]\n      age: [*alice]\n",
            "  - key_groups:\n    - merge:\n      - age: [*bob]\n      age: [*alice, *carol]\n",
        ),
    ] {
        changed(before, after);
    }
}

#[test]
fn names_go_where_names_are() {
    for (before, after) in [
        ("keys: [&a age1a]\n", "keys: [&a age1a, &carol age1carol]\n"),
        ("keys: []\n", "keys: [&carol age1carol]\n"),
        ("keys: {a: &a age1a}\n", "keys: {a: &a age1a, carol: &carol age1carol}\n"),
        (
            "keys: [ # all\n  &a age1a, # a\n  &b age1b # b\n]\n",
            "keys: [ # all\n  &a age1a, # a\n  &b age1b, # b\n  &carol age1carol\n]\n",
        ),
        ("keys:\n  - &a age1a\n", "keys:\n  - &a age1a\n  - &carol age1carol\n"),
        ("keys:\n  a: &a age1a\n", "keys:\n  a: &a age1a\n  carol: &carol age1carol\n"),
    ] {
        let rules = "creation_rules:\n  - age: age1x\n";
        assert_eq!(add(&format!("{before}{rules}"), &[]), Ok(format!("{after}{rules}")));
    }
}

#[test]
fn a_known_name_only_goes_into_the_rules() {
    let text = "keys: [&carol age1carol]\ncreation_rules:\n  - age: [age1a]\n  - age: [age1a, *carol]\n";
    let after = add(text, &[0, 1]).expect("added");
    assert_eq!(after, text.replace("[age1a]", "[age1a, *carol]"));
    assert_eq!(add(&after, &[0, 1]), Ok(after));
}

#[test]
fn a_name_below_the_rules_is_no_alias_there() {
    let text = "creation_rules:\n  - age: [age1a]\nkeys:\n  - &a age1a\n";
    let after = add(text, &[0]).expect("added");
    assert_eq!(
        after,
        "creation_rules:\n  - age: [age1a, age1carol]\nkeys:\n  - &a age1a\n  - &carol age1carol\n"
    );
}

#[test]
fn a_list_that_rules_share_takes_a_key_for_all_of_them_or_none() {
    let text = "keys:\n  - &a age1a\nteam: &team [*a]\ncreation_rules:\n  - path_regex: x\n    age: *team\n  - age: *team\n";
    let after = add(text, &[0, 1]).expect("added");
    assert!(after.contains("team: &team [*a, *carol]\n"), "{after}");
    let error = add(text, &[1]).expect_err("one of two").to_string();
    assert!(error.contains("rules share lists"), "{error}");
}

#[test]
fn of_several_groups_one_must_be_named() {
    let text = "creation_rules:\n  - key_groups:\n      - age: [age1a]\n      - age: [age1b]\n";
    let error = add(text, &[0]).expect_err("which").to_string();
    assert!(error.contains("2 key groups; choose one with --group"), "{error}");
    let key = NewKey { name: "carol", recipient: CAROL, rules: &[0], group: Some(1) };
    let after = add_key(text, key).expect("added");
    assert!(after.ends_with("      - age: [age1a]\n      - age: [age1b, *carol]\n"), "{after}");
    assert!(add_key(text, NewKey { group: Some(2), ..key }).is_err());
}

#[test]
fn what_cannot_take_a_key_is_said() {
    for (text, reason) in [
        ("creation_rules:\n  - pgp: X\n", "creation rule 1: it has no list of age recipients"),
        (
            "keys:\n  - &carol age1other\ncreation_rules:\n  - age: x\n",
            "line 2: the name carol is already in use",
        ),
        (
            "keys: [&carol age1other]\ncreation_rules:\n  - age: x\n",
            "line 1: the name carol is already in use",
        ),
        ("creation_rules:\n  - age: x\n    encrypted_regex: '('\n", "creation rule 1"),
        ("creation_rules: {\n", "could not read the rules"),
    ] {
        let error = add(text, &[0]).expect_err(text).to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
}

#[test]
fn a_key_goes_out_of_every_form() {
    for (before, after) in [
        ("  - age: [*alice, *bob]\n", "  - age: [*alice]\n"),
        ("  - age: [*bob, *alice] # them\n", "  - age: [*alice] # them\n"),
        ("  - age: age1alice,age1bob\n", "  - age: age1alice\n"),
        ("  - age: age1bob, age1alice\n", "  - age: age1alice\n"),
        ("  - age: \"age1x,age1bob,age1alice\"\n", "  - age: \"age1x,age1alice\"\n"),
        ("  - age: >-\n      age1alice,\n      age1bob\n", "  - age: >-\n      age1alice\n"),
        ("  - age: >-\n      age1bob,\n      age1alice\n", "  - age: >-\n      age1alice\n"),
        (
            "  - age:\n      - *alice\n      # about him\n      - *bob # him\n      # more\n",
            "  - age:\n      - *alice\n      # about him\n      # more\n",
        ),
        ("  - age:\n    - age1bob,age1alice\n    - *bob\n", "  - age:\n    - age1alice\n"),
        ("  - age: [\n      *alice, # a\n      *bob, # b\n    ]\n", "  - age: [\n      *alice, # a\n    ]\n"),
        ("  - age: *bob\n    pgp: X\n", "  - pgp: X\n"),
        ("  - path_regex: x\n    age: *bob\n    pgp: X\n", "  - path_regex: x\n    pgp: X\n"),
        (
            "  - key_groups:\n      - age:\n          - *bob\n        pgp: [X]\n      - age: [*alice]\n",
            "  - key_groups:\n      - age:\n        pgp: [X]\n      - age: [*alice]\n",
        ),
    ] {
        let text = |rule: &str, bob: &str| {
            format!("keys:\n  - &alice age1alice\n{bob}creation_rules:\n{rule}# the end\n")
        };
        let before = text(before, "  # bob\n  - &bob age1bob # his\n");
        assert_eq!(remove(&before, "age1bob"), Ok(text(after, "  # bob\n")), "{before}");
    }
}

#[test]
fn a_name_goes_out_of_every_form_of_keys() {
    for (before, after) in [
        ("keys: [&alice age1alice, &bob age1bob]\n", "keys: [&alice age1alice]\n"),
        ("keys: [&bob age1bob]\n", "keys: []\n"),
        ("keys: {a: &alice age1alice, b: &bob age1bob}\n", "keys: {a: &alice age1alice}\n"),
        ("keys:\n  bob: &bob age1bob\n", "keys:\n"),
        ("keys:\n  - &bob >-\n    age1bob\n  - x\n", "keys:\n  - x\n"),
        ("keys:\n  - bob: &bob age1bob\n  - x\n", "keys:\n  - x\n"),
        ("keys:\n  - users:\n    - &bob age1bob\n  - x\n", "keys:\n  - users:\n  - x\n"),
        ("keys:\n  - age1bob\n  - age1bob", "keys:"),
    ] {
        assert_eq!(remove(before, "age1bob"), Ok(after.to_owned()), "{before}");
    }
}

#[test]
fn nobody_takes_the_last_recipient_of_a_rule_away() {
    for text in [
        "creation_rules:\n  - age: age1bob\n",
        "creation_rules:\n  - age: [age1x]\n  - key_groups:\n      - age: [age1bob]\n      - age: [age1x]\n",
    ] {
        let error = remove(text, "age1bob").expect_err(text).to_string();
        assert!(error.contains("no recipient left"), "{error}");
    }
    assert!(remove("creation_rules:\n  - age: age1x\n", "age1bob").is_err());
}

/// How a rule names its recipients, and the texts around them.
#[derive(Clone, Debug)]
struct Form {
    style: usize,
    members: Vec<usize>,
    comment: bool,
    blank: bool,
}

fn forms() -> impl Strategy<Value = Vec<Form>> {
    let form = (0..9_usize, prop::collection::btree_set(0..4_usize, 1..4), any::<bool>(), any::<bool>())
        .prop_map(|(style, members, comment, blank)| Form {
            style,
            members: members.into_iter().collect(),
            comment,
            blank,
        });
    prop::collection::vec(form, 1..6)
}

fn file(forms: &[Form], keys: usize, crlf: bool, ended: bool) -> String {
    let anchors = |pad: &str, sep: &str| {
        (0..4).map(|key| format!("{pad}&k{key} age1k{key}")).collect::<Vec<_>>().join(sep)
    };
    let mut text = match keys {
        0 => format!("# é\nkeys:\n{} # last\n", anchors("  - ", "\n")),
        1 => format!("keys: [{}]\n", anchors("", ", ")),
        2 => format!("keys: [\n{}, # last\n]\n", anchors("  ", ",\n")),
        _ => format!("keys:\n- users: # us\n{}\n", anchors("  - ", " # x\n")),
    };
    text.push_str("creation_rules:\n");
    for (index, form) in forms.iter().enumerate() {
        let list = |pad: &str, sep: &str, sign: &str| {
            let spelled: Vec<_> = form.members.iter().map(|key| format!("{pad}{sign}{key}")).collect();
            spelled.join(sep)
        };
        let comment = if form.comment { " # why: &not [an] alias *k1" } else { "" };
        let age = match form.style {
            0 => format!("    age: [{}]{comment}", list("", ", ", "*k")),
            1 => format!("    age:{comment}\n{}", list("      - ", &format!("{comment}\n"), "*k")),
            2 => format!("    age: {}{comment}", list("", ",", "age1k")),
            3 => format!("    age: >-\n{}", list("      ", ",\n", "age1k")),
            4 => format!("    age: \"{}\"{comment}", list("", ", ", "age1k")),
            5 => format!("    key_groups:\n    - age:\n{}{comment}", list("      - ", "\n", "age1k")),
            6 => format!("    key_groups:\n      - age: [{}]{comment}\n        pgp: []", list("", ",", "*k")),
            7 => format!("    age: [\n{},{comment}\n    ]", list("      ", ",\n", "*k")),
            _ => format!("    age: '{}'{comment}", list("", " , ", "age1k")),
        };
        text.push_str(&format!("  - path_regex: ^file{index}$\n{age}\n"));
        if form.blank {
            text.push_str("\n  # the next\n");
        }
    }
    if !ended {
        text.truncate(text.trim_end().len());
    }
    if crlf { text.replace('\n', "\r\n") } else { text }
}

/// Whether all bytes of the one stand in the other, in their order.
fn within(one: &str, other: &str) -> bool {
    let mut bytes = other.bytes();
    one.bytes().all(|byte| bytes.any(|other| other == byte))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_goes_in_comes_out_again_and_nothing_else_changes(
        forms in forms(), keys in 0..4_usize, crlf: bool, ended: bool, picked in any::<u8>(),
    ) {
        let text = file(&forms, keys, crlf, ended);
        let rules: Vec<usize> = (0..forms.len()).filter(|rule| picked & (1 << rule) != 0).collect();
        let added = add(&text, &rules).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
        prop_assert!(within(&text, &added), "{added}");
        let config = Config::parse(&added).expect("it parses");
        for (index, rule) in config.rules().expect("usable").iter().enumerate() {
            prop_assert_eq!(rule.recipients().any(|one| one == CAROL), rules.contains(&index));
        }
        let removed = remove(&added, CAROL).map_err(|error| TestCaseError::fail(format!("{error}\n{added}")))?;
        prop_assert_eq!(removed, text);
    }

    #[test]
    fn who_goes_leaves_every_other_byte(
        forms in forms(), keys in 0..4_usize, crlf: bool, ended: bool, who in 0..4_usize,
    ) {
        let text = file(&forms, keys, crlf, ended);
        let alone = forms.iter().any(|form| form.members == [who]);
        match remove(&text, &format!("age1k{who}")) {
            Err(error) => prop_assert!(alone, "{error}\n{text}"),
            Ok(after) => {
                prop_assert!(!alone && within(&after, &text), "{after}");
                let rest = after.replace("*k1", "");
                prop_assert!(!rest.contains(&format!("k{who}")) || who == 1 && !rest.contains("age1k1"), "{after}");
                let kept = text.lines().filter(|line| !line.contains(&format!("k{who}")));
                let mut lines = after.lines();
                for line in kept.filter(|line| !line.contains("k0") && !line.contains("why")) {
                    let bare = line.trim_end_matches([',', '\r']);
                    let same = |new: &str| new.trim_end_matches([',', '\r']) == bare;
                    prop_assert!(line.contains('k') || lines.any(same), "{line:?} is gone from\n{after}");
                }
            }
        }
    }
}
