//! Frames that are not for the appliance, or that nobody should have sent: no answer.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use tagwire_lab::Lab;

use crate::bed::{ADDRESS, Bed, content};
use crate::raw::{ACK, BROADCAST, Heard, Packet, RST, SYN, Station, frame, ipv4};

/// Another address of the same network, which nobody has.
const NOBODY: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 149);
const NETWORK_BROADCAST: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 255);

/// A bed with a station whose address the appliance knows.
fn bed_with_station() -> Option<(Bed, Station)> {
    let mut bed = Bed::down(Lab::builder().pods(2))?;
    bed.start(&[]);
    let mut station = Station::open(&bed);
    station.heard_before_echo();
    Some((bed, station))
}

/// Sends frames of which none may be answered, each before one that must be.
fn assert_silence(bed: Bed, mut station: Station, frames: Vec<(String, Vec<u8>)>) {
    let is_answer = |heard: &Heard| *heard != Heard::Announcement;
    for (what, frame) in frames {
        station.send(&frame);
        let answers: Vec<Heard> =
            station.heard_before_echo().into_iter().filter(is_answer).collect();
        assert!(answers.is_empty(), "{what} was answered: {answers:x?}");
    }
    // What takes its time, such as the answer to a half-open connection, sent again.
    let deadline = Instant::now() + Duration::from_millis(1200);
    while let Some(heard) = station.hear(deadline) {
        assert!(!is_answer(&heard), "{heard:x?}");
    }
    bed.assert_serves();
    bed.finish();
}

fn requests(station: &Station) -> [(&'static str, Packet); 3] {
    [
        ("an ARP request", station.arp(1, station.address, ADDRESS)),
        ("an echo request", station.echo_request(9999)),
        ("a SYN", station.segment(SYN, 1)),
    ]
}

#[test]
fn the_right_frames_are_answered() {
    let Some((bed, station)) = bed_with_station() else { return };
    let answer_to = |frame: &[u8]| {
        station.send(frame);
        loop {
            match station.hear(Instant::now() + Duration::from_secs(5)) {
                Some(Heard::Announcement) => {}
                heard => return heard.expect("an answer"),
            }
        }
    };
    let answer = |packet: &Packet| answer_to(&station.ethernet(packet));
    assert_eq!(answer(&station.arp(1, station.address, ADDRESS)), Heard::ArpReply);
    assert_eq!(answer(&station.echo_request(7)), Heard::Echo(7));
    assert_eq!(answer(&station.segment(SYN, 1000)), Heard::Segment(SYN | ACK, 1001));
    station.send(&station.ethernet(&station.segment(RST, 1001)));
    // No connection, no listener: RFC 9293 3.10.7.1.
    let to = |port, flags| station.segment_to(port, station.address, ADDRESS, flags, 5000);
    assert_eq!(answer(&to(81, SYN)), Heard::Segment(RST | ACK, 5001));
    assert!(matches!(answer(&to(80, ACK)), Heard::Segment(RST, _)));
    // RFC 1122 3.2.2.1: a protocol that is not spoken is unreachable, and its sender told.
    let unknown = answer(&station.echo_request(8).with(9, 255).summed());
    assert!(matches!(&unknown, Heard::Other(frame) if frame[38..40] == [3, 2]), "{unknown:x?}");
    // To all stations, as the first request is, and with the priority of a busy switch.
    let request = station.arp(1, station.address, ADDRESS);
    let request = frame(BROADCAST, station.mac, &[station.vlan | 5 << 13], &request);
    // A station that has just been answered has to wait for the next answer, and asks again.
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        station.send(&request);
        match station.hear(Instant::now() + Duration::from_millis(200)) {
            Some(Heard::ArpReply) => break,
            None | Some(Heard::Announcement) => assert!(Instant::now() < deadline, "no answer"),
            other => panic!("{other:?}"),
        }
    }
    bed.finish();
}

#[test]
fn another_vlan_mac_or_address_is_not_ours() {
    let Some((bed, station)) = bed_with_station() else { return };
    let mut frames = Vec::new();
    for (what, packet) in requests(&station) {
        for vlans in [&[124][..], &[], &[0], &[4095], &[124, 123], &[123, 123], &[123, 124]] {
            for to in [station.server, BROADCAST] {
                let frame = frame(to, station.mac, vlans, &packet);
                frames.push((format!("{what} in VLAN {vlans:?} to {to:x?}"), frame));
            }
        }
        let stranger = [0x02, 0x74, 0x77, 0x00, 0x01, 0x77];
        let frame = frame(stranger, station.mac, &[station.vlan], &packet);
        frames.push((format!("{what} to another MAC address"), frame));
    }
    let mut wrong_address = |what: &str, to: crate::raw::Mac, packet: Packet| {
        let frame = frame(to, station.mac, &[station.vlan], &packet);
        frames.push((what.to_owned(), frame));
    };
    let syn = |from, to| station.segment_to(80, from, to, SYN, 1);
    wrong_address("an ARP request for another", BROADCAST, station.arp(1, station.address, NOBODY));
    let echo = station.echo_request(9999).octets[20..].to_vec();
    for to in [NOBODY, Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::LOCALHOST] {
        wrong_address(
            "an echo request to another",
            station.server,
            ipv4(1, station.address, to, &echo),
        );
        wrong_address("a SYN to another", station.server, syn(station.address, to));
    }
    // RFC 9293 3.10.7.2, RFC 1122 4.2.3.10: TCP is for two.
    for to in [NETWORK_BROADCAST, Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1)] {
        wrong_address("a SYN to many", BROADCAST, syn(station.address, to));
        wrong_address("a SYN to many", station.server, syn(station.address, to));
    }
    wrong_address("a SYN in a broadcast frame", BROADCAST, syn(station.address, ADDRESS));
    for from in [
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::BROADCAST,
        NETWORK_BROADCAST,
        Ipv4Addr::new(224, 0, 0, 1),
        ADDRESS,
    ] {
        wrong_address("a SYN from no host", station.server, syn(from, ADDRESS));
        wrong_address("an echo from no host", station.server, ipv4(1, from, ADDRESS, &echo));
    }
    assert_silence(bed, station, frames);
}

#[test]
fn damaged_packets_are_not_answered() {
    let Some((bed, station)) = bed_with_station() else { return };
    let mut packets = Vec::new();
    for (what, packet) in requests(&station) {
        for len in 0..packet.octets.len() {
            let cut = packet.clone().truncated(len);
            packets.push((format!("{what}, {len} octets of it"), cut));
        }
    }
    let mut damaged = |what: &str, packet: Packet| packets.push((what.to_owned(), packet));
    for (what, good) in requests(&station).into_iter().skip(1) {
        let ip = |at, octet| good.clone().with(at, octet).summed();
        damaged(
            &format!("{what}: bad header checksum"),
            good.clone().with(11, good.octets[11] ^ 1),
        );
        let last = good.octets.len() - 1;
        damaged(&format!("{what}: a wrong octet"), good.clone().with(last, good.octets[last] ^ 1));
        damaged(&format!("{what}: version 6"), ip(0, 0x65));
        damaged(&format!("{what}: a header of 16 octets"), good.clone().with(0, 0x44));
        damaged(&format!("{what}: a header longer than the packet"), good.clone().with(0, 0x4f));
        damaged(&format!("{what}: longer than the frame"), ip(2, 0x05));
        damaged(&format!("{what}: shorter than its header"), ip(3, 19));
        damaged(&format!("{what}: the first fragment"), ip(6, 0x20));
        damaged(&format!("{what}: a middle fragment"), ip(7, 0x01));
    }
    let syn = station.segment(SYN, 1);
    damaged("a TCP header of 16 octets", syn.clone().with(32, 0x40));
    damaged("a TCP header longer than the segment", syn.clone().with(32, 0xf0));
    let arp = station.arp(1, station.address, ADDRESS);
    damaged("ARP of other hardware", arp.clone().with(1, 6));
    damaged("ARP of another protocol", arp.clone().with(2, 0x86));
    damaged("ARP with long hardware addresses", arp.clone().with(4, 8));
    damaged("ARP with long addresses", arp.clone().with(5, 16));
    damaged("ARP of another operation", arp.clone().with(7, 3));
    damaged("an echo reply", station.icmp(0, 9999));
    damaged("an unknown ICMP message", station.icmp(200, 9999));
    // RFC 9293 3.10.7.1: a reset is never answered.
    damaged("a RST", station.segment(RST, 1));
    damaged("a RST with ACK", station.segment(RST | ACK, 1));
    damaged("another EtherType", Packet { ethertype: 0x88cc, octets: arp.octets.clone() });
    let frames =
        packets.into_iter().map(|(what, packet)| (what, station.ethernet(&packet))).collect();
    assert_silence(bed, station, frames);
}

#[test]
fn noise_is_survived() {
    let Some((bed, mut station)) = bed_with_station() else { return };
    let noise = content(12, 1 << 20);
    let mut rest = &noise[..];
    let mut sent = 0;
    while rest.len() > 2048 {
        let len = usize::from(rest[0]) + 256 * usize::from(rest[1] % 5);
        let ethertype = [0x0800, 0x0806, 0x8100, 0x86dd][usize::from(rest[2] % 4)];
        let mut octets = rest[3..3 + len].to_vec();
        // Else nearly all of it would be dropped at the first octet.
        if ethertype == 0x0800 && len > 40 && rest[2] & 4 == 0 {
            octets[0] = 0x45;
            octets[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            octets[6..8].fill(0);
            octets[9] = if rest[2] & 8 == 0 { 6 } else { 1 };
            octets[16..20].copy_from_slice(&ADDRESS.octets());
        }
        let mut packet = Packet { ethertype, octets };
        if ethertype == 0x0800 && len > 40 {
            packet = packet.summed();
        }
        station.send(&station.ethernet(&packet));
        rest = &rest[3 + len..];
        sent += 1;
        if sent % 64 == 0 {
            station.heard_before_echo();
        }
    }
    assert!(sent > 1000);
    bed.assert_serves();
    assert_eq!(bed.status()["connections"], 0);
    bed.finish();
}
