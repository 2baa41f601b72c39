//! TCP Fast Open (RFC 7413).

use std::time::Duration;

use tagwire_netstack::wire::tcp::FastOpen;
use tagwire_netstack::{CloseReason, Config, Recv, TcpConfig};

use crate::harness::{Fixture, Seg, config, seg};

const SECOND: Duration = Duration::from_secs(1);

fn enabled() -> Config {
    Config { tcp: TcpConfig { fast_open: true, ..TcpConfig::default() }, ..config() }
}

fn syn(option: FastOpen) -> Seg {
    let mut syn = seg("S", 0, 0).mss(1000);
    syn.options.fast_open = Some(option);
    syn
}

/// A stack, and a SYN with the cookie that it gave to the peer.
fn with_cookie() -> (Fixture, Seg) {
    let mut t = Fixture::new(enabled());
    t.send(syn(FastOpen::Request));
    let cookie = t.expect(seg("S.", 0, 1)).options.fast_open.expect("a cookie");
    t.send(seg("R", 1, 0));
    t.port += 1;
    (t, syn(cookie))
}

#[test]
fn data_in_the_syn_is_read_and_answered_before_the_handshake_is_over() {
    let (mut t, syn) = with_cookie();
    t.send(syn.data(b"GET"));
    let answer = t.expect(seg("S.", 0, 4));
    assert_eq!(answer.options.fast_open, None);
    let (id, events) = t.stack.poll_event().unwrap();
    assert!(events.accepted && events.readable);
    assert_eq!(t.app_recv(id).0, b"GET");
    t.sent.clear();
    t.app_send(id, b"answer");
    t.expect(seg("P.", 1, 4).data(b"answer"));
    assert_eq!(t.held(), (1, 1, 0));
    t.send(seg(".", 4, 7));
    assert_eq!(t.held(), (1, 0, 0));
    t.send(seg("P.", 4, 7).data(b"more"));
    assert_eq!(t.app_recv(id), (b"more".to_vec(), Recv::Data(4)));
    assert_eq!(t.stack.stats().tcp_fast_open, 1);
}

#[test]
fn the_syn_ack_is_sent_again_and_the_connection_given_up_with_it() {
    let (mut t, syn) = with_cookie();
    t.send(syn.clone().data(b"GET"));
    t.expect(seg("S.", 0, 4));
    let (id, _) = t.stack.poll_event().unwrap();
    t.sent.clear();
    // The same SYN again is no other connection.
    t.send(syn.data(b"GET"));
    t.expect(seg("S.", 0, 4));
    assert_eq!(t.held(), (1, 1, 0));
    t.advance(SECOND / 2);
    t.sent.clear();
    assert_eq!(t.wait(SECOND), SECOND / 2);
    t.expect(seg("S.", 0, 4));
    t.advance(100 * SECOND);
    assert_eq!(t.stack.closed(id), Some(CloseReason::TimedOut));
    t.release(id);
    assert_eq!(t.held(), (0, 0, 0));
}

#[test]
fn a_reset_ends_both() {
    let (mut t, syn) = with_cookie();
    t.send(syn.data(b"GET"));
    let (id, _) = t.stack.poll_event().unwrap();
    t.send(seg("R", 4, 0));
    assert_eq!(t.stack.closed(id), Some(CloseReason::Reset));
    t.release(id);
    assert_eq!(t.held(), (0, 0, 0));
}

#[test]
fn without_a_good_cookie_the_handshake_is_as_ever() {
    // Another's or an invented one gets a good one; its data does not count.
    let (mut t, good) = with_cookie();
    t.send(syn(FastOpen::Cookie([7; 8])).data(b"GET"));
    let answer = t.expect(seg("S.", 0, 1));
    assert_eq!(answer.options.fast_open, good.options.fast_open);
    assert!(t.stack.poll_event().is_none());
    t.send(seg("P.", 1, 1).data(b"GET"));
    let (id, _) = t.stack.poll_event().unwrap();
    assert_eq!(t.app_recv(id).0, b"GET");
    // Off by default.
    let mut t = Fixture::new(config());
    t.send(good.data(b"GET"));
    assert_eq!(t.expect(seg("S.", 0, 1)).options.fast_open, None);
}

#[test]
fn a_cookie_lasts_for_two_periods_and_is_replaced_in_the_second() {
    let (mut t, syn) = with_cookie();
    t.advance(4 * 3600 * SECOND);
    t.sent.clear();
    t.send(syn.clone().data(b"GET"));
    let answer = t.expect(seg("S.", 0, 4));
    assert!(answer.options.fast_open.is_some_and(|new| Some(new) != syn.options.fast_open));
    t.advance(4 * 3600 * SECOND);
    t.sent.clear();
    t.port += 1;
    t.send(syn.data(b"GET"));
    t.expect(seg("S.", 0, 1));
}

#[test]
fn pending_ones_are_bounded() {
    let (mut t, syn) = with_cookie();
    for _ in 0..300 {
        t.send(syn.clone().data(b"GET"));
        t.port += 1;
    }
    assert_eq!(t.stack.stats().tcp_fast_open, 256);
    assert_eq!(t.held(), (256, 300, 0));
}

#[test]
fn no_round_trip_is_known_before_the_handshake_is_over() {
    // RFC 6298 2.1: one second, as what the SYN brings says nothing of the path.
    let (mut t, syn) = with_cookie();
    t.send(syn.data(b"GET"));
    t.expect(seg("S.", 0, 4));
    let (id, _) = t.stack.poll_event().unwrap();
    t.app_send(id, b"answer");
    t.sent.clear();
    assert_eq!(t.wait(2 * SECOND), SECOND);
}

#[test]
fn an_aborted_connection_leaves_no_half_open_one() {
    let (mut t, syn) = with_cookie();
    t.send(syn.data(b"GET"));
    t.expect(seg("S.", 0, 4));
    let (id, _) = t.stack.poll_event().unwrap();
    t.sent.clear();
    t.abort(id);
    t.expect(seg("R.", 1, 4));
    t.release(id);
    assert_eq!(t.held(), (0, 0, 0));
    // Nor does the handshake's ACK, on its way, open another one that waits for the text.
    t.send(seg(".", 4, 1));
    assert_eq!(t.recv().flags, "R");
    assert_eq!(t.held(), (0, 0, 0));
}
