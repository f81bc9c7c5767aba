//! `.sops.yaml`: which recipients a file has, and what of it is encrypted. Text in, values out.

pub mod edit;
mod file;
pub mod globs;
mod merge;
mod names;
mod path;
mod purpose;
#[cfg(test)]
mod tests;

use crate::sops::pattern::{Pattern, PatternError};
use crate::sops::selector::Selector;
use crate::store::{Indents, yaml};

pub use merge::{merge, our_side};
pub use names::{names, recipient_of};
pub use path::{clean, match_path};
pub use purpose::FILE;

/// A parsed `.sops.yaml`. Two are equal if they mean the same, regardless of line numbers.
#[derive(Clone, Debug)]
pub struct Config {
    creation_rules: Option<Vec<CreationRule>>,
    /// The indentation that the stores use.
    pub stores: Indents,
    /// The line of each rule.
    lines: Vec<usize>,
    /// Keys that sops ignores.
    pub unknown_keys: Vec<UnknownKey>,
}

impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        (&self.creation_rules, self.stores) == (&other.creation_rules, other.stores)
    }
}

/// A key that sops does not know and ignores, so a misspelt key has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKey {
    /// The number of its rule, from 1; `None` outside of the rules.
    pub rule: Option<usize>,
    /// Its line, from 1.
    pub line: usize,
    /// As written.
    pub key: String,
    /// The key that was probably meant.
    pub meant: Option<&'static str>,
}

impl UnknownKey {
    /// What is wrong with it.
    #[must_use]
    pub fn message(&self) -> String {
        let meant = self.meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
        format!("sops does not know the key `{}` and ignores it{meant}", self.key)
    }
}

/// One entry of `creation_rules`. As in sops, errors in it are reported only when it is used.
#[derive(Clone, Debug, PartialEq)]
struct CreationRule {
    /// `None` matches every path.
    pattern: Option<Result<Pattern, PatternError>>,
    rule: Result<Rule, Error>,
}

/// The settings in a creation rule for the files that it matches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// The `path_regex` as written; empty if the rule matches every path.
    pub path_regex: String,
    /// The key groups: at least one, but a group may be empty.
    pub groups: Vec<Group>,
    /// The selector, if the rule has one.
    pub selector: Option<Selector>,
    /// Whether the MAC is to cover encrypted values only.
    pub mac_only_encrypted: bool,
    /// How many groups are needed to decrypt a file; 0 if not specified.
    pub shamir_threshold: i64,
}

/// A key group of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// age recipients, in order.
    pub age: Vec<String>,
    /// The other kinds of keys in it (`pgp`, `kms`, …).
    pub others: Vec<&'static str>,
}

/// What is wrong with a `.sops.yaml`.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The text is not YAML, or not in the form that sops reads. The message contains the line.
    #[error("could not read the rules: {0}")]
    Syntax(String),
    /// The text has an unresolved merge conflict.
    #[error(
        "line {line}: the file still has git's conflict markers; resolve the conflict in the rules first"
    )]
    Conflict {
        /// The line of the first marker.
        line: usize,
    },
    /// A rule that cannot be used.
    #[error("creation rule {number}: {reason}")]
    Rule {
        /// Counted from 1.
        number: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The text cannot be changed without affecting other parts of it.
    #[error("the rules cannot be edited: {0}")]
    Edit(String),
}

/// The text of a `.sops.yaml`, in UTF-8 or in UTF-16 with a byte order mark.
///
/// # Errors
/// Bytes that are not text.
pub fn decode(bytes: &[u8]) -> Result<String, Error> {
    yaml::text(bytes).map(|(text, _)| text).map_err(|error| Error::Syntax(error.to_string()))
}

impl Config {
    /// Parses a `.sops.yaml`. Unknown keys are ignored; errors in a single rule are reported only when
    /// the rule is used.
    ///
    /// # Errors
    /// Text that is not YAML, a duplicate key, a value of the wrong type.
    pub fn parse(text: &str) -> Result<Self, Error> {
        file::parse(text)
    }

    /// Whether there is a `creation_rules` section. Without one, sops treats the file as missing.
    #[must_use]
    pub fn has_creation_rules(&self) -> bool {
        self.creation_rules.is_some()
    }

    /// The first rule that matches a path (see [`match_path`]); `None` if none does.
    ///
    /// # Errors
    /// A `path_regex` before it that does not compile, or a matching rule that cannot be used.
    pub fn rule_for(&self, path: impl AsRef<[u8]>) -> Result<Option<&Rule>, Error> {
        match self.position(path.as_ref())? {
            None => Ok(None),
            Some(index) => self.rule(index).transpose(),
        }
    }

    /// All rules in order.
    ///
    /// # Errors
    /// One that cannot be used.
    pub fn rules(&self) -> Result<Vec<&Rule>, Error> {
        self.entries().iter().map(|entry| entry.rule.as_ref().map_err(Error::clone)).collect()
    }

    /// The recipients that every rule has, in the order of the first.
    ///
    /// # Errors
    /// A rule that cannot be used.
    pub fn common_recipients(&self) -> Result<Vec<String>, Error> {
        let rules = self.rules()?;
        let Some((first, others)) = rules.split_first() else { return Ok(Vec::new()) };
        let mut common: Vec<String> = Vec::new();
        for recipient in first.recipients() {
            let everywhere = others.iter().all(|rule| rule.recipients().any(|other| other == recipient));
            if everywhere && !common.iter().any(|known| known == recipient) {
                common.push(recipient.to_owned());
            }
        }
        Ok(common)
    }

    /// The index of the rule with this `path_regex`, or this number from 1.
    #[must_use]
    pub fn find(&self, word: &str) -> Option<usize> {
        let written = |entry: &CreationRule| match &entry.pattern {
            Some(Ok(pattern)) => pattern.as_str() == word,
            _ => false,
        };
        let number = || word.parse::<usize>().ok()?.checked_sub(1).filter(|at| *at < self.entries().len());
        self.entries().iter().position(written).or_else(number)
    }

    /// Everything that is wrong with single rules.
    #[must_use]
    pub fn faults(&self) -> Vec<Error> {
        let mut faults = Vec::new();
        for (index, entry) in self.entries().iter().enumerate() {
            if let Some(Err(error)) = &entry.pattern {
                faults.push(Error::Rule { number: index + 1, reason: format!("path_regex: {error}") });
            }
            faults.extend(entry.rule.as_ref().err().cloned());
        }
        faults
    }

    /// The age recipients of a group of a rule.
    fn group_mut(&mut self, rule: usize, group: usize) -> Option<&mut Vec<String>> {
        let rule = self.creation_rules.as_mut()?.get_mut(rule)?.rule.as_mut().ok()?;
        rule.groups.get_mut(group).map(|group| &mut group.age)
    }

    /// The position of the first rule that matches a path (see [`match_path`]).
    ///
    /// # Errors
    /// A `path_regex` before it that does not compile.
    pub fn position(&self, path: &[u8]) -> Result<Option<usize>, Error> {
        for (index, entry) in self.entries().iter().enumerate() {
            match &entry.pattern {
                Some(Err(error)) => {
                    return Err(Error::Rule { number: index + 1, reason: format!("path_regex: {error}") });
                }
                Some(Ok(pattern)) if !pattern.is_match(path) => {}
                _ => return Ok(Some(index)),
            }
        }
        Ok(None)
    }

    /// The unknown keys that affect a rule, given by its number from 1: its own and those next to the rules.
    pub fn unknown_keys_of(&self, number: usize) -> impl Iterator<Item = &UnknownKey> {
        self.unknown_keys.iter().filter(move |key| key.rule.is_none_or(|rule| rule == number))
    }

    /// The line of the rule at a position.
    #[must_use]
    pub fn line(&self, index: usize) -> Option<usize> {
        self.lines.get(index).copied()
    }

    /// The rule at an index; `None` past the last.
    pub fn rule(&self, index: usize) -> Option<Result<&Rule, Error>> {
        self.entries().get(index).map(|entry| entry.rule.as_ref().map_err(Error::clone))
    }

    fn entries(&self) -> &[CreationRule] {
        self.creation_rules.as_deref().unwrap_or_default()
    }
}

impl Rule {
    /// The age recipients of all groups, in order.
    pub fn recipients(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().flat_map(|group| &group.age).map(String::as_str)
    }

    /// The age recipients group by group: what a file's key groups are compared with.
    #[must_use]
    pub fn recipient_groups(&self) -> Vec<Vec<String>> {
        self.groups.iter().map(|group| group.age.clone()).collect()
    }

    /// How many of its groups are needed to decrypt a file: all of them, unless specified.
    #[must_use]
    pub fn groups_needed(&self) -> usize {
        match (self.groups.len(), usize::try_from(self.shamir_threshold)) {
            (groups @ (0 | 1), _) | (groups, Ok(0)) => groups.max(1),
            (_, threshold) => threshold.unwrap_or(usize::MAX),
        }
    }

    /// The kinds of keys in it other than age.
    #[must_use]
    pub fn other_kinds(&self) -> Vec<&'static str> {
        let mut kinds: Vec<_> = self.groups.iter().flat_map(|group| group.others.iter().copied()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }
}
