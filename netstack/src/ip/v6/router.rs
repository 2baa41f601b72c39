//! Routers and prefixes (RFC 4861 6.3): where packets leave the link, and what is on it.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::PURPOSE_ROUTER_DELAY;
use super::address::after;
use crate::config::Ipv6Cidr;
use crate::entropy::Keys;
use crate::time::Instant;
use crate::wire::ndp::{Preference, Prefix, RouterAdvertisement};

/// Routers at one time; RFC 4861 6.3.4 asks for two at least. Further ones are not used.
const MAX_ROUTERS: usize = 8;
/// Advertised on-link prefixes at one time; further ones are not used.
const MAX_PREFIXES: usize = 16;
/// RFC 7559 2: the first interval between solicitations, doubled each time up to the second.
const SOLICIT_FIRST: Duration = Duration::from_secs(4);
const SOLICIT_MOST: Duration = Duration::from_secs(3600);
/// RFC 4861 6.3.7: the first solicitation waits up to MAX_RTR_SOLICITATION_DELAY.
const SOLICIT_DELAY: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
struct Router {
    address: Ipv6Addr,
    preference: Preference,
    until: Instant,
}

#[derive(Clone, Copy, Debug)]
struct OnLink {
    prefix: Ipv6Cidr,
    until: Instant,
}

#[derive(Debug)]
pub(super) struct Routers {
    /// The configured one, preferred to all others.
    fixed: Option<Ipv6Addr>,
    learnt: Vec<Router>,
    prefixes: Vec<OnLink>,
    slaac: bool,
    keys: Keys,
    /// Solicitations so far.
    solicited: u32,
    interval: Duration,
    next_solicitation: Instant,
}

impl Routers {
    pub(super) fn new(
        fixed: Option<Ipv6Addr>,
        slaac: bool,
        addresses: &[Ipv6Cidr],
        keys: Keys,
        now: Instant,
    ) -> Self {
        let fixed_prefix = |&prefix: &Ipv6Cidr| OnLink { prefix, until: Instant::NEVER };
        let mut new = Self {
            fixed,
            learnt: Vec::new(),
            prefixes: addresses.iter().map(fixed_prefix).collect(),
            slaac,
            keys,
            solicited: 0,
            interval: SOLICIT_FIRST,
            next_solicitation: Instant::NEVER,
        };
        new.restart(now);
        new
    }

    /// Begins to ask for routers.
    pub(super) fn restart(&mut self, now: Instant) {
        if self.slaac {
            self.interval = SOLICIT_FIRST;
            self.next_solicitation = now + self.jitter(SOLICIT_DELAY);
        }
    }

    /// Up to `most`, drawn from the secret.
    fn jitter(&self, most: Duration) -> Duration {
        let draw = self.keys.prf(PURPOSE_ROUTER_DELAY, &self.solicited.to_be_bytes());
        Duration::from_nanos(draw % (most.as_nanos() as u64).max(1))
    }

    /// Whether an address is reached without a router.
    pub(super) fn is_on_link(&self, address: Ipv6Addr) -> bool {
        address.is_unicast_link_local()
            || self.prefixes.iter().any(|known| known.prefix.contains(address))
    }

    pub(super) fn next_hop(
        &self,
        destination: Ipv6Addr,
        silent: impl Fn(Ipv6Addr) -> bool,
    ) -> Option<Ipv6Addr> {
        if self.is_on_link(destination) {
            return Some(destination);
        }
        // RFC 4861 6.3.6, RFC 4191 3.2: one that answers before one that is preferred.
        let learnt = self.learnt.iter().max_by_key(|router| {
            (!silent(router.address), router.preference, std::cmp::Reverse(router.address))
        });
        let learnt = learnt.map(|router| router.address);
        match (self.fixed, learnt) {
            (Some(fixed), Some(learnt)) if silent(fixed) && !silent(learnt) => Some(learnt),
            (fixed, learnt) => fixed.or(learnt),
        }
    }

    /// RFC 4861 6.3.4: a router says that it is one, or is none any more.
    pub(super) fn on_advertisement(
        &mut self,
        now: Instant,
        router: Ipv6Addr,
        advertisement: &RouterAdvertisement<'_>,
    ) {
        self.learnt.retain(|known| known.address != router);
        if advertisement.lifetime == 0 {
            return;
        }
        if self.learnt.len() < MAX_ROUTERS {
            self.learnt.push(Router {
                address: router,
                preference: advertisement.preference,
                until: after(now, u32::from(advertisement.lifetime)),
            });
        }
        // RFC 7559 2.1: one that can be used ends the asking.
        self.next_solicitation = Instant::NEVER;
    }

    /// RFC 4861 7.2.5: it has said that it does not route.
    pub(super) fn forget(&mut self, router: Ipv6Addr) {
        self.learnt.retain(|known| known.address != router);
    }

    /// RFC 4861 6.3.4: a prefix is on the link, or is not any more.
    pub(super) fn on_prefix(&mut self, now: Instant, prefix: &Prefix) {
        let network = prefix.prefix;
        if !prefix.on_link || network.address.is_unicast_link_local() {
            return;
        }
        let until = after(now, prefix.valid);
        let same = |known: &&mut OnLink| {
            known.prefix.prefix == network.prefix && known.prefix.contains(network.address)
        };
        match self.prefixes.iter_mut().find(same) {
            // A configured one stays.
            Some(known) if !known.until.is_armed() => {}
            Some(known) => known.until = until,
            None if prefix.valid == 0 => {}
            None => {
                let advertised = self.prefixes.iter().filter(|known| known.until.is_armed());
                if advertised.count() < MAX_PREFIXES {
                    // `NEVER` marks the configured ones.
                    let until = until.min(now + Duration::from_secs(u64::from(u32::MAX)));
                    self.prefixes.push(OnLink { prefix: network, until });
                }
            }
        }
    }

    /// Whether a solicitation is due; the next is then farther away.
    pub(super) fn solicit_due(&mut self, now: Instant) -> bool {
        if self.next_solicitation > now {
            return false;
        }
        self.solicited += 1;
        // RFC 7559 2 (RFC 8415 15): each interval is off by up to a tenth.
        let jitter = self.jitter(self.interval / 5);
        self.next_solicitation = now + self.interval * 9 / 10 + jitter;
        self.interval = (self.interval * 2).min(SOLICIT_MOST);
        true
    }

    pub(super) fn next_timeout(&self) -> Instant {
        self.next_end().min(self.next_solicitation)
    }

    /// When the first lifetime ends.
    pub(super) fn next_end(&self) -> Instant {
        let routers = self.learnt.iter().map(|router| router.until);
        let prefixes = self.prefixes.iter().map(|known| known.until);
        routers.chain(prefixes).min().unwrap_or(Instant::NEVER)
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.prefixes.retain(|known| known.until > now);
        let had = !self.learnt.is_empty();
        self.learnt.retain(|router| router.until > now);
        if had && self.learnt.is_empty() {
            self.restart(now);
        }
    }
}
