//! `civm secrets …` on dotenv and INI files.

use crate::support::{Scene, run, run_with};

/// Throw-away identities; they protect nothing.
const ALICE: &str = "AGE-SECRET-KEY-1E9VMDZS6RHZH4LXZLWLM47QKCY7E59LTC3AKKARMHCA6U5UUL4HSHQLNLK";
const ALICE_AGE: &str = "age1e63wmgw3vaj3veyfsae6ca73qpx8j8xj38r6yk7nk9nvhcr92vvsexht4t";
const BOB: &str = "AGE-SECRET-KEY-16NC6D5XQZ5GXKRZETARH27RQ8FT888FC4NNLLMVQAR5AGPT389WSGY4QER";
const BOB_AGE: &str = "age12h7333pd5phz20zqy2xqurkpuanr288ud8lyjxvgh2j6jdu3w4asgvy23q";

struct Case {
    name: &'static str,
    plain: &'static str,
    /// A key path and its value.
    value: (&'static str, &'static str),
}

const CASES: [Case; 2] = [
    Case {
        name: "s.env",
        plain: "# c\nFIRST=one\nLINES=a\\nb\nCLEAR_unencrypted=\"x\"\n",
        value: ("LINES", "a\nb"),
    },
    Case {
        name: "s.ini",
        plain: "top = 1\n\n; c\n[db]\npassword          = `a;b#c`\nclear_unencrypted = x\n",
        value: ("db/password", "a;b#c"),
    },
];

fn rules(scene: &Scene, recipients: &str) {
    scene.write(".sops.yaml", format!("creation_rules:\n  - age: {recipients}\n"));
}

fn decrypted(scene: &Scene, name: &str, identity: &str) -> String {
    run(scene.civm(&["secrets", "decrypt", name]).env("SOPS_AGE_KEY", identity)).ok().out().to_owned()
}

#[test]
fn a_file_goes_through_every_verb() {
    for Case { name, plain, value } in CASES {
        let scene = Scene::new();
        rules(&scene, ALICE_AGE);
        scene.write(name, plain);
        run(&mut scene.civm(&["secrets", "encrypt", "-i", name])).ok();
        let before = scene.read(name);
        assert!(
            before.contains("ENC[AES256_GCM") && !before.contains("one") && !before.contains("a;b"),
            "{before}"
        );
        run(&mut scene.civm(&["secrets", "encrypt", "-i", name])).code(203);
        assert_eq!(decrypted(&scene, name, ALICE), plain);
        let get = run(scene.civm(&["secrets", "get", name, value.0]).env("SOPS_AGE_KEY", ALICE)).ok();
        assert_eq!(get.out(), value.1);

        let mut edit = scene.civm(&["secrets", "edit", name]);
        run(edit.env("SOPS_AGE_KEY", ALICE).env("EDITOR", "sed -i 's/ c$/ changed/'")).ok();
        let after = scene.read(name);
        let changed = before.lines().zip(after.lines()).filter(|(before, after)| before != after);
        let changed: Vec<_> = changed.map(|(before, _)| before).collect();
        let expected = |line: &&str| {
            line.contains("type:comment]") || line.contains("mac") || line.contains("lastmodified")
        };
        assert!(changed.iter().all(expected), "{changed:?}");
        assert_eq!(decrypted(&scene, name, ALICE), plain.replace(" c\n", " changed\n"));

        rules(&scene, &format!("{ALICE_AGE},{BOB_AGE}"));
        let mut update = scene.civm(&["secrets", "updatekeys", name]);
        run_with(update.env("SOPS_AGE_KEY", ALICE), b"y\n").ok();
        assert_eq!(decrypted(&scene, name, BOB), plain.replace(" c\n", " changed\n"));
    }
}

#[test]
fn a_new_file_starts_from_an_example_of_its_format() {
    for (name, edit, plain) in [
        ("new.env", "sed -i -n '3s/example_value/x/p'", "EXAMPLE_KEY=x\n"),
        ("new.ini", "sed -i -n -e '3p' -e '4s/value/x/p'", "[example]\nkey = x\n"),
    ] {
        let scene = Scene::new();
        rules(&scene, ALICE_AGE);
        run(scene.civm(&["secrets", "edit", name]).env("EDITOR", edit)).ok();
        assert_eq!(decrypted(&scene, name, ALICE), plain);
    }
}

#[test]
fn what_would_be_lost_is_refused_without_being_shown() {
    let scene = Scene::new();
    rules(&scene, ALICE_AGE);
    for (name, plain, line) in [
        ("s.env", "A=1\nhunter2\n", "line 2"),
        ("s.env", "A=1\n\n\r\n", "line 3"),
        ("s.ini", "[s]\npassword = #hunter2\n", "line 2"),
        ("s.ini", "[s]\nk = 1\nk = hunter2\n", "line 3"),
        ("s.ini", "[s]\nhunter2\n", "line 2"),
    ] {
        scene.write(name, plain);
        let ran = run(&mut scene.civm(&["secrets", "encrypt", "-i", name])).code(2).says(line);
        assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
        assert_eq!(scene.read(name), plain);
    }
}
