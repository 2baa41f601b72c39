//! TIME-WAIT (RFC 9293 3.6.1, RFC 1337, RFC 6191).

use std::time::Duration;

use tagwire_netstack::{Config, TcpConfig};

use super::harness::{Fixture, config, ms, seg};

const SECOND: Duration = Duration::from_secs(1);

/// A connection that we closed first and that is over: only its record is left.
fn waiting(config: Config) -> Fixture {
    let (mut t, id) = Fixture::established(config);
    close(&mut t, id);
    t
}

fn close(t: &mut Fixture, id: tagwire_netstack::ConnId) {
    t.release(id);
    t.expect(seg("F.", 1, 1));
    t.send(seg("F.", 1, 2));
    t.expect(seg(".", 2, 2));
    assert_eq!(t.held().0, 0);
}

#[test]
fn it_answers_a_fin_sent_again_and_starts_anew() {
    let mut t = waiting(config());
    t.advance(59 * SECOND);
    t.send(seg("F.", 1, 2));
    t.expect(seg(".", 2, 2));
    t.advance(59 * SECOND);
    assert_eq!(t.held(), (0, 0, 1));
    t.advance(SECOND);
    assert_eq!(t.held(), (0, 0, 0));
    t.nothing();
}

#[test]
fn it_ends_after_a_minute_and_nothing_is_left() {
    let mut t = waiting(config());
    t.advance(ms(59_999));
    assert_eq!(t.held(), (0, 0, 1));
    t.advance(ms(1));
    assert_eq!(t.held(), (0, 0, 0));
    assert_eq!(t.stack.poll_timeout(), None);
    t.send(seg("F.", 1, 2));
    assert_eq!(t.recv().flags, "R");
}

#[test]
fn a_reset_does_not_end_it() {
    let mut t = waiting(config());
    t.send(seg("R", 2, 0));
    t.send(seg("R.", 2, 2));
    t.nothing();
    assert_eq!(t.held(), (0, 0, 1));
}

#[test]
fn the_last_ack_once_more_is_not_answered() {
    let mut t = waiting(config());
    t.send(seg(".", 2, 2));
    t.nothing();
    t.send(seg(".", 1, 2).data(b"o"));
    t.expect(seg(".", 2, 2));
}

#[test]
fn what_no_timer_sends_again_is_answered_at_a_rate() {
    // RFC 5961 7.
    let mut t = waiting(config());
    for _ in 0..10 {
        t.send(seg(".", 900_000, 1));
        t.send(seg("S", 1, 0));
    }
    t.expect(seg(".", 2, 2));
    t.nothing();
    assert_eq!(t.stack.stats().tcp_challenge_limited, 19);
    // A FIN whose acknowledgement was lost is.
    for _ in 0..3 {
        t.send(seg("F.", 1, 2));
        t.expect(seg(".", 2, 2));
    }
    t.advance(ms(500));
    t.send(seg(".", 900_000, 1));
    t.expect(seg(".", 2, 2));
}

#[test]
fn a_newer_syn_opens_a_new_connection_beyond_the_old_numbers() {
    let mut t = waiting(config());
    let old = t.iss;
    t.send(seg("S", 1, 0));
    t.expect(seg(".", 2, 2));
    t.peer_iss = t.peer_iss.wrapping_add(70_000);
    t.open(seg("S", 0, 0).mss(1000));
    assert_eq!(t.held(), (1, 0, 0));
    // RFC 1122 4.2.2.13 (b).
    assert!((t.iss.wrapping_sub(old) as i32) > 65_000);
}

#[test]
fn the_new_numbers_are_beyond_the_old_ones_even_after_a_fast_transfer() {
    // A hundred megabytes in no time: the clock behind the numbers has not moved that far.
    let tcp = TcpConfig { receive_buffer: 65535, ..TcpConfig::default() };
    let mut t = Fixture::new(Config { tcp, ..config() });
    let id = t.open(seg("S", 0, 0).mss(1000).scale(14));
    let old = t.iss;
    let total = 100_000_000u32;
    t.stack.send(id, bytes::Bytes::from(vec![0; total as usize])).unwrap();
    t.flush();
    let mut acked = 1;
    while acked < total + 1 {
        let last = t.recv();
        acked = last.seq + last.data.len() as u32;
        if t.sent.is_empty() {
            t.send(seg(".", 1, acked).window(60_000));
        }
    }
    t.release(id);
    t.expect(seg("F.", acked, 1));
    t.send(seg("F.", 1, acked + 1));
    t.recv();
    assert_eq!(t.held(), (0, 0, 1));
    t.peer_iss = t.peer_iss.wrapping_add(70_000);
    t.open(seg("S", 0, 0).mss(1000));
    assert!(t.iss.wrapping_sub(old) > total);
}

#[test]
fn a_newer_timestamp_suffices() {
    // RFC 6191 2: the sequence number may even be lower.
    let mut t = Fixture::new(config());
    let id = t.open(seg("S", 0, 0).mss(1012).timestamp(100, 0));
    t.release(id);
    t.expect(seg("F.", 1, 1));
    t.send(seg("F.", 1, 2).timestamp(101, 0));
    t.expect(seg(".", 2, 2));
    t.send(seg("S", 0u32.wrapping_sub(1000), 0).timestamp(101, 0));
    assert_eq!(t.recv().flags, ".");
    // Nor is an older one made up for by a higher number.
    t.advance(ms(500));
    t.send(seg("S", 100_000, 0).timestamp(100, 0));
    assert_eq!(t.recv().flags, ".");
    t.send(seg("S", 0u32.wrapping_sub(1000), 0).timestamp(102, 0));
    assert_eq!(t.recv().flags, "S.");
}

#[test]
fn the_oldest_gives_way_when_there_are_too_many() {
    let tcp = TcpConfig { max_time_wait: 2, ..TcpConfig::default() };
    let mut t = waiting(Config { tcp, ..config() });
    let oldest = t.port;
    for _ in 0..2 {
        t.advance(SECOND);
        t.port += 1;
        let id = t.open(seg("S", 0, 0).mss(1000));
        // A FIN that comes again and again moves its record and adds none.
        close(&mut t, id);
        for _ in 0..10 {
            t.send(seg("F.", 1, 2));
            t.recv();
        }
    }
    assert_eq!(t.held(), (0, 0, 2));
    assert_eq!(t.stack.stats().tcp_time_wait_overflow, 1);
    t.port = oldest;
    t.send(seg(".", 2, 2));
    assert_eq!(t.recv().flags, "R");
}
