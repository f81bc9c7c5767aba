//! Command lines as Go's `flag` package reads them: one dash or two, `-flag value` and `-flag=value`, truth
//! values without a word of their own, and an end of the flags at the first argument that is none.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use crate::sops::value::parse_bool;

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing, or a truth value behind `=`.
    Bool,
    /// A text, with the text that counts where the flag is not given.
    Text(&'static str),
}

/// A flag.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flag {
    /// Its name, without a dash.
    pub(super) name: &'static str,
    /// What it takes.
    pub(super) takes: Takes,
    /// What it is for.
    pub(super) help: &'static str,
}

/// The flags that were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    texts: Vec<(&'static str, OsString)>,
    bools: Vec<(&'static str, bool)>,
    /// What follows the flags.
    pub(super) positional: Vec<OsString>,
}

/// Why a command line was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The usage was asked for.
    Help,
    /// A wrong flag, in Go's words.
    Wrong(String),
}

impl Given {
    /// The text of a flag; of several the last counts.
    pub(super) fn text(&self, flag: &Flag) -> OsString {
        let given = self.texts.iter().rev().find(|(name, _)| *name == flag.name);
        match (given, flag.takes) {
            (Some((_, text)), _) => text.clone(),
            (None, Takes::Text(default)) => default.into(),
            (None, Takes::Bool) => OsString::new(),
        }
    }

    /// Whether a flag is on; of several the last counts.
    pub(super) fn is_on(&self, flag: &Flag) -> bool {
        self.bools.iter().rev().find(|(name, _)| *name == flag.name).is_some_and(|(_, on)| *on)
    }
}

/// Reads the arguments behind a program's name.
///
/// # Errors
/// The usage is wanted, or a flag is wrong.
pub(super) fn parse(flags: &'static [Flag], args: &[OsString]) -> Result<Given, Stop> {
    let mut given = Given::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let bytes = arg.as_bytes();
        let Some(name) = bytes.strip_prefix(b"-").filter(|name| !name.is_empty()) else {
            given.positional.push(arg.clone());
            break;
        };
        let name = name.strip_prefix(b"-").unwrap_or(name);
        if name.is_empty() {
            break;
        }
        if name.starts_with(b"-") || name.starts_with(b"=") {
            return Err(Stop::Wrong(format!("bad flag syntax: {}", arg.to_string_lossy())));
        }
        let (name, value) = match name.iter().position(|byte| *byte == b'=') {
            Some(at) => (&name[..at], Some(OsStr::from_bytes(&name[at + 1..]).to_owned())),
            None => (name, None),
        };
        let shown = String::from_utf8_lossy(name);
        let Some(flag) = flags.iter().find(|flag| flag.name.as_bytes() == name) else {
            if matches!(name, b"help" | b"h") {
                return Err(Stop::Help);
            }
            return Err(Stop::Wrong(format!("flag provided but not defined: -{shown}")));
        };
        match (flag.takes, value) {
            (Takes::Bool, None) => given.bools.push((flag.name, true)),
            (Takes::Bool, Some(value)) => {
                let wrong = || {
                    let value = value.to_string_lossy();
                    Stop::Wrong(format!("invalid boolean value \"{value}\" for -{shown}: parse error"))
                };
                let on = value.to_str().and_then(parse_bool).ok_or_else(wrong)?;
                given.bools.push((flag.name, on));
            }
            (Takes::Text(_), Some(value)) => given.texts.push((flag.name, value)),
            (Takes::Text(_), None) => {
                let value =
                    args.next().ok_or_else(|| Stop::Wrong(format!("flag needs an argument: -{shown}")))?;
                given.texts.push((flag.name, OsString::from_vec(value.as_bytes().to_vec())));
            }
        }
    }
    given.positional.extend(args.cloned());
    Ok(given)
}

/// The usage text, flags in the order of their names.
pub(super) fn usage(program: &str, flags: &[Flag]) -> String {
    let mut sorted: Vec<&Flag> = flags.iter().collect();
    sorted.sort_by_key(|flag| flag.name);
    let mut text = format!("Usage of {program}:\n");
    for flag in sorted {
        let (value, default) = match flag.takes {
            Takes::Bool => ("", String::new()),
            Takes::Text("") => (" string", String::new()),
            Takes::Text(default) => (" string", format!(" (default \"{default}\")")),
        };
        text.push_str(&format!("  -{}{value}\n    \t{}{default}\n", flag.name, flag.help));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    static FLAGS: [Flag; 3] = [
        Flag { name: "o", takes: Takes::Text("-"), help: "where to" },
        Flag { name: "i", takes: Takes::Text(""), help: "where from" },
        Flag { name: "deep", takes: Takes::Bool, help: "go deep" },
    ];

    fn given(args: &[&str]) -> Result<Given, Stop> {
        parse(&FLAGS, &args.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn one_dash_and_two_are_the_same_and_the_last_word_counts() {
        for args in
            [&["-o", "a", "--deep"][..], &["--o=a", "-deep=1"], &["-o", "b", "-deep=F", "-deep", "-o=a"]]
        {
            let given = given(args).expect("flags");
            assert_eq!((given.text(&FLAGS[0]), given.is_on(&FLAGS[2])), ("a".into(), true), "{args:?}");
            assert_eq!(given.text(&FLAGS[1]), "");
        }
    }

    #[test]
    fn flags_end_at_the_first_argument_that_is_none() {
        for (args, positional) in [
            (&["-deep", "x", "-o", "a"][..], &["x", "-o", "a"][..]),
            (&["--", "-o"], &["-o"]),
            (&["-", "-o"], &["-", "-o"]),
        ] {
            let given = given(args).expect("flags");
            assert_eq!(given.positional, positional);
            assert_eq!(given.text(&FLAGS[0]), "-");
        }
    }

    #[test]
    fn what_is_wrong_is_told_in_go_s_words() {
        for (args, wrong) in [
            (&["-x"][..], "flag provided but not defined: -x"),
            (&["---o"], "bad flag syntax: ---o"),
            (&["-=a"], "bad flag syntax: -=a"),
            (&["--o"], "flag needs an argument: -o"),
            (&["-deep=yes"], "invalid boolean value \"yes\" for -deep: parse error"),
        ] {
            assert_eq!(given(args), Err(Stop::Wrong(wrong.to_owned())), "{args:?}");
        }
        assert_eq!(given(&["-h"]), Err(Stop::Help));
        assert_eq!(given(&["--help"]), Err(Stop::Help));
    }

    #[test]
    fn the_usage_is_sorted_and_names_defaults() {
        assert_eq!(
            usage("tool", &FLAGS),
            "Usage of tool:\n  -deep\n    \tgo deep\n  -i string\n    \twhere from\n  -o string\n    \twhere to (default \"-\")\n"
        );
    }
}
