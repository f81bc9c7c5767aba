//! The command line of sops: the same invocations of both, in twin scenes. Streams, codes and files agree.

mod twins;

use twins::{ALICE_AGE, BOB_AGE, Twins, Went};

macro_rules! twins {
    () => {
        match Twins::new() {
            Some(twins) => twins,
            None => return eprintln!("skipped: no sops at hand"),
        }
    };
}

/// Words apart at spaces; `~` stands for a space within one.
fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(|word| word.replace('~', " ")).collect()
}

fn each(twins: &Twins, lines: &[&str], environment: &[(&str, &str)]) {
    for line in lines {
        let words = words(line);
        twins.same(&words.iter().map(String::as_str).collect::<Vec<_>>(), "", environment);
    }
}

#[test]
fn decrypt_is_sops_own() {
    let twins = twins!();
    let lines = [
        "decrypt s.yaml",
        "decrypt s.yaml -i",
        "decrypt -i s.yaml --extract [\"a\"]",
        "-d s.yaml -i",
        "-d -i s.yaml",
        "--extract [\"a\"] --decrypt s.yaml",
        "decrypt --extract [\"b\"] s.yaml",
        "decrypt --extract [\"l\"] s.yaml",
        "decrypt --extract [\"m\"] s.yaml",
        "decrypt --extract ['l'][0] s.yaml",
        "decrypt --extract [\"z\"] s.yaml",
        "decrypt --extract [\"l\"][9] s.yaml",
        "decrypt --extract z s.yaml",
        "decrypt --extract=  s.yaml",
        "decrypt s.json",
        "decrypt --extract [\"b\"] s.json",
        "decrypt s.bin",
        "decrypt --output out.yaml s.yaml",
        "decrypt --output none/out.yaml s.yaml",
        "decrypt -i --output x s.yaml",
        "decrypt --output-type json s.yaml",
        "decrypt --output-type nonsense s.yaml",
        "--indent 2 decrypt s.yaml",
        "decrypt --decryption-order age,age s.yaml",
        "decrypt --decryption-order pgp,age s.yaml",
        "decrypt plain.yaml",
        "decrypt empty.yaml",
        "decrypt nope.yaml",
        "decrypt .",
        "decrypt -i",
        "decrypt -- s.yaml -i",
        "-- decrypt s.yaml",
        "decrypt - s.yaml",
        "-d nope",
        "-d -e s.yaml",
        "--verbose decrypt -i s.yaml",
    ];
    each(&twins, &lines, &[]);
    each(&twins, &["decrypt s.yaml"], &[("SOPS_ENABLE_LOCAL_KEYSERVICE", "x")]);
    let text = String::from_utf8_lossy(&twins.files.iter().find(|(name, _)| *name == "s.yaml").unwrap().1);
    twins.same(&["decrypt", "--filename-override", "x.yaml"], &text, &[]);
    twins.same(&["decrypt", "--input-type", "yaml", "--output-type", "json"], &text, &[]);
    for line in ["decrypt bob.yaml", "rotate bob.yaml", "edit bob.yaml"] {
        let words = words(line);
        let args: Vec<&str> = words.iter().map(String::as_str).collect();
        twins.same_but_words("Failed to get the data key required to decrypt the SOPS file.", &args, &[]);
    }
    twins.same_but_words("Error dumping file: ", &["decrypt", "--output-type", "binary", "s.yaml"], &[]);
    twins.same_but_words(
        "error loading config: Could not unmarshal config file",
        &["--config", "bad", "decrypt", "s.yaml"],
        &[],
    );
    twins.same_but_words("could not read config file: open ", &["--config", "no", "decrypt", "s.yaml"], &[]);
}

#[test]
fn encrypt_is_sops_own() {
    let twins = twins!();
    let bob = format!("encrypt --age {BOB_AGE} plain.yaml");
    let both = format!("--config none encrypt --age {ALICE_AGE},{BOB_AGE} plain.yaml");
    let lines = [
        "encrypt plain.yaml",
        "encrypt -i plain.yaml",
        "encrypt plain.yaml -i",
        "encrypt --output out.yaml plain.yaml",
        "encrypt empty.yaml",
        "encrypt nope.yaml",
        "encrypt plain.json",
        "encrypt raw.bin",
        "encrypt --encrypted-suffix q raw.bin",
        "encrypt --encrypted-suffix q plain.json",
        "encrypt --encrypted-regex ^b plain.json",
        "encrypt --unencrypted-suffix x --encrypted-suffix y plain.yaml",
        "encrypt --shamir-secret-sharing-threshold 2 plain.yaml",
        "encrypt --age x plain.yaml",
        "encrypt --input-type yaml --output-type json plain.yaml",
        "--mac-only-encrypted encrypt plain.yaml",
        "--encrypted-comment-regex x -e plain.yaml",
        "--config none encrypt plain.yaml",
        "encrypt",
        "encrypt -i",
        "-e plain.yaml",
        "-e -i plain.yaml",
        "-e nope",
        &bob,
        &both,
    ];
    each(&twins, &lines, &[]);
    each(&twins, &["--config none encrypt plain.yaml"], &[("SOPS_AGE_RECIPIENTS", BOB_AGE)]);
    twins.same(&["encrypt", "--filename-override", "x.json"], "{\"a\": 1}", &[]);
    twins.same(&["encrypt", "--filename-override", "x.yaml"], "a: b", &[]);
    let no_rule = "error loading config: no matching creation rules found";
    twins.same_but_words(no_rule, &["encrypt", "other.txt"], &[]);
    twins.same_but_words(no_rule, &["encrypt", "--age", ALICE_AGE, "other.txt"], &[]);
    twins.same_but_words("Error unmarshalling file: ", &["encrypt", "broken.yaml"], &[]);
    let twice = "The file you have provided contains a top-level entry called 'sops'";
    twins.same_but_words(twice, &["encrypt", "s.yaml"], &[]);
}

#[test]
fn values_are_set_and_unset_as_by_sops() {
    let twins = twins!();
    let lines = [
        "set",
        "set s.yaml",
        "set --value-stdin s.yaml",
        "set --value-stdin --value-file s.yaml [\"a\"] x",
        "set nope.yaml [\"a\"] 1",
        "set s.yaml [\"a\"] x",
        "set s.yaml [\"a\"] [1]",
        "set s.yaml [\"a\"] {\"x\":1}",
        "set s.yaml [\"n\"][\"m\"] \"new\"",
        "set s.yaml [\"l\"][0] true",
        "set --idempotent s.yaml [\"a\"] \"one\"",
        "set --value-file s.yaml [\"a\"] nofile",
        "set --value-file s.json [\"a\"] plain.json",
        "unset s.yaml",
        "unset s.yaml [\"a\"]",
        "unset s.yaml [\"z\"]",
        "unset s.yaml [\"l\"][7]",
        "unset s.yaml [\"a\"][\"x\"]",
        "unset s.yaml [\"l\"][0]",
        "unset --idempotent s.yaml [\"z\"]",
        "--set [\"a\"]~\"b\" s.yaml",
        "--set [\"a\"]\"b\" s.yaml",
        "--set [\"a\"]~b s.yaml",
        "--set [\"a\"]~\"b\" nope.yaml",
        "--set a]~\"b\" s.yaml",
    ];
    each(&twins, &lines, &[]);
    twins.same(&["set", "--value-stdin", "s.yaml", "[\"a\"]"], "\"-----\\nx\\n\"\n", &[]);
    twins.same_but_words("Invalid set index format", &["set", "s.yaml", "a", "1"], &[]);
    twins.same_but_words("Invalid unset index format", &["unset", "s.yaml", "a"], &[]);
}

#[test]
fn keys_and_groups_change_as_by_sops() {
    let twins = twins!();
    let lines = [
        "rotate s.yaml",
        "rotate -i s.yaml",
        "rotate nope",
        "rotate plain.yaml",
        "rotate -i --add-age BOB s.yaml",
        "rotate -i --rm-age BOB s.yaml",
        "rotate --add-age BOB nope",
        "-r -i --add-age BOB s.yaml",
        "-r nope",
        "groups add -f s.yaml --age BOB",
        "groups add -f s.yaml --age BOB -i",
        "groups add -f s.yaml --age BOB --shamir-secret-sharing-threshold 2",
        "groups add x",
        "groups add -f nope --age BOB",
        "groups add",
        "groups delete -f s.yaml",
        "groups delete -f s.yaml x",
        "updatekeys s.yaml",
        "updatekeys -y plain.yaml",
        "updatekeys",
        "--config two updatekeys s.yaml",
        "--config two updatekeys -y s.yaml",
        "--config two updatekeys -y s.yaml nope s.json",
        "--config two updatekeys -y .",
        "--config two updatekeys -y nope",
    ];
    let lines: Vec<String> = lines.iter().map(|line| line.replace("BOB", BOB_AGE)).collect();
    each(&twins, &lines.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
    each(&twins, &["updatekeys -y s.yaml"], &[("SOPS_CONFIG", "two")]);
    for answer in ["y\n", "n\n", "n", "\n", "maybe\ny", "a b\n"] {
        twins.same(&["--config", "two", "updatekeys", "s.yaml"], answer, &[]);
    }
    let empty = "Could not generate data key: [empty key group provided]";
    twins.same_but_words(empty, &["rotate", "-i", "--rm-age", ALICE_AGE, "s.yaml"], &[]);
}

#[test]
fn edits_end_as_with_sops() {
    let twins = twins!();
    each(
        &twins,
        &["edit", "edit s.yaml", "edit new.yaml", "s.yaml", "nope.yaml", "edit plain.yaml", "-s s.yaml"],
        &[],
    );
    each(&twins, &["edit s.yaml", "s.yaml", "edit -s s.yaml"], &[("EDITOR", "sed -i s/one/two/")]);
    each(&twins, &["edit s.yaml"], &[("EDITOR", "false")]);
    twins.same_but_words("Could not run editor: ", &["edit", "s.yaml"], &[("EDITOR", "no-such-editor")]);
}

#[test]
fn programs_run_as_under_sops() {
    let twins = twins!();
    let lines = [
        "exec-env",
        "exec-env s.json",
        "exec-env s.yaml true",
        "exec-env s.json echo~$a~$b",
        "exec-env s.json echo~$a;~exit~7",
        "exec-env s.json kill~-9~$$",
        "exec-env --pristine s.json env",
        "exec-env --same-process s.json echo~$a",
        "exec-env --same-process --background s.json true",
        "exec-env nope true",
        "exec-file s.yaml cat~{}",
        "exec-file --no-fifo s.yaml cat~{};~exit~3",
        "exec-file --output-type json s.yaml cat~{}",
        "exec-file --filename /y s.yaml cat~{}",
    ];
    each(&twins, &lines, &[]);
    twins.same(&["exec-env", "s.json", "cat"], "its input", &[]);
}

#[test]
fn status_version_and_topics_are_sops_own() {
    let twins = twins!();
    let lines = [
        "",
        "--version",
        "-v",
        "filestatus",
        "filestatus s.yaml",
        "filestatus s.json",
        "filestatus s.bin",
        "filestatus plain.yaml",
        "filestatus empty.yaml",
        "filestatus nope",
        "filestatus .",
        "help nope",
        "groups nope",
    ];
    each(&twins, &lines, &[]);
}

#[test]
fn wrong_flags_are_told_on_both_streams() {
    let twins = twins!();
    for line in [
        "--bogus",
        "decrypt --bogus f",
        "decrypt --output",
        "decrypt ---x",
        "decrypt -i=maybe s.yaml",
        "updatekeys -y --yes s.yaml",
        "-d -decrypt s.yaml",
        "--indent x s.yaml",
        "groups --bogus",
    ] {
        let words = words(line);
        let args: Vec<&str> = words.iter().map(String::as_str).collect();
        let (theirs, ours) = (twins.go(false, &args, "", &[]), twins.go(true, &args, "", &[]));
        let first = |went: &Went| went.stdout.lines().next().map(str::to_owned);
        assert_eq!((ours.code, first(&ours)), (theirs.code, first(&theirs)), "{line}");
        assert_eq!(ours.stderr, theirs.stderr, "{line}");
    }
}

#[test]
fn the_flags_that_only_civm_has_are_unknown_to_sops() {
    let twins = twins!();
    for (command, flags) in [
        ("updatekeys", &["check", "all"][..]),
        ("encrypt", &["keep"]),
        ("decrypt", &["textconv"]),
        ("filestatus", &["check"]),
    ] {
        for flag in flags {
            let theirs = twins.go(false, &[command, &format!("--{flag}"), "s.yaml"], "", &[]);
            let words = format!("flag provided but not defined: -{flag}");
            assert!(theirs.code == 1 && theirs.stderr.contains(&words), "{command} --{flag}: {theirs:?}");
            let ours = twins.go(true, &[command, "--help"], "", &[]);
            assert!(ours.stdout.contains(&format!("--{flag} ")), "{command} --{flag}");
        }
    }
}
