//! Who is served: so many connections in all, and so many of one client, whatever worker they
//! come to.
//!
//! A connection above a limit is accepted all the same, and its first request answered with 503 or
//! 429, as a reset would tell its client nothing; but [`MAX_TURNED_AWAY`] of them at a time and no
//! more, of one client as many as are left for the others.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tagwire_netstack::VlanStack;

use crate::limits::{Limits, MAX_TURNED_AWAY};
use crate::respond::Status;
use crate::shares::{Client, Share, Shares};

/// Parts of the table, so that workers seldom want the same one at a time.
const PARTS: usize = 16;

/// What all workers count together.
#[derive(Debug, Default)]
pub struct Census {
    served: AtomicUsize,
    /// Each client that has a [`Place`], so there are never more than connections.
    clients: [Mutex<HashMap<Client, usize>>; PARTS],
    hasher: RandomState,
}

impl Census {
    fn part(&self, client: Client) -> MutexGuard<'_, HashMap<Client, usize>> {
        let part = self.hasher.hash_one(client) as usize % PARTS;
        self.clients[part].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more connection of `client`, if it has less than `most`.
    fn place(self: &Arc<Self>, client: Client, most: usize) -> Option<Place> {
        let mut part = self.part(client);
        let count = part.entry(client).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(part);
        Some(Place { census: Arc::clone(self), client })
    }
}

/// A connection of a client's, as long as it is counted.
#[derive(Debug)]
pub struct Place {
    census: Arc<Census>,
    client: Client,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut part = self.census.part(self.client);
        if let Entry::Occupied(mut count) = part.entry(self.client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// A worker's door.
#[derive(Debug)]
pub struct Door {
    census: Arc<Census>,
    /// Of this worker's streams: those that the census counts.
    counted: usize,
    /// Those that are being turned away.
    turned_away: Rc<Shares>,
}

impl Door {
    /// One of those that count together.
    pub fn new(census: Arc<Census>) -> Self {
        Self { census, counted: 0, turned_away: Shares::new(MAX_TURNED_AWAY) }
    }

    /// Lets a connection from `peer`, in `vlan`, in; where the limit of its client counts, with the
    /// place that it takes.
    ///
    /// # Errors
    /// It is too many: the status to turn it away with.
    pub fn admit(
        &mut self,
        vlan: VlanStack,
        peer: IpAddr,
        limits: &Limits,
    ) -> Result<Option<Place>, Status> {
        if self.census.served.fetch_add(1, Ordering::Relaxed) >= limits.max_connections {
            self.census.served.fetch_sub(1, Ordering::Relaxed);
            return Err(Status::Unavailable);
        }
        let place = match limits.max_per_address {
            0 => None,
            most => {
                let place = self.census.place(Client::new(vlan, peer), most);
                if place.is_none() {
                    self.census.served.fetch_sub(1, Ordering::Relaxed);
                    return Err(Status::TooManyRequests);
                }
                place
            }
        };
        self.counted += 1;
        Ok(place)
    }

    /// Room to turn away one more of `peer`, in `vlan`, with a word; `None`: too many are being told.
    pub(crate) fn turn_away(&self, vlan: VlanStack, peer: IpAddr) -> Option<Share> {
        self.turned_away.take(Client::new(vlan, peer), 1)
    }

    /// There are so many streams now: those that are gone make room.
    pub fn settle(&mut self, streams: usize) {
        let served = streams.saturating_sub(self.turned_away.taken());
        let gone = self.counted.saturating_sub(served);
        if gone > 0 {
            self.counted -= gone;
            self.census.served.fetch_sub(gone, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VLAN: VlanStack = VlanStack::UNTAGGED;

    fn doors<const N: usize>() -> [Door; N] {
        let census = Arc::new(Census::default());
        std::array::from_fn(|_| Door::new(Arc::clone(&census)))
    }

    /// Clients that are counted by themselves.
    fn clients(door: &Door) -> usize {
        door.census.clients.iter().map(|part| part.lock().unwrap().len()).sum()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn workers_count_all_connections_together() {
        let [mut one, mut other] = doors();
        let limits = Limits { max_connections: 3, ..Limits::DEFAULT };
        let peer = address("10.0.0.1");
        assert!(one.admit(VLAN, peer, &limits).unwrap().is_none());
        assert!(one.admit(VLAN, peer, &limits).unwrap().is_none());
        assert!(other.admit(VLAN, peer, &limits).unwrap().is_none());
        assert_eq!(one.admit(VLAN, peer, &limits).unwrap_err(), Status::Unavailable);
        assert_eq!(other.admit(VLAN, peer, &limits).unwrap_err(), Status::Unavailable);
        // One that is being told is no connection that is served.
        let told = one.turn_away(VLAN, peer).unwrap();
        one.settle(3);
        assert_eq!(other.admit(VLAN, peer, &limits).unwrap_err(), Status::Unavailable);
        one.settle(2);
        assert!(other.admit(VLAN, peer, &limits).is_ok());
        drop(told);
        one.settle(1);
        assert_eq!(other.admit(VLAN, peer, &limits).unwrap_err(), Status::Unavailable);
    }

    #[test]
    fn a_client_has_its_share_with_any_worker() {
        let [mut one, mut other] = doors();
        let limits = Limits { max_per_address: 2, ..Limits::DEFAULT };
        let peer = address("10.0.0.1");
        let first = one.admit(VLAN, peer, &limits).unwrap();
        let second = other.admit(VLAN, peer, &limits).unwrap();
        assert_eq!(one.admit(VLAN, peer, &limits).unwrap_err(), Status::TooManyRequests);
        assert_eq!(other.admit(VLAN, peer, &limits).unwrap_err(), Status::TooManyRequests);
        let neighbor = one.admit(VLAN, address("10.0.0.2"), &limits).unwrap();
        assert_eq!(clients(&one), 2);
        drop(first);
        let again = other.admit(VLAN, peer, &limits).unwrap();
        assert!(again.is_some());
        drop((second, neighbor, again));
        assert_eq!(clients(&one), 0, "nobody is kept who has no connection");
        // Those that were turned away are not counted as served.
        one.settle(0);
        other.settle(0);
        assert_eq!(one.census.served.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_same_address_in_two_vlans_is_two_clients() {
        let [mut door] = doors();
        let limits = Limits { max_per_address: 1, ..Limits::DEFAULT };
        let peer = address("10.0.0.1");
        let vlans = ["0", "5", "6", "5.6"].map(|text| text.parse::<VlanStack>().unwrap());
        let places = vlans.map(|vlan| door.admit(vlan, peer, &limits).unwrap());
        for vlan in vlans {
            let refused = door.admit(vlan, peer, &limits).unwrap_err();
            assert_eq!(refused, Status::TooManyRequests, "{vlan}");
        }
        assert_eq!(clients(&door), vlans.len());
        drop(places);
        assert_eq!(clients(&door), 0);
    }

    #[test]
    fn one_that_is_told_a_lot_leaves_room_for_others_to_be_told() {
        let [door] = doors();
        let fill = |text: &str| {
            let peer = address(text);
            std::iter::from_fn(|| door.turn_away(VLAN, peer)).collect::<Vec<_>>()
        };
        let hostile = fill("10.0.0.1");
        assert_eq!(hostile.len(), MAX_TURNED_AWAY / 2);
        assert_eq!(fill("10.0.0.2").len(), MAX_TURNED_AWAY / 4);
        drop(hostile);
        assert_eq!(fill("10.0.0.2").len(), MAX_TURNED_AWAY / 2);
    }
}
