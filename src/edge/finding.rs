//! What a look at a machine or a project came to: one line, and what to do about it.

use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// All is well.
    Ok,
    /// It works, but not as well as it could.
    Warning,
    /// Something does not work.
    Problem,
}

impl State {
    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about, in a word or two.
    pub area: &'static str,
    /// How bad it is.
    pub state: State,
    /// What was found.
    pub message: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl Finding {
    /// Something that is well.
    pub fn ok(area: &'static str, message: impl Into<String>) -> Self {
        Self { area, state: State::Ok, message: message.into(), remedy: None }
    }

    /// Something that works, but not as well as it could.
    pub fn warning(area: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { area, state: State::Warning, message: message.into(), remedy: Some(remedy.into()) }
    }

    /// Something that does not work.
    pub fn problem(area: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { area, state: State::Problem, message: message.into(), remedy: Some(remedy.into()) }
    }
}
