//! `civm secrets who`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;

use super::update_all::{names, root};
use crate::cli::secrets::Who;
use crate::commands::Context;
use crate::keys::recipient::{Recipient, SameKey, same_key};
use crate::outcome::{Code, Failure, Outcome};
use crate::secrets::Session;
use crate::secrets::who::{Read, Reader, Readers, Standing, who};

/// Characters of a recipient without a name in a table.
const SHOWN: usize = 16;

/// What was asked about.
enum About {
    /// A key, and the name that it was asked for by.
    Key(SameKey, String),
    /// A file or directory.
    Path(PathBuf),
}

/// The names of keys.
struct Names(BTreeMap<SameKey, String>);

impl Names {
    fn of(&self, key: &SameKey, recipient: &str) -> String {
        self.0.get(key).cloned().unwrap_or_else(|| recipient.to_owned())
    }
}

pub(super) fn run(args: &Who, session: &Session, context: &Context) -> Outcome {
    let root = root(session, context);
    let known = names(session, &root);
    let about: Vec<About> = args.about.iter().map(|word| about(word, &known)).collect::<Result<_, _>>()?;
    let names = Names(known.iter().rev().map(|(one, name)| (same_key(one), name.clone())).collect());

    let keys: Vec<(&SameKey, &String)> = about
        .iter()
        .filter_map(|about| match about {
            About::Key(key, name) => Some((key, name)),
            About::Path(_) => None,
        })
        .collect();
    let paths: Vec<PathBuf> = about
        .iter()
        .filter_map(|about| match about {
            About::Path(path) => Some(path.clone()),
            About::Key(..) => None,
        })
        .collect();
    let all = if about.is_empty() || !keys.is_empty() { who(session, &[root]) } else { Vec::new() };
    let asked = if paths.is_empty() { Vec::new() } else { who(session, &paths) };
    let table = if about.is_empty() { &all } else { &asked };

    if args.json {
        let files: Vec<_> = table.iter().map(|read| file_json(read, &names)).collect();
        let recipients: Vec<_> = keys.iter().map(|(key, name)| key_json(key, name, &all)).collect();
        context.screen.line(json!({ "files": files, "recipients": recipients }).to_string())?;
    } else {
        match table.as_slice() {
            [one] if paths.len() == 1 && paths[0].is_file() => details(one, &names, context)?,
            files => rows(files, &names, session, context)?,
        }
        for (key, name) in &keys {
            if keys.len() > 1 {
                context.screen.line(format!("{name}:"))?;
            }
            of_key(key, name, &all, session, context)?;
        }
    }
    let mut failed = false;
    for read in all.iter().chain(&asked) {
        if let Err(error) = &read.readers {
            context.screen.warn(error.to_string());
            failed = true;
        }
    }
    Ok(if failed { Code::Generic as u8 } else { 0 })
}

/// A name counts before a path of the same text.
fn about(word: &str, names: &BTreeMap<String, String>) -> Result<About, Failure> {
    if let Some((recipient, name)) = names.iter().find(|(_, name)| *name == word) {
        return Ok(About::Key(same_key(recipient), name.clone()));
    }
    if Recipient::parse(word).is_ok() || word.starts_with("age1") || word.starts_with("ssh-") {
        let key = same_key(word);
        let name = names.iter().find(|(known, _)| same_key(known) == key).map(|(_, name)| name.clone());
        return Ok(About::Key(key, name.unwrap_or_else(|| word.to_owned())));
    }
    let path = PathBuf::from(word);
    if path.exists() {
        return Ok(About::Path(path));
    }
    let message = format!("`{word}` is neither a name in .sops.yaml, nor a recipient, nor a file");
    let failure = Failure::new(Code::NoFileSpecified, message);
    let known: Vec<&str> = names.values().map(String::as_str).collect();
    Err(if known.is_empty() { failure } else { failure.help(format!("there are {}", known.join(", "))) })
}

/// A line for each file.
fn rows(files: &[Read], names: &Names, session: &Session, context: &Context) -> Result<(), Failure> {
    let paths: Vec<String> = files.iter().map(|read| session.shown(&read.path)).collect();
    let width = paths.iter().map(|path| path.chars().count()).max().unwrap_or(0);
    let mut marked = false;
    for (read, path) in files.iter().zip(&paths) {
        let Ok(readers) = &read.readers else { continue };
        marked |= readers.groups.iter().flatten().any(|reader| reader.standing != Standing::Reads);
        let note = if readers.ruled { "" } else { "  (no rule)" };
        context.screen.line(format!("{path:width$}  {}{note}", in_words(readers, names)))?;
    }
    if marked {
        context.screen.note("+ will read it after `civm secrets update-all`, - will not any more");
    }
    Ok(())
}

fn in_words(readers: &Readers, names: &Names) -> String {
    let group = |group: &Vec<Reader>| {
        let words: Vec<String> = group
            .iter()
            .map(|reader| {
                format!("{}{}", sign(reader.standing), names.of(&reader.key, &short(&reader.recipient)))
            })
            .collect();
        words.join(" ")
    };
    match readers.groups.as_slice() {
        [one] => group(one),
        several => {
            let groups: Vec<String> = several.iter().map(|one| format!("[{}]", group(one))).collect();
            format!("{} of {}: {}", readers.needed, several.len(), groups.join(" "))
        }
    }
}

/// As much of a recipient as tells it from others.
fn short(recipient: &str) -> String {
    let first: String = recipient.chars().take(SHOWN).collect();
    match recipient.split_once(' ').filter(|_| recipient.starts_with("ssh-")) {
        Some((kind, key)) => {
            let key = key.split(' ').next().unwrap_or_default();
            let last: String = key.chars().skip(key.chars().count().saturating_sub(8)).collect();
            format!("{kind}…{last}")
        }
        None if first == recipient => first,
        None => format!("{first}…"),
    }
}

fn sign(standing: Standing) -> &'static str {
    match standing {
        Standing::Reads => "",
        Standing::Added => "+",
        Standing::Removed => "-",
    }
}

/// A line for each reader of one file.
fn details(read: &Read, names: &Names, context: &Context) -> Result<(), Failure> {
    let Ok(readers) = &read.readers else { return Ok(()) };
    let all = readers.groups.iter().flatten();
    let width = all.map(|reader| names.of(&reader.key, "").chars().count()).max().unwrap_or(0);
    for (index, group) in readers.groups.iter().enumerate() {
        if readers.groups.len() > 1 {
            let (number, count, needed) = (index + 1, readers.groups.len(), readers.needed);
            context.screen.line(format!("group {number} of {count} ({needed} are needed):"))?;
        }
        for reader in group {
            let name = names.of(&reader.key, "");
            let note = match reader.standing {
                Standing::Reads => "",
                Standing::Added => "  will read it after `civm secrets update-all`",
                Standing::Removed => "  will not read it any more after `civm secrets update-all`",
            };
            context.screen.line(format!("{name:width$}  {}{note}", reader.recipient))?;
        }
    }
    if !readers.ruled {
        context.screen.note("no creation rule is for it");
    }
    Ok(())
}

/// A line for each file that a key reads.
fn of_key(
    key: &SameKey,
    name: &str,
    files: &[Read],
    session: &Session,
    context: &Context,
) -> Result<(), Failure> {
    let mut any = false;
    for (read, readers) in files.iter().filter_map(|read| Some((read, read.readers.as_ref().ok()?))) {
        let Some(standing) = readers.standing(key) else { continue };
        any = true;
        let mut notes = Vec::new();
        if readers.groups.len() > 1 {
            notes.push(format!("with {} of {} key groups", readers.needed, readers.groups.len()));
        }
        match standing {
            Standing::Reads => {}
            Standing::Added => notes.push("only after update-all".to_owned()),
            Standing::Removed => notes.push("until update-all".to_owned()),
        }
        let notes = if notes.is_empty() { String::new() } else { format!("  ({})", notes.join(", ")) };
        context.screen.line(format!("{}{notes}", session.shown(&read.path)))?;
    }
    if !any {
        context.screen.note(format!("{name} reads no file here"));
    }
    Ok(())
}

fn state(standing: Standing) -> &'static str {
    match standing {
        Standing::Reads => "reads",
        Standing::Added => "added",
        Standing::Removed => "removed",
    }
}

fn file_json(read: &Read, names: &Names) -> serde_json::Value {
    let path = read.path.to_string_lossy();
    match &read.readers {
        Err(error) => json!({ "path": path, "error": error.to_string() }),
        Ok(readers) => {
            let reader = |reader: &Reader| {
                json!({
                    "recipient": reader.recipient,
                    "name": names.0.get(&reader.key),
                    "state": state(reader.standing),
                })
            };
            let groups: Vec<Vec<_>> =
                readers.groups.iter().map(|group| group.iter().map(reader).collect()).collect();
            json!({ "path": path, "rule": readers.ruled, "groups_needed": readers.needed, "groups": groups })
        }
    }
}

fn key_json(key: &SameKey, name: &str, files: &[Read]) -> serde_json::Value {
    let files: Vec<_> = files
        .iter()
        .filter_map(|read| {
            let readers = read.readers.as_ref().ok()?;
            let standing = readers.standing(key)?;
            Some(json!({
                "path": read.path.to_string_lossy(),
                "state": state(standing),
                "groups": readers.groups.len(),
                "groups_needed": readers.needed,
            }))
        })
        .collect();
    json!({ "name": name, "files": files })
}
