//! `civm install-secrets`, and civm called as sops-install-secrets, for a user's own secrets: nothing is mounted.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{Ran, Scene, run};

/// A directory with a manifest of one user's secrets, from the recorded cases' files.
struct Place {
    scene: Scene,
    manifest: Value,
}

impl Place {
    /// Secrets by name, each with its file and key.
    fn new(secrets: &[(&str, &str, &str)]) -> Self {
        let scene = Scene::new();
        let common = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/install-secrets/common");
        let at = |name: &str| scene.file(name).display().to_string();
        let secret = |(name, file, key): &(&str, &str, &str)| {
            json!({
                "name": name, "key": key, "path": at(&format!("secrets/{name}")), "mode": "0400",
                "sopsFile": common.join(file),
                "format": match file.rsplit_once('.') { Some((_, "bin")) => "binary", _ => "yaml" },
            })
        };
        let placeholders = secrets
            .iter()
            .map(|(name, ..)| ((*name).to_owned(), json!(format!("<SOPS:{name}:PLACEHOLDER>"))));
        let manifest = json!({
            "secrets": secrets.iter().map(secret).collect::<Vec<_>>(),
            "placeholderBySecretName": placeholders.collect::<serde_json::Map<_, _>>(),
            "secretsMountPoint": at("secrets.d"), "symlinkPath": at("secrets"), "keepGenerations": 1,
            "ageKeyFile": common.join("age-1.key"), "userMode": true,
        });
        Self { scene, manifest }
    }

    fn template(&mut self, name: &str, content: &str) {
        let path = self.scene.file(&format!("secrets/rendered/{name}"));
        let template = json!({"name": name, "content": content, "path": path, "mode": "0400"});
        match self.manifest["templates"].as_array_mut() {
            Some(templates) => templates.push(template),
            None => self.manifest["templates"] = json!([template]),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let manifest = self.scene.write("manifest.json", self.manifest.to_string());
        let mut command = self.scene.civm(args);
        command.arg(manifest);
        command
    }

    fn civm(&self, args: &[&str]) -> Ran {
        run(&mut self.command(args))
    }

    fn secret(&self, name: &str) -> String {
        self.scene.read(&format!("secrets/{name}"))
    }
}

#[test]
fn secrets_and_templates_are_installed_by_either_name() {
    let mut place = Place::new(&[("a", "basic.yaml", "alpha"), ("whole", "raw.bin", "")]);
    place.template("conf/app", "value=<SOPS:a:PLACEHOLDER>;\n");
    place.civm(&["install-secrets"]).ok().says("installed 2 secrets and 1 template in ");
    assert_eq!(place.secret("a"), "alpha value");
    assert_eq!(place.secret("rendered/conf/app"), "value=alpha value;\n");
    for (args, exit) in [
        (&["sops-install-secrets", "-ignore-passwd"][..], 0),
        (&["sops-install-secrets", "-check-mode=sopsfile"], 0),
        (&["sops-install-secrets", "--check-mode", "never"], 1),
    ] {
        place.civm(args).code(exit);
    }
    assert_eq!(fs::read_link(place.scene.file("secrets")).expect("a link"), place.scene.file("secrets.d/2"));
}

#[test]
fn a_check_needs_no_key_and_a_dry_run_writes_nothing() {
    let mut place = Place::new(&[("a", "basic.yaml", "alpha")]);
    place.civm(&["install-secrets", "--dry-run"]).ok().says("would install 1 secret in ");
    place.manifest["ageKeyFile"] = json!("/no/such/key");
    for check in ["--check", "--check=files", "--check=manifest"] {
        place.civm(&["install-secrets", check]).ok().says("nothing is wrong");
    }
    assert!(!place.scene.file("secrets.d").exists() && !place.scene.file("secrets").is_symlink());
    place.manifest["secrets"][0]["key"] = json!("nest");
    place.civm(&["install-secrets", "--check=manifest"]).ok();
    place.civm(&["install-secrets", "--check"]).code(1).says("key 'nest'").says("basic.yaml");
}

#[test]
fn a_failure_has_the_code_of_its_kind() {
    let mut place = Place::new(&[("a", "for-age-2.yaml", "beta")]);
    let ran = place.civm(&["install-secrets"]).code(128).says("for secret a (key 'beta')");
    // The recipient of the file, and the key that was tried.
    ran.says("recipient age1").says("tried age1q9h7cgpgt0msxmntzew65n9gnycldrp7mqn5tzjn7ggm7vusk3as7wk7jh");
    place.manifest["secrets"][0]["sopsFile"] = json!("/no/such/file.yaml");
    place.civm(&["install-secrets"]).code(2).says("secret a").says("/no/such/file.yaml");
    place.manifest["gnupgHome"] = json!("/root/.gnupg");
    place.manifest["ageKeyFile"] = Value::Null;
    place.civm(&["install-secrets"]).code(1).says("PGP keys are not supported").says("civm keys from-ssh");
    place.manifest = json!([]);
    place.civm(&["install-secrets"]).code(2).says("not a JSON object");
    run(&mut place.scene.civm(&["install-secrets", "none.json"])).code(2).says("none.json");
}

#[test]
fn what_cannot_be_installed_is_left_out_where_that_is_asked_for() {
    let mut place = Place::new(&[
        ("good", "basic.yaml", "alpha"),
        ("other", "basic.yaml", "beta"),
        ("locked", "for-age-2.yaml", "beta"),
        ("locked-too", "for-age-2.yaml", "beta"),
        ("number", "types.yaml", "int"),
        ("owner", "basic.yaml", "alpha"),
    ]);
    place.manifest["secrets"][5]["owner"] = json!("nobody-of-that-name");
    place.template("fine", "<SOPS:good:PLACEHOLDER>");
    place.template("poor", "<SOPS:good:PLACEHOLDER><SOPS:locked:PLACEHOLDER>");
    place.civm(&["install-secrets"]).code(1);
    assert!(!place.scene.file("secrets").exists(), "all or nothing, unless it is asked for");
    let ran = place.civm(&["install-secrets", "--partial"]).code(1);
    let ran = ran.says("installed 2 secrets and 1 template in ").says("secret locked is not installed: ");
    let ran = ran.says("secret locked-too is not installed: ").says("as said of secret locked");
    let ran = ran.says("secret number is not installed: ").says("not a string but an integer");
    ran.says("secret owner is not installed: ")
        .says("template poor is not installed: it needs secret locked");
    assert_eq!(
        (place.secret("good"), place.secret("rendered/fine")),
        ("alpha value".into(), "alpha value".into())
    );
    assert!(
        !place.scene.file("secrets/locked").exists() && !place.scene.file("secrets/rendered/poor").exists()
    );
}

#[test]
fn a_secret_that_is_left_out_keeps_its_value() {
    let mut place = Place::new(&[("a", "gen-a.yaml", "alpha"), ("b", "gen-a.yaml", "beta")]);
    place.civm(&["install-secrets"]).ok();
    let old = place.secret("b");
    place.manifest["secrets"][0]["sopsFile"] =
        place.manifest["secrets"][0]["sopsFile"].as_str().expect("a path").replace("gen-a", "gen-b").into();
    place.manifest["secrets"][1]["sopsFile"] = json!("/no/such/file.yaml");
    let mut command = place.command(&["sops-install-secrets"]);
    run(command.env("CIVM_PARTIAL", "1")).code(1).says("secret b keeps its old value: ");
    assert_eq!((place.secret("a"), place.secret("b")), ("one changed".into(), old));
}

#[test]
fn a_plugin_is_asked_and_nothing_of_a_key_file_is_repeated() {
    let mut place = Place::new(&[("a", "for-age-2.yaml", "beta")]);
    let plugin = age::plugin::Identity::default_for_plugin("fake").expect("a name").to_string();
    let script = "#!/bin/sh\nprintf -- '-> error internal\\nbm8gdG91Y2g\\n-> done\\n\\n'; cat >/dev/null\n";
    let program = place.scene.write("bin/age-plugin-fake", script);
    fs::set_permissions(program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    let keys = place.scene.write("keys.txt", format!("# mine\n{plugin}\nrubbish-that-may-be-secret\n"));
    place.manifest["ageKeyFile"] = json!(keys);
    let path = format!("{}:{}", place.scene.file("bin").display(), std::env::var("PATH").expect("a path"));
    let mut command = place.command(&["install-secrets"]);
    let ran = run(command.env("PATH", path)).code(128).says("no touch").says("the plugin fake");
    ran.says("line 3: not an age identity").silent_on("rubbish");
}

/// How often a run is killed.
const KILLS: u32 = 30;

#[test]
fn whenever_it_is_killed_the_old_secrets_or_the_new_ones_are_there() {
    let mut place = Place::new(&[("a", "gen-a.yaml", "alpha"), ("b", "gen-a.yaml", "beta")]);
    let texts = ["gen-a", "gen-b"].map(|generation| {
        for secret in place.manifest["secrets"].as_array_mut().expect("secrets") {
            let file = secret["sopsFile"].as_str().expect("a path").replace("gen-a", generation);
            secret["sopsFile"] = file.into();
        }
        place.manifest.to_string()
    });
    let manifests = [0, 1].map(|at| place.scene.write(&format!("{at}.json"), &texts[at]));
    let run_of = |at: usize| {
        let mut command = place.scene.civm(&["sops-install-secrets"]);
        command.arg(&manifests[at]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let values = || (place.secret("a"), place.secret("b"));
    let begun = Instant::now();
    let known = [0, 1].map(|at| {
        run(&mut run_of(at)).ok();
        values()
    });
    let whole = begun.elapsed() / 2;
    assert_ne!(known[0], known[1]);
    let mut switched = 0;
    for kill in 0..KILLS {
        let before = values();
        let next = usize::from(before == known[0]);
        let mut child = run_of(next).spawn().expect("civm runs");
        std::thread::sleep(whole * kill / KILLS);
        let _ = child.kill();
        child.wait().expect("an end");
        let after = values();
        assert!(after == before || after == known[next], "kill {kill}: {after:?}");
        switched += u32::from(after != before);
    }
    assert!(switched < KILLS, "some kills came before the switch");
    // A directory that was there before any link gives way in one step, too.
    for kill in 0..KILLS {
        fs::remove_file(place.scene.file("secrets")).expect("removed");
        place.scene.write("secrets/a", "of old");
        place.scene.write("secrets/b", "of old");
        let mut child = run_of(0).spawn().expect("civm runs");
        std::thread::sleep(whole * kill / KILLS);
        let _ = child.kill();
        child.wait().expect("an end");
        let after = values();
        assert!(after == known[0] || after == ("of old".into(), "of old".into()), "kill {kill}: {after:?}");
        run(&mut run_of(1)).ok();
    }
}
