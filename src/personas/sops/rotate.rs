//! `sops rotate`, `sops -r`, and `sops groups`.

use std::path::{Path, PathBuf};

use super::context::{Context, is_missing, print};
use super::encrypt::named;
use super::end::{End, Outcome};
use super::flags::{
    ADD_AGE, AWS_PROFILE, ENCRYPTION_CONTEXT, FILE, GROUP_AGE, IN_PLACE, OTHER_CHANGES, OTHER_GROUP_KEYS,
    RM_AGE, THRESHOLD,
};
use crate::edge::atomic;
use crate::outcome::Code;
use crate::personas::go_text::quoted;
use crate::secrets::Error;
use crate::secrets::file::SopsFile;
use crate::secrets::recipients::list;
use crate::secrets::rotate::Rotation;
use crate::secrets::session::read;

pub(super) fn run(context: &Context) -> Outcome {
    let path = context.session.absolute(Path::new(context.file()?));
    context.warn_of_more();
    context.one_target()?;
    keys_need_a_file(context, &path, "use the `edit` subcommand instead.")?;
    rotate(context, &path)
}

/// Refuses keys that are to be added to a file that does not exist, or removed from it.
pub(super) fn keys_need_a_file(context: &Context, path: &Path, instead: &str) -> Result<(), End> {
    let given = |flag| !context.given.text(flag).is_empty();
    if is_missing(path) && [ADD_AGE, RM_AGE].iter().chain(&OTHER_CHANGES).any(given) {
        let path = quoted(&path.to_string_lossy());
        return Err(End::Said(
            Code::CannotChangeKeysOfMissingFile,
            format!("Error: cannot add or remove keys on non-existent file {path}, {instead}"),
        ));
    }
    Ok(())
}

/// Gives a file a new data key.
pub(super) fn rotate(context: &Context, path: &Path) -> Outcome {
    let name = named(context, path);
    let stores = context.stores_at(&name, path)?;
    context.check_order()?;
    context.refuse_others(&OTHER_CHANGES)?;
    context.refuse_others(&[AWS_PROFILE, ENCRYPTION_CONTEXT])?;
    let recipients = |flag| list(&[context.text(flag)]);
    let rotation = Rotation { add: recipients(&ADD_AGE), remove: recipients(&RM_AGE) };
    let open = context.open(path, &read(path)?, stores.input)?.with_store(stores.output);
    let sealed = open.rotate(&rotation, &context.session)?;
    context.deliver(Some(path), &sealed, false)
}

pub(super) fn add_group(context: &Context) -> Outcome {
    if !context.given.positional.is_empty() {
        return Err(End::generic("error: no positional arguments allowed"));
    }
    context.refuse_others(&OTHER_GROUP_KEYS)?;
    let recipients: Vec<String> =
        context.given.texts(&GROUP_AGE).iter().map(|text| text.to_string_lossy().into_owned()).collect();
    let (path, file) = group_file(context)?;
    let text =
        file.add_group(&list(&recipients), threshold(context)?, &context.session).map_err(fatal(context))?;
    deliver(context, &path, &text)
}

pub(super) fn delete_group(context: &Context) -> Outcome {
    let [index] = context.given.positional.as_slice() else {
        return Err(End::generic("error: exactly one positional argument (index) required"));
    };
    let index = index.to_string_lossy();
    let group = index.parse::<u32>().ok().and_then(|group| usize::try_from(group).ok()).ok_or_else(|| {
        let index = quoted(&index);
        End::Fatal(format!(
            "failed to parse [index] argument: strconv.ParseUint: parsing {index}: invalid syntax"
        ))
    })?;
    let (path, file) = group_file(context)?;
    let text = file.remove_group(group, threshold(context)?, &context.session).map_err(fatal(context))?;
    deliver(context, &path, &text)
}

fn group_file(context: &Context) -> Result<(PathBuf, SopsFile), End> {
    let given = context.path(&FILE).unwrap_or_default();
    let store = context.stores_at(&given, &given)?.input;
    let text = read(&given)?;
    let file = SopsFile::of_store(store, &given, &text)
        .map_err(|error| End::Fatal(End::loading(error).into_words()))?;
    Ok((given, file))
}

/// The threshold that is wanted; `None` where the file's own stays.
fn threshold(context: &Context) -> Result<Option<u32>, End> {
    match u32::try_from(context.given.int(&THRESHOLD)) {
        Ok(threshold) => Ok(Some(threshold).filter(|threshold| *threshold != 0)),
        Err(_) => Err(End::generic("Error: --shamir-secret-sharing-threshold is out of range")),
    }
}

/// Where sops has but a log line, the tree of what was tried is words of its own.
fn fatal(context: &Context) -> impl Fn(Error) -> End + '_ {
    |error| match error {
        Error::Locked { .. } => End::generic(context.colour(error).into_words()),
        other => End::Fatal(End::from(other).into_words()),
    }
}

fn deliver(context: &Context, path: &Path, text: &[u8]) -> Outcome {
    if !context.given.is_on(&IN_PLACE) {
        return print(text);
    }
    atomic::replace(path, text, 0o666).map_err(|error| End::Fatal(error.to_string()))?;
    Ok(0)
}
