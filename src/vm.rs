//! A machine's specification and its QEMU command line. Values in, values out.

pub mod agent;
