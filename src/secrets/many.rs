//! Work on many files at once.

use std::thread::available_parallelism;

use rayon::ThreadPoolBuilder;

/// Files per processor to work on at once: a writer waits for the disk most of the time.
const WRITERS: usize = 4;

/// Runs work that writes files in parallel.
pub(super) fn writing<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let processors = available_parallelism().map_or(1, usize::from);
    match ThreadPoolBuilder::new().num_threads(processors * WRITERS).build() {
        Ok(pool) => pool.install(work),
        // No more threads are to be had: it is done with those that are there.
        Err(_) => work(),
    }
}
