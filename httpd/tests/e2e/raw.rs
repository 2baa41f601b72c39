//! A station that sends what no kernel would: a raw socket in the second pod, and the frames
//! for it, octet by octet.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use tagwire_core::lab::WireSocket;
use tagwire_lab::POD_INTERFACE;

use crate::bed::{ADDRESS, Bed};
use crate::packet::checksum;
pub(crate) use crate::packet::{ACK, BROADCAST, Mac, Packet, RST, SYN, frame, ipv4};

/// The port that the station's segments come from.
const PORT: u16 = 40_000;

/// The hosts, beside the station's own, that it answers for.
const ALIASES: Range<u8> = 200..216;

fn alias(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 123, host)
}

/// What the appliance has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It asks who has this address.
    ArpRequest(Ipv4Addr),
    /// It says where its address is, unasked.
    Announcement,
    ArpReply,
    /// An echo reply with this sequence number.
    Echo(u16),
    /// A segment: flags and acknowledgement number.
    Segment(u8, u32),
    Other(Vec<u8>),
}

/// A raw socket beside the appliance, with an address of its own that no kernel answers for.
pub(crate) struct Station {
    socket: WireSocket,
    pub(crate) mac: Mac,
    pub(crate) address: Ipv4Addr,
    /// The appliance's.
    pub(crate) server: Mac,
    /// 0 in a lab without VLAN: the station's own frames then carry a tag of VID 0, and the
    /// appliance's none.
    pub(crate) vlan: u16,
    sequence: u16,
}

impl Station {
    /// Opens it in the bed's second pod.
    pub(crate) fn open(bed: &Bed) -> Self {
        let (server, own) = (bed.lab().pod(0), bed.lab().pod(1));
        let index = own.namespace().interface_index(POD_INTERFACE).unwrap();
        let socket = own.namespace().run(|| WireSocket::open(index)).unwrap().unwrap();
        Self {
            socket,
            mac: own.mac(),
            address: own.address(),
            server: server.mac(),
            vlan: bed.lab().vlan().unwrap_or(0),
            sequence: 0,
        }
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        self.socket.send(frame).unwrap();
    }

    /// What the appliance sends next, until `deadline`. That it asks for the station's address
    /// is answered and not reported; neither are its probes for its own address (RFC 5227).
    pub(crate) fn hear(&self, deadline: Instant) -> Option<Heard> {
        self.hear_any(deadline).map(|(heard, _)| heard)
    }

    /// The same as a whole frame.
    pub(crate) fn hear_frame(&self, deadline: Instant) -> Option<Vec<u8>> {
        self.hear_any(deadline).map(|(_, frame)| frame)
    }

    fn hear_any(&self, deadline: Instant) -> Option<(Heard, Vec<u8>)> {
        let mut frame = [0; 2048];
        loop {
            if let Some(len) = self.socket.recv(&mut frame).unwrap() {
                match self.heard(&frame[..len]) {
                    Some(Heard::ArpRequest(target))
                        if target == self.address
                            || ALIASES.map(alias).any(|own| own == target) =>
                    {
                        self.send(&self.ethernet(&self.arp(2, target, ADDRESS)));
                    }
                    Some(heard) => return Some((heard, frame[..len].to_vec())),
                    None => {}
                }
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
            poll(&mut fds, Some(&left.try_into().unwrap())).unwrap();
        }
    }

    /// What a frame is, if it comes from the appliance and is for the station or for all.
    fn heard(&self, frame: &[u8]) -> Option<Heard> {
        if frame[6..12] != self.server || (frame[..6] != self.mac && frame[0] & 1 == 0) {
            return None;
        }
        let tag = [0x81, 0x00, (self.vlan >> 8) as u8, self.vlan as u8];
        let at = match (self.vlan, frame[12..16] == tag) {
            (0, _) => 14,
            (_, true) => 18,
            (_, false) => return Some(Heard::Other(frame.to_vec())),
        };
        let body = &frame[at..];
        let address =
            |at: usize| Ipv4Addr::from([body[at], body[at + 1], body[at + 2], body[at + 3]]);
        Some(match (&frame[at - 2..at], body[7], body.get(20)) {
            ([0x08, 0x06], 1, _) if address(24) == ADDRESS && address(14).is_unspecified() => {
                return None;
            }
            ([0x08, 0x06], 1, _) if address(14) == address(24) => Heard::Announcement,
            ([0x08, 0x06], 1, _) => Heard::ArpRequest(address(24)),
            ([0x08, 0x06], 2, _) => Heard::ArpReply,
            ([0x08, 0x00], ..) if body[9] == 1 && body[20] == 0 => {
                Heard::Echo(u16::from_be_bytes([body[26], body[27]]))
            }
            ([0x08, 0x00], ..) if body[9] == 6 => {
                let ack = u32::from_be_bytes([body[28], body[29], body[30], body[31]]);
                Heard::Segment(body[33], ack)
            }
            _ => Heard::Other(frame.to_vec()),
        })
    }

    /// An echo request that must be answered: what else the appliance has sent until then. A
    /// worker works in order, so its answer to what was sent before is among it.
    pub(crate) fn heard_before_echo(&mut self) -> Vec<Heard> {
        self.heard_before_echo_to(self.address)
    }

    /// What the appliance has sent until each of its workers, however many, has answered: the
    /// kernel gives each some of the echo requests of so many addresses.
    pub(crate) fn heard_before_echoes(&mut self) -> Vec<Heard> {
        ALIASES.flat_map(|host| self.heard_before_echo_to(alias(host))).collect()
    }

    fn heard_before_echo_to(&mut self, address: Ipv4Addr) -> Vec<Heard> {
        self.sequence += 1;
        let echo = ipv4(1, address, ADDRESS, &icmp(8, self.sequence));
        self.send(&self.ethernet(&echo));
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut before = Vec::new();
        loop {
            match self.hear(deadline) {
                Some(Heard::Echo(sequence)) if sequence == self.sequence => return before,
                Some(heard) => before.push(heard),
                None => panic!("no answer to an echo request; before: {before:?}"),
            }
        }
    }

    /// A frame to the appliance, as it should be.
    pub(crate) fn ethernet(&self, packet: &Packet) -> Vec<u8> {
        frame(self.server, self.mac, &[self.vlan], packet)
    }

    /// An ARP packet from the station's MAC address.
    pub(crate) fn arp(&self, operation: u8, sender: Ipv4Addr, target: Ipv4Addr) -> Packet {
        let mut octets = vec![0, 1, 0x08, 0, 6, 4, 0, operation];
        octets.extend(self.mac);
        octets.extend(sender.octets());
        octets.extend(if operation == 1 { [0; 6] } else { self.server });
        octets.extend(target.octets());
        Packet { ethertype: 0x0806, octets }
    }

    pub(crate) fn echo_request(&self, sequence: u16) -> Packet {
        self.icmp(8, sequence)
    }

    /// An ICMP message in the form of an echo.
    pub(crate) fn icmp(&self, kind: u8, sequence: u16) -> Packet {
        ipv4(1, self.address, ADDRESS, &icmp(kind, sequence))
    }

    /// A segment without data to the port that is served.
    pub(crate) fn segment(&self, flags: u8, sequence: u32) -> Packet {
        self.segment_to(80, self.address, ADDRESS, flags, sequence)
    }

    pub(crate) fn segment_to(
        &self,
        port: u16,
        from: Ipv4Addr,
        to: Ipv4Addr,
        flags: u8,
        sequence: u32,
    ) -> Packet {
        let mut segment = [PORT.to_be_bytes(), port.to_be_bytes()].concat();
        segment.extend(sequence.to_be_bytes());
        segment.extend([0, 0, 0, 0, 5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        let mut pseudo = [from.octets(), to.octets()].concat();
        pseudo.extend([0, 6, 0, segment.len() as u8]);
        let sum = checksum(&[pseudo, segment.clone()].concat());
        segment[16..18].copy_from_slice(&sum);
        ipv4(6, from, to, &segment)
    }
}

/// An ICMP message in the form of an echo.
fn icmp(kind: u8, sequence: u16) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0x12, 0x34];
    message.extend(sequence.to_be_bytes());
    message.extend([0xa5; 32]);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum);
    message
}
