//! Sending: segmentation, windows, events, probes.

use std::time::Duration;

use tagwire_netstack::{CloseReason, Config, State, TcpConfig};

use super::harness::{Fixture, Unlimited, config, ms, pattern, seg};

const SECOND: Duration = Duration::from_secs(1);

/// The next segments' data, which must lie behind one another from `seq` on.
#[track_caller]
fn collect(t: &mut Fixture, mut seq: u32) -> Vec<u8> {
    let mut stream = Vec::new();
    while !t.sent.is_empty() {
        let segment = t.recv();
        assert_eq!(segment.seq, seq);
        seq += segment.data.len() as u32;
        stream.extend(segment.data);
    }
    stream
}

#[test]
fn data_is_cut_to_the_mss_and_pushed_at_its_end() {
    let (mut t, id) = Fixture::established(config());
    let stream = pattern(2500);
    t.app_send(id, &stream);
    t.expect(seg(".", 1, 1).data(&stream[..1000]));
    t.expect(seg(".", 1001, 1).data(&stream[1000..2000]));
    t.expect(seg("P.", 2001, 1).data(&stream[2000..]));
    assert_eq!(t.stack.queued(id), 2500);
    t.send(seg(".", 1, 1001));
    assert_eq!(t.stack.queued(id), 1500);
    t.send(seg(".", 1, 2501));
    assert_eq!(t.stack.queued(id), 0);
    t.advance(5 * SECOND);
    t.nothing();
}

#[test]
fn the_initial_window_is_ten_segments_and_grows_by_what_is_acknowledged() {
    let (mut t, id) = Fixture::established(config());
    let stream = pattern(60_000);
    t.app_send(id, &stream);
    assert_eq!(collect(&mut t, 1), stream[..10_000]);
    t.send(seg(".", 1, 2001));
    assert_eq!(collect(&mut t, 10_001), stream[10_000..14_000]);
    t.send(seg(".", 1, 14_001));
    assert_eq!(collect(&mut t, 14_001), stream[14_000..38_000]);
}

#[test]
fn the_peers_window_is_respected_wherever_it_moves() {
    let mut t = Fixture::new(config());
    let id = t.open(seg("S", 0, 0).mss(1000).window(3000));
    let stream = pattern(20_000);
    t.app_send(id, &stream);
    assert_eq!(collect(&mut t, 1), stream[..3000]);
    // Data is acknowledged, the right edge stays.
    t.send(seg(".", 1, 2001).window(1000));
    t.nothing();
    t.send(seg(".", 1, 3001).window(2000));
    assert_eq!(collect(&mut t, 3001), stream[3000..5000]);
}

#[test]
fn a_window_in_a_segment_that_was_sent_again_counts_with_its_acknowledgement() {
    let (mut t, id) = Fixture::established(config());
    t.send(seg(".", 2, 1).data(b"b").window(4000));
    t.recv();
    let stream = pattern(20_000);
    t.app_send(id, &stream);
    assert_eq!(collect(&mut t, 1), stream[..4000]);
    // The lost octet comes again, with an old number and the newest acknowledgement.
    t.send(seg(".", 1, 4001).data(b"a").window(1000));
    assert_eq!(collect(&mut t, 4001), stream[4000..5000]);
}

#[test]
fn an_old_segment_does_not_bring_back_an_old_window() {
    let (mut t, id) = Fixture::established(config());
    t.app_send(id, &pattern(2000));
    t.sent.clear();
    t.send(seg(".", 2, 2001).data(b"b").window(1000));
    t.sent.clear();
    t.send(seg(".", 1, 1).data(b"a").window(60_000));
    t.sent.clear();
    t.app_send(id, &pattern(5000));
    assert_eq!(collect(&mut t, 2001).len(), 1000);
}

#[test]
fn of_two_windows_with_the_same_numbers_the_larger_is_the_newer() {
    let (mut t, id) = Fixture::established(config());
    t.send(seg(".", 1, 1).window(1000));
    t.app_send(id, &pattern(5000));
    assert_eq!(collect(&mut t, 1), pattern(5000));
}

#[test]
fn an_old_segment_still_acknowledges() {
    // A peer that went back after a timeout has only old numbers for its acknowledgements.
    let (mut t, id) = Fixture::established(config());
    t.send(seg(".", 1, 1).data(b"some data"));
    t.app_send(id, b"answer");
    t.expect(seg("P.", 1, 10).data(b"answer"));
    t.send(seg(".", 5, 7));
    assert_eq!(t.stack.queued(id), 0);
    t.expect(seg(".", 7, 10));
    // One of what was never sent it does not.
    t.advance(SECOND);
    t.send(seg(".", 5, 100));
    t.expect(seg(".", 7, 10));
    t.advance(5 * SECOND);
    t.nothing();
}

#[test]
fn a_closed_window_is_probed_at_growing_intervals_and_data_goes_on() {
    let (mut t, id) = Fixture::established(config());
    t.send(seg(".", 1, 1).window(0));
    t.app_send(id, b"hello");
    let mut waits = Vec::new();
    for _ in 0..5 {
        waits.push(t.wait(60 * SECOND).as_millis());
        // An old number without data must be answered (RFC 9293 3.8.6.1).
        t.expect(seg(".", 0, 1));
        t.send(seg(".", 1, 1).window(0));
        t.nothing();
    }
    assert_eq!(waits, [200, 400, 800, 1600, 3200]);
    assert_eq!(t.stack.stats().tcp_window_probe, 5);
    t.send(seg(".", 1, 1).window(100));
    t.expect(seg("P.", 1, 1).data(b"hello"));
    t.send(seg(".", 1, 6).window(0));
    // The next closure is probed from the beginning of the scale.
    t.app_send(id, b"again");
    assert_eq!(t.wait(60 * SECOND), ms(200));
}

#[test]
fn a_window_that_stays_closed_is_no_reason_to_give_up_while_the_peer_answers() {
    let (mut t, id) = Fixture::established(config());
    t.send(seg(".", 1, 1).window(0));
    t.app_send(id, b"hello");
    for _ in 0..20 {
        t.wait(61 * SECOND);
        t.expect(seg(".", 0, 1));
        t.send(seg(".", 1, 1).window(0));
    }
    assert_eq!(t.state(id), Some(State::Established));
    // Silence is one.
    t.advance(200 * SECOND);
    assert_eq!(t.stack.closed(id), Some(CloseReason::TimedOut));
}

#[test]
fn a_window_that_closes_over_data_in_flight_is_retransmitted_into() {
    let (mut t, id) = Fixture::established(config());
    t.app_send(id, &pattern(3000));
    t.sent.clear();
    t.send(seg(".", 1, 1).window(0));
    t.wait(SECOND);
    t.expect(seg(".", 1, 1).data(&pattern(3000)[..1000]));
    t.nothing();
    t.send(seg(".", 1, 1001).window(2000));
    assert_eq!(collect(&mut t, 1001), pattern(3000)[1000..]);
}

#[test]
fn a_retransmission_does_not_carry_what_the_window_forbids() {
    let mut t = Fixture::new(config());
    let id = t.open(seg("S", 0, 0).mss(1000).window(10));
    t.app_send(id, b"0123456789");
    t.expect(seg("P.", 1, 1).data(b"0123456789"));
    t.app_send(id, b"beyond");
    t.nothing();
    t.wait(SECOND);
    t.expect(seg(".", 1, 1).data(b"0123456789"));
}

#[test]
fn a_window_that_stays_small_is_used_after_the_override_timeout() {
    // RFC 9293 3.8.6.2.1 (4).
    let (mut t, id) = Fixture::established(config());
    t.app_send(id, b"x");
    t.recv();
    t.send(seg(".", 1, 2).window(10));
    t.app_send(id, &pattern(100));
    t.nothing();
    t.wait(SECOND);
    t.expect(seg(".", 2, 1).data(&pattern(100)[..10]));
    t.send(seg(".", 1, 12).window(10));
    t.wait(SECOND);
    t.expect(seg(".", 12, 1).data(&pattern(100)[10..20]));
}

#[test]
fn writable_comes_once_when_the_queue_is_short_enough() {
    let (mut t, id) = Fixture::established(config());
    assert!(t.stack.notify_below(id, 0));
    t.app_send(id, &pattern(3000));
    assert!(!t.stack.notify_below(id, 1000));
    t.send(seg(".", 1, 1001));
    assert!(!t.events(id).writable);
    t.send(seg(".", 1, 2001));
    assert!(t.events(id).writable);
    t.send(seg(".", 1, 3001));
    assert!(!t.events(id).writable);
}

#[test]
fn connections_take_turns() {
    let tcp = TcpConfig { congestion: |_| Box::new(Unlimited), ..TcpConfig::default() };
    let mut t = Fixture::new(Config { tcp, ..config() });
    let first = t.open(seg("S", 0, 0).mss(1000));
    t.port += 1;
    let second = t.open(seg("S", 0, 0).mss(1000));
    for id in [first, second] {
        t.stack.send(id, pattern(5000).into()).unwrap();
    }
    t.flush();
    let at = t.transport_at() + 3;
    let ports: Vec<u8> = t.sent.iter().map(|(_, frame)| frame[at]).collect();
    let port = (t.port & 0xff) as u8;
    assert_eq!(ports, [port - 1, port].repeat(5));
}

#[test]
fn an_acknowledgement_from_long_ago_is_forged() {
    // RFC 5961 5: else half of all numbers would do, and what was never received be forgotten.
    let (mut t, id) = Fixture::established(config());
    t.app_send(id, b"answer");
    t.expect(seg("P.", 1, 1).data(b"answer"));
    t.send(seg(".", 1u32.wrapping_sub(1 << 30), 7));
    assert_eq!(t.stack.queued(id), 6);
}

#[test]
fn a_queue_of_more_than_half_of_the_numbers_is_sent() {
    let (mut t, id) = Fixture::established(config());
    let octets = bytes::Bytes::from(vec![1; 1 << 20]);
    for _ in 0..3 << 10 {
        t.stack.send(id, octets.clone()).unwrap();
    }
    t.shutdown(id);
    for at in 0..10 {
        t.expect(seg(".", 1 + at * 1000, 1).data(&octets[..1000]));
    }
    t.nothing();
}

#[test]
fn segments_out_are_bounded_whatever_the_windows_allow() {
    // Each is a record, and every acknowledgement may look at all of them.
    let tcp = TcpConfig { congestion: |_| Box::new(Unlimited), ..TcpConfig::default() };
    let mut t = Fixture::new(Config { tcp, ..config() });
    let id = t.open(seg("S", 0, 0).mss(64).scale(10));
    t.app_send(id, &pattern(1 << 20));
    assert_eq!(t.sent.len(), 8192);
    t.sent.clear();
    t.send(seg(".", 1, 1 + 64));
    t.expect(seg(".", 1 + 8192 * 64, 1).data(&pattern(1 << 20)[8192 * 64..][..64]));
    t.nothing();
}
