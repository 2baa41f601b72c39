//! Multicast listener discovery (RFC 3810), as a switch or a router on the link sees it.

use std::net::Ipv6Addr;
use std::time::Duration;

use tagwire_netstack::Instant;
use tagwire_netstack::wire::ipv6::{ALL_NODES, multicast_mac, solicited_node};
use tagwire_netstack::wire::mld::{ALL_MLDV2_ROUTERS, ROUTER_ALERT};
use tagwire_netstack::wire::{ethernet, icmpv6, ipv6};

use crate::harness::{Fixture, OUR_IP6, config_v6, header_v6, ms};

const QUERIER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xfe);
const TO_EXCLUDE: u8 = 4;
const IS_EXCLUDE: u8 = 2;
const IS_INCLUDE: u8 = 1;

/// A report: when, to whom, and `(type of record, group, sources)` of each group.
type Report = (Instant, Ipv6Addr, Vec<(u8, Ipv6Addr, Vec<Ipv6Addr>)>);

fn address(octets: &[u8]) -> Ipv6Addr {
    Ipv6Addr::from(*octets.first_chunk::<16>().unwrap())
}

/// The reports that were sent, their hop limits and Router Alerts checked; a version 1
/// report counts as a record of type 131.
fn reports(t: &mut Fixture) -> Vec<Report> {
    t.flush();
    let frames: Vec<_> = t.sent.drain(..).collect();
    let mut reports = Vec::new();
    for (at, frame) in frames {
        let frame = ethernet::parse(&frame).unwrap();
        let packet = ipv6::parse(frame.payload).unwrap();
        if packet.header.next_header != 0 {
            continue;
        }
        let ipv6::Header { source, destination, hop_limit, .. } = packet.header;
        let (alert, message) = packet.payload.split_at(8);
        assert_eq!((alert, hop_limit), (&ROUTER_ALERT[..], 1));
        assert!(source.is_unspecified() || source.is_unicast_link_local());
        assert_eq!(frame.destination, multicast_mac(destination));
        icmpv6::parse(source, destination, message).unwrap();
        let mut records = Vec::new();
        if message[0] == 131 {
            records.push((131, address(&message[8..]), Vec::new()));
        } else {
            assert_eq!((message[0], destination), (143, ALL_MLDV2_ROUTERS));
            let mut rest = &message[8..];
            while let [kind, _, _, count, tail @ ..] = rest {
                let (sources, after) = tail[16..].split_at(16 * usize::from(*count));
                let sources = sources.as_chunks::<16>().0.iter().map(|it| Ipv6Addr::from(*it));
                records.push((*kind, address(tail), sources.collect()));
                rest = after;
            }
            assert_eq!(records.len(), usize::from(message[7]));
        }
        reports.push((at, destination, records));
    }
    reports
}

fn query(group: Ipv6Addr, sources: &[Ipv6Addr]) -> Vec<u8> {
    let mut message = vec![130, 0, 0, 0, 0x03, 0xe8, 0, 0];
    message.extend(group.octets());
    message.extend([2, 125, 0, sources.len() as u8]);
    message.extend(sources.iter().flat_map(|source| source.octets()));
    message
}

fn ask(t: &mut Fixture, from: Ipv6Addr, hop_limit: u8, alert: bool, mut message: Vec<u8>) {
    icmpv6::seal(from, ALL_NODES, &mut message);
    let (next_header, payload) =
        if alert { (0, [&ROUTER_ALERT[..], &message].concat()) } else { (58, message) };
    let frame = t.ip_v6(&header_v6(from, ALL_NODES, next_header, hop_limit), &payload);
    t.frame(&frame);
}

fn ours() -> Ipv6Addr {
    solicited_node(OUR_IP6)
}

#[test]
fn joining_is_told_twice() {
    // RFC 3810 6.1.
    let mut t = Fixture::bare(config_v6());
    let start = t.now;
    t.advance(Duration::from_secs(5));
    let news: Vec<_> = reports(&mut t)
        .into_iter()
        .filter(|(_, _, records)| records.contains(&(TO_EXCLUDE, ours(), Vec::new())))
        .collect();
    assert_eq!(news.len(), 2);
    assert_eq!(news[0].0, start);
    assert!(news[1].0.since(start) <= ms(1000));
}

#[test]
fn a_general_query_is_answered_for_all_groups_within_its_time() {
    let mut t = Fixture::new(config_v6());
    let start = t.now;
    ask(&mut t, QUERIER, 1, true, query(Ipv6Addr::UNSPECIFIED, &[]));
    t.advance(Duration::from_secs(2));
    let told = reports(&mut t);
    let [(at, _, records)] = &told[..] else { panic!("{told:?}") };
    assert!(at.since(start) <= ms(1000));
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|(kind, _, sources)| *kind == IS_EXCLUDE && sources.is_empty()));
}

#[test]
fn a_group_and_its_sources_are_answered_for_and_a_strangers_group_is_not() {
    // RFC 3810 6.2 and 6.3.
    let source: Ipv6Addr = "2001:db8::5".parse().unwrap();
    let mut t = Fixture::new(config_v6());
    for (sources, record) in [
        (vec![], (IS_EXCLUDE, ours(), vec![])),
        (vec![source], (IS_INCLUDE, ours(), vec![source])),
        (vec![source; 40], (IS_INCLUDE, ours(), vec![source])),
        (many(40), (IS_EXCLUDE, ours(), vec![])),
    ] {
        ask(&mut t, QUERIER, 1, true, query(ours(), &sources));
        t.advance(Duration::from_secs(2));
        let told = reports(&mut t);
        let [(_, _, records)] = &told[..] else { panic!("{told:?}") };
        assert_eq!(*records, [record]);
    }
    ask(&mut t, QUERIER, 1, true, query("ff02::1:ff99:9999".parse().unwrap(), &[]));
    t.advance(Duration::from_secs(2));
    t.nothing();
}

fn many(count: u16) -> Vec<Ipv6Addr> {
    (0..count).map(|n| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 9, n)).collect()
}

#[test]
fn a_query_from_far_away_or_without_its_alert_is_not_heard() {
    // RFC 3810 6.2.
    let global: Ipv6Addr = "2001:db8::5".parse().unwrap();
    for (from, hop_limit, alert) in [(global, 1, true), (QUERIER, 2, true), (QUERIER, 1, false)] {
        let mut t = Fixture::new(config_v6());
        ask(&mut t, from, hop_limit, alert, query(Ipv6Addr::UNSPECIFIED, &[]));
        t.advance(Duration::from_secs(20));
        t.nothing();
        assert_eq!(t.stack.stats().mld_ignored, 1);
    }
}

#[test]
fn an_old_querier_gets_old_reports_until_it_has_been_silent_for_long() {
    // RFC 3810 8.2.1.
    let mut t = Fixture::new(config_v6());
    ask(&mut t, QUERIER, 1, true, query(Ipv6Addr::UNSPECIFIED, &[])[..24].to_vec());
    t.advance(Duration::from_secs(2));
    let told = reports(&mut t);
    assert_eq!(told.len(), 2);
    for (_, destination, records) in told {
        assert_eq!(records, [(131, destination, Vec::new())]);
    }
    t.advance(Duration::from_secs(300));
    ask(&mut t, QUERIER, 1, true, query(Ipv6Addr::UNSPECIFIED, &[]));
    t.advance(Duration::from_secs(2));
    assert_eq!(reports(&mut t)[0].1, ALL_MLDV2_ROUTERS);
}
