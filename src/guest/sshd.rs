//! The guest's sshd: its configuration, its unit, and the key that lets it answer.
//!
//! Its host key is laid last, when users and secrets are there: whoever gets in finds them. Until then sshd, if it runs,
//! closes every connection. It does run in a machine that is to become a template, so that an instance need not start it:
//! the listening process does nothing but accept and start a new sshd for each connection, which reads the key and has
//! addresses of its own. Newer versions keep the host key in the process that listens; those start when the key is there.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::OsRng;

use super::notes::Notes;
use super::{Error, console, files, systemctl};
use crate::host::layer::{self, SHARE_MOUNT};
use crate::keys::ssh::host_key;
use crate::vm::agent::answer::What;

/// Its unit.
pub(super) const UNIT: &str = "civm-sshd.service";
/// Where its configuration lies.
pub(super) const CONFIG: &str = "/run/civm/sshd_config";
/// Where it looks for its host key: a link to the one in the share's place, once the guest is ready for logins.
pub(super) const HOST_KEY: &str = "/run/civm/ssh_host_ed25519_key";
/// Written when it listens.
const PID_FILE: &str = "/run/sshd.pid";
/// Settings of a host's own, or of an image's.
const SETTINGS: &str = "/etc/ssh/civm.d";
/// Where sshd lies, below the root.
const BINARY: &str = "usr/sbin/sshd";
/// The program that newer versions start for a connection, as its name stands in their binary.
const SESSION_WORD: &[u8] = b"sshd-session";

/// sshd as every guest has it: keys alone, those of the layer and those that a user has added. Dozens of logins may
/// come at once, and as many sessions over one connection.
/// A host's own settings come first, since sshd takes the first value of each. All clients come from one
/// address, that of the gateway, and a build farm's are many.
const SETTINGS_OF_ALL: &str = "MaxStartups 300:30:600\n\
    MaxSessions 1000\n\
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
/// How long a machine that waits at the point waits for it.
const WITHIN: Duration = Duration::from_secs(60);

/// What the sshd of a disk is given.
pub(super) fn config(root: &Path) -> String {
    let binary = fs::read(root.join(BINARY)).unwrap_or_default();
    let penalties = memchr::memmem::find(&binary, PENALTIES_WORD).map_or("", |_| NO_PENALTIES);
    format!(
        "Include /etc/ssh/civm.d/*.conf\nHostKey {HOST_KEY}\nPidFile {PID_FILE}\n\
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
         ExecStart=/usr/sbin/sshd -D -e -f {CONFIG}\nExecReload=/bin/kill -HUP $MAINPID\n\
         Restart=on-failure\nTimeoutStopSec=5\nSendSIGHUP=yes\nLimitNOFILE=32768\n"
    )
}

/// Whether the sshd of a disk reads its host key anew for each connection.
pub(super) fn can_start_early(root: &Path) -> bool {
    fs::read(root.join(BINARY)).is_ok_and(|binary| memchr::memmem::find(&binary, SESSION_WORD).is_none())
}

/// A key that sshd starts with: without any it would not. It is made anew for each template, and gone before the machine
/// is frozen.
pub(super) fn put_stand_in(path: &Path) -> Result<(), Error> {
    let unwritable = |error: &dyn ToString| Error::content(path, error.to_string());
    let key = host_key::HostKey::generate(&mut OsRng, "").map_err(|error| unwritable(&error))?;
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o400).open(path);
    let write = |mut file: fs::File| file.write_all(key.private().as_bytes());
    file.and_then(write).map_err(Error::io("write", path))
}

/// Waits until sshd listens that was started before the point, and takes its stand-in away.
pub(super) fn settle_early() -> Result<(), Error> {
    if Path::new(HOST_KEY).symlink_metadata().is_err() {
        return Ok(());
    }
    let until = Instant::now() + WITHIN;
    while !listens() {
        if Instant::now() > until {
            return Err(Error::content(UNIT, "does not listen"));
        }
        thread::sleep(POLL);
    }
    // Of the file nothing stays in the memory that is frozen; sshd itself has the key, which nobody uses.
    let failed = || Error::io("write", HOST_KEY);
    let mut file = fs::OpenOptions::new().write(true).open(HOST_KEY).map_err(failed())?;
    let length = file.metadata().map_err(failed())?.len();
    io::copy(&mut io::repeat(0).take(length), &mut file).map_err(failed())?;
    fs::remove_file(HOST_KEY).map_err(Error::io("remove", HOST_KEY))
}

/// Lays the host key. An sshd that listens since before the layer came makes room for one with a host's settings, where there
/// are any: nobody is let in by older ones.
pub(super) fn open() -> Result<(), Error> {
    files::remove(Path::new(HOST_KEY))?;
    let has_settings = fs::read_dir(SETTINGS).is_ok_and(|mut settings| settings.next().is_some());
    let starts_anew = has_settings && listens();
    if starts_anew {
        console::run("systemctl", &["stop", UNIT])?;
    }
    let key = Path::new(SHARE_MOUNT).join(layer::HOST_KEY);
    symlink(&key, HOST_KEY).map_err(Error::io("create", HOST_KEY))?;
    if starts_anew {
        console::run("systemctl", &["start", "--no-block", UNIT])?;
    }
    Ok(())
}

/// In a guest that runs: settings that have changed are in force, unless sshd would not take them.
pub(super) fn settings_changed(notes: &mut Notes) {
    let is_setting = |name: &str| Path::new(name).starts_with(SETTINGS);
    if !notes.changes.iter().any(|change| change.what == What::File && is_setting(&change.name)) {
        return;
    }
    let taken = console::run("/usr/sbin/sshd", &["-t", "-f", CONFIG]);
    let reload = |listener| kill(listener, Signal::SIGHUP).map_err(Error::io("reload", UNIT));
    let reloaded = taken.and_then(|()| listener().map_or(Ok(()), reload));
    if let Err(error) = reloaded {
        notes.warn(format!("sshd goes on with the settings that it has, and would not start again: {error}"));
    }
}

/// Waits until sshd listens. One that does not come up is systemd's to tell.
pub(super) fn await_listening(waiting: impl Fn(String)) -> Result<(), Error> {
    let begun = Instant::now();
    while !listens() {
        if begun.elapsed() > SLOW {
            waiting(UNIT.to_owned());
            return systemctl::await_start(UNIT);
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
    fs::read_to_string(PID_FILE).ok()?.trim().parse().ok().map(Pid::from_raw)
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
        fs::write(&config, super::config(dir.path())).expect("written");
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
        for line in [files.as_str(), "passwordauthentication no"] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}{words}");
        }
    }

    #[test]
    fn only_an_sshd_that_knows_penalties_is_told_of_them() {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::create_dir_all(dir.path().join("usr/sbin")).expect("mkdir");
        let put = |binary: &[u8]| {
            fs::write(dir.path().join(BINARY), binary).expect("write");
            config(dir.path()).contains(NO_PENALTIES)
        };
        assert!(!put(b"\0maxstartups\0") && put(b"\0maxstartups\0persourcepenalties\0"));
    }

    #[test]
    fn a_stand_in_is_a_key_that_only_root_reads() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("key");
        put_stand_in(&path).expect("written");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o400);
        let text = fs::read_to_string(&path).expect("read");
        assert!(ssh_key::PrivateKey::from_openssh(&text).is_ok());
        assert!(put_stand_in(&path).is_err(), "one that is there stays");
    }

    #[test]
    fn only_an_sshd_that_reads_its_key_for_each_connection_starts_early() {
        let dir = tempfile::tempdir().expect("tempdir");
        assert!(!can_start_early(dir.path()), "there is none");
        fs::create_dir_all(dir.path().join("usr/sbin")).expect("mkdir");
        for (binary, early) in [("\0sshd\0", true), ("\0/usr/lib/openssh/sshd-session\0", false)] {
            fs::write(dir.path().join(BINARY), binary).expect("write");
            assert_eq!(can_start_early(dir.path()), early);
        }
        assert!(!unit(true).contains("civm-apply") && unit(false).contains("\nAfter=civm-apply.service\n"));
    }
}
