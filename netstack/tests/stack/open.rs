//! Passive open (RFC 9293 3.10.7.2 and SYN-RECEIVED, RFC 7323).

use std::time::Duration;

use tagwire_netstack::wire::tcp::Options;
use tagwire_netstack::{Config, FourTuple, State, TcpConfig};

use super::harness::{DEFAULT_MSS, Fixture, LINK_MSS, MIN_MTU, Seg, config, ms, pattern, seg};

fn options_of(answer: &Seg) -> (Option<u16>, Option<u8>, bool, bool) {
    let Options { mss, window_scale, sack_permitted, timestamp, .. } = answer.options;
    (mss, window_scale, sack_permitted, timestamp.is_some())
}

#[test]
fn each_option_is_agreed_on_only_if_it_was_offered() {
    for mask in 0..16 {
        let mut t = Fixture::new(config());
        let mut syn = seg("S", 0, 0);
        if mask & 1 != 0 {
            syn = syn.mss(1400);
        }
        if mask & 2 != 0 {
            syn = syn.scale(7);
        }
        if mask & 4 != 0 {
            syn = syn.timestamp(111, 0);
        }
        syn.options.sack_permitted = mask & 8 != 0;
        t.send(syn);
        let answer = t.expect(seg("S.", 0, 1));
        let scale = (mask & 2 != 0).then_some(0);
        assert_eq!(options_of(&answer), (Some(LINK_MSS), scale, mask & 8 != 0, mask & 4 != 0));
        assert_eq!(answer.window, 65535);
        if let Some(stamp) = answer.options.timestamp {
            assert_eq!(stamp.echo, 111);
        }
        t.nothing();
        assert_eq!(t.held(), (0, 1, 0));
    }
}

#[test]
fn the_handshake_makes_a_connection_and_an_event() {
    let (mut t, id) = Fixture::established(config());
    assert_eq!(t.state(id), Some(State::Established));
    assert_eq!(t.held(), (1, 0, 0));
    assert_eq!(t.stack.stats().tcp_accepted, 1);
    let FourTuple { local: ours, remote: theirs } = t.stack.addresses(id).unwrap();
    assert_eq!((ours.port, theirs.port), (80, t.port));
    assert!(t.stack.poll_event().is_none());
}

#[test]
fn the_handshakes_ack_may_carry_data_and_fin() {
    let mut t = Fixture::new(config());
    t.send(seg("S", 0, 0));
    t.recv();
    t.send(seg("FP.", 1, 1).data(b"hi"));
    t.expect(seg(".", 1, 4));
    let (id, events) = t.stack.poll_event().unwrap();
    assert!(events.accepted && events.readable);
    assert_eq!(t.app_recv(id).0, b"hi");
    assert_eq!(t.state(id), Some(State::CloseWait));
}

#[test]
fn a_syn_ack_is_sent_again_with_back_off_and_given_up() {
    let mut t = Fixture::new(config());
    t.send(seg("S", 0, 0));
    t.recv();
    for seconds in [1, 2, 4, 8, 16] {
        assert_eq!(t.wait(Duration::from_secs(40)), Duration::from_secs(seconds));
        t.expect(seg("S.", 0, 1));
    }
    t.advance(Duration::from_secs(32));
    t.nothing();
    assert_eq!(t.held(), (0, 0, 0));
    assert_eq!(t.stack.stats().tcp_timed_out, 1);
}

#[test]
fn a_syn_sent_again_gets_the_same_syn_ack_and_another_one_begins_anew() {
    let mut t = Fixture::new(config());
    t.send(seg("S", 0, 0));
    let first = t.recv();
    t.send(seg("S", 0, 0));
    assert_eq!(t.recv(), first);
    t.send(seg("S", 5000, 0));
    assert_eq!(t.recv().ack, 5001);
    assert_eq!(t.held(), (0, 1, 0));
}

#[test]
fn a_closed_port_refuses_with_the_right_numbers() {
    let mut t = Fixture::new(config());
    t.stack.unlisten(80);
    t.send(seg("S", 0, 0));
    // <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>
    let reset = t.recv();
    assert_eq!((reset.flags.as_str(), reset.ack), ("R.", 1));
    assert_eq!(reset.seq.wrapping_add(t.iss), 0);
    t.send(seg("S", 10, 0).data(b"four"));
    assert_eq!(t.recv().ack, 15);
    // <SEQ=SEG.ACK><CTL=RST>
    t.send(seg(".", 100, 200));
    let reset = t.recv();
    assert_eq!((reset.flags.as_str(), reset.seq), ("R", 200));
    t.send(seg("F.", 100, 300).data(b"data"));
    assert_eq!(t.recv().seq, 300);
    // Never a reset for a reset.
    t.send(seg("R", 100, 0));
    t.send(seg("R.", 100, 200));
    t.nothing();
    assert_eq!(t.held(), (0, 0, 0));
}

#[test]
fn a_listening_port_resets_acknowledgements_and_drops_what_else_is_no_syn() {
    // RFC 9293 3.10.7.2.
    let mut t = Fixture::new(config());
    t.send(seg(".", 1, 1));
    assert_eq!(t.recv().flags, "R");
    t.send(seg("S.", 1, 1));
    assert_eq!(t.recv().flags, "R");
    for flags in ["F", "", "P", "SF"] {
        t.send(seg(flags, 1, 0).data(b"text"));
        t.nothing();
    }
    assert_eq!(t.stack.stats().tcp_no_syn, 4);
}

#[test]
fn resets_have_a_rate() {
    let mut t = Fixture::new(config());
    for _ in 0..500 {
        t.send(seg(".", 1, 1));
    }
    let sent = t.sent.len();
    assert!((90..=110).contains(&sent), "{sent}");
    assert_eq!(t.stack.stats().tcp_reset_limited, 500 - sent as u64);
    t.sent.clear();
    t.advance(ms(10));
    t.send(seg(".", 1, 1));
    assert_eq!(t.recv().flags, "R");
}

#[test]
fn syns_that_come_again_are_counted_and_answered_at_a_rate() {
    let mut t = Fixture::new(config());
    for _ in 0..50_000 {
        t.send(seg("S", 0, 0));
    }
    let stats = t.stack.stats();
    assert_eq!((stats.tcp_syn, stats.tcp_syn_again), (1, 49_999));
    assert_eq!(t.sent.len() as u64, 50_000 - stats.tcp_syn_again_limited);
    assert!((1000..5000).contains(&t.sent.len()), "{}", t.sent.len());
    // It is answered again when it has become quiet, and by itself.
    t.advance(ms(500));
    t.sent.clear();
    t.send(seg("S", 0, 0));
    t.expect(seg("S.", 0, 1));
    t.advance(ms(500));
    t.expect(seg("S.", 0, 1));
    t.stack.unlisten(80);
    t.port += 1;
    t.send(seg("S", 0, 0));
    assert_eq!(t.stack.stats().tcp_syn_refused, 1);
}

#[test]
fn half_open_takes_only_the_right_ack_and_the_right_reset() {
    let mut t = Fixture::new(config());
    t.send(seg("S", 0, 0));
    t.recv();
    t.send(seg(".", 1, 2));
    let reset = t.recv();
    assert_eq!((reset.flags.as_str(), reset.seq), ("R", 2));
    t.send(seg("R", 2, 0));
    assert_eq!(t.held(), (0, 1, 0));
    t.send(seg("R", 1, 0));
    assert_eq!(t.held(), (0, 0, 0));
    t.advance(Duration::from_secs(100));
    t.nothing();
}

#[test]
fn of_two_syns_with_different_numbers_either_can_finish() {
    // One client after another behind the same translator, or a forged SYN between a true one
    // and its ACK: which of them is true shows only at the end.
    for true_one in [0, 1_000_000] {
        let mut t = Fixture::new(config());
        t.send(seg("S", 0, 0));
        assert_eq!(t.recv().ack, 1);
        let first = t.iss;
        t.send(seg("S", 1_000_000, 0));
        assert_eq!(t.recv().ack, 1_000_001);
        assert_eq!(t.held(), (0, 1, 0));
        // Each ACK belongs to its own SYN.
        let other = true_one ^ 1_000_000;
        let second = std::mem::replace(&mut t.iss, first);
        if true_one != 0 {
            t.iss = second;
        }
        t.send(seg(".", other + 1, 1));
        assert_eq!(t.held(), (0, 1, 0));
        t.sent.clear();
        t.send(seg(".", true_one + 1, 1));
        assert_eq!(t.held(), (1, 0, 0));
        t.nothing();
        let (id, _) = t.stack.poll_event().unwrap();
        t.app_send(id, b"x");
        t.expect(seg("P.", 1, true_one + 1).data(b"x"));
    }
}

#[test]
fn a_full_connection_table_takes_no_syn_and_no_handshake() {
    let tcp = TcpConfig { max_connections: 1, ..TcpConfig::default() };
    let mut t = Fixture::new(Config { tcp, ..config() });
    // Two half-open at once; only one can become a connection.
    t.send(seg("S", 0, 0));
    t.recv();
    t.port += 1;
    t.send(seg("S", 0, 0));
    t.recv();
    t.send(seg(".", 1, 1));
    assert_eq!(t.held(), (1, 1, 0));
    t.port -= 1;
    t.send(seg("S", 0, 0));
    t.recv();
    t.send(seg(".", 1, 1));
    t.nothing();
    assert_eq!((t.held(), t.stack.stats().tcp_syn_dropped), ((1, 1, 0), 1));
    t.port += 2;
    t.send(seg("S", 0, 0));
    t.nothing();
    assert_eq!((t.held(), t.stack.stats().tcp_syn_dropped), ((1, 1, 0), 2));
}

#[test]
fn slots_are_used_again_under_another_name() {
    let (mut t, old) = Fixture::established(config());
    t.release(old);
    t.expect(seg("F.", 1, 1));
    t.send(seg("R", 1, 0));
    assert_eq!(t.held(), (0, 0, 0));
    t.port += 1;
    let new = t.open(seg("S", 0, 0).mss(1000));
    assert_eq!(old.index, new.index);
    assert_ne!(old.generation, new.generation);
    assert!(t.stack.closed(old).is_some() && t.stack.closed(new).is_none());
    assert!(t.stack.send(old, bytes::Bytes::from_static(b"stray")).is_err());
    t.release(old);
    assert_eq!(t.held(), (1, 0, 0));
}

#[test]
fn without_an_mss_option_the_default_and_never_fewer_than_the_floor() {
    // RFC 9293 3.7.1, MUST-15.
    let mut t = Fixture::new(config());
    let id = t.open(seg("S", 0, 0));
    t.app_send(id, &pattern(2000));
    assert_eq!(t.recv().data.len(), DEFAULT_MSS);
    // A peer that asks for crumbs gets them no smaller than 64, less its timestamps.
    for (stamped, floor) in [(false, 64), (true, 52)] {
        let mut t = Fixture::new(config());
        let syn = seg("S", 0, 0).mss(1);
        let id = t.open(if stamped { syn.timestamp(1, 0) } else { syn });
        t.app_send(id, &pattern(2000));
        assert_eq!(t.recv().data.len(), floor);
    }
    // And no more than our own link carries.
    let mtu = MIN_MTU.max(600);
    let mut t = Fixture::new(Config { mtu, ..config() });
    let id = t.open(seg("S", 0, 0).mss(9000));
    t.app_send(id, &pattern(2000));
    assert_eq!(t.recv().data.len(), usize::from(LINK_MSS - (1500 - mtu)));
}

#[test]
fn the_peers_window_is_scaled_but_not_in_its_syn() {
    let mut t = Fixture::new(config());
    t.send(seg("S", 0, 0).mss(1000).scale(4).window(1000));
    t.recv();
    t.send(seg(".", 1, 1).window(250));
    let (id, _) = t.stack.poll_event().unwrap();
    t.app_send(id, &pattern(10_000));
    // 250 << 4 is 4000: four segments.
    assert_eq!(t.sent.len(), 4);
}

#[test]
fn our_window_is_scaled_where_both_agree() {
    let tcp = TcpConfig { receive_buffer: 1 << 20, ..TcpConfig::default() };
    let mut t = Fixture::new(Config { tcp: tcp.clone(), ..config() });
    t.send(seg("S", 0, 0).mss(1000).scale(0));
    let answer = t.recv();
    assert_eq!((answer.options.window_scale, answer.window), (Some(5), 65535));
    t.send(seg(".", 1, 1).data(&pattern(1000)));
    t.send(seg(".", 1001, 1).data(&pattern(1000)));
    t.expect(seg(".", 1, 1001));
    let ack = t.expect(seg(".", 1, 2001));
    let offered = u32::from(ack.window) << 5;
    assert!(((1 << 20) - 2000..=1 << 20).contains(&offered), "{offered}");
    // Without the option the field says what it can.
    let mut t = Fixture::new(Config { tcp, ..config() });
    t.open(seg("S", 0, 0).mss(1000));
    t.send(seg(".", 1, 1).data(&pattern(1000)));
    t.send(seg(".", 1001, 1).data(&pattern(1000)));
    t.expect(seg(".", 1, 1001));
    assert_eq!(t.expect(seg(".", 1, 2001)).window, 65535);
}

#[test]
fn a_measured_handshake_sets_the_first_timeout() {
    let mut t = Fixture::new(config());
    t.send(seg("S", 0, 0).mss(1000));
    t.recv();
    t.advance(ms(300));
    t.send(seg(".", 1, 1));
    let (id, _) = t.stack.poll_event().unwrap();
    t.app_send(id, b"x");
    t.recv();
    // RFC 6298 (2.2): SRTT 300 + 4 · 150.
    assert_eq!(t.wait(Duration::from_secs(3)), ms(900));
}
