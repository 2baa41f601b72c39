//! Which SYNs are answered in a flood of them.
//!
//! To answer a SYN by a cookie costs the stack some hundred nanoseconds, but the frame that it
//! sends costs the machine microseconds: at some hundred thousand a second there is no time
//! left for anything else. So cookies have a rate, and in it true peers come first, as far as
//! they can be told: an address from which a handshake was finished lately, and a SYN that
//! was turned away and comes again, as every true one does and no random one. Each kind has a
//! rate of its own, so that who imitates one of them takes nothing from the others.

use std::hash::{BuildHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::Duration;

use super::demux::FourTuple;
use super::seq::SeqNum;
use crate::entropy::Keys;
use crate::limit::TokenBucket;
use crate::time::Instant;

/// Cookies for addresses that are known: 62,500 in a second, more connections than one worker
/// can serve.
const KNOWN_INTERVAL: Duration = Duration::from_micros(16);
/// Cookies for SYNs that come again, and SYN-ACKs sent again: 20,000 of each in a second.
const AGAIN_INTERVAL: Duration = Duration::from_micros(50);
/// Cookies for any other SYN: 10,000 in a second. A flood below that is answered in full, as by any
/// host; in a larger one an unknown peer may have to send its SYN twice, and the answers leave
/// most of the machine to those who are served.
const STRANGER_INTERVAL: Duration = Duration::from_micros(100);
/// What may be made up for after a pause.
const COOKIES_AT_ONCE: u32 = 2000;

/// Addresses remembered: 8 KiB.
const ADDRESSES: usize = 1 << 12;
/// SYNs remembered that were turned away: 2 MiB, allocated when the first one is. At 200,000 a
/// second most of them are still here when they come again after a second.
const TURNED_AWAY: usize = 1 << 20;
/// That memory is given back when none was turned away for so long.
const CALM: Duration = Duration::from_secs(60);

/// Marks of hashes, one for each value of their low bits; a newer one takes an older one's
/// place, so that nothing needs to expire.
#[derive(Debug)]
struct Marks {
    places: usize,
    marks: Vec<u16>,
}

impl Marks {
    fn new(places: usize) -> Self {
        Self { places, marks: Vec::new() }
    }

    fn place(&self, hash: u64) -> (usize, u16) {
        // Odd, and so never the mark of an empty place.
        (hash as usize % self.places, (hash >> 48) as u16 | 1)
    }

    fn contains(&self, hash: u64) -> bool {
        let (at, mark) = self.place(hash);
        self.marks.get(at) == Some(&mark)
    }

    fn insert(&mut self, hash: u64) {
        let (at, mark) = self.place(hash);
        if self.marks.is_empty() {
            self.marks = vec![0; self.places];
        }
        self.marks[at] = mark;
    }
}

/// Decides on SYNs that only a cookie can answer.
#[derive(Debug)]
pub(crate) struct SynGate {
    keys: Keys,
    /// Addresses from which a handshake was finished.
    known: Marks,
    turned_away: Marks,
    /// When a SYN was last turned away.
    last: Instant,
    known_rate: TokenBucket,
    again_rate: TokenBucket,
    stranger_rate: TokenBucket,
    /// SYN-ACKs of records that are there.
    repeat_rate: TokenBucket,
}

impl SynGate {
    pub(crate) fn new(keys: Keys) -> Self {
        let rate = |interval| TokenBucket::new(COOKIES_AT_ONCE, interval);
        Self {
            keys,
            known: Marks::new(ADDRESSES),
            turned_away: Marks::new(TURNED_AWAY),
            last: Instant::from_nanos(0),
            known_rate: rate(KNOWN_INTERVAL),
            again_rate: rate(AGAIN_INTERVAL),
            stranger_rate: rate(STRANGER_INTERVAL),
            repeat_rate: rate(AGAIN_INTERVAL),
        }
    }

    /// Whether a SYN whose handshake is half-open is to be answered again. Its peer loses little if
    /// not: the SYN-ACK is sent again by itself too.
    pub(crate) fn admits_repeat(&mut self, now: Instant) -> bool {
        self.repeat_rate.take(now)
    }

    /// A handshake with this address was finished.
    pub(crate) fn remember(&mut self, address: IpAddr, now: Instant) {
        self.known.insert(self.keys.hash_one(address));
        if !self.turned_away.marks.is_empty() && now.since(self.last) > CALM {
            self.turned_away.marks = Vec::new();
        }
    }

    /// Whether a SYN is to be answered.
    pub(crate) fn admits(&mut self, tuple: &FourTuple, irs: SeqNum, now: Instant) -> bool {
        if self.known.contains(self.keys.hash_one(tuple.remote.ip)) && self.known_rate.take(now) {
            return true;
        }
        let mut hasher = self.keys.build_hasher();
        tuple.hash(&mut hasher);
        hasher.write_u32(irs.0);
        let hash = hasher.finish();
        if self.turned_away.contains(hash) && self.again_rate.take(now)
            || self.stranger_rate.take(now)
        {
            return true;
        }
        self.turned_away.insert(hash);
        self.last = now;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    /// A SYN of a flood: from an address and with a number of its own.
    fn random(i: u32) -> (FourTuple, SeqNum) {
        let remote = IpAddr::from((0x0b00_0000 + i).to_be_bytes());
        (FourTuple::new(([10, 0, 0, 2], 80), (remote, 1000)), SeqNum(i.wrapping_mul(0x9e37_79b1)))
    }

    #[test]
    fn true_clients_are_answered_in_a_flood_of_three_hundred_thousand_a_second() {
        let mut gate = SynGate::new(Keys::new([5; 16]));
        let (known, _) = random(u32::MAX / 2);
        gate.remember(known.remote.ip, at(0));
        let (stranger, number) = (FourTuple::for_test(7), SeqNum(9));
        let (mut flood, mut answered, mut stranger_answered) = (0, 0, 0);
        for millis in 1000..3000 {
            for _ in 0..300 {
                let (tuple, irs) = random(flood);
                answered += usize::from(gate.admits(&tuple, irs, at(millis)));
                flood += 1;
            }
            // The known address at the end of each millisecond, when the rate is used up, and
            // an unknown one that sends its SYN again after a second.
            assert!(gate.admits(&known, SeqNum(millis as u32), at(millis)));
            if millis % 1000 == 900 {
                stranger_answered += usize::from(gate.admits(&stranger, number, at(millis)));
            }
        }
        assert_eq!(stranger_answered, 1);
        assert!((21_000..23_000).contains(&answered), "{answered}");
    }

    #[test]
    fn a_flood_below_the_rate_is_answered_in_full_and_nothing_is_allocated() {
        let mut gate = SynGate::new(Keys::new([5; 16]));
        for i in 0..100_000 {
            let (tuple, irs) = random(i);
            assert!(gate.admits(&tuple, irs, at(1000 + u64::from(i / 10))));
        }
        assert!(gate.turned_away.marks.is_empty());
    }

    #[test]
    fn the_memory_of_a_flood_is_given_back() {
        let mut gate = SynGate::new(Keys::new([5; 16]));
        for i in 0..10_000 {
            let (tuple, irs) = random(i);
            gate.admits(&tuple, irs, at(1000));
        }
        let (peer, _) = random(1);
        gate.remember(peer.remote.ip, at(30_000));
        assert_eq!(gate.turned_away.marks.len(), TURNED_AWAY);
        gate.remember(peer.remote.ip, at(62_000));
        assert!(gate.turned_away.marks.is_empty());
    }
}
