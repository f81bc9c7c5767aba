//! The smallest kernel that QEMU boots by PVH: an ELF file with a note that names its entry.

/// What it says on the first serial port.
pub const WORD: &str = "the smallest kernel runs";

/// Where it is loaded: the first megabyte is the firmware's.
const LOAD: u32 = 0x10_0000;
/// `XEN_ELFNOTE_PHYS32_ENTRY`: the 32-bit entry of a PVH kernel.
const PHYS32_ENTRY: u32 = 18;
/// Size of an ELF64 header and of a program header.
const HEADER: u64 = 64;
const PROGRAM_HEADER: u64 = 56;

/// The kernel's file.
pub fn elf() -> Vec<u8> {
    let text = text();
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

/// Writes [`WORD`] to port 0x3f8, then halts for ever.
fn text() -> Vec<u8> {
    let code_length = 18;
    let mut text = vec![0xbe];
    text.extend((LOAD + code_length).to_le_bytes());
    text.extend([
        0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0xac, // next: lodsb
        0x84, 0xc0, // test al, al
        0x74, 0x03, // jz halt
        0xee, // out dx, al
        0xeb, 0xf8, // jmp next
        0xf4, // halt: hlt
    ]);
    assert_eq!(u32::try_from(text.len()), Ok(code_length));
    // `hlt` comes back with an interrupt; they are off, and stay off.
    text.extend(WORD.as_bytes());
    text.extend(b"\n\0");
    text
}
