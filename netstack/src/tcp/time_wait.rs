//! TIME-WAIT (RFC 9293 3.6.1) in small records, and FIN-WAIT-2 where nobody reads any more: what
//! is left to do there is to answer the peer's FIN.
//!
//! Beside the records stands the order in which they expire, one entry for each record:
//! a peer that sends its FIN again and again moves its entry and adds none.

use std::collections::{BTreeSet, HashMap};

use super::demux::FourTuple;
use super::input::OBJECTION_INTERVAL;
use super::seq::SeqNum;
use crate::config::TcpConfig;
use crate::entropy::Keys;
use crate::stats::Stats;
use crate::time::Instant;
use crate::wire::tcp::{Flags, Segment};

/// What must be known to answer for a connection that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeWait {
    pub(crate) snd_nxt: SeqNum,
    pub(crate) rcv_nxt: SeqNum,
    /// The window that was last offered, unscaled field.
    pub(crate) window: u16,
    /// The peer's last TSval and our clock's offset, where timestamps are in use.
    pub(crate) timestamps: Option<(u32, u32)>,
    /// The peer's FIN has not come yet: FIN-WAIT-2.
    pub(crate) fin_wait_2: bool,
    pub(crate) expires: Instant,
    /// When a segment that is held to a rate was last answered.
    pub(crate) objected: Instant,
}

/// What a segment for a TIME-WAIT record leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A new connection may begin (RFC 6191): handle the SYN as for a closed port, with an
    /// initial sequence number beyond `above`, the end of what the old one sent.
    Reopen { above: SeqNum },
    /// Send the record's ACK.
    Acknowledge,
    /// Send RST with these numbers, SEQ and ACK: data came that nobody will read.
    Reset(SeqNum, SeqNum),
    /// Nothing.
    Ignore,
    /// Nothing: the last answer to its like is not long ago.
    Limited,
    /// Nothing: a RST has ended the record.
    Over,
}

/// What becomes of a record by a segment.
enum Then {
    Keep,
    /// RFC 9293 3.10.7.4: the peer's FIN, first or again, (re)starts the 2 MSL timeout.
    Restart,
    Remove,
}

impl TimeWait {
    fn judge(&self, segment: &Segment<'_>) -> (Verdict, Then) {
        if segment.flags.has(Flags::RST) {
            // RFC 1337: a RST must not end TIME-WAIT early.
            return (Verdict::Ignore, Then::Keep);
        }
        if segment.flags.has(Flags::SYN) && !segment.flags.has(Flags::ACK) {
            // RFC 6191 2: a newer timestamp proves a new connection; with the same one, or where
            // one side has none, a sequence number beyond the old connection's does.
            let age = match (segment.options.timestamp, self.timestamps) {
                (Some(theirs), Some((recent, _))) => SeqNum(theirs.value) - SeqNum(recent),
                _ => 0,
            };
            if age > 0 || age == 0 && segment.seq.after(self.rcv_nxt) {
                return (Verdict::Reopen { above: self.snd_nxt }, Then::Remove);
            }
        }
        if segment.sequence_len() == 0 && segment.seq == self.rcv_nxt {
            // The last ACK once more: nothing to answer.
            return (Verdict::Ignore, Then::Keep);
        }
        let then = if segment.flags.has(Flags::FIN) { Then::Restart } else { Then::Keep };
        (Verdict::Acknowledge, then)
    }

    /// Whether an ACK may answer a segment. As in a live connection (RFC 5961 7, and Linux): what
    /// is sent again by a timer, the peer's FIN before all, is always answered; of what is not,
    /// and of SYNs, which can be forged from anywhere, one in an interval.
    fn may_answer(&mut self, segment: &Segment<'_>, now: Instant) -> bool {
        if segment.sequence_len() > 0 && !segment.flags.has(Flags::SYN) {
            return true;
        }
        let granted = now.since(self.objected) >= OBJECTION_INTERVAL;
        if granted {
            self.objected = now;
        }
        granted
    }

    /// RFC 9293 3.10.7.4 for FIN-WAIT-2. Our FIN is acknowledged, so whatever the peer has sent
    /// since acknowledges all of ours; what does not is old or forged.
    fn judge_in_fin_wait_2(&self, segment: &Segment<'_>) -> (Verdict, Then) {
        let Self { snd_nxt, rcv_nxt, .. } = *self;
        let flags = segment.flags;
        if flags.has(Flags::RST) {
            // RFC 5961 3.2: the exact number alone.
            if segment.seq == rcv_nxt {
                return (Verdict::Over, Then::Remove);
            }
            return (Verdict::Ignore, Then::Keep);
        }
        let current = flags.has(Flags::ACK) && !flags.has(Flags::SYN) && segment.ack == snd_nxt;
        let end = segment.seq + segment.payload.len() as u32;
        if current && end.after(rcv_nxt) && segment.seq.at_or_before(rcv_nxt) {
            // RFC 1122 4.2.2.13: the peer must not think that it was read.
            return (Verdict::Reset(snd_nxt, rcv_nxt), Then::Remove);
        }
        if current && flags.has(Flags::FIN) && end == rcv_nxt {
            return (Verdict::Acknowledge, Then::Restart);
        }
        if segment.sequence_len() == 0 && segment.seq == rcv_nxt {
            return (Verdict::Ignore, Then::Keep);
        }
        (Verdict::Acknowledge, Then::Keep)
    }
}

#[derive(Debug)]
pub(crate) struct TimeWaitTable {
    records: HashMap<FourTuple, TimeWait, Keys>,
    /// Soonest first.
    queue: BTreeSet<(Instant, FourTuple)>,
}

impl TimeWaitTable {
    pub(crate) fn new(keys: Keys) -> Self {
        Self { records: HashMap::with_hasher(keys), queue: BTreeSet::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn get(&self, tuple: &FourTuple) -> Option<&TimeWait> {
        self.records.get(tuple)
    }

    pub(crate) fn insert(
        &mut self,
        tuple: FourTuple,
        record: TimeWait,
        config: &TcpConfig,
        stats: &mut Stats,
    ) {
        if self.records.len() >= config.max_time_wait && self.give_up_oldest() {
            stats.tcp_time_wait_overflow += 1;
        }
        self.queue.insert((record.expires, tuple));
        self.records.insert(tuple, record);
    }

    /// What a segment leads to, if there is a record of its ends.
    pub(crate) fn on_segment(
        &mut self,
        tuple: &FourTuple,
        segment: &Segment<'_>,
        now: Instant,
        config: &TcpConfig,
    ) -> Option<Verdict> {
        // Nearly every segment is for a live connection or a new one, and mostly nothing
        // waits here: then the hash is saved.
        if self.records.is_empty() {
            return None;
        }
        let record = self.records.get_mut(tuple)?;
        let (verdict, then) = if record.fin_wait_2 {
            record.judge_in_fin_wait_2(segment)
        } else {
            record.judge(segment)
        };
        match then {
            Then::Keep => {}
            Then::Restart => {
                self.queue.remove(&(record.expires, *tuple));
                record.rcv_nxt += u32::from(std::mem::take(&mut record.fin_wait_2));
                record.expires = now + config.time_wait;
                self.queue.insert((record.expires, *tuple));
            }
            Then::Remove => {
                self.remove(tuple);
                return Some(verdict);
            }
        }
        if verdict == Verdict::Acknowledge && !record.may_answer(segment, now) {
            return Some(Verdict::Limited);
        }
        Some(verdict)
    }

    /// Gives up the record that expires next; false if there is none.
    pub(crate) fn give_up_oldest(&mut self) -> bool {
        let Some((_, oldest)) = self.queue.pop_first() else { return false };
        self.records.remove(&oldest);
        true
    }

    fn remove(&mut self, tuple: &FourTuple) {
        if let Some(record) = self.records.remove(tuple) {
            self.queue.remove(&(record.expires, *tuple));
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.queue.first().map(|(expires, _)| *expires)
    }

    pub(crate) fn expire(&mut self, now: Instant) {
        while self.queue.first().is_some_and(|(expires, _)| *expires <= now) {
            if let Some((_, tuple)) = self.queue.pop_first() {
                self.records.remove(&tuple);
            }
        }
        if self.records.is_empty() {
            self.records.shrink_to_fit();
        }
    }
}
