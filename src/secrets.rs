//! Operations on sops files: opening, saving and editing them; changing values, recipients and keys, for one file or a
//! whole project; and running programs with their secrets.

pub mod change;
pub mod check;
pub mod diff;
pub mod discover;
pub mod edit;
pub mod encrypt_all;
pub mod error;
pub mod exec;
pub mod file;
pub mod formats;
pub mod groups;
mod many;
pub mod merge;
mod opener;
pub mod recipients;
pub mod rewrite;
pub mod rotate;
pub mod session;
pub mod status;
pub mod textconv;
pub mod update_all;
pub mod who;

pub use error::Error;
pub use session::Session;
