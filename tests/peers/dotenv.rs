//! Dotenv files between civm and the real sops, both ways.

use proptest::prelude::*;

use super::texts::{Tools, each};

const PLAIN: &str =
    "# top\nFIRST=one\nexport SECOND=\"two\"\n#inside\nLINES=a\\nb\nCLEAR_unencrypted=x\nLAST=\n";
const OTHER: &str = "age10yxnlmgmfxvptr92k8mj0y4sz2qnkwyf98k4gku43kyps0e8a5ws9nauq8";

/// Pieces of names and values, each of which some reader of such files treats in its own way.
const PIECES: [&str; 24] = [
    "A", "B_C", "export ", " ", "\t", "\"", "'", "\\n", "\\", "\\\\", "#", "x", "1.5", "true", "$A", "ä€",
    "`", ";", ":", "\r", "ENC[", "sops", "null", "\u{feff}",
];

fn text(pieces: usize) -> impl Strategy<Value = String> {
    proptest::collection::vec((0..PIECES.len()).prop_map(|at| PIECES[at]), 0..pieces)
        .prop_map(|pieces| pieces.concat())
}

fn line() -> impl Strategy<Value = String> {
    let entry = (text(3), text(6)).prop_map(|(name, value)| format!("{name}={value}"));
    prop_oneof![
        8 => entry,
        2 => text(4).prop_map(|text| format!("#{text}")),
        1 => Just(String::new()),
    ]
}

pub fn file() -> impl Strategy<Value = String> {
    (proptest::collection::vec(line(), 0..8), any::<bool>())
        .prop_map(|(lines, end)| lines.join("\n") + if end { "\n" } else { "" })
}

#[test]
fn random_files_agree_with_sops_both_ways() {
    let Some(tools) = Tools::new() else { return };
    each(30, file(), |text| tools.agree_on("env", text.as_bytes()));
}

#[test]
fn files_of_bytes_agree_with_sops_both_ways() {
    let Some(tools) = Tools::new() else { return };
    for plain in [
        b"".as_slice(),
        b"\n",
        b"=",
        b"A=1\r\nB=2\r\n",
        b"A=\xff\xfe\n#\xe9\n",
        b"no sign\n",
        b"A=1\n\r\n",
        b"A=1\nA=2\nA=\n",
        b"sops_mac=x\n",
        b"A=b\0c\n",
    ] {
        tools.agree_on("env", plain).unwrap_or_else(|error| panic!("{plain:?}: {error}"));
    }
}

#[test]
fn values_of_other_formats_are_spelled_as_sops_spells_them() {
    let Some(tools) = Tools::new() else { return };
    let scalar = prop_oneof![
        any::<f64>()
            .prop_filter("JSON has no others", |number| number.is_finite())
            .prop_map(|number| { serde_json::Value::from(number) }),
        (-400_i32..400).prop_map(|exponent| serde_json::Value::from(2_f64.powi(exponent))),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<bool>().prop_map(serde_json::Value::from),
        text(6).prop_map(serde_json::Value::from),
        "[a\\\\n\n\r]{0,6}".prop_map(serde_json::Value::from),
    ];
    each(8, proptest::collection::vec(scalar, 1..12), |values| {
        let entries = values.into_iter().enumerate().map(|(at, value)| (format!("k{at}"), value));
        let json = serde_json::Value::Object(entries.collect()).to_string();
        tools.scene.write("plain.json", json);
        let args = ["encrypt", "--age", &tools.recipient, "--output-type", "dotenv", "plain.json"];
        let encrypted = tools.sops(&args);
        prop_assert_eq!(encrypted.code, 0, "{}", encrypted.stderr);
        tools.scene.write("theirs.env", &encrypted.stdout);
        let (want, got) = (tools.sops(&["decrypt", "theirs.env"]), tools.civm(&["decrypt", "theirs.env"]));
        prop_assert_eq!(want.code, got.code, "{}", got.stderr);
        prop_assert_eq!(want.out(), got.out());
        Ok(())
    });
}

#[test]
fn single_values_are_had_as_sops_extracts_them() {
    let Some(tools) = Tools::new() else { return };
    tools.sops_encrypts("plain.env", PLAIN, "s.env").ok();
    for path in ["[\"FIRST\"]", "[\"export SECOND\"]", "[\"LINES\"]", "[\"LAST\"]", "[\"NONE\"]"] {
        let want = tools.sops(&["decrypt", "--extract", path, "s.env"]);
        let got = tools.civm(&["get", "s.env", path]);
        assert_eq!((want.code, want.out()), (got.code, got.out()), "{path}: {}", got.stderr);
    }
}

#[test]
fn an_edit_changes_the_lines_that_sops_changes() {
    let Some(tools) = Tools::new() else { return };
    let edits = ["s/=one/=changed/", "/inside/d", "s/# top/# bottom/", "s/LAST=/LAST=x/", "/FIRST/d"];
    tools.edit_alike("env", PLAIN, &edits);
}

#[test]
fn a_value_that_an_edit_would_change_unasked_is_not_shown_to_an_editor() {
    let Some(tools) = Tools::new() else { return };
    tools.scene.write("plain.json", "{\"A\": \"C:\\\\new\"}");
    let args = ["encrypt", "--age", &tools.recipient, "--output-type", "dotenv", "plain.json"];
    tools.scene.write("s.env", tools.sops(&args).ok().stdout);
    assert_eq!(tools.civm(&["decrypt", "s.env"]).ok().out(), tools.sops(&["decrypt", "s.env"]).ok().out());
    let before = tools.scene.read("s.env");
    let ran = tools.civm_edits("s.env", "sed -i 1iB=1").code(4);
    assert!(ran.stderr.contains("[\"A\"]"), "{}", ran.stderr);
    assert_eq!(tools.scene.read("s.env"), before);
}

#[test]
fn updatekeys_leaves_what_sops_leaves() {
    let Some(tools) = Tools::new() else { return };
    tools.update_alike("env", PLAIN, OTHER);
}

#[test]
fn groups_and_thresholds_are_flattened_as_sops_does() {
    let Some(tools) = Tools::new() else { return };
    let groups = format!("      - age: [{0}]\n      - age: [{0}, {OTHER}]\n", tools.recipient);
    let rules = format!(
        "creation_rules:\n  - shamir_threshold: 2\n    mac_only_encrypted: true\n    encrypted_regex: ^F\n    key_groups:\n{groups}"
    );
    tools.scene.write(".sops.yaml", rules);
    for (ending, plain) in [("env", PLAIN), ("ini", "; c\n[s]\nFIRST = 1\nlast = `a;b`\n")] {
        let names = ["plain", "theirs", "ours"].map(|name| format!("{name}.{ending}"));
        tools.scene.write(&names[0], plain);
        let theirs = tools.sops(&["encrypt", &names[0]]).ok();
        let ours = tools.civm(&["encrypt", &names[0]]).ok();
        assert_eq!(super::texts::shape(&theirs.stdout), super::texts::shape(&ours.stdout));
        tools.scene.write(&names[1], &theirs.stdout);
        tools.scene.write(&names[2], &ours.stdout);
        assert_eq!(
            tools.sops(&["decrypt", &names[2]]).ok().out(),
            tools.civm(&["decrypt", &names[1]]).ok().out()
        );
    }
}
