//! What happens while an instance is brought up, as values: who watches decides what to show.

use std::path::Path;
use std::time::Duration;

use crate::image;
use crate::instance;
use crate::lifecycle::Split;
use crate::secrets;

/// Somebody who is told how a start goes, and asked where a person must decide.
pub trait Observer {
    /// Something happened.
    fn tell(&mut self, progress: Progress<'_>);

    /// Whether to boot without the secrets that nobody here can open; `None` where there is nobody to ask.
    fn boots_without_secrets(&mut self, name: &str, error: &secrets::Error) -> Option<bool>;
}

/// A step of a start.
#[derive(Debug)]
pub enum Progress<'a> {
    /// Another civm starts the same instance; we wait for it.
    Waiting {
        /// The instance.
        name: &'a str,
    },
    /// The file of secrets has keys that host.yaml does not list, so they are not installed.
    Unlisted {
        /// The host whose secrets.yaml it is.
        host: &'a str,
        /// The keys.
        keys: &'a [String],
    },
    /// The guest gets no secrets.
    WithoutSecrets {
        /// The instance.
        name: &'a str,
    },
    /// The disk of the last run is gone, and an empty one is made.
    DiskGone {
        /// Where it was.
        path: &'a Path,
    },
    /// The disk is larger than host.yaml says; it is left as it is.
    DiskLarger {
        /// The disk.
        path: &'a Path,
        /// Its size, in MiB.
        has_mib: u64,
        /// What host.yaml says, in MiB.
        wanted_mib: u64,
    },
    /// The disk was made of another image.
    DiskOfOtherImage {
        /// The disk.
        path: &'a Path,
        /// In what it differs, as text.
        difference: String,
    },
    /// It boots, though it could be resumed from a template.
    Cold {
        /// Why, as text.
        reason: &'a str,
    },
    /// An old disk was removed, as asked.
    DiskRemoved {
        /// Where it was.
        path: &'a Path,
    },
    /// Something is fetched from the net.
    Fetching {
        /// From where.
        url: &'a str,
        /// Bytes that have come; none as it begins.
        done: u64,
        /// Bytes in all, where the server says so.
        total: Option<u64>,
    },
    /// It was fetched.
    Fetched {
        /// From where.
        url: &'a str,
    },
    /// Something else that the user should know; the start goes on.
    Warning(String),
    /// The image.
    Image(&'a image::Event),
    /// The instance itself.
    Instance(&'a instance::Event),
    /// It is ready, and a login works.
    Ready {
        /// The instance.
        name: &'a str,
        /// Since the start began.
        after: Duration,
        /// Where that time went.
        split: &'a Split,
    },
}
