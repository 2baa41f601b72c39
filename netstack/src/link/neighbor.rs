//! The neighbour table: ARP resolution (RFC 826, RFC 1122 2.3.2).
//!
//! ```text
//!             first use            answer                  60 s, used again
//!   (absent) ----------> Incomplete ------> Reachable ----------------------> Probing
//!                            |    ^             ^                                |
//!            3 s no answer   v    | 1 s later   |      answer                    | 3 s no answer
//!                          Failed-+             +--------------------------------+--> Incomplete
//! ```
//! In Reachable and Probing packets flow. In Incomplete they wait, a few for each neighbour;
//! in Failed they are dropped, so that TCP's own timers see the loss.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use crate::config::MacAddr;
use crate::entropy::Keys;
use crate::ip::Packet;
use crate::stats::Stats;
use crate::tcp::demux::ConnId;
use crate::time::Instant;

/// Neighbours known at one time: a /22 full of clients. The least recently confirmed one
/// gives way.
const MAX_NEIGHBORS: usize = 1024;
/// Packets that wait for one neighbour's address (RFC 1122 2.3.2.2 asks for at least one).
const MAX_WAITING_PACKETS: usize = 16;
/// Neighbours whose first answer is awaited at one time. Each of them is asked for by broadcasts, so
/// this bounds what a flood of packets from invented addresses can make us shout; and
/// neighbours that did answer are never forgotten for ones that may not exist.
const MAX_UNRESOLVED: usize = 256;
/// How long an answer is trusted without another (RFC 1122 2.3.2.1 suggests a minute).
const REACHABLE: Duration = Duration::from_secs(60);
/// RFC 1122 2.3.2.1: at most one request a second for each neighbour.
const RETRY: Duration = Duration::from_secs(1);
const TRIES: u8 = 3;

/// What is known about a next hop.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// Send to this address.
    Known(MacAddr),
    /// Resolution is under way: wait.
    Pending,
    /// The neighbour does not answer.
    Failed,
}

/// An ARP request that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// To everyone, or to the address that is to be confirmed.
    pub(crate) to: MacAddr,
    pub(crate) target: IpAddr,
}

#[derive(Debug)]
enum State {
    Incomplete { tries: u8, next: Instant },
    Reachable { mac: MacAddr, until: Instant },
    Probing { mac: MacAddr, tries: u8, next: Instant },
    Failed { until: Instant },
}

#[derive(Debug)]
struct Neighbor {
    state: State,
    packets: Vec<Packet>,
    /// Connections that have something to send; their data stays in their own queues. As
    /// many at the most as there are connections.
    connections: BTreeSet<ConnId>,
}

impl Neighbor {
    fn new(state: State) -> Self {
        Self { state, packets: Vec::new(), connections: BTreeSet::new() }
    }
}

/// What becomes free when a neighbour's state changes.
#[derive(Debug, Default)]
pub(crate) struct Released {
    pub(crate) packets: Vec<Packet>,
    pub(crate) connections: BTreeSet<ConnId>,
}

#[derive(Debug)]
pub(crate) struct Neighbors {
    table: HashMap<IpAddr, Neighbor, Keys>,
    /// Connections that waited for a neighbour that had to make room: they ask again.
    orphans: BTreeSet<ConnId>,
    /// Entries in [`State::Incomplete`].
    unresolved: usize,
    /// The earliest time at which something is due; exact after each scan, never too late.
    next: Instant,
}

impl Neighbors {
    pub(crate) fn new(keys: Keys) -> Self {
        Self {
            table: HashMap::with_hasher(keys),
            orphans: BTreeSet::new(),
            unresolved: 0,
            next: Instant::NEVER,
        }
    }

    /// The next hop's address, starting its resolution or confirmation if it is due:
    /// `requests` gets what is to be sent for that.
    pub(crate) fn lookup(
        &mut self,
        now: Instant,
        hop: IpAddr,
        requests: &mut Vec<Request>,
        stats: &mut Stats,
    ) -> Lookup {
        match self.table.get_mut(&hop) {
            Some(Neighbor { state: State::Reachable { mac, until }, .. }) if *until > now => {
                return Lookup::Known(*mac);
            }
            Some(Neighbor { state: State::Probing { mac, .. }, .. }) => return Lookup::Known(*mac),
            Some(Neighbor { state: State::Incomplete { .. }, .. }) => return Lookup::Pending,
            Some(Neighbor { state: State::Failed { until }, .. }) if *until > now => {
                return Lookup::Failed;
            }
            Some(neighbor) => {
                if let State::Reachable { mac, .. } = neighbor.state {
                    // Old, but most likely still right: use it while asking.
                    let next = now + RETRY;
                    neighbor.state = State::Probing { mac, tries: 1, next };
                    self.next = self.next.min(next);
                    requests.push(Request { to: mac, target: hop });
                    return Lookup::Known(mac);
                }
            }
            None => {}
        }
        if self.unresolved >= MAX_UNRESOLVED {
            return Lookup::Failed;
        }
        if !self.table.contains_key(&hop) {
            self.make_room(now, stats);
        }
        let next = now + RETRY;
        let state = State::Incomplete { tries: 1, next };
        self.table.insert(hop, Neighbor::new(state));
        self.unresolved += 1;
        self.next = self.next.min(next);
        requests.push(Request { to: MacAddr::BROADCAST, target: hop });
        Lookup::Pending
    }

    /// Keeps a packet for a pending neighbour.
    pub(crate) fn wait_packet(&mut self, hop: IpAddr, packet: Packet, stats: &mut Stats) {
        match self.table.get_mut(&hop) {
            Some(neighbor) if neighbor.packets.len() < MAX_WAITING_PACKETS => {
                neighbor.packets.push(packet);
            }
            _ => stats.drop_unresolved += 1,
        }
    }

    /// Notes a connection that has something to send to a pending neighbour.
    pub(crate) fn wait_connection(&mut self, hop: IpAddr, id: ConnId) {
        if let Some(neighbor) = self.table.get_mut(&hop) {
            neighbor.connections.insert(id);
        }
    }

    /// An ARP packet named this pair. A known neighbour is updated by any; an unknown one
    /// is added only if it talks to us (`create`), as in RFC 826's merge flag: else any
    /// station on the segment could fill the table.
    pub(crate) fn learn(
        &mut self,
        now: Instant,
        address: IpAddr,
        mac: MacAddr,
        create: bool,
        stats: &mut Stats,
    ) -> Released {
        let state = State::Reachable { mac, until: now + REACHABLE };
        if let Some(neighbor) = self.table.get_mut(&address) {
            if matches!(std::mem::replace(&mut neighbor.state, state), State::Incomplete { .. }) {
                self.unresolved -= 1;
            }
            return Released {
                packets: std::mem::take(&mut neighbor.packets),
                connections: std::mem::take(&mut neighbor.connections),
            };
        }
        if create {
            self.make_room(now, stats);
            self.table.insert(address, Neighbor::new(state));
        }
        Released::default()
    }

    fn make_room(&mut self, now: Instant, stats: &mut Stats) {
        if self.table.len() < MAX_NEIGHBORS {
            return;
        }
        // Failed and silent ones first, then the longest unconfirmed.
        let victim = self
            .table
            .iter()
            .min_by_key(|(address, neighbor)| {
                let class = match neighbor.state {
                    State::Failed { until } => (0, until),
                    State::Incomplete { next, .. } => (1, next),
                    State::Probing { next, .. } => (2, next),
                    State::Reachable { until, .. } => (3, until),
                };
                (class, **address)
            })
            .map(|(address, _)| *address);
        if let Some(neighbor) = victim.and_then(|address| self.table.remove(&address)) {
            if matches!(neighbor.state, State::Incomplete { .. }) {
                self.unresolved -= 1;
            }
            stats.neighbor_evicted += 1;
            stats.drop_unresolved += neighbor.packets.len() as u64;
            if !neighbor.connections.is_empty() {
                self.orphans.extend(neighbor.connections);
                // A second apart, as any two questions for one neighbour.
                self.next = self.next.min(now + RETRY);
            }
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.next.is_armed().then_some(self.next)
    }

    /// Asks again, or gives up; `requests` gets what is to be sent, and the connections
    /// that waited for a neighbour that failed are returned.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        requests: &mut Vec<Request>,
        stats: &mut Stats,
    ) -> BTreeSet<ConnId> {
        if self.next > now {
            return BTreeSet::new();
        }
        let mut freed = std::mem::take(&mut self.orphans);
        let mut earliest = Instant::NEVER;
        self.unresolved = 0;
        for (&target, neighbor) in &mut self.table {
            match &mut neighbor.state {
                State::Incomplete { tries, next } if *next <= now => {
                    if *tries == TRIES {
                        neighbor.state = State::Failed { until: now + RETRY };
                        stats.drop_unresolved += neighbor.packets.len() as u64;
                        neighbor.packets.clear();
                        freed.append(&mut neighbor.connections);
                    } else {
                        *tries += 1;
                        *next = now + RETRY;
                        requests.push(Request { to: MacAddr::BROADCAST, target });
                    }
                }
                State::Probing { mac, tries, next } if *next <= now => {
                    let next_at = now + RETRY;
                    if *tries == TRIES {
                        requests.push(Request { to: MacAddr::BROADCAST, target });
                        neighbor.state = State::Incomplete { tries: 1, next: next_at };
                    } else {
                        *tries += 1;
                        *next = next_at;
                        requests.push(Request { to: *mac, target });
                    }
                }
                _ => {}
            }
            if let State::Incomplete { next, .. } | State::Probing { next, .. } = neighbor.state {
                earliest = earliest.min(next);
            }
            self.unresolved += usize::from(matches!(neighbor.state, State::Incomplete { .. }));
        }
        self.next = earliest;
        // The table's order is its hash's; a wire trace should not depend on that.
        requests.sort_by_key(|request| request.target);
        freed
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HOP_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
    const HOP: IpAddr = IpAddr::V4(HOP_V4);
    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    struct Fixture {
        neighbors: Neighbors,
        stats: Stats,
        requests: Vec<Request>,
    }

    impl Fixture {
        fn new() -> Self {
            let neighbors = Neighbors::new(Keys::new([0; 16]));
            Self { neighbors, stats: Stats::default(), requests: Vec::new() }
        }

        fn lookup(&mut self, ms: u64, hop: impl Into<IpAddr>) -> Lookup {
            let now = Instant::from_millis(ms);
            self.neighbors.lookup(now, hop.into(), &mut self.requests, &mut self.stats)
        }

        fn learn(&mut self, ms: u64, create: bool) -> Released {
            self.neighbors.learn(Instant::from_millis(ms), HOP, MAC, create, &mut self.stats)
        }

        fn hear(&mut self, ms: u64, address: impl Into<IpAddr>) {
            self.neighbors.learn(
                Instant::from_millis(ms),
                address.into(),
                MAC,
                true,
                &mut self.stats,
            );
        }

        fn tick(&mut self, ms: u64) -> BTreeSet<ConnId> {
            let now = Instant::from_millis(ms);
            self.neighbors.handle_timeout(now, &mut self.requests, &mut self.stats)
        }
    }

    fn icmp() -> Packet {
        Packet::Icmp { source: HOP_V4, destination: HOP_V4, message: Vec::new() }
    }

    #[test]
    fn what_waits_is_released_by_the_answer_and_bounded_before_it() {
        let mut f = Fixture::new();
        assert_eq!(f.lookup(0, HOP), Lookup::Pending);
        assert_eq!(f.requests, [Request { to: MacAddr::BROADCAST, target: HOP }]);
        for _ in 0..MAX_WAITING_PACKETS + 3 {
            f.neighbors.wait_packet(HOP, icmp(), &mut f.stats);
        }
        assert_eq!(f.stats.drop_unresolved, 3);
        assert_eq!(f.learn(5, false).packets.len(), MAX_WAITING_PACKETS);
        assert_eq!(f.lookup(6, HOP), Lookup::Known(MAC));
    }

    #[test]
    fn three_requests_a_second_apart_then_failed_then_asked_anew() {
        let mut f = Fixture::new();
        f.lookup(0, HOP);
        let id = ConnId { index: 1, generation: 0 };
        f.neighbors.wait_connection(HOP, id);
        assert!(f.tick(1000).is_empty());
        assert!(f.tick(1500).is_empty());
        assert!(f.tick(2000).is_empty());
        assert_eq!(f.requests.len(), 3);
        assert_eq!(f.tick(3000), BTreeSet::from([id]));
        assert_eq!(f.lookup(3500, HOP), Lookup::Failed);
        assert_eq!(f.lookup(4000, HOP), Lookup::Pending);
        assert_eq!(f.requests.len(), 4);
    }

    #[test]
    fn an_old_entry_is_used_while_it_is_confirmed_and_lost_if_it_is_not() {
        let mut f = Fixture::new();
        f.learn(0, true);
        assert_eq!(f.lookup(59_999, HOP), Lookup::Known(MAC));
        assert!(f.requests.is_empty());
        assert_eq!(f.lookup(60_000, HOP), Lookup::Known(MAC));
        assert_eq!(f.requests, [Request { to: MAC, target: HOP }]);
        f.tick(61_000);
        f.tick(62_000);
        assert_eq!(f.lookup(62_500, HOP), Lookup::Known(MAC));
        f.tick(63_000);
        assert_eq!(f.requests.last(), Some(&Request { to: MacAddr::BROADCAST, target: HOP }));
        assert_eq!(f.lookup(63_001, HOP), Lookup::Pending);
    }

    #[test]
    fn strangers_are_not_learnt_and_the_table_is_bounded() {
        let mut f = Fixture::new();
        f.learn(0, false);
        assert_eq!(f.neighbors.len(), 0);
        f.learn(0, true);
        // What does not answer is asked for within bounds, and costs no neighbour that did.
        for i in 0..2 * MAX_NEIGHBORS as u32 {
            f.lookup(1, Ipv4Addr::from(0x0b00_0000 + i));
        }
        assert_eq!((f.neighbors.len(), f.requests.len()), (1 + MAX_UNRESOLVED, MAX_UNRESOLVED));
        assert_eq!(f.lookup(1, Ipv4Addr::new(12, 0, 0, 1)), Lookup::Failed);
        assert_eq!(f.lookup(2, HOP), Lookup::Known(MAC));
        // Those that talk to us make room for themselves.
        for i in 0..2 * MAX_NEIGHBORS as u32 {
            f.hear(3, Ipv4Addr::from(0x0c00_0000 + i));
        }
        assert_eq!(f.neighbors.len(), MAX_NEIGHBORS);
        // With none of them unanswered any more, others may be asked for.
        assert_eq!(f.lookup(4, Ipv4Addr::new(13, 0, 0, 1)), Lookup::Pending);
    }

    #[test]
    fn unanswered_questions_end_and_make_place_for_others() {
        let mut f = Fixture::new();
        for i in 0..MAX_UNRESOLVED as u32 {
            assert_eq!(f.lookup(0, Ipv4Addr::from(0x0b00_0000 + i)), Lookup::Pending);
        }
        assert_eq!(f.lookup(0, HOP), Lookup::Failed);
        for second in 1..=3 {
            f.tick(second * 1000);
        }
        assert_eq!(f.lookup(3000, HOP), Lookup::Pending);
    }

    #[test]
    fn a_connection_whose_neighbour_made_room_asks_again() {
        let mut f = Fixture::new();
        assert_eq!(f.lookup(0, HOP), Lookup::Pending);
        let id = ConnId { index: 1, generation: 0 };
        f.neighbors.wait_connection(HOP, id);
        for i in 0..MAX_NEIGHBORS as u32 {
            f.hear(1, Ipv4Addr::from(0x0b00_0000 + i));
        }
        assert!(f.tick(5000).contains(&id));
    }
}
