//! What is not encrypted, found without the key.

use super::super::super::testing::tree;
use super::*;

const TOKEN: &str = "ENC[AES256_GCM,data:AQI=,iv:AwQF,tag:AAAAAAAAAAAAAAAAAAAAAA==,type:str]";

fn selector(name: &str, value: &str) -> Option<Selector> {
    Selector::new(name, value).expect("it compiles")
}

/// The faults of a document by their paths.
fn faults(tree: &Tree, selector: Option<&Selector>) -> Vec<(String, Fault)> {
    audit(tree, selector).into_iter().map(|stray| (stray.path.to_string(), stray.fault)).collect()
}

#[test]
fn what_stands_in_clear_is_found_where_it_stands() {
    let text = format!(
        r#"{{"a":"{TOKEN}","b":"clear","c":{{"d":["{TOKEN}",7,true,null,""]}},"e_unencrypted":"fine",
            "f_unencrypted":{{"g":"{TOKEN}"}},"h":"{}"}}"#,
        TOKEN.replace("AwQF", "Aw-F")
    );
    let path = |text: &str| text.to_owned();
    assert_eq!(
        faults(&tree(&text), Some(&Selector::default())),
        [
            (path(r#"["b"]"#), Fault::Clear),
            (path(r#"["c"]["d"][1]"#), Fault::Clear),
            (path(r#"["c"]["d"][2]"#), Fault::Clear),
            (path(r#"["f_unencrypted"]["g"]"#), Fault::NeverDecrypted),
            (path(r#"["h"]"#), Fault::Token(ValueError::NotBase64("iv"))),
        ]
    );
    let only = selector("encrypted_regex", "^b$");
    assert_eq!(faults(&tree(&text), only.as_ref())[1], (path(r#"["b"]"#), Fault::Clear));
}

#[test]
fn comments_and_the_items_behind_them_are_told_apart() {
    let list = Value::List(vec![
        Value::Comment(Comment::line("clear")),
        Value::str(TOKEN.replace("type:str", "type:comment").as_str()),
        Value::Comment(Comment::line("")),
        Value::str("x"),
    ]);
    let document = vec![
        Item::Comment(Comment::line("top")),
        Item::entry("list", list),
        Item::Entry(Key::Other(Value::Int(1)), Value::Null),
    ];
    let tree = Tree { documents: vec![Vec::new(), document] };
    let strays = audit(&tree, None);
    let shown: Vec<_> =
        strays.iter().map(|stray| (stray.path.to_string(), stray.place.join("/"), stray.fault)).collect();
    let shown: Vec<_> = shown.iter().map(|(one, two, fault)| (one.as_str(), two.as_str(), *fault)).collect();
    assert_eq!(
        shown,
        [
            ("the top level", "", Fault::ClearComment),
            (r#"["list"]"#, "list", Fault::ClearComment),
            (r#"["list"][3]"#, "list/1", Fault::Clear),
            ("the top level", "", Fault::Key),
        ]
    );
    assert!(strays.iter().all(|stray| stray.document == 2));
}

#[test]
fn comments_that_choose_choose_here_as_well() {
    let item = |comment: &str, value: &str| {
        [Item::Comment(Comment::line(comment)), Item::entry("key", Value::str(value))]
    };
    let tree = Tree { documents: vec![[item("secret", "clear"), item("other", "clear")].concat()] };
    let only = selector("encrypted_comment_regex", "^secret");
    assert_eq!(faults(&tree, only.as_ref()), [(r#"["key"]"#.to_owned(), Fault::Clear)]);
    let but = selector("unencrypted_comment_regex", "^secret");
    assert_eq!(
        faults(&tree, but.as_ref()),
        [("the top level".to_owned(), Fault::ClearComment), (r#"["key"]"#.to_owned(), Fault::Clear)]
    );
}
