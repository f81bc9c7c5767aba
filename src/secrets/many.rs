//! Processing many files in parallel.

use std::thread::available_parallelism;

use rayon::ThreadPoolBuilder;

/// How many files to process at once per CPU: writers spend most of their time waiting for the disk, and the more of
/// them wait together, the fewer times it has to write.
const WRITERS: usize = 16;
/// How many at the most: each has a few files open, and a process may often have no more than 1024.
const WRITERS_MAX: usize = 128;

/// Runs work that writes files in parallel.
pub(super) fn writing<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let processors = available_parallelism().map_or(1, usize::from);
    match ThreadPoolBuilder::new().num_threads(writers(processors)).build() {
        Ok(pool) => pool.install(work),
        // No more threads can be created: use the existing ones.
        Err(_) => work(),
    }
}

/// How many threads write on a machine of so many processors.
fn writers(processors: usize) -> usize {
    (processors * WRITERS).min(WRITERS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_machine_does_not_run_out_of_open_files() {
        assert_eq!(writers(2), 2 * WRITERS);
        assert_eq!(writers(256), WRITERS_MAX);
    }
}
