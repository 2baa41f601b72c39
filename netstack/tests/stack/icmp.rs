//! ICMP echo (RFC 792, RFC 1122 3.2.2.6).

use std::net::Ipv4Addr;

use tagwire_netstack::wire::{ethernet, icmpv4, ipv4};
use tagwire_netstack::{Checksum, Config, FrameMeta, Offload};

use crate::harness::{Fixture, OUR_IP, PEER, PEER_IP, config, pattern};

#[track_caller]
fn expect_reply(t: &mut Fixture, data: &[u8]) {
    let (to, ethertype, payload) = t.next_frame();
    assert_eq!((to, ethertype), (PEER, ethernet::ETHERTYPE_IPV4));
    let packet = ipv4::parse(&payload).unwrap();
    assert_eq!((packet.source, packet.destination), (OUR_IP, PEER_IP));
    assert_eq!(packet.payload[..2], [0, 0]);
    assert_eq!(packet.payload[4..8], [0x12, 0x34, 0, 1]);
    assert_eq!(&packet.payload[8..], data);
    let sum = tagwire_netstack::wire::checksum::Sum::new().feed(packet.payload).finish();
    assert_eq!(sum, 0);
}

#[test]
fn echo_of_every_size_that_fits() {
    for offload in [Offload::NONE, Offload::FULL] {
        let mut t = Fixture::new(Config { offload, ..config() });
        for size in 0..=1472 {
            let data = pattern(size);
            let ping = t.echo(&data);
            t.frame(&ping);
            expect_reply(&mut t, &data);
        }
        assert_eq!(t.stack.stats().icmp_echo, 1473);
        t.nothing();
    }
}

#[test]
fn a_jumbo_echo_leaves_in_slices_and_a_larger_one_than_the_mtu_in_part() {
    let mut t = Fixture::new(Config { mtu: 9000, ..config() });
    let data = pattern(8972);
    let ping = t.echo(&data);
    t.frame(&ping);
    expect_reply(&mut t, &data);
    let ping = t.echo(&pattern(8973));
    t.frame(&ping);
    // RFC 1122 3.2.2.6: cut to what goes, as we send no fragments.
    expect_reply(&mut t, &pattern(8972));
}

#[test]
fn a_wrong_checksum_is_not_answered_even_if_the_link_vouches_for_transport() {
    let mut t = Fixture::new(config());
    let mut ping = t.echo(b"hello");
    *ping.last_mut().unwrap() ^= 1;
    t.frame(&ping);
    let meta = FrameMeta { checksum: Checksum::Partial, ..FrameMeta::default() };
    t.stack.handle_frame(t.now, &ping, &meta);
    t.nothing();
    assert_eq!(t.stack.stats().drop_checksum, 2);
}

#[test]
fn broadcasts_and_other_types_are_not_answered() {
    let mut t = Fixture::new(config());
    for to in [Ipv4Addr::BROADCAST, Ipv4Addr::new(192, 168, 123, 255)] {
        let ping = t.ip(PEER_IP, to, ipv4::PROTOCOL_ICMP, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
        t.frame(&ping);
    }
    // An echo reply and a timestamp request.
    for message in [[0, 0, 0xff, 0xff, 0, 0, 0, 0], [13, 0, 0xf2, 0xff, 0, 0, 0, 0]] {
        let frame = t.ip(PEER_IP, OUR_IP, ipv4::PROTOCOL_ICMP, &message);
        t.frame(&frame);
    }
    t.nothing();
    assert_eq!(t.stack.stats().icmp_echo, 0);
}

/// An error of a router that quotes a packet from `source`.
fn error(t: &Fixture, kind: u8, source: Ipv4Addr) -> Vec<u8> {
    let mut quote = vec![0; ipv4::HEADER_LEN];
    ipv4::emit(&mut quote, source, PEER_IP, ipv4::PROTOCOL_TCP, 1480);
    quote.extend([0, 80, 0x9c, 0x40, 0, 0, 0, 1]);
    let message = icmpv4::make_error(kind, icmpv4::CODE_FRAGMENTATION, &quote);
    t.ip(Ipv4Addr::new(192, 168, 123, 254), OUR_IP, ipv4::PROTOCOL_ICMP, &message)
}

#[test]
fn errors_about_our_segments_reach_tcp_and_no_error_is_answered() {
    let mut t = Fixture::new(config());
    for kind in [icmpv4::TYPE_UNREACHABLE, icmpv4::TYPE_TIME_EXCEEDED, icmpv4::TYPE_PARAMETER] {
        let ours = error(&t, kind, OUR_IP);
        t.frame(&ours);
        let others = error(&t, kind, PEER_IP);
        t.frame(&others);
    }
    // Source quench (RFC 6633) and redirect.
    for kind in [4, 5] {
        let frame = error(&t, kind, OUR_IP);
        t.frame(&frame);
    }
    t.nothing();
    let stats = t.stack.stats();
    assert_eq!((stats.icmp_error_in, stats.icmp_ignored, stats.drop_protocol), (3, 3, 2));
}

fn udp(t: &Fixture, to: Ipv4Addr, data: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0x9c, 0x40, 0, 53, 0, 8 + data.len() as u8, 0, 0];
    datagram.extend_from_slice(data);
    t.ip(PEER_IP, to, ipv4::PROTOCOL_UDP, &datagram)
}

#[test]
fn closed_ports_and_unknown_protocols_are_unreachable() {
    let mut t = Fixture::new(config());
    let gre = t.ip(PEER_IP, OUR_IP, 47, b"whatever");
    for (frame, wanted) in
        [(udp(&t, OUR_IP, b"query"), icmpv4::CODE_PORT), (gre, icmpv4::CODE_PROTOCOL)]
    {
        t.frame(&frame);
        let (to, _, payload) = t.next_frame();
        let packet = ipv4::parse(&payload).unwrap();
        assert_eq!((to, packet.source, packet.destination), (PEER, OUR_IP, PEER_IP));
        let message = icmpv4::parse(packet.payload);
        let quote = &frame[18..];
        let kind = icmpv4::TYPE_UNREACHABLE;
        assert_eq!(message, Ok(icmpv4::Message::Error { kind, code: wanted, mtu: 0, quote }));
    }
    // RFC 1812 4.3.2.3: no more than 576 octets.
    let large = t.ip(PEER_IP, OUR_IP, 47, &pattern(1400));
    t.frame(&large);
    assert_eq!(t.next_frame().2.len(), 576);
}

#[test]
fn no_error_answers_what_rfc_1122_3_2_2_names() {
    let mut t = Fixture::new(config());
    let mut silent = vec![
        udp(&t, Ipv4Addr::BROADCAST, b"x"),
        udp(&t, Ipv4Addr::new(192, 168, 123, 255), b"x"),
        t.ip(Ipv4Addr::LOCALHOST, OUR_IP, 47, b"x"),
        t.ip(Ipv4Addr::UNSPECIFIED, OUR_IP, 47, b"x"),
        error(&t, icmpv4::TYPE_UNREACHABLE, PEER_IP),
    ];
    let mut group = udp(&t, OUR_IP, b"x");
    group[..6].fill(0xff);
    silent.push(group);
    // A length that is not there, and a wrong checksum.
    let mut short = udp(&t, OUR_IP, b"x");
    short[18 + 20 + 5] = 200;
    silent.push(short);
    let mut wrong = udp(&t, OUR_IP, b"x");
    wrong[18 + 20 + 7] = 1;
    silent.push(wrong);
    for frame in silent {
        t.frame(&frame);
        t.nothing();
    }
    assert_eq!(t.stack.stats().icmp_error_out, 0);
}

#[test]
fn errors_are_few_for_one_host_and_bounded_for_all() {
    let mut t = Fixture::new(config());
    let frame = udp(&t, OUR_IP, b"x");
    for _ in 0..100 {
        t.frame(&frame);
    }
    assert_eq!((t.sent.len(), t.stack.stats().icmp_limited), (6, 94));
    t.sent.clear();
    t.advance(std::time::Duration::from_secs(1));
    t.frame(&frame);
    assert_eq!(t.sent.len(), 1);
    for host in 2..250 {
        let source = Ipv4Addr::new(192, 168, 123, host);
        if source != OUR_IP {
            let frame = t.ip(source, OUR_IP, 47, b"x");
            t.frame(&frame);
        }
    }
    let sent = t.stack.stats().icmp_error_out;
    assert!((50..=60).contains(&sent), "{sent}");
}
