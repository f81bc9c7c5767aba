//! ssh keys as the real ssh-to-age converts them.

use std::process::Command;

use crate::support::{Scene, peer, run, run_with};

#[test]
fn ssh_keys_convert_as_ssh_to_age_converts_them() {
    let (Some(tool), Some(keygen)) = (peer("ssh-to-age"), peer("ssh-keygen")) else {
        return eprintln!("skipped: no ssh-to-age or ssh-keygen at hand");
    };
    let scene = Scene::new();
    for comment in ["", "someone@somewhere", "three word comment"] {
        let key = scene.file("key");
        let _ = std::fs::remove_file(&key);
        run(Command::new(&keygen).args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]).arg(&key))
            .ok();
        let public = std::fs::read(key.with_extension("pub")).expect("the public half");
        let theirs = run_with(&mut scene.command(&tool), &public).ok();
        let ours = run_with(&mut scene.civm(&["keys", "from-ssh"]), &public).ok();
        assert_eq!(theirs.out(), ours.out());
        let private = std::fs::read(&key).expect("the private half");
        let theirs = run_with(scene.command(&tool).arg("-private-key"), &private).ok();
        let ours = run_with(&mut scene.civm(&["keys", "from-ssh", "--private"]), &private).ok();
        assert_eq!(theirs.out(), ours.out());
    }
}
