//! ssh and age keys: conversion, recipients, identities, and a file's data key wrapped and unwrapped.
//!
//! An ssh ed25519 key and the age key derived from it count as one key: a file that is encrypted to either can be
//! decrypted with either.

/// An `ssh-ed25519` recipient opened with the age identity derived from that ssh key.
mod bridge;
/// Finding identities and decrypting with them.
pub mod identity;
/// The native age key, X25519.
pub mod native;
/// The recipients of files.
pub mod recipient;
/// Retrieving a file's data key from its master keys.
pub mod retrieval;
/// ssh keys: public lines, private keys, new host keys.
pub mod ssh;
