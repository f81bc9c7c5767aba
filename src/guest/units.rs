//! systemd's part of the guest: which units run, which of the image's do not.
//!
//! All of it is written below `/run` by PID 1 of the initrd, so that an old disk gets the current
//! units. No udev, no timers, no generators before readiness: nothing of the boot needs them and each costs time
//! where the processor is emulated. What packages have enabled follows once the guest is ready ([`LATER`]).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{Error, journal, sshd};

/// The unit that systemd boots to.
pub(super) const TARGET: &str = "civm.target";
/// What the image does before its own services start: temporary files, the kernel's settings.
pub(super) const SYSINIT: &str = "sysinit.target";
/// The host layer's unit.
pub(super) const APPLY: &str = "civm-apply.service";
/// The root shell on the console.
pub(super) const CONSOLE: &str = "civm-console.service";
/// Exists where the layer wants that shell.
pub(super) const CONSOLE_LOGIN: &str = "/run/civm/console-login";
/// Where the units of this boot lie.
pub(super) const RUN_DIR: &str = "/run/systemd/system";
/// The machine id before the point, the same for all guests.
pub(super) const GENERIC_MACHINE_ID: &str = "6369766d000000000000000000000000";

/// Units of civm, by name.
const UNITS: [(&str, &str); 7] = [
    (
        "civm.target",
        "[Unit]\nDescription=civm guest\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\n\
         Wants=civm-agent.service civm-apply.service civm-sshd.service\n",
    ),
    (
        "civm-agent.service",
        "[Unit]\nDescription=Messages to and from the host\nDefaultDependencies=no\nConflicts=shutdown.target\n\
         Before=shutdown.target\n\n\
         [Service]\nType=notify\nExecStart=/run/civm/civm guest agent\nRestart=on-failure\n",
    ),
    (
        // The point: up to here nothing is particular to the instance. It says that it has started when the layer and
        // its secrets are there, and goes on with the layer's units. It waits itself for what the image does on the way
        // up, where it has to.
        "civm-apply.service",
        "[Unit]\nDescription=Host layer\nDefaultDependencies=no\nConflicts=shutdown.target\nBefore=shutdown.target\n\
         After=civm-agent.service\nOnFailure=civm-failed@%N.service\n\n\
         [Service]\nType=notify\nRemainAfterExit=yes\nExecStart=/run/civm/civm guest apply\n\
         TimeoutStartSec=600\n",
    ),
    (
        // A later apply, apart from the agent: whatever it restarts, nobody ends it half-way.
        "civm-change@.service",
        "[Unit]\nDescription=Host layer, in a running guest (%i)\nCollectMode=inactive-or-failed\n\n\
         [Service]\nType=oneshot\nExecStart=/run/civm/civm guest change %i\nTimeoutStartSec=600\n",
    ),
    (
        "civm-packages.service",
        "[Unit]\nDescription=Packages that the disk lacks\n\n\
         [Service]\nType=oneshot\nExecStart=/run/civm/civm guest packages\nTimeoutStartSec=1800\n",
    ),
    (
        // For those who want to wait for the end of the boot, with all that comes after the first login.
        "civm-ready.service",
        "[Unit]\nDescription=End of the boot\nRequisite=civm-apply.service\nAfter=civm-apply.service\n\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/run/civm/civm guest ready\n",
    ),
    (
        "civm-failed@.service",
        "[Unit]\nDescription=Report of the failure of %i\nDefaultDependencies=no\nAfter=civm-agent.service\n\n\
         [Service]\nType=oneshot\nExecStart=/run/civm/civm guest failed %i\n",
    ),
];

/// Targets that are started once the guest is ready: whatever packages have enabled hangs on them.
pub(super) const LATER: [&str; 2] = [TIMERS, "multi-user.target"];
const TIMERS: &str = "timers.target";
/// It wants the timers, here not: a mask in their place could only be lifted with a `daemon-reload`, and that one comes
/// when users are at work (systemd 252 misreads a transient unit whose command line has a semicolon when it reloads).
pub(super) const BASIC: &str = "basic.target";

/// Units of the image that do not run in a guest. The timers are Debian's own housekeeping, which would use
/// network and processor of every guest.
const MASKED: [&str; 18] = [
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "getty.target",
    "initrd-root-fs.target",
    "remote-fs.target",
    "ssh.service",
    "ssh.socket",
    "systemd-initctl.socket",
    "systemd-journald-audit.socket",
    "systemd-remount-fs.service",
    "systemd-udev-settle.service",
    "systemd-udev-trigger.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udevd.service",
];
/// Targets on the way up whose wants of the image are masked but for [`WANTED`].
const LEAN_TARGETS: [&str; 4] = ["sysinit.target", "basic.target", "local-fs.target", "swap.target"];
const WANTED: [&str; 3] =
    ["systemd-journald.service", "systemd-sysctl.service", "systemd-tmpfiles-setup.service"];
/// Where a disk keeps units and generators; `/usr/lib` is first in a merged Debian.
const UNIT_DIRS: [&str; 3] = ["usr/lib/systemd/system", "etc/systemd/system", "usr/local/lib/systemd/system"];
const GENERATOR_DIRS: [&str; 3] = [
    "usr/lib/systemd/system-generators",
    "etc/systemd/system-generators",
    "usr/local/lib/systemd/system-generators",
];

/// The journal lives in memory: it belongs to a boot, the disk needs no syncs for it, and what services log of their
/// secrets reaches no disk. One that a host keeps on disk all the same (`Storage=persistent` in a file of its own that
/// is read later) is bounded as well.
const JOURNALD: &str =
    "[Journal]\nStorage=volatile\nRuntimeMaxUse=64M\nSystemMaxUse=256M\nForwardToWall=no\n";
/// A guest that is told to stop does so in seconds.
const MANAGER: &str = "[Manager]\nDefaultTimeoutStopSec=10s\nShowStatus=no\n";

/// Writes units, masks and configuration below `run` (the future `/run`) for the disk at `root`;
/// `console` is the device of the root shell. sshd starts before the point, where it can.
pub(super) fn write(root: &Path, run: &Path, console: &str) -> Result<(), Error> {
    let units = run.join("systemd/system");
    let generators = run.join("systemd/system-generators");
    for dir in [&units, &generators] {
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    }
    for (name, text) in UNITS {
        put(&units.join(name), text)?;
    }
    put(&units.join(CONSOLE), &console_unit(console))?;
    put(&run.join("systemd/journald.conf.d/civm.conf"), JOURNALD)?;
    put(&run.join("systemd/system.conf.d/civm.conf"), MANAGER)?;
    let below_run = |path: &str| run.join(path.trim_start_matches("/run/"));
    let binary = sshd::read_binary(root);
    put(&below_run(sshd::CONFIG), &sshd::config(&binary))?;
    let early = sshd::can_start_early(root, &binary);
    put(&units.join(sshd::UNIT), &sshd::unit(early))?;
    put(&units.join(format!("{}.d/civm.conf", journal::UNIT)), journal::STAND_IN)?;
    if early {
        sshd::put_stand_in(run)?;
    }
    for name in MASKED {
        mask(&units, name)?;
    }
    if let Some(text) = UNIT_DIRS.iter().find_map(|dir| fs::read_to_string(root.join(dir).join(BASIC)).ok()) {
        put(&units.join(BASIC), &without_timers(&text))?;
    }
    for target in LEAN_TARGETS {
        for dir in UNIT_DIRS {
            for name in names(&root.join(dir).join(format!("{target}.wants"))) {
                if !WANTED.contains(&name.as_str()) {
                    mask(&units, &name)?;
                }
            }
        }
    }
    for name in GENERATOR_DIRS.iter().flat_map(|dir| names(&root.join(dir))) {
        mask(&generators, &name)?;
    }
    Ok(())
}

/// basic.target as the disk has it, without what it wants of timers.
fn without_timers(unit: &str) -> String {
    let line = |line: &str| match line.strip_prefix("Wants=") {
        Some(wanted) => {
            let names = wanted.split_whitespace().filter(|name| *name != TIMERS);
            format!("Wants={}\n", names.collect::<Vec<_>>().join(" "))
        }
        None => format!("{line}\n"),
    };
    unit.lines().map(line).collect()
}

/// A login shell with the console as its controlling terminal: job control works, `exit` gives a new
/// one. A shell ignores the signal of a stop, so it is told to hang up. A serial line has no size; unless it
/// is given one, newer versions of systemd ask the terminal behind it. The host layer says whether it is wanted, and
/// nobody waits for it: it is started after the first login.
fn console_unit(console: &str) -> String {
    format!(
        "[Unit]\nDescription=Root shell on the console\nDefaultDependencies=no\nConflicts=shutdown.target\n\
         Before=shutdown.target\nConditionPathExists={CONSOLE_LOGIN}\n\
         StartLimitIntervalSec=0\n\n\
         [Service]\nExecStart=-/bin/bash -l\nEnvironment=HOME=/root USER=root LOGNAME=root SHELL=/bin/bash TERM=vt220\n\
         WorkingDirectory=/root\nStandardInput=tty-force\nStandardOutput=tty\nStandardError=tty\n\
         TTYPath=/dev/{console}\nTTYReset=yes\nTTYRows=24\nTTYColumns=80\nRestart=always\nRestartSec=0\n\
         SendSIGHUP=yes\nTimeoutStopSec=2\nIgnoreSIGPIPE=no\n"
    )
}

/// Whether a name is that of a unit of civm's own.
pub(super) fn is_own(name: &str) -> bool {
    [CONSOLE, sshd::UNIT].contains(&name) || UNITS.iter().any(|(unit, _)| *unit == name)
}

/// Whether a sentence is about one of them: it begins with its name.
pub(super) fn is_about_own(sentence: &str) -> bool {
    sentence.split([' ', ':']).next().is_some_and(is_own)
}

/// Whether the image knows a unit of that name: systemd may have read it before the layer came.
pub(super) fn is_of_image(root: &Path, name: &str) -> bool {
    UNIT_DIRS.iter().any(|dir| root.join(dir).join(name).symlink_metadata().is_ok())
}

fn mask(dir: &Path, name: &str) -> Result<(), Error> {
    let path = dir.join(name);
    match symlink("/dev/null", &path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(Error::io("mask", &path)(error))
        }
        _ => Ok(()),
    }
}

fn put(path: &Path, text: &str) -> Result<(), Error> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    }
    fs::write(path, text).map_err(Error::io("write", path))
}

fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_images_units_are_masked_but_for_those_needed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (root, run) = (dir.path().join("root"), dir.path().join("run"));
        let wants = root.join("usr/lib/systemd/system/sysinit.target.wants");
        fs::create_dir_all(&wants).expect("mkdir");
        fs::create_dir_all(root.join("usr/lib/systemd/system-generators")).expect("mkdir");
        for name in ["systemd-journald.service", "dev-hugepages.mount"] {
            fs::write(wants.join(name), "").expect("write");
        }
        fs::write(root.join("usr/lib/systemd/system-generators/systemd-fstab-generator"), "").expect("write");
        write(&root, &run, "ttyS0").expect("written");
        let masked = |name: &str| {
            run.join("systemd").join(name).read_link().is_ok_and(|to| to == Path::new("/dev/null"))
        };
        assert!(masked("system/dev-hugepages.mount") && masked("system/systemd-udevd.service"));
        assert!(masked("system-generators/systemd-fstab-generator"));
        assert!(!masked("system/systemd-journald.service"));
        assert!(run.join("civm/sshd_config").is_file());
        let unit = || fs::read_to_string(run.join("systemd/system").join(sshd::UNIT)).expect("a unit");
        assert!(unit().contains("\nAfter=civm-apply.service\n"), "no sshd that could start earlier");
        fs::create_dir_all(root.join("usr/sbin")).expect("mkdir");
        fs::write(root.join("usr/sbin/sshd"), "\0sshd\0").expect("write");
        write(&root, &run, "ttyS0").expect("written");
        assert!(!unit().contains("civm-apply") && run.join("civm/sshd_stand_in").exists());
    }

    #[test]
    fn timers_are_not_wanted_on_the_way_up() {
        let unit = "[Unit]\nWants=sockets.target timers.target paths.target\nAfter=timers.target\n\
                    Wants=timers.target tmp.mount\n";
        let without = "[Unit]\nWants=sockets.target paths.target\nAfter=timers.target\nWants=tmp.mount\n";
        assert_eq!(without_timers(unit), without);
    }

    #[test]
    fn every_unit_that_the_target_wants_exists() {
        let wants = UNITS[0].1.lines().filter_map(|line| line.strip_prefix("Wants="));
        for name in wants.flat_map(str::split_whitespace) {
            assert!(is_own(name), "{name}");
        }
    }

    #[test]
    fn the_generic_machine_id_is_one() {
        assert_eq!(GENERIC_MACHINE_ID.len(), 32);
        assert!(GENERIC_MACHINE_ID.chars().all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase()));
    }
}
