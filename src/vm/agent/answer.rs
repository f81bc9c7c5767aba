//! What the host asks a running guest, and what it answers.

use serde::{Deserialize, Serialize};

use super::printable;

/// The most changes, steps and texts that are taken from an answer, and sent in one, of each kind.
pub const ENTRIES_MAX: usize = 100;
/// The longest name or text of an answer, in characters.
pub const NAME_MAX: usize = 200;

/// What the host asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "question", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Question {
    /// How much of the machine is in use.
    Report,
    /// To bring the guest in line with what lies in the share now.
    Apply {
        /// Only to say what would be changed.
        dry_run: bool,
    },
}

/// What the guest answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Answer {
    /// How much of the machine is in use.
    Report(Usage),
    /// What was changed, or would be.
    Applied(Changes),
    /// It could not be done, or not to its end.
    Refused {
        /// Why, without any secret value.
        reason: String,
    },
}

/// How much of a guest is in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Milliseconds since its kernel started.
    pub uptime_ms: u64,
    /// Load averages of 1, 5 and 15 minutes, in hundredths.
    pub load: [u32; 3],
    /// Its memory in KiB.
    pub memory_kib: u64,
    /// What of it programs could still get.
    pub memory_available_kib: u64,
    /// Its swap in KiB.
    pub swap_kib: u64,
    /// What of it is free.
    pub swap_free_kib: u64,
    /// The root file system in KiB.
    pub disk_kib: u64,
    /// What of it ordinary users could still fill.
    pub disk_available_kib: u64,
    /// Whether nothing can be written to it any more, as after a write that failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disk_read_only: bool,
}

/// What an apply changed, or would change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changes {
    /// Nothing was done: this is what would be.
    pub dry_run: bool,
    /// What differs, in the order in which it is changed.
    pub changes: Vec<Change>,
    /// What followed for units, in order.
    pub steps: Vec<Step>,
    /// What only a restart of the machine brings.
    pub restart_for: Vec<String>,
    /// What went wrong, though the guest is of use without it.
    pub warnings: Vec<String>,
    /// Entries that were left out, since there were too many.
    pub left_out: usize,
}

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// What it is.
    pub what: What,
    /// In which way.
    pub how: How,
    /// Its name: a path, a user, a unit. Never a value.
    pub name: String,
}

/// What can differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A setting of the whole guest, such as its host name.
    Setting,
    /// A file, link or directory.
    File,
    /// A group.
    Group,
    /// A user.
    User,
    /// The keys that log in as a user.
    Keys,
    /// A parameter of the kernel.
    Sysctl,
    /// A unit that host.yaml writes, or a service that it names.
    Unit,
    /// A secret.
    Secret,
}

impl What {
    /// Its name in a sentence.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Setting => "setting",
            Self::File => "file",
            Self::Group => "group",
            Self::User => "user",
            Self::Keys => "keys of",
            Self::Sysctl => "sysctl",
            Self::Unit => "unit",
            Self::Secret => "secret",
        }
    }
}

/// In which way something differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// It was not there.
    Added,
    /// It was there, and is another now.
    Changed,
    /// It is not wanted any more.
    Removed,
}

impl How {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
}

/// What is done with a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What is done.
    pub verb: Verb,
    /// The unit's name.
    pub unit: String,
}

/// What can be done with a unit, in the order in which it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// It is stopped.
    Stop,
    /// It is restarted, where it runs.
    Restart,
    /// It is told to read its configuration anew, or restarted where it cannot, where it runs.
    Reload,
    /// It is started.
    Start,
}

impl Verb {
    /// The word for what is done.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Reload => "reload",
            Self::Start => "start",
        }
    }
}

impl Changes {
    /// Whether the guest was as wanted already.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.steps.is_empty() && self.restart_for.is_empty() && self.left_out == 0
    }

    /// Cuts lists and names to what goes through the port. Both sides do: the guest so that its answer arrives, the
    /// host since nobody vouches for a guest.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let mut left_out = 0;
        let mut cut = |length: usize| left_out += length.saturating_sub(ENTRIES_MAX);
        cut(self.changes.len());
        cut(self.steps.len());
        cut(self.restart_for.len());
        cut(self.warnings.len());
        self.changes.truncate(ENTRIES_MAX);
        self.steps.truncate(ENTRIES_MAX);
        let texts = self.changes.iter_mut().map(|change| &mut change.name);
        let texts = texts.chain(self.steps.iter_mut().map(|step| &mut step.unit));
        for list in [&mut self.restart_for, &mut self.warnings] {
            list.truncate(ENTRIES_MAX);
        }
        for text in texts.chain(&mut self.restart_for).chain(&mut self.warnings) {
            *text = one_line(text);
        }
        self.left_out = self.left_out.saturating_add(left_out);
        self
    }
}

impl Answer {
    /// The same with texts that are printable and of bounded length.
    #[must_use]
    pub fn bounded(self) -> Self {
        match self {
            Self::Applied(changes) => Self::Applied(changes.bounded()),
            Self::Refused { reason } => {
                Self::Refused { reason: printable(&reason).chars().take(super::TEXT_MAX).collect() }
            }
            report @ Self::Report(_) => report,
        }
    }
}

fn one_line(text: &str) -> String {
    printable(text).chars().map(|c| if c == '\n' { ' ' } else { c }).take(NAME_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str) -> Change {
        Change { what: What::File, how: How::Added, name: name.to_owned() }
    }

    #[test]
    fn an_answer_is_bounded_in_number_and_length() {
        let changes = Changes {
            changes: vec![change("/etc/a\u{1b}[2J\nb"); ENTRIES_MAX + 3],
            steps: vec![Step { verb: Verb::Restart, unit: "x".repeat(NAME_MAX + 1) }; ENTRIES_MAX],
            warnings: vec!["w".repeat(NAME_MAX * 2); ENTRIES_MAX + 1],
            left_out: 1,
            ..Changes::default()
        };
        let Answer::Applied(changes) = Answer::Applied(changes).bounded() else { panic!("another answer") };
        assert_eq!((changes.changes.len(), changes.left_out), (ENTRIES_MAX, 5));
        assert_eq!(changes.changes[0].name, "/etc/a[2J b");
        assert!(changes.steps[0].unit.len() == NAME_MAX && changes.warnings[0].len() == NAME_MAX);
        let refused = Answer::Refused { reason: "é\u{7}".repeat(super::super::TEXT_MAX) }.bounded();
        assert_eq!(refused, Answer::Refused { reason: "é".repeat(super::super::TEXT_MAX) });
    }

    #[test]
    fn what_is_as_wanted_has_no_changes() {
        assert!(Changes { warnings: vec!["w".to_owned()], ..Changes::default() }.is_empty());
        assert!(!Changes { changes: vec![change("/a")], ..Changes::default() }.is_empty());
    }
}
