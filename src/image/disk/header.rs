//! The header of a qcow2 disk (docs/interop/qcow2.txt of QEMU): what of it decides whether QEMU may open the disk.
//!
//! It is read here and not by `qemu-img info`, which opens what a disk refers to before it says so.

/// Bytes of the header that are read: all fields of version 3.
pub(super) const LENGTH: usize = 104;
const MAGIC: [u8; 4] = [b'Q', b'F', b'I', 0xfb];
/// Incompatible features of version 3.
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA_FILE: u64 = 1 << 2;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Size of the disk that a guest sees, in bytes.
    pub(super) virtual_size: u64,
    /// The disk holds only what differs from another file.
    pub(super) has_backing_file: bool,
    /// The data is in another file.
    pub(super) has_data_file: bool,
    /// The data is encrypted.
    pub(super) is_encrypted: bool,
    /// QEMU found its tables damaged.
    pub(super) is_corrupt: bool,
}

impl Header {
    /// Reads the start of a file; `None` where it is not a qcow2 of version 2 or 3.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let u32_at = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let u64_at = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        if !bytes.starts_with(&MAGIC) {
            return None;
        }
        let incompatible = match u32_at(4)? {
            2 => 0,
            3 => u64_at(72)?,
            _ => return None,
        };
        Some(Self {
            virtual_size: u64_at(24)?,
            // The name's place and its length: QEMU goes by the first.
            has_backing_file: u64_at(8)? != 0 || u32_at(16)? != 0,
            has_data_file: incompatible & EXTERNAL_DATA_FILE != 0,
            is_encrypted: u32_at(32)? != 0,
            is_corrupt: incompatible & CORRUPT != 0,
        })
    }

    /// Why QEMU must not be given the disk, if it must not.
    pub(super) fn refusal(&self) -> Option<&'static str> {
        if self.has_backing_file {
            Some("has a backing file: QEMU would read that file as well, wherever it is")
        } else if self.has_data_file {
            Some("has its data in another file, wherever that is")
        } else if self.is_encrypted {
            Some("is encrypted")
        } else if self.is_corrupt {
            Some("is damaged")
        } else {
            None
        }
    }

    /// What can be done about it.
    pub(super) fn advice(&self) -> &'static str {
        if self.is_corrupt {
            "`qemu-img check -r all` repairs it"
        } else {
            "if you trust what it refers to, `qemu-img convert -O qcow2` makes a self-contained copy"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: u32) -> Vec<u8> {
        let mut bytes = vec![0; LENGTH];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&version.to_be_bytes());
        bytes[24..32].copy_from_slice(&(1_u64 << 32).to_be_bytes());
        bytes
    }

    fn refusal(version: u32, change: impl FnOnce(&mut Vec<u8>)) -> Option<&'static str> {
        let mut bytes = header(version);
        change(&mut bytes);
        Header::parse(&bytes).expect("a header").refusal()
    }

    #[test]
    fn a_disk_of_its_own_is_taken() {
        for version in [2, 3] {
            let found = Header::parse(&header(version)).expect("a header");
            assert_eq!((found.virtual_size, found.refusal()), (1 << 32, None));
            // Dirty: it was not closed properly. QEMU repairs that by itself.
            assert_eq!(refusal(version, |bytes| bytes[79] = 1), None);
        }
    }

    #[test]
    fn what_refers_to_another_file_is_refused() {
        for version in [2, 3] {
            assert!(refusal(version, |bytes| bytes[15] = 104).expect("refused").contains("backing file"));
            assert!(refusal(version, |bytes| bytes[19] = 9).expect("refused").contains("backing file"));
            assert_eq!(refusal(version, |bytes| bytes[35] = 2), Some("is encrypted"));
        }
        assert!(refusal(3, |bytes| bytes[79] = 4).expect("refused").contains("in another file"));
        assert_eq!(refusal(3, |bytes| bytes[79] = 2), Some("is damaged"));
        assert_eq!(refusal(2, |bytes| bytes[79] = 4), None, "version 2 has no such field");
    }

    #[test]
    fn what_is_no_whole_header_is_none() {
        assert_eq!(Header::parse(b""), None);
        assert_eq!(Header::parse(&[0; LENGTH]), None);
        assert_eq!(Header::parse(&header(1)), None);
        assert_eq!(Header::parse(&header(4)), None);
        for end in 0..80 {
            assert_eq!(Header::parse(&header(3)[..end]), None, "cut at {end}");
        }
    }
}
