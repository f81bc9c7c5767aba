//! The editor that sops would take: `$SOPS_EDITOR`, `$EDITOR`, else the first of vim, nano and vi.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use thiserror::Error;

use super::environment::Environment;
use super::process;

/// Looked up in `PATH`, in sops' order, when no variable names an editor.
const FALLBACKS: [&str; 3] = ["vim", "nano", "vi"];

/// Editors that leave the file to a window of another process, and the options that make them wait for it.
const WINDOWED: [(&[&str], &[&str]); 6] = [
    (&["code", "code-insiders", "codium", "vscodium", "cursor", "windsurf"], &["--wait", "-w"]),
    (&["subl", "sublime_text", "atom", "mate", "zed", "zeditor"], &["--wait", "-w"]),
    (&["gvim", "vimx", "mvim", "gview"], &["-f", "--nofork"]),
    (&["gedit", "xed", "pluma"], &["--wait", "-w"]),
    (&["kate", "kwrite"], &["--block", "-b"]),
    (&["idea", "pycharm", "goland", "webstorm", "clion"], &["--wait"]),
];
/// Nobody reads and closes a file in less time.
const AT_ONCE: Duration = Duration::from_millis(500);

/// There is no editor, or it failed.
#[derive(Debug, Error)]
pub enum EditorError {
    /// A variable holds something that a shell could not split.
    #[error("invalid ${variable}: it has an unterminated quote, or only spaces")]
    Invalid {
        /// Its name.
        variable: &'static str,
    },
    /// Neither variable is set and no known editor is installed.
    #[error("no editor: neither SOPS_EDITOR nor EDITOR is set, and none of vim, nano and vi is in PATH")]
    None,
    /// The editor could not be started.
    #[error("cannot start the editor `{program}`: {source}")]
    Start {
        /// Its name.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// The editor exited with an error.
    #[error("the editor `{program}` failed ({status})")]
    Failed {
        /// Its name.
        program: String,
        /// Its exit status.
        status: ExitStatus,
    },
}

/// A program and its first arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Editor {
    program: OsString,
    arguments: Vec<OsString>,
}

impl Editor {
    /// The editor of this environment. A variable is split into words as a shell would, but no shell runs.
    ///
    /// # Errors
    ///
    /// The variable cannot be split, or there is none and no known editor is in `PATH`.
    pub fn find(environment: &Environment) -> Result<Self, EditorError> {
        for variable in ["SOPS_EDITOR", "EDITOR"] {
            let Some(value) = environment.non_empty(variable) else { continue };
            let value = value.to_str().ok_or(EditorError::Invalid { variable })?;
            let mut words = shlex::split(value).ok_or(EditorError::Invalid { variable })?.into_iter();
            let program = words.next().ok_or(EditorError::Invalid { variable })?;
            return Ok(Self { program: program.into(), arguments: words.map(Into::into).collect() });
        }
        let found = FALLBACKS.iter().find_map(|name| environment.find_program(name));
        let program = found.ok_or(EditorError::None)?;
        Ok(Self { program: program.into(), arguments: Vec::new() })
    }

    /// Opens a file on this process's own terminal and waits until the editor exits.
    ///
    /// # Errors
    ///
    /// The editor cannot start, or exits with a status other than 0.
    pub fn open(&self, file: &Path, environment: &Environment) -> Result<(), EditorError> {
        let program = || self.program.to_string_lossy().into_owned();
        let status = process::command(&self.program, environment)
            .args(&self.arguments)
            .arg(file)
            .status()
            .map_err(|source| EditorError::Start { program: program(), source })?;
        if status.success() { Ok(()) } else { Err(EditorError::Failed { program: program(), status }) }
    }

    /// What to say of an editor that came back at once and changed nothing: those with windows of their own leave
    /// the file to another process unless they are told to wait.
    #[must_use]
    pub fn hint(&self, after: Duration) -> Option<Hint> {
        let name = Path::new(&self.program).file_name().unwrap_or(&self.program).to_string_lossy();
        let Some((_, wait)) = WINDOWED.iter().find(|(names, _)| names.contains(&&*name)) else {
            return (after < AT_ONCE).then(|| Hint {
                text: format!(
                    "`{name}` returned at once: an editor that opens a window has to be told to wait, as in \
                     \"code --wait\" or \"gvim -f\""
                ),
                is_known: false,
            });
        };
        let waits = self.arguments.iter().any(|argument| wait.iter().any(|option| argument == option));
        let option = wait.first().filter(|_| !waits)?;
        let text =
            format!("`{name}` returns at once unless it is told to wait: set EDITOR to \"{name} {option}\"");
        Some(Hint { text, is_known: true })
    }
}

/// What may be wrong with an editor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// What, and what to do about it.
    pub text: String,
    /// Whether this editor is known to return at once; else it is only likely.
    pub is_known: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sops_editor_comes_before_editor_and_empty_counts_as_unset() {
        let environment = Environment::empty().with("SOPS_EDITOR", "").with("EDITOR", "code --wait 'a b'");
        let editor = Editor::find(&environment).expect("set");
        assert_eq!(editor.program, "code");
        assert_eq!(editor.arguments, ["--wait", "a b"]);
        let editor = Editor::find(&environment.with("SOPS_EDITOR", "ed")).expect("set");
        assert_eq!(editor.program, "ed");
    }

    #[test]
    fn an_editor_with_a_window_is_told_to_wait() {
        let hint = |editor: &str, milliseconds| {
            let environment = Environment::empty().with("EDITOR", editor);
            Editor::find(&environment).expect("set").hint(Duration::from_millis(milliseconds))
        };
        for (editor, advice) in [
            ("code", "\"code --wait\""),
            ("/usr/bin/subl -n", "\"subl --wait\""),
            ("gvim", "\"gvim -f\""),
            ("kate", "\"kate --block\""),
        ] {
            let hint = hint(editor, 5000).expect(editor);
            assert!(hint.text.contains(advice) && hint.is_known, "{hint:?}");
        }
        for editor in ["code --wait", "code -n -w", "gvim -f", "gvim --nofork", "kate -b"] {
            assert_eq!(hint(editor, 0), None, "{editor}");
        }
        let unknown = hint("/home/me/bin/my-editor", 10).expect("at once");
        assert!(unknown.text.contains("`my-editor` returned at once") && !unknown.is_known);
        assert_eq!(hint("vim", 2000), None, "somebody looked and left");
    }

    #[test]
    fn an_open_quote_and_a_blank_value_are_refused() {
        for value in ["'vim", "  "] {
            let error = Editor::find(&Environment::empty().with("EDITOR", value)).expect_err("invalid");
            assert!(matches!(error, EditorError::Invalid { variable: "EDITOR" }));
        }
        assert!(matches!(Editor::find(&Environment::empty()), Err(EditorError::None)));
    }

    #[test]
    fn the_path_is_the_last_argument_and_a_failure_is_seen() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("name with space");
        let environment = Environment::empty()
            .with("PATH", "/bin:/usr/bin")
            .with("EDITOR", r#"sh -c 'printf "$0 $1" > "$1"' first"#);
        Editor::find(&environment).expect("set").open(&file, &environment).expect("runs");
        let written = std::fs::read_to_string(&file).expect("written");
        assert_eq!(written, format!("first {}", file.display()));
        let failing = Editor::find(&environment.clone().with("EDITOR", "false")).expect("set");
        assert!(matches!(failing.open(&file, &environment), Err(EditorError::Failed { .. })));
    }
}
