//! PID 1 of the initrd: modules, network, root disk, guest side, and the switch to systemd.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};

use super::modules::Modules;
use super::{Error, console, events, identity, network, packages, root, units};
use crate::image::layout;
use crate::vm::agent::Event;

/// Where systemd lies, in the order of looking.
const SYSTEMD: [&str; 3] = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd", "/sbin/init"];
/// Ends of the paths of the modules that bring the port to the host: the buses that it may be on, and its driver.
const TELLING: [&str; 3] = ["/virtio_pci.ko", "/virtio_mmio.ko", "/virtio_console.ko"];
/// Modules that systemd loads as the first thing it does: at once with the others they take less time.
const SYSTEMD_MODULES: [&str; 2] = ["autofs4", "ip_tables"];
/// The root disk where the kernel's command line has no `root=`.
const ROOT_DEVICE: &str = "/dev/vda";
/// The version of Nix's database, below the root disk.
const NIX_SCHEMA: &str = "nix/var/nix/db/schema";
/// Time for the last line to leave the console and the port before the machine powers off.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// The whole of PID 1; never returns. A failure is reported on the console and to the host, and the guest
/// powers off: nothing hangs in silence.
pub(super) fn run() -> ! {
    let mut port = None;
    let failure = match panic::catch_unwind(panic::AssertUnwindSafe(|| boot(&mut port))) {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("PID 1 panicked; its message is above".to_owned()),
    };
    if let Some(message) = failure {
        console::say(&format!("cannot boot: {message}"));
        if let Some(port) = &mut port {
            events::write(port, &events::line(&Event::Failed { message }));
        }
    }
    std::thread::sleep(LAST_WORDS);
    loop {
        nix::unistd::sync();
        let _ = reboot(RebootMode::RB_POWER_OFF);
        std::thread::sleep(LAST_WORDS);
    }
}

/// `Ok` only where the probe ends here; otherwise systemd takes over.
fn boot(port: &mut Option<File>) -> Result<(), Error> {
    mount_api()?;
    let line = fs::read_to_string("/proc/cmdline").map_err(Error::io("read", "/proc/cmdline"))?;
    load_modules(port)?;
    if parameter(&line, layout::PROBE_PARAMETER).is_some() {
        console::say(layout::PROBE_LINE.trim_start_matches("civm: "));
        return Ok(());
    }
    let device =
        PathBuf::from(parameter(&line, "root").filter(|value| !value.is_empty()).unwrap_or(ROOT_DEVICE));
    if !network::configure()? {
        warn(port, "this machine has no network device");
    }
    root::mount_disk(&device)?;
    drop_empty_schema(Path::new(root::SYSROOT));
    let is_template = parameter(&line, layout::TEMPLATE_PARAMETER).is_some();
    install_guest_side()?;
    if is_template {
        identity::hide_boot_id()?;
    }
    if let Some(mark) = parameter(&line, layout::PACKAGES_PARAMETER) {
        let suite = parameter(&line, layout::SUITE_PARAMETER);
        // A disk outlives changes of host.yaml: its packages may be those of an earlier image.
        if let Some(words) = packages::compare(Path::new(root::SYSROOT), Path::new("/run"), mark, suite)? {
            warn(port, &words);
        }
    }
    root::switch()?;
    *port = None;
    Err(start_systemd())
}

/// Nix writes the version of its database when it is first used, and does not sync it. After a machine was cut off soon
/// after that, the file is there and empty, and every command of Nix says that it is corrupt. Without it, Nix writes it
/// again and leaves the database as it is.
fn drop_empty_schema(sysroot: &Path) {
    let path = sysroot.join(NIX_SCHEMA);
    if fs::symlink_metadata(&path).is_ok_and(|found| found.is_file() && found.len() == 0) {
        console::log("Nix's database was cut off while it was made: its version is written again");
        let _ = fs::remove_file(&path);
    }
}

fn mount_api() -> Result<(), Error> {
    let nothing = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let all = nothing | MsFlags::MS_NOEXEC;
    for (kind, target, flags, options) in [
        ("proc", "/proc", all, None),
        ("sysfs", "/sys", all, None),
        ("devtmpfs", "/dev", MsFlags::MS_NOSUID, Some("mode=0755")),
        ("tmpfs", "/run", nothing, Some("mode=0755")),
    ] {
        mount(Some(kind), target, Some(kind), flags, options).map_err(Error::io("mount", target))?;
    }
    // systemd would do this too. But to mount the first of them, the kernel starts modprobe for a module that nobody
    // has; here there is none to be started.
    let _ = mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), all, Some("mode=0700"));
    Ok(())
}

/// Loads the early modules; the host hears of us as soon as there is a way to tell it.
fn load_modules(port: &mut Option<File>) -> Result<(), Error> {
    let dir = Path::new(layout::INITRD_DIR);
    let list = dir.join(layout::EARLY_MODULES);
    let names = fs::read_to_string(&list).map_err(Error::io("read", &list))?;
    let modules = Modules::open(&dir.join(layout::MODULES))?;
    // Their paths begin with the kernel's release.
    let paths: Vec<&str> = names.lines().filter_map(|name| Some(name.split_once('/')?.1)).collect();
    let tells = |path: &str| TELLING.iter().any(|end| path.ends_with(end));
    let mut missing = paths.iter().filter(|path| tells(path)).count();
    if missing == 0 {
        // Built into this kernel.
        greet(port);
    }
    let telling = Mutex::new((&mut missing, port));
    modules.load_all(&paths, &SYSTEMD_MODULES, |path| {
        if tells(path) {
            let mut telling = telling.lock().unwrap_or_else(PoisonError::into_inner);
            *telling.0 -= 1;
            if *telling.0 == 0 {
                greet(telling.1);
            }
        }
    });
    Ok(())
}

/// The first report to the host.
fn greet(port: &mut Option<File>) {
    *port = events::open_when_named();
    if let Some(port) = port {
        events::write(port, &events::line(&Event::Started { uptime_ms: events::uptime_ms() }));
    }
}

/// The value of a parameter of the kernel's command line; an empty one where it stands alone.
fn parameter<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_whitespace().find_map(|word| match word.split_once('=') {
        Some((key, value)) if key == name => Some(value),
        None if word == name => Some(""),
        _ => None,
    })
}

fn warn(port: &mut Option<File>, message: &str) {
    console::say(message);
    if let Some(port) = port {
        events::write(port, &events::line(&Event::Warning { message: message.to_owned() }));
    }
}

/// Puts what civm brings along where systemd and the units find it; the files stay in the initrd's
/// memory, nothing is copied.
fn install_guest_side() -> Result<(), Error> {
    let (initrd, run) = (Path::new(layout::INITRD_DIR), Path::new(layout::RUN_DIR));
    let binary = initrd.join(layout::BINARY);
    fs::rename("/init", &binary).map_err(Error::io("move", "/init"))?;
    fs::create_dir(run).map_err(Error::io("create", run))?;
    root::bind(initrd, run)?;
    let sysroot = Path::new(root::SYSROOT);
    units::write(sysroot, Path::new("/run"), &console::device())?;
    let resolv = run.join("resolv.conf");
    fs::write(&resolv, network::resolv_conf()).map_err(Error::io("write", &resolv))?;
    // The disk's own modules may be of another kernel, or none.
    let modules = sysroot.join("usr/lib/modules");
    fs::create_dir_all(&modules).map_err(Error::io("create", &modules))?;
    root::bind(&run.join(layout::MODULES), &modules)?;
    // An empty one makes systemd configure a machine at its first boot, which takes seconds.
    let id = sysroot.join("etc/machine-id");
    if fs::read_to_string(&id).map_or(true, |text| text.trim().len() != 32) {
        fs::write(&id, format!("{}\n", units::GENERIC_MACHINE_ID)).map_err(Error::io("write", &id))?;
    }
    Ok(())
}

fn start_systemd() -> Error {
    let Some(systemd) = SYSTEMD.iter().find(|path| Path::new(path).exists()) else {
        return Error::content(root::SYSROOT, "has no systemd");
    };
    let error = Command::new(systemd)
        .arg0("/sbin/init")
        .arg(format!("--unit={}", units::TARGET))
        .arg("--show-status=no")
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LANG", "C.UTF-8")
        .exec();
    Error::io("start", systemd)(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_parameters_are_found_whole() {
        let line = "console=ttyS0 civm.probed=1 root=/dev/vdb civm.probe quiet\n";
        assert_eq!(parameter(line, "root"), Some("/dev/vdb"));
        assert_eq!(parameter(line, "civm.probe"), Some(""));
        assert_eq!(parameter(line, "civm"), None);
        assert_eq!(parameter("civm.probe=1", "civm.probe"), Some("1"));
    }

    #[test]
    fn an_empty_version_of_nix_s_database_goes_and_another_stays() {
        let dir = tempfile::tempdir().expect("tempdir");
        drop_empty_schema(dir.path());
        let path = dir.path().join(NIX_SCHEMA);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        for (text, stays) in [("10", true), ("", false)] {
            fs::write(&path, text).expect("written");
            drop_empty_schema(dir.path());
            assert_eq!(path.exists(), stays, "{text:?}");
        }
    }
}
