//! The help of the program and of its commands.

use super::flags::OWN;
use super::tables::{Command, Then};
use crate::personas::go_flag::{Flag, Takes};

/// The help of a command; `path` is what stands in front of its name.
pub(super) fn text(path: &str, command: &Command) -> String {
    let name = format!("{path} {}", command.name);
    let name = name.trim_start();
    let mut text =
        format!("NAME:\n   {name} - {}\n\nUSAGE:\n   {name} [options] {}\n", command.about, command.args);
    if let Then::Choose(commands) = command.then {
        let rows: Vec<_> =
            commands.iter().map(|command| (command.name.to_owned(), command.about.to_owned())).collect();
        section(&mut text, "COMMANDS", &rows);
    }
    let (own, of_sops): (Vec<_>, Vec<_>) = command
        .flags
        .iter()
        .map(|flag| (is_own(flag), (names(flag), words(flag))))
        .partition(|(own, _)| *own);
    for (title, rows) in [("OPTIONS", of_sops), ("OPTIONS THAT ONLY CIVM HAS", own)] {
        let rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
        if !rows.is_empty() {
            section(&mut text, title, &rows);
        }
    }
    text
}

/// A flag's name as it is typed.
pub(super) fn dashed(name: &str) -> String {
    let dashes = if name.chars().count() == 1 { "-" } else { "--" };
    format!("{dashes}{name}")
}

fn section(text: &mut String, title: &str, rows: &[(String, String)]) {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    text.push_str(&format!("\n{title}:\n"));
    for (name, words) in rows {
        text.push_str(&format!("   {name:width$}  {words}\n"));
    }
}

fn is_own(flag: &Flag) -> bool {
    OWN.iter().any(|own| own.name() == flag.name())
}

fn names(flag: &Flag) -> String {
    let value = if flag.takes == Takes::Bool { "" } else { " value" };
    flag.names.iter().map(|name| format!("{}{value}", dashed(name))).collect::<Vec<_>>().join(", ")
}

fn words(flag: &Flag) -> String {
    let variable = flag.variable.map(|variable| format!(" [${variable}]")).unwrap_or_default();
    format!("{}{variable}", flag.help)
}
