//! RFC 9293 3.10.7.4 in FIN-WAIT-1, FIN-WAIT-2, CLOSE-WAIT, CLOSING, LAST-ACK and TIME-WAIT, and
//! RFC 6191's way out of the last.

use std::time::Duration;

use crate::case::{Case, cases};
use crate::host::Host;
use crate::tcp::{ACK, Conn, FIN, MSS, Open, RST, SYN, opt, seg, text};

pub(crate) const CASES: &[Case] = cases![Both:
    rfc9293_3_10_7_4_fin_wait_1_fin_is_sent_again,
    rfc9293_3_10_7_4_fin_wait_1_rst_ends_it,
    rfc9293_3_10_7_4_fin_wait_1_rst_outside_window_is_dropped,
    rfc9293_3_10_7_4_fin_wait_1_syn_is_challenged,
    rfc9293_3_10_7_4_fin_wait_1_ack_of_fin_leads_to_fin_wait_2,
    rfc9293_3_10_7_4_fin_wait_1_fin_with_ack_of_fin_leads_to_time_wait,
    rfc9293_3_6_1_should_3_fin_wait_1_text_after_close_is_answered_by_rst,
    rfc9293_3_10_7_4_fin_wait_2_rst_ends_it,
    rfc9293_3_10_7_4_fin_wait_2_rst_outside_window_is_dropped,
    rfc9293_3_10_7_4_fin_wait_2_syn_is_challenged,
    rfc9293_3_10_7_4_fin_wait_2_ack_is_not_answered,
    rfc9293_3_10_7_4_fin_wait_2_fin_leads_to_time_wait,
    rfc9293_3_10_7_4_fin_wait_2_fin_out_of_window_is_not_taken,
    rfc9293_3_6_1_should_3_fin_wait_2_text_after_close_is_answered_by_rst,
    rfc9293_3_10_7_4_close_wait_text_still_flows,
    rfc9293_3_10_7_4_close_wait_rst_ends_it,
    rfc9293_3_10_7_4_close_wait_syn_is_challenged,
    rfc9293_3_10_7_4_close_wait_fin_again_is_acknowledged,
    rfc9293_3_10_7_4_close_wait_ends_with_their_fin,
    rfc9293_3_10_7_4_closing_simultaneous_close,
    rfc9293_3_10_7_4_closing_ack_of_fin_leads_to_time_wait,
    rfc9293_3_10_7_4_closing_rst_ends_it,
    rfc9293_3_10_7_4_closing_fin_again_is_acknowledged,
    rfc9293_3_10_7_4_last_ack_ack_of_fin_ends_it,
    rfc9293_3_10_7_4_last_ack_rst_ends_it,
    rfc9293_3_10_7_4_last_ack_fin_again_is_acknowledged,
    rfc9293_3_10_7_4_last_ack_fin_is_sent_again,
    rfc9293_3_10_7_4_last_ack_text_is_not_taken,
    rfc9293_3_10_7_4_time_wait_fin_again_is_acknowledged,
    rfc9293_3_10_7_4_time_wait_text_is_acknowledged_and_dropped,
    rfc9293_3_10_7_4_time_wait_old_ack_segment_is_acknowledged,
    rfc9293_3_6_1_must_time_wait_old_syn_is_not_taken,
    rfc6191_2_time_wait_newer_syn_opens_anew,
    rfc6191_2_time_wait_newer_timestamp_opens_anew,
    rfc6191_2_time_wait_older_timestamp_does_not,
    rfc1337_time_wait_old_rst_does_not_end_it,
];

/// They have closed; we have acknowledged the text, not the FIN.
fn fin_wait_1(host: &mut Host) -> Conn<'_> {
    let mut conn = Conn::open(host);
    conn.they_close();
    conn
}

fn fin_wait_2(host: &mut Host) -> Conn<'_> {
    let mut conn = fin_wait_1(host);
    conn.send(seg(ACK));
    // A FIN that was under way may come yet.
    conn.before_marker();
    conn
}

fn time_wait(host: &mut Host) -> Conn<'_> {
    time_wait_with(host, Open::default())
}

fn time_wait_with(host: &mut Host, open: Open) -> Conn<'_> {
    let (mut conn, _) = Conn::open_with(host, open);
    conn.they_close();
    conn.send(seg(ACK));
    conn.send(seg(FIN | ACK));
    let next = conn.snd_nxt;
    conn.wait_for("the acknowledgement of our FIN", |it| it.ack == next);
    conn
}

/// We have closed; they have more to send than the window lets them.
fn close_wait(host: &mut Host) -> Conn<'_> {
    let (mut conn, _) = Conn::open_with(host, Open { window: 2800, ..Open::default() });
    conn.request("/middle", false);
    conn.flight();
    conn.send(seg(FIN | ACK).ack(1));
    let next = conn.snd_nxt;
    conn.wait_for("the acknowledgement of our FIN", |it| it.ack == next);
    conn
}

/// Both have closed, neither FIN is acknowledged.
fn closing(host: &mut Host) -> Conn<'_> {
    let mut conn = fin_wait_1(host);
    let fin = conn.rcv_nxt - 1;
    conn.send(seg(FIN | ACK).ack(fin));
    let next = conn.snd_nxt;
    conn.wait_for("the acknowledgement of our FIN", |it| it.ack == next);
    conn
}

fn last_ack(host: &mut Host) -> Conn<'_> {
    let mut conn = Conn::open(host);
    conn.expect_alive();
    conn.send(seg(FIN | ACK));
    conn.take_fin();
    conn
}

fn rfc9293_3_10_7_4_fin_wait_1_fin_is_sent_again(host: &mut Host) {
    let mut conn = fin_wait_1(host);
    conn.fin_again();
    conn.fin_again();
}

fn rfc9293_3_10_7_4_fin_wait_1_rst_ends_it(host: &mut Host) {
    let mut conn = fin_wait_1(host);
    conn.send(seg(RST));
    conn.expect_gone();
}

fn rfc9293_3_10_7_4_fin_wait_1_rst_outside_window_is_dropped(host: &mut Host) {
    let mut conn = fin_wait_1(host);
    let next = conn.snd_nxt;
    conn.send(seg(RST).seq(next.wrapping_add(0x4000_0000)));
    conn.fin_again();
}

fn rfc9293_3_10_7_4_fin_wait_1_syn_is_challenged(host: &mut Host) {
    let mut conn = fin_wait_1(host);
    let next = conn.snd_nxt;
    conn.send(seg(SYN).seq(next));
    conn.wait_for("a challenge", |it| it.flags == ACK && it.ack == next && it.len() == 0);
    conn.fin_again();
}

fn rfc9293_3_10_7_4_fin_wait_1_ack_of_fin_leads_to_fin_wait_2(host: &mut Host) {
    let mut conn = fin_wait_2(host);
    // Longer than the timer that would send the FIN again.
    let more = conn.next_within(Duration::from_millis(1200));
    assert!(more.is_none(), "{}", more.unwrap());
    conn.send(seg(FIN | ACK));
    let next = conn.snd_nxt;
    conn.expect(ACK, next);
}

fn rfc9293_3_10_7_4_fin_wait_1_fin_with_ack_of_fin_leads_to_time_wait(host: &mut Host) {
    let mut conn = fin_wait_1(host);
    conn.send(seg(FIN | ACK));
    let next = conn.snd_nxt;
    conn.wait_for("an ACK", |it| it.flags == ACK && it.ack == next);
    let more = conn.next_within(Duration::from_millis(1200));
    assert!(more.is_none(), "{}", more.unwrap());
}

/// Nobody is there who would read it, and the peer is to know.
fn rfc9293_3_6_1_should_3_fin_wait_1_text_after_close_is_answered_by_rst(host: &mut Host) {
    let mut conn = fin_wait_1(host);
    let theirs = conn.rcv_nxt;
    conn.send(text(b"more").ack(theirs - 1));
    conn.wait_for("a reset", |it| it.has(RST));
}

fn rfc9293_3_10_7_4_fin_wait_2_rst_ends_it(host: &mut Host) {
    let mut conn = fin_wait_2(host);
    conn.send(seg(RST));
    conn.expect_gone();
}

fn rfc9293_3_10_7_4_fin_wait_2_rst_outside_window_is_dropped(host: &mut Host) {
    let mut conn = fin_wait_2(host);
    let next = conn.snd_nxt;
    conn.send(seg(RST).seq(next.wrapping_add(0x4000_0000)));
    conn.send(seg(FIN | ACK));
    conn.expect(ACK, next + 1);
}

fn rfc9293_3_10_7_4_fin_wait_2_syn_is_challenged(host: &mut Host) {
    let mut conn = fin_wait_2(host);
    let next = conn.snd_nxt;
    // An old one: a new one may be taken for a new connection.
    conn.send(seg(SYN).seq(0));
    conn.expect(ACK, next);
}

fn rfc9293_3_10_7_4_fin_wait_2_ack_is_not_answered(host: &mut Host) {
    let mut conn = fin_wait_2(host);
    conn.send(seg(ACK));
    conn.expect_silence("an ACK in FIN-WAIT-2");
}

fn rfc9293_3_10_7_4_fin_wait_2_fin_leads_to_time_wait(host: &mut Host) {
    let mut conn = fin_wait_2(host);
    conn.send(seg(FIN | ACK));
    let next = conn.snd_nxt;
    conn.expect(ACK, next);
    // TIME-WAIT: it comes again, and is acknowledged again.
    conn.send(seg(FIN | ACK).seq(next - 1));
    conn.expect(ACK, next);
}

fn rfc9293_3_10_7_4_fin_wait_2_fin_out_of_window_is_not_taken(host: &mut Host) {
    let mut conn = fin_wait_2(host);
    let next = conn.snd_nxt;
    conn.send(seg(FIN | ACK).seq(next.wrapping_add(0x1000_0000)));
    conn.expect(ACK, next);
    conn.send(seg(FIN | ACK));
    conn.expect(ACK, next + 1);
}

fn rfc9293_3_6_1_should_3_fin_wait_2_text_after_close_is_answered_by_rst(host: &mut Host) {
    let mut conn = fin_wait_2(host);
    conn.send(text(b"more"));
    conn.expect_reset();
    conn.expect_gone();
}

fn rfc9293_3_10_7_4_close_wait_text_still_flows(host: &mut Host) {
    let mut conn = close_wait(host);
    conn.window = 65_535;
    conn.send(seg(ACK));
    // Head and body, and no reset on the way.
    let len = crate::subjects::MIDDLE as u32;
    while conn.rcv_nxt <= len {
        let segment = conn.next_within(Duration::from_secs(5)).expect("the rest of the file");
        assert!(!segment.has(RST), "{segment}");
        conn.send(seg(ACK));
    }
}

fn rfc9293_3_10_7_4_close_wait_rst_ends_it(host: &mut Host) {
    let mut conn = close_wait(host);
    conn.send(seg(RST));
    conn.expect_gone();
}

fn rfc9293_3_10_7_4_close_wait_syn_is_challenged(host: &mut Host) {
    let mut conn = close_wait(host);
    let next = conn.snd_nxt;
    conn.send(seg(SYN).seq(next));
    conn.wait_for("a challenge", |it| it.flags == ACK && it.ack == next && it.len() == 0);
}

fn rfc9293_3_10_7_4_close_wait_fin_again_is_acknowledged(host: &mut Host) {
    let mut conn = close_wait(host);
    let next = conn.snd_nxt;
    conn.send(seg(FIN | ACK).seq(next - 1).ack(1));
    conn.wait_for("an ACK", |it| it.has(ACK) && it.ack == next && it.len() == 0);
}

fn rfc9293_3_10_7_4_close_wait_ends_with_their_fin(host: &mut Host) {
    let mut conn = close_wait(host);
    conn.window = 65_535;
    conn.send(seg(ACK));
    loop {
        let segment = conn.next_within(Duration::from_secs(5)).expect("text, then a FIN");
        if segment.end() == conn.rcv_nxt && segment.has(FIN) {
            break;
        }
        conn.send(seg(ACK));
    }
    conn.send(seg(ACK));
    conn.expect_gone();
}

/// RFC 9293 3.6, figure 13.
fn rfc9293_3_10_7_4_closing_simultaneous_close(host: &mut Host) {
    let mut conn = closing(host);
    // Their FIN is not acknowledged: they send it again.
    conn.fin_again();
}

fn rfc9293_3_10_7_4_closing_ack_of_fin_leads_to_time_wait(host: &mut Host) {
    let mut conn = closing(host);
    conn.send(seg(ACK));
    conn.before_marker();
    let more = conn.next_within(Duration::from_millis(1200));
    assert!(more.is_none(), "{}", more.unwrap());
    let next = conn.snd_nxt;
    conn.send(seg(FIN | ACK).seq(next - 1));
    conn.expect(ACK, next);
}

fn rfc9293_3_10_7_4_closing_rst_ends_it(host: &mut Host) {
    let mut conn = closing(host);
    conn.send(seg(RST));
    conn.expect_gone();
}

fn rfc9293_3_10_7_4_closing_fin_again_is_acknowledged(host: &mut Host) {
    let mut conn = closing(host);
    let (next, theirs) = (conn.snd_nxt, conn.rcv_nxt);
    conn.send(seg(FIN | ACK).seq(next - 1).ack(theirs - 1));
    conn.wait_for("an ACK", |it| it.flags == ACK && it.ack == next);
}

fn rfc9293_3_10_7_4_last_ack_ack_of_fin_ends_it(host: &mut Host) {
    let mut conn = last_ack(host);
    conn.send(seg(ACK));
    conn.expect_gone();
}

fn rfc9293_3_10_7_4_last_ack_rst_ends_it(host: &mut Host) {
    let mut conn = last_ack(host);
    conn.send(seg(RST));
    conn.expect_gone();
}

fn rfc9293_3_10_7_4_last_ack_fin_again_is_acknowledged(host: &mut Host) {
    let mut conn = last_ack(host);
    let (next, theirs) = (conn.snd_nxt, conn.rcv_nxt);
    conn.send(seg(FIN | ACK).seq(next - 1).ack(theirs - 1));
    conn.wait_for("an ACK", |it| it.flags == ACK && it.ack == next);
}

fn rfc9293_3_10_7_4_last_ack_fin_is_sent_again(host: &mut Host) {
    let mut conn = last_ack(host);
    conn.fin_again();
    conn.send(seg(ACK));
    conn.expect_gone();
}

fn rfc9293_3_10_7_4_last_ack_text_is_not_taken(host: &mut Host) {
    let mut conn = last_ack(host);
    let (next, theirs) = (conn.snd_nxt, conn.rcv_nxt);
    conn.send(text(b"behind the FIN").ack(theirs - 1));
    for segment in conn.before_marker() {
        assert!(segment.has(RST) || segment.ack == next, "{segment}");
    }
}

fn rfc9293_3_10_7_4_time_wait_fin_again_is_acknowledged(host: &mut Host) {
    let mut conn = time_wait(host);
    let next = conn.snd_nxt;
    conn.send(seg(FIN | ACK).seq(next - 1));
    let answer = conn.expect(ACK, next);
    assert_eq!(answer.seq, conn.rcv_nxt);
}

fn rfc9293_3_10_7_4_time_wait_text_is_acknowledged_and_dropped(host: &mut Host) {
    let mut conn = time_wait(host);
    let next = conn.snd_nxt;
    conn.send(text(b"late").seq(next - 5));
    conn.expect(ACK, next);
}

fn rfc9293_3_10_7_4_time_wait_old_ack_segment_is_acknowledged(host: &mut Host) {
    let mut conn = time_wait(host);
    let next = conn.snd_nxt;
    conn.send(seg(ACK).seq(next - 2));
    conn.expect(ACK, next);
}

/// RFC 9293 3.6.1: a SYN may open anew only where its number is beyond the old ones.
fn rfc9293_3_6_1_must_time_wait_old_syn_is_not_taken(host: &mut Host) {
    let mut conn = time_wait(host);
    let next = conn.snd_nxt;
    conn.send(seg(SYN).seq(0));
    let answer = conn.expect(ACK, next);
    assert_eq!(answer.len(), 0);
}

fn rfc6191_2_time_wait_newer_syn_opens_anew(host: &mut Host) {
    let mut conn = time_wait(host);
    let last = conn.irs.wrapping_add(conn.rcv_nxt);
    conn.iss = conn.iss.wrapping_add(conn.snd_nxt + 1000);
    (conn.irs, conn.snd_nxt, conn.rcv_nxt) = (0, 0, 0);
    conn.send(seg(SYN).options(&[opt::mss(MSS)]));
    conn.syn_ack();
    assert!((conn.irs.wrapping_sub(last) as i32) > 0, "beyond the numbers of the old one");
    conn.send(seg(ACK));
    conn.expect_alive();
}

fn stamped() -> Open {
    Open { timestamps: Some(1000), ..Open::default() }
}

/// RFC 6191 2: a timestamp that is newer is enough, whatever the number.
fn rfc6191_2_time_wait_newer_timestamp_opens_anew(host: &mut Host) {
    let mut conn = time_wait_with(host, stamped());
    // Older than what was received, by its number.
    conn.iss = conn.iss.wrapping_sub(50_000);
    (conn.irs, conn.snd_nxt, conn.rcv_nxt) = (0, 0, 0);
    conn.send(seg(SYN).options(&[opt::mss(MSS), opt::timestamps(5000, 0)]));
    conn.timestamps = Some((5000, conn.syn_ack().timestamps.expect("timestamps").0));
    conn.send(seg(ACK));
    conn.expect_alive();
}

fn rfc6191_2_time_wait_older_timestamp_does_not(host: &mut Host) {
    let mut conn = time_wait_with(host, stamped());
    let next = conn.snd_nxt;
    conn.send(seg(SYN).seq(next + 1000).options(&[opt::timestamps(500, 0)]));
    let answer = conn.expect(ACK, next);
    assert!(!answer.has(SYN));
}

/// RFC 1337 3: the assassination of TIME-WAIT by an old duplicate.
fn rfc1337_time_wait_old_rst_does_not_end_it(host: &mut Host) {
    let mut conn = time_wait(host);
    let next = conn.snd_nxt;
    conn.send(seg(RST).seq(next - 3));
    conn.send(seg(FIN | ACK).seq(next - 1));
    conn.expect(ACK, next);
}
