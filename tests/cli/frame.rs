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

/// What bash would offer for the last of `words`.
fn completed(scene: &Scene, words: &[&str]) -> String {
    let mut command = scene.civm(&["--", "civm"]);
    let index = words.len().to_string();
    command.args(words).env("CIVM_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", index);
    run(command.env("_CLAP_COMPLETE_COMP_TYPE", "9").env("_CLAP_IFS", "\n")).ok().out().to_owned()
}

#[test]
fn a_shell_completes_commands_hosts_and_instances() {
    let scene = Scene::new();
    for shell in ["bash", "zsh", "fish"] {
        let ran = run(&mut scene.civm(&["completions", shell])).ok();
        assert!(ran.out().contains("CIVM_COMPLETE"), "{shell}: {}", ran.out());
    }
    let commands = completed(&scene, &[""]);
    for command in ["keys", "secrets", "up", "down", "ssh", "status"] {
        assert!(commands.lines().any(|line| line == command), "{command}: {commands}");
    }
    scene.write("hosts/builder/host.yaml", "");
    run(&mut scene.civm(&["up", "builder", "--dry-run"])).ok();
    let home = scene.path("home/.local/state/civm");
    let project = std::fs::read_dir(home).unwrap().next().unwrap().unwrap().path();
    std::fs::create_dir_all(project.join("b2")).unwrap();
    std::fs::write(project.join("b2/instance.json"), "{}").unwrap();
    let names = |words: &[&str]| completed(&scene, words).lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(names(&["up", "b"]), ["b2", "builder"]);
    assert_eq!(names(&["down", "b"]), ["b2"]);
    assert_eq!(names(&["ssh", "x"]), [""; 0]);
}

#[test]
fn every_command_has_a_man_page() {
    let scene = Scene::new();
    run(&mut scene.civm(&["-q", "man", "man"])).ok();
    for page in ["civm.1", "civm-up.1", "civm-secrets-edit.1", "civm-keys-from-ssh.1"] {
        assert!(scene.read(&format!("man/{page}")).contains(".TH"), "{page}");
    }
}
