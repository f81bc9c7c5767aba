//! `sops exec-env` and `sops exec-file`.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;

use nix::libc;

use super::context::{Context, conflict, print_error};
use super::decrypt::dumping;
use super::end::{End, Outcome};
use super::flags::{BACKGROUND, FILENAME, NO_FIFO, PRISTINE, SAME_PROCESS, USER};
use crate::edge::foreground;
use crate::secrets::Error;
use crate::secrets::exec::{
    Nested, Place, Program, Run, Shape, Variables, become_with_variables, with_file, with_variables,
};
use crate::secrets::session::read;

pub(super) fn env(context: &Context) -> Outcome {
    let (file, command) = arguments(context)?;
    // The path as it was given: it is named in the words.
    let path = Path::new(file);
    context.stores(path)?;
    context.check_order()?;
    warn_of_background(context, "exec-env");
    let same_process = context.given.is_on(&SAME_PROCESS);
    if same_process && context.given.is_on(&BACKGROUND) {
        return Err(conflict("Error: The --same-process flag cannot be used with --background"));
    }
    let open = context.open_at(path, path, &read(path)?)?;
    let variables = Variables::of(&open, Nested::Refuse)?;
    drop(open);
    let run = run(context, command);
    if same_process {
        return Err(become_with_variables(&run, &variables).into());
    }
    Ok(code(with_variables(&run, &variables)?))
}

pub(super) fn file(context: &Context) -> Outcome {
    let (file, command) = arguments(context)?;
    // The path as it was given: it is named in the words.
    let path = Path::new(file);
    context.stores(path)?;
    context.check_order()?;
    let text = read(path)?;
    let stores = context.stores_of_encrypted(path, &text)?;
    let open = context.open_to_read(path, &text, stores.input)?.with_store(stores.output);
    let plain = open.plaintext().map_err(|error| dumping(error, stores.output_format))?;
    drop(open);
    warn_of_background(context, "exec-file");
    let shape = if context.given.is_on(&NO_FIFO) { Shape::Regular } else { Shape::Fifo };
    let place = Place { shape, name: context.path(&FILENAME) };
    let on_disk = |refused: &[_]| context.on_disk("read", refused);
    let ended = with_file(&run(context, command), plain, &place, &on_disk).map_err(|error| match error {
        Error::NotLocal(_) => End::generic("The provided filename is not a local path."),
        other => other.into(),
    })?;
    Ok(code(ended))
}

fn arguments(context: &Context) -> Result<(&OsStr, &OsString), End> {
    match context.given.positional.as_slice() {
        [file, command] => Ok((file, command)),
        _ => Err(End::generic("error: missing file to decrypt")),
    }
}

fn warn_of_background(context: &Context, command: &str) {
    if context.given.is_on(&BACKGROUND) {
        context.log.warn(&format!(
            "{command}'s --background option is deprecated and will be removed in a future version of sops"
        ));
    }
}

fn run<'a>(context: &'a Context, command: &OsStr) -> Run<'a> {
    Run {
        program: Program::Line(command.to_owned()),
        environment: &context.session.environment,
        pristine: context.given.is_on(&PRISTINE),
        user: Some(context.text(&USER)).filter(|user| !user.is_empty()),
        background: context.given.is_on(&BACKGROUND),
    }
}

/// The exit code of the command, with sops' words where it is not 0.
fn code(ended: Option<ExitStatus>) -> u8 {
    let Some(status) = ended else { return 0 };
    if let Some(code) = status.code().filter(|code| *code != 0) {
        print_error(&format!("exit status {code}"));
    } else if let Some(signal) = status.signal() {
        let core = if status.core_dumped() { " (core dumped)" } else { "" };
        print_error(&format!("signal: {}{core}", in_words(signal)));
    }
    foreground::code(status)
}

/// A signal by the words that Go has for it.
fn in_words(signal: i32) -> String {
    let words = match signal {
        libc::SIGHUP => "hangup",
        libc::SIGINT => "interrupt",
        libc::SIGQUIT => "quit",
        libc::SIGABRT => "aborted",
        libc::SIGKILL => "killed",
        libc::SIGSEGV => "segmentation fault",
        libc::SIGPIPE => "broken pipe",
        libc::SIGTERM => "terminated",
        other => return format!("signal {other}"),
    };
    words.to_owned()
}
