//! Mappings that several threads work on.

use sha2::{Digest as _, Sha512};

use super::*;

const ENTRIES: usize = ROUND + 10 * PART + 3;

/// Many entries of all kinds, and a mapping of as many within.
fn large() -> Tree {
    let entries = |depth: usize| -> Branch {
        let entry = |at: usize| {
            let key = format!("key_{at}{}", if at.is_multiple_of(5) { "_unencrypted" } else { "" });
            let value = match at % 4 {
                0 => Value::str(format!("{depth} {at}")),
                1 => Value::Int(i64::try_from(at).expect("small")),
                2 => Value::List(vec![Value::str("same"), Value::str("same"), Value::Bool(true)]),
                _ => Value::Null,
            };
            [Item::Comment(Comment::line(format!(" {at}"))), Item::entry(key, value)]
        };
        (0..ENTRIES).flat_map(entry).collect()
    };
    let mut outer = entries(0);
    outer.insert(PART, Item::entry("inner", Value::Map(entries(1))));
    one_document(outer)
}

fn leaves(branch: &Branch, hash: &mut Sha512) {
    for item in branch {
        match item {
            Item::Entry(_, Value::Map(inner)) => leaves(inner, hash),
            Item::Entry(_, Value::List(items)) => items.iter().for_each(|item| update(hash, item)),
            Item::Entry(_, value) => update(hash, value),
            Item::Comment(_) => {}
        }
    }
}

fn update(hash: &mut Sha512, value: &Value) {
    if let Some(bytes) = crate::sops::value::to_bytes(value) {
        hash.update(&*bytes);
    }
}

fn sealed() -> (Tree, Metadata) {
    let mut metadata = metadata(Some(Selector::default()));
    let sealed = encrypt(large(), &mut metadata, &key(), &Stash::new(), &mut rng(), now());
    (sealed.expect("it encrypts"), metadata)
}

fn open(tree: Tree, metadata: &Metadata) -> Result<Decrypted, Error> {
    decrypt(tree, metadata, &key(), MacCheck::Verify, Nonces::Keep)
}

#[test]
fn the_mac_covers_the_parts_in_the_order_of_the_document() {
    let (_, metadata) = sealed();
    let mut hash = Sha512::new();
    leaves(&large().documents[0], &mut hash);
    let expected: String = hash.finalize().iter().map(|byte| format!("{byte:02X}")).collect();
    let token = crate::sops::token::Token::parse(metadata.mac.as_bytes()).expect("a token");
    let cipher = crate::sops::cipher::Cipher::new(&key());
    let stated = cipher.open(&token.nonce, metadata.last_modified.to_string().as_bytes(), token.sealed);
    assert_eq!(stated.expect("opened").as_slice(), expected.as_bytes());
}

#[test]
fn what_was_encrypted_in_parts_is_decrypted_and_keeps_its_ciphertexts() {
    let (tree, mut metadata) = sealed();
    let opened = open(tree.clone(), &metadata).expect("it decrypts");
    assert!(opened.tree == large() && opened.warnings.is_empty());
    let again = encrypt(opened.tree, &mut metadata, &key(), &opened.stash, &mut rng(), now());
    assert!(again.expect("it encrypts") == tree);
}

/// As sops leaves them after an edit: it gives equal values of one place the same nonce.
#[test]
fn equal_comments_of_different_parts_keep_ciphertexts_that_are_equal() {
    let mut plain = large();
    let last = plain.documents[0].len();
    for at in [0, last + 1] {
        plain.documents[0].insert(at, Item::Comment(Comment::line(" twice")));
    }
    let mut metadata = metadata(Some(Selector::default()));
    let sealed = encrypt(plain, &mut metadata, &key(), &Stash::new(), &mut rng(), now());
    let mut tree = sealed.expect("it encrypts");
    let first = tree.documents[0][0].clone();
    *tree.documents[0].last_mut().expect("an item") = first;
    let opened = open(tree.clone(), &metadata).expect("it decrypts");
    let again = encrypt(opened.tree, &mut metadata, &key(), &opened.stash, &mut rng(), now());
    assert!(again.expect("it encrypts") == tree);
}

#[test]
fn large_mappings_may_be_as_deep_as_a_file_may_be() {
    let wide = || (0..=PART).map(|at| Item::entry(at.to_string(), Value::str("x")));
    let mut branch: Branch = wide().collect();
    for _ in 1..300 {
        branch = std::iter::once(Item::entry("d", Value::Map(branch))).chain(wide()).collect();
    }
    let plain = one_document(branch);
    let mut metadata = metadata(Some(Selector::default()));
    let sealed = encrypt(plain.clone(), &mut metadata, &key(), &Stash::new(), &mut rng(), now());
    let opened = open(sealed.expect("it encrypts"), &metadata).expect("it decrypts");
    assert!(opened.tree == plain);
}

#[test]
fn no_two_values_share_a_nonce() {
    let (tree, _) = sealed();
    let text = format!("{}", json(&tree.documents[0]));
    let nonces: Vec<&str> = text.split(",iv:").skip(1).map(|rest| &rest[..43]).collect();
    let distinct: std::collections::BTreeSet<_> = nonces.iter().collect();
    assert!(nonces.len() > ENTRIES && distinct.len() == nonces.len());
}

#[test]
fn of_several_errors_the_first_in_the_document_is_told() {
    let (mut tree, metadata) = sealed();
    let count = tree.documents[0].len();
    for at in [3, 5, count - 1] {
        if let Item::Entry(_, value) = &mut tree.documents[0][at] {
            *value = Value::Uint(u64::MAX);
        }
    }
    for _ in 0..20 {
        let error = open(tree.clone(), &metadata).expect_err("it fails").to_string();
        assert!(error.contains(r#"["key_1"]"#), "{error}");
    }
}

#[test]
fn comments_that_do_not_decrypt_are_told_in_the_order_of_the_document() {
    let (mut tree, metadata) = sealed();
    let Some(Item::Entry(_, Value::Map(inner))) = tree.documents[0].get_mut(PART) else { panic!("no map") };
    let last = inner.len() - 2;
    for at in [0, last] {
        inner[at] = Item::Comment(Comment::line(" clear"));
    }
    tree.documents[0].push(Item::Comment(Comment::line(" clear")));
    let warnings = open(tree, &metadata).expect("it decrypts").warnings;
    let places: Vec<String> = warnings
        .iter()
        .map(|Warning::UndecryptableComment { container, .. }| container.to_string())
        .collect();
    assert_eq!(places, [r#"["inner"]"#, r#"["inner"]"#, "the top level"]);
}
