//! Commands run with secrets.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Ran, Scene, run, run_with};

/// A throw-away identity; it protects nothing.
const ALICE: &str = "AGE-SECRET-KEY-1E9VMDZS6RHZH4LXZLWLM47QKCY7E59LTC3AKKARMHCA6U5UUL4HSHQLNLK";
const ALICE_AGE: &str = "age1e63wmgw3vaj3veyfsae6ca73qpx8j8xj38r6yk7nk9nvhcr92vvsexht4t";

/// A project with an encrypted `s.yaml`.
fn scene(plain: &str) -> Scene {
    let scene = Scene::new();
    scene.write(".sops.yaml", format!("creation_rules:\n  - age: {ALICE_AGE}\n"));
    scene.write("s.yaml", plain);
    run(&mut scene.civm(&["secrets", "encrypt", "-i", "s.yaml"])).ok();
    scene
}

fn civm(scene: &Scene, verb: &str, options: &[&str], words: &[&str]) -> Command {
    let mut command = scene.civm(&["secrets", verb, "s.yaml"]);
    command.args(options).arg("--").args(words).env("SOPS_AGE_KEY", ALICE);
    command
}

fn env(scene: &Scene, options: &[&str], script: &str) -> Ran {
    run(&mut civm(scene, "exec-env", options, &["sh", "-c", script]))
}

fn file(scene: &Scene, options: &[&str], script: &str) -> Ran {
    run(&mut civm(scene, "exec-file", options, &["sh", "-c", script]))
}

/// Waits until something is so.
#[track_caller]
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !so() {
        assert!(Instant::now() < end, "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The private directories that are left, below the scene and where the machine keeps files in memory.
fn left(scene: &Scene, path: &str) -> bool {
    fs::metadata(path).is_ok() || fs::read_dir(scene.path("tmp")).unwrap().next().is_some()
}

#[test]
fn scalars_are_variables_and_the_exit_code_is_the_commands() {
    let scene =
        scene("TOKEN: hush hush\nCOUNT: 3\nRATIO: 2.0\nNOTHING: null\n# a comment\nWHEN: 2026-01-02\n");
    let script = "echo \"$TOKEN|$COUNT|$RATIO|$NOTHING|$WHEN|$OUTER\"; exit 7";
    let mut command = civm(&scene, "exec-env", &[], &["sh", "-c", script]);
    let ran = run(command.env("OUTER", "outer").env("COUNT", "other")).code(7);
    assert_eq!(ran.out(), "hush hush|3|2.0|<nil>|2026-01-02T00:00:00Z|outer\n");
    assert_eq!(ran.stderr, "");
    env(&scene, &[], "kill -9 $$").code(255);
    env(&scene, &["--same-process"], "echo $TOKEN; exit 9").code(9);
    let mut words = civm(&scene, "exec-env", &[], &["printenv", "TOKEN"]);
    assert_eq!(run(&mut words).ok().out(), "hush hush\n", "no shell is needed");
    let mut input = civm(&scene, "exec-env", &[], &["cat"]);
    assert_eq!(run_with(&mut input, b"input").ok().out(), "input");
}

#[test]
fn a_pristine_environment_has_the_secrets_alone() {
    let scene = scene("TOKEN: hush\n");
    let mut command = civm(&scene, "exec-env", &["--pristine"], &["env"]);
    assert_eq!(run(&mut command).ok().out(), "TOKEN=hush\n");
}

#[test]
fn what_no_variable_can_be_is_refused_before_anything_runs() {
    for (plain, words) in [
        ("\"a=b\": x\n", "cannot use keys with '=' in environment: a=b"),
        ("m:\n    a: x\n", "offending key m"),
        ("l:\n    - x\n", "offending key l"),
    ] {
        let scene = scene(plain);
        env(&scene, &[], "touch ran").code(1).says(words);
        assert!(!scene.file("ran").exists());
    }
}

#[test]
fn a_command_that_cannot_be_run_is_named() {
    let scene = scene("TOKEN: hush\n");
    let missing = run(&mut civm(&scene, "exec-env", &[], &["no-such-program"])).code(127);
    missing.says("`no-such-program`").silent_on("hush");
    scene.write("not-executable", "");
    run(&mut civm(&scene, "exec-env", &[], &["./not-executable"])).code(126);
    run(&mut civm(&scene, "exec-file", &[], &["no-such-program", "{}"])).code(127);
    run(&mut civm(&scene, "exec-env", &["--user", "no-such-user"], &["true"])).code(1).says("no-such-user");
}

#[test]
fn the_plaintext_is_a_file_that_can_be_read_again_and_again() {
    let scene = scene("a: hush\n");
    for options in [&[][..], &["--no-fifo"]] {
        let ran = file(&scene, options, "cat {} {}; cat < {}; echo {}").ok();
        let mut lines: Vec<&str> = ran.out().lines().collect();
        let path = lines.pop().unwrap();
        assert_eq!(lines, ["a: hush"; 3]);
        assert!(path.ends_with("/s.yaml") && !left(&scene, path), "{path}");
    }
    let kind = |options: &[&str]| file(&scene, options, "stat -c '%F %a' {}").ok().out().to_owned();
    assert_eq!(kind(&[]), "fifo 600\n");
    assert_eq!(kind(&["--no-fifo"]), "regular file 600\n");
    let own = file(&scene, &["--filename", "conf.d/app.yml"], "case {} in */conf.d/app.yml) cat {};; esac");
    assert_eq!(own.ok().out(), "a: hush\n");
    for name in ["/x", "../x", "."] {
        file(&scene, &["--filename", name], "true").code(1).says("is not a relative file name");
    }
}

#[test]
fn a_large_plaintext_is_read_whole_or_not_at_all() {
    let large = "x".repeat(300_000);
    let scene = scene(&format!("a: {large}\n"));
    assert_eq!(file(&scene, &[], "cat {}").ok().out().len(), large.len() + 4);
    assert_eq!(file(&scene, &[], "head -c 5 {}; head -c 5 {}").ok().out(), "a: xxa: xx");
    file(&scene, &[], "exit 3").code(3);
    // Two at the very same instant would share one pipe; once something comes out of it, the next one has its own.
    let both =
        "exec 3< {}; dd bs=1 count=1 <&3 2> /dev/null | wc -c; exec 4< {}; cat <&4 | wc -c; cat <&3 | wc -c";
    assert_eq!(file(&scene, &[], both).ok().out(), "1\n300004\n300003\n");
}

#[test]
fn a_signal_reaches_the_command_and_nothing_stays_behind() {
    for (verb, options) in [("exec-env", &[][..]), ("exec-file", &[]), ("exec-file", &["--no-fifo"])] {
        for (signal, name) in [(Signal::SIGTERM, "TERM"), (Signal::SIGINT, "INT"), (Signal::SIGHUP, "HUP")] {
            let scene = scene("A: hush\n");
            let script =
                format!("trap 'sleep 0.2; exit 9' {name}; echo {{}} > ready; while :; do sleep 0.05; done");
            let inner = civm(&scene, verb, options, &["sh", "-c", &script]);
            // Whoever runs the tests may have told them to ignore a signal, as nohup and a shell's `&` do.
            let mut command = scene.command("env");
            command.arg("--default-signal=TERM,INT,HUP").arg(inner.get_program()).args(inner.get_args());
            let mut child = command.env("SOPS_AGE_KEY", ALICE).spawn().unwrap();
            let mut path = String::new();
            until("the command", || {
                path = fs::read_to_string(scene.file("ready")).unwrap_or_default().trim().to_owned();
                !path.is_empty()
            });
            kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
            until("its end", || child.try_wait().unwrap().is_some());
            assert_eq!(child.wait().unwrap().code(), Some(9), "{verb} {options:?} {name}");
            assert!(!left(&scene, &path), "{verb} {options:?} {name}: {path}");
        }
    }
}

#[test]
fn an_ignored_signal_stays_ignored() {
    let scene = scene("A: hush\n");
    let inner = civm(&scene, "exec-env", &[], &["sh", "-c", "kill -HUP $$; kill -HUP $PPID; echo alive"]);
    let mut outer = scene.command("sh");
    outer.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
    assert_eq!(run(outer.env("SOPS_AGE_KEY", ALICE)).ok().out(), "alive\n");
}

#[test]
fn another_user_gets_the_secrets_and_nothing_of_root() {
    let scene = scene("A: hush\n");
    let is_root = nix::unistd::Uid::effective().is_root();
    let whoami = "id -un; id -Gn; echo $HOME $USER $LOGNAME $A";
    if !is_root {
        env(&scene, &["--user", "nobody"], whoami).code(1).says("cannot become user `nobody`");
        return;
    }
    let ran = env(&scene, &["--user", "nobody"], whoami).ok();
    let lines: Vec<&str> = ran.out().lines().collect();
    let home =
        run(Command::new("sh").args(["-c", "getent passwd nobody | cut -d: -f6"])).out().trim().to_owned();
    assert_eq!(lines[0], "nobody");
    assert!(!lines[1].split(' ').any(|group| group == "root"), "{lines:?}");
    assert_eq!(lines[2], format!("{home} nobody nobody hush"));
    for options in [&["--user", "nobody"][..], &["--user", "nobody", "--no-fifo"]] {
        let mut command = civm(&scene, "exec-file", options, &["sh", "-c", "stat -c %U {}; cat {}"]);
        // The scene's own temporary directory is root's alone.
        let ran = run(command.env_remove("TMPDIR").stdin(Stdio::null())).ok();
        assert_eq!(ran.out(), "nobody\nA: hush\n");
    }
}

const NESTED: &str = "TOKEN: hush\ndb:\n    user: me\n    ports:\n        - 1\n        - 2\n";

#[test]
fn what_is_nested_is_refused_left_out_or_flattened() {
    let scene = scene(NESTED);
    env(&scene, &[], "true").code(1).says("offending key db").says("--skip-nested").says("--flatten");
    let all = "echo \"$TOKEN|$db_user|$db_ports_1\"";
    assert_eq!(env(&scene, &["--skip-nested"], all).ok().out(), "hush||\n");
    assert_eq!(env(&scene, &["--flatten"], all).ok().out(), "hush|me|2\n");
    env(&scene, &["--flatten", "--skip-nested"], "true").code(8);
    scene.write("t.yaml", "a_b: one\na:\n    b: two\n");
    run(&mut scene.civm(&["secrets", "encrypt", "-i", "t.yaml"])).ok();
    let mut twice = scene.civm(&["secrets", "exec-env", "--flatten", "t.yaml", "--", "true"]);
    run(twice.env("SOPS_AGE_KEY", ALICE)).code(1).says("variable a_b").silent_on("one");
}

fn for_shells(scene: &Scene, name: &str, options: &[&str]) -> Ran {
    let words = [&["secrets", "decrypt", "--output-type", "sh"], options, &[name]].concat();
    run(scene.civm(&words).env("SOPS_AGE_KEY", ALICE))
}

#[test]
fn a_shell_evaluates_what_is_decrypted_for_it_and_nothing_else() {
    let odd = "it's \"$HOME\" `touch evil` $(touch evil); \\\n two lines'";
    let scene = scene(NESTED);
    scene.write("odd.json", serde_json::json!({ "ODD": odd, "_empty": "", "N": 7 }).to_string());
    run(&mut scene.civm(&["secrets", "encrypt", "-i", "odd.json"])).ok();
    let lines = for_shells(&scene, "odd.json", &[]).ok();
    assert!(lines.out().starts_with("export ODD='"), "{}", lines.out());
    for shell in ["sh", "bash", "dash"] {
        let mut command = scene.command(shell);
        command.arg("-euc").arg("eval \"$1\"; printf '%s|%s|' \"$_empty\" \"$N\"; printenv ODD").arg("sh");
        if scene.command(shell).args(["-c", "true"]).output().is_err() {
            eprintln!("skipped: {shell} is not installed");
            continue;
        }
        assert_eq!(run(command.arg(lines.out())).ok().out(), format!("|7|{odd}\n"), "{shell}");
    }
    assert!(!scene.file("evil").exists());

    for_shells(&scene, "s.yaml", &[]).code(1).says("--flatten");
    assert_eq!(for_shells(&scene, "s.yaml", &["--skip-nested"]).ok().out(), "export TOKEN='hush'\n");
    let flat = "export TOKEN='hush'\nexport db_user='me'\nexport db_ports_0='1'\nexport db_ports_1='2'\n";
    assert_eq!(for_shells(&scene, "s.yaml", &["--flatten"]).ok().out(), flat);
    scene.write("names.yaml", "a-b: hush\nx;touch evil: hush\ngood: a\n");
    run(&mut scene.civm(&["secrets", "encrypt", "-i", "names.yaml"])).ok();
    let refused = for_shells(&scene, "names.yaml", &[]).code(1).says("`a-b`, `x;touch evil`");
    assert_eq!(refused.silent_on("hush").out(), "");
    for_shells(&scene, "s.yaml", &["--extract", "[\"TOKEN\"]"]).code(8);
    let mut flags = scene.civm(&["secrets", "decrypt", "--flatten", "s.yaml"]);
    run(flags.env("SOPS_AGE_KEY", ALICE)).code(8).says("--output-type sh");
}

#[test]
fn lines_for_a_shell_never_replace_the_file() {
    let scene = scene("a: 1\nb:\n    c: 2\n");
    let before = scene.read("s.yaml");
    for options in [&[][..], &["--skip-nested"], &["--flatten"]] {
        let words = [&["secrets", "decrypt", "-i", "--output-type", "sh"], options, &["s.yaml"]].concat();
        run(scene.civm(&words).env("SOPS_AGE_KEY", ALICE)).code(8).says("--in-place");
        assert_eq!(scene.read("s.yaml"), before);
    }
}
