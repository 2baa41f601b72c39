//! RFC 9293 3.10.7.4 in ESTABLISHED: sequence check, RST, SYN, ACK, URG, text, FIN, in its order.

use crate::case::{Case, cases};
use crate::host::Host;
use crate::tcp::{ACK, Conn, FIN, Open, PSH, RST, SYN, URG, seg, text};

pub(crate) const CASES: &[Case] = cases![Both:
    rfc9293_3_10_7_4_established_old_text_is_acknowledged_again,
    rfc9293_3_10_7_4_established_text_beyond_window_is_answered_by_ack,
    rfc9293_3_10_7_4_established_text_that_reaches_beyond_is_cut_or_dropped,
    rfc9293_3_10_7_4_established_text_half_old_counts_its_new_half,
    rfc9293_3_10_7_4_established_old_ack_segment_is_answered_by_ack,
    rfc9293_3_10_7_4_established_rst_at_rcv_nxt_ends_it,
    rfc9293_3_10_7_4_established_rst_outside_window_is_dropped,
    rfc9293_3_10_7_4_established_rst_old_is_dropped,
    rfc9293_3_5_3_should_2_rst_with_text_ends_it,
    rfc9293_3_10_7_4_established_syn_is_challenged,
    rfc9293_3_10_7_4_established_syn_ack_again_is_answered_by_ack,
    rfc9293_3_10_7_4_established_no_ack_bit_is_dropped,
    rfc9293_3_10_7_4_established_ack_of_unsent_is_answered_by_ack,
    rfc9293_3_10_7_4_established_text_with_ack_of_unsent_is_not_taken,
    rfc9293_3_10_7_4_established_old_ack_is_ignored,
    rfc9293_3_10_7_4_established_duplicate_ack_is_not_answered,
    rfc9293_3_10_7_4_established_window_update_lets_it_send,
    rfc9293_3_10_7_4_established_window_of_older_segment_is_not_taken,
    rfc9293_3_10_7_4_established_urgent_pointer_is_no_harm,
    rfc9293_3_8_5_must_31_urgent_text_of_any_length,
    rfc9293_3_10_7_4_established_text_in_order_is_served,
    rfc9293_3_10_7_4_established_text_octet_by_octet_is_served,
    rfc9293_3_10_7_4_established_text_out_of_order_is_kept,
    rfc9293_3_10_7_4_established_text_overlapping_is_put_together,
    rfc9293_3_10_7_4_established_text_in_reverse_order_is_put_together,
    rfc9293_3_10_7_4_established_text_sent_twice_is_served_once,
    rfc9293_3_10_7_4_established_fin_is_acknowledged,
    rfc9293_3_10_7_4_established_fin_with_text_is_served_then_closed,
    rfc9293_3_10_7_4_established_fin_out_of_order_waits_for_text,
    rfc9293_3_10_7_4_established_fin_without_ack_is_dropped,
    rfc9293_3_10_7_4_established_fin_beyond_window_is_not_taken,
    rfc9293_3_10_7_4_established_reserved_bits_are_ignored,
];

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n";

/// A connection of which one request is answered: its numbers are past the first.
fn used(host: &mut Host) -> Conn<'_> {
    let mut conn = Conn::open(host);
    conn.expect_alive();
    conn
}

fn rfc9293_3_10_7_4_established_old_text_is_acknowledged_again(host: &mut Host) {
    let mut conn = used(host);
    let (next, theirs) = (conn.snd_nxt, conn.rcv_nxt);
    conn.send(text(b"GET / HTT").seq(1));
    let answer = conn.expect(ACK, next);
    assert_eq!((answer.seq, answer.len()), (theirs, 0));
    conn.expect_alive();
}

fn rfc9293_3_10_7_4_established_text_beyond_window_is_answered_by_ack(host: &mut Host) {
    let mut conn = used(host);
    let next = conn.snd_nxt;
    conn.send(text(b"forged").seq(next + 0x1000_0000));
    let answer = conn.expect(ACK, next);
    assert_eq!(answer.len(), 0);
    conn.expect_alive();
}

fn rfc9293_3_10_7_4_established_text_that_reaches_beyond_is_cut_or_dropped(host: &mut Host) {
    let (mut conn, syn_ack) = Conn::open_with(host, Open::default());
    // Half inside the window that was offered.
    let edge = 1 + u32::from(syn_ack.window);
    conn.send(text(&[b'x'; 1000]).seq(edge - 500));
    let answer = conn.expect(ACK, 1);
    assert!(answer.sack.is_empty(), "SACK was not agreed on");
    conn.expect_alive();
}

fn rfc9293_3_10_7_4_established_text_half_old_counts_its_new_half(host: &mut Host) {
    let mut conn = Conn::open(host);
    conn.send(text(&REQUEST[..10]));
    conn.send(text(REQUEST).seq(1));
    conn.snd_nxt = 1 + REQUEST.len() as u32;
    assert_eq!(conn.response(), crate::bed::INDEX);
}

fn rfc9293_3_10_7_4_established_old_ack_segment_is_answered_by_ack(host: &mut Host) {
    let mut conn = used(host);
    let next = conn.snd_nxt;
    // What a keep-alive is (3.8.4).
    conn.send(seg(ACK).seq(next - 1));
    let answer = conn.expect(ACK, next);
    assert_eq!(answer.seq, conn.rcv_nxt);
}

fn rfc9293_3_10_7_4_established_rst_at_rcv_nxt_ends_it(host: &mut Host) {
    let mut conn = used(host);
    conn.send(seg(RST));
    conn.expect_silence("a RST");
    conn.expect_gone();
}

fn rfc9293_3_10_7_4_established_rst_outside_window_is_dropped(host: &mut Host) {
    let mut conn = used(host);
    let next = conn.snd_nxt;
    for seq in [next.wrapping_add(0x4000_0000), next.wrapping_add(0x8000_0000)] {
        conn.send(seg(RST).seq(seq));
        conn.send(seg(RST | ACK).seq(seq));
    }
    conn.expect_silence("a RST outside of the window");
    conn.expect_alive();
}

fn rfc9293_3_10_7_4_established_rst_old_is_dropped(host: &mut Host) {
    let mut conn = used(host);
    conn.send(seg(RST).seq(1));
    conn.expect_silence("an old RST");
    conn.expect_alive();
}

fn rfc9293_3_5_3_should_2_rst_with_text_ends_it(host: &mut Host) {
    let mut conn = used(host);
    // An explanation of its cause.
    conn.send(seg(RST | ACK).data(b"because"));
    conn.expect_silence("a RST");
    conn.expect_gone();
}

fn rfc9293_3_10_7_4_established_syn_is_challenged(host: &mut Host) {
    let mut conn = used(host);
    let (next, theirs) = (conn.snd_nxt, conn.rcv_nxt);
    conn.send(seg(SYN).seq(next));
    let answer = conn.expect(ACK, next);
    assert_eq!((answer.seq, answer.len()), (theirs, 0));
    conn.expect_alive();
}

/// Our ACK was lost, or a SYN-ACK of an older incarnation comes: RFC 5961 4.2.
fn rfc9293_3_10_7_4_established_syn_ack_again_is_answered_by_ack(host: &mut Host) {
    let mut conn = used(host);
    let next = conn.snd_nxt;
    conn.send(seg(SYN | ACK).seq(0).ack(1));
    conn.expect(ACK, next);
    conn.expect_alive();
}

fn rfc9293_3_10_7_4_established_no_ack_bit_is_dropped(host: &mut Host) {
    let mut conn = used(host);
    let next = conn.snd_nxt;
    conn.send(seg(PSH).seq(next).data(REQUEST));
    conn.send(seg(0).seq(next));
    conn.expect_silence("a segment without ACK");
    conn.expect_alive();
}

fn rfc9293_3_10_7_4_established_ack_of_unsent_is_answered_by_ack(host: &mut Host) {
    let mut conn = used(host);
    let (next, theirs) = (conn.snd_nxt, conn.rcv_nxt);
    conn.send(seg(ACK).ack(theirs + 1));
    let answer = conn.expect(ACK, next);
    assert_eq!(answer.seq, theirs);
    conn.expect_alive();
}

fn rfc9293_3_10_7_4_established_text_with_ack_of_unsent_is_not_taken(host: &mut Host) {
    let mut conn = used(host);
    let (next, theirs) = (conn.snd_nxt, conn.rcv_nxt);
    conn.send(text(b"FORGED").seq(next).ack(theirs + 100_000));
    conn.expect(ACK, next);
    conn.expect_alive();
}

fn rfc9293_3_10_7_4_established_old_ack_is_ignored(host: &mut Host) {
    let mut conn = used(host);
    let theirs = conn.rcv_nxt;
    conn.send(seg(ACK).ack(theirs - 10));
    conn.expect_silence("an old acknowledgement");
    conn.expect_alive();
}

fn rfc9293_3_10_7_4_established_duplicate_ack_is_not_answered(host: &mut Host) {
    let mut conn = used(host);
    for _ in 0..5 {
        conn.send(seg(ACK));
    }
    conn.expect_silence("a duplicate acknowledgement");
}

fn rfc9293_3_10_7_4_established_window_update_lets_it_send(host: &mut Host) {
    let mut conn = Conn::open(host);
    conn.window = 0;
    conn.request("/middle", false);
    conn.wait_for("the request is acknowledged", |it| it.ack > 1 && it.len() == 0);
    conn.expect_no_text("into a closed window");
    conn.send(seg(ACK).window(1400));
    let text = conn.wait_for("text", |it| it.len() > 0);
    assert!(text.seq == 1 && text.data.len() <= 1400, "{text}");
}

/// SND.WL1 and WL2: an ACK that was overtaken does not take the window back.
fn rfc9293_3_10_7_4_established_window_of_older_segment_is_not_taken(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, Open { window: 2800, ..Open::default() });
    conn.request("/big", false);
    conn.flight();
    conn.send(seg(ACK));
    // Older than that ACK by its acknowledgement, with a window that reaches far.
    conn.send(seg(ACK).ack(1).window(60_000));
    let limit = conn.rcv_nxt + 2800;
    for segment in conn.before_marker() {
        assert!(segment.end() <= limit, "beyond the window: {segment}");
    }
}

fn rfc9293_3_10_7_4_established_urgent_pointer_is_no_harm(host: &mut Host) {
    let mut conn = Conn::open(host);
    // Announced without text, then pointed at in the text: the stream stays what it is.
    conn.send(seg(ACK | URG).urgent(1));
    conn.expect_alive();
}

fn rfc9293_3_8_5_must_31_urgent_text_of_any_length(host: &mut Host) {
    let mut conn = Conn::open(host);
    // More than this segment has.
    conn.send(seg(ACK | PSH | URG).urgent(u16::MAX).data(REQUEST));
    assert_eq!(conn.response(), crate::bed::INDEX);
}

fn rfc9293_3_10_7_4_established_text_in_order_is_served(host: &mut Host) {
    let mut conn = Conn::open(host);
    conn.request("/middle", false);
    assert_eq!(conn.response(), crate::bed::content(4, crate::subjects::MIDDLE));
}

fn rfc9293_3_10_7_4_established_text_octet_by_octet_is_served(host: &mut Host) {
    let mut conn = Conn::open(host);
    for octet in REQUEST {
        conn.send(text(&[*octet]));
    }
    assert_eq!(conn.response(), crate::bed::INDEX);
}

fn rfc9293_3_10_7_4_established_text_out_of_order_is_kept(host: &mut Host) {
    let mut conn = Conn::open(host);
    conn.send(text(&REQUEST[10..]).seq(11));
    // RFC 5681 4.2: at once, as a duplicate.
    conn.expect(ACK, 1);
    conn.send(text(&REQUEST[..10]).seq(1));
    conn.snd_nxt = 1 + REQUEST.len() as u32;
    assert_eq!(conn.response(), crate::bed::INDEX);
}

fn rfc9293_3_10_7_4_established_text_overlapping_is_put_together(host: &mut Host) {
    let mut conn = Conn::open(host);
    conn.send(text(&REQUEST[5..15]).seq(6));
    conn.send(text(&REQUEST[10..]).seq(11));
    conn.send(text(&REQUEST[..12]).seq(1));
    conn.snd_nxt = 1 + REQUEST.len() as u32;
    assert_eq!(conn.response(), crate::bed::INDEX);
}

fn rfc9293_3_10_7_4_established_text_in_reverse_order_is_put_together(host: &mut Host) {
    let mut conn = Conn::open(host);
    for at in (0..REQUEST.len()).rev() {
        conn.send(text(&REQUEST[at..=at]).seq(1 + at as u32));
    }
    conn.snd_nxt = 1 + REQUEST.len() as u32;
    assert_eq!(conn.response(), crate::bed::INDEX);
}

fn rfc9293_3_10_7_4_established_text_sent_twice_is_served_once(host: &mut Host) {
    let mut conn = Conn::open(host);
    conn.send(text(REQUEST).seq(1));
    conn.send(text(REQUEST));
    assert_eq!(conn.response(), crate::bed::INDEX);
    conn.expect_no_text("a second answer");
}

fn rfc9293_3_10_7_4_established_fin_is_acknowledged(host: &mut Host) {
    let mut conn = used(host);
    conn.send(seg(FIN | ACK));
    let next = conn.snd_nxt;
    conn.wait_for("the FIN's acknowledgement", |it| it.ack == next);
}

fn rfc9293_3_10_7_4_established_fin_with_text_is_served_then_closed(host: &mut Host) {
    let mut conn = Conn::open(host);
    conn.send(seg(FIN | ACK | PSH).data(REQUEST));
    assert_eq!(conn.response(), crate::bed::INDEX);
    conn.take_fin();
    conn.send(seg(ACK));
    conn.expect_gone();
}

fn rfc9293_3_10_7_4_established_fin_out_of_order_waits_for_text(host: &mut Host) {
    let mut conn = Conn::open(host);
    let end = 1 + REQUEST.len() as u32;
    conn.send(seg(FIN | ACK).seq(end));
    let answer = conn.expect(ACK, 1);
    assert!(!answer.has(FIN));
    conn.send(text(REQUEST).seq(1));
    conn.snd_nxt = end + 1;
    conn.wait_for("text and FIN are acknowledged", |it| it.ack == end + 1);
}

fn rfc9293_3_10_7_4_established_fin_without_ack_is_dropped(host: &mut Host) {
    let mut conn = used(host);
    let next = conn.snd_nxt;
    conn.send(seg(FIN).seq(next));
    conn.expect_silence("a FIN without ACK");
    conn.expect_alive();
}

fn rfc9293_3_10_7_4_established_fin_beyond_window_is_not_taken(host: &mut Host) {
    let mut conn = used(host);
    let next = conn.snd_nxt;
    conn.send(seg(FIN | ACK).seq(next + 0x1000_0000));
    conn.expect(ACK, next);
    conn.expect_alive();
}

/// RFC 9293 3.1: reserved bits must be ignored.
fn rfc9293_3_10_7_4_established_reserved_bits_are_ignored(host: &mut Host) {
    let mut conn = Conn::open(host);
    conn.send(text(REQUEST).reserved_bits(0x0e));
    assert_eq!(conn.response(), crate::bed::INDEX);
}
