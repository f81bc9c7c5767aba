//! The proof that a builder is ready: a login with the key that nix uses, past the host key that was made for it, and
//! nix's own greeting. Then it is asked what it can do.

use std::ffi::OsString;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::reason::{Kind, Reason};
use super::session::Session;
use crate::builder::identity::{Pair, fingerprint};
use crate::builder::nixd::{self, Daemon};
use crate::builder::publish::Learned;
use crate::builder::push::read_bounded;
use crate::builder::ssh::child::{Cut, STACK, Ssh};
use crate::builder::ssh::verdict::{Verdict, judge, offered};
use crate::edge::environment::Environment;
use crate::instance::deadline::scaled;

/// How long a guest that says that it is ready may take for a login and nix's greeting.
const WITHIN: Duration = Duration::from_secs(120);
/// How long one question to nix may take.
const ASK: Duration = Duration::from_secs(60);
/// The wait between two logins.
const AGAIN: Duration = Duration::from_secs(1);
/// What nix-daemon says to who asks over ssh.
const DAEMON: &str = "nix-daemon --stdio";
/// What nix says of itself, under its old and its new name.
const SETTINGS: &str = "nix --extra-experimental-features nix-command show-config --json 2>/dev/null || \
                        nix --extra-experimental-features nix-command config show --json";
/// The most bytes of that.
const SETTINGS_MAX: u64 = 1 << 20;
/// The most features or systems of a builder, and the longest.
const WORDS_MAX: usize = 64;
const WORD_MAX: usize = 64;

/// A check that runs, or is to.
pub(super) struct Check {
    login: Login,
    found: Arc<Mutex<Option<Result<Learned, Reason>>>>,
    until: Option<Instant>,
}

/// How the keeper itself logs in.
#[derive(Clone)]
struct Login {
    arguments: Vec<OsString>,
    builder: String,
    user: String,
    on: String,
    public: String,
    environment: Environment,
    cut: Cut,
}

impl Check {
    /// One of a builder that an ssh with these arguments leads to.
    pub(super) fn new(session: &Session, way: &[OsString], host: &Pair) -> Self {
        let (loaded, shared) = (&session.loaded, &session.shared);
        let words = way;
        let words = words.iter().map(|word| word.to_string_lossy().into_owned());
        let quoted = words.filter_map(|word| shlex::try_quote(&word).ok().map(std::borrow::Cow::into_owned));
        let proxy = quoted.fold("ssh".to_owned(), |line, word| line + " " + &word).replace('%', "%%");
        let config = shared.place.ssh_config().into_os_string();
        let arguments = vec![
            "-F".into(),
            config,
            "-o".into(),
            format!("ProxyCommand={proxy}").into(),
            "-o".into(),
            "ConnectTimeout=30".into(),
            "-o".into(),
            "LogLevel=INFO".into(),
            "--".into(),
            loaded.name().into(),
        ];
        let login = Login {
            arguments,
            builder: loaded.name().to_owned(),
            user: loaded.parcel.builder.user.clone(),
            on: loaded.parcel.builder.on.to_string(),
            public: host.public.clone(),
            environment: shared.environment.clone(),
            cut: Cut::default(),
        };
        Self { login, found: Arc::default(), until: None }
    }

    /// Begins. A guest that says twice that it is ready is looked at once.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn begin(&mut self) -> Result<(), Reason> {
        if self.until.is_some() {
            return Ok(());
        }
        self.until = Some(Instant::now() + scaled(WITHIN, &self.login.environment));
        let (login, found) = (self.login.clone(), Arc::clone(&self.found));
        let run = move || {
            let result = login.prove();
            *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        };
        let spawned = thread::Builder::new().name("login".into()).stack_size(STACK).spawn(run);
        spawned.map(drop).map_err(|error| Reason::new(Kind::Local, error.to_string()))
    }

    /// What came of it, if anything did.
    pub(super) fn result(&mut self) -> Option<Result<Learned, Reason>> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).take();
        if found.is_some() {
            return found;
        }
        let late = self.until.is_some_and(|until| until <= Instant::now());
        late.then(|| {
            self.login.cut.now();
            let message =
                format!("`{}` runs on {}, but nobody could log in", self.login.builder, self.login.on);
            Err(Reason::new(Kind::Late, message))
        })
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        self.login.cut.now();
    }
}

impl Login {
    fn prove(&self) -> Result<Learned, Reason> {
        loop {
            // Both at once: a login takes long where the guest is emulated.
            let (daemon, settings) = thread::scope(|scope| {
                let asking = thread::Builder::new()
                    .name("settings".into())
                    .stack_size(STACK)
                    .spawn_scoped(scope, || self.settings());
                let daemon = self.greet();
                (daemon, asking.ok().and_then(|asking| asking.join().ok()).flatten())
            });
            match daemon {
                Ok(daemon) => return Ok(Self::learn(daemon, settings)),
                // The guest's sshd may be a moment behind.
                Err(reason) if reason.kind.passes() && !self.cut.is_done() => thread::sleep(AGAIN),
                Err(reason) => return Err(reason),
            }
        }
    }

    fn run(&self, command: &str) -> Result<Ssh, Reason> {
        let mut arguments = self.arguments.clone();
        arguments.push(command.into());
        Ssh::start(&arguments, Stdio::piped(), Stdio::piped(), &self.environment, &self.cut)
    }

    fn greet(&self) -> Result<Daemon, Reason> {
        let ssh = self.run(DAEMON)?;
        let (Some(stdin), Some(stdout)) = ssh.pipes() else {
            return Err(Reason::new(Kind::Local, "no pipes to ssh"));
        };
        let error = match nixd::handshake(stdout, stdin) {
            Ok(daemon) => return Ok(daemon),
            Err(error) => error,
        };
        if error.kind() == std::io::ErrorKind::InvalidData {
            let message = format!("`{}`: {error}", self.builder);
            return Err(Reason::new(Kind::Binary, message));
        }
        let status = ssh.wait(Instant::now() + AGAIN);
        Err(self.reason(status.and_then(|status| status.code()), &ssh.said()))
    }

    fn reason(&self, code: Option<i32>, stderr: &str) -> Reason {
        let Self { builder, user, on, public, .. } = self;
        let (verdict, line) = judge(code, stderr);
        let said = line.map(|line| format!(": {line}")).unwrap_or_default();
        match verdict {
            Verdict::HostKey => {
                let known = fingerprint(public).unwrap_or_else(|error| error);
                let offer = offered(stderr).unwrap_or("one of another kind");
                let message = format!(
                    "somebody else answers at the port of `{builder}` on {on}: its host key was made here and is \
                     {known}, offered was {offer}"
                );
                Reason::new(Kind::HostKey, message)
                    .hint(format!("look on {on} who listens there; `civm builder up {builder}` tries again"))
            }
            Verdict::Auth => Reason::new(Kind::Auth, format!("`{builder}` does not let `{user}` in{said}")),
            Verdict::Forbidden => {
                Reason::new(Kind::Auth, format!("the sshd of {on} forwards no connections{said}"))
                    .hint("set `AllowTcpForwarding yes` (or `local`) in its sshd_config")
            }
            Verdict::Missing => Reason::new(Kind::Binary, format!("`{builder}` has no nix-daemon{said}"))
                .hint("add nix-bin and nix-setup-systemd to `image.packages` of its host"),
            Verdict::Network => Reason::new(Kind::Network, format!("no login to `{builder}`{said}")),
            Verdict::Config | Verdict::Revoked => Reason::new(
                Kind::Local,
                format!("no login to `{builder}`: ssh refuses it on this machine{said}"),
            ),
            Verdict::Command => Reason::new(Kind::Binary, format!("nix-daemon in `{builder}` failed{said}")),
        }
    }

    /// What it says of itself; nothing where it does not say it.
    fn learn(daemon: Daemon, settings: Option<Value>) -> Learned {
        let settings = settings.unwrap_or(Value::Null);
        let list = |name: &str| -> Option<Vec<String>> {
            let words = settings.get(name)?.get("value")?.as_array()?;
            let plain = |word: &&str| {
                word.len() <= WORD_MAX
                    && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte))
            };
            let words = words.iter().filter_map(Value::as_str).filter(plain).take(WORDS_MAX);
            Some(words.map(str::to_owned).collect())
        };
        Learned {
            version: daemon.version,
            trusted: daemon.trusted,
            features: list("system-features"),
            extra_platforms: list("extra-platforms").unwrap_or_default(),
        }
    }

    fn settings(&self) -> Option<Value> {
        let ssh = Arc::new(self.run(SETTINGS).ok()?);
        let (_, stdout) = ssh.pipes();
        let until = Instant::now() + scaled(ASK, &self.environment);
        let watched = Arc::clone(&ssh);
        // A builder that stands still here is no reason to wait for ever.
        let watch = move || watched.wait(until);
        let watch = thread::Builder::new().name("ask".into()).stack_size(STACK).spawn(watch).ok()?;
        let text = read_bounded(stdout?, SETTINGS_MAX);
        let _ = watch.join();
        serde_json::from_str(&text.ok()?).ok()
    }
}
