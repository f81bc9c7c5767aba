//! The keeper of builders: it deploys them, holds them, and takes them away again.

pub mod dial;
pub mod reason;
pub mod retry;
pub mod state;
