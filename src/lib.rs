//! civm: secrets in sops files, and the virtual machines of a CI infrastructure.
//!
//! The rooms have an order, and a room imports only rooms before it: `tests/architecture.rs` has the list, and fails
//! on any other import.

// Machines that are made on other people's machines, and held from here.
pub mod builder;
// The command line's types.
pub mod cli;
// One file per verb; with `cli` the only room that prints.
pub mod commands;
// The outside: atomic writes, private directories, editor, terminal, environment, children.
pub mod edge;
// The inside of a guest: PID 1, layer, readiness.
pub mod guest;
// `host.yaml`, projects and the host layer.
pub mod host;
// What an instance boots.
pub mod image;
// What a guest does with its secrets: a manifest becomes `/run/secrets`.
pub mod install;
// A running machine: stage, supervision, readiness, stop.
pub mod instance;
// The life of an instance, from host.yaml to its end.
pub mod lifecycle;
// ssh and age keys; wrapping and unwrapping of data keys.
pub mod keys;
// Exit codes and the form of a failure.
pub mod outcome;
// The command lines of sops and ssh-to-age.
pub mod personas;
// `.sops.yaml`: which recipients a file has. Pure.
pub mod rules;
// Work on sops files.
pub mod secrets;
// The sops document: tree, cipher, MAC, metadata, selectors. Pure.
pub mod sops;
// Text to tree and back, a file per format. Pure.
pub mod store;
// A machine's specification and its QEMU command line. Pure.
pub mod vm;
