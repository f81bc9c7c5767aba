//! The fence between a guest and the host's loopback: which of the guest's Ethernet frames reach QEMU's user network.
//!
//! QEMU connects for the guest, from the host: to the loopback where the guest means the gateway or any other address
//! of its own network, and to whatever else the guest writes, be it `127.0.0.1`, `0.0.0.0` or `::1`. Root in a guest
//! can write anything, so frames are judged outside of it, by where they go. What comes back is not judged.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::{GATEWAY, GATEWAY6, PREFIX, RESOLVER, RESOLVER6};

/// The longest frame that QEMU passes on, in bytes (its `NET_BUFSIZE`).
pub const FRAME_MAX: usize = 4096 + 65536;
/// Bytes of the length before each frame.
const LENGTH: usize = 4;

// Types of Ethernet frames (IEEE 802), and protocols of IP (IANA).
const ETHERNET: usize = 14;
const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// Bytes of an IPv6 header.
const HEADER6: usize = 40;
const DNS: u16 = 53;
/// A DHCP server's port.
const DHCP: u16 = 67;
/// TCP's flags that a connection begins with: the first alone, its answer has both.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Whether a frame of the guest's may go on.
#[must_use]
pub fn passes(frame: &[u8]) -> bool {
    let Some((header, packet)) = frame.split_at_checked(ETHERNET) else { return false };
    match two(header, 12) {
        // The user network answers it itself.
        Some(ARP) => true,
        Some(IPV4) => ipv4(packet).unwrap_or(false),
        Some(IPV6) => ipv6(packet).unwrap_or(false),
        _ => false,
    }
}

/// `None` where the packet is cut off.
fn ipv4(packet: &[u8]) -> Option<bool> {
    let first = *packet.first()?;
    let destination = Ipv4Addr::from(array::<4>(packet, 16)?);
    if first >> 4 != 4 {
        return Some(false);
    }
    let network = |address: Ipv4Addr| address.to_bits() >> (32 - PREFIX);
    let inner = network(destination) == network(GATEWAY);
    if !inner && !destination.is_broadcast() {
        // 0.0.0.0 is the host itself, and link-local addresses are its own link's: clouds hand out a machine's
        // credentials there.
        let own = destination.octets()[0] == 0 || destination.is_loopback() || destination.is_link_local();
        return Some(!own && !destination.is_multicast());
    }
    // Here ports count, which only the first fragment has.
    let is_fragment = two(packet, 6)? & 0x3fff != 0;
    let segment = packet.get(usize::from(first & 0x0f) * 4..)?;
    let protocol = *packet.get(9)?;
    let passes = match protocol {
        ICMP => destination == GATEWAY || destination == RESOLVER,
        UDP if destination == RESOLVER => two(segment, 2)? == DNS,
        UDP if destination == GATEWAY || destination.is_broadcast() => two(segment, 2)? == DHCP,
        TCP if destination == RESOLVER => two(segment, 2)? == DNS,
        // Whoever has come by a forward seems to be the gateway, and is answered.
        TCP if destination == GATEWAY => begins_nothing(segment)?,
        _ => false,
    };
    Some(passes && !is_fragment && first & 0x0f >= 5)
}

fn ipv6(packet: &[u8]) -> Option<bool> {
    let destination = Ipv6Addr::from(array::<16>(packet, 24)?);
    let next = *packet.get(6)?;
    let segment = packet.get(HEADER6..)?;
    if packet.first()? >> 4 != 6 {
        return Some(false);
    }
    Some(match destination.segments() {
        // Neighbours and routers, which the user network plays.
        [0xff00.. | 0xfe80..=0xfebf, ..] => next == ICMPV6,
        // The user network's own.
        [0xfec0..=0xfeff, ..] => {
            let known = destination == GATEWAY6 || destination == RESOLVER6;
            (next == ICMPV6 && known)
                || (matches!(next, TCP | UDP) && destination == RESOLVER6 && two(segment, 2)? == DNS)
        }
        // Translated by a router on the way (RFC 6052), unlike the rest of these: `::`, `::1` and the host's IPv4
        // addresses in other clothes.
        [0x0064, 0xff9b, ..] => true,
        [0..=0x00ff, ..] => false,
        _ => true,
    })
}

/// Whether a TCP segment belongs to a connection that is there already.
fn begins_nothing(segment: &[u8]) -> Option<bool> {
    Some(segment.get(13)? & (SYN | ACK) != SYN && segment.len() >= 20)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn two(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

/// Frames on their way, as QEMU writes them on a stream: each after its length, most significant byte first.
#[derive(Debug, Default)]
pub struct Sieve {
    rest: Vec<u8>,
}

/// A length that no frame has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes")]
pub struct BadLength(usize);

impl Sieve {
    /// Takes what has come and gives every whole frame that passes to `on`, with its length before it.
    ///
    /// # Errors
    /// What came is not a stream of frames.
    pub fn sift(&mut self, bytes: &[u8], mut on: impl FnMut(&[u8])) -> Result<(), BadLength> {
        self.rest.extend_from_slice(bytes);
        let mut done = 0;
        while let Some(length) = array::<LENGTH>(&self.rest, done) {
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            if length == 0 || length > FRAME_MAX {
                return Err(BadLength(length));
            }
            let Some(whole) = self.rest.get(done..done + LENGTH + length) else { break };
            if passes(&whole[LENGTH..]) {
                on(whole);
            }
            done += whole.len();
        }
        self.rest.drain(..done);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
