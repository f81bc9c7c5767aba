//! Work on sops files: open, save, edit, change recipients, one by one or all of a project.

pub mod diff;
pub mod discover;
pub mod edit;
pub mod error;
pub mod file;
pub mod merge;
mod opener;
pub mod recipients;
pub mod session;
pub mod update_all;

pub use error::Error;
pub use session::Session;
