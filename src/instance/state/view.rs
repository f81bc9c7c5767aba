//! All instances of this user at one moment.

use super::{Home, Place, Record, Stages, directories, name_of};
use crate::instance::error::Error;

/// Every instance that ever was, of all projects of this user, and those that run without their state directory; with
/// the processes that hold the living ones.
#[derive(Debug)]
pub struct View {
    pub(super) seen: Vec<Seen>,
    stages: Stages,
}

/// An instance as it was seen.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) place: Place,
    pub(super) record: Result<Option<Record>, Error>,
    /// Whether a keeper or a supervisor of it lives.
    pub(super) is_alive: bool,
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
        let seen = places.into_iter().map(|(place, record)| {
            let is_alive = place.holds_locks() || stages.has(&place);
            Seen { place, record, is_alive }
        });
        Self { seen: seen.collect(), stages }
    }

    /// The running instances.
    #[must_use]
    pub fn running(&self) -> Vec<Record> {
        let alive = self.seen.iter().filter(|seen| seen.is_alive);
        let records = alive.filter_map(|Seen { place, record, .. }| {
            let record = record.as_ref().ok()?.clone()?;
            Some(place.alive(record))
        });
        records.collect()
    }

    /// The last runs of instances that are down.
    #[must_use]
    pub fn down(&self) -> Vec<Record> {
        let down = self.seen.iter().filter(|seen| !seen.is_alive);
        down.filter_map(|seen| seen.record.as_ref().ok()?.clone()).collect()
    }

    /// Removes what dead instances left.
    pub fn sweep(&self) {
        let dead = self.seen.iter().filter(|seen| seen.record.is_ok() && !seen.is_alive);
        dead.for_each(|seen| seen.place.sweep());
    }

    /// What is wrong with the state of instances: records of another version of civm, and machines whose state
    /// directory was removed while they ran.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let complaint = |seen: &Seen| match &seen.record {
            Err(error) => Some(error.to_string()),
            Ok(_) => seen.place.lost_directory_of(&self.stages),
        };
        self.seen.iter().filter_map(complaint).collect()
    }
}
