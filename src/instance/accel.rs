//! Which accelerator a machine gets: KVM where a kernel really boots on it, else TCG.
//!
//! That `/dev/kvm` opens proves nothing: inside some virtual machines it does, and guests hang or crawl. So a few bytes
//! of kernel code are run on it, which tells the broken kind at once, and where they do, the image's own kernel and
//! initrd. The verdicts are kept for this machine's kernel and CPU, and for this QEMU.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::edge::account::group_name;
use crate::edge::environment::Environment;
use crate::instance::error::Error;
use crate::instance::stage::QemuUser;
use crate::vm::spec::{Accel, Arch, Boot};

mod small;
pub(super) mod trial;
pub(super) mod verdicts;

use trial::{Kernel, Trial};
use verdicts::Kept;

/// Kernel parameter that makes an initrd of civm print [`PROBE_OK`] and power off.
pub const PROBE_PARAMETER: &str = "civm.probe";
/// What it prints on the serial console.
pub const PROBE_OK: &str = "civm: probe ok";
/// What a machine has to open for KVM.
const DEVICE: &str = "/dev/kvm";

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
    /// The image's kernel and initrd; none where they say no word that civm knows.
    pub boot: Option<&'a Boot>,
    /// The user that QEMU will run as, where that is not ours.
    pub(crate) user: Option<QemuUser>,
    /// The variables of this run.
    pub environment: &'a Environment,
}

/// Decides, by trying where no earlier verdict holds. A demand for KVM is always tried.
///
/// # Errors
/// KVM is demanded and does not work.
pub fn decide(request: AccelRequest, probe: &Probe<'_>) -> Result<Verdict, Error> {
    let outcome = match request {
        AccelRequest::Tcg => return Ok(Verdict { accel: Accel::Tcg, reason: "TCG as asked".to_owned() }),
        AccelRequest::Kvm => usable(probe).and_then(|()| judge(probe, Trial::run_and_keep)),
        AccelRequest::Auto => usable(probe).and_then(|()| judge(probe, Trial::known_or_run)),
    };
    match (outcome, request) {
        (Ok(reason), _) => Ok(Verdict { accel: Accel::Kvm, reason }),
        (Err(reason), AccelRequest::Kvm) => Err(Error::NoKvm(reason)),
        (Err(reason), _) => {
            Ok(Verdict { accel: Accel::Tcg, reason: format!("{reason}; using TCG, which is slower") })
        }
    }
}

/// Runs a few bytes of kernel code on KVM, as the user who asks: what can be said without an image. The verdict is kept.
///
/// # Errors
/// Why KVM does not work here.
pub fn try_kvm(qemu: &Path, environment: &Environment) -> Result<String, String> {
    let arch = Arch::native().ok_or_else(|| format!("civm does not know {}", std::env::consts::ARCH))?;
    openable(Path::new(DEVICE), environment)?;
    if arch != Arch::X86_64 {
        return Ok(format!("{DEVICE} opens; `civm up` tries it with the image's kernel"));
    }
    Trial { arch, qemu, user: None, environment, kernel: Kernel::Small }.run_and_keep()
}

/// What a machine will get, as far as that can be said without an image: a few bytes of kernel code are run on KVM as
/// the user that QEMU will run as, unless an earlier verdict holds. `state` is the machine's state directory.
///
/// # Errors
/// Why KVM does not work for it here.
pub fn outlook(arch: Arch, qemu: &Path, state: &Path, environment: &Environment) -> Result<String, String> {
    let user = QemuUser::choose(state, environment);
    let probe = Probe { arch, qemu, boot: None, user, environment };
    usable(&probe)?;
    let reason = trials(&probe).iter().try_fold(None, |_, trial| trial.known_or_run().map(Some))?;
    open_to_qemu(&probe)?;
    Ok(reason.unwrap_or_else(|| format!("{DEVICE} opens; it is tried with the image's kernel")))
}

/// Whether the user that QEMU runs as may open the device, where root starts it.
#[must_use]
pub fn is_only_roots(state: &Path, environment: &Environment) -> bool {
    QemuUser::choose(state, environment).is_some_and(|user| !user.may_use_kvm())
}

/// Whether there is any point in trying.
fn usable(probe: &Probe<'_>) -> Result<(), String> {
    if Arch::native() != Some(probe.arch) {
        return Err(format!("KVM cannot run {} guests on this machine", probe.arch));
    }
    openable(Path::new(DEVICE), probe.environment)
}

/// Whether the user that QEMU runs as may open the device.
fn open_to_qemu(probe: &Probe<'_>) -> Result<(), String> {
    match probe.user {
        Some(user) if !user.may_use_kvm() => Err(format!(
            "only root may open {DEVICE}, and QEMU runs as a user of its own (udev's rules for kvm are missing)"
        )),
        _ => Ok(()),
    }
}

/// What is tried, in order. Where only root may open the device, root tries its own few bytes of code: whoever is told
/// to change that should know whether it would help.
fn trials<'a>(probe: &Probe<'a>) -> Vec<Trial<'a>> {
    let Probe { arch, qemu, boot, user, environment } = *probe;
    let small = Trial { arch, qemu, user, environment, kernel: Kernel::Small };
    let image = boot.map(|boot| Trial { kernel: Kernel::Image(boot), ..small });
    match (arch, open_to_qemu(probe)) {
        (Arch::X86_64, Ok(())) => [Some(small), image].into_iter().flatten().collect(),
        (Arch::X86_64, Err(_)) => vec![Trial { user: None, ..small }],
        (Arch::Aarch64, Ok(())) => image.into_iter().collect(),
        (Arch::Aarch64, Err(_)) => Vec::new(),
    }
}

/// The reason of the last trial, or of the first that fails.
fn judge<'a>(
    probe: &Probe<'a>,
    outcome: impl Fn(&Trial<'a>) -> Result<String, String>,
) -> Result<String, String> {
    let opens = || format!("{DEVICE} opens");
    let reason = trials(probe).iter().try_fold(None, |_, trial| outcome(trial).map(Some))?;
    open_to_qemu(probe).map(|()| reason.unwrap_or_else(opens))
}

impl Trial<'_> {
    fn run_and_keep(&self) -> Result<String, String> {
        let outcome = self.run();
        verdicts::keep(self, Kept::now(&outcome));
        outcome
    }

    fn known_or_run(&self) -> Result<String, String> {
        verdicts::find(self).map_or_else(|| self.run_and_keep(), Kept::outcome)
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

#[cfg(test)]
mod tests;
