//! What a running machine was made of, kept to tell what has changed since in the project.

use serde::{Deserialize, Serialize};

use crate::host::spec::Spec;
use crate::instance::Place;
use crate::lifecycle::Error;
use crate::lifecycle::kept::Kept;
use crate::lifecycle::request::written_by_up;
use crate::vm::ports::Forward;

/// In an instance's state directory: the shape of the machine that was started last.
pub(super) const FILE: Kept = Kept { file: "started.json", remedy: written_by_up };

/// A machine, as far as only a restart changes it, and the hash of what an apply changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Name of the image: a hash of what it is made of.
    pub image: String,
    arch: String,
    machine: String,
    network: String,
    cpus: u32,
    memory_mib: u64,
    disk_mib: u64,
    forwards: Vec<Forward>,
    /// Of the files that an apply brings to the guest; empty until they were staged.
    #[serde(default)]
    share: String,
}

impl Shape {
    /// That of a host with this image.
    pub(super) fn of(spec: &Spec, image: String) -> Self {
        Self {
            image,
            arch: spec.arch.to_string(),
            machine: spec.machine_type.to_string(),
            network: spec.network.name().to_owned(),
            cpus: spec.cpus,
            memory_mib: spec.memory.in_mebibytes(),
            disk_mib: spec.disk.in_mebibytes(),
            forwards: spec.forwards.clone(),
            share: String::new(),
        }
    }

    /// The same with the files that an apply brings.
    pub(super) fn with_share(self, share: String) -> Self {
        Self { share, ..self }
    }

    /// The same with the files of another.
    pub(super) fn with_share_of(self, other: &Self) -> Self {
        self.with_share(other.share.clone())
    }

    /// That of the machine which was started last, if one was.
    ///
    /// # Errors
    /// It is damaged, or a newer civm wrote it.
    pub fn last(place: &Place) -> Result<Option<Self>, Error> {
        FILE.load(place)
    }

    pub(super) fn save(&self, place: &Place) -> Result<(), Error> {
        FILE.save(place, self)
    }

    /// Whether an apply would bring something.
    pub(super) fn has_other_share(&self, now: &Self) -> bool {
        self.share != now.share
    }

    /// What only a restart changes, as text for the user.
    pub(super) fn differences(&self, now: &Self) -> Vec<String> {
        let ports = |forwards: &[Forward]| {
            let shown = forwards.iter().map(|forward| match forward.host_port {
                0 => format!("auto:{}", forward.guest_port),
                port => format!("{}:{port}:{}", forward.address, forward.guest_port),
            });
            shown.collect::<Vec<_>>().join(" ")
        };
        let mib = |size: u64| format!("{size} MiB");
        let pairs = [
            ("arch", self.arch.clone(), now.arch.clone()),
            ("machine", self.machine.clone(), now.machine.clone()),
            ("network", self.network.clone(), now.network.clone()),
            ("cpus", self.cpus.to_string(), now.cpus.to_string()),
            ("memory", mib(self.memory_mib), mib(now.memory_mib)),
            ("disk", mib(self.disk_mib), mib(now.disk_mib)),
            ("forwards", ports(&self.forwards), ports(&now.forwards)),
        ];
        let mut found: Vec<String> = pairs
            .into_iter()
            .filter(|(_, then, now)| then != now)
            .map(|(what, then, now)| format!("{what}: {then} -> {now}"))
            .collect();
        if self.image != now.image {
            found.push("packages, or what else the image is made of".to_owned());
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::Shape;
    use crate::vm::ports::Forward;

    fn shape() -> Shape {
        Shape {
            image: "a".into(),
            arch: "x86_64".into(),
            machine: "q35".into(),
            network: "no-host".into(),
            cpus: 2,
            memory_mib: 1024,
            disk_mib: 4096,
            forwards: vec![Forward::loopback(0, 22)],
            share: "one".into(),
        }
    }

    #[test]
    fn what_needs_a_restart_is_told_and_what_an_apply_brings_is_not_among_it() {
        let now =
            Shape { cpus: 4, image: "b".into(), forwards: vec![Forward::loopback(80, 8080)], ..shape() };
        assert_eq!(
            shape().differences(&now),
            [
                "cpus: 2 -> 4",
                "forwards: auto:22 -> 127.0.0.1:80:8080",
                "packages, or what else the image is made of"
            ]
        );
        let applied = shape().with_share("two".into());
        assert!(shape().differences(&applied).is_empty() && shape().has_other_share(&applied));
        assert!(!shape().has_other_share(&shape()));
    }
}
