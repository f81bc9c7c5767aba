//! What holds for every command.

use crate::support::{Scene, run};

#[test]
fn version_goes_to_stdout() {
    let scene = Scene::new();
    let ran = run(&mut scene.civm(&["--version"])).ok();
    assert_eq!(ran.out(), format!("civm {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_is_2_and_says_what_is_meant() {
    let scene = Scene::new();
    run(&mut scene.civm(&["completion", "bash"])).code(2).says("completions");
}

#[test]
fn a_shell_completes_every_visible_command() {
    let scene = Scene::new();
    for shell in ["bash", "zsh", "fish"] {
        let ran = run(&mut scene.civm(&["completions", shell])).ok();
        for command in ["keys", "secrets", "up", "down", "ssh", "ls"] {
            assert!(ran.out().contains(command), "{shell} lacks {command}");
        }
    }
}

#[test]
fn every_command_has_a_man_page() {
    let scene = Scene::new();
    run(&mut scene.civm(&["-q", "man", "man"])).ok();
    for page in ["civm.1", "civm-up.1", "civm-secrets-edit.1", "civm-keys-from-ssh.1"] {
        assert!(scene.read(&format!("man/{page}")).contains(".TH"), "{page}");
    }
}
