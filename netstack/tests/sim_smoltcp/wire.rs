//! A wire that loses, doubles, delays, reorders and corrupts frames, in virtual time.

use std::collections::BTreeMap;

use tagwire_netstack::Instant;

use crate::rng::Rng;
use crate::scenario::Faults;

/// Which way a frame travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Stack,
    Client,
}

#[derive(Debug)]
pub(crate) struct Wire {
    faults: Faults,
    rng: Rng,
    /// By arrival; the second number keeps those that arrive together in order.
    frames: BTreeMap<(Instant, u64), (To, Vec<u8>)>,
    count: u64,
}

impl Wire {
    pub(crate) fn new(faults: Faults, rng: Rng) -> Self {
        Self { faults, rng, frames: BTreeMap::new(), count: 0 }
    }

    /// Puts an untagged frame on the wire.
    pub(crate) fn send(&mut self, now: Instant, to: To, mut frame: Vec<u8>) {
        if self.rng.chance(self.faults.loss) {
            return;
        }
        if self.rng.chance(self.faults.corrupt) {
            self.corrupt(&mut frame);
        }
        if self.rng.chance(self.faults.duplicate) {
            self.queue(now, to, frame.clone());
        }
        self.queue(now, to, frame);
    }

    fn queue(&mut self, now: Instant, to: To, frame: Vec<u8>) {
        let jitter = self.rng.between(0, self.faults.jitter.as_nanos() as u64);
        let delay = self.faults.delay + std::time::Duration::from_nanos(jitter);
        self.count += 1;
        self.frames.insert((now + delay, self.count), (to, frame));
    }

    /// Turns one bit of an IPv4 packet: a checksum notices every such error. What Ethernet's
    /// own check sequence would have caught (addresses, ARP) is left alone.
    fn corrupt(&mut self, frame: &mut [u8]) {
        if frame.len() > 34 && frame[12..14] == [8, 0] {
            let length = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
            let bit = self.rng.between(14 * 8, length as u64 * 8 - 1) as usize;
            frame[bit / 8] ^= 1 << (bit % 8);
        }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.frames.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next frame that has arrived by now.
    pub(crate) fn receive(&mut self, now: Instant) -> Option<(To, Vec<u8>)> {
        if self.next()? > now {
            return None;
        }
        self.frames.pop_first().map(|(_, frame)| frame)
    }
}
