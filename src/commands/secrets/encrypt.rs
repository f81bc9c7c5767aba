//! `civm secrets encrypt`.

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::failure::failure;
use crate::cli::secrets::{Encrypt, Selector as Flags};
use crate::commands::Context;
use crate::edge::atomic;
use crate::outcome::{Code, Failure, Outcome};
use crate::secrets::file::NewFile;
use crate::secrets::recipients::{Plan, RECIPIENTS, given};
use crate::secrets::rewrite::transform;
use crate::secrets::session::read;
use crate::secrets::{Error, Session};
use crate::sops::selector::Selector;
use crate::store::Format;

mod all;

pub(super) fn run(args: &Encrypt, session: &Session, context: &Context) -> Outcome {
    if args.all {
        return all::run(args, session, context);
    }
    let file = super::named(args.file.as_ref());
    let text = match file {
        Some(file) => Zeroizing::new(read(file).map_err(failure)?),
        None => from_stdin(args)?,
    };
    // Standard input has no name of its own: it becomes that of the output.
    let name = args.filename_override.as_deref().or(file).or(args.output.as_deref()).unwrap_or(Path::new(""));
    if args.input.input_type.is_none() && Format::recognise(&text).is_some() {
        return Err(failure(Error::AlreadyEncrypted(name.to_path_buf())));
    }
    let plan = plan(args, session, name, context)?;
    let input = session.format_of(name);
    // The encrypted file is found by its name again, so that chooses its format where it tells one.
    let endings = [args.output.as_deref(), Some(name)].into_iter().flatten().find_map(Format::of_ending);
    let output = args.output_type.or(endings).unwrap_or(input);
    let stores = session.stores(name, input, output).map_err(failure)?;
    let encrypted = |text: &[u8]| {
        let new =
            NewFile::of_stores(&*stores.input, Arc::clone(&stores.output), name, text).map_err(failure)?;
        let ignored = new.ignored(&plan).cloned();
        let sealed = new.seal(&plan, session).map_err(|error| super::not_written(error, input, output))?;
        Ok::<_, Failure>((sealed, ignored))
    };
    let told = |ignored: Option<Selector>| {
        if let Some(selector) = ignored {
            super::warn_ignored(context, &selector);
        }
    };
    if args.in_place {
        told(transform(file.unwrap_or(name), |text| {
            encrypted(text).map(|(sealed, ignored)| (Some(sealed), ignored))
        })?);
        return Ok(0);
    }
    let (sealed, ignored) = encrypted(&text)?;
    told(ignored);
    match &args.output {
        Some(target) => atomic::replace(target, &sealed, 0o666).map_err(|error| failure(error.into()))?,
        None => context.screen.data(&sealed)?,
    }
    Ok(0)
}

fn from_stdin(args: &Encrypt) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if args.filename_override.is_none() && args.output.is_none() {
        return Err(Failure::new(
            Code::ConflictingParameters,
            "standard input has no name to choose the rule by: give one with --output or --filename-override",
        ));
    }
    if args.in_place {
        return Err(Failure::new(Code::ConflictingParameters, "standard input cannot be encrypted in place"));
    }
    super::stdin()
}

/// The rule's plan, with recipients and selector of the command line in place of the rule's.
fn plan(args: &Encrypt, session: &Session, name: &Path, context: &Context) -> Result<Plan, Failure> {
    let mut named = given(&args.age).map_err(failure)?;
    if named.is_empty() {
        named = Plan::named_by_environment(session);
        if !named.is_empty() && Plan::of_rules(session, name).is_ok_and(|plan| plan.groups != [named.clone()])
        {
            context.screen.warn(format!("{RECIPIENTS} is set: it counts in place of the rule's recipients"));
        }
    }
    let mut plan = Plan::of_new(session, name, &named).map_err(failure)?;
    if let Some(selector) = selector(&args.selector)? {
        if plan.selector.is_some() {
            return Err(Failure::new(
                Code::ConflictingParameters,
                "the creation rule chooses the values to encrypt; it cannot be chosen on the command line as well",
            ));
        }
        plan.selector = Some(selector);
    }
    Ok(plan)
}

fn selector(flags: &Flags) -> Result<Option<Selector>, Failure> {
    let fields = [
        ("unencrypted_suffix", &flags.unencrypted_suffix),
        ("encrypted_suffix", &flags.encrypted_suffix),
        ("unencrypted_regex", &flags.unencrypted_regex),
        ("encrypted_regex", &flags.encrypted_regex),
        ("unencrypted_comment_regex", &flags.unencrypted_comment_regex),
        ("encrypted_comment_regex", &flags.encrypted_comment_regex),
    ];
    let given = fields.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
    Selector::only(given).map_err(|error| Failure::new(Code::ConflictingParameters, error.to_string()))
}
