//! IPv4 address conflict detection (RFC 5227), one object for each address.
//!
//! ```text
//!  strict ----> Probing ------ silence ------> Used (announced) <---- optimistic
//!                 |  ^                           |
//!      conflict   |  | silent for 15 to 60 s     | another one as a newcomer, or a second
//!                 v  |                           | one within 10 s of a defence
//!              Conflicted <----------------------+
//! ```
//! Optimistic serves and announces at once and probes alongside: what comes back within the
//! first seconds says that somebody was here before, and the address is given up as it would
//! have been after probing. Strict waits for the probes, five to eight seconds.
//!
//! A conflicted address comes back by itself: whoever has it keeps it for as long as it is
//! heard; after a time of silence the address is probed for, whatever the mode, and used
//! again if nobody answers. The time doubles with each vain attempt.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::announce::Announcer;
use crate::config::{Acd, MacAddr};
use crate::entropy::Keys;
use crate::time::Instant;

/// RFC 5227 1.1: PROBE_NUM.
const PROBES: u8 = 3;
/// RFC 5227 1.1: PROBE_WAIT, the longest time before the first probe.
const PROBE_WAIT: Duration = Duration::from_secs(1);
/// RFC 5227 1.1: PROBE_MIN; PROBE_MAX is twice that.
const PROBE_MIN: Duration = Duration::from_secs(1);
/// RFC 5227 1.1: ANNOUNCE_WAIT, from the last probe to the first announcement.
const ANNOUNCE_WAIT: Duration = Duration::from_secs(2);
/// How long after an optimistic start another one counts as having been there before: for
/// three probes, a second apart, and the time that the last one is given.
const NEWCOMER: Duration = Duration::from_secs(4);
/// RFC 5227 1.1: DEFEND_INTERVAL.
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// Silence before a conflicted address is probed for, doubled by each attempt ...
const SILENCE: Duration = Duration::from_secs(15);
/// ... up to RFC 5227 1.1's RATE_LIMIT_INTERVAL.
const MAX_SILENCE: Duration = Duration::from_secs(60);
/// What the hash is used for here.
const PURPOSE_PROBE: u8 = 16;

/// Whether one of our addresses can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressState {
    /// It is being probed for; nothing is sent from it and nothing to it is taken.
    Tentative,
    /// It is in use.
    Assigned,
    /// Another station has it. Nothing is sent from it, its connections were ended, and it
    /// comes back by itself when the other one has been silent for some time.
    Conflicted {
        /// The station that was last heard to have it.
        by: MacAddr,
    },
}

/// One of our addresses has got another state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressEvent {
    /// The address.
    pub address: IpAddr,
    /// What it is now.
    pub state: AddressState,
}

/// An ARP packet that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Probe,
    Announce,
}

/// What to do about another station's claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing, or nothing new.
    Bear,
    /// One announcement.
    Defend,
    /// The address is lost.
    Yield,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// `left` probes are to be sent; without one, `next` is the end of the wait.
    Probing {
        left: u8,
        next: Instant,
    },
    Used,
    Conflicted {
        by: MacAddr,
        retry: Instant,
    },
}

/// How long the other one has to be silent before an address is probed for that was lost so many
/// times.
pub(crate) fn silence(conflicts: u32) -> Duration {
    (SILENCE * (1 << conflicts.saturating_sub(1).min(8))).min(MAX_SILENCE)
}

/// What is known about the use of one address.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) address: Ipv4Addr,
    mode: Acd,
    /// Whether this stack probes, announces and defends for the interface.
    speaks: bool,
    phase: Phase,
    announcer: Announcer,
    /// Until then another one counts as having been there before.
    newcomer_until: Instant,
    defended: Option<Instant>,
    /// Attempts that ended in a conflict, since the address was last held.
    conflicts: u32,
    /// Times drawn so far.
    draws: u32,
    keys: Keys,
}

impl Claim {
    pub(crate) fn new(
        address: Ipv4Addr,
        mode: Acd,
        speaks: bool,
        keys: Keys,
        now: Instant,
    ) -> Self {
        let mut claim = Self {
            address,
            mode,
            speaks,
            phase: Phase::Used,
            announcer: Announcer::new(now),
            newcomer_until: now,
            defended: None,
            conflicts: 0,
            draws: 0,
            keys,
        };
        claim.start(now);
        claim
    }

    /// The link has come up.
    pub(crate) fn start(&mut self, now: Instant) {
        self.defended = None;
        match (self.mode, self.phase) {
            _ if !self.speaks => {
                self.announcer.stop();
                if self.mode == Acd::Strict {
                    self.phase = Phase::Probing { left: 0, next: Instant::NEVER };
                }
            }
            (Acd::Optimistic, Phase::Used | Phase::Probing { .. }) => {
                self.phase = Phase::Used;
                self.announcer.restart(now);
                self.newcomer_until = now + NEWCOMER;
            }
            _ => self.probe(now),
        }
    }

    /// The link has gone down.
    pub(crate) fn stop(&mut self) {
        self.announcer.stop();
        match &mut self.phase {
            Phase::Probing { next: due, .. } | Phase::Conflicted { retry: due, .. } => {
                *due = Instant::NEVER;
            }
            Phase::Used => {}
        }
    }

    /// RFC 5227 2.1.1.
    fn probe(&mut self, now: Instant) {
        self.announcer.stop();
        let next = now + self.draw(PROBE_WAIT);
        self.phase = Phase::Probing { left: PROBES, next };
    }

    /// A time up to `most` that differs between stations.
    fn draw(&mut self, most: Duration) -> Duration {
        self.draws += 1;
        let input = [self.address.octets(), self.draws.to_be_bytes()].concat();
        most * (self.keys.prf(PURPOSE_PROBE, &input) as u16).into() / u16::MAX.into()
    }

    pub(crate) fn state(&self) -> AddressState {
        match self.phase {
            Phase::Probing { .. } => AddressState::Tentative,
            Phase::Used => AddressState::Assigned,
            Phase::Conflicted { by, .. } => AddressState::Conflicted { by },
        }
    }

    /// Whether nothing here speaks against the use of `address`.
    pub(crate) fn allows(&self, address: Ipv4Addr) -> bool {
        self.address != address || self.state() == AddressState::Assigned
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let due = match self.phase {
            Phase::Probing { next, .. } => next,
            Phase::Used => return self.announcer.next_timeout(),
            Phase::Conflicted { retry, .. } => retry,
        };
        due.is_armed().then_some(due)
    }

    /// Takes what is due; to be asked until it is `None`.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Act> {
        match self.phase {
            Phase::Probing { left: 0, next } if next <= now => {
                self.phase = Phase::Used;
                self.conflicts = 0;
                self.newcomer_until = now;
                self.announcer.restart(now);
            }
            Phase::Probing { left, next } if next <= now => {
                let wait = if left == 1 { ANNOUNCE_WAIT } else { PROBE_MIN + self.draw(PROBE_MIN) };
                self.phase = Phase::Probing { left: left - 1, next: now + wait };
                return Some(Act::Probe);
            }
            Phase::Conflicted { retry, .. } if retry <= now => {
                self.probe(now);
                return None;
            }
            _ => {}
        }
        let used = matches!(self.phase, Phase::Used);
        (used && self.announcer.take_due(now)).then_some(Act::Announce)
    }

    /// Whether an announcement is one of those that a probe goes out with.
    pub(crate) fn probes_alongside(&self, now: Instant) -> bool {
        now < self.newcomer_until
    }

    /// Another station says that it has the address, or probes for it while we do.
    pub(crate) fn on_conflict(&mut self, now: Instant, by: MacAddr) -> Verdict {
        if !self.speaks {
            return Verdict::Bear;
        }
        let newcomer = now < self.newcomer_until;
        match self.phase {
            Phase::Conflicted { .. } => {
                let retry = now + silence(self.conflicts);
                self.phase = Phase::Conflicted { by, retry };
                Verdict::Bear
            }
            // RFC 5227 2.4 (b).
            Phase::Used
                if !newcomer && self.defended.is_none_or(|at| now.since(at) >= DEFEND_INTERVAL) =>
            {
                self.defended = Some(now);
                Verdict::Defend
            }
            _ => {
                self.conflicts = self.conflicts.saturating_add(1);
                self.phase = Phase::Conflicted { by, retry: now + silence(self.conflicts) };
                self.announcer.stop();
                Verdict::Yield
            }
        }
    }

    /// The stack that speaks for the interface has come to a state: so does this one. Returns
    /// whether it is another one than before.
    pub(crate) fn follow(&mut self, state: AddressState) -> bool {
        if self.speaks || self.state() == state {
            return false;
        }
        let never = Instant::NEVER;
        self.phase = match state {
            AddressState::Tentative => Phase::Probing { left: 0, next: never },
            AddressState::Assigned => Phase::Used,
            AddressState::Conflicted { by } => Phase::Conflicted { by, retry: never },
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const BY: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    fn claim(mode: Acd) -> Claim {
        Claim::new(MINE, mode, true, Keys::new([3; 16]), at(0))
    }

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    /// What is sent until `end`, and when.
    fn run(claim: &mut Claim, end: u64) -> Vec<(u64, Act)> {
        let mut acts = Vec::new();
        while let Some(due) = claim.next_timeout().filter(|due| *due <= at(end)) {
            while let Some(act) = claim.take_due(due) {
                acts.push((due.as_millis(), act));
            }
        }
        acts
    }

    #[test]
    fn strict_probes_three_times_before_it_uses_and_announces() {
        let mut claim = claim(Acd::Strict);
        assert_eq!(claim.state(), AddressState::Tentative);
        let acts = run(&mut claim, 60_000);
        let kinds: Vec<_> = acts.iter().map(|(_, act)| *act).collect();
        assert_eq!(kinds, [[Act::Probe; 3], [Act::Announce; 3]].concat());
        assert!(acts[0].0 <= 1000);
        for pair in acts[..3].windows(2) {
            assert!((1000..=2000).contains(&(pair[1].0 - pair[0].0)), "{acts:?}");
        }
        assert_eq!(acts[3].0 - acts[2].0, 2000);
        assert_eq!((claim.state(), claim.next_timeout()), (AddressState::Assigned, None));
    }

    #[test]
    fn any_sign_while_probing_ends_it() {
        let mut claim = claim(Acd::Strict);
        run(&mut claim, 1500);
        assert_eq!(claim.on_conflict(at(1600), BY), Verdict::Yield);
        assert_eq!(claim.state(), AddressState::Conflicted { by: BY });
    }

    #[test]
    fn optimistic_gives_way_to_who_was_there_before_and_defends_later() {
        let mut claim = claim(Acd::Optimistic);
        assert_eq!(claim.state(), AddressState::Assigned);
        assert_eq!(claim.on_conflict(at(3999), BY), Verdict::Yield);

        let mut claim = self::claim(Acd::Optimistic);
        run(&mut claim, 5000);
        assert_eq!(claim.on_conflict(at(5000), BY), Verdict::Defend);
        assert_eq!(claim.on_conflict(at(15_000), BY), Verdict::Defend);
        assert_eq!(claim.state(), AddressState::Assigned);
        assert_eq!(claim.on_conflict(at(24_999), BY), Verdict::Yield);
        assert_eq!(claim.state(), AddressState::Conflicted { by: BY });
    }

    #[test]
    fn it_comes_back_when_the_other_is_silent_and_later_each_time_that_it_is_not() {
        let mut claim = claim(Acd::Optimistic);
        assert_eq!(claim.on_conflict(at(0), BY), Verdict::Yield);
        // Each sign of life moves the attempt.
        assert_eq!(claim.on_conflict(at(10_000), BY), Verdict::Bear);
        let mut now = 10_000;
        for silence in [15_000, 30_000, 60_000, 60_000] {
            assert_eq!(claim.next_timeout(), Some(at(now + silence)));
            assert_eq!(run(&mut claim, now + silence - 1), []);
            now += silence;
            run(&mut claim, now + 1500);
            assert_eq!(claim.state(), AddressState::Tentative);
            now += 1500;
            assert_eq!(claim.on_conflict(at(now), BY), Verdict::Yield);
        }
        run(&mut claim, now + 70_000);
        assert_eq!(claim.state(), AddressState::Assigned);
        assert_eq!(claim.on_conflict(at(now + 80_000), BY), Verdict::Defend);
        assert_eq!(claim.on_conflict(at(now + 80_001), BY), Verdict::Yield);
        assert_eq!(claim.next_timeout(), Some(at(now + 95_001)), "it begins anew");
    }

    #[test]
    fn a_follower_is_silent_and_follows() {
        let mut claim = Claim::new(MINE, Acd::Strict, false, Keys::new([3; 16]), at(0));
        assert_eq!((claim.state(), claim.next_timeout()), (AddressState::Tentative, None));
        assert_eq!(claim.on_conflict(at(1), BY), Verdict::Bear);
        assert!(claim.follow(AddressState::Assigned) && !claim.follow(AddressState::Assigned));
        assert!(claim.follow(AddressState::Conflicted { by: BY }));
        assert_eq!(claim.next_timeout(), None);
    }

    #[test]
    fn a_link_that_comes_up_is_a_new_start() {
        let mut optimistic = claim(Acd::Optimistic);
        run(&mut optimistic, 10_000);
        optimistic.stop();
        optimistic.start(at(20_000));
        assert_eq!(run(&mut optimistic, 30_000).len(), 3);
        let mut strict = claim(Acd::Strict);
        run(&mut strict, 30_000);
        strict.stop();
        assert_eq!(strict.state(), AddressState::Assigned);
        strict.start(at(40_000));
        assert_eq!(strict.state(), AddressState::Tentative);
        strict.stop();
        assert_eq!(strict.next_timeout(), None);
    }
}
