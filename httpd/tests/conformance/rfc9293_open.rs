//! RFC 9293 3.10.7.1, 3.10.7.2 and 3.10.7.4 in SYN-RECEIVED. The subjects are servers: nothing of
//! theirs opens a connection, and SYN-SENT is not to be had.

use std::time::{Duration, Instant};

use crate::case::{Case, cases};
use crate::host::Host;
use crate::tcp::{ACK, Conn, FIN, HTTP, MSS, Open, PSH, RST, SYN, URG, opt, seg, text};

pub(crate) const CASES: &[Case] = cases![Both:
    rfc9293_3_10_7_1_closed_rst_is_dropped,
    rfc9293_3_10_7_1_closed_syn_is_answered_by_rst_ack,
    rfc9293_3_10_7_1_closed_text_is_acknowledged_by_the_rst,
    rfc9293_3_10_7_1_closed_syn_with_text_counts_both_in_the_rst,
    rfc9293_3_10_7_1_closed_fin_counts_in_the_rst,
    rfc9293_3_10_7_1_closed_ack_gives_the_rst_its_number,
    rfc9293_3_10_7_2_listen_rst_is_ignored,
    rfc9293_3_10_7_2_listen_ack_is_answered_by_rst,
    rfc9293_3_10_7_2_listen_syn_ack_is_answered_by_rst,
    rfc9293_3_10_7_2_listen_text_without_ack_is_dropped,
    rfc9293_3_10_7_2_listen_fin_without_syn_is_dropped,
    rfc9293_3_10_7_2_listen_no_flags_is_dropped,
    rfc9293_3_10_7_2_listen_syn_rst_opens_nothing,
    rfc9293_3_10_7_2_listen_syn_fin_opens_nothing,
    rfc9293_3_10_7_2_listen_syn_is_answered_by_syn_ack,
    rfc9293_3_10_7_2_listen_text_with_a_syn_is_taken_or_asked_for_again,
    rfc9293_3_4_1_initial_numbers_differ_between_ports,
    rfc9293_3_10_7_4_syn_received_rst_ends_it,
    rfc9293_3_10_7_4_syn_received_rst_outside_window_is_dropped,
    rfc9293_3_10_7_4_syn_received_old_ack_is_answered_by_rst,
    rfc9293_3_10_7_4_syn_received_ack_beyond_is_answered_by_rst,
    rfc9293_3_10_7_4_syn_received_ack_establishes,
    rfc9293_3_10_7_4_syn_received_ack_with_text_establishes_and_is_served,
    rfc9293_3_10_7_4_syn_received_no_ack_bit_is_dropped,
    rfc9293_3_10_7_4_syn_received_fin_establishes_and_closes,
    rfc9293_3_10_7_4_syn_received_syn_again_is_answered,
    rfc9293_3_8_1_must_syn_ack_is_sent_again,
    rfc9293_3_9_1_1_must_41_half_open_connections_are_independent,
];

const NOBODY: u16 = 81;

fn rfc9293_3_10_7_1_closed_rst_is_dropped(host: &mut Host) {
    let mut conn = Conn::closed(host, NOBODY);
    conn.send(seg(RST).seq(1));
    conn.send(seg(RST | ACK).seq(1).ack(1));
    conn.send(seg(RST | SYN).seq(1));
    conn.expect_silence("a RST to a closed port");
}

fn rfc9293_3_10_7_1_closed_syn_is_answered_by_rst_ack(host: &mut Host) {
    let mut conn = Conn::closed(host, NOBODY);
    conn.send(seg(SYN));
    let reset = conn.expect(RST | ACK, 1);
    assert_eq!((reset.seq, reset.data.len()), (0, 0));
}

fn rfc9293_3_10_7_1_closed_text_is_acknowledged_by_the_rst(host: &mut Host) {
    let mut conn = Conn::closed(host, NOBODY);
    conn.send(seg(PSH).data(b"12345"));
    let reset = conn.expect(RST | ACK, 5);
    assert_eq!(reset.seq, 0);
}

fn rfc9293_3_10_7_1_closed_syn_with_text_counts_both_in_the_rst(host: &mut Host) {
    let mut conn = Conn::closed(host, NOBODY);
    conn.send(seg(SYN).data(b"12345"));
    conn.expect(RST | ACK, 6);
}

fn rfc9293_3_10_7_1_closed_fin_counts_in_the_rst(host: &mut Host) {
    let mut conn = Conn::closed(host, NOBODY);
    conn.send(seg(FIN).data(b"12345"));
    conn.expect(RST | ACK, 6);
}

fn rfc9293_3_10_7_1_closed_ack_gives_the_rst_its_number(host: &mut Host) {
    let mut conn = Conn::closed(host, NOBODY);
    conn.send(seg(ACK).ack(0x1234_5678));
    let reset = conn.expect_reset();
    assert_eq!((reset.flags, reset.seq), (RST, 0x1234_5678), "{reset}");
    conn.send(text(b"12345").ack(77));
    let reset = conn.expect_reset();
    assert_eq!((reset.flags, reset.seq), (RST, 77), "{reset}");
}

fn rfc9293_3_10_7_2_listen_rst_is_ignored(host: &mut Host) {
    let mut conn = Conn::closed(host, HTTP);
    conn.send(seg(RST).seq(1));
    conn.send(seg(RST | ACK).seq(1).ack(1));
    conn.expect_silence("a RST to a listener");
}

fn rfc9293_3_10_7_2_listen_ack_is_answered_by_rst(host: &mut Host) {
    let mut conn = Conn::closed(host, HTTP);
    conn.send(seg(ACK).seq(5).ack(4711));
    let reset = conn.expect_reset();
    assert_eq!((reset.flags, reset.seq), (RST, 4711), "{reset}");
}

fn rfc9293_3_10_7_2_listen_syn_ack_is_answered_by_rst(host: &mut Host) {
    let mut conn = Conn::closed(host, HTTP);
    conn.send(seg(SYN | ACK).seq(5).ack(4711));
    let reset = conn.expect_reset();
    assert_eq!((reset.flags, reset.seq), (RST, 4711), "{reset}");
}

fn rfc9293_3_10_7_2_listen_text_without_ack_is_dropped(host: &mut Host) {
    let mut conn = Conn::closed(host, HTTP);
    conn.send(seg(PSH).seq(1).data(b"12345"));
    conn.send(seg(URG).seq(1).urgent(1).data(b"12345"));
    conn.expect_silence("text without SYN and ACK");
}

fn rfc9293_3_10_7_2_listen_fin_without_syn_is_dropped(host: &mut Host) {
    let mut conn = Conn::closed(host, HTTP);
    conn.send(seg(FIN).seq(1));
    conn.expect_silence("a FIN to a listener");
}

fn rfc9293_3_10_7_2_listen_no_flags_is_dropped(host: &mut Host) {
    let mut conn = Conn::closed(host, HTTP);
    conn.send(seg(0).seq(1));
    conn.expect_silence("a segment without flags");
}

/// First check: RST, before SYN.
fn rfc9293_3_10_7_2_listen_syn_rst_opens_nothing(host: &mut Host) {
    let mut conn = Conn::closed(host, HTTP);
    conn.send(seg(SYN | RST));
    conn.expect_silence("SYN with RST");
}

/// The RFC would let the FIN wait; no client sends one, scanners do, and both subjects drop it.
fn rfc9293_3_10_7_2_listen_syn_fin_opens_nothing(host: &mut Host) {
    let mut conn = Conn::closed(host, HTTP);
    conn.send(seg(SYN | FIN));
    conn.expect_silence("SYN with FIN");
}

fn rfc9293_3_10_7_2_listen_syn_is_answered_by_syn_ack(host: &mut Host) {
    let (mut conn, syn_ack) = Conn::half_open(host, Open::default());
    assert_eq!((syn_ack.flags, syn_ack.ack), (SYN | ACK, 1), "{syn_ack}");
    assert!(syn_ack.data.is_empty() && syn_ack.window > 0, "{syn_ack}");
    conn.expect_silence("once is enough");
    conn.send(seg(RST).seq(1));
}

fn rfc9293_3_10_7_2_listen_text_with_a_syn_is_taken_or_asked_for_again(host: &mut Host) {
    let mut conn = Conn::closed(host, HTTP);
    let request = b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n";
    conn.send(seg(SYN).seq(0).data(request));
    conn.snd_nxt = 1;
    let segment = conn.syn_ack();
    assert_eq!(segment.ack, 1, "without Fast Open the text is not taken: {segment}");
    conn.send(seg(ACK));
    conn.send(text(request));
    assert_eq!(conn.response(), crate::bed::INDEX);
}

/// RFC 6528: not one counter for all.
fn rfc9293_3_4_1_initial_numbers_differ_between_ports(host: &mut Host) {
    let mut numbers = Vec::new();
    for _ in 0..8 {
        let (mut conn, _) = Conn::half_open(host, Open::default());
        numbers.push(conn.irs);
        conn.send(seg(RST).seq(1));
    }
    let near = |two: &[u32]| two[1].wrapping_sub(two[0]) < 1 << 20;
    assert!(numbers.windows(2).filter(|two| near(two)).count() < 3, "{numbers:x?}");
}

fn rfc9293_3_10_7_4_syn_received_rst_ends_it(host: &mut Host) {
    let (mut conn, _) = Conn::half_open(host, Open::default());
    conn.send(seg(RST).seq(1));
    conn.send(seg(ACK).seq(1).ack(1));
    let reset = conn.expect_reset();
    assert_eq!(reset.seq, 1, "{reset}");
}

fn rfc9293_3_10_7_4_syn_received_rst_outside_window_is_dropped(host: &mut Host) {
    let (mut conn, _) = Conn::half_open(host, Open::default());
    conn.send(seg(RST).seq(0x7000_0000));
    conn.send(seg(RST).seq(0));
    conn.send(seg(ACK));
    conn.expect_alive();
}

fn rfc9293_3_10_7_4_syn_received_old_ack_is_answered_by_rst(host: &mut Host) {
    let (mut conn, _) = Conn::half_open(host, Open::default());
    conn.send(seg(ACK).ack(0));
    let reset = conn.expect_reset();
    assert_eq!((reset.flags, reset.seq), (RST, 0), "{reset}");
    conn.send(seg(ACK));
    conn.expect_alive();
}

fn rfc9293_3_10_7_4_syn_received_ack_beyond_is_answered_by_rst(host: &mut Host) {
    let (mut conn, _) = Conn::half_open(host, Open::default());
    conn.send(seg(ACK).ack(2));
    let reset = conn.expect_reset();
    assert_eq!((reset.flags, reset.seq), (RST, 2), "{reset}");
    conn.send(seg(ACK));
    conn.expect_alive();
}

fn rfc9293_3_10_7_4_syn_received_ack_establishes(host: &mut Host) {
    let mut conn = Conn::open(host);
    conn.expect_silence("the third segment of a handshake");
    conn.expect_alive();
}

fn rfc9293_3_10_7_4_syn_received_ack_with_text_establishes_and_is_served(host: &mut Host) {
    let (mut conn, _) = Conn::half_open(host, Open::default());
    conn.expect_alive();
}

fn rfc9293_3_10_7_4_syn_received_no_ack_bit_is_dropped(host: &mut Host) {
    let (mut conn, _) = Conn::half_open(host, Open::default());
    conn.send(seg(PSH).seq(1).data(b"GET"));
    conn.send(seg(FIN).seq(1));
    conn.expect_silence("a segment without ACK");
    conn.send(seg(ACK));
    conn.expect_alive();
}

fn rfc9293_3_10_7_4_syn_received_fin_establishes_and_closes(host: &mut Host) {
    let (mut conn, _) = Conn::half_open(host, Open::default());
    conn.send(seg(FIN | ACK));
    conn.wait_for("a FIN for a FIN", |it| it.has(FIN | ACK) && it.ack == 2);
    conn.send(seg(ACK));
    conn.expect_gone();
}

/// RFC 5961 4.2 asks for an ACK; to answer a SYN that is the same by the same SYN-ACK serves
/// a client whose SYN-ACK was lost.
fn rfc9293_3_10_7_4_syn_received_syn_again_is_answered(host: &mut Host) {
    let (mut conn, _) = Conn::half_open(host, Open::default());
    conn.send(seg(SYN).seq(0).options(&[opt::mss(MSS)]));
    let again = conn.expect(SYN | ACK, 1);
    assert_eq!(again.seq, 0, "the same initial number: {again}");
    conn.send(seg(ACK));
    conn.expect_alive();
}

fn rfc9293_3_8_1_must_syn_ack_is_sent_again(host: &mut Host) {
    let (mut conn, _) = Conn::half_open(host, Open::default());
    let first = Instant::now();
    let again = conn.expect(SYN | ACK, 1);
    assert_eq!(again.seq, 0);
    let after = again.at.duration_since(first);
    // RFC 6298 2.1: one second before there is a measurement.
    assert!(after > Duration::from_millis(700) && after < Duration::from_secs(3), "{after:?}");
    conn.send(seg(ACK));
    conn.expect_alive();
}

fn rfc9293_3_9_1_1_must_41_half_open_connections_are_independent(host: &mut Host) {
    let (one, _) = Conn::half_open(host, Open::default());
    let (ports, iss, irs) = (one.ports, one.iss, one.irs);
    let (mut two, _) = Conn::half_open(host, Open::default());
    two.send(seg(RST).seq(1));
    let mut one = Conn::closed(host, HTTP);
    (one.ports, one.iss, one.irs, one.snd_nxt, one.rcv_nxt) = (ports, iss, irs, 1, 1);
    one.send(seg(ACK));
    one.expect_alive();
}
