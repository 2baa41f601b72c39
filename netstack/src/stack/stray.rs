//! Segments that came to the wrong stack of several.
//!
//! Where several stacks share an interface, what spreads frames over them finds the ports of a
//! plain segment only; one in fragments, or behind IPv6 extension headers, comes to the stack
//! that gets all else. That one puts it together or unwraps it, and whoever drives the stacks
//! gives the segment to the one whose connection it is.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use super::{Stack, checked};
use crate::config::MacAddr;
use crate::frame::{Checksum, FrameMeta};
use crate::time::Instant;

/// Octets of segments that may wait, with what holds them: 16 of the largest. They wait for the
/// end of the driver's turn only.
const MAX_OCTETS: usize = 1 << 20;
/// What one costs beside its octets.
const OVERHEAD: usize = 128;

/// A TCP segment whose checksum was found right, and how it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// Who sent it.
    pub source: SocketAddr,
    /// Our address and port.
    pub destination: SocketAddr,
    station: MacAddr,
    traffic_class: u8,
    received: Instant,
    octets: Box<[u8]>,
}

impl Stray {
    /// What it takes in memory, about.
    pub fn cost(&self) -> usize {
        self.octets.len() + OVERHEAD
    }
}

/// Those that wait.
#[derive(Debug, Default)]
pub(super) struct Strays {
    waiting: VecDeque<Stray>,
    /// What they cost.
    cost: usize,
}

impl Stack {
    /// From now on the stack does not take TCP segments that came in fragments, or behind IPv6
    /// extension headers, for its own, but leaves them to [`poll_stray`](Self::poll_stray).
    pub fn collect_strays(&mut self) {
        self.strays.get_or_insert_default();
    }

    /// The next segment that may be another stack's: give it to
    /// [`handle_stray`](Self::handle_stray) of the right one, which may be this.
    pub fn poll_stray(&mut self) -> Option<Stray> {
        let strays = self.strays.as_mut()?;
        let stray = strays.waiting.pop_front()?;
        strays.cost -= stray.cost();
        Some(stray)
    }

    /// Takes a segment that a stack of the same interface and with the same addresses has
    /// [collected](Self::poll_stray).
    pub fn handle_stray(&mut self, now: Instant, stray: &Stray) {
        self.stats.stray_in += 1;
        let meta =
            FrameMeta { vlan: None, checksum: Checksum::Valid, received: Some(stray.received) };
        let ends = (stray.source.ip(), stray.destination.ip());
        self.on_segment(now, stray.station, &meta, ends, stray.traffic_class, &stray.octets);
    }

    /// Takes a segment out of fragments or from behind extension headers, or leaves it to who
    /// knows whose it is.
    pub(super) fn on_detoured(
        &mut self,
        now: Instant,
        station: MacAddr,
        meta: &FrameMeta,
        (source, destination): (IpAddr, IpAddr),
        traffic_class: u8,
        octets: &[u8],
    ) {
        let Some(strays) = &mut self.strays else {
            self.on_segment(now, station, meta, (source, destination), traffic_class, octets);
            return;
        };
        let ends = (source, destination);
        let Some(segment) = checked(&mut self.stats, meta, ends, octets) else { return };
        let stray = Stray {
            source: SocketAddr::new(source, segment.source_port),
            destination: SocketAddr::new(destination, segment.destination_port),
            station,
            traffic_class,
            received: meta.received.map_or(now, |at| at.min(now)),
            octets: octets.into(),
        };
        if strays.cost + stray.cost() > MAX_OCTETS {
            self.stats.drop_stray += 1;
            return;
        }
        self.stats.stray_out += 1;
        strays.cost += stray.cost();
        strays.waiting.push_back(stray);
    }
}
