//! civm's own binary for the guest: the running one, or for a guest of the other architecture one that was built for it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{Error, debian_name};
use crate::edge::environment::Environment;
use crate::host::spec::Arch;

/// Names the binary for guests of the other architecture.
pub const VARIABLE: &str = "CIVM_GUEST_BINARY";
/// ELF machine numbers.
const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;
/// Bytes at its start in which the ELF and program headers are.
const HEAD: u64 = 64 << 10;
/// ELF program header type of the dynamic loader's path.
const PT_INTERP: u32 = 3;

/// The ELF machine number of an architecture.
pub(super) const fn elf_machine(arch: Arch) -> u16 {
    match arch {
        Arch::X86_64 => EM_X86_64,
        Arch::Aarch64 => EM_AARCH64,
    }
}

/// A static binary that can be a guest's PID 1.
#[derive(Debug)]
pub(super) struct GuestBinary {
    pub(super) path: PathBuf,
    file: File,
    /// Its path, length and times. A hash of all of it would take as long as everything else that a start does.
    pub(super) stamp: String,
}

impl GuestBinary {
    /// Finds it and makes sure that it runs without a dynamic loader, on that architecture.
    ///
    /// # Errors
    /// [`Error::NoGuestBinary`]; [`Error::DynamicBinary`]; [`Error::Content`] where it is something else;
    /// [`Error::Io`].
    pub(super) fn find(given: Option<&Path>, arch: Arch, environment: &Environment) -> Result<Self, Error> {
        if let Some(path) = given {
            return Self::load(path.to_owned(), arch);
        }
        let running = std::env::current_exe().map_err(Error::io("find", "the running civm"))?;
        if Arch::native() == Some(arch) {
            return Self::load(running, arch);
        }
        if let Some(path) = environment.non_empty(VARIABLE) {
            return Self::load(path.into(), arch);
        }
        let places = places(&running, arch);
        match places.iter().find(|path| path.exists()) {
            Some(path) => Self::load(path.clone(), arch),
            None => Err(Error::NoGuestBinary { arch, places, variable: VARIABLE }),
        }
    }

    fn load(path: PathBuf, arch: Arch) -> Result<Self, Error> {
        let binary = Self::open(path)?;
        let path = &binary.path;
        let mut head = Vec::new();
        (&binary.file).take(HEAD).read_to_end(&mut head).map_err(Error::io("read", path))?;
        let elf = Elf::parse(&head).ok_or_else(|| Error::content(path, "is not a 64-bit Linux program"))?;
        if elf.machine != elf_machine(arch) {
            let reason = format!("is for another processor than the guest's ({})", debian_name(arch));
            return Err(Error::content(path, reason));
        }
        if elf.dynamic { Err(Error::DynamicBinary(binary.path)) } else { Ok(binary) }
    }

    pub(super) fn open(path: PathBuf) -> Result<Self, Error> {
        let file = File::open(&path).map_err(unreadable).map_err(Error::io("read", &path))?;
        let found = file.metadata().map_err(Error::io("read", &path))?;
        let stamp = format!(
            "{}\n{}\n{}.{:09}\n{}.{:09}",
            path.display(),
            found.len(),
            found.mtime(),
            found.mtime_nsec(),
            found.ctime(),
            found.ctime_nsec()
        );
        Ok(Self { path, file, stamp })
    }

    /// All of it, of the very file that the stamp is of.
    pub(super) fn content(&self) -> Result<Vec<u8>, Error> {
        let mut content = Vec::new();
        let mut file = &self.file;
        file.rewind().and_then(|()| file.read_to_end(&mut content)).map_err(Error::io("read", &self.path))?;
        Ok(content)
    }
}

/// Where a binary for the other architecture may be: beside the running one, as `civm-aarch64`; or where cargo puts
/// it, if the running one is where cargo put it (`target/TRIPLE/PROFILE/civm`).
fn places(running: &Path, arch: Arch) -> Vec<PathBuf> {
    let dir = running.parent().unwrap_or(Path::new("/"));
    let beside = dir.join(format!("civm-{arch}"));
    let built = dir.parent().and_then(Path::parent);
    let built = built.map(|target| target.join(format!("{arch}-unknown-linux-musl/release/civm")));
    [Some(beside), built].into_iter().flatten().collect()
}

/// A program can be run by who may not read it; then this is why it must be read.
fn unreadable(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let reason = format!("{error}; civm must be readable: it is the guest's PID 1 as well");
            io::Error::new(error.kind(), reason)
        }
        _ => error,
    }
}

/// The little of an ELF header that matters here.
#[derive(Debug, PartialEq, Eq)]
struct Elf {
    machine: u16,
    dynamic: bool,
}

impl Elf {
    /// Little-endian 64-bit files only.
    fn parse(bytes: &[u8]) -> Option<Self> {
        if !bytes.starts_with(b"\x7fELF\x02\x01") {
            return None;
        }
        let u16_at = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let offset = usize::try_from(u64::from_le_bytes(bytes.get(32..40)?.try_into().ok()?)).ok()?;
        let (size, count) = (usize::from(u16_at(54)?), usize::from(u16_at(56)?));
        let mut dynamic = false;
        for index in 0..count {
            let at = offset.checked_add(index * size)?;
            let kind = u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?);
            dynamic |= kind == PT_INTERP;
        }
        Some(Self { machine: u16_at(18)?, dynamic })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The architecture that this machine does not have.
    fn foreign() -> Arch {
        if Arch::native() == Some(Arch::Aarch64) { Arch::X86_64 } else { Arch::Aarch64 }
    }

    /// The start of a static program for an architecture: an ELF header without program headers.
    fn program(arch: Arch) -> Vec<u8> {
        let mut header = b"\x7fELF\x02\x01".to_vec();
        header.resize(64, 0);
        header[18..20].copy_from_slice(&elf_machine(arch).to_le_bytes());
        header
    }

    #[test]
    fn a_guest_of_the_other_architecture_gets_the_binary_that_is_named() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("other");
        fs::write(&path, program(foreign())).expect("write");
        let environment = Environment::empty().with(VARIABLE, &path);
        let found = GuestBinary::find(None, foreign(), &environment).expect("a binary");
        assert_eq!((&found.path, found.content().expect("read")), (&path, program(foreign())));
        fs::write(&path, program(Arch::native().expect("known"))).expect("write");
        let error = GuestBinary::find(None, foreign(), &environment).expect_err("this machine's own");
        assert!(error.to_string().contains("is for another processor than the guest's"), "{error}");
    }

    #[test]
    fn the_variable_says_nothing_of_guests_like_this_machine() {
        let native = Arch::native().expect("known architecture");
        let environment = Environment::empty().with(VARIABLE, "/nowhere");
        let found = GuestBinary::find(None, native, &environment);
        assert!(!matches!(&found, Err(Error::Io { .. })), "{found:?}");
    }

    #[test]
    fn a_binary_that_is_missing_is_looked_for_beside_the_running_one_and_in_cargos_directory() {
        let running = Path::new("/w/target/x86_64-unknown-linux-gnu/release/civm");
        let places = places(running, Arch::Aarch64);
        assert_eq!(
            places,
            [
                Path::new("/w/target/x86_64-unknown-linux-gnu/release/civm-aarch64"),
                Path::new("/w/target/aarch64-unknown-linux-musl/release/civm"),
            ]
        );
        let message = Error::NoGuestBinary { arch: Arch::Aarch64, places, variable: VARIABLE }.to_string();
        assert_eq!(
            message,
            "there is no civm for aarch64 guests: \
             /w/target/x86_64-unknown-linux-gnu/release/civm-aarch64 or \
             /w/target/aarch64-unknown-linux-musl/release/civm does not exist. `devshell/setup --aarch64` in civm's \
             repository builds it, and CIVM_GUEST_BINARY can name it"
        );
    }

    #[test]
    fn a_dynamically_linked_program_is_refused() {
        let arch = Arch::native().expect("known architecture");
        let load = |path: &str| GuestBinary::load(path.into(), arch);
        let error = load("/bin/sh").expect_err("dynamic");
        assert!(matches!(error, Error::DynamicBinary(_)), "{error}");
        let text = load("/etc/passwd").expect_err("no program");
        assert!(matches!(text, Error::Content { .. }), "{text}");
    }

    #[test]
    fn a_program_that_may_not_be_read_is_explained() {
        let denied = unreadable(io::Error::from_raw_os_error(nix::libc::EACCES));
        let message = Error::io("read", "/opt/civm")(denied).to_string();
        assert!(message.starts_with("cannot read /opt/civm: Permission denied"), "{message}");
        assert!(message.ends_with("; civm must be readable: it is the guest's PID 1 as well"), "{message}");
        let gone = unreadable(io::Error::from_raw_os_error(nix::libc::ENOENT));
        assert!(!gone.to_string().contains("readable"));
    }

    #[test]
    fn a_cut_elf_file_is_refused_not_believed() {
        let bytes = fs::read("/bin/sh").expect("read");
        for end in [0, 4, 20, 40, 57, 63] {
            assert_eq!(Elf::parse(&bytes[..end]), None, "cut at {end}");
        }
    }
}
