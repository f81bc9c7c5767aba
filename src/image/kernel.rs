//! The guest's kernel: fetched through a private apt root, its image uncompressed.
//!
//! Uncompressed, because the kernel's own decompression is slow where the processor is emulated; an
//! ELF `vmlinux` boots by PVH, without BIOS code.

use std::fs;
use std::path::{Path, PathBuf};

use super::apt::Apt;
use super::run::{Job, Tool};
use super::{Error, debian_name};
use crate::host::spec::Arch;

/// Magic numbers of the compressions in use, and the programs that undo them.
const COMPRESSIONS: [(&[u8], &str, &[&str]); 4] = [
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz", &["-dc", "--single-stream"]),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd", &["-dcq"]),
    (&[0x1f, 0x8b], "gzip", &["-dc"]),
    (&[0x02, 0x21, 0x4c, 0x18], "lz4", &["-dcq"]),
];
/// Longest kernel payload that is believed, 256 MiB.
const MAX_PAYLOAD: usize = 256 << 20;

/// A kernel package, unpacked.
#[derive(Debug)]
pub(super) struct Kernel {
    /// The root of the unpacked package.
    pub(super) root: PathBuf,
    /// Its release, as `uname -r` says it.
    pub(super) release: String,
}

/// Fetches and unpacks the newest kernel of the sources below `dir`.
///
/// # Errors
/// Where apt cannot fetch it or the package holds no kernel.
pub(super) fn fetch(dir: &Path, arch: Arch, apt: &Apt, job: &Job) -> Result<Kernel, Error> {
    let step = "fetching the kernel";
    let apt = |program| apt.tool(step, program, job);
    let meta = format!("linux-image-{}", debian_name(arch));
    let shown = apt("apt-cache")?.args(["show", "--no-all-versions", &meta]).output()?;
    let package = first_dependency(&shown)
        .ok_or_else(|| Error::content(job.log(), format!("package {meta} depends on no kernel")))?;
    let debs = dir.join("debs");
    fs::create_dir(&debs).map_err(Error::io("create", &debs))?;
    // `apt-get download` writes into its working directory.
    apt("apt-get")?.args(["-q", "download", package]).in_dir(&debs).run()?;
    let deb = only_entry(&debs)?;
    let root = dir.join("root");
    Tool::leashed("unpacking the kernel", "dpkg-deb", job)?.arg("-x").arg(&deb).arg(&root).run()?;
    fs::remove_file(&deb).map_err(Error::io("remove", &deb))?;
    let modules = [root.join("lib/modules"), root.join("usr/lib/modules")];
    let modules = modules.iter().find(|dir| dir.is_dir());
    let release = match modules {
        Some(dir) => only_entry(dir)?,
        None => return Err(Error::content(&deb, "contains no kernel modules")),
    };
    let release = release.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Kernel { root, release })
}

/// Writes the uncompressed kernel.
pub(super) fn extract(kernel: &Kernel, arch: Arch, to: &Path, job: &Job) -> Result<(), Error> {
    let path = kernel.root.join(format!("boot/vmlinuz-{}", kernel.release));
    let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
    let payload = match arch {
        Arch::X86_64 => bzimage_payload(&bytes).ok_or_else(|| Error::content(&path, "is not a bzImage"))?,
        Arch::Aarch64 => zboot_payload(&bytes).unwrap_or(&bytes),
    };
    decompress(payload, to, job)?;
    let mut start = [0_u8; 64];
    let read = fs::File::open(to).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut start));
    read.map_err(Error::io("read", to))?;
    let good = match arch {
        Arch::X86_64 => start.starts_with(b"\x7fELF"),
        // The magic number of an arm64 `Image`, at offset 56.
        Arch::Aarch64 => start[56..60] == *b"ARM\x64",
    };
    if good { Ok(()) } else { Err(Error::content(&path, "holds a kernel of an unknown form")) }
}

fn decompress(payload: &[u8], to: &Path, job: &Job) -> Result<(), Error> {
    let compression = COMPRESSIONS.iter().find(|(magic, ..)| payload.starts_with(magic));
    let Some((_, program, args)) = compression else {
        return fs::write(to, payload).map_err(Error::io("write", to));
    };
    let packed = to.with_extension("packed");
    fs::write(&packed, payload).map_err(Error::io("write", &packed))?;
    let unpacked = Tool::new("extracting the kernel", program, job)?.args(*args).arg(&packed).into_file(to);
    let _ = fs::remove_file(&packed);
    unpacked
}

/// The compressed kernel in a bzImage, by its setup header (Linux x86 boot protocol 2.08): number of
/// setup sectors at 0x1f1, payload's offset and length at 0x248 and 0x24c, counted from the end of
/// the setup. The payload's last four bytes are its unpacked size, no part of the stream.
fn bzimage_payload(bytes: &[u8]) -> Option<&[u8]> {
    if bytes.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let sectors = match *bytes.get(0x1f1)? {
        0 => 4,
        n => usize::from(n),
    };
    let start = (sectors + 1) * 512 + read_u32(bytes, 0x248)?;
    let length = read_u32(bytes, 0x24c)?;
    if length > MAX_PAYLOAD {
        return None;
    }
    bytes.get(start..start + length.checked_sub(4)?)
}

/// The compressed kernel in an EFI zboot image: `zimg` at 4, payload's offset and length at 8 and 12.
fn zboot_payload(bytes: &[u8]) -> Option<&[u8]> {
    if bytes.get(4..8)? != b"zimg" {
        return None;
    }
    let start = read_u32(bytes, 8)?;
    bytes.get(start..start.checked_add(read_u32(bytes, 12)?)?)
}

fn read_u32(bytes: &[u8], at: usize) -> Option<usize> {
    let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(four)).ok()
}

/// The first name in the first `Depends:` field.
fn first_dependency(shown: &str) -> Option<&str> {
    let depends = shown.lines().find_map(|line| line.strip_prefix("Depends:"))?;
    let first = depends.split([',', '|']).next()?.trim();
    first.split([' ', '(']).next().filter(|name| !name.is_empty())
}

fn only_entry(dir: &Path) -> Result<PathBuf, Error> {
    let mut entries = fs::read_dir(dir).map_err(Error::io("read", dir))?.flatten();
    match (entries.next(), entries.next()) {
        (Some(entry), None) => Ok(entry.path()),
        _ => Err(Error::content(dir, "does not hold exactly one file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bzimage(payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0_u8; 3 * 512 + 16];
        bytes[0x1f1] = 2;
        bytes[0x202..0x206].copy_from_slice(b"HdrS");
        bytes[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        let length = u32::try_from(payload.len() + 4).expect("short");
        bytes[0x24c..0x250].copy_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(&[1, 2, 3, 4]);
        bytes
    }

    #[test]
    fn the_payload_of_a_bzimage_is_found_without_its_size_field() {
        assert_eq!(bzimage_payload(&bzimage(b"kernel")), Some(&b"kernel"[..]));
    }

    #[test]
    fn a_cut_or_foreign_file_is_no_kernel() {
        let bytes = bzimage(b"kernel");
        for end in 0..bytes.len() {
            assert_eq!(
                bzimage_payload(&bytes[..end]).filter(|_| end < bytes.len() - 4),
                None,
                "cut at {end}"
            );
        }
        assert_eq!(zboot_payload(b"MZ"), None);
    }

    #[test]
    fn the_payload_of_a_zboot_image_is_found() {
        let mut bytes = b"MZ\0\0zimg".to_vec();
        bytes.extend_from_slice(&16_u32.to_le_bytes());
        bytes.extend_from_slice(&3_u32.to_le_bytes());
        bytes.extend_from_slice(b"abcdef");
        assert_eq!(zboot_payload(&bytes), Some(&b"abc"[..]));
    }

    #[test]
    fn the_kernel_behind_the_meta_package_is_its_first_dependency() {
        let shown = "Package: linux-image-amd64\nDepends: linux-image-6.1.0-9-amd64 (= 6.1.1-1), other\n";
        assert_eq!(first_dependency(shown), Some("linux-image-6.1.0-9-amd64"));
        assert_eq!(first_dependency("Package: x\n"), None);
    }
}
