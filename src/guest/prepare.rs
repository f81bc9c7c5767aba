//! What a machine that is to become a template does at the point: whatever every instance does next, and does the same. A
//! boot does it later; who is resumed from a template finds it done.

use std::process::{Command, Stdio};

use super::{Error, console, settle, sshd, systemctl, units};

/// Programs that every instance runs next, called so that they do nothing of their own: they and their libraries are in
/// memory then.
const NEXT: [(&str, &[&str]); 8] = [
    // Without a host key it says so, and ends.
    ("/usr/sbin/sshd", &["-t", "-f", "/run/civm/sshd_config"]),
    ("/bin/bash", &["-lc", "true"]),
    ("systemctl", &["--version"]),
    // The group of every host with secrets.
    ("groupadd", &["-r", "-f", "--", "keys"]),
    ("useradd", &["-D"]),
    // Of an image that has it: the first thing that a builder does.
    ("nix-daemon", &["--version"]),
    ("mkswap", &["--version"]),
    ("swapon", &["--version"]),
];

/// Does it, when the boot up to there is over. What fails of most of it is tried again when its turn comes.
pub(super) fn prepare() -> Result<(), Error> {
    let tell = |error: Error| console::log(&format!("while waiting: {error}"));
    settle::grow_disk().unwrap_or_else(tell);
    settle::load_drivers(&["zram"]).unwrap_or_else(tell);
    systemctl::reach(units::BASIC)?;
    // No instance is made of a machine whose sshd does not listen. The one that is called below would read its pipe.
    sshd::settle_early()?;
    for (program, args) in NEXT {
        let mut command = Command::new(program);
        let _ = command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
    nix::unistd::sync();
    Ok(())
}
