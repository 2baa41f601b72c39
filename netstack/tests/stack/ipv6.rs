//! IPv6 packets that are for us, or are not (RFC 8200), and ICMPv6 (RFC 4443).

use std::net::Ipv6Addr;

use tagwire_netstack::wire::checksum::pseudo_header_v6;
use tagwire_netstack::wire::ipv6::{ALL_NODES, multicast_mac};
use tagwire_netstack::wire::{ethernet, icmpv6, ipv6};
use tagwire_netstack::{Checksum, Config, FrameMeta, MacAddr};

use crate::harness::{
    Fixture, OUR_IP6, PEER, PEER_IP6, config, config_v6, header_v6, ms, pattern, seg,
};

const UDP: u8 = 17;
const HOP_BY_HOP: u8 = 0;
const DESTINATION: u8 = 60;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
/// RFC 3692: for experiments.
const UNKNOWN: u8 = 253;

fn echo_message(source: Ipv6Addr, destination: Ipv6Addr, data: &[u8]) -> Vec<u8> {
    let mut message = vec![128, 0, 0, 0, 0x12, 0x34, 0, 1];
    message.extend_from_slice(data);
    icmpv6::seal(source, destination, &mut message);
    message
}

/// A datagram of UDP with the checksum that RFC 8200 8.1 asks for.
fn datagram(destination: Ipv6Addr, data: &[u8]) -> Vec<u8> {
    let length = 8 + data.len() as u16;
    let mut datagram = vec![0x30, 0x39, 0, 9];
    datagram.extend(length.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend_from_slice(data);
    let sum = pseudo_header_v6(PEER_IP6, destination, UDP, length.into()).feed(&datagram);
    datagram[6..8].copy_from_slice(&sum.finish().to_be_bytes());
    datagram
}

fn ping() -> Vec<u8> {
    echo_message(PEER_IP6, OUR_IP6, b"data")
}

/// The peer's packet to us whose first header behind the fixed one is `next_header`.
fn packet(t: &Fixture, next_header: u8, payload: &[u8]) -> Vec<u8> {
    t.ip_v6(&header_v6(PEER_IP6, OUR_IP6, next_header, 64), payload)
}

/// The next ICMPv6 message that the stack sent to the peer: type, code, word, what it quotes.
#[track_caller]
fn message(t: &mut Fixture) -> (u8, u8, u32, Vec<u8>) {
    let (to, ethertype, payload) = t.next_frame();
    assert_eq!((to, ethertype), (PEER, ethernet::ETHERTYPE_IPV6));
    let packet = ipv6::parse(&payload).unwrap();
    let ipv6::Header { source, destination, hop_limit, .. } = packet.header;
    assert_eq!((source, destination, hop_limit), (OUR_IP6, PEER_IP6, 64));
    let message = icmpv6::parse(source, destination, packet.payload).unwrap();
    assert!(message.kind >= 128 || payload.len() <= 1280);
    (message.kind, message.code, message.word(), message.quote().to_vec())
}

/// The counters of what was dropped.
fn dropped(t: &Fixture) -> Vec<&'static str> {
    let counted = t.stack.stats().iter().filter(|(_, count)| *count > 0).map(|(name, _)| name);
    counted.filter(|name| name.starts_with("drop_")).collect()
}

#[test]
fn an_echo_of_every_size_up_to_the_mtu_returns() {
    let mut t = Fixture::new(config_v6());
    for size in (0..=1452).step_by(11) {
        let data = pattern(size);
        let frame = packet(&t, ipv6::NEXT_ICMPV6, &echo_message(PEER_IP6, OUR_IP6, &data));
        t.frame(&frame);
        assert_eq!(message(&mut t), (129, 0, 0x1234_0001, data));
    }
    let mut t = Fixture::new(Config { mtu: 9000, ..config_v6() });
    let data = pattern(8952);
    let frame = packet(&t, ipv6::NEXT_ICMPV6, &echo_message(PEER_IP6, OUR_IP6, &data));
    t.frame(&frame);
    let (_, _, reply) = t.next_frame();
    assert_eq!(&reply[48..], data);
}

#[test]
fn a_wrong_checksum_is_noticed_even_if_the_link_vouches_for_it() {
    // RFC 8200 8.1: there is no other sum over the addresses.
    let mut t = Fixture::new(config_v6());
    let mut frame = packet(&t, ipv6::NEXT_ICMPV6, &ping());
    *frame.last_mut().unwrap() ^= 1;
    let meta = FrameMeta { checksum: Checksum::Valid, ..FrameMeta::default() };
    t.stack.handle_frame(t.now, &frame, &meta);
    t.nothing();
    let mut frame = t.tcp_frame(&seg("S", 0, 0));
    *frame.last_mut().unwrap() ^= 1;
    t.frame(&frame);
    t.nothing();
    assert_eq!(t.stack.stats().drop_checksum, 2);
}

#[test]
fn without_ipv6_its_frames_are_dropped_and_counted() {
    let mut t = Fixture::new(config());
    let frame = packet(&t, ipv6::NEXT_ICMPV6, &ping());
    t.frame(&frame);
    t.nothing();
    assert_eq!(dropped(&t), ["drop_ethertype"]);
    // Nor is it spoken on a link that is too small for it (RFC 8200 5).
    let mut t = Fixture::bare(Config { mtu: 1279, ..config_v6() });
    t.advance(ms(5000));
    t.nothing();
}

#[test]
fn other_addresses_martians_and_other_stations_frames() {
    let from = |source: Ipv6Addr| header_v6(source, OUR_IP6, 6, 64);
    let to = |destination: Ipv6Addr| header_v6(PEER_IP6, destination, 6, 64);
    let address = |text: &str| text.parse::<Ipv6Addr>().unwrap();
    for (header, counter) in [
        (to(address("2001:db8::151")), "drop_address"),
        (to(address("ff02::fb")), "drop_address"),
        (to(address("::1")), "drop_address"),
        (from(address("::1")), "drop_martian"),
        (from(address("::")), "drop_martian"),
        (from(address("ff02::1")), "drop_martian"),
        (from(address("::ffff:192.0.2.1")), "drop_martian"),
        (from(OUR_IP6), "drop_martian"),
    ] {
        let mut t = Fixture::new(config_v6());
        let frame = t.ip_v6(&header, &[0; 20]);
        t.frame(&frame);
        t.nothing();
        assert_eq!(dropped(&t), [counter], "{header:?}");
    }
    let mut t = Fixture::new(config_v6());
    let mut frame = packet(&t, ipv6::NEXT_ICMPV6, &ping());
    frame[..6].copy_from_slice(&MacAddr::BROADCAST.0);
    t.frame(&frame);
    t.nothing();
    assert_eq!(dropped(&t), ["drop_address"]);
}

#[test]
fn headers_before_the_segment_are_skipped() {
    let mut t = Fixture::new(config_v6());
    let padded = |next: u8| vec![next, 0, 1, 4, 0, 0, 0, 0];
    let atomic = |next: u8| vec![next, 0, 0, 0, 1, 2, 3, 4];
    let routed = |next: u8| vec![next, 0, 4, 0, 0, 0, 0, 0];
    let chains = [
        (HOP_BY_HOP, padded(ipv6::NEXT_ICMPV6)),
        (DESTINATION, padded(ipv6::NEXT_ICMPV6)),
        (ROUTING, routed(ipv6::NEXT_ICMPV6)),
        (FRAGMENT, atomic(ipv6::NEXT_ICMPV6)),
        (HOP_BY_HOP, [padded(DESTINATION), padded(FRAGMENT), atomic(58)].concat()),
    ];
    for (first, chain) in chains {
        let frame = packet(&t, first, &[chain, ping()].concat());
        t.frame(&frame);
        assert_eq!(message(&mut t), (129, 0, 0x1234_0001, b"data".to_vec()));
    }
}

#[test]
fn what_is_wrong_in_a_header_is_said_with_its_place() {
    // RFC 8200 4 and 4.2, RFC 5095, RFC 4443 3.4.
    let option = |kind: u8| vec![6, 0, kind, 4, 0, 0, 0, 0];
    for (first, chain, told) in [
        (DESTINATION, option(0x9e), (4, 2, 42)),
        (DESTINATION, option(0xde), (4, 2, 42)),
        (ROUTING, vec![6, 0, 0, 1, 0, 0, 0, 0], (4, 0, 42)),
        (DESTINATION, vec![HOP_BY_HOP, 0, 1, 4, 0, 0, 0, 0], (4, 1, 40)),
        (200, vec![0; 8], (4, 1, 6)),
        (UDP, datagram(OUR_IP6, b""), (1, 4, 0)),
        (DESTINATION, vec![200, 0, 1, 4, 0, 0, 0, 0], (4, 1, 40)),
    ] {
        let mut t = Fixture::new(config_v6());
        let frame = packet(&t, first, &[chain, vec![0; 20]].concat());
        t.frame(&frame);
        let (kind, code, word, quote) = message(&mut t);
        assert_eq!((kind, code, word), told, "{first}");
        assert_eq!(quote, frame[18..]);
        assert_eq!(t.stack.stats().icmp_error_out, 1);
    }
}

#[test]
fn an_option_may_ask_for_silence() {
    let mut t = Fixture::new(config_v6());
    let frame = packet(&t, DESTINATION, &[&[6, 0, 0x5e, 4, 0, 0, 0, 0][..], &[0; 20]].concat());
    t.frame(&frame);
    t.nothing();
    assert_eq!(dropped(&t), ["drop_extension"]);
}

#[test]
fn no_error_where_rfc_4443_forbids_it() {
    // 2.4 (e).
    let mut t = Fixture::new(config_v6());
    let group = |t: &Fixture, next_header: u8, payload: &[u8]| {
        let mut frame = t.ip_v6(&header_v6(PEER_IP6, ALL_NODES, next_header, 64), payload);
        frame[..6].copy_from_slice(&multicast_mac(ALL_NODES).0);
        frame
    };
    let silent = |kind: u8| [vec![6, 0, kind, 4, 0, 0, 0, 0], vec![0; 20]].concat();
    // An error behind a header that is wrong.
    let mut error = vec![58, 0, 0x9e, 4, 0, 0, 0, 0];
    error.extend([1, 4, 0, 0, 0, 0, 0, 0]);
    let frames = [
        packet(&t, DESTINATION, &error),
        group(&t, 200, &[0; 8]),
        group(&t, UDP, &datagram(ALL_NODES, b"")),
        group(&t, DESTINATION, &silent(0xde)),
        t.ip_v6(&header_v6(Ipv6Addr::UNSPECIFIED, OUR_IP6, 200, 64), &[0; 8]),
    ];
    for frame in frames {
        t.frame(&frame);
        t.nothing();
    }
    // Only an option can ask for an answer to a group's packet.
    let frame = group(&t, DESTINATION, &silent(0x9e));
    t.frame(&frame);
    assert_eq!(message(&mut t).0, 4);
}

#[test]
fn udp_without_a_checksum_is_not_answered() {
    let mut t = Fixture::new(config_v6());
    let frame = packet(&t, UDP, &[0x30, 0x39, 0, 9, 0, 8, 0, 0]);
    t.frame(&frame);
    t.nothing();
    assert_eq!(dropped(&t), ["drop_checksum"]);
}

/// RFC 8200 8.1, RFC 768: what was damaged on its way may have been for another port, or host.
#[test]
fn udp_with_a_wrong_checksum_or_length_is_not_answered() {
    let good = datagram(OUR_IP6, b"query");
    for (at, why) in [(0, "drop_checksum"), (7, "drop_checksum"), (8, "drop_checksum")]
        .into_iter()
        .chain([(4, "drop_malformed")])
    {
        let mut t = Fixture::new(config_v6());
        let mut wrong = good.clone();
        wrong[at] ^= 1;
        let frame = packet(&t, UDP, &wrong);
        t.frame(&frame);
        t.nothing();
        assert_eq!(dropped(&t), [why], "{at}");
    }
    let mut t = Fixture::new(config_v6());
    for stub in [&good[..7], &[0x30, 0x39, 0, 9, 0, 7, 1, 1]] {
        let frame = packet(&t, UDP, stub);
        t.frame(&frame);
        t.nothing();
    }
    assert_eq!(t.stack.stats().drop_malformed, 2);
    // The sender of a frame that never left this machine has left the sum to its card.
    let mut partial = good;
    partial[6] ^= 0x55;
    let frame = packet(&t, UDP, &partial);
    let meta = FrameMeta { checksum: Checksum::Partial, ..FrameMeta::default() };
    t.stack.handle_frame(t.now, &frame, &meta);
    t.flush();
    assert_eq!(message(&mut t).0, 1);
}

/// RFC 4443 4.2, as over IPv4: as much as goes, since no fragments are sent.
#[test]
fn an_echo_that_is_longer_than_the_link_is_answered_in_part() {
    let mut t = Fixture::new(config_v6());
    let data = pattern(3000);
    let whole = echo_message(PEER_IP6, OUR_IP6, &data);
    let (first, second) = whole.split_at(1400);
    for (part, offset) in [(first, 1u16), (second, 1400)] {
        let mut payload = vec![ipv6::NEXT_ICMPV6, 0];
        payload.extend(offset.to_be_bytes());
        payload.extend([0, 0, 0, 9]);
        payload.extend(part);
        let frame = packet(&t, FRAGMENT, &payload);
        t.frame(&frame);
    }
    let (kind, _, _, quote) = message(&mut t);
    assert_eq!((kind, &quote[..]), (129, &data[..1500 - 48]));
}

#[test]
fn errors_are_few_for_one_host_and_bounded_for_all() {
    // RFC 4443 2.4 (f).
    let mut t = Fixture::new(config_v6());
    let errors_for = |t: &mut Fixture, source: Ipv6Addr, packets: u128, step: u128| {
        let before = t.stack.stats().icmp_error_out;
        for count in 0..packets {
            let source = Ipv6Addr::from_bits(source.to_bits() + count * step);
            let frame = t.ip_v6(&header_v6(source, OUR_IP6, UNKNOWN, 64), b"x");
            t.frame(&frame);
        }
        t.stack.stats().icmp_error_out - before
    };
    assert_eq!(errors_for(&mut t, PEER_IP6, 100, 0), 6);
    assert_eq!(t.stack.stats().icmp_limited, 94);
    t.advance(ms(1000));
    assert_eq!(errors_for(&mut t, PEER_IP6, 1, 0), 1);
    // A host far away is whoever has its prefix, one on the link is not.
    let far = Ipv6Addr::new(0x2001, 0xdb8, 9, 9, 0, 0, 0, 1);
    assert_eq!(errors_for(&mut t, far, 100, 1), 6);
    let near = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, 0);
    assert_eq!(errors_for(&mut t, near, 20, 1), 20);
    assert_eq!(errors_for(&mut t, far, 100, 1 << 64), 50 - 1 - 6 - 20);
}

#[test]
fn a_long_packet_is_quoted_as_far_as_1280_octets_go() {
    let mut t = Fixture::new(config_v6());
    let frame = packet(&t, UDP, &datagram(OUR_IP6, &[7; 1392]));
    t.frame(&frame);
    assert_eq!(message(&mut t).3.len(), 1280 - 48);
}

#[test]
fn echoes_to_a_group_and_other_types_are_not_answered() {
    let mut t = Fixture::new(config_v6());
    let mut frame = t.ip_v6(
        &header_v6(PEER_IP6, ALL_NODES, ipv6::NEXT_ICMPV6, 64),
        &echo_message(PEER_IP6, ALL_NODES, b"data"),
    );
    frame[..6].copy_from_slice(&multicast_mac(ALL_NODES).0);
    t.frame(&frame);
    for kind in [129, 139, 200] {
        let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
        icmpv6::seal(PEER_IP6, OUR_IP6, &mut message);
        let frame = packet(&t, ipv6::NEXT_ICMPV6, &message);
        t.frame(&frame);
    }
    t.nothing();
    assert_eq!(t.stack.stats().drop_protocol, 4);
}

#[test]
fn an_error_about_a_segment_reaches_tcp_and_a_mtu_below_1280_does_not() {
    // RFC 8201 4.
    for (mtu, heard) in [(1400, 1), (1279, 0)] {
        let (mut t, id) = Fixture::established(config_v6());
        t.app_send(id, b"hello");
        let (_, _, segment) = t.next_frame();
        let mut message = icmpv6::make_error(2, 0, mtu, &segment);
        icmpv6::seal(PEER_IP6, OUR_IP6, &mut message);
        let frame = packet(&t, ipv6::NEXT_ICMPV6, &message);
        t.frame(&frame);
        let stats = t.stack.stats();
        assert_eq!((stats.icmp_error_in, stats.icmp_ignored), (heard, 1 - heard));
    }
}

#[test]
fn a_connection_keeps_its_flow_label_and_another_has_another() {
    // RFC 6437 3.
    let mut labels = Vec::new();
    let mut t = Fixture::new(config_v6());
    for _ in 0..2 {
        let id = t.open(seg("S", 0, 0).mss(1000));
        t.app_send(id, &pattern(3000));
        let of_one: Vec<u32> = t
            .sent
            .drain(..)
            .map(|(_, frame)| ipv6::parse(&frame[18..]).unwrap().header.flow_label)
            .collect();
        assert!(of_one.len() == 3 && of_one.iter().all(|label| *label == of_one[0]));
        labels.push(of_one[0]);
        t.port += 1;
    }
    assert_ne!(labels[0], labels[1]);
}
