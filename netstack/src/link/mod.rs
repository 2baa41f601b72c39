//! The link: Ethernet framing with its VLAN tag, and ARP.

pub(crate) mod acd;
pub(crate) mod announce;
pub(crate) mod ingress;
pub(crate) mod neighbor;
