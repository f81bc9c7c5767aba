//! `civm guest apply`: everything that is particular to the instance, in one place of the boot.

use std::fs;
use std::path::{Path, PathBuf};

use super::files::Overlay;
use super::state::{self, State};
use super::{Error, console, events, identity, share, units, users};
use crate::host::layer::{Layer, ROOTFS};
use crate::host::rootfs::{Entry, Kind};
use crate::vm::agent::Event;

/// The layer, kept for the part of the work that sshd need not wait for.
pub(super) const LAYER_COPY: &str = "/run/civm/layer.json";
/// Where units of the layer go: they live for this boot.
const UNIT_DIR: &str = "/run/systemd/system";

/// Applies the layer and says how it went.
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
    if identity::clock(layer.time)? {
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
        return Err(Error::content(key, "is no kernel parameter"));
    }
    Ok(Path::new("/proc/sys").join(name))
}

fn write_units(layer: &Layer) -> Result<(), Error> {
    for (name, unit) in &layer.units {
        if name.contains('/') {
            return Err(Error::content(name, "is no name of a unit"));
        }
        let path = Path::new(UNIT_DIR).join(name);
        fs::write(&path, &unit.text).map_err(Error::io("write", &path))?;
    }
    // systemd finds units that are new to it by itself.
    let known = layer.units.keys().any(|name| units::is_of_image(Path::new("/"), name));
    if known { console::run("systemctl", &["daemon-reload"]) } else { Ok(()) }
}

fn keep(layer: &Layer) -> Result<(), Error> {
    let text = serde_json::to_vec(layer).map_err(|error| Error::content(LAYER_COPY, error.to_string()))?;
    super::files::write(Path::new(LAYER_COPY), &text, 0o600)
}

/// Something that does not keep the guest from being of use.
pub(super) fn warn(message: String) {
    console::log(&message);
    events::send(&Event::Warning { message });
}

#[cfg(test)]
mod tests {
    use super::*;

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
