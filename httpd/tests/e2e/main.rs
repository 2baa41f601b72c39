//! The appliance end to end: the shipped binary in the lab's pod, as uid 10000 with nothing but
//! CAP_NET_RAW, and real clients on the other side of the VLAN.
//!
//! The clients are the kernel's TCP (curl, and sockets of this process in the client's
//! namespace), ping, and a raw packet socket in a second pod for what no kernel would send.
//! Each test has a lab of its own, so that they run side by side; those that need the machine
//! to themselves take turns ([`bed::alone`]).
//!
//! `TAGWIRE_BINARY` names the binary to test; without it, it is the one cargo built for this
//! test. Without root each test says that it was skipped.
#![forbid(unsafe_code)]

mod bed;
mod client;
#[path = "../common/packet.rs"]
mod packet;
mod raw;

mod access_log;
mod admin;
mod builtin_json;
mod changes;
mod churn;
mod clients;
mod command_line;
mod conflicts;
mod detours;
mod doctor;
mod downloads;
mod drivers;
mod encodings;
mod files;
mod first;
mod flood;
mod frames;
mod http;
mod impaired;
mod ipv6;
mod kernel_options;
mod large;
mod life;
mod limits;
mod link;
mod link_changes;
mod many;
mod memory_limit;
mod metrics;
mod preload;
mod privileges;
mod rest;
mod sandbox;
mod settings;
mod several_vlans;
mod shutdown;
mod sites;
mod slaac;
mod special_files;
mod stalled;
mod vlans;
mod workers;
