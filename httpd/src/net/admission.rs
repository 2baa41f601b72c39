//! Who is served: so many connections in all, and so many of one client, whatever worker they
//! come to.
//!
//! A client is an IPv4 address, or the 64 bits of an IPv6 address that tell networks apart, as a
//! host may take any address behind them; on the link itself, where all share these, the other 64.
//! The same address in two VLANs is two clients, as it may be two hosts.
//!
//! A connection above a limit is accepted all the same, and its first request answered with 503 or
//! 429, as a reset would tell its client nothing; but [`MAX_TURNED_AWAY`] of them at a time and no
//! more.

use std::cell::Cell;
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

/// Parts of the table, so that workers seldom want the same one at a time.
const PARTS: usize = 16;

/// What is counted as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Client {
    vlan: VlanStack,
    kind: Kind,
    /// All of an IPv4 address, half of an IPv6 address.
    number: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    V4,
    Network,
    /// fe80::/10: by the interface identifier.
    Neighbor,
}

impl Client {
    fn new(vlan: VlanStack, address: IpAddr) -> Self {
        let (kind, number) = match address {
            IpAddr::V4(v4) => (Kind::V4, v4.to_bits().into()),
            IpAddr::V6(v6) if v6.is_unicast_link_local() => (Kind::Neighbor, v6.to_bits() as u64),
            IpAddr::V6(v6) => (Kind::Network, (v6.to_bits() >> 64) as u64),
        };
        Self { vlan, kind, number }
    }
}

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

/// A connection that is being turned away, as long as it lasts.
#[derive(Debug)]
pub struct TurnedAway(Rc<Cell<usize>>);

impl Drop for TurnedAway {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A worker's door.
#[derive(Debug)]
pub struct Door {
    census: Arc<Census>,
    /// Of this worker's streams: those that the census counts.
    counted: usize,
    turned_away: Rc<Cell<usize>>,
}

impl Door {
    /// One of those that count together.
    pub fn new(census: Arc<Census>) -> Self {
        Self { census, counted: 0, turned_away: Rc::default() }
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

    /// Room to turn one more away with a word; `None`: too many are being told.
    pub fn turn_away(&self) -> Option<TurnedAway> {
        let now = self.turned_away.get();
        (now < MAX_TURNED_AWAY).then(|| {
            self.turned_away.set(now + 1);
            TurnedAway(Rc::clone(&self.turned_away))
        })
    }

    /// There are so many streams now: those that are gone make room.
    pub fn settle(&mut self, streams: usize) {
        let served = streams.saturating_sub(self.turned_away.get());
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
        let told = one.turn_away().unwrap();
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
    fn an_ipv6_client_is_its_network() {
        for (one, other, same) in [
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
            ("fe80::1", "fe80::2", false),
            ("fe80::1", "fe80::1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("::10.0.0.1", "10.0.0.1", false),
        ] {
            let client = |text| Client::new(VLAN, address(text));
            assert_eq!(client(one) == client(other), same, "{one} {other}");
        }
    }

    #[test]
    fn only_so_many_are_told() {
        let [door] = doors();
        let told: Vec<_> = (0..MAX_TURNED_AWAY).map(|_| door.turn_away().unwrap()).collect();
        assert!(door.turn_away().is_none());
        drop(told);
        assert!(door.turn_away().is_some());
    }
}
