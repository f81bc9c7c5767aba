//! How much memory large files take.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use crate::support::{Scene, civm_binary, run};

/// A throw-away identity; it protects nothing.
const ALICE: &str = "AGE-SECRET-KEY-1E9VMDZS6RHZH4LXZLWLM47QKCY7E59LTC3AKKARMHCA6U5UUL4HSHQLNLK";
const ALICE_AGE: &str = "age1e63wmgw3vaj3veyfsae6ca73qpx8j8xj38r6yk7nk9nvhcr92vvsexht4t";
/// Values of a file whose plaintext does not fit into a pipe.
const VALUES: usize = 20_000;
/// The most that decrypting may take, in sizes of the encrypted file. It takes 2.5; with the text beside the tree to the
/// end it takes 3.2.
const MOST: f64 = 2.9;

/// The peak of a process's memory when it has begun to print its result, which nobody takes off it.
fn peak(mut command: Command) -> f64 {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started");
    let mut out = child.stdout.take().expect("a pipe");
    out.read_exact(&mut [0]).expect("a first byte");
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs or is a zombie");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")).expect("it still runs");
    let bytes = kilobytes.trim().parse::<f64>().expect("a number") * 1024.0;
    std::io::copy(&mut out, &mut std::io::sink()).expect("read");
    assert!(child.wait().expect("waited").success());
    bytes
}

#[test]
fn a_text_is_given_up_once_it_has_been_read() {
    let scene = Scene::new();
    scene.write(".sops.yaml", format!("creation_rules:\n  - age: {ALICE_AGE}\n"));
    let value = "v".repeat(40);
    let entries =
        |count| (0..count).map(|n| format!("\"key{n:05}\": \"{value}\"")).collect::<Vec<_>>().join(",");
    // What every run takes, however small the file is; its plaintext does not fit into a pipe either.
    let least = 2_000;
    for (name, count) in [("small.json", least), ("large.json", VALUES)] {
        scene.write(name, format!("{{{}}}", entries(count)));
        run(&mut scene.civm(&["secrets", "encrypt", "-i", name])).ok();
    }
    let size = |name: &str| fs::metadata(scene.file(name)).expect("there").len() as f64;
    let sops = scene.path("sops");
    symlink(civm_binary(), &sops).expect("linked");
    for words in [&["secrets", "decrypt"][..], &["decrypt"]] {
        let peak = |name: &str| {
            let mut command = if words.len() == 1 { scene.command(&sops) } else { scene.civm(&[]) };
            command.args(words).arg(scene.file(name)).env("SOPS_AGE_KEY", ALICE);
            peak(command)
        };
        let times = (peak("large.json") - peak("small.json")) / (size("large.json") - size("small.json"));
        assert!(times < MOST, "{words:?}: {times:.2} times the size of the file");
    }
}
