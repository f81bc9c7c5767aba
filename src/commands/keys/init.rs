//! `civm keys init`.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use super::{default_key, private_key, read};
use crate::cli::keys::Init;
use crate::commands::Context;
use crate::edge::atomic;
use crate::edge::environment::Environment;
use crate::edge::lock::Lock;
use crate::edge::terminal::Prompt;
use crate::keys::identity::keys_file;
use crate::keys::native::AgeIdentity;
use crate::outcome::{Code, Failure, Outcome};

pub(super) fn run(args: &Init, prompt: &dyn Prompt, context: &Context) -> Outcome {
    let environment = &context.environment;
    let of_ssh = if args.post_quantum { None } else { Some(converted(args, prompt, environment)?) };
    let target = keys_file::path(environment).ok_or_else(|| {
        Failure::new(
            Code::Generic,
            "neither HOME nor XDG_CONFIG_HOME is set, so there is no directory for identities",
        )
    })?;
    make_directories(&target)?;
    let _lock = target.parent().map(Lock::exclusive).transpose().map_err(|error| {
        Failure::new(Code::CouldNotWriteOutput, format!("cannot lock `{}`: {error}", target.display()))
    })?;
    let existing = existing(&target)?;
    let (identity, origin, what) = match of_ssh {
        Some((identity, source)) => {
            let what = format!("the identity of `{source}`");
            (identity, source, what)
        }
        None => {
            let identity =
                keys_file::post_quantum(&existing).unwrap_or_else(AgeIdentity::generate_post_quantum);
            (identity, "civm keys init --post-quantum".to_owned(), "the post-quantum identity".to_owned())
        }
    };
    let added = keys_file::add(&existing, &identity, &origin).map_err(|error| {
        let failure = Failure::new(Code::CouldNotWriteOutput, format!("`{}`: {error}", target.display()));
        if args.post_quantum {
            return failure;
        }
        failure.help("print the identity with `civm keys from-ssh --private` and save it wherever you like")
    })?;
    match added {
        Some(text) => {
            atomic::replace(&target, text.as_bytes(), 0o600)
                .map_err(|error| Failure::new(Code::CouldNotWriteOutput, error.to_string()))?;
            context.screen.note(format!("{what} is in `{}`", target.display()));
        }
        None => context.screen.note(format!("{what} is already in `{}`", target.display())),
    }
    warn_if_open(&target, context);
    context.screen.note("add this line to `keys:` in .sops.yaml, and use the name as an alias in the rules:");
    context.screen.note(format!("  - &{} {}", anchor(environment), identity.recipient()));
    context.screen.line(identity.recipient())?;
    Ok(0)
}

/// The identity of the ssh key, and the path of that key.
fn converted(
    args: &Init,
    prompt: &dyn Prompt,
    environment: &Environment,
) -> Result<(AgeIdentity, String), Failure> {
    let source = match &args.input {
        Some(path) => path.clone(),
        None => default_key(environment, "")?,
    };
    let name = format!("`{}`", source.display());
    let (key, _) = private_key(&read(Some(&source))?, &name, None, environment, prompt)?;
    let identity = key.to_age().map_err(|error| Failure::new(Code::Generic, format!("{name}: {error}")))?;
    Ok((identity, source.to_string_lossy().into_owned()))
}

fn existing(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Zeroizing::new(Vec::new())),
        _ => read(Some(path)),
    }
}

/// Creates the missing directories, accessible only by their owner.
fn make_directories(file: &Path) -> Result<(), Failure> {
    let Some(directory) = file.parent() else { return Ok(()) };
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| {
        Failure::new(Code::CouldNotWriteOutput, format!("cannot create `{}`: {error}", directory.display()))
    })
}

/// An existing file keeps its mode; if others can read it, civm warns.
fn warn_if_open(path: &Path, context: &Context) {
    let mode = fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode() & 0o7777);
    if mode & 0o077 != 0 {
        context.screen.warn(format!(
            "`{}` has mode {mode:04o}: other users can read your identities; run `chmod 600` on it",
            path.display()
        ));
    }
}

/// A name for the recipient that is valid as a YAML anchor: the user's name.
pub(in crate::commands) fn anchor(environment: &Environment) -> String {
    let user = environment.non_empty("USER").or_else(|| environment.non_empty("LOGNAME"));
    let user = user.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = |character: &char| character.is_ascii_alphanumeric() || "-_".contains(*character);
    let name: String = user.chars().filter(plain).collect();
    if name.is_empty() { "admin".into() } else { name }
}
