//! The context of a command: environment, creation rules, identities.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::error::Error;
use crate::edge::atomic;
use crate::edge::environment::Environment;
use crate::edge::terminal::{Nobody, Prompt};
use crate::keys::identity::Identities;
use crate::keys::recipient::{Recipient, RecipientError};
use crate::rules as config;
use crate::sops::time::Time;
use crate::store::{Format, Indents, Store};

mod rules;

pub use self::rules::Rules;

/// The context of one command. Rules are read once; identities are loaded when the first file needs them, and the user is
/// asked for each passphrase at most once.
pub struct Session {
    /// The environment variables.
    pub environment: Environment,
    /// Asks the user for passphrases.
    pub prompt: Arc<dyn Prompt>,
    /// The current directory, absolute: relative paths start from it.
    pub directory: PathBuf,
    /// Where the search for rules starts, going upwards: the given project, else the current directory.
    home: PathBuf,
    explicit: Option<PathBuf>,
    /// Whether nested rules govern the files below them.
    nested: bool,
    tolerant: bool,
    indent: Option<i64>,
    format: Option<Format>,
    known: Mutex<BTreeMap<PathBuf, Arc<Rules>>>,
    /// Where the rules for the files of a directory are.
    places: Mutex<BTreeMap<PathBuf, Option<PathBuf>>>,
    identities: OnceLock<Identities>,
    recipients: Mutex<BTreeMap<String, Recipient>>,
}

impl Session {
    /// A session in a directory.
    #[must_use]
    pub fn new(environment: Environment, prompt: Arc<dyn Prompt>, directory: PathBuf) -> Self {
        Self {
            environment,
            prompt,
            home: directory.clone(),
            directory,
            explicit: None,
            nested: false,
            tolerant: false,
            indent: None,
            format: None,
            known: Mutex::default(),
            places: Mutex::default(),
            identities: OnceLock::new(),
            recipients: Mutex::default(),
        }
    }

    /// Uses the rules of this project, whatever the current directory is.
    #[must_use]
    pub fn of_project(mut self, project: &Path) -> Self {
        self.home = self.absolute(project);
        self
    }

    /// Uses this rules file.
    #[must_use]
    pub fn with_config(mut self, config: &Path) -> Self {
        self.explicit = Some(self.absolute(config));
        self
    }

    /// Lets nested rules, such as those of a submodule, govern the files below them. sops uses only the rules that it finds
    /// from the current directory.
    #[must_use]
    pub fn with_nested_rules(mut self) -> Self {
        self.nested = true;
        self
    }

    /// Uses this indentation instead of that in the rules.
    #[must_use]
    pub fn with_indent(mut self, indent: i64) -> Self {
        self.indent = Some(indent);
        self
    }

    /// Uses this format for all files, whatever their names say.
    #[must_use]
    pub fn with_format(mut self, format: Format) -> Self {
        self.format = Some(format);
        self
    }

    /// For work that needs the rules only for the indentation: tolerates invalid ones.
    #[must_use]
    pub fn tolerant(mut self) -> Self {
        self.tolerant = true;
        self
    }

    /// Never asks the user.
    #[must_use]
    pub fn unattended(&self) -> Self {
        Self {
            environment: self.environment.clone(),
            prompt: Arc::new(Nobody),
            directory: self.directory.clone(),
            home: self.home.clone(),
            explicit: self.explicit.clone(),
            nested: self.nested,
            tolerant: self.tolerant,
            indent: self.indent,
            format: self.format,
            known: Mutex::default(),
            places: Mutex::default(),
            identities: OnceLock::new(),
            recipients: Mutex::default(),
        }
    }

    /// The identities of this run.
    pub fn identities(&self) -> &Identities {
        self.identities.get_or_init(|| Identities::load(&self.environment, Arc::clone(&self.prompt)))
    }

    /// The recipient with this text. It is validated only once, however many files use it.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn recipient(&self, text: &str) -> Result<Recipient, RecipientError> {
        let mut known = locked(&self.recipients);
        if let Some(recipient) = known.get(text) {
            return Ok(recipient.clone());
        }
        let recipient = Recipient::parse(text)?;
        known.insert(text.to_owned(), recipient.clone());
        Ok(recipient)
    }

    /// The time, to the second.
    #[must_use]
    pub fn now(&self) -> Time {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let seconds = i64::try_from(seconds).unwrap_or(0);
        Time::from_unix(seconds).unwrap_or(Time::EPOCH)
    }

    /// A path as sops matches it: absolute and clean, links not resolved.
    #[must_use]
    pub fn absolute(&self, path: &Path) -> PathBuf {
        config::clean(&self.directory.join(path))
    }

    /// A path as shown to the user: relative to the current directory.
    #[must_use]
    pub fn shown(&self, path: &Path) -> String {
        let here = self.directory.canonicalize().unwrap_or_else(|_| self.directory.clone());
        path.strip_prefix(here).unwrap_or(path).display().to_string()
    }

    /// The directory of the rules found from here. An explicitly given rules file says nothing
    /// about where the files are.
    #[must_use]
    pub fn root(&self) -> Option<PathBuf> {
        let rules = self.own_rules().ok().flatten().filter(|_| self.explicit.is_none())?;
        rules.path.parent().map(Path::to_path_buf)
    }

    /// The creation rules that were given, else the nearest `.sops.yaml` in or above the project or current directory.
    ///
    /// # Errors
    /// As [`Session::rules`].
    pub fn own_rules(&self) -> Result<Option<Arc<Rules>>, Error> {
        self.own_rules_path().map(|path| self.read_rules(path)).transpose()
    }

    /// The path of those rules, whatever is in them.
    #[must_use]
    pub fn own_rules_path(&self) -> Option<PathBuf> {
        self.explicit.clone().or_else(|| self.upwards(&self.home))
    }

    /// The creation rules for a file: the ones that were given, else the nearest `.sops.yaml` in or above the project or
    /// current directory, else above the file. If nested rules count, those below the former that are
    /// nearest to the file.
    ///
    /// # Errors
    /// The rules cannot be read or are not valid. Having none is not an error here.
    pub fn rules(&self, file: &Path) -> Result<Option<Arc<Rules>>, Error> {
        self.rules_path(file).map(|path| self.read_rules(path)).transpose()
    }

    /// The path of the rules for a file, whatever is in them.
    #[must_use]
    pub fn rules_path(&self, file: &Path) -> Option<PathBuf> {
        let directory = self.absolute(file).parent()?.to_path_buf();
        if let Some(place) = locked(&self.places).get(&directory) {
            return place.clone();
        }
        let place = self.rules_for(&directory);
        locked(&self.places).insert(directory, place.clone());
        place
    }

    fn rules_for(&self, directory: &Path) -> Option<PathBuf> {
        let Some(own) = self.own_rules_path() else { return self.upwards(directory) };
        if self.explicit.is_some() || !self.nested {
            return Some(own);
        }
        let root = own.parent().and_then(|root| fs::canonicalize(root).ok());
        let nested = self.upwards(directory).filter(|nested| {
            let directory = nested.parent().and_then(|directory| fs::canonicalize(directory).ok());
            directory
                .zip(root)
                .is_some_and(|(directory, root)| directory != root && directory.starts_with(root))
        });
        Some(nested.unwrap_or(own))
    }

    /// `.sops.yaml` in a directory or above it; one that was taken from elsewhere need not be on the disk.
    fn upwards(&self, from: &Path) -> Option<PathBuf> {
        let known = locked(&self.known);
        let mut places = from.ancestors().map(|directory| directory.join(config::FILE));
        places.find(|path| known.contains_key(path) || path.is_file())
    }

    /// The indentation that stores use: that of the rules, unless one was given. Rules that sops would not find,
    /// because they are only next to or above the file, may be invalid; in a tolerant session, all may.
    ///
    /// # Errors
    /// The rules cannot be read or are not valid.
    pub fn indents(&self, file: &Path) -> Result<Indents, Error> {
        let of_rules = match self.rules(file) {
            Err(_) if self.tolerant || self.rules_path(file) != self.own_rules_path() => {
                let text = self.rules_path(file).and_then(|path| read(&path).ok());
                text.and_then(|text| config::our_side(&text)).map(|config| config.stores).unwrap_or_default()
            }
            found => found?.map_or_else(Indents::default, |rules| rules.config.stores),
        };
        Ok(self.indent.map_or(of_rules, |indent| Indents { yaml: indent, json: indent, json_binary: indent }))
    }

    /// The store of a format, for a file.
    ///
    /// # Errors
    /// The rules cannot be read or are not valid.
    pub fn store(&self, format: Format, file: &Path) -> Result<Arc<dyn Store>, Error> {
        Ok(format.store(self.indents(file)?))
    }

    /// The format of a plaintext: the one that was given, else that of the file's name.
    #[must_use]
    pub fn format_of(&self, file: &Path) -> Format {
        self.format.unwrap_or_else(|| Format::of_path(file))
    }

    /// The format of an encrypted text: the one that was given, else that of the file's name and the text.
    #[must_use]
    pub fn format_of_encrypted(&self, file: &Path, text: &[u8]) -> Format {
        self.format.unwrap_or_else(|| Format::of_encrypted(file, text))
    }

    /// The store of a plaintext's format.
    ///
    /// # Errors
    /// The rules cannot be read or are not valid.
    pub fn store_of(&self, file: &Path) -> Result<Arc<dyn Store>, Error> {
        self.store(self.format_of(file), file)
    }

    /// The store of an encrypted text's format.
    ///
    /// # Errors
    /// The rules cannot be read or are not valid.
    pub fn store_of_encrypted(&self, file: &Path, text: &[u8]) -> Result<Arc<dyn Store>, Error> {
        self.store(self.format_of_encrypted(file, text), file)
    }

    /// The rules that have been read so far.
    #[must_use]
    pub fn known_rules(&self) -> Vec<Arc<Rules>> {
        locked(&self.known).values().map(Arc::clone).collect()
    }

    /// Uses a text as the content of a rules file, whatever the file on disk holds.
    ///
    /// # Errors
    /// The rules are not valid.
    pub fn take_rules(&self, path: PathBuf, bytes: &[u8]) -> Result<(), Error> {
        let rules = Arc::new(Rules::of_bytes(path.clone(), bytes)?);
        locked(&self.known).insert(path, rules);
        locked(&self.places).clear();
        Ok(())
    }

    fn read_rules(&self, path: PathBuf) -> Result<Arc<Rules>, Error> {
        let mut known = locked(&self.known);
        if let Some(rules) = known.get(&path) {
            return Ok(Arc::clone(rules));
        }
        let bytes = fs::read(&path).map_err(|source| Error::NoRules { path: path.clone(), source })?;
        let rules = Arc::new(Rules::of_bytes(path.clone(), &bytes)?);
        known.insert(path, Arc::clone(&rules));
        Ok(rules)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a file, distinguishing a missing file and a directory from other failures.
///
/// # Errors
/// It is missing, a directory, or the system refuses.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    atomic::sweep_beside(path);
    fs::read(path).map_err(|source| unreadable(path, source))
}

/// Reads a file that is to be rewritten, but not while another civm is writing it.
///
/// # Errors
/// As [`read`].
pub fn read_locked(path: &Path) -> Result<Vec<u8>, Error> {
    atomic::sweep_beside(path);
    atomic::read_locked(path).map_err(|source| unreadable(path, source))
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::NotFound => Error::Missing(path.to_path_buf()),
        io::ErrorKind::IsADirectory => Error::Directory(path.to_path_buf()),
        _ => Error::Read { path: path.to_path_buf(), source },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::edge::terminal::Nobody;
    use crate::keys::native::AgeIdentity;
    use crate::secrets::recipients::Plan;

    #[test]
    fn rules_are_found_from_where_one_stands_then_from_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let project = dir.path().join("project");
        fs::create_dir_all(project.join("hosts/x")).unwrap();
        fs::write(project.join(".sops.yaml"), "creation_rules: []\n").unwrap();
        let session = |at: &Path| Session::new(Environment::empty(), Arc::new(Nobody), at.to_path_buf());
        let found = |at: &Path, file: &str| {
            session(at).rules(Path::new(file)).unwrap().map(|rules| rules.path.clone())
        };
        assert_eq!(found(&project.join("hosts"), "x/s.yaml"), Some(project.join(".sops.yaml")));
        assert_eq!(found(dir.path(), "project/hosts/x/s.yaml"), Some(project.join(".sops.yaml")));
        assert_eq!(found(dir.path(), "s.yaml"), None);
    }

    #[test]
    fn a_recipient_s_key_is_checked_once_however_many_files_name_it() {
        let session = Session::new(Environment::empty(), Arc::new(Nobody), PathBuf::from("/"));
        let [one, two] = [(); 2].map(|()| AgeIdentity::generate().recipient().to_owned());
        let plan = Plan::of_groups(vec![vec![one.clone()], vec![two.clone(), one.clone()]]);
        plan.check(&session, 2).unwrap();
        let known = || locked(&session.recipients).keys().cloned().collect::<Vec<_>>();
        assert_eq!(known(), BTreeSet::from([one, two]).into_iter().collect::<Vec<_>>());
        let wrong = Plan::of_groups(vec![vec!["age1".to_owned()]]);
        assert!(matches!(wrong.check(&session, 0), Err(Error::Recipient { .. })));
        assert_eq!(known().len(), 2, "what cannot be used is not taken for one");
    }
}
