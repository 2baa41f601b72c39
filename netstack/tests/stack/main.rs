//! Black-box tests: frames in, frames out, a virtual clock, nothing of the inside.

#![allow(clippy::duplicate_mod, reason = "what is TCP's runs over both families")]

mod addresses;
mod arp;
mod close;
mod conflict;
mod cookies;
mod data_in;
mod data_out;
mod ecn;
mod fast_open;
mod fragments;
mod harness;
mod icmp;
mod ingress;
mod ipv6;
#[path = "../common/link.rs"]
mod link;
mod link_changes;
mod memory;
mod mld;
mod nd;
mod offload;
mod open;
mod over_ipv6;
mod path_mtu;
mod properties;
mod recovery;
mod sack;
mod slaac;
mod spurious;
mod time_wait;
mod timers;
