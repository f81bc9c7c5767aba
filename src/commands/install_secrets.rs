//! `civm install-secrets`.

use std::fs;
use std::io;

use super::Context;
use super::screen::counted;
use crate::cli::install_secrets::{Check, InstallSecrets};
use crate::install::opener::Locked;
use crate::install::{self, Error, LeftOut, Log, Manifest, Native, Options, Report};
use crate::outcome::{Code, Failure, Outcome};

/// The name that messages of the installation begin with.
const PROGRAM: &str = "civm";

/// Installs the secrets of a manifest, or checks it.
///
/// # Errors
/// The manifest or a file that it names is wrong, no identity decrypts a file, or a file cannot be written.
pub(super) fn run(args: &InstallSecrets, context: &Context) -> Outcome {
    let path = &args.manifest;
    let unreadable = |error: String| {
        Failure::new(
            Code::CouldNotReadInput,
            format!("cannot read the manifest `{}`: {error}", path.display()),
        )
    };
    let text = fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    let manifest = Manifest::parse(&text).map_err(|error| unreadable(error.to_string()))?;
    let mut options = Options::of_machine(&context.environment).map_err(failure)?;
    if args.dry_run {
        options = options.dry();
    }
    options.ignore_passwd |= args.ignore_passwd;
    options.partial |= args.partial;
    let opener = Native { environment: Some(context.environment.clone()) };
    if let Some(check) = args.check {
        let check = match check {
            Check::Manifest => install::Check::Manifest,
            Check::Files => install::Check::Files,
        };
        install::check(&manifest, &options, check, &opener).map_err(failure)?;
        context.screen.note(format!("{}: nothing is wrong", path.display()));
        return Ok(0);
    }
    let mut log = Log { program: PROGRAM, changes: &mut io::stdout(), messages: &mut io::stderr() };
    let report = install::run(&manifest, &options, &opener, &mut log).map_err(failure)?;
    context.screen.note(summary(&report, &manifest, options.dry_run));
    for LeftOut { kind, name, reason, kept } in &report.left_out {
        let what = if *kept { "keeps its old value" } else { "is not installed" };
        context.screen.warn(format!("{kind} {name} {what}: {reason}"));
    }
    Ok(u8::from(!report.left_out.is_empty()))
}

fn summary(report: &Report, manifest: &Manifest, dry_run: bool) -> String {
    let mut all = counted(report.installed.len(), "secret");
    if !report.rendered.is_empty() {
        all = format!("{all} and {}", counted(report.rendered.len(), "template"));
    }
    let would = if dry_run { "would install" } else { "installed" };
    format!("{would} {all} in {}", manifest.symlink_path)
}

fn failure(error: Error) -> Failure {
    let code = match &error {
        Error::Decrypt { source, .. } if source.is::<Locked>() => Code::CouldNotRetrieveKey,
        Error::Parse(_)
        | Error::EmptyManifest
        | Error::NoObject
        | Error::Unreadable { .. }
        | Error::SecretFile { .. } => Code::CouldNotReadInput,
        Error::Io { action, .. } if action.starts_with("read") => Code::CouldNotReadInput,
        Error::Io { .. } | Error::Taken { .. } => Code::CouldNotWriteOutput,
        _ => Code::Generic,
    };
    Failure::new(code, error.to_string())
}
