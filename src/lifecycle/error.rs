//! Why an instance was not brought up.

use std::io;
use std::path::PathBuf;

use crate::host::project::HOST_FILE;
use crate::{host, image, instance, secrets};

/// Why an instance was not brought up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The instance itself.
    #[error(transparent)]
    Instance(#[from] instance::Error),
    /// It was started, did not become ready, and was stopped again.
    #[error("{error}")]
    NotReady {
        /// What went wrong.
        error: instance::Error,
        /// Where the logs are.
        logs: PathBuf,
    },
    /// Its image.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// Its host.yaml, or another file of the project.
    #[error(transparent)]
    Host(#[from] host::Error),
    /// A warm start was required.
    #[error("it cannot be started warm: {0}")]
    NotWarm(String),
    /// Its secrets.
    #[error(transparent)]
    Secrets(Box<secrets::Error>),
    /// Its secrets could not be opened, and somebody who was asked did not want it without them.
    #[error("{0} was not started")]
    Declined(String),
    /// This program runs on a kind of machine for which civm has no guests.
    #[error("civm cannot start machines on {}", std::env::consts::ARCH)]
    NoArch,
    /// Something from the net that cannot be had.
    #[error("{url}: {reason}")]
    Artifact {
        /// Where it comes from.
        url: String,
        /// Why not.
        reason: String,
    },
    /// There is nowhere to keep images.
    #[error("no directory for images: this account has no home directory")]
    NoCache,
    /// Resources that no machine can have.
    #[error("{0}")]
    Resources(String),
    /// An instance would have the name of another host.
    #[error("`{0}` is a host of this project, so an instance of another host cannot have its name")]
    NameOfHost(String),
    /// The instance exists, as a machine of another host.
    #[error("instance `{name}` is a machine of host `{host}`")]
    OtherHost {
        /// The instance.
        name: String,
        /// Its host.
        host: String,
    },
    /// The disk is a link that came with the project.
    #[error("`{}` is a link that is part of the project: it is not followed", .0.display())]
    TrackedLink(PathBuf),
    /// The disk belongs to another machine.
    #[error("the disk `{}` was made for {made_for}", .path.display())]
    OtherDisk {
        /// The disk.
        path: PathBuf,
        /// Whose it is.
        made_for: String,
    },
    /// host.yaml names users, groups, shells or a time zone that the guest will not have.
    #[error("hosts/{host}/{HOST_FILE}: {}", .problems.join("\n"))]
    Accounts {
        /// The host.
        host: String,
        /// What is wrong, a line each.
        problems: Vec<String>,
    },
    /// The project's source cannot be staged.
    #[error("the project's source: {0}")]
    Source(String),
    /// Its supervisor or its guest could not be asked to change it.
    #[error("`{name}` was not changed: {error}")]
    Apply {
        /// The instance.
        name: String,
        /// Why.
        error: instance::control::Error,
    },
    /// The guest did not change, or not to the end.
    #[error("`{name}` refuses: {reason}")]
    Refused {
        /// The instance.
        name: String,
        /// Why.
        reason: String,
    },
    /// A builder that no host deploys.
    #[error("no builder `{name}`: {}", of.as_ref().map_or_else(|| "no host of this project deploys one of that name".to_owned(), |of| format!("host `{of}` deploys none of that name")))]
    NoBuilder {
        /// The name.
        name: String,
        /// The host that was asked for.
        of: Option<String>,
    },
    /// Two hosts deploy different builders of one name.
    #[error("both `{}` and `{}` deploy a builder `{name}`, and they are not the same", .hosts[0], .hosts[1])]
    BuilderTwice {
        /// The name.
        name: String,
        /// The hosts.
        hosts: [String; 2],
    },
    /// The host layer has no JSON form.
    #[error("the host layer: {0}")]
    Layer(serde_json::Error),
    /// A file in the instance's state that says nothing any more.
    #[error("cannot use `{}`: it is damaged ({reason})", .path.display())]
    Damaged {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        reason: String,
        /// What to do, as text for the user.
        remedy: String,
    },
    /// A file in the instance's state of a civm that knows more.
    #[error("cannot use `{}`: a newer civm wrote it (version {version}, this one reads up to {reads})", .path.display())]
    Newer {
        /// Where.
        path: PathBuf,
        /// Its version.
        version: u64,
        /// The newest that this civm knows.
        reads: u64,
    },
    /// Another civm has its turn with the instance.
    #[error("another civm is starting, changing or removing `{0}`")]
    Busy(String),
    /// A file of ours failed.
    #[error("{what} `{}`: {source}", .path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl From<secrets::Error> for Error {
    fn from(error: secrets::Error) -> Self {
        Self::Secrets(Box::new(error))
    }
}
