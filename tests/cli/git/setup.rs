//! What `civm git install` sets up, and what it leaves alone.

use std::fs;

use super::{ALICE, FILE, Repository};
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
    assert!(attributes.contains("\n/hosts/*/secrets.yaml diff=civm merge=civm\n"), "{attributes}");
    let config = repository.0.read(".git/config");
    assert!(config.contains("driver = civm secrets merge-driver"), "{config}");
    repository.civm(&["git", "install"]).ok().says("git is set up");
    repository.civm(&["git", "install", "--check"]).ok();
    assert_eq!((repository.0.read(".gitattributes"), repository.0.read(".git/config")), (attributes, config));
    // Another file is another pattern.
    repository.0.write("other secrets.yaml", "a: b\n");
    repository.civm(&["secrets", "encrypt", "-i", "other secrets.yaml"]).ok();
    repository.civm(&["git", "install", "--check"]).code(1).says(".gitattributes");
    repository.civm(&["git", "install"]).ok();
    for name in ["other secrets.yaml", FILE, "hosts/later/secrets.yaml"] {
        let attributes = repository.git(&["check-attr", "merge", "diff", "--", name]);
        assert_eq!(attributes.out().matches(": civm").count(), 2, "{}", attributes.out());
    }
    repository.civm(&["git", "uninstall"]).ok();
    assert_eq!(repository.0.read(".gitattributes"), "*.png binary\n");
    assert!(!repository.0.read(".git/config").contains("civm"));
    fs::remove_file(repository.0.file(".gitattributes")).unwrap();
    repository.civm(&["git", "install"]).ok();
    repository.civm(&["git", "uninstall"]).ok();
    assert!(!repository.0.file(".gitattributes").exists());
    repository.civm(&["git", "install", "--global"]).ok();
    assert!(fs::read_to_string(repository.0.path("home/.gitconfig")).unwrap().contains("textconv = civm"));
    assert!(!repository.0.read(".git/config").contains("civm"));
    repository.civm(&["git", "uninstall", "--global"]).ok();
    assert!(!fs::read_to_string(repository.0.path("home/.gitconfig")).unwrap().contains("civm"));
}

#[test]
fn a_hook_is_written_only_where_there_is_none() {
    let repository = Repository::bare();
    repository.civm(&["git", "install", "--hooks"]).ok().says("pre-commit");
    let hook = ".git/hooks/pre-commit";
    assert!(repository.0.read(hook).ends_with("exec civm secrets check --staged\n"));
    repository.git(&["add", "-A"]);
    repository.git(&["commit", "-qm", "fine"]);
    repository.0.write("hosts/new/secrets.yaml", "password: in clear\n");
    repository.git(&["add", "-A"]);
    assert_ne!(repository.as_who(Some(ALICE), &["commit", "-qm", "not fine"]).code, 0);
    repository.civm(&["git", "uninstall"]).ok();
    assert!(!repository.0.file(hook).exists());
    repository.0.write(hook, "#!/bin/sh\nmine\n");
    repository.civm(&["git", "install", "--hooks"]).ok().says("is left as it is");
    repository.civm(&["git", "uninstall"]).ok();
    assert_eq!(repository.0.read(hook), "#!/bin/sh\nmine\n");
}

#[test]
fn outside_of_a_repository_git_has_the_word() {
    let scene = Scene::new();
    run(&mut scene.civm(&["git", "install"])).code(1).says("not a git repository");
    run(&mut scene.civm(&["secrets", "diff"])).code(1).says("not a git repository");
    run(&mut scene.civm(&["secrets", "merge", "a.yaml"])).code(1).says("not a git repository");
}
