//! Address conflict detection (RFC 5227), and what becomes of what is served there.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tagwire_netstack::wire::arp::{ArpPacket, Operation};
use tagwire_netstack::{
    Acd, AddressEvent, AddressState, CloseReason, Config, IpCidr, Ipv4Cidr, MacAddr,
};

use crate::harness::{Fixture, OUR_IP, PEER, PEER_IP, US, config, ms, seg};

const SECOND: Duration = Duration::from_secs(1);
const RIVAL: MacAddr = MacAddr([2, 0, 0, 0, 0, 66]);
const TAKEN: AddressState = AddressState::Conflicted { by: RIVAL };

fn strict() -> Config {
    Config { acd: Acd::Strict, ..config() }
}

fn claim(t: &Fixture) -> Vec<u8> {
    t.arp(&ArpPacket {
        operation: Operation::Reply,
        sender_mac: RIVAL,
        sender: OUR_IP,
        target_mac: US,
        target: OUR_IP,
    })
}

fn probe(t: &Fixture) -> Vec<u8> {
    t.arp(&ArpPacket {
        operation: Operation::Request,
        sender_mac: RIVAL,
        sender: Ipv4Addr::UNSPECIFIED,
        target_mac: MacAddr::ZERO,
        target: OUR_IP,
    })
}

fn question(t: &Fixture) -> Vec<u8> {
    t.arp(&ArpPacket {
        operation: Operation::Request,
        sender_mac: PEER,
        sender: PEER_IP,
        target_mac: MacAddr::ZERO,
        target: OUR_IP,
    })
}

fn state(t: &Fixture) -> AddressState {
    let states: Vec<_> = t.stack.address_states().collect();
    let [(IpAddr::V4(OUR_IP), state)] = states[..] else { panic!("{states:?}") };
    state
}

/// Nothing is answered at the address, and its counter says so.
fn is_deaf(t: &mut Fixture) {
    t.sent.clear();
    let before = t.stack.stats().drop_unusable_in;
    let frames = [question(t), t.echo(b"hello"), t.tcp_frame(&seg("S", 0, 0))];
    for frame in frames {
        t.frame(&frame);
    }
    t.nothing();
    assert_eq!(t.stack.stats().drop_unusable_in, before + 2);
}

#[test]
fn strict_answers_nothing_until_it_has_probed_in_vain() {
    let mut t = Fixture::bare(strict());
    assert_eq!(state(&t), AddressState::Tentative);
    is_deaf(&mut t);
    let start = t.now;
    let mut probes = 0;
    while state(&t) == AddressState::Tentative {
        t.wait(3 * SECOND);
        let (_, packet) = t.next_arp();
        let (sender, target) = (packet.sender, packet.target);
        if sender == OUR_IP {
            break;
        }
        assert_eq!((sender, target), (Ipv4Addr::UNSPECIFIED, OUR_IP));
        probes += 1;
        is_deaf(&mut t);
    }
    assert_eq!((probes, state(&t)), (3, AddressState::Assigned));
    let took = t.now.since(start);
    assert!((4 * SECOND..=7 * SECOND).contains(&took), "{took:?}");
    let assigned = AddressEvent { address: OUR_IP.into(), state: AddressState::Assigned };
    assert_eq!(t.stack.poll_address_event(), Some(assigned));
    t.advance(3 * SECOND);
    t.meet(PEER_IP, PEER);
    t.sent.clear();
    t.open(seg("S", 0, 0));
}

#[test]
fn strict_gives_up_for_an_answer_and_for_a_rival_probe() {
    for sign in [claim, probe] {
        let mut t = Fixture::bare(strict());
        t.advance(2 * SECOND);
        t.sent.clear();
        let frame = sign(&t);
        t.frame(&frame);
        assert_eq!(state(&t), TAKEN);
        is_deaf(&mut t);
        t.advance(10 * SECOND);
        t.nothing();
    }
}

#[test]
fn optimistic_serves_at_once_and_gives_up_if_its_probes_are_answered() {
    let mut t = Fixture::bare(config());
    t.flush();
    assert_eq!(state(&t), AddressState::Assigned);
    t.meet(PEER_IP, PEER);
    t.sent.clear();
    let id = t.open(seg("S", 0, 0));
    let frame = claim(&t);
    t.frame(&frame);
    assert_eq!(state(&t), TAKEN);
    // The connection is over, and not a word of it goes out from what is another's address.
    assert_eq!(t.stack.closed(id), Some(CloseReason::Aborted));
    assert!(t.events(id).closed);
    is_deaf(&mut t);
    t.release(id);
    assert_eq!(t.held(), (0, 0, 0));
}

#[test]
fn an_address_in_use_is_defended_once_in_ten_seconds() {
    let mut t = Fixture::new(config());
    let id = t.open(seg("S", 0, 0));
    t.advance(10 * SECOND);
    for _ in 0..3 {
        t.sent.clear();
        let frame = claim(&t);
        t.frame(&frame);
        let (to, packet) = t.next_arp();
        assert_eq!((to, packet.sender, packet.target), (MacAddr::BROADCAST, OUR_IP, OUR_IP));
        t.nothing();
        assert_eq!(state(&t), AddressState::Assigned);
        t.advance(10 * SECOND);
    }
    let frame = claim(&t);
    t.frame(&frame);
    t.sent.clear();
    t.advance(9 * SECOND);
    t.frame(&frame);
    assert_eq!((state(&t), t.stack.closed(id)), (TAKEN, Some(CloseReason::Aborted)));
    let lost = AddressEvent { address: OUR_IP.into(), state: TAKEN };
    assert_eq!(t.stack.poll_address_event(), Some(lost));
    is_deaf(&mut t);
    let stats = t.stack.stats();
    assert_eq!((stats.arp_defended, stats.arp_yielded), (4, 1));
    assert_eq!(t.stack.neighbors(), 1, "a claim teaches nothing");
}

#[test]
fn a_rival_probe_is_answered_while_the_address_is_ours() {
    let mut t = Fixture::new(config());
    let frame = probe(&t);
    t.frame(&frame);
    let (to, packet) = t.next_arp();
    assert_eq!((to, packet.operation, packet.sender), (RIVAL, Operation::Reply, OUR_IP));
    assert_eq!(state(&t), AddressState::Assigned);
}

#[test]
fn it_comes_back_when_the_other_has_been_silent() {
    let mut t = Fixture::bare(config());
    t.advance(ms(100));
    let frame = claim(&t);
    t.frame(&frame);
    // Heard now and then.
    for _ in 0..5 {
        t.advance(10 * SECOND);
        t.frame(&frame);
    }
    t.sent.clear();
    t.advance(ms(14_999));
    t.nothing();
    assert_eq!(state(&t), TAKEN);
    t.advance(8 * SECOND);
    assert_eq!(state(&t), AddressState::Assigned);
    let events: Vec<_> =
        std::iter::from_fn(|| t.stack.poll_address_event()).map(|event| event.state).collect();
    assert_eq!(events, [TAKEN, AddressState::Tentative, AddressState::Assigned]);
    t.advance(SECOND);
    t.meet(PEER_IP, PEER);
    t.sent.clear();
    t.advance(3 * SECOND);
    t.sent.clear();
    t.open(seg("S", 0, 0));
}

#[test]
fn of_several_addresses_the_others_go_on() {
    let second = Ipv4Addr::new(10, 1, 2, 3);
    let addresses = vec![
        IpCidr::from(Ipv4Cidr { address: OUR_IP, prefix: 24 }),
        IpCidr::from(Ipv4Cidr { address: second, prefix: 24 }),
    ];
    let mut t = Fixture::new(Config { addresses, ..config() });
    let id = t.open(seg("S", 0, 0));
    let rival = t.arp(&ArpPacket {
        operation: Operation::Request,
        sender_mac: RIVAL,
        sender: second,
        target_mac: MacAddr::ZERO,
        target: second,
    });
    t.frame(&rival);
    t.frame(&rival);
    let states: Vec<_> = t.stack.address_states().collect();
    let wanted = [(OUR_IP.into(), AddressState::Assigned), (second.into(), TAKEN)];
    assert_eq!(states, wanted);
    t.sent.clear();
    t.app_send(id, b"still here");
    t.expect(seg("P.", 1, 1).data(b"still here"));
}

#[test]
fn workers_defend_once_and_yield_together() {
    let mut primary = Fixture::bare(config());
    let mut other = Fixture::bare(Config { passive: true, ..config() });
    for t in [&mut primary, &mut other] {
        t.advance(10 * SECOND);
    }
    assert_eq!(other.sent.len(), 0, "one voice");
    primary.sent.clear();
    // The claims reach the one that does not speak.
    for expected in [1, 0] {
        let frame = claim(&other);
        other.frame(&frame);
        let (address, mac) = other.stack.poll_neighbor_update().unwrap();
        primary.stack.learn_neighbor(primary.now, address, mac);
        primary.flush();
        assert_eq!(std::mem::take(&mut primary.sent).len(), expected);
        assert_eq!(primary.stack.poll_neighbor_update(), None, "no echo");
    }
    other.nothing();
    let lost = primary.stack.poll_address_event().unwrap();
    assert_eq!((state(&other), lost.state), (AddressState::Assigned, TAKEN));
    other.stack.follow_address(other.now, lost);
    assert_eq!(state(&other), TAKEN);
    is_deaf(&mut other);
    // And back.
    primary.advance(30 * SECOND);
    while let Some(event) = primary.stack.poll_address_event() {
        other.stack.follow_address(other.now, event);
    }
    assert_eq!(state(&other), AddressState::Assigned);
}
