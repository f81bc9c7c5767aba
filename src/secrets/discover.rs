//! Finding the sops files of a tree: by what they hold, not by what they are called.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ignore::WalkBuilder;
use memchr::memmem;

/// Larger files are not looked into: 256 MiB, far above any file of secrets.
const LARGEST: u64 = 256 << 20;

/// Every sops file under the given files and directories, sorted, each once. `.git` and what git
/// ignores are passed over; a path that is named itself is taken even so.
pub fn sops_files(paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in paths {
        if path.is_file() {
            found.push(path.clone());
            continue;
        }
        let walk = WalkBuilder::new(path)
            .hidden(false)
            .require_git(false)
            .filter_entry(|entry| entry.file_name() != ".git")
            .build();
        for entry in walk.flatten() {
            let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
            if is_file && looks_encrypted(entry.path()) {
                found.push(entry.into_path());
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Whether the text carries sops' metadata in the form of any of its stores. Reading it properly comes
/// later; this only has to be quick and to miss nothing.
fn looks_encrypted(path: &Path) -> bool {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| {
        if file.metadata()?.len() > LARGEST {
            return Ok(0);
        }
        file.take(LARGEST).read_to_end(&mut bytes)
    });
    if read.is_err() || !contains(&bytes, b"ENC[AES256_GCM,") {
        return false;
    }
    line_starts(&bytes, b"sops:")
        || line_starts(&bytes, b"\"sops\":")
        || line_starts(&bytes, b"'sops':")
        || line_starts(&bytes, b"sops_mac=")
        || line_starts(&bytes, b"[sops]")
        || contains(&bytes, b"\"sops\": {")
        || contains(&bytes, b"\"sops\":{")
}

fn contains(bytes: &[u8], piece: &[u8]) -> bool {
    memmem::find(bytes, piece).is_some()
}

fn line_starts(bytes: &[u8], piece: &[u8]) -> bool {
    memmem::find_iter(bytes, piece).any(|at| at == 0 || bytes[at - 1] == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str]";

    #[test]
    fn content_decides_and_ignored_trees_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let encrypted = format!("a: {TOKEN}\nsops:\n    mac: {TOKEN}\n");
        write("hosts/x/secrets.yaml", &encrypted);
        write("odd name.conf", &encrypted);
        write(".hidden/secret.yaml", &encrypted);
        write("key.der", &format!("{{\n\t\"data\": \"{TOKEN}\",\n\t\"sops\": {{}}\n}}\n"));
        write("app.env", &format!("A={TOKEN}\nsops_mac={TOKEN}\n"));
        write("plain.yaml", "a: b\n");
        write("notes.md", &format!("a token looks like {TOKEN}\n"));
        write("target/secrets.yaml", &encrypted);
        write(".git/secrets.yaml", &encrypted);
        write(".gitignore", "/target\n");
        let names: Vec<String> = sops_files(&[dir.path().to_path_buf()])
            .into_iter()
            .map(|path| path.strip_prefix(dir.path()).unwrap().display().to_string())
            .collect();
        assert_eq!(
            names,
            [".hidden/secret.yaml", "app.env", "hosts/x/secrets.yaml", "key.der", "odd name.conf"]
        );
    }
}
