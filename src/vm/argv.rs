//! A [`Spec`] as QEMU's arguments: one function per concern, no I/O.

use crate::vm::agent;
use crate::vm::network::Network;
use crate::vm::spec::{Accel, Arch, Channel, Draft, MachineType, Spec};

/// Size of TCG's translation buffer, in MiB. QEMU's default makes a booting guest translate twice;
/// measured on Debian's kernel, 512 is the cheapest gain there is.
const TCG_BUFFER_MIB: u32 = 512;

/// What QEMU itself must not be able to do once it runs.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// What every kernel is told: to reset the machine on a panic that comes before the driver of the panic device, to
/// say little on the slow serial port, and to skip self-tests that cost half a second under TCG.
const KERNEL_PARAMETERS: [&str; 3] = ["panic=-1", "quiet", "cryptomgr.notests"];

/// The processor that TCG makes. Where it says that it copies and clears bytes fast (ERMS), kernel and libraries do so
/// with one instruction, which TCG carries out byte by byte.
const EMULATED_X86: &str = "max,erms=off,fsrm=off";
/// Ticks of Debian's kernels in a second.
const TICKS: u64 = 250;

/// A kernel that panicked stands still, so that one can look at it. A guest that resets boots again.
const ACTIONS: &str = "panic=pause";

/// QEMU's arguments, without the program's own name.
#[must_use]
pub fn render(spec: &Spec) -> Vec<String> {
    let draft = spec.draft();
    let mut argv = Vec::new();
    identity(draft, &mut argv);
    machine(draft, &mut argv);
    memory(draft, &mut argv);
    boot(draft, &mut argv);
    console(draft, &mut argv);
    control(draft, &mut argv);
    disk(draft, &mut argv);
    network(draft, &mut argv);
    share(draft, &mut argv);
    devices(draft, &mut argv);
    agent_port(draft, &mut argv);
    argv.extend(draft.extra_arguments.iter().cloned());
    argv
}

/// An option's value with its commas doubled, as QEMU's key-value lists want them.
fn escape(value: &str) -> String {
    value.replace(',', ",,")
}

fn push(argv: &mut Vec<String>, option: &str, value: impl Into<String>) {
    argv.push(option.to_owned());
    argv.push(value.into());
}

/// A virtio device on the machine's bus.
fn virtio(draft: &Draft, device: &str, properties: &str) -> String {
    let bus = match draft.machine_type {
        MachineType::Q35 | MachineType::Virt => "pci",
        // QEMU's name for a device of the bus that virtio-mmio is.
        MachineType::Microvm => "device",
    };
    format!("virtio-{device}-{bus}{properties}")
}

fn path_text(path: &std::path::Path) -> String {
    // A `Spec` holds only paths that are text.
    escape(&path.to_string_lossy())
}

fn identity(draft: &Draft, argv: &mut Vec<String>) {
    push(argv, "-name", format!("guest={}", draft.name));
    // Nothing but what is named below: no default devices, no configuration of the user's.
    argv.extend(["-nodefaults".to_owned(), "-no-user-config".to_owned()]);
    push(argv, "-display", "none");
    push(argv, "-sandbox", SANDBOX);
}

fn machine(draft: &Draft, argv: &mut Vec<String>) {
    let (machine, panic_device) = match draft.machine_type {
        // No SATA and SMBus: firmware and kernel would look for what is not there.
        MachineType::Q35 => ("q35,sata=off,smbus=off", "pvpanic-pci"),
        MachineType::Virt => ("virt,gic-version=max", "pvpanic-pci"),
        // ACPI says where the devices are; Debian's kernel takes no list of them on its command line. The legacy timer
        // and interrupt controller are of no use beside the local APIC and the I/O APIC.
        MachineType::Microvm => ("microvm,acpi=on,rtc=on,pit=off,pic=off", "pvpanic"),
    };
    let backend = if draft.memory_file.is_some() { ",memory-backend=ram" } else { "" };
    push(argv, "-machine", format!("{machine}{backend}"));
    if draft.machine_type == MachineType::Microvm {
        // virtio 1.0, as on PCI.
        push(argv, "-global", "virtio-mmio.force-legacy=false");
    }
    let cpu = match (draft.arch, draft.accel) {
        (_, Accel::Kvm) => "host",
        (Arch::X86_64, Accel::Tcg) => EMULATED_X86,
        // `max` emulates pointer authentication, which costs most of a boot.
        (Arch::Aarch64, Accel::Tcg) => "cortex-a72",
    };
    let accel = match draft.accel {
        Accel::Kvm => "kvm".to_owned(),
        Accel::Tcg => format!("tcg,thread=multi,tb-size={TCG_BUFFER_MIB}"),
    };
    push(argv, "-accel", accel);
    push(argv, "-cpu", cpu);
    push(argv, "-smp", draft.cpus.to_string());
    push(argv, "-m", format!("{}M", draft.memory_mib));
    push(argv, "-action", ACTIONS);
    push(argv, "-device", panic_device);
}

/// The memory of a machine that is frozen or resumed, and the device by which its guest hears that it is another one.
fn memory(draft: &Draft, argv: &mut Vec<String>) {
    let Some(file) = &draft.memory_file else { return };
    let (path, share) = (path_text(&file.path), if file.private { "off" } else { "on" });
    push(
        argv,
        "-object",
        format!("memory-backend-file,id=ram,size={}M,mem-path={path},share={share}", draft.memory_mib),
    );
    push(argv, "-device", "vmgenid,guid=auto");
    if file.resumed {
        push(argv, "-incoming", "defer");
    }
}

fn boot(draft: &Draft, argv: &mut Vec<String>) {
    push(argv, "-kernel", draft.boot.kernel.to_string_lossy());
    if let Some(initrd) = &draft.boot.initrd {
        push(argv, "-initrd", initrd.to_string_lossy());
    }
    let mut words = vec![format!("console={}", draft.arch.console())];
    words.extend(KERNEL_PARAMETERS.map(str::to_owned));
    words.extend(clock(draft));
    words.extend(draft.boot.append.iter().cloned());
    push(argv, "-append", words.join(" "));
}

/// What the kernel of an emulated x86 is told of the time stamp counter, which is the host's for all processors. It
/// would find that they differ, since it cannot look at two at the same instant, and take the HPET: every look at the
/// clock would leave the translated code for QEMU's, in programs with a system call before that. How fast it runs a
/// busy host does not let it measure; and how fast a further processor counts takes long where that fails.
fn clock(draft: &Draft) -> Vec<String> {
    let Some(khz) = draft.tsc_khz else { return Vec::new() };
    let jiffy = u64::from(khz) * 1000 / TICKS;
    vec![format!("tsc_early_khz={khz}"), "tsc=reliable".to_owned(), format!("lpj={jiffy}")]
}

fn chardev(argv: &mut Vec<String>, id: &str, channel: &Channel) {
    let end = match channel {
        Channel::Socket(path) => format!("path={},server=on,wait=off", path_text(path)),
        Channel::Descriptor(number) => format!("fd={number}"),
    };
    push(argv, "-chardev", format!("socket,id={id},{end}"));
}

fn console(draft: &Draft, argv: &mut Vec<String>) {
    chardev(argv, "console", &draft.console.channel);
    push(argv, "-serial", "chardev:console");
}

fn control(draft: &Draft, argv: &mut Vec<String>) {
    if let Some(channel) = &draft.qmp {
        chardev(argv, "qmp", channel);
        push(argv, "-mon", "chardev=qmp,mode=control");
    }
}

/// The ways between a machine and civm: its console, QEMU's control channel, the agent's port.
pub(super) fn channels(draft: &Draft, argv: &mut Vec<String>) {
    console(draft, argv);
    control(draft, argv);
    agent_port(draft, argv);
}

/// What keeps a guest's network off its host.
pub(super) fn fence(draft: &Draft, netdev: &str, argv: &mut Vec<String>) {
    let Some(fence) = &draft.fence else { return };
    // QEMU's `rx` is what the user network receives: the guest's frames take the way around.
    chardev(argv, "fence-out", &fence.out);
    chardev(argv, "fence-back", &fence.back);
    let filter = "queue=rx,outdev=fence-out,indev=fence-back";
    push(argv, "-object", format!("filter-redirector,id=fence,netdev={netdev},{filter}"));
}

/// Numbers of the sets that hold the descriptors of the disk and of its base.
const DISK_SET: u32 = 1;
const BASE_SET: u32 = 2;

fn disk(draft: &Draft, argv: &mut Vec<String>) {
    let Some(disk) = &draft.disk else { return };
    let flush = if disk.ephemeral { ",cache.no-flush=on" } else { "" };
    let mut backing = "";
    let mut path = path_text(&disk.path);
    if let Some(files) = draft.disk_files {
        // The path is only for people who read the list of processes.
        push(argv, "-add-fd", format!("fd={},set={DISK_SET},opaque={path}", files.disk));
        path = format!("/dev/fdset/{DISK_SET}");
        if let Some(base) = files.base {
            push(argv, "-add-fd", format!("fd={base},set={BASE_SET}"));
            push(
                argv,
                "-blockdev",
                format!(
                    "driver=qcow2,node-name=base,read-only=on,file.driver=file,\
                     file.filename=/dev/fdset/{BASE_SET},file.read-only=on"
                ),
            );
            backing = "backing=base,";
        }
    }
    push(
        argv,
        "-blockdev",
        format!(
            "driver=qcow2,node-name=root,{backing}discard=unmap,detect-zeroes=unmap{flush},\
             file.driver=file,file.filename={path},file.discard=unmap{}",
            flush.replace("cache.", "file.cache.")
        ),
    );
    // A full host disk is reported to the guest: a machine that QEMU pauses looks hung.
    let properties = ",drive=root,serial=root,bootindex=1,werror=report,discard=on";
    push(argv, "-device", virtio(draft, "blk", properties));
}

fn network(draft: &Draft, argv: &mut Vec<String>) {
    let mut user = "user,id=net0".to_owned();
    if draft.network == Network::None {
        user.push_str(",restrict=on");
    }
    for forward in &draft.forwards {
        user.push_str(",hostfwd=");
        user.push_str(&forward.render());
    }
    push(argv, "-netdev", user);
    fence(draft, "net0", argv);
    let properties = match draft.machine_type {
        // No option ROM: nothing boots from the network.
        MachineType::Q35 | MachineType::Virt => ",netdev=net0,romfile=",
        MachineType::Microvm => ",netdev=net0",
    };
    push(argv, "-device", virtio(draft, "net", properties));
}

fn share(draft: &Draft, argv: &mut Vec<String>) {
    let Some(share) = &draft.share else { return };
    push(
        argv,
        "-fsdev",
        format!(
            "local,id=share,path={},security_model=none,readonly=on,multidevs=remap",
            path_text(&share.source)
        ),
    );
    push(argv, "-device", virtio(draft, "9p", &format!(",fsdev=share,mount_tag={}", share.tag)));
}

fn devices(draft: &Draft, argv: &mut Vec<String>) {
    push(argv, "-device", virtio(draft, "rng", ""));
    if draft.memory_file.is_some() {
        // A balloon punches holes into the file: a guest would take memory from all others of its template.
        return;
    }
    // Memory that the guest frees goes back to the host.
    push(argv, "-device", virtio(draft, "balloon", ",free-page-reporting=on"));
}

fn agent_port(draft: &Draft, argv: &mut Vec<String>) {
    let Some(channel) = &draft.agent else { return };
    push(argv, "-device", virtio(draft, "serial", ""));
    chardev(argv, "agent", channel);
    push(argv, "-device", format!("virtserialport,chardev=agent,name={}", agent::PORT));
}

#[cfg(test)]
mod tests;
