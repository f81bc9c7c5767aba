//! The inside of a guest: PID 1 of its initrd, the host layer, readiness.
//!
//! One binary plays every part: the kernel starts it as `/init`, systemd as `civm guest <verb>`.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use crate::image::layout;

mod agent;
mod apply;
mod artifacts;
mod console;
mod devices;
mod error;
mod events;
mod files;
mod force;
mod host_clock;
mod identity;
mod init;
mod journal;
mod manager;
mod modules;
mod network;
mod notes;
mod own_units;
mod packages;
mod point;
mod prepare;
mod root;
mod secrets;
mod settle;
mod share;
mod source;
mod sshd;
mod state;
mod steps;
mod sysctls;
mod systemctl;
mod units;
mod usage;
mod users;

use error::Error;

/// What PID 1 of the initrd is called.
const INIT: &str = "/init";

/// Runs the guest's part that the arguments (with the program's name) ask for; `None` where they ask
/// for none of them.
#[must_use]
pub fn dispatch(args: &[OsString]) -> Option<ExitCode> {
    let args: Vec<&str> = args.iter().map(|arg| arg.to_str().unwrap_or_default()).collect();
    let done = match args[..] {
        [INIT, ..] if std::process::id() == 1 => init::run(),
        [_, "guest", "chroot", root, program, ref args @ ..] => {
            console::log(&root::chroot_exec(root, program, args).to_string());
            return Some(ExitCode::from(root::NOT_RUN));
        }
        // Whoever calls them elsewhere would change the machine they sit at.
        [_, "guest", ..] if !is_guest() => return None,
        [_, "guest", "agent"] => agent::run(),
        [_, "guest", "apply"] => apply::run(),
        [_, "guest", "change", job] => apply::again(job),
        [_, "guest", "packages"] => packages::install(),
        [_, "guest", "journal"] => journal::run(),
        [_, "guest", "ready"] => settle::await_end(),
        [_, "guest", "failed", unit] => {
            settle::failed(unit);
            Ok(())
        }
        _ => return None,
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::log(&error.to_string());
            ExitCode::FAILURE
        }
    })
}

/// Tells systemd that what the unit is for is there.
fn notify_ready() {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        console::log(&format!("cannot notify systemd: {error}"));
    }
}

/// Whether PID 1 of the initrd has put the guest's side in its place.
fn is_guest() -> bool {
    Path::new(layout::RUN_DIR).join(layout::EARLY_MODULES).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_guests_own_verbs_are_taken() {
        let ask = |words: &[&str]| dispatch(&words.iter().map(OsString::from).collect::<Vec<_>>()).is_some();
        assert!(!ask(&["civm"]) && !ask(&["civm", "up", "guest"]) && !ask(&["civm", "guest", "dance"]));
        assert!(!ask(&["civm", "guest", "apply"]), "only inside a guest");
        assert!(!ask(&["/init"]), "only as PID 1");
    }
}
