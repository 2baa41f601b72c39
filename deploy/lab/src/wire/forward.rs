//! The wire's thread: takes frames from one end, holds them, puts them on the other.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, PipeReader, Read};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use tagwire_core::lab::WireSocket;

use super::config::{Impairments, WireConfig};
use super::fate::{Fate, flip_bits};
use super::{Counters, Direction, LATE};

/// Frames taken from an end before the other one gets its turn.
const BATCH: usize = 64;

/// Longer than any frame without segmentation offload, and than any with.
const MAX_FRAME: usize = 65_536 + 64;

/// Both directions, and the sockets at the two ends.
pub(super) struct Forwarder {
    /// The end of the client and that of the node.
    ends: [WireSocket; 2],
    /// The direction that begins at each end.
    lanes: [Lane; 2],
    /// Readable when there are orders, closed at the end.
    wake: PipeReader,
    orders: mpsc::Receiver<Order>,
    buffer: Vec<u8>,
}

/// A new plan, and where to say that it is followed.
pub(super) type Order = (WireConfig, mpsc::SyncSender<()>);

impl Forwarder {
    pub(super) fn new(
        config: &WireConfig,
        ends: [WireSocket; 2],
        wake: PipeReader,
        orders: mpsc::Receiver<Order>,
        counters: [Arc<Counters>; 2],
    ) -> Self {
        let lanes = lanes(config, counters);
        Self { ends, lanes, wake, orders, buffer: vec![0; MAX_FRAME] }
    }

    /// Follows the orders that have come; whether to go on.
    fn obey(&mut self) -> io::Result<bool> {
        let mut signals = [0; 16];
        if self.wake.read(&mut signals)? == 0 {
            return Ok(false);
        }
        while let Ok((config, followed)) = self.orders.try_recv() {
            // What has come by now is of the old plan.
            while self.ends.iter().any(|end| matches!(end.recv(&mut self.buffer), Ok(Some(_)))) {}
            let counters = self.lanes.each_ref().map(|lane| Arc::clone(&lane.counters));
            self.lanes = lanes(&config, counters);
            // Who has gone does not want to know.
            let _ = followed.send(());
        }
        Ok(true)
    }

    /// Forwards until the other end of `wake` is closed.
    pub(super) fn run(mut self) -> io::Result<()> {
        be_punctual();
        loop {
            let now = Instant::now();
            let next = self.lanes.iter().filter_map(Lane::next_release).min();
            let timeout = next
                .map(|release| release.saturating_duration_since(now).try_into())
                .transpose()
                .map_err(io::Error::other)?;
            let mut fds = [
                PollFd::new(&self.ends[0], PollFlags::IN),
                PollFd::new(&self.ends[1], PollFlags::IN),
                PollFd::new(&self.wake, PollFlags::IN),
            ];
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [client, node, woken] = fds.map(|fd| fd.revents());
            if !woken.is_empty() && !self.obey()? {
                return Ok(());
            }
            for (end, events) in [client, node].into_iter().enumerate() {
                if !events.is_empty() {
                    self.take(end)?;
                }
                self.release(end);
            }
        }
    }

    /// Takes what has arrived at an end.
    fn take(&mut self, end: usize) -> io::Result<()> {
        let lane = &mut self.lanes[end];
        for _ in 0..BATCH {
            match self.ends[end].recv(&mut self.buffer) {
                Ok(Some(len)) => lane.admit(&self.buffer[..len], Instant::now()),
                Ok(None) => break,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    count(&lane.counters.failed);
                }
                // Said once, when the interface goes down: it may come up again.
                Err(error) if error.kind() == io::ErrorKind::NetworkDown => break,
                Err(error) => return Err(error),
            }
        }
        let overruns = self.ends[end].take_overruns()?;
        lane.counters.failed.fetch_add(u64::from(overruns), Ordering::Relaxed);
        Ok(())
    }

    /// Sends what has waited long enough in the direction that begins at an end.
    fn release(&mut self, end: usize) {
        let lane = &mut self.lanes[end];
        let now = Instant::now();
        while let Some((release, frame)) = lane.due(now) {
            if now.saturating_duration_since(release) > LATE {
                count(&lane.counters.late);
            }
            match self.ends[1 - end].send(&frame) {
                Ok(()) => count(&lane.counters.forwarded),
                Err(_) => count(&lane.counters.failed),
            }
        }
    }
}

/// Asks for this thread to run when a frame is due and not when it is convenient. Where it
/// is refused, the count of late frames tells.
fn be_punctual() {
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), -20);
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Both directions at their first frame.
fn lanes(config: &WireConfig, [up, down]: [Arc<Counters>; 2]) -> [Lane; 2] {
    let now = Instant::now();
    [
        Lane::new(config.seed, Direction::Up, config.up.clone(), up, now),
        Lane::new(config.seed, Direction::Down, config.down.clone(), down, now),
    ]
}

/// One direction: its frames on their way.
struct Lane {
    seed: u64,
    direction: Direction,
    plan: Impairments,
    counters: Arc<Counters>,
    /// How many frames have come: the number of the next.
    frames: u64,
    /// What is on its way, the next to arrive on top.
    held: BinaryHeap<Reverse<Held>>,
    /// How many were ever held: frames of the same release keep their order by it.
    sequence: u64,
    /// When the last frame that kept its order arrives: none may arrive before it.
    last_release: Instant,
    /// Frames that wait for later ones to overtake them.
    overtaken: Vec<Overtaken>,
    /// When the frames that wait for the rate limit are through it.
    departures: VecDeque<Instant>,
}

/// A frame on its way. The order is that of arrival; no two have the same sequence.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    release: Instant,
    sequence: u64,
    frame: Vec<u8>,
}

/// A frame that is to be delivered behind some of those that come after it.
struct Overtaken {
    /// Behind how many more.
    places: u32,
    /// When it is delivered if there are not so many.
    limit: Instant,
    frame: Vec<u8>,
}

impl Lane {
    fn new(
        seed: u64,
        direction: Direction,
        plan: Impairments,
        counters: Arc<Counters>,
        now: Instant,
    ) -> Self {
        Self {
            seed,
            direction,
            plan,
            counters,
            frames: 0,
            held: BinaryHeap::new(),
            sequence: 0,
            last_release: now,
            overtaken: Vec::new(),
            departures: VecDeque::new(),
        }
    }

    /// Takes a frame: it may be lost here, else it is on its way.
    fn admit(&mut self, frame: &[u8], now: Instant) {
        count(&self.counters.received);
        let fate = Fate::of(self.seed, self.direction, self.frames, &self.plan);
        self.frames += 1;
        if fate.lost {
            return count(&self.counters.lost);
        }
        let Some(departure) = self.departure(frame.len(), now) else {
            return count(&self.counters.overflow);
        };
        let mut frame = frame.to_vec();
        if let Some(random) = fate.corrupted {
            count(&self.counters.corrupted);
            flip_bits(&mut frame, random);
        }
        let mut release = departure + self.plan.delay + self.plan.jitter.mul_f64(fate.jitter);
        if fate.reordered {
            count(&self.counters.reordered);
            release += self.plan.reorder_by;
            if self.plan.reorder_places > 0 {
                if fate.duplicated {
                    count(&self.counters.duplicated);
                    self.hold(release, frame.clone());
                }
                let places = fate.places(self.plan.reorder_places);
                return self.overtaken.push(Overtaken { places, limit: release, frame });
            }
        } else {
            release = release.max(self.last_release);
            self.last_release = release;
        }
        if fate.duplicated {
            count(&self.counters.duplicated);
            self.hold(release, frame.clone());
        }
        self.hold(release, frame);
        if !fate.reordered {
            self.overtake(release);
        }
    }

    /// A frame that keeps its order is delivered at `release`: what has let enough of them
    /// pass follows it.
    fn overtake(&mut self, release: Instant) {
        for waiting in &mut self.overtaken {
            waiting.places -= 1;
        }
        for waiting in
            self.overtaken.extract_if(.., |waiting| waiting.places == 0).collect::<Vec<_>>()
        {
            self.hold(release, waiting.frame);
        }
    }

    /// When a frame is through the rate limit; `None` if the queue before it is full.
    fn departure(&mut self, len: usize, now: Instant) -> Option<Instant> {
        let Some(rate) = self.plan.rate else { return Some(now) };
        while self.departures.front().is_some_and(|departure| *departure <= now) {
            self.departures.pop_front();
        }
        // The first of them is being sent, the others wait.
        if self.departures.len() > self.plan.queue_limit {
            return None;
        }
        let start = self.departures.back().copied().unwrap_or(now);
        let departure = start + Duration::from_secs_f64(len as f64 * 8.0 / rate as f64);
        self.departures.push_back(departure);
        Some(departure)
    }

    fn hold(&mut self, release: Instant, frame: Vec<u8>) {
        self.held.push(Reverse(Held { release, sequence: self.sequence, frame }));
        self.sequence += 1;
    }

    /// When the next frame is due.
    fn next_release(&self) -> Option<Instant> {
        let held = self.held.peek().map(|Reverse(held)| held.release);
        self.overtaken.iter().map(|waiting| waiting.limit).chain(held).min()
    }

    /// The next frame that has arrived by now, and when it was due.
    fn due(&mut self, now: Instant) -> Option<(Instant, Vec<u8>)> {
        for waiting in
            self.overtaken.extract_if(.., |waiting| waiting.limit <= now).collect::<Vec<_>>()
        {
            self.hold(waiting.limit, waiting.frame);
        }
        if self.held.peek()?.0.release > now {
            return None;
        }
        self.held.pop().map(|Reverse(held)| (held.release, held.frame))
    }
}

#[cfg(test)]
mod tests {
    use super::super::WireCounts;
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    struct Bench {
        lane: Lane,
        start: Instant,
    }

    impl Bench {
        fn new(plan: Impairments) -> Self {
            let start = Instant::now();
            let lane = Lane::new(1, Direction::Up, plan, Arc::default(), start);
            Self { lane, start }
        }

        fn admit(&mut self, number: u8, at: Duration) {
            self.lane.admit(&[number; 100], self.start + at);
        }

        fn arrived(&mut self, by: Duration) -> Vec<u8> {
            let now = self.start + by;
            std::iter::from_fn(|| self.lane.due(now)).map(|(_, frame)| frame[0]).collect()
        }

        fn counts(&self) -> WireCounts {
            self.lane.counters.read()
        }
    }

    #[test]
    fn a_clean_lane_passes_everything_in_order_at_once() {
        let mut bench = Bench::new(Impairments::default());
        (0..100).for_each(|n| bench.admit(n, Duration::ZERO));
        assert_eq!(bench.arrived(Duration::ZERO), (0..100).collect::<Vec<u8>>());
    }

    #[test]
    fn delay_is_kept_and_jitter_does_not_reorder() {
        let plan = Impairments { delay: 10 * MS, jitter: 5 * MS, ..Impairments::default() };
        let mut bench = Bench::new(plan);
        (0..100).for_each(|n| bench.admit(n, Duration::ZERO));
        assert!(bench.arrived(9 * MS).is_empty());
        assert_eq!(bench.arrived(15 * MS), (0..100).collect::<Vec<u8>>());
    }

    #[test]
    fn reordered_frames_are_overtaken() {
        let plan = Impairments { reorder: 0.3, reorder_by: 5 * MS, ..Impairments::default() };
        let mut bench = Bench::new(plan);
        (0..100).for_each(|n| bench.admit(n, Duration::ZERO));
        let (first, late) = (bench.arrived(4 * MS), bench.arrived(5 * MS));
        assert_eq!(late.len() as u64, bench.counts().reordered);
        assert_eq!(first.len() + late.len(), 100);
        assert!(late.len() > 10 && first.is_sorted() && late.is_sorted());
    }

    #[test]
    fn frames_are_overtaken_by_places() {
        let plan = Impairments {
            reorder: 0.05,
            reorder_places: 3,
            reorder_by: 1000 * MS,
            ..Impairments::default()
        };
        let mut bench = Bench::new(plan.clone());
        (0..250).for_each(|n| bench.admit(n, u32::from(n) * MS));
        let arrived = bench.arrived(250 * MS);
        let moved = (0..250).filter(|&n| Fate::of(1, Direction::Up, n.into(), &plan).reordered);
        let moved: Vec<u8> = moved.filter(|n| arrived.contains(n)).collect();
        assert!(moved.len() > 5, "{moved:?}");
        for &frame in &moved {
            let at = arrived.iter().position(|&it| it == frame).unwrap();
            let before = arrived[..at].iter().filter(|it| **it > frame && !moved.contains(it));
            let places = Fate::of(1, Direction::Up, frame.into(), &plan).places(3) as usize;
            assert_eq!(before.count(), places, "of {frame} in {arrived:?}");
        }
        let kept: Vec<u8> = arrived.iter().copied().filter(|it| !moved.contains(it)).collect();
        assert!(kept.is_sorted());
    }

    #[test]
    fn a_frame_that_nothing_follows_is_not_held_for_ever() {
        let (delay, reorder_by) = (10 * MS, 2 * MS);
        let plan = Impairments {
            delay,
            reorder: 1.0,
            reorder_places: 3,
            reorder_by,
            ..Impairments::default()
        };
        let mut bench = Bench::new(plan);
        bench.admit(0, Duration::ZERO);
        assert_eq!(bench.lane.next_release(), Some(bench.start + 12 * MS));
        assert!(bench.arrived(11 * MS).is_empty());
        assert_eq!(bench.arrived(12 * MS), [0]);
        assert_eq!(bench.lane.next_release(), None);
    }

    #[test]
    fn a_full_line_is_filled_to_the_bit() {
        // 1250 octets take 100 us at 100 Mbit/s; they come at three times that rate.
        let plan = Impairments { rate: Some(100_000_000), delay: 5 * MS, ..Impairments::default() };
        let mut bench = Bench::new(plan);
        let us = Duration::from_micros(1);
        (0..300_u32).for_each(|n| bench.lane.admit(&[0; 1250], bench.start + n * 33 * us));
        let due: Vec<Duration> = std::iter::from_fn(|| bench.lane.due(bench.start + 100 * MS))
            .map(|(release, _)| release - bench.start)
            .collect();
        let expected: Vec<Duration> = (1..=300).map(|n| 5 * MS + n * 100 * us).collect();
        assert_eq!(due, expected);
    }

    #[test]
    fn the_rate_spaces_frames_and_the_queue_is_bounded() {
        // 100 octets are 1 ms at this rate.
        let plan = Impairments { rate: Some(800_000), queue_limit: 3, ..Impairments::default() };
        let mut bench = Bench::new(plan);
        (0..10).for_each(|n| bench.admit(n, Duration::ZERO));
        assert_eq!(bench.counts().overflow, 6, "one is being sent, three wait");
        assert_eq!(bench.arrived(2 * MS), [0, 1]);
        bench.admit(10, 2 * MS);
        assert_eq!(bench.arrived(4 * MS), [2, 3]);
        assert_eq!(bench.arrived(5 * MS), [10]);
    }

    #[test]
    fn duplicates_follow_their_originals() {
        let mut bench = Bench::new(Impairments { duplicate: 1.0, ..Impairments::default() });
        (0..3).for_each(|n| bench.admit(n, Duration::ZERO));
        assert_eq!(bench.arrived(Duration::ZERO), [0, 0, 1, 1, 2, 2]);
        assert_eq!(bench.counts().duplicated, 3);
    }
}
