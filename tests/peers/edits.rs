//! Edits and changed recipients: the lines that sops would change, and no others.

use super::yaml::{IDENTITY, recipient};
use crate::support::shape::{kept, shape};
use crate::support::{Scene, peer, run, run_with};

const PLAIN: &str = "# top\nfirst: one\nsecond:\n    # inside\n    deep: two\n    number: 3\nlist:\n    - x\n    # between\n    - y\nlast: \"\"\n";
const OTHER: &str = "age10yxnlmgmfxvptr92k8mj0y4sz2qnkwyf98k4gku43kyps0e8a5ws9nauq8";

#[test]
fn an_edit_changes_the_lines_that_sops_changes() {
    let scene = Scene::new();
    let (Some(sops), Some(recipient)) = (peer("sops"), recipient(&scene)) else {
        return eprintln!("skipped: no sops or age at hand");
    };
    scene.write("plain.yaml", PLAIN);
    let encrypted = run(scene.command(&sops).args(["encrypt", "--age", &recipient, "plain.yaml"])).ok();
    let before = encrypted.out().to_owned();
    let edits = [
        "s/: one/: changed/",
        "s/deep: two/deep: 2/",
        "s/- x/- z/",
        "/between/d",
        "s/# top/# bottom/",
        "s/last: .*/last: now/",
        "s/number: 3/number: 4.5/",
        "/second:/i added: true",
        "/first/d",
    ];
    for edit in edits {
        let mut after = Vec::new();
        for (name, tool) in [("theirs.yaml", Some(&sops)), ("ours.yaml", None)] {
            scene.write(name, &before);
            let mut command = match tool {
                Some(tool) => scene.command(tool),
                None => scene.civm(&["secrets"]),
            };
            let editor = format!("sed -i '{edit}'");
            run(command.args(["edit", name]).env("EDITOR", editor).env("SOPS_AGE_KEY", IDENTITY)).ok();
            after.push(scene.read(name));
        }
        assert_eq!(kept(&before, &after[0]), kept(&before, &after[1]), "{edit}");
        assert_eq!(shape(&after[0]), shape(&after[1]), "{edit}");
        let back =
            run(scene.command(&sops).args(["decrypt", "ours.yaml"]).env("SOPS_AGE_KEY", IDENTITY)).ok();
        let want =
            run(scene.command(&sops).args(["decrypt", "theirs.yaml"]).env("SOPS_AGE_KEY", IDENTITY)).ok();
        assert_eq!(back.out(), want.out(), "{edit}");
    }
}

#[test]
fn updatekeys_leaves_what_sops_leaves() {
    let scene = Scene::new();
    let (Some(sops), Some(recipient)) = (peer("sops"), recipient(&scene)) else {
        return eprintln!("skipped: no sops or age at hand");
    };
    scene.write("plain.yaml", PLAIN);
    let before =
        run(scene.command(&sops).args(["encrypt", "--age", &recipient, "plain.yaml"])).ok().out().to_owned();
    scene.write(".sops.yaml", format!("creation_rules:\n  - age: {recipient},{OTHER}\n"));
    for (name, tool) in [("theirs.yaml", Some(&sops)), ("ours.yaml", None)] {
        scene.write(name, &before);
        let mut command = match tool {
            Some(tool) => scene.command(tool),
            None => scene.civm(&["secrets"]),
        };
        let ran = run_with(command.args(["updatekeys", name]).env("SOPS_AGE_KEY", IDENTITY), b"y\n").ok();
        assert!(ran.out().contains(&format!("+++ {OTHER}")), "{}", ran.out());
    }
    let (theirs, ours) = (scene.read("theirs.yaml"), scene.read("ours.yaml"));
    assert_eq!(kept(&before, &theirs), kept(&before, &ours));
    assert_eq!(shape(&theirs), shape(&ours));
    run(scene.command(&sops).args(["decrypt", "ours.yaml"]).env("SOPS_AGE_KEY", IDENTITY)).ok();
}

#[test]
fn nobody_at_hand_gives_sops_own_words_and_more() {
    let scene = Scene::new();
    let (Some(sops), Some(recipient)) = (peer("sops"), recipient(&scene)) else {
        return eprintln!("skipped: no sops or age at hand");
    };
    scene.write("plain.yaml", PLAIN);
    let text = run(scene.command(&sops).args(["encrypt", "--age", &recipient, "plain.yaml"])).ok();
    scene.write("secrets.yaml", &text.stdout);
    let theirs = run(scene.command(&sops).args(["decrypt", "secrets.yaml"])).code(128);
    let ours = run(&mut scene.civm(&["secrets", "decrypt", "secrets.yaml"])).code(128);
    let words = theirs.stderr.trim();
    assert!(ours.stderr.contains(words), "sops says:\n{words}\n\ncivm says:\n{}", ours.stderr);
    assert!(ours.stderr.len() > words.len() + 50, "civm adds nothing:\n{}", ours.stderr);
}
