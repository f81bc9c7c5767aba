//! Random documents, encrypted by one and decrypted by the other: us and the `sops` on the PATH.

use std::io::Write;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::super::super::metadata::AgeKey;
use super::super::super::testing::identities;
use super::*;

/// How many documents each way; each costs a run of sops.
const DOCUMENTS: u32 = 24;

/// Runs sops on a text; `None` where there is no sops.
fn sops(arguments: &[&str], input: &str) -> Option<Result<String, String>> {
    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sops/keys.txt");
    let child = Command::new("sops")
        .args(["--config", "/dev/null", "--disable-version-check"])
        .args(arguments)
        .args(["--input-type", "json", "--output-type", "json", "--filename-override", "x.json"])
        .env("SOPS_AGE_KEY_FILE", keys)
        .env_remove("SOPS_AGE_RECIPIENTS")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        println!("skipped: there is no sops on the PATH");
        return None;
    };
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("sops reads");
    let output = child.wait_with_output().expect("sops ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Some(if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) })
}

fn keys() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z]{1,6}",
        1 => "[a-z]{1,3}_(un)?encrypted",
        1 => "[ -~]{0,4}",
        1 => "\\PC{0,4}",
    ]
    .prop_filter("reserved", |key| key != "sops")
}

fn leaves() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        // Floats with few digits: serde_json does not read all others back exactly. A whole one would
        // come back from JSON as an integer.
        any::<i32>()
            .prop_map(|number| f64::from(number) / 64.0)
            .prop_filter("whole", |number| number.fract() != 0.0)
            .prop_map(Value::Float),
        "\\PC{0,12}".prop_map(|text| Value::str(text.as_str())),
        "(?s).{0,6}".prop_map(|text| Value::str(text.as_str())),
        Just(Value::str("ENC[AES256_GCM,data:AA==,iv:AA==,tag:AA==,type:str]")),
    ]
}

fn branches(values: impl Strategy<Value = Value>) -> impl Strategy<Value = Branch> {
    proptest::collection::btree_map(keys(), values, 0..5)
        .prop_map(|map| map.into_iter().map(|(key, value)| Item::entry(key.as_str(), value)).collect())
}

fn documents() -> impl Strategy<Value = Branch> {
    let values = leaves().prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            branches(inner).prop_map(Value::Map),
        ]
    });
    branches(values)
}

fn selectors() -> impl Strategy<Value = Selector> {
    let of = |name: &'static str, value: &'static str| {
        Just(Selector::new(name, value).expect("it compiles").expect("not empty"))
    };
    prop_oneof![
        of("unencrypted_suffix", "_unencrypted"),
        of("encrypted_suffix", "_encrypted"),
        of("encrypted_regex", "^[a-m\\w]"),
        of("unencrypted_regex", "[n-z]$"),
    ]
}

fn flags(selector: &Selector, only: bool) -> Vec<String> {
    let mut flags = Vec::new();
    if only {
        flags.push("--mac-only-encrypted".to_owned());
    }
    flags.push("encrypt".to_owned());
    flags.push(format!("--{}={}", selector.name().replace('_', "-"), selector.value()));
    flags.push(format!("--age={}", identities()[0].to_public()));
    flags
}

/// A data key or a share of one, wrapped for one of the two identities.
fn wrapped(part: &[u8], identity: usize) -> AgeKey {
    let recipient = identities()[identity].to_public();
    let enc = age::encrypt_and_armor(&recipient, part).expect("it wraps");
    AgeKey { recipient: recipient.to_string(), enc }
}

/// Runs a property on a fixed series of documents.
fn each(test: impl Fn(Branch, Selector, bool)) {
    let config = Config { cases: DOCUMENTS, failure_persistence: None, ..Config::default() };
    let strategy = (documents(), selectors(), any::<bool>());
    TestRunner::new_with_rng(config, proptest::test_runner::TestRng::deterministic_rng(Default::default()))
        .run(&strategy, |(document, selector, only)| {
            test(document, selector, only);
            Ok(())
        })
        .expect("all pass");
}

#[test]
fn sops_decrypts_what_we_encrypt() {
    each(|document, selector, only| {
        let key = key();
        let mut metadata = Metadata { mac_only_encrypted: only, ..metadata(Some(selector)) };
        metadata.groups[0].age.push(wrapped(key.as_bytes(), 0));
        let plain = one_document(document);
        let data = encrypt(plain.clone(), &mut metadata, &key, &Stash::new(), &mut rng(), now()).expect("ok");
        // Texts that look like tokens in clear are in the documents themselves.
        let strays = audit(&data, metadata.selector.as_ref());
        assert!(strays.iter().all(|stray| stray.fault == Fault::NeverDecrypted), "{strays:?}");
        let text = json(&join(data, &metadata, is_metadata).expect("no sops key").documents[0]).to_string();
        if let Some(output) = sops(&["decrypt"], &text) {
            assert_eq!(tree(&output.expect("sops decrypts")), plain);
        }
    });
}

#[test]
fn we_decrypt_what_sops_encrypts_and_give_it_back_unchanged() {
    each(|document, selector, only| {
        let plain = one_document(document);
        let flags = flags(&selector, only);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let Some(output) = sops(&flags, &json(&plain.documents[0]).to_string()) else { return };
        let file = tree(&output.expect("sops encrypts"));
        let (data, mut metadata) = split(file.clone(), is_metadata).expect("metadata");
        assert_eq!((metadata.selector.as_ref(), metadata.mac_only_encrypted), (Some(&selector), only));
        let key = data_key(&metadata);
        let decrypted = decrypt(data, &metadata, &key, MacCheck::Verify, Nonces::Keep).expect("it decrypts");
        assert_eq!(decrypted.tree, plain);
        let time = metadata.last_modified;
        let again = encrypt(decrypted.tree, &mut metadata, &key, &decrypted.stash, &mut rng(), time);
        assert_eq!(join(again.expect("ok"), &metadata, is_metadata), Ok(file));
    });
}

#[test]
fn sops_opens_the_key_groups_that_we_split() {
    let key = key();
    let mut metadata = metadata(Some(Selector::default()));
    metadata.groups = vec![KeyGroup::default(); 3];
    metadata.shamir_threshold = 2;
    let parts = metadata.parts(&key, &mut rng()).expect("three shares");
    for (index, part) in [(0, &parts[0]), (2, &parts[2])] {
        metadata.groups[index].age.push(wrapped(part, index / 2));
    }
    let plain = tree(r#"{"a": "b"}"#);
    let data = encrypt(plain.clone(), &mut metadata, &key, &Stash::new(), &mut rng(), now()).expect("ok");
    let text = json(&join(data, &metadata, is_metadata).expect("no sops key").documents[0]).to_string();
    if let Some(output) = sops(&["decrypt"], &text) {
        assert_eq!(tree(&output.expect("sops decrypts")), plain);
    }
}
