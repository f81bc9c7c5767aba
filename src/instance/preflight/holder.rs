//! Who listens on a port, or has locked a disk, as far as `/proc` tells this user.

use std::fs::{self, File, Metadata};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::edge::processes;

/// State of a listening socket in `/proc/net/tcp` (`TCP_LISTEN` of the kernel's tcp_states.h).
const LISTEN: &str = "0A";

/// The holder of a port, as text for the user.
pub(super) fn find(address: Ipv4Addr, port: u16) -> String {
    let mut inodes = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        inodes.extend(text.lines().skip(1).filter_map(|line| listener(line, address, port)));
    }
    if inodes.is_empty() {
        return "nothing listens on it now (perhaps a connection has just been closed)".to_owned();
    }
    process_with(&inodes).unwrap_or_else(|| "another user's process has it".to_owned())
}

/// The inode of a line's socket, if it listens there.
fn listener(line: &str, address: Ipv4Addr, port: u16) -> Option<u64> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let (ip, local_port) = local.split_once(':')?;
    if *state != LISTEN || u16::from_str_radix(local_port, 16).ok()? != port {
        return None;
    }
    let ip = match parse_address(ip)? {
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
        ip => ip,
    };
    let same = ip == IpAddr::V4(address) || ip.is_unspecified() || address.is_unspecified();
    if same { inode.parse().ok() } else { None }
}

/// The kernel prints 32-bit words of the address in the machine's own byte order.
fn parse_address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = hex.get(at * 8..at * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    match hex.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?)))
        }
        _ => None,
    }
}

/// Who has locked a disk as QEMU does, in words; a program that merely reads it has not.
pub(super) fn of_file(path: &Path) -> Option<String> {
    let file = File::open(path).ok()?;
    let found = file.metadata().ok().filter(Metadata::is_file)?;
    if !is_locked(&file) {
        return None;
    }
    let is_it = |fd: &Path| {
        fs::metadata(fd).is_ok_and(|other| (other.dev(), other.ino()) == (found.dev(), found.ino()))
    };
    // This process has just opened it as well.
    let process = processes::first_with(|pid, fd| pid != std::process::id() && is_it(fd));
    Some(process.unwrap_or_else(|| "another user's process".to_owned()))
}

/// Whether any part of a file is locked by open file description, as QEMU locks its disks, or by process.
fn is_locked(file: &File) -> bool {
    let short = libc::c_short::try_from;
    let (Ok(l_type), Ok(l_whence)) = (short(libc::F_WRLCK), short(libc::SEEK_SET)) else { return false };
    let mut asked = libc::flock { l_type, l_whence, l_start: 0, l_len: 0, l_pid: 0 };
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut asked)).is_ok() && i32::from(asked.l_type) != libc::F_UNLCK
}

fn process_with(inodes: &[u64]) -> Option<String> {
    let wanted: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let is_one = |fd: &Path| {
        fs::read_link(fd).is_ok_and(|link| wanted.iter().any(|wanted| link.as_os_str() == wanted.as_str()))
    };
    processes::first_with(|_, fd| is_one(fd)).map(|process| format!("{process} has it"))
}

#[cfg(test)]
mod tests {
    use super::{listener, of_file};
    use std::net::Ipv4Addr;
    use std::process::{Command, Stdio};

    #[test]
    fn a_disk_of_another_qemu_is_named_with_its_process() {
        let directory = tempfile::tempdir().unwrap();
        let disk = directory.path().join("a.qcow2");
        let made =
            Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&disk).arg("8M").status();
        if !made.is_ok_and(|made| made.success()) {
            eprintln!("skipped: there is no qemu-img");
            return;
        }
        let reader = std::fs::File::open(&disk).unwrap();
        assert_eq!(of_file(&disk), None, "who reads it has not locked it");
        drop(reader);
        // Any of QEMU's programs locks a disk that it has open for writing.
        let mut qemu = Command::new("qemu-io");
        let qemu = qemu.args(["-f", "qcow2"]).arg(&disk).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut qemu = qemu.spawn().unwrap();
        let mut first = [0];
        std::io::Read::read_exact(qemu.stdout.as_mut().unwrap(), &mut first).unwrap();
        assert_eq!(of_file(&disk), Some(format!("process {} (qemu-io)", qemu.id())));
        drop(qemu.stdin.take());
        qemu.wait().unwrap();
        assert_eq!(of_file(&disk), None);
        assert_eq!(of_file(&directory.path().join("none")), None);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn listeners_are_found_in_both_tables() {
        let v4 = "   0: 0100007F:0912 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 x";
        assert_eq!(listener(v4, Ipv4Addr::LOCALHOST, 2322), Some(4242));
        assert_eq!(listener(v4, Ipv4Addr::LOCALHOST, 2323), None);
        assert_eq!(listener(v4, Ipv4Addr::new(127, 0, 0, 2), 2322), None);
        assert_eq!(listener(v4, Ipv4Addr::UNSPECIFIED, 2322), Some(4242));
        let any6 = "   0: 00000000000000000000000000000000:0912 00000000000000000000000000000000:0000 0A \
                    00000000:00000000 00:00000000 00000000     0        0 77 1 x";
        assert_eq!(listener(any6, Ipv4Addr::LOCALHOST, 2322), Some(77));
        let established = v4.replace(" 0A ", " 01 ");
        assert_eq!(listener(&established, Ipv4Addr::LOCALHOST, 2322), None);
    }
}
