//! A case played: the same files in the same place, once with the real tools in PATH and once with civm.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use civm::keys::native::AgeIdentity;
use tempfile::TempDir;

use super::read;
use crate::support::{civm_binary, peer};

/// Seconds after which a line counts as hung.
const PATIENCE: &str = "20";

/// What all cases share: tools, and three people's keys.
pub(in crate::peers) struct Stage {
    dir: TempDir,
    /// A folder with the real tools.
    pub theirs: PathBuf,
    /// A folder in which civm has their names.
    pub ours: PathBuf,
    variables: Vec<(&'static str, String)>,
}

/// A file as it was left.
#[derive(Clone)]
pub(in crate::peers) struct File {
    pub mode: u32,
    pub content: Vec<u8>,
}

pub(in crate::peers) type Files = BTreeMap<String, File>;

/// What a line came to.
pub(in crate::peers) struct Played {
    pub code: i32,
    pub out: Vec<u8>,
    pub err: String,
    pub files: Files,
}

/// One case's place.
pub(in crate::peers) struct Scene<'a> {
    dir: TempDir,
    stage: &'a Stage,
}

impl Stage {
    /// `None` where one of the tools is missing.
    pub fn with(tools: &[&str]) -> Option<Self> {
        let dir = TempDir::new().expect("a folder");
        let (theirs, ours, keys) =
            (dir.path().join("theirs"), dir.path().join("ours"), dir.path().join("keys"));
        for folder in [&theirs, &ours, &keys] {
            fs::create_dir(folder).expect("a folder");
        }
        for tool in tools {
            let real = peer(tool)?;
            symlink(&real, theirs.join(tool)).expect("a link");
            let stands_in = ["sops", "ssh-to-age"].contains(tool);
            symlink(if stands_in { civm_binary() } else { real }, ours.join(tool)).expect("a link");
        }
        let mut variables = vec![("KEYS", keys.display().to_string())];
        let mut texts = Vec::new();
        for (name, name_key, file) in
            [("ALICE", "ALICE_KEY", "alice"), ("BOB", "BOB_KEY", "bob"), ("CAROL", "CAROL_KEY", "carol")]
        {
            let identity = AgeIdentity::generate();
            let text = identity.to_text().to_string();
            fs::write(keys.join(file), format!("{text}\n")).expect("written");
            variables.push((name_key, text.clone()));
            variables.push((name, identity.recipient().to_owned()));
            texts.push(text);
        }
        fs::write(keys.join("both"), texts[..2].join("\n")).expect("written");
        fs::write(keys.join("all"), texts.join("\n")).expect("written");
        let mut lock = age::scrypt::Recipient::new(age::secrecy::SecretString::from("passphrase".to_owned()));
        lock.set_work_factor(2);
        let locked = age::encrypt_and_armor(&lock, texts[0].as_bytes()).expect("encrypted");
        fs::write(keys.join("locked"), locked).expect("written");
        variables.push(("LOCKED_KEYS", keys.join("locked").display().to_string()));
        variables.push(("SOPS_AGE_KEY_FILE", keys.join("alice").display().to_string()));
        Some(Self { dir, theirs, ours, variables })
    }

    /// A variable that cases may use.
    pub fn variable(&self, name: &str) -> &str {
        let found = self.variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_str()).expect("a known variable")
    }

    fn fill(&self, text: &str) -> String {
        let filled =
            |text: String, (name, value): &(&'static str, String)| text.replace(&format!("${name}"), value);
        self.variables.iter().fold(text.to_owned(), filled)
    }
}

impl File {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.content).into_owned()
    }
}

impl Played {
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

impl<'a> Scene<'a> {
    pub fn new(stage: &'a Stage) -> Self {
        let scene = Self { dir: TempDir::new_in(stage.dir.path()).expect("a folder"), stage };
        for folder in ["project", "home", "tmp"] {
            fs::create_dir_all(scene.work().join(folder)).expect("a folder");
        }
        scene
    }

    fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// Writes a file with the variables filled in.
    pub fn write(&self, name: &str, content: &str) {
        self.write_bytes(name, self.stage.fill(content).as_bytes());
    }

    pub fn write_bytes(&self, name: &str, content: &[u8]) {
        let path = self.work().join("project").join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, content).expect("written");
    }

    /// Runs lines with the real tools and keeps what they leave as the start of both plays.
    pub fn set_up(&self, lines: &str) -> Result<(), String> {
        let done = self.line(&self.stage.theirs, &format!("set -e\n{lines}"));
        if done.code == 0 { Ok(()) } else { Err(format!("the setup ends with {}: {}", done.code, done.err)) }
    }

    pub fn files(&self) -> Files {
        let project = self.work().join("project");
        let mut files = Files::new();
        for entry in walkdir::WalkDir::new(&project)
            .sort_by_file_name()
            .into_iter()
            .filter_entry(|entry| entry.file_name() != ".git")
            .skip(1)
        {
            let entry = entry.expect("readable");
            let name = entry.path().strip_prefix(&project).expect("below").display().to_string();
            let metadata = entry.metadata().expect("readable");
            let content = if metadata.is_file() { read(entry.path()) } else { Vec::new() };
            files.insert(name, File { mode: metadata.mode(), content });
        }
        files
    }

    /// Plays the lines from the start, and puts everything back.
    pub fn play(&self, tools: &Path, lines: &[&str]) -> Vec<Played> {
        let kept = self.dir.path().join("kept");
        copy(&self.work(), &kept);
        let played = lines.iter().map(|line| self.line(tools, line)).collect();
        fs::remove_dir_all(self.work()).expect("removed");
        fs::rename(kept, self.work()).expect("put back");
        played
    }

    /// What the real sops makes of a file, with everybody's keys.
    pub fn decrypt(&self, stage: &Stage, name: &str, content: &[u8]) -> Played {
        let file = Path::new(name).file_name().expect("a name").to_string_lossy().into_owned();
        self.write_bytes(&format!("read/{file}"), content);
        let played = self.line(&stage.theirs, &format!("SOPS_AGE_KEY_FILE=$KEYS/all sops -d read/'{file}'"));
        fs::remove_dir_all(self.work().join("project/read")).expect("removed");
        played
    }

    fn line(&self, tools: &Path, line: &str) -> Played {
        let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap_or_default());
        let output = Command::new("setsid")
            .args(["--wait", "timeout", "-k", "1", PATIENCE, "sh", "-c", line])
            .current_dir(self.work().join("project"))
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.work().join("home"))
            .env("TMPDIR", self.work().join("tmp"))
            .env("LC_ALL", "C.UTF-8")
            .env("SOPS_DISABLE_VERSION_CHECK", "1")
            .envs(self.stage.variables.iter().map(|(name, value)| (*name, value.as_str())))
            .stdin(Stdio::null())
            .output()
            .expect("setsid");
        Played {
            code: output.status.code().unwrap_or(-1),
            out: output.stdout,
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            files: self.files(),
        }
    }
}

/// A whole folder with its links and modes.
fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp");
    assert!(done.success(), "cp {} {}", from.display(), to.display());
}
