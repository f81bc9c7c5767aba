//! Parameters of the kernel.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::Error;
use super::force::InForce;
use super::notes::Notes;
use crate::host::layer::Layer;
use crate::vm::agent::answer::{How, What};

/// Below it each parameter is a file.
pub(super) const ROOT: &str = "/proc/sys";

/// Sets the layer's parameters, and gives those that it no longer has the value that they had before. One that cannot
/// be set is a warning.
pub(super) fn apply(layer: &Layer, force: &mut InForce, root: &Path, dry_run: bool, notes: &mut Notes) {
    let gone = |key: &&String| !layer.sysctls.contains_key(*key);
    let removed: Vec<String> = force.layer.sysctls.keys().filter(gone).cloned().collect();
    for key in removed {
        notes.note(What::Sysctl, How::Removed, &key);
        match force.sysctls.get(&key) {
            None => notes.restart_for.push(format!("the sysctl {key}, whose former value is not known")),
            Some(former) if !dry_run => {
                if let Err(error) = file(root, &key).and_then(|path| set(&path, former)) {
                    notes.warn(format!("sysctl {key}: {error}"));
                }
                force.sysctls.remove(&key);
            }
            Some(_) => {}
        }
    }
    for (key, value) in &layer.sysctls {
        if let Err(error) = one(key, value, &mut force.sysctls, root, dry_run, notes) {
            notes.warn(format!("sysctl {key}: {error}"));
        }
    }
}

fn one(
    key: &str,
    value: &str,
    former: &mut BTreeMap<String, String>,
    root: &Path,
    dry_run: bool,
    notes: &mut Notes,
) -> Result<(), Error> {
    let path = file(root, key)?;
    // Some can only be written.
    let now = fs::read_to_string(&path).unwrap_or_default();
    if now.split_whitespace().eq(value.split_whitespace()) {
        return Ok(());
    }
    notes.note(What::Sysctl, How::Changed, key);
    former.entry(key.to_owned()).or_insert(now);
    if dry_run { Ok(()) } else { set(&path, value) }
}

fn set(path: &Path, value: &str) -> Result<(), Error> {
    fs::write(path, value).map_err(Error::io("write", path))
}

/// Where a parameter lies: dots (or slashes) of its name are directories below /proc/sys.
fn file(root: &Path, key: &str) -> Result<PathBuf, Error> {
    // As sysctl(8): whichever separator comes first separates, the other one is part of a name.
    let slashed = key.find('/').is_some_and(|slash| key.find('.').is_none_or(|dot| slash < dot));
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let name: String = if slashed { key.to_owned() } else { key.chars().map(swap).collect() };
    if name.split('/').any(|part| part.is_empty() || part == "..") {
        return Err(Error::content(key, "is not a kernel parameter"));
    }
    Ok(root.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_parameters_are_found_below_proc() {
        let path = |key| file(Path::new(ROOT), key).expect("path");
        assert_eq!(path("vm.swappiness"), Path::new("/proc/sys/vm/swappiness"));
        assert_eq!(path("net.ipv4.conf.eth0/1.x"), Path::new("/proc/sys/net/ipv4/conf/eth0.1/x"));
        assert_eq!(path("net/ipv4/conf/eth0.1/x"), Path::new("/proc/sys/net/ipv4/conf/eth0.1/x"));
        assert!(file(Path::new(ROOT), "../x").is_err());
        assert!(file(Path::new(ROOT), "a//b").is_err());
    }

    #[test]
    fn a_parameter_that_is_no_longer_set_has_its_former_value_again() {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = dir.path();
        fs::create_dir(root.join("vm")).expect("mkdir");
        fs::write(root.join("vm/a"), "1\t2\n").expect("write");
        let layer = |values: &[(&str, &str)]| Layer {
            sysctls: values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            ..Layer::default()
        };
        let read = || fs::read_to_string(root.join("vm/a")).expect("there");
        let mut force = InForce::default();
        let mut step = |values: &[(&str, &str)], dry_run| {
            let mut notes = Notes::default();
            apply(&layer(values), &mut force, root, dry_run, &mut notes);
            if !dry_run {
                force.layer = layer(values);
            }
            (notes.changes.iter().map(|change| change.how).collect::<Vec<_>>(), notes.warnings.len())
        };
        assert_eq!(step(&[("vm.a", "1 2")], false), (vec![], 0));
        assert_eq!(step(&[("vm.a", "3")], true), (vec![How::Changed], 0));
        assert_eq!(read(), "1\t2\n");
        assert_eq!(step(&[("vm.a", "3")], false), (vec![How::Changed], 0));
        assert_eq!(step(&[("vm.a", "4")], false), (vec![How::Changed], 0));
        assert_eq!(step(&[], false), (vec![How::Removed], 0));
        assert_eq!(read(), "1\t2\n");
        assert_eq!(step(&[("no.such/thing", "1")], false).1, 1);
    }
}
