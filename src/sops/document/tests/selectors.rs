//! Which leaves each selector encrypts.

use super::*;

/// The leaves of a document that were encrypted, by their last key, and its encrypted comments.
fn chosen(selector: Option<Selector>, document: &Branch) -> Vec<String> {
    let mut metadata = metadata(selector);
    let plain = one_document(document.clone());
    let data = encrypt(plain.clone(), &mut metadata, &key(), &Stash::new(), &mut rng(), now()).expect("ok");
    let mut chosen = Vec::new();
    collect(document, &data.documents[0], &mut chosen);
    let back = decrypt(data, &metadata, &key(), MacCheck::Verify, Nonces::Keep).expect("it decrypts");
    assert_eq!(back.tree, plain);
    assert_eq!(back.warnings, []);
    chosen
}

fn collect(plain: &Branch, encrypted: &Branch, chosen: &mut Vec<String>) {
    for (plain, encrypted) in plain.iter().zip(encrypted) {
        match (plain, encrypted) {
            (Item::Entry(_, Value::Map(plain)), Item::Entry(_, Value::Map(encrypted))) => {
                collect(plain, encrypted, chosen);
            }
            (Item::Entry(Key::Str(key), plain), Item::Entry(_, encrypted)) if plain != encrypted => {
                chosen.push(key.as_str().expect("UTF-8").to_owned());
            }
            (Item::Comment(plain), Item::Comment(encrypted)) if plain != encrypted => {
                chosen.push(format!("#{}", plain.text.as_str().expect("UTF-8")));
            }
            _ => {}
        }
    }
}

fn document() -> Branch {
    let leaf = |name: &str| Item::entry(name, Value::str("x"));
    let comment = |text: &str| Item::Comment(Comment::line(text));
    vec![
        comment("top"),
        leaf("a"),
        leaf("b_unencrypted"),
        Item::entry(
            "data",
            Value::Map(vec![comment("in data"), leaf("c"), Item::entry("d", Value::Map(vec![leaf("e")]))]),
        ),
        Item::entry("x_unencrypted", Value::Map(vec![comment("in x"), leaf("f")])),
        comment("mark"),
        comment("second"),
        Item::entry("g", Value::Map(vec![comment("third"), leaf("h")])),
        leaf("i"),
    ]
}

fn by(name: &str, value: &str) -> Vec<String> {
    chosen(Selector::new(name, value).expect("it compiles"), &document())
}

#[test]
fn without_a_selector_everything_is_encrypted() {
    assert_eq!(chosen(None, &document()).len(), 13);
}

#[test]
fn suffixes_count_for_whole_subtrees() {
    assert_eq!(
        by("unencrypted_suffix", "_unencrypted"),
        ["#top", "a", "#in data", "c", "e", "#mark", "#second", "#third", "h", "i"]
    );
    assert_eq!(by("encrypted_suffix", "ta"), ["#in data", "c", "e"]);
}

#[test]
fn expressions_count_for_whole_subtrees_and_leave_top_comments_clear() {
    assert_eq!(by("encrypted_regex", "^(data|i)$"), ["#in data", "c", "e", "i"]);
    assert_eq!(
        by("unencrypted_regex", "^.$"),
        ["#top", "b_unencrypted", "#in data", "#in x", "#mark", "#second"]
    );
}

#[test]
fn comments_count_for_the_next_item() {
    assert_eq!(by("encrypted_comment_regex", "^mark$"), ["#second", "#third", "h"]);
    assert_eq!(by("encrypted_comment_regex", "^in data$"), ["c"]);
    let clear = by("unencrypted_comment_regex", "^mark$");
    assert_eq!(clear, ["#top", "a", "b_unencrypted", "#in data", "c", "e", "#in x", "f", "i"]);
}
