//! SYN cookies (RFC 4987 3.6), and what a flood of SYNs costs others.

use std::time::Duration;

use tagwire_netstack::wire::ethernet;
use tagwire_netstack::{Config, ConnId, TcpConfig};

use super::harness::{Fixture, Seg, config, neighbor_of, pattern, seg};

fn backlog(backlog: usize) -> Config {
    Config { tcp: TcpConfig { backlog, ..TcpConfig::default() }, ..config() }
}

/// A SYN as clients send it.
fn full_syn() -> Seg {
    let mut syn = seg("S", 0, 0).mss(1012).scale(4).timestamp(5000, 0);
    syn.options.sack_permitted = true;
    syn
}

/// The handshake's last ACK for this SYN-ACK.
fn last_ack(answer: &Seg) -> Seg {
    let ack = seg(".", 1, 1).window(250);
    match answer.options.timestamp {
        Some(stamp) => ack.timestamp(5001, stamp.value),
        None => ack,
    }
}

fn accepted(t: &mut Fixture) -> ConnId {
    let (id, events) = t.stack.poll_event().expect("a connection");
    assert!(events.accepted);
    id
}

#[test]
fn a_full_table_answers_by_cookies_and_loses_no_record() {
    let mut t = Fixture::new(backlog(3));
    let first = t.port;
    let mut numbers = Vec::new();
    for _ in 0..8 {
        t.send(seg("S", 0, 0));
        // Every SYN is answered.
        assert_eq!(t.recv().flags, "S.");
        numbers.push(t.iss);
        t.port += 1;
    }
    assert_eq!(t.held(), (0, 3, 0));
    assert_eq!(t.stack.stats().tcp_cookie_sent, 5);
    // Both the oldest, from its record, and the newest, from its cookie, can finish.
    for (index, held) in [(0, (1, 2, 0)), (7, (2, 2, 0))] {
        (t.port, t.iss) = (first + index, numbers[usize::from(index)]);
        t.send(seg(".", 1, 1));
        t.nothing();
        assert_eq!(t.held(), held);
    }
    assert_eq!(t.stack.stats().tcp_cookie_accepted, 1);
}

#[test]
fn what_was_agreed_on_comes_back_in_the_timestamp() {
    let mut t = Fixture::new(backlog(0));
    t.send(full_syn());
    let answer = t.expect(seg("S.", 0, 1));
    assert_eq!(answer.options.window_scale, Some(0));
    assert!(answer.options.sack_permitted);
    assert_eq!(answer.options.timestamp.unwrap().echo, 5000);
    assert_eq!(t.held(), (0, 0, 0));
    t.advance(Duration::from_secs(60));
    t.send(last_ack(&answer));
    let id = accepted(&mut t);
    t.app_send(id, &pattern(10_000));
    // The window of 250 is scaled by 4 bits: four segments of the largest MSS in the table
    // that the peer can take (536), less the timestamps.
    let sent = t.recv();
    assert_eq!(sent.data.len(), 524);
    assert_eq!(sent.options.timestamp.unwrap().echo, 5001);
    let (before, after) = (answer.options.timestamp.unwrap(), sent.options.timestamp.unwrap());
    assert!((60_000..60_128).contains(&after.value.wrapping_sub(before.value)));
    assert_eq!(t.sent.len(), 4000 / 524 - 1);
    // SACK was permitted.
    t.sent.clear();
    t.send(seg(".", 101, 1).data(b"later").timestamp(5002, after.value));
    assert!(!t.recv().options.sack.is_empty());
}

#[test]
fn without_timestamps_the_mss_alone_comes_back() {
    let mut t = Fixture::new(backlog(0));
    let mut syn = seg("S", 0, 0).mss(1450).scale(4);
    syn.options.sack_permitted = true;
    t.send(syn);
    let answer = t.expect(seg("S.", 0, 1));
    assert_eq!((answer.options.window_scale, answer.options.sack_permitted), (None, false));
    t.send(last_ack(&answer).window(60_000));
    let id = accepted(&mut t);
    t.app_send(id, &pattern(3000));
    assert_eq!(t.recv().data.len(), 1440);
}

#[test]
fn the_handshakes_ack_may_be_lost_and_data_take_its_place() {
    let mut t = Fixture::new(backlog(0));
    t.send(full_syn());
    let answer = t.recv();
    t.send(Seg { flags: "P.".into(), ..last_ack(&answer) }.data(b"GET"));
    let id = accepted(&mut t);
    assert_eq!(t.app_recv(id).0, b"GET");
}

#[test]
fn a_cookie_that_was_not_baked_here_is_refused() {
    let mut t = Fixture::new(backlog(0));
    // None was sent: nothing is looked at.
    t.send(seg(".", 1, 1));
    assert_eq!(t.recv().flags, "R");
    assert_eq!(t.stack.stats().tcp_cookie_rejected, 0);
    t.send(seg("S", 0, 0));
    t.recv();
    // Another number, another port, no ACK at all, and a reset.
    t.send(seg(".", 1, 2));
    assert_eq!(t.recv().flags, "R");
    t.port += 1;
    t.send(seg(".", 1, 1));
    assert_eq!(t.recv().flags, "R");
    t.port -= 1;
    t.send(seg("", 1, 1));
    t.send(seg("R.", 1, 1));
    t.nothing();
    assert_eq!(t.stack.stats().tcp_cookie_rejected, 2);
    // Too late.
    t.advance(Duration::from_secs(128));
    t.send(seg(".", 1, 1));
    assert_eq!(t.recv().flags, "R");
    assert_eq!(t.held(), (0, 0, 0));
}

#[test]
fn a_closed_port_has_no_cookies() {
    let mut t = Fixture::new(backlog(0));
    t.send(seg("S", 0, 0));
    t.recv();
    t.stack.unlisten(80);
    t.send(seg(".", 1, 1));
    assert_eq!(t.recv().flags, "R");
}

#[test]
fn a_full_connection_table_takes_no_cookie() {
    let tcp = TcpConfig { backlog: 0, max_connections: 1, ..TcpConfig::default() };
    let mut t = Fixture::new(Config { tcp, ..config() });
    t.send(seg("S", 0, 0));
    t.recv();
    let first = t.iss;
    t.port += 1;
    t.send(seg("S", 0, 0));
    t.recv();
    t.send(seg(".", 1, 1));
    t.port -= 1;
    t.iss = first;
    t.send(seg(".", 1, 1));
    t.nothing();
    assert_eq!((t.held(), t.stack.stats().tcp_syn_dropped), ((1, 0, 0), 1));
}

#[test]
fn a_syn_is_answered_to_the_station_that_sent_it_and_nobody_is_asked_for() {
    // Neighbours that do not exist: each would cost a broadcast.
    let mut t = Fixture::bare(backlog(2));
    t.advance(Duration::from_secs(3));
    t.sent.clear();
    let peer = t.peer;
    for host in 10..60 {
        t.peer = neighbor_of(peer, host);
        t.send(seg("S", 0, 0));
    }
    assert_eq!(t.sent.len(), 50);
    while let Some((_, octets)) = t.sent.pop_front() {
        let frame = ethernet::parse(&octets).unwrap();
        assert_eq!(frame.destination, super::harness::PEER);
    }
    // Nor when they are sent again.
    t.advance(Duration::from_secs(60));
    assert_eq!((t.sent.len(), t.stack.neighbors()), (10, 0));
    assert_eq!(t.stack.stats().drop_unresolved, 0);
}
