use super::{Facts, layer, manifest, manifest_json};
use crate::host::layer::Layer;
use crate::host::spec::load::{ProjectFiles, SecretsFile, Source, load};
use crate::host::spec::{Arch, Spec};
use crate::install::Manifest;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJKgz+PLpbRnMpiPUnFsbLXwSc/ypyGKJ1Bt3mXDsFPq";

fn spec(text: &str) -> Spec {
    load(
        "controller",
        Arch::X86_64,
        &|_| Some(SecretsFile { path: "secrets.yaml".into(), tree: None, project: ProjectFiles::default() }),
        &|_| Ok(Source { file: "host.yaml".into(), text: text.replace("KEY", KEY) }),
    )
    .unwrap_or_else(|error| panic!("{error}"))
}

fn facts() -> Facts {
    Facts {
        hostname: "controller".into(),
        machine_id: "0123456789abcdef0123456789abcdef".into(),
        time: 1_700_000_000,
        client_key: "ssh-ed25519 CLIENT".into(),
    }
}

const NIX: &str = "
secrets: [near, far]
known_hosts: {git.example.org: KEY}
users: {root: {authorized_keys: [KEY me]}, alice: {}}
files: {/etc/motd: hello}
nix:
  trusted_users: [alice, root]
  max_jobs: 0
  substituters: []
  trusted_public_keys: [cache-1:abc=, cache-2:def=]
  builders:
    a: {host: a.example.org, systems: [x86_64-linux, i686-linux], user: u, key: near, max_jobs: 4, speed: 2, features: [kvm, big-parallel], public_key: KEY}
    b: {host: b.example.org, port: 2322, systems: [aarch64-linux], user: v, key: far, mandatory_features: [only], public_key: KEY}
";

#[test]
fn a_layer_holds_what_the_host_says_and_the_client_key() {
    let layer = layer(&spec(NIX), &facts());
    assert_eq!(layer.hostname, "controller");
    assert_eq!((layer.machine_id.len(), layer.time), (32, 1_700_000_000));
    assert_eq!(layer.root_authorized_keys, ["ssh-ed25519 CLIENT".to_owned(), format!("{KEY} me")]);
    assert_eq!(layer.users.len(), 1);
    assert_eq!(layer.groups, ["keys"]);
    assert!(layer.secrets && layer.console_login);
    assert_eq!(layer.files["/etc/motd"].text, "hello");
}

#[test]
fn a_layer_survives_its_json_form() {
    let layer = layer(&spec(NIX), &facts());
    let text = serde_json::to_string(&layer).expect("JSON");
    assert_eq!(serde_json::from_str::<Layer>(&text).expect("a layer"), layer);
}

#[test]
fn nix_is_configured() {
    let layer = layer(&spec(NIX), &facts());
    assert_eq!(
        layer.files["/etc/nix/nix.conf"].text,
        "build-users-group = nixbld\n\
         sandbox = true\n\
         trusted-users = root alice\n\
         experimental-features = nix-command flakes\n\
         builders-use-substitutes = true\n\
         max-jobs = 0\n\
         substituters =\n\
         trusted-public-keys = cache-1:abc= cache-2:def=\n"
    );
    assert_eq!(layer.files["/etc/nix/nix.conf"].mode, 0o644);
}

#[test]
fn builders_are_pinned_to_their_host_keys() {
    use base64::Engine;
    let layer = layer(&spec(NIX), &facts());
    let key = base64::engine::general_purpose::STANDARD.encode(KEY);
    assert_eq!(
        layer.files["/etc/nix/machines"].text,
        format!(
            "ssh-ng://u@a.example.org?trusted=true x86_64-linux,i686-linux /run/secrets/near 4 2 kvm,big-parallel - {key}\n\
             ssh-ng://v@b?trusted=true aarch64-linux /run/secrets/far 1 1 - only {key}\n"
        )
    );
    assert_eq!(
        layer.files["/etc/ssh/ssh_known_hosts"].text,
        format!("git.example.org {KEY}\na.example.org {KEY}\nb {KEY}\n")
    );
    assert_eq!(
        layer.files["/etc/ssh/ssh_config.d/50-civm-builders.conf"].text,
        "Host b\n  HostName b.example.org\n  Port 2322\n  HostKeyAlias b\n"
    );
    let stores: serde_json::Value =
        serde_json::from_str(&layer.files["/etc/civm/builders.json"].text).expect("JSON");
    let near = "ssh-ng://u@a.example.org?ssh-key=/run/secrets/near&trusted=true";
    assert_eq!(
        stores,
        serde_json::json!({
            "aarch64-linux": "ssh-ng://v@b?ssh-key=/run/secrets/far&trusted=true",
            "i686-linux": near,
            "x86_64-linux": near,
        })
    );
}

#[test]
fn a_machine_that_builds_follows_its_size() {
    let nix = "
disk: 200G
cpus: 40
memory: 40G
users: {b: {}}
nix: {trusted_users: [b], cores: auto, min_free: auto, max_free: 10G, connect_timeout: 10, log_lines: 25,
  system_features: [kvm, big-parallel], extra_platforms: [i686-linux], extra: [keep-outputs = true]}
";
    let files = layer(&spec(nix), &facts()).files;
    assert_eq!(
        files["/etc/nix/nix.conf"].text,
        "build-users-group = nixbld\n\
         sandbox = true\n\
         trusted-users = root b\n\
         experimental-features = nix-command flakes\n\
         builders-use-substitutes = true\n\
         cores = 5\n\
         connect-timeout = 10\n\
         log-lines = 25\n\
         min-free = 21474836480\n\
         max-free = 21474836480\n\
         system-features = kvm big-parallel\n\
         extra-platforms = i686-linux\n\
         keep-outputs = true\n"
    );
    assert!(files["/etc/ssh/civm.d/builder.conf"].text.contains("ClientAliveInterval 15\n"));
    // Who builds nothing and who trusts nobody is not a builder.
    for nix in [
        "nix: {trusted_users: [root]}\n",
        "secrets: [near, far]\nnix: {trusted_users: [b], max_jobs: 0, builders: {a: {host: a, systems: [x], user: u, key: near, public_key: KEY}}}\n",
    ] {
        assert!(!layer(&spec(nix), &facts()).files.contains_key("/etc/ssh/civm.d/builder.conf"), "{nix}");
    }
}

#[test]
fn a_host_without_nix_or_secrets_gets_no_files_of_either() {
    let spec = spec("cpus: 1\n");
    let layer = layer(&spec, &facts());
    assert!(layer.files.is_empty() && layer.groups.is_empty() && !layer.secrets);
    assert_eq!(manifest(&spec), None);
}

#[test]
fn the_manifest_is_that_of_sops_nix() {
    let spec = spec("secrets: {a: {owner: alice, group: web, mode: 0440, path: /etc/a}, b: {key: c/d}}\n");
    let manifest = manifest(&spec).expect("a manifest");
    let text = manifest_json(&manifest).expect("JSON");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        json["secrets"],
        serde_json::json!([
            {"name": "a", "key": "a", "path": "/etc/a", "owner": "alice", "uid": 0, "group": "web", "gid": 0,
             "sopsFile": "/shared/host/secrets.yaml", "format": "yaml", "mode": "0440",
             "restartUnits": [], "reloadUnits": []},
            {"name": "b", "key": "c/d", "path": "/run/secrets/b", "owner": "root", "uid": 0, "group": "root", "gid": 0,
             "sopsFile": "/shared/host/secrets.yaml", "format": "yaml", "mode": "0400",
             "restartUnits": [], "reloadUnits": []}
        ])
    );
    assert_eq!(json["secretsMountPoint"], "/run/secrets.d");
    assert_eq!(json["symlinkPath"], "/run/secrets");
    assert_eq!(json["keepGenerations"], 1);
    assert_eq!(json["ageSshKeyPaths"], serde_json::json!(["/shared/secrets/ssh_host_ed25519_key"]));
    assert_eq!(json["logging"], serde_json::json!({"keyImport": true, "secretChanges": true}));
    assert_eq!(Manifest::parse(text.as_bytes()).expect("a manifest"), manifest);
}
