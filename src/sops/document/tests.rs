//! Whole documents, most of them written by sops itself (see `tests/sops/README.md`).

mod audits;
mod failures;
mod parts;
mod peer;
mod selectors;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::super::metadata::KeyGroup;
use super::super::selector::Selector;
use super::super::testing::{data_key, json, tree};
use super::super::time::Time;
use super::super::tree::{Branch, Comment};
use super::super::{Error, error::ValueError};
use super::*;
use crate::sops::data_key::DataKey;

const TYPES: &str = include_str!("../../../tests/sops/types.json");
const TYPES_ENC: &str = include_str!("../../../tests/sops/types.enc.json");
const ONLY_ENC: &str = include_str!("../../../tests/sops/only.enc.json");
const COMMENTS_ENC: &str = include_str!("../../../tests/sops/comments.enc.yaml");
const TYPES_ENC_YAML: &str = include_str!("../../../tests/sops/types.enc.yaml");

fn rng() -> StdRng {
    StdRng::seed_from_u64(1)
}

fn now() -> Time {
    Time::parse_rfc3339("2026-11-23T10:00:00Z").expect("a time")
}

fn key() -> DataKey {
    DataKey::generate(&mut rng())
}

fn metadata(selector: Option<Selector>) -> Metadata {
    Metadata::new(vec![KeyGroup::default()], selector, now(), "3.13.3")
}

fn one_document(branch: Branch) -> Tree {
    Tree { documents: vec![branch] }
}

/// The nth token of a text, counted from 0.
fn token(text: &str, index: usize) -> String {
    let start = text.match_indices("ENC[").nth(index).expect("a token").0;
    let end = text[start..].find(']').expect("its end") + 1;
    text[start..start + end].to_owned()
}

fn opened(encrypted: &str) -> (Decrypted, Metadata, DataKey) {
    let (data, metadata) = split(tree(encrypted), is_metadata).expect("metadata");
    let key = data_key(&metadata);
    let decrypted = decrypt(data, &metadata, &key, MacCheck::Verify, Nonces::Keep).expect("it decrypts");
    (decrypted, metadata, key)
}

#[test]
fn a_file_that_sops_wrote_is_decrypted() {
    let (decrypted, metadata, _) = opened(TYPES_ENC);
    // A clear whole float is written as an integer, and read back as one.
    assert_eq!(decrypted.tree, tree(&TYPES.replace("1.0", "1")));
    assert_eq!(decrypted.warnings, []);
    assert_eq!(metadata.check_version(), Ok(()));
    assert_eq!(metadata.selector, Some(Selector::default()));
}

#[test]
fn unchanged_values_keep_their_ciphertext() {
    let (decrypted, mut metadata, key) = opened(TYPES_ENC);
    let last = metadata.last_modified;
    let mac = metadata.mac.clone();
    let again = encrypt(decrypted.tree, &mut metadata, &key, &decrypted.stash, &mut rng(), last);
    // At the same second even the MAC is the same: the whole file is.
    let whole = join(again.expect("it encrypts"), &metadata, is_metadata).expect("no sops key");
    assert_eq!(metadata.mac, mac);
    let expected: serde_json::Value = serde_json::from_str(TYPES_ENC).expect("JSON");
    assert_eq!(json(&whole.documents[0]).to_string(), expected.to_string());
}

#[test]
fn only_a_changed_value_gets_a_new_ciphertext() {
    let (mut decrypted, mut metadata, key) = opened(TYPES_ENC);
    let old_mac = metadata.mac.clone();
    decrypted.tree.documents[0][0] = Item::entry("str", Value::str("changed"));
    let again = encrypt(decrypted.tree, &mut metadata, &key, &decrypted.stash, &mut rng(), now());
    let (new, old) = (again.expect("it encrypts"), split(tree(TYPES_ENC), is_metadata).expect("metadata").0);
    assert_ne!(new.documents[0][0], old.documents[0][0]);
    assert_eq!(new.documents[0][1..], old.documents[0][1..]);
    assert_ne!(metadata.mac, old_mac);
    assert_eq!(metadata.last_modified, now());
}

#[test]
fn a_clear_value_may_change_where_the_mac_covers_encrypted_ones_only() {
    let (decrypted, metadata, key) = opened(ONLY_ENC);
    assert!(metadata.mac_only_encrypted);
    assert_eq!(decrypted.tree, tree(TYPES));
    let (mut data, _) = split(tree(ONLY_ENC), is_metadata).expect("metadata");
    data.documents[0][0] = Item::entry("str", Value::str("changed by hand"));
    assert!(decrypt(data.clone(), &metadata, &key, MacCheck::Verify, Nonces::Keep).is_ok());
    let covers_all = Metadata { mac_only_encrypted: false, ..metadata };
    assert_eq!(
        decrypt(data, &covers_all, &key, MacCheck::Verify, Nonces::Keep).err(),
        Some(Error::MacMismatch)
    );
}

/// `comments.enc.yaml` as a tree: what its comments select is encrypted.
fn comments(token: impl Fn(usize) -> String, list_comment: Option<Value>) -> Branch {
    let line = |text: &str| Item::Comment(Comment::line(text));
    let value = |index: usize| Value::str(token(index));
    let inner = vec![line(&token(2)), Item::entry("deep", value(3))];
    let map = vec![
        line(" encrypt this"),
        Item::entry("inner", Value::Map(inner)),
        Item::entry("after", Value::str("clear")),
    ];
    let mut list = vec![Value::Comment(Comment::line(" encrypt this"))];
    list.extend(list_comment);
    list.extend([value(4), Value::str("clear")]);
    vec![
        line(" keep this clear"),
        Item::entry("first", Value::str("clear")),
        line(" encrypt this and what follows"),
        line(&token(0)),
        Item::entry("second", value(1)),
        Item::entry("third", Value::str("clear")),
        Item::entry("map", Value::Map(map)),
        Item::entry("list", Value::List(list)),
    ]
}

fn plain_comment(index: usize) -> String {
    [" a second line", "hidden", " below", "hidden", "hidden"][index].to_owned()
}

fn comments_metadata() -> (Metadata, DataKey) {
    let enc =
        COMMENTS_ENC.split("- enc: |").nth(1).expect("an enc").split("recipient").next().expect("its end");
    let enc: String = enc
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && *line != "-")
        .fold(String::new(), |text, line| text + line + "\n");
    let selector = Selector::new("encrypted_comment_regex", "encrypt this").expect("it compiles");
    let mut metadata = metadata(selector);
    metadata.groups[0].age.push(metadata::AgeKey { recipient: String::new(), enc });
    let time = COMMENTS_ENC.split("lastmodified: \"").nth(1).expect("a time");
    metadata.last_modified = Time::parse_rfc3339(&time[..20]).expect("a time");
    metadata.mac = token(COMMENTS_ENC, 5);
    let key = data_key(&metadata);
    (metadata, key)
}

#[test]
fn comments_select_the_next_item_and_hide_later_comments_only() {
    let (metadata, key) = comments_metadata();
    let encrypted = one_document(comments(|index| token(COMMENTS_ENC, index), None));
    let decrypted =
        decrypt(encrypted.clone(), &metadata, &key, MacCheck::Verify, Nonces::Keep).expect("it decrypts");
    let plain = one_document(comments(plain_comment, None));
    assert_eq!(decrypted.tree, plain);
    let mut again = metadata.clone();
    let stash = &decrypted.stash;
    let time = metadata.last_modified;
    assert_eq!(encrypt(plain, &mut again, &key, stash, &mut rng(), time), Ok(encrypted));
    assert_eq!(again, metadata);
}

#[test]
fn an_encrypted_comment_of_a_list_does_not_end_the_comments_before_it() {
    // sops cannot read such a file of its own: to it the comment is an item like any other.
    let (mut metadata, key) = comments_metadata();
    let plain = one_document(comments(plain_comment, Some(Value::Comment(Comment::line(" more")))));
    let encrypted = encrypt(plain.clone(), &mut metadata, &key, &Stash::new(), &mut rng(), now());
    let encrypted = encrypted.expect("it encrypts");
    let decrypted = decrypt(encrypted, &metadata, &key, MacCheck::Verify, Nonces::Keep).expect("it decrypts");
    assert_eq!(decrypted.tree, plain);
}

#[test]
fn an_encrypted_comment_that_would_stay_encrypted_is_refused() {
    let selector = Selector::new("unencrypted_comment_regex", "C").expect("it compiles");
    let data = one_document(vec![Item::Comment(Comment::line(" x")), Item::entry("a", Value::str("b"))]);
    let result = encrypt(data, &mut metadata(selector), &key(), &Stash::new(), &mut rng(), now());
    let reason = ValueError::EncryptedCommentMatches;
    assert_eq!(result, Err(Error::Encrypt { path: KeyPath::default(), reason }));
}

#[test]
fn comments_of_lists_become_items_and_comments_again() {
    let inline = Comment { text: " inline".into(), inline: true };
    let list =
        vec![Value::Comment(Comment::line(" in list")), Value::str("x"), Value::Comment(Comment::line(""))];
    let plain = one_document(vec![Item::Comment(inline), Item::entry("l", Value::List(list))]);
    let mut metadata = metadata(Some(Selector::default()));
    let key = key();
    let encrypted =
        encrypt(plain.clone(), &mut metadata, &key, &Stash::new(), &mut rng(), now()).expect("ok");
    let [Item::Comment(first), Item::Entry(_, Value::List(items))] = &encrypted.documents[0][..] else {
        panic!("another shape")
    };
    assert!(first.inline && first.text.as_bytes().starts_with(b"ENC["));
    assert!(matches!(&items[0], Value::Str(text) if text.as_bytes().ends_with(b"type:comment]")));
    // An empty comment stays one; sops would make an empty string of it.
    assert_eq!(items[2], Value::Comment(Comment::line("")));
    let mut decrypted = decrypt(encrypted, &metadata, &key, MacCheck::Verify, Nonces::Keep).expect("ok");
    let Item::Comment(first) = &mut decrypted.tree.documents[0][0] else { panic!("no comment") };
    assert!(!first.inline);
    first.inline = true;
    assert_eq!(decrypted.tree, plain);
}

#[test]
fn a_comment_of_another_place_stays_with_a_warning_unless_an_enclosing_place_opens_it() {
    let mut metadata = metadata(Some(Selector::default()));
    let key = key();
    let comment = |text: &str| Item::Comment(Comment::line(text));
    let map = |items: Vec<Item>| Item::entry("m", Value::Map(items));
    let plain = one_document(vec![comment(" top"), map(vec![comment(" inner")])]);
    let encrypted = encrypt(plain, &mut metadata, &key, &Stash::new(), &mut rng(), now()).expect("ok");
    let [top, Item::Entry(_, Value::Map(inner))] = &encrypted.documents[0][..] else { panic!("shape") };
    let moved = one_document(vec![map(vec![top.clone()]), inner[0].clone(), comment(" clear")]);
    let decrypted = decrypt(moved, &metadata, &key, MacCheck::Verify, Nonces::Keep).expect("ok");
    let expected = vec![map(vec![comment(" top")]), inner[0].clone(), comment(" clear")];
    assert_eq!(decrypted.tree, one_document(expected));
    let stray = Warning::UndecryptableComment { document: 1, container: KeyPath::default() };
    assert_eq!(decrypted.warnings, [stray.clone(), stray]);
}

#[test]
fn a_warning_names_the_container() {
    let deep = vec![Value::Null, Value::Map(vec![Item::Comment(Comment::line("x"))])];
    let mut data = one_document(vec![Item::entry("a", Value::List(deep))]);
    data.documents.insert(0, Vec::new());
    let decrypted = decrypt(data, &metadata(None), &key(), MacCheck::Ignore, Nonces::Keep).expect("ok");
    let [Warning::UndecryptableComment { document: 2, container }] = &decrypted.warnings[..] else {
        panic!("{:?}", decrypted.warnings)
    };
    assert_eq!(container.to_string(), "[\"a\"][1]");
    let text = decrypted.warnings[0].to_string();
    assert!(text.starts_with("document 2, [\"a\"][1]: a comment could not be decrypted"), "{text}");
}

#[test]
fn every_type_of_yaml_comes_back() {
    // `types.enc.yaml`: comments, integers, floats, booleans and times.
    let enc = |index| Value::str(token(TYPES_ENC_YAML, index));
    let data = one_document(vec![
        Item::Comment(Comment::line(token(TYPES_ENC_YAML, 0))),
        Item::entry("float", enc(5)),
        Item::entry("large", enc(6)),
        Item::entry("off", enc(8)),
        Item::entry("date", enc(9)),
        Item::entry("time", enc(10)),
        Item::entry("list", Value::List(vec![enc(15), enc(16)])),
    ]);
    let mut metadata = metadata(Some(Selector::default()));
    let armor = TYPES_ENC_YAML.split("- enc: |").nth(1).expect("an enc");
    let armor = armor.split("recipient").next().expect("its end");
    let enc = armor.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
    metadata.groups[0].age.push(metadata::AgeKey { recipient: String::new(), enc: enc + "\n" });
    let key = data_key(&metadata);
    let decrypted = decrypt(data, &metadata, &key, MacCheck::Ignore, Nonces::Keep).expect("ok");
    let time = |text| Value::Time(Time::parse_rfc3339(text).expect("a time"));
    let expected = vec![
        Item::Comment(Comment::line(" a head comment")),
        Item::entry("float", Value::Float(1.5)),
        Item::entry("large", Value::Float(1e20)),
        Item::entry("off", Value::Bool(false)),
        Item::entry("date", time("2020-01-01T00:00:00Z")),
        Item::entry("time", time("2001-12-14T21:59:43.1-05:00")),
        Item::entry(
            "list",
            Value::List(vec![Value::Comment(Comment::line(" inside a list")), Value::str("one")]),
        ),
    ];
    assert_eq!(decrypted.tree, one_document(expected));
}
