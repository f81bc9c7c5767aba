//! Files for every kind of recipient, alone and side by side, between civm and the real sops.

use std::path::Path;
use std::process::Command;

use super::age::{Pair, pairs};
use crate::support::{Scene, peer, run, run_with};

const PLAIN: &str = "a: one\nb: 2\n";

/// sops with arguments, or civm with those of the same meaning.
fn tool(scene: &Scene, sops: Option<&Path>, args: &[&str]) -> Command {
    match sops {
        Some(sops) => {
            let mut command = scene.command(sops);
            command.args(args);
            command
        }
        None => scene.civm(&[&["secrets"], args].concat()),
    }
}

/// Encrypts with one tool, and opens with the other by each private half alone.
fn passes(scene: &Scene, pairs: &[&Pair], from: Option<&Path>, to: Option<&Path>) {
    let recipients: Vec<_> = pairs.iter().map(|pair| pair.recipient.as_str()).collect();
    let args = ["encrypt", "--age", &recipients.join(","), "--filename-override", "file.yaml"];
    scene.write("file.yaml", run_with(&mut tool(scene, from, &args), PLAIN.as_bytes()).ok().stdout);
    for pair in pairs {
        let mut command = tool(scene, to, &["decrypt", "file.yaml"]);
        let opened = run(command.env(pair.variable(), &pair.private)).ok();
        assert_eq!(opened.out(), PLAIN, "{}", pair.recipient);
    }
}

#[test]
fn a_file_for_any_kind_of_recipient_is_opened_by_the_other_tool() {
    let scene = Scene::new();
    let (Some(sops), Some(pairs)) = (peer("sops"), pairs(&scene)) else {
        return eprintln!("skipped: no sops, age-keygen or ssh-keygen at hand");
    };
    for pair in &pairs {
        passes(&scene, &[pair], Some(&sops), None);
        passes(&scene, &[pair], None, Some(&sops));
    }
}

#[test]
fn of_post_quantum_and_other_recipients_in_one_file_each_suffices_alone() {
    let scene = Scene::new();
    let (Some(sops), Some(pairs)) = (peer("sops"), pairs(&scene)) else {
        return eprintln!("skipped: no sops, age-keygen or ssh-keygen at hand");
    };
    let all: Vec<&Pair> = pairs.iter().collect();
    passes(&scene, &all, Some(&sops), None);
    passes(&scene, &all, None, Some(&sops));
    let turned: Vec<&Pair> = pairs.iter().rev().collect();
    passes(&scene, &turned, Some(&sops), None);
    passes(&scene, &turned, None, Some(&sops));
}

#[test]
fn a_post_quantum_recipient_is_added_and_removed_as_sops_does_it() {
    let scene = Scene::new();
    let (Some(sops), Some(pairs)) = (peer("sops"), pairs(&scene)) else {
        return eprintln!("skipped: no sops, age-keygen or ssh-keygen at hand");
    };
    let sops = sops.as_path();
    let (native, hybrid) = (&pairs[0], &pairs[1]);
    let rules = |recipients: &[&str]| {
        let list: String = recipients.iter().map(|recipient| format!("      - {recipient}\n")).collect();
        scene.write(".sops.yaml", format!("creation_rules:\n  - key_groups:\n    - age:\n{list}"));
    };
    rules(&[&native.recipient]);
    scene.write("file.yaml", PLAIN);
    run(scene.command(sops).args(["encrypt", "-i", "file.yaml"])).ok();
    for (writer, recipients, opener) in [
        (None, vec![native.recipient.as_str(), &hybrid.recipient], native),
        (Some(sops), vec![hybrid.recipient.as_str()], hybrid),
        (Some(sops), vec![hybrid.recipient.as_str(), &native.recipient], hybrid),
        (None, vec![native.recipient.as_str()], hybrid),
    ] {
        rules(&recipients);
        let mut command = tool(&scene, writer, &["updatekeys", "--yes", "file.yaml"]);
        run(command.env(opener.variable(), &opener.private)).ok();
        for pair in [native, hybrid] {
            let expected = if recipients.contains(&pair.recipient.as_str()) { 0 } else { 128 };
            for reader in [None, Some(sops)] {
                let mut command = tool(&scene, reader, &["decrypt", "file.yaml"]);
                run(command.env(pair.variable(), &pair.private)).code(expected);
            }
        }
    }
}
