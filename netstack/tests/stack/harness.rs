//! A script's end of the wire: builds segments with the stack's own wire module, takes what
//! comes out apart, and moves a virtual clock.
//!
//! Numbers are relative: `seq` of a segment that the peer sends and `ack` of one that it gets
//! count from the peer's SYN, the others from the stack's. So the first octet of data is 1
//! on both sides, whatever the initial sequence numbers.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tagwire_netstack::congestion::{Acked, Congestion};
use tagwire_netstack::wire::arp::{self, ArpPacket, Operation};
use tagwire_netstack::wire::checksum::{Sum, pseudo_header};
use tagwire_netstack::wire::tcp::{self, Flags, Header, Options, Timestamp};
use tagwire_netstack::wire::vlan::Tags;
use tagwire_netstack::wire::{ethernet, ipv4};
use tagwire_netstack::{
    Config, ConnId, Counts, Events, FrameMeta, Instant, Ipv4Cidr, MIN_BUFFER, MacAddr, Offload,
    Recv, SeqNum, Stack, State, TcpConfig, VlanStack,
};

use crate::link;

pub(crate) const US: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub(crate) const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
pub(crate) const OUR_IP: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 150);
pub(crate) const PEER_IP: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 1);
pub(crate) const VLAN: u16 = 123;
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
        slaac: false,
        stable_secret: None,
        passive: false,
        secret: [7; 16],
        offload: Offload::NONE,
        tcp: TcpConfig::default(),
    }
}

/// A TCP segment in relative numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seg {
    /// As tcpdump writes them: S, F, R, P and `.` for ACK, in that order.
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

const LETTERS: [(Flags, char); 5] =
    [(Flags::SYN, 'S'), (Flags::FIN, 'F'), (Flags::RST, 'R'), (Flags::PSH, 'P'), (Flags::ACK, '.')];

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

/// A stack, its clock, and one scripted peer.
pub(crate) struct Fixture {
    pub(crate) stack: Stack,
    pub(crate) now: Instant,
    pub(crate) mtu: usize,
    pub(crate) buffer_len: usize,
    pub(crate) port: u16,
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
        fixture.advance(Duration::from_secs(3));
        fixture.meet(PEER_IP, PEER);
        fixture.sent.clear();
        fixture
    }

    /// A stack that listens on port 80, and nothing has happened.
    pub(crate) fn bare(config: Config) -> Self {
        let now = Instant::from_millis(1_000_000);
        let (mtu, vlan, pcp) = (usize::from(config.mtu), config.vlan, config.pcp);
        let mut stack = Stack::new(config, now);
        stack.listen(80);
        let (port, iss, peer_iss, sent) = (40_000, 0, PEER_ISS, VecDeque::new());
        Self {
            stack,
            now,
            mtu,
            buffer_len: MIN_BUFFER,
            port,
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
            self.introduce(PEER_IP, PEER);
        }
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

    /// A neighbour asks for the stack's address, which so gets to know the neighbour's.
    pub(crate) fn meet(&mut self, ip: Ipv4Addr, mac: MacAddr) {
        let question = ArpPacket {
            operation: Operation::Request,
            sender_mac: mac,
            sender: ip,
            target_mac: MacAddr::ZERO,
            target: OUR_IP,
        };
        let frame = self.arp(&question);
        self.frame(&frame);
    }

    /// Tells the stack a neighbour's address, as the answer to a question.
    pub(crate) fn introduce(&mut self, ip: Ipv4Addr, mac: MacAddr) {
        let reply = ArpPacket {
            operation: Operation::Reply,
            sender_mac: mac,
            sender: ip,
            target_mac: US,
            target: OUR_IP,
        };
        let frame = self.arp(&reply);
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
            if ethertype == ethernet::ETHERTYPE_IPV4 {
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
        let sum = pseudo_header(PEER_IP, OUR_IP, protocol, octets.len() as u16);
        let sum = sum.feed(&octets).finish();
        octets[tcp::CHECKSUM_OFFSET..][..2].copy_from_slice(&sum.to_be_bytes());
        self.ip(PEER_IP, OUR_IP, protocol, &octets)
    }

    /// The peer sends a segment.
    pub(crate) fn send(&mut self, segment: Seg) {
        let frame = self.tcp_frame(&segment);
        self.frame(&frame);
    }

    /// The next segment that the stack sent, its checksums verified.
    #[track_caller]
    pub(crate) fn recv(&mut self) -> Seg {
        self.flush();
        let (to, ethertype, payload) = self.next_frame();
        assert_eq!((to, ethertype), (PEER, ethernet::ETHERTYPE_IPV4));
        let packet = ipv4::parse(&payload).expect("an IPv4 packet");
        assert_eq!((packet.source, packet.destination), (OUR_IP, PEER_IP));
        let protocol = ipv4::PROTOCOL_TCP;
        let sum = pseudo_header(OUR_IP, PEER_IP, protocol, packet.payload.len() as u16);
        assert_eq!(sum.feed(packet.payload).finish(), 0, "TCP checksum");
        let segment = tcp::parse(packet.payload).expect("a TCP segment");
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
        let Counts { connections, half_open, time_wait } = self.stack.counts();
        (connections, half_open, time_wait)
    }
}
