//! `civm secrets diff`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value as Json, json};
use zeroize::Zeroizing;

use super::failure::failure;
use super::update_all::names;
use crate::cli::secrets_git::Diff;
use crate::commands::Context;
use crate::outcome::{Code, Failure, Outcome};
use crate::secrets::diff::{Compared, compare};
use crate::secrets::session::read;
use crate::secrets::{Error, Session};
use crate::sops::difference::{Change, Difference};
use crate::sops::tree::Value;
use crate::store::{Format, Indents, Store};

mod revisions;

/// The path of a version, and its text if the file exists in it.
struct Side {
    path: PathBuf,
    text: Option<Zeroizing<Vec<u8>>>,
}

/// Two versions that may differ.
struct Pair {
    old: Side,
    new: Side,
    /// The file's name as shown to the user.
    shown: String,
    /// Where the newer version is, for format and rules.
    file: PathBuf,
}

/// The answer for one file.
struct Answer<'a> {
    pair: &'a Pair,
    compared: Compared,
    store: Arc<dyn Store>,
    names: BTreeMap<String, String>,
}

pub(super) fn run(args: &Diff, session: &Session, context: &Context) -> Outcome {
    let pairs = match two_files(args, session, context)? {
        Some(pair) => vec![pair],
        None => revisions::pairs(args, session, context)?,
    };
    let (mut different, mut failed, mut files) = (false, false, Vec::new());
    for pair in &pairs {
        let answer = match look(pair, args.show, session) {
            Ok(Some(answer)) => answer,
            Ok(None) => continue,
            Err(error) => {
                context.screen.failure(&failure(error));
                failed = true;
                continue;
            }
        };
        let lines = answer.lines(args.show)?;
        if lines.is_empty() {
            continue;
        }
        different = true;
        if args.json {
            files.push(answer.json(args.show)?);
            continue;
        }
        let mut text = Zeroizing::new(format!("{}\n", pair.shown));
        for line in &lines {
            text.push_str(line);
            text.push('\n');
        }
        context.screen.data(text.as_bytes())?;
        if !answer.compared.decrypted {
            context.screen.note(format!(
                "{}: no identity can decrypt both versions; values that were merely re-encrypted count as changed",
                pair.shown
            ));
        }
    }
    if args.json {
        context.screen.line(json!({ "files": files }).to_string())?;
    }
    Ok(if failed || (args.exit_code && different) { Code::Generic as u8 } else { 0 })
}

/// Two files instead of revisions.
fn two_files(args: &Diff, session: &Session, context: &Context) -> Result<Option<Pair>, Failure> {
    let ([old, new], []) = (args.args.as_slice(), args.paths.as_slice()) else { return Ok(None) };
    let is_file = |name: &str| Path::new(name).is_file() && !revisions::is_one(name, session, context);
    if args.staged || !is_file(old) || !is_file(new) {
        return Ok(None);
    }
    let side = |name: &str| -> Result<Side, Failure> {
        let text = Zeroizing::new(read(Path::new(name)).map_err(failure)?);
        Ok(Side { path: name.into(), text: Some(text) })
    };
    Ok(Some(Pair { old: side(old)?, new: side(new)?, shown: format!("{old} -> {new}"), file: new.into() }))
}

fn look<'a>(pair: &'a Pair, values: bool, session: &Session) -> Result<Option<Answer<'a>>, Error> {
    // Either version may be missing, or in plaintext.
    let texts =
        [&pair.new, &pair.old].map(|side| side.text.as_deref().map(Vec::as_slice).unwrap_or_default());
    let encrypted = texts.into_iter().find(|text| Format::recognise(text).is_some());
    let format = Format::of_encrypted(&pair.file, encrypted.unwrap_or_default());
    // Broken rules must not prevent comparing old revisions.
    let store = session.store(format, &pair.file).unwrap_or_else(|_| format.store(Indents::default()));
    let side = |side: &'a Side| (&*side.path, side.text.as_deref().map(Vec::as_slice));
    let compared = compare(session, &store, [side(&pair.old), side(&pair.new)], values)?;
    let names = names(session, &pair.file);
    Ok(compared.map(|compared| Answer { pair, compared, store, names }))
}

impl Answer<'_> {
    /// The differences, one line each; more when values are shown.
    fn lines(&self, show: bool) -> Result<Vec<Zeroizing<String>>, Failure> {
        let mut lines = Vec::new();
        for difference in self.compared.values() {
            let place = place(&difference);
            let value = |sign: &str, value: &Value| -> Result<Zeroizing<String>, Failure> {
                let text = if show { self.spelled(value)? } else { Zeroizing::default() };
                Ok(Zeroizing::new(format!("  {sign} {place}{}", text.as_str())))
            };
            match difference.change {
                Change::Added(new) => lines.push(value("+", new)?),
                Change::Removed(old) => lines.push(value("-", old)?),
                Change::Changed(old, new) if show => lines.extend([value("-", old)?, value("+", new)?]),
                Change::Changed(..) => lines.push(Zeroizing::new(format!("  ~ {place}"))),
                Change::Rearranged => {
                    lines.push(Zeroizing::new(format!("  ~ {place} (order or comments)")));
                }
            }
        }
        let recipient =
            |sign: &str, name: &String| format!("{sign} recipient {}", self.names.get(name).unwrap_or(name));
        let (added, removed) = (self.compared.added(), self.compared.removed());
        let words = (added.iter().map(|name| recipient("+", name)))
            .chain(removed.iter().map(|name| recipient("-", name)))
            .chain(self.compared.new_data_key.then(|| "~ the data key".to_owned()))
            .chain(self.compared.settings().into_iter().map(|what| format!("~ {what}")))
            .chain(self.compared.encryption().map(|what| format!("! {what}")));
        lines.extend(words.map(|line| Zeroizing::new(format!("  {line}"))));
        Ok(lines)
    }

    /// A value as its file writes it: after its key, or below it if it takes several lines.
    fn spelled(&self, value: &Value) -> Result<Zeroizing<String>, Failure> {
        let text = self.store.emit_value(value).map(Zeroizing::new);
        let text = text.map_err(|error| failure(Error::Store { path: self.pair.file.clone(), error }))?;
        let text = Zeroizing::new(String::from_utf8_lossy(text.trim_ascii_end()).into_owned());
        Ok(Zeroizing::new(if text.contains('\n') {
            text.lines().map(|line| format!("\n        {line}")).collect()
        } else {
            format!(": {}", text.as_str())
        }))
    }

    fn json(&self, show: bool) -> Result<Json, Failure> {
        let mut changes = Vec::new();
        for difference in self.compared.values() {
            let (word, old, new) = match difference.change {
                Change::Added(new) => ("added", None, Some(new)),
                Change::Removed(old) => ("removed", Some(old), None),
                Change::Changed(old, new) => ("changed", Some(old), Some(new)),
                Change::Rearranged => ("rearranged", None, None),
            };
            let mut change = json!({
                "document": difference.document,
                "path": difference.path.to_string(),
                "change": word,
            });
            for (name, value) in [("old", old), ("new", new)] {
                if let (true, Some(value)) = (show, value) {
                    change[name] = self.as_json(value)?;
                }
            }
            changes.push(change);
        }
        let recipients = |all: Vec<String>| -> Vec<Json> {
            all.iter().map(|one| json!({ "recipient": one, "name": self.names.get(one) })).collect()
        };
        Ok(json!({
            "path": self.pair.shown,
            "decrypted": self.compared.decrypted,
            "changes": changes,
            "recipients_added": recipients(self.compared.added()),
            "recipients_removed": recipients(self.compared.removed()),
            "new_data_key": self.compared.new_data_key,
            "settings": self.compared.settings(),
        }))
    }

    fn as_json(&self, value: &Value) -> Result<Json, Failure> {
        if let Value::Str(text) = value {
            return Ok(String::from_utf8_lossy(text.as_bytes()).into());
        }
        let text = Format::Json.store(Indents::default()).emit_value(value).map(Zeroizing::new);
        let text = text.map_err(|error| failure(Error::Store { path: self.pair.file.clone(), error }))?;
        Ok(serde_json::from_slice(&text).unwrap_or_else(|_| String::from_utf8_lossy(&text).into()))
    }
}

fn place(difference: &Difference<'_>) -> String {
    match difference.document {
        1 => difference.path.to_string(),
        document => format!("document {document}, {}", difference.path),
    }
}
