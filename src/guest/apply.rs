//! `civm guest apply`: everything that is particular to the instance, in one place of the boot.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::files::Overlay;
use super::state::{self, State};
use super::{Error, console, events, identity, share, units, users};
use crate::host::layer::{Layer, ROOTFS};
use crate::host::rootfs::{Entry, Kind};
use crate::vm::agent::Event;

/// The layer, kept for the part of the work that sshd need not wait for.
pub(super) const LAYER_COPY: &str = "/run/civm/layer.json";

/// Applies the layer and reports how it went.
pub(super) fn run() -> Result<(), Error> {
    // The point: what comes before is the same for every instance of an image.
    events::send(&Event::Point { uptime_ms: events::uptime_ms() });
    apply().inspect_err(|error| {
        if super::settle::first_failure() {
            console::say(&format!("cannot apply the host layer: {error}"));
            events::send(&Event::Failed { message: format!("the host layer: {error}") });
        }
    })
}

fn apply() -> Result<(), Error> {
    share::mount_share()?;
    share::take_key()?;
    events::send(&Event::KeyTaken);
    let layer = share::read_layer()?;
    if layer.console_login {
        super::files::write(Path::new(units::CONSOLE_LOGIN), b"", 0o644)?;
    }
    if identity::clock(Duration::from_secs(layer.time))? {
        console::log("the clock lagged behind the host's and was set");
    }
    identity::host_name(&layer.hostname)?;
    identity::machine_id(&layer.machine_id)?;
    apply_files(&layer)?;
    for (key, value) in &layer.sysctls {
        if let Err(error) = sysctl(key, value) {
            warn(format!("sysctl {key}: {error}"));
        }
    }
    write_units(&layer)?;
    keep(&layer)?;
    events::send(&Event::LayerApplied);
    super::secrets::install(&layer)
}

/// Files and users; what they leave behind is remembered even where a later step fails.
fn apply_files(layer: &Layer) -> Result<(), Error> {
    let dir = Path::new(state::DIR);
    let mut state = State::load(dir)?;
    let done = lay(layer, dir, &mut state).and_then(|()| users::apply(layer, &mut state));
    state.save(dir)?;
    done
}

fn lay(layer: &Layer, dir: &Path, state: &mut State) -> Result<(), Error> {
    let source = share::in_share(ROOTFS);
    let entries =
        crate::host::rootfs::read(&source).map_err(|error| Error::content(&source, error.to_string()))?;
    let mut overlay = Overlay::new(Path::new("/"), dir, state);
    for entry in &entries {
        overlay.place(entry)?;
    }
    for (path, file) in &layer.files {
        let content = Kind::File(file.text.clone().into_bytes());
        overlay.place(&Entry { path: PathBuf::from(path), mode: file.mode, kind: content })?;
    }
    overlay.finish()
}

/// Sets a kernel parameter: dots (or slashes) of its name are directories below /proc/sys.
fn sysctl(key: &str, value: &str) -> Result<(), Error> {
    let path = sysctl_path(key)?;
    fs::write(&path, value).map_err(Error::io("write", &path))
}

fn sysctl_path(key: &str) -> Result<PathBuf, Error> {
    // As sysctl(8): whichever separator comes first separates, the other one is part of a name.
    let slashed = key.find('/').is_some_and(|slash| key.find('.').is_none_or(|dot| slash < dot));
    let name: String = if slashed {
        key.to_owned()
    } else {
        key.chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect()
    };
    if name.split('/').any(|part| part.is_empty() || part == "..") {
        return Err(Error::content(key, "is not a kernel parameter"));
    }
    Ok(Path::new("/proc/sys").join(name))
}

fn write_units(layer: &Layer) -> Result<(), Error> {
    // systemd finds units that are new to it by itself.
    if place_units(layer, Path::new("/"), Path::new(units::RUN_DIR))? {
        console::run("systemctl", &["daemon-reload"])
    } else {
        Ok(())
    }
}

/// Writes the units of the layer; `true` where systemd may have read another one of the same name.
fn place_units(layer: &Layer, root: &Path, dir: &Path) -> Result<bool, Error> {
    let mut known = false;
    for (name, unit) in &layer.units {
        if name.contains('/') {
            return Err(Error::content(name, "is not a name of a unit"));
        }
        if units::is_own(name) {
            return Err(Error::content(
                name,
                "is the name of a unit of civm's own: give this unit another one",
            ));
        }
        let path = dir.join(name);
        known |= units::is_of_image(root, name) || path.symlink_metadata().is_ok();
        // Renamed into place, so that a mask, which is a link to /dev/null, is replaced and not written through.
        super::files::write(&path, unit.text.as_bytes(), 0o644)?;
    }
    Ok(known)
}

fn keep(layer: &Layer) -> Result<(), Error> {
    let text = serde_json::to_vec(layer).map_err(|error| Error::content(LAYER_COPY, error.to_string()))?;
    super::files::write(Path::new(LAYER_COPY), &text, 0o600)
}

/// Reports what is wrong, though the guest is of use without it.
pub(super) fn warn(message: String) {
    console::log(&message);
    events::send(&Event::Warning { message });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_of_the_layer_replaces_a_mask_and_none_of_civms_own() {
        use crate::host::layer::Unit;
        let dir = tempfile::tempdir().expect("tempdir");
        let layer = |name: &str| {
            let unit = Unit { text: "[Unit]\n".to_owned(), start: true };
            Layer { units: [(name.to_owned(), unit)].into(), ..Layer::default() }
        };
        let place = |name: &str| place_units(&layer(name), &dir.path().join("root"), dir.path());
        std::os::unix::fs::symlink("/dev/null", dir.path().join("ssh.service")).expect("a mask");
        assert!(place("ssh.service").expect("written"), "systemd may know the mask");
        assert_eq!(fs::read_to_string(dir.path().join("ssh.service")).expect("a file"), "[Unit]\n");
        assert!(!place("new.service").expect("written"));
        assert!(place("civm-sshd.service").is_err() && place("../x").is_err());
    }

    #[test]
    fn kernel_parameters_are_found_below_proc() {
        let path = |key| sysctl_path(key).expect("path");
        assert_eq!(path("vm.swappiness"), Path::new("/proc/sys/vm/swappiness"));
        assert_eq!(path("net.ipv4.conf.eth0/1.x"), Path::new("/proc/sys/net/ipv4/conf/eth0.1/x"));
        assert_eq!(path("net/ipv4/conf/eth0.1/x"), Path::new("/proc/sys/net/ipv4/conf/eth0.1/x"));
        assert!(sysctl_path("../x").is_err());
        assert!(sysctl_path("a//b").is_err());
    }
}
