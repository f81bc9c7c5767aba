//! The guest's one network address, the one that QEMU's user network has for everybody; set over
//! netlink, since neither the kernel nor the image has a client for it.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

use super::Error;
use crate::vm::network::{GATEWAY, GUEST, PREFIX, RESOLVER};

/// The guest's interface; without udev it keeps the kernel's name.
const INTERFACE: &str = "eth0";
/// How long the driver may take to bring the interface.
const THERE_WITHIN: Duration = Duration::from_secs(2);

// Numbers of linux/netlink.h, linux/rtnetlink.h, linux/if_link.h and linux/if_addr.h.
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const IFF_UP: u32 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;
const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;

/// The resolver configuration of the guest.
pub(super) fn resolv_conf() -> String {
    format!("nameserver {RESOLVER}\n")
}

/// Brings the loopback interface up, and the network one with its address and route.
///
/// `Ok(false)` where the machine has no network device.
pub(super) fn configure() -> Result<bool, Error> {
    let failed = || Error::io("configure", "the network");
    let mut netlink = Netlink::open().map_err(failed())?;
    if let Some(lo) = index("lo") {
        netlink.request(RTM_NEWLINK, 0, &link_up(lo)).map_err(failed())?;
    }
    let begun = Instant::now();
    let interface = loop {
        match index(INTERFACE) {
            Some(interface) => break interface,
            None if begun.elapsed() > THERE_WITHIN || !has_device() => return Ok(false),
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    netlink.request(RTM_NEWLINK, 0, &link_up(interface)).map_err(failed())?;
    netlink.request(RTM_NEWADDR, NLM_F_CREATE, &address(interface)).map_err(failed())?;
    netlink.request(RTM_NEWROUTE, NLM_F_CREATE, &default_route(interface)).map_err(failed())?;
    Ok(true)
}

/// A virtio device's number for a network card, as sysfs writes it.
fn has_device() -> bool {
    let Ok(devices) = fs::read_dir("/sys/bus/virtio/devices") else { return false };
    devices
        .flatten()
        .any(|device| fs::read_to_string(device.path().join("device")).is_ok_and(|n| n.trim() == "0x0001"))
}

fn index(interface: &str) -> Option<u32> {
    fs::read_to_string(format!("/sys/class/net/{interface}/ifindex")).ok()?.trim().parse().ok()
}

/// `struct ifinfomsg` that raises the interface.
fn link_up(index: u32) -> Vec<u8> {
    let mut body = vec![AF_UNSPEC, 0, 0, 0];
    for word in [index, IFF_UP, IFF_UP] {
        body.extend_from_slice(&word.to_ne_bytes());
    }
    body
}

/// `struct ifaddrmsg` with the address.
fn address(index: u32) -> Vec<u8> {
    let mut body = vec![AF_INET, PREFIX, 0, 0];
    body.extend_from_slice(&index.to_ne_bytes());
    attribute(&mut body, IFA_LOCAL, &GUEST.octets());
    attribute(&mut body, IFA_ADDRESS, &GUEST.octets());
    body
}

/// `struct rtmsg` with the way to everywhere else.
fn default_route(index: u32) -> Vec<u8> {
    let mut body = vec![AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST, 0, 0, 0, 0];
    attribute(&mut body, RTA_GATEWAY, &GATEWAY.octets());
    attribute(&mut body, RTA_OIF, &index.to_ne_bytes());
    body
}

/// `struct rtattr`; all values here are four bytes, so nothing needs padding.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8; 4]) {
    body.extend_from_slice(&8_u16.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
}

/// `struct nlmsghdr` and the body.
fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 16).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&(flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(body);
    bytes
}

struct Netlink {
    socket: std::os::fd::OwnedFd,
    sequence: u32,
}

impl Netlink {
    fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence += 1;
        let bytes = message(kind, flags, self.sequence, body);
        send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let mut answer = [0_u8; 4096];
        let length = recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        acknowledged(&answer[..length])
    }
}

/// The kernel answers every request with an error message, whose number is 0 on success.
fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let odd = || io::Error::other("an answer of another form than asked for");
    let kind = answer.get(4..6).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
    if kind != Some(NLMSG_ERROR) {
        return Err(odd());
    }
    let number =
        answer.get(16..20).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes).ok_or_else(odd)?;
    if number == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-number)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_their_own_length() {
        for body in [link_up(2), address(2), default_route(2)] {
            let bytes = message(RTM_NEWLINK, 0, 1, &body);
            assert_eq!(bytes.len() % 4, 0);
            let length: [u8; 4] = bytes[..4].try_into().expect("header");
            assert_eq!(usize::try_from(u32::from_ne_bytes(length)).expect("length"), bytes.len());
        }
    }

    #[test]
    fn a_refusal_of_the_kernel_is_an_error() {
        let answer = |number: i32| {
            let mut bytes = message(NLMSG_ERROR, 0, 1, &number.to_ne_bytes());
            bytes.extend_from_slice(&[0; 16]);
            bytes
        };
        assert!(acknowledged(&answer(0)).is_ok());
        let refused = acknowledged(&answer(-1)).expect_err("refused");
        assert_eq!(refused.raw_os_error(), Some(1));
        assert!(acknowledged(&[0; 6]).is_err());
    }

    #[test]
    fn the_kernel_takes_our_form_of_a_message() {
        // In a network of the test's own, where it is root and may raise the loopback interface.
        let mut unshare = std::process::Command::new("unshare");
        unshare.args(["--net", "--map-root-user"]).arg(std::env::current_exe().expect("this test"));
        unshare.args(["--exact", "guest::network::tests::raise_loopback", "--ignored", "--nocapture"]);
        match unshare.output() {
            Ok(output) if output.status.success() => {
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(said.contains("1 passed"), "{said}");
            }
            Ok(output) if String::from_utf8_lossy(&output.stderr).contains("unshare failed") => {
                eprintln!("skipped: no network namespace: {}", String::from_utf8_lossy(&output.stderr));
            }
            Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stdout)),
            Err(error) => eprintln!("skipped: unshare: {error}"),
        }
    }

    #[test]
    #[ignore = "for a network namespace of its own; the test above makes one"]
    fn raise_loopback() {
        // The first interface of a new network is lo.
        let mut netlink = Netlink::open().expect("netlink");
        netlink.request(RTM_NEWLINK, 0, &link_up(1)).expect("lo is raised");
        let refused =
            netlink.request(RTM_NEWLINK, 0, &link_up(4242)).expect_err("there is no such interface");
        assert_eq!(refused.raw_os_error(), Some(nix::libc::ENODEV));
        // With lo up, its address answers.
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("an address to listen on");
        std::net::TcpStream::connect(listener.local_addr().expect("its port")).expect("lo is up");
        netlink.request(RTM_NEWADDR, NLM_F_CREATE, &address(1)).expect("the address is added");
    }
}
