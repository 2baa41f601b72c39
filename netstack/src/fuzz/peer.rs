//! What a peer on the wire knows of one connection: the numbers it has seen, and the promises
//! that it holds the stack to.

use super::stack::MAX_QUEUED;
use crate::tcp::seq::SeqNum;
use crate::wire::tcp::{Flags, Segment};

/// The octet with sequence number `seq` of what a peer sends: whatever the segmentation, the
/// stream is the same.
pub(super) fn peer_octet(seq: SeqNum) -> u8 {
    (seq.0.wrapping_mul(0x9e37_79b1) >> 24) as u8
}

/// The octet at `offset` of what the application sends.
pub(super) fn own_octet(offset: usize) -> u8 {
    (offset.wrapping_mul(167) >> 3) as u8
}

/// One remote port's view.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// The stack's initial sequence number, once its SYN-ACK was seen.
    pub(super) iss: Option<SeqNum>,
    /// All that it ever stated: each may be a cookie.
    stated: Vec<SeqNum>,
    /// One past the peer's own SYN, as the SYN-ACK acknowledged it.
    pub(super) first: SeqNum,
    /// The stack's RCV.NXT, as far as it has said.
    pub(super) expected: SeqNum,
    /// One past the highest number that the stack has sent.
    pub(super) seen: SeqNum,
    /// The last timestamp that the stack has sent.
    pub(super) stamp: u32,
    /// Right edge of the window that the stack offers.
    offered: SeqNum,
    /// The stack's shift count.
    scale: u8,
    /// The largest shift count that this peer ever stated.
    own_scale: u8,
    /// The furthest that the stack was ever allowed to send, counted from `iss`.
    allowed: u32,
    /// The number of the peer's last SYN.
    syn: SeqNum,
    /// Nothing but SYN-ACKs has come since that SYN.
    opening: bool,
    /// Before that SYN there was another one with another number, not answered by more than a
    /// SYN-ACK either: any of them may open the connection.
    rival: bool,
    /// No SYN-ACK for that was seen. A connection that then opens was opened by a lucky guess
    /// at the stack's number, and nothing is known of it.
    pub(super) guessing: bool,
    /// Acknowledgements that may still wait for their neighbour: one for each connection that the
    /// application has let go of.
    pub(super) may_wait: u32,
}

impl Peer {
    /// Whether it may be an acknowledgement that waited for its neighbour while others went straight
    /// back to the station. To let go of a connection may leave one such, without text or FIN; the
    /// answers of the record that the connection leaves overtake it, or of what comes after that.
    fn was_overtaken(&self, segment: &Segment<'_>, edge: SeqNum) -> bool {
        // The numbers of one connection: a SYN, what the application queues, a FIN.
        let of_another =
            self.iss.is_some_and(|iss| segment.seq.0.wrapping_sub(iss.0) > MAX_QUEUED as u32 + 2);
        let is_late = edge.before(self.offered) || segment.ack.before(self.expected);
        self.may_wait > 0
            && segment.sequence_len() == 0
            && !self.guessing
            && (of_another || is_late)
    }

    /// The peer sends a segment.
    pub(super) fn note_sent(&mut self, segment: &Segment<'_>) {
        if segment.flags.has(Flags::SYN) {
            let shift = segment.options.window_scale.unwrap_or(0);
            self.own_scale = self.own_scale.max(shift);
            self.rival = self.opening && (self.rival || self.syn != segment.seq);
            (self.syn, self.guessing, self.opening) = (segment.seq, true, true);
        } else if segment.flags.has(Flags::ACK)
            && self.stated.iter().any(|iss| *iss + 1 == segment.ack && self.iss != Some(*iss))
        {
            // The cookie of an earlier SYN opens a connection too, as long as it lasts.
            (self.rival, self.guessing) = (true, true);
        }
        let Some(iss) = self.iss else { return };
        // Only an acknowledgement of what was sent can be believed.
        let acked = segment.ack.0.wrapping_sub(iss.0);
        if segment.flags.has(Flags::ACK) && acked <= self.seen.0.wrapping_sub(iss.0) {
            let window = u32::from(segment.window) << self.own_scale;
            self.allowed = self.allowed.max(acked + window);
        }
    }

    /// The stack has sent a segment: checks its promises. `sent` is what the application has
    /// queued so far, if the connection is still its own.
    pub(super) fn check(&mut self, segment: &Segment<'_>, sent: Option<usize>) {
        if let Some(stamp) = segment.options.timestamp {
            self.stamp = stamp.value;
        }
        if segment.flags.has(Flags::RST) {
            return;
        }
        if segment.flags.has(Flags::SYN) {
            if self.iss != Some(segment.seq) || self.first != segment.ack {
                self.stated.push(segment.seq);
                self.iss = Some(segment.seq);
                self.first = segment.ack;
                self.expected = segment.ack;
                self.seen = segment.seq + 1;
                // The window field of a SYN is not scaled.
                self.offered = segment.ack + u32::from(segment.window);
                self.allowed = 1;
                // What came between the SYN and its answer was of the connection before.
                self.opening = true;
            }
            self.scale = segment.options.window_scale.unwrap_or(0);
            self.guessing = self.rival || segment.ack != self.syn + 1;
            return;
        }
        let edge = segment.ack + (u32::from(segment.window) << self.scale);
        if self.was_overtaken(segment, edge) {
            self.may_wait -= 1;
            return;
        }
        self.opening = false;
        if self.guessing {
            // Nor is it known at which number it began.
            self.iss = None;
            (self.expected, self.seen) = (segment.ack, segment.seq + segment.sequence_len());
            return;
        }
        let Some(iss) = self.iss else { panic!("a segment before any SYN-ACK") };

        assert!(!edge.before(self.offered), "the window's right edge moved left");
        assert!(!segment.ack.before(self.expected), "an acknowledgement was taken back");
        (self.offered, self.expected) = (edge, segment.ack);

        let start = segment.seq.0.wrapping_sub(iss.0);
        let octets = segment.payload.len() as u32;
        if octets > 0 {
            assert!(start + octets <= self.allowed, "data beyond the peer's window");
            for (index, octet) in segment.payload.iter().enumerate() {
                let offset = start as usize - 1 + index;
                assert_eq!(*octet, own_octet(offset), "octet {offset} is another one");
                assert!(sent.is_none_or(|sent| offset < sent), "more than was queued");
            }
        }
        self.seen = self.seen.latest(segment.seq + segment.sequence_len());
    }
}
