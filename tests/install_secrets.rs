//! Recorded answers of sops-install-secrets, case by case, in a private mount namespace: as root, and as id 0 of
//! a user namespace, which any user may make. `tests/vectors/install-secrets` holds the cases, and civm is called through a
//! link of the tool's name.
//!
//! Of each step the exit code, stdout, the files below `/run` (with the lists of units) and the working folder, and the
//! mounts are compared, and of stderr the facts.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use serde_json::Value;

#[path = "install/beside.rs"]
mod beside;
#[path = "install/wanted.rs"]
mod wanted;
#[path = "install/world.rs"]
mod world;

use wanted::{Wanted, steps, wanted};
use world::{Done, Tree, World, entry_of, recorded_mounts, recorded_tree};

/// Names the case that a child process runs.
const CASE: &str = "CIVM_TEST_CASE";
/// The scratch folder of the child process.
const SCRATCH: &str = "CIVM_TEST_SCRATCH";
/// Whether the child is id 0 of a user namespace, with no other id mapped.
const MAPPED: &str = "CIVM_TEST_MAPPED";

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/install-secrets")
}

fn load(name: &str) -> Value {
    let path = vectors().join("cases").join(format!("{name}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("a case")
}

/// The namespaces to run in, with their names; none where the machine allows none.
fn namespaces() -> Vec<(&'static str, Vec<&'static str>)> {
    let root = ("root", vec!["--mount", "--propagation", "private"]);
    let user = ("user namespace", vec!["--user", "--map-root-user", "--mount", "--propagation", "private"]);
    let works = |flags: &[&str]| {
        let probe = "mount -t tmpfs none /run && mkdir /run/a && mount -t ramfs none /run/a";
        let output = Command::new("unshare").args(flags).args(["sh", "-c", probe]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let mut out = vec![root, user];
    out.retain(|(name, flags)| {
        let works = works(flags);
        if !works {
            // Past the capture of the test's output: a skip is to be seen.
            let _ =
                writeln!(io::stderr(), "skipped: install_secrets as {name}: no namespace on this machine");
        }
        works
    });
    out
}

/// Whether a case gives its answer in a namespace of this kind.
fn fits(case: &Value, namespace: &str) -> bool {
    // With the id of another user the case needs root here, since it succeeds.
    let root = case["needs"] == "root" || case["manifests"].to_string().contains("\"owner\":\"4001\"");
    namespace == "root" || !root
}

#[test]
fn every_case_gives_the_recorded_answer() {
    let mut names: Vec<String> = fs::read_dir(vectors().join("cases"))
        .expect("cases")
        .map(|entry| {
            entry.expect("a case").path().file_stem().expect("a name").to_string_lossy().into_owned()
        })
        .collect();
    names.sort();
    assert_eq!(names.len(), 209, "all the cases are there");
    let mut failed = Vec::new();
    for (namespace, flags) in namespaces() {
        for name in &names {
            if fits(&load(name), namespace)
                && let Err(output) = child(name, &flags)
            {
                failed.push(format!("{name} as {namespace}:\n{output}"));
            }
        }
    }
    assert!(failed.is_empty(), "{} failed\n{}", failed.len(), failed.join("\n"));
}

fn child(name: &str, flags: &[&str]) -> Result<(), String> {
    let scratch = tempfile::TempDir::new().expect("a folder");
    let output = in_namespace(flags, "one_case", scratch.path())
        .env(CASE, name)
        .env(MAPPED, if flags.contains(&"--user") { "1" } else { "0" })
        .output()
        .expect("unshare");
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

/// This program again, in namespaces of its own, for one of its ignored tests.
fn in_namespace(flags: &[&str], test: &str, scratch: &Path) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(flags)
        .arg(env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", test, "--nocapture", "--test-threads=1"])
        .env(SCRATCH, scratch);
    command
}

/// The scratch folder of a child process.
fn scratch() -> PathBuf {
    PathBuf::from(env::var(SCRATCH).expect("a scratch folder"))
}

#[test]
#[ignore = "runs in a namespace that the other test makes"]
fn one_case() {
    let name = env::var(CASE).expect("the name of a case");
    let mapped = env::var(MAPPED).is_ok_and(|mapped| mapped == "1");
    let case = load(&name);
    let group = if mapped { "group-keys-0" } else { "group" };
    let world = World::new(&scratch(), &vectors(), group, Path::new(env!("CARGO_BIN_EXE_civm")));
    let manifests = manifests(&case);
    for (number, step) in steps(&case).iter().enumerate() {
        for action in step["setup"].as_array().into_iter().flatten() {
            world.set_up(action);
        }
        let before = (world.tree(), world.mounts());
        let done = world.run(&manifests, step);
        let at = format!("step {} of {name}: {done:#?}", number + 1);
        for secret in SECRET {
            assert!(!done.stdout.contains(secret) && !done.stderr.contains(secret), "{at}");
        }
        let failed = |words: &str| {
            assert_eq!(done.exit, Some(1), "{at}");
            assert!(done.stdout.is_empty() && done.stderr.contains(words), "{at}");
        };
        let recorded = || {
            assert_eq!(done.exit, step["exit"].as_u64(), "{at}");
            assert_eq!(world.tree(), recorded_tree(step, mapped), "{at}");
            assert_eq!(world.mounts(), recorded_mounts(step), "{at}");
        };
        let same_output = || {
            assert_eq!(done.stdout, step["stdout"].as_str().expect("stdout"), "{at}");
            same_facts(&done, step, &manifests, &at);
        };
        match wanted(&case, &name, number) {
            Wanted::Recorded => {
                recorded();
                same_output();
            }
            Wanted::OtherWords(words) => {
                recorded();
                assert!(done.stdout.is_empty() && done.stderr.contains(words), "{at}");
            }
            Wanted::DryRun => {
                // Nothing is mounted and no generation is written, but the lists are.
                let mut tree = recorded_tree(step, mapped);
                tree.retain(|path, _| path.starts_with("/run/nixos"));
                assert_eq!(lists(&world.tree()), tree, "{at}");
                assert_eq!(
                    (without_lists(world.tree()), world.mounts()),
                    (without_lists(before.0), before.1),
                    "{at}"
                );
                assert_eq!(done.exit, step["exit"].as_u64(), "{at}");
                same_output();
            }
            Wanted::Refused(words) => {
                failed(words);
                assert_eq!((world.tree(), world.mounts()), before, "{at}");
                for line in world.text_of_files(&manifests, step).lines().filter(|line| line.len() > 8) {
                    assert!(!done.stderr.contains(line), "{at}");
                }
            }
            Wanted::NoLink(words) => {
                failed(words);
                assert!(!world.tree().contains_key("/run/secrets"), "{at}");
            }
            Wanted::Locked => {
                failed("for secret");
                for recipient in world.recipients(&manifests, step) {
                    assert!(done.stderr.contains(&recipient), "{at}");
                }
                assert!(!world.tree().contains_key("/run/secrets"), "{at}");
            }
            Wanted::NotSwitched => {
                failed("cannot link");
                let mut tree = world.tree();
                tree.retain(|path, _| !path.starts_with("/run/secrets.d"));
                assert_eq!(tree, before.0, "{at}");
            }
            Wanted::Modes => {
                assert_eq!(done.exit, Some(0), "{at}");
                modes(&world, &manifests["manifest.json"]);
                let mut strict = step.clone();
                strict["umask"] = "0077".into();
                assert_eq!(world.run(&manifests, &strict).exit, Some(0), "{at}");
                modes(&world, &manifests["manifest.json"]);
            }
            Wanted::Clean => {
                assert_eq!((done.exit, &done.stdout[..], &done.stderr[..]), (Some(0), "", ""), "{at}");
                assert_eq!((world.tree(), world.mounts()), before, "{at}");
            }
            Wanted::Holds(path, content) => {
                assert_eq!(done.exit, Some(0), "{at}");
                assert_eq!(world.tree().get(path), Some(&entry_of(content)), "{at}");
            }
            Wanted::Installed(path, entry) => {
                assert_eq!(done.exit, Some(0), "{at}");
                assert_eq!(world.tree().get(path).map(|seen| &seen[..entry.len()]), Some(entry), "{at}");
            }
            Wanted::UnitsFailed => {
                assert_eq!((done.exit, &done.stdout[..]), (Some(1), "modifying secret: alpha\n"), "{at}");
                assert!(done.stderr.contains("the secrets are installed"), "{at}");
                assert!(done.stderr.matches("failed (exit status: 5)").count() == 2, "{at}");
                let log = fs::read_to_string(world.real("{dir}/out/log")).expect("a log");
                let both = "--no-block try-restart a.service\n--no-block try-reload-or-restart b.service\n";
                assert_eq!(log, both, "{at}");
                assert_eq!(
                    world.tree().get("/run/secrets").map(String::as_str),
                    Some("link 0:0 /run/secrets.d/2")
                );
            }
        }
        if name.starts_with("pgp-ssh-keys") || name == "manifest-as-nix-writes-it" {
            let imports = steps(&case)[number]["args"].as_array().is_some_and(|args| args.len() == 1);
            assert_eq!(done.stderr.matches("ignoring sshKeyPaths").count(), usize::from(imports), "{at}");
        }
        let copy = fs::read_to_string("/run/secrets.d/age-keys.txt");
        assert!(
            copy.is_err() || name == "key-copy-existing" && copy.is_ok_and(|copy| copy == "old\n"),
            "{at}"
        );
    }
}

fn lists(tree: &Tree) -> Tree {
    tree.clone().into_iter().filter(|(path, _)| path.starts_with("/run/nixos")).collect()
}

fn without_lists(mut tree: Tree) -> Tree {
    tree.retain(|path, _| !path.starts_with("/run/nixos"));
    tree
}

/// Whether stderr tells what the recorded one tells. Where all went well the lines are the same; a message of an error has
/// the same paths and names in it.
fn same_facts(done: &Done, step: &Value, manifests: &Value, at: &str) {
    let recorded = step["stderr"].as_str().expect("stderr");
    if step["exit"] == 0 {
        let mut said: Vec<&str> = done.stderr.lines().collect();
        said.retain(|line| !line.contains("ignoring sshKeyPaths") && !line.contains("ignoring gnupgHome"));
        let mut wanted: Vec<&str> = recorded.lines().collect();
        for lines in [&mut said, &mut wanted] {
            // Why a key is of no use is said in other words.
            lines.iter_mut().filter(|line| line.contains("ssh key '")).for_each(|line| {
                *line =
                    line.split_once(": ").map_or(*line, |(_, rest)| rest.split(':').next().unwrap_or(rest));
            });
        }
        assert_eq!(said, wanted, "{at}");
        return;
    }
    let name = "{argv0}: ";
    assert!(done.stderr.lines().any(|line| line.starts_with(name)), "{at}");
    let mut known = BTreeSet::new();
    texts(manifests, &mut known);
    for word in recorded.split_whitespace() {
        let word = word.trim_matches(|c: char| "'\":,.".contains(c));
        assert!(!known.contains(word) || done.stderr.contains(word), "{word} is not in it: {at}");
    }
}

/// The texts of a manifest, without its keys.
fn texts(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => drop(found.insert(text.clone())),
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| texts(field, found)),
        _ => {}
    }
}

/// Whether every secret has the mode that the manifest asks for, and every folder 0751.
fn modes(world: &World, manifest: &Value) {
    let mut tree = world.tree();
    let link = tree.remove("/run/secrets").expect("the link");
    let generation = link.rsplit_once(' ').expect("a target").1;
    let secrets = manifest["secrets"].as_array().expect("secrets");
    let templates = manifest["templates"].as_array().expect("templates");
    for (folder, secret) in
        secrets.iter().map(|secret| ("", secret)).chain(templates.iter().map(|secret| ("rendered/", secret)))
    {
        let mode = u32::from_str_radix(secret["mode"].as_str().expect("a mode"), 8).expect("a mode") & 0o777;
        let path = format!("{generation}/{folder}{}", secret["name"].as_str().expect("a name"));
        let entry = tree.remove(&path).expect("a secret");
        assert!(entry.starts_with(&format!("file {mode:04o} ")), "{path}: {entry}");
    }
    assert!(secrets.iter().any(|secret| secret["mode"] == "0666"), "a mode that an umask takes bits of");
    for (path, entry) in tree.iter().filter(|(path, _)| path.starts_with("/run/secrets.d")) {
        assert!(entry.starts_with("dir 0751 "), "{path}: {entry}");
    }
}

/// Pieces of values and keys in the cases' files; no message and no log line holds one.
const SECRET: [&str; 4] = ["alpha value", "hunter2", "never encrypted", "AGE-SECRET-KEY-"];

/// The manifests of a case; `repeat` makes many secrets of one.
fn manifests(case: &Value) -> Value {
    let mut manifests = case["manifests"].clone();
    if let Some([low, high]) = case["repeat"].as_array().map(Vec::as_slice) {
        let (low, high) = (low.as_u64().expect("a number"), high.as_u64().expect("a number"));
        for manifest in manifests.as_object_mut().expect("manifests").values_mut() {
            let one = manifest["secrets"][0].to_string();
            let many = (low..=high)
                .map(|n| serde_json::from_str::<Value>(&one.replace("{n}", &n.to_string())).expect("JSON"));
            manifest["secrets"] = many.collect();
        }
    }
    manifests
}
