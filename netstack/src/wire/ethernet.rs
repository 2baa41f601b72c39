//! Ethernet II (IEEE 802.3 3.1) and the 802.1Q tag.

use etherparse::{Ethernet2HeaderSlice, SingleVlanHeaderSlice};

use super::WireError;
use crate::config::MacAddr;

/// Octets of an untagged header.
pub const HEADER_LEN: usize = 14;
/// Octets of an 802.1Q tag.
pub const TAG_LEN: usize = 4;
/// Tag Protocol Identifier of 802.1Q.
pub const TPID_8021Q: u16 = 0x8100;
/// Tag Protocol Identifier of 802.1ad (QinQ).
pub const TPID_8021AD: u16 = 0x88a8;
/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;

/// A frame taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Destination address.
    pub destination: MacAddr,
    /// Source address.
    pub source: MacAddr,
    /// Tag Control Information of an 802.1Q tag that stands in the frame itself (not one
    /// that the kernel stripped): PCP (3 bits), DEI (1), VID (12).
    pub tci: Option<u16>,
    /// EtherType of the payload.
    pub ethertype: u16,
    /// What follows the header or the tag; it may end in padding.
    pub payload: &'a [u8],
}

/// Reads the header, and one tag where there is one.
pub fn parse(octets: &[u8]) -> Result<Frame<'_>, WireError> {
    let header = Ethernet2HeaderSlice::from_slice(octets).map_err(|_| WireError::Malformed)?;
    let mut payload = &octets[HEADER_LEN..];
    let mut ethertype = header.ether_type().0;
    let mut tci = None;
    if ethertype == TPID_8021Q {
        let tag = SingleVlanHeaderSlice::from_slice(payload).map_err(|_| WireError::Malformed)?;
        tci = Some(u16::from_be_bytes([payload[0], payload[1]]));
        ethertype = tag.ether_type().0;
        payload = &payload[TAG_LEN..];
    }
    Ok(Frame {
        destination: MacAddr(header.destination()),
        source: MacAddr(header.source()),
        tci,
        ethertype,
        payload,
    })
}

/// Octets that [`emit`] writes.
pub const fn header_len(vlan: Option<u16>) -> usize {
    if vlan.is_some() { HEADER_LEN + TAG_LEN } else { HEADER_LEN }
}

/// Writes a header with the tag in line. Needs [`header_len`] octets of `buffer`.
pub fn emit(
    buffer: &mut [u8],
    destination: MacAddr,
    source: MacAddr,
    vlan: Option<u16>,
    ethertype: u16,
) -> usize {
    buffer[..6].copy_from_slice(&destination.0);
    buffer[6..12].copy_from_slice(&source.0);
    match vlan {
        None => {
            buffer[12..14].copy_from_slice(&ethertype.to_be_bytes());
            HEADER_LEN
        }
        Some(vid) => {
            buffer[12..14].copy_from_slice(&TPID_8021Q.to_be_bytes());
            buffer[14..16].copy_from_slice(&vid.to_be_bytes());
            buffer[16..18].copy_from_slice(&ethertype.to_be_bytes());
            HEADER_LEN + TAG_LEN
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    #[test]
    fn what_is_emitted_is_parsed_back() {
        for vlan in [None, Some(1), Some(4094)] {
            let mut buffer = [0; 64];
            let length = emit(&mut buffer, A, B, vlan, ETHERTYPE_ARP);
            assert_eq!(length, header_len(vlan));
            let frame = parse(&buffer).unwrap();
            assert_eq!((frame.destination, frame.source, frame.tci), (A, B, vlan));
            assert_eq!(frame.ethertype, ETHERTYPE_ARP);
            assert_eq!(frame.payload.len(), 64 - length);
        }
    }

    #[test]
    fn short_frames_are_refused_at_every_length() {
        let mut buffer = [0; 18];
        emit(&mut buffer, A, B, Some(5), ETHERTYPE_IPV4);
        for length in 0..18 {
            assert_eq!(parse(&buffer[..length]), Err(WireError::Malformed), "{length}");
        }
        assert!(parse(&buffer).is_ok());
    }
}
