//! What is on its way: one record for each piece that was sent in one frame.
//!
//! ```text
//!   SND.UNA                                                       SND.NXT
//!      | InFlight | Sacked     | Lost | InFlight (again) | InFlight  |
//!      [ record 0 ][ record 1  ][ 2   ][ record 3        ][ 4        ]
//! ```
//!
//! Records lie without gaps between SND.UNA and SND.NXT in the order of their numbers, so a
//! record needs only its end. One that a selective acknowledgement covers in part is split,
//! at a segment's border and no finer: a peer that acknowledges single octets (the attack
//! behind CVE-2019-11478) gains no more records than there are segments. Neighbours that were
//! selectively acknowledged become one record, as nothing is asked of them any more.

use std::collections::VecDeque;

use super::seq::SeqNum;
use crate::time::Instant;

/// Records of one connection. A frame takes one until a selective acknowledgement splits it;
/// with so many no further frame leaves, and none is split: losses are then found coarser, and
/// repaired. A peer that takes tiny segments only could else make each of its acknowledgements
/// walk over, and move, as many as a whole queue gives.
const MAX_RECORDS: usize = 8192;

/// What is remembered of the moment in which something left, for the rate of delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Departure {
    /// When it left.
    pub(crate) at: Instant,
    /// Octets delivered by then.
    pub(crate) delivered: u64,
    /// When the last of those was found delivered.
    pub(crate) delivered_at: Instant,
    /// When the first of the flight left that it belongs to.
    pub(crate) first_at: Instant,
    /// Octets found lost by then.
    pub(crate) lost: u64,
    /// Octets in flight, its own included.
    pub(crate) in_flight: u32,
    /// There was nothing more to send.
    pub(crate) app_limited: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// On its way, as far as known; the first time or again.
    InFlight,
    /// Found lost and not sent again yet.
    Lost,
    /// Arrived, by a selective acknowledgement.
    Sacked,
}

/// A piece of the sequence space that left in one frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// One past its last number.
    pub(crate) end: SeqNum,
    pub(crate) status: Status,
    /// Sent more than once.
    pub(crate) retransmitted: bool,
    pub(crate) departure: Departure,
}

/// A record or a part of it, by what was learnt of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) octets: u32,
    pub(crate) end: SeqNum,
    pub(crate) retransmitted: bool,
    /// It had been taken for lost, and was not sent again yet.
    pub(crate) lost: bool,
    pub(crate) departure: Departure,
}

#[derive(Debug)]
pub(crate) struct SentQueue {
    records: VecDeque<Sent>,
    /// Where the first record begins: SND.UNA.
    start: SeqNum,
    in_flight: u32,
    sacked: u32,
    lost: u32,
    /// Records in flight that were sent more than once: while there is none, the order of the
    /// records is that of their departures.
    resent: u32,
    /// No record before this number is lost.
    lost_hint: SeqNum,
}

impl SentQueue {
    pub(crate) fn new(start: SeqNum) -> Self {
        Self {
            records: VecDeque::new(),
            start,
            in_flight: 0,
            sacked: 0,
            lost: 0,
            resent: 0,
            lost_hint: start,
        }
    }

    /// Octets on their way: neither arrived nor lost, as far as known.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Whether something is lost, or was and is on its way again.
    pub(crate) fn is_repairing(&self) -> bool {
        self.lost > 0 || self.resent > 0
    }

    /// Octets selectively acknowledged.
    pub(crate) fn sacked(&self) -> u32 {
        self.sacked
    }

    /// Octets found lost and not sent again.
    pub(crate) fn lost(&self) -> u32 {
        self.lost
    }

    /// Sent for the first time, behind everything before it.
    pub(crate) fn push(&mut self, octets: u32, departure: Departure) {
        let end = self.end() + octets;
        self.in_flight += octets;
        self.records.push_back(Sent {
            end,
            status: Status::InFlight,
            retransmitted: false,
            departure,
        });
    }

    /// Whether there are as many records as there may be.
    pub(crate) fn is_full(&self) -> bool {
        self.records.len() >= MAX_RECORDS
    }

    /// Octets that the records take.
    pub(crate) fn overhead(&self) -> usize {
        self.records.capacity() * size_of::<Sent>()
    }

    /// SND.NXT.
    pub(crate) fn end(&self) -> SeqNum {
        self.records.back().map_or(self.start, |last| last.end)
    }

    fn start_of(&self, index: usize) -> SeqNum {
        match index.checked_sub(1) {
            Some(before) => self.records[before].end,
            None => self.start,
        }
    }

    fn octets_of(&self, index: usize) -> u32 {
        self.records[index].end.octets_since(self.start_of(index))
    }

    /// The index of the record that holds `seq`; the count of records if none does.
    fn find(&self, seq: SeqNum) -> usize {
        self.records.partition_point(|record| record.end.at_or_before(seq))
    }

    /// Everything before `ack` has arrived; `delivered` is given what was not known to have.
    pub(crate) fn acknowledge(&mut self, ack: SeqNum, mut delivered: impl FnMut(Piece)) {
        while let Some(&first) = self.records.front() {
            let partial = first.end.after(ack);
            let end = if partial { ack } else { first.end };
            let octets = end.octets_since(self.start);
            if octets == 0 {
                break;
            }
            self.uncount(first.status, octets);
            if first.status != Status::Sacked {
                let Sent { retransmitted, departure, .. } = first;
                let lost = first.status == Status::Lost;
                delivered(Piece { octets, end, retransmitted, lost, departure });
            }
            self.start = end;
            if partial {
                break;
            }
            if first.retransmitted && first.status == Status::InFlight {
                self.resent -= 1;
            }
            self.records.pop_front();
        }
        self.lost_hint = self.lost_hint.latest(self.start);
        if self.records.is_empty() && self.records.capacity() > 0 {
            // An idle connection keeps no memory of its busiest moment.
            self.records = VecDeque::new();
        }
    }

    fn uncount(&mut self, status: Status, octets: u32) {
        match status {
            Status::InFlight => self.in_flight -= octets,
            Status::Lost => self.lost -= octets,
            Status::Sacked => self.sacked -= octets,
        }
    }

    fn set_status(&mut self, index: usize, status: Status) {
        let octets = self.octets_of(index);
        let before = self.records[index];
        self.uncount(before.status, octets);
        match status {
            Status::InFlight => self.in_flight += octets,
            Status::Lost => self.lost += octets,
            Status::Sacked => self.sacked += octets,
        }
        if before.retransmitted {
            match (before.status, status) {
                (Status::InFlight, Status::InFlight) => {}
                (Status::InFlight, _) => self.resent -= 1,
                (_, Status::InFlight) => self.resent += 1,
                _ => {}
            }
        }
        self.records[index].status = status;
    }

    /// Splits a record so that a new one begins `octets` into it. False if there are too
    /// many records.
    fn split(&mut self, index: usize, octets: u32) -> bool {
        if self.is_full() {
            return false;
        }
        let second = self.records[index];
        let end = self.start_of(index) + octets;
        self.records[index].end = end;
        if second.retransmitted && second.status == Status::InFlight {
            self.resent += 1;
        }
        self.records.insert(index + 1, second);
        true
    }

    /// A selective acknowledgement of `start` up to `end` (RFC 2018 3). Both lie within what
    /// is out; segments have `mss` octets.
    pub(crate) fn sack(
        &mut self,
        start: SeqNum,
        end: SeqNum,
        mss: u32,
        mut delivered: impl FnMut(Piece),
    ) {
        let mut index = self.find(start);
        while index < self.records.len() {
            let from = self.start_of(index);
            if !from.before(end) {
                break;
            }
            if self.records[index].status == Status::Sacked {
                index += 1;
                continue;
            }
            // The block's part of this record, from border to border of its segments: what
            // is covered in part is not counted as arrived.
            let skip = start.octets_since(from).next_multiple_of(mss);
            let octets = self.octets_of(index);
            let reach = end.octets_since(from);
            let reach = if reach >= octets { octets } else { reach - reach % mss };
            if skip >= reach {
                index += 1;
                continue;
            }
            if skip > 0 {
                if !self.split(index, skip) {
                    return;
                }
                index += 1;
            }
            if reach < octets && !self.split(index, reach - skip) {
                return;
            }
            let record = self.records[index];
            self.set_status(index, Status::Sacked);
            delivered(Piece {
                octets: reach - skip,
                end: record.end,
                retransmitted: record.retransmitted,
                lost: record.status == Status::Lost,
                departure: record.departure,
            });
            index = self.merge_sacked(index) + 1;
        }
    }

    /// Joins a selectively acknowledged record with such neighbours; returns where it is then.
    fn merge_sacked(&mut self, mut index: usize) -> usize {
        let sacked = |record: Option<&Sent>| record.is_some_and(|r| r.status == Status::Sacked);
        if sacked(self.records.get(index + 1)) {
            self.records.remove(index);
        }
        if index > 0 && sacked(self.records.get(index - 1)) {
            self.records.remove(index - 1);
            index -= 1;
        }
        index
    }

    /// Whether the first thing that is out was selectively acknowledged: then the receiver
    /// would have acknowledged it, had it not thrown it away (RFC 2018 8).
    pub(crate) fn is_reneged(&self) -> bool {
        self.records.front().is_some_and(|first| first.status == Status::Sacked)
    }

    /// Forgets all selective acknowledgements: the receiver has thrown away what they covered.
    pub(crate) fn forget_sacks(&mut self) {
        for index in 0..self.records.len() {
            if self.records[index].status == Status::Sacked {
                self.set_status(index, Status::Lost);
            }
        }
        self.lost_hint = self.start;
    }

    /// Finds what is lost among what is in flight: `judge` says so of each record, and
    /// `found` is given those. Ends early where `judge` says that none that left later can be.
    pub(crate) fn detect(
        &mut self,
        mut judge: impl FnMut(&Sent) -> Fate,
        mut found: impl FnMut(Piece),
    ) {
        for index in 0..self.records.len() {
            let record = self.records[index];
            if record.status != Status::InFlight {
                continue;
            }
            match judge(&record) {
                Fate::Lost => {
                    let start = self.start_of(index);
                    let octets = self.octets_of(index);
                    if self.lost == 0 || start.before(self.lost_hint) {
                        self.lost_hint = start;
                    }
                    self.set_status(index, Status::Lost);
                    let Sent { end, retransmitted, departure, .. } = record;
                    found(Piece { octets, end, retransmitted, lost: true, departure });
                }
                Fate::Wait => {}
                Fate::TooYoung => {
                    if self.resent == 0 && !record.retransmitted {
                        return;
                    }
                }
            }
        }
    }

    /// The first segment is lost: how a peer without selective acknowledgements tells.
    pub(crate) fn lose_first(&mut self, mss: u32, mut found: impl FnMut(Piece)) {
        let Some(&first) = self.records.front() else { return };
        if first.status != Status::InFlight {
            return;
        }
        if self.octets_of(0) > mss && !self.split(0, mss) {
            return;
        }
        let octets = self.octets_of(0);
        self.set_status(0, Status::Lost);
        self.lost_hint = self.start;
        let Sent { end, retransmitted, departure, .. } = self.records[0];
        found(Piece { octets, end, retransmitted, lost: true, departure });
    }

    /// The first lost piece: where it begins, its octets.
    pub(crate) fn first_lost(&mut self) -> Option<(SeqNum, u32)> {
        if self.lost == 0 {
            return None;
        }
        let from = self.find(self.lost_hint);
        let index =
            (from..self.records.len()).find(|index| self.records[*index].status == Status::Lost)?;
        self.lost_hint = self.start_of(index);
        Some((self.lost_hint, self.octets_of(index)))
    }

    /// The last segment of what was sent, if it is still in flight or lost. `fin`: its last
    /// number is a FIN, which goes with the text before it.
    pub(crate) fn tail(&self, mss: u32, fin: bool) -> Option<(SeqNum, u32)> {
        let index = self.records.len().checked_sub(1)?;
        if self.records[index].status == Status::Sacked {
            return None;
        }
        let octets = self.octets_of(index);
        let fin = u32::from(fin);
        let text = octets - fin;
        let cut = fin + if text == 0 { 0 } else { (text - 1) % mss + 1 };
        Some((SeqNum(self.records[index].end.0.wrapping_sub(cut)), cut))
    }

    /// `octets` from `seq` on have left again: of one record, or of several small ones in a segment.
    ///
    /// A record that cannot be split counts as sent again in whole. Were it still lost, it would be
    /// what is sent next, without end; so the rest of it is found lost once more.
    pub(crate) fn resend(&mut self, seq: SeqNum, octets: u32, departure: Departure) {
        let end = seq + octets;
        let mut index = self.find(seq);
        if index >= self.records.len() {
            return;
        }
        let skip = seq.octets_since(self.start_of(index));
        if skip > 0 && self.split(index, skip) {
            index += 1;
        }
        while index < self.records.len() {
            let from = self.start_of(index);
            if !from.before(end) {
                break;
            }
            if self.records[index].status != Status::Sacked {
                let left = end.octets_since(from);
                if left < self.octets_of(index) {
                    self.split(index, left);
                }
                self.set_status(index, Status::InFlight);
                let record = &mut self.records[index];
                if !record.retransmitted {
                    record.retransmitted = true;
                    self.resent += 1;
                }
                record.departure = departure;
            }
            index += 1;
        }
    }

    /// Nothing that was taken for lost is: all of it is on its way as before.
    pub(crate) fn unlose(&mut self) {
        if self.lost == 0 {
            return;
        }
        for index in 0..self.records.len() {
            if self.records[index].status == Status::Lost {
                self.set_status(index, Status::InFlight);
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.end());
    }
}

/// What is said of a record in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Lost,
    /// Not yet to be told.
    Wait,
    /// It left so late that it cannot be told, nor can any that left after it.
    TooYoung,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MSS: u32 = 100;

    fn departure(at: u64) -> Departure {
        let at = Instant::from_millis(at);
        Departure {
            at,
            delivered: 0,
            delivered_at: at,
            first_at: at,
            lost: 0,
            in_flight: 0,
            app_limited: false,
        }
    }

    fn octets(queue: &SentQueue) -> (u32, u32, u32) {
        (queue.in_flight(), queue.sacked(), queue.lost())
    }

    #[test]
    fn a_block_splits_a_record_at_the_borders_of_its_segments_and_neighbours_join() {
        let mut queue = SentQueue::new(SeqNum(0));
        queue.push(1000, departure(0));
        let mut got = Vec::new();
        queue.sack(SeqNum(250), SeqNum(500), MSS, |piece| got.push((piece.octets, piece.end.0)));
        assert_eq!(got, [(200, 500)]);
        assert_eq!(octets(&queue), (800, 200, 0));
        assert_eq!(queue.records.len(), 3);
        queue.sack(SeqNum(500), SeqNum(1000), MSS, |_| {});
        assert_eq!((octets(&queue), queue.records.len()), ((300, 700, 0), 2));
        queue.acknowledge(SeqNum(300), |piece| got.push((piece.octets, piece.end.0)));
        assert_eq!(got, [(200, 500), (300, 300)]);
        assert!(queue.is_reneged());
        queue.acknowledge(SeqNum(1000), |_| panic!("it was known to have arrived"));
        assert_eq!((octets(&queue), queue.records.len()), ((0, 0, 0), 0));
    }

    #[test]
    fn a_block_of_less_than_a_segment_changes_nothing() {
        let mut queue = SentQueue::new(SeqNum(0));
        queue.push(1000, departure(0));
        queue.sack(SeqNum(101), SeqNum(199), MSS, |_| panic!("no segment is covered"));
        assert_eq!(queue.records.len(), 1);
        // But the last segment, which may be short, has its end for a border.
        queue.push(50, departure(0));
        queue.sack(SeqNum(1000), SeqNum(1050), MSS, |_| {});
        assert_eq!(octets(&queue), (1000, 50, 0));
    }

    #[test]
    fn what_is_lost_is_sent_again_piece_by_piece_and_can_be_lost_again() {
        let mut queue = SentQueue::new(SeqNum(u32::MAX - 99));
        queue.push(500, departure(0));
        queue.push(100, departure(1));
        let old = |record: &Sent| {
            if record.departure.at == Instant::from_millis(0) { Fate::Lost } else { Fate::Wait }
        };
        queue.detect(old, |_| {});
        assert_eq!(octets(&queue), (100, 0, 500));
        assert_eq!(queue.first_lost(), Some((SeqNum(u32::MAX - 99), 500)));
        queue.resend(SeqNum(u32::MAX - 99), 200, departure(5));
        assert_eq!(octets(&queue), (300, 0, 300));
        assert_eq!(queue.first_lost(), Some((SeqNum(100), 300)));
        queue.unlose();
        assert_eq!(octets(&queue), (600, 0, 0));
        queue.detect(|_| Fate::Lost, |_| {});
        assert_eq!(octets(&queue), (0, 0, 600));
        assert_eq!(queue.first_lost(), Some((SeqNum(u32::MAX - 99), 200)));
    }

    #[test]
    fn the_tail_is_the_last_segment() {
        let mut queue = SentQueue::new(SeqNum(0));
        assert_eq!(queue.tail(MSS, false), None);
        queue.push(250, departure(0));
        assert_eq!(queue.tail(MSS, false), Some((SeqNum(200), 50)));
        queue.push(300, departure(0));
        assert_eq!(queue.tail(MSS, false), Some((SeqNum(450), 100)));
        queue.push(201, departure(0));
        assert_eq!(queue.tail(MSS, true), Some((SeqNum(650), 101)));
        queue.push(1, departure(0));
        assert_eq!(queue.tail(MSS, true), Some((SeqNum(751), 1)));
        queue.sack(SeqNum(751), SeqNum(752), MSS, |_| {});
        assert_eq!(queue.tail(MSS, true), None);
    }

    proptest! {
        /// The counts are what the records say, whatever happens in whatever order, and the
        /// records stay few.
        #[test]
        fn counts_and_records_agree(
            base: u32,
            steps in proptest::collection::vec((0u8..8, 0u32..3000, 0u32..1500), 1..80),
        ) {
            let mut queue = SentQueue::new(SeqNum(base));
            let mut delivered = 0;
            let mut sent = 0;
            for (time, (what, a, b)) in steps.into_iter().enumerate() {
                let out = queue.end().octets_since(queue.start);
                match what {
                    0..=2 => {
                        let octets = b + 1;
                        sent += u64::from(octets);
                        queue.push(octets, departure(time as u64));
                    }
                    3 => {
                        let ack = queue.start + a.min(out);
                        queue.acknowledge(ack, |piece| delivered += u64::from(piece.octets));
                    }
                    4 => {
                        let start = queue.start + a.min(out);
                        let end = queue.start + (a + b).min(out);
                        queue.sack(start, end, MSS, |piece| delivered += u64::from(piece.octets));
                    }
                    5 => queue.detect(
                        |record| if record.end.0 % 3 == 0 { Fate::Lost } else { Fate::Wait },
                        |_| {},
                    ),
                    6 => {
                        if let Some((seq, octets)) = queue.first_lost() {
                            queue.resend(seq, octets.min(b + 1), departure(time as u64));
                        }
                    }
                    _ => queue.lose_first(MSS, |_| {}),
                }
                let mut counted = [0u32; 3];
                let mut resent = 0;
                for index in 0..queue.records.len() {
                    let record = queue.records[index];
                    prop_assert!(queue.octets_of(index) > 0);
                    counted[record.status as usize] += queue.octets_of(index);
                    resent += u32::from(record.retransmitted && record.status == Status::InFlight);
                }
                prop_assert_eq!(counted, [queue.in_flight, queue.lost, queue.sacked]);
                prop_assert_eq!(resent, queue.resent);
                prop_assert_eq!(
                    sent,
                    delivered + u64::from(queue.in_flight) + u64::from(queue.lost)
                );
            }
        }
    }
}
