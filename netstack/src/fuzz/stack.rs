//! A whole stack, its application and its peers, driven by a fuzzer's octets.

use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::operations::{Input, Operation};
use super::peer::{Peer, own_octet, peer_octet};
use crate::tcp::seq::SeqNum;
use crate::wire::arp::{self, ArpPacket};
use crate::wire::checksum::{Sum, pseudo_header};
use crate::wire::tcp::{self, Flags, Header, MAX_WINDOW_SCALE, Options, Timestamp};
use crate::wire::vlan::{TPID_8021AD, TPID_8021Q, Tags, VlanStack};
use crate::wire::{ethernet, icmpv4, ipv4};
use crate::{
    Acd, Checksum, Config, ConnId, Counts, FourTuple, FrameMeta, Instant, Ipv4Cidr, MIN_BUFFER,
    MacAddr, Offload, Recv, Stack, TcpConfig, Transmit, VlanTag,
};

const US: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const OUR_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const PEER_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PORT: u16 = 80;
/// Peers have ports from here on.
const FIRST_PEER: u16 = 1000;
const PEERS: usize = 4;
const BACKLOG: usize = 3;
const MAX_CONNECTIONS: usize = 3;
const MAX_TIME_WAIT: usize = 2;
/// Octets that the application queues on one connection at the most.
pub(super) const MAX_QUEUED: usize = 300_000;

/// Any octets as operations on a stack: frames, time, calls of the application. Checks after
/// each that the promises of [`Stack`]'s documentation hold, and at the end that nothing
/// is left once everybody has let go and time has passed.
pub fn fuzz_stack(data: &[u8]) {
    let mut input = Input(data);
    let mut driver = Driver::new(&mut input);
    while let Some((operation, queue_up)) = input.operation() {
        driver.step(operation, &mut input);
        driver.handle_events();
        if !queue_up {
            driver.drain();
        }
        driver.check_counters();
    }
    driver.finish();
}

/// The application's side of a connection.
#[derive(Debug)]
struct App {
    id: ConnId,
    peer: usize,
    /// The number of the first octet that the peer sends on it, if known.
    first: Option<SeqNum>,
    sent: usize,
    received: usize,
}

#[derive(Debug)]
struct Driver {
    stack: Stack,
    now: Instant,
    vlan: VlanStack,
    tags: Tags,
    mtu: usize,
    offload: Offload,
    buffer: Vec<u8>,
    peers: [Peer; PEERS],
    apps: Vec<App>,
    stamps: bool,
}

impl Driver {
    fn new(input: &mut Input<'_>) -> Self {
        let (a, b) = (input.octet(), input.octet());
        let vlan = match a & 0x21 {
            0 => VlanStack::UNTAGGED,
            1 => VlanStack::tagged(5).expect("a VLAN"),
            _ => VlanStack::stacked(5, 6).expect("a VLAN in a VLAN"),
        };
        let pcp = a >> 6;
        let mtu = if a & 2 != 0 { 576 } else { 1500 };
        let offload = if a & 4 != 0 { Offload::FULL } else { Offload::NONE };
        let receive_buffer = [4096, 20_000, 65_535, 300_000][usize::from(b & 3)];
        let buffer_len = if a & 8 != 0 { 70_000 } else { MIN_BUFFER };
        let now = Instant::from_millis(1);
        let config = Config {
            mac: US,
            vlan,
            pcp,
            mtu,
            addresses: vec![Ipv4Cidr { address: OUR_IP, prefix: 24 }.into()],
            gateway: None,
            gateway6: None,
            acd: Acd::default(),
            slaac: false,
            stable_secret: None,
            passive: false,
            secret: [b; 16],
            offload,
            tcp: TcpConfig {
                receive_buffer,
                backlog: BACKLOG,
                max_connections: MAX_CONNECTIONS,
                max_time_wait: MAX_TIME_WAIT,
                ..TcpConfig::default()
            },
        };
        let mut stack = Stack::new(config, now);
        stack.listen(PORT);
        let mut driver = Self {
            stack,
            now,
            vlan,
            tags: vlan.tags(pcp),
            mtu: usize::from(mtu),
            offload,
            buffer: vec![0; buffer_len],
            peers: Default::default(),
            apps: Vec::new(),
            stamps: a & 16 != 0,
        };
        driver.introduce();
        driver
    }

    fn step(&mut self, operation: Operation, input: &mut Input<'_>) {
        match operation {
            Operation::Raw => self.raw(input),
            Operation::Segment => self.segment(input),
            Operation::Open => self.open(input),
            Operation::Acknowledge => {
                let peer = self.pick_peer(input);
                let header = self.header(peer, Flags::ACK, input.word());
                self.deliver(peer, &header, 0, Checksum::Unverified);
            }
            Operation::Data => {
                let peer = self.pick_peer(input);
                let header = self.header(peer, Flags::ACK.with(Flags::PSH), 0xffff);
                self.deliver(peer, &header, usize::from(input.word() % 3000), Checksum::Valid);
            }
            Operation::Advance => {
                let span = u64::from(input.octet()) << (input.octet() % 12);
                self.advance(Duration::from_millis(span));
            }
            Operation::Arp => {
                if input.octet() & 1 == 0 {
                    self.introduce();
                } else {
                    let frame = self.frame(ethernet::ETHERTYPE_ARP, input.octets(28));
                    self.stack.handle_frame(self.now, &frame, &FrameMeta::default());
                }
            }
            Operation::Echo => {
                let mut message = vec![8, 0, 0, 0];
                message.resize(8 + usize::from(input.octet()), 7);
                let sum = Sum::new().feed(&message).finish();
                message[2..4].copy_from_slice(&sum.to_be_bytes());
                let frame = self.ip(ipv4::PROTOCOL_ICMP, &message);
                self.stack.handle_frame(self.now, &frame, &FrameMeta::default());
            }
            Operation::Link => match input.octet() {
                octet if octet & 2 == 0 => self.stack.set_link(self.now, octet & 1 == 0),
                octet => {
                    // 68 to 1576 octets.
                    self.stack.set_mtu(self.now, 68 + 12 * u16::from(octet / 2));
                    // What waits for a neighbour may be from before.
                    self.mtu = self.mtu.max(self.stack.mtu().into());
                }
            },
            Operation::Listen => {
                if input.octet() & 1 == 0 {
                    self.stack.listen(PORT);
                } else {
                    self.stack.unlisten(PORT);
                }
            }
            Operation::Fragment | Operation::Error | Operation::Datagram | Operation::Tagged => {
                self.lower_layers(operation, input);
            }
            call => self.application(call, input),
        }
    }

    /// What is made of the layers below TCP, never a segment of a peer's.
    fn lower_layers(&mut self, operation: Operation, input: &mut Input<'_>) {
        let protocol =
            [ipv4::PROTOCOL_ICMP, ipv4::PROTOCOL_UDP, 99][usize::from(input.octet() % 3)];
        let (mut packet, meta) = match operation {
            Operation::Fragment => {
                let place = input.octet();
                let octets = input.octets(usize::from(place >> 4) * 8);
                let mut packet = packet(protocol, octets);
                // Identification, MF, offset.
                packet[5] = place & 1;
                packet[6] = (place & 2) << 4;
                packet[7] = input.octet() % 32;
                (packet, FrameMeta::default())
            }
            Operation::Error => {
                let peer = self.pick_peer(input);
                let header = self.header(peer, Flags::ACK, 0);
                let seq = header.ack + input.distance();
                let mut quote = vec![0; ipv4::HEADER_LEN];
                ipv4::emit(&mut quote, OUR_IP, PEER_IP, ipv4::PROTOCOL_TCP, 1000);
                quote.extend(PORT.to_be_bytes());
                quote.extend(header.source_port.to_be_bytes());
                quote.extend(seq.0.to_be_bytes());
                let kind = [3, 11, 12, 4][usize::from(input.octet() % 4)];
                let mut message = icmpv4::make_error(kind, input.octet() % 16, &quote);
                message[6..8].copy_from_slice(&input.word().to_be_bytes());
                message[2..4].fill(0);
                let sum = Sum::new().feed(&message).finish();
                message[2..4].copy_from_slice(&sum.to_be_bytes());
                (packet(ipv4::PROTOCOL_ICMP, &message), FrameMeta::default())
            }
            Operation::Datagram => {
                // The first octets of what would be the payload are options.
                let length = usize::from(input.octet() % 64);
                let mut packet = packet(protocol, input.octets(length));
                packet[0] += (length / 4).min(10) as u8;
                (packet, FrameMeta { checksum: Checksum::Valid, ..FrameMeta::default() })
            }
            _ => {
                let tag = |octet: u8| {
                    let tpid = [TPID_8021Q, TPID_8021AD][usize::from(octet & 1)];
                    VlanTag { tpid, tci: u16::from(octet >> 1 & 7) }
                };
                let tags =
                    Tags { outer: Some(tag(input.octet())), inner: Some(tag(input.octet())) };
                let mut frame = vec![0; ethernet::header_len(tags)];
                ethernet::emit(&mut frame, US, PEER, tags, ethernet::ETHERTYPE_IPV4);
                frame.extend(packet(ipv4::PROTOCOL_UDP, &[0; 8]));
                let mut meta = FrameMeta::default();
                if input.octet() & 1 != 0 {
                    frame.drain(12..16);
                    meta.vlan = tags.outer;
                }
                self.stack.handle_frame(self.now, &frame, &meta);
                return;
            }
        };
        packet[10..12].fill(0);
        let header_len = usize::from(packet[0] & 15) * 4;
        let header = packet.get(..header_len).unwrap_or(&packet);
        let sum = Sum::new().feed(header).finish();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        let frame = self.frame(ethernet::ETHERTYPE_IPV4, &packet);
        self.stack.handle_frame(self.now, &frame, &meta);
    }

    // ---- the application -----------------------------------------------------------------

    fn application(&mut self, call: Operation, input: &mut Input<'_>) {
        let which = usize::from(input.octet());
        let Some(index) = which.checked_rem(self.apps.len()) else { return };
        let app = &mut self.apps[index];
        match call {
            Operation::Recv => {
                let mut into = BytesMut::new();
                match self.stack.recv(app.id, &mut into) {
                    Recv::Data(octets) => assert!(octets == into.len() && octets > 0),
                    _ => assert!(into.is_empty()),
                }
                for (index, octet) in into.iter().enumerate() {
                    let Some(first) = app.first else { break };
                    let seq = first + (app.received + index) as u32;
                    assert_eq!(*octet, peer_octet(seq), "a wrong octet was received");
                }
                app.received += into.len();
            }
            Operation::Send => {
                let octets = usize::from(input.word());
                if app.sent + octets <= MAX_QUEUED {
                    let data: Bytes = (app.sent..app.sent + octets).map(own_octet).collect();
                    if self.stack.send(app.id, data).is_ok() {
                        app.sent += octets;
                    }
                }
            }
            Operation::Shutdown => self.stack.shutdown(app.id),
            Operation::Abort => self.stack.abort(self.now, app.id),
            Operation::Notify => {
                let mark = usize::from(input.word());
                let below = self.stack.notify_below(app.id, mark);
                assert_eq!(below, self.stack.queued(app.id) <= mark);
            }
            _ => {
                let app = self.apps.swap_remove(index);
                self.peers[app.peer].may_wait += 1;
                self.stack.release(self.now, app.id);
            }
        }
    }

    fn handle_events(&mut self) {
        while let Some((id, events)) = self.stack.poll_event() {
            if events.accepted {
                let FourTuple { local, remote } =
                    self.stack.addresses(id).expect("it has just come");
                assert_eq!(local.port, PORT);
                let peer = usize::from(remote.port - FIRST_PEER);
                let Peer { first, guessing, .. } = self.peers[peer];
                let first = (!guessing).then_some(first);
                self.apps.push(App { id, peer, first, sent: 0, received: 0 });
            }
            assert!(self.apps.iter().any(|app| app.id == id), "an event for nobody");
            assert!(!events.closed || self.stack.closed(id).is_some());
        }
    }

    // ---- frames in -----------------------------------------------------------------------

    fn pick_peer(&self, input: &mut Input<'_>) -> usize {
        usize::from(input.octet()) % PEERS
    }

    fn raw(&mut self, input: &mut Input<'_>) {
        let length = usize::from(input.octet());
        let octets = input.octets(length);
        // A stray but valid segment of a peer's would break what is known of its stream.
        let peers_own = ethernet::parse(octets)
            .ok()
            .and_then(|frame| ipv4::parse(frame.payload).ok())
            .is_some_and(|packet| packet.source == PEER_IP);
        if !peers_own {
            self.stack.handle_frame(self.now, octets, &FrameMeta::default());
        }
    }

    /// The header of the next in-order segment of a peer.
    fn header(&self, peer: usize, flags: Flags, window: u16) -> Header {
        let state = &self.peers[peer];
        Header {
            source_port: FIRST_PEER + peer as u16,
            destination_port: PORT,
            seq: state.expected,
            ack: state.seen,
            flags,
            window,
            options: Options {
                timestamp: self
                    .stamps
                    .then_some(Timestamp { value: self.now.as_millis() as u32, echo: state.stamp }),
                ..Options::default()
            },
        }
    }

    /// A segment that strays from what is expected as far as the octets say.
    fn segment(&mut self, input: &mut Input<'_>) {
        let peer = self.pick_peer(input);
        let flags = Flags(input.octet());
        let mut header = self.header(peer, flags, input.word());
        header.seq += input.distance();
        header.ack += input.distance();
        let options = input.octet();
        if options & 1 != 0 {
            header.options.mss = Some(input.word());
        }
        if options & 2 != 0 {
            header.options.window_scale = Some(input.octet() % (MAX_WINDOW_SCALE + 1));
        }
        if let Some(stamp) = &mut header.options.timestamp
            && options & 4 != 0
        {
            stamp.value = stamp.value.wrapping_add(input.distance());
            stamp.echo = stamp.echo.wrapping_add(input.distance());
        }
        if options & 8 != 0 {
            header.options.timestamp = None;
        }
        if options & 16 != 0 {
            header.destination_port = PORT + 1;
        }
        let length = if options & 32 != 0 { usize::from(input.word() % 2000) } else { 0 };
        let checksum = if options & 64 != 0 { Checksum::Partial } else { Checksum::Unverified };
        self.deliver(peer, &header, length, checksum);
    }

    fn open(&mut self, input: &mut Input<'_>) {
        let peer = self.pick_peer(input);
        let mut syn = self.header(peer, Flags::SYN, input.word());
        syn.seq += input.double();
        let options = input.octet();
        syn.options.mss = (options & 1 != 0).then_some(1460);
        syn.options.window_scale = (options & 2 != 0).then_some(options >> 4 & 7);
        self.deliver(peer, &syn, 0, Checksum::Unverified);
        self.drain();
        let ack = self.header(peer, Flags::ACK, syn.window);
        self.deliver(peer, &ack, 0, Checksum::Unverified);
    }

    /// Hands the stack a segment with `length` octets of the peer's stream.
    fn deliver(&mut self, peer: usize, header: &Header, length: usize, checksum: Checksum) {
        let mut octets = vec![0; tcp::MAX_HEADER_LEN];
        let header_len = tcp::emit(&mut octets, header);
        octets.truncate(header_len);
        // Data in a SYN has the numbers behind it.
        let first = header.seq + u32::from(header.flags.has(Flags::SYN));
        octets.extend((0..length).map(|index| peer_octet(first + index as u32)));
        let protocol = ipv4::PROTOCOL_TCP;
        let sum = pseudo_header(PEER_IP, OUR_IP, protocol, octets.len() as u16);
        let sum = sum.feed(&octets).finish();
        octets[tcp::CHECKSUM_OFFSET..][..2].copy_from_slice(&sum.to_be_bytes());
        if let Ok(segment) = tcp::parse(&octets)
            && header.destination_port == PORT
        {
            self.peers[peer].note_sent(&segment);
        }
        let frame = self.ip(protocol, &octets);
        self.stack.handle_frame(self.now, &frame, &FrameMeta { checksum, ..FrameMeta::default() });
    }

    fn ip(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; ipv4::HEADER_LEN];
        ipv4::emit(&mut packet, PEER_IP, OUR_IP, protocol, payload.len());
        packet.extend_from_slice(payload);
        self.frame(ethernet::ETHERTYPE_IPV4, &packet)
    }

    fn frame(&self, ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; ethernet::header_len(self.vlan)];
        ethernet::emit(&mut frame, US, PEER, self.vlan, ethertype);
        frame.extend_from_slice(payload);
        frame
    }

    /// The peer's address, told by ARP.
    fn introduce(&mut self) {
        let packet = ArpPacket {
            operation: arp::Operation::Reply,
            sender_mac: PEER,
            sender: PEER_IP,
            target_mac: US,
            target: OUR_IP,
        };
        let mut octets = [0; arp::PACKET_LEN];
        arp::emit(&mut octets, &packet);
        let frame = self.frame(ethernet::ETHERTYPE_ARP, &octets);
        self.stack.handle_frame(self.now, &frame, &FrameMeta::default());
    }

    // ---- frames out ----------------------------------------------------------------------

    fn drain(&mut self) {
        let mut slices = Vec::new();
        for turn in 0.. {
            assert!(turn < 10_000, "the stack never stops sending");
            let mut buffer = std::mem::take(&mut self.buffer);
            let transmit = self.stack.poll_transmit(self.now, &mut buffer, &mut slices);
            if let Some(transmit) = &transmit {
                self.check_frame(transmit, &buffer, &slices);
            }
            self.buffer = buffer;
            slices.clear();
            if transmit.is_none() {
                return;
            }
        }
    }

    /// A frame can be sent as it is, or says what is to be done to it, and keeps TCP's
    /// promises.
    fn check_frame(&mut self, transmit: &Transmit, buffer: &[u8], slices: &[Bytes]) {
        let octets = [&buffer[..transmit.len], &slices.concat()].concat();
        let frame = ethernet::parse(&octets).expect("an Ethernet frame");
        assert_eq!((frame.source, frame.tags), (US, self.tags));
        match transmit.segmentation {
            None => assert!(frame.payload.len() <= self.mtu, "a frame beyond the MTU"),
            Some(cut) => {
                let payload = octets.len() - usize::from(cut.header_len);
                assert!(self.offload.segmentation && payload > usize::from(cut.size));
                let headers = usize::from(cut.header_len) - ethernet::header_len(self.tags);
                assert!(headers + usize::from(cut.size) <= self.mtu);
            }
        }
        if frame.ethertype == ethernet::ETHERTYPE_ARP {
            arp::parse(frame.payload).expect("an ARP packet");
            return;
        }
        let packet = ipv4::parse(frame.payload).expect("an IPv4 packet");
        assert_eq!(packet.payload.len() + ipv4::HEADER_LEN, frame.payload.len());
        if packet.protocol != ipv4::PROTOCOL_TCP {
            return;
        }
        let (protocol, length) = (ipv4::PROTOCOL_TCP, packet.payload.len() as u16);
        let pseudo = pseudo_header(OUR_IP, packet.destination, protocol, length);
        match transmit.checksum {
            None => assert_eq!(pseudo.feed(packet.payload).finish(), 0, "a wrong checksum"),
            Some(request) => {
                let at = usize::from(request.start + request.offset);
                assert_eq!(octets[at..at + 2], pseudo.fold().to_be_bytes());
            }
        }
        let segment = tcp::parse(packet.payload).expect("a TCP segment");
        if packet.destination != PEER_IP || segment.source_port != PORT {
            return;
        }
        let peer = usize::from(segment.destination_port - FIRST_PEER);
        // Of one peer's connections one at the most is alive, released or not.
        let alive = |app: &&App| app.peer == peer && self.stack.closed(app.id).is_none();
        let sent = self.apps.iter().find(alive).map(|app| app.sent);
        self.peers[peer].check(&segment, sent);
    }

    // ---- time ----------------------------------------------------------------------------

    fn advance(&mut self, span: Duration) {
        let end = self.now + span;
        for turn in 0.. {
            assert!(turn < 100_000, "timeouts without end");
            let Some(at) = self.stack.poll_timeout().filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            self.stack.handle_timeout(self.now);
            let next = self.stack.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now), "a timeout that stays due");
            self.handle_events();
            self.drain();
        }
        self.now = end;
    }

    // ---- what must hold ------------------------------------------------------------------

    fn check_counters(&self) {
        let Counts { connections, half_open, time_wait, .. } = self.stack.counts();
        assert!(connections <= MAX_CONNECTIONS && half_open <= BACKLOG);
        assert!(time_wait <= MAX_TIME_WAIT);
        let stats = self.stack.stats();
        let used = stats.arp_in
            + stats.nd_in
            + stats.mld_in
            + stats.icmp_echo
            + stats.icmp_error_in
            + stats.tcp_in;
        let unused = stats.drop_malformed
            + stats.drop_vlan
            + stats.drop_mac
            + stats.drop_ethertype
            + stats.drop_checksum
            + stats.drop_address
            + stats.drop_unusable_in
            + stats.drop_martian
            + stats.drop_fragment
            + stats.drop_fragment_overlap
            + stats.drop_options
            + stats.ip_fragment_in
            + stats.drop_extension
            + stats.drop_protocol
            + stats.icmp_ignored
            + stats.arp_ignored
            + stats.arp_limited
            + stats.arp_conflict
            + stats.nd_ignored
            + stats.nd_limited
            + stats.mld_ignored;
        assert_eq!(stats.frames_in, used + unused, "a frame without a counter");
    }

    /// Everybody lets go; when time has passed nothing is held any more.
    fn finish(&mut self) {
        self.stack.set_link(self.now, true);
        for App { id, .. } in std::mem::take(&mut self.apps) {
            self.stack.release(self.now, id);
        }
        self.advance(Duration::from_secs(2000));
        self.drain();
        assert_eq!(self.stack.counts(), Counts::default(), "something was left behind");
        self.check_counters();
        // Announcements may still be due if the link has only just come up, and neighbours
        // be asked for whether they are still there.
        self.advance(Duration::from_secs(30));
        assert_eq!(self.stack.poll_timeout(), None, "nothing is left to wait for");
    }
}

/// An IPv4 packet of the peer's.
fn packet(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; ipv4::HEADER_LEN];
    ipv4::emit(&mut packet, PEER_IP, OUR_IP, protocol, payload.len());
    packet.extend_from_slice(payload);
    packet
}
