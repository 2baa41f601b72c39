//! ARP: answers, announcements, resolution (RFC 826, RFC 5227).

use std::net::Ipv4Addr;
use std::time::Duration;

use tagwire_netstack::wire::arp::{self, ArpPacket, Operation};
use tagwire_netstack::wire::{ethernet, ipv4};
use tagwire_netstack::{Config, FrameMeta, IpCidr, Ipv4Cidr, Ipv6Cidr, MacAddr};

use crate::harness::{Fixture, OUR_IP, PEER, PEER_IP, US, config, ms, pattern, seg};

const SECOND: Duration = Duration::from_secs(1);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 254);
const GATEWAY_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 254]);

fn request(sender: Ipv4Addr, target: Ipv4Addr) -> ArpPacket {
    let target_mac = MacAddr::ZERO;
    ArpPacket { operation: Operation::Request, sender_mac: PEER, sender, target_mac, target }
}

fn is_announcement(packet: &ArpPacket) -> bool {
    (packet.sender, packet.target, packet.sender_mac) == (OUR_IP, OUR_IP, US)
        && packet.operation == Operation::Request
}

fn is_probe(packet: &ArpPacket) -> bool {
    (packet.sender, packet.target) == (Ipv4Addr::UNSPECIFIED, OUR_IP)
        && packet.operation == Operation::Request
}

/// A frame that carries what the peer asks in place of an ARP answer: an echo request.
fn ping_from(fixture: &Fixture, source: Ipv4Addr) -> Vec<u8> {
    let message = [8, 0, 0xe5, 0xca, 0x12, 0x34, 0, 1];
    fixture.ip(source, OUR_IP, ipv4::PROTOCOL_ICMP, &message)
}

#[test]
fn a_request_is_answered_to_the_one_who_asked() {
    let mut t = Fixture::new(config());
    let frame = t.arp(&request(PEER_IP, OUR_IP));
    t.frame(&frame);
    let (to, reply) = t.next_arp();
    assert_eq!(to, PEER);
    let wanted = ArpPacket {
        operation: Operation::Reply,
        sender_mac: US,
        sender: OUR_IP,
        target_mac: PEER,
        target: PEER_IP,
    };
    assert_eq!(reply, wanted);
    t.nothing();
}

#[test]
fn a_probe_is_answered_and_a_request_for_another_is_not() {
    let mut t = Fixture::new(config());
    let probe = t.arp(&request(Ipv4Addr::UNSPECIFIED, OUR_IP));
    t.frame(&probe);
    let (to, reply) = t.next_arp();
    assert_eq!((to, reply.operation), (PEER, Operation::Reply));
    assert_eq!(t.stack.neighbors(), 1, "a probe teaches nothing");
    let other = t.arp(&request(PEER_IP, Ipv4Addr::new(192, 168, 123, 77)));
    t.frame(&other);
    t.nothing();
}

#[test]
fn a_passive_stack_announces_nothing() {
    let mut t = Fixture::new(Config { passive: true, ..config() });
    assert_eq!(t.stack.poll_timeout(), None);
    t.nothing();
    t.stack.set_link(t.now, false);
    t.stack.set_link(t.now, true);
    assert_eq!(t.stack.poll_timeout(), None);
    t.nothing();
}

#[test]
fn a_passive_stack_neither_probes_nor_reports_nor_solicits_routers() {
    let address = IpCidr::V6(Ipv6Cidr { address: "fd00::5".parse().unwrap(), prefix: 64 });
    let addresses = vec![address];
    let mut t = Fixture::new(Config { passive: true, slaac: true, addresses, ..config() });
    t.nothing();
    let end = t.now + 10 * SECOND;
    while let Some(at) = t.stack.poll_timeout().filter(|at| *at <= end) {
        t.now = at;
        t.stack.handle_timeout(at);
        t.nothing();
    }
    assert!(t.stack.multicast_macs().len() >= 2, "its addresses are in use all the same");
}

#[test]
fn three_announcements_at_start_and_again_when_the_link_comes_back() {
    let mut t = Fixture::bare(config());
    let start = t.now;
    // Each with a probe before it (RFC 5227), which says nothing to anybody's table.
    let announced = |t: &mut Fixture| {
        let mut times = Vec::new();
        while let Some((at, _)) = t.sent.front().cloned() {
            let (to, probe) = t.next_arp();
            assert!(to == MacAddr::BROADCAST && is_probe(&probe), "{probe:?}");
            let (to, packet) = t.next_arp();
            assert!(to == MacAddr::BROADCAST && is_announcement(&packet), "{packet:?}");
            times.push(at.since(start));
        }
        times
    };
    t.advance(10 * SECOND);
    assert_eq!(announced(&mut t), [ms(0), SECOND, 2 * SECOND]);

    t.stack.set_link(t.now, false);
    t.advance(10 * SECOND);
    t.nothing();
    t.stack.set_link(t.now, true);
    t.advance(10 * SECOND);
    assert_eq!(announced(&mut t), [20 * SECOND, 21 * SECOND, 22 * SECOND]);
    // Only a change announces.
    t.stack.set_link(t.now, true);
    t.advance(10 * SECOND);
    t.nothing();
}

#[test]
fn a_link_that_goes_down_stops_the_announcements() {
    let mut t = Fixture::bare(config());
    t.advance(ms(500));
    assert_eq!(t.sent.len(), 2);
    t.sent.clear();
    t.stack.set_link(t.now, false);
    t.advance(10 * SECOND);
    assert_eq!(t.stack.poll_timeout(), None);
    t.nothing();
}

#[test]
fn the_first_ping_is_answered_once_arp_has() {
    let mut t = Fixture::bare(config());
    t.advance(3 * SECOND);
    t.sent.clear();
    for _ in 0..3 {
        let ping = ping_from(&t, PEER_IP);
        t.frame(&ping);
    }
    let (to, asked) = t.next_arp();
    assert_eq!((to, asked.target, asked.sender), (MacAddr::BROADCAST, PEER_IP, OUR_IP));
    t.nothing();
    t.introduce(PEER_IP, PEER);
    for _ in 0..3 {
        let (to, ethertype, _) = t.next_frame();
        assert_eq!((to, ethertype), (PEER, ethernet::ETHERTYPE_IPV4));
    }
    t.nothing();
}

#[test]
fn a_neighbour_that_does_not_answer_is_asked_three_times_and_given_up() {
    let mut t = Fixture::bare(config());
    t.advance(3 * SECOND);
    t.sent.clear();
    let ping = ping_from(&t, PEER_IP);
    t.frame(&ping);
    t.advance(ms(2999));
    for _ in 0..3 {
        assert_eq!(t.next_arp().1.target, PEER_IP);
    }
    t.advance(10 * SECOND);
    t.nothing();
    assert_eq!(t.stack.stats().drop_unresolved, 1);
    // And asked anew by the next packet.
    t.frame(&ping);
    assert_eq!(t.next_arp().1.target, PEER_IP);
}

/// The ARP packets that were sent since the last look, and their destinations.
fn arps(t: &mut Fixture) -> Vec<(MacAddr, ArpPacket)> {
    let frames = std::mem::take(&mut t.sent);
    let parsed = frames.iter().map(|(_, octets)| ethernet::parse(octets).unwrap());
    parsed.filter_map(|frame| Some((frame.destination, arp::parse(frame.payload).ok()?))).collect()
}

#[test]
fn a_connection_that_gets_through_needs_no_arp() {
    // RFC 4861 7.3.1: an acknowledgement of something new is as good as an answer.
    let (mut t, id) = Fixture::established(config());
    t.answers_arp = false;
    for round in 0..100 {
        t.app_send(id, b"x");
        t.expect(seg("P.", 1 + round, 1).data(b"x"));
        t.send(seg(".", 1, 2 + round));
        t.advance(2 * SECOND);
    }
    t.nothing();
    let asked = t.stack.stats().arp_out - 2 * 3 - 1;
    assert_eq!(asked, 0, "beside probes, announcements, and the answer to the peer");
}

#[test]
fn a_connection_waits_for_arp_and_its_data_goes_out_then() {
    let (mut t, id) = Fixture::established(config());
    // The entry grows old, is used and confirmed in vain, and is asked for by broadcast.
    t.advance(61 * SECOND);
    t.nothing();
    t.answers_arp = false;
    t.app_send(id, b"hello");
    t.expect(seg("P.", 1, 1).data(b"hello"));
    t.advance(ms(4999));
    assert_eq!(arps(&mut t), []);
    t.advance(ms(2500));
    let asked = arps(&mut t);
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|(to, packet)| *to == PEER && packet.target == PEER_IP));
    t.advance(ms(1000));
    let [(to, _)] = arps(&mut t)[..] else { panic!("one question") };
    assert_eq!(to, MacAddr::BROADCAST);
    t.app_send(id, b"again");
    assert_eq!(t.sent.len(), 0);
    t.introduce(PEER_IP, PEER);
    let data: Vec<u8> =
        std::iter::from_fn(|| (!t.sent.is_empty()).then(|| t.recv().data)).flatten().collect();
    assert!(data.ends_with(b"again"), "{data:?}");
}

#[test]
fn workers_tell_each_other_what_they_hear() {
    let mut asks = Fixture::bare(config());
    let mut hears = Fixture::bare(config());
    let ping = ping_from(&asks, PEER_IP);
    asks.frame(&ping);
    assert_eq!(arps(&mut asks).last().map(|(_, packet)| packet.target), Some(PEER_IP));
    hears.introduce(PEER_IP, PEER);
    let update = hears.stack.poll_neighbor_update();
    assert_eq!(update, Some((PEER_IP.into(), PEER)));
    assert_eq!(hears.stack.poll_neighbor_update(), None);
    asks.stack.learn_neighbor(asks.now, PEER_IP.into(), PEER);
    asks.flush();
    assert_eq!(asks.next_frame().0, PEER);
    assert_eq!(asks.stack.poll_neighbor_update(), None, "no echo");
}

#[test]
fn a_flood_of_questions_is_answered_within_bounds_and_costs_no_neighbour() {
    let subnet = IpCidr::from(Ipv4Cidr { address: OUR_IP, prefix: 8 });
    let mut t = Fixture::new(Config { addresses: vec![subnet], ..config() });
    let id = t.open(seg("S", 0, 0).mss(1000));
    let before = t.stack.stats().arp_out;
    for i in 0..1_000_000u32 {
        let sender = Ipv4Addr::from(0xc000_0001 + i);
        let mac = MacAddr([2, 9, 0, (i >> 16) as u8, (i >> 8) as u8, i as u8]);
        let flood = ArpPacket { sender_mac: mac, ..request(sender, OUR_IP) };
        let frame = t.arp(&flood);
        t.stack.handle_frame(t.now, &frame, &FrameMeta::default());
        if i % 1000 == 0 {
            t.flush();
            t.advance(ms(1));
            t.sent.clear();
        }
    }
    t.flush();
    t.sent.clear();
    let answered = t.stack.stats().arp_out - before;
    assert!((1000..1400).contains(&answered), "{answered} in a second");
    assert_eq!(t.stack.stats().arp_limited, 1_000_000 - answered);
    assert!(t.stack.neighbors() <= 257);
    // The peer is known still, and is answered.
    t.answers_arp = false;
    let (out, data) = (t.stack.stats().arp_out, pattern(500));
    t.app_send(id, &data);
    t.expect(seg("P.", 1, 1).data(&data));
    t.meet(PEER_IP, PEER);
    assert_eq!(t.next_arp().0, PEER);
    assert_eq!(t.stack.stats().arp_out, out + 1);
}

#[test]
fn what_others_say_to_each_other_is_not_listened_to() {
    let mut t = Fixture::new(config());
    let lie =
        ArpPacket { sender_mac: GATEWAY_MAC, ..request(PEER_IP, Ipv4Addr::new(192, 168, 123, 77)) };
    for operation in [Operation::Request, Operation::Reply] {
        let frame = t.arp(&ArpPacket { operation, ..lie });
        t.frame(&frame);
    }
    let ping = ping_from(&t, PEER_IP);
    t.frame(&ping);
    assert_eq!(t.next_frame().0, PEER);
    assert_eq!(t.stack.stats().arp_ignored, 2);
    // An announcement is for everyone.
    let moved = t.arp(&ArpPacket { sender_mac: GATEWAY_MAC, ..request(PEER_IP, PEER_IP) });
    t.frame(&moved);
    t.frame(&ping);
    assert_eq!(t.next_frame().0, GATEWAY_MAC);
    // But a stranger's teaches nothing.
    let stranger = Ipv4Addr::new(192, 168, 123, 88);
    let frame = t.arp(&request(stranger, stranger));
    t.frame(&frame);
    assert_eq!(t.stack.neighbors(), 1);
}

#[test]
fn other_subnets_go_by_the_gateway_or_not_at_all() {
    let far = Ipv4Addr::new(10, 9, 8, 7);
    let mut t = Fixture::new(Config { gateway: Some(GATEWAY), ..config() });
    let ping = ping_from(&t, far);
    t.frame(&ping);
    assert_eq!(t.next_arp().1.target, GATEWAY);
    t.introduce(GATEWAY, GATEWAY_MAC);
    let (to, _, payload) = t.next_frame();
    assert_eq!(to, GATEWAY_MAC);
    assert_eq!(ipv4::parse(&payload).unwrap().destination, far);

    let mut t = Fixture::new(config());
    let ping = ping_from(&t, far);
    t.frame(&ping);
    t.nothing();
    assert_eq!(t.stack.stats().drop_no_route, 1);
}

#[test]
fn a_known_neighbour_that_moves_is_followed() {
    let mut t = Fixture::new(config());
    let moved = MacAddr([2, 0, 0, 0, 9, 9]);
    t.introduce(PEER_IP, moved);
    let ping = ping_from(&t, PEER_IP);
    t.frame(&ping);
    assert_eq!(t.next_frame().0, moved);
}
