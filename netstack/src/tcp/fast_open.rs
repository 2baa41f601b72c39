//! TCP Fast Open (RFC 7413): data in the SYN of a client that was here before, proved by a cookie.
//!
//! Such a SYN makes a connection at once, and its half-open record stays beside it until the
//! handshake's ACK comes: it sends the SYN-ACK again, and counts among those that are pending.

use super::demux::{ConnId, FourTuple};
use super::listen::HalfOpen;
use super::{Env, Tcp};
use crate::entropy::Keys;
use crate::time::Instant;
use crate::wire::tcp::{FastOpen, Flags, Options, Segment};

const PURPOSE_FAST_OPEN: u8 = 4;
/// RFC 7413 4.1.2: cookies change with time. One is good in its period and in the next.
const PERIOD_SECONDS: u64 = 4 * 3600;
/// RFC 7413 5.1: connections by Fast Open that may wait for the handshake's ACK. Who sends
/// from invented addresses has no cookies; who stole some can make us work for no more than
/// these, and then opens connections as everybody does.
const MAX_PENDING: usize = 256;

/// RFC 7413 4.1.2: the cookie of an address, which is all that it proves.
fn cookie(keys: &Keys, tuple: &FourTuple, period: u64) -> [u8; 8] {
    // A four-tuple's octets begin with our own address and port; the peer's port is left out.
    let octets = tuple.octets();
    let octets = octets.as_ref();
    let mut input = [0; 48];
    let len = octets.len() - 2;
    input[..8].copy_from_slice(&period.to_le_bytes());
    input[8..8 + len].copy_from_slice(&octets[..len]);
    keys.prf(PURPOSE_FAST_OPEN, &input[..8 + len]).to_le_bytes()
}

fn period(now: Instant) -> u64 {
    now.as_millis() / 1000 / PERIOD_SECONDS
}

impl Tcp {
    /// What is to be done with a SYN's Fast Open option: whether it opens the connection now,
    /// and the cookie that its SYN-ACK gives out.
    pub(super) fn judge_fast_open(
        &self,
        tuple: &FourTuple,
        segment: &Segment<'_>,
        now: Instant,
    ) -> (bool, Option<FastOpen>) {
        if !self.config.fast_open {
            return (false, None);
        }
        let current = period(now);
        let fresh = cookie(&self.keys, tuple, current);
        match segment.options.fast_open {
            None => (false, None),
            Some(FastOpen::Cookie(theirs)) if theirs == fresh => {
                (self.may_fast_open(segment), None)
            }
            Some(FastOpen::Cookie(theirs))
                if current > 0 && theirs == cookie(&self.keys, tuple, current - 1) =>
            {
                // Still good, but not for long.
                (self.may_fast_open(segment), Some(FastOpen::Cookie(fresh)))
            }
            // RFC 7413 4.1.1: one that is not good is answered as a request for one.
            Some(_) => (false, Some(FastOpen::Cookie(fresh))),
        }
    }

    fn may_fast_open(&self, segment: &Segment<'_>) -> bool {
        !segment.payload.is_empty() && self.half_open.fast_open() < MAX_PENDING
    }

    /// Makes the connection of a SYN with a good cookie and gives it the SYN's data.
    pub(super) fn fast_open(
        &mut self,
        env: &mut Env<'_>,
        tuple: FourTuple,
        record: &HalfOpen,
        segment: &Segment<'_>,
    ) {
        env.stats.tcp_fast_open += 1;
        // As if the handshake were over and the data came behind it. The window of a SYN is not
        // scaled, but will be taken for one that is (RFC 7323 2.2).
        let shift = record.scaling.map_or(0, |(theirs, _)| theirs);
        let opening = Segment {
            seq: record.irs + 1,
            ack: record.iss + 1,
            flags: Flags::ACK,
            window: segment.window >> shift,
            options: Options { timestamp: segment.options.timestamp, ..Options::default() },
            ..*segment
        };
        self.establish(env, tuple, record, &opening);
    }

    /// A segment for a connection whose half-open record is still there.
    pub(super) fn on_fast_open(
        &mut self,
        env: &mut Env<'_>,
        id: ConnId,
        tuple: FourTuple,
        segment: &Segment<'_>,
    ) {
        let Some(record) = self.half_open.get(&tuple).copied() else { return };
        let flags = segment.flags;
        if flags.has(Flags::SYN) && !flags.has(Flags::ACK) && segment.seq == record.irs {
            // The SYN-ACK was lost, or is on its way.
            self.on_half_open(env, tuple, segment);
            return;
        }
        self.step(env, id, |connection, cx| connection.on_segment(cx, segment));
        let answered = flags.has(Flags::ACK)
            && !flags.has(Flags::SYN)
            && segment.ack.after(record.iss)
            && self.connections.get(id).is_some_and(|it| segment.ack.at_or_before(it.snd_nxt));
        if answered || self.find(&tuple) != Some(id) {
            self.half_open.remove(&tuple);
        }
    }
}
