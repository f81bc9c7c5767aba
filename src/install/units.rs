//! Telling NixOS which units to restart and reload.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::Log;
use super::difference::Difference;
use super::error::Error;
use crate::edge::environment::Environment;
use crate::edge::process;

/// Who restarts and reloads units.
#[derive(Clone, Debug, Default)]
pub enum Units {
    /// The caller, or nobody.
    #[default]
    Caller,
    /// The switch of NixOS, which reads lists of units in a directory (`/run/nixos`).
    Lists(PathBuf),
    /// systemd, asked through systemctl.
    Systemctl(Environment),
}

/// The two kinds of order, with the words of a list's name, of systemctl and of a dry run.
const ORDERS: [(&str, &str, &str); 2] =
    [("restart", "try-restart", "would restart"), ("reload", "try-reload-or-restart", "would reload")];

impl Units {
    /// What is done before the new secrets are active: the lists are written, so that a run that is cut short has listed
    /// too many units rather than too few.
    pub(super) fn list(
        &self,
        difference: &Difference,
        dry_run: bool,
        log: &mut Log<'_>,
    ) -> Result<(), Error> {
        for ((kind, _, would), names) in ORDERS.into_iter().zip([&difference.restart, &difference.reload]) {
            match self {
                Self::Lists(dir) if !names.is_empty() && dir.is_dir() => {
                    let dry = if dry_run { "dry-" } else { "" };
                    let path = dir.join(format!("{dry}activation-{kind}-list"));
                    append(&path, names).map_err(Error::io("write", path))?;
                }
                Self::Systemctl(_) if dry_run && !names.is_empty() => {
                    log.line(&format!("{would} {}", names.join(" ")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What is done when the new secrets are active: systemd is asked. Both orders are given even if the first one fails.
    pub(super) fn order(&self, difference: &Difference, log: &mut Log<'_>) -> Result<(), Error> {
        let Self::Systemctl(environment) = self else { return Ok(()) };
        let mut failed = Vec::new();
        for ((_, verb, _), names) in ORDERS.into_iter().zip([&difference.restart, &difference.reload]) {
            if names.is_empty() {
                continue;
            }
            let words = || format!("'systemctl --no-block {verb} {}'", names.join(" "));
            let mut command = process::command("systemctl", environment);
            command.args(["--no-block", verb]).args(names).stdin(Stdio::null());
            match command.output() {
                Err(error) => failed.push(format!("cannot run {}: {error}", words())),
                Ok(output) => {
                    let said = [output.stdout, output.stderr].concat();
                    String::from_utf8_lossy(&said).lines().for_each(|line| log.line(line));
                    if !output.status.success() {
                        failed.push(format!("{} failed ({})", words(), output.status));
                    }
                }
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(Error::Units(failed.join("; "))) }
    }
}

fn append(path: &Path, names: &[String]) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let mut text = names.join("\n");
    text.push('\n');
    file.write_all(text.as_bytes())
}
