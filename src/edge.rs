//! The outside: files written atomically, private directories, the editor, the terminal, the
//! environment, child processes. The rooms below take what they need from here as arguments.

pub mod account;
pub mod atomic;
pub mod cleanup;
pub mod editor;
pub mod environment;
pub mod fetch;
pub mod fifo;
pub mod finding;
pub mod foreground;
pub mod frame;
pub mod git;
pub mod hardening;
mod held_dir;
pub mod hex;
pub mod index;
pub mod lock;
pub mod os_release;
pub mod private_dir;
pub mod process;
pub mod processes;
pub mod splice;
pub mod stream;
pub mod terminal;
pub mod walk;
