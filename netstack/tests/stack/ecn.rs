//! Explicit congestion notification: RFC 3168 6.1, clause by clause.

use tagwire_netstack::wire::ecn::Ecn;
use tagwire_netstack::{Config, ConnId, Offload, TcpConfig};

use crate::harness::{Fixture, Seg, config, ms, pattern, seg};

fn syn() -> Seg {
    seg("SEW", 0, 0).mss(1000)
}

/// A connection on which both sides agreed on it.
fn agreed(config: Config) -> (Fixture, ConnId) {
    let mut t = Fixture::new(config);
    t.send(syn());
    let (answer, ecn) = t.recv_marked();
    assert_eq!((answer.flags.as_str(), ecn), ("S.E", Ecn::NotEct));
    t.send(seg(".", 1, 1));
    let (id, events) = t.stack.poll_event().expect("a new connection");
    assert!(events.accepted);
    (t, id)
}

/// The answer to a SYN says nothing of it, and neither does data.
#[track_caller]
fn refused(t: &mut Fixture) {
    assert_eq!(t.recv().flags, "S.");
    t.send(seg(".", 1, 1));
    let (id, _) = t.stack.poll_event().expect("a new connection");
    t.app_send(id, b"data");
    assert_eq!(t.recv_marked(), (t_data(), Ecn::NotEct));
    t.send_marked(&seg(".", 1, 5).data(b"x"), Ecn::Ce);
    t.advance(ms(100));
    assert_eq!(t.recv().flags, ".");
}

fn t_data() -> Seg {
    seg("P.", 1, 1).data(b"data").window(u16::MAX)
}

#[test]
fn it_is_taken_where_the_peer_offers_it_and_data_may_then_be_marked() {
    let (mut t, id) = agreed(config());
    t.app_send(id, b"data");
    assert_eq!(t.recv_marked(), (t_data(), Ecn::Ect0));
    // 6.1.4: a pure acknowledgement may not.
    t.send(seg(".", 1, 5).data(b"x"));
    t.advance(ms(100));
    let (answer, ecn) = t.recv_marked();
    assert_eq!((answer.flags.as_str(), ecn), (".", Ecn::NotEct));
}

#[test]
fn it_is_not_taken_where_it_is_switched_off_or_not_offered_rightly() {
    let tcp = TcpConfig { ecn: false, ..TcpConfig::default() };
    let mut t = Fixture::new(Config { tcp, ..config() });
    t.send(syn());
    refused(&mut t);
    // 6.1.1: both flags, or it is no offer.
    for flags in ["S", "SE", "SW"] {
        let mut t = Fixture::new(config());
        t.send(seg(flags, 0, 0).mss(1000));
        refused(&mut t);
    }
    // 6.1.1: such a SYN is not marked itself.
    let mut t = Fixture::new(config());
    t.send_marked(&syn(), Ecn::Ect0);
    refused(&mut t);
}

#[test]
fn a_peer_that_sends_its_syn_again_without_has_thought_better_of_it() {
    let mut t = Fixture::new(config());
    t.send(syn());
    assert_eq!(t.recv().flags, "S.E");
    t.send(seg("S", 0, 0).mss(1000));
    refused(&mut t);
}

#[test]
fn what_is_sent_again_is_not_to_be_marked() {
    let (mut t, id) = agreed(config());
    t.app_send(id, b"data");
    t.recv();
    t.wait(ms(2000));
    assert_eq!(t.recv_marked(), (t_data(), Ecn::NotEct));
}

#[test]
fn a_mark_is_echoed_until_the_peer_says_that_it_knows() {
    let (mut t, id) = agreed(config());
    t.send_marked(&seg(".", 1, 1).data(b"a"), Ecn::Ce);
    assert_eq!(t.recv().flags, ".E");
    t.send_marked(&seg(".", 2, 1).data(b"b"), Ecn::Ect0);
    t.advance(ms(100));
    assert_eq!(t.recv().flags, ".E");
    t.app_send(id, b"data");
    assert_eq!(t.recv().flags, "P.E");
    t.send_marked(&seg(".W", 3, 5).data(b"c"), Ecn::Ect0);
    t.advance(ms(100));
    assert_eq!(t.recv().flags, ".");
    // Its answer may have been marked itself.
    t.send_marked(&seg(".W", 4, 5).data(b"d"), Ecn::Ce);
    assert_eq!(t.recv().flags, ".E");
    assert_eq!(t.stack.stats().tcp_ce_in, 2);
}

#[test]
fn a_mark_on_what_is_outside_of_the_window_counts_for_nothing() {
    let (mut t, _) = agreed(config());
    t.send_marked(&seg(".", 100_000, 1).data(b"a"), Ecn::Ce);
    assert_eq!(t.recv().flags, ".");
    t.send_marked(&seg(".", 1, 1), Ecn::Ce);
    t.send(seg(".", 1, 1).data(b"a"));
    t.advance(ms(100));
    assert_eq!(t.recv().flags, ".");
    assert_eq!(t.stack.stats().tcp_ce_in, 0);
}

#[test]
fn an_echo_reduces_the_window_once_and_the_next_new_data_says_so() {
    let (mut t, id) = agreed(config());
    t.app_send(id, &pattern(100_000));
    let first: Vec<Seg> = (0..10).map(|_| t.recv()).collect();
    assert!(first.iter().all(|segment| segment.flags == "."));
    t.nothing();
    // From 10 segments to 7: nothing may leave for the first three that arrive.
    t.send(seg(".E", 1, 3001));
    t.nothing();
    t.send(seg(".E", 1, 4001));
    let (reply, ecn) = t.recv_marked();
    assert_eq!((reply.flags.as_str(), reply.seq, ecn), (".W", 10_001, Ecn::Ect0));
    t.nothing();
    // The rest of that window brings the same echo, which is answered.
    t.send(seg(".E", 1, 10_001));
    assert_eq!(t.stack.stats().tcp_ecn_reduced, 1);
    let mut sent = 0;
    while !t.sent.is_empty() {
        assert_eq!(t.recv().flags, ".");
        sent += 1;
    }
    assert!(sent >= 6, "{sent}");
    // An echo beyond it is a new one.
    t.send(seg(".E", 1, 12_001));
    assert_eq!(t.stack.stats().tcp_ecn_reduced, 2);
}

#[test]
fn a_reduction_for_a_loss_is_told_as_well_and_is_the_answer_to_its_windows_marks() {
    let (mut t, id) = agreed(config());
    t.app_send(id, &pattern(100_000));
    for _ in 0..10 {
        t.recv();
    }
    for _ in 0..3 {
        t.send(seg(".E", 1, 1));
    }
    // One of the marks came first: it was the one reduction.
    assert_eq!(t.stack.stats().tcp_ecn_reduced, 1);
    while !t.sent.is_empty() {
        let (segment, ecn) = t.recv_marked();
        let new = segment.seq > 10_000;
        assert_eq!(ecn == Ecn::Ect0, new, "{segment:?}");
        assert!(new || segment.flags == ".", "{segment:?}");
    }
    t.send(seg(".", 1, 10_001));
    assert_eq!(t.recv().flags, ".W");
    assert_eq!(t.recv().flags, ".");
}

#[test]
fn what_says_so_is_not_left_to_the_link_to_be_cut() {
    let offload = Offload::FULL;
    let (mut t, id) = agreed(Config { offload, ..config() });
    t.app_send(id, &pattern(100_000));
    t.advance(ms(1));
    while !t.sent.is_empty() {
        t.recv();
    }
    t.send(seg(".E", 1, 10_001));
    // The harness cuts as a link does: were it not alone, several would say it.
    let said: Vec<String> =
        std::iter::from_fn(|| (!t.sent.is_empty()).then(|| t.recv().flags)).collect();
    assert_eq!(said.iter().filter(|flags| flags.contains('W')).count(), 1, "{said:?}");
    assert!(said.len() > 2 && said[0] == ".W", "{said:?}");
}
