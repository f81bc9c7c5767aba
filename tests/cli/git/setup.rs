//! What `civm git install` sets up, and what it leaves alone.

use std::fs;

use super::{ALICE, ALICE_AGE, FILE, Repository};
use crate::support::{Scene, run};

#[test]
fn git_is_set_up_once_and_taken_down_again() {
    let repository = Repository::bare();
    repository.0.write(".gitattributes", "*.png binary");
    repository.civm(&["git", "install", "--check"]).code(1).says("not set up");
    assert_eq!(repository.0.read(".gitattributes"), "*.png binary");
    repository.civm(&["git", "install"]).ok().says("merge.civm.driver");
    let attributes = repository.0.read(".gitattributes");
    assert!(attributes.starts_with("*.png binary\n"), "{attributes}");
    assert!(attributes.contains("\n*secrets* diff=civm merge=civm\n"), "{attributes}");
    assert!(attributes.contains("\n.sops.yaml merge=civm\n"), "{attributes}");
    let config = repository.0.read(".git/config");
    assert!(config.contains("secrets merge-driver --marker-size %L"), "{config}");
    repository.civm(&["git", "install"]).ok().says("git is set up");
    repository.civm(&["git", "install", "--check"]).ok();
    assert_eq!((repository.0.read(".gitattributes"), repository.0.read(".git/config")), (attributes, config));
    // A file that the rules' patterns match needs no new line; another one does.
    repository.0.write("other secrets.yaml", "a: b\n");
    repository.civm(&["secrets", "encrypt", "-i", "other secrets.yaml"]).ok();
    repository.civm(&["git", "install", "--check"]).ok();
    fs::rename(repository.0.file("other secrets.yaml"), repository.0.file("other one.yaml")).unwrap();
    let check = repository.civm(&["secrets", "check"]).ok();
    let _ = check.says("git would merge `other one.yaml` as text").says("civm git install");
    repository.civm(&["git", "install", "--check"]).code(1).says(".gitattributes");
    repository.civm(&["git", "install"]).ok();
    for name in ["other one.yaml", FILE, "hosts/later/secrets.yaml", "new secrets/a.yaml"] {
        let attributes = repository.git(&["check-attr", "merge", "diff", "--", name]);
        assert_eq!(attributes.out().matches(": civm").count(), 2, "{}", attributes.out());
    }
    assert!(!repository.civm(&["secrets", "check"]).stderr.contains("as text"));
    repository.civm(&["git", "uninstall"]).ok();
    assert_eq!(repository.0.read(".gitattributes"), "*.png binary\n");
    assert!(!repository.0.read(".git/config").contains("civm"));
    fs::remove_file(repository.0.file(".gitattributes")).unwrap();
    repository.civm(&["git", "install"]).ok();
    repository.civm(&["git", "uninstall"]).ok();
    assert!(!repository.0.file(".gitattributes").exists());
    repository.civm(&["git", "install", "--global"]).ok();
    assert!(fs::read_to_string(repository.0.path("home/.gitconfig")).unwrap().contains("secrets textconv"));
    assert!(!repository.0.read(".git/config").contains("civm"));
    repository.civm(&["git", "uninstall", "--global"]).ok();
    assert!(!fs::read_to_string(repository.0.path("home/.gitconfig")).unwrap().contains("civm"));
}

#[test]
fn a_hook_is_written_only_where_there_is_none() {
    let repository = Repository::bare();
    repository.civm(&["git", "install", "--hooks"]).ok().says("pre-commit");
    let hook = ".git/hooks/pre-commit";
    let text = repository.0.read(hook);
    assert!(text.ends_with("exec \"$civm\" secrets check --staged\n"), "{text}");
    // That of an earlier civm is replaced by any install.
    let (head, _) = text.split_once("civm=").unwrap();
    repository.0.write(hook, format!("{head}exec civm secrets check --staged\n"));
    repository.civm(&["git", "install", "--check"]).code(1).says("the pre-commit hook");
    repository.civm(&["git", "install"]).ok();
    assert_eq!(repository.0.read(hook), text);
    repository.git(&["add", "-A"]);
    repository.git(&["commit", "-qm", "fine"]);
    repository.0.write("hosts/new/secrets.yaml", "password: in clear\n");
    repository.git(&["add", "-A"]);
    assert_ne!(repository.as_who(Some(ALICE), &["commit", "-qm", "not fine"]).code, 0);
    repository.civm(&["git", "uninstall"]).ok();
    assert!(!repository.0.file(hook).exists());
    repository.0.write(hook, "#!/bin/sh\nmine\n");
    repository.civm(&["git", "install", "--hooks"]).ok().says("is left unchanged");
    repository.civm(&["git", "uninstall"]).ok();
    assert_eq!(repository.0.read(hook), "#!/bin/sh\nmine\n");
    // A directory of hooks may be another tool's.
    repository.git(&["config", "core.hooksPath", "hooks-of-a-tool"]);
    repository.civm(&["git", "install", "--hooks"]).ok().says("core.hooksPath");
    assert!(!repository.0.file("hooks-of-a-tool").exists());
}

#[test]
fn outside_of_a_repository_git_has_the_word() {
    let scene = Scene::new();
    run(&mut scene.civm(&["git", "install"])).code(1).says("not a git repository");
    run(&mut scene.civm(&["secrets", "diff"])).code(1).says("not a git repository");
    run(&mut scene.civm(&["secrets", "merge", "a.yaml"])).code(1).says("not a git repository");
}

#[test]
fn lines_of_an_earlier_civm_give_way_and_those_of_the_person_stay() {
    let repository = Repository::bare();
    let earlier = "*.png binary\n# civm: sops files; `civm git install` renews these lines\n                   /hosts/*/secrets.yaml diff=civm merge=civm\n/a.yaml diff=civm merge=civm\n# civm: end\n\
                   *.txt text\n";
    repository.0.write(".gitattributes", earlier);
    repository.civm(&["git", "install"]).ok();
    let now = repository.0.read(".gitattributes");
    assert!(
        now.starts_with("*.png binary\n# civm: sops files") && now.ends_with("# civm: end\n*.txt text\n"),
        "{now}"
    );
    assert!(!now.contains("/a.yaml") && now.contains("\n*secrets* diff=civm merge=civm\n"), "{now}");
}

#[test]
fn patterns_come_from_the_rules_of_each_directory() {
    let repository = Repository::bare();
    let rules = |rules: &[&str]| -> String {
        let rules = rules.iter().map(|rule| format!("  - path_regex: {rule}\n    age: {ALICE_AGE}\n"));
        format!("creation_rules:\n{}", rules.collect::<String>())
    };
    repository
        .0
        .write(".sops.yaml", rules(&[r"\.sops\.ya?ml$", r"hosts/[^/]+/secrets\.yaml$", "^secrets/.*"]));
    repository.0.write("team one/.sops.yaml", rules(&[r"^prod/.*\.yaml$"]));
    repository.civm(&["git", "install"]).ok();
    let lines = repository.0.read(".gitattributes");
    let civms =
        |name: &str| repository.git(&["check-attr", "merge", "--", name]).out().ends_with(": merge: civm\n");
    for name in [
        "a.sops.yaml",
        "deep/er/b.sops.yml",
        "hosts/x/secrets.yaml",
        "in/hosts/x/secrets.yaml",
        "secrets/any/file",
        "team one/prod/x.yaml",
        "team one/prod/x/y.yaml",
        ".sops.yaml",
        "team one/.sops.yaml",
    ] {
        assert!(civms(name), "{name}\n{lines}");
    }
    for name in ["a.yaml", "hosts/x/host.yaml", "my/secrets/file", "prod/x.yaml"] {
        assert!(!civms(name), "{name}\n{lines}");
    }
    // Rules for everything are for every file that sops has a format for.
    repository.0.write(".sops.yaml", format!("creation_rules:\n  - age: {ALICE_AGE}\n"));
    repository.civm(&["git", "install"]).ok();
    assert!(["x/y.json", "new.env", "a.ini", "a.yml"].iter().all(|name| civms(name)) && !civms("main.rs"));
}
