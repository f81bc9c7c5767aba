//! `civm keys add`.

use std::path::Path;

use super::rules::{RulesFile, recipient};
use crate::cli::keys::Add;
use crate::commands::{Context, init, secrets};
use crate::keys::recipient::same_key;
use crate::outcome::{Code, Failure, Outcome};
use crate::rules::edit::{NewKey, add_key};
use crate::rules::match_path;
use crate::secrets::Session;

pub(super) fn run(args: &Add, context: &Context) -> Outcome {
    let session = secrets::session(context, None)?;
    let file = RulesFile::find(&session)?;
    let rules = rules(args, &file, &session)?;
    let recipient = recipient_to_add(args, &file, context)?;
    let group = args.group.map(|group| usize::from(group) - 1);
    let key = NewKey { name: &args.name, recipient: &recipient, rules: &rules, group };
    let after = add_key(&file.text, key).map_err(|error| file.wrong(&error))?;
    if after == file.text {
        context.screen.note(format!("`{}` already has this key; nothing to change", file.path.display()));
    } else {
        file.replace(&after)?;
        context.screen.note(format!("added {} to `{}`", args.name, file.path.display()));
    }
    let all = file.config.rules().map_err(|error| file.wrong(&error))?;
    for rule in rules.iter().filter_map(|&rule| all.get(rule)) {
        let of = if rule.path_regex.is_empty() { "all other files" } else { &rule.path_regex };
        context.screen.note(format!("  in the rule for {of}"));
    }
    if rules.is_empty() {
        let next = "no rule uses it yet: add it to one with --to RULE, or to every rule with --all";
        context.screen.note(next);
    } else {
        context.screen.note("next: `civm secrets update-all` adds it to the existing files");
    }
    context.screen.line(&recipient)?;
    Ok(0)
}

/// The recipient: the one given, the one that the name already has, or the caller's own.
fn recipient_to_add(args: &Add, file: &RulesFile, context: &Context) -> Result<String, Failure> {
    let known = file.recipient_of(&args.name);
    let given = args.recipient.as_deref().map(|given| recipient(given, context)).transpose()?;
    let recipient = match (given, known) {
        (Some(given), Some(known)) if same_key(&given) != same_key(&known) => {
            return Err(file.wrong(&format!("the name {} is already used for {known}", args.name)));
        }
        (None, Some(_)) if args.to.is_empty() && !args.all => {
            return Err(file
                .wrong(&format!("{} already exists", args.name))
                .help("--to RULE adds it to a rule, --all to every rule"));
        }
        (_, Some(known)) => return Ok(known),
        (Some(given), None) => given,
        (None, None) => init::own_recipient(context)?,
    };
    match file.name_of(&recipient) {
        Some(name) => Err(file
            .wrong(&format!("{recipient} is already listed, as {name}"))
            .help(format!("`civm keys add {name} --to RULE` adds it to a rule"))),
        None => Ok(recipient),
    }
}

/// The indices of the rules selected by --to or --all, without duplicates.
fn rules(args: &Add, file: &RulesFile, session: &Session) -> Result<Vec<usize>, Failure> {
    let all = file.config.rules().map_err(|error| file.wrong(&error))?;
    if args.all {
        return Ok((0..all.len()).collect());
    }
    let directory = file.path.parent().unwrap_or(Path::new("/"));
    let mut rules = Vec::new();
    for word in &args.to {
        let mut found = file.config.find(word);
        // A path counts only if the file exists, so that a typo does not select the catch-all rule.
        let path = session.absolute(Path::new(word));
        if found.is_none() && path.exists() {
            let place = match_path(&path, directory);
            found = file.config.position(&place).map_err(|error| file.wrong(&error))?;
        }
        let rule = found.ok_or_else(|| {
            let known = all.iter().enumerate().map(|(at, rule)| format!("{}: {}", at + 1, rule.path_regex));
            let failure = Failure::new(
                Code::Generic,
                format!(
                    "`{}` has no rule `{word}`, and there is no file with that name",
                    file.path.display()
                ),
            );
            known.fold(failure.help("give a rule by its path_regex or its number:"), Failure::help)
        })?;
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    Ok(rules)
}
