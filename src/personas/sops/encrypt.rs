//! `sops encrypt` and `sops -e`.

use std::path::Path;
use std::sync::Arc;

use super::context::{Context, conflict};
use super::end::{End, Outcome};
use super::flags::{
    AGE, FILENAME_OVERRIDE, IN_PLACE, INPUT_TYPE, KEEP, MAC_ONLY_ENCRYPTED, OTHER_KEYS, OUTPUT, OUTPUT_TYPE,
    SELECTORS, THRESHOLD,
};
use super::source::Source;
use crate::outcome::Code;
use crate::secrets::Error;
use crate::secrets::file::{Doubt, NewFile};
use crate::secrets::formats::Stores;
use crate::secrets::recipients::{Plan, RECIPIENTS};
use crate::secrets::rewrite::transform;
use crate::secrets::session::read;
use crate::sops::selector::{self, Selector};
use crate::store::Format;

pub(super) fn run(context: &Context) -> Outcome {
    let source = match context.given.positional.first() {
        Some(file) => Source::File(context.session.absolute(Path::new(file))),
        None => from_stdin(context)?,
    };
    context.warn_of_more();
    context.one_target()?;
    if let Source::File(path) = &source {
        Context::must_exist(path)?;
    }
    context.in_front(&[KEEP])?;
    if context.given.is_on(&KEEP) { keep(context, &source) } else { encrypt(context, &source) }
}

/// Puts a new plaintext into an encrypted file. Its recipients, its data key and the ciphertexts of what is the same
/// stay.
fn keep(context: &Context, source: &Source) -> Outcome {
    let of_new_files = [IN_PLACE, AGE, THRESHOLD];
    let selectors = SELECTORS.map(|(flag, _)| flag);
    context.alone(&KEEP, &[&of_new_files[..], &OTHER_KEYS, &selectors].concat())?;
    let Some(target) = context.path(&OUTPUT) else {
        return Err(conflict("Error: --keep needs an encrypted file with --output"));
    };
    let target = context.session.absolute(&target);
    Context::must_exist(&target)?;
    // What is there has its format already. A plaintext of no known ending is like it.
    let on_disk = read(&target)?;
    let of_content = || Format::of_encrypted(&target, &on_disk);
    let output = context.named_format(&OUTPUT_TYPE).unwrap_or_else(of_content);
    let of_ending = || Format::of_ending(&named(context, source.path()));
    let input = context.named_format(&INPUT_TYPE).or_else(of_ending).unwrap_or(output);
    let stores = context.session.stores(&target, input, output)?;
    let text = source.read()?;
    let written = transform(&target, |on_disk| {
        let open = context.open(&target, on_disk, Arc::clone(&stores.output))?;
        let sealed = open.replaced(Some(&*stores.input), source.path(), &text, &context.session)?;
        let written = sealed.is_some();
        Ok::<_, End>((sealed, written))
    })?;
    if !written {
        context.log.info("File not written due to no change");
    }
    Ok(0)
}

fn from_stdin(context: &Context) -> Result<Source, End> {
    if context.given.is_on(&IN_PLACE) {
        return Err(conflict("Error: cannot use --in-place when reading from stdin"));
    }
    if context.given.text(&FILENAME_OVERRIDE).is_empty() && !context.given.is_on(&KEEP) {
        return Err(conflict("Error: must specify --filename-override when reading from stdin"));
    }
    Ok(Source::Stdin)
}

/// Encrypts a text that is there.
pub(super) fn encrypt(context: &Context, source: &Source) -> Outcome {
    let name = named(context, source.path());
    let stores = context.stores(&name)?;
    let plan = plan(context, &name, &stores)?;
    let read = |text: &[u8]| {
        NewFile::of_stores(&*stores.input, Arc::clone(&stores.output), &name, text).map_err(End::from)
    };
    context.deliver(source, false, read, |new| {
        let doubt = new.doubt_of_selector(&plan);
        let sealed = new.seal(&plan, &context.session)?;
        // That a selector does not count was said with the flags, and what YAML makes of values is known to who uses
        // sops; but nobody wants a file in plaintext.
        let of_rule = !SELECTORS.iter().any(|(flag, _)| !context.text(flag).is_empty());
        let in_clear = |doubt: &Doubt| match doubt {
            Doubt::UnknownKey { .. } => true,
            Doubt::NothingEncrypted(_) => of_rule && plan.selector.is_some(),
            _ => false,
        };
        for doubt in plan.doubts().into_iter().chain(doubt).filter(in_clear) {
            context.log.warn(&doubt.to_string());
        }
        Ok(sealed)
    })
}

/// The path by which rule and format are chosen.
pub(super) fn named(context: &Context, path: &Path) -> std::path::PathBuf {
    match context.path(&FILENAME_OVERRIDE) {
        Some(name) => context.session.absolute(&name),
        None => path.to_path_buf(),
    }
}

/// What a new file is to be: the rule's word, with the flags' in place of it.
pub(super) fn plan(context: &Context, name: &Path, stores: &Stores) -> Result<Plan, End> {
    context.refuse_others(&OTHER_KEYS)?;
    let recipients = context.recipients(&AGE);
    let mut plan = match Plan::of_new(&context.session, name, &recipients) {
        Err(Error::NoRule { .. } | Error::Rules { .. })
            if !recipients.is_empty() && !context.finds_rules()? =>
        {
            Plan::of_given(&recipients)
        }
        plan => plan?,
    };
    if !recipients.is_empty()
        && !context.given.on_line(&AGE)
        && Plan::of_rules(&context.session, name).is_ok_and(|rule| rule.groups != plan.groups)
    {
        context.log.warn(&format!("{RECIPIENTS} is set and overrides the rule's recipients"));
    }
    plan.mac_only_encrypted |= context.global.is_on(&MAC_ONLY_ENCRYPTED);
    plan.selector = selector(context, plan.selector.take(), stores)?;
    match context.given.int(&THRESHOLD) {
        0 => {}
        threshold => plan.shamir_threshold = threshold,
    }
    Ok(plan)
}

/// The selector of the flags and the rule; a flag counts in place of the rule's field of its name.
fn selector(context: &Context, of_rule: Option<Selector>, stores: &Stores) -> Result<Option<Selector>, End> {
    let mut fields: Vec<(&str, String)> = Vec::new();
    for (flag, field) in &SELECTORS {
        let value = match (context.text(flag), &of_rule) {
            (value, Some(rule)) if value.is_empty() && rule.name() == *field => rule.value().to_owned(),
            (value, _) => value,
        };
        if !value.is_empty() {
            fields.push((field, value));
        }
    }
    if stores.input.is_single_value() {
        for (field, _) in fields.iter().filter(|(field, _)| *field != "unencrypted_comment_regex") {
            context.log.warn(&of_one_value(field, stores.input_format));
        }
        return Ok(None);
    }
    if fields.len() > 1 {
        let names =
            selector::NAMES.split_last().map(|(last, rest)| format!("{}, or {last}", rest.join(", ")));
        let names = names.unwrap_or_default();
        return Err(conflict(&format!("Error: cannot use more than one of {names} in the same file")));
    }
    let fields = fields.iter().map(|(field, value)| (*field, value.as_str()));
    Selector::only(fields).map_err(|error| End::Exit(Code::Generic, format!("Error: {error}")))
}

/// What is said of a selector where the file is one value.
pub(super) fn of_one_value(field: &str, format: Format) -> String {
    let (store, words) = (format.name(), field.replace('_', " "));
    let why = match field {
        "encrypted_comment_regex" => format!("the {store} store never produces comments"),
        _ => format!("the {store} store produces one key that should always be encrypted"),
    };
    format!("Using an {words} does not make sense with the input store ({why}) and will be ignored.")
}
