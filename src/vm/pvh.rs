//! A kernel of a few bytes as a file that QEMU boots by PVH: an ELF file with a note that names its entry.

/// Where the code is loaded and entered, in 32-bit mode without paging: the first megabyte is the firmware's.
pub const LOAD: u32 = 0x10_0000;
/// `XEN_ELFNOTE_PHYS32_ENTRY`: the 32-bit entry of a PVH kernel.
const PHYS32_ENTRY: u32 = 18;
/// Size of an ELF64 header and of a program header.
const HEADER: u64 = 64;
const PROGRAM_HEADER: u64 = 56;

/// The file of a kernel with this code.
#[must_use]
pub fn elf(text: &[u8]) -> Vec<u8> {
    let note = note();
    let note_at = HEADER + 2 * PROGRAM_HEADER;
    let text_at = note_at + note.len() as u64;
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // ET_EXEC, EM_X86_64, version 1.
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    elf.extend(u64::from(LOAD).to_le_bytes());
    elf.extend(HEADER.to_le_bytes());
    elf.extend([0; 12]);
    // Sizes of the headers, two program headers, no sections.
    elf.extend([64, 0, 56, 0, 2, 0, 64, 0, 0, 0, 0, 0]);
    // PT_LOAD, readable and executable; PT_NOTE.
    elf.extend(program_header(1, 5, text_at, text.len() as u64, 4096));
    elf.extend(program_header(4, 4, note_at, note.len() as u64, 4));
    elf.extend(note);
    elf.extend(text);
    elf
}

fn program_header(kind: u32, flags: u32, offset: u64, size: u64, align: u64) -> Vec<u8> {
    let address = if kind == 1 { u64::from(LOAD) } else { 0 };
    let mut header = [kind.to_le_bytes(), flags.to_le_bytes()].concat();
    for field in [offset, address, address, size, size, align] {
        header.extend(field.to_le_bytes());
    }
    header
}

fn note() -> Vec<u8> {
    let mut note = Vec::new();
    for field in [4_u32, 8, PHYS32_ENTRY] {
        note.extend(field.to_le_bytes());
    }
    note.extend(b"Xen\0");
    note.extend(u64::from(LOAD).to_le_bytes());
    note
}
