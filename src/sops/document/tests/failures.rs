//! What must not decrypt or encrypt, and how it is said.

use super::*;

fn encrypted(tree: Tree, metadata: &mut Metadata) -> Result<Tree, Error> {
    encrypt(tree, metadata, &key(), &Stash::new(), &mut rng(), now())
}

fn two_values() -> (Tree, Metadata) {
    let mut metadata = metadata(Some(Selector::default()));
    let plain = tree(r#"{"a": {"b": ["one", "two"]}, "c": "three", "d_unencrypted": "four"}"#);
    (encrypted(plain, &mut metadata).expect("it encrypts"), metadata)
}

fn decrypted(tree: Tree, metadata: &Metadata) -> Result<Tree, Error> {
    decrypt(tree, metadata, &key(), MacCheck::Verify, Nonces::Keep).map(|decrypted| decrypted.tree)
}

fn items(tree: &mut Tree) -> &mut Vec<Value> {
    let Item::Entry(_, Value::Map(branch)) = &mut tree.documents[0][0] else { panic!("no map") };
    let Item::Entry(_, Value::List(items)) = &mut branch[0] else { panic!("no list") };
    items
}

#[test]
fn items_that_changed_places_are_seen_by_the_mac_only() {
    let (mut data, metadata) = two_values();
    items(&mut data).swap(0, 1);
    assert_eq!(decrypted(data.clone(), &metadata), Err(Error::MacMismatch));
    assert!(decrypt(data, &metadata, &key(), MacCheck::Ignore, Nonces::Keep).is_ok());
}

#[test]
fn a_value_under_another_key_fails_on_its_own() {
    let (mut data, metadata) = two_values();
    let Item::Entry(Key::Str(name), _) = &mut data.documents[0][1] else { panic!("no key") };
    *name = "renamed".into();
    let error = decrypt(data, &metadata, &key(), MacCheck::Ignore, Nonces::Keep).expect_err("it fails");
    assert_eq!(
        error.to_string(),
        r#"could not decrypt ["renamed"]: it was not encrypted with this data key at this path"#
    );
}

#[test]
fn a_clear_value_on_an_encrypted_path_is_refused_by_its_place() {
    for (value, reason) in [
        (Value::str("plain"), ValueError::NotAToken),
        (Value::Int(7), ValueError::NotAString("an integer")),
        (Value::Uint(u64::MAX), ValueError::IntegerTooLarge),
        (Value::Map(vec![Item::Entry(Key::Other(Value::Int(1)), Value::Null)]), ValueError::NonStringKey),
    ] {
        let (mut data, metadata) = two_values();
        items(&mut data)[1] = value;
        let Err(Error::Decrypt { path, reason: found }) = decrypted(data, &metadata) else {
            panic!("no error")
        };
        assert_eq!((path.to_string(), found), (r#"["a"]["b"][1]"#.to_owned(), reason));
    }
}

#[test]
fn emptied_values_are_seen_by_the_mac_only() {
    let (mut data, metadata) = two_values();
    items(&mut data)[0] = Value::str("");
    assert_eq!(decrypted(data, &metadata), Err(Error::MacMismatch));
}

#[test]
fn a_changed_clear_value_is_seen() {
    let (mut data, metadata) = two_values();
    data.documents[0][2] = Item::entry("d_unencrypted", Value::str("five"));
    assert_eq!(decrypted(data, &metadata), Err(Error::MacMismatch));
}

#[test]
fn null_is_neither_encrypted_nor_in_the_mac() {
    let (mut data, metadata) = two_values();
    items(&mut data).push(Value::Null);
    assert!(decrypted(data, &metadata).is_ok());
}

#[test]
fn the_mac_must_be_there_and_belong_to_its_time() {
    let (data, metadata) = two_values();
    let none = Metadata { mac: String::new(), ..metadata.clone() };
    assert_eq!(decrypted(data.clone(), &none), Err(Error::MacMissing));
    assert!(decrypt(data.clone(), &none, &key(), MacCheck::Ignore, Nonces::Keep).is_ok());
    let later = Metadata { last_modified: Time::from_unix(0).expect("1970"), ..metadata.clone() };
    assert_eq!(decrypted(data.clone(), &later), Err(Error::MacUndecryptable(ValueError::Authentication)));
    let garbled = Metadata { mac: "x".to_owned(), ..metadata };
    assert_eq!(decrypted(data, &garbled), Err(Error::MacUndecryptable(ValueError::NotAToken)));
}

#[test]
fn another_offset_of_the_same_instant_is_another_time() {
    let mut metadata = metadata(None);
    let time = |text| Time::parse_rfc3339(text).expect("a time");
    let berlin = time("2026-01-01T02:00:00.75+02:00");
    let data = encrypt(tree("{}"), &mut metadata, &key(), &Stash::new(), &mut rng(), berlin).expect("ok");
    assert_eq!(metadata.last_modified.to_string(), "2026-01-01T02:00:00+02:00");
    assert!(decrypted(data.clone(), &metadata).is_ok());
    metadata.last_modified = time("2026-01-01T00:00:00Z");
    assert!(matches!(decrypted(data, &metadata), Err(Error::MacUndecryptable(_))));
}

#[test]
fn what_cannot_be_encrypted_is_refused_and_the_metadata_kept() {
    let map = |key: Key, value: Value| one_document(vec![Item::Entry(key, value)]);
    for (data, reason) in [
        (map(Key::Other(Value::Bool(true)), Value::Null), ValueError::NonStringKey),
        (map(Key::Str("u".into()), Value::List(vec![Value::Uint(u64::MAX)])), ValueError::IntegerTooLarge),
    ] {
        let mut metadata = metadata(Some(Selector::default()));
        let before = metadata.clone();
        let result = encrypted(data, &mut metadata);
        assert!(matches!(result, Err(Error::Encrypt { reason: found, .. }) if found == reason));
        assert_eq!(metadata, before);
    }
}

#[test]
fn a_document_of_its_own_under_sops_is_refused() {
    let mut metadata = metadata(None);
    let reserved = Tree { documents: vec![Vec::new(), vec![Item::entry("sops", Value::Null)]] };
    assert_eq!(join(reserved, &metadata, is_metadata), Err(Error::ReservedKey { document: 2 }));
    let nested = tree(r#"{"a": {"sops": 1}}"#);
    assert!(!nested.documents[0].iter().any(is_metadata));
    assert!(encrypted(nested, &mut metadata).is_ok());
}

#[test]
fn metadata_is_read_from_the_first_document_and_written_to_all() {
    let with = |name: &str, data: Value| vec![Item::entry("sops", data), Item::entry(name, Value::Int(1))];
    let sops = || Value::Map(metadata(Some(Selector::default())).to_branch());
    let mut keyed = metadata(Some(Selector::default()));
    keyed.groups[0].age.push(metadata::AgeKey { recipient: "age1a".to_owned(), enc: "E".to_owned() });
    let first = || Value::Map(keyed.to_branch());
    let file = Tree { documents: vec![with("a", first()), with("b", Value::Int(5))] };
    assert!(file.documents[0].iter().any(is_metadata));
    let (data, read) = split(file, is_metadata).expect("metadata");
    assert_eq!(read, keyed);
    assert_eq!(data.documents.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
    let joined = join(data, &read, is_metadata).expect("no sops key");
    for document in &joined.documents {
        assert_eq!(document.last(), Some(&Item::entry("sops", first())));
    }
    let twice = one_document(vec![Item::entry("sops", first()), Item::entry("sops", sops())]);
    assert_eq!(split(twice, is_metadata).err(), Some(Error::DuplicateMetadata));
    assert_eq!(split(tree(r#"{"a": 1}"#), is_metadata).err(), Some(Error::MetadataNotFound));
    assert_eq!(split(Tree::default(), is_metadata).err(), Some(Error::MetadataNotFound));
    let scalar = split(tree(r#"{"sops": 5}"#), is_metadata).expect_err("no mapping").to_string();
    assert_eq!(scalar, "sops metadata: sops: expected a mapping, but got an integer");
}

#[test]
fn a_clear_negative_zero_does_not_break_its_own_mac() {
    let mut metadata = metadata(Some(Selector::default()));
    let plain = one_document(vec![
        Item::entry("a_unencrypted", Value::Float(-0.0)),
        Item::entry("b", Value::Float(-0.0)),
    ]);
    let data = encrypted(plain, &mut metadata).expect("it encrypts");
    assert_eq!(data.documents[0][0], Item::entry("a_unencrypted", Value::Int(0)));
    let back = decrypted(data, &metadata).expect("it decrypts");
    assert!(matches!(back.documents[0][1], Item::Entry(_, Value::Float(zero)) if zero.is_sign_negative()));
}

#[test]
fn a_clear_value_that_looks_encrypted_is_left_alone() {
    let (data, metadata) = two_values();
    let Item::Entry(_, token) = &data.documents[0][1] else { panic!("no entry") };
    let mut again = metadata;
    let plain = one_document(vec![Item::entry("x_unencrypted", token.clone())]);
    let data = encrypted(plain.clone(), &mut again).expect("it encrypts");
    assert_eq!(data, plain);
    assert_eq!(decrypted(data, &again), Ok(plain));
}
