//! `civm secrets who`.

use crate::support::{Scene, run};

const ALICE_AGE: &str = "age1e63wmgw3vaj3veyfsae6ca73qpx8j8xj38r6yk7nk9nvhcr92vvsexht4t";
const BOB_AGE: &str = "age12h7333pd5phz20zqy2xqurkpuanr288ud8lyjxvgh2j6jdu3w4asgvy23q";
/// One key in both forms.
const SSH: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFj8dFyP9VskLsiSbgTcq7a+EnXF3jT5HvW+pwUT+ZvE";
const SSH_AS_AGE: &str = "age1ega644j3ux6kqwm8tyvh4hyzfy9e9rsdtn7f8l2mrjtl7k3075vsgx0fws";

fn rules(scene: &Scene, rest: &str) {
    let keys = format!("keys:\n  - &alice {ALICE_AGE}\n  - &bob {BOB_AGE}\n  - &carol {SSH_AS_AGE}\n");
    scene.write(".sops.yaml", format!("{keys}creation_rules:\n{rest}"));
}

fn who(scene: &Scene, words: &[&str]) -> String {
    run(&mut scene.civm(&[&["secrets", "who"], words].concat())).ok().out().to_owned()
}

/// Three files, of which the rules want something else by now.
fn project() -> Scene {
    let scene = Scene::new();
    rules(
        &scene,
        &format!(
            "  - path_regex: ^a\n    age: [*alice, '{SSH} carol@home']\n  - path_regex: ^groups\n    shamir_threshold: 2\n    key_groups:\n      \
             - age: [*alice]\n      - age: [*bob, *carol]\n      - age: [*carol]\n  - path_regex: ^lost\n    age: [*bob, {SSH_AS_AGE}]\n"
        ),
    );
    for name in ["a.yaml", "groups.yaml", "lost.yaml"] {
        scene.write(name, "a: b\n");
        run(&mut scene.civm(&["secrets", "encrypt", "-i", name])).ok();
    }
    rules(
        &scene,
        "  - path_regex: ^a\n    age: [*bob, *carol]\n  - path_regex: ^groups\n    shamir_threshold: 2\n    key_groups:\n      \
         - age: [*alice]\n      - age: [*bob, *carol]\n      - age: [*carol]\n",
    );
    scene
}

#[test]
fn every_file_and_its_readers_make_a_table() {
    let scene = project();
    let ran =
        run(&mut scene.civm(&["secrets", "who"])).ok().says("+ can read it after `civm secrets update-all`");
    assert_eq!(
        ran.out(),
        "a.yaml       -alice carol +bob\ngroups.yaml  2 of 3: [alice] [bob carol] [carol]\nlost.yaml    bob carol  (no rule)\n"
    );
}

#[test]
fn a_file_tells_its_readers() {
    let scene = project();
    let after = "after `civm secrets update-all`";
    assert_eq!(
        who(&scene, &["a.yaml"]),
        format!(
            "alice  {ALICE_AGE}  can no longer read it {after}\ncarol  {SSH} carol@home\nbob    {BOB_AGE}  can read it {after}\n"
        )
    );
    let groups = who(&scene, &["groups.yaml"]);
    assert!(
        groups.starts_with(&format!("group 1 of 3 (2 needed):\nalice  {ALICE_AGE}\ngroup 2")),
        "{groups}"
    );
}

#[test]
fn a_reader_tells_its_files_by_name_and_by_either_form_of_the_key() {
    let scene = project();
    let files = "a.yaml\ngroups.yaml  (with 2 of 3 key groups)\nlost.yaml\n";
    for word in ["carol", SSH_AS_AGE, SSH, &format!("{SSH} somebody")] {
        assert_eq!(who(&scene, &[word]), files, "{word}");
    }
    assert_eq!(
        who(&scene, &["alice"]),
        "a.yaml  (until update-all)\ngroups.yaml  (with 2 of 3 key groups)\n"
    );
    assert!(who(&scene, &["bob"]).starts_with("a.yaml  (only after update-all)\n"));
    assert!(who(&scene, &["alice", "bob"]).starts_with("alice:\na.yaml"));
    let nobody = "age1q9h7cgpgt0msxmntzew65n9gnycldrp7mqn5tzjn7ggm7vusk3as7wk7jh";
    run(&mut scene.civm(&["secrets", "who", nobody])).ok().says("cannot read any file here");
    let unknown = run(&mut scene.civm(&["secrets", "who", "dave"])).code(100);
    unknown.says("not a name").says("known names:").says("alice");
}

#[test]
fn a_name_comes_before_a_file_of_that_name() {
    let scene = project();
    scene.write("alice/x.yaml", scene.read("lost.yaml"));
    assert!(who(&scene, &["alice"]).starts_with("a.yaml"));
    assert_eq!(who(&scene, &["./alice"]), "alice/x.yaml  bob carol\n");
}

#[test]
fn json_says_the_same() {
    let scene = project();
    let json: serde_json::Value = serde_json::from_str(&who(&scene, &["--json"])).expect("JSON");
    let files = json["files"].as_array().expect("files");
    assert_eq!(files.len(), 3);
    assert_eq!(files[0]["groups"][0][0]["name"], "alice");
    assert_eq!(files[0]["groups"][0][0]["state"], "removed");
    assert_eq!(files[0]["groups"][0][2]["state"], "added");
    assert_eq!((&files[1]["groups_needed"], &files[2]["rule"]), (&2.into(), &false.into()));
    let json: serde_json::Value = serde_json::from_str(&who(&scene, &["bob", "--json"])).expect("JSON");
    assert_eq!(json["files"], serde_json::json!([]));
    let of_bob = &json["recipients"][0];
    assert_eq!((&of_bob["name"], &of_bob["files"][0]["state"]), (&"bob".into(), &"added".into()));
}

#[test]
fn many_files_with_the_same_readers_share_a_row() {
    let scene = Scene::new();
    rules(&scene, "  - path_regex: ^hosts/z\n    age: [*bob]\n  - path_regex: .*\n    age: [*alice]\n");
    for name in ["hosts/a/s.yaml", "hosts/b/s.yaml", "hosts/c/s.yaml", "hosts/z/s.yaml", "other.yaml"] {
        scene.write(name, "a: b\n");
        run(&mut scene.civm(&["secrets", "encrypt", "-i", name])).ok();
    }
    // Among them what is in the root: it is the directory that they have in common.
    let ran = run(&mut scene.civm(&["secrets", "who"])).ok().says("--all");
    assert_eq!(ran.out(), "./ (4 files)    alice\nhosts/z/s.yaml  bob\n");
    std::fs::remove_file(scene.file("other.yaml")).expect("removed");
    assert_eq!(who(&scene, &[]).lines().count(), 4, "a few have a row each");
    scene.write("hosts/d.yaml", scene.read("hosts/a/s.yaml"));
    assert_eq!(who(&scene, &[]), "hosts/ (4 files)  alice\nhosts/z/s.yaml    bob\n");
    assert_eq!(who(&scene, &["--all"]).lines().count(), 5);
    let json: serde_json::Value = serde_json::from_str(&who(&scene, &["--json"])).expect("JSON");
    assert_eq!(json["files"].as_array().expect("files").len(), 5);
    assert_eq!(who(&scene, &["alice"]).lines().count(), 4, "who asks for a key gets its files");
}
