use super::{BadLength, FRAME_MAX, Sieve, passes};
use std::net::{Ipv4Addr, Ipv6Addr};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const RST: u8 = 0x04;

fn ethernet(kind: u16, packet: &[u8]) -> Vec<u8> {
    [&[0x52; 12][..], &kind.to_be_bytes(), packet].concat()
}

/// A segment to a port, long enough for TCP's flags.
fn segment(port: u16, flags: u8) -> Vec<u8> {
    let mut segment = vec![0x30, 0x39];
    segment.extend(port.to_be_bytes());
    segment.extend([0; 8]);
    segment.extend([0x50, flags, 0, 0, 0, 0, 0, 0]);
    segment
}

/// An IPv4 packet with these words of options.
fn with_options(to: &str, protocol: u8, fragment: u16, options: u8, segment: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45 + options, 0, 0, 0, 0, 0];
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0, 10, 0, 2, 15]);
    packet.extend(to.parse::<Ipv4Addr>().unwrap().octets());
    packet.extend(vec![1; usize::from(options) * 4]);
    packet.extend(segment);
    ethernet(0x0800, &packet)
}

fn ipv4(to: &str, protocol: u8, segment: &[u8]) -> Vec<u8> {
    with_options(to, protocol, 0, 0, segment)
}

fn ipv6(to: &str, next: u8, segment: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, next, 64];
    packet.extend([0xfe; 16]);
    packet.extend(to.parse::<Ipv6Addr>().unwrap().octets());
    packet.extend(segment);
    ethernet(0x86dd, &packet)
}

#[test]
fn other_machines_are_reached_by_every_protocol() {
    for to in ["192.0.2.7", "10.0.3.2", "10.1.2.3", "172.16.0.1", "192.168.1.1", "8.8.8.8", "100.64.0.1"] {
        for protocol in [ICMP, TCP, UDP] {
            assert!(passes(&ipv4(to, protocol, &segment(80, SYN))), "{to} {protocol}");
        }
        assert!(passes(&with_options(to, UDP, 0x2000, 0, &segment(80, 0))), "fragments too");
    }
    for to in ["2001:db8::1", "fd00::2", "64:ff9b::c000:207"] {
        assert!(passes(&ipv6(to, TCP, &segment(80, SYN))), "{to}");
    }
}

#[test]
fn the_host_is_not_reached_by_any_of_its_names() {
    let own = [
        "127.0.0.1",
        "127.0.0.53",
        "127.255.255.254",
        "0.0.0.0",
        "0.1.2.3",
        "10.0.2.2",
        "10.0.2.0",
        "10.0.2.7",
        "10.0.2.15",
        "10.0.2.255",
        "169.254.169.254",
        "255.255.255.255",
        "224.0.0.251",
    ];
    for to in own {
        assert!(!passes(&ipv4(to, TCP, &segment(5432, SYN))), "{to}");
        assert!(!passes(&ipv4(to, UDP, &segment(5432, 0))), "{to}");
    }
    let own = [
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:192.0.2.1",
        "::ffff:0:127.0.0.1",
        "fec0::2",
        "fec0::3",
        "fec0::1:2",
        "fe80::2",
        "ff02::1",
        "ff01::1",
    ];
    for to in own {
        assert!(!passes(&ipv6(to, TCP, &segment(5432, SYN))), "{to}");
        assert!(!passes(&ipv6(to, UDP, &segment(5432, 0))), "{to}");
    }
}

#[test]
fn the_user_networks_own_services_are_reached_and_no_other_port_of_theirs() {
    for protocol in [TCP, UDP] {
        assert!(passes(&ipv4("10.0.2.3", protocol, &segment(53, SYN))));
        assert!(
            !passes(&ipv4("10.0.2.3", protocol, &segment(54, SYN))),
            "the resolver may be on the loopback"
        );
        assert!(passes(&ipv6("fec0::3", protocol, &segment(53, SYN))));
        assert!(!passes(&ipv6("fec0::3", protocol, &segment(54, SYN))));
    }
    for to in ["10.0.2.2", "255.255.255.255"] {
        assert!(passes(&ipv4(to, UDP, &segment(67, 0))), "DHCP");
        assert!(!passes(&ipv4(to, UDP, &segment(69, 0))), "TFTP");
    }
    assert!(passes(&ethernet(0x0806, &[0; 28])), "ARP");
    assert!(passes(&ipv4("10.0.2.2", ICMP, &[8, 0, 0, 0])));
    for to in ["ff02::2", "fe80::2", "fec0::2"] {
        assert!(passes(&ipv6(to, ICMPV6, &[133, 0, 0, 0])), "{to}");
    }
}

#[test]
fn who_came_by_a_forward_is_answered_and_nobody_called() {
    for flags in [ACK, SYN | ACK, RST, RST | ACK, ACK | 0x01] {
        assert!(passes(&ipv4("10.0.2.2", TCP, &segment(50000, flags))), "{flags:#x}");
    }
    for flags in [SYN, SYN | 0x01, SYN | RST, SYN | 0x20] {
        assert!(!passes(&ipv4("10.0.2.2", TCP, &segment(50000, flags))), "{flags:#x}");
    }
}

#[test]
fn ports_are_read_where_they_are_and_nowhere_else() {
    // Options move them; a fragment may have them changed by a later one; a cut-off packet has none.
    assert!(passes(&with_options("10.0.2.3", UDP, 0, 3, &segment(53, 0))));
    assert!(!passes(&with_options("10.0.2.3", UDP, 0, 3, &segment(80, 0))));
    assert!(!passes(&with_options("10.0.2.3", UDP, 0x2000, 0, &segment(53, 0))));
    assert!(!passes(&with_options("10.0.2.3", UDP, 0x0001, 0, &segment(53, 0))));
    assert!(!passes(&with_options("10.0.2.2", TCP, 0x2000, 0, &segment(80, ACK))));
    let mut short = ipv4("10.0.2.3", UDP, &segment(53, 0));
    short[14] = 0x44;
    assert!(!passes(&short), "a header of four words");
}

#[test]
fn whatever_is_cut_off_or_of_another_kind_is_dropped() {
    for whole in [
        ipv4("10.0.2.2", TCP, &segment(80, ACK)),
        ipv4("10.0.2.3", UDP, &segment(53, 0)),
        ipv6("fec0::3", UDP, &segment(53, 0)),
    ] {
        assert!(passes(&whole));
        for length in 0..whole.len() {
            // What is missed may only be payload.
            let _ = passes(&whole[..length]);
        }
        assert!(!passes(&whole[..33]), "the destination is cut off");
    }
    for kind in [0x8100, 0x88a8, 0x88f8, 0x8863, 0x0000, 0x05dc] {
        assert!(!passes(&ethernet(kind, &[0x45; 60])), "{kind:#x}");
    }
    let mut mislabelled = ipv4("192.0.2.7", TCP, &segment(80, SYN));
    mislabelled[14] = 0x65;
    assert!(!passes(&mislabelled));
}

fn framed(frame: &[u8]) -> Vec<u8> {
    [&u32::try_from(frame.len()).unwrap().to_be_bytes(), frame].concat()
}

#[test]
fn a_stream_is_sifted_wherever_it_is_torn() {
    let good = framed(&ipv4("192.0.2.7", TCP, &segment(80, SYN)));
    let bad = framed(&ipv4("127.0.0.1", TCP, &segment(80, SYN)));
    let stream = [&good[..], &bad, &bad, &good, &good].concat();
    for size in [1, 3, 4, 5, 57, 58, 59, 1000] {
        let (mut sieve, mut out) = (Sieve::default(), Vec::new());
        for piece in stream.chunks(size) {
            sieve.sift(piece, |frame| out.extend_from_slice(frame)).unwrap();
        }
        assert_eq!(out, [&good[..], &good, &good].concat(), "pieces of {size}");
    }
}

#[test]
fn a_length_that_no_frame_has_ends_it() {
    let mut sieve = Sieve::default();
    assert_eq!(sieve.sift(&[0, 0, 0, 0], |_| {}), Err(BadLength(0)));
    let long = u32::try_from(FRAME_MAX + 1).unwrap().to_be_bytes();
    assert_eq!(Sieve::default().sift(&long, |_| {}), Err(BadLength(FRAME_MAX + 1)));
}
