//! The identities that a manifest names. They are kept in memory only.

use std::fs;
use std::io::Write;

use zeroize::Zeroizing;

use super::error::Error;
use super::manifest::Manifest;
use super::opener::Opener;

/// Imported identities.
pub(super) struct Keys<I> {
    /// All of them, in the manifest's order: ssh keys first.
    pub(super) identities: Vec<I>,
    /// The recipients of those that were ssh keys.
    pub(super) recipients: Vec<String>,
}

/// Imports ssh keys and the file of age keys. An ssh key that cannot be used is a line in the log, since a
/// manifest names all keys that a machine may have.
pub(super) fn import<O: Opener>(
    manifest: &Manifest,
    opener: &O,
    program: &str,
    log: &mut dyn Write,
) -> Result<Keys<O::Identity>, Error> {
    let mut keys = Keys { identities: Vec::new(), recipients: Vec::new() };
    if !manifest.ssh_key_paths.is_empty() {
        say(log, &format!("{program}: ignoring sshKeyPaths: these keys are for PGP only"));
    }
    for path in &manifest.age_ssh_key_paths {
        let shown = path.display();
        let text = match fs::read(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) => {
                say(log, &format!("{program}: cannot read ssh key '{shown}': {error}"));
                continue;
            }
        };
        match opener.ssh_key(&text) {
            Ok(imported) => {
                let recipient = imported.recipient;
                if manifest.logging.key_import {
                    say(log, &format!("{program}: Imported {shown} as age key with fingerprint {recipient}"));
                }
                keys.identities.push(imported.identity);
                keys.recipients.push(recipient);
            }
            Err(cause) => say(log, &format!("{program}: cannot convert ssh key '{shown}': {cause}")),
        }
    }
    if !manifest.age_key_file.is_empty() {
        let path = &manifest.age_key_file;
        let text = Zeroizing::new(fs::read(path).map_err(Error::io("read keyfile", path))?);
        let more = opener.age_keys(&text).map_err(|source| Error::AgeKeys { path: path.into(), source })?;
        keys.identities.extend(more);
    }
    Ok(keys)
}

/// A log that cannot be written to stops nothing.
pub(super) fn say(log: &mut dyn Write, line: &str) {
    let _ = writeln!(log, "{line}");
}
