//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use etherparse::{ArpHardwareId, ArpPacketSlice, EtherType};

use super::WireError;
use crate::config::MacAddr;

/// Octets of an ARP packet for IPv4 over Ethernet.
pub const PACKET_LEN: usize = 28;

/// What the packet asks or says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target's address?
    Request,
    /// The sender has it.
    Reply,
}

/// An ARP packet's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArpPacket {
    /// Request or reply.
    pub operation: Operation,
    /// `ar$sha`.
    pub sender_mac: MacAddr,
    /// `ar$spa`.
    pub sender: Ipv4Addr,
    /// `ar$tha`; zero in a request.
    pub target_mac: MacAddr,
    /// `ar$tpa`.
    pub target: Ipv4Addr,
}

/// Reads an ARP packet; anything but request and reply for IPv4 over Ethernet is malformed
/// to us.
pub fn parse(octets: &[u8]) -> Result<ArpPacket, WireError> {
    let slice = ArpPacketSlice::from_slice(octets).map_err(|_| WireError::Malformed)?;
    if slice.hw_addr_type() != ArpHardwareId::ETHERNET
        || slice.proto_addr_type() != EtherType::IPV4
        || slice.hw_addr_size() != 6
        || slice.proto_addr_size() != 4
    {
        return Err(WireError::Malformed);
    }
    let operation = match slice.operation().0 {
        1 => Operation::Request,
        2 => Operation::Reply,
        _ => return Err(WireError::Malformed),
    };
    let mac = |octets: &[u8]| octets.try_into().map(MacAddr).map_err(|_| WireError::Malformed);
    let address = |octets: &[u8]| {
        <[u8; 4]>::try_from(octets).map(Ipv4Addr::from).map_err(|_| WireError::Malformed)
    };
    Ok(ArpPacket {
        operation,
        sender_mac: mac(slice.sender_hw_addr())?,
        sender: address(slice.sender_protocol_addr())?,
        target_mac: mac(slice.target_hw_addr())?,
        target: address(slice.target_protocol_addr())?,
    })
}

/// Writes [`PACKET_LEN`] octets.
pub fn emit(buffer: &mut [u8], packet: &ArpPacket) -> usize {
    let operation = match packet.operation {
        Operation::Request => 1u16,
        Operation::Reply => 2,
    };
    buffer[..6].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
    buffer[6..8].copy_from_slice(&operation.to_be_bytes());
    buffer[8..14].copy_from_slice(&packet.sender_mac.0);
    buffer[14..18].copy_from_slice(&packet.sender.octets());
    buffer[18..24].copy_from_slice(&packet.target_mac.0);
    buffer[24..28].copy_from_slice(&packet.target.octets());
    PACKET_LEN
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: ArpPacket = ArpPacket {
        operation: Operation::Request,
        sender_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        sender: Ipv4Addr::new(192, 168, 123, 1),
        target_mac: MacAddr::ZERO,
        target: Ipv4Addr::new(192, 168, 123, 150),
    };

    #[test]
    fn what_is_emitted_is_parsed_back_padding_or_not() {
        let mut buffer = [0; 46];
        assert_eq!(emit(&mut buffer, &REQUEST), PACKET_LEN);
        assert_eq!(parse(&buffer), Ok(REQUEST));
        assert_eq!(parse(&buffer[..PACKET_LEN]), Ok(REQUEST));
        assert_eq!(parse(&buffer[..PACKET_LEN - 1]), Err(WireError::Malformed));
    }

    #[test]
    fn other_hardware_protocol_and_operations_are_refused() {
        for (offset, value) in [(1, 6), (2, 9), (4, 8), (5, 16), (7, 3)] {
            let mut buffer = [0; 64];
            emit(&mut buffer, &REQUEST);
            buffer[offset] = value;
            assert_eq!(parse(&buffer), Err(WireError::Malformed), "offset {offset}");
        }
    }
}
