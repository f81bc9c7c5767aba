//! The `sops` branch of a file: who can open it, what is encrypted, and the MAC.

mod changes;
mod fields;
mod parts;
mod read;
#[cfg(test)]
mod tests;
mod version;
mod write;

use super::error::Error;
use super::selector::Selector;
use super::time::Time;
use super::tree::Value;

pub use changes::{Changes, GroupChanges};
pub use version::is_newer;

/// The key of the metadata.
pub const KEY: &str = "sops";

/// The version of sops whose files we write.
pub const SOPS_VERSION: &str = "3.13.3";

/// The metadata of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// The key groups. One group holds the data key itself, several hold a share of it each.
    pub groups: Vec<KeyGroup>,
    /// How many of several groups are needed; 0 if not specified.
    pub shamir_threshold: i64,
    /// Which leaves are encrypted; `None` is all of them (binary files).
    pub selector: Option<Selector>,
    /// Whether the MAC covers the encrypted leaves only.
    pub mac_only_encrypted: bool,
    /// When the content was last encrypted. Authenticated together with the MAC.
    pub last_modified: Time,
    /// The MAC's ENC token; empty if the file has none.
    pub mac: String,
    /// The version of sops that encrypted the file first or edited it last.
    pub version: String,
    /// Entries of the file that are not metadata, such as `password` or `age[0].note`. sops ignores them, and so does
    /// [`Metadata::to_branch`]: the next write drops them.
    pub unknown: Vec<String>,
}

/// Master keys that all wrap the same thing: the data key, or one share of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyGroup {
    /// age recipients.
    pub age: Vec<AgeKey>,
    /// Keys of the kinds that we do not do, kept as they are.
    pub others: Vec<OtherKeys>,
}

/// An age recipient with the data key (or share) wrapped for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgeKey {
    /// The recipient as written in the rules: `age1…` or an ssh public key line.
    pub recipient: String,
    /// An armored age file.
    pub enc: String,
}

/// The keys of one other kind.
#[derive(Clone, Debug, PartialEq)]
pub struct OtherKeys {
    /// `pgp`, `kms`, `gcp_kms`, `hckms`, `azure_kv` or `hc_vault`.
    pub kind: &'static str,
    /// The entries.
    pub entries: Vec<Value>,
}

/// The kinds of master keys other than age.
pub const OTHER_KINDS: [&str; 6] = ["azure_kv", "gcp_kms", "hc_vault", "hckms", "kms", "pgp"];

impl KeyGroup {
    /// Its keys by their names: of other kinds first, then the age recipients.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        changes::names(self)
    }
}

impl Metadata {
    /// Metadata for a file that is to be encrypted for the first time. The MAC is empty and the time
    /// preliminary until [`super::document::encrypt`] sets both.
    #[must_use]
    pub fn new(groups: Vec<KeyGroup>, selector: Option<Selector>, now: Time, version: &str) -> Self {
        Self {
            groups,
            shamir_threshold: 0,
            selector,
            mac_only_encrypted: false,
            last_modified: now,
            mac: String::new(),
            version: version.to_owned(),
            unknown: Vec::new(),
        }
    }

    /// All age recipients, group by group.
    pub fn age_keys(&self) -> impl Iterator<Item = &AgeKey> {
        self.groups.iter().flat_map(|group| &group.age)
    }

    /// The kinds of master keys in it that we do not do.
    #[must_use]
    pub fn other_kinds(&self) -> Vec<&'static str> {
        let mut kinds: Vec<_> =
            self.groups.iter().flat_map(|group| &group.others).map(|keys| keys.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// Whether `version` is what sops demands of it: a semantic version, or one of sops 1.
    ///
    /// # Errors
    /// A missing or malformed version, which sops refuses even to decrypt.
    pub fn check_version(&self) -> Result<(), Error> {
        version::check(&self.version)
    }

    /// Whether sops regards the file as encrypted (`filestatus`).
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.version.is_empty() && !self.mac.is_empty()
    }
}
