//! `civm links DIR`.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::Context;
use crate::cli::links::Links;
use crate::outcome::{Code, Failure, Outcome};
use crate::personas::Persona;

/// Creates a link to this civm for every tool that it can act as. If one cannot be created, none is.
///
/// # Errors
/// Something else has the name of a link; the system refuses.
pub(super) fn run(args: &Links, context: &Context) -> Outcome {
    let dir = &args.dir;
    let failed = |error: io::Error| {
        let words = format!("cannot create links in `{}`: {error}", dir.display());
        Failure::new(Code::CouldNotWriteOutput, words)
    };
    let civm = std::env::current_exe().map_err(failed)?;
    fs::create_dir_all(dir).map_err(failed)?;
    let links = Persona::ALL.map(|persona| dir.join(persona.name()));
    if let Some(taken) = links.iter().find(|link| !may_replace(link, &civm, args.force)) {
        let failure = Failure::new(
            Code::CouldNotWriteOutput,
            format!("`{}` exists and is not a link to civm; no links were created", taken.display()),
        );
        let is_dir = taken.is_dir() && !taken.is_symlink();
        return Err(if is_dir { failure } else { failure.help("--force replaces it") });
    }
    for link in &links {
        replace(link, &civm).map_err(failed)?;
        context.screen.line(format!("{} -> {}", link.display(), civm.display()))?;
    }
    Ok(0)
}

/// Whether the path may be replaced: there is nothing, or a link to a file named civm; with --force also another file.
fn may_replace(link: &Path, civm: &Path, force: bool) -> bool {
    let Ok(there) = fs::symlink_metadata(link) else { return true };
    let is_link = fs::read_link(link).is_ok_and(|target| target.file_name() == civm.file_name());
    is_link || (force && !there.is_dir())
}

/// Atomically replaces whatever has the link's name.
fn replace(link: &Path, civm: &Path) -> io::Result<()> {
    let mut name = link.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let new = link.with_file_name(name);
    symlink(civm, &new)?;
    fs::rename(&new, link).inspect_err(|_| drop(fs::remove_file(&new)))
}
