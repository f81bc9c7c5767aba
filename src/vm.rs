//! A machine's specification, its QEMU command line, and what QEMU and the guest say. Values in, values out.

pub mod agent;
pub mod argv;
pub mod lines;
pub mod network;
pub mod ports;
pub mod pvh;
pub mod qmp;
pub mod runner;
pub mod spec;
