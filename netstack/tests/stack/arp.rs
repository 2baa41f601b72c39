//! ARP: answers, announcements, resolution (RFC 826, RFC 5227).

use std::net::Ipv4Addr;
use std::time::Duration;

use tagwire_netstack::wire::arp::{ArpPacket, Operation};
use tagwire_netstack::wire::{ethernet, ipv4};
use tagwire_netstack::{Config, MacAddr};

use crate::harness::{Fixture, OUR_IP, PEER, PEER_IP, US, config, ms, seg};

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
fn three_announcements_at_start_and_again_when_the_link_comes_back() {
    let mut t = Fixture::bare(config());
    let start = t.now;
    let announced = |t: &mut Fixture| {
        let mut times = Vec::new();
        while let Some((at, _)) = t.sent.front().cloned() {
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
    assert_eq!(t.sent.len(), 1);
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

#[test]
fn a_connection_waits_for_arp_and_its_data_goes_out_then() {
    let mut t = Fixture::new(config());
    let id = t.open(seg("S", 0, 0).mss(1000));
    t.answers_arp = false;
    // The entry grows old, is confirmed in vain, and is asked for by broadcast.
    t.advance(61 * SECOND);
    t.nothing();
    t.app_send(id, b"hello");
    t.expect(seg("P.", 1, 1).data(b"hello"));
    assert_eq!(t.next_arp().0, PEER, "a unicast question confirms the old address");
    t.send(seg(".", 1, 6));
    t.advance(3 * SECOND);
    let broadcasts = t.sent.iter().filter(|(_, frame)| frame[..6] == [0xff; 6]).count();
    assert_eq!(broadcasts, 1);
    t.sent.clear();
    t.app_send(id, b"again");
    t.nothing();
    t.introduce(PEER_IP, PEER);
    t.expect(seg("P.", 6, 1).data(b"again"));
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
fn who_claims_our_address_teaches_nothing_and_is_counted() {
    let mut t = Fixture::new(config());
    let claim = t.arp(&request(OUR_IP, OUR_IP));
    t.frame(&claim);
    t.nothing();
    assert_eq!((t.stack.stats().arp_conflict, t.stack.neighbors()), (1, 1));
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
