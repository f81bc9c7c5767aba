//! Every parser of civm under random input. `CIVM_FUZZ` names the parser; `devshell/fuzz` runs them all.

#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use civm::builder::wire::{FromRemote, ToRemote};
use civm::edge::environment::Environment;
use civm::edge::frame;
use civm::edge::terminal::Nobody;
use civm::keys::identity::Identities;
use civm::keys::recipient::Recipient;
use civm::keys::ssh::{private, public};
use civm::rules::Config;
use civm::sops::document;
use civm::sops::key_path::{self, KeyPath};
use civm::sops::pattern::Pattern;
use civm::sops::token::Token;
use civm::sops::tree::{Item, Tree, Value};
use civm::store::{Format, Indents};
use libfuzzer_sys::fuzz_target;

/// A parser, as a function that may refuse but not panic.
type Target = fn(&[u8]);

/// The parsers by name; `fuzz/seeds` has a folder for each.
const TARGETS: [(&str, Target); 14] = [
    ("yaml", |data| store(Format::Yaml, data)),
    ("json", |data| store(Format::Json, data)),
    ("dotenv", |data| store(Format::Dotenv, data)),
    ("ini", |data| store(Format::Ini, data)),
    ("binary", |data| store(Format::Binary, data)),
    ("token", token),
    ("metadata", metadata),
    ("rules", rules),
    ("ssh-private", |data| drop(private::parse(data))),
    ("ssh-public", |data| public::lines(data).for_each(drop)),
    ("key-path", key_path),
    ("identities", identities),
    ("pattern", pattern),
    ("wire", wire),
];

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let wanted = std::env::var("CIVM_FUZZ").expect("CIVM_FUZZ names a parser");
    TARGETS.into_iter().find(|(name, _)| *name == wanted).expect("CIVM_FUZZ names a known parser").1
});

fuzz_target!(|data: &[u8]| (*TARGET)(data));

/// What was read can be written, and what was written can be read and says the same again.
fn store(format: Format, data: &[u8]) {
    let store = format.store(Indents::default());
    if let Ok(tree) = store.load(data)
        && let Ok(text) = store.emit(&tree)
    {
        let _ = store.verify(&tree, &text);
    }
    let Ok(tree) = store.load_plain(data) else { return };
    let Ok(text) = store.emit_plain(&tree) else { return };
    let again = store.load_plain(&text);
    // YAML and INI move comments when they are written, as with sops.
    if !matches!(format, Format::Yaml | Format::Ini) {
        let again = again.expect("what was written can be read");
        let second = store.emit_plain(&again).expect("and written");
        assert!(second == text || has_negative_zero(&tree), "the second writing differs");
    }
    for value in tree.documents.iter().flatten().filter_map(|item| match item {
        Item::Entry(_, value) => Some(value),
        _ => None,
    }) {
        let _ = store.emit_value(value);
    }
}

/// As with sops such a float is written `-0` and reads back as the integer 0.
fn has_negative_zero(tree: &Tree) -> bool {
    fn inside(value: &Value) -> bool {
        match value {
            Value::Float(number) => *number == 0.0 && number.is_sign_negative(),
            Value::List(items) => items.iter().any(inside),
            Value::Map(branch) => branch.iter().any(entry),
            _ => false,
        }
    }
    fn entry(item: &Item) -> bool {
        matches!(item, Item::Entry(_, value) if inside(value))
    }
    tree.documents.iter().flatten().any(entry)
}

fn token(data: &[u8]) {
    // As with sops a short tag is no error before the value is opened.
    if let Ok(token) = Token::parse(data)
        && token.sealed.len() > 16
    {
        let again = Token::parse(token.to_text().as_bytes()).expect("what was written can be read");
        assert!(again.sealed == token.sealed && again.nonce == token.nonce && again.kind == token.kind);
    }
}

fn metadata(data: &[u8]) {
    let store = Format::Yaml.store(Indents::default());
    let Ok(tree) = store.load(data) else { return };
    let Ok((tree, metadata)) = document::split(tree, store.is_metadata()) else { return };
    let _ = metadata.check_version();
    let _ = document::join(tree, &metadata, store.is_metadata());
}

fn rules(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(config) = Config::parse(text) {
        let _ = config.rule_for("hosts/x/secrets.yaml");
        let _ = config.rules();
        let _ = config.common_recipients();
    }
}

fn key_path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(path) = KeyPath::parse(text) else { return };
    let tree =
        Format::Yaml.store(Indents::default()).load(b"a: [1, {b: c}, [2]]\nd: {e: f}\n").expect("YAML");
    let _ = key_path::get(&tree.documents[0], &path);
}

fn identities(data: &[u8]) {
    if data.contains(&0) {
        return;
    }
    let environment = Environment::empty().with("SOPS_AGE_KEY", OsString::from_vec(data.to_vec()));
    let identities = Identities::load(&environment, Arc::new(Nobody));
    let _ = identities.reports();
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Recipient::parse(text);
    }
}

/// What keepers and remotes say, frame by frame: what was heard can be said, and means the same again.
fn wire(data: &[u8]) {
    let (mut keeper, mut remote) = (data, data);
    while let Ok(Some(message)) = frame::receive::<ToRemote>(&mut keeper) {
        let mut said = Vec::new();
        frame::send(&mut said, &message).expect("it can be said");
        assert_eq!(frame::receive::<ToRemote>(&mut said.as_slice()).expect("a message"), Some(message));
    }
    while let Ok(Some(message)) = frame::receive::<FromRemote>(&mut remote) {
        let mut said = Vec::new();
        frame::send(&mut said, &message).expect("it can be said");
        assert_eq!(frame::receive::<FromRemote>(&mut said.as_slice()).expect("a message"), Some(message));
    }
}

fn pattern(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(pattern) = Pattern::new(text) {
        let _ = pattern.is_match(b"hosts/x/secrets.yaml");
    }
    let _ = Format::of_path(Path::new(text));
}
