//! The root disk: found, checked where it asks for it, mounted; and the switch to it.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, chroot};

use super::{Error, console};

/// Where the root disk is mounted before the switch.
pub(super) const SYSROOT: &str = "/sysroot";
/// How long the driver may take to bring the disk.
const THERE_WITHIN: Duration = Duration::from_secs(5);
/// What a program says of another that it could not run, as shells do; none of e2fsck's own codes has all its bits.
pub(super) const NOT_RUN: u8 = 127;
/// `e2fsck` corrected everything; it says so with this bit and no other.
const CORRECTED: i32 = 1;

/// What the superblock of an ext4 file system says that matters here; it lies 1024 bytes into the
/// device (linux/fs/ext4/ext4.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    /// Bytes of the file system.
    pub(super) size: u64,
    /// The kernel found errors since the last check.
    pub(super) errors: bool,
}

impl Superblock {
    pub(super) fn read(device: &Path) -> Result<Self, Error> {
        let mut bytes = [0_u8; 1024];
        let mut file = File::open(device).map_err(Error::io("open", device))?;
        file.seek(SeekFrom::Start(1024)).map_err(Error::io("read", device))?;
        file.read_exact(&mut bytes).map_err(Error::io("read", device))?;
        Self::parse(&bytes).ok_or_else(|| Error::content(device, "holds no ext4 file system"))
    }

    fn parse(bytes: &[u8; 1024]) -> Option<Self> {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if u16_at(0x38) != 0xef53 {
            return None;
        }
        let incompatible = u32_at(0x60);
        // The upper half of the number of blocks counts with feature 64bit only.
        let high = if incompatible & 0x80 == 0 { 0 } else { u64::from(u32_at(0x150)) };
        let blocks = u64::from(u32_at(0x4)) | high << 32;
        let block = 1024_u64.checked_shl(u32_at(0x18).min(16))?;
        Some(Self { size: blocks.checked_mul(block)?, errors: u16_at(0x3a) & 2 != 0 })
    }
}

/// Mounts the root disk on [`SYSROOT`]. The kernel replays the journal of a disk that was not
/// unmounted; one on which it has seen errors is checked first.
pub(super) fn mount_disk(device: &Path) -> Result<(), Error> {
    let begun = Instant::now();
    while !device.exists() {
        if begun.elapsed() > THERE_WITHIN {
            return Err(Error::content(device, "the root disk does not appear"));
        }
        thread::sleep(Duration::from_millis(5));
    }
    let flags = MsFlags::MS_NOATIME;
    if Superblock::read(device)?.errors {
        console::say("the root disk had errors: checking it");
        mount_ext4(device, flags | MsFlags::MS_RDONLY)?;
        check(device)?;
        nix::mount::umount(SYSROOT).map_err(Error::io("unmount", SYSROOT))?;
    }
    mount_ext4(device, flags)
}

fn mount_ext4(device: &Path, flags: MsFlags) -> Result<(), Error> {
    let options = Some("discard,errors=remount-ro");
    mount(Some(device), SYSROOT, Some("ext4"), flags, options).map_err(Error::io("mount", device))
}

/// Runs the disk's own `e2fsck` from the disk, mounted read-only.
fn check(device: &Path) -> Result<(), Error> {
    for dir in ["dev", "proc"] {
        let target = Path::new(SYSROOT).join(dir);
        let source = Path::new("/").join(dir);
        bind(&source, &target)?;
    }
    let status = Command::new("/proc/self/exe")
        .args(["guest", "chroot", SYSROOT, "/sbin/e2fsck", "-f", "-y"])
        .arg(device)
        .status()
        .map_err(Error::io("run", "e2fsck"))?;
    for dir in ["dev", "proc"] {
        let target = Path::new(SYSROOT).join(dir);
        nix::mount::umount(&target).map_err(Error::io("unmount", &target))?;
    }
    match status.code() {
        Some(code) if is_sound(code) => Ok(()),
        _ => Err(Error::Program {
            program: "e2fsck".to_owned(),
            status: status.to_string(),
            stderr: format!("{} is damaged; delete the disk to get a fresh one", device.display()),
        }),
    }
}

/// Whether a disk may be used after a check that ended so. Bit 2 asks for a reboot of a mounted root; it is unmounted right
/// after.
const fn is_sound(code: i32) -> bool {
    code & !(CORRECTED | 2) == 0
}

/// Enters a directory as the root and becomes the program; returns only on failure.
pub(super) fn chroot_exec(root: &str, program: &str, args: &[&str]) -> Error {
    use std::os::unix::process::CommandExt;
    if let Err(error) = chroot(root).and_then(|()| chdir("/")) {
        return Error::io("enter", root)(error);
    }
    Error::io("run", program)(Command::new(program).args(args).exec())
}

pub(super) fn bind(source: &Path, target: &Path) -> Result<(), Error> {
    let none = None::<&str>;
    mount(Some(source), target, none, MsFlags::MS_BIND, none).map_err(Error::io("bind", target))
}

/// Makes the mounted root disk `/`, with `/dev`, `/proc`, `/sys` and `/run` as they are.
pub(super) fn switch() -> Result<(), Error> {
    for dir in ["dev", "proc", "sys", "run"] {
        let target = Path::new(SYSROOT).join(dir);
        if !target.is_dir() {
            fs::create_dir(&target).map_err(Error::io("create", &target))?;
        }
        move_mount(&Path::new("/").join(dir), &target)?;
    }
    chdir(SYSROOT).map_err(Error::io("enter", SYSROOT))?;
    move_mount(Path::new(SYSROOT), Path::new("/"))?;
    chroot(".").and_then(|()| chdir("/")).map_err(Error::io("enter", SYSROOT))
}

fn move_mount(from: &Path, to: &Path) -> Result<(), Error> {
    let none = None::<&str>;
    mount(Some(from), to, none, MsFlags::MS_MOVE, none).map_err(Error::io("move mount to", to))
}

/// Bytes of a block device.
pub(super) fn device_size(device: &Path) -> Result<u64, Error> {
    let mut file = File::open(device).map_err(Error::io("open", device))?;
    file.seek(SeekFrom::End(0)).map_err(Error::io("read", device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_file_system_is_measured() {
        let dir = tempfile::tempdir().expect("tempdir");
        let disk = dir.path().join("disk");
        let made = Command::new("/sbin/mke2fs").args(["-q", "-t", "ext4"]).arg(&disk).arg("32M").status();
        assert!(made.expect("mke2fs").success());
        let read = Superblock::read(&disk).expect("superblock");
        assert_eq!(read, Superblock { size: 32 << 20, errors: false });
        assert_eq!(device_size(&disk).expect("size"), 32 << 20);
        let marked = Command::new("/sbin/debugfs").args(["-w", "-R", "ssv state 2"]).arg(&disk).output();
        assert!(marked.expect("debugfs").status.success());
        assert!(Superblock::read(&disk).expect("superblock").errors);
    }

    #[test]
    fn a_check_that_found_more_or_could_not_be_run_is_not_passed() {
        assert!([0, 1, 2, 3].into_iter().all(is_sound));
        assert!(![4, 8, 16, 32, 128, i32::from(NOT_RUN)].into_iter().any(is_sound));
        assert!(matches!(chroot_exec("/no/such/root", "/bin/true", &[]), Error::Io { .. }));
    }

    #[test]
    fn something_else_is_no_file_system() {
        assert_eq!(Superblock::parse(&[0; 1024]), None);
    }
}
