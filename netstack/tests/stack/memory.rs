//! The memory of all connections: what counts, and what gives way (in order).

use std::time::Duration;

use bytes::Bytes;
use tagwire_netstack::{Config, ConnId, TcpConfig};

use crate::harness::{Fixture, config, pattern, seg};

const SECOND: Duration = Duration::from_secs(1);

fn budget(memory_budget: usize) -> Config {
    Config { tcp: TcpConfig { memory_budget, ..TcpConfig::default() }, ..config() }
}

/// Opens a connection from the next port.
fn next(t: &mut Fixture) -> ConnId {
    t.port += 1;
    t.sent.clear();
    t.send(seg("S", 0, 0).mss(1000));
    // Whoever gives way for it hears of it behind this.
    t.expect(seg("S.", 0, 1));
    t.send(seg(".", 1, 1));
    t.sent.clear();
    loop {
        let (id, events) = t.stack.poll_event().expect("a new connection");
        if events.accepted {
            return id;
        }
    }
}

#[test]
fn all_that_is_held_is_counted_and_given_back() {
    let mut t = Fixture::new(config());
    let held = |t: &Fixture| t.stack.counts().memory;
    assert_eq!(held(&t), 0);
    let id = next(&mut t);
    let empty = held(&t);
    assert!((500..3000).contains(&empty), "{empty}");
    t.send(seg(".", 1, 1).data(&pattern(1000)));
    assert_eq!(held(&t), empty + 1000);
    t.send(seg(".", 3001, 1).data(&pattern(500)));
    assert_eq!(held(&t), empty + 1500);
    t.send(seg(".", 1001, 1).data(&pattern(2000)));
    assert_eq!(held(&t), empty + 3500);
    assert_eq!(t.app_recv(id).0.len(), 3500);
    assert_eq!(held(&t), empty);
    t.app_send(id, &pattern(5000));
    assert!(held(&t) > empty);
    t.abort(id);
    assert_eq!(held(&t), 0);
    t.release(id);
    t.port += 1;
    t.send(seg("S", 0, 0));
    assert!((100..500).contains(&held(&t)));
    t.send(seg("R", 1, 0));
    assert_eq!(held(&t), 0);
}

#[test]
fn answers_that_nobody_takes_count_but_what_a_cache_holds_does_not() {
    let mut t = Fixture::new(config());
    let id = next(&mut t);
    let held = |t: &Fixture| t.stack.counts().memory;
    let empty = held(&t);
    let cached = Bytes::from(pattern(20_000));
    t.stack.send(id, cached.clone()).unwrap();
    t.flush();
    let references = held(&t) - empty;
    assert!(references < 2000, "{references}");
    for _ in 0..100 {
        t.stack.send(id, Bytes::from(pattern(300))).unwrap();
    }
    let all = held(&t) - empty;
    assert!((30_000..40_000).contains(&all), "{all}");
    // What is acknowledged is given back.
    let mut taken = 0;
    while taken < 50_000 {
        let segment = t.recv();
        taken = segment.seq + segment.data.len() as u32 - 1;
        t.send(seg(".", 1, taken + 1));
        if taken >= 40_000 {
            assert!(
                held(&t) - empty < 20_000,
                "{taken} octets are taken, {} held",
                held(&t) - empty
            );
        }
    }
    assert!(held(&t) - empty < 2000, "{}", held(&t) - empty);
    assert_eq!(cached, pattern(20_000));
}

#[test]
fn half_open_then_time_wait_then_idle_then_the_slowest_give_way() {
    // What one connection, record and half-open take here, to know what the budget must be.
    let mut t = Fixture::new(config());
    let id = next(&mut t);
    let connection = t.stack.counts().memory;
    t.abort(id);

    let mut t = Fixture::new(budget(6 * connection));
    let cached = Bytes::from(pattern(3000));
    let answer = |t: &mut Fixture, id| {
        t.stack.send(id, cached.clone()).unwrap();
        t.flush();
    };
    // One of each kind, some time apart: slow, idle, TIME-WAIT, half-open.
    let slowest = next(&mut t);
    answer(&mut t, slowest);
    t.advance(SECOND);
    let slow = next(&mut t);
    answer(&mut t, slow);
    t.advance(SECOND);
    let idle = [next(&mut t), next(&mut t)];
    let last = next(&mut t);
    t.release(last);
    t.sent.clear();
    t.send(seg("F.", 1, 2));
    t.port += 1;
    t.send(seg("S", 0, 0));
    assert_eq!(t.held(), (4, 1, 1));
    t.advance(SECOND);
    t.sent.clear();
    let memory = |t: &Fixture| {
        let stats = t.stack.stats();
        let [a, b, c, d] = [
            stats.tcp_memory_half_open,
            stats.tcp_memory_time_wait,
            stats.tcp_memory_idle,
            stats.tcp_memory_slow,
        ];
        (a, b, c, d)
    };
    // Each new connection with data to send needs a place.
    let mut seen = Vec::new();
    for _ in 0..8 {
        let id = next(&mut t);
        answer(&mut t, id);
        t.advance(Duration::from_millis(10));
        seen.push(memory(&t));
    }
    let first = |wanted: fn(&(u64, u64, u64, u64)) -> bool| seen.iter().position(wanted).unwrap();
    let order = [first(|s| s.0 == 1), first(|s| s.1 == 1), first(|s| s.2 == 2), first(|s| s.3 > 0)];
    assert!(order.is_sorted(), "{seen:?}");
    assert!(t.stack.counts().memory <= 7 * connection + 1000);
    for id in idle.into_iter().chain([slowest]) {
        assert!(t.stack.closed(id).is_some());
    }
}

#[test]
fn what_waits_out_of_order_is_bounded_over_all_connections() {
    let tcp = TcpConfig { reassembly_budget: 10_000, ..TcpConfig::default() };
    let mut t = Fixture::new(Config { tcp, ..config() });
    let peers: Vec<_> = (0..5).map(|_| (next(&mut t), t.port, t.iss)).collect();
    for &(_, port, iss) in &peers {
        (t.port, t.iss) = (port, iss);
        for at in 0..4 {
            t.send(seg(".", 2001 + 1000 * at, 1).data(&pattern(1000)));
        }
    }
    assert_eq!(t.stack.stats().tcp_reassembly_full, 10);
    // In order goes on, and gives room back.
    let (id, port, iss) = peers[0];
    (t.port, t.iss) = (port, iss);
    t.sent.clear();
    t.send(seg(".", 1, 1).data(&pattern(2000)));
    assert_eq!(t.app_recv(id).0.len(), 6000);
    (_, t.port, t.iss) = peers[4];
    t.send(seg(".", 2001, 1).data(&pattern(1000)));
    assert_eq!(t.stack.stats().tcp_reassembly_full, 10);
}
