//! IP: admission, ICMP, routes, and what waits to be sent. IPv4 (RFC 791, RFC 1122 3) is here,
//! IPv6 in [`v6`].

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) mod icmp;
pub(crate) mod ingress;
pub(crate) mod reassembly;
pub(crate) mod route;
pub(crate) mod v6;

use crate::config::MacAddr;
use crate::stats::Stats;
use crate::tcp::demux::FourTuple;
use crate::wire::arp::ArpPacket;
use crate::wire::tcp::Header;

/// Answers that may wait at one time. They leave with the next turn, so more is
/// a flood of packets that each want one; losing an answer is what a busy host does.
const MAX_WAITING: usize = 1024;

/// A packet without a connection behind it.
#[derive(Debug)]
pub(crate) enum Packet {
    /// ARP to this station.
    Arp(MacAddr, ArpPacket),
    /// A TCP segment without payload, to be resolved or to a station that is known.
    Segment(FourTuple, Header, Option<MacAddr>),
    /// An ICMP message, complete.
    Icmp { source: Ipv4Addr, destination: Ipv4Addr, message: Vec<u8> },
    /// An ICMPv6 message to be routed, complete.
    Icmpv6 { source: Ipv6Addr, destination: Ipv6Addr, message: Vec<u8> },
    /// A message of neighbour or multicast listener discovery, complete, to this station or
    /// group. The latter's carries a Router Alert.
    Discovery {
        to: MacAddr,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        message: Vec<u8>,
        router_alert: bool,
    },
}

impl Packet {
    /// The IP source, for what is routed.
    pub(crate) fn source(&self) -> Option<IpAddr> {
        match self {
            Self::Arp(..) | Self::Discovery { .. } => None,
            Self::Segment(tuple, ..) => Some(tuple.local.ip),
            Self::Icmp { source, .. } => Some((*source).into()),
            Self::Icmpv6 { source, .. } => Some((*source).into()),
        }
    }

    /// The IP destination, for what is routed.
    pub(crate) fn destination(&self) -> Option<IpAddr> {
        match self {
            Self::Arp(..) | Self::Discovery { .. } => None,
            Self::Segment(tuple, ..) => Some(tuple.remote.ip),
            Self::Icmp { destination, .. } => Some(IpAddr::V4(*destination)),
            Self::Icmpv6 { destination, .. } => Some(IpAddr::V6(*destination)),
        }
    }
}

/// Packets that wait for the next transmission, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    packets: VecDeque<Packet>,
}

impl Outbox {
    pub(crate) fn push(&mut self, packet: Packet, stats: &mut Stats) {
        if self.packets.len() == MAX_WAITING {
            stats.drop_output_full += 1;
        } else {
            self.packets.push_back(packet);
        }
    }

    pub(crate) fn push_segment(
        &mut self,
        tuple: FourTuple,
        header: Header,
        station: Option<MacAddr>,
        stats: &mut Stats,
    ) {
        self.push(Packet::Segment(tuple, header, station), stats);
    }

    pub(crate) fn pop(&mut self) -> Option<Packet> {
        self.packets.pop_front()
    }
}
