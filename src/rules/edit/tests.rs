//! Whole files before and after.

use super::*;

const WEB: &str = "age1web";

fn added(text: &str) -> Result<String, Error> {
    let readers = Config::parse(text)?.common_recipients()?;
    let host = NewHost { name: "web", recipient: WEB, path: "hosts/web/secrets.yaml", readers: &readers };
    add_host(text, host)
}

/// Adds the host, and makes sure that every line that was there is there still, byte for byte and in
/// its order.
fn lines_added(text: &str) -> String {
    let after = added(text).expect(text);
    let mut new = after.split_inclusive('\n');
    for line in text.split_inclusive('\n') {
        let same =
            |new: &str| new == line || (!line.ends_with('\n') && new.trim_end_matches(['\r', '\n']) == line);
        assert!(new.any(same), "{line:?} is gone from {after}");
    }
    let config = Config::parse(&after).expect("it parses");
    let rule = config.rule_for("hosts/web/secrets.yaml").expect("usable").expect("a rule");
    assert!(rule.recipients().any(|recipient| recipient == WEB));
    after
}

#[test]
fn a_host_goes_in_front_of_the_rule_that_would_have_matched_it() {
    let before = "\
# who
keys:
  # people
  - &alice age1alice
  # hosts
  - &db age1db # the database

creation_rules:
  # the database
  - path_regex: hosts/db/secrets\\.yaml$
    key_groups:
      - age:
          - *alice
          - *db
  # everything else
  - path_regex: .*
    key_groups:
      - age:
          - *alice
stores:
  yaml:
    indent: 2
";
    let after = "\
# who
keys:
  # people
  - &alice age1alice
  # hosts
  - &db age1db # the database
  - &web age1web

creation_rules:
  # the database
  - path_regex: hosts/db/secrets\\.yaml$
    key_groups:
      - age:
          - *alice
          - *db
  - path_regex: hosts/web/secrets\\.yaml$
    key_groups:
      - age:
          - *alice
          - *web
  # everything else
  - path_regex: .*
    key_groups:
      - age:
          - *alice
stores:
  yaml:
    indent: 2
";
    assert_eq!(lines_added(before), after);
}

#[test]
fn without_a_rule_that_matches_it_goes_last() {
    let before = "\
keys:
- &alice age1alice
creation_rules:
- path_regex: hosts/a/

  key_groups:
  - age: [*alice]

- path_regex: hosts/b/
  key_groups:
  - age: [*alice]
    # - age1gone

# the end
";
    let after = "\
keys:
- &alice age1alice
- &web age1web
creation_rules:
- path_regex: hosts/a/

  key_groups:
  - age: [*alice]

- path_regex: hosts/b/
  key_groups:
  - age: [*alice]
    # - age1gone

- path_regex: hosts/web/secrets\\.yaml$
  key_groups:
  - age: [*alice, *web]

# the end
";
    assert_eq!(lines_added(before), after);
}

#[test]
fn a_text_with_commas_stays_the_style() {
    let before = "creation_rules:\n  - age: >-\n      age1alice,\n      age1bob\n";
    let after = "\
keys:
  - &web age1web
creation_rules:
  - path_regex: hosts/web/secrets\\.yaml$
    age: >-
      age1alice,
      age1bob,
      age1web
  - age: >-
      age1alice,
      age1bob
";
    assert_eq!(lines_added(before), after);
}

#[test]
fn lists_of_a_rule_stay_the_style() {
    let block = lines_added("creation_rules:\n    -   path_regex: zzz\n        age:\n        - age1alice\n");
    let new =
        "    -   path_regex: hosts/web/secrets\\.yaml$\n        age:\n        - age1alice\n        - *web\n";
    assert!(block.ends_with(new), "{block}");
    let flow = lines_added("creation_rules:\n  - path_regex: zzz\n    age: [ 'age1alice' ]\n");
    assert!(flow.ends_with("    age: [age1alice, *web]\n"), "{flow}");
}

#[test]
fn other_layouts_of_the_keys_are_followed() {
    for (before, anchor) in [
        ("keys:\n", "keys:\n  - &web age1web\n"),
        ("keys: # all\n  - age1x\n", "  - age1x\n  - &web age1web\n"),
        (
            "keys:\n  - users:\n    - &a age1a\n  - hosts:\n    - &b age1b\n",
            "    - &b age1b\n    - &web age1web\n",
        ),
        ("keys:\n  a: &a age1a\n", "  a: &a age1a\n  web: &web age1web\n"),
        ("keys:\n  - &a >-\n    age1a\n\n", "    age1a\n  - &web age1web\n\n"),
        ("keys:\n  -   &a 'age1a'\n", "  -   &web age1web\n"),
    ] {
        let after = lines_added(&format!("{before}creation_rules:\n  - age: age1a\n"));
        assert!(after.contains(anchor), "{after}");
    }
}

#[test]
fn keys_in_brackets_take_the_new_one_there() {
    let text = "keys: [&a age1a] # all\ncreation_rules:\n  - path_regex: zzz\n    age: [*a]\n";
    assert_eq!(
        added(text).expect("added"),
        "keys: [&a age1a, &web age1web] # all\ncreation_rules:\n  - path_regex: zzz\n    age: [*a]\n  \
         - path_regex: hosts/web/secrets\\.yaml$\n    age: [*a, *web]\n"
    );
}

#[test]
fn line_ends_survive() {
    let before = "keys:\r\n  - &a age1a\r\ncreation_rules:\r\n  - path_regex: x\r\n    age: [*a]\r\n";
    let after = lines_added(before);
    assert_eq!(after.matches('\n').count(), after.matches("\r\n").count());
    let unfinished = before.trim_end();
    let after = lines_added(unfinished);
    assert!(after.ends_with("age: [*a, *web]"), "{after:?}");
    assert_eq!(after.matches('\n').count(), after.matches("\r\n").count());
}

#[test]
fn a_file_without_rules_gets_them() {
    for before in
        ["", "# nothing yet\n", "stores:\n  yaml:\n    indent: 2", "keys:\n  - &a age1a", "creation_rules:\n"]
    {
        lines_added(before);
    }
    assert_eq!(
        lines_added("# nothing yet\n"),
        "# nothing yet\nkeys:\n  - &web age1web\ncreation_rules:\n  - path_regex: hosts/web/secrets\\.yaml$\n    \
         key_groups:\n      - age:\n          - *web\n"
    );
}

#[test]
fn a_name_below_the_rules_is_not_used_there() {
    let before = "creation_rules:\n  - path_regex: x\n    age: [age1a]\nkeys:\n  - &a age1a\n";
    let after = lines_added(before);
    assert!(after.contains("    age: [age1a, age1web]\n"), "{after}");
    assert!(after.ends_with("  - &a age1a\n  - &web age1web\n"), "{after}");
}

#[test]
fn ssh_recipients_are_written_as_they_are() {
    let before = "creation_rules:\n  - age:\n      - ssh-ed25519 AAAA root@host\n";
    assert!(lines_added(before).contains("      - ssh-ed25519 AAAA root@host\n      - *web\n  - age:"));
}

#[test]
fn what_cannot_be_edited_is_refused_and_said() {
    for (text, reason) in [
        ("{\"creation_rules\": [{\"age\": \"age1a\"}]}", "by hand"),
        ("creation_rules: [{age: age1a}]\n", "line 1: the entries of creation_rules"),
        ("keys: one\ncreation_rules:\n  - age: age1a\n", "line 1: keys is not a list"),
        ("keys:\n  nested: 1\n", "line 1: keys is not a list"),
        ("keys:\n  - &web age1other\n", "line 2: the name web is already in use"),
        (
            "creation_rules:\n  - path_regex: hosts/web/secrets\\.yaml$\n    age: age1a\n",
            "there is already a rule",
        ),
        ("creation_rules:\n  - path_regex: '('\n", "creation rule 1: path_regex"),
        ("creation_rules: {\n", "could not read the rules"),
    ] {
        let error = added(text).expect_err(text).to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
    let host = NewHost { name: "a b", recipient: WEB, path: "x", readers: &[] };
    assert!(add_host("", host).is_err());
}

#[test]
fn a_path_becomes_an_expression_for_itself() {
    assert_eq!(path_regex("hosts/a+b/secrets.yaml"), "hosts/a\\+b/secrets\\.yaml$");
}

#[test]
fn a_new_project_starts_with_one_reader() {
    let text = initial("alice", "age1alice").expect("a name");
    let config = Config::parse(&text).expect("it parses");
    let rule = config.rule_for("hosts/x/secrets.yaml").expect("usable").expect("a rule");
    assert_eq!(rule.recipients().collect::<Vec<_>>(), ["age1alice"]);
    assert_eq!(names(&text).get("age1alice").map(String::as_str), Some("alice"));
    let after = lines_added(&text);
    assert!(after.contains("          - *alice\n          - *web\n  - path_regex: secrets"), "{after}");
    assert!(initial("a b", "age1alice").is_err());
    assert!(initial("a", "age1alice\nx: y").is_err());
    assert!(initial("ssh", "ssh-ed25519 AAAA me@host").is_ok());
}

#[test]
fn sops_reads_the_new_rules() {
    const ADMIN: &str = "age1druprrcfruucrc4fm0dcv0ul0y2umnyuaaced7cw3286cs2s93fsymjndv";
    const HOST: &str = "age13039s86ye6tvunasqtkpc6kj4ajjpeln6grfvkkasxjrnpeylceqwn2l6n";
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("hosts/web/secrets.yaml");
    std::fs::create_dir_all(file.parent().expect("hosts/web")).expect("made");
    std::fs::write(&file, "a: b\n").expect("written");
    for rules in [initial("alice", ADMIN).expect("a name"), format!("creation_rules:\n- age: {ADMIN}\n")] {
        let readers = [ADMIN.to_owned()];
        let host =
            NewHost { name: "web", recipient: HOST, path: "hosts/web/secrets.yaml", readers: &readers };
        std::fs::write(dir.path().join(".sops.yaml"), add_host(&rules, host).expect("added"))
            .expect("written");
        let mut sops = std::process::Command::new("sops");
        sops.env_remove("SOPS_AGE_RECIPIENTS").env_remove("SOPS_CONFIG").current_dir(dir.path());
        let Ok(output) = sops.arg("encrypt").arg(&file).output() else {
            println!("skipped: there is no sops on the PATH");
            return;
        };
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let recipients: Vec<_> =
            text.lines().filter_map(|line| line.trim().strip_prefix("recipient: ")).collect();
        assert_eq!(recipients, [ADMIN, HOST], "{}", String::from_utf8_lossy(&output.stderr));
    }
}
