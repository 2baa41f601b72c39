//! The other end: smoltcp, with its own Ethernet, ARP and TCP, and an application for each of
//! its sockets.

use std::cell::Cell;
use std::collections::VecDeque;
use std::time::Duration;

use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr, IpEndpoint};
use tagwire_netstack::Instant;

use crate::rng::Rng;
use crate::scenario::{
    Abort, ClientCloses, FIRST_PORT, OUR_IP, PEER, PEER_IP, Plan, Scenario, octet,
};

thread_local! {
    /// smoltcp's timestamp clock takes no argument; this is its virtual time.
    static MILLIS: Cell<u32> = const { Cell::new(0) };
}

/// The frames between smoltcp and the wire.
#[derive(Debug)]
struct Port {
    mtu: usize,
    arrived: VecDeque<Vec<u8>>,
    leaving: Vec<Vec<u8>>,
}

pub(crate) struct Received(Vec<u8>);
pub(crate) struct Leaving<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        self.0.push(frame);
        result
    }
}

impl Device for Port {
    type RxToken<'a> = Received;
    type TxToken<'a> = Leaving<'a>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Received, Leaving<'_>)> {
        let frame = self.arrived.pop_front()?;
        Some((Received(frame), Leaving(&mut self.leaving)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Leaving<'_>> {
        Some(Leaving(&mut self.leaving))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + 14;
        capabilities
    }
}

#[derive(Debug)]
struct Conn {
    handle: SocketHandle,
    connected: bool,
    sent: usize,
    received: usize,
    closed: bool,
    read_at: Option<Instant>,
}

/// smoltcp with one socket for each plan.
pub(crate) struct Client {
    port: Port,
    interface: Interface,
    sockets: SocketSet<'static>,
    conns: Vec<Conn>,
}

fn smol(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros((now.as_nanos() / 1000) as i64)
}

impl Client {
    pub(crate) fn new(scenario: &Scenario, seed: u64, now: Instant) -> Self {
        let mtu = usize::from(scenario.peer_mtu);
        let mut port = Port { mtu, arrived: VecDeque::new(), leaving: Vec::new() };
        let mut config = smoltcp::iface::Config::new(EthernetAddress(PEER.0).into());
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut port, smol(now));
        interface.update_ip_addrs(|addresses| {
            let address = IpCidr::new(IpAddress::Ipv4(PEER_IP), 24);
            addresses.push(address).expect("room for one address");
        });
        let mut sockets = SocketSet::new(Vec::new());
        let conns = scenario.plans.iter().map(|plan| conn(&mut sockets, plan)).collect();
        Self { port, interface, sockets, conns }
    }

    /// A frame has arrived.
    pub(crate) fn arrive(&mut self, frame: Vec<u8>) {
        self.port.arrived.push_back(frame);
    }

    /// Lets smoltcp and the applications do what they can; returns the frames that leave.
    pub(crate) fn run(
        &mut self,
        now: Instant,
        start: Instant,
        plans: &[Plan],
        rng: &mut Rng,
    ) -> Vec<Vec<u8>> {
        MILLIS.set(now.as_millis() as u32);
        self.interface.poll(smol(now), &mut self.port, &mut self.sockets);
        for (k, plan) in plans.iter().enumerate() {
            self.application(k, now, start, plan, rng);
        }
        self.interface.poll(smol(now), &mut self.port, &mut self.sockets);
        std::mem::take(&mut self.port.leaving)
    }

    fn application(&mut self, k: usize, now: Instant, start: Instant, plan: &Plan, rng: &mut Rng) {
        let conn = &mut self.conns[k];
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(conn.handle);
        if !conn.connected {
            if now >= start + plan.start {
                let remote = IpEndpoint::new(IpAddress::Ipv4(OUR_IP), 80);
                let context = self.interface.context();
                socket.connect(context, remote, FIRST_PORT + k as u16).expect("a free socket");
                conn.connected = true;
            }
            return;
        }
        while socket.can_send() && conn.sent < plan.upload {
            let piece = (rng.between(1, 5_000) as usize).min(plan.upload - conn.sent);
            let data: Vec<u8> =
                (conn.sent..conn.sent + piece).map(|at| octet(k, true, at)).collect();
            conn.sent += socket.send_slice(&data).expect("it can send");
        }
        if socket.can_recv() && conn.read_at.is_none() {
            let pause = plan.read_pause.as_nanos() as u64;
            conn.read_at = Some(now + Duration::from_nanos(rng.between(0, pause)));
        }
        if conn.read_at.is_some_and(|at| at <= now) {
            conn.read_at = None;
            while socket.can_recv() {
                let base = conn.received;
                let read = |octets: &mut [u8]| {
                    for (index, got) in octets.iter().enumerate() {
                        let at = base + index;
                        assert_eq!(*got, octet(k, false, at), "client {k} got another at {at}");
                    }
                    (octets.len(), octets.len())
                };
                conn.received += socket.recv(read).expect("it can receive");
            }
        }
        if let Some(Abort::Client(at)) = plan.abort
            && conn.received >= at.min(plan.download)
            && !conn.closed
            && socket.may_send()
        {
            socket.abort();
            conn.closed = true;
        }
        let due = match plan.client_closes {
            ClientCloses::AfterUpload => true,
            ClientCloses::AfterDownload => !socket.may_recv() && conn.read_at.is_none(),
        };
        let up = !matches!(socket.state(), tcp::State::SynSent | tcp::State::Closed);
        if conn.sent == plan.upload && due && up && !conn.closed {
            socket.close();
            conn.closed = true;
        }
    }

    pub(crate) fn next(&mut self, now: Instant, start: Instant, plans: &[Plan]) -> Option<Instant> {
        let poll = self
            .interface
            .poll_at(smol(now), &self.sockets)
            .map(|at| Instant::from_nanos(at.total_micros().max(0) as u64 * 1000));
        let starts = self.conns.iter().zip(plans).filter(|(conn, _)| !conn.connected);
        let starts = starts.map(|(_, plan)| start + plan.start);
        starts.chain(self.conns.iter().filter_map(|conn| conn.read_at)).chain(poll).min()
    }

    /// Grows with all that is received.
    pub(crate) fn progress(&self) -> usize {
        self.conns.iter().map(|conn| conn.received).sum()
    }

    /// Octets that client `k` has received.
    pub(crate) fn received(&self, k: usize) -> usize {
        self.conns[k].received
    }

    /// Whether every socket is closed, and read to its end.
    pub(crate) fn is_done(&self) -> bool {
        self.conns.iter().all(|conn| {
            let socket = self.sockets.get::<tcp::Socket<'_>>(conn.handle);
            let over = matches!(socket.state(), tcp::State::Closed | tcp::State::TimeWait);
            conn.connected && over && conn.read_at.is_none() && !socket.can_recv()
        })
    }

    /// What the sockets are at, for a report.
    pub(crate) fn describe(&self) -> String {
        let state = |conn: &Conn| {
            let state = self.sockets.get::<tcp::Socket<'_>>(conn.handle).state();
            format!("{state:?} {conn:?}")
        };
        self.conns.iter().map(state).collect::<Vec<_>>().join("\n")
    }
}

fn conn(sockets: &mut SocketSet<'static>, plan: &Plan) -> Conn {
    let buffer = |octets: usize| tcp::SocketBuffer::new(vec![0; octets]);
    let mut socket = tcp::Socket::new(buffer(plan.client_rx), buffer(plan.client_tx));
    socket.set_nagle_enabled(plan.nagle);
    if !plan.client_ack_delay {
        socket.set_ack_delay(None);
    }
    if plan.timestamps {
        socket.set_tsval_generator(Some(|| MILLIS.get()));
    }
    // smoltcp 0.14 takes its window from every segment, the overtaken ones too, and where that
    // was a closed window whose data is all acknowledged, it neither sends nor probes any
    // more. The answer to a keepalive tells it the true one.
    socket.set_keep_alive(Some(smoltcp::time::Duration::from_secs(60)));
    if plan.abort.is_some() {
        // A reset may be lost; then silence must end what is left.
        socket.set_timeout(Some(smoltcp::time::Duration::from_secs(200)));
    }
    let handle = sockets.add(socket);
    Conn { handle, connected: false, sent: 0, received: 0, closed: false, read_at: None }
}
