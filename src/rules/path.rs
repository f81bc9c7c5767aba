//! The path that a rule is matched against.

use std::path::{Component, Path, PathBuf};

/// A file's path as `path_regex` sees it: relative to the directory of the `.sops.yaml`, or absolute if
/// the file is outside it. Both arguments are absolute; `.` and `..` are resolved lexically, links are not.
#[must_use]
pub fn match_path(file: &Path, config_dir: &Path) -> Vec<u8> {
    let file = clean(file);
    let mut prefix = clean(config_dir).as_os_str().as_encoded_bytes().to_vec();
    prefix.push(b'/');
    let file = file.as_os_str().as_encoded_bytes();
    file.strip_prefix(prefix.as_slice()).unwrap_or(file).to_vec()
}

/// A path without `.` and `..`, resolved lexically.
#[must_use]
pub fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            // The root has no parent: `pop` leaves it.
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(file: &str, dir: &str) -> String {
        String::from_utf8(match_path(Path::new(file), Path::new(dir))).expect("UTF-8")
    }

    #[test]
    fn paths_are_relative_to_the_rules_or_absolute() {
        assert_eq!(matched("/p/hosts/a/secrets.yaml", "/p"), "hosts/a/secrets.yaml");
        assert_eq!(matched("/p/sub/../s.yaml", "/p/./"), "s.yaml");
        assert_eq!(matched("/p//s.yaml", "/p/"), "s.yaml");
        assert_eq!(matched("/other/s.yaml", "/p"), "/other/s.yaml");
        assert_eq!(matched("/pp/s.yaml", "/p"), "/pp/s.yaml");
        assert_eq!(matched("/../../s.yaml", "/p"), "/s.yaml");
    }
}
