//! What a received segment does to a connection (RFC 9293 3.10.7.4).

use std::time::Duration;

use super::congestion::Acked;
use super::connection::{CloseReason, Connection, Context, Outcome, State};
use super::listen::timestamp_now;
use super::recovery::{DupAck, Progress};
use super::seq::SeqNum;
use super::timer::Timer;
use crate::wire::tcp::{Flags, Segment};

/// Between two ACKs for segments without data that are not acceptable, as Linux.
const OBJECTION_INTERVAL: Duration = Duration::from_millis(500);

impl Connection {
    /// Handles one segment; the clauses stand in the RFC's order.
    pub(crate) fn on_segment(&mut self, cx: &mut Context<'_>, segment: &Segment<'_>) -> Outcome {
        self.last_heard = cx.now;
        self.keepalives_unanswered = 0;

        // RFC 7323 5.3 R1: PAWS stands before the sequence check.
        if let (Some(state), Some(theirs)) = (self.timestamps, segment.options.timestamp)
            && SeqNum(theirs.value).before(SeqNum(state.recent))
            && !segment.flags.has(Flags::RST)
        {
            cx.stats.tcp_paws += 1;
            self.object(cx, segment);
            return Outcome::Continue;
        }

        // First: the sequence number.
        if !self.is_acceptable(segment) {
            if segment.flags.has(Flags::RST) {
                return Outcome::Continue;
            }
            self.object(cx, segment);
            if !segment.payload.is_empty() {
                cx.stats.tcp_data_dropped += 1;
                self.note_duplicate(cx, segment);
            }
            // As BSD: an old segment's text is old, but what it newly acknowledges is true.
            // A peer that went back after a timeout may say it with old numbers only, and
            // cannot go on until we have heard it.
            if segment.seq.before(self.rcv_nxt)
                && segment.flags.has(Flags::ACK)
                && !segment.flags.has(Flags::SYN)
                && segment.ack.after(self.snd_una)
                && segment.ack.at_or_before(self.snd_max)
            {
                return self.on_ack(cx, segment);
            }
            return Outcome::Continue;
        }

        // Second: RST, by RFC 5961 3.2: only the exact number resets.
        if segment.flags.has(Flags::RST) {
            if segment.seq == self.rcv_nxt {
                cx.stats.tcp_reset_in += 1;
                return Outcome::Close(CloseReason::Reset);
            }
            self.challenge(cx, segment);
            return Outcome::Continue;
        }

        // Fourth: SYN, by RFC 5961 4.2.
        if segment.flags.has(Flags::SYN) {
            self.challenge(cx, segment);
            return Outcome::Continue;
        }

        // Fifth: ACK.
        if !segment.flags.has(Flags::ACK) {
            return Outcome::Continue;
        }
        // RFC 5961 5.2: an acknowledgement of what was never sent, or far too old.
        if segment.ack.after(self.snd_max)
            || segment.ack.before(self.snd_una)
                && self.snd_una.octets_since(segment.ack) > self.snd_wnd_max.max(0xffff)
        {
            self.challenge(cx, segment);
            return Outcome::Continue;
        }
        // RFC 7323 4.3 (2); behind RFC 5961's check, as Linux: a forged value from the future
        // would make every true segment look old, and to have it taken must be no easier
        // than to have data taken.
        if let (Some(state), Some(theirs)) = (&mut self.timestamps, segment.options.timestamp)
            && segment.seq.at_or_before(self.last_ack_sent)
        {
            state.recent = theirs.value;
        }
        let outcome = self.on_ack(cx, segment);
        if outcome != Outcome::Continue {
            return outcome;
        }

        // Seventh: the segment's text; eighth: FIN.
        self.on_text(cx, segment)
    }

    /// RFC 9293 3.4's table. A segment at RCV.NXT is taken even if the window is closed:
    /// its acknowledgement counts, its text is cut off.
    fn is_acceptable(&self, segment: &Segment<'_>) -> bool {
        if segment.seq == self.rcv_nxt {
            return true;
        }
        let length = segment.sequence_len();
        if length == 0 {
            segment.seq.at_or_after(self.rcv_nxt) && segment.seq.at_or_before(self.rcv_adv)
        } else {
            (segment.seq + length).after(self.rcv_nxt) && segment.seq.before(self.rcv_adv)
        }
    }

    /// RFC 5961 3.2, 4.2, 5.2: an ACK that asks the peer whether it meant that.
    fn challenge(&mut self, cx: &mut Context<'_>, segment: &Segment<'_>) {
        if self.object(cx, segment) {
            cx.stats.tcp_challenge_ack += 1;
        }
    }

    /// Answers a segment that is not acceptable with an ACK. RFC 5961 7: not each time, or two
    /// ends that each find the other's ACK unacceptable would never stop. Only segments
    /// without data are held to that: others are sent again by a timer, and to starve those
    /// of their answer would stall the peer.
    fn object(&mut self, cx: &Context<'_>, segment: &Segment<'_>) -> bool {
        if segment.sequence_len() == 0 {
            if self.objected.is_some_and(|at| cx.now.since(at) < OBJECTION_INTERVAL) {
                return false;
            }
            self.objected = Some(cx.now);
        }
        self.ack_now = true;
        true
    }

    fn on_ack(&mut self, cx: &mut Context<'_>, segment: &Segment<'_>) -> Outcome {
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
        if segment.ack.after(self.snd_una) {
            return self.on_new_ack(cx, segment);
        }
        // RFC 5681 2: what counts as a duplicate.
        if segment.ack == self.snd_una
            && segment.payload.is_empty()
            && !segment.flags.has(Flags::FIN)
            && self.has_outstanding()
            && window == window_before
        {
            cx.stats.tcp_dup_ack += 1;
            match self.recovery.on_dup_ack(self.snd_max, self.mss) {
                DupAck::Wait | DupAck::Inflate => {}
                DupAck::Enter => {
                    cx.stats.tcp_fast_retransmit += 1;
                    self.congestion.on_loss(cx.now, self.flight());
                    self.retransmit = true;
                    // Karn: what is sent twice is not timed.
                    self.timed = None;
                }
            }
        }
        Outcome::Continue
    }

    fn on_new_ack(&mut self, cx: &mut Context<'_>, segment: &Segment<'_>) -> Outcome {
        let ack = segment.ack;
        let flight_before = self.flight();
        let octets = ack.octets_since(self.snd_una);
        let fin_acked = self.fin_sent && ack == self.send_end() + 1;
        self.measure_round_trip(cx, segment);
        self.send.acknowledge((octets - u32::from(fin_acked)) as usize);
        self.snd_una = ack;
        self.snd_nxt = self.snd_nxt.latest(ack);
        self.last_progress = cx.now;
        self.last_reached = cx.now;

        match self.recovery.on_new_ack(ack, octets, self.mss) {
            Progress::Normal => self.congestion.on_ack(&Acked {
                now: cx.now,
                octets,
                ack,
                sent_end: self.snd_max,
                lost: 0,
                prior_in_flight: flight_before,
                in_flight: self.flight(),
                delivered: 0,
                rtt: None,
                smoothed_rtt: self.rtt.srtt(),
                rate: None,
                in_recovery: false,
                // RFC 7661 4.1: the window counts as used when half of it was.
                window_limited: flight_before.saturating_mul(2) >= self.congestion.window(),
            }),
            Progress::Partial => {
                self.retransmit = true;
                self.timed = None;
            }
            Progress::Done => {}
        }
        if self.has_outstanding() {
            // RFC 6298 (5.3): restart on new data acknowledged.
            self.timers.set(Timer::Retransmit, cx.now + self.rtt.rto(cx.config));
        } else {
            // RFC 6298 (5.2).
            self.timers.stop(Timer::Retransmit);
            self.retransmit = false;
        }
        self.check_low_water();

        if fin_acked {
            match self.state {
                State::FinWait1 => {
                    self.state = State::FinWait2;
                    if self.released {
                        self.timers.set(Timer::Linger, cx.now + cx.config.fin_wait_2);
                    }
                }
                State::Closing => return Outcome::TimeWait,
                State::LastAck => return Outcome::Close(CloseReason::Finished),
                _ => {}
            }
        }
        Outcome::Continue
    }

    fn measure_round_trip(&mut self, cx: &Context<'_>, segment: &Segment<'_>) {
        match (self.timed, self.timestamps, segment.options.timestamp) {
            (Some((end, departure)), ..) if segment.ack.at_or_after(end) => {
                self.timed = None;
                self.rtt.sample(cx.now.since(departure), cx.config);
            }
            // After a timeout nothing is timed; the echoed timestamp tells which copy arrived
            // (RFC 7323 4.1), so that a path that has become slower is learnt.
            (None, Some(state), Some(theirs)) if self.rtt.is_backed_off() => {
                let millis = timestamp_now(state.offset, cx.now).wrapping_sub(theirs.echo);
                if millis < 60_000 {
                    let rtt = Duration::from_millis(u64::from(millis).max(1));
                    self.rtt.sample(rtt, cx.config);
                }
            }
            _ => {}
        }
    }
}
