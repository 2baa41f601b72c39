//! ARP (RFC 826): what others ask and say, and what we ask.

use std::net::IpAddr;
use std::time::Duration;

use super::Stack;
use crate::config::MacAddr;
use crate::ip::Packet;
use crate::limit::TokenBucket;
use crate::link::neighbor::{Heard, Released, Request};
use crate::time::Instant;
use crate::wire::arp::{self, ArpPacket, Operation};

/// What stations that are not in the neighbour table may cost, those that are have a limit each:
/// in a flood from invented addresses the neighbours go on being answered.
#[derive(Debug)]
pub(super) struct Limits {
    questions: TokenBucket,
    answers: TokenBucket,
}

/// ARP packets of strangers at once and each second. A whole /22 that wakes up asks within
/// seconds; a thousand answers a second are 60 KB/s on the wire.
const BURST: u32 = 256;
const INTERVAL: Duration = Duration::from_millis(1);

impl Default for Limits {
    fn default() -> Self {
        let bucket = TokenBucket::new(BURST, INTERVAL);
        Self { questions: bucket, answers: bucket }
    }
}

impl Stack {
    pub(super) fn on_arp(&mut self, now: Instant, octets: &[u8]) {
        let Ok(packet) = arp::parse(octets) else {
            self.stats.drop_malformed += 1;
            return;
        };
        let sane = !packet.sender_mac.is_group()
            && packet.sender_mac != MacAddr::ZERO
            && packet.sender_mac != self.mac;
        if self.routes.owns(packet.sender) && sane {
            self.stats.arp_conflict += 1;
            self.tell_claimed(packet.sender, packet.sender_mac);
            self.on_claimed(now, packet.sender, packet.sender_mac);
            return;
        }
        // RFC 5227 1.1: a probe (sender 0.0.0.0) is answered and teaches nothing.
        let probe = packet.sender.is_unspecified();
        let own = self.routes.owns(packet.target);
        let ours = own && self.usable(packet.target);
        if own && !ours {
            // RFC 5227 2.1.1: who probes for what we are probing for conflicts with us.
            if probe && sane && packet.operation == Operation::Request {
                self.tell_claimed(packet.target, packet.sender_mac);
                self.on_claimed(now, packet.target, packet.sender_mac);
            }
            self.stats.arp_ignored += 1;
            return;
        }
        let heard = match packet.operation {
            Operation::Request if ours => Heard::Question,
            Operation::Reply if ours && !probe => Heard::Answer,
            _ if packet.sender == packet.target => Heard::Announcement,
            // What others say to each other: they may be lying, and we need not know.
            _ => {
                self.stats.arp_ignored += 1;
                return;
            }
        };
        if !sane || !(probe && ours || self.routes.is_neighbor(packet.sender)) {
            self.stats.arp_ignored += 1;
            return;
        }
        let sender = IpAddr::V4(packet.sender);
        let granted = match heard {
            Heard::Announcement => self.neighbors.contains(sender),
            Heard::Answer => self.neighbors.contains(sender) || self.arp_limits.answers.take(now),
            _ => match self.neighbors.may_answer(now, sender) {
                Some(due) => due,
                None => self.arp_limits.questions.take(now),
            },
        };
        if !granted {
            if heard == Heard::Announcement {
                self.stats.arp_ignored += 1;
            } else {
                self.stats.arp_limited += 1;
            }
            return;
        }
        self.stats.arp_in += 1;
        if !probe {
            let mac = packet.sender_mac;
            let released = self.neighbors.learn(now, sender, mac, heard, &mut self.stats);
            self.release_waiting(released);
        }
        if heard == Heard::Question {
            let reply = ArpPacket {
                operation: Operation::Reply,
                sender_mac: self.mac,
                sender: packet.target,
                target_mac: packet.sender_mac,
                target: packet.sender,
            };
            self.outbox.push(Packet::Arp(packet.sender_mac, reply), &mut self.stats);
        }
    }

    /// Sends what has waited for a neighbour's address.
    pub(super) fn release_waiting(&mut self, released: Released) {
        for packet in released.packets {
            self.outbox.push(packet, &mut self.stats);
        }
        for id in released.connections {
            self.tcp.mark_ready(id);
        }
    }

    pub(super) fn push_requests(&mut self) {
        for Request { to, target } in std::mem::take(&mut self.requests) {
            let target = match target {
                IpAddr::V4(target) => target,
                IpAddr::V6(target) => {
                    self.solicit(to, target);
                    continue;
                }
            };
            let Some(sender) = self.routes.source_for(target) else { continue };
            if !self.all_usable && !self.claims.iter().all(|claim| claim.allows(sender)) {
                continue;
            }
            let request = ArpPacket {
                operation: Operation::Request,
                sender_mac: self.mac,
                sender,
                target_mac: MacAddr::ZERO,
                target,
            };
            self.outbox.push(Packet::Arp(to, request), &mut self.stats);
        }
    }

    /// What this stack has heard of a neighbour, for the other workers of the interface, whose
    /// stacks get it by [`learn_neighbor`](Self::learn_neighbor): the frame that answers what
    /// one of them has asked may reach another. A stack that is alone need not be asked;
    /// what waits is bounded.
    pub fn poll_neighbor_update(&mut self) -> Option<(IpAddr, MacAddr)> {
        self.neighbors.poll_news()
    }

    /// Another worker's [`poll_neighbor_update`](Self::poll_neighbor_update) has said this. With
    /// an address of our own it means that another station was heard to claim it.
    pub fn learn_neighbor(&mut self, now: Instant, address: IpAddr, mac: MacAddr) {
        if let IpAddr::V4(own) = address
            && self.routes.owns(own)
        {
            self.on_claimed(now, own, mac);
            return;
        }
        let near = match address {
            IpAddr::V4(address) => self.routes.is_neighbor(address),
            IpAddr::V6(address) => !address.is_multicast(),
        };
        if near {
            let heard = Heard::Shared;
            let released = self.neighbors.learn(now, address, mac, heard, &mut self.stats);
            self.release_waiting(released);
        }
    }
}
