//! ssh to an instance: with civm's own client key, and a host key that is known before the first login.

use std::ffi::OsString;
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::OsRng;
use ssh_key::{Algorithm, LineEnding, PrivateKey};
use zeroize::Zeroizing;

use crate::edge::atomic::{self, WriteError};
use crate::edge::environment::Environment;
use crate::edge::lock::{Lock, open_file};
use crate::edge::process;
use crate::instance::error::Error;
use crate::instance::stage::child_command;
use crate::instance::state::{Place, ProjectState, Record};
use crate::vm::agent::LOGGED_IN;

/// Seconds that a connection may take until the login; under TCG, on a busy machine, it takes many.
const CONNECT: &str = "30";
/// How often a silent guest is asked whether it is there, in seconds, and how often it may fail to answer.
const ALIVE_EVERY: &str = "15";
const ALIVE_TRIES: &str = "3";
/// How long a connection stays open for the next command.
const PERSIST: &str = "10m";
/// Bytes of ssh's messages that are looked at.
const MESSAGES_MAX: u64 = 16 << 10;
/// Longest path of a control socket: the kernel's 107 bytes less the 17 that ssh appends while it makes one.
const CONTROL_PATH_MAX: usize = 90;

/// An ssh key pair of ours: the file with its private half, and its public line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// The private key's file, mode 0600.
    pub path: PathBuf,
    /// The public key as a line of `authorized_keys`.
    pub public: String,
}

impl KeyPair {
    /// The private key as OpenSSH writes it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn private(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        std::fs::read(&self.path).map(Zeroizing::new).map_err(Error::file("cannot read", &self.path))
    }
}

/// The key with which civm logs in to the machines of a project; made once.
///
/// # Errors
/// It cannot be made, or is not a key.
pub fn client_key(project: &ProjectState) -> Result<KeyPair, Error> {
    load_or_make(project.path.join("client_ed25519"), "civm")
}

/// The host key of an instance that has none among its secrets; made once.
///
/// # Errors
/// It cannot be made, or is not a key.
pub fn host_key(place: &Place) -> Result<KeyPair, Error> {
    load_or_make(place.host_key(), &place.name)
}

fn load_or_make(path: PathBuf, comment: &str) -> Result<KeyPair, Error> {
    let failed = |reason: String| Error::Key { path: path.clone(), reason };
    if !path.exists() {
        make(&path, comment).map_err(failed)?;
    }
    let text =
        std::fs::read_to_string(&path).map(Zeroizing::new).map_err(|error| failed(error.to_string()))?;
    let key = PrivateKey::from_openssh(text.as_str()).map_err(|error| failed(error.to_string()))?;
    let public = key.public_key().to_openssh().map_err(|error| failed(error.to_string()))?;
    Ok(KeyPair { path, public })
}

fn make(path: &Path, comment: &str) -> Result<(), String> {
    let mut key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).map_err(|error| error.to_string())?;
    key.set_comment(comment);
    let text = key.to_openssh(LineEnding::LF).map_err(|error| error.to_string())?;
    // It takes its name only if nobody else was faster.
    match atomic::create(path, text.as_bytes(), 0o600, false) {
        Ok(()) | Err(WriteError::Exists(_)) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Writes down the only host key that ssh may accept for an instance. `public` is `ssh-ed25519 AAAA...`.
///
/// # Errors
/// It cannot be written, or is not a line with a key.
pub fn pin(place: &Place, public: &str) -> Result<(), Error> {
    let path = place.known_hosts();
    let mut words = public.split_whitespace();
    let (Some(kind), Some(key)) = (words.next(), words.next()) else {
        return Err(Error::Key { path, reason: "not a public key".to_owned() });
    };
    let line = format!("{} {kind} {key}\n", alias(&place.name));
    atomic::update(&path, line.as_bytes(), 0o600)
        .map_err(|error| Error::Key { path, reason: error.to_string() })
}

/// The name under which an instance's key is known, whatever its port.
fn alias(host: &str) -> String {
    format!("civm-{host}")
}

/// How one logs in to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    user: String,
    alias: String,
    address: Ipv4Addr,
    port: u16,
    identity: PathBuf,
    known_hosts: PathBuf,
    control: Option<PathBuf>,
    tty: bool,
}

impl Login {
    /// To a running instance.
    ///
    /// # Errors
    /// No port of the host leads to its sshd, its host key is not known, or there is no client key.
    pub fn new(project: &ProjectState, place: &Place, record: &Record, user: &str) -> Result<Self, Error> {
        let unfit = |reason: &str| Error::Unfit { host: place.name.clone(), reason: reason.to_owned() };
        let forward = record.ssh().ok_or_else(|| unfit("no port is forwarded to the guest's port 22"))?;
        if !place.known_hosts().exists() {
            return Err(unfit("its host key is not known"));
        }
        let address = if forward.address.is_unspecified() { Ipv4Addr::LOCALHOST } else { forward.address };
        let control = record.runtime.as_ref().map(|runtime| runtime.join(format!("ssh-{user}")));
        Ok(Self {
            user: user.to_owned(),
            alias: alias(&place.name),
            address,
            port: forward.host_port,
            identity: client_key(project)?.path,
            known_hosts: place.known_hosts(),
            control: control.filter(|path| path.as_os_str().len() <= CONTROL_PATH_MAX),
            tty: false,
        })
    }

    /// The same, with a terminal in the guest for the command if `wanted`.
    #[must_use]
    pub fn tty(self, wanted: bool) -> Self {
        Self { tty: wanted, ..self }
    }

    /// The options of `ssh` (and `scp`) that stand for this login, without a destination.
    #[must_use]
    pub fn options(&self) -> Vec<OsString> {
        let mut options: Vec<OsString> = vec!["-F".into(), "none".into()];
        let mut set = |name: &str, value: &str| {
            options.push("-o".into());
            options.push(format!("{name}={value}").into());
        };
        set("StrictHostKeyChecking", "yes");
        set("UserKnownHostsFile", &config_path(&self.known_hosts));
        set("GlobalKnownHostsFile", "/dev/null");
        set("HostKeyAlias", &self.alias);
        set("HostKeyAlgorithms", "ssh-ed25519");
        if self.address.is_loopback() {
            // What never leaves this machine needs no protection from the computers of the future. Where the guest's
            // processor is emulated, that exchange of keys takes most of a login, and this one least.
            set("KexAlgorithms", "^ecdh-sha2-nistp256");
        }
        set("UpdateHostKeys", "no");
        set("CheckHostIP", "no");
        set("IdentityFile", &config_path(&self.identity));
        set("IdentitiesOnly", "yes");
        set("IdentityAgent", "none");
        set("PreferredAuthentications", "publickey");
        set("LogLevel", "ERROR");
        // A guest that stands still is noticed, before the login and after it.
        set("ConnectTimeout", CONNECT);
        set("ServerAliveInterval", ALIVE_EVERY);
        set("ServerAliveCountMax", ALIVE_TRIES);
        if let Some(control) = &self.control {
            set("ControlMaster", "no");
            set("ControlPath", &config_path(control));
            set("ControlPersist", PERSIST);
        }
        set("Port", &self.port.to_string());
        set("User", &self.user);
        options
    }

    /// The arguments of `ssh` that run a command, or a shell where there is none.
    #[must_use]
    pub fn arguments(&self, command: &[OsString]) -> Vec<OsString> {
        let mut arguments = self.options();
        if self.tty {
            arguments.push("-t".into());
        }
        arguments.push("--".into());
        arguments.push(self.address.to_string().into());
        arguments.extend(command.iter().cloned());
        arguments
    }

    /// The address that leads to the guest, as ssh and scp take it.
    #[must_use]
    pub fn destination(&self) -> String {
        self.address.to_string()
    }

    /// The login as a block of ssh's configuration, under the name `host`. Connections are not shared: the file may
    /// outlive the instance.
    #[must_use]
    pub fn configuration(&self, host: &str) -> String {
        let alone = Self { control: None, ..self.clone() };
        let mut text = format!("Host {host}\n  HostName {}\n", self.destination());
        let options = alone.options();
        for option in options.iter().filter_map(|option| option.to_str()) {
            if let Some((name, value)) = option.split_once('=') {
                text.push_str(&format!("  {name} {value}\n"));
            }
        }
        text
    }

    /// Copies with scp; those of the paths that are the guest's begin with [`Self::destination`] and a colon.
    ///
    /// # Errors
    /// There is no `scp`, or no `ssh`.
    pub fn copy(&self, paths: &[OsString], environment: &Environment) -> Result<ExitStatus, Error> {
        let scp = environment.find_program("scp").ok_or(Error::NoProgram("scp"))?;
        let failed = |source| Error::Spawn { program: "scp".to_owned(), source };
        self.connect(&find_ssh(environment)?, environment);
        let mut command = process::command(scp, &environment.for_tools());
        command.arg("-r").args(self.options()).arg("--").args(paths);
        command.status().map_err(failed)
    }

    /// The arguments of the ssh that opens the shared connection: one login, however many commands follow.
    fn master(&self) -> Vec<OsString> {
        let own = ["BatchMode=yes", "ControlMaster=yes"].iter().flat_map(|option| ["-o", option]);
        let own = own.chain(["-f", "-N"]).map(OsString::from);
        own.chain(self.arguments(&[])).collect()
    }

    /// Opens the shared connection if there is none yet; only one process does so at a time. If that fails, the
    /// command connects by itself, and ssh says what is wrong.
    fn connect(&self, ssh: &Path, environment: &Environment) {
        let Some(control) = &self.control else { return };
        if UnixStream::connect(control).is_ok() {
            return;
        }
        let mut lock = control.clone().into_os_string();
        lock.push(".lock");
        let Ok(_lock) = open_file(Path::new(&lock)).and_then(Lock::wait) else { return };
        // The process that had the lock before may have opened it.
        if UnixStream::connect(control).is_err() {
            let _ = std::fs::remove_file(control);
            let mut command = process::command(ssh, &environment.for_tools());
            command.args(self.master()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let _ = command.status();
        }
    }

    /// Runs ssh on this process's own terminal and pipes, and passes on how it ended.
    ///
    /// # Errors
    /// There is no `ssh`.
    pub fn run(&self, command: &[OsString], environment: &Environment) -> Result<ExitStatus, Error> {
        let ssh = find_ssh(environment)?;
        let failed = |source| Error::Spawn { program: "ssh".to_owned(), source };
        self.connect(&ssh, environment);
        process::command(ssh, &environment.for_tools()).args(self.arguments(command)).status().map_err(failed)
    }

    /// The arguments of `ssh` for [`Self::check`]. What comes first counts: it neither uses the user's
    /// connections nor leaves one of its own for theirs to run into.
    fn probe(&self, within: Duration) -> Vec<OsString> {
        let connect = format!("ConnectTimeout={}", within.as_secs().max(1));
        let own = ["BatchMode=yes", &connect, "ControlPath=none"];
        let own = own.into_iter().flat_map(|option| ["-o", option]).map(OsString::from);
        // In words that any shell has, and that start no other program: root's is not everywhere a POSIX one, and a guest
        // without an agent has no such directory.
        let note = format!("test -d /run/civm && true >{LOGGED_IN}; true");
        own.chain(self.arguments(&[note.into()])).collect()
    }

    /// Logs in once, for real, in a given time.
    ///
    /// # Errors
    /// Why it did not work, as text for the user.
    pub fn check(&self, within: Duration, environment: &Environment) -> Result<(), String> {
        let ssh = find_ssh(environment).map_err(|error| error.to_string())?;
        let until = Instant::now() + within;
        let mut child = child_command(ssh, environment)
            .args(self.probe(within))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
                Ok(None) | Err(_) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err("no login in time".to_owned());
                }
            }
        };
        if status.success() {
            return Ok(());
        }
        let mut said = String::new();
        if let Some(messages) = child.stderr.take() {
            let _ = messages.take(MESSAGES_MAX).read_to_string(&mut said);
        }
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("ssh failed");
        Err(last.trim().to_owned())
    }
}

/// The program `ssh`.
///
/// # Errors
/// It is not installed.
pub fn find_ssh(environment: &Environment) -> Result<PathBuf, Error> {
    environment.find_program("ssh").ok_or(Error::NoProgram("ssh"))
}

/// A path as a value of ssh's configuration: `%` begins a token there, a blank ends a word.
fn config_path(path: &Path) -> String {
    format!("\"{}\"", path.to_string_lossy().replace('%', "%%"))
}

#[cfg(test)]
mod tests;
