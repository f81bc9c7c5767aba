use super::{
    AccelRequest, CachedVerdict, Probe, decide, in_short, known, load, openable, store, wait_for_word,
};
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
    Probe { arch, qemu: Path::new(qemu), boot, user: None, environment }
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
    assert_eq!(in_short(assertion).as_deref(), Some("QEMU aborts with it"));
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
fn a_kept_verdict_is_believed_but_a_failure_not_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let environment = Environment::empty().with("XDG_CACHE_HOME", directory.path());
    let boot = boot();
    let probe = probe(Arch::X86_64, "/proc/self/exe", &boot, &environment);
    let key = super::key(&probe).unwrap();
    let keep = |works, at| {
        store(&environment, key.clone(), CachedVerdict { works, reason: "kept".into(), at }).unwrap();
    };
    keep(true, 0);
    assert_eq!(known(&probe), Ok("kept".into()));
    keep(false, super::seconds());
    assert_eq!(known(&probe), Err("kept".into()));
    for n in 0..40 {
        store(&environment, format!("{n}"), CachedVerdict { works: true, reason: String::new(), at: n })
            .unwrap();
    }
    assert_eq!(load(&environment).len(), super::CACHED_MAX);
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
