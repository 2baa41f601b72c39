//! RFC 4861, neighbour discovery, and RFC 4862, the detection of duplicate addresses.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use crate::case::{Case, cases};
use crate::host::{Host, ICMPV6, IPV6, PATIENCE};
use crate::hub::Frame;
use crate::ip::{self, Datagram, v6_with_hop_limit};
use crate::packet::{Mac, Packet};

pub(crate) const CASES: &[Case] = cases![V6:
    rfc4861_7_2_4_solicitation_to_the_group_is_answered,
    rfc4861_7_2_4_unicast_solicitation_is_answered,
    rfc4861_7_2_4_solicitation_without_link_layer_address,
    rfc4861_7_1_1_must_hop_limit_is_255,
    rfc4861_7_1_1_must_code_is_0,
    rfc4861_7_1_1_must_checksum_is_right,
    rfc4861_7_1_1_must_it_is_whole,
    rfc4861_7_1_1_must_target_is_no_multicast,
    rfc4861_7_1_1_must_no_option_has_length_0,
    rfc4861_7_1_1_must_unspecified_source_asks_the_group,
    rfc4861_7_1_1_must_unspecified_source_has_no_link_layer_address,
    rfc4861_4_3_unknown_options_are_ignored,
    rfc4861_7_2_3_solicitation_for_another_is_not_answered,
    rfc4862_5_4_3_must_probe_for_its_address_is_answered_to_all,
    rfc4861_7_2_2_packet_waits_for_the_answer,
    rfc4861_7_2_2_question_goes_to_the_group_with_its_address,
    rfc4861_7_2_3_who_asks_is_known,
    rfc4861_7_1_2_advertisement_of_hop_limit_254_is_dropped,
];

fn theirs(host: &Host) -> Ipv6Addr {
    host.subject.v6
}

/// The solicited-node group of an address, and its MAC address.
fn group(address: Ipv6Addr) -> (Ipv6Addr, Mac) {
    let [.., a, b, c] = address.octets();
    let low = u16::from_be_bytes([b, c]);
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), low);
    (group, [0x33, 0x33, 0xff, a, b, c])
}

fn solicitation(target: Ipv6Addr, source: Option<Mac>) -> Vec<u8> {
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    if let Some(mac) = source {
        message.extend([1, 1]);
        message.extend(mac);
    }
    message
}

fn packet(from: Ipv6Addr, to: Ipv6Addr, message: Vec<u8>) -> Packet {
    v6_with_hop_limit(255, ICMPV6, from, to, &ip::icmp(from.into(), to.into(), message))
}

fn advertisement(frame: &Frame) -> Option<Datagram> {
    Datagram::of(frame).filter(|it| it.icmp() == Some((136, 0)))
}

/// The advertisement that a solicitation brings to who has asked.
#[track_caller]
fn answer(host: &Host, mac: Mac, question: &Packet) -> Datagram {
    answer_to(host, host.v6, mac, question)
}

/// The one that it brings to an address.
#[track_caller]
fn answer_to(host: &Host, to: Ipv6Addr, mac: Mac, question: &Packet) -> Datagram {
    for _ in 0..10 {
        host.send_to(mac, question);
        let deadline = Instant::now() + PATIENCE / 10;
        while let Some(frame) = host.hear(deadline) {
            if let Some(answer) = advertisement(&frame)
                && answer.to == IpAddr::V6(to)
            {
                return answer;
            }
        }
    }
    panic!("no advertisement came");
}

/// Flags, target and link-layer address of an advertisement are those of the subject.
#[track_caller]
fn check(host: &Host, answer: &Datagram, flags: u8) {
    assert_eq!(answer.hop_limit, 255);
    assert_eq!(answer.from, IpAddr::V6(theirs(host)));
    assert_eq!(answer.payload[4] & 0x60, flags, "solicited and override");
    assert_eq!(answer.payload[8..24], theirs(host).octets());
    assert_eq!(answer.payload[24..], [&[2, 1][..], &host.subject.mac].concat());
}

fn rfc4861_7_2_4_solicitation_to_the_group_is_answered(host: &mut Host) {
    let (to, mac) = group(theirs(host));
    let question = packet(host.v6, to, solicitation(theirs(host), Some(host.mac)));
    let answer = answer(host, mac, &question);
    check(host, &answer, 0x60);
}

fn rfc4861_7_2_4_unicast_solicitation_is_answered(host: &mut Host) {
    let to = theirs(host);
    let question = packet(host.v6, to, solicitation(to, Some(host.mac)));
    let answer = answer(host, host.subject.mac, &question);
    // Override is what the subject likes: who asks so has an entry.
    assert_eq!(answer.payload[4] & 0x40, 0x40);
}

/// RFC 4861 4.3: a unicast question may lack it.
fn rfc4861_7_2_4_solicitation_without_link_layer_address(host: &mut Host) {
    let to = theirs(host);
    answer(host, host.subject.mac, &packet(host.v6, to, solicitation(to, None)));
}

/// Nothing that is advertised comes of a question.
#[track_caller]
fn expect_no_answer(host: &mut Host, what: &str, questions: &[Packet]) {
    for question in questions {
        host.send(question);
    }
    let frames = host.before_marker();
    let heard: Vec<Datagram> = frames.iter().filter_map(advertisement).collect();
    let heard: Vec<Datagram> = heard.into_iter().filter(|it| it.to == host.own()).collect();
    assert!(heard.is_empty(), "{what} was answered: {}", ip::list(&heard));
}

fn asked(host: &Host, change: impl Fn(&mut Vec<u8>)) -> Packet {
    let to = theirs(host);
    let mut message = solicitation(to, Some(host.mac));
    change(&mut message);
    packet(host.v6, to, message)
}

fn rfc4861_7_1_1_must_hop_limit_is_255(host: &mut Host) {
    let question = asked(host, |_| {});
    let questions = [0, 1, 64, 254].map(|hops| question.clone().with(7, hops));
    expect_no_answer(host, "what came through a router", &questions);
}

fn rfc4861_7_1_1_must_code_is_0(host: &mut Host) {
    let question = asked(host, |message| message[1] = 1);
    expect_no_answer(host, "another code", &[question]);
}

fn rfc4861_7_1_1_must_checksum_is_right(host: &mut Host) {
    let question = asked(host, |_| {});
    let wrong = question.octets[42] ^ 1;
    expect_no_answer(host, "a wrong checksum", &[question.with(42, wrong)]);
}

fn rfc4861_7_1_1_must_it_is_whole(host: &mut Host) {
    let questions = [8, 16, 23].map(|len| asked(host, |message| message.truncate(len)));
    expect_no_answer(host, "a short message", &questions);
}

fn rfc4861_7_1_1_must_target_is_no_multicast(host: &mut Host) {
    let question = asked(host, |message| message[8] = 0xff);
    expect_no_answer(host, "a question for a group", &[question]);
}

fn rfc4861_7_1_1_must_no_option_has_length_0(host: &mut Host) {
    let question = asked(host, |message| message[25] = 0);
    expect_no_answer(host, "an option of length 0", &[question]);
}

/// What goes to all nodes after a probe of the unspecified source.
#[track_caller]
fn expect_no_defence(host: &mut Host, mac: Mac, probe: &Packet) {
    host.send_to(mac, probe);
    host.send(probe);
    let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let target = theirs(host).octets();
    let frames = host.before_marker();
    let heard: Vec<Datagram> = frames
        .iter()
        .filter_map(advertisement)
        .filter(|it| it.to == IpAddr::V6(all) && it.payload[8..24] == target)
        .collect();
    assert!(heard.is_empty(), "{}", ip::list(&heard));
}

fn rfc4861_7_1_1_must_unspecified_source_asks_the_group(host: &mut Host) {
    let to = theirs(host);
    let probe = packet(Ipv6Addr::UNSPECIFIED, to, solicitation(to, None));
    let mac = host.subject.mac;
    expect_no_defence(host, mac, &probe);
}

fn rfc4861_7_1_1_must_unspecified_source_has_no_link_layer_address(host: &mut Host) {
    let target = theirs(host);
    let (to, _) = group(target);
    let probe = packet(Ipv6Addr::UNSPECIFIED, to, solicitation(target, Some(host.mac)));
    let mac = host.subject.mac;
    expect_no_defence(host, mac, &probe);
}

fn rfc4861_4_3_unknown_options_are_ignored(host: &mut Host) {
    let question = asked(host, |message| message.extend([200, 2].iter().chain(&[0; 14])));
    answer(host, host.subject.mac, &question);
}

fn rfc4861_7_2_3_solicitation_for_another_is_not_answered(host: &mut Host) {
    let question = asked(host, |message| message[23] ^= 1);
    expect_no_answer(host, "a question for another", &[question]);
}

/// RFC 4862 5.4.3: the address is taken.
fn rfc4862_5_4_3_must_probe_for_its_address_is_answered_to_all(host: &mut Host) {
    let target = theirs(host);
    let (to, mac) = group(target);
    let probe = packet(Ipv6Addr::UNSPECIFIED, to, solicitation(target, None));
    let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    check(host, &answer_to(host, all, mac, &probe), 0x20);
}

fn rfc4861_7_2_2_packet_waits_for_the_answer(host: &mut Host) {
    host.send_ip(ICMPV6, &host.echo(1, 1, b""));
    host.expect_ip("an echo reply", |it| it.is_echo_reply(1, 1).then_some(()));
}

fn rfc4861_7_2_2_question_goes_to_the_group_with_its_address(host: &mut Host) {
    host.answers_neighbours = false;
    host.send_ip(ICMPV6, &host.echo(1, 1, b""));
    let (to, mac) = group(host.v6);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let frame = host.hear(deadline).expect("a solicitation");
        if frame.packet.ethertype != IPV6 {
            continue;
        }
        let question = Datagram::of(&frame).unwrap();
        if question.icmp() == Some((135, 0)) && question.payload[8..24] == host.v6.octets() {
            assert_eq!((frame.to, question.to, question.hop_limit), (mac, to.into(), 255));
            assert_eq!(question.payload[24..], [&[1, 1][..], &host.subject.mac].concat());
            return;
        }
    }
}

fn rfc4861_7_2_3_who_asks_is_known(host: &mut Host) {
    let to = theirs(host);
    let question = packet(host.v6, to, solicitation(to, Some(host.mac)));
    answer(host, host.subject.mac, &question);
    host.answers_neighbours = false;
    host.send_ip(ICMPV6, &host.echo(1, 1, b""));
    host.expect_ip("an echo reply", |it| it.is_echo_reply(1, 1).then_some(()));
}

/// From beyond a router: it may not say where a neighbour is.
fn rfc4861_7_1_2_advertisement_of_hop_limit_254_is_dropped(host: &mut Host) {
    host.before_marker();
    let mut message = vec![136, 0, 0, 0, 0x60, 0, 0, 0];
    message.extend(host.v6.octets());
    message.extend([2, 1, 2, 0x74, 0x77, 0, 9, 9]);
    let to = theirs(host);
    host.send(&packet(host.v6, to, message).with(7, 254));
    // Else this answer would go to where nobody is.
    host.before_marker();
}
