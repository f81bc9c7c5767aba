//! What civm adds below the error tree: which identities were tried, where they were found, their public keys; and what
//! to do next.

use std::fmt::Write;

use super::{KeyResult, Reason, RetrievalError};
use crate::keys::identity::{Belongs, Finding, Half, OpenError, Place, Report};
use crate::keys::recipient::same_key;

pub(super) fn render(error: &RetrievalError) -> String {
    let mut text = String::from("Identities that were tried:\n");
    for report in &error.identities {
        describe(report, &mut text);
    }
    text.truncate(text.trim_end().len());
    text
}

fn describe(report: &Report, text: &mut String) {
    let place = &report.place;
    let short = match &report.finding {
        Finding::NotSet => "not set",
        Finding::NoFile => "no such file",
        Finding::NotAskedYet => "not run",
        Finding::Found(halves) if halves.is_empty() && report.problems.is_empty() => "empty",
        Finding::Found(halves) => return describe_halves(report, halves, text),
    };
    // Writing to a string cannot fail.
    let _ = writeln!(text, "  {place}: {short}");
}

fn describe_halves(report: &Report, halves: &[Half], text: &mut String) {
    let place = &report.place;
    for half in halves {
        let _ = match half {
            Half::Age(age) => writeln!(text, "  {place}: {}", shortened(age)),
            Half::Ssh { line, age: Some(age), locked } => {
                writeln!(text, "  {place}: {line}{}\n    = {age}", passphrase(*locked))
            }
            Half::Ssh { line, age: None, locked } => {
                writeln!(text, "  {place}: {}{}", shortened(line), passphrase(*locked))
            }
            Half::Plugin(name) => writeln!(text, "  {place}: an identity of age-plugin-{name}"),
            Half::Hidden => writeln!(text, "  {place}: protected by a passphrase"),
        };
    }
    for problem in &report.problems {
        let _ = writeln!(text, "  {place}: {problem}");
    }
}

fn passphrase(locked: bool) -> &'static str {
    if locked { " (protected by a passphrase)" } else { "" }
}

/// The line of an RSA key and a post-quantum recipient are longer than a screen is wide; an X25519 recipient stays
/// whole.
fn shortened(line: &str) -> String {
    match line.char_indices().nth(64) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

pub(super) fn advice(error: &RetrievalError) -> Vec<String> {
    let mut lines = Vec::new();
    let keys = || error.groups.iter().flat_map(|group| &group.keys);
    for key in keys() {
        let line = match &key.reason {
            Reason::Age(OpenError::Locked { name, reason, .. }) => {
                format!(
                    "`{name}` is protected by a passphrase ({reason}): run this on a terminal and enter the passphrase"
                )
            }
            Reason::Age(OpenError::Plugin { name, reason: Some(reason) }) => {
                format!("age-plugin-{name} failed: {reason}")
            }
            Reason::Age(OpenError::Plugin { name, reason: None }) => {
                format!("one of your identities needs age-plugin-{name}, which is not in PATH: install it")
            }
            Reason::Age(OpenError::Damaged { reason, .. }) => {
                format!("the entry for {} in the file is damaged: {reason}", shortened(&key.name))
            }
            Reason::Age(OpenError::NoMatch) if key.belongs == Belongs::Yes => format!(
                "the entry for {} cannot be decrypted with its own key: the file was edited by hand or merged incorrectly",
                shortened(&key.name)
            ),
            Reason::Age(OpenError::NoMatch) => continue,
            Reason::OtherKind(kind) => {
                format!(
                    "{kind} keys are not supported; use sops itself: run `sops updatekeys` after adding your key"
                )
            }
        };
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    let own = own_recipients(&error.identities);
    let names: Vec<_> = keys().map(|key| same_key(&key.name)).collect();
    // The keys of an opened group are not listed, but one of them is the user's.
    let is_recipient = error.groups.iter().any(|group| group.opened)
        || own.iter().any(|(recipient, _)| names.contains(&same_key(recipient)));
    match own.first().filter(|_| !is_recipient) {
        _ if error.identities.iter().all(is_without_keys) && named_without_keys(error).is_some() => {
            let place = named_without_keys(error).map(ToString::to_string).unwrap_or_default();
            lines.push(format!("there is no identity in {place}: correct the variable, or what it leads to"));
        }
        _ if error.identities.iter().all(is_without_keys) => lines.push(
            "there is no identity: create one from your ssh key with `civm keys init`, which prints its recipient"
                .into(),
        ),
        Some((recipient, place)) => lines.push(format!(
            "none of your identities is a recipient of this file. Yours is {recipient} ({place}): add it to \
             .sops.yaml, then have somebody who can decrypt the file run `civm secrets updatekeys FILE`"
        )),
        None => {}
    }
    let foreign =
        |key: &KeyResult| key.belongs == Belongs::No && matches!(key.reason, Reason::Age(OpenError::NoMatch));
    if keys().all(|key| !foreign(key)) {
        return lines;
    }
    lines.push(
        "if the right key is elsewhere, set SOPS_AGE_KEY_FILE for an age identity, or \
         SOPS_AGE_SSH_PRIVATE_KEY_FILE for an ssh key"
            .into(),
    );
    lines
}

/// A place that a variable names, and that holds no identity: more likely a slip than a wish for another one.
fn named_without_keys(error: &RetrievalError) -> Option<&Place> {
    // `HOME` is a place as well, where it is not set.
    let is_named = |place: &Place| match place {
        Place::Variable(name) | Place::NamedFile(name, _) => name.starts_with("SOPS_"),
        Place::Command(_) | Place::File(_) => false,
    };
    let named = |report: &&Report| {
        report.finding != Finding::NotSet && is_named(&report.place) && is_without_keys(report)
    };
    error.identities.iter().find(named).map(|report| &report.place)
}

fn is_without_keys(report: &Report) -> bool {
    !matches!(&report.finding, Finding::Found(halves) if !halves.is_empty())
}

/// Recipients that the user could be given access with, the best first: the order of the places.
fn own_recipients(reports: &[Report]) -> Vec<(String, Place)> {
    let mut own = Vec::new();
    for report in reports {
        let Finding::Found(halves) = &report.finding else { continue };
        for half in halves {
            let recipient = match half {
                Half::Age(age) | Half::Ssh { age: Some(age), .. } => age.clone(),
                Half::Ssh { line, age: None, .. } => line.clone(),
                Half::Plugin(_) | Half::Hidden => continue,
            };
            own.push((recipient, report.place.clone()));
        }
    }
    own
}
