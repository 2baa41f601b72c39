//! Packet sockets: one that receives through a ring, one that sends.

pub(crate) mod filter;
mod meta;
pub(crate) mod ring;
pub(crate) mod socket;
pub(crate) mod tx;

pub use meta::{RxChecksum, RxFrame, RxMeta, VlanTag};
pub use tx::{Gso, GsoKind, TxChecksum, TxFrame};
