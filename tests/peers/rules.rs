//! Rules that civm changed, read by sops: whom a file is for after a key was added or taken out.

use crate::support::{Scene, peer, run, run_with};

/// A throw-away identity and some recipients; they protect nothing.
const ALICE: &str = "AGE-SECRET-KEY-1E9VMDZS6RHZH4LXZLWLM47QKCY7E59LTC3AKKARMHCA6U5UUL4HSHQLNLK";
const ALICE_AGE: &str = "age1e63wmgw3vaj3veyfsae6ca73qpx8j8xj38r6yk7nk9nvhcr92vvsexht4t";
const BOB_AGE: &str = "age12h7333pd5phz20zqy2xqurkpuanr288ud8lyjxvgh2j6jdu3w4asgvy23q";
const CAROL_AGE: &str = "age1ega644j3ux6kqwm8tyvh4hyzfy9e9rsdtn7f8l2mrjtl7k3075vsgx0fws";

/// A rule for each form in which recipients can be given; `A` and `B` stand for alice and bob.
const FORMS: [&str; 12] = [
    "    age: [*alice, *bob]\n",
    "    age: [ 'A' , \"B\" ] # both\n",
    "    age:\n      - *alice # first\n      - B # second\n",
    "    age: A,B\n",
    "    age: A, B # both\n",
    "    age: 'A,B'\n",
    "    age: >-\n      A,\n      B\n",
    "    age: |\n      A,\n      B\n",
    "    age: [\n      *alice, # first\n      *bob # second\n    ]\n",
    "    age:\n    - A,B\n",
    "    key_groups:\n      - age:\n          - *alice\n          - *bob\n",
    "    key_groups:\n    - merge:\n        - age: [*bob]\n      age: [*alice]\n",
];

fn rules(keys: &str) -> String {
    let mut text = format!("{keys}creation_rules:\n");
    for (index, form) in FORMS.iter().enumerate() {
        let form = form.replace('A', ALICE_AGE).replace('B', BOB_AGE);
        text.push_str(&format!("  # form {index}\n  - path_regex: ^file{index}\\.yaml$\n{form}"));
    }
    text
}

/// The recipients of a file, sorted.
fn recipients(text: &str) -> Vec<String> {
    let of = |line: &str| {
        line.trim_start().trim_start_matches("- ").strip_prefix("recipient: ").map(str::to_owned)
    };
    let mut recipients: Vec<String> = text.lines().filter_map(of).collect();
    recipients.sort();
    recipients
}

/// Demands that sops encrypts the file of every rule for these recipients.
#[track_caller]
fn sops_sees(scene: &Scene, sops: &std::path::Path, wanted: &[&str]) {
    let mut wanted: Vec<&str> = wanted.to_vec();
    wanted.sort_unstable();
    for index in 0..FORMS.len() {
        let name = format!("file{index}.yaml");
        let mut command = scene.command(sops);
        let ran = run_with(
            command.args(["encrypt", "--filename-override", &name, "--input-type", "yaml"]),
            b"a: b\n",
        );
        assert_eq!(recipients(ran.ok().out()), wanted, "form {index}:\n{}", scene.read(".sops.yaml"));
    }
}

#[test]
fn sops_reads_keys_that_were_added_and_taken_out_in_every_form() {
    let Some(sops) = peer("sops") else { return eprintln!("skipped: no sops at hand") };
    for keys in [
        format!("keys:\n  - &alice {ALICE_AGE}\n  - &bob {BOB_AGE} # his\n"),
        format!("keys: [&alice {ALICE_AGE}, &bob {BOB_AGE}]\n"),
        format!("keys:\n  people:\n    alice: &alice {ALICE_AGE}\n    bob: &bob {BOB_AGE}\n"),
    ] {
        let scene = Scene::new();
        let before = rules(&keys);
        scene.write(".sops.yaml", &before);
        sops_sees(&scene, &sops, &[ALICE_AGE, BOB_AGE]);
        run(&mut scene.civm(&["keys", "add", "carol", CAROL_AGE, "--all"])).ok();
        sops_sees(&scene, &sops, &[ALICE_AGE, BOB_AGE, CAROL_AGE]);
        run(&mut scene.civm(&["keys", "rm", "carol"])).ok();
        assert_eq!(scene.read(".sops.yaml"), before);
        run(&mut scene.civm(&["keys", "rm", "bob"])).ok();
        sops_sees(&scene, &sops, &[ALICE_AGE]);
    }
}

#[test]
fn sops_updates_a_file_to_changed_rules_as_civm_sees_it() {
    let Some(sops) = peer("sops") else { return eprintln!("skipped: no sops at hand") };
    let scene = Scene::new();
    scene.write(".sops.yaml", format!("keys: [&alice {ALICE_AGE}]\ncreation_rules:\n- age: [*alice]\n"));
    for name in ["a.yaml", "b.json"] {
        scene.write(name, if name.ends_with("json") { "{\"a\": \"b\"}" } else { "a: b\n" });
        run(scene.command(&sops).args(["encrypt", "-i", name])).ok();
    }
    run(&mut scene.civm(&["secrets", "check"])).ok();
    run(&mut scene.civm(&["keys", "add", "bob", BOB_AGE, "--to", "1"])).ok();
    run(&mut scene.civm(&["secrets", "check"])).code(1);
    let mut update = scene.command(&sops);
    run(update.args(["updatekeys", "-y", "a.yaml", "b.json"]).env("SOPS_AGE_KEY", ALICE)).ok();
    run(&mut scene.civm(&["secrets", "check"])).ok();
    let who = run(&mut scene.civm(&["secrets", "who"])).ok();
    assert_eq!(who.out(), "a.yaml  alice bob\nb.json  alice bob\n");
}

#[test]
fn what_sops_writes_has_nothing_in_clear() {
    let Some(sops) = peer("sops") else { return eprintln!("skipped: no sops at hand") };
    let plain = "# top\na: 1\nb_unencrypted: 2\n# over\nc:\n    # in\n    d: [x, 1.5, true, null, \"\"]\n    e:\n        # item\n        - y # beside\n        - f: 2001-01-01T00:00:00Z\n          # between\n          g: |\n            two\n            lines\n# end\n";
    for selector in [
        "",
        "    encrypted_regex: ^(a|c)$\n",
        "    unencrypted_regex: ^e$\n",
        "    encrypted_comment_regex: ^ *over\n",
        "    mac_only_encrypted: true\n",
    ] {
        let scene = Scene::new();
        scene.write(
            ".sops.yaml",
            format!("creation_rules:\n  - path_regex: ^s\n    age: {ALICE_AGE}\n{selector}"),
        );
        for name in ["s.yaml", "s.json", "s.env", "s.ini", "s.bin"] {
            let text = match name {
                "s.json" => "{\"a\": 1, \"c\": {\"d\": [\"x\", 1.5, null, \"\"]}, \"b_unencrypted\": true}",
                "s.env" => "# top\na=1\nb_unencrypted=2\n",
                "s.ini" => "; top\n[c]\na = 1\n",
                _ => plain,
            };
            scene.write(name, text);
            run(scene.command(&sops).args(["encrypt", "-i", name])).ok();
        }
        for key in [None, Some(ALICE)] {
            let mut check = scene.civm(&["secrets", "check"]);
            if let Some(key) = key {
                check.env("SOPS_AGE_KEY", key);
            }
            let ran = run(&mut check);
            // A selector by comments selects nothing where the format has none, which is pointed out.
            let is_clear = |line: &str| {
                selector.contains("comment") && line.contains(": warning: no value is encrypted")
            };
            assert!(ran.out().lines().all(is_clear), "{selector}: {}", ran.out());
            assert_eq!(ran.code, 0, "{selector}: {}", ran.stderr);
            ran.says("5 sops files checked: 0 findings");
        }
    }
}
