//! Decryption: every leaf in place, then the MAC over the result.

use rayon::prelude::*;
use zeroize::Zeroizing;

use super::super::aad::Aad;
use super::super::cipher::Cipher;
use super::super::data_key::DataKey;
use super::super::error::{Error, Located, ValueError};
use super::super::key_path::{KeyPath, Step};
use super::super::mac::Mac;
use super::super::metadata::Metadata;
use super::super::selector::{Scope, Selector};
use super::super::stash::Stash;
use super::super::token::Token;
use super::super::tree::{Branch, Comment, Item, Key, Tree, Value};
use super::super::value;
use super::{Decrypted, PART, ROUND, Warning, is_divisible};

/// What to do about a wrong MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacCheck {
    /// Refuse the document.
    Verify,
    /// Ignore it (`--ignore-mac`); values that fail authentication themselves are still refused.
    Ignore,
}

/// What becomes of the nonces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nonces {
    /// They are kept: a value that does not change keeps its ciphertext when the document is encrypted again.
    Keep,
    /// Nobody encrypts the document again.
    Forget,
}

/// Decrypts a document without its metadata.
///
/// # Errors
/// A value that was not encrypted with this key at its place; a MAC that is missing, undecryptable or
/// wrong, unless it is to be ignored.
pub fn decrypt(
    tree: Tree,
    metadata: &Metadata,
    key: &DataKey,
    check: MacCheck,
    nonces: Nonces,
) -> Result<Decrypted, Error> {
    let cipher = Cipher::new(key);
    let mut walk = Walk {
        cipher: &cipher,
        selector: metadata.selector.as_ref(),
        mac: Mac::new(metadata.mac_only_encrypted),
        aad: Aad::default(),
        stash: (nonces == Nonces::Keep).then(Stash::new),
        strays: Vec::new(),
    };
    let mut warnings = Vec::new();
    let mut tree = tree;
    for (index, branch) in tree.documents.iter_mut().enumerate() {
        walk.branch(branch, Scope::default()).map_err(Located::decrypting)?;
        warnings.extend(walk.strays.drain(..).map(|mut steps| {
            steps.reverse();
            Warning::UndecryptableComment { document: index + 1, container: KeyPath::from(steps) }
        }));
    }
    let Walk { mac, mut stash, .. } = walk;
    let computed = mac.finish();
    let stated = stated_mac(metadata, &cipher, stash.as_mut());
    if check == MacCheck::Verify {
        match stated {
            Ok(None) => return Err(Error::MacMissing),
            Ok(Some(stated)) if *stated == computed.as_bytes() => {}
            Ok(Some(_)) => return Err(Error::MacMismatch),
            Err(reason) => return Err(Error::MacUndecryptable(reason)),
        }
    }
    Ok(Decrypted { tree, stash: stash.unwrap_or_default(), warnings })
}

/// The MAC that the metadata states; `None` where it states none.
fn stated_mac(
    metadata: &Metadata,
    cipher: &Cipher,
    stash: Option<&mut Stash>,
) -> Result<Option<Zeroizing<Vec<u8>>>, ValueError> {
    if metadata.mac.is_empty() {
        return Ok(None);
    }
    let token = Token::parse(metadata.mac.as_bytes())?;
    let aad = metadata.last_modified.whole_second().to_string();
    let stated = cipher.open(&token.nonce, aad.as_bytes(), token.sealed)?;
    if let Some(stash) = stash {
        stash.keep(aad.as_bytes(), token.kind, &stated, &token.nonce);
    }
    Ok(Some(stated))
}

struct Walk<'a> {
    cipher: &'a Cipher,
    selector: Option<&'a Selector>,
    mac: Mac,
    aad: Aad,
    stash: Option<Stash>,
    /// Where comments of this document failed, innermost step first: each level adds its own.
    strays: Vec<Vec<Step>>,
}

impl Walk<'_> {
    fn branch(&mut self, branch: &mut Branch, scope: Scope) -> Result<(), Located> {
        if !is_divisible(branch, self.selector, &self.aad) {
            return self.items(branch, scope);
        }
        let done = |(items, mut part): (&mut [Item], Self)| part.items(items, scope).map(|()| part);
        for round in branch.chunks_mut(ROUND) {
            let parts: Vec<Self> = round.chunks(PART).map(|_| self.part()).collect();
            let parts: Vec<Result<Self, Located>> = round.par_chunks_mut(PART).zip(parts).map(done).collect();
            parts.into_iter().try_for_each(|part| part.map(|part| self.join(part)))?;
        }
        Ok(())
    }

    /// A walk through a part of what is here, by another thread.
    fn part(&self) -> Self {
        Self {
            cipher: self.cipher,
            selector: self.selector,
            mac: self.mac.part(),
            aad: self.aad.clone(),
            stash: self.stash.as_ref().map(|_| Stash::new()),
            strays: Vec::new(),
        }
    }

    fn join(&mut self, part: Self) {
        self.mac.join(part.mac);
        self.strays.extend(part.strays);
        if let (Some(stash), Some(more)) = (&mut self.stash, part.stash) {
            stash.append(more);
        }
    }

    fn items(&mut self, items: &mut [Item], mut scope: Scope) -> Result<(), Located> {
        for item in items {
            match item {
                Item::Comment(comment) => {
                    scope.comment(self.selector, comment.text.as_bytes());
                    self.comment(comment, scope);
                }
                Item::Entry(Key::Str(key), value) => {
                    if let Value::Comment(comment) = &*value {
                        scope.comment(self.selector, comment.text.as_bytes());
                    }
                    let was_comment = matches!(value, Value::Comment(_));
                    let strays = self.strays.len();
                    self.aad.push(key.as_bytes());
                    let result = self.value(value, scope.under(self.selector, key.as_bytes()));
                    self.aad.pop();
                    result.map_err(|error| error.under(Step::Key(key.clone())))?;
                    self.add_step(strays, || Step::Key(key.clone()));
                    if !was_comment {
                        scope.item_done();
                    }
                }
                Item::Entry(Key::Other(_), _) => return Err(ValueError::NonStringKey.into()),
            }
        }
        Ok(())
    }

    fn list(&mut self, items: &mut [Value], mut scope: Scope) -> Result<(), Located> {
        for (index, item) in items.iter_mut().enumerate() {
            let token = match item {
                Value::Comment(comment) => {
                    scope.comment(self.selector, comment.text.as_bytes());
                    None
                }
                Value::Str(text) if self.selector.is_some_and(Selector::reads_comments) => Some(text.clone()),
                _ => None,
            };
            let was_comment = matches!(item, Value::Comment(_));
            let strays = self.strays.len();
            self.value(item, scope).map_err(|error| error.under(Step::Index(index)))?;
            self.add_step(strays, || Step::Index(index));
            match (item, token) {
                // A comment of a list is an item while it is encrypted. It stays with the comments
                // before it, as it did on encryption.
                (Value::Comment(_), Some(token)) => scope.comment(self.selector, token.as_bytes()),
                _ if was_comment => {}
                _ => scope.item_done(),
            }
        }
        Ok(())
    }

    fn value(&mut self, value: &mut Value, scope: Scope) -> Result<(), Located> {
        match value {
            Value::Map(branch) => return self.branch(branch, scope.inside()),
            Value::List(items) => return self.list(items, scope.inside()),
            Value::Null => return Ok(()),
            Value::Uint(_) => return Err(ValueError::IntegerTooLarge.into()),
            Value::Comment(comment) => {
                self.comment(comment, scope);
                return Ok(());
            }
            _ => {}
        }
        let encrypted = scope.encrypts(self.selector, false);
        if encrypted {
            let Value::Str(text) = &*value else {
                return Err(ValueError::NotAString(value::describe(value)).into());
            };
            // The empty string is never encrypted.
            if !text.is_empty() {
                let Token { sealed, nonce, kind } = Token::parse(text.as_bytes())?;
                *value = value::from_bytes(kind, self.cipher.open(&nonce, self.aad.as_bytes(), sealed)?)?;
                if let Some(stash) = &mut self.stash
                    && let Some(plaintext) = value::to_bytes(value)
                {
                    stash.keep(self.aad.as_bytes(), kind, &plaintext, &nonce);
                }
            }
        }
        self.mac.update(value, encrypted);
        Ok(())
    }

    /// A comment that cannot be decrypted stays as it is, with a warning.
    fn comment(&mut self, comment: &mut Comment, scope: Scope) {
        if comment.text.is_empty() || !scope.encrypts(self.selector, true) {
            return;
        }
        let Some(plain) = self.open_comment(comment) else {
            self.strays.push(Vec::new());
            return;
        };
        // sops does not keep an encrypted comment on the line of its value either.
        *comment = Comment { text: plain, inline: false };
    }

    fn open_comment(&mut self, comment: &Comment) -> Option<super::super::text::Text> {
        let token = Token::parse(comment.text.as_bytes()).ok()?;
        // sops' own writer moves some comments into an inner mapping or list; there they are
        // authenticated for the outer one still.
        let mut places = std::iter::once(self.aad.as_bytes()).chain(self.aad.enclosing());
        let (aad, mut bytes) = places
            .find_map(|aad| Some((aad, self.cipher.open(&token.nonce, aad, token.sealed.clone()).ok()?)))?;
        if let Some(stash) = &mut self.stash {
            stash.keep(aad, token.kind, &bytes, &token.nonce);
        }
        Some(std::mem::take(&mut *bytes).into())
    }

    fn add_step(&mut self, from: usize, step: impl Fn() -> Step) {
        for stray in &mut self.strays[from..] {
            stray.push(step());
        }
    }
}
