//! A worker in a namespace of the lab, and frames to send through it.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tagwire_core::clock::{self, Nanos};
use tagwire_core::driver::DriverKind;
use tagwire_core::lab::WireSocket;
use tagwire_core::nic::{Interface, LinkState};
use tagwire_core::packet::{Gso, GsoKind, RxFrame, RxMeta, TxChecksum, TxFrame, Vlan};
use tagwire_core::waker::Waker;
use tagwire_core::worker::{Machine, Worker, WorkerConfig};
use tagwire_lab::{Lab, Namespace, POD_INTERFACE};

/// The workers' VLAN. The lab has none: the tests' frames carry the tags they want.
pub(crate) const VLAN: u16 = 123;
/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// The client's end of the cable, whose address the lab has fixed.
pub(crate) const CLIENT_INTERFACE: &str = "eth0";
pub(crate) const CLIENT_MAC: [u8; 6] = [2, 0x74, 0x77, 0, 0, 1];
/// An EtherType for experiments (IEEE 802, 9.2.3).
pub(crate) const EXPERIMENT: u16 = 0x88b5;

/// Headers of the segments that [`segment`] makes: Ethernet, 802.1Q, IPv4, TCP.
pub(crate) const HEADERS: usize = 18 + 20 + 20;
/// Where a segment's number is: TCP's sequence number.
pub(crate) const NUMBER: usize = 18 + 20 + 4;

/// Runs a test for each driver in a lab without tags; says why not, on standard error, where there
/// is none.
pub(crate) fn in_lab(name: &str, test: impl Fn(&Lab, DriverKind)) {
    for driver in [DriverKind::Uring, DriverKind::Poll] {
        match tagwire_lab::available() {
            Ok(()) => test(&Lab::builder().untagged().build().unwrap(), driver),
            Err(why) => eprintln!("SKIPPED (needs root): {name} by {driver}: {why}"),
        }
    }
}

/// A frame for a worker to send.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) head: Vec<u8>,
    pub(crate) payload: Bytes,
    pub(crate) checksum: Option<TxChecksum>,
    pub(crate) gso: Option<Gso>,
}

/// What happened to a worker.
#[derive(Debug)]
pub(crate) enum Event {
    Frame(Vec<u8>, RxMeta, Nanos),
    Link(LinkState),
    Order(u64),
}

/// What a worker is told.
#[derive(Debug)]
enum Order {
    Send(Vec<Outgoing>),
    Echo(u64),
    Stop,
}

struct Script {
    orders: Receiver<Order>,
    events: Sender<Event>,
    outgoing: VecDeque<Outgoing>,
    stopped: bool,
}

impl Machine for Script {
    fn frame(&mut self, now: Nanos, frame: RxFrame<'_>) {
        let _ = self.events.send(Event::Frame(frame.bytes.to_vec(), frame.meta, now));
    }

    fn advance(&mut self, _now: Nanos) {
        for order in self.orders.try_iter() {
            match order {
                Order::Send(frames) => self.outgoing.extend(frames),
                Order::Echo(number) => drop(self.events.send(Event::Order(number))),
                Order::Stop => self.stopped = true,
            }
        }
    }

    fn transmit(
        &mut self,
        _now: Nanos,
        slot: &mut [u8],
        payload: &mut Vec<Bytes>,
    ) -> Option<TxFrame> {
        let Outgoing { head, payload: body, checksum, gso } = self.outgoing.pop_front()?;
        slot[..head.len()].copy_from_slice(&head);
        if !body.is_empty() {
            payload.push(body);
        }
        Some(TxFrame { len: head.len(), checksum, gso })
    }

    fn deadline(&mut self) -> Option<Nanos> {
        None
    }

    fn link_changed(&mut self, _now: Nanos, interface: &Interface) {
        let _ = self.events.send(Event::Link(interface.link));
    }

    fn finished(&self) -> bool {
        self.stopped && self.outgoing.is_empty()
    }
}

/// A worker that runs.
pub(crate) struct Running {
    pub(crate) interface: Interface,
    waker: Waker,
    orders: Sender<Order>,
    events: Receiver<Event>,
    thread: Option<JoinHandle<io::Result<Counts>>>,
}

impl Running {
    /// Starts a worker on the first pod's interface.
    pub(crate) fn in_pod(lab: &Lab, driver: DriverKind) -> Self {
        Self::start(lab.pod(0).namespace(), POD_INTERFACE, Duration::ZERO, driver)
    }

    /// Starts a worker.
    pub(crate) fn start(
        namespace: &Namespace,
        interface: &str,
        busy_poll: Duration,
        driver: DriverKind,
    ) -> Self {
        let (orders, inbox) = mpsc::channel();
        let (outbox, events) = mpsc::channel();
        let (opened, open) = mpsc::channel();
        let (namespace, name) = (namespace.clone(), interface.to_owned());
        let thread = thread::spawn(move || {
            let work = || {
                let interface = Interface::find(&name).unwrap();
                let config = WorkerConfig {
                    interface: interface.clone(),
                    vlans: [Vlan::Tagged(VLAN)].into(),
                    ring_slots: WorkerConfig::ring_slots(&interface),
                    busy_poll,
                };
                let worker = Worker::alone(&config, driver).unwrap();
                opened.send((interface, worker.waker())).unwrap();
                let counters = worker.counters();
                let mut script = Script {
                    orders: inbox,
                    events: outbox,
                    outgoing: VecDeque::new(),
                    stopped: false,
                };
                worker.run(&mut script)?;
                Ok(Counts(counters.iter().collect()))
            };
            namespace.run(work).unwrap()
        });
        let (interface, waker) = open.recv_timeout(PATIENCE).expect("the worker opens");
        Self { interface, waker, orders, events, thread: Some(thread) }
    }

    fn order(&self, order: Order) {
        self.orders.send(order).unwrap();
        self.waker.wake();
    }

    pub(crate) fn send(&self, frames: Vec<Outgoing>) {
        self.order(Order::Send(frames));
    }

    /// Wakes it with a number, which comes back as an event.
    pub(crate) fn echo(&self, number: u64) {
        self.order(Order::Echo(number));
    }

    pub(crate) fn next_event(&self) -> Event {
        self.events.recv_timeout(PATIENCE).expect("something happens to the worker")
    }

    /// The next event, which must be a frame.
    pub(crate) fn next_frame(&self) -> (Vec<u8>, RxMeta, Nanos) {
        match self.next_event() {
            Event::Frame(octets, meta, at) => (octets, meta, at),
            other => panic!("not a frame: {other:?}"),
        }
    }

    /// Ends it, once all is sent, and returns its counters.
    pub(crate) fn stop(mut self) -> Counts {
        self.order(Order::Stop);
        let thread = self.thread.take().expect("it is stopped once");
        thread.join().expect("the worker does not panic").expect("its ring works")
    }
}

/// The counters of a worker that has ended.
pub(crate) struct Counts(Vec<(&'static str, u64)>);

impl Counts {
    pub(crate) fn of(&self, name: &str) -> u64 {
        self.0.iter().find(|(counter, _)| *counter == name).expect("there is such a counter").1
    }
}

/// The client's end of the cable as a packet socket.
pub(crate) struct Peer {
    socket: WireSocket,
    buffer: Vec<u8>,
}

impl Peer {
    pub(crate) fn open(lab: &Lab) -> Self {
        let index = lab.client().interface_index(CLIENT_INTERFACE).unwrap();
        let socket = lab.client().run(|| WireSocket::open(index)).unwrap().unwrap();
        Self { socket, buffer: vec![0; 70_000] }
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        self.socket.send(frame).unwrap();
    }

    /// The next frame that `wanted` accepts, its tag in line.
    pub(crate) fn next(&mut self, wanted: impl Fn(&[u8]) -> bool) -> &[u8] {
        let deadline = Instant::now() + PATIENCE;
        let len = loop {
            match self.socket.recv(&mut self.buffer).unwrap() {
                Some(len) if wanted(&self.buffer[..len]) => break len,
                Some(_) => {}
                None => {
                    assert!(Instant::now() < deadline, "no frame arrives");
                    thread::yield_now();
                }
            }
        };
        &self.buffer[..len]
    }

    pub(crate) fn overruns(&self) -> u32 {
        self.socket.take_overruns().unwrap()
    }
}

/// A frame of the experimental EtherType with an optional tag in line, padded.
pub(crate) fn note(to: [u8; 6], from: [u8; 6], tci: Option<u16>, text: &str) -> Vec<u8> {
    let mut frame = [to, from].concat();
    if let Some(tci) = tci {
        frame.extend([0x81, 0]);
        frame.extend(tci.to_be_bytes());
    }
    frame.extend(EXPERIMENT.to_be_bytes());
    frame.extend(text.as_bytes());
    frame.resize(frame.len().max(60), 0);
    frame
}

/// Octets in which no stretch looks like another.
pub(crate) fn pattern(len: usize) -> Bytes {
    (0..len).map(|i| (i ^ i >> 8).wrapping_mul(167) as u8).collect::<Vec<u8>>().into()
}

/// A tagged TCP segment, its number in the sequence field, its checksum left to the kernel;
/// longer than 1448 octets it is to be cut.
pub(crate) fn segment(to: [u8; 6], from: [u8; 6], number: u32, payload: Bytes) -> Outgoing {
    const SIZE: u16 = 1448;
    let mut head = note(to, from, Some(VLAN), "");
    head.truncate(16);
    head.extend([8, 0]);
    let total = (HEADERS - 18 + payload.len()) as u16;
    let mut ip = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    let checksum = !fold(sum(&ip));
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    head.extend(ip);
    let mut tcp = [0; 20];
    tcp[..4].copy_from_slice(&[0x30, 0, 0x40, 0]);
    tcp[4..8].copy_from_slice(&number.to_be_bytes());
    tcp[12] = 0x50;
    tcp[13] = 0x10; // ACK
    tcp[14..16].fill(0xff);
    let pseudo = fold(sum(&ip[12..]) + 6 + u32::from(total) - 20);
    tcp[16..18].copy_from_slice(&pseudo.to_be_bytes());
    head.extend(tcp);
    let gso = (payload.len() > usize::from(SIZE)).then_some(Gso {
        kind: GsoKind::TcpV4,
        size: SIZE,
        header_len: HEADERS as u16,
    });
    let checksum = Some(TxChecksum { start: 38, offset: 16 });
    Outgoing { head, payload, checksum, gso }
}

/// Whether a frame, tag in line, is a segment of ours.
pub(crate) fn is_segment(frame: &[u8]) -> bool {
    frame.len() > HEADERS && frame[12..14] == [0x81, 0] && frame[26..30] != [0; 4] && frame[27] == 6
}

/// The number of a segment, tag in line.
pub(crate) fn number(frame: &[u8]) -> u32 {
    u32::from_be_bytes(frame[NUMBER..NUMBER + 4].try_into().unwrap())
}

/// Whether the TCP checksum of a frame, tag in line, is complete and right.
pub(crate) fn checksum_is_right(frame: &[u8]) -> bool {
    let total = usize::from(u16::from_be_bytes([frame[20], frame[21]]));
    let tcp = &frame[38..18 + total];
    fold(sum(&frame[30..38]) + 6 + tcp.len() as u32 + sum(tcp)) == 0xffff
}

fn sum(octets: &[u8]) -> u32 {
    let pairs = octets.chunks(2);
    pairs.map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The present, for comparison with frames' timestamps.
pub(crate) fn now() -> Nanos {
    clock::now()
}
