//! nix.conf.

use super::builders;
use crate::host::spec::{Free, Jobs, Nix, Size, Spec, tuning};

/// Its text.
pub(super) fn conf(nix: &Nix, spec: &Spec) -> String {
    let mut lines = Lines(String::new());
    let mut trusted = vec!["root".to_owned()];
    trusted.extend(nix.trusted_users.iter().filter(|user| *user != "root").cloned());
    lines.add("build-users-group", "nixbld");
    lines.add("sandbox", nix.sandbox);
    lines.add("trusted-users", trusted.join(" "));
    lines.add("experimental-features", nix.experimental_features.join(" "));
    lines.add("builders-use-substitutes", nix.builders_use_substitutes);
    if !nix.deployed.is_empty() {
        // A file that is not there is an empty one. No blank: Nix 2.8 takes what follows one for the name of a machine.
        lines.add("builders", format!("@{};@{}", builders::MACHINES, builders::DEPLOYED_MACHINES));
    }
    lines.may("max-jobs", nix.max_jobs.map(|jobs| jobs_or(jobs, || "auto".to_owned())));
    let load = tuning::load(spec.cpus, spec.memory);
    lines.may("cores", nix.cores.map(|cores| jobs_or(cores, || load.cores.to_string())));
    lines.may("connect-timeout", nix.connect_timeout);
    lines.may("log-lines", nix.log_lines);
    let (min_free, max_free) = free(nix, spec.disk);
    lines.may("min-free", min_free.map(Size::bytes));
    lines.may("max-free", max_free.map(Size::bytes));
    lines.may("system-features", nix.system_features.as_ref().map(|list| list.join(" ")));
    if !nix.extra_platforms.is_empty() {
        lines.add("extra-platforms", nix.extra_platforms.join(" "));
    }
    lines.may("substituters", nix.substituters.as_ref().map(|list| list.join(" ")));
    if !nix.trusted_public_keys.is_empty() {
        lines.add("trusted-public-keys", nix.trusted_public_keys.join(" "));
    }
    nix.extra.iter().for_each(|line| lines.line(line));
    lines.0
}

fn jobs_or(jobs: Jobs, auto: impl Fn() -> String) -> String {
    match jobs {
        Jobs::Auto => auto(),
        Jobs::Count(count) => count.to_string(),
    }
}

/// What is kept free on a disk. The second is never less than the first, whichever of them was written down.
fn free(nix: &Nix, disk: Size) -> (Option<Size>, Option<Size>) {
    let size = |wanted: Option<Free>, auto: fn(Size) -> Size| {
        wanted.map(|wanted| match wanted {
            Free::Auto => auto(disk),
            Free::Size(size) => size,
        })
    };
    let min = size(nix.min_free, tuning::min_free);
    let max = size(nix.max_free, tuning::max_free);
    (min, max.map(|max| min.map_or(max, |min| min.max(max))))
}

/// Lines of `key = value`.
struct Lines(String);

impl Lines {
    fn add(&mut self, key: &str, value: impl std::fmt::Display) {
        self.line(&format!("{key} = {value}"));
    }

    fn may(&mut self, key: &str, value: Option<impl std::fmt::Display>) {
        if let Some(value) = value {
            self.add(key, value);
        }
    }

    fn line(&mut self, line: &str) {
        self.0.push_str(line.trim_end());
        self.0.push('\n');
    }
}
