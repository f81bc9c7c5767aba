//! A machine's specification and its QEMU command line. Values in, values out.

pub mod agent;
pub mod argv;
pub mod ports;
pub mod qmp;
pub mod spec;
