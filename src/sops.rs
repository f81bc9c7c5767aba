//! The sops document. Text in, values out; randomness and time are arguments.

pub mod text;
pub mod time;
pub mod tree;
