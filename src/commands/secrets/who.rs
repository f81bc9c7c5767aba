//! `civm secrets who`.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::json;

use super::update_all::root;
use crate::cli::secrets::Who;
use crate::commands::Context;
use crate::keys::recipient::{Recipient, SameKey, same_key};
use crate::outcome::{Code, Failure, Outcome};
use crate::secrets::Session;
use crate::secrets::session::Rules;
use crate::secrets::who::{FileReaders, Standing, who};

mod as_json;
mod table;

/// The subject of the query.
enum About {
    /// A key, and the name by which it was given.
    Key(SameKey, String),
    /// A file or directory.
    Path(PathBuf),
}

/// The names of keys in each `.sops.yaml`, the project's own first: a nested one may use the same name for another key.
#[derive(Default)]
struct Names(Vec<(PathBuf, BTreeMap<SameKey, String>)>);

impl Names {
    fn add(&mut self, rules: &Rules) {
        if self.0.iter().all(|(path, _)| *path != rules.path) {
            let names = rules.names().iter().rev();
            self.0
                .push((rules.path.clone(), names.map(|(one, name)| (same_key(one), name.clone())).collect()));
        }
    }

    /// The name of a key in the rules that govern a file.
    fn of(&self, read: &FileReaders, key: &SameKey) -> Option<&str> {
        let rules = read.rules.as_ref()?;
        let (_, names) = self.0.iter().find(|(path, _)| *path == rules.path)?;
        names.get(key).map(String::as_str)
    }

    fn all(&self) -> impl Iterator<Item = (&SameKey, &str)> {
        self.0.iter().flat_map(|(_, names)| names).map(|(key, name)| (key, name.as_str()))
    }

    /// The key that a word refers to: a name, or the recipient itself.
    fn key(&self, word: &str) -> Option<About> {
        if let Some((key, name)) = self.all().find(|(_, name)| *name == word) {
            return Some(About::Key(key.clone(), name.to_owned()));
        }
        let is_recipient =
            Recipient::parse(word).is_ok() || word.starts_with("age1") || word.starts_with("ssh-");
        is_recipient.then(|| {
            let key = same_key(word);
            let name = self.all().find(|(known, _)| **known == key).map_or(word, |(_, name)| name);
            About::Key(key.clone(), name.to_owned())
        })
    }
}

pub(super) fn run(args: &Who, session: &Session, context: &Context) -> Outcome {
    let root = [root(session, context)];
    let everywhere = OnceCell::new();
    let everywhere = || -> &Vec<FileReaders> { everywhere.get_or_init(|| who(session, &root)) };
    let mut names = Names::default();
    if let Ok(Some(own)) = session.own_rules() {
        names.add(&own);
    }
    let add = |names: &mut Names, reads: &[FileReaders]| {
        reads.iter().filter_map(|read| read.rules.as_deref()).for_each(|rules| names.add(rules));
    };
    let mut about = Vec::new();
    for word in &args.about {
        // A name takes precedence over a path with the same text.
        let path = || Some(PathBuf::from(word)).filter(|path| path.exists()).map(About::Path);
        let found = names.key(word).or_else(path).or_else(|| {
            add(&mut names, everywhere());
            names.key(word)
        });
        about.push(found.ok_or_else(|| unknown(word, &names))?);
    }

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
    let none = Vec::new();
    let all = if about.is_empty() || !keys.is_empty() { everywhere() } else { &none };
    let asked = if paths.is_empty() { Vec::new() } else { who(session, &paths) };
    let files = if about.is_empty() { all } else { &asked };
    add(&mut names, all);
    add(&mut names, &asked);

    if args.json {
        let files: Vec<_> = files.iter().map(|read| as_json::file(read, &names)).collect();
        let recipients: Vec<_> = keys.iter().map(|(key, name)| as_json::key(key, name, all)).collect();
        context.screen.line(json!({ "files": files, "recipients": recipients }).to_string())?;
    } else {
        match files.as_slice() {
            [one] if paths.len() == 1 && paths[0].is_file() => details(one, &names, context)?,
            files => table::print(files, args.all, &names, session, context)?,
        }
        for (key, name) in &keys {
            if keys.len() > 1 {
                context.screen.line(format!("{name}:"))?;
            }
            of_key(key, name, all, session, context)?;
        }
    }
    // Rules that cannot be read are the same for many files.
    let errors = all.iter().chain(&asked).filter_map(|read| read.readers.as_ref().err());
    let errors: BTreeSet<String> = errors.map(ToString::to_string).collect();
    errors.iter().for_each(|error| context.screen.warn(error));
    Ok(if errors.is_empty() { 0 } else { Code::Generic as u8 })
}

fn unknown(word: &str, names: &Names) -> Failure {
    let message = format!("`{word}` is not a name in .sops.yaml, a recipient or a file");
    let failure = Failure::new(Code::NoFileSpecified, message);
    let known: Vec<&str> = names.all().map(|(_, name)| name).collect();
    if known.is_empty() { failure } else { failure.help(format!("known names: {}", known.join(", "))) }
}

/// A line for each reader of one file.
fn details(read: &FileReaders, names: &Names, context: &Context) -> Result<(), Failure> {
    let Ok(readers) = &read.readers else { return Ok(()) };
    let name = |key: &SameKey| names.of(read, key).unwrap_or_default().to_owned();
    let all = readers.groups.iter().flatten();
    let width = all.map(|reader| name(&reader.key).chars().count()).max().unwrap_or(0);
    for (index, group) in readers.groups.iter().enumerate() {
        if readers.groups.len() > 1 {
            let (number, count, needed) = (index + 1, readers.groups.len(), readers.needed);
            context.screen.line(format!("group {number} of {count} ({needed} needed):"))?;
        }
        for reader in group {
            let name = name(&reader.key);
            let note = match reader.standing {
                Standing::Reads => "",
                Standing::Added => "  can read it after `civm secrets update-all`",
                Standing::Removed => "  can no longer read it after `civm secrets update-all`",
            };
            context.screen.line(format!("{name:width$}  {}{note}", reader.recipient))?;
        }
    }
    if !readers.ruled {
        context.screen.note("it matches no creation rule");
    }
    Ok(())
}

/// A line for each file that a key can read.
fn of_key(
    key: &SameKey,
    name: &str,
    files: &[FileReaders],
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
        context.screen.note(format!("{name} cannot read any file here"));
    }
    Ok(())
}
