//! What an acknowledgement does: the peer's window, what has arrived, what is lost, and what
//! follows from that (RFC 9293 3.10.7.4 fifth, RFC 2018, RFC 6582, RFC 8985, RFC 5682).

use std::time::Duration;

use super::congestion::{Acked, LostSegment};
use super::connection::{CloseReason, Connection, Context, Outcome, State};
use super::delivery::Arrived;
use super::listen::timestamp_now;
use super::prr::Prr;
use super::rack::{Echo, Situation};
use super::recovery::{Frto, Phase};
use super::sent::Piece;
use super::seq::SeqNum;
use super::timer::Timer;
use crate::time::Instant;
use crate::wire::tcp::{Flags, Segment};

/// RFC 8985 7.2: how long a peer may hold an acknowledgement back (WCDelAckT).
const MAX_ACK_DELAY: Duration = Duration::from_millis(200);
/// The least wait before a tail loss probe: a peer that has just been scheduled away is no
/// lossy path (Linux: two ticks, TCP_TIMEOUT_MIN_US).
const MIN_PROBE_WAIT: Duration = Duration::from_millis(2);

/// What an acknowledgement has changed, step by step.
struct Progress {
    /// SND.UNA moved by so many numbers.
    octets: u32,
    arrived: Arrived,
    /// In flight before it.
    prior_in_flight: u32,
    /// Octets that it showed to be lost.
    lost: u32,
    /// A duplicate acknowledgement without SACK.
    duplicate: bool,
    echo: Echo,
}

impl Progress {
    /// The latest round trip: by what was sent once, else by the timestamps, which may say
    /// up to a millisecond too much.
    fn round_trip(&self) -> Option<Duration> {
        let received = self.echo.received;
        let echoed = self.echo.sent_before.filter(|_| self.octets > 0);
        self.arrived
            .last_original
            .map(|last| received.since(last))
            .or_else(|| echoed.map(|before| received.since(before) + Duration::from_millis(1)))
    }
}

impl Connection {
    pub(super) fn on_ack(&mut self, cx: &mut Context<'_>, segment: &Segment<'_>) -> Outcome {
        let window = u32::from(segment.window) << self.snd_scale;
        let window_before = self.snd_wnd;
        // RFC 9293 3.10.7.4, fifth, and what it forgets: a segment that was sent again has an
        // old sequence number but the newest acknowledgement. Its window goes with that,
        // as the old one, counted from there, would reach too far. And of two that differ
        // in the window alone the smaller one is the older, overtaken on the way, except
        // that a closed window is believed: to be wrong there costs a probe (as Linux).
        if segment.ack.after(self.snd_una)
            || segment.ack == self.snd_una
                && (self.snd_wl1.before(segment.seq)
                    || self.snd_wl1 == segment.seq
                        && self.snd_wl2.at_or_before(segment.ack)
                        && (window > self.snd_wnd || window == 0))
        {
            self.snd_wnd = window;
            self.snd_wnd_max = self.snd_wnd_max.max(window);
            self.snd_wl1 = self.snd_wl1.latest(segment.seq);
            self.snd_wl2 = segment.ack;
            if window > 0 && self.timers.is_armed(Timer::Persist) {
                self.timers.stop(Timer::Persist);
                self.persist_backoff = 0;
            }
        }
        let plain = || {
            segment.payload.is_empty() && !segment.flags.has(Flags::FIN) && window == window_before
        };
        if !self.has_outstanding() {
            if self.recovery.awaits_duplicates() && segment.ack == self.snd_una {
                self.on_late_duplicate(cx, segment, plain());
            }
            return Outcome::Continue;
        }
        let advances = segment.ack.after(self.snd_una);
        // RFC 5681 2: what counts as a duplicate.
        let duplicate = segment.ack == self.snd_una && plain();
        if duplicate {
            cx.stats.tcp_dup_ack += 1;
        }
        let selective = self.sack_permitted && !segment.options.sack.is_empty();
        if !advances && !selective && !duplicate {
            return Outcome::Continue;
        }
        self.on_progress(cx, segment, duplicate && !self.sack_permitted)
    }

    /// Nothing is out, and all of it is acknowledged once more: copies that were sent in vain arrive
    /// last. `plain`: it brings nothing else.
    fn on_late_duplicate(&mut self, cx: &mut Context<'_>, segment: &Segment<'_>, plain: bool) {
        if self.take_duplicate_report(cx, segment) {
            self.undo(cx);
        }
        if plain
            && segment.options.sack.is_empty()
            && self.recovery.probe.is_some_and(|probe| probe.end == segment.ack)
        {
            // RFC 8985 7.4.2, the same of a peer that knows no D-SACK.
            self.recovery.probe = None;
        }
    }

    /// An acknowledgement while data is out.
    fn on_progress(
        &mut self,
        cx: &mut Context<'_>,
        segment: &Segment<'_>,
        duplicate: bool,
    ) -> Outcome {
        let ack = segment.ack;
        let mut progress = Progress {
            octets: ack.octets_since(self.snd_una),
            arrived: Arrived::default(),
            prior_in_flight: self.in_flight(),
            lost: 0,
            duplicate,
            echo: self.echo(cx, segment),
        };
        let undone = self.take_duplicate_report(cx, segment);
        let fin_acked = self.fin_sent && ack == self.send_end() + 1;
        let resent_arrived = self.take_arrivals(cx, segment, &mut progress, fin_acked);
        if resent_arrived {
            // RFC 6298 3, Karn: what is acknowledged together with something that was sent again
            // may have arrived long before, and waited for that.
            progress.arrived.forget_round_trips();
        }
        self.measure_round_trip(cx, segment, &progress);
        self.find_losses(cx, &mut progress);
        self.on_probe_answer(cx, segment, &progress);
        let spurious = undone
            || resent_arrived && self.recovery.is_answer_to_original(progress.echo.sent_before);
        // All that was taken for lost is here before any of it was sent again: acknowledgements of
        // one turn that overtook each other (as Linux, tcp_packet_delayed).
        let never_lost = progress.arrived.recanted
            && self.sent.lost() == 0
            && self.recovery.is_fast()
            && self.recovery.is_untouched();
        if spurious || never_lost && !self.recovery.is_open() {
            self.undo(cx);
        }
        let was_fast = self.recovery.is_fast();
        self.advance_phase(cx, segment, &progress);
        if was_fast && self.recovery.is_open() && self.sent.is_repairing() {
            // RFC 6675 5, RFC 5681 4.3: what is lost beyond the recovery point left after the
            // reduction, so that this did not suffice: it is another one's.
            self.begin_recovery(cx, progress.prior_in_flight);
            self.advance_phase(cx, segment, &progress);
        }
        self.take_echo(cx, segment, progress.prior_in_flight);
        self.inform_congestion(cx, ack, &progress, was_fast);

        if self.has_outstanding() {
            if progress.octets > 0 {
                // RFC 6298 (5.3): restart on new data acknowledged, and only then.
                self.timers.set(Timer::Retransmit, cx.now + self.rtt.rto(cx.config));
            }
            self.arm_probe(cx);
        } else {
            // RFC 6298 (5.2).
            self.timers.stop(Timer::Retransmit);
            self.timers.stop(Timer::Probe);
            self.timers.stop(Timer::Reorder);
            self.recovery.resend_first = false;
            self.recovery.probe_due = false;
        }
        self.check_low_water();
        if fin_acked { self.on_fin_acknowledged(cx) } else { Outcome::Continue }
    }

    fn on_fin_acknowledged(&mut self, cx: &mut Context<'_>) -> Outcome {
        match self.state {
            State::FinWait1 => {
                self.state = State::FinWait2;
                if self.released {
                    self.timers.set(Timer::Linger, cx.now + cx.config.fin_wait_2);
                }
                Outcome::Continue
            }
            State::Closing => Outcome::TimeWait,
            State::LastAck => Outcome::Close(CloseReason::Finished),
            _ => Outcome::Continue,
        }
    }

    /// What the timestamps tell of the segment that made the peer answer.
    fn echo(&self, cx: &Context<'_>, segment: &Segment<'_>) -> Echo {
        let sent_before = match (self.timestamps, segment.options.timestamp) {
            (Some(state), Some(theirs)) => {
                let age = timestamp_now(state.offset, cx.received).wrapping_sub(theirs.echo);
                // Half of the numbers are the future: an echo of nothing that we sent.
                (age < 1 << 31).then(|| {
                    // The clock ticks in milliseconds: it left before the next tick.
                    let tick = Instant::from_millis(cx.received.as_millis() + 1);
                    tick - Duration::from_millis(u64::from(age)) - Duration::from_nanos(1)
                })
            }
            _ => None,
        };
        Echo { received: cx.received, sent_before }
    }

    /// RFC 2883 4: a first block at or below the acknowledgement, or inside of the second one,
    /// says what arrived twice. Returns whether all that was sent again did.
    fn take_duplicate_report(&mut self, cx: &mut Context<'_>, segment: &Segment<'_>) -> bool {
        if !self.sack_permitted {
            return false;
        }
        let blocks = segment.options.sack.as_slice();
        let Some(&(start, end)) = blocks.first() else { return false };
        let inside =
            |&(from, to): &(SeqNum, SeqNum)| start.at_or_after(from) && end.at_or_before(to);
        if !start.before(end)
            || !(end.at_or_before(segment.ack) || blocks.get(1).is_some_and(inside))
        {
            return false;
        }
        cx.stats.tcp_dsack_in += 1;
        if let Some(probe) = self.recovery.probe
            && probe.resent > 0
            && end == probe.end
        {
            // RFC 8985 7.4.2: the probe's copy was the second: nothing was lost.
            self.recovery.probe = None;
            return false;
        }
        self.recovery.rack.on_duplicate(segment.ack, self.snd_nxt);
        self.recovery.on_duplicate(start, end, cx.now)
    }

    /// Takes what the acknowledgement covers off the records and the queue. Returns whether
    /// something that was sent again is among what SND.UNA moved over.
    fn take_arrivals(
        &mut self,
        cx: &mut Context<'_>,
        segment: &Segment<'_>,
        progress: &mut Progress,
        fin_acked: bool,
    ) -> bool {
        let Progress { octets, ref mut arrived, echo, .. } = *progress;
        let ack = segment.ack;
        let rack = &mut self.recovery.rack;
        let mut resent = false;
        if octets > 0 {
            self.sent.acknowledge(ack, |piece| {
                resent |= piece.retransmitted;
                arrived.note(piece);
                rack.on_arrival(&piece, echo);
            });
            let own = self.send.acknowledge((octets - u32::from(fin_acked)) as usize);
            self.own_queued = self.send.less_own(self.own_queued, own);
            rack.on_acknowledged(ack);
            self.snd_una = ack;
            self.last_progress = cx.now;
            self.last_reached = cx.now;
        }
        if !self.sack_permitted {
            if octets > 0 {
                self.recovery.forget_duplicates(octets, self.mss);
            }
            return resent;
        }
        // The echo is of the last segment in order, not of what a block covers (RFC 7323 4.3).
        let echo = Echo { sent_before: None, ..echo };
        for &(start, end) in segment.options.sack.as_slice() {
            // Blocks of what is acknowledged, and of what was never sent, say nothing here.
            let start = start.latest(self.snd_una);
            if start.before(end) && end.at_or_before(self.snd_nxt) {
                self.sent.sack(start, end, self.mss, |piece| {
                    arrived.note(piece);
                    rack.on_arrival(&piece, echo);
                });
            }
        }
        resent
    }

    /// RFC 6298 3, Karn: what was sent twice is not measured, but by its echoed timestamp after
    /// a timeout (RFC 7323 4.1), so that a path that has become slower is learnt.
    fn measure_round_trip(&mut self, cx: &Context<'_>, segment: &Segment<'_>, progress: &Progress) {
        // Without SACK what arrived behind a hole long ago is acknowledged only with it.
        let timely = self.sack_permitted || self.recovery.is_open();
        if let Some(last) = progress.arrived.last_original.filter(|_| timely) {
            self.recovery.rack.sample(cx.received.since(last), cx.now);
        }
        match progress.arrived.first_original.filter(|_| timely) {
            // Once for each round trip, as RFC 6298's factors assume.
            Some(first) if segment.ack.at_or_after(self.round_end) => {
                self.round_end = self.snd_nxt;
                self.rtt.sample(cx.received.since(first));
            }
            None if progress.octets > 0 && self.rtt.is_backed_off() => {
                if let (Some(state), Some(theirs)) = (self.timestamps, segment.options.timestamp) {
                    let millis = timestamp_now(state.offset, cx.received).wrapping_sub(theirs.echo);
                    if millis < 60_000 {
                        let rtt = Duration::from_millis(u64::from(millis).max(1));
                        self.rtt.sample(rtt);
                    }
                }
            }
            _ => {}
        }
    }

    fn situation(&self) -> Situation {
        Situation {
            mss: self.mss,
            recovering: !self.recovery.is_open(),
            srtt: self.rtt.srtt().unwrap_or_default(),
        }
    }

    /// Finds what is lost, and begins a fast recovery if that is news.
    fn find_losses(&mut self, cx: &mut Context<'_>, progress: &mut Progress) {
        let mut lost = Losses::default();
        let situation = self.situation();
        if self.sack_permitted {
            let next = self.recovery.rack.detect(cx.now, &mut self.sent, situation, |piece| {
                lost.take(piece);
            });
            self.timers.set(Timer::Reorder, next.unwrap_or(Instant::NEVER));
        } else if progress.duplicate {
            if self.recovery.on_dup_ack(self.mss, self.snd_nxt) {
                self.sent.lose_first(self.mss, |piece| lost.take(piece));
            }
        } else if self.recovery.is_fast() && progress.octets > 0 {
            // RFC 6582 3.2 step 3, partial: the next hole begins where it ends, and is filled
            // at once.
            let over = matches!(self.recovery.phase, Phase::Fast { end, .. }
                if self.snd_una.at_or_after(end));
            if !over {
                self.sent.lose_first(self.mss, |piece| lost.take(piece));
                self.recovery.resend_first = true;
            }
        }
        progress.lost = lost.octets;
        self.account_losses(cx, &lost, progress.prior_in_flight);
    }

    /// The reordering window of something is over (RFC 8985 6.3).
    pub(super) fn on_reorder_timeout(&mut self, cx: &mut Context<'_>) {
        let prior_in_flight = self.in_flight();
        let mut lost = Losses::default();
        let situation = self.situation();
        let next = self.recovery.rack.detect(cx.now, &mut self.sent, situation, |piece| {
            lost.take(piece);
        });
        self.timers.set(Timer::Reorder, next.unwrap_or(Instant::NEVER));
        self.account_losses(cx, &lost, prior_in_flight);
        if lost.octets > 0 {
            let (in_flight, mss) = (self.in_flight(), self.mss);
            if let Phase::Fast { prr: Some(prr), .. } = &mut self.recovery.phase {
                prr.on_ack(0, in_flight, false, mss);
            }
        }
    }

    fn account_losses(&mut self, cx: &mut Context<'_>, lost: &Losses, prior_in_flight: u32) {
        if lost.octets == 0 {
            return;
        }
        self.delivery.lost += u64::from(lost.octets);
        cx.stats.tcp_lost += lost.pieces.len() as u64;
        for piece in &lost.pieces {
            self.congestion.on_segment_lost(&LostSegment {
                octets: piece.octets,
                tx_in_flight: piece.departure.in_flight,
                lost: self.delivery.lost - piece.departure.lost,
                prior_delivered: piece.departure.delivered,
                app_limited: piece.departure.app_limited,
            });
        }
        if self.recovery.is_open() {
            self.begin_recovery(cx, prior_in_flight);
        }
    }

    /// A loss is news: the window is reduced, and what is out by now belongs to it.
    fn begin_recovery(&mut self, cx: &mut Context<'_>, prior_in_flight: u32) {
        cx.stats.tcp_fast_retransmit += 1;
        self.congestion.on_loss(cx.now, prior_in_flight);
        self.ecn.on_reduction(self.snd_nxt);
        let prr = (!self.congestion.governs_recovery())
            .then(|| Prr::new(self.congestion.window(), prior_in_flight));
        self.recovery.enter_fast(self.snd_una, self.snd_nxt, prr);
    }

    /// RFC 8985 7.4: the end of a tail loss probe's flight.
    fn on_probe_answer(
        &mut self,
        cx: &mut Context<'_>,
        segment: &Segment<'_>,
        progress: &Progress,
    ) {
        let Some(probe) = self.recovery.probe else { return };
        if segment.ack.before(probe.end) {
            return;
        }
        if probe.resent == 0 {
            self.recovery.probe = None;
        } else if segment.ack.after(probe.end) {
            // The probe repaired a loss that nobody saw: the same answer as to any other.
            self.recovery.probe = None;
            if self.recovery.is_open() {
                cx.stats.tcp_probe_repaired += 1;
                self.recovery.settle();
                self.congestion.on_loss(cx.now, progress.prior_in_flight);
                self.ecn.on_reduction(self.snd_nxt);
            }
        } else if progress.octets == 0 && progress.arrived.octets == 0 {
            // A plain duplicate: the copy arrived beside the original.
            self.recovery.probe = None;
        }
    }

    /// Nothing had been lost: what was reduced is restored, what was to be sent again is not. If it is
    /// known only when the recovery is over, what is lost by now is another matter.
    fn undo(&mut self, cx: &mut Context<'_>) {
        cx.stats.tcp_spurious += 1;
        if !self.recovery.is_open() {
            self.sent.unlose();
            self.recovery.reopen(cx.now);
        }
        self.recovery.settle();
        self.recovery.rack.see_reordering();
        self.congestion.on_spurious(cx.now);
        self.ecn.tell_reduced = false;
    }

    /// Moves through the phases of the recovery that is under way.
    fn advance_phase(&mut self, cx: &mut Context<'_>, segment: &Segment<'_>, progress: &Progress) {
        let ack = segment.ack;
        let in_flight = self.in_flight();
        let mss = self.mss;
        // What would be sent: all that waits, or a full segment (RFC 9293 3.8.6.2.1).
        let waiting = self.send_end().octets_since(self.snd_nxt);
        let room = self.snd_wnd.saturating_sub(self.snd_nxt.octets_since(self.snd_una));
        let may_send_new = waiting > 0 && room >= waiting.min(mss) && !self.sent.is_full();
        match &mut self.recovery.phase {
            Phase::Open => {}
            Phase::Fast { end, prr } => {
                if ack.at_or_after(*end) {
                    self.recovery.reopen(cx.now);
                    self.recovery.rack.on_recovered();
                    self.congestion.on_recovered(cx.now);
                } else if let Some(prr) = prr {
                    let safe = progress.octets > 0 && progress.lost == 0;
                    let delivered =
                        progress.arrived.octets + if progress.duplicate { mss } else { 0 };
                    prr.on_ack(delivered, in_flight, safe, mss);
                }
            }
            Phase::Timeout { end, frto } => {
                let (until, step) = (*end, *frto);
                let over = ack.at_or_after(until);
                // RFC 5682 3.1 step 3b, as Linux with SACK: something that was sent once, and
                // before the timeout, has arrived. Without SACK the acknowledgement of what
                // was sent again covers what had arrived behind it, and proves nothing.
                let original = progress.arrived.original_end.is_some_and(|original| {
                    original.at_or_before(until)
                        && (self.sack_permitted
                            || progress.arrived.newest.is_some_and(|piece| !piece.retransmitted))
                });
                match step {
                    Frto::First | Frto::NewData if original => {
                        self.undo(cx);
                        return;
                    }
                    Frto::NewData => {
                        let brought = progress.arrived.octets > progress.octets;
                        if brought || progress.octets == 0 {
                            // Step 3a: it was a true one.
                            *frto = Frto::Off;
                        }
                    }
                    Frto::First if progress.octets > 0 && !over => {
                        // Step 2b: if there is new data and a window for it, send that.
                        if may_send_new {
                            *frto = Frto::NewData;
                            *end = self.snd_nxt;
                        } else {
                            *frto = Frto::Off;
                        }
                    }
                    _ => {}
                }
                if over {
                    self.recovery.reopen(cx.now);
                }
            }
        }
    }

    /// `in_recovery`: a fast recovery was under way, even if it ends with this.
    fn inform_congestion(
        &mut self,
        cx: &mut Context<'_>,
        ack: SeqNum,
        progress: &Progress,
        in_recovery: bool,
    ) {
        let min_rtt = self.recovery.rack.min_rtt();
        let rate = self.delivery.on_ack(cx.received, &progress.arrived, min_rtt);
        if progress.arrived.octets == 0 || in_recovery && !self.congestion.governs_recovery() {
            // PRR spends the window until the recovery is over, and then it is what the
            // controller reduced it to.
            return;
        }
        self.congestion.on_ack(&Acked {
            now: cx.received,
            octets: progress.arrived.octets,
            ack,
            sent_end: self.snd_nxt,
            lost: progress.lost,
            prior_in_flight: progress.prior_in_flight,
            in_flight: self.in_flight(),
            delivered: self.delivery.delivered,
            rtt: progress.round_trip(),
            smoothed_rtt: self.rtt.srtt(),
            rate,
            // RFC 7661 4.1: the window counts as used when half of it was.
            window_limited: progress.prior_in_flight.saturating_mul(2) >= self.congestion.window(),
            in_recovery,
        });
    }

    /// RFC 8985 7.2: when to probe, if nothing is heard of what is out. Only while no loss is
    /// known, and once for each flight; afterwards the retransmission timer is there.
    pub(super) fn arm_probe(&mut self, cx: &Context<'_>) {
        let srtt = self.rtt.srtt();
        let (true, Some(srtt)) = (self.may_probe(), srtt) else {
            self.timers.stop(Timer::Probe);
            return;
        };
        let delay = if self.sent.in_flight() <= self.mss { MAX_ACK_DELAY } else { MIN_PROBE_WAIT };
        // Not later than the timeout, in whose place it then comes.
        let probe_at = (cx.now + srtt * 2 + delay).min(self.timers.deadline(Timer::Retransmit));
        self.timers.set(Timer::Probe, probe_at);
    }

    fn may_probe(&self) -> bool {
        self.sack_permitted
            && self.recovery.is_open()
            && self.recovery.probe.is_none()
            && self.sent.sacked() == 0
            && self.sent.in_flight() > 0
            && self.snd_wnd > 0
    }

    /// RFC 8985 7.3.
    pub(super) fn on_probe_timeout(&mut self, cx: &mut Context<'_>) {
        if self.may_probe() {
            cx.stats.tcp_tail_probe += 1;
            self.recovery.probe_due = true;
            self.timers.set(Timer::Retransmit, cx.now + self.rtt.rto(cx.config));
        }
    }
}

/// What one look found lost.
#[derive(Default)]
struct Losses {
    octets: u32,
    pieces: Vec<Piece>,
}

impl Losses {
    fn take(&mut self, piece: Piece) {
        self.octets += piece.octets;
        self.pieces.push(piece);
    }
}
