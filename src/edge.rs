//! The outside: files written atomically, private directories, the editor, the terminal, the
//! environment, child processes. The rooms below take what they need from here as arguments.

/// Files replaced or created in one step.
pub mod atomic;
/// The editor that sops would take.
pub mod editor;
/// A snapshot of the variables a run starts with.
pub mod environment;
/// No core dumps of a process that holds keys.
pub mod hardening;
/// Directories that only this user can enter, in memory where the machine has such a place.
pub mod private_dir;
/// Child processes with captured output.
pub mod process;
/// Questions, passphrases and what the terminal can do.
pub mod terminal;
