//! Editing: the plaintext is opened in an editor, from memory, and only what changed is encrypted again.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use nix::unistd::{AccessFlags, access};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::error::Error;
use super::file::{Doubt, NewFile, SopsFile};
use super::recipients::Plan;
use super::rewrite::write_if_unchanged;
use super::session::{Session, read};
use crate::edge::atomic::{self, WriteError};
use crate::edge::editor::{Editor, Hint};
use crate::edge::private_dir::{PrivateDir, Refused};
use crate::sops;
use crate::sops::document::{MacCheck, Warning};
use crate::store::Store;

/// The callbacks of an edit.
pub struct Watch<'a> {
    /// Receives notices.
    pub tell: &'a dyn Fn(Notice),
    /// Receives the error in the edited text; returns true to reopen the editor.
    pub again: &'a dyn Fn(&Error) -> bool,
    /// Receives the reason why the edited file cannot be written; returns true to try once more.
    pub retry: &'a dyn Fn(&Error) -> bool,
}

/// A notice during an edit.
#[derive(Debug)]
pub enum Notice {
    /// The plaintext is on disk while it is edited, because there is no private directory in memory.
    NotInMemory(Vec<Refused>),
    /// A warning about the file.
    Warning(Warning),
    /// The editor may have returned before anybody could edit; with advice.
    EditorMayFork(Hint),
    /// Something suspicious in a new file.
    Doubt(Doubt),
}

/// The formats of a file that is edited, and what of it is shown.
pub struct Form {
    /// The format that it has.
    pub input: Arc<dyn Store>,
    /// The format that the editor shows, and that it gets.
    pub output: Arc<dyn Store>,
    /// Whether the metadata is shown as well. It cannot be changed there.
    pub with_metadata: bool,
}

impl Form {
    /// The formats given by the file's name and, if it exists, its text; shows only the values.
    fn of_file(session: &Session, path: &Path) -> Result<Self, Error> {
        let store = match path.exists() {
            true => session.store_of_encrypted(path, &read(path)?)?,
            false => session.store_of(path)?,
        };
        Ok(Self { input: Arc::clone(&store), output: store, with_metadata: false })
    }
}

/// Opens a file in the editor and writes back what was changed; a file that does not exist is created according to its
/// rule.
///
/// # Errors
/// The file cannot be opened, the editor fails, nothing was changed, or the result cannot be written; the
/// file on disk is then as it was.
pub fn edit(session: &Session, path: &Path, mac: MacCheck, watch: &Watch<'_>) -> Result<(), Error> {
    let form = Form::of_file(session, path)?;
    if path.exists() {
        return change(session, path, &form, mac, watch);
    }
    let plan = Plan::of_new(session, path, &Plan::named_by_environment(session))?;
    create(session, path, &form, &plan, watch)
}

/// Opens an existing file in the editor and writes back what was changed.
///
/// # Errors
/// As [`edit`].
pub fn change(
    session: &Session,
    path: &Path,
    form: &Form,
    mac: MacCheck,
    watch: &Watch<'_>,
) -> Result<(), Error> {
    let on_disk = read(path)?;
    let open = SopsFile::of_store(Arc::clone(&form.input), path, &on_disk)?
        .open(session.identities(), mac)?
        .with_store(Arc::clone(&form.output));
    for warning in &open.warnings {
        (watch.tell)(Notice::Warning(warning.clone()));
    }
    writable(path)?;
    let before = if form.with_metadata { open.with_metadata()? } else { open.plaintext()? };
    if !form.with_metadata {
        open.check_editable(&before)?;
    }
    let sealed = in_editor(session, path, &before, watch, |text| {
        let tree =
            if form.with_metadata { open.read_edited_with_metadata(text)? } else { open.read_edited(text)? };
        open.seal(tree, session)
    })?;
    if written(watch, || write_if_unchanged(path, &on_disk, &sealed))? {
        return Ok(());
    }
    Err(save_beside(path, &sealed, watch)?)
}

/// Creates a file in the editor. What would prevent it from being written is checked before the editor opens.
///
/// # Errors
/// As [`edit`].
pub fn create(
    session: &Session,
    path: &Path,
    form: &Form,
    plan: &Plan,
    watch: &Watch<'_>,
) -> Result<(), Error> {
    plan.check(session, plan.shamir_threshold)?;
    let ignored = plan.selector.clone().filter(|_| form.output.is_single_value()).map(Doubt::Ignored);
    plan.doubts().into_iter().chain(ignored).for_each(|doubt| (watch.tell)(Notice::Doubt(doubt)));
    writable(path)?;
    let sealed = in_editor(session, path, form.output.example().as_bytes(), watch, |text| {
        let new = NewFile::of_stores(&*form.output, Arc::clone(&form.output), path, text)?;
        let doubts = new.doubts(plan, &*form.output, text);
        let sealed = new.seal(plan, session)?;
        let told_before = |doubt: &Doubt| matches!(doubt, Doubt::Ignored(_));
        doubts
            .into_iter()
            .filter(|doubt| !told_before(doubt))
            .for_each(|doubt| (watch.tell)(Notice::Doubt(doubt)));
        Ok(sealed)
    })?;
    // The file is encrypted and shared through a repository, so the umask decides, as for any file there.
    if written(watch, || atomic::swap(path, None, &sealed, 0o666))? {
        return Ok(());
    }
    Err(save_beside(path, &sealed, watch)?)
}

/// Whether the file can be replaced: it and its directory must be writable.
fn writable(path: &Path) -> Result<(), Error> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for place in [Some(parent), path.exists().then_some(&*path)].into_iter().flatten() {
        access(place, AccessFlags::W_OK)
            .map_err(|errno| Error::NotWritable { path: place.to_path_buf(), source: errno.into() })?;
    }
    Ok(())
}

/// Writes, as often as the user wants to try: what was typed must not be lost because a disk is full for a moment.
fn written(watch: &Watch<'_>, write: impl Fn() -> Result<bool, WriteError>) -> Result<bool, Error> {
    loop {
        match write().map_err(Error::from) {
            Err(error) if (watch.retry)(&error) => {}
            result => return result,
        }
    }
}

/// Saves an edited version, encrypted, next to a file that was changed by another process.
fn save_beside(path: &Path, sealed: &[u8], watch: &Watch<'_>) -> Result<Error, Error> {
    let mut number = 1;
    loop {
        let saved = edited_name(path, number);
        // An existing one may hold somebody's work too.
        if written(watch, || atomic::swap(&saved, None, sealed, 0o666))? {
            return Ok(Error::ChangedMeanwhile { path: path.to_path_buf(), saved });
        }
        number += 1;
    }
}

/// `name.edited.yaml`, `name.edited2.yaml`: the extension is kept, because it determines the format.
fn edited_name(path: &Path, number: u32) -> PathBuf {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let dot = name.iter().rposition(|byte| *byte == b'.').unwrap_or(name.len());
    let (stem, ending) = name.split_at(dot);
    let number = if number == 1 { String::new() } else { number.to_string() };
    path.with_file_name(OsStr::from_bytes(&[stem, b".edited", number.as_bytes(), ending].concat()))
}

/// Opens the editor on a text until the text is valid or the user gives up.
pub(super) fn in_editor<T>(
    session: &Session,
    path: &Path,
    before: &[u8],
    watch: &Watch<'_>,
    parse: impl Fn(&[u8]) -> Result<T, Error>,
) -> Result<T, Error> {
    let editor = Editor::find(&session.environment)?;
    let dir = PrivateDir::in_memory_if_possible(&session.environment)?;
    if !dir.on_tmpfs() {
        (watch.tell)(Notice::NotInMemory(dir.refused().to_vec()));
    }
    // The same name as the file's, so that the editor knows the format.
    let file: PathBuf = dir.path().join(path.file_name().unwrap_or(path.as_os_str()));
    atomic::create(&file, before, 0o600, false)?;
    loop {
        let opened = Instant::now();
        editor.open(&file, &session.environment)?;
        let text = match read(&file) {
            Err(Error::Missing(_)) => return Err(Error::EditorLostFile),
            text => Zeroizing::new(text?),
        };
        if Sha256::digest(&*text) == Sha256::digest(before) {
            if let Some(hint) = editor.hint(opened.elapsed()) {
                (watch.tell)(Notice::EditorMayFork(hint));
            }
            return Err(Error::Unchanged);
        }
        let error = match parse(&text) {
            Ok(parsed) => return Ok(parsed),
            Err(
                error @ (Error::Store { .. }
                | Error::AlreadyEncrypted(_)
                | Error::MetadataEdited(_)
                | Error::CommentsMove(_)
                | Error::Unresolved
                | Error::BothKept(_)
                | Error::Sops {
                    error: sops::Error::Encrypt { .. } | sops::Error::ReservedKey { .. },
                    ..
                }),
            ) => error,
            Err(error) => return Err(error),
        };
        if !(watch.again)(&error) {
            return Err(Error::InvalidEdit(error.to_string()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_is_tried_again_as_often_as_the_user_wants() {
        use std::cell::Cell;
        let (tries, wanted) = (Cell::new(0), Cell::new(2));
        let retry = |error: &Error| {
            assert!(error.to_string().contains("not a regular file"), "{error}");
            wanted.set(wanted.get() - 1);
            wanted.get() >= 0
        };
        let watch = Watch { tell: &|_| {}, again: &|_| false, retry: &retry };
        let fails = |count: u32| {
            tries.set(0);
            let write = || {
                tries.set(tries.get() + 1);
                if tries.get() > count { Ok(true) } else { Err(WriteError::NotAFile("s.yaml".into())) }
            };
            written(&watch, write)
        };
        assert!(fails(2).expect("the third time it is written"));
        wanted.set(1);
        assert!(fails(9).is_err());
        assert_eq!(tries.get(), 2);
    }

    #[test]
    fn a_second_edited_version_has_a_number() {
        assert_eq!(edited_name(Path::new("a/s.yaml"), 2), Path::new("a/s.edited2.yaml"));
    }

    #[test]
    fn an_edited_version_has_the_ending_of_its_file() {
        for (name, edited) in [
            ("a/s.yaml", "a/s.edited.yaml"),
            ("key", "key.edited"),
            (".env", ".edited.env"),
            ("prod.env", "prod.edited.env"),
        ] {
            assert_eq!(edited_name(Path::new(name), 1), Path::new(edited));
        }
    }
}
