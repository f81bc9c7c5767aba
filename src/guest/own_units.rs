//! Units that a layer brings: their files below `/run`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::force::InForce;
use super::notes::Notes;
use super::{Error, files, units};
use crate::host::layer::Layer;
use crate::vm::agent::answer::{How, What};

/// What a unit is masked with.
const NOWHERE: &str = "/dev/null";

/// Writes the layer's units into `dir` and removes those that it no longer has; `true` where systemd may have read
/// another one of the same name.
pub(super) fn apply(
    layer: &Layer,
    force: &mut InForce,
    root: &Path,
    dir: &Path,
    dry_run: bool,
    notes: &mut Notes,
) -> Result<bool, Error> {
    let mut known = false;
    for (name, unit) in &layer.units {
        check(name)?;
        let path = dir.join(name);
        let (is_mask, is_there) = (is_mask(&path), path.symlink_metadata().is_ok());
        if !is_mask && fs::read(&path).is_ok_and(|text| text == unit.text.as_bytes()) {
            continue;
        }
        notes.note(What::Unit, if is_there && !is_mask { How::Changed } else { How::Added }, name);
        if is_mask {
            force.masked.insert(name.clone());
        }
        if dry_run {
            continue;
        }
        known |= is_there || units::is_of_image(root, name);
        // Renamed into place, so that a mask, which is a link to /dev/null, is replaced and not written through.
        files::write(&path, unit.text.as_bytes(), 0o644)?;
    }
    let gone: BTreeSet<String> =
        force.layer.units.keys().filter(|name| !layer.units.contains_key(*name)).cloned().collect();
    for name in gone {
        notes.note(What::Unit, How::Removed, &name);
        if dry_run {
            continue;
        }
        known = true;
        let path = dir.join(&name);
        files::remove(&path)?;
        if force.masked.remove(&name) {
            symlink(NOWHERE, &path).map_err(Error::io("mask", &path))?;
        }
    }
    Ok(known)
}

fn is_mask(path: &Path) -> bool {
    fs::read_link(path).is_ok_and(|to| to == Path::new(NOWHERE))
}

fn check(name: &str) -> Result<(), Error> {
    if name.contains('/') {
        return Err(Error::content(name, "is not a name of a unit"));
    }
    if units::is_own(name) {
        let reason = "is the name of a unit of civm's own: give this unit another one";
        return Err(Error::content(name, reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::layer::Unit;

    fn layer(units: &[(&str, &str)]) -> Layer {
        let unit = |text: &str| Unit { text: text.to_owned(), start: true };
        let units = units.iter().map(|(name, text)| ((*name).to_owned(), unit(text)));
        Layer { units: units.collect(), ..Layer::default() }
    }

    #[test]
    fn a_unit_of_the_layer_replaces_a_mask_and_none_of_civms_own() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (root, at) = (dir.path().join("root"), dir.path());
        let mut force = InForce::default();
        let mut place = |units: &[(&str, &str)]| {
            let mut notes = Notes::default();
            let layer = layer(units);
            let known = apply(&layer, &mut force, &root, at, false, &mut notes)?;
            force.layer = layer;
            let hows: Vec<How> = notes.changes.iter().map(|change| change.how).collect();
            Ok::<_, Error>((known, hows))
        };
        symlink(NOWHERE, at.join("ssh.service")).expect("a mask");
        let read = |name: &str| fs::read_to_string(at.join(name)).expect("a file");
        assert_eq!(place(&[("ssh.service", "[Unit]\n")]).expect("written"), (true, vec![How::Added]));
        assert_eq!(read("ssh.service"), "[Unit]\n");
        let both = [("ssh.service", "[Unit]\n"), ("new.service", "1")];
        assert_eq!(place(&both).expect("written"), (false, vec![How::Added]));
        assert_eq!(place(&both).expect("written"), (false, vec![]));
        let changed = [("new.service", "2")];
        assert_eq!(place(&changed).expect("written"), (true, vec![How::Changed, How::Removed]));
        assert_eq!(read("new.service"), "2");
        assert!(is_mask(&at.join("ssh.service")), "what was masked is so again");
        assert!(place(&[("civm-sshd.service", "")]).is_err() && place(&[("../x", "")]).is_err());
    }

    #[test]
    fn a_dry_run_writes_no_unit() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut notes = Notes::default();
        let mut force = InForce { layer: layer(&[("old.service", "1")]), ..InForce::default() };
        let new = layer(&[("new.service", "1")]);
        apply(&new, &mut force, dir.path(), dir.path(), true, &mut notes).expect("looked at");
        assert_eq!(notes.changes.len(), 2);
        assert!(fs::read_dir(dir.path()).expect("there").next().is_none());
    }
}
