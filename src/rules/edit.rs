//! Changing a `.sops.yaml` by splicing text: all other bytes are kept.
//!
//! The text is processed line by line, as people and tools usually lay out such files. The result is parsed
//! again and compared with the intended change, so that a layout that is not understood is refused and never
//! damaged.

mod append;
mod layout;
mod members;
mod spell;
mod splice;
mod strike;
#[cfg(test)]
mod tests;

use super::file::first_document;
use super::names::names;
use super::{Config, Error, Rule};
use crate::store::yaml;
use layout::Layout;
use spell::Style;

pub use members::{NewKey, add_key, remove_key};

/// A host to add to the rules.
#[derive(Clone, Copy, Debug)]
pub struct NewHost<'a> {
    /// Its name, which becomes its anchor.
    pub name: &'a str,
    /// Its age recipient.
    pub recipient: &'a str,
    /// The path of its secrets file, relative to the `.sops.yaml`: what the new rule must match.
    pub path: &'a str,
    /// Who else can read that file.
    pub readers: &'a [String],
}

/// The `path_regex` for a file: its path, escaped and anchored at the end.
#[must_use]
pub fn path_regex(path: &str) -> String {
    let mut regex = String::with_capacity(path.len() + 4);
    for character in path.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            regex.push('\\');
        }
        regex.push(character);
    }
    regex.push('$');
    regex
}

/// Decodes a `.sops.yaml` for editing.
///
/// # Errors
/// Bytes that are not text, or UTF-16: an edit would be written in UTF-8.
pub fn decode(bytes: &[u8]) -> Result<String, Error> {
    match yaml::text(bytes) {
        Ok((text, false)) => Ok(text),
        Ok((_, true)) => Err(Error::Edit("the file is UTF-16; save it as UTF-8 first".to_owned())),
        Err(error) => Err(Error::Syntax(error.to_string())),
    }
}

/// Adds a host: its anchor under `keys`, and a creation rule for its secrets in front of the first rule
/// that matches them already.
///
/// # Errors
/// A name that cannot be an anchor or already is one; an existing rule with this `path_regex`; a
/// layout that cannot be edited without changing existing content.
pub fn add_host(text: &str, host: NewHost<'_>) -> Result<String, Error> {
    let (text, other_documents) = text.split_at(first_document(text));
    let before = Config::parse(text)?;
    let regex = path_regex(host.path);
    check(text, &before, &host, &regex)?;
    // Keys in brackets take the new one on their own lines, so that every other line keeps its place.
    let in_flow = members::in_flow(text, host.name, host.recipient)?;
    let text = in_flow.as_deref().unwrap_or(text);
    let layout = Layout::of(text)?;
    let known = names(text);
    if in_flow.is_none() {
        members::in_block(text)?;
    }
    let anchor = match in_flow {
        Some(_) => None,
        None => Some(layout.anchor_splice(text, host.name, host.recipient)?),
    };
    let position = before.position(host.path.as_bytes())?.unwrap_or_else(|| before.entries().len());

    // An alias must follow its anchor, so keys that are named below the rules are written out in full.
    let at = layout.rule_line(position);
    let reference = |recipient: &str| {
        let alias = if recipient == host.recipient {
            let line = anchor
                .as_ref()
                .map_or_else(|| layout.anchor_line(text, host.name), |anchor| Some(anchor.line()));
            line.is_some_and(|line| line <= at).then(|| host.name.to_owned())
        } else {
            known
                .get(recipient)
                .filter(|name| layout.anchor_line(text, name).is_some_and(|line| line < at))
                .cloned()
        };
        spell::Reference { recipient: recipient.to_owned(), alias }
    };
    let mut recipients: Vec<&str> = Vec::new();
    for recipient in host.readers.iter().map(String::as_str).chain([host.recipient]) {
        if !recipients.contains(&recipient) {
            recipients.push(recipient);
        }
    }
    let references: Vec<_> = recipients.iter().map(|recipient| reference(recipient)).collect();
    let style = Style::of(text, &layout);
    let rule = layout.rule_splice(text, position, |indent| style.rule(indent, &regex, &references))?;

    // From the end, so that the lines in front keep their places; at one place the anchor comes first.
    let mut splices: Vec<_> = [Some(rule), anchor].into_iter().flatten().collect();
    splices.sort_by_key(|splice| std::cmp::Reverse(splice.line()));
    let mut after = splices.iter().fold(text.to_owned(), |text, splice| splice.apply(&text));
    after.push_str(other_documents);
    verify(&before, &after, position, &host, &recipients)?;
    Ok(after)
}

/// The text of a `.sops.yaml` for a new project, in which one key can read every secrets file.
///
/// # Errors
/// A name that cannot be an anchor, or a recipient that is not a single line.
pub fn initial(name: &str, recipient: &str) -> Result<String, Error> {
    if !is_name(name) {
        return Err(bad_name(name));
    }
    let quoted = spell::scalar(recipient);
    let text = format!(
        "# Who can read which secrets. The keys are public halves; the name in front of each is used below.\n\
         keys:\n  - &{name} {quoted}\n\
         # The first rule whose path_regex matches a file names the keys that open it.\n\
         creation_rules:\n  - path_regex: secrets\\.yaml$\n    key_groups:\n      - age:\n          - *{name}\n"
    );
    let config = Config::parse(&text)?;
    let reads = config.common_recipients()? == [recipient];
    if reads { Ok(text) } else { Err(Error::Edit(format!("`{recipient}` cannot be written as a recipient"))) }
}

fn check(text: &str, before: &Config, host: &NewHost<'_>, regex: &str) -> Result<(), Error> {
    free(text, host.name)?;
    if before.rules()?.iter().any(|rule| rule.path_regex == regex) {
        return Err(Error::Edit(format!("there is already a rule for {}", host.path)));
    }
    Ok(())
}

/// Whether a name is valid for a new anchor.
fn free(text: &str, name: &str) -> Result<(), Error> {
    if !is_name(name) {
        return Err(bad_name(name));
    }
    let anchor = format!("&{name}");
    let taken = |word: &str| word.trim_matches([',', '[', ']', '{', '}']) == anchor;
    if let Some(index) = text.lines().position(|line| layout::code(line).split_whitespace().any(taken)) {
        return Err(Error::Edit(format!("line {}: the name {name} is already in use", index + 1)));
    }
    Ok(())
}

fn bad_name(name: &str) -> Error {
    Error::Edit(format!(
        "`{name}` cannot be the name of a key: only letters, digits, dots, hyphens and underscores are allowed"
    ))
}

fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter))
}

/// Checks that the new text has all the old rules and the new one at its position.
fn verify(
    before: &Config,
    text: &str,
    position: usize,
    host: &NewHost<'_>,
    recipients: &[&str],
) -> Result<(), Error> {
    let refused = |reason: &str| Error::Edit(format!("{reason}; add the host by hand"));
    let after = Config::parse(text).map_err(|_| refused("its layout is not understood"))?;
    let mut old: Vec<&Rule> = after.rules()?;
    if position >= old.len() {
        return Err(refused("the new rule would not be recognised"));
    }
    let new = old.remove(position);
    if old != before.rules()? || after.stores != before.stores {
        return Err(refused("another rule would change"));
    }
    if after.position(host.path.as_bytes())? != Some(position) {
        return Err(refused("an earlier rule would match instead of the new one"));
    }
    if !new.recipients().eq(recipients.iter().copied()) || new.groups.len() != 1 {
        return Err(refused("the new rule would have other recipients"));
    }
    Ok(())
}
