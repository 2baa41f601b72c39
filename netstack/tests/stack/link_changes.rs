//! The link below gets another MTU, or another hardware address.

use std::net::Ipv6Addr;
use std::time::Duration;

use tagwire_netstack::wire::arp::Operation;
use tagwire_netstack::wire::{arp, ethernet, ipv6, ndp};
use tagwire_netstack::{Config, ConnId, MacAddr};

use crate::harness::{Fixture, OUR_IP, OUR_IP6, US, config, config_v6, pattern, seg};
use crate::path_mtu::sizes;

const NEW: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x77]);
const SECOND: Duration = Duration::from_secs(1);

fn full_sized(config: Config, mss: u16) -> (Fixture, ConnId) {
    let mut t = Fixture::new(config);
    let id = t.open(seg("S", 0, 0).mss(mss));
    (t, id)
}

#[test]
fn a_smaller_mtu_is_heeded_by_what_is_out_and_by_what_comes() {
    for (config, headers) in [(config(), 40), (config_v6(), 60)] {
        let (mut t, id) = full_sized(config, 1500 - headers);
        let largest = usize::from(1500 - headers);
        t.app_send(id, &pattern(4000));
        assert_eq!(sizes(&mut t)[0], (1, largest));
        t.stack.set_mtu(t.now, 1300);
        assert_eq!(t.stack.mtu(), 1300);
        t.flush();
        let again = sizes(&mut t);
        let fits = usize::from(1300 - headers);
        assert!(again.iter().all(|(_, octets)| *octets <= fits), "{again:?}");
        assert_eq!(again.iter().map(|(_, octets)| octets).sum::<usize>(), 4000);
        // No congestion, no router, and no time has passed.
        assert_eq!((t.stack.stats().tcp_rto, t.stack.stats().tcp_path_mtu_lowered), (0, 0));
        t.send(seg(".", 1, 4001));
        // For good, whatever the link carries later: it is not found out by losses.
        t.stack.set_mtu(t.now, 1500);
        for _ in 0..24 {
            t.advance(30 * SECOND);
            // It is still there.
            t.send(seg(".", 1, 4001));
        }
        t.sent.clear();
        t.app_send(id, &pattern(2000));
        assert_eq!(sizes(&mut t)[0], (4001, fits));
        t.send(seg(".", 1, 6001));
        // Who comes now has it all.
        t.port += 1;
        let next = t.open(seg("S", 0, 0).mss(1500 - headers));
        t.app_send(next, &pattern(2000));
        assert_eq!(sizes(&mut t)[0], (1, largest));
    }
}

#[test]
fn a_syn_is_answered_with_what_the_link_carries_by_then() {
    let mut t = Fixture::new(config());
    t.stack.set_mtu(t.now, 1000);
    t.send(seg("S", 0, 0).mss(1460));
    assert_eq!(t.recv().options.mss, Some(960));
}

#[test]
fn no_mtu_is_too_small_to_be_told() {
    for (config, least) in [(config(), 68), (config_v6(), 1280)] {
        let (mut t, id) = full_sized(config, 1000);
        t.stack.set_mtu(t.now, 0);
        assert_eq!(t.stack.mtu(), least);
        t.app_send(id, &pattern(100));
        assert!(!sizes(&mut t).is_empty());
    }
}

#[test]
fn another_hardware_address_is_announced_and_answered_with() {
    let mut t = Fixture::new(config());
    t.stack.set_mac(t.now, US);
    t.flush();
    t.nothing();
    t.stack.set_mac(t.now, NEW);
    t.advance(Duration::ZERO);
    let mut announced = false;
    while let Some((_, frame)) = t.sent.pop_front() {
        let frame = ethernet::parse(&frame).unwrap();
        assert_eq!(frame.source, NEW);
        let packet = arp::parse(frame.payload).unwrap();
        assert_eq!((packet.sender_mac, packet.operation), (NEW, Operation::Request));
        announced |= packet.sender == OUR_IP && packet.target == OUR_IP;
    }
    assert!(announced, "neighbours would go on sending to the old one");
}

#[test]
fn neighbours_of_ipv6_are_told_to_forget_the_old_one() {
    let mut t = Fixture::new(config_v6());
    t.advance(10 * SECOND);
    t.sent.clear();
    t.stack.set_mac(t.now, NEW);
    t.advance(10 * SECOND);
    let mut told = false;
    while let Some((_, frame)) = t.sent.pop_front() {
        let frame = ethernet::parse(&frame).unwrap();
        assert_eq!(frame.source, NEW);
        let packet = ipv6::parse(frame.payload).unwrap();
        if packet.payload[0] == ndp::TYPE_ADVERTISEMENT {
            let advertisement = ndp::parse_advertisement(packet.payload).unwrap();
            assert_eq!(advertisement.target_mac, Some(NEW));
            told |= advertisement.target == OUR_IP6 && advertisement.override_cached;
            assert_ne!(packet.header.destination, Ipv6Addr::UNSPECIFIED);
        }
    }
    assert!(told);
}

#[test]
fn frames_to_the_old_address_are_no_longer_ours() {
    let (mut t, id) = full_sized(config(), 1460);
    t.stack.set_mac(t.now, NEW);
    t.advance(10 * SECOND);
    t.sent.clear();
    let before = t.stack.stats().drop_mac;
    t.send(seg(".", 1, 1).data(b"lost"));
    assert_eq!(t.stack.stats().drop_mac, before + 1);
    t.abort(id);
}
