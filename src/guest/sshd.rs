//! The guest's sshd: its configuration, its unit, and the key that lets it answer.
//!
//! Its host key is laid last, when users and secrets are there: whoever gets in finds them. Until then sshd closes every
//! connection. It listens before the point: the listening process does nothing but accept and start a new sshd for each
//! connection, which reads the key and has addresses of its own. To start at all it wants a key; the agent hands it one
//! through a pipe whose name is gone before sshd listens. Only where sshd cannot start itself anew for a connection would
//! somebody be answered with that key, and civm's ssh refuses it. Newer versions keep the host key in the process that
//! listens; those start when the key is there, and so does one that a disk has settings for.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use rand::rngs::OsRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::manager::Jobs;
use super::notes::Notes;
use super::{Error, console, systemctl};
use crate::host::layer::{self, SHARE_MOUNT};
use crate::keys::ssh::host_key;

/// Its unit.
pub(super) const UNIT: &str = "civm-sshd.service";
/// Where its configuration lies.
pub(super) const CONFIG: &str = "/run/civm/sshd_config";
/// Where it looks for its host key: a link to the one in the share's place, once the guest is ready for logins.
pub(super) const HOST_KEY: &str = "/run/civm/ssh_host_ed25519_key";
/// The pipe that it reads a key from which it never uses, where it starts before its own is there: [`HOST_KEY`] is a link
/// to it until then.
const STAND_IN: &str = "/run/civm/sshd_stand_in";
/// Written when it listens.
const PID_FILE: &str = "/run/sshd.pid";
/// Settings of a host's own, or of an image's.
const SETTINGS: &str = "/etc/ssh/civm.d";
/// Where sshd lies, below the root.
const BINARY: &str = "usr/sbin/sshd";
/// The program that newer versions start for a connection, as its name stands in their binary.
const SESSION_WORD: &[u8] = b"sshd-session";

/// sshd as every guest has it: keys alone, those of the layer and those that a user has added. Many sessions may come over
/// one connection. These follow a host's own settings, since sshd takes the first value of each.
const SETTINGS_OF_ALL: &str = "MaxSessions 1000\n\
    PermitRootLogin prohibit-password\n\
    PasswordAuthentication no\n\
    KbdInteractiveAuthentication no\n\
    UsePAM no\n\
    UseDNS no\n\
    PrintMotd no\n\
    SetEnv LANG=C.UTF-8\n\
    AcceptEnv COLORTERM\n\
    Subsystem sftp internal-sftp\n";
/// A newer sshd locks out an address from which logins fail: here that would be everybody. An older one does not know
/// the word.
const NO_PENALTIES: &str = "PerSourcePenalties no\n";
/// The word as it stands in a binary of sshd that knows it.
const PENALTIES_WORD: &[u8] = b"persourcepenalties";

/// How often it is looked at whether sshd listens, and how long before systemd is asked how it is.
const POLL: Duration = Duration::from_millis(5);
const SLOW: Duration = Duration::from_secs(2);

/// Settings of a host's own, each file by its digest: what a link leads to may hold a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settings(BTreeMap<PathBuf, Option<[u8; 32]>>);

impl Settings {
    /// The files that sshd includes.
    fn read(dir: &Path) -> Self {
        let paths = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let included = paths.filter(|path| path.extension().is_some_and(|end| end == "conf"));
        let digest =
            |path: &PathBuf| fs::read(path).ok().map(|text| Sha256::digest(Zeroizing::new(text)).into());
        Self(included.map(|path| (path.clone(), digest(&path))).collect())
    }

    pub(super) fn are_none(&self) -> bool {
        self.0.is_empty()
    }
}

/// The sshd of a disk; empty where it has none.
pub(super) fn read_binary(root: &Path) -> Vec<u8> {
    fs::read(root.join(BINARY)).unwrap_or_default()
}

/// What the sshd of a disk is given.
pub(super) fn config(binary: &[u8]) -> String {
    let penalties = memchr::memmem::find(binary, PENALTIES_WORD).map_or("", |_| NO_PENALTIES);
    // Before a host's own settings, so that readiness can rely on it: ports and host keys are added to these. Dozens of logins
    // may come at once, since all clients come from one address, that of the gateway, and a build farm's are many; of that
    // setting sshd takes the last value.
    format!(
        "Port 22\nPidFile {PID_FILE}\nHostKey {HOST_KEY}\nMaxStartups 300:30:600\nInclude /etc/ssh/civm.d/*.conf\n\
         AuthorizedKeysFile /etc/ssh/authorized_keys.d/%u .ssh/authorized_keys\n{SETTINGS_OF_ALL}{penalties}"
    )
}

/// Its unit: after the host layer, or before the point.
pub(super) fn unit(early: bool) -> String {
    let when = if early {
        "After=civm-agent.service"
    } else {
        "Requires=civm-apply.service\nAfter=civm-apply.service"
    };
    format!(
        "[Unit]\nDescription=OpenSSH server\n{when}\nOnFailure=civm-failed@%N.service\n\n\
         [Service]\nType=notify\nRuntimeDirectory=sshd\nRuntimeDirectoryMode=0755\n\
         RuntimeDirectoryPreserve=yes\n\
         ExecStart=/usr/sbin/sshd -D -e -f {CONFIG}\nExecReload=/bin/kill -HUP $MAINPID\n\
         Restart=on-failure\nTimeoutStopSec=5\nSendSIGHUP=yes\nLimitNOFILE=32768\n"
    )
}

/// Whether the sshd of a disk can start before the layer is there: it reads its host key anew for each connection, and the
/// disk has no settings, which may be others in the layer.
pub(super) fn can_start_early(root: &Path, binary: &[u8]) -> bool {
    !binary.is_empty()
        && Settings::read(&root.join(SETTINGS.trim_start_matches('/'))).are_none()
        && memchr::memmem::find(binary, SESSION_WORD).is_none()
}

/// Makes the pipe, below the future `/run`.
pub(super) fn put_stand_in(run: &Path) -> Result<(), Error> {
    let [pipe, link] = [STAND_IN, HOST_KEY].map(|path| run.join(path.trim_start_matches("/run/")));
    let made = mkfifo(&pipe, Mode::S_IRUSR).map_err(std::io::Error::from);
    made.and_then(|()| symlink(STAND_IN, &link)).map_err(Error::io("create", &pipe))
}

/// The agent's part: waits until sshd wants a key to start with, and hands it one that is made for that. Nobody else finds
/// the pipe by then, and sshd listens only when it has read it.
pub(super) fn hand_stand_in() -> Result<(), Error> {
    hand(Path::new(STAND_IN))
}

fn hand(pipe: &Path) -> Result<(), Error> {
    if !pipe.exists() {
        return Ok(());
    }
    let key = host_key::HostKey::generate(&mut OsRng, "")
        .map_err(|error| Error::content(pipe, error.to_string()))?;
    let mut end = fs::OpenOptions::new().write(true).open(pipe).map_err(Error::io("open", pipe))?;
    fs::remove_file(pipe).map_err(Error::io("remove", pipe))?;
    end.write_all(key.private().as_bytes()).map_err(Error::io("write", pipe))
}

/// Whether it starts, or has started, before its host key is there.
fn starts_early() -> bool {
    fs::read_link(HOST_KEY).is_ok_and(|to| to == Path::new(STAND_IN))
}

/// Waits until sshd listens, where it starts before the point.
pub(super) fn settle_early() -> Result<(), Error> {
    if starts_early() { systemctl::reach(UNIT) } else { Ok(()) }
}

/// Lays the host key. An sshd that has started before the layer came makes room for one with a host's settings, where there
/// are any: nobody is let in by older ones. What sshd has read of them.
pub(super) fn open() -> Result<Settings, Error> {
    let settings = settings();
    let starts_anew = starts_early() && !settings.are_none();
    if starts_anew {
        systemctl::stop(UNIT)?;
    }
    let key = Path::new(SHARE_MOUNT).join(layer::HOST_KEY);
    let new = Path::new(HOST_KEY).with_extension("new");
    symlink(&key, &new).map_err(Error::io("create", &new))?;
    fs::rename(&new, HOST_KEY).map_err(Error::io("create", HOST_KEY))?;
    if starts_anew {
        // Readiness waits for it.
        Jobs::begin()
            .and_then(|mut jobs| jobs.start(&[UNIT]))
            .or_else(|_| console::run("systemctl", &["start", "--no-block", UNIT]))?;
    }
    Ok(settings)
}

fn settings() -> Settings {
    Settings::read(Path::new(SETTINGS))
}

/// In a guest that runs: settings that are not those that sshd has read are in force, unless sshd would not take them. One
/// that has ended is started.
pub(super) fn renew(read: &mut Settings, notes: &mut Notes) {
    let (settings, runs) = (settings(), listens());
    if runs && settings == *read {
        return;
    }
    let taken = console::run("/usr/sbin/sshd", &["-t", "-f", CONFIG]);
    match taken.and_then(|()| listener().map_or_else(revive, reload)) {
        Ok(()) => *read = settings,
        Err(error) if runs => notes
            .warn(format!("sshd goes on with the settings that it has, and would not start again: {error}")),
        Err(error) => notes.warn(format!("sshd does not run: {error}")),
    }
}

fn reload(listener: Pid) -> Result<(), Error> {
    kill(listener, Signal::SIGHUP).map_err(Error::io("reload", UNIT))
}

/// Starts it though it has failed too often.
fn revive() -> Result<(), Error> {
    console::run("systemctl", &["reset-failed", UNIT])?;
    systemctl::reach(UNIT)
}

/// Waits until sshd listens. One that does not come up is systemd's to tell.
pub(super) fn await_listening(waiting: impl Fn(String)) -> Result<(), Error> {
    let begun = Instant::now();
    while !listens() {
        if begun.elapsed() > SLOW {
            waiting(UNIT.to_owned());
            return systemctl::reach(UNIT);
        }
        thread::sleep(POLL);
    }
    Ok(())
}

fn listens() -> bool {
    listener().is_some()
}

/// The process that listens.
fn listener() -> Option<Pid> {
    let process = fs::read_to_string(PID_FILE).ok()?.trim().parse().ok().map(Pid::from_raw)?;
    // One that was killed leaves the file.
    kill(process, None).is_ok().then_some(process)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn sshd_takes_keys_of_the_layer_and_those_that_a_user_has_added() {
        use std::process::Command;
        let dir = tempfile::tempdir().expect("tempdir");
        let (config, key) = (dir.path().join("sshd_config"), dir.path().join("key"));
        // A host's own settings are found here.
        let (place, own) =
            (dir.path().join("civm.d"), "Port 2200\nPidFile /elsewhere\nMaxSessions 5\nMaxStartups 5:50:9\n");
        fs::create_dir(&place).expect("mkdir");
        fs::write(place.join("own.conf"), own).expect("written");
        let text = super::config(&[]).replace(SETTINGS, &place.to_string_lossy());
        fs::write(&config, text).expect("written");
        let files = "/etc/ssh/authorized_keys.d/%u .ssh/authorized_keys";
        assert!(
            fs::read_to_string(&config).expect("written").contains(&format!("AuthorizedKeysFile {files}\n"))
        );
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
        if !made.is_ok_and(|made| made.success()) {
            return eprintln!("skipped: no ssh-keygen");
        }
        let option = format!("HostKey={}", key.display());
        // The first value of an option counts: a host key that this machine has.
        let shown = Command::new("/usr/sbin/sshd").args(["-T", "-o", &option, "-f"]).arg(&config).output();
        let Ok(shown) = shown else { return eprintln!("skipped: no sshd") };
        let text = String::from_utf8_lossy(&shown.stdout);
        let words = String::from_utf8_lossy(&shown.stderr);
        if !shown.status.success() && words.contains("privilege separation") {
            return eprintln!("skipped: this machine's sshd was never started");
        }
        let files = format!("authorizedkeysfile {files}");
        let pid_file = format!("pidfile {PID_FILE}");
        let own = ["port 22", "port 2200", "maxsessions 5", "maxstartups 5:50:9"];
        for line in [&files, &pid_file, "passwordauthentication no"].into_iter().chain(own) {
            assert!(text.lines().any(|found| found == line), "{line} in {text}{words}");
        }
    }

    #[test]
    fn only_an_sshd_that_knows_penalties_is_told_of_them() {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::create_dir_all(dir.path().join("usr/sbin")).expect("mkdir");
        let put = |binary: &[u8]| {
            fs::write(dir.path().join(BINARY), binary).expect("write");
            config(&read_binary(dir.path())).contains(NO_PENALTIES)
        };
        assert!(!put(b"\0maxstartups\0") && put(b"\0maxstartups\0persourcepenalties\0"));
    }

    #[test]
    fn a_stand_in_is_a_pipe_that_only_root_reads() {
        use std::os::unix::fs::FileTypeExt as _;
        let run = tempfile::tempdir().expect("tempdir");
        fs::create_dir(run.path().join("civm")).expect("mkdir");
        put_stand_in(run.path()).expect("made");
        let pipe = fs::metadata(run.path().join("civm/sshd_stand_in")).expect("there");
        assert!(pipe.file_type().is_fifo());
        assert_eq!(pipe.permissions().mode() & 0o777, 0o400);
        let link = fs::read_link(run.path().join("civm/ssh_host_ed25519_key")).expect("a link");
        assert_eq!(link, Path::new(STAND_IN));
    }

    #[test]
    fn a_stand_in_is_handed_to_one_reader_and_its_name_is_gone() {
        use std::io::Read as _;
        let dir = tempfile::tempdir().expect("tempdir");
        let pipe = dir.path().join("pipe");
        hand(&pipe).expect("nobody wants one");
        mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).expect("a pipe");
        let reader = thread::spawn({
            let pipe = pipe.clone();
            move || {
                let (mut end, mut text) = (fs::File::open(&pipe).expect("its reader"), String::new());
                end.read_exact(&mut [0]).expect("a first byte");
                let was_there = pipe.exists();
                end.read_to_string(&mut text).expect("the rest");
                (was_there, text)
            }
        });
        hand(&pipe).expect("handed");
        let (was_there, text) = reader.join().expect("read");
        assert!(!was_there, "another could have read it");
        assert!(ssh_key::PrivateKey::from_openssh(format!("-{text}")).is_ok());
    }

    #[test]
    fn settings_differ_by_what_a_link_leads_to() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (place, secret) = (dir.path().join("civm.d"), dir.path().join("secret"));
        assert!(Settings::read(&place).are_none(), "there are none");
        fs::create_dir(&place).expect("mkdir");
        symlink(&secret, place.join("own.conf")).expect("a link");
        let nowhere = Settings::read(&place);
        fs::write(&secret, "Banner one").expect("write");
        let one = Settings::read(&place);
        assert!(nowhere != one && one == Settings::read(&place));
        fs::write(&secret, "Banner two").expect("write");
        assert!(one != Settings::read(&place));
    }

    #[test]
    fn only_an_sshd_that_reads_its_key_for_each_connection_starts_early() {
        let dir = tempfile::tempdir().expect("tempdir");
        assert!(!can_start_early(dir.path(), &read_binary(dir.path())), "there is none");
        fs::create_dir_all(dir.path().join("usr/sbin")).expect("mkdir");
        for (binary, early) in [("\0sshd\0", true), ("\0/usr/lib/openssh/sshd-session\0", false)] {
            fs::write(dir.path().join(BINARY), binary).expect("write");
            assert_eq!(can_start_early(dir.path(), &read_binary(dir.path())), early);
        }
        fs::write(dir.path().join(BINARY), "\0sshd\0").expect("write");
        fs::create_dir_all(dir.path().join("etc/ssh/civm.d")).expect("mkdir");
        assert!(can_start_early(dir.path(), &read_binary(dir.path())), "no settings");
        fs::write(dir.path().join("etc/ssh/civm.d/own.conf"), "").expect("write");
        assert!(!can_start_early(dir.path(), &read_binary(dir.path())), "a host's settings");
        assert!(!unit(true).contains("civm-apply") && unit(false).contains("\nAfter=civm-apply.service\n"));
    }
}
