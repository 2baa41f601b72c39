//! Retransmission, giving up, keepalive (RFC 6298, RFC 1122 4.2.3).

use std::time::Duration;

use tagwire_netstack::{CloseReason, Config, State, TcpConfig};

use super::harness::{Fixture, config, ms, pattern, seg};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn unacknowledged_data_is_sent_again_with_doubling_timeouts_and_given_up() {
    let (mut t, id) = Fixture::established(config());
    t.app_send(id, b"hello");
    let first = t.expect(seg("P.", 1, 1).data(b"hello"));
    let mut waits = Vec::new();
    loop {
        let wait = t.wait(100 * SECOND);
        let segment = t.recv();
        if segment.flags == "R." {
            assert_eq!(segment.seq, 6);
            break;
        }
        assert_eq!((segment.seq, &segment.data), (first.seq, &first.data));
        waits.push(wait.as_millis());
    }
    assert_eq!(waits[..9], [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200]);
    assert_eq!(t.stack.closed(id), Some(CloseReason::TimedOut));
    assert!(t.events(id).closed);
    assert_eq!(t.stack.stats().tcp_timed_out, 1);
    t.release(id);
    // The neighbour's confirmation may still have a wake-up.
    t.advance(2 * SECOND);
    assert_eq!((t.held(), t.stack.poll_timeout()), ((0, 0, 0), None));
}

#[test]
fn the_timer_starts_anew_with_new_data_acknowledged_only() {
    // RFC 6298 (5.3).
    let (mut t, id) = Fixture::established(config());
    t.app_send(id, &pattern(3000));
    t.sent.clear();
    t.advance(ms(150));
    t.send(seg(".", 1, 1001));
    t.nothing();
    assert_eq!(t.wait(SECOND), rto_after(ms(150)));
    t.expect(seg(".", 1001, 1).data(&pattern(3000)[1000..2000]));
}

/// The timeout after a handshake that took no time and one round trip of `rtt`.
fn rto_after(rtt: Duration) -> Duration {
    // RFC 6298 (2.3) from SRTT = RTTVAR = 0; the floor is under the variance.
    rtt / 8 + ((rtt / 4) * 4).max(ms(200))
}

#[test]
fn back_off_stays_until_a_round_trip_was_measured() {
    // RFC 6298 3 and (5.5), Karn: an acknowledgement of what was sent twice measures nothing,
    // so on a path that has become slower than the timeout the back-off must not end.
    let (mut t, id) = Fixture::established(config());
    t.app_send(id, b"a");
    t.recv();
    assert_eq!(t.wait(SECOND), ms(200));
    t.recv();
    t.advance(ms(100));
    t.send(seg(".", 1, 2));
    t.app_send(id, b"b");
    t.expect(seg("P.", 2, 1).data(b"b"));
    // 300 ms later the acknowledgement comes, in time for the doubled timeout.
    t.advance(ms(300));
    t.nothing();
    t.send(seg(".", 1, 3));
    t.app_send(id, b"c");
    t.recv();
    assert_eq!(t.wait(SECOND), rto_after(ms(300)));
}

#[test]
fn a_timestamp_measures_even_what_was_sent_twice() {
    // RFC 7323 4.1.
    let mut t = Fixture::new(config());
    let id = t.open(seg("S", 0, 0).mss(1012).timestamp(1, 0));
    t.app_send(id, b"a");
    let first = t.recv().options.timestamp.unwrap().value;
    t.wait(SECOND);
    t.recv();
    t.advance(ms(100));
    t.send(seg(".", 1, 2).timestamp(2, first));
    t.app_send(id, b"b");
    t.recv();
    assert_eq!(t.wait(SECOND), rto_after(ms(300)));
}

#[test]
fn keepalive_asks_a_silent_peer_and_gives_up_when_it_is_gone() {
    let (mut t, id) = Fixture::established(config());
    assert_eq!(t.wait(200 * SECOND), 120 * SECOND);
    t.expect(seg(".", 0, 1));
    // An answer starts the silence anew.
    t.send(seg(".", 1, 1));
    assert_eq!(t.wait(200 * SECOND), 120 * SECOND);
    t.recv();
    for _ in 0..3 {
        assert_eq!(t.wait(200 * SECOND), 30 * SECOND);
        t.expect(seg(".", 0, 1));
    }
    assert_eq!(t.wait(200 * SECOND), 30 * SECOND);
    t.expect(seg("R.", 1, 1));
    assert_eq!(t.stack.closed(id), Some(CloseReason::TimedOut));
    assert_eq!(t.stack.stats().tcp_keepalive, 5);
}

#[test]
fn what_is_forged_without_the_numbers_does_not_keep_a_dead_connection() {
    let mut t = Fixture::new(config());
    let id = t.open(seg("S", 0, 0).mss(1000).timestamp(5000, 0));
    let forged = [
        // Outside of the window, of a sequence that PAWS drops, with an acknowledgement of what
        // was never sent, with none, and what is challenged.
        seg(".", 900_000, 1),
        seg("P.", 900_000, 1).data(b"x"),
        seg(".", 2, 1).timestamp(1, 0),
        seg(".", 1, 900_000),
        seg("", 1, 0),
        seg("S", 77, 0),
        seg("R", 2, 0),
    ];
    let mut waited = Duration::ZERO;
    while t.stack.closed(id).is_none() && waited < 1000 * SECOND {
        for segment in &forged {
            t.send(segment.clone());
        }
        t.advance(5 * SECOND);
        waited += 5 * SECOND;
    }
    assert_eq!(t.stack.closed(id), Some(CloseReason::TimedOut));
    // As without them: two minutes of silence, and four probes half a minute apart.
    assert_eq!(waited, 240 * SECOND);
    assert_eq!(t.stack.stats().tcp_keepalive, 4);
}

#[test]
fn keepalive_leaves_a_connection_with_data_on_its_way_to_the_data() {
    let tcp = TcpConfig { keepalive_idle: ms(500), ..TcpConfig::default() };
    let (mut t, id) = Fixture::established(Config { tcp, ..config() });
    t.app_send(id, b"data");
    t.advance(10 * SECOND);
    while !t.sent.is_empty() {
        t.expect(seg("P.", 1, 1).data(b"data"));
    }
    assert_eq!(t.stack.stats().tcp_keepalive, 0);
    assert_eq!(t.state(id), Some(State::Established));
}

#[test]
fn the_user_timeout_counts_from_the_last_progress() {
    let (mut t, id) = Fixture::established(config());
    t.app_send(id, &pattern(2000));
    t.sent.clear();
    t.advance(100 * SECOND);
    t.send(seg(".", 1, 1001));
    t.advance(100 * SECOND);
    assert_eq!(t.state(id), Some(State::Established));
    t.advance(120 * SECOND);
    assert_eq!(t.stack.closed(id), Some(CloseReason::TimedOut));
}

#[test]
fn a_peer_may_ask_for_a_longer_user_timeout_within_bounds() {
    // RFC 5482: in the SYN or later; never shorter than ours, nor longer than five minutes.
    for (in_syn, asked, expected) in [
        (None, None, 120),
        (None, Some(200), 200),
        (Some(200), None, 200),
        (Some(200), Some(250), 250),
        (Some(10), None, 120),
        (None, Some(7200), 300),
    ] {
        let mut t = Fixture::new(config());
        let mut syn = seg("S", 0, 0).mss(1000);
        syn.options.user_timeout = in_syn;
        let id = t.open(syn);
        let mut later = seg(".", 1, 1);
        later.options.user_timeout = asked;
        t.send(later);
        t.app_send(id, b"data");
        t.advance(Duration::from_secs(expected));
        assert_eq!(t.state(id), Some(State::Established), "{in_syn:?} {asked:?}");
        t.advance(Duration::from_secs(61));
        assert_eq!(t.stack.closed(id), Some(CloseReason::TimedOut), "{in_syn:?} {asked:?}");
    }
}

#[test]
fn an_idle_stack_has_nothing_to_wait_for() {
    let t = Fixture::new(config());
    assert_eq!(t.stack.poll_timeout(), None);
}

#[test]
fn short_timers_leave_nothing_behind_in_the_queue() {
    // Each round arms and fires timers far below the keepalive's; were their places kept,
    // the next timeouts would be many and due at once, two minutes later.
    let (mut t, id) = Fixture::established(config());
    for round in 0..500 {
        t.send(seg(".", 1 + round, 1 + round).data(b"q"));
        t.advance(ms(60));
        t.app_send(id, b"a");
        t.advance(ms(1));
    }
    t.send(seg(".", 501, 501));
    t.sent.clear();
    let quiet_until = t.now + 119 * SECOND;
    let mut wakeups = 0;
    while let Some(at) = t.stack.poll_timeout().filter(|at| *at < quiet_until) {
        t.stack.handle_timeout(at);
        wakeups += 1;
    }
    assert!(wakeups <= 3, "{wakeups} wakeups of an idle connection");
    assert_eq!(t.app_recv(id).0.len(), 500);
}

#[test]
fn a_connection_that_is_over_leaves_no_timer() {
    let (mut t, id) = Fixture::established(config());
    // The neighbour's address is confirmed.
    t.advance(6 * SECOND);
    t.app_send(id, b"data");
    assert!(t.stack.poll_timeout().is_some());
    t.abort(id);
    assert_eq!(t.stack.poll_timeout(), None);
    t.release(id);
    t.port += 1;
    t.send(seg("S", 0, 0));
    assert!(t.stack.poll_timeout().is_some());
    t.send(seg("R", 1, 0));
    assert_eq!(t.stack.poll_timeout(), None);
}
