//! Checks of a single sops file.

use std::path::Path;

use super::{Finding, Kind};
use crate::keys::identity::{Identities, OpenError};
use crate::keys::recipient::{same_key, shown};
use crate::rules::Rule;
use crate::secrets::error::Error;
use crate::secrets::file::SopsFile;
use crate::secrets::recipients::{added, removed};
use crate::secrets::session::Rules;
use crate::sops::data_key::DataKey;
use crate::sops::document::{self, Fault, MacCheck, Nonces, Stray, audit, selects_nothing};
use crate::sops::key_path::{KeyPath, Step};
use crate::sops::metadata;
use crate::sops::token::{Kind as TokenKind, Token};
use crate::store::yaml::line_of;
use crate::store::{self, Format, Indents};

/// The state of the check of one file.
struct FileCheck<'a> {
    path: &'a Path,
    text: &'a [u8],
    format: Format,
    findings: Vec<Finding>,
}

/// Everything that is wrong in the text of a sops file, and where it differs from its rule.
pub(super) fn look(
    path: &Path,
    text: &[u8],
    rule: Option<(&Rules, &Rule)>,
    identities: &Identities,
) -> Vec<Finding> {
    let format = Format::of_encrypted(path, text);
    let mut look = FileCheck { path, text, format, findings: Vec::new() };
    match SopsFile::of_store(format.store(Indents::default()), path, text) {
        Ok(file) => look.file(file, rule, identities),
        Err(Error::Store { error, .. }) => {
            let (line, message) = match error {
                store::Error::Syntax { line, message } => (Some(line), message),
                store::Error::Limit { line, limit, what } => {
                    (Some(line), format!("more than {limit} {what}"))
                }
                other => (None, other.to_string()),
            };
            look.tell(Kind::Unreadable, line, None, message);
        }
        Err(Error::Unmerged(_)) => {
            let line = text.split(|byte| *byte == b'\n').position(|line| line.starts_with(b"<<<<<<<"));
            let message = "has an unresolved merge conflict".to_owned();
            look.tell(Kind::Conflict, line.map(|index| index + 1), None, message);
        }
        Err(Error::Sops { error, .. }) => look.tell(Kind::Metadata, None, None, error.to_string()),
        Err(other) => look.tell(Kind::Unreadable, None, None, other.to_string()),
    }
    look.findings
}

impl FileCheck<'_> {
    fn tell(&mut self, kind: Kind, line: Option<usize>, key: Option<KeyPath>, message: String) {
        self.findings.push(Finding { line, key, ..Finding::new(self.path.to_path_buf(), kind, message) });
    }

    fn file(&mut self, file: SopsFile, rule: Option<(&Rules, &Rule)>, identities: &Identities) {
        self.mac(&file.metadata.mac);
        let unknown = file.metadata.unknown.clone();
        let key = self.keys(&file, identities);
        let mut strays = audit(&file.tree, file.metadata.selector.as_ref());
        if let Some((rules, rule)) = rule {
            self.recipients(&file, rules, rule);
            let wanted = rule.selector.clone().unwrap_or_default();
            // A single value is always encrypted, whatever the rule selects.
            if self.format != Format::Binary && self.selector(&file, rule) && !wanted.reads_comments() {
                let by_rule = audit(&file.tree, Some(&wanted)).into_iter();
                strays.extend(by_rule.filter(|stray| stray.fault == Fault::Clear));
                strays.dedup();
            }
        }
        self.nothing(&file, &strays);
        let mut known: Vec<&Stray> = Vec::new();
        for stray in &strays {
            if !known.contains(&stray) {
                self.stray(stray);
                known.push(stray);
            }
        }
        // With values in plaintext the MAC cannot match, and those have been reported.
        let whole = self.findings.iter().all(|finding| {
            use Kind::{Comment, NothingEncrypted, Recipients, Selector, Threshold};
            [Recipients, Threshold, Selector, Comment, NothingEncrypted].contains(&finding.kind)
        });
        if let Some(key) = key.filter(|_| whole) {
            self.content(file, &key);
        }
        // Somebody's value, at the end of the file and one level too deep.
        for field in unknown {
            let message =
                format!("`{field}` in sops' metadata is not encrypted, and the next change drops it");
            self.tell(Kind::Value, self.line(&place(&[&field])), Some(metadata_path(&field)), message);
        }
    }

    /// The token of the MAC, as far as it can be judged without the key.
    fn mac(&mut self, mac: &str) {
        let reason = match Token::parse(mac.as_bytes()) {
            _ if mac.is_empty() => "the file has no MAC".to_owned(),
            Ok(token) if token.kind == TokenKind::Str => return,
            Ok(token) => format!("its MAC has the type {}", token.kind.name()),
            Err(error) => format!("its MAC: {error}"),
        };
        self.tell(Kind::Mac, self.line(&place(&["mac"])), Some(metadata_path("mac")), reason);
    }

    /// Opens what can be opened without asking, and reports wrapped keys that are damaged.
    fn keys(&mut self, file: &SopsFile, identities: &Identities) -> Option<DataKey> {
        let mut parts = Vec::new();
        for group in &file.metadata.groups {
            let mut part = None;
            for key in &group.age {
                match identities.open_silently(&key.recipient, &key.enc) {
                    Ok(opened) => part = part.or(Some(opened)),
                    Err(OpenError::Damaged { reason, .. }) => {
                        let whom = shown(&key.recipient);
                        let message = format!("the data key for {whom} is damaged: {reason}");
                        self.tell(Kind::Metadata, self.line(&place(&[])), None, message);
                    }
                    Err(_) => {}
                }
            }
            parts.extend(part);
        }
        file.metadata.data_key(&parts).ok()
    }

    fn recipients(&mut self, file: &SopsFile, rules: &Rules, rule: &Rule) {
        let names = rules.names();
        let name = |recipient: &str| names.get(recipient).cloned().unwrap_or_else(|| shown(recipient));
        let changes = file.metadata.changes(&rule.recipient_groups());
        // Keys of other kinds are not compared, because civm does not read them from the rule.
        let others = file.metadata.groups.iter().flat_map(|group| &group.others).count() > 0;
        let mixed = others && !rule.other_kinds().is_empty();
        let is_age =
            |recipient: &&str| !mixed || file.metadata.age_keys().any(|key| key.recipient == **recipient);
        let plus: Vec<&str> = added(&changes).collect();
        let minus: Vec<&str> = removed(&changes).filter(is_age).collect();
        if !plus.is_empty() || !minus.is_empty() {
            let same = |one: &[&str], other: &[&str]| {
                one.iter().all(|one| other.iter().any(|other| same_key(one) == same_key(other)))
            };
            let message = if same(&plus, &minus) && same(&minus, &plus) {
                let whom: Vec<String> = plus.iter().map(|one| name(one)).collect();
                format!("its rule lists {} in another form or group", whom.join(" "))
            } else {
                let plus = plus.iter().map(|one| format!("+{}", name(one)));
                let minus = minus.iter().map(|one| format!("-{}", name(one)));
                let words: Vec<String> = plus.chain(minus).collect();
                format!("its rule has other recipients: {}", words.join(" "))
            };
            self.tell(Kind::Recipients, self.line(&place(&[])), None, message);
        }
        let (groups, wanted) = (file.metadata.groups.len(), rule.groups.len());
        let (has, wants) = (file.metadata.groups_needed(), rule.groups_needed());
        if groups > 1 && wanted > 1 && has != wants {
            let message =
                format!("needs {has} of {groups} key groups, but its rule requires {wants} of {wanted}");
            let line = self.line(&place(&["shamir_threshold"]));
            self.tell(Kind::Threshold, line, Some(metadata_path("shamir_threshold")), message);
        }
    }

    /// Whether the file selects values differently from the rule.
    fn selector(&mut self, file: &SopsFile, rule: &Rule) -> bool {
        let (has, wants) =
            (file.metadata.selector.clone().unwrap_or_default(), rule.selector.clone().unwrap_or_default());
        if file.metadata.mac_only_encrypted != rule.mac_only_encrypted {
            let message = if rule.mac_only_encrypted {
                "its MAC covers all values, but according to its rule it should cover only encrypted ones"
            } else {
                "its MAC covers only encrypted values, but according to its rule it should cover all"
            };
            self.tell(Kind::Selector, self.line(&place(&[])), None, message.to_owned());
        }
        if has == wants {
            return false;
        }
        let shown = |name: &str, value: &str| format!("{name} `{value}`");
        let message = format!(
            "selects values by {}, but its rule says {}",
            shown(has.name(), has.value()),
            shown(wants.name(), wants.value())
        );
        self.tell(Kind::Selector, self.line(&place(&[has.name()])), None, message);
        true
    }

    /// Reports a selector that leaves every value of the file in plaintext.
    fn nothing(&mut self, file: &SopsFile, strays: &[Stray]) {
        let selector = file.metadata.selector.clone().unwrap_or_default();
        // A single value needs no selector; existing tokens are reported separately.
        let has_values =
            self.format != Format::Binary && strays.iter().all(|stray| stray.fault == Fault::ClearComment);
        if has_values && selects_nothing(&file.tree, &selector) {
            let (name, value) = (selector.name(), selector.value());
            let message = format!("no value is encrypted: {name} `{value}` matches none");
            self.tell(Kind::NothingEncrypted, self.line(&place(&[name])), None, message);
        }
    }

    fn stray(&mut self, stray: &Stray) {
        let (kind, message) = match stray.fault {
            Fault::Clear => (Kind::Value, "is not encrypted, but should be".to_owned()),
            Fault::ClearComment => (Kind::Comment, "a comment is not encrypted, but should be".to_owned()),
            Fault::Token(error) => (Kind::Token, error.to_string()),
            Fault::NeverDecrypted => (
                Kind::Token,
                "is encrypted, but the file's selector excludes it, so it is never decrypted".to_owned(),
            ),
            Fault::Key => {
                (Kind::Token, "has a key that is not a string, which cannot be encrypted".to_owned())
            }
        };
        let (line, message) = match stray.document {
            1 => (self.line(&stray.place), message),
            number => (None, format!("{message} (in document {number})")),
        };
        self.tell(kind, line, Some(stray.path.clone()), message);
    }

    /// Checks that need the key.
    fn content(&mut self, file: SopsFile, key: &DataKey) {
        use crate::sops::Error as Sops;
        match document::decrypt(file.tree, &file.metadata, key, MacCheck::Verify, Nonces::Forget) {
            Ok(_) => {}
            Err(Sops::Decrypt { path, reason }) => {
                let steps = path.steps().iter().map(Step::name);
                let line = self.line(&steps.collect::<Vec<_>>());
                self.tell(Kind::Token, line, Some(path), reason.to_string());
            }
            Err(error) => {
                self.tell(
                    Kind::Mac,
                    self.line(&place(&["mac"])),
                    Some(metadata_path("mac")),
                    error.to_string(),
                );
            }
        }
    }

    /// The line of a value of the first document.
    fn line(&self, place: &[String]) -> Option<usize> {
        match self.format {
            Format::Yaml | Format::Json => {
                let steps: Vec<&str> = place.iter().map(String::as_str).collect();
                line_of(self.text, &steps).filter(|_| !steps.is_empty())
            }
            Format::Dotenv => {
                let [key] = place else { return None };
                let starts = format!("{key}=");
                let line = self
                    .text
                    .split(|byte| *byte == b'\n')
                    .position(|line| line.starts_with(starts.as_bytes()));
                line.map(|index| index + 1)
            }
            Format::Ini | Format::Binary => None,
        }
    }
}

fn place(inside: &[&str]) -> Vec<String> {
    std::iter::once(&metadata::KEY).chain(inside).map(|step| (*step).to_owned()).collect()
}

fn metadata_path(field: &str) -> KeyPath {
    KeyPath::from(vec![Step::Key(metadata::KEY.into()), Step::Key(field.into())])
}
