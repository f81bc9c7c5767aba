//! `host.yaml`, projects and the host layer.

pub mod layer;
