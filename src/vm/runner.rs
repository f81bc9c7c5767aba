//! A machine whose command line somebody else has written: the runner of a NixOS configuration.
//!
//! nixpkgs' `system.build.vm` is a shell script that ends as QEMU. What it does has changed over the years, so it counts
//! as an opaque program: it is told the rest by the variables that it has always read, and by arguments, which it puts
//! behind its own.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::vm::argv;
use crate::vm::network::Network;
use crate::vm::ports::Forward;
use crate::vm::spec::{Accel, Draft, Spec};

/// The variable that a share's source can refer to: the directory with the staged files.
pub const SHARE_VARIABLE: &str = "CIVM_SHARE";
/// What every runner calls its user network.
const NETDEV: &str = "user.0";
/// As for a machine of civm's own, but that the runner's arguments may ask QEMU to change its user.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=children,spawn=deny,resourcecontrol=deny";

/// A runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runner {
    /// The program.
    pub program: PathBuf,
    /// The QEMU that it runs, as far as that can be told.
    pub qemu: Option<PathBuf>,
    /// A directory for what it makes for one run.
    pub temporary: PathBuf,
    /// Virtual CPUs, where somebody wants others than the configuration.
    pub cpus: Option<u32>,
    /// Memory in MiB, likewise.
    pub memory_mib: Option<u32>,
}

/// How a runner is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Variables besides those of any program.
    pub variables: Vec<(&'static str, String)>,
    /// Arguments, which it gives to QEMU after all others.
    pub arguments: Vec<String>,
}

/// The call of a machine's runner.
#[must_use]
pub fn call(spec: &Spec, runner: &Runner) -> Call {
    let draft = spec.draft();
    let path = |path: &PathBuf| path.to_string_lossy().into_owned();
    let mut variables = vec![
        ("NIX_DISK_IMAGE", draft.disk.as_ref().map(|disk| path(&disk.path)).unwrap_or_default()),
        // Without the second one it makes a directory of its own below the first, and leaves it behind.
        ("TMPDIR", path(&runner.temporary)),
        ("USE_TMPDIR", "1".to_owned()),
        ("QEMU_OPTS", options(draft, runner)),
        ("QEMU_NET_OPTS", network_options(draft)),
    ];
    if let Some(share) = &draft.share {
        variables.push((SHARE_VARIABLE, path(&share.source)));
    }
    let mut arguments = ["-display", "none", "-sandbox", SANDBOX].map(str::to_owned).to_vec();
    argv::channels(draft, &mut arguments);
    argv::fence(draft, NETDEV, &mut arguments);
    arguments.extend(draft.extra_arguments.iter().cloned());
    Call { variables, arguments }
}

/// Words that win over those of the configuration: QEMU takes the last of each kind.
fn options(draft: &Draft, runner: &Runner) -> String {
    let mut words = match draft.accel {
        // `-enable-kvm` of the configuration loses to this, where `-accel` beside it would be an error.
        Accel::Tcg => "-machine accel=tcg -cpu max".to_owned(),
        Accel::Kvm => "-machine accel=kvm".to_owned(),
    };
    for (option, value) in [("-smp", runner.cpus), ("-m", runner.memory_mib)] {
        if let Some(value) = value {
            words.push_str(&format!(" {option} {value}"));
        }
    }
    words
}

/// What goes into the one `-netdev`.
fn network_options(draft: &Draft) -> String {
    let mut options: Vec<String> = Vec::new();
    if draft.network == Network::None {
        options.push("restrict=on".to_owned());
    }
    options.extend(draft.forwards.iter().map(|forward: &Forward| format!("hostfwd={}", forward.render())));
    options.join(",")
}

#[cfg(test)]
mod tests {
    use super::{Runner, call};
    use crate::vm::network::Network;
    use crate::vm::ports::Forward;
    use crate::vm::spec::{Accel, Channel, Draft, Spec, sample};

    fn draft() -> (Draft, Runner) {
        let runner = Runner {
            program: "/nix/store/x/bin/run-builder-vm".into(),
            qemu: None,
            temporary: "/state/runner".into(),
            cpus: None,
            memory_mib: None,
        };
        let mut draft = sample();
        draft.console.channel = Channel::Descriptor(4);
        draft.runner = Some(runner.clone());
        (draft, runner)
    }

    fn variable(draft: Draft, runner: &Runner, name: &str) -> String {
        let call = call(&Spec::new(draft, None).unwrap(), runner);
        call.variables.into_iter().find(|(known, _)| *known == name).unwrap().1
    }

    #[test]
    fn a_runner_is_told_where_its_disk_its_share_and_its_files_are() {
        let (draft, runner) = draft();
        let call = call(&Spec::new(draft, None).unwrap(), &runner);
        let variables: Vec<String> =
            call.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            variables,
            [
                "NIX_DISK_IMAGE=/project/builder.qcow2",
                "TMPDIR=/state/runner",
                "USE_TMPDIR=1",
                "QEMU_OPTS=-machine accel=tcg -cpu max",
                "QEMU_NET_OPTS=hostfwd=tcp:127.0.0.1:2322-:22",
                "CIVM_SHARE=/run/user/1000/civm/0f/share",
            ]
        );
        let line = call.arguments.join(" ");
        for part in [
            "-chardev socket,id=console,fd=4 -serial chardev:console",
            "-mon chardev=qmp,mode=control",
            "-object filter-redirector,id=fence,netdev=user.0,",
            "virtserialport,chardev=agent",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
        for part in ["-kernel", "-drive", "-blockdev", "-netdev", "-m "] {
            assert!(!line.contains(part), "{part}: {line}");
        }
    }

    #[test]
    fn what_somebody_asks_for_comes_after_what_the_configuration_says() {
        let (draft, mut runner) = draft();
        (runner.cpus, runner.memory_mib) = (Some(8), Some(4096));
        let more = Draft { accel: Accel::Kvm, ..draft.clone() };
        let arch = crate::vm::spec::Arch::X86_64;
        let call = call(&Spec::new(more, Some(arch)).unwrap(), &runner);
        assert_eq!(call.variables[3].1, "-machine accel=kvm -smp 8 -m 4096");
        let mut closed = draft;
        (closed.network, closed.fence) = (Network::None, None);
        closed.forwards = vec![Forward::loopback(0, 22), Forward::loopback(8081, 80)];
        assert_eq!(
            variable(closed, &runner, "QEMU_NET_OPTS"),
            "restrict=on,hostfwd=tcp:127.0.0.1:0-:22,hostfwd=tcp:127.0.0.1:8081-:80"
        );
    }
}
