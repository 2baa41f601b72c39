//! What a received segment does to a connection (RFC 9293 3.10.7.4).

use std::time::Duration;

use super::connection::{CloseReason, Connection, Context, Outcome, State};
use super::seq::SeqNum;
use crate::wire::tcp::{Flags, Segment};

/// RFC 7323 5.5: TS.Recent of a connection that was silent for so long is worth nothing. The RFC
/// says 24 days, for a clock of milliseconds; as Linux, half of the numbers of one of
/// microseconds. What is so old is on no path any more.
const PAWS_LIFETIME: Duration = Duration::from_secs(2147);
/// Between two ACKs for segments without data that are not acceptable, as Linux.
pub(super) const OBJECTION_INTERVAL: Duration = Duration::from_millis(500);

impl Connection {
    /// Handles one segment; the clauses stand in the RFC's order.
    pub(crate) fn on_segment(&mut self, cx: &mut Context<'_>, segment: &Segment<'_>) -> Outcome {
        // RFC 7323 5.3 R1: PAWS stands before the sequence check. A segment without the option, on
        // a connection that has agreed on it, is taken, as Linux does. RFC 7323 3.2 would rather
        // drop it: but there are middleboxes that take the option off later segments, and ends that
        // leave it out of some, and their connections would hang. Who forges a segment has to hit both
        // numbers in any case, and would lack no more than a bit: PAWS takes half of all values.
        if let (Some(state), Some(theirs)) = (self.timestamps, segment.options.timestamp)
            && SeqNum(theirs.value).before(SeqNum(state.recent))
            && !segment.flags.has(Flags::RST)
            && cx.now.since(self.last_heard) <= PAWS_LIFETIME
            && !self.is_overtaken(cx, segment, state.recent.wrapping_sub(theirs.value))
        {
            cx.stats.tcp_paws += 1;
            self.object(cx, segment);
            return Outcome::Continue;
        }

        // First: the sequence number.
        if !self.is_acceptable(segment) {
            if segment.flags.has(Flags::RST) {
                if self.is_reset_at_fin(segment) {
                    cx.stats.tcp_reset_in += 1;
                    return Outcome::Close(CloseReason::Reset);
                }
                cx.stats.tcp_reset_ignored += 1;
                return Outcome::Continue;
            }
            if segment.flags.has(Flags::SYN) {
                // RFC 5961 4.2: a SYN is challenged whatever its number.
                self.challenge(cx);
                return Outcome::Continue;
            }
            self.object(cx, segment);
            if !segment.payload.is_empty() {
                cx.stats.tcp_data_dropped += 1;
                self.note_duplicate(cx, segment);
            }
            // As BSD: an old segment's text is old, but what it newly acknowledges is true.
            // A peer that went back after a timeout may say it with old numbers only, and
            // cannot go on until we have heard it. It went back by no more than our window: to take
            // half of all numbers would spare who forges an acknowledgement the guess at one
            // (RFC 5961 5).
            if segment.seq.before(self.rcv_nxt)
                && self.rcv_nxt.octets_since(segment.seq) <= self.window_max(cx.config)
                && segment.flags.has(Flags::ACK)
                && segment.ack.after(self.snd_una)
                && segment.ack.at_or_before(self.snd_nxt)
            {
                self.hear(cx);
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
            cx.stats.tcp_reset_ignored += 1;
            self.challenge(cx);
            return Outcome::Continue;
        }

        // Fourth: SYN, by RFC 5961 4.2.
        if segment.flags.has(Flags::SYN) {
            self.challenge(cx);
            return Outcome::Continue;
        }

        // Fifth: ACK.
        if !segment.flags.has(Flags::ACK) {
            cx.stats.tcp_ignored += 1;
            return Outcome::Continue;
        }
        // RFC 5961 5.2: an acknowledgement of what was never sent, or far too old.
        if segment.ack.after(self.snd_nxt)
            || segment.ack.before(self.snd_una)
                && self.snd_una.octets_since(segment.ack) > self.snd_wnd_max.max(0xffff)
        {
            self.challenge(cx);
            return Outcome::Continue;
        }
        self.hear(cx);
        // RFC 7323 4.3 (2); behind RFC 5961's check, as Linux: a forged value from the future
        // would make every true segment look old, and to have it taken must be no easier
        // than to have data taken.
        if let (Some(state), Some(theirs)) = (&mut self.timestamps, segment.options.timestamp)
            && segment.seq.at_or_before(self.last_ack_sent)
        {
            state.recent = theirs.value;
        }
        if segment.options.user_timeout.is_some() {
            self.peer_timeout = segment.options.user_timeout;
        }
        let outcome = self.on_ack(cx, segment);
        if outcome != Outcome::Continue {
            return outcome;
        }
        if self.narrowed.is_some() {
            self.on_narrow_progress(cx);
        }

        self.take_mark(cx, segment);

        // Seventh: the segment's text; eighth: FIN.
        self.on_text(cx, segment)
    }

    /// The peer lives. Only what has passed the checks of both numbers says so, as in Linux
    /// (`rcv_tstamp`): else whoever knows the four-tuple could keep a connection that is dead
    /// from its keepalive's end, and from giving way where memory is short.
    fn hear(&mut self, cx: &Context<'_>) {
        self.last_heard = cx.now;
        self.keepalives_unanswered = 0;
    }

    /// Whether a RST has the number of the peer's FIN, and not the one after it: a peer that
    /// drops a closed connection may say so (macOS does). As Linux (`tcp_reset_check`); it is
    /// one more exact number, for who guesses blindly.
    fn is_reset_at_fin(&self, segment: &Segment<'_>) -> bool {
        matches!(self.state, State::CloseWait | State::Closing | State::LastAck)
            && self.peer_fin == Some(segment.seq)
    }

    /// Whether a segment that PAWS would drop is only a duplicate acknowledgement that others
    /// have overtaken on the way (as Linux, tcp_disordered_ack): it changes nothing but what
    /// its SACK blocks tell, which are true for ever. `age`: how much older its timestamp is
    /// than the newest.
    fn is_overtaken(&self, cx: &Context<'_>, segment: &Segment<'_>, age: u32) -> bool {
        segment.sequence_len() == 0
            && segment.seq == self.rcv_nxt
            && segment.ack == self.snd_una
            && segment.window != 0
            && (u32::from(segment.window) << self.snd_scale) <= self.snd_wnd
            && u128::from(age) <= self.rtt.rto(cx.config).as_millis()
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

    /// RFC 5961 3.2, 4.2, 5.2: an ACK that asks the peer whether it meant that. RFC 5961 7: not
    /// each time. There is no limit common to all connections, as Linux had: by it, one
    /// connection tells about another (CVE-2016-5696).
    fn challenge(&mut self, cx: &mut Context<'_>) {
        if cx.now.since(self.challenged) < OBJECTION_INTERVAL {
            cx.stats.tcp_challenge_limited += 1;
            return;
        }
        self.challenged = cx.now;
        cx.stats.tcp_challenge_ack += 1;
        self.ack_now = true;
    }

    /// Answers a segment that is not acceptable with an ACK. Not each time, or two ends that each
    /// find the other's ACK unacceptable would never stop. Only segments without data are
    /// held to that: others are sent again by a timer, and to starve those of their answer
    /// would stall the peer.
    fn object(&mut self, cx: &mut Context<'_>, segment: &Segment<'_>) {
        if segment.sequence_len() == 0 {
            if cx.now.since(self.objected) < OBJECTION_INTERVAL {
                cx.stats.tcp_challenge_limited += 1;
                return;
            }
            self.objected = cx.now;
        }
        self.ack_now = true;
    }
}
