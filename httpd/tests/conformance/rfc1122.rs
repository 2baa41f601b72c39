//! RFC 1122 3.2, the Internet layer of hosts: IPv4 (RFC 791) and ICMPv4 (RFC 792).

use std::net::Ipv4Addr;

use crate::case::{Case, cases};
use crate::host::{Host, ICMP, IPV4, TCP, UDP};
use crate::ip::{self, Datagram};
use crate::packet::{BROADCAST, Packet, ipv4};
use crate::tcp::{ACK, Conn, HTTP, SYN, seg};

pub(crate) const CASES: &[Case] = cases![V4:
    rfc1122_3_2_1_1_must_other_version_is_dropped,
    rfc1122_3_2_1_2_must_wrong_header_checksum_is_dropped,
    rfc791_3_1_header_of_wrong_length_is_dropped,
    rfc791_3_1_total_length_beyond_the_frame_is_dropped,
    rfc791_3_1_total_length_within_a_padded_frame,
    rfc1122_3_2_1_3_must_other_destination_is_dropped,
    rfc1122_3_2_1_3_must_source_that_is_no_host_is_dropped,
    rfc1122_3_2_1_3_must_source_of_all_hosts_of_the_network_is_dropped,
    rfc1122_3_2_1_3_must_loopback_never_comes_from_outside,
    rfc1122_3_2_1_4_must_fragments_are_put_together,
    rfc1122_3_2_1_4_fragments_in_any_order,
    rfc815_fragment_that_comes_twice,
    rfc815_fragments_of_two_packets_are_not_mixed,
    rfc815_tcp_in_fragments,
    rfc791_3_2_fragment_beyond_65535_is_dropped,
    rfc5722_4_overlapping_fragments_are_dropped,
    rfc1122_3_2_1_7_must_time_to_live_of_one_is_taken,
    rfc1122_3_2_1_7_time_to_live_is_64,
    rfc1122_3_2_1_8_must_unknown_options_are_ignored,
    rfc1122_3_2_1_8_tcp_with_record_route,
    rfc1122_3_2_1_8_option_of_wrong_length_is_no_harm,
    rfc1191_3_tcp_sets_dont_fragment,
    rfc1122_3_2_2_6_must_echo_is_answered,
    rfc1122_3_2_2_6_must_echo_of_every_size_returns_its_data,
    rfc1122_3_2_2_6_echo_in_fragments_is_answered,
    rfc792_wrong_checksum_is_dropped,
    rfc1122_3_2_2_must_unknown_type_is_dropped,
    rfc1122_3_2_2_must_no_error_about_an_error,
    rfc1122_3_2_2_must_no_error_about_a_broadcast,
    rfc1122_3_2_2_must_no_error_about_a_broadcast_frame,
    rfc1122_3_2_2_must_no_error_about_a_later_fragment,
    rfc1122_3_2_2_must_no_error_to_no_host,
    rfc1122_3_2_2_1_should_3_3_for_a_closed_udp_port,
    rfc1122_3_2_2_1_should_3_2_for_an_unknown_protocol,
    rfc1122_3_2_2_must_error_quotes_header_and_eight_octets,
    rfc1812_4_3_2_8_errors_are_limited,
    rfc9293_3_9_2_3_must_57_syn_to_a_broadcast_address_is_dropped,
    rfc9293_3_9_2_3_must_63_syn_from_no_host_is_dropped,
];

const NOBODY: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 252);
const NETWORK_BROADCAST: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 255);
/// A UDP port that no one listens on.
const CLOSED: u16 = 40_404;

/// An echo request as a whole packet.
fn echo(host: &Host, sequence: u16) -> Packet {
    ipv4(ICMP, host.v4, host.subject.v4, &host.echo(0x1122, sequence, b"conformance"))
}

#[track_caller]
fn expect_echo(host: &Host, sequence: u16) -> Datagram {
    host.expect_ip("an echo reply", |it| it.is_echo_reply(0x1122, sequence).then(|| it.clone()))
}

fn udp(host: &Host, to: Ipv4Addr) -> Packet {
    let datagram = ip::udp(host.v4.into(), to.into(), (5000, CLOSED), b"anyone?");
    ipv4(UDP, host.v4, to, &datagram)
}

/// A packet with options, which are a multiple of four octets.
fn with_options(packet: &Packet, options: &[u8]) -> Packet {
    let mut octets = packet.octets.clone();
    octets.splice(20..20, options.iter().copied());
    octets[0] += (options.len() / 4) as u8;
    let total = octets.len() as u16;
    octets[2..4].copy_from_slice(&total.to_be_bytes());
    Packet { ethertype: IPV4, octets }.summed()
}

/// Octets `from..to` of a packet's payload as a fragment; they begin at a multiple of eight.
fn fragment(packet: &Packet, id: u16, from: usize, to: usize) -> Packet {
    let payload = &packet.octets[20..];
    let mut octets = packet.octets[..20].to_vec();
    octets.extend(&payload[from..to]);
    let total = octets.len() as u16;
    let more = u16::from(to < payload.len()) << 13;
    octets[2..4].copy_from_slice(&total.to_be_bytes());
    octets[4..6].copy_from_slice(&id.to_be_bytes());
    octets[6..8].copy_from_slice(&((from / 8) as u16 | more).to_be_bytes());
    Packet { ethertype: IPV4, octets }.summed()
}

fn rfc1122_3_2_1_1_must_other_version_is_dropped(host: &mut Host) {
    for first in [0x05, 0x55, 0x65, 0xf5] {
        let mut packet = echo(host, 1);
        packet.octets[0] = first;
        host.send(&packet.summed());
    }
    host.expect_silence("another version");
}

fn rfc1122_3_2_1_2_must_wrong_header_checksum_is_dropped(host: &mut Host) {
    let packet = echo(host, 1);
    let wrong = packet.octets[11] ^ 1;
    host.send(&packet.with(11, wrong));
    host.expect_silence("a wrong header checksum");
}

fn rfc791_3_1_header_of_wrong_length_is_dropped(host: &mut Host) {
    host.send(&echo(host, 1).with(0, 0x44).summed());
    let mut packet = echo(host, 1).truncated(32).with(0, 0x4f);
    packet.octets[3] = 32;
    packet.octets[2] = 0;
    host.send(&packet);
    host.expect_silence("a header of wrong length");
}

fn rfc791_3_1_total_length_beyond_the_frame_is_dropped(host: &mut Host) {
    host.send(&echo(host, 1).with(2, 1).summed());
    host.send(&echo(host, 1).with(3, 19).summed());
    host.expect_silence("a wrong total length");
}

fn rfc791_3_1_total_length_within_a_padded_frame(host: &mut Host) {
    let mut packet = echo(host, 1);
    packet.octets.extend([0xaa; 30]);
    host.send(&packet);
    let reply = expect_echo(host, 1);
    assert_eq!(reply.payload.len(), 8 + b"conformance".len());
}

fn rfc1122_3_2_1_3_must_other_destination_is_dropped(host: &mut Host) {
    for to in [NOBODY, Ipv4Addr::new(10, 1, 2, 3), Ipv4Addr::new(224, 0, 0, 99)] {
        host.send(&ipv4(ICMP, host.v4, to, &host.echo(1, 1, b"")));
        host.send(&udp(host, to));
    }
    host.expect_silence("what is for another");
}

fn no_hosts(host: &Host) -> [Ipv4Addr; 5] {
    [
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::BROADCAST,
        Ipv4Addr::new(224, 0, 0, 1),
        host.subject.v4,
    ]
}

/// Nothing at all comes out of the subject for packets of such sources, to whomever.
fn expect_no_answer_to(host: &mut Host, sent: &[Ipv4Addr]) {
    let frames = host.before_marker();
    let heard: Vec<Datagram> = frames.iter().filter_map(Datagram::of).collect();
    let answers: Vec<Datagram> = heard
        .into_iter()
        .filter(|it| matches!(it.to, std::net::IpAddr::V4(to) if sent.contains(&to)))
        .collect();
    assert!(answers.is_empty(), "{}", ip::list(&answers));
}

fn rfc1122_3_2_1_3_must_source_that_is_no_host_is_dropped(host: &mut Host) {
    let sources = no_hosts(host);
    for from in sources {
        let message = host.echo(1, 1, b"");
        host.send(&ipv4(ICMP, from, host.subject.v4, &message));
    }
    expect_no_answer_to(host, &sources);
}

fn rfc1122_3_2_1_3_must_source_of_all_hosts_of_the_network_is_dropped(host: &mut Host) {
    let (from, to) = (NETWORK_BROADCAST, host.subject.v4);
    let message = host.echo(1, 1, b"");
    host.send(&ipv4(ICMP, from, to, &message));
    let datagram = ip::udp(from.into(), to.into(), (5000, CLOSED), b"anyone?");
    host.send(&ipv4(UDP, from, to, &datagram));
    let packet = syn(host, from, to);
    host.send(&packet);
    expect_no_answer_to(host, &[from]);
}

fn rfc1122_3_2_1_3_must_loopback_never_comes_from_outside(host: &mut Host) {
    let message = host.echo(1, 1, b"");
    host.send(&ipv4(ICMP, host.v4, Ipv4Addr::LOCALHOST, &message));
    host.expect_silence("what is for 127.0.0.1");
}

fn long_echo(host: &Host, sequence: u16) -> Packet {
    let data: Vec<u8> = (0..3000_u32).map(|at| at as u8).collect();
    ipv4(ICMP, host.v4, host.subject.v4, &host.echo(0x1122, sequence, &data[..1400]))
}

fn rfc1122_3_2_1_4_must_fragments_are_put_together(host: &mut Host) {
    let whole = long_echo(host, 1);
    let len = whole.octets.len() - 20;
    host.send(&fragment(&whole, 1, 0, 800));
    host.send(&fragment(&whole, 1, 800, len));
    assert_eq!(expect_echo(host, 1).payload[8..], whole.octets[28..]);
}

fn rfc1122_3_2_1_4_fragments_in_any_order(host: &mut Host) {
    let whole = long_echo(host, 1);
    let len = whole.octets.len() - 20;
    host.send(&fragment(&whole, 2, 800, len));
    host.send(&fragment(&whole, 2, 400, 800));
    host.send(&fragment(&whole, 2, 0, 400));
    assert_eq!(expect_echo(host, 1).payload[8..], whole.octets[28..]);
}

fn rfc815_fragment_that_comes_twice(host: &mut Host) {
    let whole = long_echo(host, 1);
    let len = whole.octets.len() - 20;
    host.send(&fragment(&whole, 3, 0, 800));
    host.send(&fragment(&whole, 3, 0, 800));
    host.send(&fragment(&whole, 3, 800, len));
    expect_echo(host, 1);
}

fn rfc815_fragments_of_two_packets_are_not_mixed(host: &mut Host) {
    let (one, two) = (long_echo(host, 1), long_echo(host, 2));
    let len = one.octets.len() - 20;
    host.send(&fragment(&one, 4, 0, 800));
    host.send(&fragment(&two, 5, 800, len));
    host.expect_silence("two halves");
    host.send(&fragment(&two, 5, 0, 800));
    expect_echo(host, 2);
    host.send(&fragment(&one, 4, 800, len));
    expect_echo(host, 1);
}

fn rfc815_tcp_in_fragments(host: &mut Host) {
    let mut conn = Conn::open(host);
    let filler = "x".repeat(500);
    let request = format!("GET / HTTP/1.1\r\nHost: lab\r\nX: {filler}\r\n\r\n");
    let segment = conn.octets(&crate::tcp::text(request.as_bytes()));
    let whole = ipv4(TCP, conn.host.v4, conn.host.subject.v4, &segment);
    conn.host.send(&fragment(&whole, 6, 256, segment.len()));
    conn.host.send(&fragment(&whole, 6, 0, 256));
    conn.snd_nxt += request.len() as u32;
    assert_eq!(conn.response(), crate::bed::INDEX);
}

fn rfc791_3_2_fragment_beyond_65535_is_dropped(host: &mut Host) {
    let whole = long_echo(host, 1);
    let mut last = fragment(&whole, 7, 0, 800);
    last.octets[6..8].copy_from_slice(&8190_u16.to_be_bytes());
    host.send(&last.summed());
    host.expect_silence("a fragment beyond the longest packet");
}

/// Which of the two is right cannot be known: RFC 5722's rule, for both families.
fn rfc5722_4_overlapping_fragments_are_dropped(host: &mut Host) {
    let whole = long_echo(host, 1);
    let len = whole.octets.len() - 20;
    host.send(&fragment(&whole, 8, 0, 800));
    host.send(&fragment(&whole, 8, 400, 1000));
    host.send(&fragment(&whole, 8, 800, len));
    host.expect_silence("overlapping fragments");
}

fn rfc1122_3_2_1_7_must_time_to_live_of_one_is_taken(host: &mut Host) {
    host.send(&echo(host, 1).with(8, 1).summed());
    expect_echo(host, 1);
}

fn rfc1122_3_2_1_7_time_to_live_is_64(host: &mut Host) {
    host.send(&echo(host, 1));
    assert_eq!(expect_echo(host, 1).hop_limit, 64);
    let (_, syn_ack) = Conn::half_open(host, crate::tcp::Open::default());
    assert_eq!(syn_ack.hop_limit, 64);
}

fn rfc1122_3_2_1_8_must_unknown_options_are_ignored(host: &mut Host) {
    host.send(&with_options(&echo(host, 1), &[1, 1, 1, 1]));
    expect_echo(host, 1);
    host.send(&with_options(&echo(host, 2), &[0x5e, 4, 1, 2]));
    expect_echo(host, 2);
}

fn rfc1122_3_2_1_8_tcp_with_record_route(host: &mut Host) {
    let mut conn = Conn::closed(host, HTTP);
    let segment = conn.octets(&seg(SYN));
    let packet = ipv4(TCP, conn.host.v4, conn.host.subject.v4, &segment);
    conn.host.send(&with_options(&packet, &[7, 7, 4, 0, 0, 0, 0, 1]));
    conn.snd_nxt = 1;
    conn.syn_ack();
    conn.send(seg(ACK));
    conn.expect_alive();
}

fn rfc1122_3_2_1_8_option_of_wrong_length_is_no_harm(host: &mut Host) {
    for option in [[0x5e, 0, 0, 0], [0x5e, 200, 0, 0], [0x5e, 1, 0, 0]] {
        host.send(&with_options(&echo(host, 1), &option));
    }
    // Whether it is answered, dropped, or told (ICMP 12), the host lives.
    host.before_marker();
}

fn rfc1191_3_tcp_sets_dont_fragment(host: &mut Host) {
    let mut conn = Conn::open(host);
    conn.request("/middle", false);
    for segment in conn.flight() {
        assert_eq!(segment.fragment, 0x4000, "{segment}");
    }
}

fn rfc1122_3_2_2_6_must_echo_is_answered(host: &mut Host) {
    host.send(&echo(host, 77));
    let reply = expect_echo(host, 77);
    assert_eq!((reply.from, reply.icmp()), (host.subject.v4.into(), Some((0, 0))));
}

fn rfc1122_3_2_2_6_must_echo_of_every_size_returns_its_data(host: &mut Host) {
    for len in (0..=1472).step_by(7) {
        let data: Vec<u8> = (0..len).map(|at| at as u8).collect();
        let message = host.echo(0x1122, len, &data);
        host.send_ip(ICMP, &message);
        assert_eq!(expect_echo(host, len).payload[8..], data);
    }
}

fn rfc1122_3_2_2_6_echo_in_fragments_is_answered(host: &mut Host) {
    let data = crate::bed::content(5, 2000);
    let whole = ipv4(ICMP, host.v4, host.subject.v4, &host.echo(0x1122, 1, &data));
    host.send(&fragment(&whole, 9, 0, 1480));
    host.send(&fragment(&whole, 9, 1480, 2008));
    // The answer may be in fragments itself, of which the first says enough.
    host.expect_ip("an echo reply", |it| {
        let first = it.protocol == ICMP && it.fragment & 0x1fff == 0;
        (first && it.payload[0] == 0 && it.payload[8..100] == data[..92]).then_some(())
    });
}

fn rfc792_wrong_checksum_is_dropped(host: &mut Host) {
    let packet = echo(host, 1);
    let wrong = packet.octets[22] ^ 1;
    host.send(&packet.with(22, wrong));
    host.expect_silence("a wrong checksum");
}

fn rfc1122_3_2_2_must_unknown_type_is_dropped(host: &mut Host) {
    for kind in [1, 2, 7, 42, 200, 255] {
        let mut message = host.echo(1, 1, b"");
        message[0] = kind;
        let message = ip::icmp(host.own(), host.theirs(), message);
        host.send_ip(ICMP, &message);
    }
    host.expect_silence("an unknown message");
}

/// An ICMP error to the subject, about a packet.
fn error(host: &Host, kind: u8, code: u8, about: &Packet) -> Packet {
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    message.extend(&about.octets[..28]);
    ipv4(ICMP, host.v4, host.subject.v4, &ip::icmp(host.own(), host.theirs(), message))
}

fn rfc1122_3_2_2_must_no_error_about_an_error(host: &mut Host) {
    let about = ipv4(UDP, host.subject.v4, host.v4, &[0; 8]);
    for kind in [3, 4, 5, 11, 12] {
        host.send(&error(host, kind, 0, &about));
        host.send(&error(host, kind, 77, &about));
    }
    host.expect_silence("an error");
}

fn rfc1122_3_2_2_must_no_error_about_a_broadcast(host: &mut Host) {
    for to in [NETWORK_BROADCAST, Ipv4Addr::BROADCAST] {
        host.send_to(BROADCAST, &udp(host, to));
        host.send_to(BROADCAST, &ipv4(253, host.v4, to, &[0; 8]));
    }
    host.expect_silence_to_broadcast("a broadcast");
}

fn rfc1122_3_2_2_must_no_error_about_a_broadcast_frame(host: &mut Host) {
    host.send_to(BROADCAST, &udp(host, host.subject.v4));
    host.send_to(BROADCAST, &ipv4(253, host.v4, host.subject.v4, &[0; 8]));
    host.expect_silence_to_broadcast("a packet in a broadcast frame");
}

fn rfc1122_3_2_2_must_no_error_about_a_later_fragment(host: &mut Host) {
    let whole = ipv4(253, host.v4, host.subject.v4, &[0; 800]);
    host.send(&fragment(&whole, 10, 400, 800));
    host.expect_silence("a later fragment");
}

fn rfc1122_3_2_2_must_no_error_to_no_host(host: &mut Host) {
    let sources = no_hosts(host);
    for from in sources {
        let to = host.subject.v4;
        let datagram = ip::udp(from.into(), to.into(), (5000, CLOSED), b"anyone?");
        host.send(&ipv4(UDP, from, to, &datagram));
    }
    expect_no_answer_to(host, &sources);
}

fn rfc1122_3_2_2_1_should_3_3_for_a_closed_udp_port(host: &mut Host) {
    host.send(&udp(host, host.subject.v4));
    host.expect_ip("port unreachable", |it| (it.icmp() == Some((3, 3))).then_some(()));
}

fn rfc1122_3_2_2_1_should_3_2_for_an_unknown_protocol(host: &mut Host) {
    host.send(&ipv4(253, host.v4, host.subject.v4, &[0; 8]));
    host.expect_ip("protocol unreachable", |it| (it.icmp() == Some((3, 2))).then_some(()));
}

fn rfc1122_3_2_2_must_error_quotes_header_and_eight_octets(host: &mut Host) {
    let packet = udp(host, host.subject.v4);
    host.send(&packet);
    let error = host.expect_ip("an error", |it| (it.icmp() == Some((3, 3))).then(|| it.clone()));
    assert_eq!(error.quoted()[..28], packet.octets[..28]);
    assert!(error.payload.len() <= 548, "RFC 1812 4.3.2.3: at most 576 octets");
}

fn rfc1812_4_3_2_8_errors_are_limited(host: &mut Host) {
    // First it gets to know where this host is: nothing waits for that any more.
    host.before_marker();
    for _ in 0..200 {
        host.send(&udp(host, host.subject.v4));
    }
    let errors = host.datagrams_before_marker().len();
    assert!((1..=100).contains(&errors), "{errors} errors for 200 datagrams");
}

fn syn(host: &mut Host, from: Ipv4Addr, to: Ipv4Addr) -> Packet {
    let mut segment = Conn::closed(host, HTTP).octets(&seg(SYN));
    segment = ip::with_checksum(TCP, from.into(), to.into(), segment, 16);
    ipv4(TCP, from, to, &segment)
}

fn rfc9293_3_9_2_3_must_57_syn_to_a_broadcast_address_is_dropped(host: &mut Host) {
    for to in [NETWORK_BROADCAST, Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1)] {
        let packet = syn(host, host.v4, to);
        host.send_to(BROADCAST, &packet);
    }
    let packet = syn(host, host.v4, host.subject.v4);
    host.send_to(BROADCAST, &packet);
    host.expect_silence_to_broadcast("a SYN to many");
}

fn rfc9293_3_9_2_3_must_63_syn_from_no_host_is_dropped(host: &mut Host) {
    let sources = no_hosts(host);
    for from in sources {
        let packet = syn(host, from, host.subject.v4);
        host.send(&packet);
    }
    expect_no_answer_to(host, &sources);
}
