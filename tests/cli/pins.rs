//! devshell/pin-jenkins, with an update centre of the test's own.

use std::fs;
use std::path::Path;
use std::process::Command;

use civm::host::spec::Arch;
use civm::host::{Project, artifacts};

const CENTER: &str = r#"{
"core": {"name": "core", "version": "2.504.3", "url": "https://example.org/jenkins.war", "sha256": "HASH"},
"plugins": {
  "git": {"name": "git", "version": "5", "url": "https://example.org/git.hpi", "sha256": "HASH",
    "dependencies": [{"name": "scm-api", "optional": false}, {"name": "matrix", "optional": true}]},
  "scm-api": {"name": "scm-api", "version": "7", "url": "https://example.org/scm.hpi", "sha256": "HASH",
    "dependencies": [{"name": "structs", "optional": false}]},
  "structs": {"name": "structs", "version": "3", "url": "https://example.org/structs.hpi", "sha256": "HASH",
    "dependencies": [{"name": "scm-api", "optional": false}]},
  "matrix": {"name": "matrix", "version": "1", "url": "https://example.org/matrix.hpi", "sha256": "HASH"}
}}"#;

#[test]
fn jenkins_is_pinned_with_what_its_plugins_need() {
    if !Command::new("jq").arg("--version").output().is_ok_and(|ran| ran.status.success()) {
        return eprintln!("skipped: no jq");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    for path in ["devshell", "hosts/jenkins-controller"] {
        fs::create_dir_all(at(path)).unwrap();
    }
    for path in ["devshell/lib.sh", "devshell/pin-jenkins"] {
        fs::copy(root.join(path), at(path)).unwrap();
    }
    let host =
        "artifacts:\n  /x/{name}: {from: jenkins.json}\n  /x/plugins/{name}.jpi: {from: plugins.json}\n";
    fs::write(at("hosts/jenkins-controller/host.yaml"), host).unwrap();
    fs::write(at("center.json"), CENTER.replace("HASH", "LCa0a2j/xo/5m0U8HTBBNBNCLXBkg7+g+YpeiGJm564="))
        .unwrap();
    let pin = |names: &str| {
        fs::write(at("hosts/jenkins-controller/plugins.txt"), names).unwrap();
        Command::new(at("devshell/pin-jenkins"))
            .env("CIVM_UPDATE_CENTER", at("center.json"))
            .output()
            .unwrap()
    };
    let ran = pin("# what we use\ngit # and more\n");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let project = Project::at(dir.path()).unwrap();
    let spec = project.load("jenkins-controller", Arch::X86_64).unwrap();
    let found = artifacts::of(&project, &spec).unwrap();
    let paths: Vec<&str> = found.iter().map(|one| one.layer.path.as_str()).collect();
    assert_eq!(
        paths,
        ["/x/jenkins.war", "/x/plugins/git.jpi", "/x/plugins/scm-api.jpi", "/x/plugins/structs.jpi"]
    );
    assert!(found.iter().all(|one| one.layer.sha256.starts_with("2c26b46b68ffc68f")));

    let before = fs::read(at("hosts/jenkins-controller/plugins.json")).unwrap();
    let ran = pin("git\ngti\n");
    let words = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(!ran.status.success() && words.contains("no such plugin: gti"), "{words}");
    assert_eq!(fs::read(at("hosts/jenkins-controller/plugins.json")).unwrap(), before, "nothing was written");
}
