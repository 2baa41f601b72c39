//! A wire that can lose, delay, repeat, reorder and damage frames, and repeat itself.
//!
//! ```text
//!  ns cli            ns wire                  ns node
//!  eth0 --veth-- w0 [ thread ] w1 --veth-- nic0
//! ```
//!
//! A thread of this process takes frames from one veth pair and puts them on the other.
//! Checksum and segmentation offload are switched off on all four ends: what passes are
//! frames as on a cable, of MTU size and with complete checksums, so that a flipped bit
//! is what it would be there. What a pod sends in larger pieces (kernel TCP, or a packet
//! socket with `PACKET_VNET_HDR`) the kernel cuts up on its way out of nic0.

mod config;
mod fate;
mod forward;

use std::io::{self, PipeWriter};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use tagwire_core::lab::WireSocket;

pub use config::{Impairments, WireConfig};

use crate::error::{LabError, LabResult};
use crate::namespace::Namespace;
use crate::tools::run_tool;
use crate::topology::connect;
use forward::Forwarder;

/// A direction of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the node.
    Up,
    /// From the node to the client.
    Down,
}

/// What a direction of the wire has done so far, in frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WireCounts {
    /// Taken from the sender: what the decisions are counted by.
    pub received: u64,
    /// Given to the receiver, second copies among them.
    pub forwarded: u64,
    /// Lost on purpose.
    pub lost: u64,
    /// Of which a second copy was made on purpose.
    pub duplicated: u64,
    /// Held back on purpose.
    pub reordered: u64,
    /// Damaged on purpose.
    pub corrupted: u64,
    /// Dropped because the queue before the rate limit was full.
    pub overflow: u64,
    /// Not forwarded because the kernel would not take them, or never seen because its
    /// buffer was full: not part of any plan. A test of what the wire does wants 0 here.
    pub failed: u64,
}

/// The counts as the thread keeps them.
#[derive(Debug, Default)]
struct Counters {
    received: AtomicU64,
    forwarded: AtomicU64,
    lost: AtomicU64,
    duplicated: AtomicU64,
    reordered: AtomicU64,
    corrupted: AtomicU64,
    overflow: AtomicU64,
    failed: AtomicU64,
}

impl Counters {
    fn read(&self) -> WireCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WireCounts {
            received: get(&self.received),
            forwarded: get(&self.forwarded),
            lost: get(&self.lost),
            duplicated: get(&self.duplicated),
            reordered: get(&self.reordered),
            corrupted: get(&self.corrupted),
            overflow: get(&self.overflow),
            failed: get(&self.failed),
        }
    }
}

/// The wire of a lab. It is cut when this is dropped.
#[derive(Debug)]
pub struct Wire {
    up: Arc<Counters>,
    down: Arc<Counters>,
    /// Closed to stop the thread.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// Connects two namespaces by a wire in a third.
    pub(crate) fn lay(
        middle: Namespace,
        client: (&Namespace, &str),
        node: (&Namespace, &str),
        config: &WireConfig,
    ) -> LabResult<Self> {
        for ((namespace, interface), end) in [(client, "w0"), (node, "w1")] {
            connect(&middle, end, namespace, interface)?;
            without_offloads(&middle, end)?;
            without_offloads(namespace, interface)?;
        }
        let indices = (middle.interface_index("w0")?, middle.interface_index("w1")?);
        let sockets = middle.run(|| -> io::Result<(WireSocket, WireSocket)> {
            Ok((WireSocket::open(indices.0)?, WireSocket::open(indices.1)?))
        })?;
        let failed = |error: io::Error| {
            LabError::new("cannot lay the lab's wire", error, "run as root, with CAP_NET_RAW")
        };
        let (w0, w1) = sockets.map_err(failed)?;
        let (stopped, stop) = io::pipe().map_err(failed)?;
        let (up, down) = (Arc::new(Counters::default()), Arc::new(Counters::default()));
        let forwarder =
            Forwarder::new(config, [w0, w1], stopped, [Arc::clone(&up), Arc::clone(&down)]);
        let thread = thread::Builder::new()
            .name("lab-wire".to_owned())
            .spawn(move || {
                if let Err(error) = forwarder.run() {
                    eprintln!("the lab's wire is cut: {error}");
                }
            })
            .map_err(failed)?;
        Ok(Self { up, down, stop: Some(stop), thread: Some(thread) })
    }

    /// What a direction has done so far.
    pub fn counts(&self, direction: Direction) -> WireCounts {
        match direction {
            Direction::Up => self.up.read(),
            Direction::Down => self.down.read(),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // That it panicked it has said itself.
            let _ = thread.join();
        }
    }
}

fn without_offloads(namespace: &Namespace, interface: &str) -> LabResult<()> {
    let net = format!("--net={}", namespace.path().display());
    let ethtool = ["ethtool", "-K", interface, "tx", "off", "tso", "off", "gso", "off"];
    let args: Vec<&str> = [net.as_str(), "--"]
        .into_iter()
        .chain(ethtool)
        .chain(["gro", "off", "lro", "off"])
        .collect();
    run_tool("nsenter", &args).map(drop)
}
