//! How fast Tagwire is: beside nginx, and beside the limit of the wire path.
//!
//! # How it is measured
//!
//! Each of two cores is treated as one machine. The client (wrk) is pinned to CPU 0, every
//! server to CPU 1; receive-packet steering keeps the receive work of the client's
//! interface on CPU 0 and that of the node's `nic0` on CPU 1. So the busy time of CPU 1
//! (/proc/stat) over the requests served is the server's whole cost, whether it arises in its
//! process or in the kernel on its behalf. Busy is what is not idle, waiting or stolen: kernels measure
//! idle time exactly, while they sample user, system and softirq time with the timer tick, which
//! a CPU that sleeps for microseconds evades. The samples are in the JSON beside it.
//!
//! - The contenders ([`contender`]) have a pod each, with an address of its own, on the same
//!   `nic0`. All run all the time; those that are not asked are idle. Tagwire and the
//!   reflector run as uid 10000 with nothing but CAP_NET_RAW. nginx has the kernel's TCP
//!   and gets its VLAN tag from the same BPF programs as the client.
//! - They take turns, round after round ([`rounds`]); what counts is the median, and the ratio
//!   of medians: machines are shared, single figures swing by half. A round in which other
//!   processes worked for more than 2 % of the time is measured again, and left out if it
//!   stays so and enough others are left.
//! - The [`reflector`] keeps no state and checks nothing: it marks what the wire path costs.
//! - Memory, rest and start are measured on an appliance of its own ([`lone`]).
//!
//! `tagwire-bench` (`make bench`) runs it all, prints the table of [`report`], writes its
//! figures with every round to a JSON file, and says which targets hold.
//!
//! `tagwire-bench-loss` (`make bench-loss`) is a measurement of its own: goodput over lines that
//! lose and reorder frames ([`loss`]). So is `tagwire-bench-attack` (`make bench-attack`): what
//! an attacker on the segment costs a client ([`attack`]).
//!
//! `tagwire-soak` (`make soak`) measures nothing: it keeps the appliance under mixed traffic for an
//! hour and checks every octet ([`soak`]).
//!
//! `cargo bench -p tagwire-benches` runs the micro-benchmarks of the layers.
#![forbid(unsafe_code)]

/// What ends a measurement: a text for people.
pub type BenchError = Box<dyn std::error::Error + Send + Sync>;

pub mod attack;
pub mod contender;
pub mod http;
pub mod load;
pub mod lone;
pub mod loss;
pub mod machine;
pub mod mixes;
pub mod pace;
pub mod pauses;
pub mod reflector;
pub mod report;
pub mod rounds;
pub mod soak;
