//! Merges across data keys, recipients and histories of all shapes.

use super::{ALICE, ALICE_AGE, BOB, BOB_AGE, FILE, PLAIN, Repository, nothing_leaked, values};
use crate::support::run;

fn rotate(repository: &Repository) {
    repository.civm(&["secrets", "rotate", FILE]).ok();
    repository.git(&["commit", "-qam", "rotated"]);
}

#[test]
fn one_side_may_have_another_data_key() {
    for theirs_rotates in [true, false] {
        let repository = Repository::new();
        let other = || repository.change("s/one/1/");
        let rotating = || {
            rotate(&repository);
            repository.change("s/: three/: 3/");
        };
        if theirs_rotates {
            repository.diverge(other, rotating);
        } else {
            repository.diverge(rotating, other);
        }
        repository.git(&["merge", "-q", "theirs", "-m", "merged"]);
        assert!(repository.plaintext().starts_with("# about first\nfirst: 1\n"));
        assert!(repository.plaintext().ends_with("third: 3\n"));
        // The new key is the merged file's, and what it encrypted stays.
        let rotated = repository.at(if theirs_rotates { "HEAD^2" } else { "HEAD^1" });
        let (merged, rotated) = (repository.at("HEAD"), values(&rotated).join("\n"));
        for line in values(&merged).iter().filter(|line| !line.starts_with("first:")) {
            assert!(rotated.contains(line), "{line}");
        }
        nothing_leaked(&repository, &["third: 3"]);
    }
}

#[test]
fn whoever_came_later_merges_branches_from_before() {
    let repository = Repository::new();
    let add_bob = || {
        repository.rules(&[ALICE_AGE, BOB_AGE]);
        repository.civm(&["secrets", "updatekeys", "-y", FILE]).ok();
        repository.git(&["commit", "-qam", "bob"]);
        repository.change("s/one/1/");
    };
    repository.diverge(add_bob, || repository.change("s/: three/: 3/"));
    // Theirs and the base were not encrypted for bob, but with the same data key.
    repository.as_who(Some(BOB), &["merge", "-q", "theirs", "-m", "merged"]).ok();
    assert!(repository.plaintext().contains("first: 1\n") && repository.plaintext().contains("third: 3\n"));
}

#[test]
fn a_file_that_is_not_encrypted_merges_as_text() {
    let repository = Repository::new();
    let name = "hosts/demo/secrets.yaml";
    let write = |text: &str| {
        repository.0.write(name, text);
        repository.git(&["add", "-A"]);
        repository.git(&["commit", "-qm", "changed"]);
    };
    write("a: 1\n\n\n\nb: 2\n");
    repository.diverge(|| write("a: 3\n\n\n\nb: 2\n"), || write("a: 1\n\n\n\nb: 4\n"));
    repository.git(&["merge", "-q", "theirs", "-m", "merged"]);
    assert_eq!(repository.0.read(name), "a: 3\n\n\n\nb: 4\n");
    repository.git(&["reset", "-q", "--hard", "HEAD~1"]);
    write("a: 3\n\n\n\nb: 5\n");
    let merge = repository.as_who(None, &["merge", "theirs"]).code(1);
    assert_eq!(merge.stderr, "");
    let text = repository.0.read(name);
    assert!(
        ["<<<<<<< ours\nb: 5\n", "<<<<<<< HEAD\nb: 5\n"].iter().any(|ours| text.contains(ours)),
        "{text}"
    );
}

#[test]
fn rebases_and_picks_merge_as_well() {
    let repository = Repository::new();
    repository.diverge(|| repository.change("s/one/1/"), || repository.change("s/: three/: 3/"));
    repository.git(&["rebase", "-q", "theirs"]);
    let want = PLAIN.replace("one", "1").replace("three", "3");
    assert_eq!(repository.plaintext(), want);
    repository.git(&["checkout", "-q", "theirs"]);
    repository.git(&["cherry-pick", "ours"]);
    assert_eq!(repository.plaintext(), want);
}

#[test]
fn a_conflict_that_a_rebase_commits_is_resolved_with_the_next_one() {
    let repository = Repository::new();
    let theirs = || {
        repository.change("s/one/THEIRS/");
        repository.change("s/: three/: 3/");
    };
    repository.diverge(|| repository.change("s/one/OURS/"), theirs);
    repository.git(&["checkout", "-q", "theirs"]);
    repository.as_who(Some(ALICE), &["rebase", "ours"]).code(1);
    // No hook runs here.
    repository.git(&["add", "-A"]);
    let goes_on = &["-c", "core.editor=true", "rebase", "--continue"];
    repository.as_who(Some(ALICE), goes_on).code(1);
    let keep_theirs = "sed -i '/^<<<<<<</,/^=======/d; /^>>>>>>>/d'";
    let resolve = || {
        let merge = repository.0.civm(&["secrets", "merge", "--edit", FILE]);
        run(repository.prepared(merge, Some(ALICE)).env("EDITOR", keep_theirs)).ok();
        assert_eq!(repository.plaintext(), PLAIN.replace("one", "THEIRS").replace("three", "3"));
    };
    let unresolved = repository.0.read(FILE);
    resolve();
    // The same from the file alone, after it was committed.
    repository.0.write(FILE, &unresolved);
    repository.git(&["add", "-A"]);
    repository.git(goes_on);
    let nobody = repository.civm(&["secrets", "merge", "--no-edit", FILE]);
    assert_ne!(nobody.code, 0);
    assert_eq!(repository.0.read(FILE), unresolved);
    resolve();
    nothing_leaked(&repository, &["THEIRS"]);
}

/// Merges a branch with conflicts into another, resolved by this editor.
pub(super) fn merge_by_hand(repository: &Repository, branch: &str, other: &str, keep: &str) {
    repository.git(&["checkout", "-q", branch]);
    repository.as_who(Some(ALICE), &["merge", other]).code(1);
    let merge = repository.0.civm(&["secrets", "merge", "--edit", FILE]);
    run(repository.prepared(merge, Some(ALICE)).env("EDITOR", keep)).ok();
    repository.git(&["commit", "-qam", "merged"]);
}

#[test]
fn histories_that_cross_merge_without_a_question() {
    let repository = Repository::new();
    repository.diverge(|| repository.change("s/one/1/"), || repository.change("s/one/eins/"));
    let resolve = |branch: &str, other: &str, keep: &str| merge_by_hand(&repository, branch, other, keep);
    repository.git(&["branch", "tip", "ours"]);
    resolve("ours", "theirs", "sed -i '/^<<<<<<</d; /^|||||||/,/^>>>>>>>/d'");
    resolve("theirs", "tip", "sed -i '/^<<<<<<</,/^=======/d; /^>>>>>>>/d'");
    // Both have `1` now, and two ancestors that do not agree on it.
    repository.change("s/: three/: 3/");
    repository.git(&["checkout", "-q", "ours"]);
    repository.change("s/deep: two/deep: 2/");
    repository.git(&["merge", "-q", "theirs", "-m", "merged"]);
    assert_eq!(repository.plaintext(), PLAIN.replace("one", "1").replace("two", "2").replace("three", "3"));
}
