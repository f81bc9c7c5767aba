//! ssh and age keys: conversion, recipients, identities, and a file's data key wrapped and unwrapped.
//!
//! An ssh ed25519 key and the age key derived from it count as one: a file that is encrypted to either
//! half is opened with either key.

/// An `ssh-ed25519` recipient opened with the age identity derived from that ssh key.
mod bridge;
/// Where identities are found, and what they open.
pub mod identity;
/// The native age key, X25519.
pub mod native;
/// Whom a file is encrypted to.
pub mod recipient;
/// A file's data key from its master keys, or the reasons why none gave it.
pub mod retrieval;
/// ssh keys: public lines, private keys, new host keys.
pub mod ssh;
