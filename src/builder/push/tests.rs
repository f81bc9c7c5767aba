use super::*;
use std::io::Write as _;
use std::process::{Command, Stdio};

fn remote() -> Remote {
    Remote { user: "lender".into(), host: "h".into(), port: 22 }
}

/// Runs a command as a login shell would.
fn run(command: &str, stdin: &[u8], home: &Path) -> (String, String) {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .env("HOME", home)
        .env_remove("XDG_CACHE_HOME")
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text(output.stdout), text(output.stderr))
}

fn binary(home: &Path, content: &str) -> Arc<Binary> {
    binary_for(Arch::native().unwrap(), home, content)
}

fn binary_for(arch: Arch, home: &Path, content: &str) -> Arc<Binary> {
    let path = home.join("source");
    std::fs::write(&path, content).unwrap();
    let sha256 = hex::encode(&Sha256::digest(content));
    Arc::new(Binary { arch, sha256, size: content.len() as u64, path })
}

fn look(home: &Path, binary: &Arc<Binary>, next: &str) -> (Probe, String) {
    let (out, _) = run(&probe(std::slice::from_ref(binary)), next.as_bytes(), home);
    let lines: Vec<String> = out.lines().map(str::to_owned).collect();
    let from = lines.iter().position(|line| line == PROBE).unwrap();
    let to = lines.iter().position(|line| line == END).unwrap();
    (Probe::read(&lines[from + 1..to]), lines[to + 1..].join("\n"))
}

#[test]
fn the_scripts_can_be_quoted_by_any_shell() {
    let home = tempfile::tempdir().unwrap();
    let binary = binary(home.path(), "x");
    let of_guests = receive(&binary, true);
    for script in [probe(std::slice::from_ref(&binary)), probe(&[]), receive(&binary, false), of_guests] {
        let inner = script.strip_prefix("sh -c '").and_then(|rest| rest.strip_suffix('\'')).unwrap();
        assert!(!inner.contains(['\'', '\\', '!', '\n']), "{script}");
    }
}

#[test]
fn a_binary_is_pushed_once_and_then_runs() {
    let home = tempfile::tempdir().unwrap();
    let binary = binary(home.path(), "#!/bin/sh\necho it runs: $*\n");
    let (found, _) = look(home.path(), &binary, "");
    assert_eq!(found.has(&binary, &remote()), Ok(false));
    assert_eq!(found.arch(&remote()), Ok(Arch::native().unwrap()));
    let content = std::fs::read(&binary.path).unwrap();
    let (answer, stderr) = run(&receive(&binary, false), &content, home.path());
    received(&answer, &stderr, &binary, &found.cache, &remote()).unwrap();
    let line = serve(&Program::Pushed(binary.sha256.clone()), None, &["env".into(), "A=b c".into()]);
    let (found, rest) = look(home.path(), &binary, &line);
    assert_eq!(found.has(&binary, &remote()), Ok(true));
    assert_eq!(rest, "it runs: remote serve");
    // One that was cut short is not taken for it.
    std::fs::write(home.path().join(".cache/civm/bin").join(&binary.sha256), "#!/bin/sh\n").unwrap();
    assert_eq!(look(home.path(), &binary, "").0.has(&binary, &remote()), Ok(false));
}

#[test]
fn a_binary_for_guests_of_another_kind_is_pushed_and_not_run() {
    let home = tempfile::tempdir().unwrap();
    let foreign = if Arch::native() == Some(Arch::X86_64) { Arch::Aarch64 } else { Arch::X86_64 };
    let binary = binary_for(foreign, home.path(), "#!/bin/sh\necho ran >> $HOME/ran\nexit 9\n");
    assert!(look(home.path(), &binary, "").0.whole(&binary).is_none());
    let content = std::fs::read(&binary.path).unwrap();
    let (answer, stderr) = run(&receive(&binary, true), &content, home.path());
    received(&answer, &stderr, &binary, "/c", &remote()).unwrap();
    // The serve is told where it is, whatever runs before it.
    let path = home.path().join(".cache/civm/bin").join(&binary.sha256);
    let words = ["sh", "-c", "echo $CIVM_GUEST_BINARY $*"].map(str::to_owned);
    let line = serve(&Program::Theirs("/bin/civm".into()), Some(&binary.sha256), &words);
    let (found, rest) = look(home.path(), &binary, &line);
    assert!(found.whole(&binary).is_some());
    assert_eq!(rest, format!("{} remote serve", path.display()));
    assert!(!home.path().join("ran").exists());
}

#[test]
fn what_does_not_arrive_whole_is_told_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let binary = binary(home.path(), "#!/bin/sh\nexit 0\n");
    let said = |stdin: &[u8]| {
        let (answer, stderr) = run(&receive(&binary, false), stdin, home.path());
        received(&answer, &stderr, &binary, "/c", &remote()).unwrap_err()
    };
    let reason = said(b"#!/bin/sh\n");
    assert_eq!(reason.kind, Kind::Network);
    assert_eq!(reason.message, "civm was cut off on its way to lender@h: 10 of 17 bytes came");
    assert_eq!(said(b"#!/bin/sh\nexit 1\n").message, "civm was damaged on its way to lender@h");
    let left: Vec<_> = std::fs::read_dir(home.path().join(".cache/civm/bin")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn noexec_another_processor_and_damage_are_told_apart() {
    let case = |code, said| runs(code, said, "/home/l/.cache/civm/bin", &remote()).unwrap_err();
    let noexec = case(126, "sh: 1: /home/l/.cache/civm/bin/ab: Permission denied");
    assert!(noexec.message.contains("noexec") && noexec.kind == Kind::Binary, "{noexec}");
    let arch = case(126, "sh: 1: /x: Exec format error");
    assert_eq!(arch.kind, Kind::Remote(wire::Kind::Arch));
    assert!(case(139, "Segmentation fault").message.contains("damaged"));
    assert!(case(127, "x: not found").message.ends_with("(exit code 127): x: not found"));
    let full = received(
        "truncated 4096\n",
        "cat: write error: No space left on device\n",
        &Binary { arch: Arch::X86_64, sha256: String::new(), size: 1, path: PathBuf::new() },
        "/c",
        &remote(),
    )
    .unwrap_err();
    assert_eq!(full.kind, Kind::Remote(wire::Kind::Disk));
}

#[test]
fn machines_without_a_civm_are_named() {
    let probe = Probe { system: "Darwin".into(), machine: "arm64".into(), ..Probe::default() };
    assert_eq!(probe.arch(&remote()).unwrap_err().message, "lender@h is a Darwin arm64 machine");
}
