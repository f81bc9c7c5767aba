//! Values, data keys and groups changed by civm and by sops: the same result, and no other line touched.

use super::yaml::{IDENTITY, recipient};
use crate::support::shape::shape;
use crate::support::{Ran, Scene, peer, run};
use std::path::Path;

/// A second throw-away identity; it protects nothing.
const OTHER_IDENTITY: &str = "AGE-SECRET-KEY-16NC6D5XQZ5GXKRZETARH27RQ8FT888FC4NNLLMVQAR5AGPT389WSGY4QER";
const OTHER: &str = "age12h7333pd5phz20zqy2xqurkpuanr288ud8lyjxvgh2j6jdu3w4asgvy23q";

const YAML: &str = "# top\nfirst: one\nsecond:\n    # inside\n    deep: two\n    number: 3\n    float: -0.0\n    nan: .nan\nlist:\n    - x\n    # between\n    - y\n    - k: v\nnone: null\nlast: \"\"\nplain_unencrypted: 1.50\n---\nsecond: document\n";
const JSON: &str = "{\n\t\"first\": \"one\",\n\t\"second\": {\n\t\t\"deep\": \"two\",\n\t\t\"number\": 3\n\t},\n\t\"list\": [\n\t\t\"x\",\n\t\t\"y\"\n\t],\n\t\"none\": null\n}\n";

/// One file in both tools' hands.
struct Pair<'a> {
    scene: &'a Scene,
    sops: &'a Path,
    name: &'a str,
}

impl Pair<'_> {
    fn ours(&self) -> String {
        format!("ours/{}", self.name)
    }

    fn theirs(&self) -> String {
        format!("theirs/{}", self.name)
    }

    fn start(&self, text: &str) {
        self.scene.write(&self.ours(), text);
        self.scene.write(&self.theirs(), text);
    }

    /// The same work by both; `@` stands for the file.
    fn both(&self, ours: &[&str], theirs: &[&str]) -> (Ran, Ran) {
        let key = format!("{IDENTITY}\n{OTHER_IDENTITY}");
        let filled = |words: &[&str], file: &str| -> Vec<String> {
            words.iter().map(|word| if *word == "@" { file.to_owned() } else { (*word).to_owned() }).collect()
        };
        let mut civm = self.scene.civm(&["secrets"]);
        civm.args(filled(ours, &self.ours())).env("SOPS_AGE_KEY", &key);
        let mut sops = self.scene.command(self.sops);
        sops.args(filled(theirs, &self.theirs())).env("SOPS_AGE_KEY", &key);
        (run(&mut civm), run(&mut sops))
    }

    /// Both files decrypted by sops are the same, and they have the same shape.
    #[track_caller]
    fn same(&self, what: &str) {
        let plain = |file: &str| {
            let key = format!("{IDENTITY}\n{OTHER_IDENTITY}");
            run(self.scene.command(self.sops).args(["decrypt", file]).env("SOPS_AGE_KEY", key)).ok()
        };
        assert_eq!(plain(&self.ours()).out(), plain(&self.theirs()).out(), "{what}");
        let shape = |file: &str| without_armor(&shape(&self.scene.read(file)));
        assert_eq!(shape(&self.ours()), shape(&self.theirs()), "{what}");
    }

    /// Every line of a text that sops leaves is left by us.
    #[track_caller]
    fn leaves_no_less(&self, before: &str, what: &str) {
        let (ours, theirs) = (self.scene.read(&self.ours()), self.scene.read(&self.theirs()));
        let ours: Vec<&str> = ours.lines().collect();
        for line in theirs.lines().filter(|line| before.lines().any(|other| other == *line)) {
            // The time may be the same or another second.
            assert!(ours.contains(&line) || line.contains("lastmodified"), "{what}: {line}");
        }
    }
}

/// A JSON text without the armor in its strings, and without its time.
fn without_armor(text: &str) -> String {
    let line = |line: &str| {
        let name = line.split(':').next().unwrap_or_default().to_owned();
        if line.contains("BEGIN AGE") || name.contains("lastmodified") { name } else { line.to_owned() }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn encrypted(scene: &Scene, sops: &Path, recipient: &str, name: &str, plain: &str) -> String {
    scene.write(name, plain);
    run(scene.command(sops).args(["encrypt", "--age", recipient, name])).ok().out().to_owned()
}

/// Each test's work with every format that has more than one value.
fn each(work: impl Fn(&Pair<'_>, &str)) {
    let scene = Scene::new();
    let (Some(sops), Some(recipient)) = (peer("sops"), recipient(&scene)) else {
        return eprintln!("skipped: no sops or age at hand");
    };
    for (name, plain) in [("s.yaml", YAML), ("s.json", JSON)] {
        let text = encrypted(&scene, &sops, &recipient, name, plain);
        work(&Pair { scene: &scene, sops: &sops, name }, &text);
    }
}

#[test]
fn set_does_what_sops_set_does() {
    each(|pair, text| {
        for (path, value) in [
            (r#"["first"]"#, r#""other""#),
            (r#"["first"]"#, r#""one""#),
            (r#"["second"]["deep"]"#, "true"),
            (r#"["second"]["new"]["inner"][5]"#, "null"),
            (r#"["list"][0]"#, r#""z""#),
            (r#"["list"][9]"#, r#"{"k": [1, 2.5, "three"]}"#),
            (r#"["first"]["under"]"#, r#"{"a": 9007199254740993}"#),
            (r#"["none"]"#, r#""line\nline\n""#),
            (r#"["second"]"#, "{}"),
            (r#"["plain_unencrypted"]"#, r#""clear""#),
        ] {
            pair.start(text);
            let (ours, theirs) = pair.both(&["set", "@", path, "--json", value], &["set", "@", path, value]);
            assert_eq!((ours.ok().code, theirs.ok().code), (0, 0));
            pair.same(path);
            pair.leaves_no_less(text, path);
        }
    });
}

#[test]
fn what_sops_does_not_set_is_not_set() {
    each(|pair, text| {
        for (path, value) in [
            (r#"["first"]"#, "hush"),
            (r#"["first"]"#, ""),
            (r#"["first"]"#, "1e400"),
            (r#"["sops"]"#, "1"),
            (r#"["first""#, "1"),
        ] {
            pair.start(text);
            let (ours, theirs) = pair.both(&["set", "@", path, "--json", value], &["set", "@", path, value]);
            assert_eq!(ours.code, theirs.code, "{path} {value}: {} {}", ours.stderr, theirs.stderr);
            assert_eq!(pair.scene.read(&pair.ours()), text);
        }
    });
}

#[test]
fn unset_does_what_sops_unset_does() {
    each(|pair, text| {
        for path in [r#"["first"]"#, r#"["second"]["deep"]"#, r#"["list"][1]"#, r#"["none"]"#, r#"["list"]"#]
        {
            pair.start(text);
            let (ours, theirs) = pair.both(&["unset", "@", path], &["unset", "@", path]);
            assert_eq!((ours.ok().code, theirs.ok().code), (0, 0));
            pair.same(path);
            pair.leaves_no_less(text, path);
        }
        for path in [r#"["zz"]"#, r#"["list"][17]"#, r#"["first"]["x"]"#, r#"["first""#] {
            pair.start(text);
            let (ours, theirs) = pair.both(&["unset", "@", path], &["unset", "@", path]);
            assert_eq!(ours.code, theirs.code, "{path}: {}", theirs.stderr);
            let idempotent = ["unset", "@", path, "--idempotent"];
            let (ours, theirs) = pair.both(&idempotent, &idempotent);
            assert_eq!(ours.code, theirs.code, "{path}: {}", theirs.stderr);
        }
    });
}

#[test]
fn files_of_texts_and_binary_files_are_changed_alike() {
    let scene = Scene::new();
    let (Some(sops), Some(recipient)) = (peer("sops"), recipient(&scene)) else {
        return eprintln!("skipped: no sops or age at hand");
    };
    for (name, plain, path, value) in [
        ("s.env", "# c\nA=one\nB=two words\n", r#"["A"]"#, r#""line\nline""#),
        ("s.env", "A=one\nB=two\n", r#"["NEW"]"#, r#""x""#),
        ("s.ini", "top = 1\n\n[one]\na = x\n\n[two]\nb = y\n", r#"["two"]["b"]"#, r#""z""#),
        ("s.ini", "[one]\na = x\n", r#"["two"]["b"]"#, r#""z""#),
        ("key.der", "\u{1}binary\u{0}\n", r#"["data"]"#, r#""text""#),
    ] {
        let text = encrypted(&scene, &sops, &recipient, name, plain);
        let pair = Pair { scene: &scene, sops: &sops, name };
        for (ours, theirs) in [
            (&["set", "@", path, "--json", value][..], &["set", "@", path, value][..]),
            (&["rotate", "-i", "@"], &["rotate", "-i", "@"]),
            (&["unset", "@", path], &["unset", "@", path]),
        ] {
            let what = format!("{name} {ours:?}");
            if ours[0] == "unset" && name == "key.der" {
                continue;
            }
            if ours[0] == "set" {
                pair.start(&text);
            }
            let (ours, theirs) = pair.both(ours, theirs);
            assert_eq!((ours.ok().code, theirs.ok().code), (0, 0), "{what}");
            let plain = |file: &str| {
                run(scene.command(&sops).args(["decrypt", file]).env("SOPS_AGE_KEY", IDENTITY)).ok().stdout
            };
            assert_eq!(plain(&pair.ours()), plain(&pair.theirs()), "{what}");
        }
    }
}

#[test]
fn rotate_does_what_sops_rotate_does() {
    each(|pair, text| {
        let before = pair.scene.read("identity.txt");
        assert!(before.contains(IDENTITY));
        for words in [&["rotate", "-i", "@"][..], &["rotate", "-i", "--add-age", OTHER, "@"]] {
            pair.start(text);
            let (ours, theirs) = pair.both(words, words);
            assert_eq!((ours.ok().code, theirs.ok().code), (0, 0));
            pair.same("rotated");
            pair.leaves_no_less(text, "rotated");
        }
        let words = ["rotate", "-i", "--rm-age", OTHER, "@"];
        let (ours, theirs) = pair.both(&words, &words);
        assert_eq!((ours.ok().code, theirs.ok().code), (0, 0));
        pair.same("taken out");
        let own = recipient(pair.scene).unwrap();
        let words = ["rotate", "-i", "--rm-age", &own, "@"];
        let (ours, theirs) = pair.both(&words, &words);
        assert_eq!((ours.code, theirs.code), (1, 1), "{}", ours.stderr);
    });
}

#[test]
fn groups_do_what_sops_groups_do() {
    each(|pair, text| {
        pair.start(text);
        let (ours, theirs) =
            pair.both(&["groups", "add", "@", OTHER], &["groups", "add", "-i", "-f", "@", "--age", OTHER]);
        assert_eq!((ours.ok().code, theirs.ok().code), (0, 0));
        pair.same("added");
        pair.leaves_no_less(text, "added");
        for (path, value) in [(r#"["first"]"#, r#""other""#), (r#"["second"]["number"]"#, "1.5")] {
            let before = pair.scene.read(&pair.ours());
            let (ours, theirs) = pair.both(&["set", "@", path, "--json", value], &["set", "@", path, value]);
            assert_eq!((ours.ok().code, theirs.ok().code), (0, 0));
            pair.same("set with groups");
            assert!(
                before
                    .lines()
                    .filter(|line| line.len() == 64 || line.contains("-----"))
                    .all(|line| { pair.scene.read(&pair.ours()).contains(line) })
            );
        }
        let (ours, theirs) = pair.both(&["rotate", "@"], &["rotate", "-i", "@"]);
        assert_eq!((ours.ok().code, theirs.ok().code), (0, 0));
        pair.same("rotated with groups");
        let (ours, theirs) =
            pair.both(&["groups", "rm", "@", "1"], &["groups", "delete", "-i", "-f", "@", "1"]);
        assert_eq!((ours.code, theirs.code), (1, 1), "{}", theirs.stderr);
        let threshold = "--shamir-secret-sharing-threshold";
        let (ours, theirs) = pair.both(
            &["groups", "rm", "@", "1", "--threshold", "1"],
            &["groups", "delete", "-i", "-f", "@", threshold, "1", "1"],
        );
        assert_eq!((ours.ok().code, theirs.ok().code), (0, 0));
        pair.same("deleted");
    });
}

#[test]
fn variables_are_spelled_as_sops_spells_them() {
    let scene = Scene::new();
    let (Some(sops), Some(recipient)) = (peer("sops"), recipient(&scene)) else {
        return eprintln!("skipped: no sops or age at hand");
    };
    let plain = "A: text\nB: 3\nC: 2.0\nD: 1e21\nE: 0.00001\nF: true\nG: null\nH: 2026-01-02T03:04:05.5+02:00\nI: .inf\nJ: -0.0\nK: \"a\\nb\"\nL: \"\"\nM: 1234567.5\nN: .nan\n";
    let text = encrypted(&scene, &sops, &recipient, "s.yaml", plain);
    scene.write("s.yaml", text);
    let ours = run(scene
        .civm(&["secrets", "exec-env", "--pristine", "s.yaml", "--", "/bin/sh", "-c", "env -0 | sort -z"])
        .env("SOPS_AGE_KEY", IDENTITY))
    .ok();
    let theirs = run(scene
        .command(&sops)
        .args(["exec-env", "--pristine", "s.yaml", "env -0 | sort -z"])
        .env("SOPS_AGE_KEY", IDENTITY))
    .ok();
    assert_eq!(ours.out(), theirs.out());
    assert!(ours.out().contains("C=2.0\0"));
}
