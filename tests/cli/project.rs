//! A project from nothing: `civm init`, `civm keys new-host`.

use std::fs;
use std::process::Command;

use crate::support::{Scene, peer, run};

/// A home with an ssh key of its own, or `None` where ssh-keygen is missing.
fn with_ssh_key() -> Option<Scene> {
    let scene = Scene::new();
    let keygen = peer("ssh-keygen")?;
    fs::create_dir(scene.path("home/.ssh")).unwrap();
    let key = scene.path("home/.ssh/id_ed25519");
    run(Command::new(keygen).args(["-q", "-t", "ed25519", "-N", "", "-C", "me", "-f"]).arg(key)).ok();
    Some(scene)
}

#[test]
fn a_project_from_nothing_has_a_host_whose_secrets_its_maker_reads() {
    let Some(scene) = with_ssh_key() else { return eprintln!("skipped: no ssh-keygen") };
    run(&mut scene.civm(&["init"])).ok();
    assert!(scene.file("hosts").is_dir());
    assert_eq!(scene.read(".gitignore"), "*.qcow2\n");
    run(&mut scene.civm(&["init"])).code(1).says("already exists");
    let made = run(&mut scene.civm(&["keys", "new-host", "web"])).ok();
    let recipient = made.out().trim().to_owned();
    let rules = scene.read(".sops.yaml");
    assert!(rules.contains(&format!("&web {recipient}")), "{rules}");

    // The ssh key alone opens it: no keys.txt was made.
    let key =
        run(&mut scene.civm(&["secrets", "get", "hosts/web/secrets.yaml", "ssh_host_ed25519_key"])).ok();
    let back =
        crate::support::run_with(&mut scene.civm(&["keys", "from-ssh", "--private"]), &key.stdout).ok();
    let opened = run(scene
        .civm(&["secrets", "get", "hosts/web/secrets.yaml", "ssh_host_ed25519_key"])
        .env("HOME", scene.path("tmp"))
        .env("SOPS_AGE_KEY", back.out().trim()))
    .ok();
    assert_eq!(opened.stdout, key.stdout, "the host reads its own secrets");
    run(&mut scene.civm(&["secrets", "update-all", "--check"])).ok();
    assert!(scene.read("hosts/web/host.yaml").contains("ssh: 2222"));

    run(&mut scene.civm(&["keys", "new-host", "db"])).ok();
    assert!(scene.read("hosts/db/host.yaml").contains("ssh: 2223"), "each host has a port of its own");
    run(&mut scene.civm(&["keys", "new-host", "web"])).code(1).says("already exists");
    run(&mut scene.civm(&["keys", "new-host", "../evil"])).code(2);
}

#[test]
fn a_new_host_leaves_every_other_byte_of_the_rules() {
    let Some(scene) = with_ssh_key() else { return eprintln!("skipped: no ssh-keygen") };
    let own = run(&mut scene.civm(&[
        "keys",
        "from-ssh",
        "-i",
        &scene.path("home/.ssh/id_ed25519.pub").to_string_lossy(),
    ]))
    .ok();
    let own = own.out().trim();
    let before = format!(
        "# who reads what\nkeys:\n    # people\n    - &me  {own}   # that is me\n\n# rules\ncreation_rules:\n    - path_regex: ^a\\.yaml$\n      key_groups:\n          - age: [ *me ]\n    # everything else\n    - path_regex: .*\n      age: {own}"
    );
    scene.write(".sops.yaml", &before);
    fs::create_dir(scene.file("hosts")).unwrap();
    run(&mut scene.civm(&["keys", "new-host", "web"])).ok();
    let after = scene.read(".sops.yaml");
    let mut rest = after.lines();
    for line in before.lines() {
        assert!(rest.any(|other| other == line), "{line:?} is gone from:\n{after}");
    }
    run(&mut scene.civm(&["secrets", "get", "hosts/web/secrets.yaml", "ssh_host_ed25519_key"])).ok();
    run(&mut scene.civm(&["secrets", "update-all", "--check"])).ok();
}

#[test]
fn a_failure_leaves_no_half_made_host() {
    let Some(scene) = with_ssh_key() else { return eprintln!("skipped: no ssh-keygen") };
    run(&mut scene.civm(&["keys", "new-host", "web"])).code(1);
    let flow = "keys: [a]\ncreation_rules: [{path_regex: x, age: [age1]}]\n";
    scene.write(".sops.yaml", flow);
    let ran = run(&mut scene.civm(&["keys", "new-host", "web"]));
    assert_ne!(ran.code, 0);
    assert_eq!(scene.read(".sops.yaml"), flow);
    assert!(!scene.file("hosts/web").exists());
}

#[test]
fn nobody_is_told_what_to_do() {
    let scene = Scene::new();
    run(&mut scene.civm(&["init"])).code(1).says("ssh-keygen");
    run(&mut scene.civm(&["keys", "new-host", "web"])).code(1).says("civm init");
}

#[test]
fn the_schema_is_json() {
    let scene = Scene::new();
    let schema = run(&mut scene.civm(&["schema"])).ok();
    serde_json::from_str::<serde_json::Value>(schema.out()).expect("JSON");
}

#[test]
fn hosts_made_at_once_are_all_there() {
    let Some(scene) = with_ssh_key() else { return eprintln!("skipped: no ssh-keygen") };
    run(&mut scene.civm(&["init"])).ok();
    assert!(scene.file("hosts/host.schema.json").is_file());
    fs::remove_file(scene.file("hosts/host.schema.json")).unwrap();
    let names = ["h1", "h2", "h3", "h4", "h5", "h6"];
    let children: Vec<_> = names
        .iter()
        .map(|name| {
            scene.civm(&["-q", "keys", "new-host", name]).stdout(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let rules = scene.read(".sops.yaml");
    let mut ports = std::collections::BTreeSet::new();
    for name in names {
        assert!(rules.contains(&format!("&{name} age1")), "{rules}");
        ports.insert(scene.read(&format!("hosts/{name}/host.yaml")));
    }
    assert_eq!(ports.len(), names.len(), "each host has a port of its own");
    assert!(scene.file("hosts/host.schema.json").is_file());
}

#[test]
fn the_project_option_says_where_init_works() {
    let Some(scene) = with_ssh_key() else { return eprintln!("skipped: no ssh-keygen") };
    run(&mut scene.civm(&["--project", "one", "init", "two"])).code(8);
    run(&mut scene.civm(&["--project", "one", "init"])).ok();
    assert!(scene.file("one/.sops.yaml").is_file() && !scene.file(".sops.yaml").exists());
}

#[test]
fn a_named_reader_is_one_more_and_other_kinds_of_keys_are_mentioned() {
    let Some(scene) = with_ssh_key() else { return eprintln!("skipped: no ssh-keygen") };
    let other = "age1ega644j3ux6kqwm8tyvh4hyzfy9e9rsdtn7f8l2mrjtl7k3075vsgx0fws";
    scene.write(".sops.yaml", "creation_rules:\n  - path_regex: x\n    pgp: ABC\n");
    fs::create_dir(scene.file("hosts")).unwrap();
    run(&mut scene.civm(&["keys", "new-host", "web", "--recipient", other])).ok().says("pgp keys");
    assert!(scene.read("hosts/web/secrets.yaml").contains(other));
    run(&mut scene.civm(&["secrets", "get", "hosts/web/secrets.yaml", "ssh_host_ed25519_key"])).ok();
}
