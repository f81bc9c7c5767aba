//! The progress shown during a start.

use std::time::Duration;

use indicatif::ProgressBar;

use crate::commands::Screen;
use crate::instance::Event;
use crate::vm::agent;

/// Draws a spinner on a terminal; elsewhere prints only warnings and, with `--verbose`, each step.
pub(super) struct Progress {
    bar: ProgressBar,
    screen: Screen,
}

impl Progress {
    pub(super) fn new(screen: Screen, host: &str) -> Self {
        let bar = if screen.draws() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        bar.enable_steady_tick(Duration::from_millis(100));
        bar.set_message(format!("starting {host}"));
        Self { bar, screen }
    }

    /// Shows an event.
    pub(super) fn tell(&self, event: &Event) {
        match event {
            Event::Warning { message } | Event::Guest { report: agent::Event::Warning { message } } => {
                self.bar.suspend(|| self.screen.warn(message));
            }
            Event::Accel { accel, reason } => {
                self.bar.suspend(|| self.screen.note(format!("accelerator: {accel} ({reason})")));
            }
            other => {
                if let Some(step) = step(other) {
                    self.bar.set_message(step.clone());
                    self.bar.suspend(|| self.screen.detail(step));
                }
            }
        }
    }

    /// Removes the spinner.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn step(event: &Event) -> Option<String> {
    Some(match event {
        Event::Opened { namespaces: true, .. } => "staged in namespaces of its own".to_owned(),
        Event::Opened { namespaces: false, .. } => "staged in private memory".to_owned(),
        Event::Staged { files } => format!("{files} files staged"),
        Event::Started { .. } => "the kernel is starting".to_owned(),
        Event::KeyRemoved => "the guest has its host key; the staged copy was removed".to_owned(),
        Event::Guest { report } => match report {
            agent::Event::Started { .. } => "the guest's first process is running".to_owned(),
            agent::Event::Point { .. } => "the generic part of the boot is done".to_owned(),
            agent::Event::KeyTaken => "the guest took its host key".to_owned(),
            agent::Event::LayerApplied => "the host layer is applied".to_owned(),
            agent::Event::SecretsInstalled { count, .. } => format!("{count} secrets installed"),
            agent::Event::Waiting { what } => format!("still starting: {what}"),
            agent::Event::Ready { .. } => "the guest is ready; logging in".to_owned(),
            agent::Event::Warning { .. } | agent::Event::Failed { .. } | agent::Event::Answer { .. } => {
                return None;
            }
        },
        _ => return None,
    })
}
