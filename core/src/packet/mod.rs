//! Packet sockets: for each worker one that receives through a ring, and one that sends.

mod bpf;
pub(crate) mod filter;
mod groups;
mod meta;
pub(crate) mod ring;
pub(crate) mod socket;
pub(crate) mod steer;
mod syns;
pub(crate) mod tx;

pub use filter::{MAX_VLANS, Vlan};
pub use groups::Groups;
pub use meta::{RxChecksum, RxFrame, RxMeta, VlanTag};
pub use steer::Steering;
pub use syns::{SynFilter, SynShare};
pub use tx::{Gso, GsoKind, TxChecksum, TxFrame};
