//! The civm that a remote runs, and the one for its guest: by their hash, sent where they are not there.

use std::io;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use super::{Link, Target};
use crate::builder::keeper::reason::{Kind, Reason};
use crate::builder::push::{self, Binary, Probe, Program};
use crate::builder::ssh::child::{STACK, Ssh};
use crate::host::spec::Arch;
use crate::instance::deadline::scaled;

/// How long a binary may be on its way.
const PUSH: Duration = Duration::from_secs(300);
/// What the script of a push may answer.
const ANSWER_MAX: u64 = 64 << 10;

impl Link {
    /// The program to be run there: ours, pushed if need be, or theirs where we have none for such a machine.
    pub(super) fn program(
        &mut self,
        arch: Arch,
        probe: &Probe,
        target: &Target<'_>,
        tell: &mut dyn FnMut(String),
    ) -> Result<Program, Reason> {
        let remote = &self.access.remote;
        let binary = match target.binaries.get(arch, target.environment) {
            Ok(binary) => binary,
            Err(error) => {
                if let Some(path) = &probe.civm {
                    return Ok(Program::Theirs(path.clone()));
                }
                let message =
                    format!("{remote} is an {arch} machine, and there is no civm for it here: {error}");
                return Err(Reason::new(Kind::Binary, message).hint(format!(
                    "build one (docs/aarch64.md), or install civm {} there",
                    env!("CARGO_PKG_VERSION")
                )));
            }
        };
        if !probe.has(&binary, remote)? {
            tell(format!("sending civm to {remote} ({} MB)", binary.size.div_ceil(1_000_000)));
            self.push(&binary, false, &probe.cache, target)?;
        }
        Ok(Program::Pushed(binary.sha256.clone()))
    }

    /// The hash of the civm for a guest that is of another kind than the remote. Where there is none here, the remote
    /// looks for one of its own, and says if it has none.
    pub(super) fn guest(
        &mut self,
        probe: &Probe,
        target: &Target<'_>,
        tell: &mut dyn FnMut(String),
    ) -> Result<Option<String>, Reason> {
        let Ok(binary) = target.binaries.get(target.arch, target.environment) else { return Ok(None) };
        if probe.whole(&binary).is_none() {
            tell(format!("sending civm for {} guests to {}", target.arch, self.access.remote));
            self.push(&binary, true, &probe.cache, target)?;
        }
        Ok(Some(binary.sha256.clone()))
    }

    fn push(
        &self,
        binary: &Binary,
        for_guests: bool,
        cache: &str,
        target: &Target<'_>,
    ) -> Result<(), Reason> {
        let local = |error: io::Error| Reason::new(Kind::Local, format!("cannot read civm itself: {error}"));
        let file = binary.open().map_err(local)?;
        let arguments = self.access.session(&push::receive(binary, for_guests));
        let ssh = Ssh::start(&arguments, file.into(), Stdio::piped(), target.environment, target.cut)?;
        let (_, stdout) = ssh.pipes();
        let read = stdout.map(|stdout| {
            // The other end may stand still: the deadline ends the ssh, and with it this pipe.
            thread::Builder::new()
                .name("push".into())
                .stack_size(STACK)
                .spawn(move || push::read_bounded(stdout, ANSWER_MAX).unwrap_or_default())
        });
        let status = ssh.wait(Instant::now() + scaled(PUSH, target.environment));
        let answer = read.and_then(Result::ok).and_then(|thread| thread.join().ok()).unwrap_or_default();
        let stderr = ssh.said();
        let remote = &self.access.remote;
        match status.and_then(|status| status.code()) {
            Some(255) | None => Err(self.access.reason(status.and_then(|status| status.code()), &stderr)),
            _ => push::received(&answer, &stderr, binary, cache, remote),
        }
    }
}
