//! RACK: what is lost, by time (RFC 8985 section 6).
//!
//! A segment is lost when one that left after it has arrived and more than a round trip and
//! some time for reordering has passed since it left. That works for segments sent again as
//! for those sent once, for the last ones as for the first, and for any count of them.

use std::time::Duration;

use super::sent::{Fate, Piece, Sent, SentQueue};
use super::seq::SeqNum;
use crate::time::Instant;

/// RFC 8985 6.2 step 4: the reordering window begins at min_RTT / 4.
const WINDOW_DIVISOR: u32 = 4;
/// RFC 8985 6.2 step 4: a window that a D-SACK has made wider lasts for so many recoveries.
const WINDOW_PERSISTS: u8 = 16;
/// RFC 8985 6.2 step 4: so many segments that arrived behind a hole make it a loss at once,
/// as long as no reordering was seen.
const DUP_THRESHOLD: u32 = 3;
/// A minimum of the round trip older than this gives way to a newer one (Linux: 300 s).
const MIN_RTT_AGE: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(crate) struct Rack {
    /// When the segment left that left last of all that have arrived.
    sent_at: Instant,
    /// Its end.
    end: SeqNum,
    /// Its round trip, in nanoseconds.
    rtt: u64,
    /// The highest number that has arrived.
    highest: SeqNum,
    reordered: bool,
    multiplier: u8,
    persists: u8,
    /// D-SACKs count once for each round: until so much is acknowledged.
    round_end: Option<SeqNum>,
    /// In nanoseconds; `u64::MAX` before the first.
    min_rtt: u64,
    min_rtt_at: Instant,
}

/// What the acknowledgement says beside its numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Echo {
    pub(crate) received: Instant,
    /// When the segment left that made the peer send it, as far as the timestamps tell: at this
    /// time or before, to a millisecond.
    pub(crate) sent_before: Option<Instant>,
}

impl Rack {
    pub(crate) fn new(start: SeqNum, now: Instant) -> Self {
        Self {
            sent_at: Instant::from_nanos(0),
            end: start,
            rtt: 0,
            highest: start,
            reordered: false,
            multiplier: 1,
            persists: WINDOW_PERSISTS,
            round_end: None,
            min_rtt: u64::MAX,
            min_rtt_at: now,
        }
    }

    /// The least round trip that was measured lately.
    pub(crate) fn min_rtt(&self) -> Option<Duration> {
        (self.min_rtt != u64::MAX).then(|| Duration::from_nanos(self.min_rtt))
    }

    /// A round trip of a segment that was sent once.
    pub(crate) fn sample(&mut self, rtt: Duration, now: Instant) {
        if rtt.is_zero() {
            // By a clock that has not ticked in between.
            return;
        }
        let rtt = nanos(rtt);
        if rtt <= self.min_rtt || now.since(self.min_rtt_at) > MIN_RTT_AGE {
            self.min_rtt = rtt;
            self.min_rtt_at = now;
        }
    }

    /// Steps 1 to 3: something has arrived.
    pub(crate) fn on_arrival(&mut self, piece: &Piece, echo: Echo) {
        let rtt = echo.received.since(piece.departure.at);
        if piece.retransmitted {
            // Step 2: it may have been the first copy. One that was acknowledged in less than
            // the least round trip was, or that the echoed timestamp says to be older.
            let older = echo.sent_before.is_some_and(|before| before < piece.departure.at);
            if older || self.min_rtt().is_some_and(|least| rtt < least) {
                return;
            }
        } else if piece.end.before(self.highest) {
            // Step 3: an original that was overtaken.
            self.reordered = true;
        }
        self.highest = self.highest.latest(piece.end);
        let at = piece.departure.at;
        if at > self.sent_at || at == self.sent_at && piece.end.after(self.end) {
            self.sent_at = at;
            self.end = piece.end;
            self.rtt = nanos(rtt);
        }
    }

    /// Step 4: a D-SACK says that something was sent again in vain: wait longer. `ack` has
    /// been acknowledged, `next` is the end of what was sent.
    pub(crate) fn on_duplicate(&mut self, ack: SeqNum, next: SeqNum) {
        if self.round_end.is_none_or(|end| ack.at_or_after(end)) {
            self.round_end = Some(next);
            self.multiplier = self.multiplier.saturating_add(1);
            self.persists = WINDOW_PERSISTS;
            self.reordered = true;
        }
    }

    /// All before `ack` is acknowledged. The end of a round that lies behind it is forgotten: half of
    /// the numbers later it would lie ahead.
    pub(crate) fn on_acknowledged(&mut self, ack: SeqNum) {
        if self.round_end.is_some_and(|end| ack.at_or_after(end)) {
            self.round_end = None;
        }
    }

    /// The path reorders: a loss was none.
    pub(crate) fn see_reordering(&mut self) {
        self.reordered = true;
    }

    /// A recovery is over.
    pub(crate) fn on_recovered(&mut self) {
        self.persists = self.persists.saturating_sub(1);
        if self.persists == 0 {
            self.multiplier = 1;
        }
    }

    fn window(&self, sacked: u32, mss: u32, recovering: bool, srtt: Duration) -> Duration {
        if !self.reordered && (recovering || sacked >= DUP_THRESHOLD * mss) {
            return Duration::ZERO;
        }
        let Some(min_rtt) = self.min_rtt() else { return Duration::ZERO };
        (min_rtt / WINDOW_DIVISOR * u32::from(self.multiplier)).min(srtt)
    }

    /// Step 5: finds what is lost at `now`. Returns when to look again for what may yet be.
    pub(crate) fn detect(
        &self,
        now: Instant,
        queue: &mut SentQueue,
        situation: Situation,
        found: impl FnMut(Piece),
    ) -> Option<Instant> {
        let Situation { mss, recovering, srtt } = situation;
        let patience =
            Duration::from_nanos(self.rtt) + self.window(queue.sacked(), mss, recovering, srtt);
        let mut next = Instant::NEVER;
        let judge = |record: &Sent| {
            let at = record.departure.at;
            if at > self.sent_at || at == self.sent_at && !record.end.before(self.end) {
                return Fate::TooYoung;
            }
            let due = at + patience;
            if due <= now {
                return Fate::Lost;
            }
            next = next.min(due);
            Fate::Wait
        };
        queue.detect(judge, found);
        next.is_armed().then_some(next)
    }

    /// Whether a timeout at `now` may take a segment for lost that left at `at` (as Linux: what
    /// left less than a round trip ago has had no time to be acknowledged).
    pub(crate) fn may_be_lost(&self, at: Instant, now: Instant) -> bool {
        nanos(now.since(at)) >= self.rtt
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX - 1)
}

/// What the judgement depends on beside times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation {
    pub(crate) mss: u32,
    /// A loss was found already.
    pub(crate) recovering: bool,
    pub(crate) srtt: Duration,
}

#[cfg(test)]
mod tests {
    use super::super::delivery::Delivery;
    use super::*;

    const MSS: u32 = 100;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    struct Bench {
        rack: Rack,
        queue: SentQueue,
        delivery: Delivery,
    }

    impl Bench {
        /// Ten segments, a millisecond apart, on a path of 40 ms.
        fn new() -> Self {
            let mut bench = Self {
                rack: Rack::new(SeqNum(0), at(0)),
                queue: SentQueue::new(SeqNum(0)),
                delivery: Delivery::new(at(0)),
            };
            bench.rack.sample(Duration::from_millis(40), at(0));
            for k in 0..10 {
                let departure = bench.delivery.depart(at(k), 0, MSS);
                bench.queue.push(MSS, departure);
            }
            bench
        }

        fn sack(&mut self, now: u64, start: u32, end: u32) {
            let rack = &mut self.rack;
            let echo = Echo { received: at(now), sent_before: None };
            self.queue.sack(SeqNum(start), SeqNum(end), MSS, |piece| {
                rack.on_arrival(&piece, echo);
            });
        }

        fn detect(&mut self, now: u64, recovering: bool) -> (Vec<u32>, Option<u64>) {
            let situation = Situation { mss: MSS, recovering, srtt: Duration::from_millis(40) };
            let mut lost = Vec::new();
            let next = self.rack.detect(at(now), &mut self.queue, situation, |piece| {
                lost.push(piece.end.0);
            });
            (lost, next.map(Instant::as_millis))
        }
    }

    #[test]
    fn a_hole_waits_for_a_quarter_of_a_round_trip_or_for_three_segments_behind_it() {
        let mut bench = Bench::new();
        bench.sack(41, 100, 200);
        // It left at 0; the one that left at 1 took 40 ms; and a quarter of the least.
        assert_eq!(bench.detect(41, false), (vec![], Some(50)));
        assert_eq!(bench.detect(50, false), (vec![100], None));

        let mut bench = Bench::new();
        bench.sack(43, 100, 400);
        assert_eq!(bench.detect(43, false), (vec![100], None));
    }

    #[test]
    fn once_reordering_was_seen_three_segments_prove_nothing() {
        let mut bench = Bench::new();
        bench.sack(42, 200, 300);
        bench.sack(43, 100, 200);
        bench.sack(44, 300, 600);
        assert_eq!(bench.detect(44, false), (vec![], Some(49)));
        // A D-SACK doubles the patience, once for each round.
        bench.rack.on_duplicate(SeqNum(0), SeqNum(1000));
        bench.rack.on_duplicate(SeqNum(0), SeqNum(1000));
        assert_eq!(bench.detect(49, false), (vec![], Some(59)));
        for _ in 0..16 {
            bench.rack.on_recovered();
        }
        assert_eq!(bench.detect(49, false), (vec![100], None));
    }

    #[test]
    fn a_segment_sent_again_is_lost_again_when_a_later_one_arrives() {
        let mut bench = Bench::new();
        bench.sack(43, 100, 400);
        bench.detect(43, false);
        let again = bench.delivery.depart(at(43), 0, MSS);
        bench.queue.resend(SeqNum(0), MSS, again);
        let later = bench.delivery.depart(at(44), 0, MSS);
        bench.queue.push(MSS, later);
        bench.sack(84, 1000, 1100);
        let (lost, _) = bench.detect(84, true);
        assert_eq!(lost, [100, 500, 600, 700, 800, 900, 1000]);
    }

    #[test]
    fn a_copy_acknowledged_too_soon_says_nothing_of_those_before_it() {
        let mut bench = Bench::new();
        let again = bench.delivery.depart(at(50), 0, MSS);
        bench.queue.resend(SeqNum(0), MSS, again);
        let echo = Echo { received: at(55), sent_before: None };
        let rack = &mut bench.rack;
        bench.queue.acknowledge(SeqNum(100), |piece| rack.on_arrival(&piece, echo));
        assert_eq!(bench.detect(55, true), (vec![], None));
        // The same by an echoed timestamp on a path that varies.
        let again = bench.delivery.depart(at(60), 0, MSS);
        bench.queue.resend(SeqNum(100), MSS, again);
        let echo = Echo { received: at(110), sent_before: Some(at(2)) };
        let rack = &mut bench.rack;
        bench.queue.acknowledge(SeqNum(200), |piece| rack.on_arrival(&piece, echo));
        assert_eq!(bench.detect(110, true), (vec![], None));
    }
}
