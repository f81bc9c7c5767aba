//! Whether this machine can run instances: KVM, namespaces and QEMU are tried, not looked at.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde_json::Value;

use crate::edge::environment::Environment;
use crate::edge::finding::Finding;
use crate::edge::private_dir::PrivateDir;
use crate::edge::process;
use crate::instance::accel::{self, trial};
use crate::instance::deadline::scaled;
use crate::instance::error::Error;
use crate::instance::launch::try_stage;
use crate::instance::preflight::{Resources, check_ports};
use crate::instance::ssh;
use crate::instance::stage::{Inherited, Mode, child_command};
use crate::instance::state::{Home, Record};
use crate::vm::argv;
use crate::vm::ports::Forward;
use crate::vm::spec::{Accel, Arch, Boot, Channel, Disk, Draft, Share, Spec};

/// How long QEMU may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Free space below which there is a warning, in MiB: an image and a new disk take about that much.
const SPACE_MIB: u64 = 2048;
/// The device that `-virtfs` stands for.
const SHARE_DEVICE: &str = "virtio-9p-pci";

/// KVM, by running kernel code on it, and what machines get.
#[must_use]
pub fn accelerator(state: &Path, environment: &Environment) -> Finding {
    const AREA: &str = "kvm";
    let Some(arch) = Arch::native() else {
        return Finding::problem(
            AREA,
            format!("civm cannot start machines on {}", std::env::consts::ARCH),
            "use x86_64 or aarch64",
        );
    };
    let Some(qemu) = environment.find_program(arch.qemu()) else {
        return Finding::warning(AREA, "not tried: there is no QEMU", "install QEMU first");
    };
    match accel::try_kvm(&qemu, environment) {
        Ok(reason) if accel::is_only_roots(state, environment) => Finding::warning(
            AREA,
            format!(
                "{reason}, but only root may open /dev/kvm, and QEMU runs as a user of its own: machines get TCG, which is slower"
            ),
            "give /dev/kvm to the group kvm, mode 0660, as udev's rules do; or use `civm up --qemu-as-root`",
        ),
        Ok(reason) => Finding::ok(AREA, reason),
        Err(reason) => Finding::warning(
            AREA,
            format!("{reason}; machines get TCG, which is slower"),
            "KVM needs real hardware, or nested virtualisation that works; without it civm works as well, but slower",
        ),
    }
}

/// Namespaces and memory for staged files, by opening a stage.
#[must_use]
pub fn staging(environment: &Environment) -> Vec<Finding> {
    const AREA: &str = "namespaces";
    let reason = |error: Error| match error {
        Error::NoStage { namespaces, memory } => {
            if memory.ends_with("not tried") {
                namespaces
            } else {
                memory
            }
        }
        other => other.to_string(),
    };
    let mut findings = vec![match try_stage(Mode::Namespaces, environment).map_err(reason) {
        Ok(()) => Finding::ok(AREA, "keys are staged in namespaces of their own"),
        Err(namespaces) => match try_stage(Mode::Memory, environment).map_err(reason) {
            Ok(()) => Finding::warning(
                AREA,
                format!("{namespaces}: keys are staged in a private directory in memory"),
                "allow unprivileged user namespaces, so that other processes of this user cannot see them",
            ),
            Err(memory) => Finding::problem(
                AREA,
                format!("nowhere to stage keys: {namespaces}; {memory}"),
                "allow unprivileged user namespaces, or log in so that $XDG_RUNTIME_DIR is a tmpfs that you own",
            ),
        },
    }];
    const MEMORY: &str = "private directory";
    findings.push(match PrivateDir::in_memory(environment) {
        Ok(_) => Finding::ok(MEMORY, "plaintext that is edited stays in memory"),
        Err(error) => Finding::warning(
            MEMORY,
            format!("{error}: `civm secrets edit` would use a disk"),
            "log in so that $XDG_RUNTIME_DIR is a tmpfs that you own",
        ),
    });
    findings
}

/// QEMU: that it is there, has the devices, and starts a machine in its sandbox.
#[must_use]
pub fn qemu(environment: &Environment) -> Finding {
    const AREA: &str = "qemu";
    let Some(arch) = Arch::native() else {
        return Finding::problem(AREA, "not tried", "use x86_64 or aarch64");
    };
    let install = format!("sudo apt-get install {}", package(arch));
    let Some(program) = environment.find_program(arch.qemu()) else {
        return Finding::problem(AREA, format!("`{}` is not in PATH", arch.qemu()), install);
    };
    match missing_devices(arch, &program, environment) {
        Ok(missing) if missing.is_empty() => {}
        Ok(missing) => {
            return Finding::problem(
                AREA,
                format!("{} has no {}", program.display(), missing.join(", ")),
                install,
            );
        }
        Err(error) => return Finding::problem(AREA, error, install),
    }
    // The code of the small kernel is x86's; on other machines the list has to do.
    if arch != Arch::X86_64 {
        return Finding::ok(AREA, format!("{} has the devices that civm uses", program.display()));
    }
    match started(arch, &program, environment) {
        Ok(version) => Finding::ok(
            AREA,
            format!("version {version} starts a machine with all devices, a share and a sandbox"),
        ),
        Err(error) => Finding::problem(AREA, format!("QEMU does not start a machine: {error}"), install),
    }
}

/// Debian's package with the program.
#[must_use]
pub fn package(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "qemu-system-x86",
        Arch::Aarch64 => "qemu-system-arm",
    }
}

/// The devices of a whole machine that this QEMU does not have.
fn missing_devices(arch: Arch, program: &Path, environment: &Environment) -> Result<Vec<String>, String> {
    let boot = Boot { kernel: "/kernel".into(), initrd: None, append: Vec::new() };
    let disk = Disk { path: "/disk.qcow2".into(), size_mib: 1, ephemeral: false };
    let draft =
        Draft { disk: Some(disk), ..whole(trial::draft(arch, Accel::Tcg, boot, 3), Path::new("/"), [4, 5]) };
    let spec = Spec::new(draft, Arch::native()).map_err(|error| error.to_string())?;
    let arguments = argv::render(&spec);
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    for pair in arguments.windows(2) {
        match pair[0].as_str() {
            "-device" => wanted.extend(pair[1].split(',').next().map(str::to_owned)),
            "-virtfs" => wanted.extend([SHARE_DEVICE.to_owned()]),
            _ => {}
        }
    }
    let mut command = process::command(program, &environment.for_tools());
    let text =
        process::capture(command.args(["-device", "help"]), None).map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&text).into_owned();
    // name "virtio-9p-pci", bus PCI, alias "virtio-9p"
    let names: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("name \"")?.split('"').next()).collect();
    Ok(wanted.into_iter().filter(|device| !names.contains(device.as_str())).collect())
}

/// With all that a machine of a host has besides its disk.
fn whole(draft: Draft, share: &Path, [qmp, agent]: [i32; 2]) -> Draft {
    Draft {
        share: Some(Share { source: share.to_path_buf(), tag: "shr".to_owned() }),
        qmp: Some(Channel::Descriptor(qmp)),
        agent: Some(Channel::Descriptor(agent)),
        ..draft
    }
}

/// Starts a machine that stands still, and ends it: QEMU's version, as it says it.
fn started(
    arch: Arch,
    program: &Path,
    environment: &Environment,
) -> Result<String, Box<dyn std::error::Error>> {
    let share = tempfile::tempdir_in(environment.temp_dir())?;
    let pairs = [UnixStream::pair()?, UnixStream::pair()?, UnixStream::pair()?];
    let [(_console, console), (mut qmp, theirs), (_agent, agent)] = pairs;
    for end in [&console, &theirs, &agent] {
        fcntl(end, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    let mut inherited = Inherited::default();
    let boot = Boot { kernel: trial::small_kernel(&mut inherited)?, initrd: None, append: Vec::new() };
    let draft = trial::draft(arch, Accel::Tcg, boot, console.as_raw_fd());
    let draft = whole(draft, share.path(), [theirs.as_raw_fd(), agent.as_raw_fd()]);
    let mut command = child_command(program, environment);
    command.args(argv::render(&Spec::new(draft, Arch::native())?)).arg("-S").env_clear();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    drop((console, theirs, agent, inherited));
    qmp.set_read_timeout(Some(scaled(ANSWER, environment)))?;
    let mut greeting = String::new();
    let answered = BufReader::new(qmp.try_clone()?).read_line(&mut greeting);
    if matches!(answered, Ok(length) if length > 0) {
        qmp.write_all(b"{\"execute\": \"qmp_capabilities\"}\n{\"execute\": \"quit\"}\n")?;
    } else {
        child.kill()?;
    }
    let output = child.wait_with_output()?;
    let greeting: Value = serde_json::from_str(&greeting).unwrap_or_default();
    match greeting.pointer("/QMP/version/qemu") {
        Some(version) => {
            let part = |name: &str| version.get(name).and_then(Value::as_u64).unwrap_or_default();
            Ok(format!("{}.{}.{}", part("major"), part("minor"), part("micro")))
        }
        None => {
            let messages = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(trial::in_short(&messages).unwrap_or_else(|| "it does not answer".to_owned()).into())
        }
    }
}

/// The program that logs in to guests.
#[must_use]
pub fn ssh_program(environment: &Environment) -> Finding {
    match ssh::find_ssh(environment) {
        Ok(path) => Finding::ok("ssh", format!("{}", path.display())),
        Err(error) => Finding::problem("ssh", error.to_string(), "sudo apt-get install openssh-client"),
    }
}

/// Free space in a directory, or in the nearest one above it that exists.
#[must_use]
pub fn space(what: &str, directory: &Path) -> Finding {
    const AREA: &str = "disk space";
    let there = directory.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    let free = Resources::of_machine(Some(&there.join("disk"))).disk_free_mib;
    let place = format!("{what} ({})", directory.display());
    match free {
        Some(free) if free < SPACE_MIB => Finding::warning(
            AREA,
            format!("only {free} MiB are free for {place}"),
            "`civm gc --dry-run` shows what can be removed; an image and a disk need about 2 GiB",
        ),
        Some(free) => Finding::ok(AREA, format!("{} GiB are free for {place}", free / 1024)),
        None => Finding::warning(
            AREA,
            format!("the free space for {place} is not known"),
            "check the file system",
        ),
    }
}

/// What is wrong with a directory of civm's, found by writing into it; where it is not made yet, into the nearest one
/// above it. A variable says where else it could be.
#[must_use]
pub fn unwritable(area: &'static str, directory: &Path, variable: &str) -> Option<Finding> {
    let there = directory.ancestors().find(|path| path.symlink_metadata().is_ok())?;
    let written = tempfile::Builder::new().prefix(".civm-doctor-").tempfile_in(there).and_then(|mut file| {
        file.write_all(&[0; 4096])?;
        file.as_file().sync_all()
    });
    let kind = written.err()?.kind();
    let first = match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room there",
        ErrorKind::ReadOnlyFilesystem => "mount it for writing",
        ErrorKind::PermissionDenied => "make it yours, with `chown` and `chmod u+rwx`",
        ErrorKind::NotADirectory | ErrorKind::NotFound => "remove what is in its place",
        _ => "look at its file system",
    };
    let remedy = format!("{first}; or set {variable} to another directory");
    Some(Finding::problem(area, format!("cannot write in {}: {kind}", there.display()), remedy))
}

/// Memory and CPUs, and what a host asks for beyond them.
#[must_use]
pub fn memory(hosts: &[(String, u64, u32)]) -> Vec<Finding> {
    const AREA: &str = "memory";
    let machine = Resources::of_machine(None);
    let mut findings = vec![Finding::ok(
        AREA,
        format!(
            "{} MiB, {} MiB of them free; {} CPUs",
            machine.memory_mib, machine.available_mib, machine.cpus
        ),
    )];
    for (host, memory_mib, cpus) in hosts {
        let memory = (*memory_mib > machine.memory_mib).then(|| format!("{memory_mib} MiB of memory"));
        let cpus = (*cpus > machine.cpus).then(|| format!("{cpus} CPUs"));
        let beyond: Vec<String> = memory.into_iter().chain(cpus).collect();
        if !beyond.is_empty() {
            findings.push(Finding::warning(
                AREA,
                format!("`{host}` asks for {}, which this machine does not have", beyond.join(" and ")),
                format!(
                    "it starts all the same, but slowly; `civm up {host} --memory 2G --cpus 2` asks for less"
                ),
            ));
        }
    }
    findings
}

/// The fixed ports of a host: free, or held by its own running instance.
#[must_use]
pub fn ports(project: &Path, host: &str, forwards: &[Forward], running: &[Record]) -> Vec<Finding> {
    const AREA: &str = "ports";
    let own = |record: &&Record| record.project == project && record.host == host;
    let own: Vec<Forward> = running.iter().filter(own).flat_map(|record| record.forwards.clone()).collect();
    let others = forwards.iter().filter(|forward| !own.iter().any(|own| own.clashes(forward)));
    let refused = others.filter_map(|forward| check_ports(&[*forward], || running.to_vec()).err());
    refused
        .map(|error| {
            Finding::warning(
                AREA,
                format!("`{host}`: {error}"),
                format!("stop what has it, or forward another port in hosts/{host}/host.yaml"),
            )
        })
        .collect()
}

/// The running instances, and those that this civm cannot read.
#[must_use]
pub fn instances(home: &Home) -> Vec<Finding> {
    const AREA: &str = "instances";
    let view = home.view();
    let running = view.running();
    let mut findings = vec![Finding::ok(AREA, format!("{} running", running.len()))];
    for complaint in view.complaints() {
        findings.push(Finding::warning(
            AREA,
            complaint,
            "use the version of civm that started it; this one leaves it alone",
        ));
    }
    findings
}
