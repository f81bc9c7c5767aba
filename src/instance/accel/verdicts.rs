//! Verdicts of earlier runs: what was tried on this machine, and how it went.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::trial::{Kernel, Trial};
use crate::edge::environment::Environment;
use crate::edge::hex;
use crate::instance::state::make_directory;

/// How long a failure is believed, in seconds: the machine may have been busy.
const FAILURE_TTL: u64 = 12 * 60 * 60;
/// How long a success is believed: settings of the module kvm may change what a machine can do.
const SUCCESS_TTL: u64 = 7 * 24 * 60 * 60;
/// Verdicts that are kept.
pub(super) const KEPT_MAX: usize = 16;
/// Lines of `/proc/cpuinfo` that say which CPU this is, on x86 and on ARM.
const CPU_FIELDS: [&str; 12] = [
    "vendor_id",
    "cpu family",
    "model",
    "model name",
    "stepping",
    "microcode",
    "flags",
    "Features",
    "CPU implementer",
    "CPU variant",
    "CPU part",
    "CPU revision",
];

/// The verdict of an earlier run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Whether KVM works.
    pub(super) works: bool,
    /// Why this is thought, as text for the user.
    pub(super) reason: String,
    /// When it was tried, in seconds since the epoch.
    pub(super) at: u64,
}

impl Kept {
    /// What a trial that has just ended came to.
    pub(super) fn now(outcome: &Result<String, String>) -> Self {
        let (works, reason) = match outcome {
            Ok(reason) => (true, reason.clone()),
            Err(reason) => (false, reason.clone()),
        };
        Self { works, reason, at: seconds() }
    }

    /// The same as an outcome.
    pub(super) fn outcome(self) -> Result<String, String> {
        if self.works { Ok(self.reason) } else { Err(self.reason) }
    }

    fn is_fresh(&self) -> bool {
        let limit = if self.works { SUCCESS_TTL } else { FAILURE_TTL };
        seconds().saturating_sub(self.at) < limit
    }
}

pub(super) fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The verdict on a trial that an earlier run made, if it is not too old.
pub(super) fn find(trial: &Trial<'_>) -> Option<Kept> {
    load(trial.environment).remove(&key(trial)?).filter(Kept::is_fresh)
}

/// Keeps a verdict. Without a cache the next run tries again.
pub(super) fn keep(trial: &Trial<'_>, kept: Kept) {
    if let Some(key) = key(trial) {
        let _ = store(trial.environment, key, kept);
    }
}

/// What a verdict holds for: the kernel of this machine and its CPU, this QEMU and its user, and the kernel and initrd
/// that were booted.
fn key(trial: &Trial<'_>) -> Option<String> {
    let mut hash = Sha256::new();
    hash.update(fs::read("/proc/version").ok()?);
    hash.update(cpu(&fs::read_to_string("/proc/cpuinfo").ok()?));
    // Which user it is makes no difference, only that it is not root.
    hash.update([u8::from(trial.user.is_some())]);
    let mut files = vec![trial.qemu];
    match trial.kernel {
        Kernel::Small => hash.update(super::small::elf()),
        Kernel::Image(boot) => {
            files.push(&boot.kernel);
            files.extend(boot.initrd.as_deref());
        }
    }
    for path in files {
        hash.update(file(path)?.as_bytes());
    }
    Some(hex::encode(&hash.finalize()[..16]))
}

/// What tells a file of a name from what was there before.
pub(in crate::instance) fn file(path: &Path) -> Option<String> {
    let metadata = fs::metadata(path).ok()?;
    Some(format!("\n{}\n{}\n{}", path.display(), metadata.len(), metadata.mtime()))
}

/// The lines on the first processor that name its kind.
pub(in crate::instance) fn cpu(cpuinfo: &str) -> String {
    let first = cpuinfo.lines().take_while(|line| !line.trim().is_empty());
    let named = |line: &&str| line.split(':').next().is_some_and(|name| CPU_FIELDS.contains(&name.trim()));
    first.filter(named).collect::<Vec<_>>().join("\n")
}

fn cache_file(environment: &Environment) -> Option<PathBuf> {
    Some(environment.cache_dir()?.join("civm/accel.json"))
}

pub(super) fn load(environment: &Environment) -> BTreeMap<String, Kept> {
    let text = cache_file(environment).and_then(|path| fs::read(path).ok()).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

pub(super) fn store(environment: &Environment, key: String, kept: Kept) -> Option<()> {
    let path = cache_file(environment)?;
    make_directory(path.parent().unwrap_or(Path::new("/"))).ok()?;
    let mut all = load(environment);
    all.insert(key, kept);
    while all.len() > KEPT_MAX {
        let oldest = all.iter().min_by_key(|(_, kept)| kept.at).map(|(key, _)| key.clone())?;
        all.remove(&oldest);
    }
    let text = serde_json::to_vec_pretty(&all).ok()?;
    crate::edge::atomic::replace(&path, &text, 0o600).ok()
}

#[cfg(test)]
mod tests {
    use super::cpu;

    #[test]
    fn a_cpu_is_known_by_its_kind_and_not_by_its_speed_of_the_moment() {
        let one = "processor\t: 0\nmodel name\t: A CPU\ncpu MHz\t\t: 2400.1\nflags\t\t: fpu vmx\n\nprocessor\t: 1\nmodel name\t: B\n";
        assert_eq!(cpu(one), "model name\t: A CPU\nflags\t\t: fpu vmx");
        assert_eq!(cpu(one), cpu(&one.replace("2400.1", "1200.9")));
    }
}
