//! `civm keys add` and `civm keys rm`.

use std::fs;
use std::path::Path;

use crate::support::{Ran, Scene, run};

/// A throw-away identity and its recipient, and two more recipients; they protect nothing.
const ALICE: &str = "AGE-SECRET-KEY-1E9VMDZS6RHZH4LXZLWLM47QKCY7E59LTC3AKKARMHCA6U5UUL4HSHQLNLK";
const ALICE_AGE: &str = "age1e63wmgw3vaj3veyfsae6ca73qpx8j8xj38r6yk7nk9nvhcr92vvsexht4t";
const BOB_AGE: &str = "age12h7333pd5phz20zqy2xqurkpuanr288ud8lyjxvgh2j6jdu3w4asgvy23q";
/// What `ed25519.pub` of the recorded cases is as an age recipient.
const SSH_AS_AGE: &str = "age1ega644j3ux6kqwm8tyvh4hyzfy9e9rsdtn7f8l2mrjtl7k3075vsgx0fws";

fn public_key() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/ssh-to-age/inputs/ed25519.pub");
    fs::read_to_string(file).expect("a key")
}

fn rules() -> String {
    format!(
        "# who\nkeys:\n  # people\n  - &alice {ALICE_AGE} # her laptop\n\ncreation_rules:\n  # the web\n  - path_regex: ^hosts/web/\n    age: [*alice] # only her\n  \
         - path_regex: ^hosts/db/\n    age: >-\n      {ALICE_AGE},\n      {SSH_AS_AGE}\n"
    )
}

fn project() -> Scene {
    let scene = Scene::new();
    scene.write(".sops.yaml", rules());
    for name in ["hosts/web/secrets.yaml", "hosts/db/secrets.yaml"] {
        scene.write(name, "a: b\n");
        run(&mut scene.civm(&["secrets", "encrypt", "-i", name])).ok();
    }
    scene
}

fn keys(scene: &Scene, words: &[&str]) -> Ran {
    run(scene.civm(&[&["keys"], words].concat()).env("SOPS_AGE_KEY", ALICE))
}

#[test]
fn a_key_is_named_and_reads_the_files_of_the_rules_that_are_meant() {
    let scene = project();
    let ran = keys(&scene, &["add", "bob", BOB_AGE]).ok().says("no rule uses it yet");
    assert_eq!(ran.out(), format!("{BOB_AGE}\n"));
    let named = rules().replace("her laptop\n", &format!("her laptop\n  - &bob {BOB_AGE}\n"));
    assert_eq!(scene.read(".sops.yaml"), named);

    keys(&scene, &["add", "bob", "--to", "^hosts/web/"])
        .ok()
        .says("in the rule for ^hosts/web/")
        .says("update-all");
    let first = named.replace("[*alice]", "[*alice, *bob]");
    assert_eq!(scene.read(".sops.yaml"), first);
    keys(&scene, &["add", "bob", "--to", "1", "--to", "hosts/web/secrets.yaml"])
        .ok()
        .says("already has this key");
    assert_eq!(scene.read(".sops.yaml"), first);

    keys(&scene, &["rm", "bob"]).ok().says("no file that was looked at has it");
    assert_eq!(scene.read(".sops.yaml"), rules());
    keys(&scene, &["add", "bob", BOB_AGE, "--all"]).ok();
    let both = first.replace(&format!("{SSH_AS_AGE}\n"), &format!("{SSH_AS_AGE},\n      {BOB_AGE}\n"));
    assert_eq!(scene.read(".sops.yaml"), both);
    let update = run(scene.civm(&["secrets", "update-all"]).env("SOPS_AGE_KEY", ALICE)).ok();
    assert_eq!(update.out().matches("+bob").count(), 2, "{}", update.out());
}

#[test]
fn a_public_key_is_taken_from_its_file_and_written_as_its_age_recipient() {
    let scene = project();
    scene.write(".sops.yaml", format!("creation_rules:\n  - age: {ALICE_AGE}\n"));
    scene.write("carol.pub", public_key());
    let ran = keys(&scene, &["add", "carol", "carol.pub", "--all"]).ok();
    assert_eq!(ran.out(), format!("{SSH_AS_AGE}\n"));
    let wanted =
        format!("keys:\n  - &carol {SSH_AS_AGE}\ncreation_rules:\n  - age: {ALICE_AGE},{SSH_AS_AGE}\n");
    assert_eq!(scene.read(".sops.yaml"), wanted);
    keys(&scene, &["add", "carol", public_key().trim(), "--all"]).ok().says("already has this key");
    keys(&scene, &["add", "me"]).ok();
    assert!(scene.read(".sops.yaml").contains(&format!("  - &me {ALICE_AGE}\n")), "the caller's own");
}

#[test]
fn what_is_no_key_or_is_known_otherwise_is_refused() {
    let scene = project();
    let before = scene.read(".sops.yaml");
    scene.write("two.pub", public_key().repeat(2));
    let private =
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/ssh-to-age/inputs/ed25519"));
    scene.write("private", private.expect("a key"));
    for (words, code, reason) in [
        (&["add", "bob", "nothing.pub"][..], 100, "neither a recipient nor a file"),
        (&["add", "bob", "two.pub"], 2, "it has 2 lines"),
        (&["add", "bob", "private"], 2, "it must contain exactly one key"),
        (&["add", "bob", "age1wrong"], 1, "recipient `age1wrong`"),
        (&["add", "bob", ALICE], 1, "AGE-SECRET-KEY-…"),
        (&["add", "alice", BOB_AGE], 1, "the name alice is already used for"),
        (&["add", "alice"], 1, "alice already exists"),
        (&["add", "bob", ALICE_AGE], 1, "is already listed, as alice"),
        (&["add", "b b", BOB_AGE], 1, "cannot be the name of a key"),
        (&["add", "bob", BOB_AGE, "--to", "nowhere"], 1, "has no rule `nowhere`"),
        (&["add", "bob", BOB_AGE, "--to", "1", "--group", "2"], 1, "no group 2"),
        (&["rm", "dave"], 1, "there is no key named dave"),
        (&["rm", BOB_AGE], 1, "does not contain this key"),
        (&["rm", "alice"], 1, "no recipient left"),
    ] {
        let ran = keys(&scene, words).code(code).says(reason);
        ran.silent_on(&ALICE[20..]);
        assert_eq!(scene.read(".sops.yaml"), before, "{words:?}");
    }
    let nowhere = Scene::new();
    keys(&nowhere, &["add", "bob", BOB_AGE]).code(1).says("civm init");
}

#[test]
fn a_key_that_goes_leaves_commands_or_the_files_in_line() {
    let scene = project();
    let before = scene.read("hosts/db/secrets.yaml");
    // Nobody can be asked, and the files stay as they are: a script does not take that for done.
    let ran = keys(&scene, &["rm", SSH_AS_AGE]).code(1).says("  civm secrets update-all\n");
    let ran = ran.says(&format!("  civm secrets rotate --rm-age {SSH_AS_AGE} hosts/db/secrets.yaml\n"));
    ran.says("change the secrets themselves as well");
    let without = rules().replace(&format!(",\n      {SSH_AS_AGE}\n"), "\n");
    assert_eq!(scene.read(".sops.yaml"), without);
    assert_eq!(scene.read("hosts/db/secrets.yaml"), before);

    let scene = project();
    let web = scene.read("hosts/web/secrets.yaml");
    let before = scene.read("hosts/db/secrets.yaml");
    let ran = keys(&scene, &["rm", "--yes", public_key().trim()]).ok();
    assert_eq!(ran.out(), "rotated hosts/db/secrets.yaml\n");
    let after = scene.read("hosts/db/secrets.yaml");
    assert!(!after.contains(SSH_AS_AGE), "{after}");
    let value = |text: &str| text.lines().find(|line| line.starts_with("a: ")).map(str::to_owned);
    assert_ne!(value(&before), value(&after), "a new data key");
    assert_eq!(scene.read("hosts/web/secrets.yaml"), web, "it never read this one");
    let opened =
        run(scene.civm(&["secrets", "decrypt", "hosts/db/secrets.yaml"]).env("SOPS_AGE_KEY", ALICE)).ok();
    assert_eq!(opened.out(), "a: b\n");
    run(&mut scene.civm(&["secrets", "check"])).ok();
}

#[test]
fn who_takes_the_own_key_out_still_makes_new_data_keys() {
    let scene = project();
    keys(&scene, &["add", "bob", BOB_AGE, "--all"]).ok();
    run(scene.civm(&["secrets", "update-all"]).env("SOPS_AGE_KEY", ALICE)).ok();
    let ran = keys(&scene, &["rm", "alice", "--yes"]).ok();
    assert_eq!(ran.out().lines().count(), 2, "{}", ran.out());
    run(scene.civm(&["secrets", "decrypt", "hosts/db/secrets.yaml"]).env("SOPS_AGE_KEY", ALICE)).code(128);
    run(&mut scene.civm(&["secrets", "check"])).ok();
    assert!(!scene.read(".sops.yaml").contains(ALICE_AGE));
}

#[test]
fn update_all_names_the_files_that_want_new_data_keys() {
    let scene = project();
    keys(&scene, &["rm", SSH_AS_AGE]).code(1);
    let ran = run(scene.civm(&["secrets", "update-all"]).env("SOPS_AGE_KEY", ALICE)).ok();
    ran.says("civm secrets rotate hosts/db/secrets.yaml").says("change the secrets themselves as well");
}

#[test]
fn files_that_are_tracked_but_not_looked_at_are_named() {
    let scene = project();
    let git = |args: &[&str]| scene.git(args);
    if !git(&["init", "-q"]) {
        return eprintln!("skipped: git is not installed");
    }
    keys(&scene, &["add", "bob", BOB_AGE, "--all"]).ok();
    run(scene.civm(&["secrets", "update-all"]).env("SOPS_AGE_KEY", ALICE)).ok();
    // What quotes a recipient and is not a sops file is not meant.
    scene.write("README.md", format!("bob is {BOB_AGE}\n"));
    scene.write(".civmignore", "/hosts/web/\n");
    assert!(git(&["add", "-A"]) && git(&["commit", "-qm", "all"]));
    // As in a sparse checkout.
    assert!(git(&["update-index", "--skip-worktree", "hosts/db/secrets.yaml"]));
    fs::remove_file(scene.file("hosts/db/secrets.yaml")).expect("it is there");
    let ran = keys(&scene, &["rm", "bob", "--yes"]).ok();
    let ran = ran.says("`hosts/db/secrets.yaml` has it too").says("`hosts/web/secrets.yaml` has it too");
    ran.silent_on("README.md").says("no file that was looked at has it");
}
