//! A host that the test is: a MAC address and IP addresses which no kernel owns, answers to who
//! asks for them, and markers that prove that a frame went unanswered.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use crate::hub::{Frame, Hub};
use crate::ip::{self, Datagram};
use crate::packet::{BROADCAST, Mac, Packet};
use crate::subjects::Subject;

/// How long an answer may take that must come. The machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) const ARP: u16 = 0x0806;
pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const IPV6: u16 = 0x86dd;
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

/// The family that a case runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

pub(crate) struct Host {
    hub: Arc<Hub>,
    frames: Receiver<Frame>,
    pub(crate) mac: Mac,
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Ipv6Addr,
    pub(crate) family: Family,
    pub(crate) subject: Subject,
    /// Whether it tells who asks where its addresses are; else the questions are heard.
    pub(crate) answers_neighbours: bool,
    marks: u16,
}

impl Host {
    /// Host `number` of the suite.
    pub(crate) fn new(hub: Arc<Hub>, subject: Subject, number: u8, family: Family) -> Self {
        // Of IPv6 addresses there are enough for each case to have a new one.
        static NEXT: AtomicU16 = AtomicU16::new(1);
        let unused = NEXT.fetch_add(1, Ordering::Relaxed);
        let mac = [0x02, 0x74, 0x77, 0x00, 0x02, number];
        Self {
            frames: hub.plug(mac),
            hub,
            mac,
            v4: Ipv4Addr::new(192, 168, 123, number),
            v6: Ipv6Addr::new(0xfd00, 0x123, 0, 0, 0, 0, 2, unused),
            family,
            subject,
            answers_neighbours: true,
            marks: 0,
        }
    }

    /// A port that no other case has: an address may be used before, and its connections be
    /// in TIME-WAIT.
    pub(crate) fn port(&mut self) -> u16 {
        static NEXT: AtomicU16 = AtomicU16::new(10_000);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    /// This host's address in the case's family.
    pub(crate) fn own(&self) -> IpAddr {
        match self.family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }

    /// The subject's.
    pub(crate) fn theirs(&self) -> IpAddr {
        match self.family {
            Family::V4 => self.subject.v4.into(),
            Family::V6 => self.subject.v6.into(),
        }
    }

    /// Sends a packet in a frame to a MAC address.
    pub(crate) fn send_to(&self, mac: Mac, packet: &Packet) {
        self.hub.send(mac, self.mac, packet);
    }

    /// Sends a packet in a frame to the subject.
    pub(crate) fn send(&self, packet: &Packet) {
        self.send_to(self.subject.mac, packet);
    }

    /// Sends what an IP packet of the case's family carries.
    pub(crate) fn send_ip(&self, protocol: u8, payload: &[u8]) {
        self.send(&ip::packet(protocol, self.own(), self.theirs(), payload));
    }

    /// The next frame of the subject until `deadline`. What asks for this host's address is
    /// answered and not reported.
    pub(crate) fn hear(&self, deadline: Instant) -> Option<Frame> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let frame = self.frames.recv_timeout(left).ok()?;
            if frame.from != self.subject.mac {
                continue;
            }
            if !self.answers_neighbours || !self.is_neighbour_request(&frame.packet) {
                return Some(frame);
            }
            self.answer_neighbour(&frame.packet);
        }
    }

    fn is_neighbour_request(&self, packet: &Packet) -> bool {
        match packet.ethertype {
            ARP => packet.octets[7] == 1 && packet.octets[24..28] == self.v4.octets(),
            IPV6 => {
                packet.octets.len() >= 64
                    && packet.octets[6] == ICMPV6
                    && packet.octets[40] == 135
                    && packet.octets[48..64] == self.v6.octets()
            }
            _ => false,
        }
    }

    fn answer_neighbour(&self, request: &Packet) {
        if request.ethertype == ARP {
            self.send(&self.arp(2, self.v4, self.subject.v4));
        } else {
            self.send(&self.advertisement());
        }
    }

    /// An ARP packet from this host's MAC address.
    pub(crate) fn arp(&self, operation: u8, sender: Ipv4Addr, target: Ipv4Addr) -> Packet {
        let mut octets = vec![0, 1, 0x08, 0, 6, 4, 0, operation];
        octets.extend(self.mac);
        octets.extend(sender.octets());
        octets.extend(if operation == 1 { [0; 6] } else { self.subject.mac });
        octets.extend(target.octets());
        Packet { ethertype: ARP, octets }
    }

    /// The neighbour advertisement for this host's address, solicited, overriding.
    fn advertisement(&self) -> Packet {
        let mut body = vec![136, 0, 0, 0, 0x60, 0, 0, 0];
        body.extend(self.v6.octets());
        body.extend([2, 1]);
        body.extend(self.mac);
        let to = self.subject.v6;
        let body = ip::with_checksum(ICMPV6, self.v6.into(), to.into(), body, 2);
        ip::v6_with_hop_limit(255, ICMPV6, self.v6, to, &body)
    }

    /// Frames of the subject that are datagrams for this host, until `deadline`.
    pub(crate) fn hear_ip(&self, deadline: Instant) -> Option<Datagram> {
        loop {
            if let Some(datagram) = Datagram::of(&self.hear(deadline)?)
                && (datagram.to == IpAddr::V4(self.v4) || datagram.to == IpAddr::V6(self.v6))
            {
                return Some(datagram);
            }
        }
    }

    /// The first datagram within [`PATIENCE`] that `wanted` takes; others are passed over.
    #[track_caller]
    pub(crate) fn expect_ip<T>(
        &self,
        what: &str,
        mut wanted: impl FnMut(&Datagram) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut others = Vec::new();
        while let Some(datagram) = self.hear_ip(deadline) {
            if let Some(found) = wanted(&datagram) {
                return found;
            }
            others.push(datagram.to_string());
        }
        panic!("{what}: it did not come; what came: {others:?}");
    }

    /// An echo request from this host, in the case's family.
    pub(crate) fn echo(&self, id: u16, sequence: u16, data: &[u8]) -> Vec<u8> {
        let mut message = vec![if self.family == Family::V4 { 8 } else { 128 }, 0, 0, 0];
        message.extend(id.to_be_bytes());
        message.extend(sequence.to_be_bytes());
        message.extend(data);
        ip::icmp(self.own(), self.theirs(), message)
    }

    /// What comes before the answer to an echo request that is sent now. The subject handles
    /// frames in their order: what it had to say at once to the frames before is among it.
    /// Twice, since an answer by TCP may be put together only after one by ICMP.
    #[track_caller]
    pub(crate) fn before_marker(&mut self) -> Vec<Frame> {
        let mut before = Vec::new();
        for _ in 0..2 {
            self.marks += 1;
            let (id, mark) = (0x4d4b, self.marks);
            self.send_ip(ip::icmp_protocol(self.own()), &self.echo(id, mark, b""));
            self.hear_until("no answer to the marker", &mut before, |frame| {
                Datagram::of(frame).is_some_and(|it| it.is_echo_reply(id, mark))
            });
        }
        before
    }

    /// The same behind a frame for a group, which takes another way through a node than a frame
    /// for one: the marker is an ARP request to all.
    #[track_caller]
    pub(crate) fn before_broadcast_marker(&mut self) -> Vec<Frame> {
        let (_, mut before) = self.resolve(BROADCAST);
        before.extend(self.before_marker());
        before
    }

    /// The answer to an ARP request for the subject's address, and what comes before it. It is
    /// asked again: a subject need not answer each of many requests of one host.
    #[track_caller]
    pub(crate) fn resolve(&mut self, to: Mac) -> (Frame, Vec<Frame>) {
        let mut before = Vec::new();
        for _ in 0..20 {
            self.send_to(to, &self.arp(1, self.v4, self.subject.v4));
            let deadline = Instant::now() + PATIENCE / 20;
            while let Some(frame) = self.hear(deadline) {
                if frame.packet.ethertype == ARP && frame.to == self.mac {
                    return (frame, before);
                }
                before.push(frame);
            }
        }
        panic!("no answer to ARP; before: {before:?}");
    }

    #[track_caller]
    fn hear_until(
        &self,
        what: &str,
        before: &mut Vec<Frame>,
        mut is_it: impl FnMut(&Frame) -> bool,
    ) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.hear(deadline) {
                Some(frame) if is_it(&frame) => return,
                Some(frame) => before.push(frame),
                None => panic!("{what}; before: {before:?}"),
            }
        }
    }

    /// Datagrams for this host before the marker.
    #[track_caller]
    pub(crate) fn datagrams_before_marker(&mut self) -> Vec<Datagram> {
        let own = [IpAddr::V4(self.v4), IpAddr::V6(self.v6)];
        self.before_marker()
            .iter()
            .filter_map(Datagram::of)
            .filter(|it| own.contains(&it.to))
            .collect()
    }

    /// Nothing comes for this host: what was sent before is not answered.
    #[track_caller]
    pub(crate) fn expect_silence(&mut self, what: &str) {
        let heard = self.datagrams_before_marker();
        assert!(heard.is_empty(), "{what} was answered: {}", ip::list(&heard));
    }

    /// The same for a frame that went to a group.
    #[track_caller]
    pub(crate) fn expect_silence_to_broadcast(&mut self, what: &str) {
        let own = IpAddr::V4(self.v4);
        let frames = self.before_broadcast_marker();
        let heard: Vec<Datagram> =
            frames.iter().filter_map(Datagram::of).filter(|it| it.to == own).collect();
        assert!(heard.is_empty(), "{what} was answered: {}", ip::list(&heard));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.hub.unplug(self.mac);
    }
}
