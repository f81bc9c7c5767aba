//! How much a machine that builds takes on, from its size.
//!
//! A build of a large package wants some 4 GiB and more than one processor: jobs are bounded by both, and each gets its
//! share of the processors. Nix makes room on its disk before that is full, and enough not to begin again at once.

use super::Size;

/// How many builds at a time, and how many processors each may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Builds at a time.
    pub max_jobs: u32,
    /// Processors for each.
    pub cores: u32,
}

/// One GiB, in MiB.
const GIB: u64 = 1024;
/// Memory of a build, in GiB.
const JOB_GIB: u64 = 4;
/// As many jobs as a machine that can bear them takes at least.
const JOBS_LEAST: u32 = 4;

/// What a machine of that size takes on.
#[must_use]
pub fn load(cpus: u32, memory: Size) -> Load {
    let gib = memory.in_mebibytes() / GIB;
    let by_memory = u32::try_from(gib.div_ceil(JOB_GIB)).unwrap_or(u32::MAX);
    let budget = (cpus / 2).min(by_memory).max(1);
    let least = budget.min(JOBS_LEAST.max(budget.div_ceil(3)));
    let all = cpus.min(budget.saturating_mul(2));
    let cores = (all / least).max(1);
    Load { max_jobs: budget.min(all / cores).max(1), cores }
}

/// `min-free` for a disk of that size: a tenth, 20 to 160 GiB, and never more than a quarter.
#[must_use]
pub fn min_free(disk: Size) -> Size {
    part(disk, 10, 20..=160, 4)
}

/// `max-free` for a disk of that size: three tenths, 80 to 512 GiB, and never more than a half.
#[must_use]
pub fn max_free(disk: Size) -> Size {
    part(disk, 30, 80..=512, 2)
}

/// So many per cent of a disk, within bounds in GiB. The lower one is for large disks: a small one would never have it.
fn part(disk: Size, percent: u64, bounds: std::ops::RangeInclusive<u64>, at_most: u64) -> Size {
    let disk = disk.in_mebibytes();
    let wanted = (disk / 100).saturating_mul(percent).clamp(bounds.start() * GIB, bounds.end() * GIB);
    Size::mebibytes(wanted.min(disk / at_most))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gib(count: u64) -> Size {
        Size::mebibytes(count * GIB)
    }

    #[test]
    fn jobs_are_bounded_by_processors_and_memory() {
        let seen = |cpus, memory| {
            let load = load(cpus, gib(memory));
            (load.max_jobs, load.cores)
        };
        assert_eq!(seen(1, 1), (1, 1));
        assert_eq!(seen(2, 4), (1, 2));
        assert_eq!(seen(4, 16), (2, 2));
        assert_eq!(seen(16, 64), (4, 4));
        // Memory is the bound of the one, processors that of the other.
        assert_eq!(seen(40, 40), (4, 5));
        assert_eq!(seen(20, 400), (4, 5));
        assert_eq!(seen(160, 640), (32, 5));
        for cpus in 1..=255 {
            for memory in [1, 4, 7, 40, 500, 4000] {
                let (jobs, cores) = seen(cpus, memory);
                assert!(jobs >= 1 && cores >= 1 && jobs * cores <= cpus.max(2), "{cpus} {memory}");
                assert!(u64::from(jobs) <= memory.div_ceil(4).max(1), "{cpus} {memory}");
            }
        }
    }

    #[test]
    fn room_on_a_disk_follows_its_size() {
        let seen = |disk| (min_free(gib(disk)), max_free(gib(disk)));
        assert_eq!(seen(16), (gib(4), gib(8)));
        assert_eq!(seen(100), (gib(20), gib(50)));
        assert_eq!(seen(8000), (gib(160), gib(512)));
        for disk in 4..3000 {
            let (min, max) = seen(disk);
            assert!(min <= max && max.bytes() <= gib(disk).bytes() / 2, "{disk}");
        }
    }
}
