//! The smallest kernel that QEMU boots.

use civm::vm::pvh::{self, LOAD};

/// What it says on the first serial port.
pub const WORD: &str = "the smallest kernel runs";

/// The kernel's file.
pub fn elf() -> Vec<u8> {
    pvh::elf(&text())
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
