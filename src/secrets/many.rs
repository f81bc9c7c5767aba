//! Processing many files in parallel.

use std::thread::available_parallelism;

use rayon::ThreadPoolBuilder;

/// How many files to process at once per CPU: writers spend most of their time waiting for the disk, and the more of
/// them wait together, the fewer times it has to write.
const WRITERS: usize = 16;

/// Runs work that writes files in parallel.
pub(super) fn writing<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let processors = available_parallelism().map_or(1, usize::from);
    match ThreadPoolBuilder::new().num_threads(processors * WRITERS).build() {
        Ok(pool) => pool.install(work),
        // No more threads can be created: use the existing ones.
        Err(_) => work(),
    }
}
