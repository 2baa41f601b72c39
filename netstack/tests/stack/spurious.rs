//! What was sent again in vain, and what was not: D-SACK, F-RTO and tail loss probes with a peer
//! that has SACK (RFC 2883, RFC 3708, RFC 5682, RFC 8985 7).

use std::time::Duration;

use tagwire_netstack::{Config, ConnId, Offload, SeqNum, TcpConfig};

use super::harness::{Fixture, Seg, Unlimited, config, ms, pattern, seg};

const SECOND: Duration = Duration::from_secs(1);

fn permitted() -> (Fixture, ConnId) {
    let mut t = Fixture::new(config());
    let mut syn = seg("S", 0, 0).mss(1000);
    syn.options.sack_permitted = true;
    t.send(syn);
    t.recv();
    // A round trip, so that probes have their time.
    t.advance(ms(20));
    t.send(seg(".", 1, 1));
    let (id, _) = t.stack.poll_event().expect("a new connection");
    (t, id)
}

/// An acknowledgement with blocks in our relative numbers.
fn sack(t: &Fixture, ack: u32, blocks: &[(u32, u32)]) -> Seg {
    let mut segment = seg(".", 1, ack);
    let ours = |seq: u32| SeqNum(t.iss.wrapping_add(seq));
    for &(start, end) in blocks {
        segment.options.sack.push(ours(start), ours(end));
    }
    segment
}

fn send_sack(t: &mut Fixture, ack: u32, blocks: &[(u32, u32)]) {
    let segment = sack(t, ack, blocks);
    t.send(segment);
}

/// A connection whose first segment of ten was sent again, because three behind it arrived.
fn first_sent_again(octets: usize) -> (Fixture, ConnId) {
    let (mut t, id) = permitted();
    t.app_send(id, &pattern(octets));
    t.sent.clear();
    t.advance(ms(20));
    send_sack(&mut t, 1, &[(1001, 4001)]);
    assert_eq!(t.recv().seq, 1);
    t.sent.clear();
    assert_eq!(t.stack.stats().tcp_retransmit, 1);
    (t, id)
}

#[test]
fn a_duplicate_reported_after_the_recovery_takes_it_back() {
    // The first segment was only late: it ended the recovery, and the copy came behind it.
    let (mut t, _) = first_sent_again(100_000);
    t.advance(ms(20));
    send_sack(&mut t, 10_001, &[]);
    let reduced = t.sent.len();
    t.sent.clear();
    t.advance(ms(20));
    send_sack(&mut t, 10_001, &[(1, 1001)]);
    let stats = t.stack.stats();
    assert_eq!((stats.tcp_spurious, stats.tcp_rto), (1, 0));
    assert!(reduced <= 8 && reduced + t.sent.len() >= 10, "{reduced} and {}", t.sent.len());
}

#[test]
fn it_does_so_when_nothing_is_out_any_more() {
    let (mut t, _) = first_sent_again(10_000);
    t.advance(ms(20));
    send_sack(&mut t, 10_001, &[]);
    t.advance(ms(20));
    send_sack(&mut t, 10_001, &[(1, 1001)]);
    assert_eq!(t.stack.stats().tcp_spurious, 1);
    // Once.
    send_sack(&mut t, 10_001, &[(1, 1001)]);
    assert_eq!(t.stack.stats().tcp_spurious, 1);
}

#[test]
fn a_timeout_that_was_none_is_found_by_the_duplicates() {
    let (mut t, id) = permitted();
    t.app_send(id, &pattern(1000));
    t.sent.clear();
    // A probe, and then the timeout: two copies more than the peer needs.
    t.wait(SECOND);
    t.sent.clear();
    t.wait(SECOND);
    t.sent.clear();
    assert_eq!((t.stack.stats().tcp_tail_probe, t.stack.stats().tcp_rto), (1, 1));
    send_sack(&mut t, 1001, &[]);
    send_sack(&mut t, 1001, &[(1, 1001)]);
    assert_eq!(t.stack.stats().tcp_spurious, 0, "it may be the probe's");
    send_sack(&mut t, 1001, &[(1, 1001)]);
    assert_eq!(t.stack.stats().tcp_spurious, 1);
}

#[test]
fn duplicates_of_an_earlier_recovery_do_not_take_back_the_next_one() {
    let (mut t, id) = first_sent_again(10_000);
    send_sack(&mut t, 10_001, &[]);
    t.app_send(id, &pattern(10_000));
    t.sent.clear();
    t.advance(ms(20));
    send_sack(&mut t, 10_001, &[(11_001, 14_001)]);
    assert_eq!(t.stack.stats().tcp_fast_retransmit, 2);
    send_sack(&mut t, 10_001, &[(1, 1001), (11_001, 14_001)]);
    assert_eq!(t.stack.stats().tcp_spurious, 0);
    send_sack(&mut t, 17_001, &[(10_001, 11_001)]);
    assert_eq!(t.stack.stats().tcp_spurious, 1);
}

#[test]
fn a_probe_that_was_not_needed_costs_the_next_answer_nothing() {
    // RFC 8985 7.4.2: told by a D-SACK, or by a plain duplicate from who knows no D-SACK.
    for report in [&[(1, 1001)][..], &[]] {
        let (mut t, id) = permitted();
        t.app_send(id, &pattern(1000));
        t.sent.clear();
        t.wait(SECOND);
        t.sent.clear();
        send_sack(&mut t, 1001, &[]);
        send_sack(&mut t, 1001, report);
        t.app_send(id, &pattern(1000));
        send_sack(&mut t, 2001, &[]);
        let stats = t.stack.stats();
        assert_eq!((stats.tcp_tail_probe, stats.tcp_probe_repaired), (1, 0), "{report:?}");
    }
}

#[test]
fn a_probe_that_nobody_needed_twice_still_tells_of_a_loss() {
    let (mut t, id) = permitted();
    t.app_send(id, &pattern(1000));
    t.sent.clear();
    t.wait(SECOND);
    send_sack(&mut t, 1001, &[]);
    t.app_send(id, &pattern(1000));
    send_sack(&mut t, 2001, &[]);
    assert_eq!(t.stack.stats().tcp_probe_repaired, 1);
}

#[test]
fn small_segments_sent_again_as_one_prove_no_timeout_wrong() {
    // RFC 5682 3.1 step 3b asks for what was sent once: the copy carries all ten.
    let (mut t, id) = permitted();
    for part in pattern(1000).chunks(100) {
        t.app_send(id, part);
    }
    assert_eq!(t.sent.len(), 10);
    t.sent.clear();
    t.wait(SECOND);
    t.sent.clear();
    t.wait(SECOND);
    t.expect(seg("P.", 1, 1).data(&pattern(1000)));
    t.nothing();
    send_sack(&mut t, 1001, &[]);
    let stats = t.stack.stats();
    assert_eq!((stats.tcp_rto, stats.tcp_spurious), (1, 0));
}

#[test]
fn a_record_that_cannot_be_split_is_not_sent_without_end() {
    // Large frames, cut by the link into tiny segments: blocks of single ones split their records
    // until there are as many as there may be, and the first large one is still lost.
    const MSS: u32 = 64;
    let tcp = TcpConfig { congestion: |_| Box::new(Unlimited), ..TcpConfig::default() };
    let mut t = Fixture::new(Config { tcp, offload: Offload::FULL, ..config() });
    let mut syn = seg("S", 0, 0).mss(MSS as u16).scale(14).window(80);
    syn.options.sack_permitted = true;
    let id = t.open(syn);
    t.app_send(id, &pattern(80 << 14));
    t.sent.clear();
    t.advance(ms(1));
    let end = 1 + (80 << 14);
    for step in 0..1200 {
        let mut blocks = [(0, 0); 4];
        for (index, block) in blocks.iter_mut().enumerate() {
            let at = end - (1 + 2 * (4 * step + index as u32)) * MSS;
            *block = (at, at + MSS);
        }
        let segment = sack(&t, 1, &blocks).window(80);
        t.send(segment);
        if step == 0 {
            // The end of the reordering window.
            t.advance(ms(1));
        }
        t.sent.clear();
    }
    let again = t.stack.stats().tcp_retransmit;
    assert!(again > 500, "{again}");
}

#[test]
fn a_loss_of_what_left_after_the_reduction_is_another_one() {
    // RFC 6675 5: the window is reduced once for each flight in which something was lost.
    let (mut t, _) = first_sent_again(100_000);
    t.advance(ms(20));
    send_sack(&mut t, 1, &[(1001, 10_001)]);
    assert!(t.recv().seq == 10_001 && t.sent.len() > 3, "new data");
    t.sent.clear();
    t.advance(ms(20));
    // The first of that is lost, and known to be before the recovery is over.
    send_sack(&mut t, 1, &[(11_001, 14_001), (1001, 10_001)]);
    t.sent.clear();
    assert_eq!(t.stack.stats().tcp_fast_retransmit, 1);
    send_sack(&mut t, 10_001, &[(11_001, 14_001)]);
    assert_eq!(t.stack.stats().tcp_fast_retransmit, 2);
}
