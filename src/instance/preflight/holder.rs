//! Who listens on a port, as far as `/proc` tells this user.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// State of a listening socket in `/proc/net/tcp` (`TCP_LISTEN` of the kernel's tcp_states.h).
const LISTEN: &str = "0A";

/// The holder of a port, in words.
pub(super) fn find(address: Ipv4Addr, port: u16) -> String {
    let mut inodes = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        inodes.extend(text.lines().skip(1).filter_map(|line| listener(line, address, port)));
    }
    if inodes.is_empty() {
        return "something that is not listening has it (a connection just closed, perhaps)".to_owned();
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

fn process_with(inodes: &[u64]) -> Option<String> {
    let wanted: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        let mut links = descriptors.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
        if links.any(|link| wanted.iter().any(|w| link.as_os_str() == w.as_str())) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("process {pid} ({}) has it", name.trim()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::listener;
    use std::net::Ipv4Addr;

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
