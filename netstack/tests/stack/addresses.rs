//! Several IPv4 addresses in one VLAN: each is announced, answered for, and spoken from.

use std::net::Ipv4Addr;

use tagwire_netstack::wire::arp::{ArpPacket, Operation};
use tagwire_netstack::wire::{ethernet, ipv4};
use tagwire_netstack::{Config, Ipv4Cidr, MacAddr};

use crate::harness::{Fixture, OUR_IP, PEER, PEER_IP, config, ms};

const SECOND: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const SECOND_PEER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);

fn two() -> Config {
    let mut config = config();
    config.addresses.push(Ipv4Cidr { address: SECOND, prefix: 30 }.into());
    config
}

#[test]
fn each_address_is_announced() {
    let mut t = Fixture::bare(two());
    t.advance(ms(0));
    for address in [OUR_IP, SECOND] {
        // Probed for alongside (RFC 5227).
        for sender in [Ipv4Addr::UNSPECIFIED, address] {
            let (to, packet) = t.next_arp();
            assert_eq!((to, packet.sender, packet.target), (MacAddr::BROADCAST, sender, address));
        }
    }
    t.nothing();
}

#[test]
fn each_address_answers_who_asks_for_it() {
    let mut t = Fixture::new(two());
    for (sender, target) in [(PEER_IP, OUR_IP), (SECOND_PEER, SECOND)] {
        let operation = Operation::Request;
        let target_mac = MacAddr::ZERO;
        let frame = t.arp(&ArpPacket { operation, sender_mac: PEER, sender, target_mac, target });
        t.frame(&frame);
        let (to, reply) = t.next_arp();
        assert_eq!((to, reply.operation), (PEER, Operation::Reply));
        assert_eq!((reply.sender, reply.target), (target, sender));
    }
}

#[test]
fn an_answer_comes_from_the_address_that_was_spoken_to() {
    let mut t = Fixture::new(two());
    let message = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
    for (from, to) in [(PEER_IP, OUR_IP), (SECOND_PEER, SECOND)] {
        let ping = t.ip(from, to, ipv4::PROTOCOL_ICMP, &message);
        t.frame(&ping);
        if from == SECOND_PEER {
            // Its question comes from the address in its subnet.
            let (to, request) = t.next_arp();
            assert_eq!((to, request.target), (MacAddr::BROADCAST, SECOND_PEER));
            assert_eq!(request.sender, SECOND);
            t.introduce(SECOND_PEER, PEER);
        }
        let (_, ethertype, payload) = t.next_frame();
        assert_eq!(ethertype, ethernet::ETHERTYPE_IPV4);
        let packet = ipv4::parse(&payload).unwrap();
        assert_eq!((packet.source, packet.destination), (to, from));
    }
}
