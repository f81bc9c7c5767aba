//! What of a layer is in force in this boot; the next apply is compared with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::sshd::Settings;
use super::{Error, files};
use crate::host::layer::Layer;
use crate::vm::agent::answer::Step;

/// Where it lies: in memory, since a boot begins with nothing.
pub(super) const PATH: &str = "/run/civm/in-force.json";

/// What of a layer is in force.
///
/// `layer` changes only once all of another one is. An apply that was cut off is done again in whole by the next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct InForce {
    pub(super) layer: Layer,
    /// What kernel parameters were before a layer set them.
    pub(super) sysctls: BTreeMap<String, String>,
    /// Units of layers in whose place a mask was.
    pub(super) masked: BTreeSet<String>,
    /// What is to be done with units, and was not yet: the files that ask for it may be as wanted already.
    pub(super) pending: Vec<Step>,
    /// The settings that sshd has read.
    pub(super) sshd: Settings,
}

impl InForce {
    /// Reads it; before the first apply of a boot nothing is in force.
    pub(super) fn load(path: &Path) -> Result<Self, Error> {
        match fs::read(path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|error| Error::content(path, error.to_string()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::io("read", path)(error)),
        }
    }

    /// Remembers what an apply of another layer is about to bring, before it does: whenever it is cut off, the next
    /// one takes away what it does not want of it, and does what was to be done with units.
    pub(super) fn expect(&mut self, layer: &Layer, steps: &[Step]) {
        let known = &mut self.layer;
        for (name, unit) in &layer.units {
            known.units.entry(name.clone()).or_insert_with(|| unit.clone());
        }
        for (path, file) in &layer.files {
            known.files.entry(path.clone()).or_insert_with(|| file.clone());
        }
        for (key, value) in &layer.sysctls {
            known.sysctls.entry(key.clone()).or_insert_with(|| value.clone());
        }
        let new = layer.services.iter().filter(|name| !known.services.contains(name));
        let new: Vec<String> = new.cloned().collect();
        known.services.extend(new);
        self.pending = steps.to_vec();
    }

    pub(super) fn save(&self, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec(self).map_err(|error| Error::content(path, error.to_string()))?;
        files::write(path, &text, 0o600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::agent::answer::Verb;

    #[test]
    fn what_an_apply_is_about_to_bring_can_be_taken_away() {
        use crate::host::layer::Unit;
        let unit = |text: &str| Unit { text: text.to_owned(), start: true };
        let with = |units: &[(&str, &str)], services: &[&str]| Layer {
            units: units.iter().map(|(name, text)| ((*name).to_owned(), unit(text))).collect(),
            services: services.iter().map(|name| (*name).to_owned()).collect(),
            ..Layer::default()
        };
        let mut force = InForce { layer: with(&[("a", "1"), ("b", "1")], &["s"]), ..InForce::default() };
        force.expect(&with(&[("a", "2"), ("c", "2")], &["s", "t"]), &[]);
        assert_eq!(force.layer, with(&[("a", "1"), ("b", "1"), ("c", "2")], &["s", "t"]));
    }

    #[test]
    fn what_is_in_force_is_remembered_within_a_boot() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("in-force.json");
        assert_eq!(InForce::load(&path).expect("none"), InForce::default());
        let step = Step { verb: Verb::Restart, unit: "a.service".to_owned() };
        let layer = Layer { hostname: "h".to_owned(), ..Layer::default() };
        let force = InForce { layer, pending: vec![step], ..InForce::default() };
        force.save(&path).expect("saved");
        assert_eq!(InForce::load(&path).expect("loaded"), force);
    }
}
