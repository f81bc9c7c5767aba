//! What dotenv and INI files are tried with alike.

use std::process::Command;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::yaml::IDENTITY;
use crate::support::{Ran, Scene, peer, run};

/// The two tools in a scene of their own.
pub struct Tools {
    pub scene: Scene,
    pub sops: std::path::PathBuf,
    pub recipient: String,
}

impl Tools {
    /// The tools, or a word about their absence.
    pub fn new() -> Option<Self> {
        let scene = Scene::new();
        let (Some(sops), Some(recipient)) = (peer("sops"), super::yaml::recipient(&scene)) else {
            eprintln!("skipped: no sops or age at hand");
            return None;
        };
        Some(Self { scene, sops, recipient })
    }

    pub fn sops(&self, args: &[&str]) -> Ran {
        run(with_identity(self.scene.command(&self.sops).args(args)))
    }

    pub fn civm(&self, args: &[&str]) -> Ran {
        run(with_identity(self.scene.civm(&["secrets"]).args(args)))
    }

    pub fn civm_edits(&self, name: &str, editor: &str) -> Ran {
        run(with_identity(self.scene.civm(&["secrets", "edit", name]).env("EDITOR", editor)))
    }

    pub fn sops_encrypts(&self, name: &str, plain: impl AsRef<[u8]>, output: &str) -> Ran {
        self.scene.write(name, plain);
        let ran = self.sops(&["encrypt", "--age", &self.recipient, name]);
        self.scene.write(output, &ran.stdout);
        ran
    }

    pub fn civm_encrypts(&self, name: &str, plain: impl AsRef<[u8]>, output: &str) -> Ran {
        self.scene.write(name, plain);
        let ran = self.civm(&["encrypt", "--age", &self.recipient, name]);
        self.scene.write(output, &ran.stdout);
        ran
    }

    /// Encrypts a text with both tools and decrypts both with both: everything has to agree.
    pub fn agree_on(&self, ending: &str, plain: &[u8]) -> Result<(), TestCaseError> {
        let names = ["plain", "theirs", "ours"].map(|name| format!("{name}.{ending}"));
        let [plain_name, theirs_name, ours_name] = &names;
        let theirs = self.sops_encrypts(plain_name, plain, theirs_name);
        let ours = self.civm_encrypts(plain_name, plain, ours_name);
        prop_assert_eq!(theirs.code, ours.code, "{}\n---\n{}", theirs.stderr, ours.stderr);
        if theirs.code != 0 {
            return Ok(());
        }
        prop_assert_eq!(shape(&theirs.stdout), shape(&ours.stdout), "encrypted forms differ");
        let want = self.sops(&["decrypt", theirs_name]);
        for (who, got) in [
            ("theirs by us", self.civm(&["decrypt", theirs_name])),
            ("ours by them", self.sops(&["decrypt", ours_name])),
            ("ours by us", self.civm(&["decrypt", ours_name])),
        ] {
            prop_assert_eq!(want.code, got.code, "{}: {}", who, got.stderr);
            let [want, got] = [&want, &got].map(|ran| String::from_utf8_lossy(&ran.stdout).into_owned());
            prop_assert_eq!(want, got, "{}", who);
        }
        Ok(())
    }

    /// Has both tools edit the same file in the same way: the same lines change, and both read the result.
    pub fn edit_alike(&self, ending: &str, plain: &str, edits: &[&str]) {
        let names = ["plain", "before", "theirs", "ours"].map(|name| format!("{name}.{ending}"));
        let [plain_name, before_name, theirs, ours] = &names;
        let before = self.sops_encrypts(plain_name, plain, before_name).ok();
        for edit in edits {
            let editor = format!("sed -i '{edit}'");
            for (name, mut command) in
                [(theirs, self.scene.command(&self.sops)), (ours, self.scene.civm(&["secrets"]))]
            {
                self.scene.write(name, before.out());
                run(with_identity(command.args(["edit", name]).env("EDITOR", &editor))).ok();
            }
            self.changed_alike(before.out(), theirs, ours, edit);
        }
    }

    /// Has both tools bring the same file to other recipients.
    pub fn update_alike(&self, ending: &str, plain: &str, other: &str) {
        let names = ["plain", "before", "theirs", "ours"].map(|name| format!("{name}.{ending}"));
        let [plain_name, before_name, theirs, ours] = &names;
        let before = self.sops_encrypts(plain_name, plain, before_name).ok();
        let rules = format!("creation_rules:\n  - age: {},{other}\n", self.recipient);
        self.scene.write(".sops.yaml", rules);
        for name in [theirs, ours] {
            self.scene.write(name, before.out());
        }
        self.sops(&["updatekeys", "--yes", theirs]).ok();
        self.civm(&["updatekeys", "--yes", ours]).ok();
        self.changed_alike(before.out(), theirs, ours, "updatekeys");
        assert!(self.scene.read(ours).contains(other));
    }

    fn changed_alike(&self, before: &str, theirs: &str, ours: &str, what: &str) {
        let [after_theirs, after_ours] = [theirs, ours].map(|name| self.scene.read(name));
        let kept = |after: &str| -> Vec<bool> {
            let lines: Vec<&str> = after.lines().collect();
            // The time may be the same or another second, and the MAC is encrypted with it.
            let is_timed = |line: &str| line.contains("lastmodified") || line.contains("mac");
            let timeless = before.lines().filter(|line| !is_timed(line));
            timeless.map(|line| lines.contains(&line)).collect()
        };
        assert_eq!(kept(&after_theirs), kept(&after_ours), "{what}");
        assert_eq!(shape(after_theirs.as_bytes()), shape(after_ours.as_bytes()), "{what}");
        let want = self.sops(&["decrypt", theirs]).ok();
        let got = self.sops(&["decrypt", ours]).ok();
        assert_eq!(want.out(), got.out(), "{what}");
        assert_eq!(want.out(), self.civm(&["decrypt", theirs]).ok().out(), "{what}");
    }
}

fn with_identity(command: &mut Command) -> &mut Command {
    command.env("SOPS_AGE_KEY", IDENTITY)
}

/// An encrypted text without its random parts.
pub fn shape(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().map(|line| {
        if let Some((before, _)) = line.split_once("-----BEGIN AGE ENCRYPTED FILE-----") {
            return format!("{before}<armor>");
        }
        if let Some((before, _)) = line.split_once('=')
            && before.contains("lastmodified")
        {
            return format!("{before}<time>");
        }
        let mut line = line.to_owned();
        while let Some(start) = line.find("ENC[AES256_GCM,") {
            let Some(kind) = line[start..].find(",type:") else { break };
            let Some(end) = line[start + kind..].find(']') else { break };
            let token = line[start + kind + 1..start + kind + end].to_owned();
            line.replace_range(start..=start + kind + end, &format!("<{token}>"));
        }
        line
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Runs a test over random inputs; `CIVM_CASES` says how many.
pub fn each<T: std::fmt::Debug>(
    default: u32,
    strategy: impl Strategy<Value = T>,
    test: impl Fn(T) -> Result<(), TestCaseError>,
) {
    let cases = std::env::var("CIVM_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(&strategy, test).unwrap_or_else(|error| panic!("{error}"));
}
