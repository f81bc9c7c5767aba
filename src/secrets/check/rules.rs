//! What is wrong with the rules themselves.

use std::path::Path;

use super::{Finding, Kind};
use crate::keys::recipient::{Recipient, shown};
use crate::rules::{Error, Rule};
use crate::secrets::session::Rules;
use crate::store::yaml::line_of;

/// Everything that is wrong with a file of rules that could be read.
pub(super) fn faults(rules: &Rules) -> Vec<Finding> {
    let of_rule = |number: usize, message: String| finding(&rules.path, &rules.text, number, message);
    let mut findings: Vec<Finding> = rules
        .config
        .faults()
        .into_iter()
        .map(|fault| match fault {
            Error::Rule { number, reason } => of_rule(number, reason),
            other => of_rule(0, other.to_string()),
        })
        .collect();
    let usable = (0..).map_while(|index| rules.config.rule(index)).enumerate();
    for (index, rule) in usable.filter_map(|(index, rule)| Some((index, rule.ok()?))) {
        findings.extend(of_keys(rule).into_iter().map(|message| of_rule(index + 1, message)));
    }
    findings
}

fn finding(path: &Path, text: &str, number: usize, message: String) -> Finding {
    let index = number.saturating_sub(1).to_string();
    let line = line_of(text.as_bytes(), &["creation_rules", &index]);
    let message = format!("creation rule {number}: {message}");
    Finding { line, ..Finding::new(path.to_path_buf(), Kind::Rule, message) }
}

fn of_keys(rule: &Rule) -> Vec<String> {
    let mut faults = Vec::new();
    let several = rule.groups.len() > 1;
    for (index, group) in rule.groups.iter().enumerate() {
        if group.age.is_empty() && group.others.is_empty() {
            let group = if several { format!("key group {} ", index + 1) } else { String::new() };
            faults.push(format!("{group}names no recipient"));
        }
        for recipient in &group.age {
            if let Err(error) = Recipient::parse(recipient) {
                faults.push(format!("recipient `{}`: {error}", shown(recipient)));
            }
        }
    }
    let needed = rule.groups_needed();
    if several && (needed > rule.groups.len() || needed < 2) {
        faults.push(format!(
            "shamir_threshold: {needed} of {} key groups cannot be; from 2 to {0} can",
            rule.groups.len()
        ));
    }
    faults
}
