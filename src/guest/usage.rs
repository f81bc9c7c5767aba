//! How much of the guest is in use.

use std::fs;

use nix::sys::statvfs::{FsFlags, statvfs};

use super::{Error, events};
use crate::vm::agent::answer::Usage;

/// Reads it from the kernel.
pub(super) fn usage() -> Result<Usage, Error> {
    let memory = fs::read_to_string("/proc/meminfo").map_err(Error::io("read", "/proc/meminfo"))?;
    let load = fs::read_to_string("/proc/loadavg").map_err(Error::io("read", "/proc/loadavg"))?;
    let kib = |name| kib(&memory, name).unwrap_or_default();
    let (disk_kib, disk_available_kib, disk_read_only) = disk()?;
    Ok(Usage {
        uptime_ms: events::uptime_ms(),
        load: parse_load(&load),
        memory_kib: kib("MemTotal"),
        memory_available_kib: kib("MemAvailable"),
        swap_kib: kib("SwapTotal"),
        swap_free_kib: kib("SwapFree"),
        disk_kib,
        disk_available_kib,
        disk_read_only,
    })
}

/// A field of /proc/meminfo in KiB.
pub(super) fn kib(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `0.05 1.20 0.30 …` are 5, 120 and 30 hundredths.
fn parse_load(text: &str) -> [u32; 3] {
    let mut words = text.split_whitespace().map(|word| word.replacen('.', "", 1).parse().unwrap_or_default());
    std::array::from_fn(|_| words.next().unwrap_or_default())
}

/// Size of the root file system, what is left of it for ordinary users, and whether it is only read.
fn disk() -> Result<(u64, u64, bool), Error> {
    let found = statvfs("/").map_err(Error::io("measure", "/"))?;
    let kib = |blocks: u64| blocks.saturating_mul(found.fragment_size()) / 1024;
    let read_only = found.flags().contains(FsFlags::ST_RDONLY);
    Ok((kib(found.blocks()), kib(found.blocks_available()), read_only))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_kib() {
        assert_eq!(kib("MemTotal:        1000 kB\nMemFree: 1 kB\n", "MemTotal"), Some(1000));
        assert_eq!(kib("MemTotalX: 1 kB\n", "MemTotal"), None);
        assert_eq!(kib("", "MemTotal"), None);
    }

    #[test]
    fn loads_are_hundredths() {
        assert_eq!(parse_load("0.05 1.20 12.34 1/100 4321\n"), [5, 120, 1234]);
        assert_eq!(parse_load(""), [0; 3]);
    }

    #[test]
    fn this_machine_has_a_disk_and_memory() {
        let usage = usage().expect("Linux");
        assert!(usage.memory_kib >= usage.memory_available_kib && usage.memory_available_kib > 0);
        assert!(usage.disk_kib > usage.disk_available_kib);
    }
}
