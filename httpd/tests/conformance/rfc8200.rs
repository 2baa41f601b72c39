//! RFC 8200, IPv6, and RFC 4443, its ICMP.

use std::net::{IpAddr, Ipv6Addr};

use crate::case::{Case, cases};
use crate::host::{Host, ICMPV6, TCP, UDP};
use crate::ip::{self, Datagram, v6_with_hop_limit};
use crate::packet::Packet;
use crate::tcp::{ACK, Conn, HTTP, Open, SYN, seg};

pub(crate) const CASES: &[Case] = cases![V6:
    rfc8200_3_other_version_is_dropped,
    rfc8200_3_payload_length_beyond_the_frame_is_dropped,
    rfc8200_3_payload_length_within_a_padded_frame,
    rfc8200_3_hop_limit_of_one_is_taken,
    rfc8200_3_hop_limit_is_64,
    rfc8200_3_other_destination_is_dropped,
    rfc4291_2_7_source_that_is_no_host_is_dropped,
    rfc4291_2_5_3_loopback_never_comes_from_outside,
    rfc8200_4_3_hop_by_hop_options_are_passed,
    rfc8200_4_6_destination_options_are_passed,
    rfc8200_4_1_must_headers_in_a_chain,
    rfc8200_4_1_hop_by_hop_anywhere_else_is_told,
    rfc8200_4_2_option_00_is_skipped,
    rfc8200_4_2_option_01_is_dropped,
    rfc8200_4_2_option_10_is_told,
    rfc8200_4_2_option_11_is_told,
    rfc8200_4_4_routing_header_without_segments_is_passed,
    rfc8200_4_4_unknown_routing_with_segments_is_told,
    rfc8200_4_5_fragments_are_put_together,
    rfc8200_4_5_fragments_in_any_order,
    rfc5722_4_must_overlapping_fragments_are_dropped,
    rfc6946_4_atomic_fragment_is_taken_by_itself,
    rfc8200_4_5_fragment_of_odd_length_is_told,
    rfc8200_4_5_fragment_beyond_65535_is_told,
    rfc8200_4_5_tcp_in_fragments,
    rfc7112_5_first_fragment_without_the_whole_chain_is_dropped,
    rfc8200_4_7_no_next_header_is_dropped,
    rfc8200_4_unknown_next_header_is_told,
    rfc8200_8_1_must_udp_without_checksum_is_dropped,
    rfc8200_4_6_tcp_behind_destination_options,
    rfc4443_4_1_must_echo_is_answered,
    rfc4443_4_2_echo_of_every_size_returns_its_data,
    rfc4443_2_3_wrong_checksum_is_dropped,
    rfc4443_2_4_b_unknown_informational_message_is_dropped,
    rfc4443_2_4_e_must_no_error_about_an_error,
    rfc4443_2_4_e_must_no_error_about_a_multicast,
    rfc4443_2_4_e_must_no_error_to_no_host,
    rfc4443_3_1_should_1_4_for_a_closed_udp_port,
    rfc4443_3_1_error_quotes_what_fits_1280,
    rfc4443_2_4_f_must_errors_are_limited,
    rfc9293_3_9_2_3_must_57_syn_to_a_multicast_address_is_dropped,
];

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const NOTHING: u8 = 59;
const DESTINATION: u8 = 60;
const CLOSED: u16 = 40_404;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

fn theirs(host: &Host) -> Ipv6Addr {
    host.subject.v6
}

fn packet(host: &Host, next: u8, payload: &[u8]) -> Packet {
    v6_with_hop_limit(64, next, host.v6, theirs(host), payload)
}

fn echo_message(host: &Host, sequence: u16) -> Vec<u8> {
    host.echo(0x1122, sequence, b"conformance")
}

fn echo(host: &Host, sequence: u16) -> Packet {
    packet(host, ICMPV6, &echo_message(host, sequence))
}

#[track_caller]
fn expect_echo(host: &Host, sequence: u16) -> Datagram {
    host.expect_ip("an echo reply", |it| it.is_echo_reply(0x1122, sequence).then(|| it.clone()))
}

#[track_caller]
fn expect_error(host: &Host, kind: u8, code: u8) -> Datagram {
    host.expect_ip("an error", |it| (it.icmp() == Some((kind, code))).then(|| it.clone()))
}

/// Where the pointer of a parameter problem points.
fn pointer(error: &Datagram) -> u32 {
    ip::long(&error.payload, 4)
}

/// An extension header with options of six octets, and what is behind it.
fn options(next: u8, options: [u8; 6], behind: &[u8]) -> Vec<u8> {
    [&[next, 0][..], &options, behind].concat()
}

const PADDING: [u8; 6] = [1, 4, 0, 0, 0, 0];

fn rfc8200_3_other_version_is_dropped(host: &mut Host) {
    for first in [0x40, 0x50, 0x70, 0x00] {
        host.send(&echo(host, 1).with(0, first));
    }
    host.expect_silence("another version");
}

fn rfc8200_3_payload_length_beyond_the_frame_is_dropped(host: &mut Host) {
    host.send(&echo(host, 1).with(4, 1));
    host.send(&echo(host, 1).truncated(50));
    host.send(&echo(host, 1).truncated(39));
    host.expect_silence("a payload length beyond the frame");
}

fn rfc8200_3_payload_length_within_a_padded_frame(host: &mut Host) {
    let mut packet = echo(host, 1);
    packet.octets.extend([0xaa; 30]);
    host.send(&packet);
    assert_eq!(expect_echo(host, 1).payload.len(), 8 + b"conformance".len());
}

fn rfc8200_3_hop_limit_of_one_is_taken(host: &mut Host) {
    host.send(&echo(host, 1).with(7, 1));
    expect_echo(host, 1);
}

fn rfc8200_3_hop_limit_is_64(host: &mut Host) {
    let (_, syn_ack) = Conn::half_open(host, Open::default());
    assert_eq!(syn_ack.hop_limit, 64);
    host.send(&echo(host, 1));
    assert_eq!(expect_echo(host, 1).hop_limit, 64);
}

fn rfc8200_3_other_destination_is_dropped(host: &mut Host) {
    let nobody = Ipv6Addr::new(0xfd00, 0x123, 0, 0, 0, 0, 9, 9);
    for to in [nobody, Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)] {
        let message = ip::icmp(host.own(), to.into(), echo_message(host, 1));
        host.send(&v6_with_hop_limit(64, ICMPV6, host.v6, to, &message));
    }
    host.expect_silence("what is for another");
}

#[track_caller]
fn expect_no_answer_to(host: &mut Host, sent: &[Ipv6Addr]) {
    let frames = host.before_marker();
    let heard: Vec<Datagram> = frames.iter().filter_map(Datagram::of).collect();
    let to_them = |it: &Datagram| matches!(it.to, IpAddr::V6(to) if sent.contains(&to));
    let answers: Vec<Datagram> = heard.into_iter().filter(to_them).collect();
    // Neighbour advertisements go to all nodes unasked.
    let answers: Vec<Datagram> =
        answers.into_iter().filter(|it| it.icmp().is_none_or(|(kind, _)| kind != 136)).collect();
    assert!(answers.is_empty(), "{}", ip::list(&answers));
}

fn rfc4291_2_7_source_that_is_no_host_is_dropped(host: &mut Host) {
    let sources = [ALL_NODES, Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST, theirs(host)];
    for from in sources {
        let to = theirs(host);
        let message = ip::icmp(from.into(), to.into(), echo_message(host, 1));
        host.send(&v6_with_hop_limit(64, ICMPV6, from, to, &message));
    }
    expect_no_answer_to(host, &sources);
}

fn rfc4291_2_5_3_loopback_never_comes_from_outside(host: &mut Host) {
    let to = Ipv6Addr::LOCALHOST;
    let message = ip::icmp(host.own(), to.into(), echo_message(host, 1));
    host.send(&v6_with_hop_limit(64, ICMPV6, host.v6, to, &message));
    host.expect_silence("what is for ::1");
}

fn rfc8200_4_3_hop_by_hop_options_are_passed(host: &mut Host) {
    let payload = options(ICMPV6, PADDING, &echo_message(host, 1));
    host.send(&packet(host, HOP_BY_HOP, &payload));
    expect_echo(host, 1);
}

fn rfc8200_4_6_destination_options_are_passed(host: &mut Host) {
    let payload = options(ICMPV6, PADDING, &echo_message(host, 1));
    host.send(&packet(host, DESTINATION, &payload));
    expect_echo(host, 1);
}

fn rfc8200_4_1_must_headers_in_a_chain(host: &mut Host) {
    let mut payload = options(ICMPV6, PADDING, &echo_message(host, 1));
    payload = options(DESTINATION, PADDING, &payload);
    host.send(&packet(host, HOP_BY_HOP, &payload));
    expect_echo(host, 1);
}

fn rfc8200_4_1_hop_by_hop_anywhere_else_is_told(host: &mut Host) {
    let mut payload = options(ICMPV6, PADDING, &echo_message(host, 1));
    payload = options(HOP_BY_HOP, PADDING, &payload);
    host.send(&packet(host, DESTINATION, &payload));
    // The next-header field of the destination options.
    assert_eq!(pointer(&expect_error(host, 4, 1)), 40);
}

fn rfc8200_4_2_option_00_is_skipped(host: &mut Host) {
    let payload = options(ICMPV6, [0x1e, 4, 0, 0, 0, 0], &echo_message(host, 1));
    host.send(&packet(host, DESTINATION, &payload));
    expect_echo(host, 1);
}

fn rfc8200_4_2_option_01_is_dropped(host: &mut Host) {
    let payload = options(ICMPV6, [0x5e, 4, 0, 0, 0, 0], &echo_message(host, 1));
    host.send(&packet(host, DESTINATION, &payload));
    host.expect_silence("an option that asks to drop");
}

fn rfc8200_4_2_option_10_is_told(host: &mut Host) {
    let payload = options(ICMPV6, [0x9e, 4, 0, 0, 0, 0], &echo_message(host, 1));
    host.send(&packet(host, DESTINATION, &payload));
    assert_eq!(pointer(&expect_error(host, 4, 2)), 42);
}

fn rfc8200_4_2_option_11_is_told(host: &mut Host) {
    let payload = options(ICMPV6, [1, 0, 0xde, 2, 0, 0], &echo_message(host, 1));
    host.send(&packet(host, DESTINATION, &payload));
    assert_eq!(pointer(&expect_error(host, 4, 2)), 44);
}

fn rfc8200_4_4_routing_header_without_segments_is_passed(host: &mut Host) {
    let payload = options(ICMPV6, [77, 0, 0, 0, 0, 0], &echo_message(host, 1));
    host.send(&packet(host, ROUTING, &payload));
    expect_echo(host, 1);
}

fn rfc8200_4_4_unknown_routing_with_segments_is_told(host: &mut Host) {
    let payload = options(ICMPV6, [77, 1, 0, 0, 0, 0], &echo_message(host, 1));
    host.send(&packet(host, ROUTING, &payload));
    assert_eq!(pointer(&expect_error(host, 4, 0)), 42);
}

/// Octets `from..to` of a fragmentable part that begins with header `next`.
fn fragment(host: &Host, next: u8, id: u32, part: &[u8], from: usize, to: usize) -> Packet {
    let more = u16::from(to < part.len());
    let mut payload = vec![next, 0];
    payload.extend((from as u16 | more).to_be_bytes());
    payload.extend(id.to_be_bytes());
    payload.extend(&part[from..to]);
    packet(host, FRAGMENT, &payload)
}

fn long_echo(host: &Host, sequence: u16) -> Vec<u8> {
    host.echo(0x1122, sequence, &crate::bed::content(6, 1000))
}

fn rfc8200_4_5_fragments_are_put_together(host: &mut Host) {
    let whole = long_echo(host, 1);
    host.send(&fragment(host, ICMPV6, 1, &whole, 0, 800));
    host.send(&fragment(host, ICMPV6, 1, &whole, 800, 1008));
    assert_eq!(expect_echo(host, 1).payload[8..], whole[8..]);
}

fn rfc8200_4_5_fragments_in_any_order(host: &mut Host) {
    let whole = long_echo(host, 1);
    for (from, to) in [(800, 1008), (400, 800), (0, 400)] {
        host.send(&fragment(host, ICMPV6, 2, &whole, from, to));
    }
    assert_eq!(expect_echo(host, 1).payload[8..], whole[8..]);
}

fn rfc5722_4_must_overlapping_fragments_are_dropped(host: &mut Host) {
    let whole = long_echo(host, 1);
    for (from, to) in [(0, 800), (400, 960), (800, 1008)] {
        host.send(&fragment(host, ICMPV6, 3, &whole, from, to));
    }
    host.expect_silence("overlapping fragments");
}

/// RFC 6946 4: also beside fragments of the same identification.
fn rfc6946_4_atomic_fragment_is_taken_by_itself(host: &mut Host) {
    let (one, two) = (long_echo(host, 1), long_echo(host, 2));
    host.send(&fragment(host, ICMPV6, 4, &one, 0, 800));
    host.send(&fragment(host, ICMPV6, 4, &two, 0, two.len()));
    expect_echo(host, 2);
    host.send(&fragment(host, ICMPV6, 4, &one, 800, 1008));
    expect_echo(host, 1);
}

fn rfc8200_4_5_fragment_of_odd_length_is_told(host: &mut Host) {
    let whole = long_echo(host, 1);
    host.send(&fragment(host, ICMPV6, 5, &whole, 0, 803));
    // The payload length.
    assert_eq!(pointer(&expect_error(host, 4, 0)), 4);
}

fn rfc8200_4_5_fragment_beyond_65535_is_told(host: &mut Host) {
    let mut packet = fragment(host, ICMPV6, 6, &long_echo(host, 1), 0, 800);
    packet.octets[42..44].copy_from_slice(&0xfff8_u16.to_be_bytes());
    host.send(&packet);
    // The fragment offset.
    assert_eq!(pointer(&expect_error(host, 4, 0)), 42);
}

fn rfc8200_4_5_tcp_in_fragments(host: &mut Host) {
    let mut conn = Conn::open(host);
    let filler = "x".repeat(500);
    let request = format!("GET / HTTP/1.1\r\nHost: lab\r\nX: {filler}\r\n\r\n");
    let segment = conn.octets(&crate::tcp::text(request.as_bytes()));
    let len = segment.len();
    conn.host.send(&fragment(conn.host, TCP, 7, &segment, 256, len));
    conn.host.send(&fragment(conn.host, TCP, 7, &segment, 0, 256));
    conn.snd_nxt += request.len() as u32;
    assert_eq!(conn.response(), crate::bed::INDEX);
}

fn rfc7112_5_first_fragment_without_the_whole_chain_is_dropped(host: &mut Host) {
    let part = options(ICMPV6, PADDING, &long_echo(host, 1));
    host.send(&fragment(host, DESTINATION, 8, &part, 0, 8));
    host.send(&fragment(host, DESTINATION, 8, &part, 8, part.len()));
    let heard = host.datagrams_before_marker();
    // It may be told (ICMPv6 4/3).
    assert!(heard.iter().all(|it| !it.is_echo_reply(0x1122, 1)), "{}", ip::list(&heard));
}

fn rfc8200_4_7_no_next_header_is_dropped(host: &mut Host) {
    host.send(&packet(host, NOTHING, b""));
    host.send(&packet(host, NOTHING, b"beyond"));
    host.send(&packet(host, DESTINATION, &options(NOTHING, PADDING, b"")));
    host.expect_silence("no next header");
}

fn rfc8200_4_unknown_next_header_is_told(host: &mut Host) {
    host.send(&packet(host, 253, &[0; 8]));
    assert_eq!(pointer(&expect_error(host, 4, 1)), 6);
}

fn udp(host: &Host, to: Ipv6Addr, len: usize) -> Vec<u8> {
    ip::udp(host.own(), to.into(), (5000, CLOSED), &vec![7; len])
}

fn rfc8200_8_1_must_udp_without_checksum_is_dropped(host: &mut Host) {
    let mut datagram = udp(host, theirs(host), 8);
    datagram[6..8].fill(0);
    host.send(&packet(host, UDP, &datagram));
    host.expect_silence("UDP without checksum");
}

fn rfc8200_4_6_tcp_behind_destination_options(host: &mut Host) {
    let mut conn = Conn::closed(host, HTTP);
    let segment = conn.octets(&seg(SYN));
    conn.host.send(&packet(conn.host, DESTINATION, &options(TCP, PADDING, &segment)));
    conn.snd_nxt = 1;
    conn.syn_ack();
    conn.send(seg(ACK));
    conn.expect_alive();
}

fn rfc4443_4_1_must_echo_is_answered(host: &mut Host) {
    host.send(&echo(host, 7));
    let reply = expect_echo(host, 7);
    assert_eq!((reply.from, reply.icmp()), (theirs(host).into(), Some((129, 0))));
}

fn rfc4443_4_2_echo_of_every_size_returns_its_data(host: &mut Host) {
    for len in (0..=1452).step_by(11) {
        let data: Vec<u8> = (0..len).map(|at| at as u8).collect();
        host.send(&packet(host, ICMPV6, &host.echo(0x1122, len, &data)));
        assert_eq!(expect_echo(host, len).payload[8..], data);
    }
}

fn rfc4443_2_3_wrong_checksum_is_dropped(host: &mut Host) {
    let packet = echo(host, 1);
    let wrong = packet.octets[42] ^ 1;
    host.send(&packet.with(42, wrong));
    host.expect_silence("a wrong checksum");
}

fn rfc4443_2_4_b_unknown_informational_message_is_dropped(host: &mut Host) {
    for kind in [160, 200, 255] {
        let mut message = echo_message(host, 1);
        message[0] = kind;
        host.send(&packet(host, ICMPV6, &ip::icmp(host.own(), host.theirs(), message)));
    }
    host.expect_silence("an unknown message");
}

fn rfc4443_2_4_e_must_no_error_about_an_error(host: &mut Host) {
    let about = v6_with_hop_limit(64, UDP, theirs(host), host.v6, &[0; 8]);
    for kind in [1, 2, 3, 4, 100] {
        let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
        message.extend(&about.octets);
        let message = ip::icmp(host.own(), host.theirs(), message);
        // Behind an option that asks to be told about.
        host.send(&packet(host, ICMPV6, &message));
        let wrapped = options(ICMPV6, [0x9e, 4, 0, 0, 0, 0], &message);
        if kind == 100 {
            host.send(&packet(host, DESTINATION, &wrapped));
        }
    }
    let heard = host.datagrams_before_marker();
    assert!(heard.iter().all(|it| it.icmp() != Some((1, 4))), "{}", ip::list(&heard));
}

fn rfc4443_2_4_e_must_no_error_about_a_multicast(host: &mut Host) {
    let mac = [0x33, 0x33, 0, 0, 0, 1];
    let datagram = udp(host, ALL_NODES, 8);
    host.send_to(mac, &v6_with_hop_limit(64, UDP, host.v6, ALL_NODES, &datagram));
    host.send_to(mac, &v6_with_hop_limit(64, 253, host.v6, ALL_NODES, &[0; 8]));
    host.expect_silence_to_broadcast("a multicast");
    let own = IpAddr::V6(host.v6);
    let frames = host.before_broadcast_marker();
    let heard: Vec<Datagram> =
        frames.iter().filter_map(Datagram::of).filter(|it| it.to == own).collect();
    assert!(heard.is_empty(), "{}", ip::list(&heard));
}

fn rfc4443_2_4_e_must_no_error_to_no_host(host: &mut Host) {
    let sources = [ALL_NODES, Ipv6Addr::UNSPECIFIED];
    for from in sources {
        let to = theirs(host);
        let datagram = ip::udp(from.into(), to.into(), (5000, CLOSED), b"anyone?");
        host.send(&v6_with_hop_limit(64, UDP, from, to, &datagram));
    }
    expect_no_answer_to(host, &sources);
}

fn rfc4443_3_1_should_1_4_for_a_closed_udp_port(host: &mut Host) {
    host.send(&packet(host, UDP, &udp(host, theirs(host), 8)));
    expect_error(host, 1, 4);
}

fn rfc4443_3_1_error_quotes_what_fits_1280(host: &mut Host) {
    let packet = packet(host, UDP, &udp(host, theirs(host), 1400));
    host.send(&packet);
    let error = expect_error(host, 1, 4);
    assert_eq!(error.payload.len(), 1280 - 40);
    assert_eq!(error.quoted(), &packet.octets[..1232]);
}

fn rfc4443_2_4_f_must_errors_are_limited(host: &mut Host) {
    // First it gets to know where this host is: nothing waits for that any more.
    host.before_marker();
    for _ in 0..200 {
        host.send(&packet(host, UDP, &udp(host, theirs(host), 8)));
    }
    let errors = host.datagrams_before_marker().len();
    assert!((1..=100).contains(&errors), "{errors} errors for 200 datagrams");
}

fn rfc9293_3_9_2_3_must_57_syn_to_a_multicast_address_is_dropped(host: &mut Host) {
    let from = host.v6;
    let segment = Conn::closed(host, HTTP).octets(&seg(SYN));
    let segment = ip::with_checksum(TCP, from.into(), ALL_NODES.into(), segment, 16);
    let packet = v6_with_hop_limit(64, TCP, from, ALL_NODES, &segment);
    host.send(&packet);
    host.send_to([0x33, 0x33, 0, 0, 0, 1], &packet);
    let frames = host.before_broadcast_marker();
    let heard: Vec<Datagram> =
        frames.iter().filter_map(Datagram::of).filter(|it| it.protocol == TCP).collect();
    let own = IpAddr::V6(from);
    assert!(heard.iter().all(|it| it.to != own), "{}", ip::list(&heard));
}
