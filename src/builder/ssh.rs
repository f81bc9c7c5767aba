//! ssh to a machine that lends itself: one connection, over which everything else goes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::identity::fingerprint;
use super::keeper::reason::{Kind, Reason};
use crate::edge::{atomic, hex};
use crate::host::spec::Remote;

pub mod child;
pub mod verdict;

use verdict::{Verdict, judge, offered};

/// Seconds until a connection must stand.
const CONNECT: &str = "20";
/// How often a silent remote is asked whether it is there, in seconds, and how often it may fail to answer.
const ALIVE_EVERY: &str = "15";
const ALIVE_TRIES: &str = "3";

/// What the files of a connection begin with, and how many digits follow.
const CONTROL: &str = "m-";
const KNOWN_HOSTS: &str = "h-";
const SHORT: usize = 10;

/// Whether a file of this name belongs to a connection. ssh makes its socket with a suffix, and renames it.
#[must_use]
pub fn is_file(name: &str) -> bool {
    let of = |kind: &str| name.strip_prefix(kind).and_then(|rest| rest.get(..SHORT));
    of(CONTROL).or_else(|| of(KNOWN_HOSTS)).is_some_and(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// How one gets to a remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The remote.
    pub remote: Remote,
    /// Its host key, `type base64`.
    pub public_key: String,
    /// The key that logs in; ssh's own keys and agent where it is absent.
    pub key: Option<PathBuf>,
    /// What the connection's socket is called.
    control: PathBuf,
    /// The file with the host key.
    known_hosts: PathBuf,
    alias: String,
}

impl Access {
    /// The way to a remote; `name` is the builder's, and the files are made in `dir`.
    #[must_use]
    pub fn new(remote: &Remote, public_key: &str, key: Option<PathBuf>, name: &str, dir: &Path) -> Self {
        // The path of a socket must be short.
        let short = &hex::encode(&Sha256::digest(name))[..SHORT];
        Self {
            remote: remote.clone(),
            public_key: public_key.to_owned(),
            key,
            control: dir.join(format!("{CONTROL}{short}")),
            known_hosts: dir.join(format!("{KNOWN_HOSTS}{short}")),
            alias: format!("civm-remote-{name}"),
        }
    }

    /// Writes down the only host key that ssh may accept, and removes what an earlier connection left.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn prepare(&self) -> Result<(), Reason> {
        let _ = std::fs::remove_file(&self.control);
        let line = format!("{} {}\n", self.alias, self.public_key);
        atomic::update(&self.known_hosts, line.as_bytes(), 0o600)
            .map_err(|error| Reason::new(Kind::Local, error.to_string()))
    }

    /// Removes both files.
    pub fn forget(&self) {
        for path in [&self.control, &self.known_hosts] {
            let _ = std::fs::remove_file(path);
        }
    }

    /// What holds for every ssh to the remote. What comes first counts: none of it can be changed by the user's
    /// configuration, which may say how the remote is reached (`ProxyJump`).
    fn options(&self) -> Vec<OsString> {
        let mut options = Vec::new();
        let mut set = |name: &str, value: &str| {
            options.push("-o".into());
            options.push(format!("{name}={value}").into());
        };
        set("BatchMode", "yes");
        set("StrictHostKeyChecking", "yes");
        set("UserKnownHostsFile", &quoted(&self.known_hosts));
        set("GlobalKnownHostsFile", "/dev/null");
        set("HostKeyAlias", &self.alias);
        set("HostKeyAlgorithms", algorithms(&self.public_key));
        // It could add keys to the one that counts, and its failure would be ours.
        set("KnownHostsCommand", "none");
        set("UpdateHostKeys", "no");
        set("CheckHostIP", "no");
        // Else a record of the domain name system could stand for the key.
        set("VerifyHostKeyDNS", "no");
        set("ForwardAgent", "no");
        set("ForwardX11", "no");
        set("ClearAllForwardings", "yes");
        set("PermitLocalCommand", "no");
        set("RemoteCommand", "none");
        set("RequestTTY", "no");
        set("EscapeChar", "none");
        set("LogLevel", "INFO");
        set("ConnectTimeout", CONNECT);
        set("ServerAliveInterval", ALIVE_EVERY);
        set("ServerAliveCountMax", ALIVE_TRIES);
        set("ControlPersist", "no");
        set("ControlPath", &quoted(&self.control));
        if let Some(key) = &self.key {
            set("IdentityFile", &quoted(key));
            set("IdentitiesOnly", "yes");
            set("IdentityAgent", "none");
        }
        set("Port", &self.remote.port.to_string());
        set("User", &self.remote.user);
        options
    }

    /// The arguments of the ssh that others go through. It runs `command` in the remote's login shell.
    #[must_use]
    pub fn master(&self, command: &str) -> Vec<OsString> {
        let mut arguments = vec!["-T".into(), "-o".into(), "ControlMaster=yes".into()];
        arguments.extend(self.options());
        self.destination(&mut arguments);
        arguments.push(command.into());
        arguments
    }

    /// The arguments of one that goes through it, and runs a command. It does not connect by itself if the other is
    /// gone.
    #[must_use]
    pub fn session(&self, command: &str) -> Vec<OsString> {
        let mut arguments = vec!["-T".into()];
        self.through(&mut arguments);
        self.destination(&mut arguments);
        arguments.push(command.into());
        arguments
    }

    /// The arguments of one that goes through it to a port of the remote's loopback, with its own stdin and stdout.
    #[must_use]
    pub fn forward(&self, port: u16) -> Vec<OsString> {
        let mut arguments = Vec::new();
        self.through(&mut arguments);
        arguments.extend(["-W".into(), format!("127.0.0.1:{port}").into()]);
        self.destination(&mut arguments);
        arguments
    }

    fn through(&self, arguments: &mut Vec<OsString>) {
        arguments.extend(["-o", "ControlMaster=no", "-o", "ProxyCommand=false"].map(OsString::from));
        arguments.extend(self.options());
    }

    fn destination(&self, arguments: &mut Vec<OsString>) {
        arguments.push("--".into());
        arguments.push(self.remote.host.clone().into());
    }

    /// Why ssh has failed.
    #[must_use]
    pub fn reason(&self, code: Option<i32>, stderr: &str) -> Reason {
        let remote = &self.remote;
        let (verdict, line) = judge(code, stderr);
        let said = line.map(|line| format!(": {line}")).unwrap_or_default();
        match verdict {
            Verdict::HostKey => self.wrong_key(stderr),
            Verdict::Auth => Reason::new(Kind::Auth, format!("{remote} does not let us in{said}"))
                .hint(self.how_to_log_in()),
            Verdict::Network => Reason::new(Kind::Network, format!("cannot reach {remote}{said}")),
            Verdict::Forbidden => {
                Reason::new(Kind::Auth, format!("the sshd of {remote} does not allow what is needed{said}"))
                    .hint("set `AllowTcpForwarding yes` (or `local`) and a `MaxSessions` of 10 or more in its sshd_config")
            }
            Verdict::Config => {
                let said = line.unwrap_or_default();
                Reason::new(Kind::Local, format!("ssh rejects its own configuration here: {said}"))
                    .hint(format!("mend that file: `{}` must work without a question", remote.ssh()))
            }
            Verdict::Revoked => {
                let said = line.unwrap_or_default();
                Reason::new(Kind::HostKey, format!("the host key of {remote} is refused here: {said}")).hint(
                    "the list is named by `RevokedHostKeys` in ssh's configuration on this machine: where it \
                     cannot be read, ssh takes every key for revoked",
                )
            }
            Verdict::Missing | Verdict::Command => {
                let code = code.unwrap_or_default();
                Reason::new(Kind::Binary, format!("on {remote} the command failed with exit code {code}{said}"))
            }
        }
    }

    fn wrong_key(&self, stderr: &str) -> Reason {
        let known = fingerprint(&self.public_key).unwrap_or_else(|error| error);
        let offer = offered(stderr).unwrap_or("one of another kind");
        let message = format!(
            "the host key of {} is not the one in `on_public_key`: known is {known}, offered was {offer}",
            self.remote
        );
        Reason::new(Kind::HostKey, message).hint(
            "somebody else answers there, or the machine was installed anew: ask its owner for the fingerprint before \
             you change `on_public_key`",
        )
    }

    fn how_to_log_in(&self) -> String {
        let Remote { user, host, .. } = &self.remote;
        match &self.key {
            Some(_) => format!(
                "put the public half of the secret that `on_key` names into ~{user}/.ssh/authorized_keys on {host}"
            ),
            None => format!(
                "without `on_key` ssh's own keys and agent are used: see that `{}` works without a question",
                self.remote.ssh()
            ),
        }
    }
}

/// The algorithms that go with a key: no other key of the remote is looked at.
fn algorithms(public_key: &str) -> &str {
    match public_key.split_whitespace().next().unwrap_or_default() {
        "ssh-rsa" => "rsa-sha2-512,rsa-sha2-256",
        kind => kind,
    }
}

/// A path as a value of ssh's configuration: `%` begins a token there, a blank ends a word.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.to_string_lossy().replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(key: Option<PathBuf>) -> Access {
        let remote = Remote { user: "lender".into(), host: "h.example".into(), port: 2200 };
        let public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGxhZ2VyIGxhZ2VyIGxhZ2VyIGxhZ2VyIGxhZ2Vy";
        Access::new(&remote, public, key, "big", Path::new("/run/user/1000/civm/builders-0123456789ab"))
    }

    fn text(arguments: &[OsString]) -> String {
        arguments.iter().map(|argument| argument.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_host_key_is_pinned_and_nothing_is_left_to_the_users_configuration() {
        let master = text(&access(Some("/k".into())).master("true"));
        for option in [
            "StrictHostKeyChecking=yes",
            "GlobalKnownHostsFile=/dev/null",
            "VerifyHostKeyDNS=no",
            "KnownHostsCommand=none",
            "HostKeyAlias=civm-remote-big",
            "HostKeyAlgorithms=ssh-ed25519",
            "BatchMode=yes",
            "ForwardAgent=no",
            "RemoteCommand=none",
            "ControlMaster=yes",
            "IdentitiesOnly=yes",
            "Port=2200",
            "User=lender",
        ] {
            assert!(master.contains(option), "{option}: {master}");
        }
        assert!(master.ends_with("-- h.example true"), "{master}");
        assert!(!text(&access(None).master("true")).contains("Identit"));
    }

    #[test]
    fn what_goes_through_the_connection_never_makes_one_of_its_own() {
        let forward = access(None).forward(40_123);
        assert!(text(&forward).ends_with("-W 127.0.0.1:40123 -- h.example"), "{forward:?}");
        assert!(text(&forward).contains("-o ControlMaster=no -o ProxyCommand=false"));
        assert!(text(&access(None).session("x")).contains("ProxyCommand=false"));
        let control = access(None).control;
        assert!(control.as_os_str().len() <= 80, "{control:?}");
    }

    #[test]
    fn a_wrong_host_key_names_both() {
        let said = "The fingerprint for the ED25519 key sent by the remote host is\nSHA256:other.\n\
                    Host key verification failed.\n";
        let reason = access(None).reason(Some(255), said);
        assert_eq!(reason.kind, Kind::HostKey);
        let known = fingerprint(&access(None).public_key).unwrap_or_else(|error| error);
        assert!(reason.message.contains(&known) && reason.message.contains("SHA256:other"), "{reason}");
        let reason = access(None).reason(Some(255), "lender@h: Permission denied (publickey).\n");
        assert_eq!(reason.kind, Kind::Auth);
        assert!(reason.hint.is_some_and(|hint| hint.contains("`ssh -p 2200 lender@h.example`")));
    }
}
