//! What README.md shows is true.

use civm::host::project::Project;
use civm::host::spec::Arch;

use crate::support::{Scene, run};

const README: &str = include_str!("../../README.md");

#[test]
fn the_host_that_it_shows_is_one() {
    let scene = Scene::new();
    let yaml =
        README.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    scene.write("hosts/web/host.yaml", yaml);
    scene.write("hosts/web/secrets.yaml", "x: y\n");
    let spec = Project::at(&scene.path("project")).unwrap().load("web", Arch::X86_64).unwrap();
    assert_eq!((spec.cpus, spec.forwards.len(), spec.secrets.len(), spec.users.len()), (4, 2, 2, 1));
}

#[test]
fn every_command_that_it_names_is_one() {
    let scene = Scene::new();
    let mut seen = 0;
    for (at, _) in README.match_indices("civm ") {
        // Only commands: in a code span, at the start of an indented line, or behind a pipe.
        let before = &README[..at];
        if !(before.ends_with('`') || before.ends_with("    ") || before.ends_with("| ")) {
            continue;
        }
        let words: Vec<&str> = README[at + 5..]
            .split(['`', '\n', '|'])
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .take_while(|word| {
                word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-')
            })
            .take(if README[at + 5..].starts_with("keys ") || README[at + 5..].starts_with("secrets ") {
                2
            } else {
                1
            })
            .collect();
        if words.is_empty() {
            continue;
        }
        let mut args = words.clone();
        args.push("--help");
        run(&mut scene.civm(&args)).ok();
        seen += 1;
    }
    assert!(seen > 15, "only {seen} commands found");
}

#[test]
fn the_table_of_exit_codes_has_every_code() {
    for code in [1, 2, 3, 4, 7, 8, 23, 25, 49, 51, 69, 91, 92, 100, 112, 126, 127, 128, 200, 201, 203] {
        let row = README.lines().find(|line| {
            line.starts_with("| ")
                && line[2..]
                    .split(" | ")
                    .next()
                    .is_some_and(|cell| cell.split(", ").any(|one| one == code.to_string()))
        });
        assert!(row.is_some(), "{code}");
    }
}
