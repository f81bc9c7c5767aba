//! `civm guest apply`: everything that is particular to the instance, in one place of the boot; and `civm guest
//! change`, the same in a guest that runs.
//!
//! Both read the layer that lies in the share now and bring the guest in line with it. In a guest that runs, the
//! difference is found first, without changing anything: it tells what is to be restarted, and that is written down
//! before the first change, so that an apply that is cut off is made up for by the next.

use std::fs::{self, File};
use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::files::Overlay;
use super::force::{self, InForce};
use super::manager::Jobs;
use super::notes::Notes;
use super::state::{self, State};
use super::{
    Error, artifacts, console, events, files, identity, journal, own_units, packages, point, secrets, settle,
    share, source, sshd, steps, sysctls, systemctl, units, users,
};
use crate::edge::lock::Lock;
use crate::host::layer::{Layer, ROOTFS};
use crate::host::rootfs::{Entry, Kind};
use crate::vm::agent::Event;
use crate::vm::agent::answer::{Answer, Changes, How, Step, Verb, What};

/// Where answers lie until the agent takes them.
pub(super) const ANSWERS: &str = "/run/civm/answers";
/// The part of a job's name that asks for the difference alone.
pub(super) const DRY_RUN: &str = "dry-run";
const LOCK: &str = "/run/civm/apply.lock";

/// Applies the layer at boot and reports how it went.
pub(super) fn run() -> Result<(), Error> {
    // What comes before is the same for every instance of an image.
    let applied = point::pass().and_then(boot).inspect_err(|error| {
        settle::begin_journal();
        if settle::first_failure() {
            console::say(&format!("cannot apply the host layer: {error}"));
            events::send(&Event::Failed { message: format!("the host layer: {error}") });
        }
    });
    // What follows needs no program to be started anew, which takes time where the processor is emulated.
    let (layer, jobs) = applied?;
    settle::run(&layer, jobs)
}

/// The layer that is in force then, and what systemd was asked for meanwhile. The layer comes after
/// what the image does on the way up, unless that is known to be `over`.
fn boot(over: bool) -> Result<(Layer, io::Result<Jobs>), Error> {
    let _lock = lock()?;
    let jobs = Jobs::begin();
    share::mount_share()?;
    share::take_key()?;
    events::send(&Event::KeyTaken);
    // systemd has something to do on another processor meanwhile: where that is emulated, it is translated.
    let jobs = jobs.and_then(|mut jobs| jobs.start(&[sshd::UNIT]).map(|()| jobs));
    let layer = share::read_layer()?;
    let mut force = InForce::default();
    let mut notes = Notes::default();
    let (done, opened) = thread::scope(|scope| {
        let opening = scope.spawn(|| secrets::open(&layer));
        if !over {
            // Whatever failed of that may be what the layer mends.
            systemctl::reach(units::SYSINIT).unwrap_or_else(|error| console::log(&error.to_string()));
        }
        let done = bring(&layer, &mut force, false, &mut notes);
        (done, opening.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    if packages::are_outgrown() {
        // What is missing may come with packages: it is laid once more then.
        notes.warnings.drain(..).for_each(|message| console::log(&message));
    }
    warn(notes);
    if done? {
        console::run("systemctl", &["daemon-reload"])?;
    }
    journal::may_begin()?;
    force.layer = layer;
    force.save(Path::new(force::PATH))?;
    events::send(&Event::LayerApplied);
    let opened = opened?;
    if packages::are_outgrown() && !opened.as_ref().map_or(Ok(true), secrets::Opened::has_owners)? {
        // Its owner comes with a package, as that of a database does. It is told in time where that takes long.
        settle::begin_journal();
        packages::catch_up(&force.layer, packages::Patience::End)?;
        bring_again(&mut force)?;
        force.save(Path::new(force::PATH))?;
    }
    let installed = secrets::apply(&force.layer, opened, false, &mut Notes::default())?;
    if let Some((count, recipient)) = installed {
        events::send(&Event::SecretsInstalled { count, recipient });
    }
    force.sshd = sshd::open()?;
    if !force.sshd.are_none() {
        force.save(Path::new(force::PATH))?;
    }
    Ok((force.layer, jobs))
}

/// Lays the layer that is in force once more when packages have come: its owners, sudo, a time zone may have come with them.
/// Afterwards an apply may have brought another one than the boot's.
pub(super) fn complete() -> Result<(), Error> {
    let file = File::create(LOCK).map_err(Error::io("create", LOCK))?;
    let _lock = Lock::wait(file).map_err(Error::io("lock", LOCK))?;
    let path = Path::new(force::PATH);
    let mut force = InForce::load(path)?;
    bring_again(&mut force)?;
    force.save(path)
}

fn bring_again(force: &mut InForce) -> Result<(), Error> {
    let (layer, mut notes) = (force.layer.clone(), Notes::default());
    let done = bring(&layer, force, false, &mut notes);
    warn(notes);
    if done? { console::run("systemctl", &["daemon-reload"]) } else { Ok(()) }
}

fn warn(notes: Notes) {
    for message in notes.warnings {
        events::send(&Event::Warning { message });
    }
}

/// Applies the layer in a guest that runs. The answer is left for the agent.
pub(super) fn again(job: &str) -> Result<(), Error> {
    let answer = match change(job.starts_with(DRY_RUN)) {
        Ok(changes) => Answer::Applied(changes),
        Err(error) => Answer::Refused { reason: error.to_string() },
    };
    let path = answer_path(job)?;
    let text =
        serde_json::to_vec(&answer.bounded()).map_err(|error| Error::content(&path, error.to_string()))?;
    fs::create_dir_all(ANSWERS).map_err(Error::io("create", ANSWERS))?;
    files::write(&path, &text, 0o600)
}

/// Where the answer of a job is left.
pub(super) fn answer_path(job: &str) -> Result<PathBuf, Error> {
    if job.is_empty() || !job.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(Error::content(job, "is not a name of a job"));
    }
    Ok(Path::new(ANSWERS).join(format!("{job}.json")))
}

fn change(dry_run: bool) -> Result<Changes, Error> {
    let _lock = lock()?;
    let layer = share::read_layer()?;
    let path = Path::new(force::PATH);
    let mut force = InForce::load(path)?;
    let mut notes = Notes::default();
    bring(&layer, &mut force, true, &mut notes)?;
    if layer.zram != force.layer.zram {
        notes.restart_for.push("swap in memory (zram)".to_owned());
    }
    let same_key = layer.machine_id == force.layer.machine_id;
    if same_key {
        secrets::apply(&layer, secrets::open(&layer)?, true, &mut notes)?;
    } else {
        // The key that the guest took opens the secrets that were staged with it.
        notes.restart_for.push("the ssh host key, and with it the secrets".to_owned());
    }
    let manifest = secrets::manifest(&layer)?;
    let steps = steps::plan(&layer, manifest.as_ref(), &force, &notes, systemctl::is_enabled);
    let mut warnings = notes.warnings;
    if !dry_run {
        force.expect(&layer, &steps);
        force.save(path)?;
        let mut notes = Notes::default();
        perform(&steps, &[Verb::Stop], &mut notes)?;
        if bring(&layer, &mut force, false, &mut notes)? || steps.iter().any(|step| step.verb == Verb::Stop) {
            console::run("systemctl", &["daemon-reload"])?;
        }
        if same_key {
            secrets::apply(&layer, secrets::open(&layer)?, false, &mut notes)?;
        }
        sshd::renew(&mut force.sshd, &mut notes);
        perform(&steps, &[Verb::Restart, Verb::Reload, Verb::Start], &mut notes)?;
        // The key that is in force is the one that was taken.
        let machine_id = std::mem::take(&mut force.layer.machine_id);
        force.layer = Layer { machine_id, ..layer };
        force.pending.clear();
        force.save(path)?;
        warnings = notes.warnings;
    }
    let (changes, restart_for) = (notes.changes, notes.restart_for);
    Ok(Changes { dry_run, changes, steps, restart_for, warnings, left_out: 0 })
}

/// One apply at a time.
fn lock() -> Result<Lock, Error> {
    let file = File::create(LOCK).map_err(Error::io("create", LOCK))?;
    Lock::try_open(file)
        .map_err(Error::io("lock", LOCK))?
        .ok_or_else(|| Error::content(LOCK, "another apply is under way"))
}

/// Brings everything but the secrets in line; `true` where systemd has to read units again. In a dry run it is only
/// noted what differs.
fn bring(layer: &Layer, force: &mut InForce, dry_run: bool, notes: &mut Notes) -> Result<bool, Error> {
    console_login(layer, dry_run, notes)?;
    if !dry_run && identity::clock(Duration::from_secs(layer.time))? {
        console::log("the clock lagged behind the host's and was set");
    }
    identity::host_name(&layer.hostname, dry_run, notes)?;
    if !dry_run && force.layer.machine_id.is_empty() {
        identity::machine_id(&layer.machine_id)?;
    }
    apply_files(layer, dry_run, notes)?;
    source::apply(layer, dry_run, notes)?;
    sysctls::apply(layer, force, Path::new(sysctls::ROOT), dry_run, notes);
    let dir = Path::new(units::RUN_DIR);
    own_units::apply(layer, force, Path::new("/"), dir, dry_run, notes)
}

/// Whether root has a shell on the console; its unit looks for the file.
fn console_login(layer: &Layer, dry_run: bool, notes: &mut Notes) -> Result<(), Error> {
    let mark = Path::new(units::CONSOLE_LOGIN);
    if layer.console_login == mark.exists() {
        return Ok(());
    }
    let how = if layer.console_login { How::Added } else { How::Removed };
    notes.note(What::Setting, how, "console_login");
    match (dry_run, layer.console_login) {
        (true, _) => Ok(()),
        (false, true) => files::write(mark, b"", 0o644),
        (false, false) => files::remove(mark),
    }
}

/// Files and users; what they leave behind is remembered even where a later step fails.
fn apply_files(layer: &Layer, dry_run: bool, notes: &mut Notes) -> Result<(), Error> {
    let dir = Path::new(state::DIR);
    let mut state = State::load(dir)?;
    let entries = entries(layer, notes)?;
    if !dry_run {
        artifacts::bring(layer)?;
    }
    let done = lay(&entries, dir, &mut state, dry_run, notes)
        .and_then(|()| users::apply(layer, &mut state, dry_run, notes))
        .and_then(|()| if dry_run { Ok(()) } else { artifacts::finish(layer, notes) });
    if !dry_run {
        state.save(dir)?;
    }
    done
}

/// Everything that is laid over the image.
fn entries(layer: &Layer, notes: &mut Notes) -> Result<Vec<Entry>, Error> {
    let source = share::in_share(ROOTFS);
    let mut entries =
        crate::host::rootfs::read(&source).map_err(|error| Error::content(&source, error.to_string()))?;
    for (path, file) in &layer.files {
        let content = Kind::File(file.text.clone().into_bytes());
        entries.push(Entry { path: PathBuf::from(path), mode: file.mode, kind: content });
    }
    entries.extend(artifacts::entries(layer));
    if let Some(name) = &layer.timezone {
        match identity::time_zone(name, Path::new("/")) {
            Some(zone) => entries.extend(zone),
            None => {
                notes.warn(format!("the guest has no time zone `{name}`; the package tzdata brings them"));
            }
        }
    }
    Ok(entries)
}

fn lay(
    entries: &[Entry],
    dir: &Path,
    state: &mut State,
    dry_run: bool,
    notes: &mut Notes,
) -> Result<(), Error> {
    let mut overlay = Overlay::new(Path::new("/"), dir, state);
    overlay.compare(entries, notes)?;
    if dry_run {
        return Ok(());
    }
    overlay.prepare(entries)?;
    for entry in entries {
        overlay.place(entry)?;
    }
    overlay.finish()
}

fn perform(steps: &[Step], verbs: &[Verb], notes: &mut Notes) -> Result<(), Error> {
    for verb in verbs {
        let names: Vec<&str> =
            steps.iter().filter(|step| step.verb == *verb).map(|step| step.unit.as_str()).collect();
        let waiting = |units: String| console::log(&format!("waiting for {units}"));
        for message in systemctl::run(*verb, &names, waiting)? {
            notes.warn(message);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_lies_nowhere_else() {
        assert_eq!(answer_path("apply-1").expect("a job"), Path::new("/run/civm/answers/apply-1.json"));
        for job in ["", "../x", "a/b", "a.b"] {
            assert!(answer_path(job).is_err(), "{job}");
        }
    }
}
