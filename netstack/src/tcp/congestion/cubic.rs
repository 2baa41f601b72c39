//! CUBIC (RFC 9438), with HyStart++ (RFC 9406) in slow start.
//!
//! Windows are kept in octets as `f64`: the arithmetic of the RFC as it stands, and a
//! few nanoseconds for each acknowledgement. A window of three segments therefore becomes
//! 2.1 and not 2 by a loss, and the tenth of a segment counts when it grows again.

use std::time::Duration;

use super::hystart::{Growth, HyStart};
use super::{Acked, Congestion, Idle, RoundTrip, Start, initial_window};
use crate::time::Instant;

/// RFC 9438 4.1.3: aggressiveness, in segments per second cubed.
const C: f64 = 0.4;
/// RFC 9438 4.6: multiplicative decrease.
const BETA: f64 = 0.7;
/// RFC 9438 4.3: the Reno-friendly increase, 3 (1 − β) / (1 + β).
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);
/// RFC 7323 2.3: no peer can offer more.
const WINDOW_MAX: f64 = (1 << 30) as f64;
/// Least growth in a round trip while no loss has told what the path can carry, as Linux:
/// the curve of RFC 9438 4.2 is flat there, and a slow start that was left too early (4.10)
/// would leave the path unused for seconds.
const BLIND_GROWTH: f64 = 0.05;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// Until the loss is repaired, the sender spends what the reduction left (RFC 9937).
    Recovery,
    /// Slow start after a timeout.
    Timeout,
}

/// The curve on which the window moves, and what bounds it.
#[derive(Clone, Copy, Debug)]
struct State {
    window: f64,
    threshold: f64,
    /// W_max: the window before the last reduction, or less by fast convergence.
    w_max: f64,
    /// W_est: what Reno would have by now.
    w_est: f64,
    /// cwnd_prior: the window at the last reduction.
    prior: f64,
    /// K, in seconds: when the curve is back at W_max.
    k: f64,
    /// When this congestion-avoidance epoch began; unarmed between a loss and the first
    /// acknowledgement after it.
    epoch: Instant,
}

/// What a reduction may have been wrong about.
#[derive(Debug)]
struct Undo {
    state: State,
    blind: bool,
}

/// How much of the window was in use (RFC 7661 4.3's pipeACK, taken from what was in flight).
#[derive(Clone, Copy, Debug)]
struct Usage {
    since: Instant,
    current: u32,
    previous: u32,
}

/// RFC 9438's state for one connection.
#[derive(Debug)]
pub struct Cubic {
    mss: u32,
    state: State,
    /// No loss has told since the start, or since a timeout, what the path can carry.
    blind: bool,
    phase: Phase,
    /// What was before the last reduction. In a box: most connections lose nothing.
    undo: Option<Box<Undo>>,
    hystart: HyStart,
    usage: Usage,
    /// Since when the window has not been what held the sender back.
    unused_since: Instant,
    rtt: Option<RoundTrip>,
}

/// Every connection has one, also one that rests.
const _: () = assert!(size_of::<Cubic>() <= 152);

impl Cubic {
    /// A controller in slow start with the initial window of RFC 6928.
    pub fn new(start: Start) -> Self {
        let mss = start.mss.max(1);
        Self {
            mss,
            state: State {
                window: f64::from(initial_window(mss)),
                threshold: f64::INFINITY,
                w_max: 0.0,
                w_est: 0.0,
                prior: 0.0,
                k: 0.0,
                epoch: Instant::NEVER,
            },
            blind: true,
            phase: Phase::Open,
            undo: None,
            hystart: HyStart::new(),
            usage: Usage { since: Instant::from_nanos(0), current: 0, previous: 0 },
            unused_since: Instant::NEVER,
            rtt: start.rtt.map(RoundTrip::from),
        }
    }

    /// Octets of a full segment.
    fn mss(&self) -> f64 {
        f64::from(self.mss)
    }

    /// Notes what a reduction will change.
    fn remember(&mut self) {
        self.undo = Some(Box::new(Undo { state: self.state, blind: self.blind }));
    }

    fn in_slow_start(&self) -> bool {
        self.state.window < self.state.threshold
    }

    fn begin_epoch(&mut self, now: Instant) {
        let mss = self.mss();
        let state = &mut self.state;
        state.epoch = now;
        state.w_est = state.window;
        // RFC 9438 4.2, K = cbrt((W_max − cwnd_epoch) / C), in segments. 4.8 and 4.10: from here
        // upwards after a timeout, and when slow start ended without a loss.
        state.k = if state.w_max > state.window {
            ((state.w_max - state.window) / mss / C).cbrt()
        } else {
            state.w_max = state.window;
            0.0
        };
    }

    /// W_cubic(t) of RFC 9438 4.2, in octets; `t` in seconds.
    fn curve(&self, t: f64) -> f64 {
        (C * (t - self.state.k).powi(3)) * self.mss() + self.state.w_max
    }

    /// RFC 9438 4.6 and 4.7: multiplicative decrease with fast convergence.
    fn reduce(&mut self, in_flight: u32) {
        self.hystart.finish();
        let used = f64::from(self.usage.current.max(self.usage.previous).max(in_flight));
        let mss = self.mss();
        let state = &mut self.state;
        // From the window and not from what is in flight, as Linux: at a loss a small window is
        // not quite full, and to count that too halves it each time. But RFC 7661 4.4.1: a
        // window of which not half was used proves nothing, and only what was used counts.
        let base = if used * 2.0 < state.window { used.max(mss) } else { state.window };
        state.prior = base;
        state.w_max = if base < state.w_max { base * (1.0 + BETA) / 2.0 } else { base };
        state.threshold = (base * BETA).max(2.0 * mss);
        state.epoch = Instant::NEVER;
        self.blind = false;
        self.unused_since = Instant::NEVER;
    }

    fn note_usage(&mut self, acked: &Acked) {
        // RFC 7661 4.3: over the larger of three round trips and a second.
        let period = (3 * acked.smoothed_rtt.unwrap_or_default()).max(Duration::from_secs(1));
        if acked.now.since(self.usage.since) > period {
            self.usage.previous = self.usage.current;
            self.usage.current = 0;
            self.usage.since = acked.now;
        }
        self.usage.current = self.usage.current.max(acked.prior_in_flight);
    }

    /// RFC 9438 4.2 to 4.5: congestion avoidance.
    fn avoid_congestion(&mut self, acked: &Acked, octets: f64) {
        if !self.state.epoch.is_armed() {
            self.begin_epoch(acked.now);
        }
        let t = acked.now.since(self.state.epoch).as_secs_f64();
        let rtt = acked.smoothed_rtt.unwrap_or_default().as_secs_f64();
        // 4.4 and 4.5: towards the curve one round trip ahead.
        let ahead = self.curve(t + rtt);
        let here = self.curve(t);
        let (mss, blind) = (self.mss(), self.blind);
        let state = &mut self.state;
        // 4.3: as Reno, and once what was lost is regained, as fast as Reno. (Linux stays at the
        // lower slope, and counts W_est at most each 31 ms where the window does not
        // change; both cost it on short and lossy paths.)
        let alpha = if state.w_est >= state.prior { 1.0 } else { ALPHA };
        state.w_est = (state.w_est + alpha * octets / state.window * mss).min(WINDOW_MAX);
        let least = if blind { state.window * (1.0 + BLIND_GROWTH) } else { state.window };
        let target = ahead.clamp(state.window, 1.5 * state.window).max(least);
        let grown = state.window + (target - state.window) * octets / state.window;
        state.window = if here < state.w_est { grown.max(state.w_est) } else { grown };
    }
}

impl Congestion for Cubic {
    fn window(&self) -> u32 {
        self.state.window as u32
    }

    fn pacing_rate(&self) -> Option<u64> {
        let window = self.state.window;
        // RFC 6928: every path has to bear a burst of the initial window. Below it pacing would
        // only add to the round trip, and that of a small window holds delayed ACKs.
        // Twice that, sent as the first round of slow start is acknowledged, leaves as much in a
        // queue, and tells what the path carries.
        let unpaced = initial_window(self.mss) * if self.hystart.is_done() { 1 } else { 2 };
        if window <= f64::from(unpaced) {
            return None;
        }
        let rtt = self.rtt?.as_secs_f64();
        // As Linux: room to double in a round trip, or to grow as congestion avoidance does.
        let steady = (1.2 * window / rtt.max(1e-6)) as u64;
        let mut rate = steady;
        if window < self.state.threshold / 2.0 {
            rate = (2.0 * window / rtt.max(1e-6)) as u64;
            let path = u64::from(self.hystart.path_rate());
            if path > 0 {
                // To spread each round over half of a round trip, or more, leaves a path unused
                // that carries it in less; faster than it carries only fills its queue.
                rate = rate.clamp(path, path + path / 8).max(steady);
            }
        }
        Some(rate.max(1))
    }

    fn set_mss(&mut self, mss: u32) {
        self.mss = mss.max(1);
        self.state.window = self.state.window.max(self.mss());
        self.state.threshold = self.state.threshold.max(2.0 * self.mss());
    }

    fn on_send(&mut self, _now: Instant, _in_flight: u32, idle: Option<Idle>) {
        let Some(idle) = idle else { return };
        let restart = f64::from(initial_window(self.mss)).min(self.state.window);
        // RFC 9438 5.8: idle time does not count. Where the window was not used before
        // either, that time ends with the next acknowledgement.
        if self.state.epoch.is_armed() && !self.unused_since.is_armed() {
            self.state.epoch = self.state.epoch + idle.span;
        }
        if idle.span <= idle.rto {
            return;
        }
        // RFC 5681 4.1 says the restart window after one RTO. As Linux, and RFC 2861: half for
        // each RTO, and three quarters of it stay known as a threshold to slow-start to.
        self.state.threshold = self.state.threshold.max(0.75 * self.state.window);
        let periods = idle.span.as_secs_f64() / idle.rto.as_secs_f64().max(1e-3);
        let halvings = periods.min(64.0) as i32;
        self.state.window = (self.state.window * 0.5f64.powi(halvings)).max(restart);
        self.hystart.restart();
        self.usage.current = 0;
        self.usage.previous = 0;
    }

    fn on_ack(&mut self, acked: &Acked) {
        // One outlier, an acknowledgement that waited for a link to come back, would slow pacing
        // down for many round trips: the latest counts where it is less.
        let rtt = match (acked.smoothed_rtt, acked.rtt) {
            (Some(smoothed), Some(latest)) => Some(smoothed.min(latest)),
            (smoothed, latest) => smoothed.or(latest),
        };
        self.rtt = rtt.map(RoundTrip::from).or(self.rtt);
        self.note_usage(acked);
        if !acked.in_recovery {
            self.phase = Phase::Open;
        }
        if self.phase == Phase::Recovery {
            return;
        }
        let growth = if self.in_slow_start() {
            self.hystart.note_train(acked.ack, acked.now, acked.octets, self.mss);
            self.hystart.on_ack(acked.ack, acked.sent_end, acked.rtt, self.state.window)
        } else {
            Growth::By(1.0)
        };
        if growth == Growth::Over {
            // RFC 9406 4.2.
            self.state.threshold = self.state.window;
        }
        // RFC 7661 4.3: in slow start what counts is what was in flight at most in the last rounds, as
        // most of one is over before the next leaves.
        let used = self.usage.current.max(self.usage.previous);
        let limited = acked.window_limited
            || self.in_slow_start() && 2.0 * f64::from(used) >= self.state.window;
        if !limited {
            // RFC 9438 5.8: time while the application had nothing to send does not count.
            if !self.unused_since.is_armed() {
                self.unused_since = acked.now;
            }
            return;
        }
        if self.unused_since.is_armed() {
            if self.state.epoch.is_armed() {
                let unused = acked.now.since(self.unused_since);
                self.state.epoch = (self.state.epoch + unused).min(acked.now);
            }
            self.unused_since = Instant::NEVER;
        }
        let mut octets = f64::from(acked.octets);
        if let Growth::By(share) = growth
            && self.in_slow_start()
        {
            // By all that was acknowledged (RFC 3465 with L = ∞, as RFC 9406 4.2 has it for a paced
            // sender). Up to the threshold and not past it: one acknowledgement may
            // cover a whole window.
            let step = (octets * share).min(self.state.threshold - self.state.window);
            self.state.window += step;
            octets -= step / share;
        }
        if octets > 0.0 && !self.in_slow_start() {
            self.avoid_congestion(acked, octets);
        }
        self.state.window = self.state.window.min(WINDOW_MAX);
    }

    fn on_loss(&mut self, _now: Instant, in_flight: u32) {
        self.remember();
        self.reduce(in_flight);
        self.state.window = self.state.threshold;
        self.phase = Phase::Recovery;
    }

    fn on_recovered(&mut self, _now: Instant) {
        self.phase = Phase::Open;
    }

    fn on_timeout(&mut self, _now: Instant, in_flight: u32, repeated: bool) {
        if !repeated {
            self.remember();
            // RFC 5681 3.1 would reduce once more when a recovery ends in a timeout. As Linux: it
            // is the same loss, and was counted.
            if self.phase != Phase::Recovery {
                self.reduce(in_flight);
            }
        }
        // RFC 5681 3.1: the loss window.
        self.state.window = self.mss();
        // RFC 9438 4.8: the next epoch begins where slow start ends.
        self.state.epoch = Instant::NEVER;
        self.state.w_max = 0.0;
        self.blind = true;
        self.unused_since = Instant::NEVER;
        self.phase = Phase::Timeout;
    }

    /// RFC 8511 would reduce by less than for a loss. As Linux, and RFC 9438 4.6: the same.
    fn on_ecn(&mut self, _now: Instant, in_flight: u32) {
        // A mark is never wrong.
        self.undo = None;
        self.reduce(in_flight);
        self.state.window = self.state.threshold;
    }

    /// RFC 9438 4.9.
    fn on_spurious(&mut self, _now: Instant) {
        if let Some(before) = self.undo.take() {
            let now = self.state;
            self.state = before.state;
            self.state.window = self.state.window.max(now.window);
            self.state.threshold = self.state.threshold.max(now.threshold);
            self.blind = before.blind;
        }
        self.phase = Phase::Open;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tcp::congestion::sim::{self, FAST_ETHERNET, Flow, Path, Sim};
    use crate::tcp::seq::SeqNum;

    const MSS: u32 = 1000;

    fn start() -> Start {
        Start { mss: MSS, rtt: None, seed: 0 }
    }

    fn make(start: Start) -> Box<dyn Congestion> {
        Box::new(Cubic::new(start))
    }

    fn ack(now_ms: u64, octets: u32) -> Acked {
        Acked {
            now: Instant::from_millis(now_ms),
            octets,
            ack: SeqNum(0),
            sent_end: SeqNum(0),
            lost: 0,
            prior_in_flight: 1_000_000,
            in_flight: 0,
            delivered: 0,
            rtt: Some(Duration::from_millis(100)),
            smoothed_rtt: Some(Duration::from_millis(100)),
            rate: None,
            window_limited: true,
            in_recovery: false,
        }
    }

    /// A window of acknowledgements for each round trip of 100 ms.
    fn rounds(cubic: &mut Cubic, from_ms: u64, to_ms: u64) {
        let mut now = from_ms;
        while now < to_ms {
            now += 100;
            for _ in 0..cubic.window() / MSS {
                cubic.on_ack(&ack(now, MSS));
            }
        }
    }

    fn at_window(window: u32) -> Cubic {
        let mut cubic = Cubic::new(start());
        cubic.state.window = f64::from(window);
        cubic.note_usage(&Acked { prior_in_flight: window, ..ack(0, 0) });
        cubic
    }

    fn recovered_from_loss(window: u32) -> Cubic {
        let mut cubic = at_window(window);
        cubic.on_loss(Instant::from_millis(0), window);
        cubic.on_recovered(Instant::from_millis(0));
        cubic
    }

    #[test]
    fn starts_at_ten_segments_and_doubles_each_round_trip_in_slow_start() {
        let mut cubic = Cubic::new(start());
        assert_eq!(cubic.window(), 10_000);
        cubic.on_ack(&ack(100, 10_000));
        assert_eq!(cubic.window(), 20_000);
    }

    #[test]
    fn an_unused_window_does_not_grow() {
        let mut cubic = Cubic::new(start());
        let unused = Acked { window_limited: false, prior_in_flight: 4_000, ..ack(100, 4_000) };
        cubic.on_ack(&unused);
        assert_eq!(cubic.window(), 10_000);
        // But one that was used, of which little is left in flight where a round trip is mostly
        // silence.
        cubic.on_ack(&Acked { prior_in_flight: 7_000, ..unused });
        cubic.on_ack(&unused);
        assert_eq!(cubic.window(), 18_000);
    }

    #[test]
    fn after_a_loss_the_curve_returns_to_the_old_window_after_k_seconds() {
        // Large enough that the curve is above W_est.
        let mut cubic = recovered_from_loss(1_000_000);
        assert_eq!(cubic.window(), 700_000);
        // K = cbrt(300 / 0.4) = 9.09 s.
        rounds(&mut cubic, 0, 8_000);
        assert!(cubic.window() < 1_000_000, "{}", cubic.window());
        rounds(&mut cubic, 8_000, 9_100);
        let window = cubic.window();
        assert!((995_000..=1_005_000).contains(&window), "{window}");
        // The plateau, then convex growth: (13 - 9.1)^3 * 0.4 = 24 segments.
        rounds(&mut cubic, 9_100, 13_000);
        let window = cubic.window();
        assert!((1_020_000..=1_032_000).contains(&window), "{window}");
    }

    #[test]
    fn a_small_window_grows_as_reno_does_and_as_fast_once_the_loss_is_regained() {
        let mut cubic = recovered_from_loss(10_000);
        assert_eq!(cubic.window(), 7_000);
        // Six round trips at 9/17 of a segment each, and the seventh reaches cwnd_prior.
        rounds(&mut cubic, 0, 500);
        let window = cubic.window();
        assert!((9_000..=9_800).contains(&window), "{window}");
        rounds(&mut cubic, 500, 700);
        let regained = cubic.window();
        rounds(&mut cubic, 700, 1_700);
        let grown = cubic.window() - regained;
        assert!((8_500..=10_500).contains(&grown), "{grown}");
    }

    #[test]
    fn a_second_loss_below_the_old_window_makes_room_for_others() {
        let mut cubic = recovered_from_loss(100_000);
        assert_eq!(cubic.state.w_max, 100_000.0);
        cubic.on_loss(Instant::from_millis(200), 70_000);
        assert_eq!(cubic.state.w_max, 70_000.0 * 0.85);
        assert_eq!(cubic.window(), 49_000);
    }

    #[test]
    fn a_loss_counts_from_the_window_but_not_from_one_that_was_not_used() {
        let mut cubic = at_window(10_000);
        cubic.on_loss(Instant::from_millis(1), 6_000);
        assert_eq!(cubic.window(), 7_000);
        let mut cubic = Cubic::new(start());
        cubic.state.window = 100_000.0;
        cubic.on_loss(Instant::from_millis(1), 20_000);
        assert_eq!(cubic.window(), 14_000);
    }

    #[test]
    fn the_window_stands_still_during_a_recovery() {
        let mut cubic = at_window(100_000);
        cubic.on_loss(Instant::from_millis(0), 100_000);
        for _ in 0..100 {
            cubic.on_ack(&Acked { in_recovery: true, ..ack(10, MSS) });
        }
        assert_eq!(cubic.window(), 70_000);
    }

    #[test]
    fn a_timeout_falls_to_one_segment_and_a_repeated_one_keeps_the_threshold() {
        let mut cubic = at_window(10_000);
        cubic.on_timeout(Instant::from_millis(0), 10_000, false);
        assert_eq!((cubic.window(), cubic.state.threshold), (1000, 7000.0));
        cubic.on_timeout(Instant::from_millis(0), 1000, true);
        assert_eq!((cubic.window(), cubic.state.threshold), (1000, 7000.0));
        // Slow start, also while what was lost is being repaired.
        cubic.on_ack(&Acked { in_recovery: true, ..ack(100, 1000) });
        cubic.on_ack(&Acked { in_recovery: true, ..ack(200, 2000) });
        assert_eq!(cubic.window(), 4000);
    }

    #[test]
    fn a_timeout_during_a_recovery_is_the_same_loss() {
        let mut cubic = at_window(10_000);
        cubic.on_loss(Instant::from_millis(0), 10_000);
        cubic.on_timeout(Instant::from_millis(300), 5_000, false);
        assert_eq!((cubic.window(), cubic.state.threshold), (1000, 7000.0));
    }

    #[test]
    fn what_was_no_loss_is_taken_back_whole() {
        let mut cubic = recovered_from_loss(1_000_000);
        rounds(&mut cubic, 0, 5_000);
        let before = cubic.state;
        cubic.on_loss(Instant::from_millis(5_000), 900_000);
        cubic.on_spurious(Instant::from_millis(5_050));
        assert_eq!(format!("{:?}", cubic.state), format!("{before:?}"));
        cubic.on_timeout(Instant::from_millis(5_100), 900_000, false);
        cubic.on_spurious(Instant::from_millis(5_150));
        assert_eq!(format!("{:?}", cubic.state), format!("{before:?}"));
        // Once.
        cubic.on_ecn(Instant::from_millis(5_200), 900_000);
        let reduced = cubic.window();
        cubic.on_spurious(Instant::from_millis(5_300));
        assert_eq!(cubic.window(), reduced);
    }

    #[test]
    fn idle_time_halves_the_window_for_each_timeout_down_to_the_initial_one() {
        let rto = Duration::from_millis(200);
        let idle = |cubic: &mut Cubic, millis| {
            let span = Duration::from_millis(millis);
            cubic.on_send(Instant::from_millis(10_000), 0, Some(Idle { span, rto }));
        };
        let mut cubic = at_window(100_000);
        idle(&mut cubic, 150);
        assert_eq!(cubic.window(), 100_000);
        idle(&mut cubic, 450);
        assert_eq!(cubic.window(), 25_000);
        idle(&mut cubic, 1_000_000);
        assert_eq!(cubic.window(), 10_000);
        // Back to where it was, by slow start.
        let mut cubic = recovered_from_loss(100_000);
        idle(&mut cubic, 10_000);
        assert_eq!((cubic.window(), cubic.state.threshold), (10_000, 70_000.0));
    }

    #[test]
    fn time_without_data_does_not_move_the_curve() {
        let mut cubic = recovered_from_loss(1_000_000);
        rounds(&mut cubic, 0, 2_000);
        let window = cubic.window();
        cubic.on_ack(&Acked { window_limited: false, ..ack(2_100, MSS) });
        rounds(&mut cubic, 60_000, 60_100);
        let grown = cubic.window() - window;
        assert!(grown < 40_000, "{grown}");
    }

    #[test]
    fn paces_at_twice_the_rate_in_slow_start_and_a_fifth_above_it_afterwards() {
        let mut cubic = at_window(100_000);
        assert_eq!(cubic.pacing_rate(), None);
        cubic.rtt = Some(Duration::from_millis(100).into());
        assert_eq!(cubic.pacing_rate(), Some(2_000_000));
        cubic.on_loss(Instant::from_millis(0), 100_000);
        assert_eq!(cubic.pacing_rate(), Some(840_000));
        // What RFC 6928 lets anyone send at once needs no pacing.
        cubic.on_timeout(Instant::from_millis(10), 100_000, false);
        assert_eq!(cubic.pacing_rate(), None);
    }

    /// Slow start alone would end with about as many lost as the path and its queue hold, 990.
    #[test]
    fn fills_an_idle_link_and_overruns_it_by_little_in_slow_start() {
        let mut sim = Sim::new(FAST_ETHERNET, vec![Flow::new(make, 1)]);
        sim.run(Duration::from_secs(1));
        assert!(sim.queue_drops < 330, "{}", sim.queue_drops);
        assert_eq!(sim.flows[0].timeouts, 0);
        let goodput = sim.flows[0].goodput;
        assert!(goodput > 10_000_000, "{goodput}");
    }

    #[test]
    fn a_shallow_queue_costs_little() {
        // A quarter of the bandwidth-delay product.
        let path = Path { queue: 62_500, ..FAST_ETHERNET };
        let goodput = sim::download(make, path, 100_000_000);
        assert!(goodput > 10.0e6, "{goodput}");
    }

    #[test]
    fn marks_hold_the_queue_down_and_drop_nothing() {
        let path = Path { mark: Some(125_000), ..FAST_ETHERNET };
        let mut sim = Sim::new(path, vec![Flow::new(make, 1)]);
        sim.run(Duration::from_secs(10));
        assert_eq!(sim.queue_drops, 0);
        // A window doubles once more until the first mark is back.
        assert!(sim.queue_peak < 600_000, "{}", sim.queue_peak);
        assert!(sim.flows[0].goodput > 105_000_000, "{}", sim.flows[0].goodput);
    }

    #[test]
    fn two_flows_share_a_bottleneck() {
        let mut late = Flow::new(make, 2);
        late.start = Duration::from_secs(5);
        let path = Path { queue: 250_000, ..FAST_ETHERNET };
        let mut sim = Sim::new(path, vec![Flow::new(make, 1), late]);
        sim.run(Duration::from_secs(60));
        let before: Vec<u64> = sim.flows.iter().map(|flow| flow.goodput).collect();
        sim.run(Duration::from_secs(120));
        let share = |index: usize| (sim.flows[index].goodput - before[index]) as f64 / 60.0;
        let (first, second) = (share(0), share(1));
        assert!(first + second > 11.0e6, "{first} {second}");
        assert!((0.5..=2.0).contains(&(first / second)), "{first} {second}");
    }

    /// What Reno's law gives at the same loss, less a tenth, is the least that is good enough
    /// where losses are at random (RFC 9438 4.3).
    #[test]
    fn random_losses_cost_no_more_than_they_cost_reno() {
        for (loss, rtt, goodput) in sim::cells(make) {
            let seconds = rtt as f64 / 1e3 + 1e-4;
            let law = match loss {
                0.0 => f64::INFINITY,
                10.0 => 0.0,
                _ => f64::from(sim::MSS) / seconds * (1.5 / (loss / 100.0)).sqrt(),
            };
            // Slow start takes its share of 20 MB.
            let most = if rtt == 100 { 7.0e6 } else { 10.5e6 };
            assert!(goodput > (0.9 * law).min(most), "{loss} % {rtt} ms: {goodput}");
        }
    }

    proptest! {
        #[test]
        fn any_history_leaves_a_sane_window(
            mss in 1u32..70_000,
            steps in prop::collection::vec((0u8..9, any::<u32>(), any::<u32>(), 0u64..100_000), 1..200),
        ) {
            let mut cubic = Cubic::new(Start { mss, rtt: None, seed: 0 });
            let mut mss = mss;
            let mut now = 0u64;
            for (step, a, b, millis) in steps {
                now += millis;
                let at = Instant::from_millis(now);
                match step {
                    0 => cubic.on_loss(at, a),
                    1 => cubic.on_timeout(at, a, b % 2 == 0),
                    2 => cubic.on_ecn(at, a),
                    3 => cubic.on_spurious(at),
                    4 => cubic.on_recovered(at),
                    5 => {
                        mss = a % 70_000 + 1;
                        cubic.set_mss(mss);
                    }
                    6 => {
                        let span = Duration::from_millis(u64::from(a));
                        let rto = Duration::from_millis(u64::from(b));
                        cubic.on_send(at, 0, Some(Idle { span, rto }));
                    }
                    _ => cubic.on_ack(&Acked {
                        ack: SeqNum(b),
                        prior_in_flight: b,
                        rtt: (b % 3 == 0).then_some(Duration::from_millis(millis)),
                        smoothed_rtt: (b % 5 != 0).then_some(Duration::from_millis(millis)),
                        window_limited: b % 4 != 0,
                        in_recovery: b % 7 == 0,
                        ..ack(now, a)
                    }),
                }
                prop_assert!(cubic.state.window.is_finite());
                prop_assert!(cubic.window() >= mss && cubic.window() <= 1 << 30);
                prop_assert!(cubic.state.threshold >= f64::from(mss));
                prop_assert!(cubic.pacing_rate() != Some(0));
            }
        }
    }
}
