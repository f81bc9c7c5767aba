//! Creation rules, as read from a file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::rules::{self, Config};
use crate::secrets::error::Error;

/// Creation rules and their file.
#[derive(Debug)]
pub struct Rules {
    /// Their file.
    pub path: PathBuf,
    /// Their text, for names and for editing.
    pub text: String,
    /// The parsed rules.
    pub config: Config,
    names: OnceLock<BTreeMap<String, String>>,
    real: OnceLock<Option<PathBuf>>,
}

impl Rules {
    /// Parses the content of a rules file.
    ///
    /// # Errors
    /// The rules are not valid.
    pub fn of_bytes(path: PathBuf, bytes: &[u8]) -> Result<Self, Error> {
        let parsed = rules::decode(bytes).and_then(|text| Ok((Config::parse(&text)?, text)));
        match parsed {
            Ok((config, text)) => {
                Ok(Self { path, text, config, names: OnceLock::new(), real: OnceLock::new() })
            }
            Err(error) => Err(Error::Rules { path, error }),
        }
    }

    /// The names of recipients. They are looked for once, however many files ask.
    #[must_use]
    pub fn names(&self) -> &BTreeMap<String, String> {
        self.names.get_or_init(|| rules::names(&self.text))
    }

    /// The real path of their directory; `None` where there is none. It is looked up once, however many files ask.
    #[must_use]
    pub fn real_directory(&self) -> Option<&Path> {
        let real = || fs::canonicalize(self.path.parent()?).ok();
        self.real.get_or_init(real).as_deref()
    }

    /// The path that a rule's `path_regex` is matched against.
    #[must_use]
    pub fn match_path(&self, absolute: &Path) -> Vec<u8> {
        rules::match_path(absolute, self.path.parent().unwrap_or(Path::new("/")))
    }
}
