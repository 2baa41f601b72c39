//! Segments that show the kernel no ports, as they come in fragments or behind extension headers:
//! the first worker gets them, and another one has the connection.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use tagwire_lab::Lab;

use crate::bed::{ADDRESS, ADDRESS_V6, Bed, wait_until};
use crate::packet::checksum;
use crate::raw::{ACK, Packet, SYN, Station, ipv4};

const PUSH: u8 = 0x08;
const TCP: u8 = 6;
const STATION: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x123, 0, 0, 0, 0, 0, 0x77);

/// Which way a connection's segments go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detour {
    /// RFC 791 3.2.
    Fragments,
    /// RFC 8200 4.6.
    DestinationOptions,
}

/// A connection of the station's, from one of its ports.
pub(crate) struct Connection<'a> {
    pub(crate) station: &'a Station,
    pub(crate) port: u16,
    pub(crate) detour: Detour,
}

/// What a frame of the appliance carries for TCP, its tag of four octets included.
fn segment_of(frame: &[u8]) -> Option<&[u8]> {
    match (&frame[16..18], frame[18..].get(9), frame[18..].get(6)) {
        ([0x08, 0x00], Some(&TCP), _) => Some(&frame[38..]),
        ([0x86, 0xdd], _, Some(&TCP)) => Some(&frame[58..]),
        _ => None,
    }
}

fn number(octets: &[u8]) -> u32 {
    u32::from_be_bytes(octets[..4].try_into().unwrap())
}

impl Connection<'_> {
    fn addresses(&self) -> (IpAddr, IpAddr) {
        match self.detour {
            Detour::Fragments => (self.station.address.into(), ADDRESS.into()),
            Detour::DestinationOptions => (STATION.into(), ADDRESS_V6.into()),
        }
    }

    /// A segment with an MSS option, so that a header with a fragment of its own is left over.
    pub(crate) fn segment(&self, flags: u8, seq: u32, ack: u32, data: &[u8]) -> Vec<u8> {
        let mut segment = [self.port.to_be_bytes(), 80u16.to_be_bytes()].concat();
        segment.extend(seq.to_be_bytes());
        segment.extend(ack.to_be_bytes());
        segment.extend([7 << 4, flags, 0xff, 0xff, 0, 0, 0, 0, 2, 4, 0x05, 0x00, 1, 1, 1, 0]);
        segment.extend(data);
        let mut pseudo = match self.addresses() {
            (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
            (IpAddr::V6(from), IpAddr::V6(to)) => [from.octets(), to.octets()].concat(),
            _ => unreachable!("both of one family"),
        };
        pseudo.extend([0, TCP]);
        pseudo.extend((segment.len() as u16).to_be_bytes());
        let sum = checksum(&[&pseudo[..], &segment].concat());
        segment[16..18].copy_from_slice(&sum);
        segment
    }

    /// As no detour would have it.
    pub(crate) fn send_plainly(&self, segment: &[u8]) {
        let packet = match self.detour {
            Detour::Fragments => ipv4(TCP, self.station.address, ADDRESS, segment),
            Detour::DestinationOptions => ipv6(TCP, segment),
        };
        self.station.send(&self.station.ethernet(&packet));
    }

    fn send(&self, segment: &[u8]) {
        match self.detour {
            Detour::Fragments => {
                let (first, second) = segment.split_at(24);
                for (part, place) in [(second, [0, 3]), (first, [0x20, 0])] {
                    let mut packet = ipv4(TCP, self.station.address, ADDRESS, part);
                    packet.octets[4..6].copy_from_slice(&self.port.to_be_bytes());
                    packet.octets[6..8].copy_from_slice(&place);
                    self.station.send(&self.station.ethernet(&packet.summed()));
                }
            }
            Detour::DestinationOptions => {
                let payload = [&[TCP, 0, 1, 4, 0, 0, 0, 0], segment].concat();
                self.station.send(&self.station.ethernet(&ipv6(60, &payload)));
            }
        }
    }

    /// The appliance's next segment to this port.
    fn hear(&self) -> Vec<u8> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let frame = self.station.hear_frame(deadline).expect("it answers");
            let segment = segment_of(&frame);
            if let Some(segment) = segment.filter(|it| it[2..4] == self.port.to_be_bytes()) {
                return segment.to_vec();
            }
        }
    }

    /// The handshake; its last acknowledgement goes plainly. What the appliance's data begins
    /// with; the station's begins with 1000.
    pub(crate) fn open(&self) -> u32 {
        self.send(&self.segment(SYN, 999, 0, &[]));
        let answer = self.hear();
        assert_eq!((answer[13], number(&answer[8..])), (SYN | ACK, 1000), "port {}", self.port);
        let theirs = number(&answer[4..]).wrapping_add(1);
        // What the kernel gives to the worker that it thinks has the connection.
        self.send_plainly(&self.segment(ACK, 1000, theirs, &[]));
        theirs
    }

    /// A request and its answer, and a reset that goes plainly.
    fn is_served(&self) {
        let theirs = self.open();
        let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        self.send(&self.segment(ACK | PUSH, 1000, theirs, request));
        let data = loop {
            let answer = self.hear();
            assert_eq!(answer[13] & !PUSH, ACK, "port {}", self.port);
            let header = usize::from(answer[12] >> 4) * 4;
            if answer.len() > header {
                break answer[header..].to_vec();
            }
        };
        assert!(data.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&data));
        self.send_plainly(&self.segment(0x04, 1000 + request.len() as u32, 0, &[]));
    }
}

/// RFC 4861 4.3: the station asks for the appliance, which so gets to know it.
fn introduce(station: &Station) {
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(ADDRESS_V6.octets());
    message.extend([1, 1]);
    message.extend(station.mac);
    let mut pseudo = [STATION.octets(), ADDRESS_V6.octets()].concat();
    pseudo.extend([0, 0, 0, message.len() as u8, 0, 0, 0, 58]);
    let sum = checksum(&[pseudo, message.clone()].concat());
    message[2..4].copy_from_slice(&sum);
    let mut packet = ipv6(58, &message);
    packet.octets[7] = 255;
    station.send(&station.ethernet(&packet));
}

fn ipv6(next: u8, payload: &[u8]) -> Packet {
    let mut octets = vec![0x60, 0, 0, 0];
    octets.extend((payload.len() as u16).to_be_bytes());
    octets.extend([next, 64]);
    octets.extend(STATION.octets());
    octets.extend(ADDRESS_V6.octets());
    octets.extend(payload);
    Packet { ethertype: 0x86dd, octets }
}

fn served_by(workers: usize, detour: Detour) {
    let Some(mut bed) = Bed::down(Lab::builder().pods(2).ipv6()) else { return };
    let workers = workers.to_string();
    bed.start_at(&["192.168.123.150/24", "fd00:123::150/64"], &["--workers", &workers]);
    let station = Station::open(&bed);
    introduce(&station);
    for port in 40_000..40_024 {
        Connection { station: &station, port, detour }.is_served();
    }
    let status = bed.status();
    assert_eq!(status["stack"]["tcp_accepted"], 24);
    assert_eq!(status["stack"]["tcp_reset_out"], 0);
    assert_eq!(status["driver"]["notes_lost"], 0);
    let accepted: Vec<_> = status["workers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|worker| worker["stack"]["tcp_accepted"].as_u64().unwrap())
        .collect();
    assert!(accepted.iter().all(|count| *count > 0), "{accepted:?}");
    bed.finish();
}

#[test]
fn fragments_reach_the_one_of_two_workers_that_has_the_connection() {
    served_by(2, Detour::Fragments);
}

#[test]
fn fragments_reach_the_one_of_four_workers_that_has_the_connection() {
    served_by(4, Detour::Fragments);
}

#[test]
fn extension_headers_lead_to_the_one_of_two_workers_that_has_the_connection() {
    served_by(2, Detour::DestinationOptions);
}

#[test]
fn extension_headers_lead_to_the_one_of_four_workers_that_has_the_connection() {
    served_by(4, Detour::DestinationOptions);
}

/// "Host unreachable" about segments of the appliance, plainly quoted.
#[test]
fn an_icmp_error_reaches_the_worker_whose_connection_it_is_about_and_no_other() {
    let Some(mut bed) = Bed::down(Lab::builder().pods(2)) else { return };
    bed.start_at(&["192.168.123.150/24"], &["--workers", "4"]);
    let station = Station::open(&bed);
    for port in 40_000..40_024u16 {
        let connection = Connection { station: &station, port, detour: Detour::Fragments };
        let theirs = connection.open();
        let quoted = [&[0, 80][..], &port.to_be_bytes(), &theirs.to_be_bytes()].concat();
        let quote = ipv4(TCP, ADDRESS, station.address, &quoted).octets;
        let mut message = [&[3, 1, 0, 0, 0, 0, 0, 0][..], &quote].concat();
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum);
        station.send(&station.ethernet(&ipv4(1, station.address, ADDRESS, &message)));
    }
    wait_until("each worker to hear of its own", Duration::from_secs(10), || {
        let status = bed.status();
        let each = |name: &str| -> Vec<u64> {
            let workers = status["workers"].as_array().unwrap().iter();
            workers.map(|worker| worker["stack"][name].as_u64().unwrap()).collect()
        };
        let (accepted, told) = (each("tcp_accepted"), each("icmp_error_in"));
        // The first has looked at all of them.
        told[0] == 24 && accepted.iter().sum::<u64>() == 24 && accepted[1..] == told[1..]
    });
    bed.finish();
}
