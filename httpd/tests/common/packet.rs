//! Frames octet by octet, for stations that send what no kernel would.

use std::net::Ipv4Addr;

pub(crate) type Mac = [u8; 6];

pub(crate) const BROADCAST: Mac = [0xff; 6];
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

/// What is behind an Ethernet header.
#[derive(Debug, Clone)]
pub(crate) struct Packet {
    pub(crate) ethertype: u16,
    pub(crate) octets: Vec<u8>,
}

impl Packet {
    /// With one octet other than it was.
    pub(crate) fn with(mut self, at: usize, octet: u8) -> Self {
        assert_ne!(self.octets[at], octet);
        self.octets[at] = octet;
        self
    }

    /// With the IPv4 header's checksum made right again.
    pub(crate) fn summed(mut self) -> Self {
        self.octets[10..12].fill(0);
        let header = usize::from(self.octets[0] & 15) * 4;
        let sum = checksum(&self.octets[..header.min(self.octets.len())]);
        self.octets[10..12].copy_from_slice(&sum);
        self
    }

    pub(crate) fn truncated(mut self, len: usize) -> Self {
        self.octets.truncate(len);
        self
    }
}

/// A frame with VLAN tags, the outermost first.
pub(crate) fn frame(to: Mac, from: Mac, vlans: &[u16], packet: &Packet) -> Vec<u8> {
    let mut frame = [to, from].concat();
    for vlan in vlans {
        frame.extend([0x81, 0x00]);
        frame.extend(vlan.to_be_bytes());
    }
    frame.extend(packet.ethertype.to_be_bytes());
    frame.extend(&packet.octets);
    frame
}

pub(crate) fn ipv4(protocol: u8, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Packet {
    let mut octets = vec![0x45, 0];
    octets.extend((20 + payload.len() as u16).to_be_bytes());
    octets.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
    octets.extend(from.octets());
    octets.extend(to.octets());
    octets.extend(payload);
    Packet { ethertype: 0x0800, octets }.summed()
}

/// The Internet checksum (RFC 1071).
pub(crate) fn checksum(octets: &[u8]) -> [u8; 2] {
    let words =
        octets.chunks(2).map(|two| u32::from(two[0]) << 8 | two.get(1).map_or(0, |&o| o.into()));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}
