//! What a stack is told when it is made.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::tcp::congestion::{Algorithm, Congestion, Start};
use crate::wire::vlan::VlanStack;

/// A 48-bit IEEE 802 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// All zeros: the unknown target of an ARP request.
    pub const ZERO: Self = Self([0; 6]);

    /// Whether the group bit is set (multicast or broadcast).
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// An IPv4 address with the prefix of its subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Cidr {
    /// The host's own address.
    pub address: Ipv4Addr,
    /// Prefix length in bits, 0 to 32.
    pub prefix: u8,
}

impl Ipv4Cidr {
    /// The netmask as a number in host order.
    pub const fn mask(self) -> u32 {
        if self.prefix == 0 { 0 } else { u32::MAX << (32 - self.prefix as u32) }
    }

    /// Whether `other` is in the same subnet.
    pub fn contains(self, other: Ipv4Addr) -> bool {
        (u32::from(self.address) ^ u32::from(other)) & self.mask() == 0
    }

    /// The subnet's directed broadcast address; none for /31 (RFC 3021) and /32.
    pub fn broadcast(self) -> Option<Ipv4Addr> {
        (self.prefix < 31).then(|| Ipv4Addr::from(u32::from(self.address) | !self.mask()))
    }

    /// The subnet's own (all-zeros host part) address; none for /31 and /32.
    pub fn network(self) -> Option<Ipv4Addr> {
        (self.prefix < 31).then(|| Ipv4Addr::from(u32::from(self.address) & self.mask()))
    }
}

/// An IPv6 address with the prefix of its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Cidr {
    /// The host's own address, or the prefix itself.
    pub address: Ipv6Addr,
    /// Prefix length in bits, 0 to 128.
    pub prefix: u8,
}

impl Ipv6Cidr {
    /// The netmask as a number in host order.
    pub const fn mask(self) -> u128 {
        if self.prefix == 0 { 0 } else { u128::MAX << (128 - self.prefix as u32) }
    }

    /// Whether `other` has the same prefix.
    pub fn contains(self, other: Ipv6Addr) -> bool {
        (u128::from(self.address) ^ u128::from(other)) & self.mask() == 0
    }
}

/// An address of either family with the prefix of its subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpCidr {
    /// IPv4.
    V4(Ipv4Cidr),
    /// IPv6.
    V6(Ipv6Cidr),
}

impl IpCidr {
    /// The host's own address.
    pub fn address(self) -> IpAddr {
        match self {
            Self::V4(cidr) => cidr.address.into(),
            Self::V6(cidr) => cidr.address.into(),
        }
    }

    /// Prefix length in bits.
    pub fn prefix(self) -> u8 {
        match self {
            Self::V4(cidr) => cidr.prefix,
            Self::V6(cidr) => cidr.prefix,
        }
    }

    /// Whether `other` is of the same family and in the same subnet.
    pub fn contains(self, other: IpAddr) -> bool {
        match (self, other) {
            (Self::V4(cidr), IpAddr::V4(other)) => cidr.contains(other),
            (Self::V6(cidr), IpAddr::V6(other)) => cidr.contains(other),
            _ => false,
        }
    }
}

impl From<Ipv4Cidr> for IpCidr {
    fn from(cidr: Ipv4Cidr) -> Self {
        Self::V4(cidr)
    }
}

impl From<Ipv6Cidr> for IpCidr {
    fn from(cidr: Ipv6Cidr) -> Self {
        Self::V6(cidr)
    }
}

impl fmt::Display for IpCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address(), self.prefix())
    }
}

/// Everything a [`Stack`](crate::Stack) needs to know from outside.
#[derive(Clone, Debug)]
pub struct Config {
    /// The interface's own address; frames to other unicast addresses are dropped.
    pub mac: MacAddr,
    /// The VLAN to live in.
    pub vlan: VlanStack,
    /// The priority (PCP) of what is sent, 0 to 7; only the low three bits count. Other than
    /// 0 and without a VLAN, frames are sent priority-tagged, with VID 0.
    pub pcp: u8,
    /// The largest IP packet the link carries, in octets (68 to 65535). IPv6 is off on a
    /// link that carries less than 1280 (RFC 8200 5).
    pub mtu: u16,
    /// Own addresses and their subnets, of both families, in any order. A link-local IPv6
    /// address is added by the stack itself where IPv6 is in use.
    pub addresses: Vec<IpCidr>,
    /// Whether addresses are probed for before they are used (RFC 5227; RFC 4862 5.4, or
    /// alongside by RFC 4429).
    pub acd: Acd,
    /// Where IPv4 packets for other subnets go; without one they go to the sender's own
    /// subnets only, and the rest is dropped and counted.
    pub gateway: Option<Ipv4Addr>,
    /// The same for IPv6; usually a link-local address. Preferred to routers that advertise
    /// themselves.
    pub gateway6: Option<Ipv6Addr>,
    /// Form IPv6 addresses from the prefixes that routers advertise (RFC 4862), and use
    /// those routers. Off, and without an IPv6 address above, IPv6 is not spoken at all.
    pub slaac: bool,
    /// The secret behind the interface identifiers of automatic addresses (RFC 7217 5), to
    /// be the same after a restart. `None`: they are derived from the MAC address alone,
    /// which keeps them stable but lets who knows the MAC know them.
    pub stable_secret: Option<[u8; 16]>,
    /// Another stack of the interface, another worker's, speaks for the addresses: it gets all
    /// frames that are no TCP segments, announces, probes and defends. This one does nothing of
    /// its own accord but ask for neighbours, and is told of the addresses by
    /// [`Stack::follow_address`](crate::Stack::follow_address).
    pub passive: bool,
    /// The secret behind initial sequence numbers, timestamp offsets and hash keys.
    /// Must be unpredictable to peers (RFC 6528); a fixed one makes a run repeatable.
    pub secret: [u8; 16],
    /// What the link does for us on sending.
    pub offload: Offload,
    /// TCP's settings.
    pub tcp: TcpConfig,
}

/// Address conflict detection: of IPv4 by RFC 5227, of IPv6 by RFC 4862 5.4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acd {
    /// Use and announce the addresses at once and probe alongside.
    #[default]
    Optimistic,
    /// Probe first, for five to eight seconds (IPv6: one), in which nothing is answered.
    Strict,
}

/// Work that the link below takes over on sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offload {
    /// The link completes TCP checksums: the stack leaves the pseudo-header's sum in the
    /// field and says so in [`Transmit`](crate::Transmit).
    pub checksum: bool,
    /// The link cuts one large TCP segment into MSS-sized ones.
    pub segmentation: bool,
}

impl Offload {
    /// Nothing is offloaded: every frame is complete and fits the MTU.
    pub const NONE: Self = Self { checksum: false, segmentation: false };
    /// Checksums and segmentation are the link's.
    pub const FULL: Self = Self { checksum: true, segmentation: true };
}

/// TCP's settings. The defaults suit an HTTP server on a LAN or behind a router.
#[derive(Clone, Debug)]
pub struct TcpConfig {
    /// Octets of received data a connection holds for a reader, and so the largest
    /// window it offers. 4 KiB to 1 GiB.
    pub receive_buffer: usize,
    /// Connections that may wait half-open (SYN received) at one time. A SYN over this is
    /// answered by a SYN cookie (RFC 4987 3.6) and leaves no record. 0: by cookies only.
    pub backlog: usize,
    /// Connections at one time, of all states but SYN-RECEIVED and TIME-WAIT.
    pub max_connections: usize,
    /// TIME-WAIT records at one time; the oldest gives way.
    pub max_time_wait: usize,
    /// TCP Fast Open (RFC 7413): data in the SYN of a client that has a cookie is taken at once. A
    /// SYN that the network duplicates may then be served twice, which HTTP allows for GET.
    /// Default off.
    pub fast_open: bool,
    /// Octets that connections and their records may hold together: structures, received data
    /// that was not read, and what refers to data being sent. Over this something gives way, in
    /// this order: half-open connections, TIME-WAIT records, idle connections (longest idle
    /// first), those with longest no progress. Default 256 MiB.
    pub memory_budget: usize,
    /// Octets that may wait out of order on all connections together. Default 32 MiB.
    pub reassembly_budget: usize,
    /// RFC 6298 (2.1): the timeout before a round trip was measured. Default 1 s.
    pub rto_initial: Duration,
    /// Floor of the retransmission timeout. RFC 6298 (2.4) says 1 s; Linux's 200 ms serves
    /// clients better and is the default.
    pub rto_min: Duration,
    /// RFC 6298 (2.5): ceiling of the timeout, at least 60 s. Default 60 s.
    pub rto_max: Duration,
    /// RFC 1122 4.2.3.5: how long sent data may stay unacknowledged before the
    /// connection is given up (R2, at least 100 s). Default 120 s.
    pub user_timeout: Duration,
    /// RFC 1122 4.2.3.2: how long an acknowledgement may wait for company. Under 500 ms;
    /// default 40 ms.
    pub delayed_ack: Duration,
    /// RFC 1122 4.2.3.6: silence before the first keepalive probe.
    pub keepalive_idle: Duration,
    /// Time between keepalive probes.
    pub keepalive_interval: Duration,
    /// Unanswered keepalive probes before the connection is given up.
    pub keepalive_probes: u8,
    /// How long a connection whose reader is gone may stay in FIN-WAIT-2. Default 60 s.
    pub fin_wait_2: Duration,
    /// 2 MSL. Default 60 s, as Linux.
    pub time_wait: Duration,
    /// RFC 3168: whether explicit congestion notification is agreed on when a peer asks for it.
    /// Default true, as Linux's `tcp_ecn=2`.
    pub ecn: bool,
    /// Makes the congestion controller of a new connection; see
    /// [`Algorithm::constructor`].
    pub congestion: fn(Start) -> Box<dyn Congestion>,
}

impl Default for TcpConfig {
    fn default() -> Self {
        Self {
            receive_buffer: 65535,
            backlog: 4096,
            max_connections: 1 << 18,
            max_time_wait: 32768,
            fast_open: false,
            memory_budget: 256 << 20,
            reassembly_budget: 32 << 20,
            rto_initial: Duration::from_secs(1),
            rto_min: Duration::from_millis(200),
            rto_max: Duration::from_secs(60),
            user_timeout: Duration::from_secs(120),
            delayed_ack: Duration::from_millis(40),
            keepalive_idle: Duration::from_secs(120),
            keepalive_interval: Duration::from_secs(30),
            keepalive_probes: 4,
            fin_wait_2: Duration::from_secs(60),
            time_wait: Duration::from_secs(60),
            ecn: true,
            congestion: Algorithm::default().constructor(),
        }
    }
}
