//! Work on sops files: open, save, edit, change recipients, one by one or all of a project.

pub mod check;
pub mod discover;
pub mod edit;
pub mod error;
pub mod file;
pub mod recipients;
pub mod session;
pub mod update_all;
pub mod who;

pub use error::Error;
pub use session::Session;
