//! Ethernet II (IEEE 802.3 3.1) with its 802.1Q and 802.1ad tags.

use etherparse::{Ethernet2HeaderSlice, SingleVlanHeaderSlice};

use super::WireError;
pub use super::vlan::{TAG_LEN, TPID_8021AD, TPID_8021Q, Tags};
use crate::config::MacAddr;
use crate::frame::VlanTag;

/// Octets of an untagged header.
pub const HEADER_LEN: usize = 14;
/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// EtherType of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;

/// A frame taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Destination address.
    pub destination: MacAddr,
    /// Source address.
    pub source: MacAddr,
    /// The tags that stand in the frame itself (not one that the kernel stripped), two at
    /// the most; the EtherType of a third is the payload's.
    pub tags: Tags,
    /// EtherType of the payload.
    pub ethertype: u16,
    /// What follows the header or the tags; it may end in padding.
    pub payload: &'a [u8],
}

/// Reads the header, and the tags where there are some.
pub fn parse(octets: &[u8]) -> Result<Frame<'_>, WireError> {
    let header = Ethernet2HeaderSlice::from_slice(octets).map_err(|_| WireError::Malformed)?;
    let mut payload = &octets[HEADER_LEN..];
    let mut ethertype = header.ether_type().0;
    let mut tags = Tags::default();
    for tag in [&mut tags.outer, &mut tags.inner] {
        if !matches!(ethertype, TPID_8021Q | TPID_8021AD) {
            break;
        }
        let slice = SingleVlanHeaderSlice::from_slice(payload).map_err(|_| WireError::Malformed)?;
        let tci = u16::from_be_bytes([payload[0], payload[1]]);
        *tag = Some(VlanTag { tpid: ethertype, tci });
        ethertype = slice.ether_type().0;
        payload = &payload[TAG_LEN..];
    }
    Ok(Frame {
        destination: MacAddr(header.destination()),
        source: MacAddr(header.source()),
        tags,
        ethertype,
        payload,
    })
}

/// Octets that [`emit`] writes.
pub fn header_len(tags: impl Into<Tags>) -> usize {
    HEADER_LEN + TAG_LEN * tags.into().iter().count()
}

/// Writes a header with the tags in line. Needs [`header_len`] octets of `buffer`.
pub fn emit(
    buffer: &mut [u8],
    destination: MacAddr,
    source: MacAddr,
    tags: impl Into<Tags>,
    ethertype: u16,
) -> usize {
    buffer[..6].copy_from_slice(&destination.0);
    buffer[6..12].copy_from_slice(&source.0);
    let mut at = 12;
    for tag in tags.into().iter() {
        buffer[at..at + 2].copy_from_slice(&tag.tpid.to_be_bytes());
        buffer[at + 2..at + TAG_LEN].copy_from_slice(&tag.tci.to_be_bytes());
        at += TAG_LEN;
    }
    buffer[at..at + 2].copy_from_slice(&ethertype.to_be_bytes());
    at + 2
}

#[cfg(test)]
mod tests {
    use super::super::vlan::VlanStack;
    use super::*;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    #[test]
    fn what_is_emitted_is_parsed_back() {
        for (vlan, tags) in [("0", 0), ("1", 1), ("4094", 1), ("100.200", 2)] {
            let vlan: VlanStack = vlan.parse().unwrap();
            let mut buffer = [0; 64];
            let length = emit(&mut buffer, A, B, vlan, ETHERTYPE_ARP);
            assert_eq!(length, header_len(vlan));
            assert_eq!(length, HEADER_LEN + tags * TAG_LEN);
            let frame = parse(&buffer).unwrap();
            assert_eq!((frame.destination, frame.source, frame.tags), (A, B, vlan.into()));
            assert_eq!(frame.ethertype, ETHERTYPE_ARP);
            assert_eq!(frame.payload.len(), 64 - length);
        }
    }

    #[test]
    fn a_third_tag_is_not_looked_behind() {
        let mut buffer = [0; 64];
        let stacked = VlanStack::stacked(1, 2).unwrap();
        emit(&mut buffer, A, B, stacked, TPID_8021Q);
        let frame = parse(&buffer).unwrap();
        assert_eq!((frame.ethertype, frame.payload.len()), (TPID_8021Q, 64 - 22));
    }

    #[test]
    fn short_frames_are_refused_at_every_length() {
        let mut buffer = [0; 22];
        emit(&mut buffer, A, B, VlanStack::stacked(5, 6).unwrap(), ETHERTYPE_IPV4);
        for length in 0..22 {
            assert_eq!(parse(&buffer[..length]), Err(WireError::Malformed), "{length}");
        }
        assert!(parse(&buffer).is_ok());
    }
}
