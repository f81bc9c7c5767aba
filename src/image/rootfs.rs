//! The base disk: packages unpacked by mmdebstrap, made an ext4 file system without mounting it.

use std::fs;
use std::path::{Path, PathBuf};

use super::cache::Build;
use super::emulation::Emulation;
use super::run::{Job, Tool};
use super::sources::Sources;
use super::{Contents, Error, debian_name, layout};
use crate::edge::account;
use crate::edge::environment::Environment;
use crate::host::spec::Arch;

/// Where an ordinary user's subordinate ids are listed.
const ID_FILES: [&str; 2] = ["/etc/subuid", "/etc/subgid"];
/// What a guest does without: documentation, caches, and whatever must be particular to an instance.
/// openssh-server's installation makes host keys; nobody may ever share them.
const REMOVED: &str = "usr/share/doc usr/share/man usr/share/locale usr/share/info usr/share/lintian \
    var/lib/apt/lists var/cache/apt/archives var/cache/debconf/templates.dat-old var/log/dpkg.log \
    var/log/bootstrap.log var/log/apt var/log/alternatives.log etc/hostname etc/resolv.conf \
    etc/machine-id var/lib/dbus/machine-id var/lib/systemd/random-seed";
/// Where the guest's resolver configuration lies; PID 1 of the initrd writes it.
const RESOLV_LINK: &str = "../run/civm/resolv.conf";
/// Where programs lie.
const PROGRAM_DIRS: [&str; 6] =
    ["bin/", "sbin/", "usr/bin/", "usr/sbin/", "usr/local/bin/", "usr/local/sbin/"];
/// Where time zones lie.
const ZONES: &str = "usr/share/zoneinfo/";
/// Smallest virtual size of a base disk, 4 GiB; sparse, so only its metadata takes room.
const MIN_SIZE: u64 = 4 << 30;
/// What mmdebstrap says at each of its stages, and how much of its time has passed then.
const STAGES: [(&str, f32); 6] = [
    ("running apt-get update", 0.02),
    ("downloading packages", 0.07),
    ("extracting archives", 0.15),
    ("installing essential packages", 0.35),
    ("installing remaining packages", 0.6),
    ("creating tarball", 0.95),
];

/// What goes into the base disk.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) suite: &'a str,
    pub(super) arch: Arch,
    pub(super) emulation: Emulation,
    pub(super) packages: &'a [String],
    pub(super) sources: &'a Sources,
    /// Content of [`layout::IMAGE_MARK`].
    pub(super) mark: &'a str,
}

/// The packages, installed and packed into a tar file; `stage` hears how much is done.
pub(super) fn bootstrap(
    plan: &Plan<'_>,
    build: &Build,
    work: &Path,
    job: &Job,
    mut stage: impl FnMut(f32),
) -> Result<PathBuf, Error> {
    let sources = work.join(format!("apt.{}", plan.sources.extension));
    fs::write(&sources, &plan.sources.text).map_err(Error::io("write", &sources))?;
    let tar = work.join("root.tar");
    let tool = plan
        .emulation
        .leashed("installing packages", "mmdebstrap", &build.scratch, job)?
        .env("TMPDIR", &build.scratch)
        .args(["--mode=unshare", "--variant=minbase", "--format=tar"])
        .arg(format!("--include={}", plan.packages.join(",")))
        .arg(format!("--customize-hook={}", hook(plan.mark)));
    let tool = match Arch::native() {
        Some(native) if native == plan.arch => tool,
        // Whether its programs run here has been tried already.
        _ => tool.arg(format!("--architectures={}", debian_name(plan.arch))).arg("--skip=check/qemu"),
    };
    tool.arg(plan.suite).arg(&tar).arg(&sources).watch(|line| {
        if let Some((_, done)) = STAGES.iter().find(|(words, _)| line.contains(words)) {
            stage(*done);
        }
    })?;
    Ok(tar)
}

/// What is done to the installed system; mmdebstrap gives its root as `$1`.
fn hook(mark: &str) -> String {
    let (dir, _) = layout::IMAGE_MARK.rsplit_once('/').unwrap_or_default();
    format!(
        "set -e; cd \"$1\"; rm -rf {REMOVED}; rm -f etc/ssh/ssh_host_*_key etc/ssh/ssh_host_*_key.pub; \
         ln -s {RESOLV_LINK} etc/resolv.conf; mkdir -p .{dir}; printf '%s\\n' {mark} > .{}",
        layout::IMAGE_MARK
    )
}

/// What of the tar file's content host.yaml can refer to.
pub(super) fn contents(tar: &Path, job: &Job) -> Result<Contents, Error> {
    let step = "looking into the image";
    let file = |name| Tool::new(step, "tar", job)?.arg("-xOf").arg(tar).arg(name).output();
    let list = Tool::new(step, "tar", job)?.arg("-tf").arg(tar).output()?;
    let is_program =
        |path: &&str| PROGRAM_DIRS.iter().any(|dir| path.starts_with(dir)) && !path.ends_with('/');
    let inside = list.lines().map(|path| path.trim_start_matches("./"));
    let zones =
        inside.clone().filter_map(|path| path.strip_prefix(ZONES)).filter(|zone| !zone.ends_with('/'));
    Ok(Contents {
        zones: Some(zones.map(str::to_owned).collect()),
        passwd: file("./etc/passwd")?,
        group: file("./etc/group")?,
        programs: inside.filter(is_program).map(str::to_owned).collect(),
    })
}

/// The tar file's content as a self-contained qcow2 disk with one ext4 file system.
pub(super) fn disk(tar: &Path, work: &Path, to: &Path, job: &Job) -> Result<(), Error> {
    let step = "making the disk";
    let tree = work.join("tree");
    fs::create_dir(&tree).map_err(Error::io("create", &tree))?;
    let size = fs::metadata(tar).map_err(Error::io("read", tar))?.len();
    let raw = work.join("root.raw");
    let unpack = owned(step, "tar", work, job)?;
    // Device nodes need rights that a container's root lacks; the guest's devtmpfs has them.
    let unpack = unpack.args(["--numeric-owner", "--exclude=./dev/*", "-xpf"]).arg(tar).arg("-C").arg(&tree);
    unpack.run()?;
    owned(step, "mke2fs", work, job)?
        .args(["-q", "-t", "ext4", "-m", "0", "-L", "civm-root"])
        .args(["-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0"])
        .arg("-d")
        .arg(&tree)
        .arg(&raw)
        .arg(format!("{}k", virtual_size(size) / 1024))
        .run()?;
    Tool::new(step, "qemu-img", job)?.args(["convert", "-f", "raw", "-O", "qcow2"]).arg(&raw).arg(to).run()
}

/// Room for the packages twice over, in whole GiB.
fn virtual_size(tar: u64) -> u64 {
    tar.saturating_mul(2).next_multiple_of(1 << 30).max(MIN_SIZE)
}

/// A program that sees the files' owners: root sees them anyway, others under fakeroot, which keeps
/// them in a file from one program to the next.
fn owned<'a>(
    step: &'static str,
    program: &'static str,
    work: &Path,
    job: &'a Job,
) -> Result<Tool<'a>, Error> {
    if nix::unistd::geteuid().is_root() {
        return Tool::leashed(step, program, job);
    }
    let state = work.join("owners");
    if !state.exists() {
        fs::write(&state, "").map_err(Error::io("write", &state))?;
    }
    let file = job.find(program)?;
    Ok(Tool::leashed(step, "fakeroot", job)?.arg("-i").arg(&state).arg("-s").arg(&state).arg("--").arg(file))
}

/// An ordinary user has subordinate ids; root needs none of its own.
///
/// # Errors
/// [`Error::NoSubordinateIds`].
pub(super) fn check_ids(environment: &Environment) -> Result<(), Error> {
    let uid = nix::unistd::geteuid();
    if uid.is_root() {
        return Ok(());
    }
    let user = account::user_name(uid, environment);
    let number = uid.to_string();
    for file in ID_FILES {
        let text = fs::read_to_string(file).unwrap_or_default();
        if !has_ids(&text, user.as_deref(), &number) {
            let user = user.unwrap_or(number);
            return Err(Error::NoSubordinateIds { user, file });
        }
    }
    Ok(())
}

fn has_ids(text: &str, user: Option<&str>, number: &str) -> bool {
    let owner = |line: &str| line.split(':').next().map(str::to_owned);
    text.lines().filter_map(owner).any(|name| name == number || Some(name.as_str()) == user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_large_enough_and_whole() {
        assert_eq!(virtual_size(200 << 20), 4 << 30);
        assert_eq!(virtual_size((2 << 30) + 1), 5 << 30);
    }

    #[test]
    fn subordinate_ids_are_found_by_name_or_number() {
        assert!(has_ids("a:1:2\nme:100000:65536\n", Some("me"), "1000"));
        assert!(has_ids("1000:100000:65536\n", None, "1000"));
        assert!(!has_ids("mean:100000:65536\n", Some("me"), "1000"));
    }

    #[test]
    fn nothing_of_an_instance_stays_in_the_image() {
        let hook = hook("abc");
        for part in ["etc/ssh/ssh_host_*_key", "etc/machine-id", "random-seed", "etc/hostname"] {
            assert!(hook.contains(part), "{part}");
        }
    }

    #[test]
    fn the_hook_does_what_it_says_to_a_tree() {
        let dir = tempfile::tempdir().expect("tempdir");
        for name in ["etc/ssh", "usr/share/doc/x", "usr/lib"] {
            fs::create_dir_all(dir.path().join(name)).expect("mkdir");
        }
        fs::write(dir.path().join("etc/ssh/ssh_host_rsa_key"), "k").expect("write");
        fs::write(dir.path().join("etc/ssh/moduli"), "m").expect("write");
        let done = std::process::Command::new("sh").args(["-c", &hook("abc"), "sh"]).arg(dir.path()).status();
        assert!(done.expect("sh").success());
        assert!(!dir.path().join("etc/ssh/ssh_host_rsa_key").exists());
        assert!(dir.path().join("etc/ssh/moduli").exists());
        assert!(!dir.path().join("usr/share/doc").exists());
        let mark = fs::read_to_string(dir.path().join("usr/lib/civm/packages")).expect("mark");
        assert_eq!(mark, "abc\n");
        let link = fs::read_link(dir.path().join("etc/resolv.conf")).expect("link");
        assert_eq!(link, Path::new("../run/civm/resolv.conf"));
    }
}
