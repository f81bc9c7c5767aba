//! Recorded answers of sops-install-secrets, case by case, in a private mount namespace: as root, and as id 0 of
//! a user namespace, which any user may make. `tests/vectors/install-secrets` holds the cases.
//!
//! Of each step the result, the files below `/run` and the working folder, and the mounts are compared.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use civm::install::Error;
use serde_json::Value;

#[path = "install/world.rs"]
mod world;

use world::{World, entry_of, recorded_mounts, recorded_tree};

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
    assert!(names.len() > 100, "the cases are there");
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
    let common = scratch.path().join("common");
    let case = load(name);
    let steps = case["steps"].as_array().into_iter().flatten();
    // The identities that the environment of a step tells of; what else it sets, the step is told of itself.
    let identities =
        steps.filter_map(|step| step["env"].as_object()).flatten().filter_map(|(name, value)| {
            let value = value.as_str().filter(|_| name.starts_with("SOPS_"))?;
            Some((name, value.replace("{common}", common.to_str()?)))
        });
    let output = Command::new("unshare")
        .args(flags)
        .arg(env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", "one_case", "--nocapture", "--test-threads=1"])
        .envs(identities)
        .env(CASE, name)
        .env(SCRATCH, scratch.path())
        .env(MAPPED, if flags.contains(&"--user") { "1" } else { "0" })
        .output()
        .expect("unshare");
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

#[test]
#[ignore = "runs in a namespace that the other test makes"]
fn one_case() {
    let name = env::var(CASE).expect("the name of a case");
    let scratch = PathBuf::from(env::var(SCRATCH).expect("a scratch folder"));
    let mapped = env::var(MAPPED).is_ok_and(|mapped| mapped == "1");
    let case = load(&name);
    let mut world = World::new(&scratch, &vectors(), if mapped { "group-keys-0" } else { "group" });
    let mut manifests = manifests(&case);
    if let Wanted::Modes = wanted(&case, &name) {
        // Of a case with templates the secrets are looked at.
        manifests["manifest.json"]["templates"] = Value::Array(Vec::new());
    }
    let steps = case["steps"].as_array().expect("steps");
    for (number, step) in steps.iter().enumerate() {
        for action in step["setup"].as_array().into_iter().flatten() {
            world.set_up(action);
        }
        let before = (world.tree(), world.mounts());
        let Some((done, log)) = world.run(&manifests, step) else { continue };
        let at = format!("step {} of {name}: {done:?}\n{log}", number + 1);
        for secret in SECRET {
            assert!(!at.contains(secret), "{at}");
        }
        match wanted(&case, &name) {
            Wanted::Recorded => {
                assert_eq!(u64::from(done.is_err()), step["exit"].as_u64().expect("an exit code"), "{at}");
                assert_eq!(world.tree(), recorded_tree(step, mapped), "{at}");
                assert_eq!(world.mounts(), recorded_mounts(step), "{at}");
                let lines = step["stderr"].as_str().unwrap_or_default().lines();
                for line in lines.filter(|line| line.contains("as age key")) {
                    assert!(log.contains(line), "{at}");
                }
            }
            Wanted::Untouched => {
                assert!(done.is_err(), "{at}");
                assert_eq!((world.tree(), world.mounts()), before, "{at}");
            }
            Wanted::Refused(words) => {
                let Err(error) = done else { panic!("{at}") };
                let text = error.to_string();
                assert!(text.contains(words), "{at}");
                for line in world.text_of_files(&manifests, step).lines().filter(|line| !line.is_empty()) {
                    assert!(!text.contains(line), "{at}");
                }
                assert_eq!((world.tree(), world.mounts()), before, "{at}");
            }
            Wanted::TooFew(words) => {
                let Err(error) = done else { panic!("{at}") };
                assert!(error.to_string().contains(words), "{at}");
                assert!(!world.tree().contains_key("/run/secrets"), "{at}");
            }
            Wanted::Locked => {
                let Err(error) = done else { panic!("{at}") };
                // A key file that holds no identity is refused by its line.
                if !matches!(error, Error::AgeKeys { .. }) {
                    for recipient in world.recipients(&manifests, step) {
                        assert!(error.to_string().contains(&recipient), "{at}");
                    }
                }
                assert!(!world.tree().contains_key("/run/secrets"), "{at}");
            }
            Wanted::NotSwitched => {
                assert!(matches!(done, Err(Error::Taken { .. })), "{at}");
                let mut tree = world.tree();
                tree.retain(|path, _| !path.starts_with("/run/secrets.d"));
                assert_eq!(tree, before.0, "{at}");
            }
            Wanted::Modes => {
                assert!(done.is_ok(), "{at}");
                modes(&world, &manifests["manifest.json"]);
                let mut strict = step.clone();
                strict["umask"] = "0077".into();
                assert!(world.run(&manifests, &strict).is_some_and(|(done, _)| done.is_ok()), "{at}");
                modes(&world, &manifests["manifest.json"]);
            }
            Wanted::Holds(path, content) => {
                assert!(done.is_ok(), "{at}");
                assert_eq!(world.tree().get(path), Some(&entry_of(content)), "{at}");
            }
            Wanted::Installed(path, entry) => {
                assert!(done.is_ok(), "{at}");
                assert_eq!(world.tree().get(path).map(|seen| &seen[..entry.len()]), Some(entry), "{at}");
            }
        }
        if name.starts_with("pgp-ssh-keys") || name == "manifest-as-nix-writes-it" {
            assert_eq!(log.matches("ignoring sshKeyPaths").count(), 1, "{at}");
        }
    }
}

/// Whether every secret has the mode that the manifest asks for, and every folder 0751.
fn modes(world: &World, manifest: &Value) {
    let mut tree = world.tree();
    let link = tree.remove("/run/secrets").expect("the link");
    let generation = link.rsplit_once(' ').expect("a target").1;
    let secrets = manifest["secrets"].as_array().expect("secrets");
    for secret in secrets {
        let mode = u32::from_str_radix(secret["mode"].as_str().expect("a mode"), 8).expect("a mode") & 0o777;
        let path = format!("{generation}/{}", secret["name"].as_str().expect("a name"));
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

/// No usable key: the message tells the recipients, and what was wrong with what was tried.
const LOCKED: [&str; 4] =
    ["key-file-useless", "key-file-is-something-else", "no-keys", "ssh-key-none-usable"];
/// A key with blanks in front counts, the identity of an ssh key opens `ssh-ed25519` recipients as well, PKCS#8
/// keys are converted, and no copy of keys is written.
const OPENED: [&str; 4] =
    ["key-file-indented", "ssh-key-native-recipient", "ssh-keys-mixed", "key-copy-existing"];

/// What a case asks for.
enum Wanted {
    /// The recorded answer.
    Recorded,
    /// A failure before anything is written or mounted.
    Untouched,
    /// A failure before anything is written or mounted that says this, and no line of the file.
    Refused(&'static str),
    /// A failure without a link that says how many groups are open.
    TooFew(&'static str),
    /// A failure that tells the recipients of the file and what was looked at.
    Locked,
    /// A failure while the link still leads to the old generation, if there was any.
    NotSwitched,
    /// Every secret has the mode that was asked for, whatever the umask, and every folder 0751.
    Modes,
    /// Success, with a secret of this content.
    Holds(&'static str, &'static str),
    /// Success, with an entry that begins like this.
    Installed(&'static str, &'static str),
}

/// The cases whose recorded answer is a weakness say so; what civm does is listed here.
fn wanted(case: &Value, name: &str) -> Wanted {
    match (case["civm"].as_str(), name) {
        // Fail in both programs, in the recorded one after the mount.
        (_, "name-empty" | "bad-duplicate-key" | "bad-no-recipients") | (Some("refuse"), _) => {
            Wanted::Untouched
        }
        // The recorded program lets the umask take bits away; `modes-umask` asks for the mode that was given.
        (_, "modes" | "modes-umask" | "modes-umask-022") => Wanted::Modes,
        (Some("same"), _) => Wanted::Recorded,
        // A file without metadata.
        (_, "empty-file-whole" | "plain-files") => Wanted::Untouched,
        (_, "broken-dotenv") => Wanted::Refused("as dotenv: line 2"),
        // A name that sops writes and reads, and a key that is looked up as in YAML.
        (_, "dotenv-odd-name") => Wanted::Holds("/run/secrets.d/1/env", "WITH-DASH=value\n"),
        (_, "json-nested") => Wanted::Holds("/run/secrets.d/1/pw", "hunter2"),
        (_, "shamir-too-few") => {
            Wanted::TooFew("only 1 of the 2 key groups that are needed could be decrypted")
        }
        // Null, lists and mappings; and numbers, whose type the ENC token tells.
        (_, "scalars-early" | "scalars-late") => Wanted::Untouched,
        (_, "path-existing-full-dir" | "path-parent-is-file") => Wanted::NotSwitched,
        (_, "link-prefix-only") => Wanted::Installed("/run/secrets", "link 0:0 /run/secrets.d/1"),
        (_, "owner-number-text") => Wanted::Installed("/run/secrets.d/1/alpha", "file 0400 4001:0"),
        (_, name) if LOCKED.contains(&name) => Wanted::Locked,
        (_, name) if OPENED.contains(&name) => Wanted::Installed("/run/secrets", "link 0:0 /run/secrets.d/"),
        // Only the log differs: the RSA keys are ignored.
        (_, "pgp-ssh-keys-rsa" | "pgp-ssh-keys-mixed" | "manifest-as-nix-writes-it") => Wanted::Recorded,
        (other, _) => panic!("{name} is {other:?}"),
    }
}

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
