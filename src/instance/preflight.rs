//! What is looked at before anything starts: ports, and what the machine can give.

use std::net::TcpListener;
use std::path::Path;

use crate::instance::error::Error;
use crate::instance::plan::Machine;
use crate::instance::state::Record;
use crate::vm::ports::Forward;

mod holder;

/// Bytes in a MiB.
const MIB: u64 = 1 << 20;

/// Checks that every fixed port is free. Which instances run is asked only where one is not.
///
/// # Errors
/// The first that is not, with its holder as far as this user can see it.
pub fn check_ports(forwards: &[Forward], running: impl Fn() -> Vec<Record>) -> Result<(), Error> {
    for forward in forwards.iter().filter(|forward| forward.host_port != 0) {
        let (address, port) = (forward.address, forward.host_port);
        match TcpListener::bind((address, port)) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                let has = |record: &Record| record.forwards.iter().any(|f| f.clashes(forward));
                let holder = match running().into_iter().find(has) {
                    Some(record) => {
                        format!("instance `{}` of {} has it", record.name, record.project.display())
                    }
                    None => holder::find(address, port),
                };
                return Err(Error::Port { port, address, holder });
            }
            Err(error) => return Err(Error::PortRefused { port, address, reason: error.to_string() }),
        }
    }
    Ok(())
}

/// Checks that no running machine has the disk, be it an instance or a QEMU that somebody else started.
///
/// # Errors
/// One has.
pub fn check_disk(disk: &Path, running: &[Record]) -> Result<(), Error> {
    let canonical = disk.canonicalize().unwrap_or_else(|_| disk.to_owned());
    let has = |record: &&Record| {
        record.disk.as_ref().is_some_and(|d| d.canonicalize().unwrap_or_else(|_| d.clone()) == canonical)
    };
    let ours = running.iter().find(has).map(|record| format!("`{}`", record.name));
    match ours.or_else(|| holder::of_file(disk)) {
        Some(holder) => Err(Error::DiskInUse { path: disk.to_owned(), holder: Some(holder) }),
        None => Ok(()),
    }
}

/// What a machine host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// All memory, in MiB.
    pub memory_mib: u64,
    /// Memory that could be given away now, in MiB.
    pub available_mib: u64,
    /// The most that may be promised, in MiB, where the kernel keeps count.
    pub commit_limit_mib: Option<u64>,
    /// CPUs.
    pub cpus: u32,
    /// Free space beside the disk, in MiB, where it is known.
    pub disk_free_mib: Option<u64>,
    /// What the disk takes already, in MiB.
    pub disk_used_mib: u64,
}

impl Resources {
    /// Looks at this machine. `disk` need not exist yet.
    #[must_use]
    pub fn of_machine(disk: Option<&Path>) -> Self {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let strict = std::fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap_or_default();
        let field = |name: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib / 1024)
        };
        let free =
            disk.and_then(Path::parent).and_then(|directory| nix::sys::statvfs::statvfs(directory).ok());
        let used = disk.and_then(|disk| std::fs::metadata(disk).ok());
        Self {
            memory_mib: field("MemTotal").unwrap_or(u64::MAX),
            available_mib: field("MemAvailable").unwrap_or(u64::MAX),
            // 2: the kernel promises no more than it can keep (proc(5)).
            commit_limit_mib: (strict.trim() == "2").then(|| field("CommitLimit")).flatten(),
            cpus: std::thread::available_parallelism()
                .map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
            disk_free_mib: free.map(|s| s.blocks_available() * s.fragment_size() / MIB),
            disk_used_mib: used.map_or(0, |m| std::os::unix::fs::MetadataExt::blocks(&m) * 512 / MIB),
        }
    }
}

/// Compares what is asked for with what this machine has: what will be slow or may fail later.
///
/// # Errors
/// What cannot be at all.
pub fn compare(machine: &Machine, resources: &Resources) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    let memory = u64::from(machine.memory_mib);
    if let Some(limit) = resources.commit_limit_mib.filter(|limit| memory > *limit) {
        return Err(Error::Impossible(format!(
            "{memory} MiB of memory: this machine's kernel promises at most {limit} MiB"
        )));
    }
    if memory > resources.memory_mib {
        warnings.push(format!(
            "{memory} MiB of memory is more than this machine has ({} MiB): a guest that uses it all will be killed",
            resources.memory_mib
        ));
    } else if memory > resources.available_mib {
        warnings.push(format!(
            "{memory} MiB of memory is more than is free now ({} MiB)",
            resources.available_mib
        ));
    }
    if machine.cpus > resources.cpus {
        warnings.push(format!(
            "{} cpus are more than this machine has ({}): they will share",
            machine.cpus, resources.cpus
        ));
    }
    if let (Some(disk), Some(free)) = (&machine.disk, resources.disk_free_mib) {
        let wanted = disk.size_mib.saturating_sub(resources.disk_used_mib);
        if wanted > free {
            warnings.push(format!(
                "the disk may grow to {} MiB, but only {free} MiB are free where it is: a full host disk makes \
                 writes in the guest fail",
                disk.size_mib
            ));
        }
    }
    Ok(warnings)
}

#[cfg(test)]
mod tests {
    use super::{Resources, check_disk, check_ports, compare};
    use crate::instance::error::Error;
    use crate::instance::plan::{ConsoleLog, Machine};
    use crate::instance::state::{Phase, Record};
    use crate::vm::network::Network;
    use crate::vm::ports::Forward;
    use crate::vm::spec::{Arch, Boot, Disk, MachineType};
    use std::net::{Ipv4Addr, TcpListener};

    fn machine() -> Machine {
        Machine {
            name: "a".into(),
            arch: Arch::X86_64,
            machine_type: MachineType::Q35,
            cpus: 2,
            memory_mib: 1024,
            boot: Boot { kernel: "/k".into(), initrd: None, append: Vec::new() },
            runner: None,
            disk: Some(Disk { path: "/d.qcow2".into(), size_mib: 10_000, ephemeral: false }),
            forwards: Vec::new(),
            network: Network::Open,
            share_tag: "shr".into(),
            console_log: ConsoleLog::UntilReady,
            extra_arguments: Vec::new(),
        }
    }

    const ENOUGH: Resources = Resources {
        memory_mib: 4096,
        available_mib: 2048,
        commit_limit_mib: None,
        cpus: 2,
        disk_free_mib: Some(20_000),
        disk_used_mib: 0,
    };

    fn record(name: &str) -> Record {
        Record {
            version: 3,
            project: "/p".into(),
            name: name.into(),
            host: name.into(),
            phase: Phase::Ready,
            started_at: 0,
            accel: None,
            accel_reason: None,
            cpus: 1,
            memory_mib: 1,
            disk: Some("/d.qcow2".into()),
            ephemeral: false,
            forwards: Vec::new(),
            runtime: None,
            namespaces: true,
            key_removed: false,
            protocol: 1,
            qemu: None,
            links_source: true,
            reason: None,
        }
    }

    #[test]
    fn a_machine_that_fits_gives_no_warning() {
        assert!(compare(&machine(), &ENOUGH).unwrap().is_empty());
    }

    #[test]
    fn too_much_is_a_warning_and_only_the_impossible_is_refused() {
        let scarce = Resources { memory_mib: 512, cpus: 1, disk_free_mib: Some(10), ..ENOUGH };
        assert_eq!(compare(&machine(), &scarce).unwrap().len(), 3);
        let busy = Resources { available_mib: 512, ..ENOUGH };
        assert!(compare(&machine(), &busy).unwrap()[0].contains("free now"));
        let strict = Resources { commit_limit_mib: Some(512), ..ENOUGH };
        assert!(matches!(compare(&machine(), &strict), Err(Error::Impossible(_))));
    }

    #[test]
    fn what_a_disk_takes_already_need_not_be_free() {
        let grown = Resources { disk_free_mib: Some(1000), disk_used_mib: 9500, ..ENOUGH };
        assert!(compare(&machine(), &grown).unwrap().is_empty());
    }

    #[test]
    fn a_taken_port_is_named_with_the_process_that_has_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = check_ports(&[Forward::loopback(port, 22)], Vec::new).unwrap_err();
        let Error::Port { holder, .. } = &error else { panic!("{error}") };
        assert!(holder.contains(&format!("process {}", std::process::id())), "{holder}");
    }

    #[test]
    fn a_port_is_taken_by_who_has_it_on_every_address() {
        let named = |listener: &TcpListener, address: Ipv4Addr| {
            let port = listener.local_addr().unwrap().port();
            let forward = Forward { address, ..Forward::loopback(port, 22) };
            let error = check_ports(&[forward], Vec::new).unwrap_err().to_string();
            assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        };
        named(&TcpListener::bind("0.0.0.0:0").unwrap(), Ipv4Addr::LOCALHOST);
        named(&TcpListener::bind("127.0.0.1:0").unwrap(), Ipv4Addr::UNSPECIFIED);
        match TcpListener::bind("[::]:0") {
            // It takes IPv4 connections as well.
            Ok(both) => named(&both, Ipv4Addr::LOCALHOST),
            Err(error) => eprintln!("skipped: no IPv6: {error}"),
        }
    }

    #[test]
    fn a_port_of_an_instance_of_ours_is_named_by_its_host() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut running = record("builder");
        running.forwards = vec![Forward::loopback(port, 22)];
        let error = check_ports(&[Forward::loopback(port, 22)], || vec![running.clone()]).unwrap_err();
        assert!(error.to_string().ends_with("instance `builder` of /p has it"), "{error}");
    }

    #[test]
    fn free_and_automatic_ports_pass() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert!(check_ports(&[Forward::loopback(port, 22), Forward::loopback(0, 22)], Vec::new).is_ok());
    }

    #[test]
    fn a_disk_belongs_to_one_instance() {
        let error = check_disk("/d.qcow2".as_ref(), &[record("builder")]).unwrap_err();
        assert_eq!(error.to_string(), "disk /d.qcow2 is in use by `builder`");
        assert!(check_disk("/e.qcow2".as_ref(), &[record("builder")]).is_ok());
    }
}
