//! A day's work with sops and ssh-to-age, with the real tools and with civm under their names.

use super::cases::play::{Scene, Stage};
use super::cases::{same_files, same_plaintexts, same_words};

const DAY: &str = include_str!("everyday.sh");

/// The lines of a part, from its heading to the next.
fn part(heading: &str) -> Vec<&'static str> {
    let lines = DAY.lines().skip_while(|line| !line.starts_with(heading)).skip(1);
    lines.take_while(|line| !line.starts_with("##")).filter(|line| !line.is_empty()).collect()
}

#[test]
fn a_day_with_civm_leaves_and_prints_what_a_day_with_sops_does() {
    let tools = ["sops", "age-keygen", "ssh-to-age", "ssh-keygen", "git"];
    let Some(stage) = Stage::with(&tools) else {
        return eprintln!("skipped: not all of {} are at hand", tools.join(", "));
    };
    let scene = Scene::new(&stage);
    scene.set_up(&part("## Prepared").join("\n")).expect("prepared");
    let before = scene.files();
    let lines = part("## The day");
    assert!(lines.len() >= 30, "a whole day");
    let theirs = scene.play(&stage.theirs, &lines);
    let ours = scene.play(&stage.ours, &lines);
    let mut faults = Vec::new();
    let mut apart = false;
    for (line, (theirs, ours)) in lines.iter().zip(theirs.iter().zip(&ours)) {
        let mut found = same_words(None, theirs, ours);
        // One difference leads to more; the first is told.
        if !apart {
            let files = same_files(&before, theirs, ours, false);
            apart = !files.is_empty();
            found.extend(files);
        }
        faults.extend(found.into_iter().map(|fault| format!("{line}\n    {fault}")));
    }
    if let (Some(theirs), Some(ours)) = (theirs.last(), ours.last()) {
        faults.extend(same_plaintexts(&scene, &stage, theirs, ours));
    }
    assert!(faults.is_empty(), "{} differences:\n{}", faults.len(), faults.join("\n"));
    // The day is one on which things go well, but where it says otherwise.
    let failed = theirs.iter().filter(|played| played.code != 0).count();
    assert!(failed <= 10, "{failed} lines fail with the real tools");
}
