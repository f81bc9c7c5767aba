//! The black-box tests that sops brings along, once with sops itself and once with civm under its name.
//!
//! They come with its source in Go's module cache. Their rules name PGP keys; here these are age keys, so that what is
//! encrypted to PGP beforehand cannot be read by either.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Scene, peer, run};

/// The version whose tests are taken, as in devshell/peers.
const SUITE: &str = "github.com/getsops/sops/v3@v3.13.3/functional-tests";

fn suite() -> Option<PathBuf> {
    let cache = Command::new("go").args(["env", "GOMODCACHE"]).output().ok()?;
    let cache = String::from_utf8(cache.stdout).ok()?;
    Some(Path::new(cache.trim()).join(SUITE)).filter(|suite| suite.is_dir())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target);
        } else {
            // The cache is read-only, and a copied file would be, too.
            fs::write(target, fs::read(source).expect("a file")).expect("a file");
        }
    }
}

/// The rules with age recipients in the places of the fingerprints.
fn with_age(rules: &str, recipients: &[String; 3]) -> String {
    let fingerprints = [
        "FBC7B9E2A4F9289AC0C1D4843D16CEE4A27381B4",
        "D7229043384BCC60326C6FB9D8720D957C3D3074",
        "B611A2F9F11D0FF82568805119F9B5DAEA91FF86",
    ];
    let rules = rules.split("destination_rules").next().unwrap_or_default().replace("pgp:", "age:");
    fingerprints.iter().zip(recipients).fold(rules, |rules, (from, to)| rules.replace(from, to))
}

/// The names of the tests that pass with a program as `sops`.
fn passed(scene: &Scene, suite: &Path, program: &Path) -> BTreeSet<String> {
    let name = suite.join("sops");
    let _ = fs::remove_file(&name);
    std::os::unix::fs::symlink(program, &name).expect("a link");
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/suite");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(suite)
        .args(["test", "--", "--test-threads=2"])
        .env("CARGO_TARGET_DIR", target)
        .env("SOPS_AGE_KEY_FILE", scene.file("keys.txt"))
        .env("SOPS_DISABLE_VERSION_CHECK", "1")
        .env_remove("GNUPGHOME")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET");
    let ran = run(&mut cargo);
    let out = ran.out();
    let names = out.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... ok"));
    names.map(str::to_owned).collect()
}

#[test]
fn what_passes_with_sops_passes_with_civm() {
    let scene = Scene::new();
    let (Some(sops), Some(keygen), Some(source)) = (peer("sops"), peer("age-keygen"), suite()) else {
        return eprintln!("skipped: no sops, or not its source");
    };
    let suite = scene.path("suite");
    copy(&source, &suite);
    let mut keys = String::new();
    let recipients = [(); 3].map(|()| {
        let identity = run(&mut scene.command(&keygen)).ok().out().to_owned();
        let recipient = identity.lines().find_map(|line| line.strip_prefix("# public key: "));
        let recipient = recipient.expect("a recipient").to_owned();
        // The third one is nobody's here.
        if keys.matches("AGE-SECRET-KEY-").count() < 2 {
            keys.push_str(&identity);
        }
        recipient
    });
    scene.write("keys.txt", keys);
    let rules = fs::read_to_string(suite.join(".sops.yaml")).expect("rules");
    fs::write(suite.join(".sops.yaml"), with_age(&rules, &recipients)).expect("rules");

    let theirs = passed(&scene, &suite, &sops);
    let ours = passed(&scene, &suite, assert_cmd::cargo::cargo_bin!("civm"));
    assert!(theirs.len() >= 25, "only these pass with sops: {theirs:?}");
    let missing: Vec<_> = theirs.difference(&ours).collect();
    assert!(missing.is_empty(), "these pass with sops only: {missing:?}");
    eprintln!("{} of sops' own tests pass with both", theirs.intersection(&ours).count());
}
