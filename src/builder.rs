//! Ephemeral builders: machines of a host that are made on other people's machines, held from here, and gone with all
//! their state when they are let go.
//!
//! A *keeper* deploys and holds them; at the other end of an ssh connection a *serve* starts the machine under a
//! *lease* and ends it when the keeper is gone. Nix reaches a builder through the keeper's socket.

pub mod identity;
pub mod keeper;
pub mod link;
pub mod nixd;
pub mod parcels;
pub mod place;
pub mod publish;
pub mod push;
pub mod remote;
pub mod ssh;
pub mod wire;
