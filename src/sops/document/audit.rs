//! Checks an encrypted document without its key: whether everything that should be encrypted is.

use super::super::error::ValueError;
use super::super::key_path::{KeyPath, Step};
use super::super::selector::{Scope, Selector};
use super::super::token::{Kind, Token};
use super::super::tree::{Branch, Item, Key, Tree, Value};

/// Something that does not comply with the selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// The document, counted from 1.
    pub document: usize,
    /// Its path; for a comment, that of the mapping or list that contains it.
    pub path: KeyPath,
    /// The same for a reader that counts no comments: keys, and positions from 0.
    pub place: Vec<String>,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It should be encrypted but is in plaintext.
    Clear,
    /// A comment that should be encrypted but is in plaintext.
    ClearComment,
    /// Its token cannot be read.
    Token(ValueError),
    /// It is encrypted although the selector excludes it, so it is never decrypted.
    NeverDecrypted,
    /// The mapping has a key that is not a string, which cannot be encrypted.
    Key,
}

/// Everything in an encrypted document that does not comply with the selector.
#[must_use]
pub fn audit(tree: &Tree, selector: Option<&Selector>) -> Vec<Stray> {
    let mut walk = Walk { selector, document: 0, steps: Vec::new(), place: Vec::new(), strays: Vec::new() };
    for (index, branch) in tree.documents.iter().enumerate() {
        walk.document = index + 1;
        walk.branch(branch, Scope::default());
    }
    walk.strays
}

struct Walk<'a> {
    selector: Option<&'a Selector>,
    document: usize,
    steps: Vec<Step>,
    place: Vec<String>,
    strays: Vec<Stray>,
}

impl Walk<'_> {
    fn branch(&mut self, branch: &Branch, mut scope: Scope) {
        for item in branch {
            match item {
                Item::Comment(comment) => {
                    scope.comment(self.selector, comment.text.as_bytes());
                    self.comment(comment.text.as_bytes(), scope);
                }
                Item::Entry(Key::Str(key), value) => {
                    if let Value::Comment(comment) = value {
                        scope.comment(self.selector, comment.text.as_bytes());
                    }
                    self.steps.push(Step::Key(key.clone()));
                    self.place.push(String::from_utf8_lossy(key.as_bytes()).into_owned());
                    self.value(value, scope.under(self.selector, key.as_bytes()));
                    self.steps.pop();
                    self.place.pop();
                    if !matches!(value, Value::Comment(_)) {
                        scope.item_done();
                    }
                }
                Item::Entry(Key::Other(_), _) => self.stray(Fault::Key),
            }
        }
    }

    fn list(&mut self, items: &[Value], mut scope: Scope) {
        let mut comments = 0;
        for (index, item) in items.iter().enumerate() {
            if let Value::Comment(comment) = item {
                comments += 1;
                scope.comment(self.selector, comment.text.as_bytes());
                self.comment(comment.text.as_bytes(), scope);
                continue;
            }
            self.steps.push(Step::Index(index));
            self.place.push((index - comments).to_string());
            self.value(item, scope);
            self.steps.pop();
            self.place.pop();
            match item {
                // An encrypted comment of a list is an item of it.
                Value::Str(text) if scope.encrypts(self.selector, false) && is_comment(text.as_bytes()) => {
                    scope.comment(self.selector, text.as_bytes());
                }
                _ => scope.item_done(),
            }
        }
    }

    fn value(&mut self, value: &Value, scope: Scope) {
        match value {
            Value::Map(branch) => return self.branch(branch, scope.inside()),
            Value::List(items) => return self.list(items, scope.inside()),
            Value::Null => return,
            Value::Comment(comment) => return self.comment(comment.text.as_bytes(), scope),
            _ => {}
        }
        let encrypted = scope.encrypts(self.selector, false);
        match (value, encrypted) {
            // The empty string is never encrypted.
            (Value::Str(text), true) if text.is_empty() => {}
            (Value::Str(text), true) => match Token::parse(text.as_bytes()) {
                Ok(_) => {}
                Err(ValueError::NotAToken) => self.stray(Fault::Clear),
                Err(error) => self.stray(Fault::Token(error)),
            },
            (_, true) => self.stray(Fault::Clear),
            (Value::Str(text), false) if Token::parse(text.as_bytes()).is_ok() => {
                self.stray(Fault::NeverDecrypted);
            }
            (_, false) => {}
        }
    }

    fn comment(&mut self, text: &[u8], scope: Scope) {
        if !text.is_empty() && scope.encrypts(self.selector, true) && Token::parse(text).is_err() {
            self.stray(Fault::ClearComment);
        }
    }

    fn stray(&mut self, fault: Fault) {
        self.strays.push(Stray {
            document: self.document,
            path: KeyPath::from(self.steps.clone()),
            place: self.place.clone(),
            fault,
        });
    }
}

fn is_comment(text: &[u8]) -> bool {
    Token::parse(text).is_ok_and(|token| token.kind == Kind::Comment)
}
