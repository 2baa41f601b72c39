//! From a segment's addresses and ports to what handles it, in one hash lookup.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::entropy::Keys;

/// The two ends of a connection, seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FourTuple {
    /// Our address and port.
    pub local: SocketAddrV4,
    /// The peer's.
    pub remote: SocketAddrV4,
}

impl FourTuple {
    /// All of it in twelve octets.
    pub(crate) fn octets(&self) -> [u8; 12] {
        let mut octets = [0; 12];
        octets[..4].copy_from_slice(&self.local.ip().octets());
        octets[4..8].copy_from_slice(&self.remote.ip().octets());
        octets[8..10].copy_from_slice(&self.local.port().to_be_bytes());
        octets[10..].copy_from_slice(&self.remote.port().to_be_bytes());
        octets
    }

    #[cfg(test)]
    pub(crate) fn for_test(port: u16) -> Self {
        Self {
            local: SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 80),
            remote: SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), port),
        }
    }

    pub(crate) fn new(local: (Ipv4Addr, u16), remote: (Ipv4Addr, u16)) -> Self {
        Self {
            local: SocketAddrV4::new(local.0, local.1),
            remote: SocketAddrV4::new(remote.0, remote.1),
        }
    }
}

impl Hash for FourTuple {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // One write for the whole key: the hasher's cost is per call as much as per octet.
        state.write(&self.octets());
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
