//! Parsing a `.sops.yaml`, exactly as strictly and leniently as sops.

use super::{Config, CreationRule, Error, Group, Rule, UnknownKey};
use crate::sops::pattern::Pattern;
use crate::sops::selector::{self, Selector};
use crate::store::yaml::settings::{Document, Entry, Node, alike};
use crate::store::{self, Indents};

/// Groups merged into groups.
const DEPTH: usize = 100;

const FILE: [&str; 3] = ["creation_rules", "destination_rules", "stores"];
const RULE: [&str; 18] = [
    "path_regex",
    "kms",
    "aws_profile",
    "age",
    "pgp",
    "gcp_kms",
    "hckms",
    "azure_keyvault",
    "hc_vault_transit_uri",
    "key_groups",
    "shamir_threshold",
    "unencrypted_suffix",
    "encrypted_suffix",
    "unencrypted_regex",
    "encrypted_regex",
    "unencrypted_comment_regex",
    "encrypted_comment_regex",
    "mac_only_encrypted",
];
const GROUP: [&str; 8] = ["merge", "kms", "gcp_kms", "hckms", "azure_keyvault", "hc_vault", "age", "pgp"];
const STORES: [&str; 5] = ["dotenv", "ini", "json_binary", "json", "yaml"];

type Result<T> = std::result::Result<T, store::Error>;

pub(super) fn parse(text: &str) -> std::result::Result<Config, Error> {
    read(text).map_err(|error| match conflict(text) {
        Some(line) => Error::Conflict { line },
        None => Error::Syntax(error.to_string()),
    })
}

/// The line of git's first conflict marker.
fn conflict(text: &str) -> Option<usize> {
    let marker = |line: &str| line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ");
    text.lines().position(marker).map(|index| index + 1)
}

fn read(text: &str) -> Result<Config> {
    let document = Document::parse(text.as_bytes())?;
    let mut config = Config {
        creation_rules: None,
        stores: Indents::default(),
        lines: Vec::new(),
        unknown_keys: Vec::new(),
    };
    let Some(root) = document.root()? else { return Ok(config) };
    let mut reader = Reader { rule: None, unknown: Vec::new() };
    for Entry { name, line, value } in root.entries()? {
        match name.as_str() {
            "creation_rules" => {
                let Some(items) = value.items()? else { continue };
                config.lines = items.iter().map(|item| item.line).collect();
                let rules = items.iter().enumerate().map(|(index, item)| reader.creation_rule(index, item));
                config.creation_rules = Some(rules.collect::<Result<_>>()?);
            }
            "destination_rules" => destinations(&value)?,
            "stores" => config.stores = reader.stores(&value)?,
            // People keep other things next to the rules, above all anchors.
            other => reader.unknown(other, line, &FILE, false),
        }
    }
    config.unknown_keys = reader.unknown;
    Ok(config)
}

struct Reader {
    /// The number of the rule being read, from 1.
    rule: Option<usize>,
    unknown: Vec<UnknownKey>,
}

/// The recipients of a rule that is not a list of groups.
#[derive(Default)]
struct Own<'a> {
    age: Option<Node<'a>>,
    others: Vec<(&'static str, Node<'a>)>,
}

impl Reader {
    fn unknown(&mut self, key: &str, line: usize, known: &[&'static str], always: bool) {
        let meant = alike(key, known.iter().copied());
        if always || meant.is_some() {
            self.unknown.push(UnknownKey { rule: self.rule, line, key: key.to_owned(), meant });
        }
    }

    fn creation_rule(&mut self, index: usize, item: &Node<'_>) -> Result<CreationRule> {
        let number = index + 1;
        self.rule = Some(number);
        let read = self.rule(item);
        self.rule = None;
        let (path_regex, rule) = read?;
        let pattern = (!path_regex.is_empty()).then(|| Pattern::new(&path_regex));
        let rule = rule.map(|rule| Rule { path_regex, ..rule });
        Ok(CreationRule { pattern, rule: rule.map_err(|reason| Error::Rule { number, reason }) })
    }

    /// The path of a rule, and the rule or the error to report when it is used.
    fn rule(&mut self, item: &Node<'_>) -> Result<(String, std::result::Result<Rule, String>)> {
        let mut rule = Rule::default();
        let mut path_regex = String::new();
        let mut selectors: Vec<(&str, String)> = Vec::new();
        let mut own = Own::default();
        let mut groups = Vec::new();
        for Entry { name, line, value } in item.entries()? {
            let of_field = |error| in_field(&name, error);
            match name.as_str() {
                "path_regex" => path_regex = value.text().map_err(of_field)?.unwrap_or_default(),
                "aws_profile" => drop(value.text().map_err(of_field)?),
                "age" => own.age = Some(value),
                "hckms" => {
                    texts(&value).map_err(of_field)?;
                    own.others.push(("hckms", value));
                }
                "pgp" | "kms" | "gcp_kms" | "azure_keyvault" | "hc_vault_transit_uri" => {
                    own.others
                        .push((RULE.iter().find(|known| **known == name).copied().unwrap_or(""), value));
                }
                "key_groups" => {
                    for group in value.items().map_err(of_field)?.unwrap_or_default() {
                        groups.push(self.group(&group, 0)?);
                    }
                }
                "shamir_threshold" => {
                    rule.shamir_threshold = value.number().map_err(of_field)?.unwrap_or_default();
                }
                "mac_only_encrypted" => {
                    rule.mac_only_encrypted = value.flag().map_err(of_field)?.unwrap_or_default();
                }
                name if selector::NAMES.contains(&name) => {
                    let known = selector::NAMES.iter().find(|known| **known == name).copied();
                    let text = value.text().map_err(of_field)?.unwrap_or_default();
                    selectors.extend(known.map(|known| (known, text)));
                }
                other => self.unknown(other, line, &RULE, true),
            }
        }
        let selector = Selector::only(selectors.iter().map(|(name, text)| (*name, text.as_str())));
        let complete = || {
            rule.selector = selector.map_err(|error| error.to_string())?;
            // If there are key groups, the rule's own keys are ignored.
            rule.groups = match groups.is_empty() {
                false => groups.into_iter().collect::<std::result::Result<_, _>>()?,
                true => vec![own.group()?],
            };
            Ok(rule)
        };
        Ok((path_regex, complete()))
    }

    /// A group with the groups merged into it in front, each key once.
    fn group(&mut self, node: &Node<'_>, depth: usize) -> Result<std::result::Result<Group, String>> {
        if depth > DEPTH {
            return Err(node.wrong(format!("more than {DEPTH} levels of merged key groups")));
        }
        let mut merged = Vec::new();
        let mut age = Vec::new();
        let mut others = Vec::new();
        for Entry { name, line, value } in node.entries()? {
            let of_field = |error| in_field(&name, error);
            let known = GROUP.iter().find(|known| **known == name).copied();
            match known {
                Some("merge") => {
                    for group in value.items().map_err(of_field)?.unwrap_or_default() {
                        merged.push(self.group(&group, depth + 1)?);
                    }
                }
                Some("age") => age = texts(&value).map_err(of_field)?,
                Some(kind @ ("pgp" | "hc_vault")) => {
                    let any = !texts(&value).map_err(of_field)?.is_empty();
                    others.extend(any.then_some(kind));
                }
                Some(kind) => {
                    let keys = value.items().map_err(of_field)?.unwrap_or_default();
                    for key in &keys {
                        key.entries().map_err(of_field)?;
                    }
                    others.extend((!keys.is_empty()).then_some(kind));
                }
                None => self.unknown(&name, line, &GROUP, true),
            }
        }
        let complete = || {
            let mut all = Group::default();
            for group in merged {
                let group: Group = group?;
                all.age.extend(group.age);
                all.others.extend(group.others);
            }
            for text in age {
                all.age.extend(recipients(&text)?);
            }
            all.others.extend(others);
            let mut seen = std::collections::HashSet::new();
            all.age.retain(|recipient| seen.insert(recipient.clone()));
            all.others.sort_unstable();
            all.others.dedup();
            Ok(all)
        };
        Ok(complete())
    }

    fn stores(&mut self, node: &Node<'_>) -> Result<Indents> {
        let mut indents = Indents::default();
        for Entry { name, line, value } in node.entries()? {
            let indent = match name.as_str() {
                "yaml" => &mut indents.yaml,
                "json" => &mut indents.json,
                "json_binary" => &mut indents.json_binary,
                "dotenv" | "ini" => {
                    value.entries()?;
                    continue;
                }
                other => {
                    self.unknown(other, line, &STORES, true);
                    continue;
                }
            };
            for Entry { name, line, value } in value.entries()? {
                match name.as_str() {
                    "indent" => {
                        *indent =
                            value.number().map_err(|error| in_field("indent", error))?.unwrap_or(*indent);
                    }
                    other => self.unknown(other, line, &["indent"], true),
                }
            }
        }
        Ok(indents)
    }
}

impl Own<'_> {
    fn group(self) -> std::result::Result<Group, String> {
        let mut group = Group {
            age: self.age.map(|age| of_age(&age)).transpose()?.unwrap_or_default(),
            others: Vec::new(),
        };
        for (name, node) in self.others {
            let texts = keys(name, &node)?;
            // If one of several strings is empty, its comma remains: for most kinds that counts as a key.
            let any = match name {
                "hc_vault_transit_uri" => {
                    texts.iter().flat_map(|text| text.split(',')).any(|text| !text.is_empty())
                }
                "hckms" => texts.iter().flat_map(|text| text.split(',')).any(|text| !text.trim().is_empty()),
                _ => !texts.join(",").is_empty(),
            };
            let kind = if name == "hc_vault_transit_uri" { "hc_vault" } else { name };
            group.others.extend(any.then_some(kind));
        }
        group.others.sort_unstable();
        Ok(group)
    }
}

/// The keys of one kind in a rule: a comma-separated string, or a list of such strings.
fn keys(name: &str, node: &Node<'_>) -> std::result::Result<Vec<String>, String> {
    let reason = |error: store::Error| error.to_string();
    if node.is_null() {
        return Ok(Vec::new());
    }
    if node.is_string() {
        let text = node.text().map_err(reason)?.unwrap_or_default();
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        return Ok(parts.map(str::to_owned).collect());
    }
    let Ok(Some(items)) = node.all_items() else {
        return Err(format!("{name}: expected a string or a list of strings, but got {}", node.kind()));
    };
    let text = |item: &Node<'_>| match item.is_string() || name == "hckms" {
        true => Ok(item.text().map_err(reason)?.unwrap_or_default()),
        false => Err(format!("{name}: expected a string in the list, but got {}", item.kind())),
    };
    items.iter().map(text).collect()
}

/// A rule's own `age`.
fn of_age(node: &Node<'_>) -> std::result::Result<Vec<String>, String> {
    recipients(&keys("age", node)?.join(","))
}

/// The recipients in a comma-separated string, none of which may be empty.
fn recipients(text: &str) -> std::result::Result<Vec<String>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let parts: Vec<String> = text.split(',').map(|part| part.trim().to_owned()).collect();
    if parts.iter().any(String::is_empty) {
        return Err("age: a recipient is empty".to_owned());
    }
    Ok(parts)
}

/// The strings of a list; null items are ignored.
fn texts(node: &Node<'_>) -> Result<Vec<String>> {
    node.items()?.unwrap_or_default().iter().map(|item| Ok(item.text()?.unwrap_or_default())).collect()
}

/// Checks what sops requires of the rules for its `publish`, which civm otherwise ignores.
fn destinations(node: &Node<'_>) -> Result<()> {
    for item in node.items()?.unwrap_or_default() {
        for Entry { name, value, .. } in item.entries()? {
            let of_field = |error| in_field(&name, error);
            match name.as_str() {
                "path_regex"
                | "s3_bucket"
                | "s3_prefix"
                | "gcs_bucket"
                | "gcs_prefix"
                | "vault_path"
                | "vault_address"
                | "vault_kv_mount_name" => drop(value.text().map_err(of_field)?),
                "vault_kv_version" => drop(value.number().map_err(of_field)?),
                "omit_extensions" => drop(value.flag().map_err(of_field)?),
                "recreation_rule" => {
                    Reader { rule: None, unknown: Vec::new() }.rule(&value)?.1.ok();
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn in_field(name: &str, error: store::Error) -> store::Error {
    match error {
        store::Error::Syntax { line, message } => {
            store::Error::Syntax { line, message: format!("{name}: {message}") }
        }
        other => other,
    }
}

/// Where the first document ends: sops ignores all others.
pub(super) fn first_document(text: &str) -> usize {
    let (mut at, mut begun) = (0, false);
    for line in text.split_inclusive('\n') {
        let code = line.trim_start_matches('\u{feff}').trim_end();
        let marker = |sign: &str| {
            code.strip_prefix(sign).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
        };
        if begun && (marker("---") || marker("...")) {
            return at;
        }
        begun |= !code.is_empty()
            && !code.trim_start().starts_with('#')
            && !code.starts_with('%')
            && !marker("...");
        at += line.len();
    }
    at
}
