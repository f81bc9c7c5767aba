use super::render;
use crate::vm::network::Network;
use crate::vm::ports::Forward;
use crate::vm::spec::{Accel, Arch, Channel, DiskFiles, Draft, MachineType, MemoryFile, Spec, sample};

/// Compares with a golden file of one argument a line; `CIVM_BLESS` writes it anew.
fn golden(name: &str, draft: Draft, native: Arch) {
    let argv = render(&Spec::new(draft, Some(native)).unwrap());
    let text = argv.join("\n") + "\n";
    let path = format!("{}/tests/vm/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("CIVM_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, wanted, "see {path}");
}

#[test]
fn x86_64_under_tcg() {
    golden("x86_64-tcg", Draft { tsc_khz: Some(2_649_998), ..sample() }, Arch::X86_64);
}

#[test]
fn x86_64_under_kvm_ephemeral_and_restricted() {
    let mut d = sample();
    d.accel = Accel::Kvm;
    (d.network, d.fence) = (Network::None, None);
    d.forwards = vec![
        Forward::loopback(0, 22),
        Forward { address: std::net::Ipv4Addr::UNSPECIFIED, host_port: 8081, guest_port: 8081 },
    ];
    d.disk.as_mut().unwrap().ephemeral = true;
    golden("x86_64-kvm-ephemeral", d, Arch::X86_64);
}

#[test]
fn aarch64_under_tcg() {
    let mut d = sample();
    (d.arch, d.machine_type) = (Arch::Aarch64, MachineType::Virt);
    d.boot.append.clear();
    golden("aarch64-tcg", d, Arch::X86_64);
}

#[test]
fn aarch64_under_kvm() {
    let mut d = sample();
    (d.arch, d.machine_type) = (Arch::Aarch64, MachineType::Virt);
    d.accel = Accel::Kvm;
    golden("aarch64-kvm", d, Arch::Aarch64);
}

#[test]
fn microvm_under_tcg() {
    let mut d = sample();
    (d.machine_type, d.tsc_khz) = (MachineType::Microvm, Some(2_649_998));
    golden("microvm-tcg", d, Arch::X86_64);
}

#[test]
fn microvm_under_kvm() {
    let mut d = sample();
    (d.machine_type, d.accel) = (MachineType::Microvm, Accel::Kvm);
    golden("microvm-kvm", d, Arch::X86_64);
}

#[test]
fn the_least_machine_has_no_disk_share_or_channels() {
    let mut d = sample();
    (d.disk, d.share, d.qmp, d.agent, d.boot.initrd) = (None, None, None, None, None);
    (d.network, d.fence) = (Network::Open, None);
    d.forwards.clear();
    d.console.channel = Channel::Descriptor(3);
    golden("least", d, Arch::X86_64);
}

#[test]
fn a_template_is_made_and_resumed_with_the_same_devices() {
    let mut d = sample();
    let file =
        |private, resumed| Some(MemoryFile { path: "/cache/templates/0f/ram".into(), private, resumed });
    d.memory_file = file(false, false);
    golden("template", d.clone(), Arch::X86_64);
    let made = render(&Spec::new(d.clone(), Some(Arch::X86_64)).unwrap());
    d.memory_file = file(true, true);
    let mut resumed = render(&Spec::new(d, Some(Arch::X86_64)).unwrap());
    let incoming = resumed.iter().position(|argument| argument == "-incoming").unwrap();
    assert_eq!(resumed.drain(incoming..incoming + 2).next_back().unwrap(), "defer");
    let shared = resumed.iter().map(|argument| argument.replace("share=off", "share=on"));
    assert_eq!(shared.collect::<Vec<_>>(), made);
    assert!(!made.iter().any(|argument| argument.contains("balloon")), "it would punch holes into the file");
}

#[test]
fn files_that_are_open_are_inherited() {
    let mut d = sample();
    d.disk.as_mut().unwrap().ephemeral = true;
    d.disk_files = Some(DiskFiles { disk: 7, base: Some(8) });
    golden("inherited", d, Arch::X86_64);
}

#[test]
fn commas_in_paths_are_doubled_and_blanks_stay() {
    let mut d = sample();
    d.disk.as_mut().unwrap().path = "/a,b c/d.qcow2".into();
    d.share.as_mut().unwrap().source = "/run/a,b c/share".into();
    d.console.channel = Channel::Socket("/run/a,b/c.sock".into());
    d.qmp = Some(Channel::Socket("/run/a,b/qmp.sock".into()));
    d.fence.as_mut().unwrap().out = Channel::Socket("/run/a,b/fence-out.sock".into());
    d.forwards = vec![Forward::loopback(1, 2)];
    golden("commas", d, Arch::X86_64);
}
