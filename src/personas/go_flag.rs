//! Command lines as Go's `flag` package reads them: one dash or two, `-flag value` and `-flag=value`, truth
//! values without a word of their own, and an end of the flags at the first argument that is none.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use super::go_text::quoted;
use crate::edge::environment::Environment;
use crate::sops::value::parse_bool;

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing, or a truth value behind `=`.
    Bool,
    /// A text, with the text that counts where the flag is not given.
    Text(&'static str),
    /// A whole number; 0 where it is not given.
    Int,
}

/// A flag.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flag {
    /// Its names, without a dash. The first one is how it is known here.
    pub(super) names: &'static [&'static str],
    /// What it takes.
    pub(super) takes: Takes,
    /// The variable that counts where the flag is not given.
    pub(super) variable: Option<&'static str>,
    /// What it is for.
    pub(super) help: &'static str,
}

impl Flag {
    /// A flag that is on or off.
    pub(super) const fn bool(names: &'static [&'static str], help: &'static str) -> Self {
        Self { names, takes: Takes::Bool, variable: None, help }
    }

    /// A flag with a text; empty where it is not given.
    pub(super) const fn text(names: &'static [&'static str], help: &'static str) -> Self {
        Self { names, takes: Takes::Text(""), variable: None, help }
    }

    /// A flag with a number.
    pub(super) const fn int(names: &'static [&'static str], help: &'static str) -> Self {
        Self { names, takes: Takes::Int, variable: None, help }
    }

    /// The same with the text that counts where it is not given.
    pub(super) const fn or(mut self, default: &'static str) -> Self {
        self.takes = Takes::Text(default);
        self
    }

    /// The same with a variable that counts where it is not given.
    pub(super) const fn env(mut self, variable: &'static str) -> Self {
        self.variable = Some(variable);
        self
    }

    /// How it is known here.
    pub(super) fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }
}

/// What a flag was given.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Bool(bool),
    Text(OsString),
    Int(i64),
}

/// The flags that were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    /// Name and value; first those of variables, then those of the command line in its order.
    values: Vec<(&'static str, Value)>,
    /// How many of the values come from variables.
    from_variables: usize,
    /// The names that were used on the command line.
    used: Vec<&'static str>,
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
        match (self.last(flag), flag.takes) {
            (Some(Value::Text(text)), _) => text.clone(),
            (_, Takes::Text(default)) => default.into(),
            _ => OsString::new(),
        }
    }

    /// Every text that a flag was given on the command line, else its variable's.
    pub(super) fn texts(&self, flag: &Flag) -> Vec<OsString> {
        let (variables, line) = self.values.split_at(self.from_variables);
        let values = if self.on_line(flag) { line } else { variables };
        let of_flag = values.iter().filter(|(name, _)| *name == flag.name());
        of_flag
            .filter_map(|(_, value)| match value {
                Value::Text(text) => Some(text.clone()),
                _ => None,
            })
            .collect()
    }

    /// The number of a flag; of several the last counts.
    pub(super) fn int(&self, flag: &Flag) -> i64 {
        match self.last(flag) {
            Some(Value::Int(number)) => *number,
            _ => 0,
        }
    }

    /// Whether a flag is on; of several the last counts.
    pub(super) fn is_on(&self, flag: &Flag) -> bool {
        matches!(self.last(flag), Some(Value::Bool(true)))
    }

    /// Whether a flag is on that is so unless it is turned off.
    pub(super) fn is_not_off(&self, flag: &Flag) -> bool {
        !matches!(self.last(flag), Some(Value::Bool(false)))
    }

    /// Whether a flag was given on the command line.
    pub(super) fn on_line(&self, flag: &Flag) -> bool {
        self.values.iter().skip(self.from_variables).any(|(name, _)| *name == flag.name())
    }

    /// Two names of one flag that were both used.
    pub(super) fn two_names(&self, flags: &[Flag]) -> Option<(&'static str, &'static str)> {
        flags.iter().find_map(|flag| {
            let mut used = flag.names.iter().copied().filter(|name| self.used.contains(name));
            Some((used.next()?, used.next()?))
        })
    }

    /// The same with the variables of the flags.
    ///
    /// # Errors
    /// A variable that holds no truth value where one is wanted.
    pub(super) fn with_variables(
        mut self,
        flags: &'static [Flag],
        environment: &Environment,
    ) -> Result<Self, String> {
        let mut values = Vec::new();
        for flag in flags {
            let Some(text) = flag.variable.and_then(|variable| environment.non_empty(variable)) else {
                continue;
            };
            let value = match flag.takes {
                Takes::Bool => Value::Bool(text.to_str().and_then(parse_bool).ok_or_else(|| {
                    let (text, names) = (text.to_string_lossy(), flag.names.join(", "));
                    format!("could not parse {text} as bool value for flag {names}: strconv.ParseBool: parsing {}: invalid syntax", quoted(&text))
                })?),
                Takes::Int => continue,
                Takes::Text(_) => Value::Text(text.to_owned()),
            };
            values.push((flag.name(), value));
        }
        self.from_variables = values.len();
        values.append(&mut self.values);
        self.values = values;
        Ok(self)
    }

    fn last(&self, flag: &Flag) -> Option<&Value> {
        self.values.iter().rev().find(|(name, _)| *name == flag.name()).map(|(_, value)| value)
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
        let found = flags.iter().find_map(|flag| {
            let used = flag.names.iter().find(|known| known.as_bytes() == name)?;
            Some((flag, *used))
        });
        let Some((flag, used)) = found else {
            if matches!(name, b"help" | b"h") {
                return Err(Stop::Help);
            }
            return Err(Stop::Wrong(format!("flag provided but not defined: -{shown}")));
        };
        let value = match (flag.takes, value) {
            (Takes::Bool, None) => Value::Bool(true),
            (Takes::Bool, Some(value)) => {
                let wrong = || {
                    let value = value.to_string_lossy();
                    Stop::Wrong(format!("invalid boolean value \"{value}\" for -{shown}: parse error"))
                };
                Value::Bool(value.to_str().and_then(parse_bool).ok_or_else(wrong)?)
            }
            (takes, value) => {
                let value = match value {
                    Some(value) => value,
                    None => args
                        .next()
                        .cloned()
                        .ok_or_else(|| Stop::Wrong(format!("flag needs an argument: -{shown}")))?,
                };
                match takes {
                    Takes::Int => Value::Int(number(&value).map_err(|reason| {
                        let value = quoted(&value.to_string_lossy());
                        Stop::Wrong(format!("invalid value {value} for flag -{shown}: {reason}"))
                    })?),
                    _ => Value::Text(value),
                }
            }
        };
        given.values.push((flag.name(), value));
        given.used.push(used);
    }
    given.positional.extend(args.cloned());
    Ok(given)
}

/// A whole number, also in other bases behind `0x`, `0o`, `0b` or a zero.
fn number(text: &OsStr) -> Result<i64, &'static str> {
    let text = text.to_str().ok_or("parse error")?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let prefixes = [("0x", 16), ("0o", 8), ("0b", 2), ("0", 8)];
    let based = prefixes.iter().find_map(|(prefix, base)| {
        let rest = lower.strip_prefix(prefix).filter(|rest| !rest.is_empty())?;
        Some((rest, *base))
    });
    let (digits, base) = based.unwrap_or((&lower, 10));
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(base)) {
        return Err("parse error");
    }
    let sign = if negative { "-" } else { "" };
    i64::from_str_radix(&format!("{sign}{digits}"), base).map_err(|_| "value out of range")
}

/// The usage text, flags in the order of their names.
pub(super) fn usage(program: &str, flags: &[Flag]) -> String {
    format!("Usage of {program}:\n{}", defaults(flags))
}

/// The flags of a usage text.
pub(super) fn defaults(flags: &[Flag]) -> String {
    let mut sorted: Vec<&Flag> = flags.iter().collect();
    sorted.sort_by_key(|flag| flag.name());
    let mut text = String::new();
    for flag in sorted {
        let (value, default) = match flag.takes {
            Takes::Bool => ("", String::new()),
            Takes::Int => (" int", String::new()),
            Takes::Text("") => (" string", String::new()),
            Takes::Text(default) => (" string", format!(" (default \"{default}\")")),
        };
        text.push_str(&format!("  -{}{value}\n    \t{}{default}\n", flag.name(), flag.help));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    static FLAGS: [Flag; 3] = [
        Flag::text(&["o"], "where to").or("-"),
        Flag::text(&["i"], "where from"),
        Flag::bool(&["deep"], "go deep"),
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

    #[test]
    fn a_flag_has_several_names_a_variable_and_numbers() {
        static FLAGS: [Flag; 3] = [
            Flag::bool(&["yes", "y"], "").env("YES"),
            Flag::text(&["age", "a"], "").env("AGE"),
            Flag::int(&["indent"], ""),
        ];
        let parse = |args: &[&str]| parse(&FLAGS, &args.iter().map(OsString::from).collect::<Vec<_>>());
        let environment = Environment::empty().with("YES", "1").with("AGE", "of the environment");
        let given =
            parse(&["-indent=0x10"]).expect("flags").with_variables(&FLAGS, &environment).expect("a bool");
        assert!(given.is_on(&FLAGS[0]) && !given.on_line(&FLAGS[0]));
        assert_eq!((given.text(&FLAGS[1]), given.int(&FLAGS[2])), ("of the environment".into(), 16));
        let args = ["-a", "x", "--age=y", "-y=false", "-indent", "-010"];
        let given = parse(&args).expect("flags").with_variables(&FLAGS, &environment).expect("a bool");
        assert!(!given.is_not_off(&FLAGS[0]));
        assert_eq!(given.texts(&FLAGS[1]), ["x", "y"]);
        assert_eq!(given.int(&FLAGS[2]), -8);
        assert_eq!(given.two_names(&FLAGS), Some(("age", "a")));
        assert!(Given::default().with_variables(&FLAGS, &Environment::empty().with("YES", "maybe")).is_err());
        for (text, reason) in
            [("x", "parse error"), ("", "parse error"), ("9223372036854775808", "value out of range")]
        {
            let wrong = Stop::Wrong(format!("invalid value \"{text}\" for flag -indent: {reason}"));
            assert_eq!(parse(&["-indent", text]), Err(wrong));
        }
    }
}
