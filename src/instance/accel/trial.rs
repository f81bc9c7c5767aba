//! Booting a kernel on KVM to see whether it comes as far as to print a word.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::{PROBE_OK, PROBE_PARAMETER, small};
use crate::edge::environment::Environment;
use crate::instance::deadline::scaled;
use crate::instance::error::Error;
use crate::instance::stage::{Inherited, QemuUser, child_command};
use crate::vm::argv;
use crate::vm::network::Network;
use crate::vm::spec::{Accel, Arch, Boot, Channel, Console, Draft, MachineType, Spec};

/// How long the small kernel may take. On working KVM it prints within 0.3 s, most of which is QEMU's own start.
const SMALL: Duration = Duration::from_millis(1500);
/// How long an image's kernel may take. On working KVM it is well below one second; the broken kind takes more than a
/// minute.
const IMAGE: Duration = Duration::from_secs(4);
/// Memory of the machine, in MiB.
const MEMORY_MIB: u32 = 256;
/// Bytes of console and messages that are looked at.
const OUTPUT_MAX: u64 = 256 << 10;
/// Characters of a message of QEMU's that are repeated.
const MESSAGE_MAX: usize = 100;

/// What is booted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kernel<'a> {
    /// A few bytes of kernel code.
    Small,
    /// The kernel and initrd of an image.
    Image(&'a Boot),
}

/// A kernel on a QEMU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trial<'a> {
    pub(super) arch: Arch,
    pub(super) qemu: &'a Path,
    pub(super) user: Option<QemuUser>,
    pub(super) environment: &'a Environment,
    pub(super) kernel: Kernel<'a>,
}

impl Trial<'_> {
    /// Boots it; the reason to take KVM, or not to.
    pub(super) fn run(&self) -> Result<String, String> {
        let start = Instant::now();
        let limit = match self.kernel {
            Kernel::Small => SMALL,
            Kernel::Image(_) => IMAGE,
        };
        let messages = self
            .boot(start + scaled(limit, self.environment))
            .map_err(|error| format!("KVM could not be tried ({error})"))?;
        let Some(messages) = messages else {
            let what = match self.kernel {
                Kernel::Small => "kernel code runs",
                Kernel::Image(_) => "a kernel boots",
            };
            return Ok(format!("{what} on KVM in {:.1} s", start.elapsed().as_secs_f32()));
        };
        Err(match (in_short(&messages), self.kernel) {
            (Some(line), _) => format!("/dev/kvm opens, but nothing runs on it: {line}"),
            (None, Kernel::Small) => {
                "/dev/kvm opens, but kernel code hangs or crawls on it, as in some virtual machines"
                    .to_owned()
            }
            (None, Kernel::Image(_)) => "/dev/kvm opens, but Linux does not boot on it".to_owned(),
        })
    }

    /// Boots it; QEMU's messages where the word did not come in time.
    fn boot(&self, until: Instant) -> Result<Option<String>, Box<dyn std::error::Error>> {
        let (mut console, theirs) = UnixStream::pair()?;
        fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty()))?;
        let mut inherited = Inherited::default();
        let mut command = child_command(self.qemu, self.environment);
        let mut boot = match self.kernel {
            Kernel::Small => Boot { kernel: small_kernel(&mut inherited)?, initrd: None, append: Vec::new() },
            Kernel::Image(boot) => boot.clone(),
        };
        if let Some(user) = self.user {
            user.run(&mut command);
            if let Kernel::Image(_) = self.kernel {
                for path in [Some(&mut boot.kernel), boot.initrd.as_mut()].into_iter().flatten() {
                    *path = inherited.path(path)?;
                }
            }
        }
        let spec = probed(self.arch, boot, theirs.as_raw_fd())?;
        let mut child = command
            .args(argv::render(&spec))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        drop((theirs, inherited));
        let booted = wait_for_word(&mut console, until);
        let _ = child.kill();
        let _ = child.wait();
        if booted {
            return Ok(None);
        }
        let mut messages = String::new();
        if let Some(stderr) = child.stderr.take() {
            let _ = stderr.take(OUTPUT_MAX).read_to_string(&mut messages);
        }
        Ok(Some(messages))
    }
}

/// A path by which QEMU reads the small kernel, from memory.
pub(in crate::instance) fn small_kernel(inherited: &mut Inherited) -> io::Result<PathBuf> {
    let mut file = File::from(memfd_create(c"civm", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&small::elf())?;
    Ok(PathBuf::from(format!("/proc/self/fd/{}", inherited.descriptor(file)?)))
}

/// QEMU's last message, in one short line.
pub(in crate::instance) fn in_short(messages: &str) -> Option<String> {
    let is_reason = |line: &&str| line.contains("qemu") && !line.contains(": warning: ");
    let line = messages.lines().rev().find(is_reason)?;
    if line.contains("Assertion") {
        // The place in QEMU's source helps nobody here.
        return Some("QEMU aborts".to_owned());
    }
    // QEMU names itself by its whole path first.
    let line = line.split_once(": ").map_or(line, |(_, rest)| rest).trim();
    (!line.is_empty()).then(|| line.chars().take(MESSAGE_MAX).collect())
}

fn probed(arch: Arch, boot: Boot, console: i32) -> Result<Spec, Error> {
    let append = vec![PROBE_PARAMETER.to_owned()];
    Ok(Spec::new(draft(arch, Accel::Kvm, Boot { append, ..boot }, console), Arch::native())?)
}

/// A machine with nothing but a kernel and a console.
pub(in crate::instance) fn draft(arch: Arch, accel: Accel, boot: Boot, console: i32) -> Draft {
    Draft {
        name: "probe".to_owned(),
        arch,
        accel,
        cpus: 1,
        memory_mib: MEMORY_MIB,
        memory_file: None,
        boot,
        runner: None,
        disk: None,
        disk_files: None,
        forwards: Vec::new(),
        network: Network::None,
        fence: None,
        share: None,
        console: Console { channel: Channel::Descriptor(console) },
        qmp: None,
        agent: None,
        extra_arguments: Vec::new(),
        machine_type: MachineType::usual(arch),
        tsc_khz: None,
    }
}

/// Reads a console until the word comes, it closes, or the time is over.
pub(super) fn wait_for_word(console: &mut UnixStream, until: Instant) -> bool {
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
