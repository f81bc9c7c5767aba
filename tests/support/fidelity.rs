//! The cases of `tests/golden/fidelity`, played with a tool that answers as sops.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{Scene, run};

/// One case, as it is written down.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub case: String,
    #[serde(default)]
    files: BTreeMap<String, String>,
    #[serde(default)]
    bytes: BTreeMap<String, String>,
    run: String,
    /// What sops answers: the exit code, then standard output.
    pub expect: String,
    /// What civm answers, where that is something else.
    pub civm: Option<Otherwise>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Otherwise {
    pub expect: String,
    pub why: String,
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/fidelity")
}

fn cases() -> Vec<Case> {
    let text = fs::read_to_string(golden().join("cases.yaml")).expect("the cases");
    let cases: Vec<Case> = serde_yaml::from_str(&text).expect("the cases");
    assert!(cases.len() > 70, "the cases are there");
    cases
}

impl Case {
    /// What a tool answers: exit code and standard output; and what it says.
    fn play(&self, tool: &Path) -> (String, String) {
        let scene = Scene::new();
        for (name, text) in &self.files {
            scene.write(name, text);
        }
        for (name, bytes) in &self.bytes {
            scene.write(name, STANDARD.decode(bytes).expect("base64"));
        }
        let mut command = scene.command("bash");
        let mut all = String::new();
        for number in 1..=3 {
            let path = golden().join(format!("keys/{number}.txt"));
            let key = fs::read_to_string(&path).expect("an identity");
            let recipient =
                key.lines().find_map(|line| line.strip_prefix("# public key: ")).expect("its recipient");
            command.env(format!("KEY{number}"), path).env(format!("REC{number}"), recipient);
            all += &key;
        }
        let all = scene.write("../all.txt", all);
        command
            .args(["-c", &self.run])
            .env("SOPS", tool)
            .env("SOPS_AGE_KEY_FILE", all)
            .env("SOPS_DISABLE_VERSION_CHECK", "1")
            .env("TZ", "UTC");
        let ran = run(&mut command);
        (format!("{}\n{}", ran.code, String::from_utf8_lossy(&ran.stdout)), ran.stderr)
    }
}

/// Plays every case and demands what `wanted` takes from it.
#[track_caller]
pub fn play_all(tool: &Path, wanted: impl Fn(&Case) -> &str + Sync) {
    let cases = cases();
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (got, said) = case.play(tool);
                    let wanted = wanted(case);
                    if got != wanted {
                        let fault = format!("{}:\nwanted:\n{wanted}\ngot:\n{got}\nsaid: {said}", case.case);
                        wrong.lock().expect("nobody panicked").push(fault);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("nobody panicked");
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
