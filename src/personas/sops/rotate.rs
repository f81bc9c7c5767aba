//! `sops rotate`, `sops -r`, and `sops groups`.

use std::path::Path;
use std::sync::Arc;

use super::context::{Context, is_missing, print};
use super::encrypt::named;
use super::end::{End, Outcome};
use super::flags::{
    ADD_AGE, AWS_PROFILE, ENCRYPTION_CONTEXT, FILE, GROUP_AGE, IN_PLACE, OTHER_CHANGES, OTHER_GROUP_KEYS,
    RM_AGE, THRESHOLD,
};
use super::source::Source;
use crate::outcome::Code;
use crate::personas::go_text::quoted;
use crate::secrets::Error;
use crate::secrets::file::SopsFile;
use crate::secrets::recipients::list;
use crate::secrets::rewrite::transform;
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
        return Err(End::Exit(
            Code::CannotChangeKeysOfMissingFile,
            format!("Error: cannot add or remove keys on non-existent file {path}, {instead}"),
        ));
    }
    Ok(())
}

/// Gives a file a new data key.
pub(super) fn rotate(context: &Context, path: &Path) -> Outcome {
    let name = named(context, path);
    context.stores(&name)?;
    context.check_order()?;
    context.refuse_others(&OTHER_CHANGES)?;
    context.refuse_others(&[AWS_PROFILE, ENCRYPTION_CONTEXT])?;
    let rotation = Rotation { add: context.recipients(&ADD_AGE), remove: context.recipients(&RM_AGE) };
    let source = Source::File(path.to_path_buf());
    context.deliver(
        &source,
        false,
        |text| context.open_at(&name, path, text),
        |open| Ok(open.rotate(&rotation, &context.session)?),
    )
}

pub(super) fn add_group(context: &Context) -> Outcome {
    if !context.given.positional.is_empty() {
        return Err(End::generic("error: no positional arguments allowed"));
    }
    context.refuse_others(&OTHER_GROUP_KEYS)?;
    let recipients: Vec<String> =
        context.given.texts(&GROUP_AGE).iter().map(|text| text.to_string_lossy().into_owned()).collect();
    let (recipients, threshold) = (list(&recipients), threshold(context)?);
    change_groups(context, |file| file.add_group(&recipients, threshold, &context.session))
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
    let threshold = threshold(context)?;
    change_groups(context, |file| file.remove_group(group, threshold, &context.session))
}

/// Writes what becomes of the file: into itself, or to stdout.
fn change_groups(context: &Context, work: impl Fn(SopsFile) -> Result<Vec<u8>, Error>) -> Outcome {
    let path = context.path(&FILE).unwrap_or_default();
    let store = context.stores_at(&path, &path)?.input;
    let changed = |text: &[u8]| work(SopsFile::of_store(Arc::clone(&store), &path, text)?);
    if !context.given.is_on(&IN_PLACE) {
        return print(&changed(&read(&path)?).map_err(fatal(context))?);
    }
    transform(&path, |text| Ok::<_, Error>((Some(changed(text)?), ()))).map_err(fatal(context))?;
    Ok(0)
}

/// The threshold that is wanted; `None` where the file's own stays.
fn threshold(context: &Context) -> Result<Option<i64>, End> {
    match context.given.int(&THRESHOLD) {
        0 => Ok(None),
        threshold if threshold < 0 => {
            Err(End::generic("Error: --shamir-secret-sharing-threshold is out of range"))
        }
        threshold => Ok(Some(threshold)),
    }
}

/// Where sops has but a log line, the tree of what was tried is words of its own.
fn fatal(context: &Context) -> impl Fn(Error) -> End + '_ {
    |error| match error {
        Error::Locked { .. } => End::generic(context.colour(error).into_message()),
        Error::Missing(_) | Error::Read { .. } | Error::Directory(_) => error.into(),
        Error::Write(error) => End::Fatal(error.to_string()),
        other => End::Fatal(End::loading(other).into_message()),
    }
}
