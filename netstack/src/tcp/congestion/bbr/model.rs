//! What is known of the path: "Updating Network Path Model Parameters" of the draft.

use std::time::Duration;

use super::{BETA, Bbr, LOSS_THRESHOLD, State, Undo};
use crate::tcp::congestion::{RateSample, RoundTrip};
use crate::time::Instant;

/// BBR.ExtraAckedFilterLen, in rounds.
const EXTRA_ACKED_ROUNDS: usize = 10;
/// The largest share of losses that is taken for the path's own: above it something is wrong
/// that sending on would not cure.
const OWN_LOSS_MAX: f64 = 0.1;
/// Where few segments are sent in a round, chance is not given more room than this share.
const CHANCE_MAX: f64 = 0.06;
/// How long it is believed. A path that has become better is found so, and so is a mistake.
const OWN_LOSS_LIFETIME: Duration = Duration::from_secs(10);
/// Rounds of yielding that lead to a trial at half the rate, and how long that may last.
const YIELDING_ROUNDS: u32 = 3;
const TRIAL_ROUNDS: u32 = 8;
const TRIAL_TIME: Duration = Duration::from_millis(100);
/// Fewer lost segments than this prove nothing.
const TRIAL_LOST: f64 = 8.0;
const TRIAL_RATE: f64 = 0.5;
/// So much of the losses has to be left for them to be the path's own.
const TRIAL_LOSS: f64 = 0.8;
/// A round trip this much longer than the shortest, and by at least [`QUEUE_MIN`] nanoseconds,
/// is a queue.
const QUEUE_DIVISOR: u32 = 4;
const QUEUE_MIN: u32 = 2_000_000;

/// BBR.max_bw: the highest rate of this cycle of ProbeBW and of the last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MaxBandwidth {
    cycles: [f64; 2],
}

impl MaxBandwidth {
    pub(super) fn get(&self) -> f64 {
        self.cycles[0].max(self.cycles[1])
    }

    fn update(&mut self, rate: f64) {
        self.cycles[1] = self.cycles[1].max(rate);
    }

    /// AdvanceMaxBwFilter. A cycle without a sample proves nothing.
    pub(super) fn advance(&mut self) {
        if self.cycles[1] > 0.0 {
            self.cycles = [self.cycles[1], 0.0];
        }
    }
}

/// BBR.extra_acked: how far acknowledgements run ahead of the rate when they come in bunches.
#[derive(Debug)]
pub(super) struct ExtraAcked {
    interval_start: Instant,
    delivered: f64,
    /// The most of the round that is under way.
    this_round: f64,
    /// Those of the rounds before it. In a box: most connections end in Startup, which remembers
    /// none.
    earlier: Option<Box<EarlierRounds>>,
}

/// What the rounds before had, in a ring.
#[derive(Debug, Default)]
struct EarlierRounds {
    extra: [f64; EXTRA_ACKED_ROUNDS - 1],
    oldest: usize,
}

impl Default for ExtraAcked {
    fn default() -> Self {
        Self {
            interval_start: Instant::from_nanos(0),
            delivered: 0.0,
            this_round: 0.0,
            earlier: None,
        }
    }
}

impl ExtraAcked {
    pub(super) fn restart(&mut self, now: Instant) {
        self.interval_start = now;
    }

    pub(super) fn max(&self) -> f64 {
        let earlier = self.earlier.iter().flat_map(|earlier| &earlier.extra);
        earlier.fold(self.this_round, |most, &extra| most.max(extra))
    }

    /// UpdateACKAggregation.
    pub(super) fn update(
        &mut self,
        now: Instant,
        bw: f64,
        newly_acked: f64,
        cwnd: f64,
        round_start: bool,
        full_bw_reached: bool,
    ) {
        if round_start {
            if full_bw_reached {
                let earlier = self.earlier.get_or_insert_default();
                earlier.extra[earlier.oldest] = self.this_round;
                earlier.oldest = (earlier.oldest + 1) % earlier.extra.len();
            }
            self.this_round = 0.0;
        }
        let mut expected = bw * now.since(self.interval_start).as_secs_f64();
        if self.delivered <= expected {
            self.delivered = 0.0;
            self.interval_start = now;
            expected = 0.0;
        }
        self.delivered += newly_acked;
        let extra = (self.delivered - expected).min(cwnd);
        self.this_round = self.this_round.max(extra);
    }
}

/// The share of losses that the path has by itself, found by a trial: where yielding has not helped,
/// half the rate is sent for some rounds. If as much is lost as before, the losses are not
/// ours to cure, and the rate goes up again.
///
/// Flows that crowd a bottleneck all yield, and the losses go away before there is a trial; and
/// while some hold on, half the rate of one of eight still takes a third of them away.
///
/// In a box, and only while there is something to know: most connections never see congestion.
#[derive(Debug, Default)]
pub(super) struct OwnLoss(Option<Box<Trials>>);

#[derive(Debug, Default)]
struct Trials {
    share: f64,
    /// When that was found.
    found: Option<Instant>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Default)]
enum Stage {
    /// No congestion that yielding did not end.
    #[default]
    Calm,
    /// The bounds were lowered so often. `sums` are the octets delivered and lost in the rounds
    /// since, those of probes left out: a short path's cycles are of few rounds.
    Yielding { rounds: u32, sums: (f64, f64) },
    /// At half the rate. `before` is the share that was lost until then, `resume` the rate to
    /// go back to.
    Trial { began: Instant, rounds: u32, base: (f64, f64), before: f64, resume: f64 },
    /// It had to do with us after all.
    Over,
}

impl OwnLoss {
    /// 0 to [`OWN_LOSS_MAX`].
    pub(super) fn share(&self) -> f64 {
        self.0.as_ref().map_or(0.0, |trials| trials.share)
    }

    pub(super) fn is_trial(&self) -> bool {
        matches!(self.stage(), Stage::Trial { .. })
    }

    fn stage(&self) -> Stage {
        self.0.as_ref().map_or(Stage::Calm, |trials| trials.stage)
    }

    fn set_stage(&mut self, stage: Stage) {
        let is_calm = matches!(stage, Stage::Calm);
        match &mut self.0 {
            None if is_calm => {}
            Some(trials) if is_calm && trials.found.is_none() => self.0 = None,
            trials => trials.get_or_insert_default().stage = stage,
        }
    }

    /// A trial has found this share.
    fn believe(&mut self, share: f64, now: Instant) {
        let share = share.min(OWN_LOSS_MAX);
        self.0 = Some(Box::new(Trials { share, found: Some(now), stage: Stage::Calm }));
    }

    /// Forgets a share that was found too long ago.
    fn expire(&mut self, now: Instant) {
        if let Some(trials) = &mut self.0
            && trials.found.is_some_and(|found| now.since(found) > OWN_LOSS_LIFETIME)
        {
            let stage = trials.stage;
            self.0 = None;
            self.set_stage(stage);
        }
    }
}

/// The part of what was sent that was lost.
fn share((delivered, lost): (f64, f64)) -> f64 {
    lost / (delivered + lost).max(1.0)
}

impl Bbr {
    /// Octets delivered and lost since.
    pub(super) fn since(&self, base: (f64, f64)) -> (f64, f64) {
        ((self.delivered - base.0).max(0.0), (self.lost - base.1).max(0.0))
    }

    /// The round trips of the last round, and of what there is of this one, say that a queue
    /// stands at the bottleneck.
    pub(super) fn is_queue_standing(&self) -> bool {
        let (Some(least), Some(rtt)) = (self.min_rtt, self.round_rtt[1].or(self.round_rtt[0]))
        else {
            return false;
        };
        let rtt = self.round_rtt[0].map_or(rtt, |this| this.min(rtt));
        let least = least.nanos();
        rtt.nanos() > least.saturating_add((least / QUEUE_DIVISOR).max(QUEUE_MIN))
    }

    /// So much loss among so much sent is what the path loses by itself and the share `tolerance`,
    /// a standard deviation of that many segments allowed for, as far as [`CHANCE_MAX`].
    fn loss_limit(&self, sent: f64, tolerance: f64) -> f64 {
        let expected = sent * (self.own_loss.share() + tolerance);
        expected + (expected * self.mss()).sqrt().min(CHANCE_MAX * sent)
    }

    /// UpdateRound and UpdateMaxBw.
    pub(super) fn update_max_bw(&mut self, sample: Option<&RateSample>, rtt: Option<RoundTrip>) {
        self.round_start = false;
        if let Some(sample) = sample {
            if sample.prior_delivered as f64 >= self.next_round_delivered {
                self.start_round();
                self.round_count = self.round_count.wrapping_add(1);
                self.rounds_since_probe_up = self.rounds_since_probe_up.saturating_add(1);
                self.round_start = true;
                self.round_rtt = [None, self.round_rtt[0]];
            }
            let rate = sample.rate();
            if rate > 0.0 && (rate >= self.max_bw.get() || !sample.app_limited) {
                self.max_bw.update(rate);
            }
        }
        if let Some(rtt) = rtt {
            self.round_rtt[0] = Some(self.round_rtt[0].map_or(rtt, |least| least.min(rtt)));
        }
    }

    pub(super) fn update_latest_delivery_signals(&mut self, sample: Option<&RateSample>) {
        self.loss_round_start = false;
        let Some(sample) = sample else { return };
        self.bw_latest = self.bw_latest.max(sample.rate());
        self.inflight_latest = self.inflight_latest.max(sample.delivered as f64);
        if sample.prior_delivered as f64 >= self.loss_round_delivered {
            self.loss_round_delivered = self.delivered;
            self.loss_round_start = true;
        }
    }

    pub(super) fn advance_latest_delivery_signals(&mut self, sample: Option<&RateSample>) {
        if self.loss_round_start {
            self.loss_round_base = (self.delivered, self.lost);
            if let Some(sample) = sample {
                self.bw_latest = sample.rate();
                self.inflight_latest = sample.delivered as f64;
            }
        }
    }

    pub(super) fn reset_congestion_signals(&mut self) {
        self.is_loss_in_round = false;
        self.is_mark_in_round = false;
        self.bw_latest = 0.0;
        self.inflight_latest = 0.0;
    }

    /// UpdateCongestionSignals with AdaptLowerBoundsFromCongestion: once a round.
    pub(super) fn update_congestion_signals(&mut self, now: Instant) {
        if !self.loss_round_start {
            return;
        }
        self.own_loss.expire(now);
        if !self.state.is_probing() {
            let congested = self.is_loss_in_round && self.is_loss_congestion();
            if congested && !self.own_loss.is_trial() {
                // InitLowerBounds.
                if self.bw_shortterm.is_infinite() {
                    self.bw_shortterm = self.max_bw.get();
                }
                if self.inflight_shortterm.is_infinite() {
                    self.inflight_shortterm = self.cwnd;
                }
                // LossLowerBounds.
                self.bw_shortterm = self.bw_latest.max(BETA * self.bw_shortterm);
                self.inflight_shortterm = self.inflight_latest.max(BETA * self.inflight_shortterm);
            }
            self.advance_trial(now, congested);
        }
        self.is_loss_in_round = false;
        self.is_mark_in_round = false;
    }

    /// The draft answers every loss of a round. Here, while no queue stands, or one of our own
    /// making is on its way out, only what is more than the draft's own threshold for probes (see
    /// [`super`]'s doc).
    fn is_loss_congestion(&self) -> bool {
        let (delivered, lost) = self.since(self.loss_round_base);
        let strict = self.is_queue_standing() && self.state == State::ProbeCruise;
        let tolerance = if strict { 0.0 } else { LOSS_THRESHOLD };
        self.is_mark_in_round || lost > self.loss_limit(delivered + lost, tolerance)
    }

    /// One more round of yielding, or of a trial.
    fn advance_trial(&mut self, now: Instant, congested: bool) {
        let counts = (self.delivered, self.lost);
        match self.own_loss.stage() {
            Stage::Calm if congested => {
                let sums = self.since(self.loss_round_base);
                self.own_loss.set_stage(Stage::Yielding { rounds: 1, sums });
            }
            Stage::Yielding { rounds, sums } => {
                let (delivered, lost) = self.since(self.loss_round_base);
                let sums = (sums.0 + delivered, sums.1 + lost);
                let rounds = rounds + u32::from(congested);
                let before = share(sums);
                let stage = if before < LOSS_THRESHOLD {
                    Stage::Calm
                } else if !congested || rounds <= YIELDING_ROUNDS {
                    Stage::Yielding { rounds, sums }
                } else if self.is_mark_in_round || self.is_queue_standing() {
                    Stage::Over
                } else {
                    let resume = self.bw_shortterm;
                    self.bw_shortterm = TRIAL_RATE * self.max_bw.get();
                    Stage::Trial { began: now, rounds: 0, base: counts, before, resume }
                };
                self.own_loss.set_stage(stage);
            }
            Stage::Trial { began, rounds, base, before, resume } => {
                let rounds = rounds + 1;
                let since = self.since(base);
                let found = share(since);
                let stage = if rounds <= 2 {
                    // These losses are still those of the old rate.
                    Stage::Trial { began, rounds, base: counts, before, resume }
                } else if since.1 >= TRIAL_LOST * self.mss()
                    && found >= LOSS_THRESHOLD.max(TRIAL_LOSS * before)
                {
                    self.own_loss.believe(found, now);
                    self.reset_shortterm_model();
                    // What those losses have led to was a mistake as well.
                    self.inflight_longterm = f64::INFINITY;
                    if std::mem::take(&mut self.startup_cut_short) {
                        self.full_bw_reached = false;
                        self.reset_full_bw();
                        self.state = State::Startup;
                    }
                    return;
                } else if rounds < TRIAL_ROUNDS || now.since(began) < TRIAL_TIME {
                    Stage::Trial { began, rounds, base, before, resume }
                } else {
                    self.bw_shortterm = resume;
                    Stage::Over
                };
                self.own_loss.set_stage(stage);
            }
            Stage::Calm | Stage::Over => {}
        }
    }

    pub(super) fn reset_shortterm_model(&mut self) {
        self.bw_shortterm = f64::INFINITY;
        self.inflight_shortterm = f64::INFINITY;
        if !matches!(self.own_loss.stage(), Stage::Yielding { .. }) {
            self.own_loss.set_stage(Stage::Calm);
        }
    }

    /// BoundBWForModel.
    pub(super) fn bound_bw(&mut self) {
        self.bw = self.max_bw.get().min(self.bw_shortterm);
    }

    pub(super) fn note_loss(&mut self) {
        if !self.is_loss_in_round {
            self.loss_round_delivered = self.delivered;
        }
        self.save_state_upon_loss();
        self.is_loss_in_round = true;
    }

    /// SaveStateUponLoss. The draft saves at the first loss of each round; here at the first of a
    /// recovery, as what is undone is all that the recovery did.
    pub(super) fn save_state_upon_loss(&mut self) {
        if !self.in_recovery && !self.is_loss_in_round {
            self.undo = Some(Box::new(Undo {
                state: None,
                bw_shortterm: self.bw_shortterm,
                inflight_shortterm: self.inflight_shortterm,
                inflight_longterm: self.inflight_longterm,
            }));
        }
    }

    // ---- losses while probing ------------------------------------------------------------

    /// IsInflightTooHigh.
    pub(super) fn is_inflight_too_high(&self, tx_in_flight: f64, lost: f64) -> bool {
        lost > self.loss_limit(tx_in_flight, LOSS_THRESHOLD)
    }

    /// InflightAtLoss: at what volume did the losses cross the threshold?
    pub(super) fn inflight_at_loss(&self, size: f64, tx_in_flight: f64, lost: f64) -> f64 {
        let threshold = LOSS_THRESHOLD + self.own_loss.share();
        let inflight_prev = (tx_in_flight - size).max(0.0);
        let lost_prev = (lost - size).max(0.0);
        let prefix = ((threshold * inflight_prev - lost_prev) / (1.0 - threshold)).max(0.0);
        inflight_prev + prefix
    }

    /// HandleInflightTooHigh, but for the time of the new cycle, which the next
    /// acknowledgement sets.
    pub(super) fn handle_inflight_too_high(&mut self, tx_in_flight: f64, app_limited: bool) {
        self.prev_probe_too_high = true;
        // Only one answer for each probe.
        self.is_bw_probe_sample = false;
        if !app_limited {
            let target = self.target_inflight() * BETA;
            self.inflight_longterm = tx_in_flight.max(target).max(self.min_pipe());
        }
        if self.state == State::ProbeUp {
            if let Some(undo) = &mut self.undo {
                undo.state = Some(State::ProbeUp);
            }
            self.leave_probe_up = true;
        }
    }
}
