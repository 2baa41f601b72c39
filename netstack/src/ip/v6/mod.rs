//! IPv6 (RFC 8200) as a host speaks it on one link: which addresses are ours and how they came
//! to be ([`address`]), routers and prefixes ([`router`]), groups ([`mld`]), neighbour
//! discovery ([`ndp`]), which packets are taken ([`ingress`]), and ICMPv6 ([`icmp`]).

use std::net::Ipv6Addr;

pub(crate) mod address;
pub(crate) mod icmp;
pub(crate) mod ingress;
mod mld;
mod ndp;
mod router;

pub(crate) use address::AddressState;
pub(crate) use ndp::{Received, Told};

use address::Addresses;
use mld::Mld;
use router::Routers;

use super::{Outbox, Packet};
use crate::config::{Ipv6Cidr, MacAddr};
use crate::entropy::Keys;
use crate::limit::ErrorLimits;
use crate::stats::Stats;
use crate::time::Instant;
use crate::wire::ipv6::{self, ALL_ROUTERS, MIN_MTU, multicast_mac, solicited_node};
use crate::wire::ndp::TYPE_SOLICITATION;
use crate::wire::{icmpv6, ndp as wire_ndp};

/// Distinguishes the uses of the stack's secret.
const PURPOSE_NONCE: u8 = 33;
const PURPOSE_ROUTER_DELAY: u8 = 34;
const PURPOSE_MLD_DELAY: u8 = 35;
const PURPOSE_IDENTIFIER: u8 = 36;

/// What IPv6 is told of the configuration.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) mac: MacAddr,
    pub(crate) mtu: usize,
    pub(crate) addresses: Vec<Ipv6Cidr>,
    pub(crate) gateway: Option<Ipv6Addr>,
    pub(crate) slaac: bool,
    /// Probe before an address is used, and not alongside.
    pub(crate) strict: bool,
    pub(crate) keys: Keys,
    /// Behind the interface identifiers.
    pub(crate) stable_secret: Option<[u8; 16]>,
    /// RFC 7217's Network_ID: the tags of the VLAN.
    pub(crate) network: [u8; 4],
}

/// Where packets and counts of one step go.
pub(crate) struct Out<'a> {
    /// Another stack speaks for our addresses ([`Config::passive`](crate::Config)): of the
    /// messages of neighbour discovery only questions for neighbours are sent.
    pub(crate) passive: bool,
    pub(crate) outbox: &'a mut Outbox,
    pub(crate) stats: &'a mut Stats,
}

impl Out<'_> {
    /// Sends a link-scope message of neighbour discovery to a known station.
    fn link(&mut self, to: MacAddr, source: Ipv6Addr, destination: Ipv6Addr, message: Vec<u8>) {
        self.push(to, source, destination, message, false);
    }

    /// Sends one to a group.
    fn group(&mut self, source: Ipv6Addr, group: Ipv6Addr, message: Vec<u8>) {
        self.push(multicast_mac(group), source, group, message, false);
    }

    /// Sends a message of multicast listener discovery.
    fn listener(&mut self, source: Ipv6Addr, group: Ipv6Addr, message: Vec<u8>) {
        self.push(multicast_mac(group), source, group, message, true);
    }

    fn push(
        &mut self,
        to: MacAddr,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        mut message: Vec<u8>,
        router_alert: bool,
    ) {
        let is_question = message.first() == Some(&TYPE_SOLICITATION) && !source.is_unspecified();
        if self.passive && !is_question {
            return;
        }
        let sent = if router_alert { &mut self.stats.mld_out } else { &mut self.stats.nd_out };
        *sent += 1;
        icmpv6::seal(source, destination, &mut message);
        let packet = Packet::Discovery { to, source, destination, message, router_alert };
        self.outbox.push(packet, self.stats);
    }
}

/// The state of IPv6 on the link.
#[derive(Debug)]
pub(crate) struct Ipv6 {
    mac: MacAddr,
    slaac: bool,
    /// What the link carries.
    link_mtu: usize,
    /// What a router says that it carries.
    mtu: usize,
    hop_limit: u8,
    pub(crate) addresses: Addresses,
    routers: Routers,
    mld: Mld,
    errors: ErrorLimits,
    /// The earliest time at which something is due; exact after each step.
    next: Instant,
}

impl Ipv6 {
    pub(crate) fn new(settings: Settings, now: Instant) -> Self {
        let Settings { mac, mtu, keys, slaac, .. } = settings;
        Self {
            mac,
            slaac,
            link_mtu: mtu,
            mtu,
            hop_limit: ipv6::HOP_LIMIT,
            routers: Routers::new(settings.gateway, slaac, &settings.addresses, keys, now),
            mld: Mld::new(keys),
            addresses: Addresses::new(settings, now),
            errors: ErrorLimits::new(keys, icmp::ERRORS),
            // The first step is due at once: it joins and probes.
            next: now,
        }
    }

    /// The stack that speaks for the addresses has come to this.
    pub(crate) fn follow(&mut self, now: Instant, address: Ipv6Addr, state: AddressState) {
        self.addresses.follow(now, address, state);
        self.next = now;
    }

    /// The interface has another hardware address.
    pub(crate) fn set_mac(&mut self, mac: MacAddr) {
        self.mac = mac;
        self.addresses.set_mac(mac);
    }

    /// The link carries packets of so many octets now; what a router has said of it counts where it is
    /// less.
    pub(crate) fn set_link_mtu(&mut self, mtu: usize) {
        let said = self.mtu < self.link_mtu;
        self.mtu = if said { self.mtu.min(mtu) } else { mtu };
        self.link_mtu = mtu;
    }

    /// Octets of the largest packet.
    pub(crate) fn mtu(&self) -> usize {
        self.mtu
    }

    /// The hop limit of packets to hosts that may be far away.
    pub(crate) fn hop_limit(&self) -> u8 {
        self.hop_limit
    }

    /// The neighbour to hand a packet for `destination` to. `silent` says of a neighbour that
    /// it does not answer: another router is taken then, if there is one (RFC 4861 6.3.6).
    pub(crate) fn next_hop(
        &self,
        destination: Ipv6Addr,
        silent: impl Fn(Ipv6Addr) -> bool,
    ) -> Option<Ipv6Addr> {
        self.routers.next_hop(destination, silent)
    }

    /// Whether `address` can be another host's on the link.
    pub(crate) fn is_neighbor(&self, address: Ipv6Addr) -> bool {
        self.routers.is_on_link(address) && !self.addresses.owns(address)
    }

    /// Whether packets to this group are for us.
    fn is_member(&self, group: Ipv6Addr) -> bool {
        group == ipv6::ALL_NODES || self.addresses.groups().any(|ours| ours == group)
    }

    /// The Ethernet groups whose frames must reach us.
    pub(crate) fn multicast_macs(&self) -> impl Iterator<Item = MacAddr> {
        std::iter::once(ipv6::ALL_NODES).chain(self.addresses.groups()).map(multicast_mac)
    }

    /// Asks for a neighbour's address: to all, or to the station that is to be confirmed.
    pub(crate) fn solicit(&self, out: &mut Out<'_>, to: MacAddr, target: Ipv6Addr) {
        let Some((source, proven)) = self.addresses.source_for(target) else { return };
        let solicitation = wire_ndp::Solicitation {
            target,
            // RFC 4429 3.3: what may turn out to be another's address is not spread.
            source_mac: proven.then_some(self.mac),
            nonce: None,
        };
        let message = wire_ndp::make_solicitation(&solicitation);
        if to.is_group() {
            out.group(source, solicited_node(target), message);
        } else {
            out.link(to, source, target, message);
        }
    }

    // ---- time ----------------------------------------------------------------------------

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.next.is_armed().then_some(self.next)
    }

    /// Does what is due at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant, out: &mut Out<'_>) {
        if self.next > now {
            return;
        }
        if out.passive {
            self.addresses.follow_time(now);
            self.routers.expire(now);
            self.next = self.addresses.next_change().min(self.routers.next_end());
            return;
        }
        self.addresses.expire(now);
        // A group is joined before the address behind it is probed (RFC 4862 5.4.2).
        self.report(now, out);
        self.addresses.probe_and_announce(now, out);
        if self.routers.solicit_due(now) {
            let source = self.addresses.link_local();
            let source_mac = source.and_then(|(_, proven)| proven.then_some(self.mac));
            let source = source.map_or(Ipv6Addr::UNSPECIFIED, |(address, _)| address);
            out.group(source, ALL_ROUTERS, wire_ndp::make_router_solicitation(source_mac));
        }
        self.routers.expire(now);
        self.rearm();
    }

    /// Joins and leaves groups, and sends the reports that are due.
    fn report(&mut self, now: Instant, out: &mut Out<'_>) {
        self.mld.sync(now, self.addresses.groups());
        // RFC 3590: `::` until there is a link-local address that may be used.
        let source = self.addresses.link_local().map_or(Ipv6Addr::UNSPECIFIED, |(it, _)| it);
        self.mld.transmit(now, source, out);
    }

    /// The interface is back: whoever else is there now may have our addresses.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.addresses.restart(now);
        self.mld.restart(now);
        self.routers.restart(now);
        self.next = now;
    }

    fn rearm(&mut self) {
        let next =
            [self.addresses.next_timeout(), self.routers.next_timeout(), self.mld.next_timeout()];
        self.next = next.into_iter().min().unwrap_or(Instant::NEVER);
    }

    /// A router's MTU, if it says one that the link and IPv6 allow.
    fn set_mtu(&mut self, mtu: u32) {
        let mtu = mtu as usize;
        if (MIN_MTU..=self.link_mtu).contains(&mtu) {
            self.mtu = mtu;
        }
    }
}
