//! Sops files that git would merge as text, although the repository is set up for civm.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::{ATTRIBUTES, attributes};
use crate::edge::environment::Environment;
use crate::edge::git::Git;
use crate::edge::process::ProcessError;

/// The value of the attribute `merge` for files that civm merges.
const DRIVER: &str = "civm";

/// Those of the files that civm does not merge, according to the attributes in the work tree or, if `staged`, in the
/// index. Empty if the repository is not set up for civm, or if there is no repository.
///
/// # Errors
/// git fails.
pub(in crate::commands) fn uncovered<'a>(
    directory: &Path,
    environment: &Environment,
    paths: impl IntoIterator<Item = &'a Path>,
    staged: bool,
) -> Result<Vec<PathBuf>, ProcessError> {
    let git = if staged {
        Git::here(environment, directory)
    } else {
        Git::in_repository_of(directory, environment)
    };
    let Some(top) = git.top().ok().and_then(|top| top.canonicalize().ok()) else { return Ok(Vec::new()) };
    let begins =
        |text: Vec<u8>| text.split(|byte| *byte == b'\n').any(|line| line == attributes::BEGIN.as_bytes());
    if !std::fs::read(top.join(ATTRIBUTES)).is_ok_and(begins) {
        return Ok(Vec::new());
    }
    let inside: Vec<&Path> = paths.into_iter().filter(|path| path.starts_with(&top)).collect();
    if inside.is_empty() {
        return Ok(Vec::new());
    }
    let values = git.attribute("merge", &inside, staged)?;
    Ok(values.into_iter().filter(|(_, value)| value != OsStr::new(DRIVER)).map(|(path, _)| path).collect())
}
