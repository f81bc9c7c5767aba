//! Builds the image and shows the progress.

use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};

use crate::commands::Context;
use crate::host::spec::Spec;
use crate::image::{Error, Event, Image, ImageSpec, debian};
use crate::outcome::{Code, Failure};

/// Names a file with apt sources for images, instead of this machine's own.
const SOURCES: &str = "CIVM_APT_SOURCES";
/// Resolution of the bar.
const STEPS: u64 = 1000;

/// The inputs of a host's image, and the cache.
fn wanted(spec: &Spec, context: &Context) -> Result<(ImageSpec, PathBuf), Failure> {
    let cache = cache(context).ok_or_else(|| {
        Failure::new(Code::Generic, "no directory for images: this account has no home directory")
            .help("set XDG_CACHE_HOME to another directory")
    })?;
    let image = ImageSpec {
        suite: spec.image.suite.clone(),
        arch: spec.arch,
        packages: spec.image.packages.clone(),
        sources: context.environment.non_empty(SOURCES).map(PathBuf::from),
        guest_binary: None,
    };
    Ok((image, cache))
}

/// Where images are kept.
pub(in crate::commands) fn cache(context: &Context) -> Option<PathBuf> {
    context.environment.cache_dir().map(|dir| dir.join("civm"))
}

/// The image of a host, and whether it is built.
pub(super) fn locate(spec: &Spec, context: &Context) -> Result<(Image, bool), Failure> {
    let (wanted, cache) = wanted(spec, context)?;
    debian::locate(&wanted, &cache, &context.environment).map_err(failure)
}

/// The image of a host, from the cache or built now.
pub(super) fn ensure(spec: &Spec, context: &Context) -> Result<Image, Failure> {
    let (wanted, cache) = wanted(spec, context)?;
    let bar = if context.screen.draws() { ProgressBar::new(STEPS) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let screen = context.screen;
    let made = debian::ensure(&wanted, &cache, &context.environment, &mut |event| match event {
        Event::Waiting => screen.note("another civm is building this image; waiting for it"),
        Event::Building { log } => {
            screen.note("building the image (once for these packages; this takes a minute or two)");
            screen.detail(format!("the output of the tools is in `{}`", log.display()));
        }
        Event::Step { name } => bar.set_message(name),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from 0 to 1 times the steps"
        )]
        Event::Fraction(done) => bar.set_position((done.clamp(0.0, 1.0) * STEPS as f32) as u64),
        Event::Built { seconds } => screen.note(format!("the image was built in {seconds} s")),
    });
    bar.finish_and_clear();
    made.map_err(failure)
}

/// An error of the `image` module, with advice.
pub(super) fn failure(error: Error) -> Failure {
    let help = match &error {
        Error::MissingTools(missing) => {
            let packages: Vec<&str> = missing.iter().map(|one| one.package).collect();
            Some(format!("sudo apt-get install {}", packages.join(" ")))
        }
        Error::NoPackages { .. } => Some("correct `packages` in host.yaml".to_owned()),
        _ => None,
    };
    help.into_iter().fold(Failure::new(Code::MachineUnavailable, error.to_string()), Failure::help)
}
