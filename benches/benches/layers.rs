//! What each layer costs by itself: wall time, for comparison between two states of the tree on
//! one machine.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::net::Ipv4Addr;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tagwire::limits::Limits;
use tagwire::request;
use tagwire_netstack::wire::checksum::{self, Sum};
use tagwire_netstack::{
    Acd, Checksum, Config, ConnId, FrameMeta, Instant, Ipv4Cidr, MacAddr, Offload, Stack,
    TcpConfig, Transmit, VlanStack,
};

const CLIENT_MAC: [u8; 6] = [2, 0x74, 0x77, 0, 0, 1];
const SERVER_MAC: [u8; 6] = [2, 0x74, 0x77, 0, 1, 0];
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 150);
const VLAN: u16 = 123;
const FIRST_SEQ: u32 = 1000;

const REQUEST: &[u8] = b"GET /styles/main.css?v=4 HTTP/1.1\r\nHost: 192.168.123.150\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/css,*/*;q=0.1\r\nAccept-Language: en-GB,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\n\
    Referer: http://192.168.123.150/\r\nPriority: u=2\r\n\r\n";

/// A client made of headers: it says what a test of one connection needs.
struct Client {
    stack: Stack,
    connection: ConnId,
    seq: u32,
    ack: u32,
    slot: Vec<u8>,
    payload: Vec<Bytes>,
    now: Instant,
}

impl Client {
    /// A stack with one established connection.
    fn connect() -> Self {
        let now = Instant::from_nanos(1);
        let address = Ipv4Cidr { address: SERVER, prefix: 24 };
        let config = Config {
            mac: MacAddr(SERVER_MAC),
            vlan: VlanStack::tagged(VLAN).expect("a VLAN"),
            pcp: 0,
            mtu: 1500,
            addresses: vec![address.into()],
            gateway: None,
            gateway6: None,
            acd: Acd::default(),
            slaac: false,
            stable_secret: None,
            passive: false,
            secret: [7; 16],
            offload: Offload::FULL,
            tcp: TcpConfig::default(),
        };
        let mut stack = Stack::new(config, now);
        stack.listen(80);
        let mut slot = vec![0; 2048];
        let mut payload = Vec::new();
        let mut seen = None;
        // Ask for its address first: then it knows ours.
        stack.handle_frame(now, &arp_request(), &FrameMeta::default());
        stack.handle_frame(now, &segment(0x02, FIRST_SEQ, 0, b""), &partial());
        while let Some(Transmit { len, .. }) = stack.poll_transmit(now, &mut slot, &mut payload) {
            if slot[16..18] == [8, 0] && len >= 58 {
                seen = Some(u32::from_be_bytes([slot[42], slot[43], slot[44], slot[45]]));
            }
        }
        let (seq, ack) = (FIRST_SEQ + 1, seen.expect("the SYN is answered").wrapping_add(1));
        stack.handle_frame(now, &segment(0x10, seq, ack, b""), &partial());
        let (connection, _) = stack.poll_event().expect("a connection is accepted");
        Self { stack, connection, seq, ack, slot, payload, now }
    }

    /// A segment from the client: taken in, and read by the application.
    fn say(&mut self, text: &[u8], received: &mut BytesMut) {
        let frame = segment(0x18, self.seq, self.ack, text);
        self.seq = self.seq.wrapping_add(text.len() as u32);
        self.stack.handle_frame(self.now, black_box(&frame), &partial());
        while self.stack.poll_event().is_some() {}
        let _ = self.stack.recv(self.connection, received);
        received.clear();
    }

    /// Sends what the stack has to send; how much that was.
    fn transmit(&mut self) -> usize {
        let mut octets = 0;
        while let Some(frame) =
            self.stack.poll_transmit(self.now, &mut self.slot, &mut self.payload)
        {
            octets += frame.len + self.payload.iter().map(Bytes::len).sum::<usize>();
            self.payload.clear();
        }
        octets
    }
}

/// As frames come from a peer on the same host.
fn partial() -> FrameMeta {
    FrameMeta { checksum: Checksum::Partial, ..FrameMeta::default() }
}

fn ethernet(ethertype: [u8; 2]) -> Vec<u8> {
    let mut frame = [SERVER_MAC, CLIENT_MAC].concat();
    frame.extend([0x81, 0]);
    frame.extend(VLAN.to_be_bytes());
    frame.extend(ethertype);
    frame
}

fn arp_request() -> Vec<u8> {
    let mut frame = ethernet([8, 6]);
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(CLIENT_MAC);
    frame.extend(CLIENT.octets());
    frame.extend([0; 6]);
    frame.extend(SERVER.octets());
    frame
}

fn segment(flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = ethernet([8, 0]);
    let total = (40 + payload.len()) as u16;
    let mut ip = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    ip[12..16].copy_from_slice(&CLIENT.octets());
    ip[16..20].copy_from_slice(&SERVER.octets());
    let sum = Sum::new().feed(&ip).finish();
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(ip);
    frame.extend([0x30, 0, 0, 80]);
    frame.extend(seq.to_be_bytes());
    frame.extend(ack.to_be_bytes());
    frame.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame.extend(payload);
    frame
}

fn checksums(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checksum");
    for len in [20, 1460, 65_483] {
        let octets = vec![0x5a; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(len.to_string(), |bencher| {
            let start = checksum::pseudo_header(CLIENT, SERVER, 6, len as u16);
            bencher.iter(|| start.feed(black_box(&octets)).finish());
        });
    }
    group.finish();
}

fn stack(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stack");
    group.throughput(Throughput::Elements(1));
    let mut client = Client::connect();
    let mut received = BytesMut::with_capacity(4096);
    group.bench_function("two segments in, acknowledgement out", |bencher| {
        // Two full ones are acknowledged at once (RFC 9293 3.8.6.3).
        let text = [b'x'; 1460];
        bencher.iter(|| {
            client.say(&text, &mut received);
            client.say(&text, &mut received);
            client.transmit()
        });
    });
    let mut client = Client::connect();
    let body = Bytes::from(vec![b'x'; 1024]);
    group.bench_function("request in, response out", |bencher| {
        bencher.iter(|| {
            client.say(REQUEST, &mut received);
            client.stack.send(client.connection, body.clone()).expect("it is open");
            client.ack = client.ack.wrapping_add(body.len() as u32);
            client.transmit()
        });
    });
    group.finish();
}

fn head(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request head");
    group.throughput(Throughput::Bytes(REQUEST.len() as u64));
    group.bench_function("parse", |bencher| {
        bencher.iter(|| {
            let mut slots = request::slots();
            request::parse(black_box(REQUEST), &mut slots, &Limits::DEFAULT)
                .expect("it is well-formed")
                .expect("it is whole")
                .len
        });
    });
    group.finish();
}

criterion_group!(layers, checksums, stack, head);
criterion_main!(layers);
