//! `civm secrets encrypt`.

use std::io::{self, Read as _};
use std::path::Path;

use zeroize::Zeroizing;

use super::failure::failure;
use crate::cli::secrets::{Encrypt, Selector as Flags};
use crate::commands::Context;
use crate::edge::atomic;
use crate::outcome::{Code, Failure, Outcome};
use crate::secrets::Session;
use crate::secrets::file::NewFile;
use crate::secrets::recipients::Plan;
use crate::secrets::session::read;
use crate::sops::selector::Selector;

pub(super) fn run(args: &Encrypt, session: &Session, context: &Context) -> Outcome {
    let (text, path) = match &args.file {
        Some(file) => (Zeroizing::new(read(file).map_err(failure)?), file.as_path()),
        None => (from_stdin(args)?, Path::new("")),
    };
    let name = args.filename_override.as_deref().unwrap_or(path);
    let plan = plan(args, session, name)?;
    let new = NewFile::parse(session, name, &text).map_err(failure)?;
    let sealed = new.seal(&plan, session).map_err(failure)?;
    let target = if args.in_place { args.file.as_deref() } else { args.output.as_deref() };
    match target {
        Some(target) => atomic::replace(target, &sealed, 0o666).map_err(|error| failure(error.into()))?,
        None => context.screen.data(&sealed)?,
    }
    Ok(0)
}

fn from_stdin(args: &Encrypt) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if args.filename_override.is_none() {
        return Err(Failure::new(
            Code::ConflictingParameters,
            "no file given: to encrypt standard input, say its name with --filename-override",
        ));
    }
    if args.in_place {
        return Err(Failure::new(Code::ConflictingParameters, "standard input cannot be encrypted in place"));
    }
    let mut text = Zeroizing::new(Vec::new());
    io::stdin().lock().read_to_end(&mut text).map_err(|error| {
        Failure::new(Code::CouldNotReadInput, format!("cannot read standard input: {error}"))
    })?;
    Ok(text)
}

/// The rule's plan, with recipients and selector of the command line in place of the rule's.
///
/// A rule must match even where recipients are given, as for sops; only a project without any rules is
/// encrypted by the command line alone.
fn plan(args: &Encrypt, session: &Session, name: &Path) -> Result<Plan, Failure> {
    let rules = session.rules(name).map_err(failure)?.filter(|rules| rules.config.has_creation_rules());
    let mut plan = match rules {
        Some(rules) => Plan::of(&rules, session, name).map_err(failure)?,
        None if args.age.is_empty() => {
            return Err(failure(crate::secrets::Error::NoConfig(name.to_path_buf())));
        }
        None => Plan::default(),
    };
    let named: Vec<String> =
        args.age.iter().map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect();
    if !named.is_empty() {
        plan.groups = vec![named];
    }
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
