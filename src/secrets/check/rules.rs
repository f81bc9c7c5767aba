//! Checks of the rules themselves.

use super::{Finding, Kind};
use crate::keys::recipient::{Recipient, shown};
use crate::rules::{Error, Rule};
use crate::secrets::session::Rules;

/// Everything that is wrong in a rules file that could be read.
pub(super) fn faults(rules: &Rules) -> Vec<Finding> {
    let of_rule = |number: usize, message: String| finding(rules, number, message);
    let mut findings: Vec<Finding> = rules
        .config
        .faults()
        .into_iter()
        .map(|fault| match fault {
            Error::Rule { number, reason } => of_rule(number, reason),
            other => of_rule(0, other.to_string()),
        })
        .collect();
    findings.extend(rules.config.unknown_keys.iter().map(|key| {
        let of_rule = key.rule.map(|number| format!("creation rule {number}: ")).unwrap_or_default();
        let message = format!("{of_rule}{}", key.message());
        // Valid for sops, but it does not do what was probably intended.
        Finding {
            line: Some(key.line),
            is_warning: true,
            ..Finding::new(rules.path.clone(), Kind::Rule, message)
        }
    }));
    let usable = (0..).map_while(|index| rules.config.rule(index)).enumerate();
    for (index, rule) in usable.filter_map(|(index, rule)| Some((index, rule.ok()?))) {
        findings.extend(of_keys(rule).into_iter().map(|message| of_rule(index + 1, message)));
    }
    findings
}

fn finding(rules: &Rules, number: usize, message: String) -> Finding {
    let line = number.checked_sub(1).and_then(|index| rules.config.line(index));
    let message = format!("creation rule {number}: {message}");
    Finding { line, ..Finding::new(rules.path.clone(), Kind::Rule, message) }
}

fn of_keys(rule: &Rule) -> Vec<String> {
    let mut faults = Vec::new();
    let several = rule.groups.len() > 1;
    for (index, group) in rule.groups.iter().enumerate() {
        if group.age.is_empty() && group.others.is_empty() {
            let group = if several { format!("key group {} ", index + 1) } else { String::new() };
            faults.push(format!("{group}has no recipient"));
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
            "shamir_threshold: {needed} is not valid for {} key groups; it must be from 2 to {0}",
            rule.groups.len()
        ));
    }
    faults
}
