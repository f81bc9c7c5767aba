//! Files in the syntax of `.gitignore` that leave out paths for a purpose of their own; unlike there, also tracked files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ignore::Match;
use ignore::gitignore::Gitignore;

use super::WalkError;
use super::scope::{is_repository, rules};

/// All such files of one name in a tree. Each is read once.
#[derive(Debug)]
pub struct Excluded {
    /// The name of the files.
    name: &'static str,
    /// The highest directory whose file counts.
    top: PathBuf,
    /// The directory that was named, which is never left out itself.
    root: PathBuf,
    files: BTreeMap<PathBuf, Gitignore>,
    /// Which directories are left out, as far as that is known.
    directories: BTreeMap<PathBuf, bool>,
    errors: Vec<WalkError>,
}

impl Excluded {
    /// For what is below a directory, given by its real path. Files above it count, up to the root of its repository, or
    /// outside of one up to the highest directory that has the file `marker`.
    #[must_use]
    pub fn below(root: &Path, name: &'static str, marker: &str) -> Self {
        let repository = root.ancestors().find(|directory| is_repository(directory));
        let marked = || root.ancestors().filter(|directory| directory.join(marker).is_file()).last();
        let top = repository.or_else(marked).unwrap_or(root).to_path_buf();
        let (files, directories) = (BTreeMap::new(), BTreeMap::new());
        Self { name, top, root: root.to_path_buf(), files, directories, errors: Vec::new() }
    }

    /// Whether a file below the root is left out.
    pub fn leaves_out(&mut self, file: &Path) -> bool {
        let Some(parent) = file.parent().filter(|parent| parent.starts_with(&self.root)) else {
            return false;
        };
        self.directory(&parent.to_path_buf()) || self.matches(file, false)
    }

    /// The files that could not be read so far.
    pub fn errors(self) -> Vec<WalkError> {
        self.errors
    }

    fn directory(&mut self, directory: &PathBuf) -> bool {
        if let Some(known) = self.directories.get(directory) {
            return *known;
        }
        let is_out = match directory.parent().filter(|_| *directory != self.root) {
            Some(parent) => self.directory(&parent.to_path_buf()) || self.matches(directory, true),
            None => false,
        };
        self.directories.insert(directory.clone(), is_out);
        is_out
    }

    /// Whether a path itself is left out: the innermost file with a matching pattern decides.
    fn matches(&mut self, path: &Path, is_dir: bool) -> bool {
        let top = self.top.clone();
        let above = path.ancestors().skip(1).take_while(|directory| directory.starts_with(&top));
        above
            .map(|directory| match self.file(directory).matched(path, is_dir) {
                Match::None => None,
                found => Some(found.is_ignore()),
            })
            .find_map(|found| found)
            .unwrap_or(false)
    }

    fn file(&mut self, directory: &Path) -> &Gitignore {
        let (name, errors) = (self.name, &mut self.errors);
        self.files.entry(directory.to_path_buf()).or_insert_with(|| {
            let path = directory.join(name);
            rules(directory, &path).unwrap_or_else(|source| {
                errors.push(WalkError { path, source });
                Gitignore::empty()
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn left_out(excluded: &mut Excluded, root: &Path, paths: &[&str]) -> Vec<String> {
        let out = paths.iter().filter(|path| excluded.leaves_out(&root.join(path)));
        out.map(|path| (*path).to_owned()).collect()
    }

    #[test]
    fn each_file_counts_below_its_directory_and_the_innermost_decides() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("a path");
        for directory in ["tests/data", "src/tests", "team/sub"] {
            fs::create_dir_all(root.join(directory)).expect("a directory");
        }
        fs::write(root.join(".rules"), "").expect("written");
        fs::write(root.join(".out"), "/tests/\n*.bak\n!keep.bak\n").expect("written");
        fs::write(root.join("team/.out"), "/sub/x.yaml\n!y.bak\n").expect("written");
        let paths = [
            "a.yaml",
            "a.bak",
            "keep.bak",
            "src/tests/a.yaml",
            "team/sub/x.yaml",
            "team/sub/z.bak",
            "team/y.bak",
            "tests/a.yaml",
            "tests/data/b.yaml",
        ];
        let out = ["a.bak", "team/sub/x.yaml", "team/sub/z.bak", "tests/a.yaml", "tests/data/b.yaml"];
        let below = |directory: &Path| Excluded::below(directory, ".out", ".rules");
        assert_eq!(left_out(&mut below(&root), &root, &paths), out);
        // From below, the files above count as well; what was asked for itself is not left out.
        assert_eq!(
            left_out(&mut below(&root.join("team")), &root, &paths),
            ["team/sub/x.yaml", "team/sub/z.bak"]
        );
        assert_eq!(left_out(&mut below(&root.join("tests")), &root, &paths), [""; 0]);
    }
}
