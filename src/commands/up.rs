//! `civm up`: secrets, image, disk, share, boot. The only command that combines secrets and machines.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Context, instance, project};
use crate::cli::up::{Accel, Up};
use crate::edge::terminal;
use crate::host::project::Project;
use crate::host::spec::{Size, Spec};
use crate::image::Image;
use crate::instance::accel::AccelRequest;
use crate::instance::console::{self, Input, Left};
use crate::instance::plan::{ConsoleLog, Machine};
use crate::instance::{Home, Place, ProjectState, Request, Running, launch, ssh, start, stop};
use crate::outcome::{Code, Failure, Outcome};
use crate::vm::spec::{self as machine, Boot};

mod accounts;
mod disk;
mod identity;
mod image;
mod progress;
mod share;
mod turn;

use disk::RootDisk;
pub(super) use image::cache as image_cache;
use progress::Progress;

/// How long a guest may take to be ready, before `CIVM_TIMEOUT_SCALE`: a large machine without KVM needs a
/// minute.
const READY: Duration = Duration::from_secs(240);

pub(super) fn run(args: &Up, context: &Context) -> Outcome {
    let begun = Instant::now();
    let project = project::find(context)?;
    let mut spec = resources(project::load(&project, &args.host)?, args)?;
    let home = Home::find(&context.environment).map_err(instance::failure)?;
    let state = home.project(project.root()).map_err(instance::failure)?;
    let place = state.place(&spec.name).map_err(instance::failure)?;
    if args.print_command {
        return print_command(args, &project, &spec, &place, context);
    }
    let turn = turn::take(&place, context)?;
    if turn::is_ready(&place, context)? {
        context.screen.note(format!("{} is already running; `civm ssh {}` logs in", spec.name, spec.name));
        return Ok(0);
    }

    // Impossible requests are refused first; then come the steps that may need a person, and then those that take minutes.
    let disk = RootDisk::find(args, &project, &spec, &place, context)?;
    let draft = describe(&spec, None, &disk.path, args);
    launch::check(&home, &draft, &context.environment, &mut |_| {}).map_err(instance::failure)?;
    let rootfs = project.rootfs(&spec).map_err(project::failure)?;
    tell_unlisted(&spec, context);
    let identity = identity::host_key(args, &project, &mut spec, &place, context)?;
    let image = image::ensure(&spec, context)?;
    accounts::check(&spec, &image, &rootfs, disk.exists(), context)?;
    let unstarted = disk.make(&spec, &image, &place, context)?;
    let machine = describe(&spec, Some(&image), &disk.path, args);

    ssh::pin(&place, &identity.public).map_err(instance::failure)?;
    let staged = share::staged(&project, &spec, &state, identity, rootfs, &context.environment)?;
    let mut progress = Progress::new(context.screen, &spec.name);
    let accel = match args.accel {
        Accel::Auto => AccelRequest::Auto,
        Accel::Kvm => AccelRequest::Kvm,
        Accel::Tcg => AccelRequest::Tcg,
    };
    let request = Request {
        home: &home,
        place: &place,
        machine,
        accel,
        qemu_as_root: args.qemu_as_root,
        staged,
        mode: None,
        environment: &context.environment,
    };
    let mut running = start(request, &mut |event| progress.tell(event)).map_err(instance::failure)?;
    drop(unstarted);
    let ready = wait(&mut running, &state, &place, context, &mut progress);
    progress.finish();
    ready?;
    context.screen.note(format!("{} is ready in {:.1} s", spec.name, begun.elapsed().as_secs_f32()));
    drop(turn);
    if args.detach {
        running.detach().map_err(instance::failure)?;
        return Ok(0);
    }
    foreground(running, &spec, &place, context)
}

/// Applies `--cpus` and `--memory`, which override host.yaml.
fn resources(spec: Spec, args: &Up) -> Result<Spec, Failure> {
    let wrong = |why: String| Failure::new(Code::CouldNotReadInput, why);
    let memory = args
        .memory
        .as_deref()
        .map(|text| Size::parse(text).map_err(|why| wrong(format!("--memory {text}: {why}"))));
    spec.with_resources(args.cpus, memory.transpose()?).map_err(wrong)
}

/// Prints the command that would be run, without creating or starting anything, and says what does not exist yet.
fn print_command(args: &Up, project: &Project, spec: &Spec, place: &Place, context: &Context) -> Outcome {
    let (image, is_built) = image::locate(spec, context)?;
    let disk = RootDisk::find(args, project, spec, place, context)?;
    let machine = describe(spec, Some(&image), &disk.path, args);
    let accel = if args.accel == Accel::Kvm { machine::Accel::Kvm } else { machine::Accel::Tcg };
    let line = launch::command_line(&machine, accel, place, &context.environment);
    context.screen.line(line.map_err(instance::failure)?)?;
    let missing: Vec<&str> = [(is_built, "its image"), (disk.exists(), "its disk")]
        .into_iter()
        .filter_map(|(there, what)| (!there).then_some(what))
        .collect();
    if !missing.is_empty() {
        let words = missing.join(" and ");
        context.screen.note(format!("{words} will be created by the first `civm up {}`", spec.name));
    }
    context.screen.note("run by hand, the guest gets an empty share: no host key, users or secrets");
    Ok(0)
}

/// Secrets that are in the file but are not installed in the guest.
fn tell_unlisted(spec: &Spec, context: &Context) {
    let (Some(owner), false) = (&spec.secrets_host, spec.unlisted_secrets.is_empty()) else { return };
    context.screen.note(format!(
        "not installed, because `secrets:` in host.yaml does not list them: {} (hosts/{owner}/secrets.yaml)",
        spec.unlisted_secrets.join(", ")
    ));
}

/// Stands in for an image that does not exist yet, while the rest of a machine is checked.
fn nothing_yet() -> Boot {
    Boot { kernel: PathBuf::from("/"), initrd: None, append: Vec::new() }
}

/// The machine as the `instance` module needs it; without an image, only for validation.
fn describe(spec: &Spec, image: Option<&Image>, disk: &Path, args: &Up) -> Machine {
    let size_mib = spec.disk.in_mebibytes();
    Machine {
        name: spec.name.clone(),
        arch: spec.arch,
        cpus: spec.cpus,
        memory_mib: u32::try_from(spec.memory.in_mebibytes()).unwrap_or(u32::MAX),
        boot: image.map_or_else(nothing_yet, |image| Boot {
            kernel: image.kernel.clone(),
            initrd: Some(image.initrd.clone()),
            append: image.append.clone(),
        }),
        disk: Some(machine::Disk { path: disk.to_path_buf(), size_mib, ephemeral: args.ephemeral }),
        forwards: spec.forwards.clone(),
        network: spec.network,
        share_tag: crate::host::layer::SHARE_TAG.to_owned(),
        console_log: if spec.console_log { ConsoleLog::Always } else { ConsoleLog::UntilReady },
    }
}

/// Waits until the guest reports that it is ready and a login works, with the staged host key.
fn wait(
    running: &mut Running,
    state: &ProjectState,
    place: &Place,
    context: &Context,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let login = place.record().and_then(|record| ssh::Login::new(state, place, &record, "root").ok());
    running
        .wait_ready(READY, login.as_ref(), &mut |event| progress.tell(event))
        .map_err(|error| instance::failure(error).help(format!("the logs are in `{}`", place.path.display())))
        .inspect_err(|_| context.screen.detail("the machine has been stopped"))
}

/// Shows the console until the user detaches or the machine stops. A machine in the foreground is stopped with it.
fn foreground(running: Running, spec: &Spec, place: &Place, context: &Context) -> Outcome {
    if terminal::stdin_is_terminal() {
        let what = if spec.console_login { "a root shell on the console" } else { "the console" };
        context.screen.note(format!("{what}; {} detaches and stops the machine", console::ESCAPE_NAME));
    }
    let left = match place.running().map_err(instance::failure)? {
        Some(record) => {
            console::attach(&record, Input::Ignored, &mut io::stdout()).map_err(instance::failure)?
        }
        None => Left::Ended,
    };
    if left != Left::Ended {
        context.screen.note(format!("\nstopping {}", spec.name));
        stop::down(place, stop::Patience::Usual(stop::GUEST), &context.environment, &mut |_| {})
            .map_err(instance::failure)?;
    }
    let reason = running.wait_end(&mut |_| {});
    context.screen.note(format!("{}: {reason}", spec.name));
    match left {
        Left::Signal(signal) => Ok(u8::try_from(128 + signal).unwrap_or(Code::Generic as u8)),
        _ => Ok(0),
    }
}
