//! Tagwire's TCP/IP stack: a pure protocol machine.
//!
//! It does no I/O, reads no clock, starts no threads and draws no random numbers: frames, times
//! and a secret come in as arguments, frames and events go out. So a run can be repeated
//! exactly, in a simulation, from a fuzzer's input, from a capture.
//!
//! # The way of a frame
//!
//! ```text
//!  handle_frame                                                       poll_event, recv
//!   wire::ethernet -> link::ingress -> ip::ingress -> tcp::demux -> tcp::input -> application
//!                     link::neighbor    ip::icmp      tcp::listen                     |
//!  poll_transmit                                      tcp::time_wait                 send
//!   wire::*  <- link::neighbor <- ip::route <- tcp::output <- tcp::send_buffer <------+
//! ```
//!
//! [`Stack`] says how it is driven.

#![forbid(unsafe_code)]

mod config;
mod entropy;
mod frame;
pub mod fuzz;
mod ip;
mod limit;
mod link;
mod stack;
mod stats;
mod tcp;
mod time;
pub mod timers;
pub mod wire;

pub use config::{Acd, Config, IpCidr, Ipv4Cidr, Ipv6Cidr, MacAddr, Offload, TcpConfig};
pub use frame::{
    Checksum, ChecksumRequest, FrameMeta, IpFamily, SegmentationRequest, Transmit, VlanTag,
};
pub use link::acd::{AddressEvent, AddressState};
pub use link::ingress::tags;
pub use stack::{MIN_BUFFER, Stack, Stray};
pub use stats::Stats;
pub use tcp::connection::{CloseReason, Events, State};
pub use tcp::demux::{ConnId, Endpoint, FourTuple};
pub use tcp::seq::SeqNum;
pub use tcp::{Counts, Recv, congestion};
pub use time::Instant;
pub use wire::vlan::{ParseVlanError, Tags, VlanStack};
