//! Whether the files of a project are as its rules want them: what nobody needs a key for.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use super::discover::{Candidate, is_sops, sops_text};
use super::error::Error;
use super::session::{Rules, Session, read};
use super::update_all::as_rules_see;
use crate::keys::identity::Identities;
use crate::sops::key_path::KeyPath;
use crate::sops::merge::conflicted;

mod file;
mod rules;

/// A file to be looked at.
#[derive(Debug)]
pub struct Source {
    /// Its real path.
    pub path: PathBuf,
    /// Where its content is.
    pub content: Content,
}

/// Where the content of a file is.
#[derive(Debug)]
pub enum Content {
    /// In the file itself.
    File,
    /// Here, whatever the file holds.
    Text(Vec<u8>),
    /// It cannot be had.
    Failed(Error),
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A file or the rules cannot be read.
    Unreadable,
    /// A merge conflict is not resolved yet.
    Conflict,
    /// A creation rule makes no sense.
    Rule,
    /// A file that is to be encrypted is not.
    Plaintext,
    /// A value stands in clear that is to be encrypted.
    Value,
    /// A comment stands in clear that is to be encrypted.
    Comment,
    /// A value's token is damaged, or stands where nobody decrypts it.
    Token,
    /// The metadata is not well formed.
    Metadata,
    /// The MAC is missing, damaged or another one than the content's.
    Mac,
    /// The file has other recipients than its rule.
    Recipients,
    /// Another number of key groups is needed than the rule wants.
    Threshold,
    /// Other values are encrypted than the rule wants.
    Selector,
    /// No rule is for the file.
    NoRule,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong.
    pub kind: Kind,
    /// Which value, where it is about one.
    pub key: Option<KeyPath>,
    /// What is wrong, in words.
    pub message: String,
}

/// What a file turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A sops file that was looked at.
    Sops,
    /// A sops file that no rule is for.
    NoRule,
    /// No sops file.
    Other,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// How many sops files were looked at.
    pub files: usize,
    /// Sops files that no rule is for, which were passed over.
    pub unruled: Vec<PathBuf>,
    /// What is wrong, by path.
    pub findings: Vec<Finding>,
}

impl Source {
    /// What the search for files found.
    #[must_use]
    pub fn of((path, candidate): (PathBuf, Candidate)) -> Self {
        let content = match candidate {
            Candidate::Failed(error) => Content::Failed(error),
            Candidate::Named | Candidate::Met => Content::File,
        };
        Self { path, content }
    }
}

impl Kind {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Conflict => "conflict",
            Self::Rule => "rule",
            Self::Plaintext => "plaintext",
            Self::Value => "value",
            Self::Comment => "comment",
            Self::Token => "token",
            Self::Metadata => "metadata",
            Self::Mac => "mac",
            Self::Recipients => "recipients",
            Self::Threshold => "threshold",
            Self::Selector => "selector",
            Self::NoRule => "no-rule",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn help(self) -> &'static str {
        match self {
            Self::Unreadable => "mend the file, or take it back from where it was whole",
            Self::Conflict => {
                "`civm secrets merge FILE` resolves it; both versions are in the file, encrypted"
            }
            Self::Rule => "mend the rule in .sops.yaml",
            Self::Plaintext => {
                "`civm secrets encrypt -i FILE` encrypts it; if it holds no secret, let the rule's path_regex not \
                 match it"
            }
            Self::Value => {
                "take the value out, put it in with `civm secrets edit FILE`, and change the secret if others saw it"
            }
            Self::Comment => "take the comment out and put it in with `civm secrets edit FILE`",
            Self::Token | Self::Metadata | Self::Mac => {
                "the file was changed without sops: `git log -p FILE` shows how; take it back as it was"
            }
            Self::Recipients => "`civm secrets update-all` brings the recipients in line",
            Self::Threshold | Self::Selector => {
                "decrypt the file and encrypt it again: `civm secrets decrypt -i FILE`, `civm secrets encrypt -i FILE`"
            }
            Self::NoRule => "add a rule whose path_regex matches the file to .sops.yaml",
        }
    }
}

impl Finding {
    /// It in one line: where, and what.
    #[must_use]
    pub fn line(&self, session: &Session) -> String {
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        let key = self.key.as_ref().map(|key| format!("{key} ")).unwrap_or_default();
        format!("{}{line}: {key}{}", session.shown(&self.path), self.message)
    }
}

impl Report {
    /// What to do about all of it, each advice once.
    #[must_use]
    pub fn help(&self) -> BTreeSet<&'static str> {
        self.findings.iter().map(|finding| finding.kind.help()).collect()
    }
}

/// What a check is made with.
struct Check<'a> {
    session: &'a Session,
    identities: Identities,
    strict: bool,
}

/// The rule of a file.
enum Ruling {
    /// There are no rules at all.
    NoRules,
    /// None matches.
    NoRule,
    /// The one at a position.
    Rule(Arc<Rules>, usize),
    /// The rules are broken, which is told once and not at every file.
    Broken(Option<Error>),
}

/// Looks at files and the rules that are for them, in parallel. Needs no key; where one is at hand without asking
/// for anything, MACs are verified. Where there are rules, sops files that none is for are counted and passed over
/// unless the check is `strict`.
#[must_use]
pub fn check(session: &Session, sources: Vec<Source>, strict: bool) -> Report {
    let identities = Identities::at_hand(&session.environment);
    let check = Check { session, identities, strict };
    // The rules are looked at even where there is no file.
    let mut findings: Vec<Finding> =
        session.rules(&session.directory).err().map(unusable).into_iter().collect();
    let mut report = Report::default();
    let results: Vec<_> = sources.into_par_iter().map(|source| check.source(source)).collect();
    for (path, state, found) in results {
        match state {
            State::Sops => report.files += 1,
            State::NoRule => report.unruled.push(path),
            State::Other => {}
        }
        findings.extend(found);
    }
    for rules in session.known_rules() {
        findings.extend(rules::faults(&rules));
    }
    // What is wrong with the rules is met at every file.
    findings.sort_by(|one, other| one.path.cmp(&other.path));
    let mut told: Vec<Finding> = Vec::with_capacity(findings.len());
    for finding in findings {
        let from = told.partition_point(|known| known.path < finding.path);
        if !told[from..].contains(&finding) {
            told.push(finding);
        }
    }
    report.findings = told;
    report
}

/// The finding of an error that is about the rules or a file as a whole.
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
    Finding { path, line: None, kind, key: None, message }
}

impl Check<'_> {
    fn source(&self, source: Source) -> (PathBuf, State, Vec<Finding>) {
        let Source { path, content } = source;
        let text = match content {
            Content::File => sops_text(&path),
            Content::Text(text) if is_sops(&path, &text) => Ok(Some(text)),
            Content::Text(text) => {
                let findings = self.plaintext(&path, || holds_something(&text));
                return (path, State::Other, findings);
            }
            Content::Failed(error) => Err(error),
        };
        let (state, findings) = match text {
            Ok(Some(text)) => self.sops_file(&path, &text),
            Ok(None) => {
                let something = || read(&path).is_ok_and(|text| holds_something(&text));
                (State::Other, self.plaintext(&path, something))
            }
            Err(error) => (State::Other, vec![unusable(error)]),
        };
        (path, state, findings)
    }

    /// A file without metadata: whether it should have some.
    fn plaintext(&self, path: &Path, holds_something: impl FnOnce() -> bool) -> Vec<Finding> {
        match ruling(self.session, path) {
            Ruling::Broken(error) => error.map(unusable).into_iter().collect(),
            Ruling::Rule(rules, index) if rules.config.is_about_secrets(index) && holds_something() => {
                let message = format!("is not encrypted, though creation rule {} is for it", index + 1);
                vec![Finding {
                    path: path.to_path_buf(),
                    line: None,
                    kind: Kind::Plaintext,
                    key: None,
                    message,
                }]
            }
            _ => Vec::new(),
        }
    }

    fn sops_file(&self, path: &Path, text: &[u8]) -> (State, Vec<Finding>) {
        let (rule, mut findings) = match ruling(self.session, path) {
            Ruling::NoRule if !self.strict && conflicted(text).is_none() => {
                return (State::NoRule, Vec::new());
            }
            Ruling::NoRule if !self.strict => (None, Vec::new()),
            Ruling::NoRule => {
                let message = "no creation rule is for it".to_owned();
                let path = path.to_path_buf();
                (None, vec![Finding { path, line: None, kind: Kind::NoRule, key: None, message }])
            }
            Ruling::NoRules => (None, Vec::new()),
            Ruling::Broken(error) => (None, error.map(unusable).into_iter().collect()),
            Ruling::Rule(rules, index) => (Some((rules, index)), Vec::new()),
        };
        let rule =
            rule.as_ref().and_then(|(rules, index)| Some((&**rules, rules.config.rule(*index)?.ok()?)));
        findings.extend(file::look(path, text, rule, &self.identities));
        (State::Sops, findings)
    }
}

fn ruling(session: &Session, path: &Path) -> Ruling {
    let found = as_rules_see(session, path).and_then(|seen| Ok((session.rules(path)?, seen)));
    match found {
        Err(error) => Ruling::Broken(Some(error)),
        Ok((rules, seen)) => match rules.filter(|rules| rules.config.has_creation_rules()) {
            None => Ruling::NoRules,
            Some(rules) => match rules.config.position(&rules.match_path(&session.absolute(&seen))) {
                Ok(Some(index)) => Ruling::Rule(rules, index),
                Ok(None) => Ruling::NoRule,
                Err(_) => Ruling::Broken(None),
            },
        },
    }
}

/// Whether a rule says of a file that it holds secrets.
#[must_use]
pub fn is_about_secrets(session: &Session, path: &Path) -> bool {
    matches!(ruling(session, path), Ruling::Rule(rules, index) if rules.config.is_about_secrets(index))
}

/// Whether a text holds more than space: an empty file keeps no secret.
fn holds_something(text: &[u8]) -> bool {
    !text.trim_ascii().is_empty()
}

/// The rules' file that a run would use, and its text as git's index has it.
///
/// # Errors
/// That text cannot be understood.
pub fn take_staged_rules(
    session: &Session,
    staged: impl FnOnce(&Path) -> Option<Vec<u8>>,
) -> Result<(), Error> {
    let Some(path) = session.rules_path(&session.directory) else { return Ok(()) };
    match fs::canonicalize(&path).ok().and_then(|real| staged(&real)) {
        Some(text) => session.take_rules(path, String::from_utf8_lossy(&text).into_owned()),
        None => Ok(()),
    }
}
