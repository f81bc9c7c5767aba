//! Secrets of other files of the project, and files that are put together from secrets.

use std::path::Path;

use super::*;
use crate::host::compose;
use crate::host::project::Project;
use crate::store::Format;

/// A project with one host, and the recorded cases' files beside it.
fn project(host: &str) -> (tempfile::TempDir, Result<Spec, Error>) {
    let dir = tempfile::tempdir().expect("a folder");
    let common = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/install-secrets/common");
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir_all(at("hosts/h")).expect("a folder");
    std::fs::create_dir_all(at("shared")).expect("a folder");
    std::fs::copy(common.join("gen-c.yaml"), at("hosts/h/secrets.yaml")).expect("a copy");
    for name in ["basic.yaml", "basic.json", "basic.env", "basic.ini", "raw.bin", "types.yaml", "plain.yaml"]
    {
        std::fs::copy(common.join(name), at("shared").join(name)).expect("a copy");
    }
    std::fs::write(at("app.conf"), "key=<secret:alpha>\n").expect("a file");
    std::fs::write(at("hosts/h/host.yaml"), host).expect("a file");
    let spec = Project::at(dir.path()).expect("a project").load("h", Arch::X86_64);
    (dir, spec)
}

fn wrong(host: &str) -> String {
    let (_dir, spec) = project(host);
    let error = spec.err().unwrap_or_else(|| panic!("accepted: {host}")).to_string();
    error.rsplit_once("host.yaml:").map_or(error.clone(), |(_, rest)| rest.to_owned())
}

#[test]
fn secrets_come_from_files_of_every_format() {
    let (_dir, spec) = project(
        "secrets:\n  alpha: {}\n  j: {file: shared/basic.json, key: alpha, format: json}\n  \
         env: {file: shared/basic.env}\n  ini: {file: shared/basic.ini}\n  blob: {file: shared/raw.bin}\n  \
         whole: {file: shared/basic.yaml, key: ''}\n  other: {file: shared/basic.yaml, key: beta}\n",
    );
    let spec = spec.expect("a host");
    let wanted =
        |name: &str| spec.secrets.iter().find(|secret| secret.name == name).expect("a secret").format;
    assert_eq!(spec.secrets.len(), 7);
    assert_eq!(
        ["alpha", "j", "env", "ini", "blob", "whole"].map(wanted),
        [Format::Yaml, Format::Json, Format::Dotenv, Format::Ini, Format::Binary, Format::Yaml]
    );
    assert_eq!(spec.sops_files.len(), 5, "each is there once");
    let manifest = compose::manifest(&spec).expect("a manifest");
    let of = |name: &str| manifest.secrets.iter().find(|secret| secret.name == name).expect("a secret");
    assert_eq!(of("alpha").sops_file, "/shared/host/secrets.yaml");
    let staged: Vec<_> = compose::sops_files(&spec).map(|(path, _)| format!("/shared/{path}")).collect();
    for secret in manifest.secrets.iter().filter(|secret| secret.name != "alpha") {
        assert!(staged.contains(&secret.sops_file), "{staged:?} {}", secret.sops_file);
    }
    assert_eq!((of("whole").key.as_str(), of("whole").sops_file == of("other").sops_file), ("", true));
    assert!(
        !spec.unlisted_secrets.contains(&"alpha".to_owned())
            && spec.unlisted_secrets.contains(&"beta".to_owned())
    );
}

#[test]
fn what_is_wrong_with_another_file_is_told_with_its_line() {
    for (text, said) in [
        ("secrets:\n  a: {file: shared/none.yaml}\n", "2: "),
        ("secrets:\n  a: {file: ../outside.yaml}\n", "not a path below the project"),
        ("secrets:\n  a: {file: /etc/passwd}\n", "not a path below the project"),
        (
            "secrets:\n  nope: {file: shared/basic.yaml}\n",
            "2: shared/basic.yaml: the key 'nope' cannot be found",
        ),
        ("secrets:\n  int: {file: shared/types.yaml}\n", "not a string but an integer"),
        ("secrets:\n  a: {file: shared/plain.yaml}\n", "cannot be read as yaml"),
        ("secrets:\n  a: {file: shared/basic.env, key: a}\n", "takes no key"),
        ("secrets:\n  a: {file: shared/basic.env, format: toml}\n", "`toml` is not a format"),
        ("secrets:\n  alpha: {format: json}\n", "`format` is that of a `file`"),
        ("secrets:\n  alpha: {key: ''}\n", "`` is not a key"),
    ] {
        let message = wrong(text);
        assert!(message.contains(said), "{text}{message}");
    }
}

#[test]
fn templates_are_texts_or_files_with_names_of_secrets() {
    let (_dir, spec) = project(
        "secrets: [alpha, beta]\ntemplates:\n  app.env: 'A=<secret:alpha> B=<secret:beta>'\n  sub/conf:\n    \
         file: app.conf\n    owner: www-data\n    mode: 0440\n    path: /etc/app.conf\n    \
         restart_units: [app.service]\n",
    );
    let manifest = compose::manifest(&spec.expect("a host")).expect("a manifest");
    let [env, conf] = &manifest.templates[..] else { panic!("{manifest:?}") };
    assert_eq!((env.path.as_str(), env.mode.as_str()), ("/run/secrets/rendered/app.env", "0400"));
    assert_eq!(
        (conf.content.as_str(), conf.path.as_str(), conf.mode.as_str()),
        ("key=<secret:alpha>\n", "/etc/app.conf", "0440")
    );
    assert_eq!(
        (conf.owner.as_deref(), &conf.restart_units[..]),
        (Some("www-data"), &["app.service".to_owned()][..])
    );
    assert_eq!(manifest.placeholder_by_secret_name["alpha"], "<secret:alpha>");
}

#[test]
fn a_template_that_cannot_be_rendered_is_refused() {
    let secrets = "secrets: {alpha: {path: /etc/taken}, beta: {}}\ntemplates:\n";
    for (text, said) in [
        ("  a: <secret:alhpa>\n", "`alhpa` is not one of this host's `secrets`; did you mean `alpha`?"),
        ("  a: '<secret:alpha'\n", "is not closed by `>`"),
        ("  a: {}\n", "neither `content` nor `file`"),
        ("  a: {content: x, file: app.conf}\n", "exclude each other"),
        ("  a: {file: shared/raw.bin2}\n", "3: "),
        ("  ../a: x\n", "cannot be the name of a template"),
        ("  a: {content: x, path: /etc/taken}\n", "has the same path"),
        ("  a: x\n  a/b: x\n", "needs a directory where template `a` is a file"),
        ("  a: {content: x, owner: 'a b'}\n", "is not the name of an account"),
        ("  a: {content: x, restart_units: [b]}\n", "`b` is not a unit name"),
    ] {
        let message = wrong(&format!("{secrets}{text}"));
        assert!(message.contains(said), "{text}{message}");
    }
    assert!(wrong("templates: {a: x}\n").contains("this host has none"));
    let reserved = "secrets: {rendered/x: {key: alpha}}\ntemplates: {a: x}\n";
    assert!(wrong(reserved).contains("lies where the templates are rendered"));
}
