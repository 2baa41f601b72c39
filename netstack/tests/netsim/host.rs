//! A host that runs our stack, with an application on each of its connections.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use bytes::{Bytes, BytesMut};
use tagwire_netstack::wire::arp::{self, ArpPacket, Operation};
use tagwire_netstack::wire::ethernet;
use tagwire_netstack::wire::vlan::VlanStack;
use tagwire_netstack::{
    Acd, CloseReason, Config, ConnId, Counts, FrameMeta, Instant, Ipv4Cidr, MIN_BUFFER, MacAddr,
    Offload, Recv, Stack, TcpConfig,
};

use crate::app::{App, LOW_WATER, Plan, Socket};
use crate::link;
use crate::path::Frame;
use crate::pattern::Pattern;

/// What a host is made from.
#[derive(Clone, Debug)]
pub(crate) struct HostConfig {
    pub(crate) mac: MacAddr,
    pub(crate) ip: Ipv4Addr,
    pub(crate) mtu: u16,
    pub(crate) secret: u64,
    pub(crate) offload: Offload,
    pub(crate) tcp: TcpConfig,
}

impl HostConfig {
    pub(crate) fn neighbor(&self) -> (Ipv4Addr, MacAddr) {
        (self.ip, self.mac)
    }

    pub(crate) fn stack(&self, now: Instant) -> Stack {
        let mut secret = [0; 16];
        secret[..8].copy_from_slice(&self.secret.to_be_bytes());
        let config = Config {
            mac: self.mac,
            vlan: VlanStack::UNTAGGED,
            pcp: 0,
            mtu: self.mtu,
            addresses: vec![Ipv4Cidr { address: self.ip, prefix: 24 }.into()],
            gateway: None,
            gateway6: None,
            acd: Acd::default(),
            slaac: false,
            passive: false,
            stable_secret: None,
            secret,
            offload: self.offload,
            tcp: self.tcp.clone(),
        };
        let mut stack = Stack::new(config, now);
        stack.listen(80);
        stack
    }
}

/// A connection of the stack, as its application sees it.
struct Conn<'a> {
    stack: &'a mut Stack,
    id: ConnId,
}

impl Socket for Conn<'_> {
    fn read(&mut self, pattern: Pattern, offset: u64) -> (u64, bool) {
        let mut octets = 0;
        loop {
            let mut into = BytesMut::new();
            match self.stack.recv(self.id, &mut into) {
                Recv::Data(_) => {
                    pattern.check(offset + octets, &into);
                    octets += into.len() as u64;
                }
                Recv::Finished => return (octets, true),
                Recv::Pending | Recv::Closed(_) => return (octets, false),
            }
        }
    }

    fn wants_more(&mut self) -> bool {
        self.stack.notify_below(self.id, LOW_WATER)
    }

    fn send(&mut self, data: Bytes) {
        self.stack.send(self.id, data).expect("an open connection");
    }

    fn shutdown(&mut self) {
        self.stack.shutdown(self.id);
    }
}

pub(crate) struct Host {
    pub(crate) config: HostConfig,
    pub(crate) stack: Stack,
    /// By the client's port: which flow it is, whether this end is its client, and its plan.
    flows: BTreeMap<u16, (usize, bool, Plan)>,
    conns: BTreeMap<ConnId, (usize, App)>,
    /// By flow.
    pub(crate) done: BTreeMap<usize, App>,
    buffer_len: usize,
}

impl Host {
    pub(crate) fn new(config: HostConfig, now: Instant) -> Self {
        Self {
            stack: config.stack(now),
            config,
            flows: BTreeMap::new(),
            conns: BTreeMap::new(),
            done: BTreeMap::new(),
            buffer_len: MIN_BUFFER,
        }
    }

    /// Expects a connection with this client's port.
    pub(crate) fn expect(&mut self, port: u16, flow: usize, client: bool, plan: Plan) {
        self.flows.insert(port, (flow, client, plan));
    }

    /// Lets it know where a neighbour is, as the question of that one for it does.
    pub(crate) fn meet(&mut self, now: Instant, ip: Ipv4Addr, mac: MacAddr) {
        let request = ArpPacket {
            operation: Operation::Request,
            sender_mac: mac,
            sender: ip,
            target_mac: MacAddr::ZERO,
            target: self.config.ip,
        };
        let frame = arp_frame(self.config.mac, &request);
        self.stack.handle_frame(now, &frame, &FrameMeta::default());
        // What it answers and announces goes nowhere.
        self.drain(now);
    }

    pub(crate) fn arrive(&mut self, now: Instant, frame: &Frame) {
        self.stack.handle_frame(now, &frame.octets, &FrameMeta::default());
    }

    /// Does all that is due; the frames that leave.
    pub(crate) fn run(&mut self, now: Instant) -> Vec<Vec<u8>> {
        if self.stack.poll_timeout().is_some_and(|at| at <= now) {
            self.stack.handle_timeout(now);
            let next = self.stack.poll_timeout();
            assert!(next.is_none_or(|at| at > now), "a timeout that stays due");
        }
        let mut touched = Vec::new();
        while let Some((id, events)) = self.stack.poll_event() {
            if events.accepted {
                let ends = self.stack.addresses(id).expect("a connection has addresses");
                // The other port is that of the service.
                let port = ends.remote.port.max(ends.local.port);
                let (flow, client, plan) = self.flows[&port].clone();
                let app = App::new(plan, flow, client, now);
                assert!(self.conns.insert(id, (flow, app)).is_none());
            }
            touched.push(id);
        }
        let due = self.conns.iter().filter(|(_, (_, app))| app.next().is_some_and(|at| at <= now));
        touched.extend(due.map(|(id, _)| *id));
        touched.sort();
        touched.dedup();
        for id in touched {
            let (flow, app) = self.conns.get_mut(&id).expect("no events after a release");
            app.run(now, &mut Conn { stack: &mut self.stack, id });
            let reason = self.stack.closed(id);
            assert!(
                matches!(reason, None | Some(CloseReason::Finished)) || app.is_done(),
                "flow {flow} ended by {reason:?}: {app:?}\n{:?}",
                self.stack.stats()
            );
            if app.is_done() {
                self.stack.release(now, id);
                let (flow, app) = self.conns.remove(&id).expect("a connection that was just seen");
                self.done.insert(flow, app);
            }
        }
        self.drain(now)
    }

    fn drain(&mut self, now: Instant) -> Vec<Vec<u8>> {
        link::drain(&mut self.stack, now, self.buffer_len, usize::from(self.config.mtu))
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        let apps = self.conns.values().filter_map(|(_, app)| app.next());
        apps.chain(self.stack.poll_timeout()).min()
    }

    /// Every connection was served, and the stack has forgotten it.
    pub(crate) fn is_done(&self) -> bool {
        self.done.len() == self.flows.len() && self.stack.counts() == Counts::default()
    }
}

/// An ARP packet in a frame to `to`.
pub(crate) fn arp_frame(to: MacAddr, packet: &ArpPacket) -> Vec<u8> {
    let mut frame = Vec::with_capacity(42);
    frame.extend(to.0);
    frame.extend(packet.sender_mac.0);
    frame.extend(ethernet::ETHERTYPE_ARP.to_be_bytes());
    let mut octets = [0; arp::PACKET_LEN];
    arp::emit(&mut octets, packet);
    frame.extend(octets);
    frame
}

/// The answer to a question for `ip`, if the frame asks it.
pub(crate) fn answer_arp(frame: &[u8], ip: Ipv4Addr, mac: MacAddr) -> Option<Vec<u8>> {
    let frame = ethernet::parse(frame).ok()?;
    let packet = arp::parse(frame.payload).ok()?;
    if frame.ethertype != ethernet::ETHERTYPE_ARP
        || packet.operation != Operation::Request
        || packet.target != ip
    {
        return None;
    }
    let reply = ArpPacket {
        operation: Operation::Reply,
        sender_mac: mac,
        sender: ip,
        target_mac: packet.sender_mac,
        target: packet.sender,
    };
    Some(arp_frame(packet.sender_mac, &reply))
}
