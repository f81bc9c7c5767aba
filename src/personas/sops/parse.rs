//! sops' command line, read as its library reads it. Pure: arguments and variables in, a value out.
//!
//! The flags of a command may stand behind its other arguments; those of the program itself, and so of the form
//! without a command, may not.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use super::help;
use super::tables::{Command, SOPS, Then, Verb};
use crate::edge::environment::Environment;
use crate::personas::go_flag::{self, Flag, Given, Stop};
use crate::personas::sops::flags::{HELP, VERSION};

/// The last argument of a shell that wants to know what could come next.
const COMPLETE: &str = "--generate-bash-completion";

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Line {
    /// Work.
    Call(Call),
    /// The version.
    Version,
    /// A text for stdout.
    Text(String),
    /// There is no help on this.
    NoTopic(String),
    /// It is wrong: words and help for stdout, and the error.
    Wrong {
        /// What stdout gets.
        shown: String,
        /// What the log gets.
        error: String,
    },
}

/// Work to be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    /// Which.
    pub(super) verb: Verb,
    /// The flags in front of the command; for the form without one the same as its own.
    pub(super) global: Given,
    /// The command's own flags and arguments.
    pub(super) given: Given,
}

/// Reads the arguments behind the program's name.
pub(super) fn parse(args: &[OsString], environment: &Environment) -> Line {
    if let Some((last, before)) = args.split_last()
        && last == COMPLETE
    {
        return Line::Text(completions(before));
    }
    let given = match flags(&SOPS, args, environment) {
        Ok(given) => given,
        Err(Fault::Variable(error)) => return Line::Wrong { shown: String::new(), error },
        Err(Fault::TwoNames(error)) => {
            return Line::Wrong { shown: format!("{error}\n{}", help::text("", &SOPS)), error };
        }
        Err(Fault::Usage(error)) => return wrong("Incorrect Usage.", error, "", &SOPS),
    };
    if given.is_on(&HELP) {
        return Line::Text(help::text("", &SOPS));
    }
    if given.is_on(&VERSION) {
        return Line::Version;
    }
    match given.positional.first().and_then(|name| find(&SOPS, name)) {
        Some(Named::Help) => topic(&SOPS, given.positional.get(1)),
        Some(Named::Command(command)) => {
            let args = given.positional.get(1..).unwrap_or_default().to_vec();
            of_command("sops", command, &args, given, environment)
        }
        None => Line::Call(Call { verb: Verb::Legacy, global: given.clone(), given }),
    }
}

/// What a name stands for.
enum Named {
    Command(&'static Command),
    Help,
}

fn find(within: &'static Command, name: &OsStr) -> Option<Named> {
    if name == "help" || name == "h" {
        return Some(Named::Help);
    }
    let Then::Choose(commands) = within.then else { return None };
    commands.iter().find(|command| name == command.name).map(Named::Command)
}

fn of_command(
    path: &str,
    command: &'static Command,
    args: &[OsString],
    global: Given,
    environment: &Environment,
) -> Line {
    let args = match command.then {
        Then::Run(_) => flags_first(command.flags, args),
        Then::Choose(_) => args.to_vec(),
    };
    let given = match flags(command, &args, environment) {
        Ok(given) => given,
        Err(Fault::Variable(error) | Fault::TwoNames(error) | Fault::Usage(error)) => {
            let words = match command.then {
                Then::Run(_) => "Incorrect Usage:",
                Then::Choose(_) => "Incorrect Usage.",
            };
            return wrong(words, error, path, command);
        }
    };
    if given.is_on(&HELP) {
        return Line::Text(help::text(path, command));
    }
    match command.then {
        Then::Run(verb) => Line::Call(Call { verb, global, given }),
        Then::Choose(_) => match given.positional.first().map(|name| (name, find(command, name))) {
            None => Line::Text(help::text(path, command)),
            Some((_, Some(Named::Help))) => topic(command, given.positional.get(1)),
            Some((_, Some(Named::Command(inner)))) => {
                let args = given.positional.get(1..).unwrap_or_default();
                of_command(&format!("{path} {}", command.name), inner, args, global, environment)
            }
            Some((name, None)) => Line::NoTopic(name.to_string_lossy().into_owned()),
        },
    }
}

fn topic(within: &'static Command, name: Option<&OsString>) -> Line {
    let path = if within.name == SOPS.name { "" } else { "sops" };
    match name {
        None => Line::Text(help::text(path, within)),
        Some(name) => match find(within, name) {
            Some(Named::Command(command)) => {
                Line::Text(help::text(format!("{path} {}", within.name).trim_start(), command))
            }
            _ => Line::NoTopic(name.to_string_lossy().into_owned()),
        },
    }
}

fn wrong(words: &str, error: String, path: &str, command: &Command) -> Line {
    Line::Wrong { shown: format!("{words} {error}\n\n{}", help::text(path, command)), error }
}

/// Why flags could not be read.
enum Fault {
    Usage(String),
    TwoNames(String),
    Variable(String),
}

fn flags(command: &'static Command, args: &[OsString], environment: &Environment) -> Result<Given, Fault> {
    let given = go_flag::parse(command.flags, args).map_err(|stop| match stop {
        Stop::Wrong(error) => Fault::Usage(error),
        // Every command has a help flag of its own.
        Stop::Help => Fault::Usage("flag: help requested".to_owned()),
    })?;
    if let Some((one, other)) = given.two_names(command.flags) {
        // The library names them the other way round.
        return Err(Fault::TwoNames(format!("Cannot use two forms of the same flag: {other} {one}")));
    }
    given.with_variables(command.flags, environment).map_err(Fault::Variable)
}

/// A command's flags in front of its other arguments.
///
/// As in sops, whatever follows a flag without `=` goes with it, also where the flag takes nothing: behind
/// `-i FILE` there are no more flags.
fn flags_first(flags: &[Flag], args: &[OsString]) -> Vec<OsString> {
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    let mut may_be_value = false;
    for (at, arg) in args.iter().enumerate() {
        if may_be_value && !is_flag(flags, arg) {
            may_be_value = false;
            first.push(arg.clone());
        } else if arg == "--" {
            rest.insert(0, arg.clone());
            rest.extend(args.iter().skip(at + 1).cloned());
            break;
        } else if is_flag(flags, arg) {
            may_be_value = !arg.as_bytes().contains(&b'=');
            first.push(arg.clone());
        } else {
            rest.push(arg.clone());
        }
    }
    first.append(&mut rest);
    first
}

fn is_flag(flags: &[Flag], arg: &OsStr) -> bool {
    let Some(name) = arg.as_bytes().strip_prefix(b"-") else { return false };
    let name = name.strip_prefix(b"-").unwrap_or(name);
    let name = name.split(|byte| *byte == b'=').next().unwrap_or_default();
    flags.iter().flat_map(|flag| flag.names).any(|known| known.as_bytes() == name)
}

/// What could stand behind these arguments, a line each.
fn completions(args: &[OsString]) -> String {
    let mut command = &SOPS;
    for arg in args {
        if let Some(Named::Command(found)) = find(command, arg) {
            command = found;
        }
    }
    let started = args.last().and_then(|last| last.to_str()).filter(|last| last.starts_with('-'));
    let names: Vec<String> = match (started, command.then) {
        (Some(started), _) => {
            let names = command.flags.iter().flat_map(|flag| flag.names);
            names.map(|name| help::dashed(name)).filter(|name| name.starts_with(started)).collect()
        }
        (None, Then::Choose(commands)) => commands.iter().map(|command| command.name.to_owned()).collect(),
        (None, Then::Run(_)) => Vec::new(),
    };
    names.iter().map(|name| format!("{name}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::flags::{
        AGE, CONFIG, DECRYPT_MODE, EXTRACT, IN_PLACE, INDENT, KEYSERVICE, LOCAL_KEYSERVICE, YES,
    };
    use super::*;

    fn read(args: &[&str]) -> Line {
        read_in(args, &Environment::empty())
    }

    fn read_in(args: &[&str], environment: &Environment) -> Line {
        parse(&args.iter().map(OsString::from).collect::<Vec<_>>(), environment)
    }

    #[track_caller]
    fn call(args: &[&str]) -> Call {
        match read(args) {
            Line::Call(call) => call,
            other => panic!("{args:?}: {other:?}"),
        }
    }

    #[test]
    fn the_first_word_is_a_command_or_a_file() {
        for (args, verb, positional) in [
            (&[][..], Verb::Legacy, &[][..]),
            (&["f.yaml"], Verb::Legacy, &["f.yaml"]),
            (&["-d", "f.yaml", "-i"], Verb::Legacy, &["f.yaml", "-i"]),
            (&["decrypt", "f.yaml", "-i"], Verb::Decrypt, &["f.yaml"]),
            (&["--", "decrypt", "f.yaml"], Verb::Decrypt, &["f.yaml"]),
            (&["decrypt", "--", "f.yaml", "-i"], Verb::Decrypt, &["f.yaml", "-i"]),
            (&["--config", "x", "set", "f", "[0]", "1"], Verb::Set, &["f", "[0]", "1"]),
            (&["groups", "add", "-f", "x"], Verb::GroupsAdd, &[]),
            (&["groups", "delete", "-f", "x", "1"], Verb::GroupsDelete, &["1"]),
            (&["completion", "zsh"], Verb::CompletionZsh, &[]),
            (&["Decrypt"], Verb::Legacy, &["Decrypt"]),
        ] {
            let call = call(args);
            assert_eq!(call.verb, verb, "{args:?}");
            assert_eq!(call.given.positional, positional, "{args:?}");
        }
    }

    #[test]
    fn flags_of_a_command_may_stand_behind_its_file_and_those_of_the_program_may_not() {
        let in_place = |args: &[&str]| call(args).given.is_on(&IN_PLACE);
        for args in [
            &["decrypt", "-i", "f"][..],
            &["decrypt", "f", "-i"],
            &["decrypt", "f", "--in-place"],
            &["decrypt", "f", "-in-place=true"],
            &["decrypt", "f", "--extract", "-i", "--extract=x", "-i"],
            &["-d", "-i", "f"],
        ] {
            assert!(in_place(args), "{args:?}");
        }
        for args in [&["-d", "f", "-i"][..], &["-i", "decrypt", "f"], &["decrypt", "-i=false", "f"]] {
            assert!(!in_place(args), "{args:?}");
        }
    }

    #[test]
    fn whatever_follows_a_flag_goes_with_it() {
        let given = call(&["decrypt", "-i", "f", "--extract", "x"]).given;
        assert!(given.text(&EXTRACT).is_empty());
        assert_eq!(given.positional, ["f", "--extract", "x"]);
        let given = call(&["decrypt", "f", "--extract", "--", "-i"]).given;
        assert_eq!((given.text(&EXTRACT), given.is_on(&IN_PLACE)), ("--".into(), true));
        assert_eq!(call(&["decrypt", "f", "--no-such-flag"]).given.positional, ["f", "--no-such-flag"]);
    }

    #[test]
    fn global_flags_are_the_program_s_alone() {
        let one = call(&["--config", "x", "--indent", "2", "decrypt", "f"]);
        assert_eq!((one.global.text(&CONFIG), one.global.int(&INDENT)), ("x".into(), 2));
        assert!(one.given.text(&CONFIG).is_empty());
        let legacy = call(&["-d", "--config=x", "f"]);
        assert!(legacy.given.is_on(&DECRYPT_MODE));
        assert_eq!(legacy.global, legacy.given);
    }

    #[test]
    fn variables_count_where_no_flag_does() {
        let environment = Environment::empty()
            .with("SOPS_AGE_RECIPIENTS", "of the environment")
            .with("SOPS_CONFIG", "c")
            .with("SOPS_KEYSERVICE", "tcp://x")
            .with("SOPS_ENABLE_LOCAL_KEYSERVICE", "0");
        let read = |args: &[&str]| match read_in(args, &environment) {
            Line::Call(call) => call,
            other => panic!("{other:?}"),
        };
        let one = read(&["encrypt", "f"]);
        assert_eq!(one.given.text(&AGE), "of the environment");
        assert_eq!(one.global.text(&CONFIG), "c");
        assert_eq!(one.given.texts(&KEYSERVICE), ["tcp://x"]);
        assert!(!one.given.is_not_off(&LOCAL_KEYSERVICE));
        let other = read(&["encrypt", "-a", "mine", "f", "--enable-local-keyservice"]);
        assert_eq!(other.given.text(&AGE), "mine");
        assert!(other.given.is_not_off(&LOCAL_KEYSERVICE));
        let wrong = read_in(&["decrypt", "f"], &environment.with("SOPS_DISABLE_VERSION_CHECK", "maybe"));
        assert!(matches!(wrong, Line::Wrong { error, .. } if error.contains("maybe as bool value")));
    }

    #[test]
    fn what_is_wrong_is_shown_with_help() {
        for (args, shown, error) in [
            (&["--no"][..], "Incorrect Usage. ", "flag provided but not defined: -no"),
            (&["decrypt", "--no", "f"], "Incorrect Usage: ", "flag provided but not defined: -no"),
            (&["groups", "--no"], "Incorrect Usage. ", "flag provided but not defined: -no"),
            (&["decrypt", "--output"], "Incorrect Usage: ", "flag needs an argument: -output"),
            (
                &["updatekeys", "-y", "--yes", "f"],
                "Incorrect Usage: ",
                "Cannot use two forms of the same flag: y yes",
            ),
            (&["-d", "-decrypt", "f"], "", "Cannot use two forms of the same flag: d decrypt"),
            (&["--indent", "x"], "Incorrect Usage. ", "invalid value \"x\" for flag -indent: parse error"),
        ] {
            let Line::Wrong { shown: text, error: told } = read(args) else { panic!("{args:?}") };
            assert_eq!(told, error);
            assert!(text.starts_with(&format!("{shown}{error}\n")) && text.contains("OPTIONS:"), "{text}");
        }
    }

    #[test]
    fn help_is_had_in_every_way() {
        let text = |args: &[&str]| match read(args) {
            Line::Text(text) => text,
            other => panic!("{args:?}: {other:?}"),
        };
        assert_eq!(text(&["--help"]), text(&["help"]));
        assert_eq!(text(&["-h", "decrypt"]), text(&["h"]));
        assert_eq!(text(&["decrypt", "f", "--help"]), text(&["help", "decrypt"]));
        assert_eq!(text(&["groups"]), text(&["groups", "-h"]));
        assert_eq!(text(&["groups", "add", "-h"]), text(&["groups", "help", "add"]));
        assert!(text(&["groups", "add", "-h"]).starts_with("NAME:\n   sops groups add - "));
        assert!(text(&["help"]).contains("[$SOPS_CONFIG]"));
        assert_eq!(read(&["--version"]), Line::Version);
        assert_eq!(read(&["-v", "decrypt"]), Line::Version);
        assert_eq!(read(&["help", "no"]), Line::NoTopic("no".to_owned()));
        assert_eq!(read(&["groups", "no"]), Line::NoTopic("no".to_owned()));
    }

    #[test]
    fn a_shell_is_told_what_could_come_next() {
        let text = |args: &[&str]| match read(args) {
            Line::Text(text) => text,
            other => panic!("{args:?}: {other:?}"),
        };
        assert!(text(&[COMPLETE]).lines().any(|line| line == "updatekeys"));
        assert_eq!(text(&["groups", COMPLETE]), "add\ndelete\n");
        assert_eq!(text(&["updatekeys", "--y", COMPLETE]), "--yes\n");
        assert_eq!(text(&["decrypt", "f", COMPLETE]), "");
    }

    #[test]
    fn every_flag_of_a_table_is_there_once() {
        fn look(command: &Command) {
            let mut names: Vec<_> = command.flags.iter().flat_map(|flag| flag.names).collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all, "{}", command.name);
            assert!(command.flags.iter().any(|flag| flag.name() == HELP.name()), "{}", command.name);
            if let Then::Choose(commands) = command.then {
                commands.iter().for_each(look);
            }
        }
        look(&SOPS);
        assert!(matches!(read(&["updatekeys", "-y", "f"]), Line::Call(call) if call.given.is_on(&YES)));
    }
}
