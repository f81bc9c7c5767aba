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
    let recipient = whom(args, &file, context)?;
    let group = args.group.map(|group| usize::from(group) - 1);
    let key = NewKey { name: &args.name, recipient: &recipient, rules: &rules, group };
    let after = add_key(&file.text, key).map_err(|error| file.wrong(&error))?;
    if after == file.text {
        context.screen.note(format!("`{}` says so already", file.path.display()));
    } else {
        file.replace(&after)?;
        context.screen.note(format!("`{}` knows {}", file.path.display(), args.name));
    }
    let all = file.config.rules().map_err(|error| file.wrong(&error))?;
    for rule in rules.iter().filter_map(|&rule| all.get(rule)) {
        let of = if rule.path_regex.is_empty() { "every other file" } else { &rule.path_regex };
        context.screen.note(format!("  it is to read {of}"));
    }
    if rules.is_empty() {
        let next =
            "no rule names it yet: --to RULE lets it read the files of a rule, --all those of every rule";
        context.screen.note(next);
    } else {
        context.screen.note("next: `civm secrets update-all` lets it read the files that are there");
    }
    context.screen.line(&recipient)?;
    Ok(0)
}

/// The recipient: as given, as the name has it already, else the caller's own.
fn whom(args: &Add, file: &RulesFile, context: &Context) -> Result<String, Failure> {
    let known = file.recipient_of(&args.name);
    let given = args.recipient.as_deref().map(|given| recipient(given, context)).transpose()?;
    let recipient = match (given, known) {
        (Some(given), Some(known)) if same_key(&given) != same_key(&known) => {
            return Err(file.wrong(&format!("{} is the name of {known}", args.name)));
        }
        (None, Some(_)) if args.to.is_empty() && !args.all => {
            return Err(file
                .wrong(&format!("{} is known there already", args.name))
                .help("--to RULE lets it read the files of a rule, --all those of every rule"));
        }
        (_, Some(known)) => return Ok(known),
        (Some(given), None) => given,
        (None, None) => init::own_recipient(context)?,
    };
    match file.name_of(&recipient) {
        Some(name) => Err(file
            .wrong(&format!("{recipient} is known there as {name}"))
            .help(format!("`civm keys add {name} --to RULE` lets it read the files of a rule"))),
        None => Ok(recipient),
    }
}

/// The rules that are meant, each once.
fn rules(args: &Add, file: &RulesFile, session: &Session) -> Result<Vec<usize>, Failure> {
    let all = file.config.rules().map_err(|error| file.wrong(&error))?;
    if args.all {
        return Ok((0..all.len()).collect());
    }
    let directory = file.path.parent().unwrap_or(Path::new("/"));
    let mut rules = Vec::new();
    for word in &args.to {
        let mut found = file.config.find(word);
        // A path counts only where something is, so that a slip does not end at the rule for all others.
        let path = session.absolute(Path::new(word));
        if found.is_none() && path.exists() {
            let place = match_path(&path, directory);
            found = file.config.position(&place).map_err(|error| file.wrong(&error))?;
        }
        let rule = found.ok_or_else(|| {
            let known = all.iter().enumerate().map(|(at, rule)| format!("{}: {}", at + 1, rule.path_regex));
            let failure = Failure::new(
                Code::Generic,
                format!("`{}` has no rule `{word}`, and none for a file of that name", file.path.display()),
            );
            known.fold(failure.help("a rule is named by its path_regex or its number:"), Failure::help)
        })?;
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    Ok(rules)
}
