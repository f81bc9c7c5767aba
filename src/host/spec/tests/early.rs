//! What would fail later, in the build or in the guest, and is refused as host.yaml is read.

use super::*;
use crate::sops::tree::{Item, Value};

fn token(kind: &str) -> Value {
    Value::str(format!("ENC[AES256_GCM,data:AA==,iv:AA==,tag:AA==,type:{kind}]"))
}

/// A file of secrets as it is read without a key.
fn secrets() -> Tree {
    let inner = vec![Item::entry("token", token("str")), Item::entry("port", token("int"))];
    Tree {
        documents: vec![vec![
            Item::entry("ssh_host_ed25519_key", token("str")),
            Item::entry("deploy_key", token("str")),
            Item::entry("port", token("int")),
            Item::entry("ratio", token("float")),
            Item::entry("on", token("bool")),
            Item::entry("clear", Value::Int(3)),
            Item::entry("blob", token("bytes")),
            Item::entry("nested", Value::Map(inner)),
            Item::entry("list", Value::List(vec![token("str")])),
        ]],
    }
}

fn loaded(text: &str) -> Result<Spec, Error> {
    load_with(&[("h", text)], Arch::X86_64, Some(Some(secrets())))
}

fn refused(text: &str) -> String {
    let error = loaded(text).err().unwrap_or_else(|| panic!("accepted: {text}"));
    error.to_string().replace("hosts/h/host.yaml:", "")
}

#[test]
fn a_secret_that_the_file_does_not_have_is_named_with_its_line() {
    assert_eq!(
        refused("cpus: 1\nsecrets:\n  deploy_kye: {}\n"),
        "3: hosts/h/secrets.yaml: the key 'deploy_kye' cannot be found; did you mean `deploy_key`?"
    );
    assert_eq!(
        refused("secrets:\n- deploy_key\n- nested/tokn\n"),
        "3: hosts/h/secrets.yaml: the key 'nested/tokn' cannot be found; did you mean `nested/token`?"
    );
    assert!(refused("secrets: {a: {key: deploy_key/b}}\n").contains("does not refer to a dictionary"));
    assert!(refused("secrets: [qqqqqq]\n").ends_with("the key 'qqqqqq' cannot be found"));
}

#[test]
fn a_secret_that_is_not_text_is_named_with_its_type() {
    for (key, kind) in [
        ("port", "an integer"),
        ("ratio", "a float"),
        ("on", "a boolean"),
        ("clear", "an integer"),
        ("nested/port", "an integer"),
        ("nested", "a dictionary"),
        ("list", "a list"),
    ] {
        let wanted = format!("2: hosts/h/secrets.yaml: the value of key '{key}' is not a string but {kind}");
        assert_eq!(refused(&format!("secrets:\n  {key}: {{}}\n")), wanted);
    }
    for key in ["deploy_key", "blob", "nested/token"] {
        assert!(loaded(&format!("secrets: [{key}]\n")).is_ok(), "{key}");
    }
}

#[test]
fn secrets_that_are_not_listed_are_known() {
    let spec = loaded("secrets: [deploy_key, nested/token]\n").expect("a host");
    assert_eq!(spec.unlisted_secrets, ["port", "ratio", "on", "clear", "blob", "nested/port", "list"]);
    let renamed = loaded("secrets: {mine: {key: blob}}\n").expect("a host");
    assert!(!renamed.unlisted_secrets.contains(&"blob".to_owned()));
    assert!(good("").unlisted_secrets.is_empty(), "a file that cannot be read tells nothing");
}

#[test]
fn units_to_restart_have_names_of_units() {
    for field in ["restart_units", "reload_units"] {
        let message = refused(&format!("secrets:\n  deploy_key:\n    {field}: [a.service, b]\n"));
        assert!(message.starts_with("3: `b` is not a unit name"), "{message}");
        let message = bad(&format!("files:\n  /etc/a:\n    text: x\n    {field}: [b]\n"));
        assert!(message.starts_with("4: `b` is not a unit name"), "{message}");
    }
    let spec = loaded("secrets: {deploy_key: {restart_units: [a.service], reload_units: [b.service]}}\n");
    let secret = &spec.expect("a host").secrets[0];
    assert_eq!(
        (&secret.restart_units[..], &secret.reload_units[..]),
        (&["a.service".into()][..], &["b.service".into()][..])
    );
}

#[test]
fn names_of_machines_and_time_zones_are_checked() {
    for name in ["web", "web-1.example.org", "4u"] {
        assert_eq!(good(&format!("hostname: {name:?}\n")).hostname.as_deref(), Some(name));
    }
    let long = "a".repeat(64);
    for name in ["", "-a", "a-", "a_b", "a..b", ".a", "ä", &long] {
        assert!(bad(&format!("cpus: 1\nhostname: {name:?}\n")).starts_with("2: `"), "{name}");
    }
    for name in ["UTC", "Europe/Helsinki", "America/Argentina/Buenos_Aires", "Etc/GMT+3"] {
        assert_eq!(good(&format!("timezone: {name}\n")).timezone.as_deref(), Some(name));
    }
    for name in ["../passwd", "/etc/passwd", "Europe/", "Europe/Hel sinki"] {
        assert!(bad(&format!("timezone: {name:?}\n")).contains("is not a time zone"), "{name}");
    }
}

#[test]
fn forwards_that_qemu_does_not_have_are_refused() {
    assert_eq!(
        bad("forwards:\n  web: '[::1]:81:80'\n"),
        "2: `[::1]`: QEMU's user network forwards IPv4 addresses only"
    );
    assert!(bad("forwards: ['[::]:81:80']\n").contains("IPv4 addresses only"));
    assert!(bad("forwards: [':81:80']\n").contains("is not a forward"));
}

#[test]
fn packages_and_releases_have_names_that_apt_takes() {
    assert!(bad("packages:\n  - git\n  - Foo\n").starts_with("3: `Foo` is not a package name"));
    assert!(bad("packages: [foo/sid]\n").starts_with("1: `foo/sid` is not a package name"));
    assert!(bad("packages: [foo-]\n").starts_with("1: `foo-` is not a package name"));
    assert!(
        bad("image:\n  suite: Bookworm\n").starts_with("2: `Bookworm` is not the name of a Debian release")
    );
    assert!(bad("image: {suite: ../x}\n").starts_with("1: `../x` is not"));
    assert!(bad("image: {suite: --help}\n").starts_with("1: `--help` is not"));
}

#[test]
fn numbers_that_nothing_can_hold_are_called_too_large() {
    assert_eq!(bad("cpus: 99999999999999999999\n"), "1: cpus: 99999999999999999999 is too large");
    assert_eq!(bad("cpus: 4294967296\n"), "1: cpus: 4294967296 is out of range");
    assert_eq!(bad("cpus: -1\n"), "1: cpus: -1 is out of range");
    assert_eq!(bad("users:\n  a:\n    uid: 4294967296\n"), "3: users.a.uid: 4294967296 is out of range");
    assert_eq!(bad("cpus: 256\n"), "1: cpus is 256: a machine can have 1 to 255");
    assert_eq!(bad("disk: 100T\n"), "1: disk is 100T: it can be 16T at most");
    assert_eq!(bad("memory: 5000T\n"), "1: memory is 5000T: it can be 4194303G at most");
    assert!(bad("disk: 99999999999999T\n").contains("is larger than any machine"));
}

#[test]
fn a_list_where_one_value_belongs_is_called_a_list() {
    for field in ["memory: [2G]", "cpus: [1, 2]", "zram: [true]", "image: [debian]"] {
        let message = bad(&format!("{field}\n"));
        let (field, _) = field.split_once(':').expect("a field");
        assert_eq!(message, format!("1: {field}: a list where one value or a mapping is expected"));
    }
}
