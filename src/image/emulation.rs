//! How the programs of another architecture run while its image is built: packages bring scripts that call them.

use std::fs;
use std::path::Path;

use super::Error;
use super::error::Missing;
use super::guest_binary::elf_machine;
use super::run::{Job, Tool};
use super::tools::{EMULATED_AARCH64, EMULATED_X86_64};
use crate::host::spec::Arch;

/// Where this machine's own registrations are.
const REGISTERED: &str = "/proc/sys/fs/binfmt_misc";
/// The mount point of the build's own registrations, in its temporary directory.
const MOUNT_POINT: &str = "binfmt";

/// Registers an emulator (`$2`) in the binfmt_misc of the user namespace it runs in, mounted at `$1`, and becomes the
/// program that follows.
const REGISTER: &str = r#"mount -t binfmt_misc binfmt_misc "$1" && printf %s "$2" >"$1/register" || exit
shift 2
exec "$@""#;
/// Runs a program in a user namespace that has all of root's own ids, which only a process outside can give it.
const AS_ROOT: &str = r#"own=$(readlink /proc/self/ns/user)
unshare --user --mount sh -c 'until read -r _ </proc/self/gid_map && read -r _ </proc/self/uid_map; do sleep 0.05; done
    exec "$@"' sh "$@" &
until [ "$(readlink /proc/$!/ns/user)" != "$own" ]; do sleep 0.05; done
for map in uid_map gid_map; do
    awk '{ print $1, $1, $3 }' /proc/self/$map >/proc/$!/$map || kill $!
done
wait $!"#;

/// Whether programs of an image's architecture need an emulator, and who registers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Emulation {
    /// They run as they are, or this machine has an emulator registered.
    Ready,
    /// One is registered for the build alone: since Linux 6.7 every user namespace has registrations of its own.
    OfTheBuild(Arch),
}

impl Emulation {
    /// What a build for an architecture needs on this machine.
    pub(super) fn choose(arch: Arch) -> Self {
        if Arch::native() == Some(arch) || registered(Path::new(REGISTERED), arch) {
            Self::Ready
        } else {
            Self::OfTheBuild(arch)
        }
    }

    /// The programs that it needs.
    pub(super) fn tools(self) -> &'static [Missing] {
        match self {
            Self::Ready => &[],
            Self::OfTheBuild(Arch::Aarch64) => &EMULATED_AARCH64,
            Self::OfTheBuild(Arch::X86_64) => &EMULATED_X86_64,
        }
    }

    /// Runs a static program of that architecture, so that what cannot work is known in a second, not in minutes.
    ///
    /// # Errors
    /// [`Error::NoEmulation`].
    pub(super) fn prove(self, program: &Path, scratch: &Path, job: &Job) -> Result<(), Error> {
        let Self::OfTheBuild(arch) = self else { return Ok(()) };
        let mount_point = scratch.join(MOUNT_POINT);
        fs::create_dir(&mount_point).map_err(Error::io("create", &mount_point))?;
        let tool = self.wrapped("trying the emulator", "unshare", scratch, job)?;
        let Err(error) = tool.arg(program).arg("--version").run() else { return Ok(()) };
        let Error::Tool { last, .. } = &error else { return Err(error) };
        let reason = last.last().cloned().unwrap_or_default();
        let package = self.tools().first().map_or("", |tool| tool.package);
        Err(Error::NoEmulation { arch, reason, package })
    }

    /// A leashed program that can run programs of that architecture.
    pub(super) fn leashed<'a>(
        self,
        step: &'static str,
        program: &'static str,
        scratch: &Path,
        job: &'a Job,
    ) -> Result<Tool<'a>, Error> {
        match self {
            Self::Ready => Tool::leashed(step, program, job),
            Self::OfTheBuild(_) => Ok(self.wrapped(step, program, scratch, job)?.arg(job.find(program)?)),
        }
    }

    /// What runs a program, its first argument, where the emulator is registered.
    fn wrapped<'a>(
        self,
        step: &'static str,
        name: &'static str,
        scratch: &Path,
        job: &'a Job,
    ) -> Result<Tool<'a>, Error> {
        let tool = if nix::unistd::geteuid().is_root() {
            Tool::leashed(step, "sh", job)?.args(["-c", AS_ROOT, "sh"])
        } else {
            Tool::leashed(step, "unshare", job)?.args(["--map-root-user", "--map-auto", "--mount"])
        };
        let tool = tool.named(name).args(["sh", "-c", REGISTER, "sh"]).arg(scratch.join(MOUNT_POINT));
        match (self, self.tools().first()) {
            (Self::OfTheBuild(arch), Some(emulator)) => {
                Ok(tool.arg(rule(arch, &job.find(emulator.program)?.to_string_lossy())))
            }
            _ => Ok(tool),
        }
    }
}

/// What of an ELF header tells the architecture, with the values that any program of it has: 64 bits, little-endian,
/// of this version, for any system; a program or a shared object (the kernel's Documentation/admin-guide/binfmt-misc).
const MAGIC: [u8; 20] = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\0\0";
const MASK: [u8; 20] = *b"\xff\xff\xff\xff\xff\xff\xff\0\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff";

fn magic(arch: Arch) -> [u8; 20] {
    let mut magic = MAGIC;
    magic[18..].copy_from_slice(&elf_machine(arch).to_le_bytes());
    magic
}

/// The kernel's line for an emulator that is opened now (`F`), so that it need not be in the image, and gets the
/// program as a descriptor, with its credentials (`OC`).
fn rule(arch: Arch, emulator: &str) -> String {
    let escaped = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    format!(":civm-{arch}:M::{}:{}:{emulator}:OCF", escaped(&magic(arch)), escaped(&MASK))
}

/// Whether an emulator is registered that works inside an image, where its file is not.
fn registered(dir: &Path, arch: Arch) -> bool {
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    read(&dir.join("status")).trim() == "enabled"
        && entries
            .filter(|entry| entry.file_name() != "register")
            .any(|entry| serves(&read(&entry.path()), arch))
}

/// Whether a registration is for an architecture's programs, as the kernel shows it.
fn serves(entry: &str, arch: Arch) -> bool {
    let field =
        |name: &str| entry.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    let machine = crate::edge::hex::encode(&elf_machine(arch).to_le_bytes());
    entry.starts_with("enabled\n")
        && field("flags:").contains('F')
        && field("offset ") == "0"
        && field("magic ").get(36..40) == Some(machine.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::environment::Environment;

    const ENTRY: &str = "enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: OCF\noffset 0\n\
        magic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n";

    #[test]
    fn the_rule_is_the_one_that_debian_registers() {
        assert_eq!(
            rule(Arch::Aarch64, "/usr/bin/qemu-aarch64-static"),
            r":civm-aarch64:M::\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu-aarch64-static:OCF"
        );
    }

    /// As root here, as an ordinary user where an image is built for a guest of the tests.
    #[test]
    fn an_emulator_is_registered_for_the_build_and_not_for_this_machine() {
        let arch = if Arch::native() == Some(Arch::Aarch64) { Arch::X86_64 } else { Arch::Aarch64 };
        let emulation = Emulation::OfTheBuild(arch);
        let dir = tempfile::tempdir().expect("tempdir");
        let environment = Environment::of_process().for_package_tools();
        let missing = |tool: &&Missing| environment.find_program(tool.program).is_none();
        if let Some(tool) = emulation.tools().iter().find(missing) {
            eprintln!("skipped: an emulator for a build: no {} here", tool.program);
            return;
        }
        let mount_point = dir.path().join(MOUNT_POINT);
        fs::create_dir(&mount_point).expect("mkdir");
        let job = Job::new(dir.path().join("log"), &environment, &[]).expect("log");
        let tool = emulation.leashed("trying", "cat", dir.path(), &job).expect("cat");
        let shown = tool.arg(mount_point.join(format!("civm-{arch}"))).output();
        match shown {
            Ok(shown) => assert!(serves(&shown, arch), "{shown}"),
            Err(error) => eprintln!("skipped: an emulator for a build: this kernel refuses it: {error}"),
        }
        assert!(fs::read_dir(&mount_point).expect("a directory").next().is_none());
    }

    #[test]
    fn only_an_emulator_that_works_inside_an_image_counts_as_registered() {
        assert!(serves(ENTRY, Arch::Aarch64));
        assert!(!serves(ENTRY, Arch::X86_64));
        assert!(!serves(&ENTRY.replace("OCF", "OC"), Arch::Aarch64));
        assert!(!serves(&ENTRY.replace("enabled", "disabled"), Arch::Aarch64));
        assert!(!serves("", Arch::Aarch64));
        let dir = tempfile::tempdir().expect("tempdir");
        fs::write(dir.path().join("qemu-aarch64"), ENTRY).expect("write");
        assert!(!registered(dir.path(), Arch::Aarch64), "binfmt_misc is not mounted");
        fs::write(dir.path().join("status"), "enabled\n").expect("write");
        assert!(registered(dir.path(), Arch::Aarch64));
        fs::write(dir.path().join("status"), "disabled\n").expect("write");
        assert!(!registered(dir.path(), Arch::Aarch64));
    }
}
