//! What a selector selects in a document.

use super::super::selector::{Scope, Selector};
use super::super::tree::{Branch, Item, Key, Tree, Value};

/// Whether a plaintext has values but a selector matches none of them. Null and the empty string do not count, because
/// they are never encrypted.
#[must_use]
pub fn selects_nothing(tree: &Tree, selector: &Selector) -> bool {
    let mut reach = Reach { selector, values: 0, selected: 0 };
    for branch in &tree.documents {
        reach.branch(branch, Scope::default());
    }
    reach.values > 0 && reach.selected == 0
}

struct Reach<'a> {
    selector: &'a Selector,
    values: usize,
    selected: usize,
}

impl Reach<'_> {
    fn branch(&mut self, branch: &Branch, mut scope: Scope) {
        let selector = Some(self.selector);
        for item in branch {
            match item {
                Item::Comment(comment) => scope.comment(selector, comment.text.as_bytes()),
                Item::Entry(Key::Str(key), value) => {
                    self.value(value, scope.under(selector, key.as_bytes()));
                    scope.item_done();
                }
                Item::Entry(Key::Other(_), _) => {}
            }
        }
    }

    fn value(&mut self, value: &Value, scope: Scope) {
        match value {
            Value::Map(branch) => self.branch(branch, scope.inside()),
            Value::List(items) => {
                let mut scope = scope.inside();
                for item in items {
                    match item {
                        Value::Comment(comment) => {
                            scope.comment(Some(self.selector), comment.text.as_bytes());
                        }
                        item => {
                            self.value(item, scope);
                            scope.item_done();
                        }
                    }
                }
            }
            Value::Null | Value::Comment(_) => {}
            Value::Str(text) if text.is_empty() => {}
            _ => {
                self.values += 1;
                self.selected += usize::from(scope.encrypts(Some(self.selector), false));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::tree;
    use super::*;

    #[test]
    fn a_selector_that_selects_nothing_is_told_from_one_that_does() {
        let regex =
            |text: &str| Selector::new("encrypted_regex", text).expect("compiles").expect("a selector");
        let nothing = |text: &str, selector: &Selector| selects_nothing(&tree(text), selector);
        let data = regex("^(data|stringData)$");
        assert!(nothing(r#"{"dta": {"a": 1}, "l": [1]}"#, &data));
        assert!(!nothing(r#"{"x": [{"data": {"a": 1}}]}"#, &data));
        // Nothing to encrypt is nothing to miss.
        assert!(!nothing(r#"{"a": null, "b": "", "c": {}, "d": []}"#, &data));
        assert!(!nothing(r#"{"a": 1}"#, &Selector::default()));
        assert!(nothing(r#"{"a_unencrypted": 1}"#, &Selector::default()));
    }
}
