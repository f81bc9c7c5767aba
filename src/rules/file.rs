//! The form of a `.sops.yaml`, as strict and as lenient as sops reads it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_yaml::Value;

use super::{Config, CreationRule, Error, Group, Rule};
use crate::sops::pattern::Pattern;
use crate::sops::selector::Selector;
use crate::store::Indents;

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct File {
    creation_rules: Option<Vec<Option<RuleFields>>>,
    stores: Option<StoresFields>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct StoresFields {
    yaml: Option<Indent>,
    json: Option<Indent>,
    json_binary: Option<Indent>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Indent {
    indent: Option<i64>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct RuleFields {
    path_regex: Text,
    age: Option<Value>,
    pgp: Keys,
    kms: Keys,
    gcp_kms: Keys,
    hckms: Keys,
    azure_keyvault: Keys,
    hc_vault_transit_uri: Keys,
    key_groups: Option<Vec<Option<GroupFields>>>,
    shamir_threshold: Option<u32>,
    unencrypted_suffix: Text,
    encrypted_suffix: Text,
    unencrypted_regex: Text,
    encrypted_regex: Text,
    unencrypted_comment_regex: Text,
    encrypted_comment_regex: Text,
    mac_only_encrypted: Flag,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct GroupFields {
    merge: Option<Vec<Option<GroupFields>>>,
    age: Option<Vec<Text>>,
    pgp: Keys,
    kms: Keys,
    gcp_kms: Keys,
    hckms: Keys,
    azure_keyvault: Keys,
    hc_vault: Keys,
}

pub(super) fn parse(text: &str) -> Result<Config, Error> {
    let syntax = |error: serde_yaml::Error| Error::Syntax(error.to_string());
    let text = &text[..first_document(text)];
    // Read as a whole first: keys given twice are errors wherever they stand.
    let mut value: Value = serde_yaml::from_str(text).map_err(syntax)?;
    let file: Option<File> = if text.contains("<<") {
        // Merge keys are resolved on values only, which costs the names and lines of what is wrong: what can be
        // is found before.
        serde_yaml::from_str::<Option<File>>(text).map_err(syntax)?;
        value.apply_merge().map_err(syntax)?;
        serde_yaml::from_value(value).map_err(syntax)?
    } else {
        serde_yaml::from_str(text).map_err(syntax)?
    };
    let file = file.unwrap_or_default();
    let indent = |fields: Option<Indent>| fields.and_then(|fields| fields.indent);
    let stores = file.stores.unwrap_or_default();
    let default = Indents::default();
    Ok(Config {
        creation_rules: file.creation_rules.map(|rules| {
            let fields = rules.into_iter().map(Option::unwrap_or_default);
            fields.enumerate().map(|(index, fields)| creation_rule(index + 1, fields)).collect()
        }),
        stores: Indents {
            yaml: indent(stores.yaml).unwrap_or(default.yaml),
            json: indent(stores.json).unwrap_or(default.json),
            json_binary: indent(stores.json_binary).unwrap_or(default.json_binary),
        },
    })
}

/// Where the first document ends: sops looks at no other.
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

fn creation_rule(number: usize, fields: RuleFields) -> CreationRule {
    let pattern = (!fields.path_regex.0.is_empty()).then(|| Pattern::new(&fields.path_regex.0));
    CreationRule { pattern, rule: rule(fields).map_err(|reason| Error::Rule { number, reason }) }
}

fn rule(fields: RuleFields) -> Result<Rule, String> {
    let selector = Selector::only([
        ("unencrypted_suffix", fields.unencrypted_suffix.0.as_str()),
        ("encrypted_suffix", fields.encrypted_suffix.0.as_str()),
        ("unencrypted_regex", fields.unencrypted_regex.0.as_str()),
        ("encrypted_regex", fields.encrypted_regex.0.as_str()),
        ("unencrypted_comment_regex", fields.unencrypted_comment_regex.0.as_str()),
        ("encrypted_comment_regex", fields.encrypted_comment_regex.0.as_str()),
    ])
    .map_err(|error| error.to_string())?;
    let groups = match fields.key_groups {
        // Key groups, where there are any, make the rule's own keys count for nothing.
        Some(groups) if !groups.is_empty() => {
            let groups = groups.into_iter().map(Option::unwrap_or_default);
            groups.map(group).collect::<Result<_, _>>()?
        }
        _ => vec![Group {
            age: age(fields.age.as_ref())?,
            others: others([
                ("pgp", &fields.pgp),
                ("kms", &fields.kms),
                ("gcp_kms", &fields.gcp_kms),
                ("hckms", &fields.hckms),
                ("azure_keyvault", &fields.azure_keyvault),
                ("hc_vault", &fields.hc_vault_transit_uri),
            ]),
        }],
    };
    Ok(Rule {
        path_regex: fields.path_regex.0,
        groups,
        selector,
        mac_only_encrypted: fields.mac_only_encrypted.0,
        shamir_threshold: fields.shamir_threshold.unwrap_or(0),
    })
}

/// A group with the groups merged into it in front, each key once.
fn group(fields: GroupFields) -> Result<Group, String> {
    let mut all = Group::default();
    for merged in fields.merge.unwrap_or_default() {
        let merged = group(merged.unwrap_or_default())?;
        all.age.extend(merged.age);
        all.others.extend(merged.others);
    }
    for text in fields.age.unwrap_or_default() {
        all.age.extend(recipients(&text.0)?);
    }
    all.others.extend(others([
        ("pgp", &fields.pgp),
        ("kms", &fields.kms),
        ("gcp_kms", &fields.gcp_kms),
        ("hckms", &fields.hckms),
        ("azure_keyvault", &fields.azure_keyvault),
        ("hc_vault", &fields.hc_vault),
    ]));
    let mut seen = std::collections::HashSet::new();
    all.age.retain(|recipient| seen.insert(recipient.clone()));
    all.others.sort_unstable();
    all.others.dedup();
    Ok(all)
}

/// A rule's own `age`: a text with commas, or a list of such texts.
fn age(value: Option<&Value>) -> Result<Vec<String>, String> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => {
            Ok(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect())
        }
        Some(Value::Sequence(items)) => {
            let text = |item: &Value| item.as_str().map(str::to_owned);
            let texts: Option<Vec<String>> = items.iter().map(text).collect();
            recipients(&texts.ok_or("age: expected strings in the list")?.join(","))
        }
        Some(_) => Err("age: expected a string or a list of strings".to_owned()),
    }
}

/// The recipients of a text with commas, none of which may be empty.
fn recipients(text: &str) -> Result<Vec<String>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let parts: Vec<String> = text.split(',').map(|part| part.trim().to_owned()).collect();
    if parts.iter().any(String::is_empty) {
        return Err("age: a recipient is empty".to_owned());
    }
    Ok(parts)
}

fn others<const N: usize>(kinds: [(&'static str, &Keys); N]) -> Vec<&'static str> {
    kinds.into_iter().filter(|(_, keys)| keys.0).map(|(kind, _)| kind).collect()
}

/// A string; null is empty. Other scalars have lost their spelling (`1.10`), which is what counts: they are errors.
#[derive(Default)]
struct Text(String);

/// A truth value, in YAML 1.1's words too.
#[derive(Default)]
struct Flag(bool);

/// Whether any keys of another kind are given, in whatever form.
#[derive(Default)]
struct Keys(bool);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl Visitor<'_> for Scalar {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, so quote it")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }

            fn visit_unit<E>(self) -> Result<Text, E> {
                Ok(Text::default())
            }
        }
        deserializer.deserialize_any(Scalar)
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        match &value {
            Value::Null => return Ok(Self(false)),
            Value::Bool(flag) => return Ok(Self(*flag)),
            _ => {}
        }
        match value.as_str() {
            Some("true" | "True" | "TRUE" | "y" | "Y" | "yes" | "on") => Ok(Self(true)),
            Some("" | "false" | "False" | "FALSE" | "n" | "N" | "no" | "off") => Ok(Self(false)),
            _ => Err(D::Error::custom("expected true or false")),
        }
    }
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list")
            }

            fn visit_str<E>(self, text: &str) -> Result<Keys, E> {
                Ok(Keys(!text.is_empty()))
            }

            fn visit_unit<E>(self) -> Result<Keys, E> {
                Ok(Keys(false))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Keys, A::Error> {
                let mut any = false;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    any = true;
                }
                Ok(Keys(any))
            }

            fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Keys, A::Error> {
                Err(A::Error::custom("expected a string or a list"))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
