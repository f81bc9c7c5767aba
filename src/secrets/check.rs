//! Checks whether the files of a project comply with its rules, as far as that can be seen without a key.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use zeroize::Zeroizing;

use self::ruling::{Ruling, ruling};
use super::discover::{Candidate, is_sops, sops_text};
use super::error::Error;
use super::session::{Session, read};
use crate::keys::identity::Identities;
use crate::sops::merge::conflicted;

mod file;
mod finding;
mod plaintext;
mod rules;
mod ruling;

pub use finding::{Finding, Kind};
pub use plaintext::unencrypted;
pub use ruling::{take_staged_rules, wants_encrypted};

/// A file to be checked.
#[derive(Debug)]
pub struct Source {
    /// Its real path.
    pub path: PathBuf,
    /// Where its content is.
    pub content: Content,
}

/// Where the content of a file comes from.
#[derive(Debug)]
pub enum Content {
    /// In the file itself.
    File,
    /// Given here, regardless of what the file on disk holds.
    Text(Vec<u8>),
    /// It cannot be read.
    Failed(Error),
}

/// The kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A sops file that was checked.
    Sops,
    /// A sops file that no rule matches.
    NoRule,
    /// Not a sops file.
    Other,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// The sops files that were checked.
    pub files: Vec<PathBuf>,
    /// Sops files that were skipped because no rule matches them.
    pub unruled: Vec<PathBuf>,
    /// What is wrong, by path.
    pub findings: Vec<Finding>,
}

impl Source {
    /// The result of searching for files.
    #[must_use]
    pub fn of((path, candidate): (PathBuf, Candidate)) -> Self {
        let content = match candidate {
            Candidate::Failed(error) => Content::Failed(error),
            Candidate::Named | Candidate::Walked => Content::File,
        };
        Self { path, content }
    }
}

impl Report {
    /// Whether the check fails: warnings alone do not make it fail.
    #[must_use]
    pub fn fails(&self) -> bool {
        self.findings.iter().any(|finding| !finding.is_warning)
    }

    /// What to do about the findings, without duplicates.
    #[must_use]
    pub fn help(&self) -> BTreeSet<&'static str> {
        self.findings.iter().map(|finding| finding.kind.help()).collect()
    }
}

/// The state of a check.
struct Check<'a> {
    session: &'a Session,
    identities: Identities,
    strict: bool,
}

/// Checks files and the rules that govern them, in parallel. Needs no key; if one can be used without asking for
/// anything, MACs are verified. Unless the check is `strict`, sops files that no rule matches are only counted.
#[must_use]
pub fn check(session: &Session, sources: Vec<Source>, strict: bool) -> Report {
    let identities = Identities::at_hand(&session.environment);
    let check = Check { session, identities, strict };
    // The rules are checked even if there are no files.
    let mut findings: Vec<Finding> = session.own_rules().err().map(unusable).into_iter().collect();
    let mut report = Report::default();
    let results: Vec<_> = sources.into_par_iter().map(|source| check.source(source)).collect();
    for (path, state, found) in results {
        match state {
            State::Sops => report.files.push(path),
            State::NoRule => report.unruled.push(path),
            State::Other => {}
        }
        findings.extend(found);
    }
    for rules in session.known_rules() {
        findings.extend(rules::faults(&rules));
    }
    // An error in the rules comes up for every file that they govern.
    findings.sort_by(|one, other| one.path.cmp(&other.path));
    let mut told: Vec<Finding> = Vec::with_capacity(findings.len());
    for finding in findings {
        let from = told.partition_point(|known| known.path < finding.path);
        if !told[from..].contains(&finding) {
            told.push(finding);
        }
    }
    if strict {
        told.iter_mut().for_each(|finding| finding.is_warning = false);
    }
    report.findings = told;
    report
}

/// An error about the rules or about a file as a whole, as a finding.
fn unusable(error: Error) -> Finding {
    let (path, kind, message) = match &error {
        Error::Rules { path, error } => (path.clone(), Kind::Unreadable, error.to_string()),
        Error::NoRules { path, source } => {
            (path.clone(), Kind::Unreadable, format!("cannot be read: {source}"))
        }
        Error::Read { path, source } => (path.clone(), Kind::Unreadable, format!("cannot be read: {source}")),
        Error::Missing(path) => (path.clone(), Kind::Unreadable, "does not exist".to_owned()),
        other => (PathBuf::new(), Kind::Unreadable, other.to_string()),
    };
    Finding::new(path, kind, message)
}

impl Check<'_> {
    fn source(&self, source: Source) -> (PathBuf, State, Vec<Finding>) {
        let Source { path, content } = source;
        let text = match content {
            Content::File => sops_text(&path),
            Content::Text(text) if is_sops(&path, &text) => Ok(Some(text)),
            Content::Text(text) => {
                let findings = plaintext::look(self.session, &path, || Some(Zeroizing::new(text)));
                return (path, State::Other, findings);
            }
            Content::Failed(error) => Err(error),
        };
        let (state, findings) = match text {
            Ok(Some(text)) => self.sops_file(&path, &text),
            Ok(None) => {
                (State::Other, plaintext::look(self.session, &path, || read(&path).ok().map(Zeroizing::new)))
            }
            Err(error) => (State::Other, vec![unusable(error)]),
        };
        (path, state, findings)
    }

    fn sops_file(&self, path: &Path, text: &[u8]) -> (State, Vec<Finding>) {
        let (rule, mut findings) = match ruling(self.session, path) {
            Ruling::NoRule if !self.strict && conflicted(text).is_none() => {
                return (State::NoRule, Vec::new());
            }
            Ruling::NoRule if !self.strict => (None, Vec::new()),
            Ruling::NoRule => {
                let message = "matches no creation rule".to_owned();
                (None, vec![Finding::new(path.to_path_buf(), Kind::NoRule, message)])
            }
            Ruling::NoRules => (None, Vec::new()),
            Ruling::Broken(error) => (None, error.map(unusable).into_iter().collect()),
            Ruling::Rule(rule) => (Some(rule), Vec::new()),
        };
        let rule = rule.as_ref().and_then(|rule| Some((&*rule.rules, rule.rule()?)));
        findings.extend(file::look(path, text, rule, &self.identities));
        (State::Sops, findings)
    }
}
