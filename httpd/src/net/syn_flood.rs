//! What a worker does about a flood of SYNs: it has the kernel drop most of them.
//!
//! SYNs that become no connection are counted. If there are more of them in a second than
//! [`BUDGET`], the filter of the worker's socket lets only as large a [share](SynShare) of them up
//! that it is within the budget, and beside that all those of peers that have finished a handshake
//! lately. Clients that open however many connections are no flood.
//!
//! A stranger's SYN comes up with the probability of the share, and so does each time that it is sent
//! again, every time another part of the hashes being let up; in a flood of 300,000 in a second
//! that is a tenth each time. Which of those that come up are answered, the stack decides: it
//! remembers what it has turned away.
//!
//! A flood in one VLAN is none in another: only the SYNs of those are dropped that have more than their
//! even part of the budget.
//!
//! Who floods with the addresses of known peers takes that privilege from them: if the smallest
//! share does not help, nobody is known until the flood is over.

use std::net::IpAddr;
use std::time::Duration;

use tagwire_core::counters::Counters;
use tagwire_core::packet::{SynFilter, SynShare, Vlan};
use tagwire_netstack::{Instant, Stats};

/// SYNs that come to nothing, in a second, for which each worker has time: to take one from the ring
/// and to turn it away costs half a microsecond, so that is a sixtieth of a CPU, and one that is
/// short of time can still do it. What their answers cost, which is far more, the stack limits by
/// itself.
const BUDGET: f64 = 30_000.0;
/// Between two looks. A crowd that comes back at once must not pass for a flood, so it is
/// longer than most handshakes take; and a flood of some hundred thousand in a second does little
/// harm in it.
const PERIOD: Duration = Duration::from_millis(100);
/// Of all hashes, the part by which the window that is let up goes on in a second: the golden ratio's
/// lesser part, whose multiples, however many seconds lie between two attempts, are spread evenly.
const TURNS: f64 = 0.381_966;
/// All hashes.
const ALL: f64 = 65536.0;
/// The smallest share, a thousandth: with it the budget holds in a flood of 30 million a second.
const LEAST: f64 = 64.0;
/// How much the share changes from one period to the next, at most.
const STEPS: (f64, f64) = (0.125, 2.0);
/// The flood is over when all could be let up for so many periods.
const CALM: u32 = 10;
/// So many times the budget in spite of the smallest share: it is the known peers' SYNs.
const DISTRUST: f64 = 2.0;

/// SYNs that came up and connections that came of them, since the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Syns {
    syns: u64,
    accepted: u64,
}

impl Syns {
    /// Those of one stack.
    pub(super) fn of(stats: &Stats) -> Self {
        // Taken in, sent again meanwhile, answered by a cookie or not, and turned away for want of
        // room or of a listener: each has cost its way up.
        let syns = stats.tcp_syn
            + stats.tcp_syn_again
            + stats.tcp_cookie_sent
            + stats.tcp_cookie_limited
            + stats.tcp_syn_dropped
            + stats.tcp_syn_refused;
        Self { syns, accepted: stats.tcp_accepted }
    }
}

/// Frames of all kinds, and those for which the ring had no room, since the start.
#[derive(Debug, Clone, Copy, Default)]
struct Ring {
    frames: u64,
    lost: u64,
}

/// One VLAN in a flood.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// Whether its SYNs come up by their share only.
    limited: bool,
    /// Periods in a row in which it did not need to be.
    calm: u32,
}

/// Peers that have finished a handshake: the last ones that were new.
#[derive(Debug, Default)]
struct Peers {
    known: Vec<IpAddr>,
    /// The one that gives way next.
    oldest: usize,
}

impl Peers {
    fn remember(&mut self, peer: IpAddr) {
        if self.known.contains(&peer) {
            return;
        }
        if self.known.len() < SynShare::MOST_PEERS {
            self.known.push(peer);
        } else {
            self.known[self.oldest] = peer;
            self.oldest = (self.oldest + 1) % SynShare::MOST_PEERS;
        }
    }
}

/// A flood under way.
#[derive(Debug)]
struct Flood {
    since: Instant,
    /// Of [`ALL`].
    share: f64,
    /// Where the part of the hashes begins that is let up.
    start: f64,
    calm: u32,
    trusting: bool,
    dropped: f64,
    /// Of each VLAN.
    places: Vec<Place>,
}

impl Flood {
    /// One more period of so many seconds, with SYNs in each VLAN that came to nothing.
    fn go_on(&mut self, vain: &[f64], seconds: f64) {
        let passed = self.share / ALL;
        let (allowed, part) = budget(vain, seconds);
        // What comes up, or would have come by the share; and what comes beside it.
        let (mut shared, mut beside) = (0.0, 0.0);
        for (place, &vain) in self.places.iter_mut().zip(vain) {
            if !place.limited && vain <= part {
                beside += vain;
                continue;
            }
            let up = if place.limited { vain } else { vain * passed };
            // Those that came up are this share of what was sent.
            self.dropped += if place.limited { vain / passed - vain } else { 0.0 };
            place.calm = if up / passed <= part { place.calm + 1 } else { 0 };
            place.limited = true;
            shared += up;
        }
        let room = allowed - beside;
        self.trusting &= self.share > LEAST || shared <= room * DISTRUST;
        let change = (room / shared.max(1.0)).clamp(STEPS.0, STEPS.1);
        self.start = (self.start + ALL * TURNS * seconds) % ALL;
        self.share = (self.share * change).clamp(LEAST, ALL);
        self.calm = if self.share < ALL { 0 } else { self.calm + 1 };
        self.release();
    }

    /// Lets those VLANs go in which it is over, but the last: for that one all must be over.
    fn release(&mut self) {
        let mut left = self.places.iter().filter(|place| place.limited).count();
        for place in &mut self.places {
            if place.limited && place.calm >= CALM && left > 1 {
                *place = Place::default();
                left -= 1;
            }
        }
    }
}

/// SYNs that may come to nothing in a time, in all VLANs and in each.
fn budget(vlans: &[f64], seconds: f64) -> (f64, f64) {
    let allowed = BUDGET * seconds;
    (allowed, allowed / vlans.len() as f64)
}

/// What is to be done after a period.
#[derive(Debug, PartialEq)]
enum Verdict {
    Leave,
    Begin,
    Adjust,
    End,
}

/// Decides; a pure state machine.
#[derive(Debug)]
struct Judge {
    key: u32,
    vlans: Vec<Vlan>,
    /// What was seen the last time.
    last: (Instant, Vec<Syns>, Ring),
    peers: Peers,
    flood: Option<Flood>,
    /// Floods so far, and SYNs that the filter has dropped in those that are over.
    floods: u64,
    dropped: f64,
}

impl Judge {
    fn new(key: u32, vlans: Vec<Vlan>, now: Instant) -> Self {
        let last = (now, vec![Syns::default(); vlans.len()], Ring::default());
        Self { key, vlans, last, peers: Peers::default(), flood: None, floods: 0, dropped: 0.0 }
    }

    fn is_due(&self, now: Instant) -> bool {
        now.since(self.last.0) >= PERIOD
    }

    /// Judges what was seen in each VLAN, a period after the last time.
    fn look(&mut self, now: Instant, seen: Vec<Syns>, ring: Ring) -> Verdict {
        let (then, before, ring_before) = std::mem::replace(&mut self.last, (now, seen, ring));
        let seconds = now.since(then).as_secs_f64();
        // What found no room in the ring was of the same kinds as what found some.
        let (frames, lost) = (ring.frames - ring_before.frames, ring.lost - ring_before.lost);
        let missed = 1.0 + lost as f64 / frames.max(1) as f64;
        let vain = self.last.1.iter().zip(&before).map(|(seen, before)| {
            let syns = seen.syns - before.syns;
            syns.saturating_sub(seen.accepted - before.accepted) as f64 * missed
        });
        let vain: Vec<f64> = vain.collect();
        let Some(flood) = &mut self.flood else {
            let (allowed, part) = budget(&vain, seconds);
            if vain.iter().sum::<f64>() <= allowed {
                return Verdict::Leave;
            }
            self.floods += 1;
            let places = vain.iter().map(|vain| Place { limited: *vain > part, calm: 0 });
            let beside: f64 = vain.iter().filter(|vain| **vain <= part).sum();
            let shared: f64 = vain.iter().filter(|vain| **vain > part).sum();
            let share = (ALL * (allowed - beside) / shared).max(LEAST);
            let start = f64::from(self.key >> 16);
            let (calm, trusting, dropped) = (0, true, 0.0);
            let places = places.collect();
            self.flood = Some(Flood { since: now, share, start, calm, trusting, dropped, places });
            return Verdict::Begin;
        };
        flood.go_on(&vain, seconds);
        if flood.calm < CALM {
            return Verdict::Adjust;
        }
        self.dropped += flood.dropped;
        self.flood = None;
        Verdict::End
    }

    /// What the filter is to let up; `None`: everything.
    fn share(&self) -> Option<SynShare> {
        let flood = self.flood.as_ref()?;
        let peers = if flood.trusting { self.peers.known.clone() } else { Vec::new() };
        let limited = self.vlans.iter().zip(&flood.places).filter(|(_, place)| place.limited);
        let vlans = limited.map(|(vlan, _)| *vlan).collect();
        // One hash in 65536 is missing from the whole.
        let (start, width) = (flood.start as u16, flood.share.min(ALL - 1.0) as u16);
        Some(SynShare { key: self.key, start, width, peers, vlans })
    }

    fn dropped(&self) -> u64 {
        (self.dropped + self.flood.as_ref().map_or(0.0, |flood| flood.dropped)) as u64
    }
}

/// Watches over one worker's SYNs.
#[derive(Debug)]
pub struct SynFlood {
    judge: Judge,
    filter: SynFilter,
    /// The kernel has refused a filter: no more are tried.
    refused: bool,
}

impl SynFlood {
    /// For the worker of this filter, which is of these VLANs; `key` should be unpredictable to
    /// peers.
    pub fn new(filter: SynFilter, vlans: Vec<Vlan>, key: u32, now: Instant) -> Self {
        Self { judge: Judge::new(key, vlans, now), filter, refused: false }
    }

    /// This peer has finished a handshake.
    pub(super) fn remember(&mut self, peer: IpAddr) {
        self.judge.peers.remember(peer);
    }

    /// The interface has another address, and all SYNs to it come up: in a flood, until the next look.
    pub(super) fn readdress(&mut self, mac: [u8; 6]) {
        self.filter.readdress(mac);
    }

    /// Whether there is a flood, and turns are needed without anything happening.
    pub(super) fn is_on(&self) -> bool {
        self.judge.flood.is_some()
    }

    /// Looks at what has happened in each VLAN, and changes the filter if need be.
    pub(super) fn look(
        &mut self,
        now: Instant,
        seen: impl Iterator<Item = Syns>,
        driver: &Counters,
    ) {
        if self.refused || !self.judge.is_due(now) {
            return;
        }
        let since = self.judge.flood.as_ref().map_or(now, |flood| flood.since);
        let dropped = self.judge.dropped;
        let ring = Ring { frames: driver.rx_frames.get(), lost: driver.rx_kernel_drops.get() };
        let verdict = self.judge.look(now, seen.collect(), ring);
        if verdict == Verdict::Leave {
            return;
        }
        let share = self.judge.share();
        if let Err(error) = self.filter.set(share.as_ref()) {
            tracing::warn!(%error, "the kernel takes no other filter: SYNs come up as they do");
            self.refused = true;
            self.judge.flood = None;
            return;
        }
        match verdict {
            Verdict::Begin => tracing::warn!(
                vlans = share.as_ref().map_or_else(String::new, |share| {
                    share.vlans.iter().map(Vlan::to_string).collect::<Vec<_>>().join(",")
                }),
                percent = share
                    .as_ref()
                    .map_or(0.0, |share| f64::from(share.width) / ALL * 100.0)
                    .round(),
                "a flood of SYNs: only this share is let up, and those of known peers"
            ),
            Verdict::End => tracing::info!(
                seconds = now.since(since).as_secs(),
                dropped_about = (self.judge.dropped - dropped) as u64,
                "the flood of SYNs is over"
            ),
            Verdict::Leave | Verdict::Adjust => {}
        }
    }

    /// What `status` says: whether there is a flood, how many there were, and about how many SYNs
    /// the filter has dropped, which nobody counts.
    pub(super) fn status(&self) -> [(&'static str, u64); 3] {
        [
            ("syn_filter_on", self.is_on().into()),
            ("syn_filter_floods", self.judge.floods),
            ("syn_filter_dropped_estimate", self.judge.dropped()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A judge, and what it sees: the time, the SYNs that came up, and the connections.
    struct Scene {
        judge: Judge,
        now: u64,
        seen: Vec<Syns>,
        ring: Ring,
    }

    impl Scene {
        fn new() -> Self {
            Self::of(1)
        }

        fn of(vlans: u16) -> Self {
            let vlans: Vec<_> = (1..=vlans).map(Vlan::Tagged).collect();
            let seen = vec![Syns::default(); vlans.len()];
            let judge = Judge::new(0x5eed_1e55, vlans, Instant::from_millis(0));
            Self { judge, now: 0, seen, ring: Ring::default() }
        }

        fn look(&mut self) -> Verdict {
            self.now += 100;
            let now = Instant::from_millis(self.now);
            assert!(self.judge.is_due(now));
            self.judge.look(now, self.seen.clone(), self.ring)
        }

        /// A period with so many SYNs a second of strangers in each VLAN.
        fn flood(&mut self, strangers: &[u64]) -> Verdict {
            let share = self.judge.share();
            for (at, strangers) in strangers.iter().enumerate() {
                let limited =
                    share.as_ref().is_some_and(|it| it.vlans.contains(&self.judge.vlans[at]));
                let up = if limited { self.share() } else { 1.0 };
                self.seen[at].syns += (*strangers as f64 * up / 10.0) as u64;
            }
            self.look()
        }

        /// The VIDs of the VLANs that are limited.
        fn limited(&self) -> Vec<String> {
            let vlans = self.judge.share().map_or_else(Vec::new, |share| share.vlans);
            vlans.iter().map(Vlan::to_string).collect()
        }

        /// The share of strangers' SYNs that comes up.
        fn share(&self) -> f64 {
            self.judge.share().map_or(1.0, |share| f64::from(share.width) / ALL)
        }

        /// A period with so many SYNs a second of each kind: strangers', such as pretend to be
        /// of known peers, and such as connections come of.
        fn pass(&mut self, strangers: u64, pretenders: u64, true_ones: u64) -> Verdict {
            let trusted = self.judge.share().is_none_or(|share| !share.peers.is_empty());
            let pretenders = pretenders as f64 * if trusted { 1.0 } else { self.share() };
            let vain = (strangers as f64 * self.share() + pretenders) / 10.0;
            self.seen[0].syns += vain as u64 + true_ones / 10;
            self.seen[0].accepted += true_ones / 10;
            self.look()
        }

        fn periods(&mut self, count: usize, strangers: u64, pretenders: u64, true_ones: u64) {
            for _ in 0..count {
                self.pass(strangers, pretenders, true_ones);
            }
        }
    }

    fn known() -> IpAddr {
        [192, 0, 2, 1].into()
    }

    #[test]
    fn a_flood_is_brought_down_to_the_budget_and_its_end_is_seen() {
        let mut scene = Scene::new();
        assert_eq!(scene.pass(20_000, 0, 0), Verdict::Leave);
        assert_eq!(scene.pass(300_000, 0, 0), Verdict::Begin);
        scene.periods(10, 300_000, 0, 0);
        assert!((scene.share() - 0.1).abs() < 0.01, "{}", scene.share());
        scene.periods(10, 3_000_000, 0, 0);
        assert!((scene.share() - 0.01).abs() < 0.001, "{}", scene.share());
        // Beside it, as many true ones as may be.
        scene.periods(10, 3_000_000, 0, 60_000);
        assert!((scene.share() - 0.01).abs() < 0.001, "{}", scene.share());
        // A quarter of a million in the first of these seconds, and three in each that follows.
        let dropped = scene.judge.dropped() as f64 / 1e6;
        assert!((5.2..6.8).contains(&dropped), "{dropped}");
        let mut over = 0;
        while scene.pass(100, 0, 100) != Verdict::End {
            over += 1;
            assert!(over < 30);
        }
        assert_eq!((scene.judge.share(), scene.judge.floods), (None, 1));
    }

    #[test]
    fn a_flood_in_one_vlan_is_none_in_another() {
        let mut scene = Scene::of(3);
        // Each may have the whole budget while the others are at rest.
        assert_eq!(scene.flood(&[29_000, 500, 0]), Verdict::Leave);
        assert_eq!(scene.flood(&[300_000, 9_000, 0]), Verdict::Begin);
        assert_eq!(scene.limited(), ["1"]);
        (0..20).for_each(|_| assert_eq!(scene.flood(&[300_000, 9_000, 0]), Verdict::Adjust));
        // It has what the others leave.
        assert!((scene.share() - 0.07).abs() < 0.005, "{}", scene.share());
        assert_eq!(scene.limited(), ["1"]);
        // More than its part, but without a flood that would be nothing.
        scene.flood(&[300_000, 0, 11_000]);
        assert_eq!(scene.limited(), ["1", "3"]);
        (0..20).for_each(|_| assert_eq!(scene.flood(&[300_000, 0, 300_000]), Verdict::Adjust));
        assert!((scene.share() - 0.05).abs() < 0.005, "{}", scene.share());
        // It ends in one, and in time in the other.
        (0..10).for_each(|_| assert_eq!(scene.flood(&[5_000, 0, 300_000]), Verdict::Adjust));
        assert_eq!(scene.limited(), ["3"]);
        (0..10).for_each(|_| assert_eq!(scene.flood(&[5_000, 0, 300_000]), Verdict::Adjust));
        assert!((scene.share() - 25.0 / 300.0).abs() < 0.005, "{}", scene.share());
        let mut over = 0;
        while scene.flood(&[0, 9_000, 100]) != Verdict::End {
            over += 1;
            assert!(over < 30);
        }
        assert_eq!((scene.limited().len(), scene.judge.floods), (0, 1));
    }

    /// The ring has room for 10,000 frames in a second.
    #[test]
    fn what_the_ring_had_no_room_for_counts() {
        let mut scene = Scene::new();
        let second = |scene: &mut Scene, syns: u64, others: u64| {
            let up = syns as f64 * scene.share();
            let room = (10_000.0 / (up + others as f64)).min(1.0);
            scene.ring.frames += ((up + others as f64) * room / 10.0) as u64;
            scene.ring.lost += ((up + others as f64) * (1.0 - room) / 10.0) as u64;
            scene.pass((syns as f64 * room) as u64, 0, 0)
        };
        // Others' frames that are lost are no SYNs.
        assert_eq!(second(&mut scene, 1_000, 200_000), Verdict::Leave);
        assert_eq!(second(&mut scene, 300_000, 0), Verdict::Begin);
        for _ in 0..10 {
            second(&mut scene, 300_000, 0);
        }
        assert!((scene.share() - 0.1).abs() < 0.02, "{}", scene.share());
    }

    #[test]
    fn every_kind_of_syn_counts() {
        let stats = Stats {
            tcp_syn: 1,
            tcp_syn_again: 10,
            tcp_cookie_sent: 100,
            tcp_cookie_limited: 1000,
            tcp_syn_dropped: 10_000,
            tcp_syn_refused: 100_000,
            tcp_accepted: 7,
            ..Stats::default()
        };
        let seen = Syns::of(&stats);
        assert_eq!((seen.syns, seen.accepted), (111_111, 7));
    }

    #[test]
    fn clients_that_connect_are_no_flood_however_many() {
        let mut scene = Scene::new();
        for _ in 0..100 {
            assert_eq!(scene.pass(10_000, 0, 200_000), Verdict::Leave);
        }
    }

    /// RFC 6298: attempts 1, 2, 4, 8 and 16 s apart.
    #[test]
    fn most_strangers_have_an_attempt_let_up_where_each_lets_up_a_fifth() {
        let mut scene = Scene::new();
        scene.periods(10, 150_000, 0, 0);
        let mut windows = Vec::new();
        for second in 0..32 {
            if [0, 1, 3, 7, 15, 31].contains(&second) {
                let share = scene.judge.share().unwrap();
                windows.push((share.start, share.width));
            }
            scene.periods(10, 150_000, 0, 0);
        }
        let reached = (0..=u16::MAX)
            .filter(|hash| windows.iter().any(|(at, width)| hash.wrapping_sub(*at) < *width))
            .count();
        // By chance it would be 0.74 of them.
        assert!(reached as f64 > 0.82 * ALL, "{reached}");
    }

    #[test]
    fn known_peers_are_known_until_their_addresses_flood() {
        let mut scene = Scene::new();
        scene.judge.peers.remember(known());
        scene.periods(10, 300_000, 0, 0);
        assert_eq!(scene.judge.share().unwrap().peers, [known()]);
        scene.periods(20, 0, 300_000, 0);
        assert!(scene.judge.share().unwrap().peers.is_empty());
        assert!((scene.share() - 0.1).abs() < 0.02, "{}", scene.share());
        scene.periods(30, 0, 0, 0);
        assert_eq!(scene.judge.share(), None);
        // The next flood finds them known again.
        scene.periods(2, 300_000, 0, 0);
        assert_eq!(scene.judge.share().unwrap().peers, [known()]);
    }

    #[test]
    fn the_last_new_peers_are_remembered() {
        let mut peers = Peers::default();
        for i in 0..200u8 {
            peers.remember([192, 0, 2, i].into());
            peers.remember([192, 0, 2, i].into());
        }
        let first = 200 - SynShare::MOST_PEERS as u8;
        assert_eq!(peers.known.len(), SynShare::MOST_PEERS);
        assert!((first..200).all(|i| peers.known.contains(&IpAddr::from([192, 0, 2, i]))));
    }
}
