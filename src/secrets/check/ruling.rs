//! The rule that governs a file.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::rules::{FILE, Rule};
use crate::secrets::error::Error;
use crate::secrets::session::{Rules, Session};
use crate::secrets::update_all::as_rules_see;

/// The rule of a file.
pub(super) enum Ruling {
    /// There are no rules at all.
    NoRules,
    /// No rule matches.
    NoRule,
    /// This one.
    Rule(Governing),
    /// The rules are broken, which is reported once and not for every file.
    Broken(Option<Error>),
}

/// A rule and a file that it governs.
pub(super) struct Governing {
    pub(super) rules: Arc<Rules>,
    pub(super) index: usize,
    /// The file's path as the rule matches it.
    path: Vec<u8>,
}

impl Governing {
    /// The rule, unless it is broken.
    pub(super) fn rule(&self) -> Option<&Rule> {
        self.rules.config.rule(self.index)?.ok()
    }

    /// Whether it says that the file should be encrypted.
    pub(super) fn wants_encrypted(&self) -> bool {
        self.rules.config.wants_encrypted(self.index, &self.path)
    }
}

pub(super) fn ruling(session: &Session, path: &Path) -> Ruling {
    let found = as_rules_see(session, path).and_then(|seen| Ok((session.rules(path)?, seen)));
    match found {
        Err(error) => Ruling::Broken(Some(error)),
        Ok((rules, seen)) => match rules.filter(|rules| rules.config.has_creation_rules()) {
            None => Ruling::NoRules,
            Some(rules) => {
                let path = rules.match_path(&session.absolute(&seen));
                match rules.config.position(&path) {
                    Ok(Some(index)) => Ruling::Rule(Governing { rules, index, path }),
                    Ok(None) => Ruling::NoRule,
                    Err(_) => Ruling::Broken(None),
                }
            }
        },
    }
}

/// Whether a file should be encrypted, according to its name and a rule.
#[must_use]
pub fn wants_encrypted(session: &Session, path: &Path) -> bool {
    matches!(ruling(session, path), Ruling::Rule(rule) if rule.wants_encrypted())
}

/// Reads the rules from git's index: those of the session, and those that govern any of the staged files.
///
/// # Errors
/// Invalid rules in the index.
pub fn take_staged_rules<'a>(
    session: &Session,
    files: impl IntoIterator<Item = &'a PathBuf>,
    mut staged: impl FnMut(&Path) -> Option<Vec<u8>>,
) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    let mut take = |path: PathBuf| -> Result<(), Error> {
        if !seen.insert(path.clone()) {
            return Ok(());
        }
        let real = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        match staged(&real) {
            Some(text) => session.take_rules(path, &text),
            None => Ok(()),
        }
    };
    session.own_rules_path().map_or(Ok(()), &mut take)?;
    // First, those that may exist only in the index.
    let (rules, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| file.ends_with(FILE));
    rules.into_iter().cloned().try_for_each(&mut take)?;
    others.into_iter().filter_map(|file| session.rules_path(file)).try_for_each(take)
}
