//! The stack in a simulated network, in virtual time: whether every octet arrives, how fast,
//! and what flows that share a path leave each other.

mod app;
mod fairness;
mod goodput;
mod host;
mod ideal;
#[path = "../common/link.rs"]
mod link;
mod monitor;
mod net;
mod pair;
#[path = "../common/path.rs"]
mod path;
mod pattern;
mod random;
#[path = "../common/rng.rs"]
mod rng;
#[path = "../common/seeds.rs"]
mod seeds;
mod segment;
mod setup;
mod special;
