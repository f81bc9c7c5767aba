//! Where the time of a start went: its steps in their order, each with the time since the one before.

use std::fs;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::instance::{Event, Place};
use crate::lifecycle::kept::Kept;
use crate::lifecycle::request::written_by_up;
use crate::lifecycle::{Error, Observer, Progress};
use crate::secrets;
use crate::vm::agent;

/// In an instance's state directory: the split of its last start that came to an end.
const FILE: Kept = Kept { file: "boot.json", remedy: written_by_up };

/// A step of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// host.yaml was read, and the machine found to be possible.
    Plan,
    /// The host key was opened.
    Key,
    /// The image was found, or built.
    Image,
    /// The disk was found, made or grown.
    Disk,
    /// What the guest finds in its share was put together.
    Share,
    /// The accelerator was chosen.
    Accelerator,
    /// The files lie where QEMU exports them: QEMU is started next.
    Staged,
    /// QEMU runs and answers.
    Qemu,
    /// The guest's kernel was entered.
    Kernel,
    /// The guest's first process ran.
    FirstProcess,
    /// All that is the same for every instance was done.
    Point,
    /// The guest took its host key.
    KeyTaken,
    /// The host layer was applied.
    Layer,
    /// The secrets were installed.
    Secrets,
    /// The guest said that it is ready.
    Ready,
    /// Somebody logged in.
    Login,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plan => "plan",
            Self::Key => "key opened",
            Self::Image => "image found",
            Self::Disk => "disk",
            Self::Share => "share",
            Self::Accelerator => "accelerator",
            Self::Staged => "staged",
            Self::Qemu => "QEMU started",
            Self::Kernel => "kernel",
            Self::FirstProcess => "first process",
            Self::Point => "generic part",
            Self::KeyTaken => "key taken",
            Self::Layer => "layer",
            Self::Secrets => "secrets",
            Self::Ready => "ready",
            Self::Login => "login",
        })
    }
}

/// A step with the time that it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timed {
    /// Which.
    pub step: Step,
    microseconds: u64,
}

impl Timed {
    /// How long it took.
    #[must_use]
    pub const fn took(self) -> Duration {
        Duration::from_micros(self.microseconds)
    }
}

/// The steps of a start, each at most once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    steps: Vec<Timed>,
}

impl Split {
    /// The steps, in their order.
    #[must_use]
    pub fn steps(&self) -> &[Timed] {
        &self.steps
    }

    /// The time before QEMU was started.
    #[must_use]
    pub fn before_qemu(&self) -> Duration {
        let end = self.steps.iter().position(|timed| timed.step == Step::Staged);
        self.steps.iter().take(end.map_or(0, |end| end + 1)).map(|timed| timed.took()).sum()
    }

    /// That of an instance's last start; none where that did not become ready, or it cannot be read.
    #[must_use]
    pub fn last(place: &Place) -> Option<Self> {
        FILE.load(place).ok().flatten()
    }

    pub(super) fn save(&self, place: &Place) -> Result<(), Error> {
        FILE.save(place, self)
    }

    /// Forgets that of the start before.
    pub(super) fn forget(place: &Place) {
        let _ = fs::remove_file(place.path.join(FILE.file));
    }

    /// `false` where it is known: a guest may say the same again, and for ever.
    fn add(&mut self, step: Step, took: Duration) -> bool {
        let is_new = !self.steps.iter().any(|timed| timed.step == step);
        if is_new {
            self.steps
                .push(Timed { step, microseconds: u64::try_from(took.as_micros()).unwrap_or(u64::MAX) });
        }
        is_new
    }
}

/// An observer that hears when each step ended, before the one that it stands in for.
pub(super) struct Watched<'a> {
    observer: &'a mut dyn Observer,
    last: Instant,
    pub(super) split: Split,
}

impl<'a> Watched<'a> {
    /// Whose first step began then.
    pub(super) fn new(observer: &'a mut dyn Observer, begun: Instant) -> Self {
        Self { observer, last: begun, split: Split::default() }
    }

    /// A step ends now.
    pub(super) fn done(&mut self, step: Step) {
        self.done_at(step, Instant::now());
    }

    fn done_at(&mut self, step: Step, now: Instant) {
        if self.split.add(step, now.saturating_duration_since(self.last)) {
            self.last = self.last.max(now);
        }
    }

    fn hear(&mut self, event: &Event, now: Instant) {
        let step = match event {
            Event::Accel { .. } => Step::Accelerator,
            Event::Staged { .. } => Step::Staged,
            Event::Started { .. } => Step::Qemu,
            Event::Guest { report } => match report {
                agent::Event::Started { uptime_ms } => {
                    // The guest's word, which may be anything.
                    let entered = now.checked_sub(Duration::from_millis(*uptime_ms)).unwrap_or(now);
                    self.done_at(Step::Kernel, entered);
                    Step::FirstProcess
                }
                agent::Event::Point { .. } => Step::Point,
                agent::Event::KeyTaken => Step::KeyTaken,
                agent::Event::LayerApplied => Step::Layer,
                agent::Event::SecretsInstalled { .. } => Step::Secrets,
                agent::Event::Ready { .. } => Step::Ready,
                agent::Event::Prepared
                | agent::Event::Warning { .. }
                | agent::Event::Failed { .. }
                | agent::Event::Waiting { .. }
                | agent::Event::Answer { .. } => return,
            },
            _ => return,
        };
        self.done_at(step, now);
    }
}

impl Observer for Watched<'_> {
    fn tell(&mut self, progress: Progress<'_>) {
        if let Progress::Instance(event) = &progress {
            self.hear(event, Instant::now());
        }
        self.observer.tell(progress);
    }

    fn boots_without_secrets(&mut self, name: &str, error: &secrets::Error) -> Option<bool> {
        self.observer.boots_without_secrets(name, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::spec::Accel;

    struct Nobody;

    impl Observer for Nobody {
        fn tell(&mut self, _: Progress<'_>) {}

        fn boots_without_secrets(&mut self, _: &str, _: &secrets::Error) -> Option<bool> {
            None
        }
    }

    #[test]
    fn each_step_has_the_time_since_the_one_before_and_is_there_once() {
        let begun = Instant::now();
        let mut nobody = Nobody;
        let mut watched = Watched::new(&mut nobody, begun);
        let at = |ms: u64| begun + Duration::from_millis(ms);
        watched.done_at(Step::Plan, at(3));
        watched.hear(&Event::Accel { accel: Accel::Tcg, reason: String::new() }, at(4));
        watched.hear(&Event::Opened { namespaces: true, runtime: "/run/x".into() }, at(9));
        watched.hear(&Event::Staged { files: 2 }, at(24));
        watched.hear(&Event::Started { accel: Accel::Tcg, forwards: Vec::new() }, at(124));
        let guest = |report| Event::Guest { report };
        watched.hear(&guest(agent::Event::Started { uptime_ms: 1000 }), at(1500));
        watched.hear(&guest(agent::Event::KeyTaken), at(1600));
        watched.hear(&guest(agent::Event::KeyTaken), at(1700));
        watched.hear(&guest(agent::Event::Ready { uptime_ms: 1 }), at(2000));
        let steps: Vec<_> =
            watched.split.steps().iter().map(|timed| (timed.step, timed.took().as_millis())).collect();
        assert_eq!(
            steps,
            [
                (Step::Plan, 3),
                (Step::Accelerator, 1),
                (Step::Staged, 20),
                (Step::Qemu, 100),
                (Step::Kernel, 376),
                (Step::FirstProcess, 1000),
                (Step::KeyTaken, 100),
                (Step::Ready, 400),
            ]
        );
        assert_eq!(watched.split.before_qemu(), Duration::from_millis(24));
    }

    #[test]
    fn a_guest_that_lies_about_its_time_breaks_nothing() {
        let begun = Instant::now();
        for uptime_ms in [0, 5_000, u64::MAX] {
            let mut nobody = Nobody;
            let mut watched = Watched::new(&mut nobody, begun);
            watched.hear(&Event::Staged { files: 0 }, begun + Duration::from_millis(10));
            let report = agent::Event::Started { uptime_ms };
            watched.hear(&Event::Guest { report }, begun + Duration::from_millis(30));
            let sum: Duration = watched.split.steps().iter().map(|timed| timed.took()).sum();
            assert_eq!(sum, Duration::from_millis(30), "{uptime_ms}");
        }
    }

    #[test]
    fn the_split_of_the_last_start_is_kept_and_forgotten_by_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place { project: "/p".into(), name: "a".into(), path: directory.path().into() };
        assert_eq!(Split::last(&place), None);
        let mut split = Split::default();
        split.add(Step::FirstProcess, Duration::from_micros(1500));
        split.save(&place).unwrap();
        let text = fs::read_to_string(directory.path().join(FILE.file)).unwrap();
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            serde_json::json!({"version": 1, "steps": [{"step": "first-process", "microseconds": 1500}]})
        );
        assert_eq!(Split::last(&place), Some(split));
        Split::forget(&place);
        assert_eq!(Split::last(&place), None);
    }
}
