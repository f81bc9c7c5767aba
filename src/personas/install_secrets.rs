//! The command line of sops-install-secrets, as the modules of sops-nix call it.
//!
//! Without exactly one manifest this one fails, because nothing was checked or installed.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use super::go_flag::{self, Flag, Stop};
use super::go_text::reason;
use crate::edge::environment::Environment;
use crate::edge::stream::to_stderr;
use crate::install::{self, Check, LeftOut, Log, Manifest, Native, Options};

static FLAGS: [Flag; 2] = [CHECK_MODE, IGNORE_PASSWD];
const CHECK_MODE: Flag = Flag::text(
    &["check-mode"],
    "Validate configuration without installing it (possible values: \"manifest\",\"sopsfile\",\"off\")",
)
.or("off");
const IGNORE_PASSWD: Flag = Flag::bool(
    &["ignore-passwd"],
    "Don't look up anything in /etc/passwd. Causes everything to be owned by root:root or the user executing the tool in user mode",
);

/// Runs the tool under the name that it was called by. Returns its exit code.
#[must_use]
pub(super) fn run(program: &str, args: &[OsString], environment: &Environment) -> u8 {
    let usage = format!("Usage: {program} [OPTION] manifest.json\n{}", go_flag::defaults(&FLAGS));
    let usage = usage.trim_end_matches('\n');
    let given = match go_flag::parse(&FLAGS, args) {
        Ok(given) => given,
        Err(Stop::Help) => {
            to_stderr(usage);
            return 0;
        }
        Err(Stop::Wrong(words)) => {
            to_stderr(&format!("{words}\n{usage}"));
            return failed(program, &words);
        }
    };
    let check = match given.text(&CHECK_MODE).to_str() {
        Some("manifest") => Some(Check::Manifest),
        Some("sopsfile") => Some(Check::Files),
        Some("off") => None,
        _ => {
            let value = given.text(&CHECK_MODE);
            let words = format!("invalid value provided for -check-mode flag: '{}'", value.to_string_lossy());
            return failed(program, &words);
        }
    };
    let [manifest] = &given.positional[..] else {
        to_stderr(usage);
        let count = given.positional.len();
        return failed(program, &format!("exactly one manifest is needed, behind the flags, not {count}"));
    };
    match work(program, Path::new(manifest), check, given.is_on(&IGNORE_PASSWD), environment) {
        Ok(left_out) if left_out.is_empty() => 0,
        Ok(left_out) => {
            left_out.iter().for_each(|left_out| to_stderr(&format!("{program}: {}", said(left_out))));
            1
        }
        Err(words) => failed(program, &words),
    }
}

fn work(
    program: &str,
    path: &Path,
    check: Option<Check>,
    ignore_passwd: bool,
    environment: &Environment,
) -> Result<Vec<LeftOut>, String> {
    let shown = path.display();
    let text = fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::IsADirectory => format!("failed to parse manifest: read {shown}: {}", reason(&error)),
        _ => format!("failed to open manifest: open {shown}: {}", reason(&error)),
    })?;
    let manifest = Manifest::parse(&text).map_err(|error| error.to_string())?;
    let mut options = Options::of_machine(environment).map_err(|error| error.to_string())?;
    options.ignore_passwd |= ignore_passwd;
    let opener = Native { environment: Some(environment.clone()) };
    if let Some(check) = check {
        return match install::check(&manifest, &options, check, &opener) {
            Ok(()) => Ok(Vec::new()),
            Err(error) => Err(error.to_string()),
        };
    }
    // Its log lines begin with the name alone.
    let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
    let mut log = Log { program: &name, changes: &mut io::stdout(), messages: &mut io::stderr() };
    let report = install::run(&manifest, &options, &opener, &mut log);
    report.map(|report| report.left_out).map_err(|error| error.to_string())
}

fn said(left_out: &LeftOut) -> String {
    let LeftOut { kind, name, reason, kept } = left_out;
    let what = if *kept { "keeps its old value" } else { "is not installed" };
    format!("{kind} {name} {what}: {reason}")
}

fn failed(program: &str, words: &str) -> u8 {
    to_stderr(&format!("{program}: {words}"));
    1
}
