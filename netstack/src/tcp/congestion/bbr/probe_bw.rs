//! ProbeBW: after the rate was found, look from time to time whether there is more.
//!
//! ```text
//!  DOWN (0.9) ──> CRUISE (1.0) ──> REFILL (1.0, one round) ──> UP (1.25) ──> DOWN
//!  drains what    2 to 3 s, or as many rounds as Reno         until the rate
//!  UP has queued  would need to come back                     no longer grows, or losses
//! ```

use std::time::Duration;

use super::{AckPhase, Bbr, State};
use crate::tcp::congestion::RateSample;
use crate::time::Instant;

/// IsRenoCoexistenceProbeTime: rounds between two probes, at most.
const RENO_ROUNDS: f64 = 63.0;

impl Bbr {
    /// UpdateProbeBWCyclePhase.
    pub(super) fn update_probe_bw(
        &mut self,
        now: Instant,
        sample: Option<&RateSample>,
        octets: f64,
        in_flight: f64,
        cwnd_limited: bool,
    ) {
        if std::mem::take(&mut self.leave_probe_up) && self.state == State::ProbeUp {
            self.start_probe_down(now);
        }
        if !self.full_bw_reached || self.adapt_longterm_model(sample, octets, cwnd_limited) {
            return;
        }
        match self.state {
            State::ProbeDown => {
                if !self.check_time_to_probe(now) && self.is_time_to_cruise(in_flight) {
                    self.state = State::ProbeCruise;
                }
            }
            State::ProbeCruise => {
                self.check_time_to_probe(now);
            }
            State::ProbeRefill => {
                if self.round_start {
                    self.is_bw_probe_sample = true;
                    self.start_probe_up(sample);
                }
            }
            State::ProbeUp => {
                if self.is_time_to_go_down(sample, in_flight, cwnd_limited) {
                    // No high loss so far.
                    self.prev_probe_too_high = false;
                    self.start_probe_down(now);
                }
            }
            State::Startup | State::Drain | State::ProbeRtt => {}
        }
    }

    pub(super) fn start_probe_down(&mut self, now: Instant) {
        self.reset_congestion_signals();
        self.probe_up_acked_per_inc = f64::INFINITY;
        // PickProbeWait: at random, so that flows do not probe together.
        let random = self.next_random();
        self.rounds_since_probe_up = (random & 1) as u8;
        let fraction = Duration::from_secs_f64((random >> 11) as f64 / (1u64 << 53) as f64);
        self.probe_at = now + Duration::from_secs(2) + fraction;
        self.ack_phase = AckPhase::ProbeStopping;
        self.start_round();
        self.state = State::ProbeDown;
    }

    pub(super) fn start_probe_refill(&mut self) {
        self.reset_shortterm_model();
        self.bw_probe_up_rounds = 0;
        self.bw_probe_up_acked = 0.0;
        self.prev_probe_precautionary = false;
        self.ack_phase = AckPhase::Refilling;
        self.start_round();
        self.state = State::ProbeRefill;
    }

    fn start_probe_up(&mut self, sample: Option<&RateSample>) {
        self.ack_phase = AckPhase::ProbeStarting;
        self.start_round();
        self.reset_full_bw();
        self.full_bw = sample.map_or(self.bw, RateSample::rate);
        self.state = State::ProbeUp;
        self.raise_inflight_longterm_slope();
    }

    /// IsTimeToProbeBW.
    fn check_time_to_probe(&mut self, now: Instant) -> bool {
        let rounds = (self.target_inflight() / self.mss()).min(RENO_ROUNDS);
        let due = now > self.probe_at || f64::from(self.rounds_since_probe_up) >= rounds;
        // Half the rate is on trial for a few rounds: not to be mixed with a probe.
        let due = due && !self.own_loss.is_trial();
        if due {
            self.start_probe_refill();
        }
        due
    }

    fn is_time_to_cruise(&self, in_flight: f64) -> bool {
        in_flight <= self.inflight_with_headroom()
            && in_flight <= self.inflight(self.max_bw.get(), 1.0)
    }

    fn is_time_to_go_down(
        &mut self,
        sample: Option<&RateSample>,
        in_flight: f64,
        cwnd_limited: bool,
    ) -> bool {
        if self.prev_probe_too_high && in_flight >= self.inflight_longterm {
            // Precautionary: the last probe went too far here.
            self.prev_probe_precautionary = true;
            return true;
        }
        if cwnd_limited && self.cwnd >= self.inflight_longterm {
            // What holds the rate is our own bound, not the path.
            self.reset_full_bw();
            self.full_bw = sample.map_or(self.bw, RateSample::rate);
            return false;
        }
        self.full_bw_now
    }

    fn raise_inflight_longterm_slope(&mut self) {
        let growth = f64::from(1u32 << self.bw_probe_up_rounds);
        self.bw_probe_up_rounds = (self.bw_probe_up_rounds + 1).min(30);
        self.probe_up_acked_per_inc = (self.cwnd / growth).max(self.mss());
    }

    fn probe_inflight_longterm_upward(&mut self, octets: f64, cwnd_limited: bool) {
        if !cwnd_limited || self.cwnd < self.inflight_longterm {
            // Not all of it is in use: no reason to have more.
            return;
        }
        self.bw_probe_up_acked += octets;
        if self.bw_probe_up_acked >= self.probe_up_acked_per_inc {
            let steps = (self.bw_probe_up_acked / self.probe_up_acked_per_inc).floor();
            self.bw_probe_up_acked -= steps * self.probe_up_acked_per_inc;
            self.inflight_longterm += steps * self.mss();
        }
        if self.round_start {
            self.raise_inflight_longterm_slope();
        }
    }

    /// AdaptLongTermModel: true if it changed the state.
    fn adapt_longterm_model(
        &mut self,
        sample: Option<&RateSample>,
        octets: f64,
        cwnd_limited: bool,
    ) -> bool {
        if self.ack_phase == AckPhase::ProbeStarting && self.round_start {
            self.ack_phase = AckPhase::ProbeFeedback;
        }
        if self.ack_phase == AckPhase::ProbeStopping && self.round_start {
            self.is_bw_probe_sample = false;
            self.ack_phase = AckPhase::Init;
            if self.state.is_probe_bw() {
                if sample.is_some_and(|sample| !sample.app_limited) {
                    self.max_bw.advance();
                }
                if self.prev_probe_precautionary && !self.prev_probe_too_high {
                    self.start_probe_refill();
                    return true;
                }
            }
        }
        let Some(sample) = sample else { return false };
        let tx_in_flight = f64::from(sample.tx_in_flight);
        if self.inflight_longterm.is_finite()
            && !self.is_inflight_too_high(tx_in_flight, sample.lost as f64)
        {
            self.inflight_longterm = self.inflight_longterm.max(tx_in_flight);
            if self.state == State::ProbeUp {
                self.probe_inflight_longterm_upward(octets, cwnd_limited);
            }
        }
        false
    }
}
