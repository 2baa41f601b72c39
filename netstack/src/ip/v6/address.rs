//! Our addresses: configured ones, the link-local one, and those that are formed from routers'
//! prefixes (RFC 4862); duplicate detection (5.4, RFC 7527), optimistic (RFC 4429) or not.
//!
//! ```text
//!               no answer in 1 s               another station claims it, twice in 10 s
//!  Optimistic ------------------> Preferred ----------------------------> Duplicate
//!  or Tentative -- another station has it or wants it --> Duplicate, or a new identifier
//!         ^                                                   |
//!         +-------- the other one silent for 15 to 60 s ------+
//! ```
//! A duplicate comes back by itself as an IPv4 address does (see [`acd`](crate::link::acd)).

use std::net::Ipv6Addr;
use std::time::Duration;

use super::{Out, PURPOSE_IDENTIFIER, PURPOSE_NONCE, Settings};
use crate::config::{Ipv6Cidr, MacAddr};
use crate::entropy::Keys;
use crate::link::acd::silence;
use crate::link::announce::Announcer;
use crate::time::Instant;
use crate::wire::ipv6::{ALL_NODES, solicited_node};
use crate::wire::ndp::{
    Advertisement, Nonce, Prefix, Solicitation, make_advertisement, make_solicitation,
};

/// Addresses that are formed from prefixes at one time. A router that is not what it seems
/// could advertise any number.
const MAX_AUTOMATIC: usize = 16;
/// RFC 4861 10: RETRANS_TIMER, how long an answer to a probe is awaited.
const PROBE_WAIT: Duration = Duration::from_secs(1);
/// RFC 7217 7: IDGEN_RETRIES, other identifiers that are tried where one is taken.
const MAX_RETRIES: u8 = 3;
/// Probes of ours that came back (RFC 7527) are followed by another, this often.
const MAX_REPEATS: u8 = 3;
/// RFC 4862 5.5.3 (e): what a lifetime is not cut below by a message that anybody can forge.
const TWO_HOURS: Duration = Duration::from_secs(7200);
/// As RFC 5227 2.4 (c) for IPv4, where RFC 4862 5.4 says nothing: an address is defended once
/// in this time and given up at the second conflict.
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// Link-local addresses are formed from this prefix.
const LINK_LOCAL: Ipv6Cidr =
    Ipv6Cidr { address: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), prefix: 64 };

/// Whether an address may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressState {
    /// Being probed, and not used.
    Tentative,
    /// Being probed, and used meanwhile (RFC 4429).
    Optimistic,
    /// Ours.
    Preferred,
    /// Another station has it: not used.
    Duplicate {
        /// That station.
        by: MacAddr,
    },
}

/// Why an address is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Configured,
    /// Formed with this many retries.
    Formed(u8),
}

#[derive(Debug)]
struct Own {
    cidr: Ipv6Cidr,
    origin: Origin,
    state: AddressState,
    /// The next probe or, if none is left, the end of the wait for an answer. For a duplicate,
    /// when it is probed for again.
    next_probe: Instant,
    probes_left: u8,
    /// Probes that followed one that came back.
    repeats: u8,
    /// What names our latest probe.
    nonce: Nonce,
    announcer: Announcer,
    /// RFC 4862 5.5.4: not chosen any more from here on, though used.
    preferred_until: Instant,
    valid_until: Instant,
    defended: Option<Instant>,
    /// Times that it was lost, since it was last held.
    conflicts: u32,
}

impl Own {
    fn new(cidr: Ipv6Cidr, origin: Origin, strict: bool, now: Instant) -> Self {
        let mut own = Self {
            cidr,
            origin,
            state: AddressState::Tentative,
            next_probe: Instant::NEVER,
            probes_left: 0,
            repeats: 0,
            nonce: Nonce::default(),
            announcer: Announcer::new(now),
            preferred_until: Instant::NEVER,
            valid_until: Instant::NEVER,
            defended: None,
            conflicts: 0,
        };
        own.begin(strict, now);
        own
    }

    /// Begins to probe. There is no random delay before (RFC 4862 5.4.2): it spares a segment
    /// on which everything starts at once, and would cost the second in which the first
    /// clients come, or in which a conflict goes unnoticed.
    fn begin(&mut self, strict: bool, now: Instant) {
        self.probes_left = 1;
        self.repeats = 0;
        self.next_probe = now;
        if strict {
            self.state = AddressState::Tentative;
            self.announcer.stop();
        } else {
            self.state = AddressState::Optimistic;
            self.announcer.restart(now);
        }
    }

    fn is_usable(&self) -> bool {
        matches!(self.state, AddressState::Optimistic | AddressState::Preferred)
    }

    fn is_probed(&self) -> bool {
        matches!(self.state, AddressState::Optimistic | AddressState::Tentative)
    }

    fn give_up(&mut self, by: MacAddr, now: Instant) {
        self.conflicts = self.conflicts.saturating_add(1);
        self.announcer.stop();
        self.heard(by, now);
    }

    /// Who has the address still has it.
    fn heard(&mut self, by: MacAddr, now: Instant) {
        self.state = AddressState::Duplicate { by };
        self.next_probe = now + silence(self.conflicts);
    }

    fn next_timeout(&self) -> Instant {
        let announcement = self.announcer.next_timeout().unwrap_or(Instant::NEVER);
        self.next_probe.min(announcement).min(self.valid_until)
    }
}

/// What a conflict led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conflict {
    /// It was our own probe, come back.
    Loop,
    /// The address is another's, and not used any more.
    Lost,
    /// The other asks whether the address is free, and is told that it is ours.
    Taken,
    /// The other says that the address is its own, and is told that it is ours.
    Defend,
    /// It was given up long ago.
    None,
}

/// All of our addresses.
#[derive(Debug)]
pub(crate) struct Addresses {
    list: Vec<Own>,
    mac: MacAddr,
    strict: bool,
    keys: Keys,
    identifiers: Keys,
    network: [u8; 4],
    /// Probes so far, which makes each nonce another.
    probes: u64,
    /// Addresses that have just become usable or unusable: few, and taken at once.
    changes: Vec<(Ipv6Addr, AddressState)>,
}

impl Addresses {
    pub(super) fn new(settings: Settings, now: Instant) -> Self {
        let Settings { mac, addresses, strict, keys, stable_secret, network, .. } = settings;
        // Without a secret of its own the MAC has to do: the same after a restart, as
        // predictable as an address that holds the MAC itself, but without telling it.
        let secret = stable_secret.unwrap_or_else(|| {
            let mut secret = *b"tagwire/rfc7217.";
            for (octet, mac) in secret.iter_mut().zip(mac.0) {
                *octet ^= mac;
            }
            secret
        });
        let identifiers = Keys::new(secret);
        let list = Vec::new();
        let mut new =
            Self { list, mac, strict, keys, identifiers, network, probes: 0, changes: Vec::new() };
        // One that is configured takes the place of the one that we would form.
        if !addresses.iter().any(|cidr| cidr.address.is_unicast_link_local()) {
            let cidr = new.form(LINK_LOCAL, 0);
            new.list.push(Own::new(cidr, Origin::Formed(0), strict, now));
        }
        for cidr in addresses {
            new.list.push(Own::new(cidr, Origin::Configured, strict, now));
        }
        new
    }

    /// RFC 7217 5: an address from a /64 prefix, the same each time.
    fn form(&self, prefix: Ipv6Cidr, retries: u8) -> Ipv6Cidr {
        let network = u128::from(prefix.address) & prefix.mask();
        let mut attempt = u16::from(retries);
        loop {
            let mut input = [0; 20];
            input[..8].copy_from_slice(&network.to_be_bytes()[..8]);
            input[8..14].copy_from_slice(&self.mac.0);
            input[14..18].copy_from_slice(&self.network);
            input[18..].copy_from_slice(&attempt.to_be_bytes());
            let identifier = self.identifiers.prf(PURPOSE_IDENTIFIER, &input);
            if !is_reserved(identifier) {
                let address = Ipv6Addr::from(network | u128::from(identifier));
                return Ipv6Cidr { address, prefix: prefix.prefix };
            }
            // Apart from the retries, of which there are fewer.
            attempt = attempt.wrapping_add(0x100);
        }
    }

    // ---- what is ours --------------------------------------------------------------------

    fn find(&self, address: Ipv6Addr) -> Option<&Own> {
        self.list.iter().find(|own| own.cidr.address == address)
    }

    /// What is the case with an address; `None`: it is not one of ours.
    pub(crate) fn state(&self, address: Ipv6Addr) -> Option<AddressState> {
        self.find(address).map(|own| own.state)
    }

    /// Every address with its state.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Ipv6Addr, AddressState)> {
        self.list.iter().map(|own| (own.cidr.address, own.state))
    }

    /// Addresses that have been given up, are probed for again, or can be used after a probe,
    /// since the last time.
    pub(crate) fn take_changes(&mut self) -> Vec<(Ipv6Addr, AddressState)> {
        std::mem::take(&mut self.changes)
    }

    /// The stack that speaks for the addresses has come to this: so does one that does not, and
    /// which has no times of its own.
    pub(super) fn follow(&mut self, now: Instant, address: Ipv6Addr, state: AddressState) {
        let index = self.list.iter().position(|own| own.cidr.address == address);
        match (index, state) {
            (Some(index), AddressState::Duplicate { by }) => self.lose(index, by, now),
            (Some(index), _) => {
                self.list[index].state = state;
                self.changes.push((address, state));
            }
            (None, _) => {}
        }
    }

    /// Whether packets to and from `address` are ours.
    pub(crate) fn owns(&self, address: Ipv6Addr) -> bool {
        self.find(address).is_some_and(Own::is_usable)
    }

    /// The solicited-node groups of all addresses, without doubles.
    pub(super) fn groups(&self) -> impl Iterator<Item = Ipv6Addr> {
        let wanted = |own: &&Own| !matches!(own.state, AddressState::Duplicate { .. });
        let group = |own: &Own| solicited_node(own.cidr.address);
        self.list.iter().enumerate().filter(move |(_, own)| wanted(own)).filter_map(
            move |(index, own)| {
                let earlier = self.list[..index].iter().filter(wanted);
                (!earlier.into_iter().any(|other| group(other) == group(own))).then(|| group(own))
            },
        )
    }

    /// A link-local address that may be used, and whether it is surely ours.
    pub(super) fn link_local(&self) -> Option<(Ipv6Addr, bool)> {
        let own = self
            .list
            .iter()
            .filter(|own| own.is_usable() && own.cidr.address.is_unicast_link_local())
            .max_by_key(|own| own.state == AddressState::Preferred)?;
        Some((own.cidr.address, own.state == AddressState::Preferred))
    }

    /// Which of our addresses asks for the neighbour `target`, and whether it is surely ours:
    /// one of the same prefix that is (RFC 6724's rules 3 and 8), else the link-local one.
    pub(super) fn source_for(&self, target: Ipv6Addr) -> Option<(Ipv6Addr, bool)> {
        let best = self.list.iter().filter(|own| own.is_usable()).max_by_key(|own| {
            (
                own.state == AddressState::Preferred,
                own.cidr.contains(target),
                !own.preferred_until.is_armed(),
                own.preferred_until,
                own.cidr.address.is_unicast_link_local(),
            )
        })?;
        Some((best.cidr.address, best.state == AddressState::Preferred))
    }

    // ---- duplicates ----------------------------------------------------------------------

    /// Another station asks whether `address` is free (RFC 4862 5.4.3), or says that it has
    /// it (5.4.4); `nonce` is of the former.
    pub(super) fn on_claim(
        &mut self,
        now: Instant,
        address: Ipv6Addr,
        by: MacAddr,
        asks: bool,
        nonce: Option<Nonce>,
    ) -> Conflict {
        let Some(index) = self.list.iter().position(|own| own.cidr.address == address) else {
            return Conflict::None;
        };
        let own = &mut self.list[index];
        match own.state {
            AddressState::Duplicate { .. } => {
                own.heard(by, now);
                Conflict::None
            }
            AddressState::Preferred if asks => Conflict::Taken,
            AddressState::Preferred => {
                let again = own.defended.is_some_and(|at| now.since(at) < DEFEND_INTERVAL);
                own.defended = Some(now);
                if !again {
                    return Conflict::Defend;
                }
                self.lose(index, by, now);
                Conflict::Lost
            }
            AddressState::Tentative | AddressState::Optimistic => {
                if asks && nonce == Some(own.nonce) {
                    if own.repeats < MAX_REPEATS {
                        // RFC 7527 4.2: probe until one does not come back.
                        own.repeats += 1;
                        own.probes_left = 1;
                    }
                    return Conflict::Loop;
                }
                self.lose(index, by, now);
                Conflict::Lost
            }
        }
    }

    /// An address is another's: it is given up, or formed anew (RFC 7217 6).
    fn lose(&mut self, index: usize, by: MacAddr, now: Instant) {
        self.changes.push((self.list[index].cidr.address, AddressState::Duplicate { by }));
        let retries = match self.list[index].origin {
            Origin::Formed(retries) if retries < MAX_RETRIES => retries,
            _ => {
                self.list[index].give_up(by, now);
                return;
            }
        };
        let cidr = self.form(self.list[index].cidr, retries + 1);
        let old = &self.list[index];
        let (valid_until, preferred_until) = (old.valid_until, old.preferred_until);
        let fresh = Own::new(cidr, Origin::Formed(retries + 1), self.strict, now);
        self.list[index] = Own { valid_until, preferred_until, ..fresh };
    }

    // ---- prefixes ------------------------------------------------------------------------

    /// RFC 4862 5.5.3: forms an address, or prolongs the one that was formed.
    pub(super) fn on_prefix(&mut self, now: Instant, prefix: &Prefix) {
        let network = prefix.prefix;
        // (a) to (c), and (d): identifiers have 64 bits.
        if !prefix.autonomous
            || network.address.is_unicast_link_local()
            || network.address.is_multicast()
            || prefix.preferred > prefix.valid
            || network.prefix != 64
        {
            return;
        }
        let valid_until = after(now, prefix.valid);
        let preferred_until = after(now, prefix.preferred);
        let formed = self.list.iter_mut().find(|own| {
            own.origin != Origin::Configured
                && own.cidr.prefix == network.prefix
                && own.cidr.contains(network.address)
        });
        if let Some(own) = formed {
            // (e): a forged advertisement must not end an address within minutes.
            let floor = now + TWO_HOURS;
            if valid_until > floor || valid_until > own.valid_until {
                own.valid_until = valid_until;
            } else if own.valid_until > floor {
                own.valid_until = floor;
            }
            own.preferred_until = preferred_until;
            return;
        }
        let automatic = self.list.iter().filter(|own| own.origin != Origin::Configured).count();
        if prefix.valid == 0 || automatic > MAX_AUTOMATIC {
            return;
        }
        let cidr = self.form(network, 0);
        let own = Own::new(cidr, Origin::Formed(0), self.strict, now);
        self.list.push(Own { valid_until, preferred_until, ..own });
    }

    // ---- time ----------------------------------------------------------------------------

    pub(super) fn next_timeout(&self) -> Instant {
        self.list.iter().map(Own::next_timeout).min().unwrap_or(Instant::NEVER)
    }

    /// Ends addresses whose time is over, and begins to probe for duplicates that nobody has
    /// been heard to have for a while, whatever the mode.
    pub(super) fn expire(&mut self, now: Instant) {
        self.list.retain(|own| own.valid_until > now);
        for own in &mut self.list {
            if matches!(own.state, AddressState::Duplicate { .. }) && own.next_probe <= now {
                own.begin(true, now);
                self.changes.push((own.cidr.address, own.state));
            }
        }
    }

    /// What time alone changes in a stack that does not speak: addresses end, and those that the
    /// one which does has probed in vain for others are ours.
    pub(super) fn follow_time(&mut self, now: Instant) {
        self.list.retain(|own| own.valid_until > now);
        for own in &mut self.list {
            if own.state == AddressState::Optimistic && own.next_probe + PROBE_WAIT <= now {
                own.state = AddressState::Preferred;
            }
        }
    }

    /// When [`follow_time`](Self::follow_time) next changes something.
    pub(super) fn next_change(&self) -> Instant {
        let change = |own: &Own| match own.state {
            AddressState::Optimistic => own.valid_until.min(own.next_probe + PROBE_WAIT),
            _ => own.valid_until,
        };
        self.list.iter().map(change).min().unwrap_or(Instant::NEVER)
    }

    /// The interface has another hardware address. Addresses that were made from the old one stay.
    pub(super) fn set_mac(&mut self, mac: MacAddr) {
        self.mac = mac;
    }

    /// Probes all addresses anew, and uses none meanwhile that was another's.
    pub(super) fn restart(&mut self, now: Instant) {
        for own in &mut self.list {
            let before = own.state;
            own.begin(self.strict || !own.is_usable(), now);
            if own.state != before && own.state == AddressState::Tentative {
                self.changes.push((own.cidr.address, own.state));
            }
        }
    }

    /// Sends the probes and announcements that are due.
    pub(super) fn probe_and_announce(&mut self, now: Instant, out: &mut Out<'_>) {
        for own in &mut self.list {
            let target = own.cidr.address;
            if own.is_probed() && own.next_probe <= now {
                if own.probes_left > 0 {
                    own.probes_left -= 1;
                    own.next_probe = now + PROBE_WAIT;
                    self.probes += 1;
                    let input = [&target.octets()[..], &self.probes.to_be_bytes()].concat();
                    let [.., a, b, c, d, e, f] = self.keys.prf(PURPOSE_NONCE, &input).to_be_bytes();
                    own.nonce = [a, b, c, d, e, f];
                    let probe = Solicitation { target, source_mac: None, nonce: Some(own.nonce) };
                    let message = make_solicitation(&probe);
                    out.group(Ipv6Addr::UNSPECIFIED, solicited_node(target), message);
                } else {
                    if own.state == AddressState::Tentative {
                        self.changes.push((target, AddressState::Preferred));
                    }
                    own.state = AddressState::Preferred;
                    own.conflicts = 0;
                    own.next_probe = Instant::NEVER;
                    // Now in words that override what others have cached.
                    own.announcer.restart(now);
                }
            }
            if own.announcer.take_due(now) {
                // RFC 4861 7.2.6, RFC 9131: who has a router or a peer look us up first need
                // not wait for it.
                let advertisement = Advertisement {
                    router: false,
                    solicited: false,
                    override_cached: own.state == AddressState::Preferred,
                    target,
                    target_mac: Some(self.mac),
                };
                out.group(target, ALL_NODES, make_advertisement(&advertisement));
            }
        }
    }

    /// The answer to a solicitation for `target`, `solicited` by a station or told to all.
    pub(super) fn advertisement(&self, target: Ipv6Addr, solicited: bool) -> Advertisement {
        Advertisement {
            router: false,
            solicited,
            // RFC 4429 3.3: what may be another's is not overridden.
            override_cached: self.state(target) == Some(AddressState::Preferred),
            target,
            target_mac: Some(self.mac),
        }
    }
}

/// RFC 5453: identifiers with a meaning.
fn is_reserved(identifier: u64) -> bool {
    identifier == 0
        || identifier >> 24 == 0x02_00_5e_ff_fe
        || (0xfdff_ffff_ffff_ff80..=0xfdff_ffff_ffff_ffff).contains(&identifier)
}

/// A lifetime's end: seconds from now, all ones for ever (RFC 4861 4.6.2).
pub(super) fn after(now: Instant, seconds: u32) -> Instant {
    if seconds == u32::MAX { Instant::NEVER } else { now + Duration::from_secs(u64::from(seconds)) }
}
