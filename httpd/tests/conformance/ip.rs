//! IP packets of both families, made and read.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use crate::host::{ICMP, ICMPV6, IPV4, IPV6};
use crate::hub::Frame;
use crate::packet::{Packet, checksum, ipv4};

/// A packet with the usual header.
pub(crate) fn packet(protocol: u8, from: IpAddr, to: IpAddr, payload: &[u8]) -> Packet {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ipv4(protocol, from, to, payload),
        (IpAddr::V6(from), IpAddr::V6(to)) => v6_with_hop_limit(64, protocol, from, to, payload),
        _ => panic!("{from} and {to} are of two families"),
    }
}

pub(crate) fn v6_with_hop_limit(
    hop_limit: u8,
    next: u8,
    from: Ipv6Addr,
    to: Ipv6Addr,
    payload: &[u8],
) -> Packet {
    let mut octets = vec![0x60, 0, 0, 0];
    octets.extend((payload.len() as u16).to_be_bytes());
    octets.extend([next, hop_limit]);
    octets.extend(from.octets());
    octets.extend(to.octets());
    octets.extend(payload);
    Packet { ethertype: IPV6, octets }
}

fn pseudo_header(protocol: u8, from: IpAddr, to: IpAddr, len: usize) -> Vec<u8> {
    let mut octets = Vec::new();
    for address in [from, to] {
        match address {
            IpAddr::V4(address) => octets.extend(address.octets()),
            IpAddr::V6(address) => octets.extend(address.octets()),
        }
    }
    octets.extend((len as u32).to_be_bytes());
    octets.extend([0, 0, 0, protocol]);
    octets
}

/// The checksum over pseudo-header and payload (RFC 9293 3.1, RFC 8200 8.1); zero over one that
/// has it.
pub(crate) fn sum(protocol: u8, from: IpAddr, to: IpAddr, payload: &[u8]) -> [u8; 2] {
    let mut octets = pseudo_header(protocol, from, to, payload.len());
    octets.extend(payload);
    checksum(&octets)
}

/// A payload with the right checksum at `at`.
pub(crate) fn with_checksum(
    protocol: u8,
    from: IpAddr,
    to: IpAddr,
    mut payload: Vec<u8>,
    at: usize,
) -> Vec<u8> {
    payload[at..at + 2].fill(0);
    let sum = sum(protocol, from, to, &payload);
    payload[at..at + 2].copy_from_slice(&sum);
    payload
}

/// An ICMP or ICMPv6 message with its checksum.
pub(crate) fn icmp(from: IpAddr, to: IpAddr, mut message: Vec<u8>) -> Vec<u8> {
    if from.is_ipv6() {
        return with_checksum(ICMPV6, from, to, message, 2);
    }
    message[2..4].fill(0);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum);
    message
}

pub(crate) fn icmp_protocol(address: IpAddr) -> u8 {
    if address.is_ipv6() { ICMPV6 } else { ICMP }
}

/// A UDP datagram.
pub(crate) fn udp(from: IpAddr, to: IpAddr, ports: (u16, u16), data: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    octets.extend(ports.0.to_be_bytes());
    octets.extend(ports.1.to_be_bytes());
    octets.extend((8 + data.len() as u16).to_be_bytes());
    octets.extend([0, 0]);
    octets.extend(data);
    with_checksum(17, from, to, octets, 6)
}

/// An IP packet that was received, its checksums right.
#[derive(Debug, Clone)]
pub(crate) struct Datagram {
    pub(crate) at: Instant,
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    /// The flags with the fragment offset; IPv4 only.
    pub(crate) fragment: u16,
    pub(crate) traffic_class: u8,
    pub(crate) hop_limit: u8,
    pub(crate) protocol: u8,
    pub(crate) payload: Vec<u8>,
}

impl Datagram {
    /// What a frame carries, if it is IP.
    ///
    /// # Panics
    /// When it is not well formed: that of all subjects is.
    pub(crate) fn of(frame: &Frame) -> Option<Self> {
        let octets = &frame.packet.octets;
        let datagram = match frame.packet.ethertype {
            IPV4 => {
                let header = usize::from(octets[0] & 15) * 4;
                assert_eq!(octets[0] >> 4, 4, "an IPv4 header of another version: {octets:x?}");
                assert_eq!(checksum(&octets[..header]), [0, 0], "IPv4 checksum: {octets:x?}");
                let total = usize::from(word(octets, 2));
                Self {
                    at: frame.at,
                    from: Ipv4Addr::from(<[u8; 4]>::try_from(&octets[12..16]).unwrap()).into(),
                    to: Ipv4Addr::from(<[u8; 4]>::try_from(&octets[16..20]).unwrap()).into(),
                    fragment: word(octets, 6),
                    traffic_class: octets[1],
                    hop_limit: octets[8],
                    protocol: octets[9],
                    payload: octets[header..total].to_vec(),
                }
            }
            IPV6 => {
                assert_eq!(octets[0] >> 4, 6, "an IPv6 header of another version: {octets:x?}");
                let total = 40 + usize::from(word(octets, 4));
                Self {
                    at: frame.at,
                    from: Ipv6Addr::from(<[u8; 16]>::try_from(&octets[8..24]).unwrap()).into(),
                    to: Ipv6Addr::from(<[u8; 16]>::try_from(&octets[24..40]).unwrap()).into(),
                    fragment: 0,
                    traffic_class: octets[0] << 4 | octets[1] >> 4,
                    hop_limit: octets[7],
                    protocol: octets[6],
                    payload: octets[40..total].to_vec(),
                }
            }
            _ => return None,
        };
        if datagram.fragment & 0x3fff == 0 {
            datagram.check_payload();
        }
        Some(datagram)
    }

    fn check_payload(&self) {
        let right = match self.protocol {
            ICMP => checksum(&self.payload) == [0, 0],
            6 | 17 | ICMPV6 => sum(self.protocol, self.from, self.to, &self.payload) == [0, 0],
            _ => true,
        };
        assert!(right, "wrong checksum: {self} {:x?}", self.payload);
    }

    /// Type and code of an ICMP message of either family.
    pub(crate) fn icmp(&self) -> Option<(u8, u8)> {
        matches!(self.protocol, ICMP | ICMPV6).then(|| (self.payload[0], self.payload[1]))
    }

    /// What an ICMP error quotes.
    pub(crate) fn quoted(&self) -> &[u8] {
        &self.payload[8..]
    }

    pub(crate) fn is_echo_reply(&self, id: u16, sequence: u16) -> bool {
        matches!((self.protocol, self.payload[0]), (ICMP, 0) | (ICMPV6, 129))
            && word(&self.payload, 4) == id
            && word(&self.payload, 6) == sequence
    }
}

impl fmt::Display for Datagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            6 => write!(f, "TCP {}", crate::tcp::Segment::of(self)),
            ICMP | ICMPV6 => write!(f, "ICMP {}/{}", self.payload[0], self.payload[1]),
            other => write!(f, "protocol {other}, {} octets", self.payload.len()),
        }
    }
}

pub(crate) fn list(datagrams: &[Datagram]) -> String {
    datagrams.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

pub(crate) fn word(octets: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([octets[at], octets[at + 1]])
}

pub(crate) fn long(octets: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(octets[at..at + 4].try_into().unwrap())
}
