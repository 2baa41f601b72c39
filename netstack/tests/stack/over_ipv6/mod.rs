//! The tests of TCP once more, over IPv6.

/// What the tests take from the harness, with another configuration.
mod harness {
    pub(crate) use crate::harness::config_v6 as config;
    pub(crate) use crate::harness::*;
    /// What the link carries in one segment.
    pub(crate) const LINK_MSS: u16 = 1440;
    /// RFC 9293 3.7.1.
    pub(crate) const DEFAULT_MSS: usize = 1220;
    /// RFC 8200 5.
    pub(crate) const MIN_MTU: u16 = 1280;
}

#[path = "../close.rs"]
mod close;
#[path = "../cookies.rs"]
mod cookies;
#[path = "../data_in.rs"]
mod data_in;
#[path = "../data_out.rs"]
mod data_out;
#[path = "../ecn.rs"]
mod ecn;
#[path = "../offload.rs"]
mod offload;
#[path = "../open.rs"]
mod open;
#[path = "../properties.rs"]
mod properties;
#[path = "../recovery.rs"]
mod recovery;
#[path = "../sack.rs"]
mod sack;
#[path = "../time_wait.rs"]
mod time_wait;
#[path = "../timers.rs"]
mod timers;
