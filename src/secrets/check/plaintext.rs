//! Files in plaintext that should be encrypted according to a rule.

use std::iter;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use zeroize::Zeroizing;

use super::ruling::{Governing, Ruling, ruling};
use super::{Content, Finding, Kind, Source, unusable};
use crate::secrets::discover::is_sops;
use crate::secrets::error::Error;
use crate::secrets::session::{Session, read};
use crate::sops::document::{Fault, audit};
use crate::store::{Format, Indents, Surprise};

/// The findings for a file that is not encrypted.
pub(super) fn look(
    session: &Session,
    path: &Path,
    text: impl FnOnce() -> Option<Zeroizing<Vec<u8>>>,
) -> Vec<Finding> {
    let rule = match ruling(session, path) {
        Ruling::Broken(error) => return error.map(unusable).into_iter().collect(),
        Ruling::Rule(rule) if rule.wants_encrypted() => rule,
        _ => return Vec::new(),
    };
    let Some(text) = text().filter(|text| is_secret(&rule, path, text)) else { return Vec::new() };
    let message = format!("is not encrypted, but creation rule {} matches it", rule.index + 1);
    let plaintext = Finding::new(path.to_path_buf(), Kind::Plaintext, message);
    let store = Format::of_ending(path).map(|format| format.store(Indents::default()));
    let surprises = store.map(|store| store.surprises(&text)).unwrap_or_default();
    let surprise = |Surprise { line, path: key, what }: Surprise| Finding {
        line: Some(line),
        key: Some(key),
        ..Finding::new(path.to_path_buf(), Kind::Surprise, what.to_owned())
    };
    iter::once(plaintext).chain(surprises.into_iter().map(surprise)).collect()
}

/// The files that should be encrypted and are not, or the reason if that cannot be determined.
#[must_use]
pub fn unencrypted(session: &Session, sources: Vec<Source>) -> Vec<Result<PathBuf, Error>> {
    let files = sources.into_par_iter().filter_map(|Source { path, content }| {
        let content = match content {
            Content::Failed(error) => return Some(Err(error)),
            content => content,
        };
        let rule = match ruling(session, &path) {
            Ruling::Rule(rule) if rule.wants_encrypted() => rule,
            Ruling::Broken(Some(error)) => return Some(Err(error)),
            _ => return None,
        };
        let text = match content {
            Content::Text(text) => Ok(Zeroizing::new(text)),
            _ => read(&path).map(Zeroizing::new),
        };
        match text {
            Ok(text) if is_sops(&path, &text) || !is_secret(&rule, &path, &text) => None,
            Ok(_) => Some(Ok(path)),
            Err(error) => Some(Err(error)),
        }
    });
    files.collect()
}

/// Whether a text contains anything that the rule would encrypt. An empty file does not, nor one in which the rule's
/// selector matches no value.
fn is_secret(rule: &Governing, path: &Path, text: &[u8]) -> bool {
    if text.trim_ascii().is_empty() {
        return false;
    }
    let (Some(format), Some(rule)) = (Format::of_ending(path), rule.rule()) else { return true };
    let Ok(tree) = format.store(Indents::default()).load_plain(text) else { return true };
    let selector = rule.selector.clone().unwrap_or_default();
    let is_clear = |fault| [Fault::Clear, Fault::ClearComment].contains(&fault);
    audit(&tree, Some(&selector)).iter().any(|stray| is_clear(stray.fault))
}
