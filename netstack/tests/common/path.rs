//! One direction of a path: a bottleneck with a drop-tail queue, a propagation delay, and
//! faults, in virtual time.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::Duration;

use tagwire_netstack::Instant;
use tagwire_netstack::wire::checksum::Sum;

use crate::rng::Rng;

/// Probabilities here are in parts per million.
pub(crate) const PER_CENT: u64 = 10_000;

/// How frames are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Each on its own.
    Uniform(u64),
    /// In bursts (Gilbert's model): all are lost from one that `enter`s the bad state to one
    /// that `leave`s it.
    Burst { enter: u64, leave: u64 },
}

/// A hop that carries smaller packets than the links at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Narrow {
    /// The largest IP packet.
    pub(crate) mtu: usize,
    /// It says so (RFC 1191); else it is a black hole.
    pub(crate) tells: bool,
}

/// What a direction is like.
#[derive(Clone, Debug)]
pub(crate) struct PathConfig {
    /// Bits per second of the bottleneck.
    pub(crate) rate: u64,
    /// Propagation, without queueing.
    pub(crate) delay: Duration,
    /// Up to this is added to each frame's delay at random; more than the gap between two
    /// frames puts them out of order.
    pub(crate) jitter: Duration,
    /// Octets that wait for the bottleneck at most.
    pub(crate) queue: usize,
    /// ECN-capable packets are marked where more octets than this wait (RFC 3168 5).
    pub(crate) mark_above: Option<usize>,
    pub(crate) loss: Loss,
    /// These are lost too, the first frame of all being number 1.
    pub(crate) drop: Range<u64>,
    /// A frame is overtaken by 1 to `places` of those behind it.
    pub(crate) reorder: u64,
    pub(crate) places: u64,
    pub(crate) duplicate: u64,
    pub(crate) corrupt: u64,
    pub(crate) narrow: Option<Narrow>,
    /// Nothing passes from the first of these to the second.
    pub(crate) outage: Option<(Instant, Instant)>,
}

impl PathConfig {
    /// A direction without faults.
    pub(crate) fn clean(rate: u64, delay: Duration, queue: usize) -> Self {
        Self {
            rate,
            delay,
            jitter: Duration::ZERO,
            queue,
            mark_above: None,
            loss: Loss::Uniform(0),
            drop: 0..0,
            reorder: 0,
            places: 3,
            duplicate: 0,
            corrupt: 0,
            narrow: None,
            outage: None,
        }
    }
}

/// A frame on its way.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) octets: Vec<u8>,
    /// A bit of it was turned.
    pub(crate) damaged: bool,
}

/// What has become of the frames of a direction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PathCounts {
    pub(crate) sent: u64,
    /// No room in the queue.
    pub(crate) overflowed: u64,
    pub(crate) lost: u64,
    pub(crate) marked: u64,
    /// The most octets that ever waited.
    pub(crate) queue_peak: usize,
}

/// A frame that lets others pass.
#[derive(Debug)]
struct Held {
    frame: Frame,
    /// How many more go first.
    ahead: u64,
    /// It goes on then in any case.
    until: Instant,
}

#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) config: PathConfig,
    pub(crate) counts: PathCounts,
    rng: Rng,
    bad: bool,
    /// When the bottleneck has sent all that waits for it.
    busy: Instant,
    /// By arrival; the second number keeps those that arrive together in order.
    frames: BTreeMap<(Instant, u64), Frame>,
    held: Vec<Held>,
    count: u64,
}

const ETHERTYPE_IPV4: [u8; 2] = [8, 0];
/// Frames are untagged.
const IP: usize = 14;
/// The hop that speaks for a narrow link.
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 254);
/// Longer than any gap between frames of a flow that is not idle; under the timers that
/// would take a held frame for lost.
const HOLD: Duration = Duration::from_millis(5);

impl Path {
    pub(crate) fn new(config: PathConfig, rng: Rng, now: Instant) -> Self {
        Self {
            config,
            counts: PathCounts::default(),
            rng,
            bad: false,
            busy: now,
            frames: BTreeMap::new(),
            held: Vec::new(),
            count: 0,
        }
    }

    /// Octets that wait for the bottleneck.
    pub(crate) fn backlog(&self, now: Instant) -> usize {
        let nanos = self.busy.since(now).as_nanos() as u64;
        (u128::from(nanos) * u128::from(self.config.rate) / 8_000_000_000) as usize
    }

    /// Puts an untagged frame on the path. Gives the frame that a narrow hop answers with,
    /// where it refuses this one and says so.
    pub(crate) fn send(&mut self, now: Instant, mut octets: Vec<u8>) -> Option<Vec<u8>> {
        self.counts.sent += 1;
        let is_ip = octets[12..14] == ETHERTYPE_IPV4;
        if let Some(narrow) = self.config.narrow
            && is_ip
            && octets.len() - IP > narrow.mtu
        {
            return narrow.tells.then(|| too_big(&octets, narrow.mtu as u16));
        }
        let backlog = self.backlog(now);
        if backlog + octets.len() > self.config.queue.max(octets.len()) {
            self.counts.overflowed += 1;
            return None;
        }
        self.counts.queue_peak = self.counts.queue_peak.max(backlog);
        if is_ip && self.config.mark_above.is_some_and(|mark| backlog > mark) {
            self.mark(&mut octets);
        }
        let nanos = octets.len() as u64 * 8_000_000_000 / self.config.rate;
        self.busy = self.busy.max(now) + Duration::from_nanos(nanos);
        if self.is_lost() {
            self.counts.lost += 1;
            return None;
        }
        let mut frame = Frame { octets, damaged: false };
        if is_ip && self.happens(self.config.corrupt) {
            self.corrupt(&mut frame);
        }
        let twice = self.happens(self.config.duplicate).then(|| frame.clone());
        let most = self.config.jitter.as_nanos() as u64;
        let jitter = if most == 0 { 0 } else { self.rng.between(0, most) };
        let at = self.busy + self.config.delay + Duration::from_nanos(jitter);
        if self.happens(self.config.reorder) {
            let ahead = self.rng.between(1, self.config.places);
            self.held.push(Held { frame, ahead, until: at + HOLD });
        } else {
            self.queue(at, frame);
            self.let_pass(at);
        }
        if let Some(frame) = twice {
            self.queue(at, frame);
        }
        None
    }

    /// A frame from a hop on the way, which no fault befalls.
    pub(crate) fn inject(&mut self, now: Instant, octets: Vec<u8>) {
        self.queue(now + self.config.delay, Frame { octets, damaged: false });
    }

    fn queue(&mut self, at: Instant, frame: Frame) {
        self.count += 1;
        self.frames.insert((at, self.count), frame);
    }

    /// A frame that arrives at `at` has overtaken those that are held.
    fn let_pass(&mut self, at: Instant) {
        for held in &mut self.held {
            held.ahead -= 1;
        }
        while let Some(index) = self.held.iter().position(|held| held.ahead == 0) {
            let held = self.held.remove(index);
            self.queue(at.min(held.until), held.frame);
        }
    }

    fn happens(&mut self, probability: u64) -> bool {
        probability > 0 && self.rng.next() % 1_000_000 < probability
    }

    fn is_lost(&mut self) -> bool {
        if self.config.drop.contains(&self.counts.sent) {
            return true;
        }
        let busy = self.busy;
        if self.config.outage.is_some_and(|(from, to)| busy >= from && busy < to) {
            return true;
        }
        match self.config.loss {
            Loss::Uniform(probability) => self.happens(probability),
            Loss::Burst { enter, leave } => {
                let turns = self.happens(if self.bad { leave } else { enter });
                self.bad ^= turns;
                self.bad
            }
        }
    }

    /// Turns one bit of an IPv4 packet: a checksum notices every such error. What Ethernet's
    /// own check sequence would have caught (addresses, ARP) is left alone.
    fn corrupt(&mut self, frame: &mut Frame) {
        let octets = &mut frame.octets;
        let length = IP + usize::from(u16::from_be_bytes([octets[IP + 2], octets[IP + 3]]));
        let bit = self.rng.between(IP as u64 * 8, length as u64 * 8 - 1) as usize;
        octets[bit / 8] ^= 1 << (bit % 8);
        frame.damaged = true;
    }

    /// RFC 3168 5: CE in place of ECT(0) or ECT(1), and the header's checksum made good
    /// (RFC 1624 eqn. 3).
    fn mark(&mut self, octets: &mut [u8]) {
        let tos = octets[IP + 1];
        if tos & 3 == 0 || tos & 3 == 3 {
            return;
        }
        self.counts.marked += 1;
        octets[IP + 1] = tos | 3;
        let old = u16::from_be_bytes([octets[IP], tos]);
        let new = u16::from_be_bytes([octets[IP], tos | 3]);
        let field = u16::from_be_bytes([octets[IP + 10], octets[IP + 11]]);
        let sum = u32::from(!field) + u32::from(!old) + u32::from(new);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        octets[IP + 10..IP + 12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        let arrival = self.frames.first_key_value().map(|((at, _), _)| *at);
        self.held.iter().map(|held| held.until).chain(arrival).min()
    }

    /// The next frame that has arrived by now.
    pub(crate) fn receive(&mut self, now: Instant) -> Option<Frame> {
        while let Some(index) = self.held.iter().position(|held| held.until <= now) {
            let held = self.held.remove(index);
            self.queue(held.until, held.frame);
        }
        if self.frames.first_key_value().is_none_or(|((at, _), _)| *at > now) {
            return None;
        }
        self.frames.pop_first().map(|(_, frame)| frame)
    }
}

/// RFC 1191's message about a frame that was refused, to its sender.
fn too_big(refused: &[u8], mtu: u16) -> Vec<u8> {
    let quoted = &refused[IP..IP + 28];
    let mut message = vec![3, 4, 0, 0, 0, 0];
    message.extend(mtu.to_be_bytes());
    message.extend(quoted);
    let sum = Sum::new().feed(&message).finish();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut header = vec![0x45, 0, 0, 20 + message.len() as u8, 0, 0, 0x40, 0, 64, 1, 0, 0];
    header.extend(ROUTER.octets());
    header.extend(&quoted[12..16]);
    let sum = Sum::new().feed(&header).finish();
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    // Back to where it came from.
    [&refused[6..12], &refused[..6], &[8, 0], &header, &message].concat()
}
