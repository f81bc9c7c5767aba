//! The guest's network: QEMU's user network, whose addresses are always the same, and what a guest may reach by it.

use core::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

pub mod fence;

/// The guest's address.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// Length of the network's prefix.
pub const PREFIX: u8 = 24;
/// The host, as the guest sees it. QEMU takes a connection there for one to the host's loopback.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// The resolver, behind which is the host's own.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// The same two by IPv6.
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 2);
const RESOLVER6: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 3);

/// What a guest may reach. Forwards into it work with each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// Other machines and the host's resolver, not the host's loopback: a [`fence`] lies between guest and host.
    #[default]
    NoHost,
    /// Everything that the user who runs QEMU can reach, the host's loopback among it.
    Open,
    /// Nothing.
    None,
}

impl Network {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NoHost, Self::Open, Self::None];

    /// Its name in host.yaml.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoHost => "no-host",
            Self::Open => "open",
            Self::None => "none",
        }
    }
}
