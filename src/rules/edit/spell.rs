//! Writing a new rule in the style of the existing ones.

use super::layout::{Indent, Layout, code, item_indent};

/// A recipient and, if it has one, its name.
pub(super) struct Reference {
    pub(super) recipient: String,
    pub(super) alias: Option<String>,
}

impl Reference {
    fn spelled(&self) -> String {
        self.alias.as_ref().map_or_else(|| scalar(&self.recipient), |alias| format!("*{alias}"))
    }
}

/// How rules list their recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// `key_groups:` with `- age:`.
    Groups {
        /// From the rule's keys to the hyphen of a group.
        group: usize,
        /// From that hyphen to `age`.
        gap: usize,
        /// From `age` to the hyphens of the recipients; `None` for a list in brackets.
        list: Option<usize>,
    },
    /// `age:` with a list: the indentation of its hyphens, or in brackets.
    List(Option<usize>),
    /// `age:` with a comma-separated string.
    Text,
}

impl Style {
    /// The style of the first rule that shows one.
    pub(super) fn of(text: &str, layout: &Layout) -> Self {
        let lines: Vec<&str> = text.lines().map(code).collect();
        layout
            .items()
            .iter()
            .find_map(|item| of_rule(&lines[item.lines.clone()], item.indent.content))
            .unwrap_or(Self::Groups { group: 2, gap: 2, list: Some(2) })
    }

    /// The lines of a rule.
    pub(super) fn rule(self, indent: Indent, regex: &str, recipients: &[Reference]) -> String {
        let hyphen = " ".repeat(indent.hyphen);
        let gap = " ".repeat(indent.content - indent.hyphen - 1);
        let pad = " ".repeat(indent.content);
        let mut rule = format!("{hyphen}-{gap}path_regex: {}\n", scalar(regex));
        let flow = || {
            let spelled: Vec<_> = recipients.iter().map(|one| in_brackets(&one.spelled())).collect();
            format!("[{}]\n", spelled.join(", "))
        };
        let block = |column: usize| {
            let pad = " ".repeat(column);
            recipients.iter().map(|one| format!("{pad}- {}\n", one.spelled())).collect::<String>()
        };
        match self {
            Self::Groups { group, gap, list } => {
                let (outer, inner) = (" ".repeat(group), " ".repeat(gap - 1));
                rule += &format!("{pad}key_groups:\n{pad}{outer}-{inner}age:");
                match list {
                    None => rule += &format!(" {}", flow()),
                    Some(list) => rule += &format!("\n{}", block(indent.content + group + gap + list)),
                }
            }
            Self::List(None) => rule += &format!("{pad}age: {}", flow()),
            Self::List(Some(list)) => rule += &format!("{pad}age:\n{}", block(indent.content + list)),
            Self::Text => {
                let recipients: Vec<_> = recipients.iter().map(|one| one.recipient.as_str()).collect();
                let separator = format!(",\n{pad}  ");
                rule += &format!("{pad}age: >-\n{pad}  {}\n", recipients.join(&separator));
            }
        }
        rule
    }
}

fn of_rule(lines: &[&str], keys: usize) -> Option<Style> {
    let column = |line: &str| line.len() - line.trim_start_matches([' ', '-']).len();
    let content: Vec<&str> = lines.iter().copied().filter(|line| !line.is_empty()).collect();
    let key_at = |name: &str, least: usize| {
        content.iter().position(|line| column(line) >= least && line[column(line)..].starts_with(name))
    };
    let listed = |index: usize, from: usize| {
        let next = item_indent(content.get(index + 1)?)?;
        next.hyphen.checked_sub(from)
    };
    if let Some(groups) = key_at("key_groups:", keys) {
        let is_age = |line: &&str| line[column(line)..].starts_with("age:");
        let age = groups + 1 + content[groups + 1..].iter().position(is_age)?;
        let group = content[groups + 1..=age].iter().find_map(|line| item_indent(line))?;
        let at = column(content[age]);
        let rest = content[age][at + 4..].trim();
        let list = match rest {
            "" => Some(listed(age, at)?),
            _ if rest.starts_with('[') => None,
            _ => return None,
        };
        let (group, gap) = (group.hyphen.checked_sub(keys)?, group.content - group.hyphen);
        return Some(Style::Groups { group, gap, list });
    }
    let age = key_at("age:", keys)?;
    match content[age][column(content[age]) + 4..].trim() {
        "" => Some(Style::List(Some(listed(age, keys)?))),
        rest if rest.starts_with('[') => Some(Style::List(None)),
        _ => Some(Style::Text),
    }
}

/// A text as a YAML scalar: plain if that is safe, else in single quotes.
pub(super) fn scalar(text: &str) -> String {
    let first = text.chars().next();
    let plain = first.is_some_and(|first| first.is_ascii_alphabetic() || "/^.\\".contains(first))
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.ends_with([':', ' '])
        && !text.chars().any(char::is_control);
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "''")) }
}

/// A written scalar in a form that is valid between brackets.
pub(super) fn in_brackets(scalar: &str) -> String {
    let quoted = scalar.starts_with('\'');
    if !quoted && scalar.contains([',', '[', ']', '{', '}']) {
        format!("'{scalar}'")
    } else {
        scalar.to_owned()
    }
}
