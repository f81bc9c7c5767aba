//! Processing many files in parallel.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread::available_parallelism;

use rayon::ThreadPoolBuilder;
use rayon::prelude::*;

use super::error::Error;
use crate::edge::atomic::{Unsynced, UnsyncedDirectory};

/// How many files to process at once per CPU: writers spend most of their time waiting for the disk, and the more of
/// them wait together, the fewer times it has to write.
const WRITERS: usize = 16;
/// How many at the most: each has a few files open, and a process may often have no more than 1024.
const WRITERS_MAX: usize = 128;

/// Works on files in parallel, and syncs the directories in which some were written behind them, each once. A file is as
/// good as not written before: where that fails, it is the file's `outcome`. The result is in the order of the files.
pub(super) fn writing<F: Send, T: Send, R>(
    files: Vec<F>,
    work: impl Fn(F, &Unsynced) -> T + Send + Sync,
    outcome: impl Fn(&mut T) -> (&Path, &mut Result<R, Error>),
) -> Vec<T> {
    let unsynced = Unsynced::default();
    let run = || {
        let done: Vec<T> = files.into_par_iter().map(|file| work(file, &unsynced)).collect();
        let directories = unsynced.directories().into_par_iter();
        (done, directories.flat_map_iter(UnsyncedDirectory::sync).collect::<BTreeMap<_, _>>())
    };
    let processors = available_parallelism().map_or(1, usize::from);
    let (mut done, mut failed) = match ThreadPoolBuilder::new().num_threads(writers(processors)).build() {
        Ok(pool) => pool.install(run),
        // No more threads can be created: use the existing ones.
        Err(_) => run(),
    };
    if !failed.is_empty() {
        for one in &mut done {
            let (path, result) = outcome(one);
            if let Some(error) = failed.remove(path) {
                *result = Err(Error::Write(error));
            }
        }
    }
    done
}

/// How many threads write on a machine of so many processors.
fn writers(processors: usize) -> usize {
    (processors * WRITERS).min(WRITERS_MAX)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::edge::atomic::swap_unsynced;

    #[test]
    fn a_large_machine_does_not_run_out_of_open_files() {
        assert_eq!(writers(2), 2 * WRITERS);
        assert_eq!(writers(256), WRITERS_MAX);
    }

    #[test]
    fn a_file_whose_name_may_not_last_is_not_written() {
        let base = tempfile::tempdir().unwrap();
        let files = ["gone/a", "stays/b", "stays/c", "wrong/d"].map(|name| base.path().join(name));
        for file in &files {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "old").unwrap();
        }
        let work = |path: PathBuf, unsynced: &Unsynced| {
            if path.ends_with("wrong/d") {
                return (path.clone(), Err(Error::Missing(path)));
            }
            let result = swap_unsynced(&path, b"old", b"new", 0o600, unsynced).map_err(Error::Write);
            if path.ends_with("gone/a") {
                fs::rename(base.path().join("gone"), base.path().join("moved")).unwrap();
            }
            (path, result)
        };
        let done = writing(files.to_vec(), work, |(path, result)| (path, result));
        assert_eq!(done.iter().map(|(path, _)| path).collect::<Vec<_>>(), files.iter().collect::<Vec<_>>());
        let results: Vec<_> = done.into_iter().map(|(_, result)| result).collect();
        assert!(
            matches!(results[..], [Err(Error::Write(_)), Ok(true), Ok(true), Err(Error::Missing(_))]),
            "{results:?}"
        );
        assert_eq!(fs::read(base.path().join("moved/a")).unwrap(), b"new", "only its sync was missing");
    }
}
