//! Loss recovery of a peer without SACK: limited transmit, fast retransmit, NewReno, F-RTO
//! (RFC 3042, RFC 5681, RFC 6582, RFC 5682).

use std::time::Duration;

use super::harness::{Fixture, Seg, config, ms, pattern, seg};

const SECOND: Duration = Duration::from_secs(1);

/// A connection with ten segments of a long stream in flight.
fn ten_in_flight() -> (Fixture, Vec<u8>) {
    let (mut t, id) = Fixture::established(config());
    let stream = pattern(60_000);
    t.app_send(id, &stream);
    assert_eq!(t.sent.len(), 10);
    t.sent.clear();
    (t, stream)
}

/// The segment of `stream` that begins at `seq`.
fn part(stream: &[u8], seq: u32) -> Seg {
    let at = seq as usize - 1;
    seg(".", seq, 1).data(&stream[at..at + 1000])
}

#[test]
fn the_third_duplicate_retransmits_without_a_timeout() {
    let (mut t, stream) = ten_in_flight();
    // RFC 3042: the first two let new data out.
    for at in [10_001, 11_001] {
        t.send(seg(".", 1, 1));
        t.expect(part(&stream, at));
    }
    t.nothing();
    t.send(seg(".", 1, 1));
    t.expect(part(&stream, 1));
    t.nothing();
    let stats = *t.stack.stats();
    assert_eq!((stats.tcp_fast_retransmit, stats.tcp_dup_ack, stats.tcp_rto), (1, 3, 0));
    // Each further duplicate says that a segment has left. RFC 9937: seven for ten of them.
    let mut new = 0;
    for _ in 0..8 {
        t.send(seg(".", 1, 1));
        new += t.sent.len();
        t.sent.clear();
    }
    assert_eq!(new, 6, "with the one sent again, seven for ten");
    // All is acknowledged: recovery is over, with seven tenths of the window.
    t.send(seg(".", 1, 18_001));
    assert_eq!(t.sent.len(), 7);
}

#[test]
fn what_changes_the_window_or_carries_data_is_no_duplicate() {
    let (mut t, _) = ten_in_flight();
    for window in [50_000, 50_001, 50_002, 50_003] {
        t.send(seg(".", 1, 1).window(window));
    }
    for index in 0..4 {
        t.send(seg(".", 1 + index, 1).data(b"x").window(50_003));
    }
    assert_eq!(t.stack.stats().tcp_dup_ack, 0);
    assert_eq!(t.stack.stats().tcp_retransmit, 0);
}

#[test]
fn a_partial_acknowledgement_fills_the_next_hole_at_once() {
    // RFC 6582 3.2 step 3: the first and the fourth segment were lost.
    let (mut t, stream) = ten_in_flight();
    for _ in 0..3 {
        t.send(seg(".", 1, 1));
    }
    t.recv();
    t.recv();
    t.expect(part(&stream, 1));
    t.sent.clear();
    t.send(seg(".", 1, 3001));
    t.expect(part(&stream, 3001));
    t.sent.clear();
    t.send(seg(".", 1, 12_001));
    assert!(t.recv().seq >= 12_001);
    let stats = t.stack.stats();
    assert_eq!((stats.tcp_fast_retransmit, stats.tcp_retransmit, stats.tcp_rto), (1, 2, 0));
}

#[test]
fn a_timeout_begins_again_with_one_segment_and_goes_on_from_there() {
    let (mut t, stream) = ten_in_flight();
    assert_eq!(t.wait(SECOND), ms(200));
    t.expect(part(&stream, 1));
    t.nothing();
    // The peer had the rest: nothing of it is sent again.
    t.send(seg(".", 1, 10_001));
    // The window is back at the threshold, seven tenths of what was out, and not beyond.
    for at in 0..7 {
        t.expect(part(&stream, 10_001 + at * 1000));
    }
    t.nothing();
    assert_eq!(t.stack.stats().tcp_retransmit, 1);
}

#[test]
fn after_a_true_timeout_everything_is_sent_again_in_slow_start() {
    let (mut t, stream) = ten_in_flight();
    t.wait(SECOND);
    t.expect(part(&stream, 1));
    t.send(seg(".", 1, 1001));
    // RFC 5682 2.1 step 2: new data, to see whether the old was lost at all.
    t.expect(part(&stream, 10_001));
    t.expect(part(&stream, 11_001));
    t.nothing();
    // It is what arrives, while the old does not: it was.
    for at in [1001, 2001] {
        t.send(seg(".", 1, 1001));
        t.expect(part(&stream, at));
    }
    // Duplicates of what is sent again mean nothing (RFC 6582 3.2 step 1).
    for _ in 0..5 {
        t.send(seg(".", 1, 1001));
    }
    t.nothing();
    assert_eq!(t.stack.stats().tcp_fast_retransmit, 0);
    t.send(seg(".", 1, 3001));
    t.expect(part(&stream, 3001));
    t.expect(part(&stream, 4001));
    t.nothing();
}

#[test]
fn a_timeout_that_was_none_is_taken_back() {
    // RFC 5682 2.1 step 3: after new data was sent, the old is acknowledged though it was not
    // sent again.
    let (mut t, stream) = ten_in_flight();
    t.wait(SECOND);
    t.expect(part(&stream, 1));
    t.send(seg(".", 1, 1001));
    t.expect(part(&stream, 10_001));
    t.expect(part(&stream, 11_001));
    t.send(seg(".", 1, 2001));
    let stats = *t.stack.stats();
    assert_eq!((stats.tcp_spurious, stats.tcp_retransmit), (1, 1));
    t.send(seg(".", 1, 10_001));
    assert_eq!(t.stack.stats().tcp_retransmit, 1, "nothing more is sent again");
}

#[test]
fn an_acknowledgement_after_a_timeout_has_the_newest_number() {
    // The peer has everything, but its acknowledgements were lost; then it sends.
    let (mut t, stream) = ten_in_flight();
    t.wait(SECOND);
    t.expect(part(&stream, 1));
    t.send(seg(".", 1, 1).data(b"x"));
    t.send(seg(".", 1, 1).data(b"x"));
    t.expect(seg(".", 10_001, 2));
}

#[test]
fn duplicates_without_data_in_flight_mean_nothing() {
    let (mut t, _) = Fixture::established(config());
    for _ in 0..10 {
        t.send(seg(".", 1, 1));
    }
    t.nothing();
    assert_eq!(t.stack.stats().tcp_dup_ack, 0);
}

#[test]
fn a_window_without_room_for_a_new_segment_does_not_stop_what_is_lost() {
    // RFC 5682 2.1 step 2: new data tells a true timeout, if some may be sent.
    let mut t = Fixture::new(config());
    let id = t.open(seg("S", 0, 0).mss(1000).window(2500));
    let stream = pattern(5000);
    t.app_send(id, &stream);
    assert_eq!(t.sent.len(), 2);
    t.sent.clear();
    t.wait(SECOND);
    t.expect(part(&stream, 1));
    t.send(seg(".", 1, 1001).window(1500));
    t.expect(part(&stream, 1001));
    t.nothing();
}
