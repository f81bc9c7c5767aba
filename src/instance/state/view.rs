//! All instances of this user at one moment.

use super::{Home, Place, Record, Stages, directories, name_of};
use crate::instance::error::Error;

/// Every instance that ever was, of all projects of this user, and those that run without their state directory; with
/// the processes that hold the living ones.
#[derive(Debug)]
pub struct View {
    pub(super) places: Vec<(Place, Result<Option<Record>, Error>)>,
    stages: Stages,
}

impl View {
    pub(super) fn of(home: &Home) -> Self {
        let stages = Stages::now();
        let mut places = Vec::new();
        for project in directories(&home.path) {
            for path in directories(&project) {
                let record = Record::load(&path);
                let (project, name) = match &record {
                    Ok(Some(record)) => (record.project.clone(), record.name.clone()),
                    Ok(None) => continue,
                    // A record that nobody can read does not say whose it is, but its directory's name does.
                    Err(_) => (project.clone(), name_of(&path)),
                };
                places.push((Place { project, name, path }, record));
            }
        }
        for stage in stages.all() {
            let Some(runtime) = &stage.runtime else { continue };
            let known = places.iter().any(|(place, _)| place.path == stage.place.path);
            if stage.place.path.starts_with(&home.path) && !known {
                places.push((stage.place.clone(), Record::load(runtime)));
            }
        }
        places.sort_by(|(a, _), (b, _)| (&a.project, &a.name).cmp(&(&b.project, &b.name)));
        Self { places, stages }
    }

    /// Whether a keeper or a supervisor of an instance lives.
    pub(super) fn is_alive(&self, place: &Place) -> bool {
        place.holds_locks() || self.stages.has(place)
    }

    /// The running instances.
    #[must_use]
    pub fn running(&self) -> Vec<Record> {
        let alive = self.places.iter().filter(|(place, _)| self.is_alive(place));
        let records = alive.filter_map(|(place, record)| {
            let record = record.as_ref().ok()?.clone()?;
            Some(place.alive(record))
        });
        records.collect()
    }

    /// Removes what dead instances left.
    pub fn sweep(&self) {
        let dead = self.places.iter().filter(|(place, record)| record.is_ok() && !self.is_alive(place));
        dead.for_each(|(place, _)| place.sweep());
    }

    /// What is wrong with the state of instances: records of another version of civm, and machines whose state
    /// directory was removed while they ran.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let complaint = |(place, record): &(Place, Result<Option<Record>, Error>)| match record {
            Err(error) => Some(error.to_string()),
            Ok(_) => place.lost_directory_of(&self.stages),
        };
        self.places.iter().filter_map(complaint).collect()
    }
}
