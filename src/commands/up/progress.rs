//! What is shown while an instance starts.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::commands::screen::columns;
use crate::commands::{Screen, secrets};
use crate::edge::terminal::{self, Prompt as _, Terminal};
use crate::image;
use crate::instance::Event;
use crate::lifecycle::{Observer, Progress, Split, Step};
use crate::vm::agent;

/// Resolution of the bar.
const STEPS: u64 = 1000;

/// Draws a bar while an image is built and a spinner during a start, on a terminal; elsewhere prints only notes,
/// warnings and, with `--verbose`, each step.
pub(in crate::commands) struct Watch {
    bar: ProgressBar,
    screen: Screen,
    name: String,
}

impl Watch {
    pub(in crate::commands) fn new(screen: Screen, name: &str) -> Self {
        Self { bar: ProgressBar::hidden(), screen, name: name.to_owned() }
    }

    /// Removes what is drawn.
    pub(in crate::commands) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn note(&self, line: impl AsRef<str>) {
        self.bar.suspend(|| self.screen.note(line));
    }

    fn warn(&self, line: impl AsRef<str>) {
        self.bar.suspend(|| self.screen.warn(line));
    }

    fn detail(&self, line: impl AsRef<str>) {
        self.bar.suspend(|| self.screen.detail(line));
    }

    /// Puts another bar in the place of the one that is drawn.
    fn draw(&mut self, bar: impl FnOnce() -> ProgressBar) {
        self.bar.finish_and_clear();
        self.bar = if self.screen.draws() { bar() } else { ProgressBar::hidden() };
    }

    fn image(&mut self, event: &image::Event) {
        match event {
            image::Event::Waiting => self.note("another civm is building this image; waiting for it"),
            image::Event::Building { log } => {
                self.note("building the image (once for these packages; this takes a minute or two, much longer for another architecture)");
                self.detail(format!("the output of the tools is in `{}`", log.display()));
                self.draw(|| {
                    let style = ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}");
                    ProgressBar::new(STEPS).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
                });
            }
            image::Event::BuildingWithNix { log } => {
                self.note("building the configuration's machine with nix");
                self.detail(format!("what nix says is in `{}`", log.display()));
            }
            image::Event::Step { name } => self.bar.set_message(*name),
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "from 0 to 1 times the steps"
            )]
            image::Event::Fraction(done) => {
                self.bar.set_position((done.clamp(0.0, 1.0) * STEPS as f32) as u64);
            }
            image::Event::Built { seconds } => {
                self.draw(ProgressBar::hidden);
                self.note(format!("the image was built in {seconds} s"));
            }
        }
    }

    fn fetching(&mut self, url: &str, done: u64, total: Option<u64>) {
        if done == 0 {
            self.note(format!("fetching {url}"));
            self.draw(|| {
                let template = "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}";
                let style = ProgressStyle::with_template(template);
                ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            });
        }
        self.bar.set_length(total.unwrap_or(done));
        self.bar.set_position(done);
    }

    fn instance(&mut self, event: &Event) {
        match event {
            Event::Warning { message } | Event::Guest { report: agent::Event::Warning { message } } => {
                self.warn(message);
            }
            Event::Accel { accel, reason } => {
                self.note(format!("accelerator: {accel} ({reason})"));
                let message = format!("starting {}", self.name);
                self.draw(|| {
                    // The time is that of the step.
                    let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
                    let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
                    let bar = ProgressBar::new_spinner().with_style(style).with_message(message);
                    bar.enable_steady_tick(Duration::from_millis(100));
                    bar
                });
            }
            Event::Stopping { .. } => self.note(format!("asking `{}` to power off", self.name)),
            Event::Insisting { how } => self.note(how),
            other => {
                if let Some(step) = step(other) {
                    self.bar.set_message(step.clone());
                    self.bar.reset_elapsed();
                    self.detail(step);
                }
            }
        }
    }
}

impl Observer for Watch {
    fn tell(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Image(event) => self.image(event),
            Progress::Instance(event) => self.instance(event),
            Progress::Waiting { name } => {
                self.note(format!("another civm is starting or changing {name}; waiting for it"));
            }
            Progress::Unlisted { host, keys } => self.note(format!(
                "not installed, because `secrets:` in host.yaml does not list them: {} (hosts/{host}/secrets.yaml)",
                keys.join(", ")
            )),
            Progress::WithoutSecrets { name } => self.warn(format!("{name} boots without its secrets")),
            Progress::DiskGone { path } => self.warn(format!(
                "`{}` has disappeared since the last run: creating a new, empty disk",
                path.display()
            )),
            Progress::DiskLarger { path, has_mib, wanted_mib } => self.warn(format!(
                "`{}` has {has_mib} MiB, more than the {wanted_mib} MiB in host.yaml; it is left unchanged",
                path.display()
            )),
            Progress::DiskOfOtherImage { path, difference } => self.warn(format!(
                "`{}` was made from another image ({difference}): `--fresh` starts with a new disk, and loses what is \
                 on this one",
                path.display()
            )),
            Progress::Cold { reason } => self.note(format!("no warm start: {reason}")),
            Progress::DiskRemoved { path } => self.note(format!("removed the disk `{}`", path.display())),
            Progress::Fetching { url, done, total } => self.fetching(url, done, total),
            Progress::Fetched { url } => {
                self.draw(ProgressBar::hidden);
                self.detail(format!("fetched {url}"));
            }
            Progress::Warning(warning) => self.warn(warning),
            Progress::Ready { name, after, split } => {
                self.finish();
                self.detail(table(split).trim_end());
                self.note(format!("{name} is ready in {:.1} s", after.as_secs_f32()));
            }
        }
    }

    fn boots_without_secrets(&mut self, name: &str, error: &crate::secrets::Error) -> Option<bool> {
        if !terminal::can_ask() || !terminal::stdin_is_terminal() {
            return None;
        }
        self.screen.failure(&secrets::report(error));
        Some(Terminal.confirm(&format!("Boot {name} without its secrets?"), false).unwrap_or(false))
    }
}

/// The steps of a start with their times.
fn table(split: &Split) -> String {
    let row = |name: String, took: Duration| [name, format!("{:>9.3} s", took.as_secs_f64())];
    let mut rows = Vec::new();
    for timed in split.steps() {
        rows.push(row(timed.step.to_string(), timed.took()));
        if timed.step == Step::Staged {
            rows.push(row("= before QEMU".to_owned(), split.before_qemu()));
        }
    }
    columns(&rows)
}

fn step(event: &Event) -> Option<String> {
    Some(match event {
        Event::Opened { namespaces: true, .. } => "staged in namespaces of its own".to_owned(),
        Event::Opened { namespaces: false, .. } => "staged in private memory".to_owned(),
        Event::Staged { files } => format!("{files} files staged"),
        Event::Started { .. } => "the kernel is starting".to_owned(),
        Event::Resumed => "resumed from its template".to_owned(),
        Event::Frozen => "frozen at its guest's one point".to_owned(),
        Event::KeyRemoved => "the guest has its host key; the staged copy was removed".to_owned(),
        Event::Guest { report } => match report {
            agent::Event::Started { .. } => "the guest's first process is running".to_owned(),
            agent::Event::Point { .. } => "the generic part of the boot is done".to_owned(),
            agent::Event::KeyTaken => "the guest took its host key".to_owned(),
            agent::Event::LayerApplied => "the host layer is applied".to_owned(),
            agent::Event::SecretsInstalled { count, .. } => format!("{count} secrets installed"),
            agent::Event::Waiting { what } => format!("still starting: {what}"),
            agent::Event::Ready { .. } => "the guest is ready; logging in".to_owned(),
            agent::Event::Prepared
            | agent::Event::Warning { .. }
            | agent::Event::Failed { .. }
            | agent::Event::Answer { .. } => {
                return None;
            }
        },
        _ => return None,
    })
}
