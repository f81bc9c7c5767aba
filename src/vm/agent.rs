//! What a guest tells its host: one JSON object a line over a virtio-serial port.

use std::fmt;

use serde::{Deserialize, Serialize};

pub mod answer;

pub use answer::{Answer, Question};

/// Name of the virtio-serial port; in the guest `/sys/class/virtio-ports/*/name` holds it.
pub const PORT: &str = "civm.agent";

/// A file in the guest that the host's first login makes.
pub const LOGGED_IN: &str = "/run/civm/logged-in";

/// Longest text taken from a guest's report, in characters.
const TEXT_MAX: usize = 2_000;

/// Text of a guest as it may reach a terminal: without control characters other than line breaks.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || *c == '\n').collect()
}

/// One line from the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// PID 1 of the initrd runs; the accelerator probe ends here.
    Started {
        /// Milliseconds since the guest's kernel started.
        uptime_ms: u64,
    },
    /// The point is reached before which nothing is particular to the instance: the guest waits for
    /// [`Command::Go`].
    Point {
        /// Milliseconds since the guest's kernel started.
        uptime_ms: u64,
    },
    /// The guest waits at the point, and has prepared what comes next as far as that is the same for every instance.
    Prepared,
    /// The guest holds its own copy of the staged host key: the host removes its file now.
    KeyTaken,
    /// The host layer is applied.
    LayerApplied,
    /// Secrets lie in `/run/secrets`.
    SecretsInstalled {
        /// How many.
        count: usize,
        /// The age recipient that the host key stands for.
        recipient: String,
    },
    /// Something went wrong, yet the boot goes on.
    Warning {
        /// What, without any secret value.
        message: String,
    },
    /// The boot cannot reach readiness.
    Failed {
        /// What, without any secret value.
        message: String,
    },
    /// The boot waits for something, and goes on after a while all the same.
    Waiting {
        /// For what.
        what: String,
    },
    /// sshd answers and every unit of the layer has been started.
    Ready {
        /// Milliseconds since the guest's kernel started.
        uptime_ms: u64,
    },
    /// The answer to a question of the host.
    Answer {
        /// The question's number.
        id: u64,
        /// What the guest says.
        answer: Answer,
    },
}

impl Event {
    /// Reads a line of the guest. Nobody vouches for its texts: they come out printable and of bounded length.
    ///
    /// # Errors
    /// It is not an event.
    pub fn parse(line: &str) -> Result<Self, serde_json::Error> {
        let bounded = |text: String| printable(&text).chars().take(TEXT_MAX).collect();
        Ok(match serde_json::from_str(line)? {
            Self::SecretsInstalled { count, recipient } => {
                Self::SecretsInstalled { count, recipient: bounded(recipient) }
            }
            Self::Warning { message } => Self::Warning { message: bounded(message) },
            Self::Failed { message } => Self::Failed { message: bounded(message) },
            Self::Waiting { what } => Self::Waiting { what: bounded(what) },
            Self::Answer { id, answer } => Self::Answer { id, answer: answer.bounded() },
            event @ (Self::Started { .. }
            | Self::Point { .. }
            | Self::Prepared
            | Self::KeyTaken
            | Self::LayerApplied
            | Self::Ready { .. }) => event,
        })
    }
}

/// One line to the guest, over the same port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// To power off in good order. The ACPI power button says the same to guests that listen to it.
    PowerOff,
    /// To go past the point.
    Go(Go),
    /// To set the clock, which stood still while the machine did.
    SetTime {
        /// The host's time, in milliseconds since the epoch.
        unix_ms: u64,
    },
    /// The size of the terminal that the serial console is shown on.
    ConsoleSize {
        /// Lines of text.
        rows: u16,
        /// Characters in a line.
        columns: u16,
    },
    /// To answer a question with an [`Event::Answer`] of the same number.
    Ask {
        /// Its number.
        id: u64,
        /// What is asked.
        question: Question,
    },
}

/// What a guest is told at the point.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Go {
    /// It was frozen there, and is one of many from now on.
    pub resumed: bool,
    /// The host's time, in milliseconds since the epoch.
    pub unix_ms: u64,
    /// Random bytes of the host's.
    pub seed: [u64; 4],
}

impl fmt::Debug for Go {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Go").field("resumed", &self.resumed).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Command, Event, Question, TEXT_MAX};

    #[test]
    fn a_guest_cannot_steer_the_terminal() {
        let text = "a\u{1b}[2J\u{9b}1mb\r\n\u{7}c\u{7f}";
        let (said, told) = (text.to_owned(), "a[2J1mb\nc".to_owned());
        for (sent, heard) in [
            (Event::Warning { message: said.clone() }, Event::Warning { message: told.clone() }),
            (Event::Failed { message: said.clone() }, Event::Failed { message: told.clone() }),
            (Event::Waiting { what: said.clone() }, Event::Waiting { what: told.clone() }),
            (
                Event::SecretsInstalled { count: 1, recipient: said },
                Event::SecretsInstalled { count: 1, recipient: told },
            ),
        ] {
            assert_eq!(Event::parse(&serde_json::to_string(&sent).unwrap()).unwrap(), heard);
        }
    }

    #[test]
    fn questions_and_answers_have_numbers() {
        let ask = Command::Ask { id: 7, question: Question::Apply { dry_run: true } };
        let text = r#"{"command":"ask","id":7,"question":{"question":"apply","dry_run":true}}"#;
        assert_eq!(serde_json::to_string(&ask).unwrap(), text);
        assert_eq!(serde_json::from_str::<Command>(text).unwrap(), ask);
        let refused =
            |reason: &str| Event::Answer { id: 7, answer: Answer::Refused { reason: reason.into() } };
        let heard = Event::parse(&serde_json::to_string(&refused("no\u{1b}[2J")).unwrap()).unwrap();
        assert_eq!(heard, refused("no[2J"));
        let usage = Event::Answer { id: 1, answer: Answer::Report(super::answer::Usage::default()) };
        assert_eq!(Event::parse(&serde_json::to_string(&usage).unwrap()).unwrap(), usage);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let sent = Event::Warning { message: "é".repeat(TEXT_MAX + 1) };
        let heard = Event::parse(&serde_json::to_string(&sent).unwrap()).unwrap();
        assert_eq!(heard, Event::Warning { message: "é".repeat(TEXT_MAX) });
        assert!(Event::parse("{}").is_err());
    }
}
