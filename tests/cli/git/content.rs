//! Differences and new content: what is shown to whom, and what stays as it is.

use std::fs;

use super::{ALICE, ALICE_AGE, BOB_AGE, FILE, PLAIN, Repository, nothing_leaked, values};
use crate::support::{run, run_with};

#[test]
fn differences_show_plaintext_to_who_can_read_it_and_to_nobody_else() {
    let repository = Repository::new();
    repository.change("s/one/changed/");
    let shown = repository.git(&["log", "-p", "-2"]);
    assert!(shown.out().contains("-first: one\n+first: changed\n"), "{}", shown.out());
    assert!(!shown.out().contains("ENC["));
    let shown = repository.as_who(None, &["log", "-p", "-2"]).ok();
    assert!(shown.out().contains("+first: ENC[") && !shown.out().contains("changed\n+"), "{}", shown.out());
    let textconv = |file: &str, key: Option<&str>| {
        run(&mut repository.prepared(repository.0.civm(&["secrets", "textconv", file]), key))
    };
    assert_eq!(textconv(FILE, Some(ALICE)).ok().out(), PLAIN.replace("one", "changed"));
    assert_eq!(textconv(FILE, None).ok().out(), repository.0.read(FILE));
    repository.0.write("plain.yaml", "a: [\n");
    assert_eq!(textconv("plain.yaml", None).ok().out(), "a: [\n");
    textconv("missing.yaml", None).code(100);
    nothing_leaked(&repository, &["first: changed"]);
}

#[test]
fn differences_name_keys_and_recipients_and_values_only_if_asked() {
    let repository = Repository::bare();
    let diff = |args: &[&str], key: Option<&str>| {
        let words: Vec<&str> = ["secrets", "diff"].iter().chain(args).copied().collect();
        run(&mut repository.prepared(repository.0.civm(&words), key))
    };
    assert_eq!(diff(&["--exit-code"], Some(ALICE)).ok().out(), "");
    repository.change("s/one/secret-word/; /deep/d; /^third/a fourth: [1, 2]");
    repository.rules(&[ALICE_AGE, BOB_AGE]);
    repository.civm(&["secrets", "updatekeys", "-y", FILE]).ok();
    let want = |lines: &str| format!("{FILE}\n{lines}");
    let shown = diff(&["HEAD~1", "HEAD"], Some(ALICE)).ok();
    let keys = "  ~ [\"first\"]\n  - [\"second\"][\"deep\"]\n  + [\"fourth\"]\n";
    assert_eq!(shown.out(), want(keys));
    assert_eq!(diff(&["HEAD~1..HEAD"], Some(ALICE)).ok().out(), shown.out());
    assert_eq!(diff(&[], Some(ALICE)).ok().out(), want("  + recipient bob\n"));
    assert_eq!(diff(&["--exit-code", "HEAD"], Some(ALICE)).code(1).out(), want("  + recipient bob\n"));
    assert_eq!(diff(&["--staged"], Some(ALICE)).ok().out(), "");
    assert_eq!(diff(&["HEAD", "--", "elsewhere"], Some(ALICE)).ok().out(), "");
    diff(&["nothing"], Some(ALICE)).code(100).says("neither a revision nor a file");
    let shown = diff(&["HEAD~1", FILE], Some(ALICE)).ok().silent_on("secret-word");
    assert!(shown.out().contains("~ [\"first\"]\n") && shown.out().contains("+ recipient bob"));
    let shown = diff(&["--show", "HEAD~1"], Some(ALICE)).ok();
    assert!(shown.out().contains("  - [\"first\"]: one\n  + [\"first\"]: secret-word\n"), "{}", shown.out());
    assert!(shown.out().contains("  + [\"fourth\"]\n        - 1\n        - 2\n"), "{}", shown.out());
    // Without a key: what the files say without one.
    let shown = diff(&["HEAD~1"], None).ok().says("no identity");
    assert!(
        shown.out().contains("~ [\"first\"]\n") && !shown.out().contains("[\"third\"]"),
        "{}",
        shown.out()
    );
    diff(&["--show", "HEAD~1"], None).code(1).silent_on("secret-word");
    let json = diff(&["--json", "--show", "HEAD~1"], Some(ALICE)).ok();
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let file = &json["files"][0];
    assert_eq!((&file["path"], &file["decrypted"]), (&FILE.into(), &true.into()));
    assert_eq!(file["recipients_added"][0]["name"], "bob");
    let change =
        |path: &str| file["changes"].as_array().unwrap().iter().find(|one| one["path"] == path).unwrap();
    assert_eq!(change("[\"first\"]")["new"], "secret-word");
    assert_eq!(change("[\"fourth\"]")["new"], serde_json::json!([1, 2]));
    // Two files.
    fs::write(repository.0.file("old.yaml"), repository.at("HEAD~1")).unwrap();
    let shown = diff(&["old.yaml", FILE], Some(ALICE)).ok();
    assert!(shown.out().starts_with(&format!("old.yaml -> {FILE}\n")), "{}", shown.out());
}

#[test]
fn new_content_keeps_the_ciphertext_of_what_stays() {
    let repository = Repository::bare();
    let before = repository.0.read(FILE);
    let replace = |args: &[&str], text: &str| {
        let words: Vec<&str> = ["secrets", "replace", FILE].iter().chain(args).copied().collect();
        run_with(&mut repository.prepared(repository.0.civm(&words), Some(ALICE)), text.as_bytes())
    };
    replace(&[], &PLAIN.replace("    ", "  ")).ok().says("already");
    assert_eq!(repository.0.read(FILE), before);
    replace(&[], &PLAIN.replace("one", "new")).ok();
    let after = repository.0.read(FILE);
    let gone: Vec<&str> = before.lines().filter(|line| !after.contains(*line)).collect();
    assert!(
        gone.iter().all(|line| ["first:", "lastmodified:", "mac:"].iter().any(|key| line.contains(key))),
        "{gone:?}"
    );
    assert_eq!(repository.plaintext(), PLAIN.replace("one", "new"));
    repository.0.write("plain.json", "{\"first\": \"new\", \"m\": 1}");
    replace(&["--from", "plain.json", "--input-type", "json"], "").ok();
    assert_eq!(repository.plaintext(), "first: new\nm: 1\n");
    let kept = repository.0.read(FILE);
    assert_eq!(values(&after).iter().find(|line| line.starts_with("first:")), values(&kept).first());
    for (text, code) in [("a: 1\nsops: {}\n", 203), ("a: [secret-word", 2), ("", 92)] {
        let _ = replace(&[], text).code(code).silent_on("secret-word");
        assert_eq!(repository.0.read(FILE), kept);
    }
    replace(&["--input-type", "toml"], "a").code(2).says("possible values: yaml");
    run_with(&mut repository.0.civm(&["secrets", "replace", FILE]), b"a: 1\n").code(128);
    assert_eq!(repository.0.read(FILE), kept);
}

#[test]
fn nobody_is_asked_for_a_passphrase_to_show_a_difference() {
    let repository = Repository::new();
    let key = repository.0.path("home/key");
    let mut keygen = repository.0.command("ssh-keygen");
    let made = keygen.args(["-qt", "ed25519", "-N", "a passphrase", "-f"]).arg(&key).status();
    let script = run(repository.0.command("sh").args(["-c", "command -v script"]));
    if !made.is_ok_and(|made| made.success()) || script.code != 0 {
        return eprintln!("skipped: no ssh-keygen or no `script` at hand");
    }
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    repository.0.write("locked-secrets.yaml", "a: b\n");
    let public = public.trim();
    run(&mut repository.0.civm(&["secrets", "encrypt", "-i", "--age", public, "locked-secrets.yaml"])).ok();
    // A terminal at which somebody could be asked, and who would have to answer before the time is over.
    let mut command = repository.0.command("timeout");
    let civm = assert_cmd::cargo::cargo_bin!("civm").display().to_string();
    command.args([
        "20",
        "script",
        "-qec",
        &format!("{civm} secrets textconv locked-secrets.yaml"),
        "/dev/null",
    ]);
    command.env("SOPS_AGE_SSH_PRIVATE_KEY_FILE", &key);
    let shown = run(&mut command).ok();
    assert!(
        shown.out().contains("a: ENC[") && !shown.out().to_lowercase().contains("passphrase"),
        "{}",
        shown.out()
    );
}
