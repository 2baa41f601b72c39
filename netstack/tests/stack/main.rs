//! Black-box tests: frames in, frames out, a virtual clock, nothing of the inside.

mod addresses;
mod arp;
mod close;
mod cookies;
mod data_in;
mod data_out;
mod harness;
mod icmp;
mod ingress;
#[path = "../common/link.rs"]
mod link;
mod offload;
mod open;
mod properties;
mod recovery;
mod sack;
mod time_wait;
mod timers;
