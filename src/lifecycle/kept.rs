//! What this room keeps in an instance's state directory: small JSON files of its own.

use std::fs::File;
use std::io::{self, Read as _};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::edge::atomic;
use crate::instance::Place;
use crate::lifecycle::Error;

/// Longest such file, in bytes.
const LENGTH_MAX: u64 = 1 << 20;

/// Writes a file; one that would be the same is left as it is.
pub(super) fn save(place: &Place, file: &str, value: &impl Serialize) -> Result<(), Error> {
    let path = place.path.join(file);
    let text = serde_json::to_vec_pretty(value).map_err(io::Error::other);
    text.and_then(|text| atomic::update(&path, &text, 0o600).map_err(io::Error::other))
        .map_err(|source| Error::File { what: "cannot write", path, source })
}

/// Reads a file; none where it is missing, or cannot be read, as that of another version of civm.
pub(super) fn load<T: DeserializeOwned>(place: &Place, file: &str) -> Option<T> {
    let mut text = Vec::new();
    File::open(place.path.join(file)).ok()?.take(LENGTH_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}
