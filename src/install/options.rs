//! What a run needs to know besides the manifest.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::{Accounts, Units};
use crate::edge::environment::Environment;

/// Where the switch of NixOS finds lists of units.
const UNIT_LISTS: &str = "/run/nixos";

/// What a run needs to know besides the manifest.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Users and groups of the machine.
    pub accounts: Accounts,
    /// Look no user or group up: everything belongs to root (secrets that users are made from).
    pub ignore_passwd: bool,
    /// What `%r` stands for in user mode: `$XDG_RUNTIME_DIR`, where it is set.
    pub runtime_dir: Option<PathBuf>,
    /// Only find the difference: nothing is mounted, and no secret is written.
    pub dry_run: bool,
    /// Leave the active generation where the new one would not differ. sops-nix makes a new one whenever it runs.
    pub keep_alike: bool,
    /// Install what can be installed, and tell what was left out.
    pub partial: bool,
    /// Who restarts and reloads units whose secrets have changed.
    pub units: Units,
}

impl Options {
    /// For this machine, as sops-nix' variables ask for it.
    ///
    /// # Errors
    /// The machine's accounts cannot be read.
    pub fn of_machine(environment: &Environment) -> Result<Self, Error> {
        let is = |name: &str, value: &str| environment.get(name) == Some(OsStr::new(value));
        let units = if is("SOPS_RESTART_UNITS_VIA_SYSTEMCTL", "1") {
            Units::Systemctl(without_keys(environment))
        } else {
            Units::Lists(UNIT_LISTS.into())
        };
        let options = Self {
            accounts: Accounts::read(Path::new("/"))?,
            runtime_dir: environment.get("XDG_RUNTIME_DIR").map(PathBuf::from),
            partial: is("CIVM_PARTIAL", "1"),
            units,
            ..Self::default()
        };
        Ok(if is("NIXOS_ACTION", "dry-activate") { options.dry() } else { options })
    }

    /// The same for a dry run. The users of a system that is not active yet may not be there.
    #[must_use]
    pub fn dry(self) -> Self {
        Self { ignore_passwd: true, dry_run: true, ..self }
    }
}

/// Variables for a program that needs no key.
fn without_keys(environment: &Environment) -> Environment {
    let is_key = |name: &OsStr| name.as_bytes().starts_with(b"SOPS_");
    environment
        .iter()
        .filter(|(name, _)| !is_key(name))
        .fold(Environment::empty(), |kept, (name, value)| kept.with(name, value))
}
