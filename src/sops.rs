//! The sops document. Text in, values out; randomness and time are arguments.

mod aad;
pub mod buffer;
pub mod cipher;
pub mod data_key;
pub mod difference;
pub mod document;
mod error;
mod fingerprint;
pub mod float;
pub mod key_path;
mod mac;
pub mod merge;
pub mod metadata;
pub mod pattern;
pub mod selector;
pub mod shamir;
pub mod stash;
#[cfg(test)]
mod testing;
pub mod text;
pub mod time;
pub mod token;
pub mod tree;
pub mod value;

pub use error::Error;
