//! civm called as ssh-to-age: every recorded answer of the real tool, through a link of its name.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::support::{Scene, run, run_with};

#[derive(Deserialize)]
struct Case {
    name: String,
    args: Vec<String>,
    stdin_file: Option<String>,
    stdin_repeat: Option<serde_json::Value>,
    env: BTreeMap<String, String>,
    files: Vec<String>,
    #[serde(default)]
    setup: Vec<Placed>,
    umask: Option<String>,
    exit: i32,
    #[serde(default)]
    stdout: String,
    #[serde(default)]
    stderr: String,
    #[serde(default)]
    written: Vec<Placed>,
    civm: String,
    why: Option<String>,
    civm_stdout_of: Option<String>,
}

#[derive(Deserialize)]
struct Placed {
    file: String,
    mode: Option<String>,
    content: Option<String>,
    copy_of: Option<String>,
}

fn inputs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/ssh-to-age/inputs")
}

fn cases() -> Vec<Case> {
    let text = fs::read(inputs().parent().expect("a folder").join("cases.json")).expect("the cases");
    serde_json::from_slice(&text).expect("cases in their form")
}

/// The link, and a folder for the case with its files in it.
fn prepare(case: &Case) -> (Scene, PathBuf) {
    let scene = Scene::new();
    let link = scene.path("ssh-to-age");
    symlink(assert_cmd::cargo::cargo_bin!("civm"), &link).expect("a link");
    for name in &case.files {
        let copy = scene.file(name);
        fs::copy(inputs().join(name), &copy).expect(name);
        fs::set_permissions(&copy, Permissions::from_mode(0o600)).expect("a mode");
    }
    for placed in &case.setup {
        let path = match (&placed.content, &placed.copy_of) {
            (Some(content), _) => scene.write(&placed.file, content),
            (None, Some(name)) => scene.write(&placed.file, fs::read(inputs().join(name)).expect(name)),
            (None, None) => panic!("{}: nothing to set up", case.name),
        };
        if let Some(mode) = &placed.mode {
            let mode = u32::from_str_radix(mode, 8).expect("octal");
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
        }
    }
    (scene, link)
}

#[test]
fn every_recorded_answer_is_given_or_a_better_one() {
    let cases = cases();
    let stdout_of: BTreeMap<&str, &str> =
        cases.iter().map(|case| (case.name.as_str(), case.stdout.as_str())).collect();
    let mut failures = Vec::new();
    let mut ran = 0;
    // Inputs of megabytes are read in the tests of the keys.
    for case in cases.iter().filter(|case| case.stdin_repeat.is_none()) {
        ran += 1;
        let (scene, link) = prepare(case);
        let fill = |text: &str| text.replace("{dir}", &scene.path("project").display().to_string());
        let mut command = scene.command(&link);
        command.arg0("ssh-to-age").args(case.args.iter().map(|arg| fill(arg))).envs(&case.env);
        if let Some(mask) = &case.umask {
            let mut masked = scene.command("/bin/sh");
            masked.args(["-c", &format!("umask {mask}; exec \"$0\" \"$@\"")]).arg(&link);
            masked.args(case.args.iter().map(|arg| fill(arg))).envs(&case.env);
            command = masked;
        }
        let stdin = case.stdin_file.as_deref().map(|name| fs::read(inputs().join(name)).expect(name));
        let answer = run_with(&mut command, &stdin.unwrap_or_default());
        let mut wrong = |what: String| failures.push(format!("{}: {what}", case.name));
        let better = case.civm_stdout_of.as_deref();
        let code = match (case.civm.as_str(), better) {
            ("same", _) => case.exit,
            ("refuse", _) => 1,
            (_, Some(_)) => 0,
            _ if case.why.as_deref().is_some_and(|why| why.starts_with("skip ")) => 0,
            _ => case.exit,
        };
        if answer.code != code && !opens_more(&case.name) {
            wrong(format!("exit {}, wanted {code}: {}", answer.code, answer.stderr));
        }
        let version = case.args.iter().any(|arg| arg == "-version");
        let stdout = match (case.civm.as_str(), better) {
            ("refuse", _) => "",
            (_, Some(name)) => stdout_of[name],
            _ if version => concat!(env!("CARGO_PKG_VERSION"), "\n"),
            _ => &case.stdout,
        };
        if answer.out() != stdout && !opens_more(&case.name) {
            wrong(format!("stdout {:?}, wanted {stdout:?}", answer.out()));
        }
        if case.civm == "same" {
            let wanted = fill(&case.stderr).replace("{argv0}", "ssh-to-age");
            let said = answer.stderr.replace(&link.display().to_string(), "ssh-to-age");
            if said != wanted {
                wrong(format!("stderr {said:?}, wanted {wanted:?}"));
            }
        }
        for written in &case.written {
            let path = scene.file(&written.file);
            let kept = case.setup.iter().find(|placed| placed.file == written.file);
            let content = match (code, kept) {
                // A failing conversion leaves what was there.
                (0, _) => written.content.clone(),
                (_, Some(kept)) => kept.content.clone(),
                (_, None) => None,
            };
            if fs::read_to_string(&path).ok() != content {
                wrong(format!("{} does not hold what it should", written.file));
            }
            let private = case.args.iter().any(|arg| arg == "-private-key");
            let mode = if private { Some("0600") } else { written.mode.as_deref() };
            if let (Some(mode), Ok(metadata)) = (mode, fs::metadata(&path))
                && format!("{:04o}", metadata.permissions().mode() & 0o7777) != mode
            {
                wrong(format!("{} has not the mode {mode}", written.file));
            }
        }
    }
    assert!(ran > 140, "only {ran} cases ran");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Keys that the real tool cannot read and this one can.
fn opens_more(case: &str) -> bool {
    case.starts_with("pass-cipher-")
}

#[test]
fn ciphers_that_the_real_tool_lacks_are_opened() {
    for case in cases().iter().filter(|case| opens_more(&case.name)) {
        let (scene, link) = prepare(case);
        let args = case.args.iter().map(|arg| arg.replace("{dir}/", ""));
        let answer = run(scene.command(&link).args(args).envs(&case.env)).ok();
        assert!(answer.out().starts_with("AGE-SECRET-KEY-1"), "{}", case.name);
    }
}

#[test]
fn a_key_on_stdin_and_the_verb_of_the_same_name() {
    let scene = Scene::new();
    let key = fs::read(inputs().join("ed25519.pub")).expect("a key");
    let answer = run_with(&mut scene.civm(&["ssh-to-age"]), &key).ok();
    assert_eq!(answer.out(), "age1ega644j3ux6kqwm8tyvh4hyzfy9e9rsdtn7f8l2mrjtl7k3075vsgx0fws\n");
    run(&mut scene.civm(&["ssh-to-age", "-x"])).code(2).says("flag provided but not defined: -x");
    run(&mut scene.civm(&["ssh-to-age", "--help"])).ok().says("Usage of ssh-to-age:");
}
