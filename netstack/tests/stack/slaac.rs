//! Routers, prefixes and automatic addresses (RFC 4861 6, RFC 4862 5.5, RFC 7217, RFC 4191).

use std::net::Ipv6Addr;
use std::time::Duration;

use tagwire_netstack::wire::ipv6::{ALL_NODES, ALL_ROUTERS};
use tagwire_netstack::wire::{ethernet, icmpv6, ipv6, ndp};
use tagwire_netstack::{Config, MacAddr};

use crate::harness::{Fixture, PEER, config_v6, header_v6, seg};

const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xfe);
const SECOND: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xfd);
const PREFIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 0);
const FAR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);
const ROUTER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);
const SECOND_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfd]);
const HOUR: u32 = 3600;

fn config() -> Config {
    Config { addresses: Vec::new(), slaac: true, ..config_v6() }
}

/// A router advertisement: its lifetime in seconds, flags, and options.
fn advertisement(lifetime: u16, flags: u8, mac: MacAddr, options: &[Vec<u8>]) -> Vec<u8> {
    let mut message = vec![134, 0, 0, 0, 0, flags];
    message.extend(lifetime.to_be_bytes());
    message.extend([0; 8]);
    message.extend([1, 1]);
    message.extend(mac.0);
    message.extend(options.concat());
    message
}

fn prefix(prefix: Ipv6Addr, flags: u8, valid: u32, preferred: u32) -> Vec<u8> {
    let mut option = vec![3, 4, 64, flags];
    option.extend(valid.to_be_bytes());
    option.extend(preferred.to_be_bytes());
    option.extend([0; 4]);
    option.extend(prefix.octets());
    option
}

fn hear(t: &mut Fixture, router: Ipv6Addr, message: Vec<u8>) {
    let frame = t.discovery(router, ALL_NODES, message);
    t.frame(&frame);
}

/// Targets of the probes that were sent.
fn probed(t: &mut Fixture) -> Vec<Ipv6Addr> {
    let frames: Vec<_> = t.sent.drain(..).map(|(_, frame)| frame).collect();
    frames
        .iter()
        .filter_map(|frame| {
            let packet = ipv6::parse(ethernet::parse(frame).ok()?.payload).ok()?;
            let probe = packet.header.source.is_unspecified()
                && packet.payload.first() == Some(&ndp::TYPE_SOLICITATION);
            probe.then(|| ndp::parse_solicitation(packet.payload).unwrap().target)
        })
        .collect()
}

/// The stack after a router has told it about the prefix; the address that it formed.
fn settled(lifetime: u16, options: &[Vec<u8>]) -> (Fixture, Ipv6Addr) {
    let mut t = Fixture::bare(config());
    t.advance(Duration::from_secs(2));
    t.sent.clear();
    hear(&mut t, ROUTER, advertisement(lifetime, 0, ROUTER_MAC, options));
    t.advance(Duration::ZERO);
    let [address] = probed(&mut t)[..] else { panic!("one address") };
    t.advance(Duration::from_secs(5));
    t.sent.clear();
    (t, address)
}

/// Whether the stack answers a ping to `address` from `source`, and to which station.
fn pinged(t: &mut Fixture, source: Ipv6Addr, address: Ipv6Addr) -> Option<MacAddr> {
    t.sent.clear();
    let mut message = vec![128, 0, 0, 0, 0, 1, 0, 1];
    icmpv6::seal(source, address, &mut message);
    let frame = t.ip_v6(&header_v6(source, address, ipv6::NEXT_ICMPV6, 64), &message);
    t.frame(&frame);
    let answer = t.sent.iter().find_map(|(_, frame)| {
        let frame = ethernet::parse(frame).ok()?;
        let packet = ipv6::parse(frame.payload).ok()?;
        (packet.payload.first() == Some(&129)).then_some(frame.destination)
    });
    t.sent.clear();
    answer
}

#[test]
fn an_address_is_formed_probed_and_used_through_the_router() {
    let both = prefix(PREFIX, 0xc0, HOUR, HOUR);
    let (mut t, address) = settled(1800, &[both]);
    assert_eq!(address.octets()[..8], PREFIX.octets()[..8]);
    assert_eq!(pinged(&mut t, FAR, address), Some(ROUTER_MAC));
    (t.ours, t.peer) = (address.into(), FAR.into());
    let frame = t.tcp_frame(&seg("S", 0, 0));
    t.frame(&frame);
    assert_eq!(t.next_frame().0, PEER, "a SYN is answered to the station that sent it");
}

#[test]
fn routers_are_solicited_at_intervals_that_double_until_one_is_there() {
    // RFC 7559.
    let mut t = Fixture::bare(config());
    let start = t.now;
    t.advance(Duration::from_secs(300));
    let solicited: Vec<f64> = t
        .sent
        .iter()
        .filter(|(_, frame)| {
            let payload = ethernet::parse(frame).unwrap().payload;
            let packet = ipv6::parse(payload).unwrap();
            let solicits = packet.payload[0] == ndp::TYPE_ROUTER_SOLICITATION;
            assert!(!solicits || packet.header.hop_limit == 255);
            solicits && packet.header.destination == ALL_ROUTERS
        })
        .map(|(at, _)| at.since(start).as_secs_f64())
        .collect();
    assert!(solicited[0] <= 1.0 && solicited.len() == 7, "{solicited:?}");
    let mut wait = 4.0;
    for pair in solicited.windows(2) {
        let off = (pair[1] - pair[0]) / wait;
        assert!((0.9..=1.1).contains(&off), "{solicited:?}");
        wait *= 2.0;
    }
    t.sent.clear();
    hear(&mut t, ROUTER, advertisement(1800, 0, ROUTER_MAC, &[]));
    t.advance(Duration::from_secs(1700));
    assert!(probed(&mut t).is_empty() && t.sent.is_empty());
    // It has gone: it begins anew.
    t.advance(Duration::from_secs(110));
    assert!(!t.sent.is_empty());
}

#[test]
fn what_is_no_prefix_for_hosts_forms_nothing() {
    // RFC 4862 5.5.3 (a) to (d).
    let mut long = prefix(PREFIX, 0xc0, HOUR, HOUR);
    long[2] = 65;
    let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
    for option in [
        prefix(PREFIX, 0x80, HOUR, HOUR),
        prefix(link_local, 0xc0, HOUR, HOUR),
        prefix(PREFIX, 0xc0, HOUR, HOUR + 1),
        prefix(PREFIX, 0xc0, 0, 0),
        long,
    ] {
        let mut t = Fixture::bare(config());
        t.advance(Duration::from_secs(2));
        t.sent.clear();
        hear(&mut t, ROUTER, advertisement(1800, 0, ROUTER_MAC, &[option]));
        t.advance(Duration::from_secs(2));
        assert!(probed(&mut t).is_empty());
    }
}

#[test]
fn who_may_not_advertise_is_not_heard() {
    // RFC 4861 6.1.2.
    let message = || advertisement(1800, 0, ROUTER_MAC, &[prefix(PREFIX, 0xc0, HOUR, HOUR)]);
    let mut t = Fixture::bare(config());
    t.advance(Duration::from_secs(2));
    t.sent.clear();
    let global = t.discovery(FAR, ALL_NODES, message());
    let mut forwarded = t.discovery(ROUTER, ALL_NODES, message());
    forwarded[18 + 7] = 64;
    for frame in [global, forwarded] {
        t.frame(&frame);
    }
    t.advance(Duration::from_secs(1));
    assert!(probed(&mut t).is_empty());
    assert_eq!(t.stack.stats().nd_ignored, 2);
    // Nor is anybody where only configured addresses are wanted.
    let mut t = Fixture::new(config_v6());
    hear(&mut t, ROUTER, message());
    t.advance(Duration::from_secs(1));
    assert!(probed(&mut t).is_empty());
}

#[test]
fn a_lifetime_is_not_cut_below_two_hours() {
    // RFC 4862 5.5.3 (e).
    let (mut t, address) = settled(9000, &[prefix(PREFIX, 0xc0, 10 * HOUR, HOUR)]);
    // The first cuts to two hours; with less than that left the others say nothing.
    for wait in [0, 7000, 150] {
        t.advance(Duration::from_secs(wait));
        let short = prefix(PREFIX, 0x40, 60, 60);
        hear(&mut t, ROUTER, advertisement(65535, 0, ROUTER_MAC, &[short]));
        assert!(pinged(&mut t, ROUTER, address).is_some(), "{wait}");
    }
    t.advance(Duration::from_secs(60));
    hear(&mut t, ROUTER, advertisement(65535, 0, ROUTER_MAC, &[]));
    assert!(pinged(&mut t, ROUTER, address).is_none());
}

#[test]
fn a_lifetime_can_be_prolonged() {
    let (mut t, address) = settled(9000, &[prefix(PREFIX, 0xc0, 100, 100)]);
    hear(&mut t, ROUTER, advertisement(9000, 0, ROUTER_MAC, &[prefix(PREFIX, 0xc0, 300, 300)]));
    t.advance(Duration::from_secs(290));
    assert!(pinged(&mut t, ROUTER, address).is_some());
    t.advance(Duration::from_secs(20));
    assert!(pinged(&mut t, ROUTER, address).is_none());
}

#[test]
fn addresses_routers_and_prefixes_are_bounded() {
    let mut t = Fixture::bare(config());
    t.advance(Duration::from_secs(2));
    t.sent.clear();
    for n in 0..2000u16 {
        let other = Ipv6Addr::new(0x2001, 0xdb8, 8, n, 0, 0, 0, 0);
        let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, n);
        let option = prefix(other, 0xc0, HOUR, HOUR);
        hear(&mut t, router, advertisement(1800, 0, ROUTER_MAC, &[option]));
    }
    t.advance(Duration::from_secs(2));
    assert_eq!(probed(&mut t).len(), 16);
    // The all-nodes group, the link-local address's, and theirs.
    assert_eq!(t.stack.multicast_macs().len(), 18);
}

/// A stack that does not speak has the same lifetimes: else whoever once advertises enough routers
/// and prefixes for a minute would keep the true ones out of it for ever.
#[test]
fn what_is_over_makes_room_in_a_stack_that_does_not_speak_too() {
    let mut t = Fixture::bare(Config { passive: true, ..config() });
    for n in 0..64u16 {
        let other = Ipv6Addr::new(0x2001, 0xdb8, 8, n, 0, 0, 0, 0);
        let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, n);
        let option = prefix(other, 0xc0, 60, 60);
        hear(&mut t, router, advertisement(60, 0, SECOND_MAC, &[option]));
    }
    t.advance(Duration::from_secs(61));
    assert_eq!(t.stack.address_states().count(), 1, "the link-local one");
    let option = prefix(PREFIX, 0xc0, HOUR, HOUR);
    hear(&mut t, ROUTER, advertisement(1800, 0, ROUTER_MAC, &[option]));
    t.advance(Duration::from_secs(2));
    let address = t.stack.address_states().find_map(|(address, _)| match address {
        std::net::IpAddr::V6(address) => {
            (address.octets()[..8] == PREFIX.octets()[..8]).then_some(address)
        }
        std::net::IpAddr::V4(_) => None,
    });
    let address = address.expect("one is formed from the true prefix");
    assert_eq!(pinged(&mut t, FAR, address), Some(ROUTER_MAC));
    t.advance(Duration::from_secs(1800));
    assert_eq!(pinged(&mut t, FAR, address), None, "its router's time is over");
}

#[test]
fn the_preferred_router_is_used_and_another_when_it_is_none_any_more() {
    // RFC 4191 3.2, RFC 4861 6.3.4.
    let both = prefix(PREFIX, 0xc0, HOUR, HOUR);
    let (mut t, address) = settled(1800, &[both]);
    hear(&mut t, SECOND, advertisement(1800, 0x08, SECOND_MAC, &[]));
    assert_eq!(pinged(&mut t, FAR, address), Some(SECOND_MAC));
    hear(&mut t, SECOND, advertisement(0, 0x08, SECOND_MAC, &[]));
    assert_eq!(pinged(&mut t, FAR, address), Some(ROUTER_MAC));
    // Low, and then there is nobody else.
    hear(&mut t, SECOND, advertisement(1800, 0x18, SECOND_MAC, &[]));
    assert_eq!(pinged(&mut t, FAR, address), Some(ROUTER_MAC));
    t.advance(Duration::from_secs(1000));
    hear(&mut t, SECOND, advertisement(1800, 0x18, SECOND_MAC, &[]));
    t.advance(Duration::from_secs(900));
    assert_eq!(pinged(&mut t, FAR, address), Some(SECOND_MAC));
}

#[test]
fn a_router_that_says_that_it_is_none_is_not_used() {
    // RFC 4861 7.2.5.
    let (mut t, address) = settled(1800, &[prefix(PREFIX, 0xc0, HOUR, HOUR)]);
    let message = ndp::make_advertisement(&ndp::Advertisement {
        router: false,
        solicited: false,
        override_cached: true,
        target: ROUTER,
        target_mac: Some(ROUTER_MAC),
    });
    hear(&mut t, ROUTER, message);
    assert_eq!(pinged(&mut t, FAR, address), None);
    assert_eq!(t.stack.stats().drop_no_route, 1);
}

#[test]
fn the_mtu_option_is_taken_within_bounds() {
    for (mtu, mss) in [(1279u32, 1440), (1280, 1220), (1400, 1340), (1501, 1440)] {
        let mut option = vec![5, 1, 0, 0];
        option.extend(mtu.to_be_bytes());
        let (mut t, address) = settled(1800, &[prefix(PREFIX, 0xc0, HOUR, HOUR), option]);
        (t.ours, t.peer) = (address.into(), FAR.into());
        t.send(seg("S", 0, 0));
        assert_eq!(t.recv().options.mss, Some(mss), "{mtu}");
    }
}

#[test]
fn a_configured_gateway_comes_before_advertised_routers() {
    let gateway6 = Some(SECOND);
    let mut t = Fixture::bare(Config { slaac: true, gateway6, ..config_v6() });
    t.answers_arp = false;
    t.advance(Duration::from_secs(5));
    hear(&mut t, ROUTER, advertisement(1800, 0, ROUTER_MAC, &[]));
    hear(&mut t, SECOND, advertisement(0, 0, SECOND_MAC, &[]));
    assert_eq!(pinged(&mut t, FAR, crate::harness::OUR_IP6), Some(SECOND_MAC));
}
