//! From a segment's addresses and ports to what handles it, in one hash lookup.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use crate::entropy::Keys;

/// An address of either family with a port.
///
/// Not [`SocketAddr`], which keeps a flow label and a scope beside them: every connection
/// and every record holds a pair of these, and the table of connections as well.
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

/// Connections by their ends.
pub(crate) type Demux = HashMap<FourTuple, ConnId, Keys>;

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
}
