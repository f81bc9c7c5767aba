//! Which recorded answers of sops-install-secrets stand for which case; `tests/install_secrets.rs` runs them.

use std::io::Write as _;
use std::path::Path;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    case: String,
    recorded: Vec<String>,
}

#[test]
fn the_cases_of_a_guests_secrets_name_their_recorded_answers() {
    let cases: Vec<Recorded> = serde_yaml::from_str(include_str!("install-secrets.yaml")).expect("cases");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/install-secrets/cases");
    let is_there = |name: &String| folder.join(format!("{name}.json")).is_file();
    let mut text = String::from("\nsops-install-secrets\n");
    let mut wrong = Vec::new();
    for case in &cases {
        text += &format!("{:<58} recorded: {}\n", case.case, case.recorded.join(" "));
        wrong.extend(case.recorded.iter().filter(|name| !is_there(name)));
    }
    // Past the capture of the test's output: the table is to be seen.
    let _ = std::io::stderr().write_all(text.as_bytes());
    assert!(wrong.is_empty(), "not where the table says: {wrong:?}");
}
