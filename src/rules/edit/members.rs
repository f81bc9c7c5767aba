//! Adding keys to the rules, and removing them.

#[cfg(test)]
mod tests;

use super::super::file::first_document;
use super::super::names::names;
use super::super::{Config, Error};
use super::append::{self, New};
use super::free;
use super::layout::Layout;
use super::spell::{in_brackets, scalar};
use super::splice::apply;
use super::strike::strike;
use crate::store::yaml::outline::{Body, Node, outline};

/// A key to add to the rules.
#[derive(Clone, Copy, Debug)]
pub struct NewKey<'a> {
    /// Its name: an existing anchor, or a new one.
    pub name: &'a str,
    /// Its recipient.
    pub recipient: &'a str,
    /// The rules whose files it is to read, by their position.
    pub rules: &'a [usize],
    /// Which key group of each, by its position. Needed where a rule has several.
    pub group: Option<usize>,
}

/// Adds a named key under `keys`, unless the name already exists, and adds it to rules.
///
/// # Errors
/// A name that cannot be an anchor or belongs to another key; a rule with several groups if none is given; a
/// layout that cannot be edited without changing existing content.
pub fn add_key(text: &str, key: NewKey<'_>) -> Result<String, Error> {
    let (text, other_documents) = text.split_at(first_document(text));
    let mut expected = Config::parse(text)?;
    let known = names(text);
    let mut after = if known.get(key.recipient).is_some_and(|name| name == key.name) {
        text.to_owned()
    } else {
        free(text, key.name)?;
        named(text, key.name, key.recipient)?
    };
    for &rule in key.rules {
        let group = group_of(&expected, rule, key.group)?;
        let age = expected.group_mut(rule, group);
        if age.as_ref().is_none_or(|age| age.iter().any(|recipient| recipient == key.recipient)) {
            continue;
        }
        age.into_iter().for_each(|age| age.push(key.recipient.to_owned()));
        // Rules that share one list have it already.
        let current = Config::parse(&after)?;
        let has = current
            .rules()?
            .get(rule)
            .and_then(|rule| rule.groups.get(group))
            .is_some_and(|group| group.age.iter().any(|recipient| recipient == key.recipient));
        if !has {
            after = in_rule(&after, rule, group, &key)?;
        }
    }
    let mut names_wanted = known;
    names_wanted.entry(key.recipient.to_owned()).or_insert_with(|| key.name.to_owned());
    let same = Config::parse(&after).is_ok_and(|after| after == expected) && names(&after) == names_wanted;
    if !same {
        return Err(Error::Edit(format!(
            "the layout is not understood, or rules share lists; add {} by hand",
            key.name
        )));
    }
    Ok(after + other_documents)
}

/// Removes a recipient: its name, and every occurrence in a rule, in whatever form. `is` identifies it.
///
/// # Errors
/// A rule or key group that would be left without a recipient; a recipient that is not there; a layout that
/// cannot be edited without changing existing content.
pub fn remove_key(text: &str, is: &dyn Fn(&str) -> bool) -> Result<String, Error> {
    let (text, other_documents) = text.split_at(first_document(text));
    let mut expected = Config::parse(text)?;
    let mut names_wanted = names(text);
    names_wanted.retain(|recipient, _| !is(recipient));
    for rule in 0..expected.rules()?.len() {
        for group in 0.. {
            let Some(age) = expected.group_mut(rule, group) else { break };
            let before = age.len();
            age.retain(|recipient| !is(recipient));
            let emptied = age.is_empty() && before > 0;
            if emptied && expected.rules()?[rule].groups[group].others.is_empty() {
                return Err(Error::Rule {
                    number: rule + 1,
                    reason: "it would have no recipient left; add another first, or remove the rule"
                        .to_owned(),
                });
            }
        }
    }
    let root = outline(text).map_err(|error| Error::Syntax(error.to_string()))?;
    let cuts = root.as_ref().map(|root| strike(text, root, is)).unwrap_or_default();
    if cuts.is_empty() {
        return Err(Error::Edit("the file does not contain this key".to_owned()));
    }
    let mut after = apply(text, cuts);
    if !text.ends_with('\n') {
        // A final newline that is missing stays missing.
        after.truncate(after.trim_end_matches(['\n', '\r']).len());
    }
    let same = Config::parse(&after).is_ok_and(|after| after == expected) && names(&after) == names_wanted;
    if !same {
        return Err(Error::Edit("the layout is not understood; remove the key by hand".to_owned()));
    }
    Ok(after + other_documents)
}

/// The text with a name added to `keys` in brackets or braces; `None` if `keys` is in block style.
pub(super) fn in_flow(text: &str, name: &str, recipient: &str) -> Result<Option<String>, Error> {
    let root = outline(text).map_err(|error| Error::Syntax(error.to_string()))?;
    let Some(keys) = root.as_ref().and_then(|root| root.get("keys")) else { return Ok(None) };
    let anchored = format!("&{name} {}", in_brackets(&scalar(recipient)));
    Ok(match &keys.body {
        Body::List { flow: true, items } => {
            let spans: Vec<_> = items.iter().map(|item| item.node.span.clone()).collect();
            Some(append::in_flow(text, keys.content, &spans, &anchored))
        }
        Body::Map { flow: true, entries } => {
            let spans: Vec<_> =
                entries.iter().map(|entry| entry.key.span.start..entry.value.span.end).collect();
            Some(append::in_flow(text, keys.content, &spans, &format!("{name}: {anchored}")))
        }
        _ => None,
    })
}

/// Refuses a text that is one pair of braces.
pub(super) fn in_block(text: &str) -> Result<(), Error> {
    let root = outline(text).map_err(|error| Error::Syntax(error.to_string()))?;
    match root.as_ref().map(|root| &root.body) {
        Some(Body::Map { flow: true, .. }) => Err(Error::Edit(
            "they are in braces, as in JSON, where keys have no names; write them as YAML in lines, or change them by \
             hand"
                .to_owned(),
        )),
        _ => Ok(()),
    }
}

fn named(text: &str, name: &str, recipient: &str) -> Result<String, Error> {
    match in_flow(text, name, recipient)? {
        Some(text) => Ok(text),
        None => in_block(text)
            .and_then(|()| Ok(Layout::of(text)?.anchor_splice(text, name, recipient)?.apply(text))),
    }
}

/// The group of a rule that a key goes into.
fn group_of(config: &Config, rule: usize, named: Option<usize>) -> Result<usize, Error> {
    let wrong = |reason: String| Error::Rule { number: rule + 1, reason };
    let rules = config.rules()?;
    let groups = rules.get(rule).ok_or_else(|| wrong("there is no such rule".to_owned()))?.groups.len();
    match named {
        Some(group) if group < groups => Ok(group),
        Some(group) => Err(wrong(format!("it has {groups} key groups, but no group {}", group + 1))),
        None if groups == 1 => Ok(0),
        None => Err(wrong(format!("it has {groups} key groups; choose one with --group"))),
    }
}

/// The text with the key in a group of a rule.
fn in_rule(text: &str, rule: usize, group: usize, key: &NewKey<'_>) -> Result<String, Error> {
    let wrong = |reason: &str| Error::Rule {
        number: rule + 1,
        reason: format!("{reason}; add {} by hand", key.name),
    };
    let root = outline(text).map_err(|error| Error::Syntax(error.to_string()))?;
    let place = root.as_ref().and_then(|root| Some((root, age_of(root, rule, group)?)));
    let (root, age) = place.ok_or_else(|| wrong("it has no list of age recipients"))?;
    let alias = root.anchored(key.name).map(|anchor| (key.name, anchor.span.start));
    let new = New { recipient: key.recipient, alias };
    append::recipient(text, root, age, &new)
        .ok_or_else(|| wrong("its age recipients are not in a form that civm can edit"))
}

/// The `age` of a group of a rule.
fn age_of<'a>(root: &'a Node, rule: usize, group: usize) -> Option<&'a Node> {
    let real = |node: &'a Node| match &node.body {
        Body::Alias(name) => root.anchored(name),
        _ => Some(node),
    };
    let rule = real(&real(root.get("creation_rules")?)?.items().get(rule)?.node)?;
    match rule.get("key_groups").and_then(real).map(Node::items) {
        Some(groups) if !groups.is_empty() => real(&groups.get(group)?.node)?.get("age"),
        _ => rule.get("age"),
    }
}
