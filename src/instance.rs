//! A running machine: stage, supervision, readiness, stop.
//!
//! [`launch::start`] checks, stages and starts; the [`supervise::Running`] it returns holds the instance
//! until it is detached. Later runs of civm find it through [`state::Home`] and end it with [`stop::down`].

pub mod accel;
pub mod console;
pub mod control;
pub mod deadline;
pub mod doctor;
pub mod error;
pub mod event;
pub mod inspect;
pub mod launch;
pub mod plan;
pub mod preflight;
pub mod ssh;
pub mod stage;
pub mod state;
pub mod stop;
pub mod supervise;
pub mod template;
mod tsc;
pub mod wire;

pub use error::{Error, Tail};
pub use event::Event;
pub use launch::{Request, start};
pub use stage::hidden;
pub use state::{Home, Place, ProjectState, Record};
pub use supervise::Running;
