//! Syncing directories: threads that have put files into one share a sync.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The syncs of a directory, by their numbers.
#[derive(Default)]
struct Syncs {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    started: u64,
    ended: u64,
    /// The last one that succeeded.
    succeeded: u64,
}

impl Syncs {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when a sync has succeeded that was started after the call: the own one, or another thread's.
    fn sync(&self, directory: &Path) -> io::Result<()> {
        let mut state = self.state();
        let wanted = state.started + 1;
        while state.succeeded < wanted {
            if state.started > state.ended {
                state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.started += 1;
            let number = state.started;
            drop(state);
            let synced = sync_alone(directory);
            state = self.state();
            state.ended = number;
            if synced.is_ok() {
                state.succeeded = number;
            }
            self.ended.notify_all();
            // Who waits for a sync that failed starts one, and learns why from that.
            synced?;
        }
        Ok(())
    }
}

/// The directories that this process has synced.
static KNOWN: Mutex<BTreeMap<PathBuf, Arc<Syncs>>> = Mutex::new(BTreeMap::new());

/// Syncs a directory, so that what was done to its entries before the call stays.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    let syncs = {
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(directory.to_path_buf()).or_default())
    };
    syncs.sync(directory)
}

/// Some file systems cannot sync a directory and say so; there is nothing more to do on them.
fn sync_alone(directory: &Path) -> io::Result<()> {
    match File::open(directory)?.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_waits_for_a_sync_that_starts_after_its_call() {
        let directory = tempfile::tempdir().expect("a directory");
        let syncs = Syncs::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let before = syncs.state().started;
                        syncs.sync(directory.path()).expect("synced");
                        assert!(syncs.state().succeeded > before);
                    }
                });
            }
        });
        let state = syncs.state();
        assert_eq!((state.started, state.succeeded), (state.ended, state.ended));
        assert!(state.ended <= 160);
    }

    #[test]
    fn a_failure_reaches_every_thread_and_the_next_sync_may_succeed() {
        let directory = tempfile::tempdir().expect("a directory");
        let gone = directory.path().join("gone");
        let syncs = Syncs::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| syncs.sync(&gone).expect_err("no such directory"));
            }
        });
        std::fs::create_dir(&gone).expect("made");
        syncs.sync(&gone).expect("synced");
    }
}
