//! What is known about a frame beside its octets, on the way in and on the way out.

use crate::time::Instant;

/// An 802.1Q tag that the driver took out of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VlanTag {
    /// Tag Protocol Identifier, 0x8100 for 802.1Q.
    pub tpid: u16,
    /// PCP (3 bits), DEI (1), VID (12).
    pub tci: u16,
}

/// How far a received frame's TCP or UDP checksum can be relied on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// Nobody has looked: the stack verifies.
    #[default]
    Unverified,
    /// The link has verified it.
    Valid,
    /// A peer on the same host left it to be completed by a link that the frame never
    /// crossed: nothing to verify.
    Partial,
}

/// What the driver knows about a received frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameMeta {
    /// A tag that is not in the octets any more.
    pub vlan: Option<VlanTag>,
    /// The transport checksum.
    pub checksum: Checksum,
    /// When the frame arrived at the interface, on the clock of `now` and not later than that;
    /// `None`: at `now`. Round trips and losses are judged by it, as a frame may have
    /// waited in the ring.
    pub received: Option<Instant>,
}

/// A frame to be sent: `len` octets in the buffer, then the slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Octets written to the buffer, from the Ethernet header on.
    pub len: usize,
    /// Where the link is to complete a checksum: over everything from `start`, into the
    /// field at `start + offset`, which holds the pseudo-header's sum.
    pub checksum: Option<ChecksumRequest>,
    /// The link is to cut the TCP payload.
    pub segmentation: Option<SegmentationRequest>,
}

/// The version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// `csum_start` and `csum_offset` of virtio's network header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChecksumRequest {
    /// First octet that is summed, counted from the frame's start.
    pub start: u16,
    /// Where the checksum field stands, counted from `start`.
    pub offset: u16,
}

/// `gso_type`, `gso_size` and `hdr_len` of virtio's network header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentationRequest {
    /// What TCP is carried by.
    pub family: IpFamily,
    /// Payload octets for each segment.
    pub size: u16,
    /// Octets of all headers, Ethernet's included.
    pub header_len: u16,
}
