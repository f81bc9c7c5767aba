//! `civm secrets encrypt`.

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::failure::failure;
use crate::cli::secrets::{Encrypt, Selector as Flags};
use crate::commands::Context;
use crate::edge::atomic;
use crate::outcome::{Code, Failure, Outcome};
use crate::secrets::file::{Doubt, NewFile};
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
    // Standard input has no name of its own and is treated as having that of the output.
    let name = args.filename_override.as_deref().or(file).or(args.output.as_deref()).unwrap_or(Path::new(""));
    let plan = plan(args, session, name, context)?;
    let input = session.format_of(name);
    // The extension of the encrypted file, if known, determines its format, because tools that read it go by the extension.
    let endings = [args.output.as_deref(), Some(name)].into_iter().flatten().find_map(Format::of_ending);
    let output = args.output_type.or(endings).unwrap_or(input);
    let stores = session.stores(name, input, output).map_err(failure)?;
    let encrypted = |text: &[u8]| {
        if args.input.input_type.is_none() && Format::recognise(text).is_some() {
            return Err(failure(Error::AlreadyEncrypted(name.to_path_buf())));
        }
        let new =
            NewFile::of_stores(&*stores.input, Arc::clone(&stores.output), name, text).map_err(failure)?;
        let doubts = new.doubts(&plan, &*stores.input, text);
        let sealed = new.seal(&plan, session).map_err(|error| super::not_written(error, input, output))?;
        Ok::<_, Failure>((sealed, doubts))
    };
    let told = |doubts: Vec<Doubt>| {
        plan.doubts().iter().chain(&doubts).for_each(|doubt| context.screen.warn(doubt.to_string()));
    };
    if args.in_place {
        told(transform(file.unwrap_or(name), |text| {
            encrypted(text).map(|(sealed, doubts)| (Some(sealed), doubts))
        })?);
        return Ok(0);
    }
    let (sealed, doubts) = encrypted(&text)?;
    told(doubts);
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
            "stdin has no name, and a name is needed to choose the rule: use --output or --filename-override",
        ));
    }
    if args.in_place {
        return Err(Failure::new(Code::ConflictingParameters, "stdin cannot be encrypted in place"));
    }
    super::stdin()
}

/// The rule's plan, with recipients and selector from the command line overriding the rule's.
fn plan(args: &Encrypt, session: &Session, name: &Path, context: &Context) -> Result<Plan, Failure> {
    let mut named = given(&args.age).map_err(failure)?;
    if named.is_empty() {
        named = Plan::named_by_environment(session);
        if !named.is_empty() && Plan::of_rules(session, name).is_ok_and(|plan| plan.groups != [named.clone()])
        {
            context.screen.warn(format!("{RECIPIENTS} is set and overrides the rule's recipients"));
        }
    }
    let mut plan = Plan::of_new(session, name, &named).map_err(failure)?;
    if let Some(selector) = selector(&args.selector)? {
        if plan.selector.is_some() {
            return Err(Failure::new(
                Code::ConflictingParameters,
                "the creation rule already selects the values to encrypt; remove the option from the command line",
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
