//! The stack as a whole, and how it is driven.

mod arp;
mod conflict;
mod ipv4_in;
mod ipv6;
mod link;
mod stray;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use bytes::{Bytes, BytesMut};

pub use self::stray::Stray;

use crate::config::{Config, IpCidr, Ipv4Cidr, MacAddr};
use crate::entropy::Keys;
use crate::frame::{Checksum, ChecksumRequest, FrameMeta, IpFamily, SegmentationRequest, Transmit};
use crate::ip::icmp::SegmentError;
use crate::ip::reassembly::Reassembly;
use crate::ip::route::Routes;
use crate::ip::v6::Ipv6;
use crate::ip::{Outbox, Packet};
use crate::limit::ErrorLimits;
use crate::link::acd::{AddressEvent, Claim};
use crate::link::ingress;
use crate::link::neighbor::{Lookup, Neighbors, Request};
use crate::stats::Stats;
use crate::tcp::connection::{CloseReason, Events, State};
use crate::tcp::demux::{ConnId, FourTuple};
use crate::tcp::output::Built;
use crate::tcp::{Counts, Env, LinkMss, Recv, Tcp};
use crate::time::Instant;
use crate::wire::arp::ArpPacket;
use crate::wire::checksum::{pseudo_header, pseudo_header_of, pseudo_header_v6};
use crate::wire::ecn::{self, Ecn};
use crate::wire::ipv6::NEXT_ICMPV6;
use crate::wire::tcp::Segment;
use crate::wire::vlan::{Tags, VlanStack};
use crate::wire::{arp as wire_arp, ethernet, ipv4, ipv6 as wire_ipv6, tcp as wire_tcp};

/// Octets that [`Stack::poll_transmit`]'s buffer must have: a full frame of a 1500 octet
/// MTU behind two tags. More lets larger payloads be copied behind their headers instead of
/// being sliced.
pub const MIN_BUFFER: usize = 1536;
const _: () = assert!(MIN_BUFFER >= ethernet::HEADER_LEN + 2 * ethernet::TAG_LEN + 1500);

/// RFC 791: every link carries at least this.
const MIN_MTU: u16 = 68;
/// Octets of a UDP header.
const UDP_HEADER_LEN: usize = 8;

/// Ethernet, VLAN, ARP, IPv4, ICMP and TCP of one interface, without a clock or a socket.
///
/// # Driving it
///
/// The owner has an interface and a clock, and does in turn:
///
/// 1. [`handle_frame`](Self::handle_frame) for each frame that was received;
/// 2. [`handle_timeout`](Self::handle_timeout) if [`poll_timeout`](Self::poll_timeout) is due;
/// 3. [`poll_event`](Self::poll_event) until it is empty, and the calls on connections
///    that follow from the events (`recv`, `send`, `shutdown`, `release`, ...);
/// 4. [`poll_transmit`](Self::poll_transmit) until it is empty, sending what it gives;
/// 5. waits for a frame, or for the time that [`poll_timeout`](Self::poll_timeout) names.
///
/// Each call may create work for the others, so 5 only after a round of 2 to 4. `now` never
/// goes backwards. The same calls with the same arguments have the same results.
///
/// No frame makes it panic, and everything that a peer can make grow has a bound in
/// [`Config`] or beside the code that holds it; every frame that is not used has a counter
/// in [`Stats`].
#[derive(Debug)]
pub struct Stack {
    mac: MacAddr,
    vlan: VlanStack,
    /// What frames are sent with.
    tags: Tags,
    mtu: usize,
    checksum_offload: bool,
    routes: Routes,
    link_up: bool,
    passive: bool,
    /// Our IPv4 addresses, and whether they can be used.
    claims: Vec<Claim>,
    /// Whether all of them can: what is nearly always so.
    all_usable: bool,
    address_events: VecDeque<AddressEvent>,
    neighbors: Neighbors,
    arp_limits: arp::Limits,
    ipv6: Option<Ipv6>,
    nd_limits: ipv6::Limits,
    reassembly: Reassembly,
    icmp_limits: ErrorLimits,
    outbox: Outbox,
    tcp: Tcp,
    stats: Stats,
    /// Segments that may be another stack's; `None`: all are ours.
    strays: Option<stray::Strays>,
    /// ARP requests that a lookup asked for; always empty between calls.
    requests: Vec<Request>,
}

impl Stack {
    /// A stack that announces its addresses from `now` on, or probes for them.
    pub fn new(config: Config, now: Instant) -> Self {
        let keys = Keys::new(config.secret);
        let mtu = usize::from(config.mtu.max(MIN_MTU));
        let mss = LinkMss { v4: link::mss_v4(mtu), v6: ipv6::mss(mtu) };
        let subnets = config.addresses.iter().filter_map(|cidr| match cidr {
            IpCidr::V4(cidr) => Some(*cidr),
            IpCidr::V6(_) => None,
        });
        let routes = Routes::new(subnets.collect(), config.gateway);
        let claim =
            |own: &Ipv4Cidr| Claim::new(own.address, config.acd, !config.passive, keys, now);
        let claims = routes.subnets().iter().map(claim).collect();
        let mut stack = Self {
            mac: config.mac,
            vlan: config.vlan,
            tags: config.vlan.tags(config.pcp),
            mtu,
            // A link that cuts segments has to complete their checksums too.
            checksum_offload: config.offload.checksum || config.offload.segmentation,
            routes,
            link_up: true,
            claims,
            passive: config.passive,
            all_usable: false,
            address_events: VecDeque::new(),
            neighbors: Neighbors::new(keys),
            arp_limits: arp::Limits::default(),
            ipv6: ipv6::from_config(&config, keys, mtu, now),
            nd_limits: ipv6::Limits::default(),
            reassembly: Reassembly::new(keys),
            icmp_limits: ErrorLimits::new(keys, ipv4_in::ERRORS),
            outbox: Outbox::default(),
            tcp: Tcp::new(config.tcp, keys, mss, config.offload.segmentation),
            stats: Stats::default(),
            strays: None,
            requests: Vec::new(),
        };
        stack.note_usable();
        stack
    }

    // ---- frames in -----------------------------------------------------------------------

    /// Takes one received frame, from the Ethernet header on.
    pub fn handle_frame(&mut self, now: Instant, octets: &[u8], meta: &FrameMeta) {
        self.stats.frames_in += 1;
        self.stats.octets_in += octets.len() as u64;
        let Some(frame) = ingress::admit(self.mac, self.vlan, &mut self.stats, octets, meta) else {
            return;
        };
        match frame.ethertype {
            ethernet::ETHERTYPE_IPV4 => {
                self.stats.ipv4_in += 1;
                self.on_ipv4(now, &frame, meta);
            }
            ethernet::ETHERTYPE_IPV6 => {
                self.stats.ipv6_in += 1;
                self.on_ipv6(now, &frame, meta);
            }
            ethernet::ETHERTYPE_ARP => self.on_arp(now, frame.payload),
            _ => self.stats.drop_ethertype += 1,
        }
    }

    /// Takes what a packet from `station` carries for TCP; `ends` are its source and its
    /// destination.
    fn on_segment(
        &mut self,
        now: Instant,
        station: MacAddr,
        meta: &FrameMeta,
        ends: (IpAddr, IpAddr),
        traffic_class: u8,
        octets: &[u8],
    ) {
        let (source, destination) = ends;
        let Some(mut segment) = checked(&mut self.stats, meta, ends, octets) else { return };
        segment.ecn = Ecn::of(traffic_class);
        let received = meta.received.map_or(now, |at| at.min(now));
        let mut env = Env {
            now,
            received,
            outbox: &mut self.outbox,
            stats: &mut self.stats,
            station: Some(station),
        };
        let accepted = env.stats.tcp_accepted;
        self.tcp.on_segment(&mut env, source, destination, &segment);
        if self.stats.tcp_accepted != accepted {
            self.confirm_hop(now, source);
        }
    }

    /// Tells TCP what ICMP said of a segment.
    fn on_segment_error(&mut self, now: Instant, about: &SegmentError) {
        let mut env = Env::new(now, &mut self.outbox, &mut self.stats);
        self.tcp.on_icmp(&mut env, &about.tuple, about.seq, about.error);
    }

    // ---- frames out ----------------------------------------------------------------------

    /// Writes the next frame to be sent: its leading octets into `buffer` (at least
    /// [`MIN_BUFFER`]), what follows them as slices appended to `slices`.
    ///
    /// `None` when there is nothing to send now.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        slices: &mut Vec<Bytes>,
    ) -> Option<Transmit> {
        if !self.link_up {
            return None;
        }
        let first = slices.len();
        let transmit = self
            .transmit_packet(now, buffer, slices)
            .or_else(|| self.transmit_data(now, buffer, slices))?;
        let behind: usize = slices.iter().skip(first).map(Bytes::len).sum();
        self.stats.frames_out += 1;
        self.stats.octets_out += (transmit.len + behind) as u64;
        Some(transmit)
    }

    /// Packets without a connection: small, and answers to somebody who waits.
    fn transmit_packet(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        slices: &mut Vec<Bytes>,
    ) -> Option<Transmit> {
        loop {
            let packet = self.outbox.pop()?;
            let Some(destination) = packet.destination() else {
                match packet {
                    Packet::Arp(to, arp) => {
                        self.stats.arp_out += 1;
                        return Some(self.write_arp(buffer, to, &arp));
                    }
                    Packet::Discovery { to, source, destination, message, router_alert } => {
                        return Some(self.write_discovery(
                            buffer,
                            to,
                            source,
                            destination,
                            &message,
                            router_alert,
                        ));
                    }
                    _ => continue,
                }
            };
            if packet.source().is_some_and(|source| !self.may_send_from(source)) {
                self.stats.drop_unusable_out += 1;
                continue;
            }
            let Some(hop) = self.next_hop(destination) else {
                self.stats.drop_no_route += 1;
                continue;
            };
            let lookup = match packet {
                Packet::Segment(.., Some(station)) => Lookup::Known(station),
                _ => self.resolve(now, hop, None),
            };
            let mac = match lookup {
                Lookup::Known(mac) => mac,
                Lookup::Pending => {
                    self.neighbors.wait_packet(hop, packet, &mut self.stats);
                    continue;
                }
                Lookup::Failed => {
                    self.stats.drop_unresolved += 1;
                    continue;
                }
            };
            let at = self.transport_at(destination);
            let transport = &mut buffer[at..];
            return Some(match packet {
                Packet::Segment(tuple, header, _) => {
                    let length = wire_tcp::emit(transport, &header);
                    let built = Built {
                        in_buffer: length,
                        in_slices: 0,
                        header_len: length,
                        segment_size: None,
                        ecn: Ecn::NotEct,
                    };
                    let flow_label = self.tcp.flow_label(&tuple);
                    self.finish_segment(buffer, mac, &tuple, flow_label, &built, &[])
                }
                Packet::Icmp { source, destination, message } => {
                    let length = message.len();
                    let in_buffer = put_message(transport, slices, message);
                    let protocol = ipv4::PROTOCOL_ICMP;
                    let len = self.write_ip(buffer, mac, source, destination, protocol, length);
                    Transmit { len: len + in_buffer, checksum: None, segmentation: None }
                }
                Packet::Icmpv6 { source, destination, message } => {
                    let length = message.len();
                    let in_buffer = put_message(transport, slices, message);
                    let header = self.header_v6(source, destination, NEXT_ICMPV6, 0);
                    let len = self.write_ipv6(buffer, mac, &header, length);
                    Transmit { len: len + in_buffer, checksum: None, segmentation: None }
                }
                Packet::Arp(..) | Packet::Discovery { .. } => continue,
            });
        }
    }

    /// Connections, each in its turn.
    fn transmit_data(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        slices: &mut Vec<Bytes>,
    ) -> Option<Transmit> {
        loop {
            let (id, tuple) = self.tcp.next_ready()?;
            let lookup = match self.next_hop(tuple.remote.ip) {
                Some(hop) => match self.resolve(now, hop, Some(id)) {
                    Lookup::Pending => {
                        self.neighbors.wait_connection(hop, id);
                        // Its request goes out now, not after somebody else's data.
                        match self.transmit_packet(now, buffer, slices) {
                            Some(transmit) => return Some(transmit),
                            None => continue,
                        }
                    }
                    known => known,
                },
                None => Lookup::Failed,
            };
            let at = self.transport_at(tuple.remote.ip);
            let Some(built) = self.tcp.output(now, &mut self.stats, id, &mut buffer[at..], slices)
            else {
                continue;
            };
            match lookup {
                Lookup::Known(mac) => {
                    let connection = self.tcp.connection(id);
                    let label = connection.map_or(0, |connection| connection.flow_label);
                    return Some(self.finish_segment(buffer, mac, &tuple, label, &built, slices));
                }
                // The segment counts as sent and lost, so that TCP's timers run.
                _ => {
                    slices.clear();
                    self.stats.drop_unresolved += 1;
                }
            }
        }
    }

    /// Where the transport's header stands in a frame.
    fn transport_at(&self, destination: IpAddr) -> usize {
        let network = match destination {
            IpAddr::V4(_) => ipv4::HEADER_LEN,
            IpAddr::V6(_) => wire_ipv6::HEADER_LEN,
        };
        ethernet::header_len(self.tags) + network
    }

    /// The neighbour to hand a packet for `destination` to.
    fn next_hop(&self, destination: IpAddr) -> Option<IpAddr> {
        match destination {
            IpAddr::V4(destination) => self.routes.next_hop(destination).map(IpAddr::V4),
            IpAddr::V6(destination) => self.next_hop_v6(destination).map(IpAddr::V6),
        }
    }

    /// Looks up a next hop, for a connection if one sends, and puts what asks for it into the
    /// outbox.
    fn resolve(&mut self, now: Instant, hop: IpAddr, id: Option<ConnId>) -> Lookup {
        let (tcp, requests) = (&self.tcp, &mut self.requests);
        let progress = || id.and_then(|id| tcp.connection(id)).map(|it| it.last_reached);
        let lookup = self.neighbors.lookup(now, hop, progress, requests, &mut self.stats);
        self.push_requests();
        lookup
    }

    /// A handshake was completed: our SYN-ACK has reached `peer`, and so its next hop works.
    fn confirm_hop(&mut self, now: Instant, peer: IpAddr) {
        if let Some(hop) = self.next_hop(peer) {
            self.neighbors.confirm(now, hop, now, &mut self.stats);
        }
    }

    fn write_arp(&self, buffer: &mut [u8], to: MacAddr, packet: &ArpPacket) -> Transmit {
        let ethertype = ethernet::ETHERTYPE_ARP;
        let start = ethernet::emit(buffer, to, self.mac, self.tags, ethertype);
        let len = start + wire_arp::emit(&mut buffer[start..], packet);
        Transmit { len, checksum: None, segmentation: None }
    }

    /// Writes the Ethernet and IPv4 headers; returns where the payload begins.
    fn write_ip(
        &self,
        buffer: &mut [u8],
        to: MacAddr,
        source: Ipv4Addr,
        destination: Ipv4Addr,
        protocol: u8,
        payload_len: usize,
    ) -> usize {
        let ethertype = ethernet::ETHERTYPE_IPV4;
        let start = ethernet::emit(buffer, to, self.mac, self.tags, ethertype);
        start + ipv4::emit(&mut buffer[start..], source, destination, protocol, payload_len)
    }

    /// Puts the lower headers before a TCP segment and its checksum into it.
    fn finish_segment(
        &self,
        buffer: &mut [u8],
        mac: MacAddr,
        tuple: &FourTuple,
        flow_label: u32,
        built: &Built,
        slices: &[Bytes],
    ) -> Transmit {
        let segment_len = built.in_buffer + built.in_slices;
        let protocol = ipv4::PROTOCOL_TCP;
        let (local, remote) = (tuple.local.ip, tuple.remote.ip);
        let (start, mut sum, family) = match (local, remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => (
                self.write_ip(buffer, mac, local, remote, protocol, segment_len),
                pseudo_header(local, remote, protocol, segment_len as u16),
                IpFamily::V4,
            ),
            (IpAddr::V6(local), IpAddr::V6(remote)) => {
                let header = self.header_v6(local, remote, protocol, flow_label);
                (
                    self.write_ipv6(buffer, mac, &header, segment_len),
                    pseudo_header_v6(local, remote, protocol, segment_len as u32),
                    IpFamily::V6,
                )
            }
            _ => unreachable!("both ends of a connection are of one family"),
        };
        if built.ecn != Ecn::NotEct {
            ecn::mark(&mut buffer[ethernet::header_len(self.tags)..], built.ecn);
        }
        let checksum = self.checksum_offload.then_some(ChecksumRequest {
            start: start as u16,
            offset: wire_tcp::CHECKSUM_OFFSET as u16,
        });
        let field = if checksum.is_some() {
            sum.fold()
        } else {
            sum = sum.feed(&buffer[start..start + built.in_buffer]);
            // Slices may begin at odd offsets: sum them as one message.
            if built.in_slices > 0 {
                sum = sum.feed(&slices.concat());
            }
            sum.finish()
        };
        let at = start + wire_tcp::CHECKSUM_OFFSET;
        buffer[at..at + 2].copy_from_slice(&field.to_be_bytes());
        Transmit {
            len: start + built.in_buffer,
            checksum,
            segmentation: built.segment_size.map(|size| SegmentationRequest {
                family,
                size,
                header_len: (start + built.header_len) as u16,
            }),
        }
    }

    // ---- time ----------------------------------------------------------------------------

    /// When [`handle_timeout`](Self::handle_timeout) is next due; `None`: not before
    /// something else happens. It may name a time at which nothing turns out to be due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let tcp = self.tcp.next_timeout();
        let neighbors = self.neighbors.next_timeout();
        let claims = self.claims.iter().filter_map(Claim::next_timeout).min();
        let reassembly = self.reassembly.next_timeout();
        [tcp, neighbors, claims, reassembly, self.next_timeout_v6()].into_iter().flatten().min()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.claims_timeout(now);
        self.reassembly_timeout(now);
        self.handle_timeout_v6(now);
        let freed = self.neighbors.handle_timeout(now, &mut self.requests, &mut self.stats);
        self.push_requests();
        for id in freed {
            self.tcp.mark_ready(id);
        }
        let mut env = Env::new(now, &mut self.outbox, &mut self.stats);
        self.tcp.handle_timeout(&mut env);
    }

    // ---- connections ---------------------------------------------------------------------

    /// Accepts connections to `port` from now on.
    pub fn listen(&mut self, port: u16) {
        self.tcp.listen(port);
    }

    /// Refuses new connections to `port` from now on; those that are there go on.
    pub fn unlisten(&mut self, port: u16) {
        self.tcp.unlisten(port);
    }

    /// The next connection to which something has happened, with all of it since the last
    /// time. A connection that was released has no events.
    pub fn poll_event(&mut self) -> Option<(ConnId, Events)> {
        self.tcp.poll_event()
    }

    /// Appends what has been received to `into`.
    pub fn recv(&mut self, id: ConnId, into: &mut BytesMut) -> Recv {
        self.tcp.recv(id, into)
    }

    /// Queues `data` behind what is queued; it is held until the peer has acknowledged it.
    ///
    /// There is no bound here: the caller watches [`queued`](Self::queued).
    ///
    /// # Errors
    /// The connection is over, or was shut down.
    pub fn send(&mut self, id: ConnId, data: Bytes) -> Result<(), CloseReason> {
        self.tcp.send(id, data)
    }

    /// Octets queued and not acknowledged; of a connection that is over, those that never were.
    pub fn queued(&self, id: ConnId) -> usize {
        self.tcp.connection(id).map_or(0, |connection| connection.queued())
    }

    /// Asks for a `writable` event when at most `octets` are queued. Returns true, and
    /// gives no event, if that is so already.
    pub fn notify_below(&mut self, id: ConnId, octets: usize) -> bool {
        self.tcp.notify_below(id, octets)
    }

    /// Sends FIN behind what is queued. Reading goes on.
    pub fn shutdown(&mut self, id: ConnId) {
        self.tcp.shutdown(id);
    }

    /// Lets go of a connection: it sends what is queued, closes in order, and vanishes. If
    /// received data was not read, or more comes, the peer gets RST. Every connection that
    /// was accepted must be released, even after it has closed.
    pub fn release(&mut self, now: Instant, id: ConnId) {
        let mut env = Env::new(now, &mut self.outbox, &mut self.stats);
        self.tcp.release(&mut env, id);
    }

    /// Ends a connection at once with RST.
    pub fn abort(&mut self, now: Instant, id: ConnId) {
        let mut env = Env::new(now, &mut self.outbox, &mut self.stats);
        self.tcp.abort(&mut env, id);
    }

    /// Why a connection is over, if it is; `None` for one that lives.
    pub fn closed(&self, id: ConnId) -> Option<CloseReason> {
        match self.tcp.connection(id) {
            Some(connection) => connection.closed(),
            None => Some(CloseReason::Finished),
        }
    }

    /// Both ends of a connection: ours, the peer's.
    pub fn addresses(&self, id: ConnId) -> Option<FourTuple> {
        self.tcp.connection(id).map(|connection| connection.tuple)
    }

    // ---- what it says of itself ----------------------------------------------------------

    /// Counters since the stack was made.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Connections and records held now.
    pub fn counts(&self) -> Counts {
        self.tcp.counts()
    }

    /// Every connection with its state.
    pub fn connections(&self) -> impl Iterator<Item = (ConnId, FourTuple, State)> {
        self.tcp.connections().map(|(id, connection)| (id, connection.tuple, connection.state()))
    }

    /// The VLAN that it lives in.
    pub fn vlan(&self) -> VlanStack {
        self.vlan
    }

    /// Neighbours in the ARP table.
    pub fn neighbors(&self) -> usize {
        self.neighbors.len()
    }
}

/// The segment, unless its checksum or its lengths are wrong.
fn checked<'a>(
    stats: &mut Stats,
    meta: &FrameMeta,
    (source, destination): (IpAddr, IpAddr),
    octets: &'a [u8],
) -> Option<Segment<'a>> {
    if meta.checksum == Checksum::Unverified {
        let sum = pseudo_header_of(source, destination, ipv4::PROTOCOL_TCP, octets.len());
        if sum.is_none_or(|sum| sum.feed(octets).finish() != 0) {
            stats.drop_checksum += 1;
            return None;
        }
    }
    let segment = wire_tcp::parse(octets);
    if segment.is_err() {
        stats.drop_malformed += 1;
    }
    segment.ok()
}

/// Whether a datagram of UDP is one: all that it states is there, and its checksum is right.
fn is_udp_sound(
    stats: &mut Stats,
    meta: &FrameMeta,
    (source, destination): (IpAddr, IpAddr),
    octets: &[u8],
) -> bool {
    let length = match octets {
        [_, _, _, _, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    };
    let Some(whole) = octets.get(..length).filter(|it| it.len() >= UDP_HEADER_LEN) else {
        stats.drop_malformed += 1;
        return false;
    };
    let right = if whole[6..8] == [0, 0] {
        // RFC 768: zero is no checksum; RFC 8200 8.1: IPv6 does not go without.
        source.is_ipv4()
    } else if meta.checksum == Checksum::Unverified {
        let sum = pseudo_header_of(source, destination, ipv4::PROTOCOL_UDP, length);
        sum.is_some_and(|sum| sum.feed(whole).finish() == 0)
    } else {
        true
    };
    stats.drop_checksum += u64::from(!right);
    right
}

/// Puts a message behind the headers if it fits there, else, where the MTU is larger than the
/// buffer, into the slices; how much of it is in the buffer.
fn put_message(room: &mut [u8], slices: &mut Vec<Bytes>, message: Vec<u8>) -> usize {
    let length = message.len();
    let Some(room) = room.get_mut(..length) else {
        slices.push(Bytes::from(message));
        return 0;
    };
    room.copy_from_slice(&message);
    length
}
