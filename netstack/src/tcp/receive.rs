//! Receiving: a segment's text and FIN, and what its acknowledgement says about them
//! (RFC 9293 3.10.7.4 seventh and eighth, RFC 2018, RFC 2883).

use super::connection::{CloseReason, Connection, Context, Outcome, State};
use super::seq::SeqNum;
use super::timer::Timer;
use crate::wire::tcp::{Flags, SackBlocks, Segment};

/// Acknowledgements of one number sent in a row. A sender needs three, and by each of the
/// others knows that one segment more has left the network.
const MAX_DUPLICATE_ACKS: u8 = 32;

impl Connection {
    pub(super) fn on_text(&mut self, cx: &mut Context<'_>, segment: &Segment<'_>) -> Outcome {
        let end = segment.seq + segment.payload.len() as u32;
        if !matches!(self.state, State::Established | State::FinWait1 | State::FinWait2) {
            // The peer's FIN has come: there is no more text (RFC 9293 3.10.7.4, seventh).
            if segment.sequence_len() > 0 {
                self.ack_now = true;
            }
            return Outcome::Continue;
        }
        if segment.flags.has(Flags::FIN) {
            // RFC 5681 4.2: what comes before its time is acknowledged at once.
            self.ack_now = true;
            // A FIN beyond the window is not remembered; it will be sent again.
            let contradicted = match self.peer_fin {
                Some(fin) => fin != end,
                None => self.assembler.end().is_some_and(|held| held.after(end)),
            };
            if contradicted {
                // Two different ends of one stream, or data behind its end: what came
                // first stands.
                cx.stats.tcp_data_dropped += 1;
            } else if end.at_or_before(self.rcv_adv) {
                self.peer_fin = Some(end);
            }
        }
        if !segment.payload.is_empty() {
            let limit = self.peer_fin.map_or(self.rcv_adv, |fin| {
                if fin.before(self.rcv_adv) { fin } else { self.rcv_adv }
            });
            // Cut to what is new and inside the window.
            let skip = (self.rcv_nxt.octets_since(segment.seq) as usize).min(segment.payload.len());
            let start = segment.seq + skip as u32;
            if skip > 0 {
                self.note_duplicate(cx, segment);
            }
            let room = limit.octets_since(start) as usize;
            let text = &segment.payload[skip..];
            let text = if text.len() > room {
                cx.stats.tcp_data_dropped += 1;
                self.ack_now = true;
                &text[..room]
            } else {
                text
            };
            if !text.is_empty() {
                if self.released {
                    // RFC 9293 3.10.7.4 with RFC 1122 4.2.2.13: nobody will read it.
                    return Outcome::Abort(CloseReason::Aborted);
                }
                self.take_text(cx, start, text);
            }
        }
        self.take_fin()
    }

    fn take_text(&mut self, cx: &mut Context<'_>, start: SeqNum, text: &[u8]) {
        if start == self.rcv_nxt {
            self.out_of_order = 0;
            if self.assembler.is_empty() {
                self.ready.extend_from_slice(text);
                self.rcv_nxt += text.len() as u32;
            } else {
                // RFC 5681 4.2: filling a gap is acknowledged at once.
                self.ack_now = true;
                self.fill_gaps(cx, text);
            }
            self.events.readable = true;
            // RFC 9293 3.8.6.3: at least every second full segment, else soon. What is full is
            // what the peer has sent so far, as its path may carry less than ours, and a segment
            // of the link's making may be several.
            let octets = text.len() as u32;
            self.rcv_mss = self.rcv_mss.max(octets.min(self.mss) as u16);
            let full = u32::from(self.rcv_mss);
            self.unacked = self.unacked.saturating_add(octets);
            let mut at_once = self.unacked >= 2 * full;
            if octets >= full && self.quick_acks > 0 {
                // As Linux: at the start the peer's window grows with each acknowledgement, and
                // may hold one segment alone. A small segment is a question, whose answer
                // takes the acknowledgement along.
                self.quick_acks -= 1;
                at_once = true;
            }
            // Nor can a peer wait for the second that sees no room for one.
            at_once |= self.rcv_adv.octets_since(self.rcv_nxt) < 2 * full;
            if at_once {
                self.ack_now = true;
            } else if !self.timers.is_armed(Timer::DelayedAck) {
                self.timers.set(Timer::DelayedAck, cx.now + cx.config.delayed_ack);
            }
        } else {
            // RFC 5681 4.2: out of order is acknowledged at once.
            self.ack_now = true;
            self.out_of_order = (self.out_of_order + 1).min(MAX_DUPLICATE_ACKS);
            if text.len() > cx.reassembly_left {
                // All connections together hold as much as they may. It comes again, and in
                // order it needs no place here.
                cx.stats.tcp_reassembly_full += 1;
                return;
            }
            cx.stats.tcp_out_of_order += 1;
            let inserted = self.assembler.insert(start, text);
            if !inserted.complete {
                cx.stats.tcp_data_dropped += 1;
            }
            if let Some((start, end)) = inserted.duplicate {
                self.report_duplicate(cx, start, end);
            }
        }
    }

    /// What lies from `start` to `end` has come twice: the next ACK says so (RFC 2883).
    fn report_duplicate(&mut self, cx: &mut Context<'_>, start: SeqNum, end: SeqNum) {
        cx.stats.tcp_duplicate += 1;
        self.duplicate = Some((start, end));
    }

    /// Text in order goes around what is held already, which stands: it may have been acknowledged
    /// selectively, and who guesses a number later must not replace it (RFC 5961 1).
    fn fill_gaps(&mut self, cx: &mut Context<'_>, mut text: &[u8]) {
        loop {
            let gap = self.assembler.start().map_or(text.len(), |held| {
                (held.octets_since(self.rcv_nxt) as usize).min(text.len())
            });
            let (new, rest) = text.split_at(gap);
            self.ready.extend_from_slice(new);
            self.rcv_nxt += gap as u32;
            text = rest;
            while let Some(run) = self.assembler.take(self.rcv_nxt) {
                let twice = run.len().min(text.len());
                if twice > 0 && self.duplicate.is_none() {
                    self.report_duplicate(cx, self.rcv_nxt, self.rcv_nxt + twice as u32);
                }
                text = &text[twice..];
                self.rcv_nxt += run.len() as u32;
                self.ready.extend_from_slice(&run);
            }
            if text.is_empty() {
                return;
            }
        }
    }

    /// Eighth: the FIN, once everything before it is here.
    fn take_fin(&mut self) -> Outcome {
        if self.peer_fin != Some(self.rcv_nxt) {
            return Outcome::Continue;
        }
        self.rcv_nxt += 1;
        self.rcv_adv = self.rcv_adv.latest(self.rcv_nxt);
        self.ack_now = true;
        self.events.readable = true;
        match self.state {
            State::Established => self.state = State::CloseWait,
            State::FinWait1 => self.state = State::Closing,
            State::FinWait2 => {
                self.timers.stop(Timer::Linger);
                return Outcome::TimeWait;
            }
            State::CloseWait | State::Closing | State::LastAck | State::Closed => {}
        }
        Outcome::Continue
    }

    /// Remembers that text before RCV.NXT has come again, for the next acknowledgement to tell
    /// (RFC 2883 4.1): so the sender learns what it sent in vain. The acknowledgement is due
    /// at once, as it may be the one that was lost.
    pub(super) fn note_duplicate(&mut self, cx: &mut Context<'_>, segment: &Segment<'_>) {
        let end = segment.seq + segment.payload.len() as u32;
        let end = if end.before(self.rcv_nxt) { end } else { self.rcv_nxt };
        if segment.seq.before(end) {
            self.report_duplicate(cx, segment.seq, end);
            self.ack_now = true;
        }
    }

    /// Whether the next acknowledgement has more to say than its number.
    pub(super) fn has_sack_blocks(&self) -> bool {
        self.sack_permitted && (self.duplicate.is_some() || !self.assembler.is_empty())
    }

    /// RFC 2018 4: the block with the newest segment first, then those before it; RFC 2883
    /// 4: a duplicate before all of them, once.
    pub(super) fn take_sack_blocks(&mut self) -> SackBlocks {
        let mut blocks = SackBlocks::default();
        if let Some((start, end)) = self.duplicate.take() {
            blocks.push(start, end);
        }
        self.assembler.newest(&mut blocks);
        blocks
    }
}
