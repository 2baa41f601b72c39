//! A path in virtual time for the tests of controllers: one bottleneck with a drop-tail queue,
//! losses at random by a seed, and senders that know by SACK exactly what arrived.
//!
//! The sender is simpler than the stack's own (nothing is reordered, no ACK is lost, each
//! segment is acknowledged), so that what a test sees is the controller's doing.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use super::{Acked, Congestion, LostSegment, RateSample, Start};
use crate::tcp::seq::SeqNum;
use crate::time::Instant;

pub(super) const MSS: u32 = 1448;
/// Octets that a segment takes on the wire.
const ON_WIRE: u64 = MSS as u64 + 66;

/// The bottleneck and what lies behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    /// Octets per second on the wire.
    pub(super) rate: u64,
    pub(super) rtt: Duration,
    /// Octets that wait at most.
    pub(super) queue: u64,
    /// Share of segments that is lost at random.
    pub(super) loss: f64,
    /// Octets waiting above which a segment is marked instead (RFC 3168).
    pub(super) mark: Option<u64>,
    pub(super) seed: u64,
}

/// 100 Mbit/s with a queue of 100 ms, which loses nothing.
pub(super) const FAST_ETHERNET: Path = Path {
    rate: 12_500_000,
    rtt: Duration::from_millis(20),
    queue: 1_250_000,
    loss: 0.0,
    mark: None,
    seed: 1,
};

/// One sender.
pub(super) struct Flow {
    pub(super) controller: Box<dyn Congestion>,
    pub(super) start: Duration,
    /// Segments to send; none: without end.
    pub(super) segments: Option<u64>,
    window: u64,
    next_new: u64,
    /// Lost, to be sent again.
    again: BTreeSet<u64>,
    received: BTreeSet<u64>,
    una: u64,
    /// In order of departure; the front has the number `first_tx`.
    sent: VecDeque<Sent>,
    first_tx: u64,
    in_flight: u64,
    delivered: u64,
    delivered_at: u64,
    first_sent_at: u64,
    lost: u64,
    recover: Option<u64>,
    prr: Prr,
    srtt: Option<f64>,
    rttvar: f64,
    backoff: u32,
    probed: bool,
    timer: u64,
    next_send: u64,
    pace_pending: bool,
    held_by_window: bool,
    pub(super) timeouts: u32,
    /// Octets that arrived for the first time.
    pub(super) goodput: u64,
    pub(super) done_at: Option<Duration>,
}

#[derive(Clone, Copy, Default)]
struct Prr {
    flight: u64,
    delivered: u64,
    out: u64,
    budget: u64,
}

#[derive(Clone, Copy)]
struct Sent {
    segment: u64,
    at: u64,
    delivered: u64,
    delivered_at: u64,
    first_sent_at: u64,
    tx_in_flight: u64,
    lost: u64,
    outstanding: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Begin,
    Ack { tx: u64, marked: bool },
    Pace,
    Timer,
}

pub(super) struct Sim {
    path: Path,
    random: u64,
    now: u64,
    busy_until: u64,
    events: BinaryHeap<Reverse<(u64, u64, usize, Event)>>,
    tie: u64,
    pub(super) flows: Vec<Flow>,
    /// The most that waited, and segments that found no room.
    pub(super) queue_peak: u64,
    pub(super) queue_drops: u64,
}

impl Flow {
    pub(super) fn new(make: fn(Start) -> Box<dyn Congestion>, seed: u64) -> Self {
        Self {
            controller: make(Start { mss: MSS, rtt: None, seed }),
            start: Duration::ZERO,
            segments: None,
            window: 0,
            next_new: 0,
            again: BTreeSet::new(),
            received: BTreeSet::new(),
            una: 0,
            sent: VecDeque::new(),
            first_tx: 0,
            in_flight: 0,
            delivered: 0,
            delivered_at: 0,
            first_sent_at: 0,
            lost: 0,
            recover: None,
            prr: Prr::default(),
            srtt: None,
            rttvar: 0.0,
            backoff: 0,
            probed: false,
            timer: u64::MAX,
            next_send: 0,
            pace_pending: false,
            held_by_window: true,
            timeouts: 0,
            goodput: 0,
            done_at: None,
        }
    }

    fn rto(&self) -> u64 {
        let base = self.srtt.map_or(1e9, |srtt| srtt + (4.0 * self.rttvar).max(2e8));
        (base as u64) << self.backoff.min(8)
    }

    fn has_more(&self) -> bool {
        !self.again.is_empty() || self.segments.is_none_or(|end| self.next_new < end)
    }
}

impl Sim {
    pub(super) fn new(path: Path, flows: Vec<Flow>) -> Self {
        let mut sim = Self {
            path,
            random: path.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            now: 0,
            busy_until: 0,
            events: BinaryHeap::new(),
            tie: 0,
            flows,
            queue_peak: 0,
            queue_drops: 0,
        };
        for index in 0..sim.flows.len() {
            let at = sim.flows[index].start.as_nanos() as u64;
            sim.schedule(at, index, Event::Begin);
        }
        sim
    }

    pub(super) fn set_rate(&mut self, rate: u64) {
        self.path.rate = rate;
    }

    fn chance(&mut self, share: f64) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        ((self.random >> 11) as f64 / (1u64 << 53) as f64) < share
    }

    fn schedule(&mut self, at: u64, flow: usize, event: Event) {
        self.tie += 1;
        self.events.push(Reverse((at, self.tie, flow, event)));
    }

    /// Runs until `until`, or until every flow with an end has come to it.
    pub(super) fn run(&mut self, until: Duration) {
        let until = until.as_nanos() as u64;
        while let Some(&Reverse((at, _, index, event))) = self.events.peek() {
            if at > until || self.flows.iter().all(|flow| flow.done_at.is_some()) {
                break;
            }
            self.events.pop();
            self.now = at;
            match event {
                Event::Begin => {}
                Event::Ack { tx, marked } => self.on_ack(index, tx, marked),
                Event::Pace => self.flows[index].pace_pending = false,
                Event::Timer => self.on_timer(index),
            }
            self.send(index);
            self.arm(index);
            let flow = &self.flows[index];
            assert!(flow.controller.window() >= MSS, "{:?}", flow.controller);
        }
        self.now = until;
    }

    fn arm(&mut self, index: usize) {
        let now = self.now;
        let flow = &mut self.flows[index];
        if flow.in_flight == 0 {
            flow.timer = u64::MAX;
            return;
        }
        let wait = match flow.srtt {
            // RFC 8985 7.2: a tail loss probe first.
            Some(srtt) if !flow.probed && flow.recover.is_none() => (2.0 * srtt + 2e6) as u64,
            _ => flow.rto(),
        };
        if flow.timer == u64::MAX {
            flow.timer = now + wait;
            let at = flow.timer;
            self.schedule(at, index, Event::Timer);
        }
    }

    fn send(&mut self, index: usize) {
        loop {
            let now = self.now;
            let flow = &mut self.flows[index];
            if !flow.has_more() {
                return;
            }
            let mss = u64::from(MSS);
            flow.window = u64::from(flow.controller.window());
            let by_prr = flow.recover.is_some() && !flow.controller.governs_recovery();
            let room = if by_prr {
                flow.prr.budget >= mss
            } else {
                flow.in_flight + mss <= flow.window || flow.in_flight == 0
            };
            flow.held_by_window = !room;
            if !room {
                return;
            }
            if let Some(rate) = flow.controller.pacing_rate() {
                assert!(rate > 0);
                if flow.next_send > now {
                    if !flow.pace_pending {
                        flow.pace_pending = true;
                        let at = flow.next_send;
                        self.schedule(at, index, Event::Pace);
                    }
                    return;
                }
                let gap = (f64::from(MSS) / rate as f64 * 1e9) as u64;
                flow.next_send = flow.next_send.max(now.saturating_sub(gap)) + gap;
            }
            if by_prr {
                flow.prr.budget -= mss;
                flow.prr.out += mss;
            }
            let segment = flow.again.pop_first().unwrap_or(flow.next_new);
            flow.next_new = flow.next_new.max(segment + 1);
            self.transmit(index, segment);
        }
    }

    fn transmit(&mut self, index: usize, segment: u64) {
        let now = self.now;
        let flow = &mut self.flows[index];
        let mss = u64::from(MSS);
        if flow.in_flight == 0 {
            flow.first_sent_at = now;
            flow.delivered_at = now;
        }
        flow.controller.on_send(Instant::from_nanos(now), flow.in_flight as u32, None);
        flow.in_flight += mss;
        flow.sent.push_back(Sent {
            segment,
            at: now,
            delivered: flow.delivered,
            delivered_at: flow.delivered_at,
            first_sent_at: flow.first_sent_at,
            tx_in_flight: flow.in_flight,
            lost: flow.lost,
            outstanding: true,
        });
        let tx = flow.first_tx + flow.sent.len() as u64 - 1;
        let wait = self.busy_until.saturating_sub(now);
        let waiting = (wait as f64 * self.path.rate as f64 / 1e9) as u64;
        if waiting + ON_WIRE > self.path.queue {
            self.queue_drops += 1;
            return;
        }
        self.queue_peak = self.queue_peak.max(waiting);
        self.busy_until = self.busy_until.max(now) + ON_WIRE * 1_000_000_000 / self.path.rate;
        if self.chance(self.path.loss) {
            return;
        }
        let marked = self.path.mark.is_some_and(|mark| waiting > mark);
        let at = self.busy_until + self.path.rtt.as_nanos() as u64;
        self.schedule(at, index, Event::Ack { tx, marked });
    }

    fn on_ack(&mut self, index: usize, tx: u64, marked: bool) {
        let now = Instant::from_nanos(self.now);
        let flow = &mut self.flows[index];
        let mss = u64::from(MSS);
        let Some(place) = tx.checked_sub(flow.first_tx) else { return };
        let newest = flow.sent[place as usize];
        let prior_in_flight = flow.in_flight;
        let fresh = newest.outstanding;
        if fresh {
            flow.sent[place as usize].outstanding = false;
            flow.in_flight -= mss;
        }
        if flow.received.insert(newest.segment) {
            flow.goodput += mss;
            // What timed out has arrived all the same.
            flow.again.remove(&newest.segment);
        } else if !fresh {
            return;
        }
        flow.delivered += mss;
        flow.delivered_at = self.now;
        while flow.received.contains(&flow.una) {
            flow.una += 1;
        }
        flow.received = flow.received.split_off(&flow.una.saturating_sub(1));
        let measured = (self.now - newest.at) as f64;
        flow.rttvar = flow
            .srtt
            .map_or(measured / 2.0, |srtt| 0.75 * flow.rttvar + 0.25 * (srtt - measured).abs());
        flow.srtt = Some(flow.srtt.map_or(measured, |srtt| srtt + (measured - srtt) / 8.0));
        flow.backoff = 0;
        flow.probed = false;
        flow.timer = u64::MAX;

        // All that left before what has arrived and is still out is lost.
        let mut lost = 0;
        for _ in 0..=place {
            let Some(old) = flow.sent.pop_front() else { break };
            flow.first_tx += 1;
            if !old.outstanding || flow.received.contains(&old.segment) || old.segment < flow.una {
                flow.in_flight -= if old.outstanding { mss } else { 0 };
                continue;
            }
            flow.in_flight -= mss;
            flow.lost += mss;
            lost += mss;
            flow.again.insert(old.segment);
            flow.controller.on_segment_lost(&LostSegment {
                octets: MSS,
                tx_in_flight: old.tx_in_flight as u32,
                lost: flow.lost - old.lost,
                prior_delivered: old.delivered,
                app_limited: false,
            });
        }
        if lost > 0 && flow.recover.is_none() {
            flow.recover = Some(flow.next_new);
            flow.controller.on_loss(now, prior_in_flight as u32);
            flow.prr = Prr { flight: prior_in_flight, ..Prr::default() };
        } else if marked && flow.recover.is_none() {
            flow.recover = Some(flow.next_new);
            flow.controller.on_ecn(now, prior_in_flight as u32);
            flow.prr = Prr { flight: prior_in_flight, ..Prr::default() };
        }
        let interval = (newest.at - newest.first_sent_at).max(self.now - newest.delivered_at);
        flow.first_sent_at = newest.at;
        flow.controller.on_ack(&Acked {
            now,
            octets: MSS,
            ack: SeqNum((flow.una * mss) as u32),
            sent_end: SeqNum((flow.next_new * mss) as u32),
            lost: lost as u32,
            prior_in_flight: prior_in_flight as u32,
            in_flight: flow.in_flight as u32,
            delivered: flow.delivered,
            rtt: Some(Duration::from_nanos(measured as u64)),
            smoothed_rtt: flow.srtt.map(|srtt| Duration::from_nanos(srtt as u64)),
            rate: (interval > 0).then_some(RateSample {
                delivered: flow.delivered - newest.delivered,
                interval: Duration::from_nanos(interval.max(1)),
                prior_delivered: newest.delivered,
                tx_in_flight: newest.tx_in_flight as u32,
                lost: flow.lost - newest.lost,
                app_limited: false,
            }),
            window_limited: flow.held_by_window || prior_in_flight * 2 >= flow.window,
            in_recovery: flow.recover.is_some(),
        });
        if flow.recover.is_some_and(|recover| flow.una >= recover) {
            flow.recover = None;
            flow.controller.on_recovered(now);
        }
        // RFC 9937 6.
        let window = u64::from(flow.controller.window());
        flow.prr.delivered += mss;
        flow.prr.budget = if flow.in_flight > window {
            (flow.prr.delivered * window).div_ceil(flow.prr.flight.max(1))
        } else {
            let limit = flow.prr.delivered.max(flow.prr.out + mss) + mss;
            limit.min(flow.prr.out + window - flow.in_flight)
        }
        .saturating_sub(flow.prr.out);
        if flow.prr.out == 0 {
            flow.prr.budget = flow.prr.budget.max(mss);
        }
        if flow.segments == Some(flow.una) && flow.done_at.is_none() {
            flow.done_at = Some(Duration::from_nanos(self.now) - flow.start);
        }
    }

    fn on_timer(&mut self, index: usize) {
        let flow = &mut self.flows[index];
        if flow.timer > self.now || flow.in_flight == 0 {
            return;
        }
        flow.timer = u64::MAX;
        if !flow.probed && flow.recover.is_none() && flow.srtt.is_some() {
            flow.probed = true;
            let segment = flow.next_new - 1;
            self.transmit(index, segment);
            return;
        }
        let repeated = flow.backoff > 0;
        let in_flight = flow.in_flight as u32;
        for sent in &mut flow.sent {
            if std::mem::take(&mut sent.outstanding) && sent.segment >= flow.una {
                flow.lost += u64::from(MSS);
                flow.again.insert(sent.segment);
            }
        }
        flow.in_flight = 0;
        flow.backoff += 1;
        flow.timeouts += 1;
        flow.recover = None;
        flow.controller.on_timeout(Instant::from_nanos(self.now), in_flight, repeated);
    }
}

/// Goodput of one download, in octets per second.
pub(super) fn download(make: fn(Start) -> Box<dyn Congestion>, path: Path, octets: u64) -> f64 {
    let mut flow = Flow::new(make, path.seed);
    let segments = octets.div_ceil(u64::from(MSS));
    flow.segments = Some(segments);
    let mut sim = Sim::new(path, vec![flow]);
    sim.run(Duration::from_secs(3600));
    let flow = &sim.flows[0];
    let took = flow.done_at.unwrap_or(Duration::from_secs(3600));
    flow.goodput as f64 / took.as_secs_f64()
}

/// The cells of the comparison with a kernel: loss in percent, round trip in milliseconds.
pub(super) fn cells(make: fn(Start) -> Box<dyn Congestion>) -> Vec<(f64, u64, f64)> {
    let mut cells = Vec::new();
    for rtt in [1, 20, 100] {
        for loss in [0.0, 0.1, 1.0, 3.0, 10.0] {
            let seeds = 3;
            let sum: f64 = (1..=seeds)
                .map(|seed| {
                    let rtt = Duration::from_millis(rtt);
                    let path = Path { loss: loss / 100.0, rtt, seed, ..FAST_ETHERNET };
                    download(make, path, 20_000_000)
                })
                .sum();
            let goodput = sum / seeds as f64;
            println!("loss {loss:4} %, {rtt:3} ms: {:6.3} MB/s", goodput / 1e6);
            cells.push((loss, rtt, goodput));
        }
    }
    cells
}
