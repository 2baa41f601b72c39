//! Passive open: connections between SYN and ACK (RFC 9293 3.10.7.2 and SYN-RECEIVED).
//!
//! A half-open connection is a small record, not a connection: a flood of SYNs costs
//! little memory and is bounded by [`TcpConfig::backlog`](crate::TcpConfig::backlog). When the
//! bound is reached no record gives way: a SYN is then answered by a [cookie](super::syn_cookie)
//! and leaves nothing behind, so that neither true peers that are half-open lose their place
//! nor the table churns.

use std::collections::HashMap;
use std::time::Duration;

use super::demux::FourTuple;
use super::ecn;
use super::seq::SeqNum;
use crate::config::{MacAddr, TcpConfig};
use crate::entropy::Keys;
use crate::time::Instant;
use crate::timers::TimerQueue;
use crate::wire::tcp::{FastOpen, Flags, Header, Options, Segment, Timestamp};

/// SYN-ACKs sent again before the peer is given up: 1 + 2 + 4 + 8 + 16 s, as Linux.
const SYN_ACK_RETRIES: u8 = 5;
/// RFC 9293 3.7.1, MUST-15: what a peer without the option can take.
const DEFAULT_MSS: u16 = 536;
/// The same over IPv6.
const DEFAULT_MSS_V6: u16 = 1220;
/// A peer whose stated MSS is smaller gets this: each of its segments would cost us more
/// header than data (the attack behind CVE-2019-11479; Linux's floor is 48).
const MIN_MSS: u16 = 64;

/// What was agreed on in the handshake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HalfOpen {
    pub(crate) iss: SeqNum,
    pub(crate) irs: SeqNum,
    /// The peer's MSS option, bounded below.
    pub(crate) peer_mss: u16,
    /// Both sides' shift counts, if the peer offered scaling.
    pub(crate) scaling: Option<(u8, u8)>,
    /// The peer understands SACK (RFC 2018 2), and so do we.
    pub(crate) sack_permitted: bool,
    /// Explicit congestion notification was offered and is taken (RFC 3168 6.1.1).
    pub(crate) ecn: bool,
    /// How long the peer asks us to wait for its acknowledgements, in seconds (RFC 5482).
    pub(crate) user_timeout: Option<u32>,
    /// The peer's last TSval, if it offered timestamps.
    pub(crate) ts_recent: Option<u32>,
    pub(crate) ts_offset: u32,
    /// When the SYN-ACK went out first: a measured round trip if it was not sent again.
    pub(crate) sent_at: Instant,
    pub(crate) retries: u8,
    /// Octets of the SYN's data that were taken by Fast Open: the SYN-ACK acknowledges them, and
    /// the connection is there already.
    pub(crate) taken: u16,
    /// What the SYN-ACK says of Fast Open.
    pub(crate) fast_open: Option<FastOpen>,
}

/// A half-open connection, and when its SYN-ACK is due again.
#[derive(Debug)]
struct Waiting {
    record: HalfOpen,
    /// The station that the SYN came from. The SYN-ACK goes straight back there.
    station: Option<MacAddr>,
    deadline: Instant,
    hint: Instant,
}

/// A record whose time has come.
#[derive(Debug)]
pub(crate) enum Due {
    /// Its SYN-ACK is to be sent again.
    SendAgain(FourTuple, HalfOpen, Option<MacAddr>),
    /// It was given up.
    GivenUp(FourTuple),
}

/// Half-open connections of a stack.
#[derive(Debug)]
pub(crate) struct HalfOpenTable {
    records: HashMap<FourTuple, Waiting, Keys>,
    timers: TimerQueue<FourTuple>,
    /// Records beside a connection that Fast Open made.
    fast_open: usize,
}

impl HalfOpenTable {
    pub(crate) fn new(keys: Keys) -> Self {
        Self { records: HashMap::with_hasher(keys), timers: TimerQueue::default(), fast_open: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Records beside a connection that Fast Open made.
    pub(crate) fn fast_open(&self) -> usize {
        self.fast_open
    }

    pub(crate) fn get(&self, tuple: &FourTuple) -> Option<&HalfOpen> {
        // As in TIME-WAIT: mostly nothing is half-open, and the hash is saved.
        if self.records.is_empty() {
            None
        } else {
            self.records.get(tuple).map(|waiting| &waiting.record)
        }
    }

    /// The peer takes back its offer of ECN: RFC 3168 6.1.1.1 lets it send its SYN again without,
    /// where something on the way may have dropped the one that offered it.
    pub(crate) fn withdraw_ecn(&mut self, tuple: &FourTuple) {
        if let Some(waiting) = self.records.get_mut(tuple) {
            waiting.record.ecn = false;
        }
    }

    pub(crate) fn remove(&mut self, tuple: &FourTuple) {
        if let Some(waiting) = self.records.remove(tuple) {
            self.fast_open -= usize::from(waiting.record.taken > 0);
            self.timers.disarm(*tuple, waiting.hint);
        }
    }

    /// Keeps a record. The caller has checked the backlog and sends the SYN-ACK.
    pub(crate) fn insert(
        &mut self,
        tuple: FourTuple,
        record: HalfOpen,
        station: Option<MacAddr>,
        config: &TcpConfig,
        now: Instant,
    ) {
        let deadline = now + config.rto_initial;
        let mut waiting = Waiting { record, station, deadline, hint: Instant::NEVER };
        self.timers.arm(tuple, deadline, &mut waiting.hint);
        self.fast_open += usize::from(waiting.record.taken > 0);
        self.records.insert(tuple, waiting);
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Gives up the record whose SYN-ACK is due next; whose it was.
    pub(crate) fn give_up_one(&mut self) -> Option<FourTuple> {
        while let Some((_, tuple)) = self.timers.pop_due(Instant::NEVER) {
            if self.records.contains_key(&tuple) {
                self.remove(&tuple);
                return Some(tuple);
            }
        }
        None
    }

    /// Handles one record that is due; `None`: no more are.
    pub(crate) fn pop_due(&mut self, now: Instant, config: &TcpConfig) -> Option<Due> {
        while let Some((at, tuple)) = self.timers.pop_due(now) {
            let Some(waiting) = self.records.get_mut(&tuple).filter(|waiting| waiting.hint == at)
            else {
                continue;
            };
            waiting.hint = Instant::NEVER;
            if waiting.deadline > now {
                self.timers.arm(tuple, waiting.deadline, &mut waiting.hint);
                continue;
            }
            if waiting.record.retries == SYN_ACK_RETRIES {
                self.remove(&tuple);
                return Some(Due::GivenUp(tuple));
            }
            waiting.record.retries += 1;
            let wait: Duration = config.rto_initial * (1 << waiting.record.retries);
            waiting.deadline = now + wait;
            self.timers.arm(tuple, waiting.deadline, &mut waiting.hint);
            return Some(Due::SendAgain(tuple, waiting.record, waiting.station));
        }
        None
    }
}

/// The smallest shift with which the window field can state the whole buffer.
pub(crate) fn own_window_scale(receive_buffer: usize) -> u8 {
    (0..14).find(|shift| receive_buffer >> shift <= 0xffff).unwrap_or(14)
}

impl HalfOpen {
    /// What a SYN offers and we agree to; its numbers on our side are the caller's to set.
    pub(crate) fn from_syn(
        tuple: &FourTuple,
        segment: &Segment<'_>,
        config: &TcpConfig,
        now: Instant,
    ) -> Self {
        let default_mss = if tuple.local.ip.is_ipv4() { DEFAULT_MSS } else { DEFAULT_MSS_V6 };
        let Options { mss, window_scale, sack_permitted, timestamp, user_timeout, .. } =
            segment.options;
        Self {
            iss: SeqNum(0),
            irs: segment.seq,
            peer_mss: mss.unwrap_or(default_mss).max(MIN_MSS),
            scaling: window_scale.map(|theirs| (theirs, own_window_scale(config.receive_buffer))),
            sack_permitted,
            ecn: config.ecn && ecn::is_offered(segment),
            user_timeout,
            ts_recent: timestamp.map(|timestamp| timestamp.value),
            ts_offset: 0,
            sent_at: now,
            retries: 0,
            taken: 0,
            fast_open: None,
        }
    }

    /// The SYN-ACK. `mss` is our own, from the link's MTU.
    pub(crate) fn syn_ack(
        &self,
        tuple: &FourTuple,
        mss: u16,
        config: &TcpConfig,
        now: Instant,
    ) -> Header {
        Header {
            source_port: tuple.local.port,
            destination_port: tuple.remote.port,
            seq: self.iss,
            ack: self.irs + 1 + u32::from(self.taken),
            flags: if self.ecn {
                Flags::SYN.with(Flags::ACK).with(Flags::ECE)
            } else {
                Flags::SYN.with(Flags::ACK)
            },
            // RFC 7323 2.2: the window of a SYN is never scaled.
            window: config.receive_buffer.min(0xffff) as u16,
            options: Options {
                mss: Some(mss),
                window_scale: self.scaling.map(|(_, ours)| ours),
                sack_permitted: self.sack_permitted,
                fast_open: self.fast_open,
                timestamp: self
                    .ts_recent
                    .map(|echo| Timestamp { value: timestamp_now(self.ts_offset, now), echo }),
                ..Options::default()
            },
        }
    }
}

/// The timestamp clock: milliseconds from a secret offset (RFC 7323 5.4).
pub(crate) fn timestamp_now(offset: u32, now: Instant) -> u32 {
    offset.wrapping_add(now.as_millis() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_the_smallest_that_states_the_buffer() {
        assert_eq!(own_window_scale(65535), 0);
        assert_eq!(own_window_scale(65536), 1);
        assert_eq!(own_window_scale(1 << 20), 5);
        assert_eq!(own_window_scale(usize::MAX), 14);
    }

    #[test]
    fn an_unanswered_syn_ack_is_sent_five_times_more_and_forgotten() {
        let keys = Keys::new([0; 16]);
        let config = TcpConfig::default();
        let mut table = HalfOpenTable::new(keys);
        let octets = [0x9c, 0x40, 0, 80, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, 2, 1, 0, 0, 0, 0, 0];
        let segment = crate::wire::tcp::parse(&octets).unwrap();
        let start = Instant::from_millis(0);
        let tuple = FourTuple::for_test(1);
        let record = HalfOpen::from_syn(&tuple, &segment, &config, start);
        table.insert(tuple, record, None, &config, start);
        let mut sent_again = Vec::new();
        loop {
            let now = table.next_timeout().unwrap();
            match table.pop_due(now, &config) {
                Some(Due::SendAgain(..)) => sent_again.push(now.as_millis()),
                Some(Due::GivenUp(_)) => {
                    assert_eq!(now.as_millis(), 63_000);
                    break;
                }
                None => {}
            }
        }
        assert_eq!(sent_again, [1000, 3000, 7000, 15_000, 31_000]);
        assert_eq!((table.len(), table.next_timeout()), (0, None));
    }
}
