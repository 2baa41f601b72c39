//! Loss recovery: fast retransmit and fast recovery, NewReno (RFC 5681 3.2, RFC 6582).
//!
//! SACK-based recovery (RFC 6675) and RACK-TLP (RFC 8985) will take this file's place in
//! deciding what is lost; the congestion controller stays behind its trait.

use super::seq::SeqNum;

/// RFC 5681 3.2: duplicates that mean a loss.
const DUP_ACK_THRESHOLD: u8 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Until `recover` is acknowledged, each duplicate inflates the window by one MSS: it
    /// says that a segment has left the network.
    Fast {
        recover: SeqNum,
        inflation: u32,
    },
    /// After a timeout everything unacknowledged is sent again in order; duplicates that
    /// this causes up to `recover` mean nothing (RFC 6582 3.2 step 1).
    Timeout {
        recover: SeqNum,
    },
}

/// What a duplicate acknowledgement leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DupAck {
    /// Wait for more of them.
    Wait,
    /// A loss: tell the congestion controller and send the first unacknowledged segment.
    Enter,
    /// In recovery: the window has grown by one MSS.
    Inflate,
}

/// What an acknowledgement of new data means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// No recovery is under way: the congestion window may grow.
    Normal,
    /// RFC 6582 3.2 step 3, partial: the next hole begins where it ends; fill it at once.
    Partial,
    /// Full acknowledgement: recovery is over.
    Done,
}

#[derive(Debug)]
pub(crate) struct Recovery {
    phase: Phase,
    dup_acks: u8,
    /// SND.UNA at the last timeout.
    timed_out_at: Option<SeqNum>,
}

impl Recovery {
    pub(crate) fn new() -> Self {
        Self { phase: Phase::Open, dup_acks: 0, timed_out_at: None }
    }

    /// Octets by which the congestion window is inflated at this time.
    pub(crate) fn inflation(&self) -> u32 {
        match self.phase {
            Phase::Fast { inflation, .. } => inflation,
            _ => 0,
        }
    }

    /// `snd_max` is the highest sequence number sent.
    pub(crate) fn on_dup_ack(&mut self, snd_max: SeqNum, mss: u32) -> DupAck {
        match &mut self.phase {
            Phase::Open => {
                self.dup_acks += 1;
                if self.dup_acks < DUP_ACK_THRESHOLD {
                    return DupAck::Wait;
                }
                self.dup_acks = 0;
                let inflation = u32::from(DUP_ACK_THRESHOLD) * mss;
                self.phase = Phase::Fast { recover: snd_max, inflation };
                DupAck::Enter
            }
            Phase::Fast { inflation, .. } => {
                *inflation = inflation.saturating_add(mss);
                DupAck::Inflate
            }
            Phase::Timeout { .. } => DupAck::Wait,
        }
    }

    /// `octets` were newly acknowledged, up to `ack`.
    pub(crate) fn on_new_ack(&mut self, ack: SeqNum, octets: u32, mss: u32) -> Progress {
        self.dup_acks = 0;
        self.timed_out_at = None;
        match &mut self.phase {
            Phase::Open => Progress::Normal,
            Phase::Fast { recover, inflation } => {
                if ack.at_or_after(*recover) {
                    self.phase = Phase::Open;
                    Progress::Done
                } else {
                    // RFC 6582 3.2 step 3: deflate by what was acknowledged, and add back one MSS.
                    *inflation = inflation.saturating_sub(octets);
                    if octets >= mss {
                        *inflation = inflation.saturating_add(mss);
                    }
                    Progress::Partial
                }
            }
            Phase::Timeout { recover } => {
                if ack.at_or_after(*recover) {
                    self.phase = Phase::Open;
                }
                Progress::Normal
            }
        }
    }

    /// The retransmission timer expired; everything from `snd_una` up to `snd_max` will be
    /// sent again. Returns whether the same data had timed out before.
    pub(crate) fn on_timeout(&mut self, snd_una: SeqNum, snd_max: SeqNum) -> bool {
        self.dup_acks = 0;
        self.phase = Phase::Timeout { recover: snd_max };
        self.timed_out_at.replace(snd_una) == Some(snd_una)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    #[test]
    fn three_duplicates_enter_and_partial_acks_keep_it_until_all_is_acknowledged() {
        let mut recovery = Recovery::new();
        assert_eq!(recovery.on_dup_ack(SeqNum(9000), MSS), DupAck::Wait);
        assert_eq!(recovery.on_dup_ack(SeqNum(9000), MSS), DupAck::Wait);
        assert_eq!(recovery.on_dup_ack(SeqNum(9000), MSS), DupAck::Enter);
        assert_eq!(recovery.inflation(), 3000);
        assert_eq!(recovery.on_dup_ack(SeqNum(9000), MSS), DupAck::Inflate);
        assert_eq!(recovery.inflation(), 4000);
        assert_eq!(recovery.on_new_ack(SeqNum(5000), 2000, MSS), Progress::Partial);
        assert_eq!(recovery.inflation(), 3000);
        assert_eq!(recovery.on_new_ack(SeqNum(9000), 4000, MSS), Progress::Done);
        assert_eq!(recovery.inflation(), 0);
    }

    #[test]
    fn new_data_acknowledged_between_duplicates_starts_the_count_again() {
        let mut recovery = Recovery::new();
        recovery.on_dup_ack(SeqNum(9000), MSS);
        recovery.on_dup_ack(SeqNum(9000), MSS);
        assert_eq!(recovery.on_new_ack(SeqNum(1000), 1000, MSS), Progress::Normal);
        assert_eq!(recovery.on_dup_ack(SeqNum(9000), MSS), DupAck::Wait);
    }

    #[test]
    fn after_a_timeout_duplicates_mean_nothing_until_all_was_acknowledged() {
        let mut recovery = Recovery::new();
        assert!(!recovery.on_timeout(SeqNum(4000), SeqNum(9000)));
        assert!(recovery.on_timeout(SeqNum(4000), SeqNum(9000)));
        for _ in 0..5 {
            assert_eq!(recovery.on_dup_ack(SeqNum(9000), MSS), DupAck::Wait);
        }
        assert_eq!(recovery.on_new_ack(SeqNum(9000), 5000, MSS), Progress::Normal);
        recovery.on_dup_ack(SeqNum(9500), MSS);
        recovery.on_dup_ack(SeqNum(9500), MSS);
        assert_eq!(recovery.on_dup_ack(SeqNum(9500), MSS), DupAck::Enter);
    }
}
