//! Port forwards of user-mode networking: `hostfwd` rules and what QEMU says became of them.

use core::net::Ipv4Addr;

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
    use super::{Forward, parse_usernet};
    use std::net::Ipv4Addr;

    #[test]
    fn a_rule_is_written_as_qemu_takes_it() {
        assert_eq!(Forward::loopback(2222, 22).render(), "tcp:127.0.0.1:2222-:22");
        assert_eq!(Forward::loopback(0, 22).render(), "tcp:127.0.0.1:0-:22", "the kernel chooses");
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
