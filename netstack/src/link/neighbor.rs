//! The neighbour table: ARP and ND resolution (RFC 826, RFC 1122 2.3.2, RFC 4861 7.3).
//!
//! ```text
//!            first use           answer                 30 s, used again
//!  (absent) ----------> Incomplete ----> Reachable --------------------------> Delay
//!     |                   |  ^   ^         ^  ^   TCP gets through               | 5 s
//!     | asks us           |  |   |         |  +----------------------------------+
//!     +-> Stale --> Delay |  |   |         |  answer                             v
//!           first use     |  |   |         +-----------------------------------Probe
//!          3 s no answer  v  |   +------------------------------------------------+
//!                        Failed   used again, 1 to 8 s later       3 s no answer
//! ```
//! In Incomplete packets wait, a few for each neighbour; in Failed they are dropped, so that
//! TCP's own timers see the loss; in the others they flow.
//!
//! # What a flood can do
//!
//! Entries are of five [ranks](Rank), each with its own bound, and one that comes in takes
//! the place of the oldest of its own rank. So whoever invents addresses and asks for ours,
//! or has us ask, competes with the like; a neighbour that has answered, and even more one to
//! which TCP gets through, is forgotten for its equals alone. Every step is O(log n).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::config::MacAddr;
use crate::entropy::Keys;
use crate::ip::Packet;
use crate::stats::Stats;
use crate::tcp::demux::ConnId;
use crate::time::Instant;
use crate::timers::TimerQueue;

/// Packets that wait for one neighbour's address (RFC 1122 2.3.2.2 asks for at least one).
const MAX_WAITING_PACKETS: usize = 16;
/// How long a confirmation is trusted without another (RFC 4861 10: REACHABLE_TIME; RFC 1122
/// 2.3.2.1 suggests up to a minute).
const REACHABLE: Duration = Duration::from_secs(30);
/// RFC 4861 10: DELAY_FIRST_PROBE_TIME, in which TCP may confirm what would be asked.
const DELAY: Duration = Duration::from_secs(5);
/// RFC 1122 2.3.2.1: at most one request a second for each neighbour.
const RETRY: Duration = Duration::from_secs(1);
const TRIES: u8 = 3;
/// The silence after a failed resolution doubles from [`RETRY`] as often as this: 8 s. More
/// would keep a rebooted gateway unused for long.
const MAX_BACKOFF: u8 = 3;
/// Between two answers to one known neighbour: its stack asks once a second.
const REPLY_INTERVAL: Duration = Duration::from_millis(50);
/// News for other workers that may wait; what is lost is learnt by asking.
const MAX_NEWS: usize = 256;

/// How much is known for a neighbour; the higher, the less likely it is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// It did not answer.
    Failed,
    /// Its first answer is awaited.
    Incomplete,
    /// It asked us.
    Heard,
    /// It answered us.
    Answered,
    /// A TCP connection gets through to it.
    Proven,
}

impl Rank {
    const ALL: [Self; 5] =
        [Self::Failed, Self::Incomplete, Self::Heard, Self::Answered, Self::Proven];

    /// Entries of the rank at one time.
    const fn bound(self) -> usize {
        match self {
            Self::Failed | Self::Heard => 256,
            // Each of them is asked for by broadcasts, so this bounds what a flood of packets
            // from invented addresses can make us shout. None of them gives way.
            Self::Incomplete => 256,
            Self::Answered => 512,
            // A /22 full of clients.
            Self::Proven => 1024,
        }
    }
}

/// How an address and its MAC came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// An answer to our station; whether it was asked for is for the table to know.
    Answer,
    /// A question for us.
    Question,
    /// An announcement to everyone: it can only change what is known (RFC 826's merge).
    Announcement,
    /// Another worker of this interface heard it.
    Shared,
}

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

/// A request that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// To everyone, or to the address that is to be confirmed.
    pub(crate) to: MacAddr,
    pub(crate) target: IpAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Incomplete { tries: u8 },
    Reachable { mac: MacAddr, until: Instant },
    Stale { mac: MacAddr },
    Delay { mac: MacAddr },
    Probe { mac: MacAddr, tries: u8 },
    Failed { until: Instant },
}

impl State {
    fn mac(self) -> Option<MacAddr> {
        match self {
            Self::Reachable { mac, .. }
            | Self::Stale { mac }
            | Self::Delay { mac }
            | Self::Probe { mac, .. } => Some(mac),
            Self::Incomplete { .. } | Self::Failed { .. } => None,
        }
    }
}

#[derive(Debug)]
struct Neighbor {
    state: State,
    rank: Rank,
    /// Its place among those of its rank: the higher, the newer.
    place: u64,
    /// Since when the MAC is this one: what TCP achieved before says nothing of it.
    mac_since: Instant,
    /// Its record in the queue of deadlines.
    deadline: Instant,
    /// Resolutions that failed in a row.
    failures: u8,
    /// When we last answered it.
    replied: Option<Instant>,
    packets: Vec<Packet>,
    /// Connections that have something to send; their data stays in their own queues. As
    /// many at the most as there are connections.
    connections: BTreeSet<ConnId>,
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
    /// All entries, by rank and then by age.
    order: BTreeMap<(Rank, u64), IpAddr>,
    /// Entries of each rank.
    counts: [usize; Rank::ALL.len()],
    next_place: u64,
    deadlines: TimerQueue<IpAddr>,
    /// What other workers should know too.
    news: VecDeque<(IpAddr, MacAddr)>,
}

impl Neighbors {
    pub(crate) fn new(keys: Keys) -> Self {
        Self {
            table: HashMap::with_hasher(keys),
            order: BTreeMap::new(),
            counts: [0; Rank::ALL.len()],
            next_place: 0,
            deadlines: TimerQueue::default(),
            news: VecDeque::new(),
        }
    }

    /// The next hop's address, starting its resolution or confirmation if it is due:
    /// `requests` gets what is to be sent for that.
    ///
    /// `progress` is when a TCP connection by way of the hop last got an acknowledgement of
    /// something new (RFC 4861 7.3.1); it is asked for only where it matters.
    pub(crate) fn lookup(
        &mut self,
        now: Instant,
        hop: IpAddr,
        progress: impl FnOnce() -> Option<Instant>,
        requests: &mut Vec<Request>,
        stats: &mut Stats,
    ) -> Lookup {
        let Some(neighbor) = self.table.get_mut(&hop) else {
            return self.resolve(now, hop, requests, stats);
        };
        let mac = match neighbor.state {
            State::Reachable { mac, until } if until > now && neighbor.rank == Rank::Proven => {
                return Lookup::Known(mac);
            }
            State::Incomplete { .. } => return Lookup::Pending,
            State::Failed { until } if until > now => return Lookup::Failed,
            State::Failed { .. } => return self.resolve(now, hop, requests, stats),
            State::Reachable { mac, .. }
            | State::Stale { mac }
            | State::Delay { mac }
            | State::Probe { mac, .. } => mac,
        };
        let state = neighbor.state;
        if progress().is_some_and(|at| self.confirm(now, hop, at, stats)) {
            return Lookup::Known(mac);
        }
        match state {
            State::Reachable { until, .. } if until > now => {}
            // Old, or never confirmed, but most likely right: it is used meanwhile.
            State::Reachable { .. } | State::Stale { .. } => {
                self.set(hop, State::Delay { mac }, now + DELAY);
            }
            _ => {}
        }
        Lookup::Known(mac)
    }

    /// TCP got through by way of `hop` at `at` (RFC 4861 7.3.1). Returns whether that says
    /// anything of the MAC that is known now.
    pub(crate) fn confirm(
        &mut self,
        now: Instant,
        hop: IpAddr,
        at: Instant,
        stats: &mut Stats,
    ) -> bool {
        let Some(neighbor) = self.table.get(&hop) else { return false };
        let until = at + REACHABLE;
        let Some(mac) = neighbor.state.mac() else { return false };
        let confirms = at >= neighbor.mac_since && until > now;
        if confirms {
            self.set(hop, State::Reachable { mac, until }, Instant::NEVER);
            self.promote(hop, Rank::Proven, stats);
        }
        confirms
    }

    /// Begins to ask for a neighbour by broadcast.
    fn resolve(
        &mut self,
        now: Instant,
        hop: IpAddr,
        requests: &mut Vec<Request>,
        stats: &mut Stats,
    ) -> Lookup {
        if self.counts[Rank::Incomplete as usize] >= Rank::Incomplete.bound() {
            return Lookup::Failed;
        }
        self.enter(now, hop, State::Incomplete { tries: 1 }, Rank::Incomplete, stats);
        self.set(hop, State::Incomplete { tries: 1 }, now + RETRY);
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

    /// Somebody said that `address` is at `mac`.
    ///
    /// Only who asks for us, or is known to another worker, is added: else any station on the
    /// segment could fill the table. Only an answer that was asked for confirms (RFC 4861
    /// 7.2.5); anything else is used, and confirmed when it is.
    pub(crate) fn learn(
        &mut self,
        now: Instant,
        address: IpAddr,
        mac: MacAddr,
        heard: Heard,
        stats: &mut Stats,
    ) -> Released {
        let answer = matches!(heard, Heard::Answer | Heard::Shared);
        let Some(neighbor) = self.table.get_mut(&address) else {
            if matches!(heard, Heard::Question | Heard::Shared) {
                self.enter(now, address, State::Stale { mac }, Rank::Heard, stats);
            }
            // Another worker may have asked for this answer.
            if heard != Heard::Announcement {
                self.tell(address, mac, heard);
            }
            return Released::default();
        };
        let known = neighbor.state.mac();
        let asked = matches!(neighbor.state, State::Incomplete { .. } | State::Probe { .. });
        let confirms = answer && asked && known.is_none_or(|known| known == mac);
        if !confirms && known == Some(mac) {
            return Released::default();
        }
        if known != Some(mac) {
            neighbor.mac_since = now;
        }
        neighbor.failures = 0;
        let released = Released {
            packets: std::mem::take(&mut neighbor.packets),
            connections: std::mem::take(&mut neighbor.connections),
        };
        if confirms {
            let until = now + REACHABLE;
            self.set(address, State::Reachable { mac, until }, Instant::NEVER);
            self.promote(address, Rank::Answered, stats);
        } else {
            self.set(address, State::Stale { mac }, Instant::NEVER);
            self.promote(address, Rank::Heard, stats);
        }
        self.tell(address, mac, heard);
        released
    }

    /// Somebody else claims to be `address`, but not to replace what is known (RFC 4861 7.2.5): that
    /// is asked for again when it is used.
    pub(crate) fn doubt(&mut self, address: IpAddr) {
        if let Some(State::Reachable { mac, .. }) = self.table.get(&address).map(|it| it.state) {
            self.set(address, State::Stale { mac }, Instant::NEVER);
        }
    }

    /// Whether a question of this neighbour may be answered now, and notes the answer;
    /// `None`: it is not known.
    pub(crate) fn may_answer(&mut self, now: Instant, address: IpAddr) -> Option<bool> {
        let neighbor = self.table.get_mut(&address)?;
        let due = neighbor.replied.is_none_or(|at| now.since(at) >= REPLY_INTERVAL);
        if due {
            neighbor.replied = Some(now);
        }
        Some(due)
    }

    /// Where an address is known to be.
    pub(crate) fn mac(&self, address: IpAddr) -> Option<MacAddr> {
        self.table.get(&address)?.state.mac()
    }

    /// Whether a neighbour was asked for and has not answered.
    pub(crate) fn is_silent(&self, address: IpAddr) -> bool {
        self.table.get(&address).is_some_and(|neighbor| {
            matches!(neighbor.state, State::Failed { .. }) || neighbor.failures > 0
        })
    }

    /// Whether an address has an entry.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.table.contains_key(&address)
    }

    /// The next pair that other workers should know.
    pub(crate) fn poll_news(&mut self) -> Option<(IpAddr, MacAddr)> {
        self.news.pop_front()
    }

    /// Notes something for the other workers.
    pub(crate) fn tell(&mut self, address: IpAddr, mac: MacAddr, heard: Heard) {
        if heard != Heard::Shared && self.news.len() < MAX_NEWS {
            self.news.push_back((address, mac));
        }
    }

    // ---- the entries ---------------------------------------------------------------------

    /// Puts an entry into the table, or gives one that is there another state and rank.
    fn enter(
        &mut self,
        now: Instant,
        address: IpAddr,
        state: State,
        rank: Rank,
        stats: &mut Stats,
    ) {
        if let Some(neighbor) = self.table.get_mut(&address) {
            neighbor.state = state;
            self.move_to(address, rank, stats);
            return;
        }
        let place = self.next_place;
        self.next_place += 1;
        let neighbor = Neighbor {
            state,
            rank,
            place,
            mac_since: now,
            deadline: Instant::NEVER,
            failures: 0,
            replied: None,
            packets: Vec::new(),
            connections: BTreeSet::new(),
        };
        self.table.insert(address, neighbor);
        self.order.insert((rank, place), address);
        self.counts[rank as usize] += 1;
        self.shrink(rank, stats);
    }

    /// Sets the state of an entry, and when something is due for it.
    fn set(&mut self, address: IpAddr, state: State, deadline: Instant) {
        let Some(neighbor) = self.table.get_mut(&address) else { return };
        neighbor.state = state;
        self.deadlines.disarm(address, neighbor.deadline);
        neighbor.deadline = Instant::NEVER;
        self.deadlines.arm(address, deadline, &mut neighbor.deadline);
    }

    /// Raises an entry to `rank`, where it is then the newest; one that is higher stays there.
    fn promote(&mut self, address: IpAddr, rank: Rank, stats: &mut Stats) {
        if self.table.get(&address).is_some_and(|neighbor| neighbor.rank <= rank) {
            self.move_to(address, rank, stats);
        }
    }

    fn move_to(&mut self, address: IpAddr, rank: Rank, stats: &mut Stats) {
        let Some(neighbor) = self.table.get_mut(&address) else { return };
        self.order.remove(&(neighbor.rank, neighbor.place));
        self.counts[neighbor.rank as usize] -= 1;
        (neighbor.rank, neighbor.place) = (rank, self.next_place);
        self.order.insert((rank, self.next_place), address);
        self.next_place += 1;
        self.counts[rank as usize] += 1;
        self.shrink(rank, stats);
    }

    /// Forgets the oldest of a rank that has outgrown its bound.
    fn shrink(&mut self, rank: Rank, stats: &mut Stats) {
        // A probe that was not answered goes back to Incomplete, bound or not: it is one of
        // the neighbours that were known.
        if rank == Rank::Incomplete || self.counts[rank as usize] <= rank.bound() {
            return;
        }
        let oldest = self.order.range((rank, 0)..).next();
        let Some((&key, &address)) = oldest else { return };
        self.order.remove(&key);
        self.counts[rank as usize] -= 1;
        if let Some(neighbor) = self.table.remove(&address) {
            self.deadlines.disarm(address, neighbor.deadline);
            stats.neighbor_evicted += 1;
        }
    }

    // ---- time ----------------------------------------------------------------------------

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Asks again, or gives up; `requests` gets what is to be sent, and the connections
    /// that waited for a neighbour that failed are returned.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        requests: &mut Vec<Request>,
        stats: &mut Stats,
    ) -> BTreeSet<ConnId> {
        let mut freed = BTreeSet::new();
        while let Some((_, target)) = self.deadlines.pop_due(now) {
            let Some(neighbor) = self.table.get_mut(&target) else { continue };
            neighbor.deadline = Instant::NEVER;
            match neighbor.state {
                State::Incomplete { tries: TRIES } => {
                    stats.drop_unresolved += neighbor.packets.len() as u64;
                    neighbor.packets.clear();
                    freed.append(&mut neighbor.connections);
                    let until = now + RETRY * (1 << neighbor.failures.min(MAX_BACKOFF));
                    neighbor.failures = neighbor.failures.saturating_add(1);
                    self.set(target, State::Failed { until }, Instant::NEVER);
                    self.move_to(target, Rank::Failed, stats);
                }
                State::Incomplete { tries } => {
                    self.set(target, State::Incomplete { tries: tries + 1 }, now + RETRY);
                    requests.push(Request { to: MacAddr::BROADCAST, target });
                }
                State::Delay { mac } => {
                    self.set(target, State::Probe { mac, tries: 1 }, now + RETRY);
                    requests.push(Request { to: mac, target });
                }
                // RFC 1122 2.3.2.1 (2): unicast polls first, then to everyone.
                State::Probe { tries: TRIES, .. } => {
                    self.set(target, State::Incomplete { tries: 1 }, now + RETRY);
                    self.move_to(target, Rank::Incomplete, stats);
                    requests.push(Request { to: MacAddr::BROADCAST, target });
                }
                State::Probe { mac, tries } => {
                    self.set(target, State::Probe { mac, tries: tries + 1 }, now + RETRY);
                    requests.push(Request { to: mac, target });
                }
                State::Reachable { .. } | State::Stale { .. } | State::Failed { .. } => {}
            }
        }
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
    const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 10]);

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
            self.lookup_with(ms, hop, None)
        }

        fn lookup_with(
            &mut self,
            ms: u64,
            hop: impl Into<IpAddr>,
            progress: Option<u64>,
        ) -> Lookup {
            let progress = || progress.map(Instant::from_millis);
            let (now, requests) = (Instant::from_millis(ms), &mut self.requests);
            self.neighbors.lookup(now, hop.into(), progress, requests, &mut self.stats)
        }

        fn hear(
            &mut self,
            ms: u64,
            address: impl Into<IpAddr>,
            mac: MacAddr,
            heard: Heard,
        ) -> Released {
            let now = Instant::from_millis(ms);
            self.neighbors.learn(now, address.into(), mac, heard, &mut self.stats)
        }

        fn tick(&mut self, ms: u64) -> BTreeSet<ConnId> {
            let now = Instant::from_millis(ms);
            self.neighbors.handle_timeout(now, &mut self.requests, &mut self.stats)
        }

        /// The hop was asked for and has answered.
        fn resolved(&mut self, ms: u64, hop: impl Into<IpAddr> + Copy) {
            assert_eq!(self.lookup(ms, hop), Lookup::Pending);
            self.hear(ms, hop, MAC, Heard::Answer);
            self.requests.clear();
        }
    }

    fn icmp() -> Packet {
        Packet::Icmp { source: HOP_V4, destination: HOP_V4, message: Vec::new() }
    }

    fn invented(block: u32, count: u32) -> impl Iterator<Item = Ipv4Addr> {
        (0..count).map(move |i| Ipv4Addr::from((block << 24) + i))
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
        assert_eq!(f.hear(5, HOP, MAC, Heard::Answer).packets.len(), MAX_WAITING_PACKETS);
        assert_eq!(f.lookup(6, HOP), Lookup::Known(MAC));
        assert_eq!(f.neighbors.next_timeout(), None);
    }

    #[test]
    fn three_requests_a_second_apart_then_failed_then_asked_anew_later_and_later() {
        let mut f = Fixture::new();
        f.lookup(0, HOP);
        let id = ConnId { index: 1, generation: 0 };
        f.neighbors.wait_connection(HOP, id);
        for ms in [1000, 1500, 2000] {
            assert!(f.tick(ms).is_empty());
        }
        assert_eq!(f.requests.len(), 3);
        assert_eq!(f.tick(3000), BTreeSet::from([id]));
        let mut at = 3000;
        for wait in [1000, 2000, 4000, 8000, 8000] {
            assert_eq!(f.lookup(at + wait - 1, HOP), Lookup::Failed);
            at += wait;
            assert_eq!(f.lookup(at, HOP), Lookup::Pending);
            for _ in 0..3 {
                at += 1000;
                f.tick(at);
            }
        }
        // Whatever is heard of it ends that.
        f.hear(at, HOP, MAC, Heard::Announcement);
        assert_eq!(f.lookup(at, HOP), Lookup::Known(MAC));
    }

    #[test]
    fn an_old_entry_is_used_while_it_is_confirmed_and_lost_if_it_is_not() {
        let mut f = Fixture::new();
        f.resolved(0, HOP);
        assert_eq!(f.lookup(29_999, HOP), Lookup::Known(MAC));
        assert_eq!(f.neighbors.next_timeout(), None);
        assert_eq!(f.lookup(30_000, HOP), Lookup::Known(MAC));
        f.tick(34_999);
        assert!(f.requests.is_empty());
        for ms in [35_000, 36_000, 37_000] {
            f.tick(ms);
            assert_eq!(f.requests.pop(), Some(Request { to: MAC, target: HOP }));
            assert_eq!(f.lookup(ms, HOP), Lookup::Known(MAC));
        }
        f.tick(38_000);
        assert_eq!(f.requests, [Request { to: MacAddr::BROADCAST, target: HOP }]);
        assert_eq!(f.lookup(38_001, HOP), Lookup::Pending);
    }

    #[test]
    fn tcp_that_gets_through_stands_in_for_an_answer() {
        let mut f = Fixture::new();
        f.hear(0, HOP, MAC, Heard::Question);
        assert_eq!(f.lookup(1, HOP), Lookup::Known(MAC));
        assert!(f.neighbors.next_timeout().is_some());
        f.lookup_with(100, HOP, Some(90));
        assert_eq!(f.neighbors.next_timeout(), None);
        // For as long as it does.
        for ms in (1..600).map(|second| second * 1000) {
            f.tick(ms);
            f.lookup_with(ms, HOP, Some(ms - 500));
        }
        f.lookup_with(640_000, HOP, Some(598_500));
        f.tick(645_000);
        assert_eq!(f.requests, [Request { to: MAC, target: HOP }]);
        // What was achieved by another MAC proves nothing of this one.
        f.hear(646_000, HOP, OTHER, Heard::Announcement);
        assert_eq!(f.lookup_with(646_001, HOP, Some(645_999)), Lookup::Known(OTHER));
        f.tick(651_001);
        assert_eq!(f.requests.last(), Some(&Request { to: OTHER, target: HOP }));
    }

    #[test]
    fn only_an_answer_that_was_asked_for_confirms() {
        let mut f = Fixture::new();
        for heard in [Heard::Answer, Heard::Announcement] {
            f.hear(0, HOP, MAC, heard);
            assert_eq!(f.neighbors.len(), 0, "{heard:?} adds a stranger");
        }
        f.hear(0, HOP, MAC, Heard::Question);
        f.lookup(0, HOP);
        // In Delay nothing was asked yet.
        f.hear(1, HOP, MAC, Heard::Answer);
        f.tick(5000);
        assert_eq!(f.requests, [Request { to: MAC, target: HOP }]);
        f.hear(5001, HOP, MAC, Heard::Question);
        assert!(f.neighbors.next_timeout().is_some());
        f.hear(5002, HOP, MAC, Heard::Answer);
        assert_eq!(f.neighbors.next_timeout(), None);
    }

    #[test]
    fn what_is_doubted_is_used_and_asked_for_again() {
        let mut f = Fixture::new();
        f.resolved(0, HOP);
        f.neighbors.doubt(HOP);
        assert_eq!(f.lookup(1, HOP), Lookup::Known(MAC));
        f.tick(5001);
        assert_eq!(f.requests, [Request { to: MAC, target: HOP }]);
        // It goes on when it is asked for already.
        f.neighbors.doubt(HOP);
        f.hear(5002, HOP, MAC, Heard::Answer);
        assert_eq!((f.lookup(5003, HOP), f.neighbors.next_timeout()), (Lookup::Known(MAC), None));
    }

    #[test]
    fn no_flood_costs_a_neighbour_of_a_higher_rank() {
        let (proven, answered) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let mut f = Fixture::new();
        f.resolved(0, proven);
        f.lookup_with(2, proven, Some(1));
        f.resolved(2, answered);
        // A million that ask for us.
        for address in invented(11, 1_000_000) {
            f.hear(3, address, OTHER, Heard::Question);
        }
        // What does not answer is asked for within bounds.
        for address in invented(12, 2000) {
            f.lookup(4, address);
        }
        assert_eq!(f.requests.len(), Rank::Incomplete.bound());
        assert_eq!(f.neighbors.len(), 2 + Rank::Heard.bound() + Rank::Incomplete.bound());
        for ms in [1004, 2004, 3004] {
            f.tick(ms);
        }
        assert_eq!(f.lookup(3004, Ipv4Addr::new(13, 0, 0, 1)), Lookup::Pending);
        assert_eq!(f.lookup(3004, answered), Lookup::Known(MAC));
        // A thousand that answer.
        for address in invented(14, 1000) {
            assert_eq!(f.lookup(3005, address), Lookup::Pending);
            f.hear(3005, address, OTHER, Heard::Answer);
        }
        assert_eq!(f.lookup(3006, proven), Lookup::Known(MAC));
        assert_eq!(f.lookup(3006, answered), Lookup::Pending);
        let most: usize = Rank::ALL.iter().map(|rank| rank.bound()).sum();
        assert!(f.neighbors.len() < most && f.stats.neighbor_evicted > 999_000);
    }

    #[test]
    fn bounds_hold_among_equals() {
        let mut f = Fixture::new();
        let bound = Rank::Proven.bound() as u32;
        for address in invented(11, bound + 10) {
            f.hear(0, address, MAC, Heard::Question);
            f.lookup_with(2, address, Some(1));
        }
        assert_eq!((f.neighbors.len(), f.stats.neighbor_evicted), (bound as usize, 10));
        assert!(!f.neighbors.contains(Ipv4Addr::new(11, 0, 0, 9).into()));
        assert!(f.neighbors.contains(Ipv4Addr::new(11, 0, 0, 10).into()));
    }

    #[test]
    fn a_known_neighbour_is_answered_twenty_times_a_second() {
        let mut f = Fixture::new();
        let may = |f: &mut Fixture, ms| f.neighbors.may_answer(Instant::from_millis(ms), HOP);
        assert_eq!(may(&mut f, 0), None);
        f.hear(0, HOP, MAC, Heard::Question);
        let answers = (0..1000).filter(|ms| may(&mut f, *ms) == Some(true)).count();
        assert_eq!(answers, 20);
    }

    #[test]
    fn workers_share_what_they_hear() {
        let (mut a, mut b) = (Fixture::new(), Fixture::new());
        assert_eq!(a.lookup(0, HOP), Lookup::Pending);
        a.neighbors.wait_packet(HOP, icmp(), &mut a.stats);
        // The answer reaches the other one, which has not asked.
        b.hear(1, HOP, MAC, Heard::Answer);
        let (address, mac) = b.neighbors.poll_news().unwrap();
        assert_eq!(a.hear(2, address, mac, Heard::Shared).packets.len(), 1);
        assert_eq!(a.lookup(2, HOP), Lookup::Known(MAC));
        // It does not come back, and what all know is no news.
        assert_eq!((a.neighbors.poll_news(), b.neighbors.poll_news()), (None, None));
        a.hear(3, HOP, MAC, Heard::Question);
        assert_eq!(a.neighbors.poll_news(), None);
        a.hear(4, HOP, OTHER, Heard::Announcement);
        assert_eq!(a.neighbors.poll_news(), Some((HOP, OTHER)));
        // And nobody has to ask for it.
        for address in invented(11, 2 * MAX_NEWS as u32) {
            a.hear(5, address, MAC, Heard::Question);
        }
        assert_eq!(std::iter::from_fn(|| a.neighbors.poll_news()).count(), MAX_NEWS);
    }
}
