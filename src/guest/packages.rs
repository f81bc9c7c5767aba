//! Packages that reach a disk which was made before host.yaml named them.
//!
//! They are installed by the disk's own apt, in a unit of its own: what the disk holds stays, an installation that was
//! cut off is made up for at the next boot, and a boot does not wait for ever for a network that is slow. Packages that
//! host.yaml no longer names stay.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::force::{self, InForce};
use super::{Error, apply, console, events, files, systemctl};
use crate::host::layer::Layer;
use crate::image::debian::BASE_PACKAGES;
use crate::image::layout;
use crate::vm::agent::Event;
use crate::vm::agent::answer::Verb;

/// Exists where the disk was made with other packages than the image's; holds the mark of the image.
const OUTGROWN: &str = "/run/civm/outgrown";
/// Exists once nobody waits for the packages any more.
const LATE: &str = "/run/civm/packages-late";
const UNIT: &str = "civm-packages.service";
/// How long units of the layer wait for packages that they may need.
const WITHIN: Duration = Duration::from_secs(120);
const TOLD_EVERY: Duration = Duration::from_secs(20);
/// What systemd adds each time, in microseconds.
const EXTENDED: u32 = 60_000_000;
const POLL: Duration = Duration::from_millis(200);
/// What apt is told besides the names: to ask nothing, to give up on a network that does not answer, and to keep the
/// files of /etc as they are.
const APT: [&str; 12] = [
    "-y",
    "-q",
    "-f",
    "--no-install-recommends",
    "-oDpkg::Use-Pty=0",
    "-oDpkg::Options::=--force-confdef",
    "-oDpkg::Options::=--force-confold",
    "-oDPkg::Lock::Timeout=60",
    "-oAcquire::Languages=none",
    "-oAcquire::Retries=1",
    "-oAcquire::http::Timeout=20",
    "-oAcquire::https::Timeout=20",
];

/// Compares the disk with the image, as the kernel's command line tells its mark and release. A disk of another release
/// cannot be caught up with: the words say so.
pub(super) fn compare(
    root: &Path,
    run: &Path,
    mark: &str,
    suite: Option<&str>,
) -> Result<Option<String>, Error> {
    let found = fs::read_to_string(root.join(layout::IMAGE_MARK.trim_start_matches('/'))).unwrap_or_default();
    if found.trim() == mark {
        return Ok(None);
    }
    let release = fs::read_to_string(root.join("etc/os-release")).unwrap_or_default();
    if let (Some(has), Some(wanted)) = (codename(&release), suite)
        && has != wanted
    {
        return Ok(Some(format!(
            "the disk holds Debian {has}, and the image is of {wanted}: `civm up --fresh` makes the disk anew"
        )));
    }
    let path = run.join(OUTGROWN.trim_start_matches("/run/"));
    fs::write(&path, mark).map_err(Error::io("write", &path))?;
    Ok(None)
}

/// `VERSION_CODENAME=bookworm` of os-release(5).
fn codename(os_release: &str) -> Option<&str> {
    let value = os_release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(value.trim().trim_matches('"'))
}

/// Whether the disk may lack some.
pub(super) fn are_outgrown() -> bool {
    Path::new(OUTGROWN).exists()
}

/// How long missing packages are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// A while: what needs them is started when they are there.
    While,
    /// To the end: nothing can go on without them.
    End,
}

/// Has the missing packages installed where the disk has been outgrown, and waits for them.
pub(super) fn catch_up(layer: &Layer, patience: Patience) -> Result<(), Error> {
    let Ok(mark) = fs::read_to_string(OUTGROWN) else { return Ok(()) };
    let missing = missing(layer)?;
    if missing.is_empty() {
        return done(&mark);
    }
    let mut child = Command::new("systemctl")
        .args(["start", UNIT])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(Error::io("run", "systemctl"))?;
    let what = format!("installing packages: {}", missing.join(", "));
    let begun = Instant::now();
    let mut told: Option<Instant> = None;
    // Whether it went well is told by the unit itself.
    while child.try_wait().map_err(Error::io("wait for", "systemctl"))?.is_none() {
        if patience == Patience::While && begun.elapsed() > WITHIN {
            fs::write(LATE, "").map_err(Error::io("write", LATE))?;
            let message = format!("still {what}; units that need them are started when they are there");
            console::log(&message);
            events::send(&Event::Warning { message });
            break;
        }
        if told.is_none_or(|told| told.elapsed() > TOLD_EVERY) {
            told = Some(Instant::now());
            events::send(&Event::Waiting { what: what.clone() });
            if patience == Patience::End {
                // systemd gives the host layer ten minutes.
                let _ = sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(EXTENDED)]);
            }
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// `civm guest packages`: installs them.
pub(super) fn install() -> Result<(), Error> {
    let layer = InForce::load(Path::new(force::PATH))?.layer;
    let Ok(mark) = fs::read_to_string(OUTGROWN) else { return Ok(()) };
    let wanted = missing(&layer)?;
    let installed = apt(&wanted).and_then(|()| match missing(&layer)? {
        left if left.is_empty() => Ok(()),
        left => Err(Error::content("apt-get", format!("{} not installed", left.join(", ")))),
    });
    if let Err(error) = &installed {
        let message = format!(
            "cannot install {} on the disk: {error}; the next boot tries again, and `civm up --fresh` makes the disk anew",
            wanted.join(", ")
        );
        events::send(&Event::Warning { message });
    }
    installed?;
    done(&mark)?;
    if Path::new(LATE).exists() {
        apply::complete().unwrap_or_else(|error| console::log(&error.to_string()));
        // An apply may have brought another one meanwhile.
        let layer = InForce::load(Path::new(force::PATH))?.layer;
        let units = layer.units.iter().filter(|(_, unit)| unit.start).map(|(name, _)| name);
        let names: Vec<&str> = units.chain(&layer.services).map(String::as_str).collect();
        for message in systemctl::run(Verb::Start, &names, |_| {})? {
            console::log(&message);
            events::send(&Event::Warning { message });
        }
    }
    Ok(())
}

fn apt(names: &[&str]) -> Result<(), Error> {
    // What an earlier one was cut off in.
    run("dpkg", &["--configure", "-a", "--force-confdef", "--force-confold"])?;
    run("apt-get", &[&["update"], &APT[1..2], &APT[7..]].concat())?;
    run("apt-get", &[&["install"], &APT[..], &["--"], names].concat())?;
    run("apt-get", &["clean"])
}

fn run(program: &str, args: &[&str]) -> Result<(), Error> {
    let mut command = Command::new(program);
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    let output = command.output().map_err(Error::io("run", program))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        return Ok(());
    }
    console::log(&text);
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("E: ")).take(2).collect();
    Err(Error::Program {
        program: program.to_owned(),
        status: output.status.to_string(),
        stderr: errors.join("; "),
    })
}

/// What of the wanted packages is not installed whole.
fn missing(layer: &Layer) -> Result<Vec<&str>, Error> {
    let output = Command::new("dpkg-query")
        .args(["-W", "-f", "${Package} ${db:Status-Status}\\n"])
        .output()
        .map_err(Error::io("run", "dpkg-query"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let wanted = BASE_PACKAGES.into_iter().chain(layer.packages.iter().map(String::as_str));
    Ok(not_installed(&text, wanted))
}

fn not_installed<'a>(listed: &str, wanted: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let has = |name: &str| listed.lines().any(|line| line.strip_suffix(" installed") == Some(name));
    wanted.filter(|name| !has(name)).collect()
}

/// The disk is as the image from now on.
fn done(mark: &str) -> Result<(), Error> {
    files::write(Path::new(layout::IMAGE_MARK), format!("{mark}\n").as_bytes(), 0o644)?;
    files::remove(Path::new(OUTGROWN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_counts_once_it_is_installed_whole() {
        let listed = "git installed\ncron half-configured\ngit-man config-files\n";
        let missing = not_installed(listed, ["git", "cron", "git-man", "jq"].into_iter());
        assert_eq!(missing, ["cron", "git-man", "jq"]);
    }

    #[test]
    fn an_outgrown_disk_is_seen_and_one_of_another_release_named() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (root, run) = (dir.path().join("root"), dir.path().join("run"));
        for path in [root.join("usr/lib/civm"), root.join("etc"), run.join("civm")] {
            fs::create_dir_all(path).expect("mkdir");
        }
        fs::write(root.join("usr/lib/civm/packages"), "old\n").expect("write");
        fs::write(root.join("etc/os-release"), "ID=debian\nVERSION_CODENAME=bookworm\n").expect("write");
        let outgrown = || fs::read_to_string(run.join("civm/outgrown")).ok();
        assert_eq!(compare(&root, &run, "old", Some("trixie")).expect("compared"), None);
        let words = compare(&root, &run, "new", Some("trixie")).expect("compared").expect("a warning");
        assert!(words.contains("bookworm") && words.contains("--fresh"), "{words}");
        assert_eq!(outgrown(), None);
        assert_eq!(compare(&root, &run, "new", Some("bookworm")).expect("compared"), None);
        assert_eq!(outgrown().as_deref(), Some("new"));
    }
}
