//! `civm secrets …`: one file per verb.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::Context;
use crate::cli::secrets::{Command, Secrets};
use crate::edge::private_dir::Refused;
use crate::edge::stream;
use crate::edge::terminal::Terminal;
use crate::keys::identity::Half;
use crate::outcome::{Code, Failure, Outcome};
use crate::secrets::file::{OpenFile, SopsFile};
use crate::secrets::session::read;
use crate::secrets::{Error, Session};
use crate::sops::document::{MacCheck, Warning};
use crate::sops::key_path::{KeyPath, Step};
use crate::store::{self, Format};

mod change;
mod check;
mod decrypt;
mod diff;
mod edit;
mod encrypt;
mod exec;
mod failure;
mod get;
mod merge;
mod progress;
mod replace;
mod rotate;
mod status;
mod textconv;
mod update_all;
mod updatekeys;
mod who;

pub(super) use failure::{failure, report};
pub(super) use merge::of_git;
pub(super) use update_all::{CHANGE_THEM_TOO, forget, to_forget};

/// The variable that names the rules file, as in sops.
const CONFIG: &str = "SOPS_CONFIG";

/// Runs one of the secrets commands.
pub(super) fn run(args: Secrets, context: &Context) -> Outcome {
    let mut session = session(context, args.config)?;
    if let Some(format) = args.command.format() {
        session = session.with_format(format);
    }
    if let Some(indent) = args.indent {
        session = session.with_indent(indent);
    }
    if needs_no_rules(&args.command) {
        if let Err(error @ Error::Rules { .. }) = session.own_rules()
            && !matches!(args.command, Command::Textconv(_) | Command::MergeDriver(_))
        {
            context.screen.warn(format!("{error} (the rules are not needed here)"));
        }
        session = session.tolerant();
    }
    match args.command {
        Command::Encrypt(args) => encrypt::run(&args, &session, context),
        Command::Decrypt(args) => decrypt::run(&args, &session, context),
        Command::Get(args) => get::run(&args, &session, context),
        Command::Edit(args) => edit::run(&args, &session, context),
        Command::Set(args) => change::set(&args, &session, context),
        Command::Unset(args) => change::unset(&args, &session, context),
        Command::Rotate(args) => rotate::run(&args, &session, context),
        Command::Groups(args) => rotate::groups(&args.command, &session, context),
        Command::Status(args) => status::run(&args, &session, context),
        Command::ExecEnv(args) => exec::with_variables(&args, &session, context),
        Command::ExecFile(args) => exec::with_file(&args, &session, context),
        Command::Updatekeys(args) => updatekeys::run(&args, &session, context),
        Command::UpdateAll(args) => update_all::run(&args, &session, context),
        Command::Check(args) => check::run(&args, &session, context),
        Command::Who(args) => who::run(&args, &session, context),
        Command::Replace(args) => replace::run(&args, &session, context),
        Command::Diff(args) => diff::run(&args, &session, context),
        Command::Merge(args) => merge::run(&args, &session, context),
        Command::MergeDriver(args) => Ok(merge::driver(&args, &session, context)),
        Command::Textconv(args) => textconv::run(&args, &session, context),
    }
}

/// Whether a command only reads existing files, or merges them. A conflict in the rules must not block either.
fn needs_no_rules(command: &Command) -> bool {
    use Command::{Decrypt, Diff, ExecEnv, ExecFile, Get, Merge, MergeDriver, Status, Textconv};
    let reads = matches!(command, Decrypt(_) | Get(_) | Diff(_) | ExecEnv(_) | ExecFile(_) | Status(_));
    reads || matches!(command, Textconv(_) | Merge(_) | MergeDriver(_))
}

/// A session in the current directory.
pub(super) fn session(context: &Context, config: Option<PathBuf>) -> Result<Session, Failure> {
    let directory = std::env::current_dir().map_err(|error| {
        Failure::new(Code::Generic, format!("cannot find the current directory: {error}"))
    })?;
    let mut session = session_at(context, directory);
    if let Some(project) = &context.project {
        session = session.of_project(project);
    }
    let config = config.or_else(|| context.environment.non_empty(CONFIG).map(PathBuf::from));
    Ok(match config {
        Some(config) => session.with_config(&config),
        None => session,
    })
}

/// A session in a directory, with the rules that are found from there.
pub(super) fn session_at(context: &Context, directory: PathBuf) -> Session {
    Session::new(context.environment.clone(), Arc::new(Terminal), directory).with_nested_rules()
}

/// sops' brackets, or keys and list indices with slashes between them. A part that is a number is an index where a
/// list is, and a key everywhere else; a key that holds a slash needs the brackets.
fn key_path(text: &str, code: Code) -> Result<KeyPath, Failure> {
    let wrong = |why: String| {
        Failure::new(code, format!("invalid key path `{text}`: {why}"))
            .help("a key path is key, key/inner/0, or '[\"key\"][\"inner\"][0]'")
    };
    if text.starts_with('[') {
        return KeyPath::parse(text).map_err(|error| wrong(error.to_string()));
    }
    if text.is_empty() || text.split('/').any(str::is_empty) {
        return Err(wrong("a part is empty".to_owned()));
    }
    let steps = text.split('/').map(|part| Step::Part(part.into()));
    Ok(KeyPath::from(steps.collect::<Vec<_>>()))
}

/// The plaintext of a whole file. If the format can hold only one document, sops drops all but the first; here that is
/// an error.
fn plaintext(open: &OpenFile, input: Format, output: Format) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let one = open.tree.documents.len() <= 1 || output == Format::Yaml;
    let plain = if one {
        open.plaintext()
    } else {
        let why = format!(
            "{} can hold only one document, but there are {}",
            output.name(),
            open.tree.documents.len()
        );
        Err(Error::Store { path: open.path.clone(), error: store::Error::Unwritable(why) })
    };
    plain.map_err(|error| not_written(error, input, output))
}

/// A failure to write a file in another format than its own.
fn not_written(error: Error, input: Format, output: Format) -> Failure {
    let other = matches!(&error, Error::Store { error: store::Error::Unwritable(_), .. }) && input != output;
    let (input, output) = (input.name(), output.name());
    let failure = failure(error);
    if other {
        failure.help(format!(
            "it cannot be written as {output}; use --output-type {input} to keep its own format"
        ))
    } else {
        failure
    }
}

/// The file that an argument names; `None` for standard input, which is `-` or no argument.
fn named(file: Option<&PathBuf>) -> Option<&Path> {
    file.map(PathBuf::as_path).filter(|file| *file != Path::new("-"))
}

/// All of standard input.
fn stdin() -> Result<Zeroizing<Vec<u8>>, Failure> {
    stream::read_stdin().map_err(|error| {
        Failure::new(Code::CouldNotReadInput, format!("cannot read standard input: {error}"))
    })
}

/// The caller's own recipients: age ones first, then those derived from ssh keys.
pub(super) fn own_recipients(context: &Context) -> Vec<String> {
    let session = session_at(context, PathBuf::new());
    let halves = session.identities().public_halves();
    let age = halves.iter().filter_map(|(half, _)| match half {
        Half::Age(recipient) => Some(recipient.clone()),
        _ => None,
    });
    let ssh = halves.iter().filter_map(|(half, _)| match half {
        Half::Ssh { line, age, .. } => Some(age.clone().unwrap_or_else(|| line.clone())),
        _ => None,
    });
    age.chain(ssh).collect()
}

/// The one failure, or a summary where several files were worked on.
fn several(mut failures: Vec<Failure>, files: usize, context: &Context) -> Result<(), Failure> {
    match failures.len() {
        0 => Ok(()),
        1 if files == 1 => Err(failures.remove(0)),
        failed => {
            for failure in &failures {
                context.screen.failure(failure);
            }
            Err(Failure::new(Code::Generic, format!("{failed} of {files} files failed")))
        }
    }
}

/// Warns that a plaintext is not kept in memory only, and why.
fn warn_on_disk(context: &Context, when: &str, refused: &[Refused]) {
    let places: Vec<String> =
        refused.iter().map(|one| format!("{}: {}", one.place.display(), one.reason)).collect();
    context.screen.warn(format!(
        "the plaintext is on disk {when}, because there is no private directory in memory ({})",
        places.join("; ")
    ));
}

/// Opens a file to be printed or passed on, perhaps in another format. Also returns the format that it has.
fn open(
    file: &Path,
    output: Option<Format>,
    session: &Session,
    context: &Context,
) -> Result<(OpenFile, Format), Failure> {
    let text = read(file).map_err(failure)?;
    let opened = SopsFile::parse(session, file, &text)
        .and_then(|file| file.open_to_read(session.identities(), MacCheck::Verify))
        .map_err(failure)?;
    warn(context, file, &opened.warnings);
    let opened = match output {
        Some(format) => opened.with_store(session.store(format, file).map_err(failure)?),
        None => opened,
    };
    Ok((opened, session.format_of_encrypted(file, &text)))
}

/// Warns about anything unusual in a file that can nevertheless be read.
pub(super) fn warn(context: &Context, path: &Path, warnings: &[Warning]) {
    for warning in warnings {
        match warning {
            Warning::UndecryptableComment { document, container } => context.screen.warn(format!(
                "`{}`: a comment under {container} in document {document} may not be encrypted; it is left unchanged",
                path.display()
            )),
        }
    }
}
