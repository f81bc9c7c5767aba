//! Finding the sops files in a tree, by their content rather than their names.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::error::Error;
use super::session::read;
use crate::edge::environment::Environment;
use crate::edge::walk::{self, Excluded, Kind};
use crate::rules::FILE;
use crate::sops::merge::conflicted;
use crate::store::{Format, may_be_encrypted};

/// Larger files are not read: 256 MiB, far more than any file of secrets has.
const LARGEST: u64 = 256 << 20;
/// The same for files whose name and first byte do not suggest a format, which are most of a tree: 16 MiB.
const LARGEST_TEXT: u64 = 16 << 20;
/// The name of the files that list what does not count as a secret of the project, such as test fixtures.
const IGNORE_FILE: &str = ".civmignore";
/// How much of a file is searched for zero bytes, which no sops file contains.
const HEAD: usize = 8 << 10;

/// A sops file, or something that may be one and cannot be read.
#[derive(Debug)]
pub struct Found {
    /// Its real path.
    pub path: PathBuf,
    /// Whether the file itself was given, and not just a directory above it.
    pub named: bool,
    /// What it holds.
    pub text: Result<Vec<u8>, Error>,
}

/// Why a path is a candidate.
#[derive(Debug)]
pub enum Candidate {
    /// It was given.
    Named,
    /// It was found below a given directory.
    Walked,
    /// It cannot be read.
    Failed(Error),
}

/// Every sops file among the given files and below the given directories, by its real path, sorted, each once.
///
/// Whatever [`walk::walk`] and `.civmignore` leave out is skipped, but never a path that was given explicitly. Paths that
/// cannot be read are included, with the reason.
#[must_use]
pub fn sops_files(paths: &[PathBuf], environment: &Environment) -> Vec<Found> {
    candidates(paths, environment)
        .into_par_iter()
        .filter_map(|(path, candidate)| {
            let named = !matches!(candidate, Candidate::Walked);
            let text = match candidate {
                Candidate::Named => read(&path),
                Candidate::Failed(error) => Err(error),
                Candidate::Walked => sops_text(&path).transpose()?,
            };
            Some(Found { path, named, text })
        })
        .collect()
}

/// The same for all files, whether they are sops files or not.
#[must_use]
pub fn candidates(paths: &[PathBuf], environment: &Environment) -> Vec<(PathBuf, Candidate)> {
    let mut candidates = BTreeMap::new();
    for path in paths {
        match fs::canonicalize(path) {
            Ok(real) if real.is_dir() => below(&real, environment, &mut candidates),
            Ok(real) => drop(candidates.insert(real, Candidate::Named)),
            Err(error) => drop(candidates.insert(path.clone(), Candidate::Failed(unreadable(path, error)))),
        }
    }
    // A vector keeps its order in parallel iteration.
    candidates.into_iter().collect()
}

fn below(root: &Path, environment: &Environment, candidates: &mut BTreeMap<PathBuf, Candidate>) {
    let mut no_secrets = no_secrets(root);
    let mut errors = Vec::new();
    for entry in walk::walk(root, environment) {
        match entry {
            Ok(entry) if entry.kind == Kind::File && !no_secrets.leaves_out(&entry.path) => {
                candidates.entry(entry.path).or_insert(Candidate::Walked);
            }
            Ok(_) => {}
            Err(error) => errors.push(error),
        }
    }
    for error in errors.into_iter().chain(no_secrets.errors()) {
        let failed = Candidate::Failed(unreadable(&error.path, error.source));
        candidates.insert(error.path, failed);
    }
}

/// What `.civmignore` says is not a secret of the project, below a directory given by its real path.
#[must_use]
pub fn no_secrets(root: &Path) -> Excluded {
    Excluded::below(root, IGNORE_FILE, FILE)
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::NotFound => Error::Missing(path.to_path_buf()),
        _ => Error::Read { path: path.to_path_buf(), source },
    }
}

/// The text of a file with sops metadata; `None` for any other file, and for one that has vanished since its directory
/// was listed.
///
/// # Errors
/// It cannot be read.
pub fn sops_text(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match text_of_store(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        text => text.map_err(|error| unreadable(path, error)),
    }
}

fn text_of_store(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut file = BufReader::with_capacity(HEAD, file);
    let head = file.fill_buf()?;
    let tells = Format::of_ending(path).is_some() || head.trim_ascii_start().starts_with(b"{");
    if length > if tells { LARGEST } else { LARGEST_TEXT } || memchr::memchr(0, head).is_some() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(is_sops(path, &bytes).then_some(bytes))
}

/// Whether the content of a file of this name is that of a sops file. If the name has the ending of a format, damaged
/// metadata counts too and is reported later. Any other file must be a sops file as a whole, and not only quote one.
#[must_use]
pub fn is_sops(path: &Path, bytes: &[u8]) -> bool {
    if !may_be_encrypted(bytes) {
        return false;
    }
    // A file with a merge conflict is still the same file.
    Format::of_ending(path).is_some() || Format::recognise(bytes).is_some() || conflicted(bytes).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str]";

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn write(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn found(&self, names: &[&str]) -> Vec<String> {
            let root = self.0.path().canonicalize().unwrap();
            let paths: Vec<_> = names.iter().map(|name| self.0.path().join(name)).collect();
            sops_files(&paths, &Environment::of_process())
                .into_iter()
                .map(|found| {
                    let name = found.path.strip_prefix(&root).unwrap().display().to_string();
                    if found.text.is_ok() { name } else { format!("{name}!") }
                })
                .collect()
        }
    }

    fn encrypted() -> String {
        format!("a: {TOKEN}\nsops:\n    mac: {TOKEN}\n")
    }

    fn binary() -> String {
        format!("{{\n\t\"data\": \"{TOKEN}\",\n\t\"sops\": {{\n\t\t\"mac\": \"{TOKEN}\"\n\t}}\n}}\n")
    }

    #[test]
    fn content_decides_and_ignored_trees_are_passed_over() {
        let tree = Tree(tempfile::tempdir().unwrap());
        tree.write("hosts/x/secrets.yaml", &encrypted());
        tree.write(".hidden/secret.yaml", &encrypted());
        tree.write("odd name.conf", &binary());
        tree.write("key.der", &format!("\n{}", binary()));
        tree.write("app.conf", &encrypted());
        tree.write("secrets", &encrypted());
        tree.write("x.yaml.enc", &format!("# a comment\n---\n{}", encrypted()));
        tree.write(".env.production", &format!("A={TOKEN}\nsops_mac={TOKEN}\n"));
        tree.write("my.cnf", &format!("[db]\na = {TOKEN}\n\n[sops]\nmac = {TOKEN}\n"));
        tree.write("app.env", &format!("A={TOKEN}\nsops_mac={TOKEN}\n"));
        tree.write("deep/.env", &format!("A={TOKEN}\nsops_mac={TOKEN}\n"));
        tree.write("plain.yaml", "a: b\n");
        tree.write("target/secrets.yaml", &encrypted());
        tree.write(".git/secrets.yaml", &encrypted());
        tree.write(".gitignore", "/target\n");
        let wanted = [
            ".env.production",
            ".hidden/secret.yaml",
            "app.conf",
            "app.env",
            "deep/.env",
            "hosts/x/secrets.yaml",
            "key.der",
            "my.cnf",
            "odd name.conf",
            "secrets",
            "x.yaml.enc",
        ];
        assert_eq!(tree.found(&[""]), wanted);
    }

    #[test]
    fn what_merely_shows_a_sops_file_is_none() {
        let tree = Tree(tempfile::tempdir().unwrap());
        tree.write("README.md", &format!("It looks like this:\n```yaml\n{}```\n", encrypted()));
        tree.write("test.rs", &format!("const TEXT: &str = \"\n{}\";\n", encrypted()));
        tree.write("block.rs", &format!("{{\n{}}}\n", encrypted()));
        tree.write("more.txt", &format!("{}and more\n", binary()));
        tree.write("list.txt", &format!("[{}]\n", binary()));
        tree.write("no-mac", &format!("{{\"data\": \"{TOKEN}\", \"sops\": {{}}}}\n"));
        tree.write("string", "{\"sops\": \"mac\"}\n");
        tree.write("empty", "");
        assert_eq!(tree.found(&[""]), [""; 0]);
        assert_eq!(tree.found(&["README.md"]), ["README.md"], "it was named itself");
    }

    #[test]
    fn however_it_is_reached_a_file_is_found_once() {
        let tree = Tree(tempfile::tempdir().unwrap());
        tree.write("hosts/x/secrets.yaml", &encrypted());
        let link = |target: &str, name: &str| {
            std::os::unix::fs::symlink(target, tree.0.path().join(name)).unwrap();
        };
        link("hosts", "hl");
        link("hosts/x/secrets.yaml", "link.yaml");
        let wanted = ["hosts/x/secrets.yaml"];
        assert_eq!(tree.found(&["hl"]), wanted);
        assert_eq!(
            tree.found(&["link.yaml", "hosts/x/secrets.yaml", "./hosts/../hl/x/secrets.yaml"]),
            wanted
        );
        assert_eq!(tree.found(&["", "hosts", "hosts/x/secrets.yaml"]), wanted);
        link("nowhere", "broken.yaml");
        assert_eq!(tree.found(&[""]), wanted, "a link on the way is not followed");
        assert_eq!(tree.found(&["broken.yaml"]), ["broken.yaml!"]);
    }

    #[test]
    fn what_cannot_be_read_is_found_with_the_reason() {
        use std::os::unix::fs::PermissionsExt as _;
        let tree = Tree(tempfile::tempdir().unwrap());
        tree.write("a.yaml", &encrypted());
        tree.write("b.yaml", &encrypted());
        let closed = tree.0.path().join("b.yaml");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        if File::open(&closed).is_ok() {
            eprintln!("skipped: nothing is closed to this user");
            return;
        }
        assert_eq!(tree.found(&[""]), ["a.yaml", "b.yaml!"]);
    }
}
