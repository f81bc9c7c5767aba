//! Templates: machines that were frozen at their guest's one point, for others of their kind to begin there. What a
//! template is good for is in its name.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::edge::environment::Environment;
use crate::edge::hex;
use crate::image::layout;
use crate::instance::accel::{AccelRequest, verdicts};
use crate::instance::error::Error;
use crate::instance::event::Event;
use crate::instance::launch::{self, Request};
use crate::instance::plan::{ConsoleLog, Machine, RAM, Template, Wiring};
use crate::instance::state::{Home, Place};
use crate::instance::supervise::Running;
use crate::vm::network::Network;
use crate::vm::spec::{Accel, Channel, Disk, MachineType, MemoryFile};
use crate::vm::{agent, argv};

/// Goes up with every change to how a template is made.
const VERSION: &str = "civm template 2";
/// How long a guest may take to come to its point.
const POINT: Duration = Duration::from_secs(180);
/// How long one that is resumed may take to become another one.
const RESUMED: Duration = Duration::from_secs(30);

/// Why a machine is never resumed from a template, if that is so.
#[must_use]
pub fn refusal(machine: &Machine) -> Option<&'static str> {
    if machine.machine_type != MachineType::Q35 {
        Some("only `machine: q35` tells its guest that it is another one")
    } else if !machine.extra_arguments.is_empty() {
        Some("QEMU is given other arguments")
    } else {
        None
    }
}

/// The name of the template of a machine: a hash of all that it is good for. Two machines of a name differ in nothing that a
/// guest has seen when it comes to its point.
///
/// # Errors
/// No QEMU, or a machine that cannot be.
pub fn name(
    machine: &Machine,
    image: &str,
    accel: Accel,
    environment: &Environment,
) -> Result<String, Error> {
    let qemu = launch::find_qemu(machine, environment)?;
    let channel = |number| Channel::Descriptor(number);
    let wiring = Wiring {
        console: channel(3),
        qmp: channel(4),
        agent: channel(5),
        share: PathBuf::from("/share"),
        disk_files: None,
        fence: None,
        memory_file: Some(MemoryFile { path: PathBuf::from("/ram"), private: false, resumed: false }),
    };
    let spec = generic(machine, Path::new("/disk"), false).spec(accel, None, wiring)?;
    let mut hash = Sha256::new();
    hash.update(VERSION);
    for argument in argv::render(&spec) {
        hash.update(argument.as_bytes());
        hash.update([0]);
    }
    let disk = machine.disk.as_ref().map_or(0, |disk| disk.size_mib);
    hash.update(format!("{image}\n{disk}\n{}", verdicts::file(&qemu).unwrap_or_default()));
    // Its features under KVM; the rate of its time stamp counter under TCG too.
    hash.update(verdicts::cpu(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()));
    Ok(hex::encode(&hash.finalize()[..16]))
}

/// The machine without what is particular to an instance.
fn generic(machine: &Machine, disk: &Path, is_overlay: bool) -> Machine {
    Machine {
        name: "template".to_owned(),
        forwards: Vec::new(),
        // Nothing gets in, and nothing out.
        network: Network::None,
        console_log: ConsoleLog::UntilReady,
        disk: machine.disk.as_ref().map(|shape| Disk {
            path: disk.to_owned(),
            ephemeral: is_overlay,
            ..shape.clone()
        }),
        ..machine.clone()
    }
}

/// Where a template is made.
#[derive(Clone, Copy, Debug)]
pub struct Workplace<'a> {
    /// What becomes the template's directory.
    pub directory: &'a Path,
    /// The disk of its machine, new.
    pub disk: &'a Path,
    /// A directory for what is needed meanwhile, in which nobody else has anything.
    pub scratch: &'a Path,
}

/// Boots a machine to its guest's one point with an empty share, and freezes it there.
///
/// # Errors
/// It does not come so far, or cannot be frozen. It has been stopped.
pub fn make(
    machine: &Machine,
    accel: Accel,
    workplace: Workplace<'_>,
    environment: &Environment,
    on: &mut dyn FnMut(&Event),
) -> Result<(), Error> {
    let directory = workplace.directory;
    let mut running =
        start(machine, accel, Template::Make(directory.to_owned()), workplace, environment, on)?;
    let waiting = "the guest has not come to its point";
    running.wait_for(POINT, waiting, |event| *event == Event::Frozen, on)?;
    running.wait_end(on);
    // QEMU as root runs as a user of its own, who made it.
    let ram = directory.join(RAM);
    let failed = |error| Error::file("cannot take over", &ram)(error);
    let file = fs::File::open(&ram).map_err(failed)?;
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    std::os::unix::fs::fchown(file, Some(uid), Some(gid)).map_err(failed)
}

/// Resumes a machine from its template with an empty share, until its guest has become another one; then it is ended.
///
/// # Errors
/// It cannot be resumed, or its guest stays what it was.
pub fn attempt(
    machine: &Machine,
    accel: Accel,
    workplace: Workplace<'_>,
    environment: &Environment,
) -> Result<(), Error> {
    let template = Template::Resume { directory: workplace.directory.to_owned(), required: true };
    let mut running = start(machine, accel, template, workplace, environment, &mut |_| {})?;
    let waiting = "the guest has not become another one";
    let is_past = |event: &Event| matches!(event, Event::Guest { report: agent::Event::Point { .. } });
    running.wait_for(RESUMED, waiting, is_past, &mut |_| {})?;
    running.kill();
    Ok(())
}

/// Starts a machine that is nobody's instance.
fn start(
    machine: &Machine,
    accel: Accel,
    template: Template,
    workplace: Workplace<'_>,
    environment: &Environment,
    on: &mut dyn FnMut(&Event),
) -> Result<Running, Error> {
    let Workplace { disk, scratch, .. } = workplace;
    let home = Home::find(&environment.clone().with("XDG_STATE_HOME", scratch))?;
    let place: Place = home.project(scratch)?.place("template")?;
    let mut machine = generic(machine, disk, matches!(template, Template::Resume { .. }));
    if matches!(template, Template::Make(_)) {
        machine.boot.append.push(layout::TEMPLATE_PARAMETER.to_owned());
    }
    let request = Request {
        home: &home,
        place: &place,
        host: "template",
        machine,
        accel: match accel {
            Accel::Kvm => AccelRequest::Kvm,
            Accel::Tcg => AccelRequest::Tcg,
        },
        qemu_as_root: false,
        staged: Vec::new(),
        template: Some(template),
        mode: None,
        environment,
    };
    launch::start(request, on)
}
