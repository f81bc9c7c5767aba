use super::trial::{Kernel, Trial, in_short, wait_for_word};
use super::verdicts::{self, KEPT_MAX, load, seconds, store};
use super::{AccelRequest, Kept, Probe, decide, judge, openable, trials};
use crate::edge::environment::Environment;
use crate::vm::spec::{Accel, Arch, Boot};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

fn boot() -> Boot {
    Boot { kernel: "/proc/version".into(), initrd: None, append: Vec::new() }
}

fn probe<'a>(arch: Arch, qemu: &'a str, boot: &'a Boot, environment: &'a Environment) -> Probe<'a> {
    Probe { arch, qemu: Path::new(qemu), boot: Some(boot), user: None, environment }
}

#[test]
fn a_request_for_tcg_tries_nothing() {
    let (boot, environment) = (boot(), Environment::empty());
    let verdict = decide(AccelRequest::Tcg, &probe(Arch::X86_64, "/none", &boot, &environment)).unwrap();
    assert_eq!(verdict.accel, Accel::Tcg);
}

#[test]
fn what_qemu_says_is_told_in_one_short_line() {
    let assertion =
        "qemu-system-x86_64: ../target/i386/kvm/kvm.c:2909: kvm_buf_set_msrs: Assertion `x' failed.\n";
    assert_eq!(in_short(assertion).as_deref(), Some("QEMU aborts"));
    let other = "note\n/usr/bin/qemu-system-x86_64: Could not access KVM kernel module: Permission denied\n";
    assert_eq!(in_short(other).as_deref(), Some("Could not access KVM kernel module: Permission denied"));
    assert_eq!(in_short(&format!("qemu: {}", "x".repeat(1000))).map(|line| line.len()), Some(100));
    assert_eq!(in_short(""), None);
}

#[test]
fn a_foreign_guest_gets_tcg_and_cannot_be_forced_on_kvm() {
    let foreign = if Arch::native() == Some(Arch::X86_64) { Arch::Aarch64 } else { Arch::X86_64 };
    let (boot, environment) = (boot(), Environment::empty());
    let probe = probe(foreign, "/none", &boot, &environment);
    let verdict = decide(AccelRequest::Auto, &probe).unwrap();
    assert_eq!(verdict.accel, Accel::Tcg);
    assert!(verdict.reason.contains("slower"));
    assert!(decide(AccelRequest::Kvm, &probe).is_err());
}

#[test]
fn a_device_that_is_missing_is_told_from_one_that_is_forbidden() {
    let openable = |device| openable(Path::new(device), &Environment::empty());
    assert!(openable("/dev/no-such-kvm").unwrap_err().contains("there is no"));
    assert!(openable("/dev/null").is_ok());
}

#[test]
fn a_kept_verdict_is_believed_but_not_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let environment = Environment::empty().with("XDG_CACHE_HOME", directory.path());
    let boot = boot();
    let probe = probe(Arch::X86_64, "/proc/self/exe", &boot, &environment);
    let [small, image]: [Trial<'_>; 2] = trials(&probe).try_into().unwrap();
    assert!(matches!((small.kernel, image.kernel), (Kernel::Small, Kernel::Image(_))));
    let keep = |trial, works, at| {
        verdicts::keep(trial, Kept { works, reason: format!("kept {works}"), at });
    };
    // Nothing is booted where both are known.
    let known = || judge(&probe, Trial::known_or_run);
    assert_eq!(verdicts::find(&small), None);
    keep(&small, true, seconds());
    assert_eq!(verdicts::find(&image), None, "the image's kernel was not tried yet");
    keep(&image, true, seconds());
    assert_eq!(known(), Ok("kept true".into()));
    keep(&image, false, seconds());
    assert_eq!(known(), Err("kept false".into()));
    keep(&small, false, seconds() - 60);
    assert_eq!(known(), Err("kept false".into()));
    assert_eq!(verdicts::find(&small).map(|kept| kept.works), Some(false));
    keep(&small, false, seconds() - 13 * 3600);
    assert_eq!(verdicts::find(&small), None, "a failure is tried again after half a day");
    for n in 0..40 {
        store(&environment, format!("{n}"), Kept { works: true, reason: String::new(), at: n }).unwrap();
    }
    assert_eq!(load(&environment).len(), KEPT_MAX);
}

#[test]
fn a_warning_of_qemus_is_not_the_reason() {
    let messages = "qemu-system-x86_64: warning: host doesn't support requested feature: CPUID\n";
    assert_eq!(in_short(messages), None);
}

#[test]
fn the_word_counts_and_the_end_of_the_console_does_not() {
    let soon = || Instant::now() + Duration::from_secs(2);
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"noise\r\ncivm: pro").unwrap();
    theirs.write_all(b"be ok\r\n").unwrap();
    assert!(wait_for_word(&mut ours, soon()));
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    assert!(!wait_for_word(&mut ours, soon()));
    let (mut ours, _theirs) = UnixStream::pair().unwrap();
    assert!(!wait_for_word(&mut ours, Instant::now() + Duration::from_millis(30)));
}

#[test]
fn the_small_kernel_is_a_kernel() {
    let Some(qemu) = Environment::of_process().find_program("qemu-system-x86_64") else {
        return eprintln!("skipped: no qemu-system-x86_64");
    };
    let directory = tempfile::tempdir().unwrap();
    let kernel = directory.path().join("kernel");
    std::fs::write(&kernel, super::small::elf()).unwrap();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    // Emulated it works like everywhere: only the accelerator is another than in a trial.
    let mut command = std::process::Command::new(qemu);
    command.args(["-nodefaults", "-display", "none", "-machine", "q35", "-accel", "tcg", "-cpu", "max"]);
    command.args(["-m", "256M", "-serial", "stdio", "-kernel"]).arg(&kernel);
    let mut child =
        command.stdin(std::process::Stdio::null()).stdout(std::os::fd::OwnedFd::from(theirs)).spawn();
    let child = child.as_mut().unwrap();
    drop(command);
    assert!(wait_for_word(&mut ours, Instant::now() + Duration::from_secs(120)));
    child.kill().unwrap();
    child.wait().unwrap();
}
