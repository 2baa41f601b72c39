//! Whether our addresses are ours alone (RFC 5227): what [`Claim`] decides is done here, and told
//! for both families.

use std::net::{IpAddr, Ipv4Addr};

use super::Stack;
use crate::config::MacAddr;
use crate::ip::{Packet, v6};
use crate::link::acd::{Act, AddressEvent, AddressState, Verdict};
use crate::link::neighbor::Heard;
use crate::tcp::Env;
use crate::time::Instant;
use crate::wire::arp::{ArpPacket, Operation};

/// Events that may wait; there are a few a minute at the most, and who does not ask for them
/// wants none.
const MAX_EVENTS: usize = 64;

impl Stack {
    /// Whether an address of ours can be used now.
    pub(super) fn usable(&self, address: Ipv4Addr) -> bool {
        self.all_usable || self.claims.iter().all(|claim| claim.allows(address))
    }

    /// The same for both families.
    pub(super) fn may_send_from(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.usable(address),
            IpAddr::V6(address) => {
                self.ipv6.as_ref().is_some_and(|ipv6| ipv6.addresses.owns(address))
            }
        }
    }

    pub(super) fn note_usable(&mut self) {
        let usable = |state| state == AddressState::Assigned;
        self.all_usable = self.claims.iter().all(|claim| usable(claim.state()));
    }

    /// Another station says that it has our `address`, or probes for it while we do.
    pub(super) fn on_claimed(&mut self, now: Instant, address: Ipv4Addr, by: MacAddr) {
        let Some(index) = self.claims.iter().position(|claim| claim.address == address) else {
            return;
        };
        match self.claims[index].on_conflict(now, by) {
            Verdict::Bear => {}
            Verdict::Defend => {
                self.stats.arp_defended += 1;
                self.announce(address, Act::Announce);
            }
            Verdict::Yield => {
                self.stats.arp_yielded += 1;
                self.address_changed(now, index);
            }
        }
    }

    pub(super) fn claims_timeout(&mut self, now: Instant) {
        for index in 0..self.claims.len() {
            let before = self.claims[index].state();
            while let Some(act) = self.claims[index].take_due(now) {
                let claim = &self.claims[index];
                let address = claim.address;
                if act == Act::Announce && claim.probes_alongside(now) {
                    self.announce(address, Act::Probe);
                }
                self.announce(address, act);
            }
            if self.claims[index].state() != before {
                self.address_changed(now, index);
            }
        }
    }

    pub(super) fn claims_link(&mut self, now: Instant, up: bool) {
        for index in 0..self.claims.len() {
            let claim = &mut self.claims[index];
            let before = claim.state();
            if up {
                claim.start(now);
            } else {
                claim.stop();
            }
            if claim.state() != before {
                self.address_changed(now, index);
            }
        }
    }

    fn address_changed(&mut self, now: Instant, index: usize) {
        self.note_usable();
        let claim = &self.claims[index];
        let event = AddressEvent { address: claim.address.into(), state: claim.state() };
        self.note_event(now, event);
    }

    pub(super) fn note_event(&mut self, now: Instant, event: AddressEvent) {
        if self.address_events.len() < MAX_EVENTS {
            self.address_events.push_back(event);
        }
        if matches!(event.state, AddressState::Conflicted { .. }) {
            let mut env = Env::new(now, &mut self.outbox, &mut self.stats);
            self.tcp.abandon(&mut env, event.address);
        }
    }

    /// RFC 5227 2.1.1 and 2.3.
    fn announce(&mut self, address: Ipv4Addr, act: Act) {
        let packet = ArpPacket {
            operation: Operation::Request,
            sender_mac: self.mac,
            sender: if act == Act::Probe { Ipv4Addr::UNSPECIFIED } else { address },
            target_mac: MacAddr::ZERO,
            target: address,
        };
        self.outbox.push(Packet::Arp(MacAddr::BROADCAST, packet), &mut self.stats);
    }

    /// Every address of ours with its state. While one is not
    /// [`Assigned`](AddressState::Assigned), nobody is served at it.
    pub fn address_states(&self) -> impl Iterator<Item = (IpAddr, AddressState)> {
        let claims = self.claims.iter();
        let states = claims.map(|claim| (IpAddr::V4(claim.address), claim.state()));
        states.chain(self.address_states_v6())
    }

    /// The next change of an address's state. A few wait; without a reader the newest are
    /// lost.
    pub fn poll_address_event(&mut self) -> Option<AddressEvent> {
        self.address_events.pop_front()
    }

    /// The stack that speaks for the addresses has [said](Self::poll_address_event) this: a
    /// [passive](crate::Config::passive) one does the same, and has no event of it. What the
    /// others hear of a conflict over IPv4 reaches the one that speaks by
    /// [`poll_neighbor_update`](Self::poll_neighbor_update), as any neighbour.
    pub fn follow_address(&mut self, now: Instant, event: AddressEvent) {
        if let IpAddr::V6(address) = event.address
            && let Some(ipv6) = self.ipv6.as_mut().filter(|_| self.passive)
        {
            let state = match event.state {
                AddressState::Tentative => v6::AddressState::Tentative,
                AddressState::Assigned => v6::AddressState::Preferred,
                AddressState::Conflicted { by } => v6::AddressState::Duplicate { by },
            };
            ipv6.follow(now, address, state);
            self.addresses_changed_v6(now);
            self.address_events.clear();
        }
        let index = self.claims.iter().position(|claim| event.address == claim.address);
        if let Some(index) = index
            && self.claims[index].follow(event.state)
        {
            self.address_changed(now, index);
            self.address_events.clear();
        }
    }

    /// Tells the other workers that `by` was heard to have our `address`.
    pub(super) fn tell_claimed(&mut self, address: Ipv4Addr, by: MacAddr) {
        self.neighbors.tell(address.into(), by, Heard::Announcement);
    }
}
