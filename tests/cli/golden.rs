//! Files that sops 3.9.4, 3.11.0 and 3.13.3 wrote, in every format: read to the byte, and changed in the lines that
//! sops 3.13.3 changes. `tests/golden/sops/README.md` says what is there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::support::shape::{kept, shape};
use crate::support::{Ran, Scene, civm_binary, run};

const VERSIONS: [&str; 3] = ["3.9.4", "3.11.0", "3.13.3"];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sops")
}

/// The names of a folder's files, in order.
fn names(version: &str) -> Vec<String> {
    let entries = fs::read_dir(golden().join(version).join("encrypted")).expect("recorded files");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    assert!(names.len() >= 14, "the files of {version} are there");
    names
}

/// civm as `sops`, with the identities of the recorded files.
fn sops(scene: &Scene, args: &[&str]) -> Ran {
    let link = scene.path("sops");
    if !link.exists() {
        symlink(civm_binary(), &link).expect("a link");
    }
    run(scene.command(link).args(args).env("SOPS_AGE_KEY_FILE", golden().join("keys.txt")))
}

fn text(path: &Path) -> String {
    String::from_utf8(fs::read(path).expect("a recorded file")).expect("UTF-8")
}

#[test]
fn what_any_sops_wrote_reads_as_the_newest_sops_prints_it() {
    let scene = Scene::new();
    let mut wrong = Vec::new();
    for version in VERSIONS {
        for name in names(version) {
            let file = golden().join(version).join("encrypted").join(&name);
            let ran = sops(&scene, &["decrypt", file.to_str().expect("UTF-8")]);
            let wanted = fs::read(golden().join(version).join("decrypted").join(&name)).expect("recorded");
            if ran.code != 0 || ran.stdout != wanted {
                let (wanted, got) = (String::from_utf8_lossy(&wanted), String::from_utf8_lossy(&ran.stdout));
                wrong.push(format!("{version}/{name}: {}\nwanted:\n{wanted}\ngot:\n{got}", ran.stderr));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Changes a copy of every recorded file and compares it with what sops left in a folder.
fn changes(folder: &str, change: impl Fn(&Scene, &str) -> Option<Ran>) {
    let scene = Scene::new();
    scene.write(".sops.yaml", fs::read(golden().join("more.yaml")).expect("rules"));
    let mut wrong = Vec::new();
    for version in VERSIONS {
        for name in names(version) {
            let before = text(&golden().join(version).join("encrypted").join(&name));
            let wanted = text(&golden().join(version).join(folder).join(&name));
            // In a folder, as the rules have it.
            let file = format!("files/{name}");
            let path = scene.write(&file, &before);
            let Some(ran) = change(&scene, &name) else { panic!("{name} is not in the list") };
            let got = text(&path);
            if ran.code != 0 {
                wrong.push(format!("{version}/{name}: {}", ran.stderr));
            } else if shape(&wanted) != shape(&got) {
                wrong.push(format!("{version}/{name}\nwanted:\n{}\ngot:\n{}", shape(&wanted), shape(&got)));
            } else if kept(&before, &wanted) != kept(&before, &got) {
                let lines = kept(&before, &wanted).into_iter().zip(kept(&before, &got));
                let other: Vec<_> = lines.filter(|(wanted, got)| wanted != got).collect();
                wrong.push(format!("{version}/{name}: other lines stay: {other:?}"));
            } else {
                let theirs = golden().join(version).join(folder).join(&name);
                let theirs = sops(&scene, &["decrypt", theirs.to_str().expect("UTF-8")]).ok();
                let ours = sops(&scene, &["decrypt", &file]).ok();
                if theirs.stdout != ours.stdout {
                    wrong.push(format!("{version}/{name} holds something else"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_value_that_is_set_changes_the_lines_that_sops_changes() {
    let list = fs::read_to_string(golden().join("set.txt")).expect("the list");
    changes("set", |scene, name| {
        let line = list.lines().find(|line| line.split(' ').next() == Some(name))?;
        let mut words = line.splitn(3, ' ').skip(1);
        Some(sops(scene, &["set", &format!("files/{name}"), words.next()?, words.next()?]))
    });
}

#[test]
fn other_recipients_change_the_lines_that_sops_changes() {
    changes("updated", |scene, name| Some(sops(scene, &["updatekeys", "--yes", &format!("files/{name}")])));
}
