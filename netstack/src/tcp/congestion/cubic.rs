//! CUBIC (RFC 9438).
//!
//! Windows are kept in octets as `f64`: the arithmetic of the RFC as it stands, and a
//! few nanoseconds for each acknowledgement.

use super::{Acked, Congestion, Start, initial_window};
use crate::time::Instant;

/// RFC 9438 4.1.3: aggressiveness, in segments per second cubed.
const C: f64 = 0.4;
/// RFC 9438 4.6: multiplicative decrease.
const BETA: f64 = 0.7;
/// RFC 9438 4.3: the Reno-friendly increase, 3 (1 − β) / (1 + β).
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// RFC 9438's state for one connection.
#[derive(Debug)]
pub struct Cubic {
    mss: f64,
    window: f64,
    threshold: f64,
    /// W_max: the window before the last reduction.
    w_max: f64,
    /// W_est: what Reno would have by now.
    w_est: f64,
    /// K, in seconds: when the curve is back at W_max.
    k: f64,
    /// When this congestion-avoidance epoch began; unarmed between a loss and the first
    /// acknowledgement after it.
    epoch: Instant,
}

impl Cubic {
    /// A controller in slow start with the initial window of RFC 6928.
    pub fn new(start: Start) -> Self {
        let mss = start.mss;
        Self {
            mss: f64::from(mss),
            window: f64::from(initial_window(mss)),
            threshold: f64::INFINITY,
            w_max: 0.0,
            w_est: 0.0,
            k: 0.0,
            epoch: Instant::NEVER,
        }
    }

    fn begin_epoch(&mut self, now: Instant) {
        self.epoch = now;
        self.w_est = self.window;
        // RFC 9438 4.2, K = cbrt((W_max − cwnd_epoch) / C), in segments.
        self.k = if self.w_max > self.window {
            ((self.w_max - self.window) / self.mss / C).cbrt()
        } else {
            self.w_max = self.window;
            0.0
        };
    }

    /// W_cubic(t) of RFC 9438 4.2, in octets; `t` in seconds.
    fn curve(&self, t: f64) -> f64 {
        (C * (t - self.k).powi(3)) * self.mss + self.w_max
    }

    /// RFC 9438 4.6 and 4.7: multiplicative decrease with fast convergence.
    fn reduce(&mut self, flight: u32) {
        self.w_max =
            if self.window < self.w_max { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        // From what was in flight, not from a window that was never used.
        let base = self.window.min(f64::from(flight).max(self.mss));
        self.threshold = (base * BETA).max(2.0 * self.mss);
        self.epoch = Instant::NEVER;
    }
}

impl Congestion for Cubic {
    fn window(&self) -> u32 {
        self.window as u32
    }

    fn pacing_rate(&self) -> Option<u64> {
        None
    }

    fn set_mss(&mut self, mss: u32) {
        self.mss = f64::from(mss);
        self.window = self.window.max(self.mss);
    }

    fn on_ack(&mut self, acked: &Acked) {
        if !acked.window_limited {
            // RFC 9438 5.8: time while the application had nothing to send does not count.
            self.epoch = Instant::NEVER;
            return;
        }
        let mut octets = f64::from(acked.octets);
        if self.window < self.threshold {
            // Up to the threshold and not past it: one acknowledgement may cover a whole
            // window, as the one that ends a timeout's go-back does.
            let growth = octets.min(self.threshold - self.window);
            self.window += growth;
            octets -= growth;
            if octets <= 0.0 {
                return;
            }
        }
        if !self.epoch.is_armed() {
            self.begin_epoch(acked.now);
        }
        let t = acked.now.since(self.epoch).as_secs_f64();
        let rtt = acked.smoothed_rtt.unwrap_or_default().as_secs_f64();
        // RFC 9438 4.3.
        let alpha = if self.w_est >= self.w_max { 1.0 } else { ALPHA };
        self.w_est += alpha * octets / self.window * self.mss;
        if self.curve(t) < self.w_est {
            self.window = self.window.max(self.w_est);
        } else {
            // RFC 9438 4.4 and 4.5: towards the curve one round trip ahead.
            let target = self.curve(t + rtt).clamp(self.window, 1.5 * self.window);
            self.window += (target - self.window) * octets / self.window;
        }
    }

    fn on_loss(&mut self, _now: Instant, flight: u32) {
        self.reduce(flight);
        self.window = self.threshold;
    }

    fn on_timeout(&mut self, _now: Instant, flight: u32, repeated: bool) {
        if !repeated {
            self.reduce(flight);
        }
        // RFC 5681 3.1: the loss window.
        self.window = self.mss;
        self.epoch = Instant::NEVER;
    }

    fn on_ecn(&mut self, now: Instant, in_flight: u32) {
        self.on_loss(now, in_flight);
    }

    fn on_spurious(&mut self, _now: Instant) {}
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tcp::seq::SeqNum;

    const MSS: u32 = 1000;

    fn start() -> Start {
        Start { mss: MSS, rtt: None, seed: 0 }
    }

    fn ack(now_ms: u64, octets: u32) -> Acked {
        Acked {
            now: Instant::from_millis(now_ms),
            octets,
            ack: SeqNum(0),
            sent_end: SeqNum(0),
            lost: 0,
            prior_in_flight: octets,
            in_flight: 0,
            delivered: 0,
            rtt: Some(Duration::from_millis(100)),
            smoothed_rtt: Some(Duration::from_millis(100)),
            rate: None,
            window_limited: true,
            in_recovery: false,
        }
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
        cubic.on_ack(&Acked { window_limited: false, ..ack(100, 10_000) });
        assert_eq!(cubic.window(), 10_000);
    }

    #[test]
    fn after_a_loss_the_curve_returns_to_the_old_window_after_k_seconds() {
        let mut cubic = Cubic::new(start());
        while cubic.window() < 100_000 {
            cubic.on_ack(&ack(0, MSS));
        }
        cubic.on_loss(Instant::from_millis(0), 100_000);
        assert_eq!(cubic.window(), 70_000);
        // K = cbrt(30 / 0.4) = 4.217 s. Feed a window of acknowledgements per round trip.
        let mut now = 0;
        while now < 4_300 {
            now += 100;
            let window = cubic.window();
            for _ in 0..window / MSS {
                cubic.on_ack(&ack(now, MSS));
            }
        }
        let window = cubic.window();
        assert!((97_000..=108_000).contains(&window), "{window}");
    }

    #[test]
    fn a_timeout_falls_to_one_segment_and_a_repeated_one_keeps_the_threshold() {
        let mut cubic = Cubic::new(start());
        cubic.on_timeout(Instant::from_millis(0), 10_000, false);
        assert_eq!((cubic.window(), cubic.threshold), (1000, 7000.0));
        cubic.on_timeout(Instant::from_millis(0), 1000, true);
        assert_eq!((cubic.window(), cubic.threshold), (1000, 7000.0));
    }
}
