//! Something bounded that all clients share, of which nobody takes the others' part.
//!
//! First come, first served would let one hostile address take all. So a client may have as much
//! as is left for the others: one alone half of it, two a third each, and something is always left
//! for who comes (Choudhury and Hahne, "Dynamic Queue Length Thresholds", 1998). Nothing is taken away
//! from who has it: what a client has come to have ends by the time that it may take.
//!
//! A client is an IPv4 address, or the 64 bits of an IPv6 address that tell networks apart, as a
//! host may take any address behind them; on the link itself, where all share these, the other 64.
//! The same address in two VLANs is two clients, as it may be two hosts.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use tagwire_netstack::VlanStack;

use crate::transport::Transport;

/// Clients for which the table keeps its room once it is empty.
const ROOM_FOR_CLIENTS: usize = 1024;

/// What is counted as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Client {
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
    pub(crate) fn new(vlan: VlanStack, address: IpAddr) -> Self {
        let (kind, number) = match address {
            IpAddr::V4(v4) => (Kind::V4, v4.to_bits().into()),
            IpAddr::V6(v6) if v6.is_unicast_link_local() => (Kind::Neighbor, v6.to_bits() as u64),
            IpAddr::V6(v6) => (Kind::Network, (v6.to_bits() >> 64) as u64),
        };
        Self { vlan, kind, number }
    }

    /// The client of a connection.
    pub(crate) fn of(connection: &impl Transport) -> Self {
        Self::new(connection.local().vlan, connection.peer().ip())
    }
}

/// So much of something, and who has how much of it. One worker's.
#[derive(Debug)]
pub(crate) struct Shares {
    room: usize,
    taken: RefCell<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Each client that has something: there are never more than connections.
    by: HashMap<Client, usize>,
}

impl Shares {
    pub(crate) fn new(room: usize) -> Rc<Self> {
        Rc::new(Self { room, taken: RefCell::default() })
    }

    /// What all clients have together.
    pub(crate) fn taken(&self) -> usize {
        self.taken.borrow().all
    }

    /// So much more for `client`; `None`: it would have more than is left for the others.
    pub(crate) fn take(self: &Rc<Self>, client: Client, amount: usize) -> Option<Share> {
        if amount > 0 {
            let mut taken = self.taken.borrow_mut();
            let all = taken.all.checked_add(amount)?;
            let own = taken.by.get(&client).map_or(0, |own| *own) + amount;
            if own > self.room.checked_sub(all)? {
                return None;
            }
            taken.all = all;
            taken.by.insert(client, own);
        }
        Some(Share { shares: Rc::clone(self), client, amount })
    }
}

/// What a connection has, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    shares: Rc<Shares>,
    client: Client,
    amount: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.amount == 0 {
            return;
        }
        let mut taken = self.shares.taken.borrow_mut();
        taken.all -= self.amount;
        if let Some(own) = taken.by.get_mut(&self.client) {
            *own -= self.amount;
            if *own == 0 {
                taken.by.remove(&self.client);
            }
        }
        if taken.by.is_empty() {
            taken.by.shrink_to(ROOM_FOR_CLIENTS);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn client(number: u32) -> Client {
        Client::new(VlanStack::UNTAGGED, Ipv4Addr::from_bits(number).into())
    }

    /// All that `client` gets, one by one.
    fn fill(shares: &Rc<Shares>, number: u32) -> Vec<Share> {
        std::iter::from_fn(|| shares.take(client(number), 1)).collect()
    }

    #[test]
    fn one_has_half_of_it_and_leaves_half_of_the_rest_to_each_who_comes() {
        let shares = Shares::new(1000);
        let hostile = fill(&shares, 1);
        assert_eq!(hostile.len(), 500);
        let other = fill(&shares, 2);
        assert_eq!(other.len(), 250);
        assert_eq!(fill(&shares, 3).len(), 125);
        assert_eq!(shares.taken(), 750);
        drop(other);
        assert_eq!(fill(&shares, 3).len(), 250, "what is given back is there again");
        assert!(shares.take(client(2), 251).is_none());
        assert!(shares.take(client(1), 0).is_some(), "nothing is always there");
    }

    #[test]
    fn many_that_take_turns_have_the_same() {
        let shares = Shares::new(1000);
        let mut held =
            vec![Vec::new(); 9].into_iter().map(|_: Vec<()>| Vec::new()).collect::<Vec<_>>();
        for turn in 0..9 * 1000 {
            held[turn % 9].extend(shares.take(client(turn as u32 % 9), 1));
        }
        assert!(held.iter().all(|held| held.len() == 100), "{:?}", shares.taken());
        assert!(shares.take(client(10), 50).is_some());
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
            let client = |text: &str| Client::new(VlanStack::UNTAGGED, text.parse().unwrap());
            assert_eq!(client(one) == client(other), same, "{one} {other}");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_is_within_bounds_and_comes_back(
            room in 0usize..100,
            turns in prop::collection::vec((0u32..4, 0usize..40, any::<bool>()), 0..60),
        ) {
            let shares = Shares::new(room);
            let mut held: Vec<Share> = Vec::new();
            for (number, amount, back) in turns {
                if back && !held.is_empty() {
                    held.swap_remove(amount % held.len());
                }
                held.extend(shares.take(client(number), amount));
                let all: usize = held.iter().map(|share| share.amount).sum();
                prop_assert!(shares.taken() == all && all <= room);
            }
            held.clear();
            prop_assert!(shares.taken.borrow().all == 0 && shares.taken.borrow().by.is_empty());
        }
    }
}
