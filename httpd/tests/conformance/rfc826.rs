//! RFC 826, address resolution, and RFC 5227, conflicts of addresses.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::case::{Case, cases};
use crate::host::{ARP, Host, ICMP, PATIENCE};
use crate::hub::Frame;
use crate::packet::BROADCAST;

pub(crate) const CASES: &[Case] = cases![V4:
    rfc826_request_is_answered_to_who_asked,
    rfc826_request_for_another_is_not_answered,
    rfc826_request_of_other_hardware_is_dropped,
    rfc826_short_packet_is_dropped,
    rfc826_reply_is_not_answered,
    rfc826_who_asks_is_known,
    rfc1122_2_3_2_2_should_packet_waits_for_the_answer,
    rfc5227_2_1_1_probe_for_its_address_is_answered,
    rfc5227_2_1_1_probe_for_another_is_not_answered,
    rfc5227_2_4_b_conflict_is_defended,
];

/// RFC 5227 1.1: PROBE_WAIT, three probes up to PROBE_MAX apart, and ANNOUNCE_WAIT; twice that.
const PROBING: Duration = Duration::from_secs(16);
const NOBODY: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 253);

fn rfc826_request_is_answered_to_who_asked(host: &mut Host) {
    for to in [BROADCAST, host.subject.mac] {
        let (reply, _) = host.resolve(to);
        assert_eq!((reply.to, reply.packet.octets[7]), (host.mac, 2));
        let expected = [
            &[0, 1, 8, 0, 6, 4, 0, 2][..],
            &host.subject.mac,
            &host.subject.v4.octets(),
            &host.mac,
            &host.v4.octets(),
        ]
        .concat();
        assert_eq!(reply.packet.octets[..28], expected);
    }
}

#[track_caller]
fn next_arp(host: &Host) -> Frame {
    let deadline = Instant::now() + PATIENCE;
    while let Some(frame) = host.hear(deadline) {
        if frame.packet.ethertype == ARP && frame.to == host.mac {
            return frame;
        }
    }
    panic!("no ARP packet came");
}

/// Nothing of ARP for this host comes of what went to the subject alone.
#[track_caller]
fn expect_no_arp(host: &mut Host, what: &str) {
    let own = host.mac;
    let frames: Vec<Frame> = host.before_marker().into_iter().filter(|it| it.to == own).collect();
    assert!(frames.iter().all(|it| it.packet.ethertype != ARP), "{what}: {frames:?}");
}

fn rfc826_request_for_another_is_not_answered(host: &mut Host) {
    host.send(&host.arp(1, host.v4, NOBODY));
    expect_no_arp(host, "a request for another");
}

fn rfc826_request_of_other_hardware_is_dropped(host: &mut Host) {
    let request = host.arp(1, host.v4, host.subject.v4);
    for (at, octet) in [(1, 7), (2, 0x86), (5, 16), (7, 3), (7, 9)] {
        host.send(&request.clone().with(at, octet));
    }
    expect_no_arp(host, "a request of another kind");
}

fn rfc826_short_packet_is_dropped(host: &mut Host) {
    let request = host.arp(1, host.v4, host.subject.v4);
    for len in [0, 8, 20, 27] {
        host.send(&request.clone().truncated(len));
    }
    expect_no_arp(host, "a packet that is cut");
}

fn rfc826_reply_is_not_answered(host: &mut Host) {
    host.send(&host.arp(2, host.v4, host.subject.v4));
    expect_no_arp(host, "a reply");
}

/// "Merge": an answer goes out without a question of its own.
fn rfc826_who_asks_is_known(host: &mut Host) {
    host.answers_neighbours = false;
    host.send(&host.arp(1, host.v4, host.subject.v4));
    next_arp(host);
    host.send_ip(ICMP, &host.echo(1, 1, b""));
    host.expect_ip("an echo reply", |it| it.is_echo_reply(1, 1).then_some(()));
}

fn rfc1122_2_3_2_2_should_packet_waits_for_the_answer(host: &mut Host) {
    host.send_ip(ICMP, &host.echo(1, 1, b""));
    // The host answers who asks; the reply is not lost meanwhile.
    host.expect_ip("an echo reply", |it| it.is_echo_reply(1, 1).then_some(()));
}

fn rfc5227_2_1_1_probe_for_its_address_is_answered(host: &mut Host) {
    host.send_to(BROADCAST, &host.arp(1, Ipv4Addr::UNSPECIFIED, host.subject.v4));
    let reply = next_arp(host);
    assert_eq!(reply.packet.octets[7], 2);
    assert_eq!(reply.packet.octets[8..14], host.subject.mac);
}

fn rfc5227_2_1_1_probe_for_another_is_not_answered(host: &mut Host) {
    host.send(&host.arp(1, Ipv4Addr::UNSPECIFIED, NOBODY));
    expect_no_arp(host, "a probe for another");
}

/// Once, that is: a second one within ten seconds would make it give the address up, and end all
/// other cases with it.
fn rfc5227_2_4_b_conflict_is_defended(host: &mut Host) {
    // While it still probes, who was there before it is right.
    while host.hear(host.subject.since + PROBING).is_some() {}
    let address = host.subject.v4;
    host.send_to(BROADCAST, &host.arp(1, address, address));
    let deadline = Instant::now() + PATIENCE;
    let claim = [host.subject.mac.to_vec(), address.octets().to_vec()].concat();
    loop {
        let frame = host.hear(deadline).expect("an announcement");
        let packet = &frame.packet;
        if packet.ethertype == ARP && frame.to == BROADCAST && packet.octets[8..18] == claim {
            assert_eq!(packet.octets[24..28], address.octets());
            return;
        }
    }
}
