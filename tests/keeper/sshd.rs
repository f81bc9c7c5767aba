//! The sshd of a machine that lends itself.

use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::unistd::Uid;

use crate::scene::{LENDER, wait_until};

const SSHD: &str = "/usr/sbin/sshd";

/// Why these tests cannot be run here.
pub fn cannot_run() -> Option<String> {
    if !Path::new(SSHD).exists() {
        return Some("there is no sshd: install openssh-server".into());
    }
    if Uid::effective().is_root() && !has(LENDER) {
        return Some(format!("root needs another user to log in as: `useradd {LENDER}`"));
    }
    None
}

fn has(user: &str) -> bool {
    Command::new("id")
        .arg(user)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// A command as the lender.
pub fn as_lender(program: &str) -> Command {
    if !Uid::effective().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", LENDER, "--regid", LENDER, "--init-groups", "--reset-env", "--", program]);
    command
}

/// Starts it, and waits until it listens.
pub fn start_sshd(dir: &Path, port: u16) -> Child {
    let mut child = as_lender(SSHD)
        .args(["-D", "-f"].map(OsStr::new))
        .arg(dir.join("sshd_config"))
        .arg("-E")
        .arg(dir.join("log"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("sshd listens", || {
        if let Some(status) = child.try_wait().unwrap() {
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("sshd: {status} {said} {}", fs::read_to_string(dir.join("log")).unwrap_or_default());
        }
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    });
    child
}
