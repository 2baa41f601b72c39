//! IPv6 headers (RFC 8200 3).

use std::net::Ipv6Addr;

use etherparse::Ipv6HeaderSlice;

use super::WireError;
use crate::config::MacAddr;

/// Octets of the fixed header.
pub const HEADER_LEN: usize = 40;
/// Next Header of TCP.
pub const NEXT_TCP: u8 = 6;
/// Next header: UDP.
pub const NEXT_UDP: u8 = 17;
/// Next Header of ICMPv6.
pub const NEXT_ICMPV6: u8 = 58;
/// Hop limit of what we send, unless a router advertises another.
pub const HOP_LIMIT: u8 = 64;
/// RFC 8200 5: every link carries packets of this many octets.
pub const MIN_MTU: usize = 1280;
/// ff02::1, all nodes on the link (RFC 4291 2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// ff02::2, all routers on the link.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// What a fixed header says, but for the payload's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
    /// What follows the header.
    pub next_header: u8,
    /// Hops that are left.
    pub hop_limit: u8,
    /// The flow that the packet belongs to, 20 bits (RFC 6437).
    pub flow_label: u32,
}

/// A packet taken apart: its extension headers are still in the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The fixed header.
    pub header: Header,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// The octets that the payload length covers.
    pub payload: &'a [u8],
    /// The fixed header and the payload: the packet without what pads the frame.
    pub octets: &'a [u8],
}

/// Reads a packet. A payload length of 0 that means a jumbogram (RFC 2675) is an empty
/// payload to us: no Ethernet carries one.
pub fn parse(octets: &[u8]) -> Result<Packet<'_>, WireError> {
    let packet = parse_quote(octets)?;
    let stated = u16::from_be_bytes([octets[4], octets[5]]);
    if packet.payload.len() == usize::from(stated) { Ok(packet) } else { Err(WireError::Malformed) }
}

/// Reads a packet that an ICMPv6 error quotes: the payload may be cut short.
pub fn parse_quote(octets: &[u8]) -> Result<Packet<'_>, WireError> {
    let slice = Ipv6HeaderSlice::from_slice(octets).map_err(|_| WireError::Malformed)?;
    let end = HEADER_LEN + usize::from(slice.payload_length());
    let octets = &octets[..end.min(octets.len())];
    Ok(Packet {
        header: Header {
            source: slice.source_addr(),
            destination: slice.destination_addr(),
            next_header: slice.next_header().0,
            hop_limit: slice.hop_limit(),
            flow_label: slice.flow_label().value(),
        },
        traffic_class: slice.traffic_class(),
        payload: &octets[HEADER_LEN..],
        octets,
    })
}

/// Writes a header for `payload_len` octets (65535 at the most). Needs [`HEADER_LEN`] octets.
pub fn emit(buffer: &mut [u8], header: &Header, payload_len: usize) -> usize {
    let buffer = &mut buffer[..HEADER_LEN];
    buffer[..4].copy_from_slice(&(6 << 28 | header.flow_label & 0xf_ffff).to_be_bytes());
    buffer[4..6].copy_from_slice(&(payload_len as u16).to_be_bytes());
    buffer[6] = header.next_header;
    buffer[7] = header.hop_limit;
    buffer[8..24].copy_from_slice(&header.source.octets());
    buffer[24..40].copy_from_slice(&header.destination.octets());
    HEADER_LEN
}

/// The solicited-node group of an address (RFC 4291 2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// The Ethernet address of an IPv6 group (RFC 2464 7).
pub fn multicast_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        source: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
        destination: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2),
        next_header: NEXT_TCP,
        hop_limit: 64,
        flow_label: 0xabcde,
    };

    #[test]
    fn what_is_emitted_is_parsed_back_without_its_padding() {
        let mut buffer = [7; 60];
        assert_eq!(emit(&mut buffer, &HEADER, 5), HEADER_LEN);
        let packet = parse(&buffer).unwrap();
        assert_eq!((packet.header, packet.payload), (HEADER, &[7; 5][..]));
        assert_eq!(packet.octets.len(), 45);
    }

    #[test]
    fn another_version_and_lengths_beyond_the_frame_are_refused() {
        let mut buffer = [0; 60];
        emit(&mut buffer, &HEADER, 21);
        assert_eq!(parse(&buffer), Err(WireError::Malformed));
        emit(&mut buffer, &HEADER, 20);
        assert!(parse(&buffer).is_ok());
        assert_eq!(parse(&buffer[..39]), Err(WireError::Malformed));
        buffer[0] = 0x45;
        assert_eq!(parse(&buffer), Err(WireError::Malformed));
    }

    #[test]
    fn groups() {
        let address: Ipv6Addr = "2001:db8::1:2ab:cdef".parse().unwrap();
        let group = solicited_node(address);
        assert_eq!(group.to_string(), "ff02::1:ffab:cdef");
        assert_eq!(multicast_mac(group).to_string(), "33:33:ff:ab:cd:ef");
    }
}
