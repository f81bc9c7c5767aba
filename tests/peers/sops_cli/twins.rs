//! Twin scenes: sops and civm under its name run in the same files, and what is not random must agree.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use regex::Regex;

use crate::support::{Scene, peer, run, run_with};

/// Throw-away identities; they protect nothing.
pub(super) const ALICE: &str = "AGE-SECRET-KEY-1E9VMDZS6RHZH4LXZLWLM47QKCY7E59LTC3AKKARMHCA6U5UUL4HSHQLNLK";
pub(super) const ALICE_AGE: &str = "age1e63wmgw3vaj3veyfsae6ca73qpx8j8xj38r6yk7nk9nvhcr92vvsexht4t";
pub(super) const BOB_AGE: &str = "age12h7333pd5phz20zqy2xqurkpuanr288ud8lyjxvgh2j6jdu3w4asgvy23q";

/// How a run went, without what is random or of its time and place.
#[derive(Debug, PartialEq)]
pub(super) struct Went {
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) files: BTreeMap<PathBuf, String>,
}

pub(super) struct Twins {
    sops: PathBuf,
    pub(super) files: Vec<(&'static str, Vec<u8>)>,
}

impl Twins {
    pub(super) fn new() -> Option<Self> {
        let sops = peer("sops")?;
        let rules = format!(
            "creation_rules:\n  - path_regex: yaml$\n    age: {ALICE_AGE}\n  - path_regex: (json|bin)$\n    \
             encrypted_regex: ^a\n    age: {ALICE_AGE}\n"
        );
        let mut files: Vec<(&str, Vec<u8>)> = vec![
            (".sops.yaml", rules.into()),
            ("two", format!("creation_rules:\n  - age: {ALICE_AGE},{BOB_AGE}\n").into()),
            ("none", "stores: {}\n".into()),
            ("bad", "creation_rules: [\n".into()),
            ("plain.yaml", "a: one\nb: 2\nl:\n  - x\nm:\n  k: v\n".into()),
            ("plain.json", "{\"a\": \"one\", \"b\": 2}\n".into()),
            ("raw.bin", b"\0hello".to_vec()),
            ("empty.yaml", Vec::new()),
            ("broken.yaml", "a: [".into()),
            ("other.txt", "x".into()),
        ];
        let scene = Scene::new();
        for (name, content) in &files {
            scene.write(name, content);
        }
        for (from, to) in [("plain.yaml", "s.yaml"), ("plain.json", "s.json"), ("raw.bin", "s.bin")] {
            files.push((to, run(scene.command(&sops).args(["encrypt", from])).ok().stdout));
        }
        let bob = run(scene.command(&sops).args(["encrypt", "--age", BOB_AGE, "plain.yaml"])).ok();
        files.push(("bob.yaml", bob.stdout));
        Some(Self { sops, files })
    }

    pub(super) fn go(&self, ours: bool, args: &[&str], stdin: &str, environment: &[(&str, &str)]) -> Went {
        let scene = Scene::new();
        for (name, content) in &self.files {
            scene.write(name, content);
        }
        let link = scene.path("sops");
        symlink(assert_cmd::cargo::cargo_bin!("civm"), &link).expect("a link");
        let mut command = scene.command(if ours { &link } else { &self.sops });
        command.args(args).env("SOPS_AGE_KEY", ALICE).env("SOPS_DISABLE_VERSION_CHECK", "1");
        command.env("EDITOR", "true").envs(environment.iter().copied());
        let ran = run_with(&mut command, stdin.as_bytes());
        let root = scene.path("");
        let clean = |bytes: &[u8]| constant(&String::from_utf8_lossy(bytes), &root);
        let files = fs::read_dir(scene.path("project")).expect("the project").map(|entry| {
            let path = entry.expect("an entry").path();
            (path.file_name().expect("a name").into(), clean(&fs::read(&path).expect("a file")))
        });
        Went {
            code: ran.code,
            stdout: clean(&ran.stdout),
            stderr: clean(ran.stderr.as_bytes()),
            files: files.collect(),
        }
    }

    /// Demands that all is the same.
    #[track_caller]
    pub(super) fn same(&self, args: &[&str], stdin: &str, environment: &[(&str, &str)]) {
        let theirs = self.go(false, args, stdin, environment);
        let ours = self.go(true, args, stdin, environment);
        assert_eq!(ours, theirs, "sops {args:?} {environment:?} < {stdin:?}");
    }

    /// Demands that all is the same but for words on stderr, which start the same.
    #[track_caller]
    pub(super) fn same_but_words(&self, start: &str, args: &[&str], environment: &[(&str, &str)]) {
        let theirs = self.go(false, args, "", environment);
        let ours = self.go(true, args, "", environment);
        assert!(theirs.stderr.starts_with(start), "sops {args:?} says {}", theirs.stderr);
        assert!(ours.stderr.starts_with(start), "civm {args:?} says {}", ours.stderr);
        assert_eq!(
            Went { stderr: String::new(), ..ours },
            Went { stderr: String::new(), ..theirs },
            "{args:?}"
        );
    }
}

/// A text without ciphertexts, times and the scene's place.
fn constant(text: &str, root: &Path) -> String {
    let mut text = text.replace(&*root.to_string_lossy(), "@/");
    for (pattern, with) in [
        (r"ENC\[AES256_GCM,[^\]]*type:(\w+)\]", "<$1>"),
        (r"(?s)-----BEGIN AGE.*?-----END AGE ENCRYPTED FILE-----", "<age>"),
        (r#"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)"#, "<time>"),
        (r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d", "<time>"),
    ] {
        text = Regex::new(pattern).expect("a pattern").replace_all(&text, with).into_owned();
    }
    text
}
