//! The list of what sops, ssh-to-age and sops-install-secrets do, case by case, of the real tools and of civm under
//! their names. `tests/peers/cases/README.md` says how a case is written down.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Deserialize;

use self::play::{Played, Scene, Stage};
use crate::support::shape::{is_encrypted, kept, shape};

mod craft;
mod guest;
pub(super) mod play;
mod table;

/// One case, as written down.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    case: String,
    #[serde(default)]
    files: BTreeMap<String, Option<String>>,
    craft: Option<craft::Craft>,
    setup: Option<String>,
    steps: Vec<Step>,
    files_differ: Option<String>,
    modes_differ: Option<String>,
}

/// A line of shell and what is expected of the real tool.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    run: String,
    #[serde(default)]
    code: i32,
    out: Option<String>,
    err: Option<String>,
    civm: Option<Otherwise>,
}

/// What civm does otherwise by intent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Otherwise {
    code: i32,
    out: Option<String>,
    err: Option<String>,
    hides: Option<String>,
    why: String,
}

const TABLES: [(&str, &str); 8] = [
    ("sops: the file format", include_str!("cases/format.yaml")),
    ("sops: YAML", include_str!("cases/yaml.yaml")),
    ("sops: the other formats", include_str!("cases/stores.yaml")),
    ("sops: values", include_str!("cases/values.yaml")),
    ("sops: recipients and rules", include_str!("cases/recipients.yaml")),
    ("sops: programs, states and guards", include_str!("cases/commands.yaml")),
    ("sops: identities", include_str!("cases/identities.yaml")),
    ("ssh-to-age", include_str!("cases/ssh-to-age.yaml")),
];

/// What came of a case.
struct Verdict {
    /// Exit codes, step by step.
    theirs: Vec<i32>,
    ours: Vec<i32>,
    /// Where civm does otherwise by intent.
    reasons: Vec<String>,
    /// What is not as it should be.
    faults: Vec<String>,
}

#[test]
fn every_case_is_as_written_and_civm_does_the_same() {
    let tools = ["sops", "age-keygen", "ssh-to-age", "ssh-keygen"];
    let Some(stage) = Stage::with(&tools) else {
        return eprintln!("skipped: not all of {} are at hand", tools.join(", "));
    };
    let only = std::env::var("CIVM_CASE").ok();
    let cases: Vec<(&str, Case)> = TABLES
        .iter()
        .flat_map(|(title, text)| {
            let cases: Vec<Case> =
                serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{title}: {error}"));
            cases.into_iter().map(move |case| (*title, case))
        })
        .filter(|(_, case)| only.as_ref().is_none_or(|only| case.case.starts_with(only.as_str())))
        .collect();
    let verdicts: Mutex<BTreeMap<usize, Verdict>> = Mutex::default();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some((_, case)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let at =
                        cases.iter().position(|(_, other)| std::ptr::eq(other, case)).expect("it is there");
                    let verdict = judge(case, &stage);
                    verdicts.lock().expect("nobody panicked").insert(at, verdict);
                }
            });
        }
    });
    let verdicts = verdicts.into_inner().expect("nobody panicked");
    let rows =
        cases.iter().enumerate().map(|(at, (title, case))| (*title, case.case.as_str(), &verdicts[&at]));
    let failed = table::print(rows);
    assert!(failed.is_empty(), "{} cases are not as they should be:\n{}", failed.len(), failed.join("\n"));
}

fn judge(case: &Case, stage: &Stage) -> Verdict {
    let mut verdict =
        Verdict { theirs: Vec::new(), ours: Vec::new(), reasons: Vec::new(), faults: Vec::new() };
    let scene = Scene::new(stage);
    for (name, content) in &case.files {
        if let Some(content) = content {
            scene.write(name, content);
        }
    }
    if !case.files.contains_key(".sops.yaml") {
        scene.write(".sops.yaml", "creation_rules:\n  - age: $ALICE\n");
    }
    if let Some(craft) = &case.craft {
        scene.write_bytes(&craft.file, &craft.text(stage));
    }
    if let Some(setup) = &case.setup
        && let Err(fault) = scene.set_up(setup)
    {
        verdict.faults.push(fault);
        return verdict;
    }
    let before = scene.files();
    let lines: Vec<&str> = case.steps.iter().map(|step| step.run.as_str()).collect();
    let theirs = scene.play(&stage.theirs, &lines);
    let ours = scene.play(&stage.ours, &lines);
    verdict.theirs = theirs.iter().map(|played| played.code).collect();
    verdict.ours = ours.iter().map(|played| played.code).collect();
    let mut apart = false;
    for (step, (theirs, ours)) in case.steps.iter().zip(theirs.iter().zip(&ours)) {
        let mut faults = as_written(step, theirs);
        match &step.civm {
            Some(otherwise) => {
                verdict.reasons.push(otherwise.why.clone());
                faults.extend(as_intended(otherwise, ours));
            }
            None => faults.extend(same_words(step.err.as_deref(), theirs, ours)),
        }
        if let Some(reason) = case.files_differ.as_ref().or(case.modes_differ.as_ref()) {
            verdict.reasons.push(reason.clone());
        }
        // One difference leads to more; the first is told.
        if case.files_differ.is_none() && !apart {
            let files = same_files(&before, theirs, ours, case.modes_differ.is_none());
            apart = !files.is_empty();
            faults.extend(files);
        }
        verdict.faults.extend(faults.into_iter().map(|fault| format!("`{}`: {fault}", step.run)));
    }
    if let (Some(theirs), Some(ours), None) = (theirs.last(), ours.last(), &case.files_differ) {
        verdict.faults.extend(same_plaintexts(&scene, stage, theirs, ours));
    }
    verdict.reasons.sort();
    verdict.reasons.dedup();
    verdict
}

/// Whether the real tool does what the case says of it.
fn as_written(step: &Step, theirs: &Played) -> Vec<String> {
    let mut faults = Vec::new();
    if theirs.code != step.code {
        faults.push(format!("sops ends with {}, not {}: {}", theirs.code, step.code, theirs.err));
    }
    if let Some(out) = &step.out
        && theirs.out != out.as_bytes()
    {
        faults.push(format!("sops prints {:?}, not {out:?}", theirs.out()));
    }
    if let Some(err) = &step.err
        && !theirs.err.contains(err)
    {
        faults.push(format!("sops does not say {err:?}: {}", theirs.err));
    }
    faults
}

/// Whether civm does what it does otherwise.
fn as_intended(otherwise: &Otherwise, ours: &Played) -> Vec<String> {
    let mut faults = Vec::new();
    if ours.code != otherwise.code {
        faults.push(format!("civm ends with {}, not {}: {}", ours.code, otherwise.code, ours.err));
    }
    if let Some(out) = &otherwise.out
        && ours.out != out.as_bytes()
    {
        faults.push(format!("civm prints {:?}, not {out:?}", ours.out()));
    }
    if let Some(err) = &otherwise.err
        && !ours.err.contains(err)
    {
        faults.push(format!("civm does not say {err:?}: {}", ours.err));
    }
    if let Some(secret) = &otherwise.hides
        && (ours.err.contains(secret) || ours.out().contains(secret))
    {
        faults.push(format!("civm tells {secret:?}: {}", ours.err));
    }
    faults
}

/// Exit code, output, and that errors are told where they are told; in the same words where the case asks for some.
pub(super) fn same_words(err: Option<&str>, theirs: &Played, ours: &Played) -> Vec<String> {
    let mut faults = Vec::new();
    if theirs.code != ours.code {
        faults.push(format!("sops ends with {}, civm with {}: {}", theirs.code, ours.code, ours.err));
    }
    let (wanted, got) = (theirs.out(), ours.out());
    let equal =
        if is_encrypted(&theirs.out) { shape(&wanted) == shape(&got) } else { theirs.out == ours.out };
    if !equal {
        faults.push(format!("sops prints {wanted:?}, civm {got:?}"));
    }
    match err {
        Some(err) if !ours.err.contains(err) => {
            faults.push(format!("civm does not say {err:?}: {}", ours.err));
        }
        _ if theirs.err.is_empty() && !ours.err.is_empty() => {
            faults.push(format!("only civm says: {}", ours.err));
        }
        _ if !theirs.err.is_empty() && ours.err.is_empty() => {
            faults.push(format!("only sops says: {}", theirs.err));
        }
        _ => {}
    }
    faults
}

/// The same files with the same modes and bytes; encrypted ones of the same shape, with the same lines kept.
pub(super) fn same_files(before: &play::Files, theirs: &Played, ours: &Played, modes: bool) -> Vec<String> {
    let mut faults = Vec::new();
    let names = |played: &Played| played.files.keys().cloned().collect::<Vec<_>>();
    if names(theirs) != names(ours) {
        faults.push(format!("sops leaves {:?}, civm {:?}", names(theirs), names(ours)));
    }
    for (name, wanted) in &theirs.files {
        let Some(got) = ours.files.get(name) else { continue };
        if modes && wanted.mode != got.mode {
            faults.push(format!("{name} has mode {:o} from sops, {:o} from civm", wanted.mode, got.mode));
        }
        let (wanted_text, got_text) = (wanted.text(), got.text());
        if !is_encrypted(&wanted.content) {
            if wanted.content != got.content {
                faults.push(format!("{name} is {wanted_text:?} from sops, {got_text:?} from civm"));
            }
            continue;
        }
        if shape(&wanted_text) != shape(&got_text) {
            let (wanted, got) = (shape(&wanted_text), shape(&got_text));
            faults.push(format!("{name} has another shape; sops:\n{wanted}\ncivm:\n{got}"));
        } else if let Some(old) = before.get(name).map(play::File::text) {
            let (wanted, got) = (kept(&old, &wanted_text), kept(&old, &got_text));
            let other: Vec<_> = wanted.iter().zip(&got).filter(|(one, other)| one != other).collect();
            if !other.is_empty() {
                faults.push(format!("of {name} other lines stay: {other:?}"));
            }
        }
    }
    faults
}

/// What the real sops makes of both encrypted files.
pub(super) fn same_plaintexts(scene: &Scene, stage: &Stage, theirs: &Played, ours: &Played) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, file) in &theirs.files {
        let Some(other) = ours.files.get(name).filter(|_| is_encrypted(&file.content)) else { continue };
        let (wanted, got) =
            (scene.decrypt(stage, name, &file.content), scene.decrypt(stage, name, &other.content));
        if (wanted.code, &wanted.out) != (got.code, &got.out) {
            faults.push(format!(
                "sops reads {:?} ({}) in {name} of sops, {:?} ({}, {}) in that of civm",
                wanted.out(),
                wanted.code,
                got.out(),
                got.code,
                got.err
            ));
        }
    }
    faults
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
