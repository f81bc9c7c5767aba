//! An image whose kernel is the smallest that QEMU boots.

use std::fs;
use std::path::Path;
use std::process::Command;

use civm::edge::environment::Environment;
use civm::edge::hex;
use civm::image::sent::Incoming;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::kernel;

/// Puts it into a cache under a name, as a keeper of builders would send it; its disk is made in `dir`.
pub fn add(id: &str, cache: &Path, dir: &Path) {
    let disk = dir.join("disk.qcow2");
    if !disk.exists() {
        let mut command = Command::new("qemu-img");
        command.args(["create", "-q", "-f", "qcow2"]).arg(&disk).arg("64M");
        command.env("PATH", format!("{}:/usr/bin:/bin", std::env::var("PATH").unwrap_or_default()));
        assert!(command.status().expect("qemu-img runs").success());
    }
    let description = json!({"suite": "bookworm", "arch": "amd64", "packages": ["none"]}).to_string();
    let files = [
        ("disk.qcow2", fs::read(&disk).expect("a disk")),
        ("early-modules", b"none\n".to_vec()),
        ("image.json", description.into_bytes()),
        ("kernel", kernel::elf()),
        ("modules/1.0/none.ko", b"no module".to_vec()),
    ];
    let list: serde_json::Map<String, serde_json::Value> =
        files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.len().into())).collect();
    let list = ("contents.json", serde_json::to_vec(&list).expect("JSON"));
    let environment = Environment::of_process().with("TMPDIR", dir);
    let begun = Incoming::begin(id, cache, &environment, &mut |_| {}).expect("a cache");
    let mut incoming = begun.expect("it is not there yet");
    for (name, bytes) in [list].into_iter().chain(files) {
        let hash = hex::encode(&Sha256::digest(&bytes));
        incoming.take(name, bytes.len() as u64, &hash, &mut bytes.as_slice()).expect(name);
    }
    incoming.finish().expect("an image");
}
