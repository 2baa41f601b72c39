//! SYN cookies (RFC 4987 3.6): while the half-open table is full, what a record would hold is
//! put into the numbers of the SYN-ACK, and read from the ACK that echoes them.
//!
//! ```text
//!  ISN        | MSS index, 3 bits |         keyed hash, 29 bits          |  xor the hash
//!  TSval      |      the timestamp clock     | ECN | SACK | shift, 4 bits |
//! ```
//! The hash covers both ends, the peer's initial number and a period's count, so that a cookie
//! is good for nobody else and not for long: of the guesses at one, one in 2²⁸ is right. As Linux
//! does, the low bits of our timestamp carry what the MSS leaves no place for; without
//! timestamps a connection has neither window scaling nor SACK. One hash makes a cookie, and
//! no more than two check one: a flood gets no more work from us than that.

use std::time::Duration;

use super::demux::FourTuple;
use super::listen::{HalfOpen, own_window_scale, timestamp_now};
use super::seq::SeqNum;
use crate::config::TcpConfig;
use crate::entropy::Keys;
use crate::time::Instant;
use crate::wire::tcp::{MAX_WINDOW_SCALE, Segment};

const PURPOSE_COOKIE: u8 = 3;

/// How long one count lasts. A cookie is taken in its own period and in the next: for one
/// to two minutes, as long as a record would wait.
const PERIOD: Duration = Duration::from_secs(64);
const PERIODS_VALID: u64 = 2;

/// The MSS values that three bits can say: the floor, the default (RFC 9293 3.7.1), what IPv6
/// and tunnels leave, Ethernet's with and without PPPoE, jumbo frames. The largest that the
/// peer can take is chosen.
const MSS_TABLE: [u16; 8] = [64, 536, 1220, 1300, 1400, 1440, 1460, 8940];

/// Bits of the cookie below the MSS index.
const HASH_BITS: u32 = 29;

/// Bits of our timestamp that carry the options: the clock, in milliseconds, loses that much.
const OPTION_BITS: u32 = 6;
const OPTION_MASK: u32 = (1 << OPTION_BITS) - 1;
const SHIFT_MASK: u32 = 0xf;
/// In place of a shift count: the peer offered no scaling.
const NO_SCALING: u32 = 0xf;
const SACK_PERMITTED: u32 = 0x10;
const ECN: u32 = 0x20;

/// What the cookies of a stack are made with.
#[derive(Debug)]
pub(crate) struct SynCookies {
    keys: Keys,
    /// When the last one was sent: an ACK is held for a cookie's only after that.
    last_sent: Option<Instant>,
}

impl SynCookies {
    pub(crate) fn new(keys: Keys) -> Self {
        Self { keys, last_sent: None }
    }

    /// The initial sequence number and the timestamp clock's offset of one connection attempt.
    /// Both come of one hash.
    ///
    /// `stamped`: timestamps are in use. An ACK without one, where we sent one (RFC 7323 3.2
    /// forbids that), cannot tell what was agreed on, and is no answer to the cookie.
    fn secrets(&self, tuple: &FourTuple, irs: SeqNum, period: u64, stamped: bool) -> (u32, u32) {
        let mut input = [0; 48];
        let octets = tuple.octets();
        let octets = octets.as_ref();
        input[..4].copy_from_slice(&irs.0.to_le_bytes());
        input[4..12].copy_from_slice(&(period << 1 | u64::from(stamped)).to_le_bytes());
        input[12..12 + octets.len()].copy_from_slice(octets);
        let hash = self.keys.prf(PURPOSE_COOKIE, &input[..12 + octets.len()]);
        (hash as u32, (hash >> 32) as u32)
    }

    fn period(now: Instant) -> u64 {
        now.as_nanos() / PERIOD.as_nanos() as u64
    }

    /// Puts what `record` says into its own numbers. What has no place there it loses.
    /// Returns the TSval for the SYN-ACK, if there is to be one.
    pub(crate) fn bake(
        &mut self,
        record: &mut HalfOpen,
        tuple: &FourTuple,
        now: Instant,
    ) -> Option<u32> {
        self.last_sent = Some(now);
        let (hash, offset) =
            self.secrets(tuple, record.irs, Self::period(now), record.ts_recent.is_some());
        let index = MSS_TABLE.partition_point(|mss| *mss <= record.peer_mss).saturating_sub(1);
        record.peer_mss = MSS_TABLE[index];
        record.iss = SeqNum(hash ^ (index as u32) << HASH_BITS);
        record.ts_offset = offset;
        if record.ts_recent.is_none() {
            record.scaling = None;
            record.sack_permitted = false;
            record.ecn = false;
            return None;
        }
        let shift = record.scaling.map_or(NO_SCALING, |(theirs, _)| u32::from(theirs));
        let options = shift | if record.sack_permitted { SACK_PERMITTED } else { 0 };
        let options = options | if record.ecn { ECN } else { 0 };
        let clock = timestamp_now(offset, now);
        let stamp = clock & !OPTION_MASK | options;
        // Never ahead of the clock: the connection's next timestamp must not be older.
        Some(if stamp > clock { stamp.wrapping_sub(1 << OPTION_BITS) } else { stamp })
    }

    /// Whether a cookie that is still good can be out.
    pub(crate) fn are_out(&self, now: Instant) -> bool {
        let valid = PERIOD * PERIODS_VALID as u32;
        self.last_sent.is_some_and(|at| now.since(at) < valid)
    }

    /// Reads the record back from the ACK of a SYN-ACK, if that is what this is.
    pub(crate) fn taste(
        &self,
        tuple: &FourTuple,
        segment: &Segment<'_>,
        config: &TcpConfig,
        now: Instant,
    ) -> Option<HalfOpen> {
        let irs = SeqNum(segment.seq.0.wrapping_sub(1));
        let iss = SeqNum(segment.ack.0.wrapping_sub(1));
        let current = Self::period(now);
        (current.saturating_sub(PERIODS_VALID - 1)..=current).rev().find_map(|period| {
            let (hash, offset) =
                self.secrets(tuple, irs, period, segment.options.timestamp.is_some());
            let index = iss.0 ^ hash;
            if index & ((1 << HASH_BITS) - 1) != 0 {
                return None;
            }
            let mut record = HalfOpen {
                iss,
                irs,
                peer_mss: MSS_TABLE[(index >> HASH_BITS) as usize],
                scaling: None,
                sack_permitted: false,
                ecn: false,
                // RFC 5482 3.2: the peer says it again, as the SYN's is lost.
                user_timeout: segment.options.user_timeout,
                ts_recent: None,
                ts_offset: offset,
                sent_at: now,
                // Nobody knows when the SYN-ACK left, nor how often: it measures nothing.
                retries: 1,
                taken: 0,
                fast_open: None,
            };
            if let Some(stamp) = segment.options.timestamp {
                let age = timestamp_now(offset, now).wrapping_sub(stamp.echo);
                if age > (PERIOD * PERIODS_VALID as u32).as_millis() as u32 {
                    // Not what we sent: so neither are its low bits.
                    return None;
                }
                record.ts_recent = Some(stamp.value);
                record.sack_permitted = stamp.echo & SACK_PERMITTED != 0;
                record.ecn = config.ecn && stamp.echo & ECN != 0;
                let shift = stamp.echo & SHIFT_MASK;
                record.scaling = (shift <= u32::from(MAX_WINDOW_SCALE))
                    .then(|| (shift as u8, own_window_scale(config.receive_buffer)));
            }
            Some(record)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::ecn::Ecn;
    use crate::wire::tcp::{Flags, Options, Timestamp};

    fn cookies() -> SynCookies {
        SynCookies::new(Keys::new([3; 16]))
    }

    fn record(irs: u32, peer_mss: u16) -> HalfOpen {
        HalfOpen {
            iss: SeqNum(0),
            irs: SeqNum(irs),
            peer_mss,
            scaling: None,
            sack_permitted: false,
            ecn: false,
            user_timeout: None,
            ts_recent: None,
            ts_offset: 0,
            sent_at: Instant::from_millis(0),
            retries: 0,
            taken: 0,
            fast_open: None,
        }
    }

    fn ack(iss: SeqNum, irs: SeqNum, timestamp: Option<Timestamp>) -> Segment<'static> {
        Segment {
            source_port: 1,
            destination_port: 80,
            seq: irs + 1,
            ack: iss + 1,
            flags: Flags::ACK,
            window: 0,
            options: Options { timestamp, ..Options::default() },
            ecn: Ecn::NotEct,
            payload: &[],
        }
    }

    #[test]
    fn a_cookie_lasts_for_one_to_two_periods() {
        let (mut cookies, tuple) = (cookies(), FourTuple::for_test(1));
        let config = TcpConfig::default();
        let baked = Instant::from_millis(64_000 * 10 + 63_000);
        let mut record = record(7, 1460);
        assert!(!cookies.are_out(baked));
        cookies.bake(&mut record, &tuple, baked);
        let segment = ack(record.iss, record.irs, None);
        let good = |millis| {
            let now = baked + Duration::from_millis(millis);
            cookies.are_out(now) && cookies.taste(&tuple, &segment, &config, now).is_some()
        };
        assert!(good(0) && good(64_999));
        assert!(!good(65_000));
    }

    #[test]
    fn a_cookie_is_good_for_its_ends_and_its_number_alone() {
        let (mut cookies, tuple) = (cookies(), FourTuple::for_test(1));
        let (config, now) = (TcpConfig::default(), Instant::from_millis(5));
        let mut record = record(7, 1460);
        cookies.bake(&mut record, &tuple, now);
        let taste = |tuple: &FourTuple, iss, irs| {
            cookies.taste(tuple, &ack(iss, irs, None), &config, now).is_some()
        };
        assert!(taste(&tuple, record.iss, record.irs));
        assert!(!taste(&FourTuple::for_test(2), record.iss, record.irs));
        assert!(!taste(&tuple, record.iss + 1, record.irs));
        assert!(!taste(&tuple, record.iss, record.irs + 1));
        let other = SynCookies::new(Keys::new([4; 16]));
        assert!(other.taste(&tuple, &ack(record.iss, record.irs, None), &config, now).is_none());
    }

    #[test]
    fn a_timestamp_that_we_did_not_send_spoils_it() {
        let (mut cookies, tuple) = (cookies(), FourTuple::for_test(1));
        let (config, now) = (TcpConfig::default(), Instant::from_millis(200_000));
        let mut record = HalfOpen { ts_recent: Some(1), ..record(7, 1460) };
        let value = cookies.bake(&mut record, &tuple, now).unwrap();
        let taste = |echo| {
            let stamp = Timestamp { value: 9, echo };
            cookies.taste(&tuple, &ack(record.iss, record.irs, Some(stamp)), &config, now)
        };
        assert_eq!(taste(value).unwrap().ts_recent, Some(9));
        let bare = ack(record.iss, record.irs, None);
        assert!(cookies.taste(&tuple, &bare, &config, now).is_none());
        assert!(taste(value.wrapping_add(64)).is_none());
        assert!(taste(value.wrapping_sub(128_000)).is_none());
    }

    proptest! {
        #[test]
        fn what_is_baked_is_tasted(
            irs: u32, secret: [u8; 16], millis in 0u64..1 << 40, peer_mss in 64u16..9000,
            shift in proptest::option::of(0u8..=14), sack: bool, ecn: bool, stamped: bool,
        ) {
            let mut cookies = SynCookies::new(Keys::new(secret));
            let (tuple, config) = (FourTuple::for_test(9), TcpConfig::default());
            let now = Instant::from_millis(millis);
            let mut baked = HalfOpen {
                scaling: shift.map(|theirs| (theirs, 0)),
                sack_permitted: sack,
                ecn,
                ts_recent: stamped.then_some(77),
                ..record(irs, peer_mss)
            };
            let value = cookies.bake(&mut baked, &tuple, now);
            let clock = timestamp_now(baked.ts_offset, now);
            prop_assert!(value.is_none_or(|value| (0..128).contains(&clock.wrapping_sub(value))));
            let stamp = value.map(|echo| Timestamp { value: 78, echo });
            let segment = ack(baked.iss, baked.irs, stamp);
            let tasted = cookies.taste(&tuple, &segment, &config, now).unwrap();
            prop_assert!(tasted.peer_mss <= peer_mss && tasted.peer_mss >= peer_mss.min(536) / 9);
            prop_assert_eq!(tasted.peer_mss, baked.peer_mss);
            prop_assert_eq!(tasted.scaling, baked.scaling);
            prop_assert_eq!(tasted.sack_permitted, sack && stamped);
            prop_assert_eq!(tasted.ecn, ecn && stamped);
            prop_assert_eq!(tasted.ts_recent, stamped.then_some(78));
            prop_assert_eq!(tasted.ts_offset, baked.ts_offset);
        }
    }
}
