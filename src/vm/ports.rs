//! Port forwards of user-mode networking: `hostfwd` rules and what QEMU says became of them.

use core::net::Ipv4Addr;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The guest's ssh port.
pub const SSH: u16 = 22;

/// A TCP port of the host that leads to a port of the guest.
///
/// IPv4 only: that is what QEMU's `hostfwd` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// Address of the host that listens.
    pub address: Ipv4Addr,
    /// Port of the host; 0 lets the kernel choose a free one.
    pub host_port: u16,
    /// Port of the guest.
    pub guest_port: u16,
}

impl Forward {
    /// A forward that only the host itself can reach.
    #[must_use]
    pub fn loopback(host_port: u16, guest_port: u16) -> Self {
        Self { address: Ipv4Addr::LOCALHOST, host_port, guest_port }
    }

    /// The rule as the value of QEMU's `hostfwd=`.
    #[must_use]
    pub fn render(&self) -> String {
        format!("tcp:{}:{}-:{}", self.address, self.host_port, self.guest_port)
    }

    /// Whether two forwards want the same port of the host.
    #[must_use]
    pub fn clashes(&self, other: &Self) -> bool {
        self.host_port != 0
            && self.host_port == other.host_port
            && (self.address == other.address
                || self.address.is_unspecified()
                || other.address.is_unspecified())
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} -> {}", self.address, self.host_port, self.guest_port)
    }
}

/// Why a text is not a forward.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Neither `[ADDRESS:]HOST:GUEST` nor `auto:GUEST`.
    #[error("`{0}` is not a forward: expected `HOST:GUEST`, `ADDRESS:HOST:GUEST` or `auto:GUEST`")]
    Syntax(String),
    /// Not a port number.
    #[error("`{0}` is not a port number (1 to 65535)")]
    Port(String),
    /// Not an IPv4 address.
    #[error("`{0}` is not an IPv4 address")]
    Address(String),
}

impl FromStr for Forward {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parts: Vec<&str> = text.split(':').collect();
        let (address, host, guest) = match parts.as_slice() {
            [host, guest] => (Ipv4Addr::LOCALHOST, *host, *guest),
            [address, host, guest] => {
                let parsed = address.parse().map_err(|_| Error::Address((*address).to_owned()))?;
                (parsed, *host, *guest)
            }
            _ => return Err(Error::Syntax(text.to_owned())),
        };
        let host_port = if host == "auto" { 0 } else { parse_port(host)? };
        Ok(Self { address, host_port, guest_port: parse_port(guest)? })
    }
}

fn parse_port(text: &str) -> Result<u16, Error> {
    match text.parse::<u16>() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(Error::Port(text.to_owned())),
    }
}

/// The listening forwards in the answer to the monitor's `info usernet`.
#[must_use]
pub fn parse_usernet(answer: &str) -> Vec<Forward> {
    answer.lines().filter_map(parse_usernet_line).collect()
}

/// `TCP[HOST_FORWARD]  12  127.0.0.1 40123  10.0.2.15    22     0     0`
fn parse_usernet_line(line: &str) -> Option<Forward> {
    let mut fields = line.split_whitespace();
    if fields.next()? != "TCP[HOST_FORWARD]" {
        return None;
    }
    let _descriptor = fields.next()?;
    // The listening address is printed as `*` when it is any.
    let address = match fields.next()? {
        "*" => Ipv4Addr::UNSPECIFIED,
        text => text.parse().ok()?,
    };
    let host_port = fields.next()?.parse().ok()?;
    let _guest_address = fields.next()?;
    let guest_port = fields.next()?.parse().ok()?;
    Some(Forward { address, host_port, guest_port })
}

#[cfg(test)]
mod tests {
    use super::{Error, Forward, parse_usernet};
    use std::net::Ipv4Addr;

    #[test]
    fn a_bare_pair_listens_on_loopback() {
        let forward: Forward = "2222:22".parse().unwrap();
        assert_eq!(forward, Forward::loopback(2222, 22));
        assert_eq!(forward.render(), "tcp:127.0.0.1:2222-:22");
    }

    #[test]
    fn an_address_can_be_given_and_auto_leaves_the_port_to_the_kernel() {
        let any: Forward = "0.0.0.0:8081:8081".parse().unwrap();
        assert_eq!(any.address, Ipv4Addr::UNSPECIFIED);
        let auto: Forward = "auto:22".parse().unwrap();
        assert_eq!(auto.render(), "tcp:127.0.0.1:0-:22");
    }

    #[test]
    fn what_is_not_a_forward_is_refused_with_the_part_named() {
        assert_eq!("2222".parse::<Forward>(), Err(Error::Syntax("2222".into())));
        assert_eq!("0:22".parse::<Forward>(), Err(Error::Port("0".into())));
        assert_eq!("70000:22".parse::<Forward>(), Err(Error::Port("70000".into())));
        assert_eq!("22:auto".parse::<Forward>(), Err(Error::Port("auto".into())));
        assert_eq!("::1:22:22".parse::<Forward>(), Err(Error::Syntax("::1:22:22".into())));
        assert_eq!("host:22:22".parse::<Forward>(), Err(Error::Address("host".into())));
    }

    #[test]
    fn any_address_clashes_with_each_one_of_the_same_port() {
        let loopback = Forward::loopback(2222, 22);
        let any = Forward { address: Ipv4Addr::UNSPECIFIED, ..loopback };
        let other = Forward { address: Ipv4Addr::new(127, 0, 0, 2), ..loopback };
        assert!(loopback.clashes(&any));
        assert!(!loopback.clashes(&other));
        assert!(!Forward::loopback(0, 22).clashes(&Forward::loopback(0, 22)));
    }

    #[test]
    fn usernet_tells_the_ports_that_were_chosen() {
        let answer = "Hub -1 (n0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
                      TCP[HOST_FORWARD]  13       127.0.0.1 40123       10.0.2.15    22     0     0\r\n  \
                      TCP[ESTABLISHED]   19       127.0.0.1 40123       10.0.2.15    22     0     0\r\n  \
                      TCP[HOST_FORWARD]  12               *  8081       10.0.2.15  8081     0     0\r\n";
        let any = Forward { address: Ipv4Addr::UNSPECIFIED, host_port: 8081, guest_port: 8081 };
        assert_eq!(parse_usernet(answer), [Forward::loopback(40123, 22), any]);
    }
}
