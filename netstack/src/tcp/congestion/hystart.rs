//! HyStart++ (RFC 9406): leaving slow start before it overruns the path.
//!
//! A round trip that has become longer means that a queue is building. Growth then goes on at a
//! quarter of the speed (Conservative Slow Start), for as long as it takes to be sure: if the
//! round trip falls again it was noise, and slow start goes on.
//!
//! The RFC takes five rounds to be sure, in which the window triples, and where no loss evens it
//! out afterwards three times the share of a neighbour whose slow start has ended at the
//! first sign (Linux's HyStart does) stays ours. So it is over as soon as a round is longer than
//! the one before by an eighth again: what follows a window that grows by a quarter is its own queue.

use std::time::Duration;

use super::RoundTrip;
use crate::tcp::seq::SeqNum;
use crate::time::Instant;

/// RFC 9406 4.2: MIN_RTT_THRESH, an increase that is never a sign, in nanoseconds.
const MIN_THRESHOLD: u32 = 4_000_000;
/// RFC 9406 4.2: MAX_RTT_THRESH, an increase that always is one, in nanoseconds.
const MAX_THRESHOLD: u32 = 16_000_000;
/// RFC 9406 4.2: MIN_RTT_DIVISOR.
const THRESHOLD_DIVISOR: u32 = 8;
/// RFC 9406 4.2: N_RTT_SAMPLE, how many make the minimum of a round.
const SAMPLES: u8 = 8;
/// RFC 9406 4.2: CSS_GROWTH_DIVISOR.
const CONSERVATIVE_DIVISOR: f64 = 4.0;
/// RFC 9406 4.2: CSS_ROUNDS.
const CONSERVATIVE_ROUNDS: u8 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    SlowStart,
    /// The round trip that led here, and rounds that are left.
    Conservative {
        baseline: RoundTrip,
        rounds: u8,
    },
    /// Slow start is over for this connection (RFC 9406 4.3: only the first one is watched).
    Done,
}

/// What one acknowledgement in slow start means for the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Growth {
    /// Grows by so much of what was acknowledged.
    By(f64),
    /// The path is full: the threshold is where the window is now.
    Over,
}

/// Segments after the first acknowledgement of a round that tell a rate: with the initial window
/// and a peer that acknowledges every second one, two more acknowledgements.
const TRAIN: u32 = 4;

/// How fast the acknowledgements of a round follow each other: never faster than the narrowest
/// hop of the path carries what they are for.
#[derive(Clone, Copy, Debug, Default)]
struct Train {
    /// Octets acknowledged since the first one.
    octets: u32,
    /// Octets per second so far; 0 is unknown.
    rate: u32,
    /// The largest of earlier rounds.
    best: u32,
}

/// RFC 9406's state for one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct HyStart {
    phase: Phase,
    /// The round ends when this is acknowledged; none before the first acknowledgement.
    round_end: Option<SeqNum>,
    last_round: Option<RoundTrip>,
    this_round: Option<RoundTrip>,
    /// Of this round, as far as they are counted.
    samples: u8,
    /// For pacing.
    train: Train,
    /// When its first one came. (Not in it: its padding would be every connection's.)
    train_began: Instant,
}

impl HyStart {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::SlowStart,
            round_end: None,
            last_round: None,
            this_round: None,
            samples: 0,
            train: Train::default(),
            train_began: Instant::from_nanos(0),
        }
    }

    /// What the path was seen to carry, in octets per second; 0 where nothing was, or slow start
    /// is over. To send so fast and no faster builds no queue, however much of the round
    /// trip is then silence.
    pub(super) fn path_rate(&self) -> u32 {
        self.train.rate.max(self.train.best)
    }

    /// `octets` were acknowledged at `now` up to `ack`: before [`on_ack`](Self::on_ack).
    pub(super) fn note_train(&mut self, ack: SeqNum, now: Instant, octets: u32, mss: u32) {
        if self.is_done() {
            return;
        }
        let train = &mut self.train;
        if self.round_end.is_none_or(|end| ack.at_or_after(end)) {
            *train = Train { octets: 0, rate: 0, best: train.rate.max(train.best) };
            self.train_began = now;
            return;
        }
        train.octets = train.octets.saturating_add(octets);
        let nanos = now.since(self.train_began).as_nanos() as u64;
        if nanos > 0 && train.octets >= TRAIN * mss {
            let rate = u64::from(train.octets) * 1_000_000_000 / nanos;
            train.rate = u32::try_from(rate).unwrap_or(u32::MAX);
        }
    }

    /// Slow start has ended otherwise, by a loss or a mark.
    pub(super) fn finish(&mut self) {
        self.phase = Phase::Done;
        self.train.rate = 0;
        self.train.best = 0;
    }

    pub(super) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// After an idle time the path may be another one: what was measured does not count.
    pub(super) fn restart(&mut self) {
        if self.phase != Phase::Done {
            *self = Self::new();
        }
    }

    /// Whether a window of so many octets fills a path with so short a round trip that a queue would
    /// be a sign only when it is longer than the path. As Linux, whose HyStart looks at the
    /// length of a train of acknowledgements; on longer paths, where it is seen to end slow start far
    /// too early, the round trip tells soon enough.
    fn fills_short_path(&self, window: f64, rtt: RoundTrip) -> bool {
        let rate = f64::from(self.path_rate());
        let seconds = f64::from(rtt.nanos()) / 1e9;
        rtt.nanos() < MIN_THRESHOLD && rate > 0.0 && window >= rate * seconds
    }

    /// One acknowledgement in slow start: `ack` is SEG.ACK, `sent_end` SND.MAX; the window in octets.
    pub(super) fn on_ack(
        &mut self,
        ack: SeqNum,
        sent_end: SeqNum,
        rtt: Option<Duration>,
        window: f64,
    ) -> Growth {
        if self.is_done() {
            return Growth::By(1.0);
        }
        if self.round_end.is_none_or(|end| ack.at_or_after(end)) {
            self.round_end = Some(sent_end);
            self.last_round = self.this_round.or(self.last_round);
            self.this_round = None;
            self.samples = 0;
            if let Phase::Conservative { rounds, .. } = &mut self.phase {
                // A part of a round counts as one (RFC 9406 4.2).
                *rounds = rounds.saturating_sub(1);
                if *rounds == 0 {
                    self.finish();
                    return Growth::Over;
                }
            }
        }
        if let Some(rtt) = rtt.map(RoundTrip::from) {
            self.this_round = Some(self.this_round.map_or(rtt, |least| least.min(rtt)));
            self.samples = self.samples.saturating_add(1);
        }
        if let (Some(now), Some(before)) = (self.this_round, self.last_round)
            && self.samples >= SAMPLES
        {
            let grown = now.nanos().saturating_sub(before.nanos());
            let eighth = before.nanos() / THRESHOLD_DIVISOR;
            match self.phase {
                Phase::SlowStart => {
                    if grown >= eighth.clamp(MIN_THRESHOLD, MAX_THRESHOLD)
                        || self.fills_short_path(window, before)
                    {
                        self.phase =
                            Phase::Conservative { baseline: now, rounds: CONSERVATIVE_ROUNDS };
                    }
                }
                // It was not a queue of our own.
                Phase::Conservative { baseline, .. } if now < baseline => {
                    self.phase = Phase::SlowStart;
                }
                Phase::Conservative { rounds, .. }
                    if rounds < CONSERVATIVE_ROUNDS && grown >= eighth =>
                {
                    self.finish();
                    return Growth::Over;
                }
                Phase::Conservative { .. } | Phase::Done => {}
            }
        }
        match self.phase {
            Phase::Conservative { .. } => Growth::By(1.0 / CONSERVATIVE_DIVISOR),
            Phase::SlowStart | Phase::Done => Growth::By(1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Growth = Growth::By(1.0);
    const QUARTER: Growth = Growth::By(0.25);

    /// One round of ten segments, each measured as `millis`; what the last one led to.
    fn round(hystart: &mut HyStart, number: u32, millis: u64) -> Growth {
        let mut growth = FULL;
        for segment in 0..10 {
            let ack = SeqNum(number * 10 + segment + 1);
            growth = hystart.on_ack(
                ack,
                SeqNum(number * 10 + 10 + segment + 1),
                Some(Duration::from_millis(millis)),
                10_000.0,
            );
            if growth == Growth::Over {
                break;
            }
        }
        growth
    }

    #[test]
    fn a_steady_round_trip_never_ends_slow_start() {
        let mut hystart = HyStart::new();
        for number in 0..50 {
            assert_eq!(round(&mut hystart, number, 40 + u64::from(number % 5)), FULL);
        }
    }

    #[test]
    fn an_eighth_more_slows_growth_and_five_rounds_end_it() {
        let mut hystart = HyStart::new();
        assert_eq!(round(&mut hystart, 0, 80), FULL);
        assert_eq!(round(&mut hystart, 1, 89), FULL);
        assert_eq!(round(&mut hystart, 2, 101), QUARTER);
        for number in 3..7 {
            assert_eq!(round(&mut hystart, number, 101), QUARTER, "{number}");
        }
        assert_eq!(round(&mut hystart, 7, 101), Growth::Over);
        // It does not begin again.
        assert_eq!(round(&mut hystart, 8, 10), FULL);
        assert_eq!(round(&mut hystart, 9, 500), FULL);
    }

    #[test]
    fn a_round_trip_that_grows_with_the_window_ends_it_in_the_next_round() {
        let mut hystart = HyStart::new();
        assert_eq!(round(&mut hystart, 0, 20), FULL);
        assert_eq!(round(&mut hystart, 1, 24), QUARTER);
        // Less than an eighth.
        assert_eq!(round(&mut hystart, 2, 26), QUARTER);
        assert_eq!(round(&mut hystart, 3, 30), Growth::Over);
    }

    #[test]
    fn a_round_trip_that_falls_again_was_noise() {
        let mut hystart = HyStart::new();
        round(&mut hystart, 0, 80);
        assert_eq!(round(&mut hystart, 1, 100), QUARTER);
        assert_eq!(round(&mut hystart, 2, 81), FULL);
    }

    #[test]
    fn short_round_trips_need_four_milliseconds_and_long_ones_sixteen() {
        for (before, noise, sign) in [(1, 4, 5), (400, 415, 416)] {
            let mut hystart = HyStart::new();
            round(&mut hystart, 0, before);
            assert_eq!(round(&mut hystart, 1, noise), FULL);
            let mut hystart = HyStart::new();
            round(&mut hystart, 0, before);
            assert_eq!(round(&mut hystart, 1, sign), QUARTER);
        }
    }

    #[test]
    fn a_round_tells_what_the_path_carries_whatever_silence_is_around_it() {
        let mut hystart = HyStart::new();
        let mut ack = 0;
        // Rounds of 10 and 20 segments of 1000 octets, one each millisecond, every 100 ms.
        for (round, segments) in [(0, 10), (1, 20)] {
            for segment in 0..segments {
                ack += 1;
                let now = Instant::from_millis(1000 + round * 100 + segment);
                hystart.note_train(SeqNum(ack), now, 1000, 1000);
                let end = SeqNum(if round == 0 { 11 } else { 31 });
                hystart.on_ack(SeqNum(ack), end, Some(Duration::from_millis(90)), 10_000.0);
                let known = round > 0 || segment >= 4;
                assert_eq!(hystart.path_rate(), if known { 1_000_000 } else { 0 }, "{ack}");
            }
        }
        hystart.finish();
        assert_eq!(hystart.path_rate(), 0);
    }

    /// Twenty segments of 1000 octets acknowledged at one each millisecond, in rounds of ten, while the
    /// round trip and the window stay the same; what the last acknowledgement led to.
    fn train(hystart: &mut HyStart, micros: u64, window: f64) -> Growth {
        let mut growth = FULL;
        for ack in 1..=20 {
            hystart.note_train(SeqNum(ack), Instant::from_millis(u64::from(ack)), 1000, 1000);
            let end = SeqNum(ack / 11 * 10 + 11);
            growth = hystart.on_ack(SeqNum(ack), end, Some(Duration::from_micros(micros)), window);
        }
        growth
    }

    #[test]
    fn on_a_short_path_a_window_that_fills_it_slows_growth_before_there_is_a_queue() {
        // A million octets in a second, and so three thousand in three milliseconds.
        assert_eq!(train(&mut HyStart::new(), 3000, 2_900.0), FULL);
        assert_eq!(train(&mut HyStart::new(), 3000, 3_000.0), QUARTER);
        // Where the round trip tells early enough, it alone does.
        assert_eq!(train(&mut HyStart::new(), 4000, 40_000.0), FULL);
    }

    #[test]
    fn fewer_than_eight_samples_say_nothing() {
        let mut hystart = HyStart::new();
        round(&mut hystart, 0, 20);
        for segment in 0..7 {
            let ack = SeqNum(11 + segment);
            let growth = hystart.on_ack(ack, SeqNum(30), Some(Duration::from_millis(90)), 10_000.0);
            assert_eq!(growth, FULL);
        }
    }
}
