//! JSON objects on a pipe or socket: each is preceded by its length as four bytes, most significant first.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest object, in bytes.
pub const OBJECT_MAX: u32 = 1 << 20;

/// Sends an object.
///
/// # Errors
/// It is too long, or the other side takes nothing.
pub fn send(to: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(value)?;
    let length = u32::try_from(text.len()).ok().filter(|length| *length <= OBJECT_MAX);
    let length = length.ok_or_else(|| too_long(text.len(), OBJECT_MAX))?;
    to.write_all(&length.to_be_bytes())?;
    to.write_all(&text)
}

/// Sends a zero length, which ends a list of objects.
///
/// # Errors
/// The other side takes nothing.
pub fn send_end(to: &mut impl Write) -> io::Result<()> {
    to.write_all(&0_u32.to_be_bytes()).and_then(|()| to.flush())
}

/// Receives an object; `None` where a zero length stands in its place.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] where what came is not such an object; else the other side is gone, or was cut off.
pub fn receive<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    receive_at_most(OBJECT_MAX, from)
}

/// The same of an object that has no more than so many bytes.
///
/// # Errors
/// As [`receive`].
pub fn receive_at_most<T: DeserializeOwned>(most: u32, from: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    match u32::from_be_bytes(length) {
        0 => Ok(None),
        length if length > most => Err(too_long(length as usize, most)),
        length => {
            let mut text = vec![0; length as usize];
            from.read_exact(&mut text)?;
            // An object that ends too early is as wrong as any other: the pipe has not ended.
            let wrong =
                |error: serde_json::Error| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
            serde_json::from_slice(&text).map(Some).map_err(wrong)
        }
    }
}

fn too_long(length: usize, most: u32) -> io::Error {
    let reason = format!("an object of {length} bytes is too long: {most} is the most");
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_come_out_as_they_went_in_and_a_zero_length_ends_them() {
        let mut wire = Vec::new();
        send(&mut wire, &("a", 1)).unwrap();
        send_end(&mut wire).unwrap();
        let mut wire = wire.as_slice();
        assert_eq!(receive(&mut wire).unwrap(), Some(("a".to_owned(), 1)));
        assert_eq!(receive::<u8>(&mut wire).unwrap(), None);
        assert!(wire.is_empty());
    }

    #[test]
    fn what_is_cut_off_is_told_from_what_is_wrong() {
        let kind = |wire: &[u8]| receive::<u8>(&mut &*wire).unwrap_err().kind();
        assert_eq!(kind(b""), io::ErrorKind::UnexpectedEof);
        assert_eq!(kind(b"\0\0\0\x02"), io::ErrorKind::UnexpectedEof);
        assert_eq!(kind(b"\0\0\0\x01["), io::ErrorKind::InvalidData);
        assert_eq!(kind(b"\xff\xff\xff\xff"), io::ErrorKind::InvalidData);
        let long = "x".repeat(OBJECT_MAX as usize);
        assert_eq!(send(&mut Vec::new(), &long).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
