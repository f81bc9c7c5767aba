//! Encryption: every leaf in place, then the MAC over the plaintext.

use rand::rngs::StdRng;
use rand::{CryptoRng, RngCore, SeedableRng};
use rayon::prelude::*;
use zeroize::Zeroizing;

use super::super::aad::Aad;
use super::super::cipher::{Cipher, NONCE_LEN};
use super::super::data_key::DataKey;
use super::super::error::{Error, Located, ValueError};
use super::super::key_path::Step;
use super::super::mac::Mac;
use super::super::metadata::Metadata;
use super::super::selector::{Scope, Selector};
use super::super::stash::{Stash, Taker};
use super::super::text::Text;
use super::super::time::Time;
use super::super::token::{Kind, Token};
use super::super::tree::{Branch, Item, Key, Tree, Value};
use super::super::value;
use super::{PART, ROUND, is_divisible};

/// Encrypts a document without its metadata, and sets the metadata's MAC and time. Values that the
/// stash knows keep their nonces, and with the same data key their ciphertexts.
///
/// # Errors
/// A key that is not a string, or an integer above the signed range. The metadata is as before then.
pub fn encrypt(
    tree: Tree,
    metadata: &mut Metadata,
    key: &DataKey,
    stash: &Stash,
    rng: &mut (impl RngCore + CryptoRng),
    now: Time,
) -> Result<Tree, Error> {
    let cipher = Cipher::new(key);
    let mut walk = Walk {
        cipher: &cipher,
        selector: metadata.selector.as_ref(),
        mac: Mac::new(metadata.mac_only_encrypted),
        covers_clear: !metadata.mac_only_encrypted,
        aad: Aad::default(),
        nonces: stash.taker(),
        rng,
    };
    let mut tree = tree;
    for branch in &mut tree.documents {
        walk.branch(branch, Scope::default()).map_err(Located::encrypting)?;
    }
    let last_modified = now.whole_second();
    let mac = std::mem::replace(&mut walk.mac, Mac::new(false)).finish();
    let aad = last_modified.to_string();
    let token = walk.seal(Kind::Str, mac.as_bytes(), aad.as_bytes()).map_err(|reason| Error::Encrypt {
        path: super::super::key_path::KeyPath::from(vec![Step::Key("sops".into()), Step::Key("mac".into())]),
        reason,
    })?;
    metadata.mac = token.to_text();
    metadata.last_modified = last_modified;
    Ok(tree)
}

struct Walk<'a, R> {
    cipher: &'a Cipher,
    selector: Option<&'a Selector>,
    mac: Mac,
    /// Whether the MAC covers what stays in plaintext.
    covers_clear: bool,
    aad: Aad,
    nonces: Taker<'a>,
    rng: R,
}

impl<'a, R: RngCore + CryptoRng> Walk<'a, R> {
    fn branch(&mut self, branch: &mut Branch, scope: Scope) -> Result<(), Located> {
        // A kept nonce is given out once, which takes one walk.
        if !is_divisible(branch, self.selector, &self.aad) || self.nonces.may_have_some() {
            return self.items(branch, scope);
        }
        let done =
            |(items, mut part): (&mut [Item], Walk<'a, StdRng>)| part.items(items, scope).map(|()| part.mac);
        for round in branch.chunks_mut(ROUND) {
            let parts: Vec<_> = round.chunks(PART).map(|_| self.part()).collect();
            let macs: Vec<Result<Mac, Located>> = round.par_chunks_mut(PART).zip(parts).map(done).collect();
            macs.into_iter().try_for_each(|mac| mac.map(|mac| self.mac.join(mac)))?;
        }
        Ok(())
    }

    /// A walk through a part of what is here, by another thread, with randomness of its own.
    fn part(&mut self) -> Walk<'a, StdRng> {
        let mut seed = Zeroizing::new(<StdRng as SeedableRng>::Seed::default());
        self.rng.fill_bytes(&mut *seed);
        Walk {
            cipher: self.cipher,
            selector: self.selector,
            mac: self.mac.part(),
            covers_clear: self.covers_clear,
            aad: self.aad.clone(),
            nonces: self.nonces.clone(),
            rng: StdRng::from_seed(*seed),
        }
    }

    fn items(&mut self, items: &mut [Item], mut scope: Scope) -> Result<(), Located> {
        for item in items {
            match item {
                Item::Comment(comment) => {
                    scope.comment(self.selector, comment.text.as_bytes());
                    if let Some(token) = self.comment(&comment.text, scope)? {
                        comment.text = token;
                    }
                }
                Item::Entry(Key::Str(key), value) => {
                    if let Value::Comment(comment) = &*value {
                        scope.comment(self.selector, comment.text.as_bytes());
                    }
                    let was_comment = matches!(value, Value::Comment(_));
                    self.aad.push(key.as_bytes());
                    let result = self.value(value, scope.under(self.selector, key.as_bytes()));
                    self.aad.pop();
                    result.map_err(|error| error.under(Step::Key(key.clone())))?;
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
            if let Value::Comment(comment) = &*item {
                scope.comment(self.selector, comment.text.as_bytes());
            }
            let was_comment = matches!(item, Value::Comment(_));
            self.value(item, scope).map_err(|error| error.under(Step::Index(index)))?;
            if !was_comment {
                scope.item_done();
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
                // An encrypted comment of a list becomes an item of it; an empty one stays a comment,
                // where sops would make an empty string of it.
                if let Some(token) = self.comment(&comment.text, scope)? {
                    *value = Value::Str(token);
                }
                return Ok(());
            }
            _ => {}
        }
        let encrypted = scope.encrypts(self.selector, false);
        if !encrypted
            && self.covers_clear
            && matches!(value, Value::Float(number) if *number == 0.0 && number.is_sign_negative())
        {
            // In clear it would be written `-0`, read back as the integer 0, and miss its own MAC.
            *value = Value::Int(0);
        }
        self.mac.update(value, encrypted);
        if encrypted
            && let Some(kind) = value::kind(value)
            && let Some(plaintext) = value::to_bytes(value)
            // Only strings can be empty, and empty ones are never encrypted.
            && !plaintext.is_empty()
        {
            let token = self.seal_here(kind, &plaintext)?;
            drop(plaintext);
            *value = Value::Str(token);
        }
        Ok(())
    }

    /// The token of a comment; `None` if it stays in plaintext.
    fn comment(&mut self, text: &Text, scope: Scope) -> Result<Option<Text>, ValueError> {
        if text.is_empty() || !scope.encrypts(self.selector, true) {
            return Ok(None);
        }
        let token = self.seal_here(Kind::Comment, text.as_bytes())?;
        match self.selector {
            Some(Selector::UnencryptedCommentRegex(pattern)) if pattern.is_match(token.as_bytes()) => {
                Err(ValueError::EncryptedCommentMatches)
            }
            _ => Ok(Some(token)),
        }
    }

    fn seal_here(&mut self, kind: Kind, plaintext: &[u8]) -> Result<Text, ValueError> {
        let aad = std::mem::take(&mut self.aad);
        let token = self.seal(kind, plaintext, aad.as_bytes());
        self.aad = aad;
        Ok(token?.to_text().into())
    }

    fn seal(&mut self, kind: Kind, plaintext: &[u8], aad: &[u8]) -> Result<Token, ValueError> {
        let nonce = self.nonces.take(aad, kind, plaintext).unwrap_or_else(|| {
            let mut nonce = [0; NONCE_LEN];
            self.rng.fill_bytes(&mut nonce);
            nonce
        });
        let sealed = self.cipher.seal(&nonce, aad, plaintext)?;
        Ok(Token { sealed, nonce: nonce.to_vec(), kind })
    }
}
