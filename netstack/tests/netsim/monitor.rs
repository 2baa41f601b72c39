//! Watches what a stack sends beside what has reached it, and stops the run at what no sender
//! and no receiver may ever do.

use std::collections::BTreeMap;

use crate::segment::{ACK, Ends, FIN, RST, SYN, Segment};

/// RFC 6928 2.
const INITIAL_SEGMENTS: u64 = 10;

/// One end of a connection. Offsets count from the SYN that was sent or received.
#[derive(Debug, Default)]
struct End {
    iss: u32,
    irs: u32,
    /// Of the windows it gets, and of those it gives.
    peer_scale: u8,
    scale: u8,
    mss: u64,

    /// All before it was acknowledged.
    una: u64,
    /// One past the highest that it sent.
    max: u64,
    /// Right edge of the window that it was given.
    edge: u64,
    /// What it was told to have arrived beyond `una`, since the last timeout: after one, a
    /// sender may doubt it (RFC 2018 8).
    sacked: BTreeMap<u64, u64>,
    timeouts: u64,

    /// Segments without data that have reached it: the first ends the handshake.
    acks: u64,
    /// The newest timestamp that has reached it.
    newest: Option<u32>,
    /// One past the highest that has reached it.
    reached: u64,
    acked: u64,
    /// Right edge of the window that it gave.
    given: u64,

    sent: Sent,
}

/// Data that stacks sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) segments: u64,
    /// Octets for the first time.
    pub(crate) new: u64,
    pub(crate) again: u64,
}

/// All ends that are stacks, by the ends of what they send.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    ends: BTreeMap<Ends, End>,
    /// SYNs that have reached a stack.
    syns: BTreeMap<Ends, Segment>,
}

impl Monitor {
    /// A segment reaches a stack whole.
    pub(crate) fn arrived(&mut self, segment: &Segment) {
        if segment.has(SYN) {
            self.syns.insert(segment.ends, segment.clone());
            return;
        }
        if let Some(end) = self.ends.get_mut(&segment.ends.reversed()) {
            end.arrived(segment);
        }
    }

    /// A segment leaves a stack that has seen so many timeouts.
    pub(crate) fn left(&mut self, segment: &Segment, timeouts: u64) {
        if segment.has(SYN) {
            if let Some(syn) = self.syns.get(&segment.ends.reversed()) {
                self.ends.entry(segment.ends).or_insert_with(|| End::new(syn, segment));
            }
            return;
        }
        if let Some(end) = self.ends.get_mut(&segment.ends) {
            end.left(segment, timeouts);
        }
    }

    pub(crate) fn sent(&self) -> Sent {
        self.ends.values().fold(Sent::default(), |all, end| Sent {
            segments: all.segments + end.sent.segments,
            new: all.new + end.sent.new,
            again: all.again + end.sent.again,
        })
    }
}

/// The offset that `seq` stands for, near `around`.
fn offset(base: u32, seq: u32, around: u64) -> u64 {
    let near = base.wrapping_add(around as u32);
    let distance = i64::from(seq.wrapping_sub(near) as i32);
    (around as i64 + distance).max(0) as u64
}

impl End {
    fn new(syn: &Segment, syn_ack: &Segment) -> Self {
        let scaled = syn.scale.is_some() && syn_ack.scale.is_some();
        let scale = |segment: &Segment| if scaled { segment.scale.unwrap_or(0) } else { 0 };
        let options = if syn.timestamp.is_some() { 12 } else { 0 };
        let mss = syn.mss.unwrap_or(536).min(syn_ack.mss.unwrap_or(536));
        Self {
            iss: syn_ack.seq,
            irs: syn.seq,
            peer_scale: scale(syn),
            scale: scale(syn_ack),
            mss: u64::from(mss) - options,
            una: 1,
            max: 1,
            edge: 1 + u64::from(syn.window),
            reached: 1,
            acked: 1,
            given: 1 + u64::from(syn_ack.window),
            ..Self::default()
        }
    }

    fn arrived(&mut self, segment: &Segment) {
        let seq = offset(self.irs, segment.seq, self.reached);
        let end = seq + segment.len as u64 + u64::from(segment.has(FIN));
        self.reached = self.reached.max(end);
        if !segment.has(ACK) || segment.has(RST) {
            return;
        }
        if let Some((value, _)) = segment.timestamp {
            if self.newest.is_some_and(|newest| (value.wrapping_sub(newest) as i32) < 0) {
                // RFC 7323 5.3 lets it be dropped.
                return;
            }
            self.newest = Some(value);
        }
        self.acks += u64::from(segment.len == 0);
        let ack = offset(self.iss, segment.ack, self.una);
        self.una = self.una.max(ack);
        self.edge = self.edge.max(ack + (u64::from(segment.window) << self.peer_scale));
        for (start, end) in &segment.sacks {
            let [start, end] = [start, end].map(|seq| offset(self.iss, *seq, self.una));
            if end > self.una {
                self.sack(start.max(self.una), end);
            }
        }
        let una = self.una;
        self.sacked.retain(|_, end| *end > una);
    }

    fn sack(&mut self, start: u64, end: u64) {
        let touching: Vec<u64> = self
            .sacked
            .range(..=end)
            .rev()
            .take_while(|(_, last)| **last >= start)
            .map(|(first, _)| *first)
            .collect();
        let (mut first, mut last) = (start, end);
        for run in touching {
            last = last.max(self.sacked.remove(&run).expect("a run that was just seen"));
            first = first.min(run);
        }
        self.sacked.insert(first, last);
    }

    #[track_caller]
    fn left(&mut self, segment: &Segment, timeouts: u64) {
        if timeouts != self.timeouts {
            self.timeouts = timeouts;
            self.sacked.clear();
        }
        if segment.has(RST) {
            return;
        }
        self.check_received(segment);
        if segment.len == 0 {
            return;
        }
        self.sent.segments += 1;
        let start = offset(self.iss, segment.seq, self.max);
        let end = start + segment.len as u64;
        // RFC 9293 3.8.6: what was sent may be outside a window that has shrunk, what is sent
        // for the first time not.
        assert!(end <= self.edge, "{} octets beyond the window: {segment}", end - self.edge);
        assert!(segment.len as u64 <= self.mss, "more than an MSS of {}: {segment}", self.mss);
        if self.una == 1 && self.acks <= 1 && self.sacked.is_empty() {
            let window = (INITIAL_SEGMENTS * self.mss).min((2 * self.mss).max(14_600));
            // A probe for the tail may be new data (RFC 8985 7.3).
            let most = 1 + window + self.mss;
            assert!(end <= most, "more than the initial window: {segment}");
        }
        if start < self.max {
            self.sent.again += segment.len as u64;
            assert!(start >= self.una || end > self.una, "acknowledged, and sent again: {segment}");
            let known = self.sacked.range(..=start).next_back();
            assert!(
                known.is_none_or(|(_, last)| *last < end + u64::from(segment.has(FIN))),
                "known to have arrived, and sent again: {segment}"
            );
        } else {
            assert!(start <= self.max, "a gap before {segment}");
            self.sent.new += segment.len as u64;
        }
        self.max = self.max.max(end);
    }

    /// What it says of its own receiving.
    #[track_caller]
    fn check_received(&mut self, segment: &Segment) {
        let ack = offset(self.irs, segment.ack, self.acked);
        assert!(ack >= self.acked, "takes back an acknowledgement: {segment}");
        assert!(ack <= self.reached, "acknowledges what never came: {segment}");
        self.acked = ack;
        let edge = ack + (u64::from(segment.window) << self.scale);
        // RFC 9293 3.8.6 (SHLD-14): a window's right edge should not move left.
        assert!(edge >= self.given, "takes back {} octets of window: {segment}", self.given - edge);
        self.given = edge;
        for (start, end) in &segment.sacks {
            let end = offset(self.irs, *end, ack);
            assert!(start != &segment.ack && end <= self.reached, "a false block: {segment}");
        }
    }
}
