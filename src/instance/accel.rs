//! Which accelerator a machine gets: KVM where a kernel really boots on it, else TCG.
//!
//! That `/dev/kvm` opens proves nothing: inside some virtual machines it does, and guests hang or crawl.
//! So the image's own kernel and initrd are booted on it once, and the verdict is cached until the next
//! boot of this machine.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::edge::account::group_name;
use crate::edge::environment::Environment;
use crate::edge::hex;
use crate::instance::deadline::scaled;
use crate::instance::error::Error;
use crate::instance::stage::{Inherited, QemuUser, child_command};
use crate::instance::state::make_directory;
use crate::vm::argv;
use crate::vm::spec::{Accel, Arch, Boot, Channel, Console, Draft, Spec};

/// Kernel parameter that makes an initrd of civm print [`PROBE_OK`] and power off.
pub const PROBE_PARAMETER: &str = "civm.probe";
/// What it prints on the serial console.
pub const PROBE_OK: &str = "civm: probe ok";
/// How long a kernel may take to get there. On working KVM it is well below one second; the broken kind
/// takes more than a minute.
const PROBE: Duration = Duration::from_secs(4);
/// Memory of the probed machine, in MiB.
const PROBE_MEMORY_MIB: u32 = 256;
/// How long a failure is believed: the machine may have been busy.
const FAILURE_TTL: Duration = Duration::from_secs(12 * 60 * 60);
/// Verdicts that are cached.
const CACHED_MAX: usize = 16;
/// Bytes of console and messages that are looked at.
const OUTPUT_MAX: u64 = 256 << 10;
/// Characters of a message of QEMU's that are repeated.
const MESSAGE_MAX: usize = 100;

/// Which accelerator the user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccelRequest {
    /// KVM where it works.
    #[default]
    Auto,
    /// KVM or nothing.
    Kvm,
    /// TCG.
    Tcg,
}

/// What the machine gets, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The accelerator.
    pub accel: Accel,
    /// Why, as text for the user.
    pub reason: String,
}

/// What a kernel is booted with to see whether KVM works.
#[derive(Clone, Copy, Debug)]
pub struct Probe<'a> {
    /// Architecture of the guest.
    pub arch: Arch,
    /// QEMU's program.
    pub qemu: &'a Path,
    /// The image's kernel and initrd.
    pub boot: &'a Boot,
    /// The user that QEMU will run as, where that is not ours.
    pub(crate) user: Option<QemuUser>,
    /// The variables of this run.
    pub environment: &'a Environment,
}

/// Decides, by trying where nobody has tried since this machine's last boot.
///
/// # Errors
/// KVM is demanded and does not work.
pub fn decide(request: AccelRequest, probe: &Probe<'_>) -> Result<Verdict, Error> {
    let kvm = Path::new("/dev/kvm");
    let Probe { arch, environment, .. } = *probe;
    let openable = |device: &Path| {
        openable(device, environment)?;
        match probe.user {
            Some(user) if !user.may_use_kvm() => Err(format!(
                "only root may open {}, and QEMU runs as a user of its own (udev's rules for kvm are missing)",
                device.display()
            )),
            _ => Ok(()),
        }
    };
    let outcome = match request {
        AccelRequest::Tcg => return Ok(Verdict { accel: Accel::Tcg, reason: "TCG as asked".to_owned() }),
        _ if Arch::native() != Some(arch) => Err(format!("KVM cannot run {arch} guests on this machine")),
        AccelRequest::Kvm => openable(kvm).and_then(|()| fresh(probe)),
        AccelRequest::Auto => openable(kvm).and_then(|()| known(probe)),
    };
    match (outcome, request) {
        (Ok(reason), _) => Ok(Verdict { accel: Accel::Kvm, reason }),
        (Err(reason), AccelRequest::Kvm) => Err(Error::NoKvm(reason)),
        (Err(reason), _) => {
            Ok(Verdict { accel: Accel::Tcg, reason: format!("{reason}; using TCG, which is slower") })
        }
    }
}

fn openable(device: &Path, environment: &Environment) -> Result<(), String> {
    match fs::OpenOptions::new().read(true).write(true).open(device) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(format!(
            "there is no {} (virtualisation is off in the firmware, or the module kvm is not loaded)",
            device.display()
        )),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(forbidden(device, environment)),
        Err(error) => Err(format!("{} does not open ({error})", device.display())),
    }
}

/// What to do about a device that this user may not open.
fn forbidden(device: &Path, environment: &Environment) -> String {
    let metadata = fs::metadata(device).ok();
    // Where its group may use it, joining the group is the way.
    let group = metadata.filter(|m| m.mode() & 0o060 == 0o060 && m.gid() != 0);
    let group = group.and_then(|m| group_name(m.gid().into(), environment));
    let device = device.display();
    match group {
        Some(group) => {
            format!("this user may not open {device} (`sudo usermod -aG {group} $USER`, then log in again)")
        }
        None => format!("this user may not open {device} (only root may: udev's rules for kvm are missing)"),
    }
}

/// The verdict of an earlier run.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct CachedVerdict {
    works: bool,
    reason: String,
    at: u64,
}

fn known(probe: &Probe<'_>) -> Result<String, String> {
    let now = seconds();
    let cached = key(probe).and_then(|key| load(probe.environment).remove(&key));
    match cached.filter(|cached| cached.works || now.saturating_sub(cached.at) < FAILURE_TTL.as_secs()) {
        Some(cached) if cached.works => Ok(cached.reason),
        Some(cached) => Err(cached.reason),
        None => fresh(probe),
    }
}

fn fresh(probe: &Probe<'_>) -> Result<String, String> {
    let outcome = boot_on_kvm(probe);
    if let Some(key) = key(probe) {
        let (works, reason) = match &outcome {
            Ok(reason) => (true, reason.clone()),
            Err(reason) => (false, reason.clone()),
        };
        // Without a cache the next run tries again.
        let _ = store(probe.environment, key, CachedVerdict { works, reason, at: seconds() });
    }
    outcome
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What a verdict holds for: this boot of the machine, this QEMU and its user, this kernel and initrd.
fn key(probe: &Probe<'_>) -> Option<String> {
    let Probe { qemu, boot, user, .. } = *probe;
    let mut hash = Sha256::new();
    hash.update(fs::read("/proc/sys/kernel/random/boot_id").ok()?);
    // Which user it is makes no difference, only that it is not root.
    hash.update([u8::from(user.is_some())]);
    for path in [Some(qemu), Some(&boot.kernel), boot.initrd.as_deref()].into_iter().flatten() {
        let metadata = fs::metadata(path).ok()?;
        let line = format!("\n{}\n{}\n{}", path.display(), metadata.len(), metadata.mtime());
        hash.update(line.as_bytes());
    }
    Some(hex::encode(&hash.finalize()[..16]))
}

fn cache_file(environment: &Environment) -> Option<PathBuf> {
    Some(environment.cache_dir()?.join("civm/accel.json"))
}

fn load(environment: &Environment) -> BTreeMap<String, CachedVerdict> {
    let text = cache_file(environment).and_then(|path| fs::read(path).ok()).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn store(environment: &Environment, key: String, verdict: CachedVerdict) -> Option<()> {
    let path = cache_file(environment)?;
    make_directory(path.parent()?).ok()?;
    let mut all = load(environment);
    all.insert(key, verdict);
    while all.len() > CACHED_MAX {
        let oldest = all.iter().min_by_key(|(_, cached)| cached.at).map(|(key, _)| key.clone())?;
        all.remove(&oldest);
    }
    let text = serde_json::to_vec_pretty(&all).ok()?;
    crate::edge::atomic::replace(&path, &text, 0o600).ok()
}

/// Boots the image's kernel on KVM; the reason to take it, or not to.
fn boot_on_kvm(probe: &Probe<'_>) -> Result<String, String> {
    let patience = scaled(PROBE, probe.environment);
    let start = Instant::now();
    let cannot = |error: &dyn std::fmt::Display| format!("KVM could not be tried ({error})");
    let (mut console, theirs) = UnixStream::pair().map_err(|error| cannot(&error))?;
    fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty())).map_err(|error| cannot(&error))?;
    let mut boot = probe.boot.clone();
    let mut inherited = Inherited::default();
    let mut command = child_command(probe.qemu, probe.environment);
    if let Some(user) = probe.user {
        user.run(&mut command);
        for path in [Some(&mut boot.kernel), boot.initrd.as_mut()].into_iter().flatten() {
            *path = inherited.path(path).map_err(|error| cannot(&error))?;
        }
    }
    let spec = probed(probe.arch, boot, theirs.as_raw_fd()).map_err(|error| cannot(&error))?;
    let mut child = command
        .args(argv::render(&spec))
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| cannot(&error))?;
    drop((theirs, inherited));
    let booted = wait_for_word(&mut console, start + patience);
    let _ = child.kill();
    let _ = child.wait();
    if booted {
        return Ok(format!("a kernel boots on KVM in {:.1} s", start.elapsed().as_secs_f32()));
    }
    let mut messages = String::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(OUTPUT_MAX).read_to_string(&mut messages);
    }
    Err(match in_short(&messages) {
        None => "/dev/kvm opens, but Linux does not boot on it".to_owned(),
        Some(line) => format!("/dev/kvm opens, but KVM does not work ({line})"),
    })
}

/// QEMU's last message, in one short line.
fn in_short(messages: &str) -> Option<String> {
    let line = messages.lines().rev().find(|line| line.contains("qemu"))?;
    if line.contains("Assertion") {
        // The place in QEMU's source helps nobody here.
        return Some("QEMU aborts with it".to_owned());
    }
    // QEMU names itself by its whole path first.
    let line = line.split_once(": ").map_or(line, |(_, rest)| rest).trim();
    (!line.is_empty()).then(|| line.chars().take(MESSAGE_MAX).collect())
}

fn probed(arch: Arch, boot: Boot, console: i32) -> Result<Spec, Error> {
    let append = vec![PROBE_PARAMETER.to_owned()];
    let draft = Draft {
        name: "probe".to_owned(),
        arch,
        accel: Accel::Kvm,
        cpus: 1,
        memory_mib: PROBE_MEMORY_MIB,
        boot: Boot { append, ..boot },
        disk: None,
        disk_files: None,
        forwards: Vec::new(),
        restrict_network: true,
        share: None,
        console: Console { channel: Channel::Descriptor(console) },
        qmp: None,
        agent: None,
        extra_arguments: Vec::new(),
    };
    Ok(Spec::new(draft, Arch::native())?)
}

/// Reads a console until the word comes, it closes, or the time is over.
fn wait_for_word(console: &mut UnixStream, until: Instant) -> bool {
    let mut seen = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || console.set_read_timeout(Some(left)).is_err() || seen.len() as u64 > OUTPUT_MAX {
            return false;
        }
        match console.read(&mut chunk) {
            Ok(0) => return false,
            Ok(count) => seen.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
        if String::from_utf8_lossy(&seen).contains(PROBE_OK) {
            return true;
        }
    }
}

#[cfg(test)]
mod tests;
