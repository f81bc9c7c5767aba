//! The world of one case: a private `/run`, a working folder, and what they hold afterwards.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use civm::install::validate;
use civm::install::{Accounts, Error, Manifest, Native, Options, Report};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, umask};
use serde_json::Value;

/// The program's name in the recorded log lines.
const PROGRAM: &str = "sops-install-secrets";

pub(crate) struct World {
    dir: PathBuf,
    common: PathBuf,
    home: PathBuf,
    group: String,
}

/// One entry of a tree: type, mode (not of links), owner, group, and content or target.
pub(crate) type Tree = BTreeMap<String, String>;

impl World {
    /// Needs a mount namespace of its own.
    pub(crate) fn new(scratch: &Path, vectors: &Path, group: &str) -> Self {
        let tmpfs = |at: &Path| mount(Some("none"), at, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"));
        umask(Mode::from_bits_truncate(0o022));
        tmpfs(scratch).expect("a tmpfs for the case");
        let [dir, common, home] = ["work", "common", "home"].map(|name| scratch.join(name));
        let world = Self { dir, common, home, group: group.into() };
        fs::create_dir(&world.dir).expect("a folder");
        fs::create_dir(&world.home).expect("a folder");
        copy_tree(&vectors.join("common"), &world.common);
        tmpfs(Path::new("/run")).expect("a tmpfs over /run");
        fs::create_dir("/run/nixos").expect("a folder");
        world
    }

    pub(crate) fn real(&self, text: &str) -> String {
        text.replace("{dir}", text_of(&self.dir))
            .replace("{common}", text_of(&self.common))
            .replace("{home}", text_of(&self.home))
    }

    fn masked(&self, text: &str) -> String {
        text.replace(text_of(&self.dir), "{dir}").replace(text_of(&self.common), "{common}")
    }

    pub(crate) fn set_up(&mut self, action: &Value) {
        if let Some(name) = action["passwd_files"].as_str() {
            self.group = name.into();
            return;
        }
        let field = |name: &str| action[name].as_str().unwrap_or_default();
        let path = PathBuf::from(self.real(field("path")));
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        match field("do") {
            "mkdir" => fs::create_dir(&path),
            "write" => fs::write(&path, self.real(field("content"))),
            "copy" => fs::copy(self.real(field("from")), &path).map(drop),
            "symlink" => symlink(self.real(field("target")), &path),
            "remove" => fs::remove_dir_all(&path),
            "chown" => lchown(&path, id(&action["uid"]), id(&action["gid"])),
            "mount" => {
                fs::create_dir_all(&path).expect("a mount point");
                let options = Some("mode=0751");
                mount(Some("none"), &path, Some(field("fstype")), MsFlags::empty(), options)
                    .map_err(Into::into)
            }
            other => panic!("set-up {other}"),
        }
        .unwrap_or_else(|error| panic!("set-up of {}: {error}", path.display()));
        if let Some(mode) = action["mode"].as_str() {
            let mode = u32::from_str_radix(mode, 8).expect("a mode");
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("a mode");
        }
    }

    /// Runs one step; `None` where it is about something that is no part of an installation.
    pub(crate) fn run(&self, manifests: &Value, step: &Value) -> Option<(Result<Report, Error>, String)> {
        let args: Vec<&str> = step["args"].as_array()?.iter().filter_map(Value::as_str).collect();
        let name = Path::new(args.last()?).file_name()?.to_str()?;
        let text = match &manifests[name] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let check = args.iter().find_map(|arg| arg.strip_prefix("-check-mode="));
        if check.is_some_and(|check| check != "manifest") {
            return None;
        }
        let etc = |name: &str| fs::read_to_string(self.common.join("etc").join(name)).expect("a file");
        let runtime_dir = step["env"]["XDG_RUNTIME_DIR"].as_str().map(|dir| PathBuf::from(self.real(dir)));
        let options = Options {
            program: PROGRAM.into(),
            accounts: Accounts::parse(&etc("passwd"), &etc(&self.group)),
            ignore_passwd: args.contains(&"-ignore-passwd") || check.is_some(),
            runtime_dir,
            dry_run: false,
            keep_alike: false,
        };
        let mask = step["umask"].as_str().map_or(0o022, |mask| u32::from_str_radix(mask, 8).expect("a mask"));
        umask(Mode::from_bits_truncate(mask));
        let mut log = Vec::new();
        let done = Manifest::parse(self.real(&text).as_bytes()).and_then(|manifest| {
            if check.is_some() {
                return validate::plan(&manifest, &options).map(|_| Report::default());
            }
            civm::install::run(&manifest, &options, &Native, &mut log)
        });
        umask(Mode::from_bits_truncate(0o022));
        Some((done, self.masked(&String::from_utf8(log).expect("text"))))
    }

    /// The text of the files that the manifest of a step names.
    pub(crate) fn text_of_files(&self, manifests: &Value, step: &Value) -> String {
        let name = step["args"][0].as_str().unwrap_or_default().trim_start_matches("{dir}/");
        let secrets = manifests[name]["secrets"].as_array().expect("secrets");
        let files = secrets.iter().map(|secret| self.real(secret["sopsFile"].as_str().expect("a file")));
        files.map(|file| fs::read_to_string(file).expect("a file")).collect()
    }

    /// Their recipients.
    pub(crate) fn recipients(&self, manifests: &Value, step: &Value) -> Vec<String> {
        let text = self.text_of_files(manifests, step);
        let found: Vec<_> =
            text.split("recipient: ").skip(1).filter_map(|rest| rest.lines().next()).collect();
        assert!(!found.is_empty(), "{text}");
        found.into_iter().map(str::to_owned).collect()
    }

    /// What lies below `/run` and `{dir}/out`, save what civm does not write: copies of keys, lists of units.
    pub(crate) fn tree(&self) -> Tree {
        let mut out = Tree::new();
        for root in [Path::new("/run").to_owned(), self.dir.join("out")] {
            for entry in walkdir::WalkDir::new(root).min_depth(1).into_iter().flatten() {
                let path = self.masked(text_of(entry.path()));
                if counts(&path) {
                    out.insert(path, self.entry(entry.path()));
                }
            }
        }
        out
    }

    fn entry(&self, path: &Path) -> String {
        let found = fs::symlink_metadata(path).expect("an entry");
        let owner = format!("{}:{}", found.uid(), found.gid());
        let mode = found.mode() & 0o7777;
        if found.is_symlink() {
            let target = fs::read_link(path).expect("a link");
            format!("link {owner} {}", self.masked(text_of(&target)))
        } else if found.is_dir() {
            format!("dir {mode:04o} {owner}")
        } else {
            format!("file {mode:04o} {owner} {}", hash(&fs::read(path).expect("a file")))
        }
    }

    /// The mounts of a case, as `path type options`.
    pub(crate) fn mounts(&self) -> Vec<String> {
        let text = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let row = |line: &str| {
            let (left, right) = line.split_once(" - ")?;
            let left: Vec<&str> = left.split(' ').collect();
            let right: Vec<&str> = right.split(' ').collect();
            let path = self.masked(left.get(4)?);
            if !path.starts_with("/run/") && !path.starts_with("{dir}") {
                return None;
            }
            let kept = ["ro", "rw", "nosuid", "nodev", "noexec", "mode=", "noswap"];
            let mut options: Vec<&str> = left.get(5)?.split(',').chain(right.get(2)?.split(',')).collect();
            options.retain(|option| kept.iter().any(|kept| option.starts_with(kept)));
            options.sort_unstable();
            options.dedup();
            Some(format!("{path} {} {}", right.first()?, options.join(",")))
        };
        text.lines().filter_map(row).collect()
    }
}

/// The tree of a recorded step in the same form; in a user namespace the group of the folders is 0.
pub(crate) fn recorded_tree(step: &Value, mapped: bool) -> Tree {
    let mut out = Tree::new();
    let entries = step["tree"].as_array().into_iter().flatten().cloned();
    let many = step["tree_repeat"].as_array().into_iter().flatten().flat_map(|entry| {
        (1..=100).map(move |n| {
            let text = entry.to_string().replace("{n}", &n.to_string());
            serde_json::from_str(&text).expect("an entry")
        })
    });
    for entry in entries.chain(many) {
        let field = |name: &str| entry[name].as_str().unwrap_or_default();
        if !counts(field("path")) {
            continue;
        }
        let gid = if mapped && entry["gid"] == 96 { 0 } else { entry["gid"].as_u64().expect("a group") };
        let owner = format!("{}:{gid}", entry["uid"]);
        let seen = match field("type") {
            "link" => format!("link {owner} {}", field("target")),
            "dir" => format!("dir {} {owner}", field("mode")),
            _ => {
                let hash =
                    entry["sha256"].as_str().map_or_else(|| hash(field("content").as_bytes()), str::to_owned);
                format!("file {} {owner} {hash}", field("mode"))
            }
        };
        out.insert(field("path").into(), seen);
    }
    out
}

pub(crate) fn recorded_mounts(step: &Value) -> Vec<String> {
    let row = |mount: &Value| {
        let options: Vec<&str> = mount["options"].as_array()?.iter().filter_map(Value::as_str).collect();
        Some(format!("{} {} {}", mount["path"].as_str()?, mount["fstype"].as_str()?, options.join(",")))
    };
    step["mounts"].as_array().into_iter().flatten().filter_map(row).collect()
}

/// The entry of a secret that nobody but root may read.
pub(crate) fn entry_of(content: &str) -> String {
    format!("file 0400 0:0 {}", hash(content.as_bytes()))
}

fn counts(path: &str) -> bool {
    !path.ends_with("/age-keys.txt") && !path.starts_with("/run/nixos/")
}

fn hash(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    civm::edge::hex::encode(&Sha256::digest(bytes))
}

fn id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

fn text_of(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.expect("a readable folder");
        let target = to.join(entry.path().strip_prefix(from).expect("below"));
        if entry.file_type().is_dir() {
            fs::create_dir_all(&target).expect("a folder");
        } else {
            fs::copy(entry.path(), &target).expect("a copy");
        }
    }
}
