//! `civm keys …` from the outside.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::support::{Scene, run, run_with};

const ALICE: &str = "age1ega644j3ux6kqwm8tyvh4hyzfy9e9rsdtn7f8l2mrjtl7k3075vsgx0fws\n";
const ALICE_SECRET: &str = "AGE-SECRET-KEY-15GGPTFQLRXR469SVV4U6WCP5KTDE89ACUWK3LFYUJVX7NAKX00YSYF8DZL\n";
const LOCKED_SECRET: &str = "AGE-SECRET-KEY-1YZTDQNGPT4KXADT3LXZAEMLK96G0M2UKUQ4PJTZUCT70DCGGQ7WQKFMPHF\n";
const PASSPHRASE: &str = "SSH_TO_AGE_PASSPHRASE";

/// An input of the recorded cases of ssh-to-age.
fn input(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/ssh-to-age/inputs");
    fs::read(folder.join(name)).expect("an input")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o7777
}

/// A scene whose home has a .ssh with one key of this name.
fn home_with(key: &str) -> Scene {
    let scene = Scene::new();
    fs::create_dir(scene.path("home/.ssh")).expect("made");
    fs::write(scene.path("home/.ssh/id_ed25519"), input(key)).expect("written");
    fs::write(scene.path("home/.ssh/id_ed25519.pub"), input("ed25519.pub")).expect("written");
    scene
}

#[test]
fn a_public_key_gives_its_recipient_from_stdin_and_from_a_file() {
    let scene = Scene::new();
    let piped = run_with(&mut scene.civm(&["keys", "from-ssh"]), &input("ed25519.pub")).ok();
    assert_eq!((piped.out(), piped.stderr.as_str()), (ALICE, ""));
    scene.write("key.pub", input("ed25519.pub"));
    assert_eq!(run(&mut scene.civm(&["keys", "from-ssh", "-i", "key.pub"])).ok().out(), ALICE);
    let dash = run_with(&mut scene.civm(&["keys", "from-ssh", "-i", "-"]), &input("crlf.pub")).ok();
    assert_eq!(dash.out(), ALICE);
}

#[test]
fn other_key_types_are_skipped_with_a_word() {
    let scene = Scene::new();
    let ran = run_with(&mut scene.civm(&["keys", "from-ssh"]), &input("keyscan")).ok();
    assert_eq!(ran.out(), ALICE);
    let ran = ran.says("skipped: got ssh-rsa key type").says("skipped: got ecdsa-sha2-nistp256 key type");
    assert_eq!(ran.stderr.lines().count(), 2, "{}", ran.stderr);
    let none = run_with(&mut scene.civm(&["keys", "from-ssh"]), &input("rsa.pub")).code(1);
    assert_eq!(none.out(), "");
    none.says("contains no ssh ed25519 key");
}

#[test]
fn without_input_the_users_own_key_is_taken() {
    let scene = home_with("ed25519");
    let without_stdin = |args: &[&str]| {
        let mut command = scene.civm(args);
        let output = command.stdin(std::process::Stdio::null()).output().expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    assert_eq!(without_stdin(&["keys", "from-ssh"]), ALICE);
    assert_eq!(without_stdin(&["keys", "from-ssh", "--private"]), ALICE_SECRET);
}

#[test]
fn a_private_key_without_its_public_file_gives_its_recipient_without_a_passphrase() {
    for key in ["ed25519", "pass"] {
        let scene = home_with(key);
        fs::remove_file(scene.path("home/.ssh/id_ed25519.pub")).expect("removed");
        let output =
            scene.civm(&["keys", "from-ssh"]).stdin(std::process::Stdio::null()).output().expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let out = String::from_utf8(output.stdout).expect("text");
        assert!(out.starts_with("age1") && out.lines().count() == 1, "{out}");
        assert!(key == "pass" || out == ALICE);
    }
}

#[test]
fn an_output_that_leads_to_stdout_is_written_there() {
    let scene = Scene::new();
    scene.write("key", input("ed25519"));
    // A link of its own: should it be replaced, nothing of the system is.
    symlink("/proc/self/fd/1", scene.file("out")).expect("linked");
    let ran =
        run(&mut scene.civm(&["keys", "from-ssh", "--private", "-i", "key", "-o", "out", "--force"])).ok();
    assert_eq!(ran.out(), ALICE_SECRET);
    assert!(fs::symlink_metadata(scene.file("out")).expect("there").is_symlink());
    let args =
        ["secrets", "encrypt", "--age", ALICE.trim(), "--filename-override", "a.yaml", "--output", "out"];
    let ran = run_with(&mut scene.civm(&args), b"a: b\n").ok();
    assert!(ran.out().contains("sops:"), "{}", ran.out());
}

#[test]
fn identities_added_at_once_are_all_there() {
    let scene = Scene::new();
    scene.write("one", input("ed25519"));
    scene.write("two", input("pass"));
    let start = |key: &str| {
        let mut command = scene.civm(&["-q", "keys", "init", "-i", key]);
        command.env(PASSPHRASE, "correct horse").stdout(std::process::Stdio::null()).spawn().expect("runs")
    };
    for mut child in [start("one"), start("two"), start("one")] {
        assert!(child.wait().expect("ends").success());
    }
    let text = fs::read_to_string(scene.path("home/.config/sops/age/keys.txt")).expect("written");
    assert!([ALICE_SECRET, LOCKED_SECRET].iter().all(|key| text.matches(key.trim()).count() == 1));
}

#[test]
fn an_identity_is_written_for_its_owner_alone_and_never_over_another_file() {
    let scene = Scene::new();
    scene.write("key", input("ed25519"));
    let args = ["keys", "from-ssh", "--private", "-i", "key", "-o", "out"];
    let ran = run(&mut scene.civm(&args)).ok();
    assert_eq!((ran.out(), scene.read("out").as_str()), ("", ALICE_SECRET));
    assert_eq!(mode(&scene.file("out")), 0o600);
    scene.write("out", "mine");
    run(&mut scene.civm(&args)).code(3).says("out already exists").says("--force");
    assert_eq!(scene.read("out"), "mine");
    run(&mut scene.civm(&[&args[..], &["--force"]].concat())).ok();
    assert_eq!(scene.read("out"), ALICE_SECRET);
}

#[test]
fn a_failing_conversion_makes_and_replaces_no_file() {
    let scene = Scene::new();
    scene.write("rsa", input("rsa"));
    scene.write("out", "mine");
    let ran =
        run(&mut scene.civm(&["keys", "from-ssh", "--private", "-i", "rsa", "-o", "out", "--force"])).code(1);
    assert_eq!(scene.read("out"), "mine");
    ran.says("only ed25519 keys are supported");
    run_with(&mut scene.civm(&["keys", "from-ssh", "-o", "new"]), b"this is not a key")
        .code(1)
        .says("line 1");
    assert!(!scene.file("new").exists());
}

#[test]
fn a_passphrase_comes_from_the_environment_or_stdin() {
    let scene = Scene::new();
    scene.write("key", input("pass"));
    let args = ["keys", "from-ssh", "--private", "-i", "key"];
    let ran = run(scene.civm(&args).env(PASSPHRASE, "correct horse")).ok();
    assert_eq!(ran.out(), LOCKED_SECRET);
    let from_stdin = [&args[..], &["--passphrase-stdin"]].concat();
    let ran = run_with(scene.civm(&from_stdin).env(PASSPHRASE, "not looked at"), b"correct horse\r\n").ok();
    assert_eq!(ran.out(), LOCKED_SECRET);
    run(scene.civm(&args).env(PASSPHRASE, "battery staple")).code(1).says("incorrect passphrase");
    let both = ["keys", "from-ssh", "--private", "--passphrase-stdin", "-i", "-"];
    run_with(&mut scene.civm(&both), &input("pass")).code(8);
}

#[test]
fn an_unneeded_passphrase_is_no_reason_to_fail() {
    let scene = Scene::new();
    let mut command = scene.civm(&["keys", "from-ssh", "--private"]);
    let ran = run_with(command.env(PASSPHRASE, "correct horse"), &input("ed25519")).ok();
    assert_eq!(ran.out(), ALICE_SECRET);
}

#[test]
fn the_wrong_half_is_named_and_no_line_of_it_is_repeated() {
    let scene = Scene::new();
    let private = input("ed25519");
    let ran = run_with(&mut scene.civm(&["keys", "from-ssh"]), &private).code(1);
    let mut ran = ran.says("this is a private key").says("--private");
    for line in String::from_utf8(private).expect("text").lines().filter(|line| !line.starts_with('-')) {
        ran = ran.silent_on(line);
    }
    let public = input("ed25519.pub");
    run_with(&mut scene.civm(&["keys", "from-ssh", "--private"]), &public)
        .code(1)
        .says("this is a public key");
    run(&mut scene.civm(&["keys", "from-ssh", "-i", "none"])).code(100).says("`none`");
}

#[test]
fn init_puts_the_identity_where_sops_looks_and_is_done_once() {
    let scene = home_with("ed25519");
    let file = scene.path("home/.config/sops/age/keys.txt");
    let ran = run(scene.civm(&["keys", "init"]).env("USER", "alice")).ok();
    assert_eq!(ran.out(), ALICE);
    ran.says(&format!("  - &alice {ALICE}"));
    let first = fs::read_to_string(&file).expect("written");
    assert!(first.ends_with(ALICE_SECRET), "{first}");
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().expect("a directory")), 0o700);
    let again = run(&mut scene.civm(&["keys", "init"])).ok();
    assert_eq!(again.out(), ALICE);
    again.says("already");
    assert_eq!(fs::read_to_string(&file).expect("there"), first);
}

#[test]
fn init_adds_to_an_existing_file_and_follows_a_link_to_it() {
    let scene = home_with("ed25519");
    let directory = scene.path("home/.config/sops/age");
    fs::create_dir_all(&directory).expect("made");
    let real = scene.write("keys", "# mine, without a line end\nAGE-PLUGIN-YUBIKEY-1");
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).expect("set");
    symlink(&real, directory.join("keys.txt")).expect("linked");
    run(&mut scene.civm(&["keys", "init"])).ok().says("0640");
    let text = scene.read("keys");
    assert!(text.starts_with("# mine, without a line end\nAGE-PLUGIN-YUBIKEY-1\n# from "), "{text}");
    assert!(text.ends_with(ALICE_SECRET), "{text}");
    assert!(fs::symlink_metadata(directory.join("keys.txt")).expect("there").is_symlink());
}

#[test]
fn init_needs_a_key_and_opens_one_behind_a_passphrase() {
    let scene = Scene::new();
    run(&mut scene.civm(&["keys", "init"])).code(100).says("id_ed25519").says("ssh-keygen -t ed25519");
    let scene = home_with("pass");
    let ran = run(scene.civm(&["keys", "init"]).env(PASSPHRASE, "correct horse")).ok();
    assert_eq!(ran.out().lines().count(), 1);
    let file = scene.path("home/.config/sops/age/keys.txt");
    assert!(fs::read_to_string(file).expect("written").ends_with(LOCKED_SECRET));
}

#[test]
fn init_makes_a_post_quantum_identity_once_and_needs_no_ssh_key_for_it() {
    let scene = Scene::new();
    let file = scene.path("home/.config/sops/age/keys.txt");
    fs::create_dir_all(file.parent().expect("a directory")).expect("made");
    fs::write(&file, ALICE_SECRET).expect("written");
    let args = ["keys", "init", "--post-quantum"];
    let ran = run(scene.civm(&args).env("USER", "alice")).ok();
    let recipient = ran.out().trim_end().to_owned();
    assert!(recipient.starts_with("age1pq1") && recipient.lines().count() == 1, "{recipient}");
    ran.says(&format!("  - &alice {recipient}\n")).silent_on("AGE-SECRET-KEY");
    let text = fs::read_to_string(&file).expect("written");
    let (head, secret) = text.trim_end().rsplit_once('\n').expect("lines");
    let comments = format!("# from civm keys init --post-quantum\n# public key: {recipient}");
    assert_eq!(head, format!("{ALICE_SECRET}{comments}"));
    assert!(secret.starts_with("AGE-SECRET-KEY-PQ-1"));
    run(&mut scene.civm(&args)).ok().says("already");
    assert_eq!(fs::read_to_string(&file).expect("there"), text);
    run(&mut scene.civm(&[&args[..], &["-i", "key"]].concat())).code(8).says("--post-quantum");

    // What the file is for: nothing else is needed to open what is encrypted to the recipient.
    let encrypt = ["secrets", "encrypt", "--age", &recipient, "--filename-override", "a.yaml"];
    scene.write("a.yaml", run_with(&mut scene.civm(&encrypt), b"a: b\n").ok().stdout);
    assert_eq!(run(&mut scene.civm(&["secrets", "decrypt", "a.yaml"])).ok().out(), "a: b\n");
    let project = run(&mut scene.civm(&["init", "new"])).ok();
    project.silent_on("AGE-SECRET-KEY");
    let new_host = run(scene.civm(&["keys", "new-host", "web"]).current_dir(scene.file("new"))).ok();
    new_host.silent_on("AGE-SECRET-KEY");
    assert!(scene.read("new/hosts/web/secrets.yaml").contains("ssh_host_ed25519_key: ENC["));
}

#[test]
fn init_leaves_a_locked_identity_file_alone() {
    let scene = home_with("ed25519");
    let directory = scene.path("home/.config/sops/age");
    fs::create_dir_all(&directory).expect("made");
    fs::write(directory.join("keys.txt"), "age-encryption.org/v1\n-> scrypt").expect("written");
    run(&mut scene.civm(&["keys", "init"])).code(3).says("encrypted with a passphrase");
    let text = fs::read_to_string(directory.join("keys.txt")).expect("there");
    assert_eq!(text, "age-encryption.org/v1\n-> scrypt");
}
