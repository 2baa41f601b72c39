//! Receiving: reassembly, delayed acknowledgements, the window, PAWS, what is not acceptable.

use std::time::Duration;

use tagwire_netstack::{Config, Recv, State, TcpConfig};

use super::harness::{Fixture, config, ms, pattern, seg};

const DAY: Duration = Duration::from_secs(86_400);

fn small_buffer(octets: usize) -> Config {
    let tcp = TcpConfig { receive_buffer: octets, ..TcpConfig::default() };
    Config { tcp, ..config() }
}

#[test]
fn data_is_read_in_order_and_an_event_says_so() {
    let (mut t, id) = Fixture::established(config());
    assert_eq!(t.app_recv(id).1, Recv::Pending);
    t.send(seg("P.", 1, 1).data(b"hello "));
    t.send(seg("P.", 7, 1).data(b"world"));
    assert!(t.events(id).readable);
    assert_eq!(t.app_recv(id), (b"hello world".to_vec(), Recv::Data(11)));
    assert_eq!(t.app_recv(id).1, Recv::Pending);
    assert!(!t.events(id).readable);
}

#[test]
fn an_acknowledgement_waits_forty_milliseconds_for_company() {
    let (mut t, _) = Fixture::established(config());
    t.send(seg("P.", 1, 1).data(b"hello"));
    t.nothing();
    assert_eq!(t.wait(ms(500)), ms(40));
    t.expect(seg(".", 1, 6));
    t.advance(ms(500));
    t.nothing();
}

#[test]
fn every_second_full_segment_is_acknowledged_at_once() {
    let (mut t, id) = Fixture::established(config());
    let stream = pattern(21_000);
    for (index, octets) in stream.chunks(1000).enumerate() {
        t.send(seg(".", 1 + 1000 * index as u32, 1).data(octets));
    }
    // At the start every one: the peer's window grows by them, from whatever it began with.
    for index in 1..=16 {
        t.expect(seg(".", 1, 1 + 1000 * index));
    }
    t.expect(seg(".", 1, 18_001));
    t.expect(seg(".", 1, 20_001));
    t.nothing();
    assert_eq!(t.wait(ms(500)), ms(40));
    t.expect(seg(".", 1, 21_001));
    assert_eq!(t.app_recv(id).0, stream);
}

#[test]
fn a_peer_with_smaller_segments_waits_for_no_more_than_two_of_them() {
    let mut t = Fixture::new(config());
    t.open(seg("S", 0, 0).mss(1460));
    for index in 0..20 {
        t.send(seg(".", 1 + 600 * index, 1).data(&pattern(600)));
    }
    // 16 at the start, then every second one.
    assert_eq!(t.sent.len(), 18);
}

#[test]
fn a_peer_that_sees_no_room_for_two_segments_is_not_kept_waiting() {
    let (mut t, id) = Fixture::established(small_buffer(20_000));
    for index in 0..17 {
        t.send(seg(".", 1 + 1000 * index, 1).data(&pattern(1000)));
    }
    t.sent.clear();
    // One octet, but no second full segment would fit: it may be what it waits for.
    t.send(seg(".", 17_001, 1).data(&pattern(999)));
    t.send(seg(".", 18_000, 1).data(b"x"));
    t.expect(seg(".", 1, 18_001));
    t.send(seg("P.", 18_001, 1).data(b"y"));
    t.expect(seg(".", 1, 18_002));
    assert_eq!(t.app_recv(id).0.len(), 18_001);
}

#[test]
fn what_we_send_carries_the_acknowledgement() {
    let (mut t, id) = Fixture::established(config());
    t.send(seg("P.", 1, 1).data(b"question"));
    t.app_send(id, b"answer");
    t.expect(seg("P.", 1, 9).data(b"answer"));
    t.send(seg(".", 9, 7));
    t.advance(ms(1000));
    t.nothing();
}

#[test]
fn out_of_order_data_is_acknowledged_at_once_and_kept() {
    let (mut t, id) = Fixture::established(config());
    t.send(seg(".", 6, 1).data(b"fghij"));
    t.expect(seg(".", 1, 1));
    t.send(seg(".", 16, 1).data(b"p"));
    t.expect(seg(".", 1, 1));
    assert_eq!(t.app_recv(id).1, Recv::Pending);
    // Filling a gap is acknowledged at once too (RFC 5681 4.2).
    t.send(seg(".", 1, 1).data(b"abcde"));
    t.expect(seg(".", 1, 11));
    t.send(seg(".", 11, 1).data(b"klmno"));
    t.expect(seg(".", 1, 17));
    assert_eq!(t.app_recv(id).0, b"abcdefghijklmnop");
    assert_eq!(t.stack.stats().tcp_out_of_order, 2);
}

#[test]
fn each_segment_out_of_order_is_acknowledged_also_those_of_one_turn() {
    // RFC 5681 4.2: three duplicates are what tells a sender without SACK of a loss.
    let (mut t, _) = Fixture::established(config());
    for at in [101, 201, 301] {
        let frame = t.tcp_frame(&seg(".", at, 1).data(&[b'x'; 100]));
        t.stack.handle_frame(t.now, &frame, &Default::default());
    }
    t.flush();
    for _ in 0..3 {
        t.expect(seg(".", 1, 1));
    }
    t.nothing();
    // What was filled in the same turn needs one.
    for at in [501, 601, 1, 401] {
        let frame = t.tcp_frame(&seg(".", at, 1).data(&[b'x'; 100]));
        t.stack.handle_frame(t.now, &frame, &Default::default());
    }
    t.flush();
    t.expect(seg(".", 1, 701));
    t.nothing();
}

#[test]
fn overlaps_give_each_octet_once() {
    let (mut t, id) = Fixture::established(config());
    t.send(seg(".", 5, 1).data(b"efgh"));
    t.send(seg(".", 3, 1).data(b"cdefghij"));
    t.send(seg(".", 1, 1).data(b"abcdef"));
    t.send(seg(".", 2, 1).data(b"bcdefghijklm"));
    assert_eq!(t.app_recv(id).0, b"abcdefghijklm");
    // A segment that is wholly old is acknowledged again and otherwise ignored.
    t.sent.clear();
    t.send(seg(".", 1, 1).data(b"ab"));
    t.expect(seg(".", 1, 14));
    assert_eq!(t.app_recv(id).1, Recv::Pending);
}

#[test]
fn a_fin_out_of_order_waits_for_what_is_before_it() {
    let (mut t, id) = Fixture::established(config());
    t.send(seg("F.", 4, 1).data(b"def"));
    t.expect(seg(".", 1, 1));
    assert_eq!(t.state(id), Some(State::Established));
    t.send(seg(".", 1, 1).data(b"abc"));
    t.expect(seg(".", 1, 8));
    assert_eq!(t.state(id), Some(State::CloseWait));
    assert_eq!(t.app_recv(id).0, b"abcdef");
    assert_eq!(t.app_recv(id).1, Recv::Finished);
}

#[test]
fn a_fin_before_data_that_is_held_already_is_not_believed() {
    // Two ends of one stream: whatever comes of it, what is counted as read was sent.
    let (mut t, id) = Fixture::established(config());
    t.send(seg(".", 11, 1).data(b"later"));
    t.send(seg("F.", 1, 1).data(b"abc"));
    t.send(seg(".", 4, 1).data(b"defghij"));
    let (octets, _) = t.app_recv(id);
    assert_eq!(octets, b"abcdefghijlater");
    assert_eq!(t.state(id), Some(State::Established));
    t.sent.clear();
    t.send(seg("F.", 16, 1));
    t.expect(seg(".", 1, 17));
    assert_eq!(t.app_recv(id).1, Recv::Finished);
}

#[test]
fn the_window_closes_when_nobody_reads_and_opens_when_somebody_does() {
    let (mut t, id) = Fixture::established(small_buffer(8000));
    let stream = pattern(8000);
    let mut right_edge = 0;
    for (index, octets) in stream.chunks(1000).enumerate() {
        t.send(seg(".", 1 + 1000 * index as u32, 1).data(octets));
        while !t.sent.is_empty() {
            let ack = t.recv();
            let edge = ack.ack + u32::from(ack.window);
            assert!(edge >= right_edge, "the window's right edge moved left");
            right_edge = edge;
        }
    }
    assert_eq!(right_edge, 8001);
    // The peer asks with one octet; it is not taken, and the answer says zero again.
    t.send(seg(".", 8001, 1).data(b"?"));
    let closed = t.expect(seg(".", 1, 8001));
    assert_eq!(closed.window, 0);
    t.send(seg(".", 8000, 1));
    assert_eq!(t.expect(seg(".", 1, 8001)).window, 0);
    assert_eq!(t.app_recv(id).0, stream);
    assert_eq!(t.expect(seg(".", 1, 8001)).window, 8000);
    t.send(seg(".", 8001, 1).data(b"?"));
    assert_eq!(t.app_recv(id).0, b"?");
}

#[test]
fn a_buffer_smaller_than_a_segment_still_tells_that_it_was_read() {
    let mut t = Fixture::new(Config { mtu: 9000, ..small_buffer(4096) });
    let id = t.open(seg("S", 0, 0).mss(8960));
    t.send(seg(".", 1, 1).data(&pattern(4096)));
    t.advance(ms(100));
    assert_eq!(t.expect(seg(".", 1, 4097)).window, 0);
    assert_eq!(t.app_recv(id).0.len(), 4096);
    assert_eq!(t.expect(seg(".", 1, 4097)).window, 4096);
}

#[test]
fn small_reads_do_not_open_a_silly_window() {
    // RFC 9293 3.8.6.2.2: by a full segment, or not at all. The application here takes all
    // that there is, so what it leaves unread is what comes after.
    let (mut t, id) = Fixture::established(small_buffer(8000));
    t.send(seg(".", 1, 1).data(b"abc"));
    t.app_recv(id);
    t.advance(ms(100));
    let ack = t.expect(seg(".", 1, 4));
    assert_eq!(u32::from(ack.window) + ack.ack, 8001);
    t.nothing();
}

#[test]
fn data_beyond_the_window_is_cut() {
    let (mut t, id) = Fixture::established(small_buffer(4096));
    t.send(seg(".", 1, 1).data(&pattern(5000)));
    let ack = t.recv();
    assert_eq!((ack.ack, ack.window), (4097, 0));
    assert_eq!(t.app_recv(id).0, pattern(5000)[..4096]);
    assert_eq!(t.stack.stats().tcp_data_dropped, 1);
}

#[test]
fn what_is_out_of_the_window_is_answered_by_an_ack_and_a_reset_by_nothing() {
    let (mut t, id) = Fixture::established(config());
    t.send(seg(".", 100_000, 1).data(b"far"));
    t.expect(seg(".", 1, 1));
    t.send(seg(".", 0, 1).data(b"k"));
    t.expect(seg(".", 1, 1));
    t.send(seg("R", 100_000, 0));
    t.nothing();
    assert_eq!(t.state(id), Some(State::Established));
}

#[test]
fn two_ends_that_disagree_do_not_answer_each_other_for_ever() {
    // RFC 5961 7: every ACK of ours may be as unacceptable to the peer as its own are here.
    let (mut t, _) = Fixture::established(config());
    for _ in 0..10 {
        t.send(seg(".", 200_000, 1));
    }
    t.expect(seg(".", 1, 1));
    t.nothing();
    // What carries data is always answered: its sender waits for that.
    for _ in 0..3 {
        t.send(seg(".", 200_000, 1).data(b"far"));
        t.expect(seg(".", 1, 1));
    }
    t.advance(ms(500));
    t.send(seg(".", 200_000, 1));
    t.expect(seg(".", 1, 1));
}

#[test]
fn a_reset_must_hit_the_exact_number() {
    // RFC 5961 3.2.
    let (mut t, id) = Fixture::established(config());
    t.send(seg("R", 2, 0));
    t.expect(seg(".", 1, 1));
    assert_eq!(t.state(id), Some(State::Established));
    t.send(seg("R", 1, 0));
    t.nothing();
    assert!(t.events(id).closed);
    assert_eq!(t.app_recv(id).1, Recv::Closed(tagwire_netstack::CloseReason::Reset));
    t.release(id);
    assert_eq!(t.held(), (0, 0, 0));
    t.nothing();
}

#[test]
fn a_syn_in_a_connection_is_challenged() {
    // RFC 5961 4.2, whatever its number; and 7, not each time.
    let (mut t, id) = Fixture::established(config());
    for syn in [seg("S", 0, 0), seg("S", 1, 0), seg("S.", 5, 1)] {
        t.send(syn.clone());
        t.expect(seg(".", 1, 1));
        t.send(syn);
        t.send(seg("R", 2, 0));
        t.send(seg(".", 1, 2));
        t.nothing();
        // What may be sent again by a timer is answered in spite of that.
        t.send(seg(".", 0, 1).data(b"k"));
        t.expect(seg(".", 1, 1));
        t.advance(ms(500));
    }
    assert_eq!(t.state(id), Some(State::Established));
    let stats = t.stack.stats();
    assert_eq!((stats.tcp_challenge_ack, stats.tcp_challenge_limited), (3, 9));
}

#[test]
fn a_fin_beyond_a_gap_is_answered_at_once() {
    // RFC 5681 4.2.
    let (mut t, id) = Fixture::established(config());
    t.send(seg("F.", 4, 1));
    t.expect(seg(".", 1, 1));
    t.send(seg(".", 1, 1).data(b"abc"));
    t.expect(seg(".", 1, 5));
    assert_eq!(t.state(id), Some(State::CloseWait));
}

#[test]
fn an_ack_of_what_was_never_sent_is_challenged_and_its_data_dropped() {
    // RFC 5961 5.2.
    let (mut t, id) = Fixture::established(config());
    t.send(seg(".", 1, 2).data(b"blind"));
    t.expect(seg(".", 1, 1));
    t.advance(ms(500));
    t.send(seg(".", 1, 0u32.wrapping_sub(100_000)).data(b"blind"));
    t.expect(seg(".", 1, 1));
    assert_eq!(t.app_recv(id).1, Recv::Pending);
    t.send(seg("", 1, 0).data(b"no ack"));
    assert_eq!(t.app_recv(id).1, Recv::Pending);
}

#[test]
fn paws_drops_what_is_older_than_what_was_seen() {
    let mut t = Fixture::new(config());
    let id = t.open(seg("S", 0, 0).mss(1012).timestamp(5000, 0));
    t.send(seg(".", 1, 1).data(b"abc").timestamp(5010, 0));
    t.advance(ms(100));
    assert_eq!(t.expect(seg(".", 1, 4)).options.timestamp.unwrap().echo, 5010);
    t.send(seg(".", 4, 1).data(b"old").timestamp(5009, 0));
    assert_eq!(t.expect(seg(".", 1, 4)).options.timestamp.unwrap().echo, 5010);
    assert_eq!(t.stack.stats().tcp_paws, 1);
    t.send(seg(".", 4, 1).data(b"new").timestamp(5010, 0));
    assert_eq!(t.app_recv(id).0, b"abcnew");
    // Across the wrap of the timestamp clock.
    t.send(seg(".", 7, 1).data(b"far").timestamp(5010 + (1 << 31) - 1, 0));
    assert_eq!(t.app_recv(id).0, b"far");
    // A reset is not subject to it (RFC 7323 5.3 R1).
    t.send(seg("R", 10, 0).timestamp(1, 0));
    assert!(t.events(id).closed);
}

#[test]
fn what_comes_without_the_agreed_timestamp_is_taken_and_changes_none() {
    // As Linux; RFC 7323 3.2 would rather drop it.
    let mut t = Fixture::new(config());
    let id = t.open(seg("S", 0, 0).mss(1012).timestamp(5000, 0));
    t.send(seg(".", 1, 1).data(b"abc"));
    t.send(seg("P.", 4, 1).data(b"def"));
    assert_eq!(t.app_recv(id).0, b"abcdef");
    t.advance(ms(100));
    assert_eq!(t.recv().options.timestamp.unwrap().echo, 5000);
}

#[test]
fn a_forged_timestamp_does_not_end_the_true_ones() {
    // Who guesses a sequence number, but no acknowledgement, must not make all that the true
    // peer says look old.
    let mut t = Fixture::new(config());
    let id = t.open(seg("S", 0, 0).mss(1012).timestamp(5000, 0));
    for ack in [1_000_000, 0u32.wrapping_sub(100_000)] {
        t.send(seg(".", 1, ack).data(b"forged").timestamp(1 << 30, 0));
        assert_eq!(t.expect(seg(".", 1, 1)).options.timestamp.unwrap().echo, 5000);
        t.advance(ms(500));
    }
    t.send(seg(".", 1, 1).data(b"true").timestamp(5010, 0));
    assert_eq!(t.app_recv(id).0, b"true");
    assert_eq!(t.stack.stats().tcp_paws, 0);
}

#[test]
fn the_echoed_timestamp_is_that_of_the_first_unacknowledged_segment() {
    // RFC 7323 4.3: two segments wait for one acknowledgement; it echoes the first.
    let mut t = Fixture::new(config());
    t.open(seg("S", 0, 0).mss(1012).timestamp(100, 0));
    t.send(seg(".", 1, 1).data(b"a").timestamp(110, 0));
    t.send(seg(".", 2, 1).data(b"b").timestamp(120, 0));
    t.advance(ms(100));
    assert_eq!(t.expect(seg(".", 1, 3)).options.timestamp.unwrap().echo, 110);
    // Out of order: what fills the gap is echoed, not what came before its time.
    t.send(seg(".", 4, 1).data(b"d").timestamp(140, 0));
    assert_eq!(t.expect(seg(".", 1, 3)).options.timestamp.unwrap().echo, 110);
    t.send(seg(".", 3, 1).data(b"c").timestamp(145, 0));
    assert_eq!(t.expect(seg(".", 1, 5)).options.timestamp.unwrap().echo, 145);
}

#[test]
fn a_later_copy_does_not_change_what_was_held() {
    // RFC 5961 1: who guesses a number must not replace text that was acknowledged selectively.
    let (mut t, id) = Fixture::established(config());
    t.send(seg(".", 5, 1).data(b"BBBB"));
    t.send(seg(".", 11, 1).data(b"CC"));
    t.send(seg(".", 1, 1).data(b"AAAAaaaaAAaaAA"));
    assert_eq!(t.app_recv(id).0, b"AAAABBBBAACCAA");
}

#[test]
fn a_timestamp_is_not_older_than_one_of_weeks_ago() {
    // RFC 7323 5.5: TS.Recent is worth nothing once the peer's clock may have passed half of its
    // numbers.
    let tcp = TcpConfig { keepalive_idle: 1000 * DAY, ..TcpConfig::default() };
    let mut t = Fixture::new(Config { tcp, ..config() });
    let id = t.open(seg("S", 0, 0).timestamp(7, 0));
    t.send(seg(".", 1, 1).data(b"one").timestamp(8, 0));
    t.advance(25 * DAY);
    let later = 8 + 25 * DAY.as_millis() as u32;
    t.send(seg(".", 4, 1).data(b"two").timestamp(later, 0));
    assert_eq!(t.app_recv(id).0, b"onetwo");
    // And so the next one counts again.
    t.send(seg(".", 7, 1).data(b"old").timestamp(later - 1, 0));
    assert_eq!(t.stack.stats().tcp_paws, 1);
}

#[test]
fn what_is_ignored_is_counted() {
    let (mut t, _) = Fixture::established(config());
    t.send(seg("R", 100_000, 0));
    t.send(seg("R", 2, 0));
    t.send(seg("", 1, 0).data(b"x"));
    let stats = t.stack.stats();
    assert_eq!((stats.tcp_reset_ignored, stats.tcp_reset_in, stats.tcp_ignored), (2, 0, 1));
}
