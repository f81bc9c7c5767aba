//! sops without a command: `-d`, `-e`, `-r`, `--set`, else the editor.

use std::path::Path;

use super::context::Context;
use super::decrypt::decrypt;
use super::edit::edit;
use super::encrypt::{encrypt, named};
use super::end::Outcome;
use super::flags::{DECRYPT_MODE, ENCRYPT_MODE, ROTATE_MODE, SET_MODE};
use super::rotate::{keys_need_a_file, rotate};
use super::set;
use super::source::Source;
use crate::secrets::Error;
use crate::secrets::recipients::Plan;

pub(super) fn run(context: &Context) -> Outcome {
    let path = context.session.absolute(Path::new(context.file()?));
    context.warn_of_more();
    context.one_target()?;
    keys_need_a_file(context, &path, "use `--age` instead.")?;
    let on = |flag| context.given.is_on(flag);
    let (encrypts, decrypts, rotates) = (on(&ENCRYPT_MODE), on(&DECRYPT_MODE), on(&ROTATE_MODE));
    let text = context.text(&SET_MODE);
    let sets = !text.is_empty();
    if encrypts || decrypts || rotates {
        Context::must_exist(&path)?;
    }
    if [encrypts, decrypts, rotates, sets].into_iter().filter(|mode| *mode).count() > 1 {
        context.log.warn(
            "More than one command (--encrypt, --decrypt, --rotate, --set) has been specified. Only the changes \
             made by the last one will be visible. Note that this behavior is deprecated and will cause an error \
             eventually.",
        );
    }
    let only_decrypts = decrypts && !encrypts && !rotates && !sets;
    if !only_decrypts && context.finds_rules()? {
        // This form wants the rules to be in order even where it needs none of them.
        let rule = Plan::of_rules(&context.session, &named(context, &path));
        if let Err(error @ (Error::NoRules { .. } | Error::Rules { .. } | Error::NoRule { .. })) = rule {
            return Err(error.into());
        }
    }
    let source = || Source::File(path.clone());
    // The last one is the one that counts.
    match (sets, rotates, decrypts, encrypts) {
        (true, ..) => set::legacy(context, &path, &text),
        (_, true, ..) => rotate(context, &path),
        (_, _, true, _) => decrypt(context, &source()),
        (.., true) => encrypt(context, &source()),
        _ => edit(context, &path),
    }
}
