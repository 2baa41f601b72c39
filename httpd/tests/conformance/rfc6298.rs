//! When text is sent again: RFC 6298, RFC 8985; and what RFC 3168 and RFC 7413 negotiate.

use std::time::{Duration, Instant};

use crate::case::{Case, cases};
use crate::host::Host;
use crate::tcp::{ACK, CWR, Conn, ECE, FIN, MSS, Open, SYN, opt, seg, text};

pub(crate) const CASES: &[Case] = cases![Both:
    rfc6298_5_4_earliest_segment_is_sent_again,
    rfc6298_5_5_timeouts_double,
    rfc6298_2_4_not_before_a_floor,
    rfc6298_5_7_fin_is_sent_again_with_back_off,
    rfc8985_7_tail_loss_is_probed,
    rfc7413_2_no_cookie_by_default,
    rfc7413_2_text_of_a_syn_is_not_taken_without_cookie,
    rfc3168_6_1_1_ecn_is_agreed_on_if_asked,
    rfc3168_6_1_2_must_text_is_capable_once_agreed,
    rfc3168_6_1_3_must_mark_is_echoed_until_cwr,
    rfc3168_6_1_2_must_echo_is_answered_by_cwr,
    rfc3168_6_1_1_no_ecn_unasked,
    rfc3168_6_1_2_marks_without_agreement_mean_nothing,
    rfc3168_6_1_1_syn_with_ece_alone_gets_no_ecn,
];

/// A response that is not acknowledged.
fn unacknowledged(host: &mut Host) -> (Conn<'_>, Instant) {
    let mut conn = Conn::open(host);
    conn.request("/", false);
    let flight = conn.flight();
    (conn, flight.last().unwrap().at)
}

fn rfc6298_5_4_earliest_segment_is_sent_again(host: &mut Host) {
    let (mut conn, _) = unacknowledged(host);
    let again = conn.wait_for("the text again", |it| !it.data.is_empty());
    assert!(again.seq == 1 || again.end() == conn.rcv_nxt, "{again}");
    conn.wait_for("the earliest", |it| it.seq == 1);
}

/// The times at which the earliest text came again.
fn repetitions(conn: &mut Conn<'_>, count: usize) -> Vec<Instant> {
    let mut times = Vec::new();
    while times.len() < count {
        times.push(conn.wait_for("the text again", |it| it.seq == 1).at);
    }
    times
}

fn rfc6298_5_5_timeouts_double(host: &mut Host) {
    let (mut conn, _) = unacknowledged(host);
    // The first may be a probe for the tail.
    let times = repetitions(&mut conn, 5);
    let gaps: Vec<Duration> = times.windows(2).skip(1).map(|two| two[1] - two[0]).collect();
    for two in gaps.windows(2) {
        assert!(two[1] > two[0].mul_f64(1.5) && two[1] < two[0].mul_f64(3.0), "{gaps:?}");
    }
}

fn rfc6298_2_4_not_before_a_floor(host: &mut Host) {
    let (mut conn, sent) = unacknowledged(host);
    let first = repetitions(&mut conn, 1)[0].duration_since(sent);
    assert!(first > Duration::from_millis(100) && first < Duration::from_secs(2), "{first:?}");
}

fn rfc6298_5_7_fin_is_sent_again_with_back_off(host: &mut Host) {
    let mut conn = Conn::open(host);
    conn.they_close();
    let end = conn.rcv_nxt;
    let mut times = Vec::new();
    for _ in 0..5 {
        times.push(conn.wait_for("the FIN again", |it| it.has(FIN) && it.end() == end).at);
    }
    let gaps: Vec<Duration> = times.windows(2).skip(1).map(|two| two[1] - two[0]).collect();
    assert!(gaps[1] > gaps[0].mul_f64(1.5) && gaps[2] > gaps[1].mul_f64(1.5), "{gaps:?}");
}

/// Nothing of a flight is acknowledged: its end is sent again after about two round trips, not
/// after a timeout of 200 ms or more.
fn rfc8985_7_tail_loss_is_probed(host: &mut Host) {
    let options = vec![opt::mss(MSS), opt::sack_permitted()];
    let (mut conn, _) = Conn::open_with(host, Open { options, ..Open::default() });
    conn.expect_alive();
    let begin = conn.rcv_nxt;
    conn.request("/middle", false);
    let flight = conn.flight();
    let (last, sent) = (flight.last().unwrap().end(), flight.last().unwrap().at);
    let probe = conn.wait_for("a probe", |it| !it.data.is_empty() && it.seq >= begin);
    assert!(probe.end() >= last, "the tail, or more: {probe}");
    let after = probe.at.duration_since(sent);
    assert!(after < Duration::from_millis(190), "{after:?}");
}

fn rfc7413_2_no_cookie_by_default(host: &mut Host) {
    let options = vec![opt::mss(MSS), vec![34, 2, 1, 1]];
    let (mut conn, syn_ack) = Conn::open_with(host, Open { options, ..Open::default() });
    assert_eq!(syn_ack.kinds, [2], "{syn_ack}");
    conn.expect_alive();
}

fn rfc7413_2_text_of_a_syn_is_not_taken_without_cookie(host: &mut Host) {
    let request = b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n";
    let mut conn = Conn::closed(host, 80);
    let options = [opt::mss(MSS), vec![34, 10, 1, 2, 3, 4, 5, 6, 7, 8]];
    conn.send(seg(SYN).seq(0).options(&options).data(request));
    conn.snd_nxt = 1;
    let syn_ack = conn.syn_ack();
    assert_eq!(syn_ack.ack, 1, "{syn_ack}");
    conn.send(seg(ACK));
    conn.expect_no_text("text of a SYN");
    conn.send(text(request));
    assert_eq!(conn.response(), crate::bed::INDEX);
}

fn capable() -> Open {
    Open { flags: SYN | ECE | CWR, ..Open::default() }
}

fn rfc3168_6_1_1_ecn_is_agreed_on_if_asked(host: &mut Host) {
    let (_, syn_ack) = Conn::half_open(host, capable());
    assert!(syn_ack.has(ECE) && !syn_ack.has(CWR), "{syn_ack}");
    assert_eq!(syn_ack.traffic_class & 3, 0, "a SYN-ACK itself is not capable");
}

fn rfc3168_6_1_2_must_text_is_capable_once_agreed(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, capable());
    conn.request("/middle", false);
    for segment in conn.flight() {
        assert_eq!(segment.traffic_class & 3, 2, "ECT(0): {segment}");
    }
}

fn rfc3168_6_1_3_must_mark_is_echoed_until_cwr(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, capable());
    let pieces = [&b"GET / HT"[..], b"TP/1.1\r\nHost: ", b"lab\r\nAccept: a\r\n"];
    conn.send(text(pieces[0]).traffic_class(3));
    let next = conn.snd_nxt;
    let echo = conn.wait_for("an ACK", |it| it.ack == next);
    assert!(echo.has(ECE), "{echo}");
    conn.send(text(pieces[1]).traffic_class(2));
    let next = conn.snd_nxt;
    let echo = conn.wait_for("an ACK", |it| it.ack == next);
    assert!(echo.has(ECE), "until CWR comes: {echo}");
    conn.send(seg(ACK | CWR).data(pieces[2]).traffic_class(2));
    let next = conn.snd_nxt;
    let ack = conn.wait_for("an ACK", |it| it.ack == next);
    assert!(!ack.has(ECE), "{ack}");
}

fn rfc3168_6_1_2_must_echo_is_answered_by_cwr(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, capable());
    conn.request("/big", false);
    let end = conn.flight().last().unwrap().end();
    conn.send(seg(ACK | ECE).ack(end));
    conn.wait_for("CWR with new text", |it| it.has(CWR) && it.seq >= end);
}

fn rfc3168_6_1_1_no_ecn_unasked(host: &mut Host) {
    let (mut conn, syn_ack) = Conn::open_with(host, Open::default());
    assert!(!syn_ack.has(ECE) && !syn_ack.has(CWR), "{syn_ack}");
    conn.request("/middle", false);
    for segment in conn.flight() {
        assert_eq!((segment.traffic_class & 3, segment.flags & (ECE | CWR)), (0, 0), "{segment}");
    }
}

fn rfc3168_6_1_2_marks_without_agreement_mean_nothing(host: &mut Host) {
    let mut conn = Conn::open(host);
    conn.send(text(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n").traffic_class(3));
    let flight = conn.flight();
    assert!(flight.iter().all(|it| !it.has(ECE)), "{}", flight[0]);
    conn.send(seg(ACK | ECE));
    conn.expect_alive();
}

fn rfc3168_6_1_1_syn_with_ece_alone_gets_no_ecn(host: &mut Host) {
    let (_, syn_ack) = Conn::half_open(host, Open { flags: SYN | ECE, ..Open::default() });
    assert!(!syn_ack.has(ECE), "{syn_ack}");
}
