//! What a run knows besides its files: environment, creation rules, identities.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use super::error::Error;
use crate::edge::environment::Environment;
use crate::edge::terminal::Prompt;
use crate::keys::identity::Identities;
use crate::rules::{self, Config};
use crate::sops::time::Time;

/// The rules' file name, the only one that sops looks for.
const CONFIG_NAME: &str = ".sops.yaml";

/// One run's view of the world. Rules are found and read once; identities are looked for at the first
/// file that needs them and asked for at most once each.
pub struct Session {
    /// The variables of the run.
    pub environment: Environment,
    /// Who is asked for passphrases.
    pub prompt: Arc<dyn Prompt>,
    /// Where the run was started, absolute.
    pub directory: PathBuf,
    explicit: Option<PathBuf>,
    identities: OnceLock<Identities>,
}

/// Creation rules and where they stand.
pub struct Rules {
    /// Their file.
    pub path: PathBuf,
    /// Their text, for names and for editing.
    pub text: String,
    /// What they say.
    pub config: Config,
}

impl Session {
    /// A session in a directory, with the rules' file where it was named.
    #[must_use]
    pub fn new(
        environment: Environment,
        prompt: Arc<dyn Prompt>,
        directory: PathBuf,
        config: Option<PathBuf>,
    ) -> Self {
        Self { environment, prompt, directory, explicit: config, identities: OnceLock::new() }
    }

    /// The identities of this run.
    pub fn identities(&self) -> &Identities {
        self.identities.get_or_init(|| Identities::load(&self.environment, Arc::clone(&self.prompt)))
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
        rules::clean(&self.directory.join(path))
    }

    /// The creation rules for a file: the ones that were named, else `.sops.yaml` upwards from where the
    /// run was started, else upwards from the file.
    ///
    /// # Errors
    /// The rules cannot be read or understood. Having none is not an error here.
    pub fn rules(&self, file: &Path) -> Result<Option<Rules>, Error> {
        let found = match &self.explicit {
            Some(named) => Some(self.absolute(named)),
            None => upwards(&self.directory).or_else(|| self.absolute(file).parent().and_then(upwards)),
        };
        let Some(path) = found else { return Ok(None) };
        let text = fs::read_to_string(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        let config = Config::parse(&text).map_err(|error| Error::Rules { path: path.clone(), error })?;
        Ok(Some(Rules { path, text, config }))
    }
}

impl Rules {
    /// What a rule's `path_regex` is matched with.
    #[must_use]
    pub fn match_path(&self, absolute: &Path) -> Vec<u8> {
        rules::match_path(absolute, self.path.parent().unwrap_or(Path::new("/")))
    }
}

fn upwards(from: &Path) -> Option<PathBuf> {
    from.ancestors().map(|directory| directory.join(CONFIG_NAME)).find(|path| path.is_file())
}

/// Reads a file, telling a missing one and a directory from other failures.
///
/// # Errors
/// It is missing, a directory, or the system refuses.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::Missing(path.to_path_buf()),
        io::ErrorKind::IsADirectory => Error::Directory(path.to_path_buf()),
        _ => Error::Read { path: path.to_path_buf(), source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::terminal::Nobody;

    #[test]
    fn rules_are_found_from_where_one_stands_then_from_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let project = dir.path().join("project");
        fs::create_dir_all(project.join("hosts/x")).unwrap();
        fs::write(project.join(".sops.yaml"), "creation_rules: []\n").unwrap();
        let session =
            |at: &Path| Session::new(Environment::empty(), Arc::new(Nobody), at.to_path_buf(), None);
        let found =
            |at: &Path, file: &str| session(at).rules(Path::new(file)).unwrap().map(|rules| rules.path);
        assert_eq!(found(&project.join("hosts"), "x/s.yaml"), Some(project.join(".sops.yaml")));
        assert_eq!(found(dir.path(), "project/hosts/x/s.yaml"), Some(project.join(".sops.yaml")));
        assert_eq!(found(dir.path(), "s.yaml"), None);
    }
}
