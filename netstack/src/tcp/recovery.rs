//! Loss recovery: what is known of losses, and in which phase the sender is.
//!
//! ```text
//!                 RACK finds a loss                    all of it acknowledged
//!        Open --------------------------> Fast ------------------------------> Open
//!          |                                |
//!          | retransmission timeout         | retransmission timeout
//!          v                                v
//!        Timeout (F-RTO asks: was it?) <----+            the same, or it was spurious
//!          +-----------------------------------------------------------------> Open
//! ```
//!
//! [RACK](super::rack) decides what is lost, [PRR](super::prr) how a fast recovery spends its
//! window. Here is the rest: the tail loss probe (RFC 8985 section 7), F-RTO (RFC 5682),
//! the detection of what was sent again in vain (RFC 3522 by timestamps, RFC 3708 by D-SACK),
//! and NewReno (RFC 6582) for peers without selective acknowledgements.

use std::time::Duration;

use super::prr::Prr;
use super::rack::Rack;
use super::seq::SeqNum;
use crate::time::Instant;

/// RFC 5681 3.2: duplicates that mean a loss, where the peer has no SACK.
const DUP_ACK_THRESHOLD: u32 = 3;

#[derive(Debug)]
pub(crate) enum Phase {
    /// No loss is known.
    Open,
    /// Until `end` is acknowledged. Without `prr` the controller governs the window.
    Fast { end: SeqNum, prr: Option<Box<Prr>> },
    /// After a timeout, until `end` is acknowledged.
    Timeout { end: SeqNum, frto: Frto },
}

/// RFC 5682 3.1: the steps that tell a true timeout from a spurious one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frto {
    /// It was a true one, or cannot be told.
    Off,
    /// Step 1: the first segment was sent again.
    First,
    /// Step 2b: new data was sent, to see whether what comes back is for it.
    NewData,
}

/// What a recovery can be taken back by, while it lasts and for a while after: the last copy that
/// was sent in vain is reported a round trip after the original has ended it.
#[derive(Debug, Clone, Copy)]
struct Undo {
    /// What was sent again lies from here ...
    start: SeqNum,
    /// ... to here. A duplicate of anything else is not of its making.
    end: SeqNum,
    /// When something was first sent again in it.
    first_resent: Option<Instant>,
    /// Octets sent again less those that were reported to have arrived twice.
    vain: i64,
    /// When it was over.
    over: Option<Instant>,
}

/// How long after a recovery its copies may be reported: longer than any round trip, and not so long
/// that what is gone back to is of another path.
const UNDO_LIFETIME: Duration = Duration::from_secs(10);

/// A tail loss probe on its way (RFC 8985 7.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) end: SeqNum,
    /// So many octets of it were old data once more, and may have repaired a loss.
    pub(crate) resent: u32,
}

#[derive(Debug)]
pub(crate) struct Recovery {
    pub(crate) phase: Phase,
    pub(crate) rack: Rack,
    /// In a box: most connections lose nothing.
    undo: Option<Box<Undo>>,
    pub(crate) probe: Option<Probe>,
    /// Send a tail loss probe now.
    pub(crate) probe_due: bool,
    /// Send the first unacknowledged segment now, whatever the windows.
    pub(crate) resend_first: bool,
    /// Without SACK: octets that duplicate acknowledgements say to have arrived.
    pub(crate) duplicates: u32,
}

impl Recovery {
    pub(crate) fn new(start: SeqNum, now: Instant) -> Self {
        Self {
            phase: Phase::Open,
            rack: Rack::new(start, now),
            undo: None,
            probe: None,
            probe_due: false,
            resend_first: false,
            duplicates: 0,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    pub(crate) fn is_fast(&self) -> bool {
        matches!(self.phase, Phase::Fast { .. })
    }

    /// Only new data may leave: F-RTO wants to know what it brings.
    pub(crate) fn wants_new_data(&self) -> bool {
        matches!(self.phase, Phase::Timeout { frto: Frto::NewData, .. })
    }

    /// What may be in flight, if that is not what the controller says.
    pub(crate) fn window(&self) -> Option<u32> {
        match &self.phase {
            Phase::Fast { prr: Some(prr), .. } => Some(prr.window()),
            _ => None,
        }
    }

    /// What of the recovery that begins at `start` may come to be undone. The copy that a probe was
    /// counts among those that have to be reported.
    fn begin_undo(&mut self, start: SeqNum) {
        let resent = self.probe.map_or(0, |probe| probe.resent);
        let vain = i64::from(resent);
        let undo = Undo { start, end: start, first_resent: None, vain, over: None };
        self.undo = Some(Box::new(undo));
    }

    /// A loss was found. What is out lies from `start` to `end`.
    pub(crate) fn enter_fast(&mut self, start: SeqNum, end: SeqNum, prr: Option<Prr>) {
        self.phase = Phase::Fast { end, prr: prr.map(Box::new) };
        self.begin_undo(start);
        self.probe = None;
        self.probe_due = false;
    }

    /// The retransmission timer expired. Returns whether that is the same loss as one
    /// that the controller knows of.
    pub(crate) fn enter_timeout(&mut self, start: SeqNum, end: SeqNum) -> bool {
        let (known, frto) = match self.phase {
            Phase::Open => (false, Frto::First),
            // RFC 5682 2: not where a fast recovery sends again by itself.
            Phase::Fast { .. } => (true, Frto::Off),
            Phase::Timeout { .. } => (true, Frto::First),
        };
        if !known {
            self.begin_undo(start);
        }
        self.phase = Phase::Timeout { end, frto };
        self.probe = None;
        self.probe_due = false;
        self.duplicates = 0;
        self.resend_first = true;
        known
    }

    /// The phase is over. Where something was sent again that may prove to have been in vain, that
    /// is still waited for.
    pub(crate) fn reopen(&mut self, now: Instant) {
        self.phase = Phase::Open;
        self.duplicates = 0;
        match &mut self.undo {
            Some(undo) if undo.first_resent.is_some() => undo.over = Some(now),
            _ => self.undo = None,
        }
    }

    /// What was reduced stays so: it was taken back, or reduced once more for something else.
    pub(crate) fn settle(&mut self) {
        self.undo = None;
    }

    /// Whether a duplicate means something though nothing is out.
    pub(crate) fn awaits_duplicates(&self) -> bool {
        self.probe.is_some() || self.undo.is_some()
    }

    pub(crate) fn on_sent(&mut self, octets: u32) {
        if let Phase::Fast { prr: Some(prr), .. } = &mut self.phase {
            prr.on_sent(octets);
        }
    }

    /// `octets` from `seq` on leave again.
    pub(crate) fn on_resent(&mut self, seq: SeqNum, octets: u32, now: Instant) {
        if let Some(undo) = &mut self.undo {
            undo.first_resent.get_or_insert(now);
            undo.vain += i64::from(octets);
            undo.end = undo.end.latest(seq + octets);
        }
    }

    /// RFC 2883, RFC 3708: what lies from `start` to `end` arrived twice. Returns whether all did
    /// that was sent again in this recovery, or in the last one.
    pub(crate) fn on_duplicate(&mut self, start: SeqNum, end: SeqNum, now: Instant) -> bool {
        let Some(undo) = &mut self.undo else { return false };
        if undo.over.is_some_and(|over| now.since(over) > UNDO_LIFETIME) {
            self.undo = None;
            return false;
        }
        if start.before(undo.start) || end.after(undo.end) {
            return false;
        }
        undo.vain -= i64::from(end.octets_since(start));
        undo.first_resent.is_some() && undo.vain <= 0
    }

    /// Whether nothing was sent again in this phase yet.
    pub(crate) fn is_untouched(&self) -> bool {
        self.undo.as_ref().is_some_and(|undo| undo.first_resent.is_none())
    }

    /// RFC 3522: whether an acknowledgement of something that was sent again was caused by
    /// a segment that had left before that.
    pub(crate) fn is_answer_to_original(&self, sent_before: Option<Instant>) -> bool {
        match (self.undo.as_ref().and_then(|undo| undo.first_resent), sent_before) {
            (Some(resent), Some(before)) => before < resent,
            _ => false,
        }
    }

    /// A duplicate acknowledgement without SACK. Returns whether it makes the first segment
    /// lost. `next` is the end of what was sent.
    pub(crate) fn on_dup_ack(&mut self, mss: u32, next: SeqNum) -> bool {
        if let Phase::Timeout { end, .. } = self.phase {
            // RFC 6582 4: they are caused by what was sent again, unless new data was sent,
            // as F-RTO does; then they are for that.
            let new = next.octets_since(end);
            self.duplicates = self.duplicates.saturating_add(mss).min(new);
            return false;
        }
        self.duplicates = self.duplicates.saturating_add(mss);
        self.is_open() && self.duplicates >= DUP_ACK_THRESHOLD * mss
    }

    /// Without SACK: an acknowledgement of `octets` of new data accounts for duplicates, one
    /// for each segment but the first, which was the hole.
    pub(crate) fn forget_duplicates(&mut self, octets: u32, mss: u32) {
        self.duplicates = match self.phase {
            Phase::Open | Phase::Timeout { .. } => 0,
            Phase::Fast { .. } => self.duplicates.saturating_sub(octets.saturating_sub(mss)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn recovery() -> Recovery {
        Recovery::new(SeqNum(0), at(0))
    }

    #[test]
    fn without_sack_the_third_duplicate_is_a_loss_and_new_data_starts_the_count_again() {
        let mut recovery = recovery();
        assert!(!recovery.on_dup_ack(MSS, SeqNum(9000)));
        assert!(!recovery.on_dup_ack(MSS, SeqNum(9000)));
        recovery.forget_duplicates(1000, MSS);
        assert!(!recovery.on_dup_ack(MSS, SeqNum(9000)));
        assert!(!recovery.on_dup_ack(MSS, SeqNum(9000)));
        assert!(recovery.on_dup_ack(MSS, SeqNum(9000)));
        recovery.enter_fast(SeqNum(0), SeqNum(9000), None);
        assert!(!recovery.on_dup_ack(MSS, SeqNum(9000)));
        assert_eq!(recovery.duplicates, 4000);
        recovery.forget_duplicates(3000, MSS);
        assert_eq!(recovery.duplicates, 2000);
    }

    #[test]
    fn after_a_timeout_duplicates_mean_nothing_and_it_counts_once() {
        let mut recovery = recovery();
        assert!(!recovery.enter_timeout(SeqNum(0), SeqNum(9000)));
        assert!(recovery.enter_timeout(SeqNum(0), SeqNum(9000)));
        for _ in 0..5 {
            assert!(!recovery.on_dup_ack(MSS, SeqNum(9000)));
        }
        assert_eq!(recovery.duplicates, 0);
        assert!(!recovery.on_dup_ack(MSS, SeqNum(9500)));
        assert_eq!(recovery.duplicates, 500, "but for new data");
        recovery.reopen(at(1));
        recovery.enter_fast(SeqNum(0), SeqNum(9000), None);
        assert!(
            recovery.enter_timeout(SeqNum(0), SeqNum(9000)),
            "the controller knows of the loss"
        );
        assert!(!recovery.wants_new_data());
    }

    #[test]
    fn what_was_sent_again_in_vain_is_told_by_duplicates_or_by_the_clock() {
        let mut recovery = recovery();
        let twice = |recovery: &mut Recovery, start, now| {
            recovery.on_duplicate(SeqNum(start), SeqNum(start) + MSS, at(now))
        };
        assert!(!twice(&mut recovery, 0, 40), "nothing was sent again");
        recovery.enter_fast(SeqNum(1000), SeqNum(9000), None);
        recovery.on_resent(SeqNum(1000), MSS, at(50));
        recovery.on_resent(SeqNum(3000), MSS, at(60));
        assert!(!recovery.is_answer_to_original(None));
        assert!(!recovery.is_answer_to_original(Some(at(50))));
        assert!(recovery.is_answer_to_original(Some(at(49))));
        assert!(!twice(&mut recovery, 0, 70) && !twice(&mut recovery, 1000, 70));
        recovery.reopen(at(80));
        assert!(!twice(&mut recovery, 4000, 90), "it was sent once");
        let mut late = Recovery { undo: recovery.undo.clone(), ..self::recovery() };
        assert!(twice(&mut recovery, 3000, 10_080));
        assert!(!twice(&mut late, 3000, 10_081) && !late.awaits_duplicates());
    }
}
