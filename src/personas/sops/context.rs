//! What every command needs: its flags, a session, and the formats of its file.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::end::{End, Outcome, tree};
use super::flags::{
    ALL, CHECK_FILE, CONFIG, DECRYPTION_ORDER, IGNORE_MAC, IN_PLACE, INDENT, INPUT_TYPE, KEYSERVICE,
    LOCAL_KEYSERVICE, OUTPUT, OUTPUT_TYPE,
};
use super::log::{Log, harmless};
use super::parse::Call;
use super::source::Source;
use super::tables::Verb;
use crate::edge::atomic;
use crate::edge::environment::Environment;
use crate::edge::private_dir::Refused;
use crate::edge::stream::to_stdout;
use crate::edge::terminal::Terminal;
use crate::outcome::Code;
use crate::personas::go_flag::{Flag, Given};
use crate::personas::go_text::{quoted, reason};
use crate::secrets::Session;
use crate::secrets::file::{OpenFile, SopsFile};
use crate::secrets::formats::Stores;
use crate::secrets::recipients::list;
use crate::secrets::rewrite::transform;
use crate::sops::document::{MacCheck, Warning};
use crate::store::{Format, Store};

/// A command's flags and arguments, and what it works with.
pub(super) struct Context {
    /// The flags in front of the command.
    pub(super) global: Given,
    /// The command's own flags.
    pub(super) given: Given,
    /// Rules, identities, environment.
    pub(super) session: Session,
    /// Where words go.
    pub(super) log: Log,
}

impl Context {
    /// The context of a call.
    ///
    /// # Errors
    /// There is no working directory; a key service that is none of this machine is wanted.
    pub(super) fn new(call: Call, environment: &Environment, log: Log) -> Result<Self, End> {
        let directory =
            std::env::current_dir().map_err(|error| End::generic(format!("getwd: {}", reason(&error))))?;
        let mut session = Session::new(environment.clone(), Arc::new(Terminal), directory);
        let config = call.global.text(&CONFIG);
        if config.is_empty() {
            if let Some(words) = ignored_config(&session.directory) {
                log.warn(&words);
            }
        } else {
            session = session.with_config(Path::new(&config));
        }
        // What sops does not have works as civm's own commands do.
        if call.given.is_on(&ALL) || call.verb == Verb::Filestatus && call.given.is_on(&CHECK_FILE) {
            session = session.with_nested_rules();
        }
        if call.global.on_line(&INDENT) {
            session = session.with_indent(call.global.int(&INDENT));
        }
        if let Some(remote) = call.given.texts(&KEYSERVICE).first() {
            let remote = remote.to_string_lossy();
            return Err(End::generic(format!("key services are not supported: --keyservice {remote}")));
        }
        if !call.given.is_not_off(&LOCAL_KEYSERVICE) {
            let words =
                "no keys to work with: --enable-local-keyservice is off, and there are no other key services";
            return Err(End::Exit(Code::CouldNotRetrieveKey, words.to_owned()));
        }
        Ok(Self { global: call.global, given: call.given, session, log })
    }

    /// A flag's text as text.
    pub(super) fn text(&self, flag: &Flag) -> String {
        self.given.text(flag).to_string_lossy().into_owned()
    }

    /// The recipients of a flag; none where it is not given or empty.
    pub(super) fn recipients(&self, flag: &Flag) -> Vec<String> {
        let text = self.text(flag);
        if text.is_empty() { Vec::new() } else { list(&[text]) }
    }

    /// A path that a flag names; `None` where it is not given.
    pub(super) fn path(&self, flag: &Flag) -> Option<PathBuf> {
        Some(self.given.text(flag)).filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    /// The first argument, which must be there.
    pub(super) fn file(&self) -> Result<&OsStr, End> {
        self.given
            .positional
            .first()
            .map(OsString::as_os_str)
            .ok_or_else(|| End::Exit(Code::NoFileSpecified, "Error: no file specified".to_owned()))
    }

    /// Says that arguments behind the first one do not count.
    pub(super) fn warn_of_more(&self) {
        let more = self.given.positional.get(1..).unwrap_or_default();
        if more.is_empty() {
            return;
        }
        self.log.warn("More than one positional argument provided. Only the first one will be used!");
        if let Some(flag) = more.iter().rfind(|arg| arg.as_bytes().starts_with(b"-")) {
            self.log.warn(&format!(
                "Note that one of the ignored positional argument is {}, which looks like a flag. Flags must \
                 always be provided before the first positional argument!",
                quoted(&flag.to_string_lossy())
            ));
        }
    }

    /// Refuses what cannot be done at once: `--in-place` and `--output`.
    pub(super) fn one_target(&self) -> Result<(), End> {
        if self.given.is_on(&IN_PLACE) && !self.given.text(&OUTPUT).is_empty() {
            return Err(conflict("Error: cannot operate on both --output and --in-place"));
        }
        Ok(())
    }

    /// Refuses a file that does not exist.
    pub(super) fn must_exist(path: &Path) -> Result<(), End> {
        if is_missing(path) {
            let path = quoted(&path.to_string_lossy());
            let words = format!("Error: cannot operate on non-existent file {path}");
            return Err(End::Exit(Code::NoFileSpecified, words));
        }
        Ok(())
    }

    /// Refuses keys of other kinds than age, which nobody may take for done.
    pub(super) fn refuse_others(&self, others: &[Flag]) -> Result<(), End> {
        match others.iter().find(|flag| !self.given.text(flag).is_empty()) {
            None => Ok(()),
            Some(flag) => {
                let variable = match flag.variable {
                    Some(variable) if !self.given.on_line(flag) => format!(" (from {variable})"),
                    _ => String::new(),
                };
                Err(End::generic(format!(
                    "Error: --{}{variable} is not supported: civm supports only age keys",
                    flag.name()
                )))
            }
        }
    }

    /// Checks the order in which kinds of keys are to be tried; there is but one.
    pub(super) fn check_order(&self) -> Result<(), End> {
        let order = self.text(&DECRYPTION_ORDER);
        let kinds: Vec<_> = order.split(',').collect();
        let twice =
            kinds.iter().enumerate().find(|(at, kind)| kinds.iter().take(*at).any(|one| one == *kind));
        match twice {
            None => Ok(()),
            Some((_, kind)) => Err(End::Exit(
                Code::DuplicateDecryptionKeyType,
                format!("Duplicate decryption key type: {kind}"),
            )),
        }
    }

    /// Whether there are rules where sops looks for them. Those that are only beside a file keep nobody from what
    /// sops would do without any.
    pub(super) fn finds_rules(&self) -> Result<bool, End> {
        Ok(self.session.own_rules()?.is_some())
    }

    /// How the file of this name is read and written.
    pub(super) fn stores(&self, name: &Path) -> Result<Stores, End> {
        let (input, output) = (self.format(&INPUT_TYPE, name), self.format(&OUTPUT_TYPE, name));
        Ok(self.session.stores(name, input, output)?)
    }

    /// How an encrypted file is read and written whose content may tell its format where its name does not: there
    /// sops takes it for a binary file and fails.
    pub(super) fn stores_of_encrypted(&self, name: &Path, text: &[u8]) -> Result<Stores, End> {
        let input = self.format_of_encrypted(name, text);
        if input == self.format(&INPUT_TYPE, name) {
            return self.stores(name);
        }
        let output = self.named_format(&OUTPUT_TYPE).unwrap_or(input);
        Ok(self.session.stores(name, input, output)?)
    }

    /// The format of an encrypted text.
    pub(super) fn format_of_encrypted(&self, name: &Path, text: &[u8]) -> Format {
        self.named_format(&INPUT_TYPE).unwrap_or_else(|| Format::of_encrypted(name, text))
    }

    /// Decrypts the text of the file at a path, read and written as a file of this name is.
    pub(super) fn open_at(&self, name: &Path, path: &Path, text: &[u8]) -> Result<OpenFile, End> {
        let stores = self.stores_of_encrypted(name, text)?;
        Ok(self.open(path, text, stores.input)?.with_store(stores.output))
    }

    /// As [`Context::stores_of_encrypted`], for the file at a path, if there is one.
    pub(super) fn stores_at(&self, name: &Path, path: &Path) -> Result<Stores, End> {
        // A pipe can be read once only.
        let may_be_read = self.named_format(&INPUT_TYPE).is_none() && path.is_file();
        let text = if may_be_read { std::fs::read(path).unwrap_or_default() } else { Vec::new() };
        self.stores_of_encrypted(name, &text)
    }

    /// The format that a flag names, else that of a file's name.
    pub(super) fn format(&self, flag: &Flag, name: &Path) -> Format {
        self.named_format(flag).unwrap_or_else(|| Format::of_path(name))
    }

    /// The format that a flag names.
    pub(super) fn named_format(&self, flag: &Flag) -> Option<Format> {
        self.given.text(flag).to_str().and_then(Format::of_name)
    }

    /// Refuses flags that a flag of civm's own leaves nothing to do for.
    pub(super) fn alone(&self, own: &Flag, others: &[Flag]) -> Result<(), End> {
        match others.iter().find(|flag| self.given.on_line(flag)) {
            None => Ok(()),
            Some(flag) => {
                Err(conflict(&format!("Error: cannot use --{} together with --{}", own.name(), flag.name())))
            }
        }
    }

    /// Refuses a flag of civm's own behind a file: as in sops it would not count there, and `--check` changes
    /// nothing only where it counts.
    pub(super) fn in_front(&self, own: &[Flag]) -> Result<(), End> {
        let is = |arg: &OsString, flag: &&Flag| {
            arg.to_str().is_some_and(|arg| arg.trim_start_matches('-') == flag.name() && arg.starts_with('-'))
        };
        match own.iter().find(|flag| self.given.positional.iter().any(|arg| is(arg, flag))) {
            None => Ok(()),
            Some(flag) => Err(conflict(&format!("Error: --{} must come before the file", flag.name()))),
        }
    }

    /// Whether the MAC counts.
    pub(super) fn mac(&self) -> MacCheck {
        if self.given.is_on(&IGNORE_MAC) { MacCheck::Ignore } else { MacCheck::Verify }
    }

    /// Reads and opens an encrypted file, with a word on what is odd in it.
    pub(super) fn open(&self, path: &Path, text: &[u8], store: Arc<dyn Store>) -> Result<OpenFile, End> {
        let file = SopsFile::of_store(store, path, text).map_err(End::loading)?;
        self.opened(file.open(self.session.identities(), self.mac()))
    }

    /// The same for a file that is not written again.
    pub(super) fn open_to_read(
        &self,
        path: &Path,
        text: &[u8],
        store: Arc<dyn Store>,
    ) -> Result<OpenFile, End> {
        self.opened_to_read(SopsFile::of_store(store, path, text).map_err(End::loading)?)
    }

    /// The same for one that has been read.
    pub(super) fn opened_to_read(&self, file: SopsFile) -> Result<OpenFile, End> {
        self.opened(file.open_to_read(self.session.identities(), self.mac()))
    }

    fn opened(&self, open: Result<OpenFile, crate::secrets::Error>) -> Result<OpenFile, End> {
        let open = open.map_err(|error| self.colour(error))?;
        open.warnings.iter().for_each(|warning| self.odd(warning));
        Ok(open)
    }

    /// An error that is a tree has colours where words may have them.
    pub(super) fn colour(&self, error: crate::secrets::Error) -> End {
        match error {
            crate::secrets::Error::Locked { locked, .. } if self.log.colours => {
                End::Exit(Code::CouldNotRetrieveKey, tree(&locked, true))
            }
            other => other.into(),
        }
    }

    /// Says what is odd in a file, though it can be read.
    pub(super) fn odd(&self, warning: &Warning) {
        let Warning::UndecryptableComment { document, container } = warning;
        self.log.unencrypted_comment(&format!("{container} of document {document}"));
    }

    /// Says that a plaintext is for a while where it should not be.
    pub(super) fn on_disk(&self, done: &str, refused: &[Refused]) {
        let places: Vec<String> =
            refused.iter().map(|one| format!("{}: {}", one.place.display(), one.reason)).collect();
        self.log.warn(&format!(
            "the plaintext is on disk while it is {done}, because there is no private directory in memory ({})",
            places.join("; ")
        ));
    }

    /// Reads a text, does work on what was read and writes the result where the flags say: into the file itself, into
    /// another, else to stdout. A text that is not compared again is given up before the work begins: with large files it
    /// is a third of all memory.
    pub(super) fn deliver<T, B: AsRef<[u8]>>(
        &self,
        source: &Source,
        secret: bool,
        read: impl Fn(&[u8]) -> Result<T, End>,
        work: impl Fn(T) -> Result<B, End>,
    ) -> Outcome {
        match source {
            Source::File(path) if self.given.is_on(&IN_PLACE) => {
                self.change(path, |text| work(read(text)?).map(Some)).map(|_| 0)
            }
            _ => {
                let text = source.read()?;
                let found = read(&text)?;
                drop(text);
                self.print(work(found)?.as_ref(), secret)
            }
        }
    }

    /// Writes a result into another file, or to stdout.
    pub(super) fn print(&self, bytes: &[u8], secret: bool) -> Outcome {
        let Some(output) = self.path(&OUTPUT) else {
            return print(bytes);
        };
        let written = match secret {
            // Plaintext is for its reader alone, whatever the umask.
            true => atomic::create(&output, bytes, 0o600, true),
            // The recipients read it from a repository: the umask decides, as for any file there.
            false => atomic::replace(&output, bytes, 0o666),
        };
        written.map_err(|error| End::writing("output file", &error))?;
        Ok(0)
    }

    /// Replaces a file by what `work` makes of it, and says so; false where it is to stay. What others write
    /// meanwhile is worked on again.
    pub(super) fn change<B: AsRef<[u8]>>(
        &self,
        file: &Path,
        work: impl Fn(&[u8]) -> Result<Option<B>, End>,
    ) -> Result<bool, End> {
        let written = transform(file, |text| {
            let text = work(text)?;
            let written = text.is_some();
            Ok::<_, End>((text, written))
        })?;
        if written {
            self.log.info("File written successfully");
        }
        Ok(written)
    }
}

/// Whether a path leads to nothing.
pub(super) fn is_missing(path: &Path) -> bool {
    std::fs::metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// A word on rules that do not count because their file ends in `.yml`.
fn ignored_config(directory: &Path) -> Option<String> {
    let place = |name: &str| {
        let found = directory.ancestors().enumerate().find(|(_, parent)| parent.join(name).is_file());
        found.map(|(above, _)| (above, quoted(&format!("{}{name}", "../".repeat(above)))))
    };
    let (above, ignored) = place(".sops.yml")?;
    let words = format!(
        "ignoring {ignored} when searching for config file; the config file must be called \".sops.yaml\""
    );
    match place(".sops.yaml") {
        Some((other, _)) if other < above => None,
        Some((_, used)) => Some(format!("{words}; using {used} instead")),
        None => Some(words),
    }
}

/// Flags that exclude each other.
pub(super) fn conflict(words: &str) -> End {
    End::Exit(Code::ConflictingParameters, words.to_owned())
}

/// A result on stdout.
pub(super) fn print(bytes: &[u8]) -> Result<u8, End> {
    to_stdout(bytes).map_err(|error| End::generic(format!("write /dev/stdout: {}", reason(&error))))?;
    Ok(0)
}

/// The last message of a run, for stderr.
pub(super) fn print_error(words: &str) {
    crate::edge::stream::to_stderr(&harmless(words));
}
