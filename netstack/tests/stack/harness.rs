//! A script's end of the wire: builds segments with the stack's own wire module, takes what
//! comes out apart, and moves a virtual clock.
//!
//! Numbers are relative: `seq` of a segment that the peer sends and `ack` of one that it gets
//! count from the peer's SYN, the others from the stack's. So the first octet of data is 1
//! on both sides, whatever the initial sequence numbers.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tagwire_netstack::congestion::{Acked, Congestion};
use tagwire_netstack::wire::arp::{self, ArpPacket, Operation};
use tagwire_netstack::wire::checksum::{Sum, pseudo_header_of};
use tagwire_netstack::wire::ecn::{Ecn, mark};
use tagwire_netstack::wire::ndp::{self, Advertisement, Solicitation};
use tagwire_netstack::wire::tcp::{self, Flags, Header, Options, Timestamp};
use tagwire_netstack::wire::vlan::Tags;
use tagwire_netstack::wire::{ethernet, icmpv6, ipv4, ipv6};
use tagwire_netstack::{
    Acd, Config, ConnId, Counts, Events, FrameMeta, Instant, IpCidr, Ipv4Cidr, Ipv6Cidr,
    MIN_BUFFER, MacAddr, Offload, Recv, SeqNum, Stack, State, TcpConfig, VlanStack,
};

use crate::link;

pub(crate) const US: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub(crate) const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
pub(crate) const OUR_IP: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 150);
pub(crate) const PEER_IP: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 1);
pub(crate) const OUR_IP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x150);
pub(crate) const PEER_IP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
pub(crate) const VLAN: u16 = 123;
/// What the link carries in one segment.
pub(crate) const LINK_MSS: u16 = 1460;
/// What a peer that states none is sent in one segment (RFC 9293 3.7.1).
pub(crate) const DEFAULT_MSS: usize = 536;
/// The least MTU that is tested.
pub(crate) const MIN_MTU: u16 = 68;
/// The peer's initial sequence number: near the wrap, which every test so crosses.
const PEER_ISS: u32 = u32::MAX - 500;

/// The configuration most tests want, to be changed by the others.
pub(crate) fn config() -> Config {
    Config {
        mac: US,
        vlan: VlanStack::tagged(VLAN).expect("a VLAN"),
        pcp: 0,
        mtu: 1500,
        addresses: vec![Ipv4Cidr { address: OUR_IP, prefix: 24 }.into()],
        gateway: None,
        gateway6: None,
        acd: Acd::default(),
        slaac: false,
        stable_secret: None,
        passive: false,
        secret: [7; 16],
        offload: Offload::NONE,
        tcp: TcpConfig::default(),
    }
}

/// The same over IPv6, and over that alone.
pub(crate) fn config_v6() -> Config {
    let address = Ipv6Cidr { address: OUR_IP6, prefix: 64 };
    Config { addresses: vec![address.into()], ..config() }
}

/// A TCP segment in relative numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seg {
    /// As tcpdump writes them: S, F, R, P, `.` for ACK, E for ECE and W for CWR, in that order.
    pub(crate) flags: String,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) data: Vec<u8>,
    pub(crate) window: u16,
    pub(crate) options: Options,
}

/// A segment with a large window, no data and no options.
pub(crate) fn seg(flags: &str, seq: u32, ack: u32) -> Seg {
    let (data, window, options) = (Vec::new(), 60_000, Options::default());
    Seg { flags: flags.to_owned(), seq, ack, data, window, options }
}

impl Seg {
    pub(crate) fn data(mut self, data: &[u8]) -> Self {
        self.data = data.to_vec();
        self
    }

    pub(crate) fn window(mut self, window: u16) -> Self {
        self.window = window;
        self
    }

    pub(crate) fn mss(mut self, mss: u16) -> Self {
        self.options.mss = Some(mss);
        self
    }

    pub(crate) fn scale(mut self, shift: u8) -> Self {
        self.options.window_scale = Some(shift);
        self
    }

    pub(crate) fn timestamp(mut self, value: u32, echo: u32) -> Self {
        self.options.timestamp = Some(Timestamp { value, echo });
        self
    }
}

const LETTERS: [(Flags, char); 7] = [
    (Flags::SYN, 'S'),
    (Flags::FIN, 'F'),
    (Flags::RST, 'R'),
    (Flags::PSH, 'P'),
    (Flags::ACK, '.'),
    (Flags::ECE, 'E'),
    (Flags::CWR, 'W'),
];

fn flags_of(letters: &str) -> Flags {
    letters.chars().fold(Flags::default(), |flags, letter| {
        let (flag, _) = LETTERS.iter().find(|(_, known)| *known == letter).expect("a flag");
        flags.with(*flag)
    })
}

fn asks_for_peer(frame: &[u8]) -> bool {
    ethernet::parse(frame).is_ok_and(|frame| {
        arp::parse(frame.payload)
            .is_ok_and(|packet| packet.operation == Operation::Request && packet.target == PEER_IP)
            || ipv6::parse(frame.payload).is_ok_and(|packet| {
                packet.payload.first() == Some(&ndp::TYPE_SOLICITATION)
                    && ndp::parse_solicitation(packet.payload)
                        .is_ok_and(|solicitation| solicitation.target == PEER_IP6)
            })
    })
}

/// `length` octets that differ from their neighbours.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + i / 251) as u8).collect()
}

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A congestion window that never holds back.
#[derive(Debug)]
pub(crate) struct Unlimited;

impl Congestion for Unlimited {
    fn window(&self) -> u32 {
        1 << 30
    }

    fn pacing_rate(&self) -> Option<u64> {
        None
    }

    fn set_mss(&mut self, _: u32) {}

    fn on_ack(&mut self, _: &Acked) {}

    fn on_loss(&mut self, _: Instant, _: u32) {}

    fn on_ecn(&mut self, _: Instant, _: u32) {}

    fn on_timeout(&mut self, _: Instant, _: u32, _: bool) {}

    fn on_spurious(&mut self, _: Instant) {}
}

/// Another host of the same subnet.
pub(crate) fn neighbor_of(address: IpAddr, host: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            [a, b, c, host].into()
        }
        IpAddr::V6(address) => {
            let mut octets = address.octets();
            octets[15] = host;
            octets.into()
        }
    }
}

/// A header without a flow label.
pub(crate) fn header_v6(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    next_header: u8,
    hop_limit: u8,
) -> ipv6::Header {
    ipv6::Header { source, destination, next_header, hop_limit, flow_label: 0 }
}

/// A stack, its clock, and one scripted peer.
pub(crate) struct Fixture {
    pub(crate) stack: Stack,
    pub(crate) now: Instant,
    pub(crate) mtu: usize,
    pub(crate) buffer_len: usize,
    pub(crate) port: u16,
    /// The two ends' addresses, of the first family that is configured.
    pub(crate) ours: IpAddr,
    pub(crate) peer: IpAddr,
    vlan: VlanStack,
    pcp: u8,
    /// Whether the peer answers when the stack asks for its address.
    pub(crate) answers_arp: bool,
    /// Frames that the stack sent, and when.
    pub(crate) sent: VecDeque<(Instant, Vec<u8>)>,
    /// The stack's initial sequence number, once seen.
    pub(crate) iss: u32,
    /// The wall that the peer's relative numbers begin at.
    pub(crate) peer_iss: u32,
}

impl Fixture {
    /// A stack that listens on port 80, its announcements made, the peer's address known.
    pub(crate) fn new(config: Config) -> Self {
        let mut fixture = Self::bare(config);
        fixture.answers_arp = true;
        fixture.advance(Duration::from_secs(if fixture.ours.is_ipv4() { 3 } else { 5 }));
        fixture.meet(fixture.peer, PEER);
        fixture.sent.clear();
        fixture
    }

    /// A stack that listens on port 80, and nothing has happened.
    pub(crate) fn bare(config: Config) -> Self {
        let now = Instant::from_millis(1_000_000);
        let (mtu, vlan, pcp) = (usize::from(config.mtu), config.vlan, config.pcp);
        let (ours, peer) = match config.addresses.first() {
            Some(IpCidr::V4(_)) => (OUR_IP.into(), PEER_IP.into()),
            _ => (OUR_IP6.into(), PEER_IP6.into()),
        };
        let mut stack = Stack::new(config, now);
        stack.listen(80);
        let (port, iss, peer_iss, sent) = (40_000, 0, PEER_ISS, VecDeque::new());
        Self {
            stack,
            now,
            mtu,
            buffer_len: MIN_BUFFER,
            port,
            ours,
            peer,
            vlan,
            pcp,
            answers_arp: false,
            sent,
            iss,
            peer_iss,
        }
    }

    // ---- frames --------------------------------------------------------------------------

    /// Hands a frame to the stack and takes what it answers.
    pub(crate) fn frame(&mut self, octets: &[u8]) {
        self.stack.handle_frame(self.now, octets, &FrameMeta::default());
        self.flush();
    }

    /// Moves what the stack has to send to `sent`; questions for the peer's address are
    /// answered on the way.
    pub(crate) fn flush(&mut self) {
        let mut asked = false;
        for frame in link::drain(&mut self.stack, self.now, self.buffer_len, self.mtu) {
            if self.answers_arp && asks_for_peer(&frame) {
                asked = true;
            } else {
                self.sent.push_back((self.now, frame));
            }
        }
        if asked {
            self.introduce(self.peer, PEER);
        }
    }

    /// The peer sends a segment in a packet with this congestion field.
    pub(crate) fn send_marked(&mut self, segment: &Seg, ecn: Ecn) {
        let mut frame = self.tcp_frame(segment);
        mark(&mut frame[ethernet::header_len(self.vlan)..], ecn);
        self.frame(&frame);
    }

    /// The next segment that the stack sent, and the congestion field of its packet.
    #[track_caller]
    pub(crate) fn recv_marked(&mut self) -> (Seg, Ecn) {
        self.flush();
        let (_, frame) = self.sent.front().expect("the stack should have sent a frame");
        let frame = ethernet::parse(frame).expect("an Ethernet frame");
        let traffic_class = ipv4::parse(frame.payload)
            .map(|packet| packet.traffic_class)
            .or_else(|_| ipv6::parse(frame.payload).map(|packet| packet.traffic_class))
            .expect("a packet");
        (self.recv(), Ecn::of(traffic_class))
    }

    /// An Ethernet frame from the peer to us.
    pub(crate) fn ethernet(&self, ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; ethernet::header_len(self.vlan)];
        ethernet::emit(&mut frame, US, PEER, self.vlan, ethertype);
        frame.extend_from_slice(payload);
        frame
    }

    /// An IPv4 packet in a frame to us.
    pub(crate) fn ip(
        &self,
        source: Ipv4Addr,
        to: Ipv4Addr,
        protocol: u8,
        payload: &[u8],
    ) -> Vec<u8> {
        let mut packet = vec![0; ipv4::HEADER_LEN];
        ipv4::emit(&mut packet, source, to, protocol, payload.len());
        packet.extend_from_slice(payload);
        self.ethernet(ethernet::ETHERTYPE_IPV4, &packet)
    }

    pub(crate) fn arp(&self, packet: &ArpPacket) -> Vec<u8> {
        let mut octets = [0; arp::PACKET_LEN];
        arp::emit(&mut octets, packet);
        self.ethernet(ethernet::ETHERTYPE_ARP, &octets)
    }

    /// An IPv6 packet in a frame to us.
    pub(crate) fn ip_v6(&self, header: &ipv6::Header, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; ipv6::HEADER_LEN];
        ipv6::emit(&mut packet, header, payload.len());
        packet.extend_from_slice(payload);
        self.ethernet(ethernet::ETHERTYPE_IPV6, &packet)
    }

    /// An ICMPv6 message as neighbour discovery sends it, in a frame to the group or to us.
    pub(crate) fn discovery(&self, from: Ipv6Addr, to: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
        icmpv6::seal(from, to, &mut message);
        let mut frame = self.ip_v6(&header_v6(from, to, ipv6::NEXT_ICMPV6, 255), &message);
        if to.is_multicast() {
            frame[..6].copy_from_slice(&ipv6::multicast_mac(to).0);
        }
        frame
    }

    /// A packet from the peer to us, of the family that is spoken.
    pub(crate) fn packet(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        match (self.peer, self.ours) {
            (IpAddr::V4(peer), IpAddr::V4(ours)) => self.ip(peer, ours, protocol, payload),
            (IpAddr::V6(peer), IpAddr::V6(ours)) => {
                self.ip_v6(&header_v6(peer, ours, protocol, 64), payload)
            }
            _ => unreachable!("both of one family"),
        }
    }

    /// A neighbour asks for the stack's address, which so gets to know the neighbour's.
    pub(crate) fn meet(&mut self, ip: impl Into<IpAddr>, mac: MacAddr) {
        let frame = match ip.into() {
            IpAddr::V4(sender) => self.arp(&ArpPacket {
                operation: Operation::Request,
                sender_mac: mac,
                sender,
                target_mac: MacAddr::ZERO,
                target: OUR_IP,
            }),
            IpAddr::V6(sender) => {
                let (target, source_mac) = (OUR_IP6, Some(mac));
                let question = Solicitation { target, source_mac, nonce: None };
                let group = ipv6::solicited_node(target);
                self.discovery(sender, group, ndp::make_solicitation(&question))
            }
        };
        self.frame(&frame);
    }

    /// Tells the stack a neighbour's address, as the answer to a question.
    pub(crate) fn introduce(&mut self, ip: impl Into<IpAddr>, mac: MacAddr) {
        let frame = match ip.into() {
            IpAddr::V4(sender) => self.arp(&ArpPacket {
                operation: Operation::Reply,
                sender_mac: mac,
                sender,
                target_mac: US,
                target: OUR_IP,
            }),
            IpAddr::V6(target) => {
                let answer = Advertisement {
                    router: false,
                    solicited: true,
                    override_cached: true,
                    target,
                    target_mac: Some(mac),
                };
                self.discovery(target, OUR_IP6, ndp::make_advertisement(&answer))
            }
        };
        self.frame(&frame);
    }

    pub(crate) fn echo(&self, data: &[u8]) -> Vec<u8> {
        let mut message = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1];
        message.extend_from_slice(data);
        let sum = Sum::new().feed(&message).finish();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        self.ip(PEER_IP, OUR_IP, ipv4::PROTOCOL_ICMP, &message)
    }

    /// The tags that the peer's frames carry.
    pub(crate) fn vlan_tags(&self) -> Tags {
        self.vlan.into()
    }

    /// The next frame that the stack sent, Ethernet header taken off and checked.
    #[track_caller]
    pub(crate) fn next_frame(&mut self) -> (MacAddr, u16, Vec<u8>) {
        let (_, octets) = self.sent.pop_front().expect("the stack should have sent a frame");
        let frame = ethernet::parse(&octets).expect("an Ethernet frame");
        assert_eq!((frame.source, frame.tags), (US, self.vlan.tags(self.pcp)));
        (frame.destination, frame.ethertype, frame.payload.to_vec())
    }

    #[track_caller]
    pub(crate) fn next_arp(&mut self) -> (MacAddr, ArpPacket) {
        let (to, ethertype, payload) = self.next_frame();
        assert_eq!(ethertype, ethernet::ETHERTYPE_ARP);
        (to, arp::parse(&payload).expect("an ARP packet"))
    }

    #[track_caller]
    pub(crate) fn nothing(&mut self) {
        self.flush();
        if !self.sent.is_empty() {
            let (_, ethertype, _) = self.next_frame_peek();
            if ethertype != ethernet::ETHERTYPE_ARP {
                panic!("the stack should be silent, but sent {:?}", self.recv());
            }
            panic!("the stack should be silent, but sent EtherType {ethertype:04x}");
        }
    }

    fn next_frame_peek(&mut self) -> (MacAddr, u16, Vec<u8>) {
        let frame = self.sent[0].clone();
        let peeked = self.next_frame();
        self.sent.push_front(frame);
        peeked
    }

    // ---- time ----------------------------------------------------------------------------

    /// Lets `span` pass: every timeout is handled when it is due.
    pub(crate) fn advance(&mut self, span: Duration) {
        let end = self.now + span;
        self.flush();
        let mut turns = 0;
        while let Some(at) = self.stack.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.stack.handle_timeout(self.now);
            self.flush();
            turns += 1;
            assert!(turns < 1_000_000, "a timeout that is always due");
        }
        self.now = end;
    }

    /// Advances until the stack sends something; returns how long that took.
    #[track_caller]
    pub(crate) fn wait(&mut self, limit: Duration) -> Duration {
        let start = self.now;
        while self.sent.is_empty() {
            let at = self.stack.poll_timeout().expect("a timer");
            assert!(at.since(start) <= limit, "nothing was sent within {limit:?}");
            self.advance(at.since(self.now));
        }
        self.now.since(start)
    }

    // ---- TCP -----------------------------------------------------------------------------

    /// A frame with this segment, from `self.port` of the peer.
    pub(crate) fn tcp_frame(&self, segment: &Seg) -> Vec<u8> {
        let header = Header {
            source_port: self.port,
            destination_port: 80,
            seq: SeqNum(self.peer_iss) + segment.seq,
            ack: SeqNum(self.iss) + segment.ack,
            flags: flags_of(&segment.flags),
            window: segment.window,
            options: segment.options,
        };
        let mut octets = [0; tcp::MAX_HEADER_LEN];
        let length = tcp::emit(&mut octets, &header);
        let mut octets = octets[..length].to_vec();
        octets.extend_from_slice(&segment.data);
        let protocol = ipv4::PROTOCOL_TCP;
        let sum = pseudo_header_of(self.peer, self.ours, protocol, octets.len());
        let sum = sum.expect("one family").feed(&octets).finish();
        octets[tcp::CHECKSUM_OFFSET..][..2].copy_from_slice(&sum.to_be_bytes());
        self.packet(protocol, &octets)
    }

    /// The peer sends a segment.
    pub(crate) fn send(&mut self, segment: Seg) {
        let frame = self.tcp_frame(&segment);
        self.frame(&frame);
    }

    /// Where TCP's header stands in a frame.
    pub(crate) fn transport_at(&self) -> usize {
        let network = if self.ours.is_ipv4() { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN };
        ethernet::header_len(self.vlan) + network
    }

    /// What a packet from us to the peer carries for TCP.
    #[track_caller]
    fn unwrap<'a>(&self, ethertype: u16, payload: &'a [u8]) -> &'a [u8] {
        let (source, destination, protocol, octets) = if self.ours.is_ipv4() {
            assert_eq!(ethertype, ethernet::ETHERTYPE_IPV4);
            let packet = ipv4::parse(payload).expect("an IPv4 packet");
            let (source, destination) = (packet.source.into(), packet.destination.into());
            (source, destination, packet.protocol, packet.payload)
        } else {
            assert_eq!(ethertype, ethernet::ETHERTYPE_IPV6);
            let packet = ipv6::parse(payload).expect("an IPv6 packet");
            let header = packet.header;
            assert!(header.flow_label != 0 && header.hop_limit == 64, "{header:?}");
            (header.source.into(), header.destination.into(), header.next_header, packet.payload)
        };
        let wanted: (IpAddr, IpAddr, u8) = (self.ours, self.peer, ipv4::PROTOCOL_TCP);
        assert_eq!((source, destination, protocol), wanted);
        octets
    }

    /// The next segment that the stack sent, its checksums verified.
    #[track_caller]
    pub(crate) fn recv(&mut self) -> Seg {
        self.flush();
        let (to, ethertype, payload) = self.next_frame();
        assert_eq!(to, PEER);
        let octets = self.unwrap(ethertype, &payload);
        let sum = pseudo_header_of(self.ours, self.peer, ipv4::PROTOCOL_TCP, octets.len());
        assert_eq!(sum.expect("one family").feed(octets).finish(), 0, "TCP checksum");
        let segment = tcp::parse(octets).expect("a TCP segment");
        assert_eq!((segment.source_port, segment.destination_port), (80, self.port));
        if segment.flags.has(Flags::SYN) {
            self.iss = segment.seq.0;
        }
        let set = LETTERS.iter().filter(|(flag, _)| segment.flags.has(*flag));
        Seg {
            flags: set.map(|(_, letter)| letter).collect(),
            seq: segment.seq.0.wrapping_sub(self.iss),
            ack: segment.ack.0.wrapping_sub(self.peer_iss),
            data: segment.payload.to_vec(),
            window: segment.window,
            options: segment.options,
        }
    }

    /// The next segment has these flags, numbers and data; window and options are the
    /// caller's to look at.
    #[track_caller]
    pub(crate) fn expect(&mut self, wanted: Seg) -> Seg {
        let got = self.recv();
        let facts =
            |segment: &Seg| (segment.flags.clone(), segment.seq, segment.ack, segment.data.clone());
        assert_eq!(facts(&got), facts(&wanted));
        got
    }

    /// Opens a connection with these options on the SYN; the application's name for it.
    #[track_caller]
    pub(crate) fn open(&mut self, syn: Seg) -> ConnId {
        let window = syn.window;
        let stamped = syn.options.timestamp;
        self.send(syn);
        let answer = self.recv();
        assert_eq!((answer.flags.as_str(), answer.ack), ("S.", 1));
        let mut last = seg(".", 1, 1).window(window);
        if let (Some(ours), Some(theirs)) = (stamped, answer.options.timestamp) {
            last = last.timestamp(ours.value, theirs.value);
        }
        self.send(last);
        let (id, events) = self.stack.poll_event().expect("a new connection");
        assert!(events.accepted);
        id
    }

    /// A connection without options but an MSS of 1000, so that numbers are round.
    #[track_caller]
    pub(crate) fn established(config: Config) -> (Self, ConnId) {
        let mut fixture = Self::new(config);
        let id = fixture.open(seg("S", 0, 0).mss(1000));
        fixture.nothing();
        (fixture, id)
    }

    /// The application queues data.
    #[track_caller]
    pub(crate) fn app_send(&mut self, id: ConnId, data: &[u8]) {
        self.stack.send(id, Bytes::copy_from_slice(data)).expect("an open connection");
        self.flush();
    }

    /// The application reads.
    pub(crate) fn app_recv(&mut self, id: ConnId) -> (Vec<u8>, Recv) {
        let mut into = BytesMut::new();
        let outcome = self.stack.recv(id, &mut into);
        self.flush();
        (into.to_vec(), outcome)
    }

    pub(crate) fn shutdown(&mut self, id: ConnId) {
        self.stack.shutdown(id);
        self.flush();
    }

    pub(crate) fn release(&mut self, id: ConnId) {
        self.stack.release(self.now, id);
        self.flush();
    }

    pub(crate) fn abort(&mut self, id: ConnId) {
        self.stack.abort(self.now, id);
        self.flush();
    }

    /// What has happened to `id` since the last question.
    pub(crate) fn events(&mut self, id: ConnId) -> Events {
        let mut all = Events::default();
        while let Some((whose, events)) = self.stack.poll_event() {
            assert_eq!(whose, id);
            all.accepted |= events.accepted;
            all.readable |= events.readable;
            all.writable |= events.writable;
            all.closed |= events.closed;
        }
        all
    }

    pub(crate) fn state(&self, id: ConnId) -> Option<State> {
        self.stack.connections().find(|(known, ..)| *known == id).map(|(.., state)| state)
    }

    /// Connections, half-open, TIME-WAIT.
    pub(crate) fn held(&self) -> (usize, usize, usize) {
        let Counts { connections, half_open, time_wait, .. } = self.stack.counts();
        (connections, half_open, time_wait)
    }
}
