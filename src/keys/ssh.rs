//! ssh keys: public lines, private keys, new host keys. Pure: text in, values out.

/// A new host key.
pub mod host_key;
/// The block between a BEGIN and an END line.
mod pem;
/// Private keys, plain and passphrase-protected.
pub mod private;
/// Public keys as found in authorized_keys, known_hosts and ssh-keyscan's output.
pub mod public;

#[cfg(test)]
mod vectors;
