//! A received frame, and what the kernel knows about it.

use crate::clock::Nanos;

/// A received frame, borrowed from the ring for the length of a call.
#[derive(Clone, Copy, Debug)]
pub struct RxFrame<'a> {
    /// From the Ethernet header on, whole.
    pub bytes: &'a [u8],
    /// What is not in the octets.
    pub meta: RxMeta,
}

/// What the kernel knows about a received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxMeta {
    /// The 802.1Q tag that the kernel took out of the frame.
    pub vlan: Option<VlanTag>,
    /// The transport checksum's state.
    pub checksum: RxChecksum,
    /// When the kernel received it, or a little later, never earlier; about the turn's time where
    /// the kernel's stamp cannot be believed (somebody has set the wall clock).
    pub received: Nanos,
}

/// An 802.1Q tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VlanTag {
    /// Tag Protocol Identifier.
    pub tpid: u16,
    /// Tag Control Information.
    pub tci: u16,
}

/// What is known of a received frame's transport checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RxChecksum {
    /// Nothing: verify it.
    Unverified,
    /// The network card or the kernel has verified it (`TP_STATUS_CSUM_VALID`).
    Valid,
    /// A sender on this host left it to hardware that the frame never met
    /// (`TP_STATUS_CSUMNOTREADY`): the data never left memory, there is nothing to verify.
    Partial,
}
