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
//!
//! A rate limit is a queue of a stated length before a line: frames leave it one after
//! the other, each after the time that its octets take (Ethernet header and tags, but not
//! preamble and checksum), so that what arrives is spaced as by a line of that rate. The
//! delay comes behind it and holds any number of frames.

mod config;
mod fate;
mod forward;

use std::io::{self, PipeWriter, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tagwire_core::lab::WireSocket;

pub use config::{Impairments, WireConfig};

use crate::error::{LabError, LabResult};
use crate::namespace::Namespace;
use crate::tools::run_tool;
use crate::topology::connect;
use forward::{Forwarder, Order};

/// A direction of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the node.
    Up,
    /// From the node to the client.
    Down,
}

/// A frame that is so much behind its time counts as late: some frames at 100 Mbit/s.
pub const LATE: Duration = Duration::from_micros(500);

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
    /// Forwarded more than [`LATE`] after their time, because the wire's thread did not
    /// get a CPU. Where delays and rates are measured, many of these spoil it.
    pub late: u64,
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
    late: AtomicU64,
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
            late: get(&self.late),
            failed: get(&self.failed),
        }
    }
}

/// The wire of a lab. It is cut when this is dropped.
#[derive(Debug)]
pub struct Wire {
    up: Arc<Counters>,
    down: Arc<Counters>,
    /// Wakes the thread to its orders; closed to stop it.
    wake: Option<PipeWriter>,
    orders: mpsc::Sender<Order>,
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
        let (woken, wake) = io::pipe().map_err(failed)?;
        let (orders, inbox) = mpsc::channel();
        let (up, down) = (Arc::new(Counters::default()), Arc::new(Counters::default()));
        let forwarder =
            Forwarder::new(config, [w0, w1], woken, inbox, [Arc::clone(&up), Arc::clone(&down)]);
        let thread = thread::Builder::new()
            .name("lab-wire".to_owned())
            .spawn(move || {
                if let Err(error) = forwarder.run() {
                    eprintln!("the lab's wire is cut: {error}");
                }
            })
            .map_err(failed)?;
        Ok(Self { up, down, wake: Some(wake), orders, thread: Some(thread) })
    }

    /// Changes what the wire does. It begins anew: the next frame of each direction is the
    /// first that the seed decides on, and what is on its way is lost. The counts go on.
    ///
    /// # Errors
    ///
    /// When the wire was cut.
    pub fn replan(&self, config: WireConfig) -> LabResult<()> {
        let (followed, answer) = mpsc::sync_channel(1);
        let cut = |why: &dyn std::fmt::Display| {
            LabError::new("cannot change the lab's wire", why, "see why it was cut, above")
        };
        self.orders.send((config, followed)).map_err(|error| cut(&error))?;
        if let Some(mut wake) = self.wake.as_ref() {
            wake.write_all(&[1]).map_err(|error| cut(&error))?;
        }
        answer.recv().map_err(|error| cut(&error))
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
        drop(self.wake.take());
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
