//! Wire formats: what an octet means, and nothing of what is done about it.
//!
//! Reading goes through **etherparse**'s slices where it has them; what it lacks (TCP
//! options that skip the unknown, RFC 1071 sums that can be continued) stands beside them.
//!
//! The contract of every `parse` here: it never panics, whatever the octets; what it
//! returns is consistent in its lengths, so that later slicing by them cannot panic
//! either; trailing octets (Ethernet padding) are cut off by the lengths in the headers.
//! Every `emit` writes exactly the length that it returns and panics only if the buffer is
//! shorter than its stated constant, which is the caller's bug.

pub mod arp;
pub mod checksum;
pub mod ecn;
pub mod ethernet;
pub mod icmpv4;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod ipv6_ext;
pub mod mld;
pub mod ndp;
pub mod tcp;
pub mod vlan;

/// Why octets were not taken for what they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// Shorter than a header or the length that it states, or a field with no legal value.
    Malformed,
    /// The checksum does not match.
    Checksum,
}
