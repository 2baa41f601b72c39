//! Neighbour discovery (RFC 4861 7) and duplicate address detection (RFC 4862 5.4, RFC 4429,
//! RFC 7527).

use std::net::Ipv6Addr;
use std::time::Duration;

use tagwire_netstack::wire::ipv6::{ALL_NODES, multicast_mac, solicited_node};
use tagwire_netstack::wire::ndp::{self, Advertisement, Nonce, Solicitation};
use tagwire_netstack::wire::{ethernet, icmpv6, ipv6};
use tagwire_netstack::{Acd, AddressState, Config, FrameMeta, MacAddr};

use crate::harness::{
    Fixture, OUR_IP6, PEER, PEER_IP6, US, config_v6, header_v6, ms, neighbor_of, seg,
};

const ANY: Ipv6Addr = Ipv6Addr::UNSPECIFIED;
const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x77]);

/// What the stack sent: to which station, from where to where, and the ICMPv6 message.
struct Sent {
    to: MacAddr,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    message: Vec<u8>,
}

/// Messages of one type that were sent since the last look; their hop limits are checked.
fn sent(t: &mut Fixture, kind: u8) -> Vec<Sent> {
    t.flush();
    let frames: Vec<_> = t.sent.drain(..).map(|(_, frame)| frame).collect();
    let mut found = Vec::new();
    for frame in &frames {
        let frame = ethernet::parse(frame).unwrap();
        let Ok(packet) = ipv6::parse(frame.payload) else { continue };
        let ipv6::Header { source, destination, next_header, hop_limit, .. } = packet.header;
        if next_header != ipv6::NEXT_ICMPV6 {
            continue;
        }
        let message = icmpv6::parse(source, destination, packet.payload).unwrap();
        if message.kind == kind {
            assert_eq!(hop_limit, 255);
            let message = packet.payload.to_vec();
            found.push(Sent { to: frame.destination, source, destination, message });
        }
    }
    found
}

fn solicitations(t: &mut Fixture) -> Vec<(Sent, Solicitation)> {
    let sent = sent(t, ndp::TYPE_SOLICITATION);
    sent.into_iter()
        .map(|sent| {
            let parsed = ndp::parse_solicitation(&sent.message).unwrap();
            (sent, parsed)
        })
        .collect()
}

fn advertisements(t: &mut Fixture) -> Vec<(Sent, Advertisement)> {
    let sent = sent(t, ndp::TYPE_ADVERTISEMENT);
    sent.into_iter()
        .map(|sent| {
            let parsed = ndp::parse_advertisement(&sent.message).unwrap();
            (sent, parsed)
        })
        .collect()
}

fn question(target: Ipv6Addr, source_mac: Option<MacAddr>, nonce: Option<Nonce>) -> Vec<u8> {
    ndp::make_solicitation(&Solicitation { target, source_mac, nonce })
}

fn claim(target: Ipv6Addr, solicited: bool, override_cached: bool) -> Vec<u8> {
    let target_mac = Some(OTHER);
    ndp::make_advertisement(&Advertisement {
        router: false,
        solicited,
        override_cached,
        target,
        target_mac,
    })
}

fn from_other(mut frame: Vec<u8>) -> Vec<u8> {
    frame[6..12].copy_from_slice(&OTHER.0);
    frame
}

/// Another station's probe for `target`.
fn probe(t: &Fixture, target: Ipv6Addr, nonce: Option<Nonce>) -> Vec<u8> {
    from_other(t.discovery(ANY, solicited_node(target), question(target, None, nonce)))
}

#[test]
fn a_question_is_answered_to_who_asks() {
    // RFC 4861 7.2.4.
    let mut t = Fixture::new(config_v6());
    for to in [OUR_IP6, solicited_node(OUR_IP6)] {
        t.advance(ms(1000));
        let frame = t.discovery(PEER_IP6, to, question(OUR_IP6, Some(PEER), None));
        t.frame(&frame);
        let answers = advertisements(&mut t);
        let [(sent, answer)] = &answers[..] else { panic!("{} answers", answers.len()) };
        assert_eq!((sent.to, sent.source, sent.destination), (PEER, OUR_IP6, PEER_IP6));
        assert!(answer.solicited && answer.override_cached && !answer.router);
        assert_eq!((answer.target, answer.target_mac), (OUR_IP6, Some(US)));
    }
    assert_eq!(t.stack.neighbors(), 1);
}

#[test]
fn what_is_not_sane_or_not_for_us_is_ignored() {
    // RFC 4861 7.1.1 and 7.1.2.
    let group = solicited_node(OUR_IP6);
    let good = question(OUR_IP6, Some(PEER), None);
    let t = Fixture::new(config_v6());
    let mut forwarded = t.discovery(PEER_IP6, group, good.clone());
    forwarded[18 + 7] = 254;
    let mut code = good.clone();
    code[1] = 1;
    let mut option = good.clone();
    option[25] = 0;
    let far: Ipv6Addr = "2001:db8:99::1".parse().unwrap();
    let stranger: Ipv6Addr = "2001:db8::abcd".parse().unwrap();
    let frames = [
        ("hop limit", forwarded),
        ("code", t.discovery(PEER_IP6, group, code)),
        ("option of no length", t.discovery(PEER_IP6, group, option)),
        ("a stub", t.discovery(PEER_IP6, group, good[..20].to_vec())),
        ("not on the link", t.discovery(far, group, good.clone())),
        (
            "a group's MAC",
            t.discovery(PEER_IP6, group, question(OUR_IP6, Some(MacAddr([3; 6])), None)),
        ),
        ("target a group", t.discovery(PEER_IP6, group, question(ALL_NODES, Some(PEER), None))),
        ("target another's", t.discovery(PEER_IP6, OUR_IP6, question(stranger, Some(PEER), None))),
        ("a probe with a MAC", t.discovery(ANY, group, question(OUR_IP6, Some(PEER), None))),
        ("a probe to us alone", t.discovery(ANY, OUR_IP6, question(OUR_IP6, None, None))),
        ("solicited to a group", t.discovery(stranger, ALL_NODES, claim(stranger, true, true))),
        ("redirect", t.discovery(PEER_IP6, OUR_IP6, [&[137u8, 0, 0, 0][..], &[0; 36]].concat())),
        ("router solicitation", t.discovery(PEER_IP6, OUR_IP6, vec![133, 0, 0, 0, 0, 0, 0, 0])),
    ];
    for (what, frame) in frames {
        let mut t = Fixture::new(config_v6());
        let before = (t.stack.stats().nd_ignored, t.stack.neighbors());
        t.frame(&frame);
        t.nothing();
        let after = (t.stack.stats().nd_ignored, t.stack.neighbors());
        assert_eq!(after, (before.0 + 1, before.1), "{what}");
    }
    let mut t = Fixture::new(config_v6());
    let mut wrong = t.discovery(PEER_IP6, group, good);
    *wrong.last_mut().unwrap() ^= 1;
    t.frame(&wrong);
    t.nothing();
    assert_eq!(t.stack.stats().drop_checksum, 1);
}

#[test]
fn a_neighbour_is_asked_for_by_its_group_three_times_a_second_apart() {
    // RFC 4861 7.2.2.
    let mut t = Fixture::new(config_v6());
    t.answers_arp = false;
    let neighbor = neighbor_of(PEER_IP6.into(), 0x99);
    t.peer = neighbor;
    let std::net::IpAddr::V6(address) = neighbor else { unreachable!() };
    // An echo has to be answered to the address that it came from.
    let mut message = vec![128, 0, 0, 0, 0, 1, 0, 1];
    icmpv6::seal(address, OUR_IP6, &mut message);
    let ping = t.packet(ipv6::NEXT_ICMPV6, &message);
    t.frame(&ping);
    for _ in 0..3 {
        let asked = solicitations(&mut t);
        let [(sent, question)] = &asked[..] else { panic!("{} questions", asked.len()) };
        let group = solicited_node(address);
        assert_eq!((sent.to, sent.destination), (multicast_mac(group), group));
        assert_eq!((sent.source, question.target), (OUR_IP6, address));
        assert_eq!((question.source_mac, question.nonce), (Some(US), None));
        t.advance(ms(1000));
    }
    assert!(solicitations(&mut t).is_empty());
}

#[test]
fn the_override_flag_decides_about_another_mac() {
    // RFC 4861 7.2.5.
    for (overrides, wanted) in [(false, PEER), (true, OTHER)] {
        let mut t = Fixture::new(config_v6());
        t.open(seg("S", 0, 0));
        let frame = t.discovery(PEER_IP6, ALL_NODES, claim(PEER_IP6, false, overrides));
        t.frame(&frame);
        let frame = t.discovery(PEER_IP6, OUR_IP6, question(OUR_IP6, None, None));
        t.advance(ms(100));
        t.sent.clear();
        t.frame(&frame);
        let mut message = vec![128, 0, 0, 0, 0, 1, 0, 1];
        icmpv6::seal(PEER_IP6, OUR_IP6, &mut message);
        let ping = t.packet(ipv6::NEXT_ICMPV6, &message);
        t.sent.clear();
        t.frame(&ping);
        let (to, ..) = t.next_frame();
        assert_eq!(to, wanted);
    }
}

#[test]
fn an_advertisement_of_a_stranger_is_not_learnt() {
    let mut t = Fixture::new(config_v6());
    let stranger: Ipv6Addr = "2001:db8::abcd".parse().unwrap();
    for (to, solicited) in [(OUR_IP6, true), (ALL_NODES, false)] {
        let frame = t.discovery(stranger, to, claim(stranger, solicited, true));
        t.frame(&frame);
    }
    assert_eq!(t.stack.neighbors(), 1);
}

#[test]
fn a_flood_of_questions_is_bounded_and_costs_no_neighbour() {
    let mut t = Fixture::new(config_v6());
    t.open(seg("S", 0, 0));
    t.sent.clear();
    for host in 0..20_000u32 {
        let source = Ipv6Addr::from(u128::from(PEER_IP6) + 0x10_0000 + u128::from(host));
        let frame =
            t.discovery(source, solicited_node(OUR_IP6), question(OUR_IP6, Some(OTHER), None));
        t.frame(&frame);
    }
    assert!(t.stack.neighbors() < 2000, "{} neighbours", t.stack.neighbors());
    assert!(t.sent.len() <= 256, "{} answers", t.sent.len());
    assert_eq!(t.stack.stats().nd_limited + t.sent.len() as u64, 20_000);
    t.sent.clear();
    // The peer is known as before.
    let mut message = vec![128, 0, 0, 0, 0, 1, 0, 1];
    icmpv6::seal(PEER_IP6, OUR_IP6, &mut message);
    let ping = t.packet(ipv6::NEXT_ICMPV6, &message);
    t.frame(&ping);
    assert_eq!(t.next_frame().0, PEER);
}

/// RFC 6980 5: switches that watch over neighbour discovery do not look behind a Fragment header.
#[test]
fn what_has_a_fragment_header_is_not_heard_though_it_is_whole() {
    let mut t = Fixture::new(config_v6());
    let group = solicited_node(OUR_IP6);
    let mut message = question(OUR_IP6, Some(PEER), None);
    icmpv6::seal(PEER_IP6, group, &mut message);
    let payload = [&[ipv6::NEXT_ICMPV6, 0, 0, 0, 0, 0, 0, 7][..], &message].concat();
    let frame = t.ip_v6(&header_v6(PEER_IP6, group, 44, 255), &payload);
    t.frame(&frame);
    t.nothing();
    assert_eq!(t.stack.stats().nd_ignored, 1);
}

/// RFC 4861 7.1.1: what a router has forwarded is no neighbour's, and takes none of what they may
/// cost.
#[test]
fn questions_from_afar_do_not_silence_the_answers_to_neighbours() {
    let mut t = Fixture::new(config_v6());
    let far: Ipv6Addr = "2001:db8:99::1".parse().unwrap();
    for host in 0..2000u32 {
        let source = Ipv6Addr::from(u128::from(far) + u128::from(host));
        let mut frame = t.discovery(source, OUR_IP6, question(OUR_IP6, Some(OTHER), None));
        frame[18 + 7] = 60;
        t.frame(&frame);
    }
    t.nothing();
    assert_eq!((t.stack.stats().nd_ignored, t.stack.stats().nd_limited), (2000, 0));
    let stranger: Ipv6Addr = "2001:db8::abcd".parse().unwrap();
    let group = solicited_node(OUR_IP6);
    let frame = t.discovery(stranger, group, question(OUR_IP6, Some(OTHER), None));
    t.frame(&frame);
    assert_eq!(advertisements(&mut t).len(), 1);
}

// ---- duplicate address detection ---------------------------------------------------------

#[test]
fn optimistic_probes_alongside_and_does_not_override_meanwhile() {
    // RFC 4862 5.4.2, RFC 4429 3.3.
    let mut t = Fixture::bare(config_v6());
    t.advance(ms(0));
    let frames = t.sent.clone();
    let probes = solicitations(&mut t);
    // The link-local address that every IPv6 host has, and ours.
    assert_eq!(probes.len(), 2);
    for (sent, probe) in &probes {
        let group = solicited_node(probe.target);
        assert_eq!((sent.source, sent.destination, sent.to), (ANY, group, multicast_mac(group)));
        assert!(probe.nonce.is_some() && probe.source_mac.is_none());
    }
    assert!(probes[0].1.target.is_unicast_link_local() && probes[1].1.target == OUR_IP6);
    t.sent = frames;
    let early = advertisements(&mut t);
    assert!(early.len() == 2 && early.iter().all(|(_, told)| !told.override_cached));
    // It is answered for at once.
    t.meet(PEER_IP6, PEER);
    let [(_, answer)] = &advertisements(&mut t)[..] else { panic!("an answer") };
    assert!(!answer.override_cached && answer.solicited);
    // And after a second of silence it is ours.
    t.advance(ms(999));
    assert!(advertisements(&mut t).iter().all(|(_, told)| !told.override_cached));
    t.advance(ms(4000));
    let told = advertisements(&mut t);
    let ours: Vec<_> = told.iter().filter(|(_, told)| told.target == OUR_IP6).collect();
    assert_eq!(ours.len(), 3);
    for (sent, told) in ours {
        assert!(told.override_cached && !told.solicited);
        assert_eq!((sent.destination, sent.source), (ALL_NODES, OUR_IP6));
    }
}

#[test]
fn a_duplicate_is_not_used_whether_the_other_asks_or_tells() {
    for tells in [false, true] {
        let mut t = Fixture::bare(config_v6());
        t.advance(ms(100));
        t.sent.clear();
        let frame = if tells {
            from_other(t.discovery(OUR_IP6, ALL_NODES, claim(OUR_IP6, false, true)))
        } else {
            probe(&t, OUR_IP6, Some([9; 6]))
        };
        t.frame(&frame);
        assert_eq!(t.stack.stats().nd_conflict, 1);
        let state = AddressState::Conflicted { by: OTHER };
        assert!(t.stack.address_states().any(|it| it == (OUR_IP6.into(), state)));
        let event = t.stack.poll_address_event().unwrap();
        assert_eq!((event.address, event.state), (OUR_IP6.into(), state));
        t.advance(Duration::from_secs(10));
        let told = advertisements(&mut t);
        assert!(told.iter().all(|(_, told)| told.target != OUR_IP6));
        t.meet(PEER_IP6, PEER);
        t.send(seg("S", 0, 0));
        t.nothing();
        assert!(t.stack.stats().drop_address > 0);
    }
}

#[test]
fn our_own_probe_that_comes_back_is_no_duplicate() {
    // RFC 7527 4.2: another probe follows.
    let mut t = Fixture::bare(config_v6());
    t.advance(ms(0));
    let probes = solicitations(&mut t);
    let nonce = probes.iter().find(|(_, probe)| probe.target == OUR_IP6).unwrap().1.nonce;
    let back = probe(&t, OUR_IP6, nonce);
    t.frame(&back);
    assert_eq!((t.stack.stats().nd_loop, t.stack.stats().nd_conflict), (1, 0));
    t.sent.clear();
    t.advance(ms(1000));
    assert_eq!(solicitations(&mut t).len(), 1);
    t.advance(ms(5000));
    t.meet(PEER_IP6, PEER);
    assert!(advertisements(&mut t).last().unwrap().1.override_cached);
}

#[test]
fn an_address_of_ours_is_defended_once_in_ten_seconds() {
    let mut t = Fixture::new(config_v6());
    // Who asks whether it is free is told.
    for _ in 0..3 {
        let frame = probe(&t, OUR_IP6, Some([9; 6]));
        t.frame(&frame);
        let [(sent, told)] = &advertisements(&mut t)[..] else { panic!("an answer") };
        assert_eq!(sent.destination, ALL_NODES);
        assert!(told.override_cached && !told.solicited);
    }
    let mut claimed = || {
        let frame = from_other(t.discovery(OUR_IP6, ALL_NODES, claim(OUR_IP6, false, true)));
        t.frame(&frame);
        let told = advertisements(&mut t).len();
        t.advance(Duration::from_secs(6));
        told
    };
    assert_eq!(claimed(), 1);
    assert_eq!(claimed(), 0);
    t.sent.clear();
    t.send(seg("S", 0, 0));
    t.nothing();
}

#[test]
fn a_formed_address_that_is_taken_is_formed_anew() {
    // RFC 7217 6.
    let mut t = Fixture::bare(config_v6());
    t.advance(ms(0));
    let mut seen = Vec::new();
    for _ in 0..4 {
        let probes = solicitations(&mut t);
        let target = probes.iter().find(|(_, probe)| probe.target != OUR_IP6).unwrap().1.target;
        assert!(target.is_unicast_link_local() && !seen.contains(&target));
        seen.push(target);
        let frame = probe(&t, target, None);
        t.frame(&frame);
        t.advance(ms(0));
    }
    // It ends some time.
    assert!(solicitations(&mut t).is_empty());
}

#[test]
fn the_link_local_address_is_stable_and_answers() {
    let address = |config: Config| {
        let mut t = Fixture::bare(config);
        t.advance(ms(0));
        solicitations(&mut t)[0].1.target
    };
    let first = address(config_v6());
    assert!(first.is_unicast_link_local());
    assert_eq!(first, address(Config { secret: [99; 16], ..config_v6() }));
    let told = Some([1; 16]);
    let other = address(Config { stable_secret: told, ..config_v6() });
    assert_ne!(first, other);
    assert_eq!(other, address(Config { stable_secret: told, secret: [99; 16], ..config_v6() }));

    let mut t = Fixture::new(config_v6());
    let peer: Ipv6Addr = "fe80::1".parse().unwrap();
    (t.ours, t.peer) = (first.into(), peer.into());
    let asks = t.discovery(peer, solicited_node(first), question(first, Some(PEER), None));
    t.frame(&asks);
    t.sent.clear();
    let mut message = vec![128, 0, 0, 0, 0, 1, 0, 1];
    icmpv6::seal(peer, first, &mut message);
    let frame = t.ip_v6(&header_v6(peer, first, ipv6::NEXT_ICMPV6, 64), &message);
    t.frame(&frame);
    let (to, _, packet) = t.next_frame();
    assert_eq!((to, ipv6::parse(&packet).unwrap().header.source), (PEER, first));
    t.open(seg("S", 0, 0));
}

#[test]
fn a_link_that_comes_back_is_probed_anew() {
    let mut t = Fixture::new(config_v6());
    t.stack.set_link(t.now, false);
    t.advance(ms(60_000));
    t.nothing();
    t.stack.set_link(t.now, true);
    t.advance(ms(0));
    let probes = solicitations(&mut t);
    assert!(probes.iter().any(|(sent, probe)| sent.source == ANY && probe.target == OUR_IP6));
}

#[test]
fn the_groups_of_the_addresses_are_what_a_driver_subscribes_to() {
    let t = Fixture::new(config_v6());
    let macs = t.stack.multicast_macs();
    assert!(macs.contains(&MacAddr([0x33, 0x33, 0, 0, 0, 1])));
    assert!(macs.contains(&multicast_mac(solicited_node(OUR_IP6))));
    assert_eq!(macs.len(), 3);
    let t = Fixture::new(crate::harness::config());
    assert!(t.stack.multicast_macs().is_empty());
}

#[test]
fn strict_answers_for_nothing_before_a_second_of_silence() {
    // RFC 4862 5.4.
    let mut t = Fixture::bare(Config { acd: Acd::Strict, ..config_v6() });
    t.advance(ms(999));
    assert!(advertisements(&mut t).is_empty());
    t.meet(PEER_IP6, PEER);
    let tentative =
        |t: &Fixture| t.stack.address_states().all(|(_, state)| state == AddressState::Tentative);
    assert!(advertisements(&mut t).is_empty() && tentative(&t));
    t.advance(ms(1));
    assert!(!advertisements(&mut t).is_empty() && !tentative(&t));
    t.meet(PEER_IP6, PEER);
    assert_eq!(advertisements(&mut t).len(), 1);
}

fn state_of(t: &Fixture, address: Ipv6Addr) -> AddressState {
    t.stack.address_states().find(|(it, _)| *it == address).expect("an address of ours").1
}

#[test]
fn a_duplicate_comes_back_when_the_other_has_been_silent() {
    let taken = AddressState::Conflicted { by: OTHER };
    let mut t = Fixture::bare(config_v6());
    t.advance(ms(100));
    let frame = from_other(t.discovery(OUR_IP6, ALL_NODES, claim(OUR_IP6, false, true)));
    t.frame(&frame);
    // Heard now and then.
    for _ in 0..5 {
        t.advance(Duration::from_secs(10));
        t.frame(&frame);
    }
    assert_eq!(t.stack.stats().nd_conflict, 1);
    t.sent.clear();
    t.advance(ms(14_999));
    assert!(solicitations(&mut t).iter().all(|(_, it)| it.target != OUR_IP6));
    assert_eq!(state_of(&t, OUR_IP6), taken);
    // RFC 4862 5.4: the group joined again, and a probe before it is used.
    t.advance(ms(1));
    assert_eq!(state_of(&t, OUR_IP6), AddressState::Tentative);
    assert!(t.stack.multicast_macs().contains(&multicast_mac(solicited_node(OUR_IP6))));
    let probes = solicitations(&mut t);
    assert!(probes.iter().any(|(sent, it)| sent.source == ANY && it.target == OUR_IP6));
    t.frame(&frame);
    assert_eq!(state_of(&t, OUR_IP6), taken);
    // In vain: twice as long.
    t.advance(ms(29_999));
    assert_eq!(state_of(&t, OUR_IP6), taken);
    t.advance(ms(1001));
    assert_eq!(state_of(&t, OUR_IP6), AddressState::Assigned);
    let (tentative, assigned) = (AddressState::Tentative, AddressState::Assigned);
    let events: Vec<_> = std::iter::from_fn(|| t.stack.poll_address_event())
        .filter(|event| event.address == OUR_IP6)
        .map(|event| event.state)
        .collect();
    assert_eq!(events, [taken, tentative, taken, tentative, assigned]);
    assert!(
        advertisements(&mut t).iter().any(|(_, it)| it.target == OUR_IP6 && it.override_cached)
    );
    t.answers_arp = true;
    t.meet(PEER_IP6, PEER);
    t.sent.clear();
    t.open(seg("S", 0, 0));
}

#[test]
fn a_stack_that_does_not_speak_leaves_its_addresses_to_the_one_that_does() {
    for acd in [Acd::Optimistic, Acd::Strict] {
        let mut primary = Fixture::bare(Config { acd, ..config_v6() });
        let mut other = Fixture::bare(Config { acd, passive: true, ..config_v6() });
        let follow = |primary: &mut Fixture, other: &mut Fixture| {
            while let Some(event) = primary.stack.poll_address_event() {
                other.stack.follow_address(other.now, event);
            }
            assert_eq!(other.stack.poll_address_event(), None, "one voice");
            assert_eq!(state_of(primary, OUR_IP6), state_of(other, OUR_IP6), "{acd:?}");
        };
        follow(&mut primary, &mut other);
        for t in [&mut primary, &mut other] {
            t.advance(Duration::from_secs(5));
        }
        follow(&mut primary, &mut other);
        assert_eq!(state_of(&other, OUR_IP6), AddressState::Assigned);
        // Both hear of it; one defends, and at the second time both give up.
        for expected in [AddressState::Assigned, AddressState::Conflicted { by: OTHER }] {
            for t in [&mut primary, &mut other] {
                let claim = claim(OUR_IP6, false, true);
                let frame = from_other(t.discovery(OUR_IP6, ALL_NODES, claim));
                t.frame(&frame);
            }
            follow(&mut primary, &mut other);
            assert_eq!(state_of(&other, OUR_IP6), expected);
        }
        primary.advance(Duration::from_secs(20));
        follow(&mut primary, &mut other);
        assert_eq!(state_of(&other, OUR_IP6), AddressState::Assigned);
        other.nothing();
        assert_eq!((other.stack.stats().nd_out, other.stack.stats().mld_out), (0, 0));
    }
}

/// RFC 4861 7.2.2: who asks by multicast says where the answer goes to; a neighbour that does not
/// know us could not answer.
#[test]
fn a_stack_that_does_not_speak_asks_for_neighbours_as_any() {
    let mut t = Fixture::bare(Config { passive: true, ..config_v6() });
    let ask = |t: &mut Fixture, host: u8| {
        let std::net::IpAddr::V6(address) = neighbor_of(PEER_IP6.into(), host) else {
            unreachable!()
        };
        let mut message = vec![128, 0, 0, 0, 0, 1, 0, 1];
        icmpv6::seal(address, OUR_IP6, &mut message);
        let header = header_v6(address, OUR_IP6, ipv6::NEXT_ICMPV6, 64);
        let frame = t.ip_v6(&header, &message);
        t.frame(&frame);
        let asked = solicitations(t);
        let about = asked.iter().find(|(_, question)| question.target == address);
        about.expect("the neighbour is asked for").1.source_mac
    };
    // RFC 4429 3.3: while the one that speaks is probing.
    assert_eq!(ask(&mut t, 0x98), None);
    t.advance(ms(1000));
    assert_eq!(ask(&mut t, 0x99), Some(US));
}

#[test]
fn connections_at_a_lost_address_end_without_a_word_from_it() {
    let mut t = Fixture::new(config_v6());
    let id = t.open(seg("S", 0, 0));
    let frame = from_other(t.discovery(OUR_IP6, ALL_NODES, claim(OUR_IP6, false, true)));
    t.frame(&frame);
    t.sent.clear();
    // An answer that has not left yet.
    t.port += 1;
    let syn = t.tcp_frame(&seg("S", 0, 0));
    t.stack.handle_frame(t.now, &syn, &FrameMeta::default());
    t.frame(&frame);
    assert!(t.stack.closed(id).is_some());
    let from_it = |frame: &[u8]| {
        let packet = ipv6::parse(ethernet::parse(frame).unwrap().payload).unwrap();
        packet.header.source == OUR_IP6 && packet.header.next_header != ipv6::NEXT_ICMPV6
    };
    assert!(!t.sent.iter().any(|(_, frame)| from_it(frame)));
    assert_eq!(t.stack.stats().drop_unusable_out, 1);
}
