//! The table of `civm secrets who`: files and their readers.

use std::path::{Path, PathBuf};

use super::Names;
use crate::commands::Context;
use crate::outcome::Failure;
use crate::secrets::Session;
use crate::secrets::who::{FileReaders, Reader, Readers, Standing};

/// How many characters of an unnamed recipient the table shows.
const SHOWN: usize = 16;
/// Up to this many files with the same readers get a row each; more of them share one.
const FEW: usize = 3;

/// Files with the same readers.
struct Group<'a> {
    readers: String,
    files: Vec<&'a Path>,
}

/// A row for each file, or a shared row for many files below a directory that have the same readers.
pub(super) fn print(
    reads: &[FileReaders],
    all: bool,
    names: &Names,
    session: &Session,
    context: &Context,
) -> Result<(), Failure> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut marked = false;
    for read in reads {
        let Ok(readers) = &read.readers else { continue };
        marked |= readers.groups.iter().flatten().any(|reader| reader.standing != Standing::Reads);
        let note = if readers.ruled { "" } else { "  (no rule)" };
        let readers = format!("{}{note}", in_words(read, readers, names));
        match groups.iter_mut().find(|group| !all && group.readers == readers) {
            Some(group) => group.files.push(&read.path),
            None => groups.push(Group { readers, files: vec![&read.path] }),
        }
    }
    let mut rows: Vec<(&Path, String, &str)> = Vec::new();
    for group in &groups {
        match group.files.as_slice() {
            [first, ..] if group.files.len() > FEW => {
                let directory = session.shown(&common(&group.files));
                let directory = if directory.is_empty() { "." } else { &directory };
                rows.push((first, format!("{directory}/ ({} files)", group.files.len()), &group.readers));
            }
            few => rows.extend(few.iter().map(|file| (*file, session.shown(file), group.readers.as_str()))),
        }
    }
    rows.sort();
    let grouped = rows.len() < groups.iter().map(|group| group.files.len()).sum();
    let width = rows.iter().map(|(_, what, _)| what.chars().count()).max().unwrap_or(0);
    for (_, what, readers) in &rows {
        context.screen.line(format!("{what:width$}  {readers}"))?;
    }
    if grouped {
        context.screen.note("files with the same readers share a row; --all lists each of them");
    }
    if marked {
        context.screen.note("+ can read it after `civm secrets update-all`, - no longer can");
    }
    Ok(())
}

/// The directory that all of the files are below.
fn common(files: &[&Path]) -> PathBuf {
    let mut directory = files.first().and_then(|file| file.parent()).unwrap_or(Path::new("/"));
    while !files.iter().all(|file| file.starts_with(directory)) {
        directory = directory.parent().unwrap_or(Path::new("/"));
    }
    directory.to_path_buf()
}

fn in_words(read: &FileReaders, readers: &Readers, names: &Names) -> String {
    let group = |group: &Vec<Reader>| {
        let words: Vec<String> = group
            .iter()
            .map(|reader| {
                let name = names.of(read, &reader.key).map(str::to_owned);
                format!("{}{}", sign(reader.standing), name.unwrap_or_else(|| short(&reader.recipient)))
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

/// Enough of a recipient to tell it from others.
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
