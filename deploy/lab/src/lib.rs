//! The lab: a client, a node and its pods, on one machine.
//!
//! Tagwire lives behind a VLAN tag on a macvlan in a pod. The lab is that topology made
//! of network namespaces, for the demonstration, the end-to-end tests and the benchmarks:
//!
//! ```text
//!  ns cli                    ns node                       ns pod0
//!  eth0 (VLAN 123) --veth--  nic0 --- macvlan (bridge) ---  macvlan0 --- tagwire
//!  192.168.123.1/24                                         192.168.123.150/24, tag 123
//! ```
//!
//! - The client speaks by the kernel's own IP stack. Its tag comes from a VLAN device, or
//!   where the kernel has none, from two BPF programs (`tagwire_core::lab::bpf`).
//! - The kernel in a pod has no address: what answers there is the appliance, which runs
//!   as it does in a pod, by [`Namespace::command_as_appliance`]. For a contender that
//!   listens on kernel sockets, [`Pod::kernel_stack`] gives the pod tag and address.
//! - Between client and node there may be a [`Wire`] that loses, delays, repeats,
//!   reorders and damages frames, the same ones in every run.
//! - Several labs may be up at once. Each goes when its [`Lab`] is dropped, and after a
//!   crash of its process with the start of the next one, or by `tagwire-lab clean`.
//!
//! It needs root: a test asks [`available`] first.
//!
//! ```no_run
//! use std::time::Duration;
//! use tagwire_lab::Lab;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! if let Err(why) = tagwire_lab::available() {
//!     eprintln!("SKIPPED ({why})");
//!     return Ok(());
//! }
//! let lab = Lab::up()?;
//! let program = lab.publish("target/debug/tagwire".as_ref())?;
//! let mut appliance = lab
//!     .pod(0)
//!     .command_as_appliance(program)
//!     .args(["serve", "--interface", "macvlan0", "--vlan", "123"])
//!     .args(["--address", "192.168.123.150/24", "--www-root", "/srv/www"])
//!     .capture()
//!     .spawn()?;
//! appliance.wait_for_line("ready", Duration::from_secs(5))?;
//! let page = lab.client().command("curl").args(["-s", "http://192.168.123.150/"]).output()?;
//! assert!(page.status.success(), "{}", appliance.log());
//! assert!(appliance.terminate(Duration::from_secs(5))?.success());
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod attach;
mod error;
mod janitor;
mod namespace;
mod process;
mod random;
mod tools;
mod topology;
mod vlan;
mod wire;

pub use attach::exec;
pub use error::{LabError, LabResult};
pub use janitor::{clean, remove_own_and_exit};
pub use namespace::Namespace;
pub use process::{APPLIANCE_ID, LabCommand, LabProcess};
pub use random::SplitMix64;
pub use rustix::process::Signal;
pub use tools::{available, require_tools};
pub use topology::{
    CLIENT_ADDRESS, CLIENT_ADDRESS_V6, CLIENT_INTERFACE, CLIENT_MAC, DEFAULT_VLAN, Lab, LabBuilder,
    POD_INTERFACE, Pod,
};
pub use wire::{Direction, Impairments, LATE, Wire, WireConfig, WireCounts};
