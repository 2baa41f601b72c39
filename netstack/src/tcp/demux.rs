//! From a segment's addresses and ports to what handles it, in one hash lookup.

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use hashbrown::HashTable;

use crate::entropy::Keys;

/// An address of either family with a port.
///
/// Not [`SocketAddr`], which keeps a flow label and a scope beside them: every connection
/// and every record holds a pair of these.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address.
    pub ip: IpAddr,
    /// The TCP port.
    pub port: u16,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::from(*self).fmt(f)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::from(*self).fmt(f)
    }
}

impl From<Endpoint> for SocketAddr {
    fn from(endpoint: Endpoint) -> Self {
        Self::new(endpoint.ip, endpoint.port)
    }
}

impl<A: Into<IpAddr>> From<(A, u16)> for Endpoint {
    fn from((address, port): (A, u16)) -> Self {
        Self { ip: address.into(), port }
    }
}

/// The two ends of a connection, seen from here: both of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FourTuple {
    /// Our address and port.
    pub local: Endpoint,
    /// The peer's.
    pub remote: Endpoint,
}

/// Octets of a four-tuple of the larger family.
const MAX_OCTETS: usize = 36;

/// A four-tuple as one string of octets, for hashes; no two tuples have the same one.
pub(crate) struct TupleOctets {
    octets: [u8; MAX_OCTETS],
    len: usize,
}

impl AsRef<[u8]> for TupleOctets {
    fn as_ref(&self) -> &[u8] {
        &self.octets[..self.len]
    }
}

impl FourTuple {
    /// All of it: twelve octets for IPv4, 36 for IPv6.
    pub(crate) fn octets(&self) -> TupleOctets {
        let mut octets = [0; MAX_OCTETS];
        let mut len = 0;
        let mut put = |part: &[u8]| {
            octets[len..len + part.len()].copy_from_slice(part);
            len += part.len();
        };
        for end in [self.local, self.remote] {
            match end.ip {
                IpAddr::V4(address) => put(&address.octets()),
                IpAddr::V6(address) => put(&address.octets()),
            }
            put(&end.port.to_be_bytes());
        }
        TupleOctets { octets, len }
    }

    #[cfg(test)]
    pub(crate) fn for_test(port: u16) -> Self {
        Self::new(([10, 0, 0, 2], 80), ([10, 0, 0, 1], port))
    }

    pub(crate) fn new(local: impl Into<Endpoint>, remote: impl Into<Endpoint>) -> Self {
        Self { local: local.into(), remote: remote.into() }
    }
}

impl Hash for FourTuple {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // One write for the whole key: the hasher's cost is per call as much as per octet.
        state.write(self.octets().as_ref());
    }
}

/// Names a connection. A slot that is used again has another generation, so a name that
/// was kept too long finds nothing instead of a stranger's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// Slot in the table: small, dense, fit to index a side table with.
    pub index: u32,
    /// How often the slot was used before.
    pub generation: u32,
}

/// A slab of values with generations.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<(u32, Option<Box<T>>)>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn insert(&mut self, value: Box<T>) -> ConnId {
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.1 = Some(value);
            ConnId { index, generation: slot.0 }
        } else {
            let index = self.slots.len() as u32;
            self.slots.push((0, Some(value)));
            ConnId { index, generation: 0 }
        }
    }

    pub(crate) fn get(&self, id: ConnId) -> Option<&T> {
        match self.slots.get(id.index as usize) {
            Some((generation, Some(value))) if *generation == id.generation => Some(value),
            _ => None,
        }
    }

    /// What is in a slot, and its name.
    fn at(&self, index: u32) -> Option<(ConnId, &T)> {
        let (generation, value) = self.slots.get(index as usize)?;
        value.as_deref().map(|value| (ConnId { index, generation: *generation }, value))
    }

    pub(crate) fn get_mut(&mut self, id: ConnId) -> Option<&mut T> {
        match self.slots.get_mut(id.index as usize) {
            Some((generation, Some(value))) if *generation == id.generation => Some(value),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, id: ConnId) -> Option<Box<T>> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.0 != id.generation {
            return None;
        }
        let value = slot.1.take()?;
        slot.0 = slot.0.wrapping_add(1);
        self.free.push(id.index);
        Some(value)
    }

    /// Up to `count` slots from `from` on, around the end, those of them that are used; and
    /// where to go on.
    pub(crate) fn look(
        &self,
        from: usize,
        count: usize,
    ) -> (impl Iterator<Item = (ConnId, &T)>, usize) {
        let slots = self.slots.len().max(1);
        let count = count.min(self.slots.len());
        let indices = (from..from + count).map(move |index| index % slots);
        let used = indices.filter_map(|index| {
            let (generation, value) = &self.slots[index];
            let id = ConnId { index: index as u32, generation: *generation };
            value.as_deref().map(|value| (id, value))
        });
        (used, (from + count) % slots)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConnId, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, (generation, value))| {
            let id = ConnId { index: index as u32, generation: *generation };
            value.as_deref().map(|value| (id, value))
        })
    }
}

/// A place in [`Demux`]: where the connection is, and what of its hash tells it from most
/// others without a look at it.
#[derive(Clone, Copy, Debug)]
struct Place {
    tag: u32,
    index: u32,
}

/// 100,000 connections have 131,072 places: each octet of one is more than an octet for each
/// connection.
const _: () = assert!(size_of::<Place>() == 8);

/// Connections by their ends. A place does not keep the ends, which the connection has: two
/// whose tags are the same are told apart by a look at both, and by the secret no peer can
/// find such.
#[derive(Debug)]
pub(crate) struct Demux {
    places: HashTable<Place>,
    keys: Keys,
}

impl Demux {
    pub(crate) fn new(keys: Keys) -> Self {
        Self { places: HashTable::new(), keys }
    }

    fn tag(&self, tuple: &FourTuple) -> u32 {
        self.keys.hash_one(tuple) as u32
    }

    /// The connection of these ends, one of `connections`.
    #[inline]
    pub(crate) fn find<T: AsRef<FourTuple>>(
        &self,
        connections: &Slab<T>,
        tuple: &FourTuple,
    ) -> Option<ConnId> {
        let tag = self.tag(tuple);
        let mut found = None;
        self.places.find(spread(tag), |place| {
            if place.tag == tag
                && let Some((id, connection)) = connections.at(place.index)
                && connection.as_ref() == tuple
            {
                found = Some(id);
            }
            found.is_some()
        });
        found
    }

    /// Adds a connection. No other one that was added has its ends.
    pub(crate) fn insert(&mut self, tuple: &FourTuple, id: ConnId) {
        let tag = self.tag(tuple);
        let place = Place { tag, index: id.index };
        self.places.insert_unique(spread(tag), place, |place| spread(place.tag));
    }

    /// Forgets a connection. To be called before its slot is free for another.
    pub(crate) fn remove(&mut self, tuple: &FourTuple, id: ConnId) {
        let tag = self.tag(tuple);
        let found = self
            .places
            .find_entry(spread(tag), |place| place.tag == tag && place.index == id.index);
        if let Ok(entry) = found {
            entry.remove();
        }
    }
}

/// A hash of 64 bits from one of 32: the table takes the place from the lowest of them and
/// from the highest seven what it compares first. They have nothing in common up to 2^25 places.
fn spread(tag: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_slot_is_not_found_by_its_old_name() {
        let mut slab = Slab::default();
        let a = slab.insert(Box::new('a'));
        assert_eq!(slab.remove(a).as_deref(), Some(&'a'));
        let b = slab.insert(Box::new('b'));
        assert_eq!(a.index, b.index);
        assert_eq!((slab.get(a), slab.get(b), slab.len()), (None, Some(&'b'), 1));
        assert!(slab.remove(a).is_none());
    }

    /// What has ends and nothing else.
    struct Ends(FourTuple);

    impl AsRef<FourTuple> for Ends {
        fn as_ref(&self) -> &FourTuple {
            &self.0
        }
    }

    fn tuples() -> impl Iterator<Item = FourTuple> {
        let address = |n: u32| [10, 1, (n >> 24) as u8, (n >> 16) as u8];
        (0..).map(move |n: u32| FourTuple::new(([10, 0, 0, 2], 80), (address(n), n as u16)))
    }

    #[test]
    fn two_with_the_same_tag_are_told_apart() {
        let mut demux = Demux::new(Keys::new([9; 16]));
        let mut seen = std::collections::HashMap::new();
        let (first, second) = tuples()
            .find_map(|tuple| seen.insert(demux.tag(&tuple), tuple).map(|other| (other, tuple)))
            .expect("some hundred thousand have two with the same 32 bits");
        let mut slab = Slab::default();
        let a = slab.insert(Box::new(Ends(first)));
        demux.insert(&first, a);
        assert_eq!(demux.find(&slab, &second), None);
        let b = slab.insert(Box::new(Ends(second)));
        demux.insert(&second, b);
        assert_eq!((demux.find(&slab, &first), demux.find(&slab, &second)), (Some(a), Some(b)));
        demux.remove(&first, a);
        assert_eq!((demux.find(&slab, &first), demux.find(&slab, &second)), (None, Some(b)));
        // The ends may be another's while the slot is still the old one's.
        let c = slab.insert(Box::new(Ends(first)));
        demux.insert(&first, c);
        demux.remove(&first, a);
        assert_eq!(demux.find(&slab, &first), Some(c));
    }

    #[test]
    fn all_are_found_however_the_table_grows() {
        let mut demux = Demux::new(Keys::new([9; 16]));
        let mut slab = Slab::default();
        let mut add = |tuple| {
            let id = slab.insert(Box::new(Ends(tuple)));
            demux.insert(&tuple, id);
            (tuple, id)
        };
        let all: Vec<_> = tuples().take(5000).map(&mut add).collect();
        for (tuple, id) in &all {
            assert_eq!(demux.find(&slab, tuple), Some(*id));
        }
        for (tuple, id) in all.iter().step_by(2) {
            demux.remove(tuple, *id);
        }
        for (index, (tuple, id)) in all.iter().enumerate() {
            assert_eq!(demux.find(&slab, tuple), (index % 2 == 1).then_some(*id));
        }
    }
}
