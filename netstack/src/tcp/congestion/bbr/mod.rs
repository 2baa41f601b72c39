//! BBR version 3 (draft-ietf-ccwg-bbr): sends at the rate at which the path delivers.
//!
//! What is known of the path (the highest rate of delivery, the shortest round trip, and what
//! losses say about how much it holds) is in [`model`]; how the rate is probed for, once it was
//! found, in [`probe_bw`]. Here is the start, the search for the shortest round trip, and
//! what the model means for window and pacing. The draft's names are kept, in
//! Rust's spelling; amounts are octets, rates octets per second, as `f64`.
//!
//! ## Where it departs from the draft
//!
//! The draft takes more than 2 % of loss for a sign of congestion, and after a probe every loss,
//! whatever else is seen. On a radio link that loses 3 % by itself that ends Startup at a small
//! part of the path's rate, and each round trip takes the rate down further (with 10 % and 20 ms
//! to a twentieth). BBR's first version reacts to no loss, and overruns shallow queues.
//! Here what a loss means depends on what else the path says:
//!
//! - Startup ends by loss only if the rate no longer grows: for one round where the round trip
//!   has grown as well, for two where it has not.
//! - While no queue stands, what is lost in a round counts above the threshold of 2 % and a
//!   standard deviation of it; where one stands every loss counts, as in the draft.
//! - Where the bounds were lowered for three rounds and it did not help, half the rate is sent for
//!   some rounds. If then as large a share is lost as before, it is the path's own: the bounds
//!   are lifted, Startup goes on if it was losses that ended it, and for ten seconds that share (at most 10 %) is added to the threshold.
//!
//! - Where a queue stands, three bursts are added to the window ("BBRQuantizationBudget" of the
//!   draft takes three for the least). The windows then hold each other back, and what a flow
//!   carries goes with what its window has beyond its own rate's: without them the draft's flows
//!   dwindle beside those of version 1, which has them always.
//!
//! Flows that crowd a bottleneck yield together, so their losses go away and nothing of that
//! applies, down to a queue of half the bandwidth-delay product. With many flows and a
//! shallower one they may mistake each other's losses for the path's: eight in a quarter of
//! the product lose up to 15 % there.

mod model;
mod probe_bw;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod version1;

use std::time::Duration;

use self::model::{ExtraAcked, MaxBandwidth, OwnLoss};
use super::{Acked, Congestion, Idle, LostSegment, RateSample, RoundTrip, Start, initial_window};
use crate::time::Instant;

/// 2.77 = 4 ln 2: the least that lets the rate double in each round.
const STARTUP_PACING_GAIN: f64 = 2.77;
const DRAIN_PACING_GAIN: f64 = 0.5;
const DOWN_PACING_GAIN: f64 = 0.9;
const UP_PACING_GAIN: f64 = 1.25;
const DEFAULT_CWND_GAIN: f64 = 2.0;
const UP_CWND_GAIN: f64 = 2.25;
const PROBE_RTT_CWND_GAIN: f64 = 0.5;
/// BBR.PacingMarginPercent: a little below the estimate, so that no queue stands.
const PACING_MARGIN: f64 = 0.99;
/// BBR.LossThresh.
const LOSS_THRESHOLD: f64 = 0.02;
/// BBR.Beta.
const BETA: f64 = 0.7;
/// BBR.Headroom.
const HEADROOM: f64 = 0.15;
/// BBR.MinPipeCwnd, in segments: so that a receiver that acknowledges every other one is heard.
const MIN_PIPE: f64 = 4.0;
/// BBRStartupFullLossCnt.
const STARTUP_LOSS_COUNT: u8 = 6;
const MIN_RTT_FILTER: Duration = Duration::from_secs(10);
const PROBE_RTT_INTERVAL: Duration = Duration::from_secs(5);
const PROBE_RTT_DURATION: Duration = Duration::from_millis(200);
/// The largest burst, in octets.
const QUANTUM_MAX: f64 = 65536.0;
/// RFC 7323 2.3: no peer can offer more.
const WINDOW_MAX: f64 = (1 << 30) as f64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Startup,
    Drain,
    ProbeDown,
    ProbeCruise,
    ProbeRefill,
    ProbeUp,
    ProbeRtt,
}

impl State {
    fn is_probe_bw(self) -> bool {
        matches!(self, Self::ProbeDown | Self::ProbeCruise | Self::ProbeRefill | Self::ProbeUp)
    }

    /// IsProbingBW: losses are then answered where they are found, not once a round.
    fn is_probing(self) -> bool {
        matches!(self, Self::Startup | Self::ProbeRefill | Self::ProbeUp)
    }

    fn pacing_gain(self) -> f64 {
        match self {
            Self::Startup => STARTUP_PACING_GAIN,
            Self::Drain => DRAIN_PACING_GAIN,
            Self::ProbeDown => DOWN_PACING_GAIN,
            Self::ProbeUp => UP_PACING_GAIN,
            Self::ProbeCruise | Self::ProbeRefill | Self::ProbeRtt => 1.0,
        }
    }

    fn cwnd_gain(self) -> f64 {
        match self {
            Self::ProbeUp => UP_CWND_GAIN,
            Self::ProbeRtt => PROBE_RTT_CWND_GAIN,
            _ => DEFAULT_CWND_GAIN,
        }
    }
}

/// Which feedback the acknowledgements now bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AckPhase {
    Init,
    Refilling,
    ProbeStarting,
    ProbeFeedback,
    ProbeStopping,
}

/// What a loss may have been wrong about.
#[derive(Debug)]
struct Undo {
    /// The state that the loss has ended.
    state: Option<State>,
    bw_shortterm: f64,
    inflight_shortterm: f64,
    inflight_longterm: f64,
}

/// The draft's state for one connection.
#[derive(Debug)]
pub struct Bbr {
    mss: u32,
    random: u64,
    state: State,

    cwnd: f64,
    prior_cwnd: f64,
    pacing_rate: f64,
    /// The pacing rate rests on a round trip that was measured.
    has_seen_rtt: bool,

    // Rounds, counted in octets delivered.
    delivered: f64,
    next_round_delivered: f64,
    round_start: bool,
    round_count: u32,
    /// Samples of what left before so much was delivered say less than the path can (ProbeRTT).
    app_limited_until: f64,

    max_bw: MaxBandwidth,
    bw: f64,
    min_rtt: Option<RoundTrip>,
    min_rtt_stamp: Instant,
    extra_acked: ExtraAcked,
    own_loss: OwnLoss,
    /// The least round trip of the round that is under way, and of the one before.
    round_rtt: [Option<RoundTrip>; 2],

    // CheckFullBWReached.
    full_bw: f64,
    full_bw_count: u8,
    full_bw_now: bool,
    full_bw_reached: bool,
    /// It was a loss that ended Startup.
    startup_cut_short: bool,
    drain_start_round: u32,

    // Losses: what they say of now, and what of the path.
    lost: f64,
    is_loss_in_round: bool,
    is_mark_in_round: bool,
    loss_events_in_round: u8,
    loss_round_delivered: f64,
    loss_round_start: bool,
    /// `delivered` and `lost` when this loss round began.
    loss_round_base: (f64, f64),
    bw_latest: f64,
    inflight_latest: f64,
    bw_shortterm: f64,
    inflight_shortterm: f64,
    inflight_longterm: f64,
    in_recovery: bool,
    recovery_round: u32,
    /// In a box: most connections lose nothing.
    undo: Option<Box<Undo>>,

    // ProbeBW.
    ack_phase: AckPhase,
    /// The draft's cycle_stamp and bw_probe_wait.
    probe_at: Instant,
    /// As far as they are counted.
    rounds_since_probe_up: u8,
    /// UP has ended by a loss; the acknowledgement that showed it begins DOWN.
    leave_probe_up: bool,
    bw_probe_up_rounds: u8,
    bw_probe_up_acked: f64,
    probe_up_acked_per_inc: f64,
    is_bw_probe_sample: bool,
    prev_probe_too_high: bool,
    prev_probe_precautionary: bool,

    // ProbeRTT.
    probe_rtt_min: Option<RoundTrip>,
    probe_rtt_min_stamp: Instant,
    probe_rtt_expired: bool,
    probe_rtt_done: Instant,
    probe_rtt_round_done: bool,
    idle_restart: bool,
}

/// Every connection has one, also one that rests.
const _: () = assert!(size_of::<Bbr>() <= 312);

impl Bbr {
    /// A controller in Startup with the initial window of RFC 6928.
    pub fn new(start: Start) -> Self {
        let mss = start.mss.max(1);
        let cwnd = f64::from(initial_window(mss));
        let rtt = start.rtt.map(RoundTrip::from);
        let mut bbr = Self {
            mss,
            random: start.seed,
            state: State::Startup,
            cwnd,
            prior_cwnd: 0.0,
            pacing_rate: 0.0,
            has_seen_rtt: start.rtt.is_some(),
            delivered: 0.0,
            next_round_delivered: 0.0,
            round_start: false,
            round_count: 0,
            app_limited_until: 0.0,
            max_bw: MaxBandwidth::default(),
            bw: 0.0,
            min_rtt: rtt,
            // Set by the first acknowledgement: there is no clock here.
            min_rtt_stamp: Instant::NEVER,
            extra_acked: ExtraAcked::default(),
            own_loss: OwnLoss::default(),
            round_rtt: [None; 2],
            full_bw: 0.0,
            full_bw_count: 0,
            full_bw_now: false,
            full_bw_reached: false,
            startup_cut_short: false,
            drain_start_round: 0,
            lost: 0.0,
            is_loss_in_round: false,
            is_mark_in_round: false,
            loss_events_in_round: 0,
            loss_round_delivered: 0.0,
            loss_round_start: false,
            loss_round_base: (0.0, 0.0),
            bw_latest: 0.0,
            inflight_latest: 0.0,
            bw_shortterm: f64::INFINITY,
            inflight_shortterm: f64::INFINITY,
            inflight_longterm: f64::INFINITY,
            in_recovery: false,
            recovery_round: 0,
            undo: None,
            ack_phase: AckPhase::Init,
            probe_at: Instant::from_nanos(0),
            rounds_since_probe_up: 0,
            leave_probe_up: false,
            bw_probe_up_rounds: 0,
            bw_probe_up_acked: 0.0,
            probe_up_acked_per_inc: f64::INFINITY,
            is_bw_probe_sample: false,
            prev_probe_too_high: false,
            prev_probe_precautionary: false,
            probe_rtt_min: rtt,
            probe_rtt_min_stamp: Instant::NEVER,
            probe_rtt_expired: false,
            probe_rtt_done: Instant::NEVER,
            probe_rtt_round_done: false,
            idle_restart: false,
        };
        bbr.init_pacing_rate(start.rtt);
        bbr
    }

    /// InitPacingRate.
    fn init_pacing_rate(&mut self, rtt: Option<Duration>) {
        let rtt = rtt.unwrap_or(Duration::from_millis(1)).as_secs_f64().max(1e-6);
        self.pacing_rate = STARTUP_PACING_GAIN * self.cwnd / rtt;
    }

    /// Octets of a full segment.
    fn mss(&self) -> f64 {
        f64::from(self.mss)
    }

    fn min_pipe(&self) -> f64 {
        MIN_PIPE * self.mss()
    }

    fn start_round(&mut self) {
        self.next_round_delivered = self.delivered;
    }

    // ---- Startup and Drain ---------------------------------------------------------------

    fn reset_full_bw(&mut self) {
        self.full_bw = 0.0;
        self.full_bw_count = 0;
        self.full_bw_now = false;
    }

    fn check_full_bw_reached(&mut self, sample: Option<&RateSample>) {
        let Some(sample) = sample else { return };
        if self.full_bw_now || !self.round_start || sample.app_limited {
            return;
        }
        let rate = sample.rate();
        if rate >= self.full_bw * 1.25 {
            self.reset_full_bw();
            self.full_bw = rate;
            return;
        }
        self.full_bw_count += 1;
        self.full_bw_now = self.full_bw_count >= 3;
        if self.full_bw_now {
            self.full_bw_reached = true;
        }
    }

    fn check_startup_done(&mut self) {
        if self.state != State::Startup {
            return;
        }
        if self.loss_round_start {
            let (delivered, lost) = self.since(self.loss_round_base);
            // "Exiting Startup Based on Packet Loss". Not by loss alone (see the module's doc): a
            // path that loses by itself goes on delivering more each round, at the same
            // round trip.
            // The one alone may be noise.
            let congested = self.full_bw_count > u8::from(!self.is_queue_standing());
            let lossy = self.in_recovery
                && self.round_count.wrapping_sub(self.recovery_round) >= 1
                && self.loss_events_in_round >= STARTUP_LOSS_COUNT
                && lost > (delivered + lost) * LOSS_THRESHOLD;
            if !self.full_bw_reached && lossy && congested {
                if let Some(undo) = &mut self.undo {
                    undo.state = Some(State::Startup);
                }
                self.leave_startup();
                self.startup_cut_short = true;
            }
            self.loss_events_in_round = 0;
        }
        if self.full_bw_reached {
            self.state = State::Drain;
            self.drain_start_round = self.round_count;
        }
    }

    /// Startup has found the path's limit by a loss or a mark.
    fn leave_startup(&mut self) {
        self.full_bw_reached = true;
        self.inflight_longterm = self.bdp(1.0).max(self.inflight_latest).max(self.min_pipe());
    }

    fn check_drain_done(&mut self, now: Instant, in_flight: f64) {
        if self.state == State::Drain
            && (in_flight <= self.inflight(self.bw, 1.0)
                || self.round_count.wrapping_sub(self.drain_start_round) > 3)
        {
            self.start_probe_down(now);
        }
    }

    // ---- ProbeRTT ------------------------------------------------------------------------

    fn update_min_rtt(&mut self, now: Instant, rtt: Option<RoundTrip>) {
        if !self.min_rtt_stamp.is_armed() {
            self.min_rtt_stamp = now;
            self.probe_rtt_min_stamp = now;
        }
        self.probe_rtt_expired = now > self.probe_rtt_min_stamp + PROBE_RTT_INTERVAL;
        if let Some(rtt) = rtt
            && (self.probe_rtt_min.is_none_or(|least| rtt < least) || self.probe_rtt_expired)
        {
            self.probe_rtt_min = Some(rtt);
            self.probe_rtt_min_stamp = now;
        }
        let Some(least) = self.probe_rtt_min else { return };
        if self.min_rtt.is_none_or(|known| least < known)
            || now > self.min_rtt_stamp + MIN_RTT_FILTER
        {
            self.min_rtt = Some(least);
            self.min_rtt_stamp = self.probe_rtt_min_stamp;
        }
    }

    fn check_probe_rtt(&mut self, now: Instant, in_flight: f64) {
        if self.state != State::ProbeRtt && self.probe_rtt_expired && !self.idle_restart {
            self.save_cwnd();
            // The draft lets a cycle that is cut off here not count, so where a queue has made
            // rounds long, a rate that is gone is believed for many of these searches.
            self.max_bw.advance();
            self.state = State::ProbeRtt;
            self.probe_rtt_done = Instant::NEVER;
            self.ack_phase = AckPhase::ProbeStopping;
            self.start_round();
        }
        if self.state == State::ProbeRtt {
            // MarkConnectionAppLimited.
            self.app_limited_until = self.delivered + in_flight;
            if !self.probe_rtt_done.is_armed() {
                if in_flight <= self.probe_rtt_cwnd() {
                    self.probe_rtt_done = now + PROBE_RTT_DURATION;
                    self.probe_rtt_round_done = false;
                    self.start_round();
                }
            } else {
                self.probe_rtt_round_done |= self.round_start;
                if self.probe_rtt_round_done {
                    self.check_probe_rtt_done(now);
                }
            }
        }
        self.idle_restart = false;
    }

    fn check_probe_rtt_done(&mut self, now: Instant) {
        if now <= self.probe_rtt_done {
            return;
        }
        self.probe_rtt_min_stamp = now;
        self.restore_cwnd();
        // ExitProbeRTT.
        self.reset_shortterm_model();
        if self.full_bw_reached {
            self.start_probe_down(now);
            self.state = State::ProbeCruise;
        } else {
            self.state = State::Startup;
        }
    }

    fn probe_rtt_cwnd(&self) -> f64 {
        self.bdp(PROBE_RTT_CWND_GAIN).max(self.min_pipe())
    }

    // ---- control parameters --------------------------------------------------------------

    /// BDPMultiple.
    fn bdp_of(&self, bw: f64, gain: f64) -> f64 {
        match self.min_rtt {
            Some(rtt) if bw > 0.0 => gain * bw * rtt.as_secs_f64(),
            _ => f64::from(initial_window(self.mss)),
        }
    }

    fn bdp(&self, gain: f64) -> f64 {
        self.bdp_of(self.bw, gain)
    }

    /// QuantizationBudget.
    fn with_quantization(&self, volume: f64) -> f64 {
        let volume = volume.max(3.0 * self.send_quantum()).max(self.min_pipe());
        if self.state == State::ProbeUp { volume + 2.0 * self.mss() } else { volume }
    }

    /// What the window has beyond its rate's while a queue stands (see the module's doc): a window
    /// of twice the product, in a queue that makes the round trip longer than that, measures no
    /// more than it holds, so that whoever adds nothing to it loses a little each round.
    fn standing_ground(&self) -> f64 {
        if self.is_queue_standing() { 3.0 * self.send_quantum() } else { 0.0 }
    }

    /// Inflight: what is in flight at this rate and gain.
    fn inflight(&self, bw: f64, gain: f64) -> f64 {
        self.with_quantization(self.bdp_of(bw, gain))
    }

    /// TargetInflight.
    fn target_inflight(&self) -> f64 {
        self.bdp(1.0).min(self.cwnd)
    }

    /// InflightWithHeadroom.
    fn inflight_with_headroom(&self) -> f64 {
        if self.inflight_longterm.is_infinite() {
            return f64::INFINITY;
        }
        let headroom = (HEADROOM * self.inflight_longterm).max(self.mss());
        (self.inflight_longterm - headroom).max(self.min_pipe())
    }

    fn set_pacing_rate(&mut self, gain: f64) {
        let rate = gain * self.bw * PACING_MARGIN;
        if rate > 0.0 && (self.full_bw_reached || rate > self.pacing_rate) {
            self.pacing_rate = rate;
        }
    }

    /// SetSendQuantum: a millisecond's worth.
    fn send_quantum(&self) -> f64 {
        (self.pacing_rate * 1e-3).min(QUANTUM_MAX).max(2.0 * self.mss())
    }

    fn save_cwnd(&mut self) {
        self.prior_cwnd = if !self.in_recovery && self.state != State::ProbeRtt {
            self.cwnd
        } else {
            self.prior_cwnd.max(self.cwnd)
        };
    }

    fn restore_cwnd(&mut self) {
        self.cwnd = self.cwnd.max(self.prior_cwnd);
    }

    fn set_cwnd(&mut self, newly_acked: f64) {
        let volume =
            self.bdp(self.state.cwnd_gain()) + self.extra_acked.max() + self.standing_ground();
        let max_inflight = self.with_quantization(volume);
        if self.full_bw_reached {
            self.cwnd = (self.cwnd + newly_acked).min(max_inflight);
        } else if self.cwnd < max_inflight || self.delivered < f64::from(initial_window(self.mss)) {
            self.cwnd += newly_acked;
        }
        self.bound_cwnd();
    }

    /// BoundCwndForProbeRTT, BoundCwndForModel.
    fn bound_cwnd(&mut self) {
        self.cwnd = self.cwnd.clamp(self.min_pipe(), WINDOW_MAX.max(self.min_pipe()));
        if self.state == State::ProbeRtt {
            self.cwnd = self.cwnd.min(self.probe_rtt_cwnd());
        }
        let cap = match self.state {
            State::ProbeDown | State::ProbeRefill | State::ProbeUp => self.inflight_longterm,
            State::ProbeCruise | State::ProbeRtt => self.inflight_with_headroom(),
            State::Startup | State::Drain => f64::INFINITY,
        };
        let cap = cap.min(self.inflight_shortterm).max(self.min_pipe());
        self.cwnd = self.cwnd.min(cap);
    }

    fn next_random(&mut self) -> u64 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.random;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }
}

impl Congestion for Bbr {
    fn window(&self) -> u32 {
        self.cwnd.max(self.mss()) as u32
    }

    fn pacing_rate(&self) -> Option<u64> {
        Some((self.pacing_rate as u64).max(1))
    }

    fn governs_recovery(&self) -> bool {
        true
    }

    fn set_mss(&mut self, mss: u32) {
        self.mss = mss.max(1);
        self.cwnd = self.cwnd.max(self.mss());
    }

    /// HandleRestartFromIdle.
    fn on_send(&mut self, now: Instant, _in_flight: u32, idle: Option<Idle>) {
        if idle.is_none() {
            return;
        }
        self.idle_restart = true;
        self.extra_acked.restart(now);
        if self.state.is_probe_bw() {
            self.set_pacing_rate(1.0);
        } else if self.state == State::ProbeRtt {
            self.check_probe_rtt_done(now);
        }
    }

    /// UpdateOnACK.
    fn on_ack(&mut self, acked: &Acked) {
        let now = acked.now;
        let rtt = acked.rtt.map(RoundTrip::from);
        let octets = f64::from(acked.octets);
        let in_flight = f64::from(acked.in_flight);
        self.delivered = acked.delivered as f64;
        if !acked.in_recovery {
            self.in_recovery = false;
        }
        if !self.has_seen_rtt
            && let Some(rtt) = acked.smoothed_rtt
        {
            self.has_seen_rtt = true;
            self.init_pacing_rate(Some(rtt));
        }
        let sample = acked.rate.map(|mut sample| {
            sample.app_limited |= (sample.prior_delivered as f64) < self.app_limited_until;
            sample
        });
        let sample = sample.as_ref();
        // C.is_cwnd_limited: less than one more burst would have gone.
        let cwnd_limited = f64::from(acked.prior_in_flight)
            + self.send_quantum().min(self.cwnd / 4.0)
            >= self.cwnd;

        self.update_latest_delivery_signals(sample);
        self.update_max_bw(sample, rtt);
        self.update_congestion_signals(now);
        self.extra_acked.update(
            now,
            self.bw,
            octets,
            self.cwnd,
            self.round_start,
            self.full_bw_reached,
        );
        self.check_full_bw_reached(sample);
        if acked.lost > 0 {
            self.loss_events_in_round = self.loss_events_in_round.saturating_add(1);
        }
        self.check_startup_done();
        self.check_drain_done(now, in_flight);
        self.update_probe_bw(now, sample, octets, in_flight, cwnd_limited);
        self.update_min_rtt(now, rtt);
        self.check_probe_rtt(now, in_flight);
        self.advance_latest_delivery_signals(sample);
        self.bound_bw();

        self.set_pacing_rate(self.state.pacing_gain());
        self.set_cwnd(octets);
    }

    /// HandleLostPacket.
    fn on_segment_lost(&mut self, lost: &LostSegment) {
        self.lost += f64::from(lost.octets);
        self.note_loss();
        if !self.is_bw_probe_sample {
            return;
        }
        let tx_in_flight = f64::from(lost.tx_in_flight);
        let lost_since = lost.lost as f64;
        if self.is_inflight_too_high(tx_in_flight, lost_since) {
            let safe = self.inflight_at_loss(f64::from(lost.octets), tx_in_flight, lost_since);
            let app_limited =
                lost.app_limited || (lost.prior_delivered as f64) < self.app_limited_until;
            self.handle_inflight_too_high(safe, app_limited);
        }
    }

    /// OnEnterFastRecovery.
    fn on_loss(&mut self, _now: Instant, _in_flight: u32) {
        self.save_cwnd();
        self.save_state_upon_loss();
        self.in_recovery = true;
        self.recovery_round = self.round_count;
    }

    fn on_recovered(&mut self, _now: Instant) {
        self.in_recovery = false;
        self.restore_cwnd();
        self.bound_cwnd();
    }

    /// OnEnterRTO: all that was out counts as lost, and one segment goes.
    fn on_timeout(&mut self, _now: Instant, in_flight: u32, repeated: bool) {
        self.save_cwnd();
        if !repeated {
            self.save_state_upon_loss();
            self.lost += f64::from(in_flight);
        }
        self.in_recovery = true;
        self.recovery_round = self.round_count;
        self.cwnd = self.mss();
    }

    /// The draft says nothing of marks. RFC 3168 5 wants them answered as a loss: here as one that
    /// is beyond doubt congestion.
    fn on_ecn(&mut self, _now: Instant, in_flight: u32) {
        self.note_loss();
        self.is_mark_in_round = true;
        match self.state {
            State::Startup => self.leave_startup(),
            State::ProbeRefill | State::ProbeUp => {
                self.handle_inflight_too_high(f64::from(in_flight) * BETA, false);
            }
            _ => {}
        }
        // A mark is never wrong.
        self.undo = None;
    }

    /// HandleSpuriousLossDetection.
    fn on_spurious(&mut self, _now: Instant) {
        self.in_recovery = false;
        self.restore_cwnd();
        let Some(undo) = self.undo.take() else { return };
        self.is_loss_in_round = false;
        self.reset_full_bw();
        self.bw_shortterm = self.bw_shortterm.max(undo.bw_shortterm);
        self.inflight_shortterm = self.inflight_shortterm.max(undo.inflight_shortterm);
        self.inflight_longterm = self.inflight_longterm.max(undo.inflight_longterm);
        match undo.state {
            Some(State::Startup) if self.state != State::Startup => {
                self.full_bw_reached = false;
                if self.state != State::ProbeRtt {
                    self.state = State::Startup;
                }
            }
            Some(State::ProbeUp)
                if self.state != State::ProbeUp && self.state != State::ProbeRtt =>
            {
                self.start_probe_refill();
            }
            _ => {}
        }
    }
}
