//! Path MTU: what routers tell (RFC 1191, RFC 5927), and what vanishes (RFC 4821).

use std::time::Duration;

use tagwire_netstack::wire::{icmpv4, ipv4};
use tagwire_netstack::{ConnId, State};

use crate::harness::{Fixture, OUR_IP, PEER_IP, config, pattern, seg};

const SECOND: Duration = Duration::from_secs(1);

/// Full segments of 1460 octets.
fn full_sized() -> (Fixture, ConnId) {
    let mut t = Fixture::new(config());
    let id = t.open(seg("S", 0, 0).mss(1460));
    (t, id)
}

/// A router's error about the segment at `seq`; code 4 says that its next link carries `mtu`.
fn router_says(t: &mut Fixture, code: u8, seq: u32, mtu: u16) {
    let mut quote = vec![0; ipv4::HEADER_LEN];
    ipv4::emit(&mut quote, OUR_IP, PEER_IP, ipv4::PROTOCOL_TCP, 1480);
    quote.extend(80u16.to_be_bytes());
    quote.extend(t.port.to_be_bytes());
    quote.extend(t.iss.wrapping_add(seq).to_be_bytes());
    let mut message = icmpv4::make_error(3, code, &quote);
    message[6..8].copy_from_slice(&mtu.to_be_bytes());
    message[2..4].fill(0);
    let sum = tagwire_netstack::wire::checksum::Sum::new().feed(&message).finish();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let frame = t.ip([192, 168, 123, 9].into(), OUR_IP, ipv4::PROTOCOL_ICMP, &message);
    t.frame(&frame);
}

/// Everything that was sent, as (number, octets).
pub(crate) fn sizes(t: &mut Fixture) -> Vec<(u32, usize)> {
    let mut sizes = Vec::new();
    while !t.sent.is_empty() {
        let segment = t.recv();
        sizes.push((segment.seq, segment.data.len()));
    }
    sizes
}

#[test]
fn a_router_is_believed_and_what_was_too_big_is_sent_again_smaller() {
    let (mut t, id) = full_sized();
    let stream = pattern(4000);
    t.app_send(id, &stream);
    assert_eq!(sizes(&mut t), [(1, 1460), (1461, 1460), (2921, 1080)]);
    router_says(&mut t, 4, 1461, 1240);
    let again = sizes(&mut t);
    assert!(again.iter().all(|(_, octets)| *octets <= 1200), "{again:?}");
    assert_eq!(again.iter().map(|(_, octets)| octets).sum::<usize>(), 4000);
    assert_eq!((again[0], t.stack.stats().tcp_path_mtu_lowered), ((1, 1200), 1));
    // The window is as it was: nothing says that the path is full.
    assert_eq!(t.stack.stats().tcp_rto, 0);
    // The others' errors of the same flight say nothing new, nor does a larger size.
    router_says(&mut t, 4, 1, 1240);
    router_says(&mut t, 4, 1, 1500);
    t.nothing();
    t.send(seg(".", 1, 4001));
    t.app_send(id, &pattern(2000));
    assert_eq!(sizes(&mut t)[0], (4001, 1200));
}

#[test]
fn it_is_not_believed_about_what_is_not_in_flight() {
    // RFC 5927 4.1.
    let (mut t, id) = full_sized();
    router_says(&mut t, 4, 1, 600);
    t.app_send(id, &pattern(4000));
    t.sent.clear();
    t.send(seg(".", 1, 1461));
    for seq in [0, 1, 1460, 4001, 100_000] {
        router_says(&mut t, 4, seq, 600);
    }
    t.port += 1;
    router_says(&mut t, 4, 1461, 600);
    t.port -= 1;
    t.nothing();
    let stats = t.stack.stats();
    assert_eq!((stats.tcp_path_mtu_lowered, stats.tcp_icmp_ignored), (0, 7));
}

#[test]
fn no_router_makes_segments_tiny() {
    for (told, octets) in [(68, 512), (0, 1452)] {
        let (mut t, id) = full_sized();
        t.app_send(id, &pattern(4000));
        t.sent.clear();
        // 0: an old router, which does not say; the next smaller plateau (RFC 1191 7).
        router_says(&mut t, 4, 1, told);
        assert_eq!(sizes(&mut t)[0], (1, octets));
    }
}

#[test]
fn another_connection_to_the_same_destination_knows_it_for_ten_minutes() {
    let (mut t, id) = full_sized();
    t.app_send(id, &pattern(1460));
    t.sent.clear();
    router_says(&mut t, 4, 1, 1240);
    t.abort(id);
    t.events(id);
    for (wait, octets) in [(1, 1200), (598, 1200), (2, 1460)] {
        t.advance(wait * SECOND);
        t.sent.clear();
        t.port += 1;
        let id = t.open(seg("S", 0, 0).mss(1460));
        t.app_send(id, &pattern(3000));
        assert_eq!(t.recv().data.len(), octets);
        t.abort(id);
        t.events(id);
    }
}

#[test]
fn a_larger_size_is_tried_after_ten_minutes() {
    let (mut t, id) = full_sized();
    t.app_send(id, &pattern(1460));
    t.sent.clear();
    router_says(&mut t, 4, 1, 1240);
    t.sent.clear();
    t.send(seg(".", 1, 1461));
    let mut acked = 1461;
    let mut ask = |t: &mut Fixture| {
        t.sent.clear();
        t.app_send(id, &pattern(3000));
        let octets = t.recv().data.len();
        acked += 3000;
        t.sent.clear();
        t.send(seg(".", 1, acked));
        octets
    };
    // It goes up by the steps that links have.
    let mut sizes = Vec::new();
    for _ in 0..70 {
        sizes.push(ask(&mut t));
        t.advance(60 * SECOND);
    }
    sizes.dedup();
    assert_eq!(sizes, [1200, 1240, 1360, 1452, 1460]);
}

#[test]
fn soft_and_hard_errors_end_no_connection() {
    // RFC 5461.
    let (mut t, id) = full_sized();
    t.app_send(id, b"data");
    t.recv();
    for code in [0, 1, 2, 3, 5, 9, 10, 13] {
        router_says(&mut t, code, 1, 0);
    }
    t.nothing();
    assert_eq!(t.state(id), Some(State::Established));
    assert_eq!(t.stack.stats().tcp_icmp_soft, 8);
}

#[test]
fn a_black_hole_heals_by_itself() {
    // Full segments vanish and no router says why.
    let (mut t, id) = full_sized();
    let stream = pattern(6000);
    t.app_send(id, &stream);
    let (mut acked, mut waited) = (1, Duration::ZERO);
    while acked < 6001 {
        if t.sent.is_empty() {
            waited += t.wait(10 * SECOND);
        }
        let segment = t.recv();
        if segment.data.len() <= 1100 && segment.seq == acked {
            acked += segment.data.len() as u32;
            let ack = seg(".", 1, acked);
            t.send(ack);
        }
        assert!(waited < 5 * SECOND, "still at {acked} after {waited:?}");
    }
    assert_eq!(t.stack.stats().tcp_black_hole, 1);
    // The next connection to there begins where this one got through.
    t.send(seg(".", 1, 6001));
    t.app_send(id, &pattern(2000));
    t.sent.clear();
    t.send(seg(".", 1, 8001));
    t.port += 1;
    let id = t.open(seg("S", 0, 0).mss(1460));
    t.app_send(id, &pattern(3000));
    assert_eq!(t.recv().data.len(), 1024);
}
