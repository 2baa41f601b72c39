//! Reassembly of fragments (RFC 791 3.2, RFC 815, RFC 8200 4.5), for both families.
//!
//! Pieces are kept apart until the last hole is closed, so a lying offset costs no memory.
//! A piece that overlaps another ends its datagram for good (RFC 5722, for IPv4 as well):
//! nobody sends such but to slip something past a filter.
//!
//! # Bounds
//!
//! Datagrams in all and for each source, pieces for each, octets in all, and time. Where one
//! is reached the oldest incomplete datagram gives way; every step is O(log n).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use crate::entropy::Keys;
use crate::stats::Stats;
use crate::time::Instant;

/// Datagrams at one time. A web server's clients hardly send any.
const MAX_DATAGRAMS: usize = 1024;
/// Of one source: what several large requests in flight may take, and little of the whole.
const MAX_OF_SOURCE: usize = 64;
/// Pieces of one datagram: 64 KiB in an MTU of 576.
const MAX_PIECES: usize = 120;
/// Octets held in all, as Linux's `ipfrag_high_thresh`.
const MAX_OCTETS: usize = 4 << 20;
/// What a piece costs beside its octets, and a datagram beside its pieces.
const OVERHEAD: usize = 128;
/// Linux's 30 s. RFC 1122 3.3.2 suggests 60 to 120 s, but 16-bit identifications come round
/// sooner than that (RFC 4963).
const TIMEOUT_V4: Duration = Duration::from_secs(30);
/// RFC 8200 4.5.
const TIMEOUT_V6: Duration = Duration::from_secs(60);

/// RFC 3168 5: "congestion experienced".
const CE: u8 = 3;

/// What the pieces of one datagram have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) id: u32,
    /// IPv4's protocol; 0 for IPv6, where only the first piece's counts.
    pub(crate) protocol: u8,
}

/// One fragment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fragment<'a> {
    /// Octets before it.
    pub(crate) offset: usize,
    pub(crate) more: bool,
    pub(crate) payload: &'a [u8],
    /// What the payload of the whole begins with, as this fragment says; the first one's
    /// counts.
    pub(crate) next: u8,
    /// The packet's beginning, for an ICMP error that quotes it.
    pub(crate) quote: &'a [u8],
    /// Octets that the whole may have.
    pub(crate) most: usize,
    /// DSCP and ECN.
    pub(crate) traffic_class: u8,
}

/// A datagram that is whole again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) next: u8,
    pub(crate) payload: Vec<u8>,
    /// That of a fragment, marked if any was.
    pub(crate) traffic_class: u8,
    /// Of the first fragment.
    pub(crate) quote: Vec<u8>,
}

/// A datagram that was given up after its first fragment had come, for "time exceeded".
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expired {
    pub(crate) key: Key,
    /// The first fragment, header and all, cut short.
    pub(crate) quote: Vec<u8>,
}

#[derive(Debug)]
struct Datagram {
    number: u64,
    deadline: Instant,
    pieces: BTreeMap<usize, Box<[u8]>>,
    /// Octets of all pieces.
    held: usize,
    /// Its length, once the last piece has come.
    total: Option<usize>,
    first: Option<(u8, Box<[u8]>)>,
    traffic_class: u8,
    /// Overlapping pieces have come: whatever else comes is dropped too.
    poisoned: bool,
}

impl Datagram {
    fn cost(&self) -> usize {
        self.held + OVERHEAD * (1 + self.pieces.len())
    }
}

/// All datagrams that wait for pieces.
#[derive(Debug)]
pub(crate) struct Reassembly {
    table: HashMap<Key, Datagram, Keys>,
    /// By age.
    order: BTreeMap<u64, Key>,
    deadlines: BTreeMap<(Instant, u64), Key>,
    sources: HashMap<IpAddr, BTreeSet<u64>, Keys>,
    octets: usize,
    next_number: u64,
}

impl Reassembly {
    pub(crate) fn new(keys: Keys) -> Self {
        Self {
            table: HashMap::with_hasher(keys),
            order: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            sources: HashMap::with_hasher(keys),
            octets: 0,
            next_number: 0,
        }
    }

    /// Takes a fragment; gives the whole datagram if it was the last that was missing. Counts
    /// every one that is not.
    pub(crate) fn insert(
        &mut self,
        now: Instant,
        key: Key,
        fragment: &Fragment<'_>,
        stats: &mut Stats,
    ) -> Option<Whole> {
        let Fragment { offset, more, payload, next, quote, most, traffic_class } = *fragment;
        let end = offset + payload.len();
        // RFC 791: all but the last end on a multiple of eight. And no more than the length
        // field of a whole packet can say ("ping of death").
        if payload.is_empty() || more && !payload.len().is_multiple_of(8) || end > most {
            stats.drop_fragment += 1;
            return None;
        }
        if !self.table.contains_key(&key) {
            self.add(now, key, stats);
        }
        let datagram = self.table.get_mut(&key)?;
        if datagram.poisoned {
            stats.drop_fragment_overlap += 1;
            return None;
        }
        let before = datagram.pieces.range(..end).next_back();
        if let Some((&at, piece)) = before
            && at + piece.len() > offset
        {
            if at == offset && **piece == *payload {
                // RFC 8200 4.5: a duplicate that the network has made.
                stats.ip_fragment_in += 1;
            } else {
                stats.drop_fragment_overlap += 1;
                self.poison(key);
            }
            return None;
        }
        let total = if more { datagram.total } else { Some(end) };
        let farthest =
            datagram.pieces.last_key_value().map_or(0, |(at, piece)| at + piece.len()).max(end);
        if total.is_some_and(|total| farthest > total)
            || datagram.total.is_some_and(|known| total != Some(known))
        {
            stats.drop_fragment_overlap += 1;
            self.poison(key);
            return None;
        }
        if datagram.pieces.len() == MAX_PIECES {
            stats.drop_fragment += 1;
            self.poison(key);
            return None;
        }
        datagram.total = total;
        // RFC 3168 5.3: the mark of one fragment is the whole's.
        if datagram.pieces.is_empty() || traffic_class & CE == CE {
            datagram.traffic_class |= traffic_class;
        }
        datagram.held += payload.len();
        datagram.pieces.insert(offset, payload.into());
        self.octets += payload.len() + OVERHEAD;
        if offset == 0 {
            datagram.first = Some((next, quote.into()));
        }
        if datagram.total == Some(datagram.held) {
            return self.complete(key, stats);
        }
        stats.ip_fragment_in += 1;
        while self.octets > MAX_OCTETS {
            self.evict_oldest(stats);
        }
        None
    }

    fn add(&mut self, now: Instant, key: Key, stats: &mut Stats) {
        if let Some(mine) = self.sources.get(&key.source)
            && mine.len() >= MAX_OF_SOURCE
            && let Some(oldest) = mine.first().and_then(|number| self.order.get(number)).copied()
        {
            stats.reassembly_evicted += 1;
            self.remove(&oldest);
        }
        if self.table.len() >= MAX_DATAGRAMS {
            self.evict_oldest(stats);
        }
        let number = self.next_number;
        self.next_number += 1;
        let deadline = now + if key.source.is_ipv4() { TIMEOUT_V4 } else { TIMEOUT_V6 };
        let datagram = Datagram {
            number,
            deadline,
            pieces: BTreeMap::new(),
            held: 0,
            total: None,
            first: None,
            traffic_class: 0,
            poisoned: false,
        };
        self.octets += datagram.cost();
        self.table.insert(key, datagram);
        self.order.insert(number, key);
        self.deadlines.insert((deadline, number), key);
        self.sources.entry(key.source).or_default().insert(number);
    }

    /// RFC 5722 4: the pieces are dropped, and so are those that still come.
    fn poison(&mut self, key: Key) {
        let Some(datagram) = self.table.get_mut(&key) else { return };
        self.octets -= datagram.cost();
        (datagram.poisoned, datagram.held, datagram.first) = (true, 0, None);
        datagram.pieces.clear();
        self.octets += datagram.cost();
    }

    fn complete(&mut self, key: Key, stats: &mut Stats) -> Option<Whole> {
        let datagram = self.remove(&key)?;
        let (next, quote) = datagram.first?;
        stats.ip_reassembled += 1;
        let mut payload = Vec::with_capacity(datagram.held);
        for piece in datagram.pieces.values() {
            payload.extend_from_slice(piece);
        }
        let traffic_class = datagram.traffic_class;
        Some(Whole { next, payload, traffic_class, quote: quote.into() })
    }

    fn evict_oldest(&mut self, stats: &mut Stats) {
        if let Some(oldest) = self.order.first_key_value().map(|(_, key)| *key) {
            stats.reassembly_evicted += 1;
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &Key) -> Option<Datagram> {
        let datagram = self.table.remove(key)?;
        self.octets -= datagram.cost();
        self.order.remove(&datagram.number);
        self.deadlines.remove(&(datagram.deadline, datagram.number));
        if let Some(mine) = self.sources.get_mut(&key.source) {
            mine.remove(&datagram.number);
            if mine.is_empty() {
                self.sources.remove(&key.source);
            }
        }
        Some(datagram)
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.deadlines.first_key_value().map(|((at, _), _)| *at)
    }

    /// Gives up the next datagram that is too old at `now`, if there is one, and says whether
    /// an error is due for it: if its first fragment has come (RFC 1122 3.3.2).
    pub(crate) fn expire(&mut self, now: Instant, stats: &mut Stats) -> Option<Option<Expired>> {
        let (&(at, _), &key) = self.deadlines.first_key_value()?;
        if at > now {
            return None;
        }
        stats.reassembly_timeout += 1;
        let first = self.remove(&key).and_then(|datagram| datagram.first);
        Some(first.map(|(_, quote)| Expired { key, quote: quote.into() }))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    const MOST: usize = 65_515;

    fn key(source: u32, id: u32) -> Key {
        let destination = Ipv4Addr::new(10, 0, 0, 1).into();
        Key { source: Ipv4Addr::from(source).into(), destination, id, protocol: 17 }
    }

    fn fragment(offset: usize, more: bool, payload: &[u8]) -> Fragment<'_> {
        Fragment { offset, more, payload, next: 17, quote: b"quote", most: MOST, traffic_class: 2 }
    }

    struct Fixture {
        reassembly: Reassembly,
        stats: Stats,
    }

    impl Fixture {
        fn new() -> Self {
            Self { reassembly: Reassembly::new(Keys::new([1; 16])), stats: Stats::default() }
        }

        fn put(&mut self, key: Key, offset: usize, more: bool, payload: &[u8]) -> Option<Vec<u8>> {
            let fragment = fragment(offset, more, payload);
            let now = Instant::from_millis(0);
            let whole = self.reassembly.insert(now, key, &fragment, &mut self.stats)?;
            assert_eq!((whole.next, &*whole.quote), (17, &b"quote"[..]));
            Some(whole.payload)
        }

        /// What is held is what is counted.
        fn check(&self) {
            let Reassembly { table, order, deadlines, sources, octets, .. } = &self.reassembly;
            assert_eq!(table.values().map(Datagram::cost).sum::<usize>(), *octets);
            assert_eq!((order.len(), deadlines.len()), (table.len(), table.len()));
            assert_eq!(sources.values().map(BTreeSet::len).sum::<usize>(), table.len());
            assert!(*octets <= MAX_OCTETS && table.len() <= MAX_DATAGRAMS);
        }
    }

    #[test]
    fn any_order_and_duplicates() {
        let mut f = Fixture::new();
        assert_eq!(f.put(key(1, 7), 16, false, b"end"), None);
        assert_eq!(f.put(key(1, 7), 8, true, b"middle.."), None);
        assert_eq!(f.put(key(1, 7), 8, true, b"middle.."), None);
        assert_eq!(f.put(key(1, 8), 0, true, b"another "), None);
        assert_eq!(f.put(key(1, 7), 0, true, b"begin - "), Some(b"begin - middle..end".to_vec()));
        assert_eq!(f.put(key(1, 8), 8, false, b"one"), Some(b"another one".to_vec()));
        assert_eq!((f.stats.ip_reassembled, f.stats.ip_fragment_in), (2, 4));
        assert_eq!((f.reassembly.octets, f.reassembly.next_timeout()), (0, None));
        f.check();
    }

    #[test]
    fn an_overlap_ends_the_datagram_for_good() {
        for (offset, more, payload) in [
            (0, true, &b"BEGIN - "[..]),
            (8, true, b"x234567x12345678"),
            (8, false, b"x234567"),
            (32, true, b"beyond.."),
            (40, false, b"another end"),
        ] {
            let mut f = Fixture::new();
            f.put(key(1, 7), 0, true, b"begin - ");
            f.put(key(1, 7), 16, true, b"middle..");
            f.put(key(1, 7), 24, false, b"end");
            assert_eq!(f.put(key(1, 7), offset, more, payload), None, "{offset}");
            assert_eq!(f.stats.drop_fragment_overlap, 1, "{offset}");
            assert_eq!(f.put(key(1, 7), 8, true, b"12345678"), None);
            assert_eq!(f.stats.drop_fragment_overlap, 2);
            f.check();
        }
    }

    #[test]
    fn lengths_that_cannot_be() {
        let mut f = Fixture::new();
        for (offset, more, payload) in
            [(0, true, &b"seven.."[..]), (8, false, b""), (65_512, false, b"1234")]
        {
            assert_eq!(f.put(key(1, 7), offset, more, payload), None);
        }
        assert_eq!((f.stats.drop_fragment, f.reassembly.table.len()), (3, 0));
        assert_eq!(f.put(key(1, 7), 65_512, false, b"123"), None);
        assert_eq!((f.stats.drop_fragment, f.reassembly.table.len()), (3, 1));
    }

    #[test]
    fn bounds_in_all_for_a_source_and_for_a_datagram() {
        let mut f = Fixture::new();
        f.put(key(9, 0), 0, true, b"bystande");
        for id in 0..10_000 {
            f.put(key(1, id), 0, true, &[0; 1024]);
        }
        f.check();
        assert_eq!(f.reassembly.table.len(), 1 + MAX_OF_SOURCE);
        assert_eq!(f.put(key(9, 0), 8, false, b"r"), Some(b"bystander".to_vec()));
        for source in 0..10_000 {
            f.put(key(source, 0), 0, true, &[0; 8]);
        }
        f.check();
        assert_eq!(f.reassembly.table.len(), MAX_DATAGRAMS);
        for source in 0..1000 {
            f.put(key(source, 1), 0, true, &[0; 16_000]);
        }
        f.check();
        let mut f = Fixture::new();
        for index in 0..=MAX_PIECES {
            f.put(key(1, 1), index * 16, true, &[0; 8]);
        }
        assert_eq!((f.stats.drop_fragment, f.reassembly.octets), (1, OVERHEAD));
        f.check();
    }

    #[test]
    fn time_ends_it_and_only_a_first_fragment_is_answered() {
        let mut f = Fixture::new();
        f.put(key(1, 1), 0, true, b"first...");
        f.put(key(1, 2), 8, true, b"other...");
        let at = |f: &mut Fixture, ms| f.reassembly.expire(Instant::from_millis(ms), &mut f.stats);
        assert_eq!(at(&mut f, 29_999), None);
        let expired = Expired { key: key(1, 1), quote: b"quote".to_vec() };
        assert_eq!(at(&mut f, 30_000), Some(Some(expired)));
        assert_eq!((at(&mut f, 30_000), at(&mut f, 30_000)), (Some(None), None));
        assert_eq!(f.stats.reassembly_timeout, 2);
        f.check();
    }

    proptest! {
        /// However a datagram is cut, mixed and doubled, it comes out as it was, once.
        #[test]
        fn what_goes_in_comes_out(
            length in 1usize..4000,
            cuts in proptest::collection::btree_set(1usize..500, 0..12),
            order in any::<prop::sample::Index>(),
            twice in any::<prop::sample::Index>(),
        ) {
            let data: Vec<u8> = (0..length).map(|i| (i * 7 + i / 256) as u8).collect();
            let mut bounds: Vec<usize> = vec![0];
            bounds.extend(cuts.iter().map(|cut| cut * 8).filter(|cut| *cut < length));
            bounds.push(length);
            let mut pieces: Vec<_> = bounds.windows(2).map(|pair| (pair[0], pair[1])).collect();
            let turn = order.index(pieces.len());
            pieces.rotate_left(turn);
            let last = pieces.len() - 1;
            if last > 0 {
                let again = pieces[twice.index(last)];
                pieces.insert(last, again);
            }
            let mut f = Fixture::new();
            let mut wholes = Vec::new();
            for (start, end) in pieces {
                wholes.extend(f.put(key(1, 1), start, end < length, &data[start..end]));
                f.check();
            }
            prop_assert_eq!(wholes, [data]);
        }

        /// Against a model: a map of octets that gives up at the first one written twice with
        /// any difference in its bounds.
        #[test]
        fn agrees_with_a_map_of_octets(
            steps in proptest::collection::vec((0usize..6, 1usize..4, any::<bool>()), 1..12),
        ) {
            let mut f = Fixture::new();
            let mut pieces: Vec<(usize, usize)> = Vec::new();
            let (mut total, mut dead) = (None, false);
            for (offset, length, more) in steps {
                let (start, end) = (offset * 8, (offset + length) * 8);
                let data: Vec<u8> = (start..end).map(|i| i as u8).collect();
                let whole = f.put(key(1, 1), start, more, &data);
                f.check();
                if pieces.contains(&(start, end)) && !dead {
                    prop_assert_eq!(whole, None);
                    continue;
                }
                let overlaps = pieces.iter().any(|(from, to)| *from < end && start < *to);
                let new_total = if more { total } else { Some(end) };
                let far = pieces.iter().map(|(_, to)| *to).max().unwrap_or(0).max(end);
                dead |= overlaps
                    || new_total.is_some_and(|total| far > total)
                    || total.is_some_and(|known| new_total != Some(known));
                if dead {
                    prop_assert_eq!(whole, None);
                    continue;
                }
                total = new_total;
                pieces.push((start, end));
                let held: usize = pieces.iter().map(|(from, to)| to - from).sum();
                if total == Some(held) {
                    let data: Vec<u8> = (0..held).map(|i| i as u8).collect();
                    prop_assert_eq!(whole, Some(data));
                    (pieces, total) = (Vec::new(), None);
                } else {
                    prop_assert_eq!(whole, None);
                }
            }
        }
    }
}
