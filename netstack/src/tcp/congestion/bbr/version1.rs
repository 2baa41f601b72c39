//! BBR's first version (draft-cardwell-iccrg-bbr-congestion-control-00), as a kernel runs it: what
//! a flow of ours meets at a bottleneck, and is compared with. For tests only.

use std::collections::VecDeque;
use std::time::Duration;

use super::model::ExtraAcked;
use crate::tcp::congestion::{Acked, Congestion, Start, initial_window};
use crate::time::Instant;

/// 2 / ln 2.
const HIGH_GAIN: f64 = 2.885;
const CWND_GAIN: f64 = 2.0;
/// One phase lasts a shortest round trip.
const CYCLE: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
const BANDWIDTH_ROUNDS: u64 = 10;
const MIN_RTT_FILTER: Duration = Duration::from_secs(10);
const PROBE_RTT_DURATION: Duration = Duration::from_millis(200);
const MARGIN: f64 = 0.99;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Startup,
    Drain,
    ProbeBandwidth,
    ProbeRtt,
}

#[derive(Debug)]
pub(super) struct Version1 {
    mss: f64,
    state: State,
    phase: usize,
    phase_began: Instant,
    cwnd: f64,
    prior_cwnd: f64,
    pacing_rate: f64,
    rates: VecDeque<(u64, f64)>,
    round: u64,
    next_round: u64,
    full_rate: f64,
    full_count: u32,
    min_rtt: Option<Duration>,
    min_rtt_at: Instant,
    probe_done: Option<(Instant, u64)>,
    limited_until: u64,
    /// Packets are conserved in the first round of a recovery.
    conserve_until: Option<u64>,
    delivered: u64,
    extra_acked: ExtraAcked,
    in_recovery: bool,
    timed_out: bool,
}

impl Version1 {
    pub(super) fn new(start: Start) -> Self {
        let cwnd = f64::from(initial_window(start.mss));
        Self {
            mss: f64::from(start.mss),
            state: State::Startup,
            phase: 2 + (start.seed % 6) as usize,
            phase_began: Instant::from_nanos(0),
            cwnd,
            prior_cwnd: 0.0,
            pacing_rate: HIGH_GAIN * cwnd / 1e-3,
            rates: VecDeque::new(),
            round: 0,
            next_round: 0,
            full_rate: 0.0,
            full_count: 0,
            min_rtt: None,
            min_rtt_at: Instant::from_nanos(0),
            probe_done: None,
            limited_until: 0,
            conserve_until: None,
            delivered: 0,
            extra_acked: ExtraAcked::default(),
            in_recovery: false,
            timed_out: false,
        }
    }

    fn rate(&self) -> f64 {
        self.rates.iter().fold(0.0, |most, &(_, rate)| most.max(rate))
    }

    fn target(&self, gain: f64) -> f64 {
        let Some(rtt) = self.min_rtt else { return f64::from(initial_window(self.mss as u32)) };
        let bunch = (self.pacing_rate * 1e-3).max(2.0 * self.mss).min(65536.0);
        let volume = gain * self.rate() * rtt.as_secs_f64() + 3.0 * bunch;
        if self.gain() > 1.0 && self.state == State::ProbeBandwidth {
            volume + 2.0 * self.mss
        } else {
            volume
        }
    }

    fn gain(&self) -> f64 {
        match self.state {
            State::Startup => HIGH_GAIN,
            State::Drain => 1.0 / HIGH_GAIN,
            State::ProbeBandwidth => CYCLE[self.phase],
            State::ProbeRtt => 1.0,
        }
    }

    fn advance_cycle(&mut self, acked: &Acked) {
        let Some(rtt) = self.min_rtt else { return };
        let long = acked.now.since(self.phase_began) > rtt;
        let gain = CYCLE[self.phase];
        let over = if gain > 1.0 {
            let before = f64::from(acked.prior_in_flight);
            long && (acked.lost > 0 || before >= self.target(gain))
        } else if gain < 1.0 {
            long || f64::from(acked.prior_in_flight) <= self.target(1.0)
        } else {
            long
        };
        if over {
            self.phase = (self.phase + 1) % CYCLE.len();
            self.phase_began = acked.now;
        }
    }

    fn check_full(&mut self, round_start: bool, limited: bool) {
        if !round_start || limited || self.full_count >= 3 {
            return;
        }
        if self.rate() >= self.full_rate * 1.25 {
            self.full_rate = self.rate();
            self.full_count = 0;
        } else {
            self.full_count += 1;
        }
    }

    fn update_min_rtt(&mut self, acked: &Acked, round_start: bool) {
        let expired = acked.now > self.min_rtt_at + MIN_RTT_FILTER;
        if let Some(rtt) = acked.rtt
            && (expired || self.min_rtt.is_none_or(|least| rtt <= least))
        {
            let first = self.min_rtt.is_none();
            self.min_rtt = Some(rtt);
            self.min_rtt_at = acked.now;
            if expired && !first && self.state != State::ProbeRtt {
                self.state = State::ProbeRtt;
                self.prior_cwnd = self.cwnd;
                self.probe_done = None;
            }
        }
        if self.state != State::ProbeRtt {
            return;
        }
        self.limited_until = acked.delivered + u64::from(acked.in_flight);
        match self.probe_done {
            None if f64::from(acked.in_flight) <= 4.0 * self.mss => {
                self.probe_done = Some((acked.now + PROBE_RTT_DURATION, self.round));
            }
            Some((done, round)) if acked.now > done && (round_start || self.round > round) => {
                self.min_rtt_at = acked.now;
                self.cwnd = self.cwnd.max(self.prior_cwnd);
                self.phase = 2 + (acked.now.as_nanos() / 1000 % 6) as usize;
                self.phase_began = acked.now;
                self.state =
                    if self.full_count >= 3 { State::ProbeBandwidth } else { State::Startup };
            }
            _ => {}
        }
    }

    fn update_window(&mut self, acked: &Acked) {
        let octets = f64::from(acked.octets);
        if acked.lost > 0 {
            self.cwnd = (self.cwnd - f64::from(acked.lost)).max(self.mss);
        }
        if self.conserve_until.is_some_and(|until| acked.delivered >= until) {
            self.conserve_until = None;
        }
        if self.conserve_until.is_some() {
            self.cwnd = self.cwnd.max(f64::from(acked.in_flight) + octets);
        } else {
            let gain = if self.state == State::Startup { HIGH_GAIN } else { CWND_GAIN };
            // bbr_ack_aggregation_cwnd: at most a tenth of a second of it.
            let target = self.target(gain) + self.extra_acked.max().min(self.rate() * 0.1);
            if self.full_count >= 3 {
                self.cwnd = (self.cwnd + octets).min(target);
            } else if self.cwnd < target
                || acked.delivered < u64::from(initial_window(self.mss as u32))
            {
                self.cwnd += octets;
            }
        }
        self.cwnd = self.cwnd.max(4.0 * self.mss);
        if self.state == State::ProbeRtt {
            self.cwnd = self.cwnd.min(4.0 * self.mss);
        }
    }
}

impl Congestion for Version1 {
    fn window(&self) -> u32 {
        self.cwnd as u32
    }

    fn pacing_rate(&self) -> Option<u64> {
        Some((self.pacing_rate as u64).max(1))
    }

    fn governs_recovery(&self) -> bool {
        true
    }

    fn set_mss(&mut self, mss: u32) {
        self.mss = f64::from(mss);
    }

    fn on_ack(&mut self, acked: &Acked) {
        let mut round_start = false;
        let mut limited = false;
        self.delivered = acked.delivered;
        if self.timed_out || self.in_recovery && !acked.in_recovery {
            self.on_recovered(acked.now);
        }
        if let Some(sample) = acked.rate {
            if sample.prior_delivered >= self.next_round {
                self.next_round = acked.delivered;
                self.round += 1;
                round_start = true;
            }
            limited = sample.app_limited || sample.prior_delivered < self.limited_until;
            let oldest = self.round.saturating_sub(BANDWIDTH_ROUNDS);
            self.rates.retain(|&(round, _)| round >= oldest);
            if !limited || sample.rate() >= self.rate() {
                self.rates.push_back((self.round, sample.rate()));
                // Only the best of a round is of use.
                if let [.., (before, a), (last, b)] = self.rates.make_contiguous()
                    && before == last
                {
                    *a = a.max(*b);
                    self.rates.pop_back();
                }
            }
        }
        let (rate, octets) = (self.rate(), f64::from(acked.octets));
        let full = self.full_count >= 3;
        self.extra_acked.update(acked.now, rate, octets, self.cwnd, round_start, full);
        if self.state == State::ProbeBandwidth {
            self.advance_cycle(acked);
        }
        self.check_full(round_start, limited);
        if self.state == State::Startup && self.full_count >= 3 {
            self.state = State::Drain;
        }
        if self.state == State::Drain && f64::from(acked.in_flight) <= self.target(1.0) {
            self.state = State::ProbeBandwidth;
            self.phase_began = acked.now;
        }
        self.update_min_rtt(acked, round_start);
        let rate = MARGIN * self.gain() * self.rate();
        if rate > 0.0 && (self.full_count >= 3 || rate > self.pacing_rate || self.round < 2) {
            self.pacing_rate = rate;
        }
        self.update_window(acked);
    }

    fn on_loss(&mut self, _now: Instant, in_flight: u32) {
        self.in_recovery = true;
        if self.state != State::ProbeRtt {
            self.prior_cwnd = self.cwnd;
        }
        self.conserve_until = Some(self.delivered + u64::from(in_flight));
        self.cwnd = f64::from(in_flight);
    }

    fn on_recovered(&mut self, _now: Instant) {
        self.in_recovery = false;
        self.timed_out = false;
        self.conserve_until = None;
        self.cwnd = self.cwnd.max(self.prior_cwnd);
    }

    fn on_ecn(&mut self, _now: Instant, _in_flight: u32) {}

    fn on_timeout(&mut self, _now: Instant, _in_flight: u32, repeated: bool) {
        if !repeated {
            self.prior_cwnd = self.prior_cwnd.max(self.cwnd);
        }
        self.timed_out = true;
        self.cwnd = self.mss;
    }

    fn on_spurious(&mut self, now: Instant) {
        self.on_recovered(now);
    }
}
