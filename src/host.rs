//! `host.yaml`, projects and the host layer.

pub mod artifacts;
pub mod compose;
pub mod error;
pub mod generated;
pub mod layer;
pub mod parcel;
pub mod project;
pub mod rootfs;
pub mod schema;
pub mod spec;

pub use error::Error;
pub use project::Project;
pub use spec::Spec;
