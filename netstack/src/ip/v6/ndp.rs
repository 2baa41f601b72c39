//! Neighbour discovery's messages as they come in (RFC 4861 6.1, 7.1): who may say what, and
//! what follows.

use std::net::Ipv6Addr;

use super::address::Conflict;
use super::{Ipv6, Out};
use crate::config::MacAddr;
use crate::time::Instant;
use crate::wire::icmpv6::Message;
use crate::wire::ipv6::{ALL_NODES, solicited_node};
use crate::wire::mld::{self, TYPE_QUERY};
use crate::wire::ndp::{
    self, TYPE_ADVERTISEMENT, TYPE_REDIRECT, TYPE_ROUTER_ADVERTISEMENT, TYPE_ROUTER_SOLICITATION,
    TYPE_SOLICITATION,
};

/// RFC 4861 3.1: a packet that a router has forwarded has less than this.
const HOP_LIMIT: u8 = 255;

/// A message with what is known about its packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received<'a> {
    pub(crate) source: Ipv6Addr,
    pub(crate) destination: Ipv6Addr,
    pub(crate) hop_limit: u8,
    /// The packet carried a Router Alert option.
    pub(crate) router_alert: bool,
    /// The station that sent the frame.
    pub(crate) station: MacAddr,
    pub(crate) message: Message<'a>,
}

/// What the neighbour table is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// `address` asks us, or tells of itself, from `mac`.
    Question { address: Ipv6Addr, mac: MacAddr },
    /// `address` is advertised.
    Advertised { address: Ipv6Addr, mac: Option<MacAddr>, solicited: bool, override_cached: bool },
}

impl Ipv6 {
    /// Whether the type is one that [`on_link_message`](Self::on_link_message) takes.
    pub(crate) fn is_link_message(kind: u8) -> bool {
        matches!(kind, TYPE_ROUTER_SOLICITATION..=TYPE_REDIRECT | TYPE_QUERY)
    }

    /// Takes a message of neighbour or multicast listener discovery.
    pub(crate) fn on_link_message(
        &mut self,
        now: Instant,
        received: &Received<'_>,
        out: &mut Out<'_>,
    ) -> Option<Told> {
        if received.message.kind == TYPE_QUERY {
            self.on_query(now, received, out);
            return None;
        }
        let sane = received.hop_limit == HOP_LIMIT && received.message.code == 0;
        let used = sane.then(|| match received.message.kind {
            TYPE_SOLICITATION => self.on_solicitation(now, received, out),
            TYPE_ADVERTISEMENT => self.on_advertisement(now, received, out),
            TYPE_ROUTER_ADVERTISEMENT => self.on_router_advertisement(now, received),
            // Solicitations are for routers. Redirects (RFC 4861 8) are not followed, as for
            // IPv4: a server behind one or two routers gains a hop at the most, and anybody
            // on the link who can forge one would have our packets.
            _ => None,
        });
        let Some(told) = used.flatten() else {
            out.stats.nd_ignored += 1;
            return None;
        };
        out.stats.nd_in += 1;
        told
    }

    /// `None`: of no use. What is to be learnt, otherwise.
    fn on_solicitation(
        &mut self,
        now: Instant,
        received: &Received<'_>,
        out: &mut Out<'_>,
    ) -> Option<Option<Told>> {
        let solicitation = ndp::parse_solicitation(received.message.octets).ok()?;
        let target = solicitation.target;
        if target.is_multicast() {
            return None;
        }
        if received.source.is_unspecified() {
            // RFC 4861 7.1.1: a probe goes to the group and says nothing about a MAC.
            let probe =
                received.destination == solicited_node(target) && solicitation.source_mac.is_none();
            if !probe {
                return None;
            }
            self.addresses.state(target)?;
            if out.passive {
                // The stack that speaks for the address decides.
                return Some(None);
            }
            let conflict =
                self.addresses.on_claim(now, target, received.station, true, solicitation.nonce);
            return self.settle(now, target, conflict, out).then_some(None);
        }
        // RFC 4862 5.4.3: for what is not ours yet nobody is answered. Who is not on the link
        // has no business here, and an entry for it would be a way to draw its packets.
        if !self.addresses.owns(target) || !self.is_neighbor(received.source) {
            return None;
        }
        let mac = match solicitation.source_mac {
            Some(mac) if !is_station(mac) || mac == self.mac => return None,
            Some(mac) => mac,
            None => received.station,
        };
        let advertisement = self.addresses.advertisement(target, true);
        out.link(mac, target, received.source, ndp::make_advertisement(&advertisement));
        let told = solicitation.source_mac.is_some();
        Some(told.then_some(Told::Question { address: received.source, mac }))
    }

    fn on_advertisement(
        &mut self,
        now: Instant,
        received: &Received<'_>,
        out: &mut Out<'_>,
    ) -> Option<Option<Told>> {
        let advertisement = ndp::parse_advertisement(received.message.octets).ok()?;
        let ndp::Advertisement { router, solicited, override_cached, target, target_mac } =
            advertisement;
        // RFC 4861 7.1.2.
        if target.is_multicast() || solicited && received.destination.is_multicast() {
            return None;
        }
        if self.addresses.state(target).is_some() {
            if out.passive {
                return Some(None);
            }
            let conflict = self.addresses.on_claim(now, target, received.station, false, None);
            return self.settle(now, target, conflict, out).then_some(None);
        }
        if !self.is_neighbor(target) || target_mac.is_some_and(|mac| !is_station(mac)) {
            return None;
        }
        if !router {
            self.routers.forget(target);
        }
        let (address, mac) = (target, target_mac);
        Some(Some(Told::Advertised { address, mac, solicited, override_cached }))
    }

    /// Does what a claim of one of our addresses led to; whether it led to anything.
    fn settle(
        &mut self,
        now: Instant,
        target: Ipv6Addr,
        conflict: Conflict,
        out: &mut Out<'_>,
    ) -> bool {
        match conflict {
            Conflict::None => return false,
            Conflict::Loop => out.stats.nd_loop += 1,
            Conflict::Lost => out.stats.nd_conflict += 1,
            Conflict::Taken => self.defend(target, out),
            Conflict::Defend => {
                out.stats.nd_conflict += 1;
                self.defend(target, out);
            }
        }
        // Another probe may be due, a group to be left.
        self.next = now;
        true
    }

    /// Says to all that an address is ours (RFC 4861 7.2.4, RFC 4862 5.4.3).
    fn defend(&self, target: Ipv6Addr, out: &mut Out<'_>) {
        let advertisement = self.addresses.advertisement(target, false);
        out.group(target, ALL_NODES, ndp::make_advertisement(&advertisement));
    }

    fn on_router_advertisement(
        &mut self,
        now: Instant,
        received: &Received<'_>,
    ) -> Option<Option<Told>> {
        // RFC 4861 6.1.2: routers speak from their link-local addresses.
        if !self.slaac || !received.source.is_unicast_link_local() {
            return None;
        }
        let advertisement = ndp::parse_router_advertisement(received.message.octets).ok()?;
        let router = received.source;
        self.routers.on_advertisement(now, router, &advertisement);
        // Reachable time and retransmission timer are left at their defaults: no link needs
        // others, and a forged one would turn neighbour discovery off, or into a storm.
        if advertisement.hop_limit != 0 {
            self.hop_limit = advertisement.hop_limit;
        }
        if let Some(mtu) = advertisement.mtu {
            self.set_mtu(mtu);
        }
        self.next = now;
        for prefix in advertisement.prefixes() {
            self.routers.on_prefix(now, &prefix);
            self.addresses.on_prefix(now, &prefix);
        }
        let mac = advertisement.source_mac.filter(|mac| is_station(*mac) && *mac != self.mac);
        Some(mac.map(|mac| Told::Question { address: router, mac }))
    }

    fn on_query(&mut self, now: Instant, received: &Received<'_>, out: &mut Out<'_>) {
        // RFC 3810 6.2.
        let sane = received.source.is_unicast_link_local()
            && received.hop_limit == 1
            && received.router_alert;
        let query = sane.then(|| mld::parse_query(received.message.octets).ok()).flatten();
        let Some(query) = query else {
            out.stats.mld_ignored += 1;
            return;
        };
        out.stats.mld_in += 1;
        self.mld.on_query(now, &query);
        self.rearm();
    }
}

/// Whether a MAC can be a station's.
fn is_station(mac: MacAddr) -> bool {
    !mac.is_group() && mac != MacAddr::ZERO
}
