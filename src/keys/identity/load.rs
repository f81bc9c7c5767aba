//! Reading the places, in sops' order.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::{fs, io};

use zeroize::Zeroizing;

use super::as_sops::{Reading, system_error};
use super::locked::{FILE_LIMIT, LockedFile, LockedFiles, LockedSsh};
use super::{Key, OpenSshKey, Place, Presence, Slot, Source, text};
use crate::edge::environment::Environment;
use crate::edge::process;
use crate::keys::ssh::private::{self, PrivateKey, PrivateKeyError};

const SSH_FILE: &str = "SOPS_AGE_SSH_PRIVATE_KEY_FILE";
const SSH_COMMAND: &str = "SOPS_AGE_SSH_PRIVATE_KEY_CMD";
const KEY: &str = "SOPS_AGE_KEY";
const KEY_FILE: &str = "SOPS_AGE_KEY_FILE";
const KEY_COMMAND: &str = "SOPS_AGE_KEY_CMD";
/// The variables that hold a command for identities.
pub(super) const COMMANDS: [&str; 2] = [SSH_COMMAND, KEY_COMMAND];
/// Set for a command: the recipient whose identity is wanted.
const RECIPIENT: &str = "SOPS_AGE_RECIPIENT";

/// All places, each read or, for a command, ready to run.
pub(super) fn all(environment: &Environment) -> Vec<Slot> {
    let mut loader = Loader { environment, locked_files: Arc::default(), locked_keys: Vec::new() };
    let mut slots = vec![loader.named_ssh_file(), loader.command(SSH_COMMAND, Kind::Ssh)];
    slots.extend(loader.usual_ssh_files());
    slots.push(loader.variable());
    slots.push(loader.named_file());
    slots.push(loader.command(KEY_COMMAND, Kind::Age));
    slots.push(loader.usual_file());
    slots
}

/// Shares passphrase-protected keys between places that refer to the same file, so that each is asked for once.
struct Loader<'a> {
    environment: &'a Environment,
    locked_files: Arc<LockedFiles>,
    locked_keys: Vec<(PathBuf, Arc<LockedSsh>)>,
}

impl Loader<'_> {
    fn named_ssh_file(&mut self) -> Slot {
        let Some(path) = self.environment.get(SSH_FILE).map(PathBuf::from) else {
            return not_set(SSH_FILE);
        };
        read(self.ssh_file(Place::NamedFile(SSH_FILE, path.clone()), &path))
    }

    fn usual_ssh_files(&mut self) -> Vec<Slot> {
        let Some(home) = self.environment.home().map(Path::to_owned) else {
            let error = Some("$HOME is not defined".to_owned());
            return vec![read(Source {
                problems: vec!["HOME is not set, so ~/.ssh is not searched".into()],
                place: Some(Place::Variable("HOME")),
                sops: Reading { error, ..Reading::default() },
                ..Source::default()
            })];
        };
        let slots = ["id_ed25519", "id_rsa"].map(|name| {
            let path = super::ssh_key_file(&home, name);
            if fs::metadata(&path).is_err() {
                return read(no_file(path, false));
            }
            read(self.ssh_file(Place::File(path.clone()), &path))
        });
        slots.into()
    }

    fn variable(&mut self) -> Slot {
        let Some(value) = self.environment.get(KEY) else { return not_set(KEY) };
        let value = Zeroizing::new(value.as_encoded_bytes().to_vec());
        read(identity_text(&self.locked_files, Place::Variable(KEY), KEY, &value, true))
    }

    fn named_file(&mut self) -> Slot {
        let Some(path) = self.environment.get(KEY_FILE).map(PathBuf::from) else { return not_set(KEY_FILE) };
        let place = Place::NamedFile(KEY_FILE, path.clone());
        read(match read_file(&path) {
            Ok(content) => identity_text(&self.locked_files, place, KEY_FILE, &content, false),
            Err(error) => unreadable_text(place, KEY_FILE, &path, &error, &format!("{KEY_FILE} file")),
        })
    }

    fn usual_file(&mut self) -> Slot {
        let Some(path) = super::keys_file::path(self.environment) else {
            let error = "user config directory could not be determined: neither $XDG_CONFIG_HOME nor $HOME \
                         are defined";
            let sops = Reading { error: Some(error.into()), only_if_alone: true, ..Reading::default() };
            return read(Source { sops, ..Source::default() });
        };
        let place = Place::File(path.clone());
        read(match read_file(&path) {
            Ok(content) => identity_text(&self.locked_files, place, &path.to_string_lossy(), &content, false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => no_file(path, true),
            Err(error) => unreadable_text(place, &path.to_string_lossy(), &path, &error, "file"),
        })
    }

    fn command(&self, variable: &'static str, kind: Kind) -> Slot {
        let Some(line) = self.environment.get(variable) else { return not_set(variable) };
        let line = line.to_string_lossy().into_owned();
        let locked_files = Arc::clone(&self.locked_files);
        Slot::Command(CommandSource { variable, kind, line, locked_files }, Mutex::default())
    }

    fn ssh_file(&mut self, place: Place, path: &Path) -> Source {
        let content = match read_file(path) {
            Ok(content) => content,
            Err(error) => {
                let action = if error.kind() == io::ErrorKind::IsADirectory { "read" } else { "open" };
                let words =
                    format!("failed to {action} file: {action} {}: {}", path.display(), system_error(&error));
                return failed(place, &system_error(&error), words);
            }
        };
        let shown = path.to_string_lossy();
        ssh_key(place, &content, format!("malformed SSH identity in {shown:?}: "), |key| {
            let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
            if let Some((_, known)) = self.locked_keys.iter().find(|(path, _)| *path == real) {
                return Ok(Arc::clone(known));
            }
            let mut public = path.as_os_str().to_owned();
            public.push(".pub");
            let public = fs::read_to_string(public).ok();
            let public = public.and_then(|text| text.lines().next().map(str::to_owned));
            let locked = Arc::new(LockedSsh::new(shown.clone().into_owned(), key, public));
            self.locked_keys.push((real, Arc::clone(&locked)));
            Ok(locked)
        })
    }
}

/// What a command's output is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ssh,
    Age,
}

/// A command that gives identities.
pub(super) struct CommandSource {
    variable: &'static str,
    kind: Kind,
    line: String,
    locked_files: Arc<LockedFiles>,
}

impl CommandSource {
    pub(super) fn variable(&self) -> &'static str {
        self.variable
    }

    /// Runs it for one recipient; no shell takes part.
    pub(super) fn run(&self, recipient: &str, environment: &Environment) -> Source {
        let place = Place::Command(self.variable);
        let mut words = shlex::split(&self.line).unwrap_or_default().into_iter();
        let Some(program) = words.next() else {
            let reason = "cannot be split into a program and arguments";
            return failed(place, reason, format!("failed to parse command {}: EOF found", self.line));
        };
        let environment = environment.clone().with(RECIPIENT, recipient);
        let output = process::capture(process::command(&program, &environment).args(words), None);
        let output = match output {
            Ok(output) => output,
            Err(error) => {
                let words = go_exec_error(&program, &error);
                let sops = format!("failed to execute command {}: {words}", self.line);
                return failed(place, &error.to_string(), sops);
            }
        };
        match self.kind {
            Kind::Age => identity_text(&self.locked_files, place, KEY_COMMAND, &output, false),
            Kind::Ssh => {
                let malformed = format!("malformed SSH identity returned by running {SSH_COMMAND}: ");
                ssh_key(place, &output, malformed, |_| {
                    Err(format!(
                        "the SSH key returned by running {SSH_COMMAND} is password protected, which is \
                         unsupported. (\"ssh: this private key is passphrase protected\")"
                    ))
                })
            }
        }
    }
}

fn read(source: Source) -> Slot {
    Slot::Read(Arc::new(source))
}

fn not_set(variable: &'static str) -> Slot {
    read(Source {
        place: Some(Place::Variable(variable)),
        presence: Presence::NotSet,
        sops: Reading { unused: Some(variable.into()), ..Reading::default() },
        ..Source::default()
    })
}

fn no_file(path: PathBuf, only_if_alone: bool) -> Source {
    let unused = Some(path.to_string_lossy().into_owned());
    Source {
        place: Some(Place::File(path)),
        presence: Presence::NoFile,
        sops: Reading { unused, only_if_alone, ..Reading::default() },
        ..Source::default()
    }
}

fn failed(place: Place, problem: &str, as_sops: String) -> Source {
    Source {
        place: Some(place),
        problems: vec![problem.to_owned()],
        sops: Reading { error: Some(as_sops), ..Reading::default() },
        ..Source::default()
    }
}

/// Identities, plain or behind a passphrase; `name` is sops' name of the place.
fn identity_text(
    files: &LockedFiles,
    place: Place,
    name: &str,
    content: &[u8],
    several_on_a_line: bool,
) -> Source {
    let file = content.trim_ascii_start();
    if !LockedFile::is_one(file) {
        return identities(place, name, content, several_on_a_line);
    }
    let mut sops = Reading { is_text: true, ..Reading::default() };
    if LockedFile::is_one(content) {
        sops.identities = 1;
    } else {
        sops.error = Some(format!("failed to parse '{name}' age identities: unknown identity type"));
    }
    let keys = vec![Key::LockedFile(files.file(name, file))];
    Source { place: Some(place), keys, sops, ..Source::default() }
}

/// Plain identities; `name` is sops' name of the place.
fn identities(place: Place, name: &str, content: &[u8], several_on_a_line: bool) -> Source {
    let found = text::parse(content, several_on_a_line);
    let mut sops = Reading { is_text: true, ..Reading::default() };
    match found.as_sops {
        Ok(count) => {
            sops.identities = count;
            sops.unused = (count == 0).then(|| name.to_owned());
        }
        Err(reason) => sops.error = Some(format!("failed to parse '{name}' age identities: {reason}")),
    }
    Source { place: Some(place), keys: found.keys, problems: found.problems, sops, ..Source::default() }
}

/// An ssh key; `malformed` is the start of sops' message about a key that it cannot read, and `locked` accepts a
/// passphrase-protected key or returns sops' message about it.
fn ssh_key(
    place: Place,
    content: &[u8],
    malformed: String,
    locked: impl FnOnce(private::LockedKey) -> Result<Arc<LockedSsh>, String>,
) -> Source {
    let quoted = malformed.contains("returned by running");
    let as_sops = |reason: &str| {
        if quoted { format!("{malformed}{reason:?}") } else { format!("{malformed}{reason}") }
    };
    let one = |key| Source {
        place: Some(place.clone()),
        keys: vec![key],
        sops: Reading { identities: 1, ..Reading::default() },
        ..Source::default()
    };
    match private::parse(content).map(|text| text.key) {
        Ok(PrivateKey::Plain(key)) => match OpenSshKey::new(&key) {
            Some(key) => one(Key::Ssh(Box::new(key))),
            None => {
                let problem = format!("age does not use {} keys", key.algorithm());
                let reason = match key.algorithm().as_str() {
                    name if name.starts_with("ecdsa") => "unsupported SSH identity type: *ecdsa.PrivateKey",
                    _ => "ssh: unhandled key type",
                };
                failed(place.clone(), &problem, as_sops(reason))
            }
        },
        Ok(PrivateKey::Locked(key)) => {
            let line = key.public_line();
            // Only OpenSSH's own form shows its public half.
            let other_form =
                line.is_none().then(|| as_sops("ssh: unsupported key type \"ENCRYPTED PRIVATE KEY\""));
            let algorithm = line.and_then(|line| line.split(' ').next().map(str::to_owned));
            let other_type =
                algorithm.filter(|name| name != "ssh-ed25519" && name != "ssh-rsa").map(|name| {
                    format!("could not create encrypted SSH identity: unsupported SSH key type: {name}")
                });
            match locked(key) {
                Ok(key) => {
                    let error = other_form.or(other_type);
                    let identities = usize::from(error.is_none());
                    let sops = Reading { identities, error, ..Reading::default() };
                    Source { sops, ..one(Key::LockedSsh(key)) }
                }
                Err(error) => {
                    failed(place.clone(), "the key is protected by a passphrase", other_form.unwrap_or(error))
                }
            }
        }
        Err(error) => {
            let reason = match error {
                PrivateKeyError::Damaged(_) => "ssh: invalid openssh private key format",
                _ => "ssh: no key found",
            };
            failed(place.clone(), &error.to_string(), as_sops(reason))
        }
    }
}

/// Reads a whole file; one that is too long for keys is an error, so that it cannot fill the memory.
fn read_file(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = fs::File::open(path)?;
    let size = usize::try_from(file.metadata()?.len().min(FILE_LIMIT)).unwrap_or_default();
    let mut content = Zeroizing::new(Vec::with_capacity(size + 1));
    file.take(FILE_LIMIT).read_to_end(&mut content)?;
    if content.len() as u64 == FILE_LIMIT {
        return Err(io::Error::other("file too long"));
    }
    Ok(content)
}

/// A text that could not be read. sops opens a directory without complaint and finds nothing in it.
fn unreadable_text(place: Place, name: &str, path: &Path, error: &io::Error, what: &str) -> Source {
    let words = format!("failed to open {what}: open {}: {}", path.display(), system_error(error));
    let mut source = failed(place, &system_error(error), words);
    if error.kind() == io::ErrorKind::IsADirectory {
        source.sops = Reading { is_text: true, unused: Some(name.to_owned()), ..Reading::default() };
    }
    source
}

fn go_exec_error(program: &str, error: &process::ProcessError) -> String {
    match error {
        process::ProcessError::Failed { status, .. } => match status.code() {
            Some(code) => format!("exit status {code}"),
            None => "signal: killed".into(),
        },
        process::ProcessError::Start { source, .. } if program.contains('/') => {
            format!("fork/exec {program}: {}", system_error(source))
        }
        process::ProcessError::Start { .. } => {
            format!("exec: {program:?}: executable file not found in $PATH")
        }
        process::ProcessError::Output { source, .. } => system_error(source),
    }
}
