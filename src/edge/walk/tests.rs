use std::process::Command;

use super::*;

struct Tree(tempfile::TempDir);

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            let path = tree.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        tree
    }

    /// Runs git below the tree; false where it is not installed.
    fn git(&self, at: &str, args: &[&str]) -> bool {
        let ran = Command::new("git")
            .args(args)
            .current_dir(self.0.path().join(at))
            .env("HOME", self.0.path())
            .env_remove("XDG_CONFIG_HOME")
            .output();
        match ran {
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            ran => {
                let ran = ran.unwrap();
                assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
                true
            }
        }
    }

    /// The files of a walk as a user whose home is the tree.
    fn files(&self, at: &str) -> Vec<String> {
        let environment = Environment::of_process().with("HOME", self.0.path()).without("XDG_CONFIG_HOME");
        walk(&self.0.path().join(at), &environment)
            .into_iter()
            .map(Result::unwrap)
            .filter(|entry| entry.kind == Kind::File)
            .map(|entry| entry.inside.display().to_string())
            .collect()
    }
}

#[test]
fn without_a_repository_the_directory_itself_is_the_root() {
    let tree = Tree::new(&[
        (".gitignore", "*\n"),
        ("p/.gitignore", "/out\n*.log\n!keep.log\n"),
        ("p/a", ""),
        ("p/.hidden/b", ""),
        ("p/out/c", ""),
        ("p/sub/out/d", ""),
        ("p/sub/e.log", ""),
        ("p/sub/keep.log", ""),
        ("p/sub/disk.qcow2", ""),
        ("p/sub/.ignore", "*\n"),
    ]);
    let wanted = [".gitignore", ".hidden/b", "a", "sub/.ignore", "sub/keep.log", "sub/out/d"];
    assert_eq!(tree.files("p"), wanted);
}

#[test]
fn only_the_repository_itself_says_what_is_ignored() {
    let tree = Tree::new(&[
        (".gitignore", "*\n"),
        (".config/git/ignore", "*\n"),
        ("p/.gitignore", "*.tmp\n"),
        ("p/.git/info/exclude", "/local\n"),
        ("p/a", ""),
        ("p/a.tmp", ""),
        ("p/local", ""),
        ("p/sub/.gitignore", "!b.tmp\n"),
        ("p/sub/a.tmp", ""),
        ("p/sub/b.tmp", ""),
        ("p/sub/local", ""),
    ]);
    assert_eq!(tree.files("p"), [".gitignore", "a", "sub/.gitignore", "sub/b.tmp", "sub/local"]);
    assert_eq!(tree.files("p/sub"), [".gitignore", "b.tmp", "local"], "rules above the walk's root count");
}

#[test]
fn what_git_tracks_is_never_left_out() {
    let tree = Tree::new(&[
        ("p/.gitignore", "/out\n*.tmp\n"),
        ("p/a.tmp", ""),
        ("p/b.tmp", ""),
        ("p/disk.qcow2", ""),
        ("p/out/deep/tracked", ""),
        ("p/out/deep/other", ""),
        ("p/out/other", ""),
    ]);
    if !tree.git("p", &["init", "-q"]) {
        eprintln!("skipped: git is not installed");
        return;
    }
    assert_eq!(tree.files("p"), [".gitignore"]);
    tree.git("p", &["add", "-f", "a.tmp", "out/deep/tracked", "disk.qcow2"]);
    assert_eq!(tree.files("p"), [".gitignore", "a.tmp", "disk.qcow2", "out/deep/tracked"]);
    fs::remove_file(tree.0.path().join("p/a.tmp")).unwrap();
    assert_eq!(tree.files("p"), [".gitignore", "disk.qcow2", "out/deep/tracked"], "what is gone is gone");
}

#[test]
fn a_repository_in_a_repository_has_its_own_rules() {
    let tree = Tree::new(&[
        ("p/.gitignore", "*.tmp\n"),
        ("p/.git/HEAD", ""),
        ("p/nested/.git/HEAD", ""),
        ("p/nested/.gitignore", "*.log\n"),
        ("p/nested/a.tmp", ""),
        ("p/nested/a.log", ""),
        ("p/z.tmp", ""),
        ("p/z.log", ""),
    ]);
    assert_eq!(tree.files("p"), [".gitignore", "nested/.gitignore", "nested/a.tmp", "z.log"]);
}

#[test]
fn a_worktree_shares_the_exclude_file() {
    let tree = Tree::new(&[
        ("main/.git/info/exclude", "local\n"),
        ("main/.git/worktrees/w/commondir", "../..\n"),
        ("w/.git", "gitdir: ../main/.git/worktrees/w\n"),
        ("w/local", ""),
        ("w/a", ""),
    ]);
    assert_eq!(tree.files("w"), ["a"]);
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_goes_on() {
    use std::os::unix::fs::PermissionsExt as _;
    let tree = Tree::new(&[("a", ""), ("closed/b", ""), ("z", "")]);
    let closed = tree.0.path().join("closed");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read_dir(&closed).is_ok() {
        eprintln!("skipped: nothing is closed to this user");
        return;
    }
    let found = walk(tree.0.path(), &Environment::of_process());
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let failed: Vec<_> = found.iter().filter_map(|one| one.as_ref().err()).map(|e| &e.path).collect();
    assert_eq!(failed, [&closed]);
    assert!(found.iter().flatten().any(|entry| entry.inside == Path::new("z")), "{found:?}");
    assert_eq!(walk(&tree.0.path().join("none"), &Environment::empty()).len(), 1);
}

#[test]
fn what_git_cannot_say_is_told_and_is_not_nothing() {
    let tree = Tree::new(&[(".gitignore", "*.yaml\n"), ("s.yaml", "")]);
    if !tree.git("", &["init", "-q"]) {
        return eprintln!("skipped: git is not installed");
    }
    tree.git("", &["add", "-f", "s.yaml"]);
    assert_eq!(tree.files(""), [".gitignore", "s.yaml"]);
    fs::write(tree.0.path().join(".git/index"), "not an index").unwrap();
    let environment = Environment::of_process().with("HOME", tree.0.path());
    let errors: Vec<_> = walk(tree.0.path(), &environment).into_iter().filter_map(Result::err).collect();
    let [error] = errors.as_slice() else { panic!("{errors:?}") };
    assert!(error.to_string().contains("cannot determine which files git tracks: `git` failed"), "{error}");
}

#[test]
fn however_long_the_list_of_tracked_files_is_it_is_read() {
    let tree = Tree::new(&[(".gitignore", "/out\n"), ("out/last", "")]);
    if !tree.git("", &["init", "-q"]) {
        return eprintln!("skipped: git is not installed");
    }
    tree.git("", &["add", "-f", "out/last"]);
    // 20 MiB of names, put into the index as they are.
    let object = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
    let folder = format!("{0}/{0}/{0}/{0}", "f".repeat(250));
    let list: String = (0..20_500).map(|at| format!("100644 {object} 0\t{folder}/{at}\n")).collect();
    let mut git = Command::new("git")
        .args(["update-index", "--index-info"])
        .current_dir(tree.0.path())
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    io::Write::write_all(&mut git.stdin.take().unwrap(), list.as_bytes()).unwrap();
    assert!(git.wait().unwrap().success());
    assert_eq!(tree.files(""), [".gitignore", "out/last"]);
}
