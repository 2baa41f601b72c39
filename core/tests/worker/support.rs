//! A worker on one end of a veth pair, in a network namespace that dies with the test, and a
//! packet socket on the other end.
#![allow(unreachable_pub, reason = "a test is no crate to export from")]

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use tagwire_core::clock::{self, Nanos};
use tagwire_core::driver::DriverKind;
use tagwire_core::nic::{Interface, LinkState};
use tagwire_core::packet::{
    Groups, Gso, GsoKind, RxFrame, RxMeta, Steering, SynFilter, SynShare, TxChecksum, TxFrame, Vlan,
};
use tagwire_core::waker::Waker;
use tagwire_core::worker::{Machine, Port, Worker, WorkerConfig};

/// The VLAN of tests that do not need another.
pub const VLAN: u16 = 123;
/// Longer than anything takes that works.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Local experimental EtherType (IEEE 802): nobody else answers it.
pub const EXPERIMENTAL: [u8; 2] = [0x88, 0xb5];
/// Segment payload in segmented frames.
pub const SEGMENT: u16 = 1400;

/// Runs a test for each driver, in a namespace of its own, with the veth pair of `nic0`, where the
/// worker lives, and `peer0`; both are up.
pub fn in_namespace(test: impl Fn(DriverKind) + Copy + Send + 'static) {
    for driver in [DriverKind::Uring, DriverKind::Poll] {
        in_one(move || test(driver));
    }
}

fn in_one(test: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(move || {
        // SAFETY: no pointers; it changes the namespace of this thread only.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } < 0 {
            eprintln!("SKIPPED (needs root): {}", io::Error::last_os_error());
            return;
        }
        ip("link add name nic0 type veth peer name peer0");
        // Without addresses of its own the kernel stays silent.
        for end in ["nic0", "peer0"] {
            ip(&format!("link set {end} addrgenmode none"));
            ip(&format!("link set {end} up"));
        }
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

pub fn ip(args: &str) {
    run("ip", args);
}

/// Runs a tool in this thread's namespace.
pub fn run(tool: &str, args: &str) {
    let status = Command::new(tool).args(args.split(' ')).status();
    assert!(status.is_ok_and(|status| status.success()), "{tool} {args}");
}

/// What the worker's machine tells the test.
#[derive(Debug)]
pub enum Event {
    Frame {
        bytes: Vec<u8>,
        meta: RxMeta,
        at: Nanos,
    },
    Link(LinkState),
    Deadline(Nanos),
    Paced {
        due: Nanos,
        at: Nanos,
    },
    Stalls,
    Joined,
    Filtered,
    /// Octets that were queued in one turn.
    Queued(usize),
}

/// What the test tells the worker's machine.
pub enum Order {
    Send(Vec<Outgoing>),
    Deadline(Nanos),
    /// Deadlines so far apart, so many times.
    Pace(Duration, u64),
    /// Be in these groups.
    Groups(Vec<[u8; 6]>),
    /// Take only this share of SYNs, or all.
    Syns(Option<SynShare>),
    /// Look at nothing for so long.
    Stall(Duration),
    /// Say from now on what each turn queues.
    TellQueued,
    Finish,
}

/// A frame for the worker to send.
pub struct Outgoing {
    pub head: Vec<u8>,
    pub payload: Vec<Bytes>,
    pub checksum: Option<TxChecksum>,
    pub gso: Option<Gso>,
}

struct Recorder {
    events: mpsc::Sender<Event>,
    orders: mpsc::Receiver<Order>,
    queue: VecDeque<Outgoing>,
    deadline: Option<Nanos>,
    /// Between deadlines, and how many are to come.
    pace: Option<(Duration, u64)>,
    groups: Groups,
    syns: SynFilter,
    /// Octets queued since the last turn began, if they are told.
    queued: Option<usize>,
    finished: bool,
}

impl Recorder {
    /// A turn has ended, if there was one.
    fn tell_queued(&mut self) {
        if let Some(octets @ 1..) = self.queued.as_mut().map(std::mem::take) {
            let _ = self.events.send(Event::Queued(octets));
        }
    }
}

impl Machine for Recorder {
    fn frame(&mut self, at: Nanos, frame: RxFrame<'_>) {
        let bytes = frame.bytes.to_vec();
        let _ = self.events.send(Event::Frame { bytes, meta: frame.meta, at });
    }

    fn advance(&mut self, now: Nanos) {
        self.tell_queued();
        if let Some(due) = self.deadline.take_if(|deadline| *deadline <= now) {
            let _ = self.events.send(match &mut self.pace {
                Some((span, rounds)) => {
                    *rounds -= 1;
                    self.deadline = (*rounds > 0).then(|| now.after(*span));
                    Event::Paced { due, at: now }
                }
                None => Event::Deadline(now),
            });
        }
        for order in self.orders.try_iter() {
            match order {
                Order::Send(frames) => self.queue.extend(frames),
                Order::Deadline(at) => self.deadline = Some(at),
                Order::Pace(span, rounds) => {
                    self.pace = Some((span, rounds));
                    self.deadline = Some(now.after(span));
                }
                Order::Groups(wanted) => {
                    self.groups.set(&wanted).unwrap();
                    let _ = self.events.send(Event::Joined);
                }
                Order::Syns(share) => {
                    self.syns.set(share.as_ref()).unwrap();
                    let _ = self.events.send(Event::Filtered);
                }
                Order::Stall(span) => {
                    let _ = self.events.send(Event::Stalls);
                    thread::sleep(span);
                }
                Order::TellQueued => self.queued = Some(0),
                Order::Finish => self.finished = true,
            }
        }
    }

    fn transmit(
        &mut self,
        _now: Nanos,
        slot: &mut [u8],
        payload: &mut Vec<Bytes>,
    ) -> Option<TxFrame> {
        let Outgoing { head, payload: slices, checksum, gso } = self.queue.pop_front()?;
        assert!(payload.is_empty(), "the last frame's payload was let go");
        slot[..head.len()].copy_from_slice(&head);
        payload.extend(slices);
        if let Some(queued) = &mut self.queued {
            *queued += head.len() + payload.iter().map(Bytes::len).sum::<usize>();
        }
        Some(TxFrame { len: head.len(), checksum, gso })
    }

    fn deadline(&mut self) -> Option<Nanos> {
        self.tell_queued();
        self.deadline
    }

    fn link_changed(&mut self, _now: Nanos, interface: &Interface) {
        let _ = self.events.send(Event::Link(interface.link));
    }

    fn finished(&self) -> bool {
        self.finished
    }
}

/// The worker's counters by name.
pub type Counts = BTreeMap<&'static str, u64>;

/// A worker on a thread of its own.
pub struct Running {
    pub interface: Interface,
    pub waker: Waker,
    orders: mpsc::Sender<Order>,
    events: mpsc::Receiver<Event>,
    thread: JoinHandle<Counts>,
}

impl Running {
    pub fn start(name: &str, vlan: Vlan, busy_poll: Duration, driver: DriverKind) -> Self {
        let mut group = Self::group(name, &[vlan], busy_poll, &Steering::new(1, 0), driver);
        group.remove(0)
    }

    /// Workers that share an interface.
    pub fn group(
        name: &str,
        vlans: &[Vlan],
        busy_poll: Duration,
        steering: &Steering,
        driver: DriverKind,
    ) -> Vec<Self> {
        let interface = Interface::find(name).unwrap();
        let config = WorkerConfig {
            ring_slots: WorkerConfig::ring_slots(&interface),
            interface,
            vlans: vlans.into(),
            busy_poll,
        };
        let ports = Port::open(&config, steering).unwrap();
        ports.into_iter().map(|port| Self::on(port, config.interface.clone(), driver)).collect()
    }

    fn on(port: Port, interface: Interface, driver: DriverKind) -> Self {
        let (tell, events) = mpsc::channel();
        let (orders, inbox) = mpsc::channel();
        let (opened, waker) = mpsc::channel();
        let thread = thread::spawn(move || {
            let worker = Worker::open(port, driver).unwrap();
            opened.send(worker.waker()).unwrap();
            let counters = worker.counters();
            let mut machine = Recorder {
                events: tell,
                orders: inbox,
                queue: VecDeque::new(),
                deadline: None,
                pace: None,
                groups: worker.groups().unwrap(),
                syns: worker.syn_filter().unwrap(),
                queued: None,
                finished: false,
            };
            worker.run(&mut machine).unwrap();
            counters.iter().collect()
        });
        let waker = waker.recv_timeout(PATIENCE).expect("the worker opens");
        Self { interface, waker, orders, events, thread }
    }

    pub fn order(&self, order: Order) {
        self.orders.send(order).unwrap();
        self.waker.wake();
    }

    pub fn next(&self) -> Event {
        self.events.recv_timeout(PATIENCE).expect("something happens")
    }

    pub fn next_frame(&self) -> (Vec<u8>, RxMeta, Nanos) {
        match self.next() {
            Event::Frame { bytes, meta, at } => (bytes, meta, at),
            other => panic!("{other:?} instead of a frame"),
        }
    }

    /// Ends the worker; what it had counted.
    pub fn finish(self) -> Counts {
        self.order(Order::Finish);
        self.thread.join().unwrap()
    }
}

/// The other end: a packet socket with virtio headers, so that it receives frames uncut.
pub struct Peer {
    socket: OwnedFd,
    pub mac: [u8; 6],
}

/// `PACKET_VNET_HDR`'s header.
const VNET_HEADER: usize = 10;

impl Peer {
    pub fn open(name: &str) -> Self {
        let interface = Interface::find(name).unwrap();
        let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        let all = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: no pointers; the result is checked.
        let fd = unsafe { libc::socket(libc::AF_PACKET, flags, 0) };
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        // SAFETY: `fd` was just opened and has no other owner.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let peer = Self { socket, mac: interface.mac };
        peer.set(libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1i32);
        peer.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1i32);
        peer.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 64i32 << 20);
        let patience = libc::timeval { tv_sec: PATIENCE.as_secs() as libc::time_t, tv_usec: 0 };
        peer.set(libc::SOL_SOCKET, libc::SO_RCVTIMEO, patience);
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: all,
            sll_ifindex: interface.index,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let length = size_of_val(&address) as libc::socklen_t;
        // SAFETY: a packet socket takes a sockaddr_ll, valid for the length of the call.
        let bound = unsafe { libc::bind(fd, (&raw const address).cast(), length) };
        assert_eq!(bound, 0, "{}", io::Error::last_os_error());
        peer
    }

    fn set<T>(&self, level: i32, name: i32, value: T) {
        let length = size_of::<T>() as libc::socklen_t;
        let fd = self.socket.as_raw_fd();
        // SAFETY: `value` has its length and is valid for the length of the call.
        let result =
            unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), length) };
        assert_eq!(result, 0, "option {name}: {}", io::Error::last_os_error());
    }

    /// Sends a frame.
    pub fn send(&self, frame: &[u8]) {
        let octets = [&[0; VNET_HEADER], frame].concat();
        let fd = self.socket.as_raw_fd();
        // SAFETY: the octets are valid for their length for the length of the call.
        let sent = unsafe { libc::send(fd, octets.as_ptr().cast(), octets.len(), 0) };
        assert_eq!(sent, octets.len() as isize, "{}", io::Error::last_os_error());
    }

    /// The next frame, without its tag, which the kernel takes out.
    pub fn receive(&self) -> Vec<u8> {
        let mut octets = vec![0; 1 << 17];
        let fd = self.socket.as_raw_fd();
        // SAFETY: the octets are valid for their length for the length of the call.
        let got = unsafe { libc::recv(fd, octets.as_mut_ptr().cast(), octets.len(), 0) };
        assert!(got >= 0, "nothing came: {}", io::Error::last_os_error());
        octets.truncate(got as usize);
        octets.split_off(VNET_HEADER)
    }
}

/// An Ethernet header with or without a tag.
pub fn ethernet(to: [u8; 6], from: [u8; 6], tci: Option<u16>, ethertype: [u8; 2]) -> Vec<u8> {
    let mut octets = [to, from].concat();
    if let Some(tci) = tci {
        octets.extend([0x81, 0]);
        octets.extend(tci.to_be_bytes());
    }
    octets.extend(ethertype);
    octets
}

/// A small frame that says `text`.
pub fn note(to: [u8; 6], from: [u8; 6], tci: Option<u16>, text: &str) -> Vec<u8> {
    let mut octets = ethernet(to, from, tci, EXPERIMENTAL);
    octets.extend(text.as_bytes());
    octets.resize(octets.len().max(64), 0);
    octets
}

/// The payload that a frame with this sequence number carries.
pub fn pattern(sequence: u32, length: usize) -> Vec<u8> {
    (0..length as u32)
        .map(|i| (sequence.wrapping_add(i).wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

/// A TCP segment on the VLAN with checksum and segmentation left to whoever sends it, its
/// payload in two slices.
pub fn segment(to: [u8; 6], from: [u8; 6], sequence: u32, length: usize) -> Outgoing {
    let mut head = ethernet(to, from, Some(VLAN), [8, 0]);
    let ip = head.len();
    let tcp = ip + 20;
    let total = (40 + length) as u16;
    head.extend([0x45, 0]);
    head.extend(total.to_be_bytes());
    head.extend([0, 0, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    let checksum = !sum(&head[ip..]);
    head[ip + 10..ip + 12].copy_from_slice(&checksum.to_be_bytes());
    head.extend([0, 80, 0, 81]);
    head.extend(sequence.to_be_bytes());
    head.extend([0, 0, 0, 0, 5 << 4, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    // The pseudo-header's part of the checksum.
    let mut pseudo = head[ip + 12..tcp].to_vec();
    pseudo.extend([0, 6]);
    pseudo.extend((total - 20).to_be_bytes());
    let pseudo = sum(&pseudo).to_be_bytes();
    head[tcp + 16..tcp + 18].copy_from_slice(&pseudo);
    let payload = Bytes::from(pattern(sequence, length));
    let header_len = head.len() as u16;
    Outgoing {
        head,
        payload: vec![payload.slice(..length / 3), payload.slice(length / 3..)],
        checksum: Some(TxChecksum { start: tcp as u16, offset: 16 }),
        gso: (length > usize::from(SEGMENT)).then_some(Gso {
            kind: GsoKind::TcpV4,
            size: SEGMENT,
            header_len,
        }),
    }
}

/// The folded ones' complement sum.
fn sum(octets: &[u8]) -> u16 {
    let sum: u32 =
        octets.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// How late something may be that waits for a busy machine.
pub fn is_about_now(at: Nanos) -> bool {
    let now = clock::now();
    now.since(at).max(at.since(now)) < PATIENCE
}
