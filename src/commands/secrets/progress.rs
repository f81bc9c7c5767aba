//! Progress of work on many files.

use indicatif::{ProgressBar, ProgressStyle};

use crate::commands::Context;

/// A progress bar (hidden if none may be drawn), and a function that sets its total and advances it by one file.
pub(super) fn progress(context: &Context) -> (ProgressBar, impl Fn(usize) + Sync) {
    let bar = if context.screen.draws() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} files");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let moved = bar.clone();
    (bar, move |total| {
        moved.set_length(total as u64);
        moved.inc(1);
    })
}
