//! RFC 7323: window scale, timestamps and PAWS.

use std::time::Duration;

use crate::case::{Case, cases};
use crate::host::Host;
use crate::tcp::{ACK, Conn, MSS, Open, RST, opt, seg, text};

pub(crate) const CASES: &[Case] = cases![Both:
    rfc7323_2_2_scale_is_answered_if_it_was_offered,
    rfc7323_2_2_scale_is_not_sent_unasked,
    rfc7323_2_2_scale_in_another_segment_is_ignored,
    rfc7323_2_2_must_window_of_a_syn_is_not_scaled,
    rfc7323_2_2_window_of_later_segments_is_scaled,
    rfc7323_2_3_must_shift_above_14_is_taken_for_14,
    rfc7323_3_2_timestamps_are_answered_if_offered,
    rfc7323_3_2_timestamps_are_not_sent_unasked,
    rfc7323_3_2_must_timestamps_in_every_segment_once_agreed,
    rfc7323_3_2_timestamps_that_were_not_agreed_on_are_ignored,
    rfc7323_3_2_must_lack_of_timestamps_is_no_end,
    rfc7323_3_2_must_syn_ack_echoes_the_syn,
    rfc7323_3_2_rst_without_timestamps_is_taken,
    rfc7323_4_3_delayed_ack_echoes_the_earliest,
    rfc7323_4_3_gap_echoes_the_last_in_order,
    rfc7323_4_3_filled_gap_echoes_what_filled_it,
    rfc7323_5_3_old_timestamp_is_answered_by_ack_and_dropped,
    rfc7323_5_3_equal_timestamp_is_taken,
    rfc7323_5_3_timestamps_wrap,
    rfc7323_5_3_segment_outside_window_does_not_set_the_timestamp,
    rfc7323_5_3_rst_of_old_timestamp_is_taken,
    rfc7323_4_1_timestamp_values_do_not_go_back,
];

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n";

fn stamped(value: u32) -> Open {
    Open { timestamps: Some(value), ..Open::default() }
}

fn scaled(shift: u8, mss: u16) -> Open {
    Open { options: vec![opt::mss(mss), opt::scale(shift)], ..Open::default() }
}

fn rfc7323_2_2_scale_is_answered_if_it_was_offered(host: &mut Host) {
    let (_, syn_ack) = Conn::half_open(host, scaled(0, MSS));
    let shift = syn_ack.scale.expect("a window scale");
    assert!(shift <= 14, "{shift}");
}

fn rfc7323_2_2_scale_is_not_sent_unasked(host: &mut Host) {
    let (_, syn_ack) = Conn::half_open(host, Open::default());
    assert!(syn_ack.scale.is_none(), "{syn_ack}");
}

/// What they send into a window of this field, before we acknowledge any.
fn sent_into(conn: &mut Conn<'_>, field: u16) -> u32 {
    conn.window = field;
    conn.send(seg(ACK));
    conn.request("/big", false);
    conn.flight();
    conn.rcv_nxt - 1
}

fn rfc7323_2_2_scale_in_another_segment_is_ignored(host: &mut Host) {
    let (mut conn, _) =
        Conn::half_open(host, Open { options: vec![opt::mss(500)], ..Open::default() });
    conn.send(seg(ACK).options(&[opt::scale(4)]).window(1000));
    conn.window = 1000;
    conn.request("/big", false);
    conn.flight();
    assert_eq!(conn.rcv_nxt - 1, 1000);
}

fn rfc7323_2_2_must_window_of_a_syn_is_not_scaled(host: &mut Host) {
    let mut open = scaled(7, 500);
    open.window = 1000;
    let (mut conn, _) = Conn::half_open(host, open);
    // An ACK of the same scaled window: 1000 >> 7 is 7, which is less by rounding.
    let sent = sent_into(&mut conn, 7);
    assert!((500..=1000).contains(&sent), "{sent} octets");
}

fn rfc7323_2_2_window_of_later_segments_is_scaled(host: &mut Host) {
    let (mut conn, _) = Conn::half_open(host, scaled(10, 500));
    let sent = sent_into(&mut conn, 2);
    assert!((1500..=2048).contains(&sent), "{sent} octets into a window of 2 << 10");
}

fn rfc7323_2_3_must_shift_above_14_is_taken_for_14(host: &mut Host) {
    let (mut conn, _) = Conn::half_open(host, scaled(15, MSS));
    conn.window = 1;
    conn.send(seg(ACK));
    conn.request("/big", false);
    // Until the congestion window is no limit any more.
    while conn.rcv_nxt < 400_000 {
        conn.next_within(Duration::from_secs(5)).expect("text");
        conn.send(seg(ACK));
    }
    let acked = conn.rcv_nxt;
    conn.flight();
    let sent = conn.rcv_nxt - acked;
    assert!((5_000..=16_384).contains(&sent), "{sent} octets into a window of 1 << 14");
}

fn rfc7323_3_2_timestamps_are_answered_if_offered(host: &mut Host) {
    let (_, syn_ack) = Conn::half_open(host, stamped(7));
    assert!(syn_ack.timestamps.is_some(), "{syn_ack}");
}

fn rfc7323_3_2_timestamps_are_not_sent_unasked(host: &mut Host) {
    let (mut conn, syn_ack) = Conn::open_with(host, Open::default());
    assert!(syn_ack.timestamps.is_none(), "{syn_ack}");
    conn.request("/", false);
    for segment in conn.flight() {
        assert!(segment.timestamps.is_none(), "{segment}");
    }
}

fn rfc7323_3_2_must_timestamps_in_every_segment_once_agreed(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, stamped(7));
    conn.request("/middle", true);
    while !conn.fin_taken {
        let segment = conn.next_within(Duration::from_secs(5)).expect("text and FIN");
        assert!(segment.timestamps.is_some(), "{segment}");
        conn.send(seg(ACK));
    }
}

fn rfc7323_3_2_timestamps_that_were_not_agreed_on_are_ignored(host: &mut Host) {
    let mut conn = Conn::open(host);
    conn.send(text(REQUEST).timestamps(Some((1000, 0))));
    for segment in conn.flight() {
        assert!(segment.timestamps.is_none(), "{segment}");
    }
    // An older one: no PAWS without agreement.
    conn.send(seg(ACK).timestamps(Some((10, 0))));
    conn.expect_alive();
}

fn rfc7323_3_2_must_lack_of_timestamps_is_no_end(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, stamped(1000));
    conn.send(text(b"GET").seq(1).timestamps(None));
    for segment in conn.before_marker() {
        assert!(!segment.has(RST), "{segment}");
    }
    conn.send(text(REQUEST).seq(1));
    conn.snd_nxt = 1 + REQUEST.len() as u32;
    assert_eq!(conn.response(), crate::bed::INDEX);
}

fn rfc7323_3_2_must_syn_ack_echoes_the_syn(host: &mut Host) {
    let (_, syn_ack) = Conn::half_open(host, stamped(0x8899_aabb));
    assert_eq!(syn_ack.timestamps.unwrap().1, 0x8899_aabb);
}

fn rfc7323_3_2_rst_without_timestamps_is_taken(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, stamped(1000));
    conn.send(seg(RST).timestamps(None));
    conn.expect_gone();
}

fn rfc7323_4_3_delayed_ack_echoes_the_earliest(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, stamped(1000));
    let theirs = conn.timestamps.unwrap().1;
    conn.send(text(&REQUEST[..5]).timestamps(Some((1100, theirs))));
    conn.send(text(&REQUEST[5..10]).timestamps(Some((1200, theirs))));
    // Whichever it acknowledges, one or both: the first of them made it late.
    let ack = conn.wait_for("an ACK", |it| it.ack > 1);
    assert_eq!(ack.timestamps.unwrap().1, 1100, "{ack}");
}

fn rfc7323_4_3_gap_echoes_the_last_in_order(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, stamped(1000));
    let theirs = conn.timestamps.unwrap().1;
    conn.send(text(&REQUEST[..5]).timestamps(Some((1100, theirs))));
    conn.wait_for("an ACK", |it| it.ack == 6);
    conn.send(text(&REQUEST[10..15]).seq(11).timestamps(Some((1300, theirs))));
    let ack = conn.expect(ACK, 6);
    assert_eq!(ack.timestamps.unwrap().1, 1100, "{ack}");
}

fn rfc7323_4_3_filled_gap_echoes_what_filled_it(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, stamped(1000));
    let theirs = conn.timestamps.unwrap().1;
    conn.send(text(&REQUEST[5..10]).seq(6).timestamps(Some((1200, theirs))));
    conn.expect(ACK, 1);
    conn.send(text(&REQUEST[..5]).seq(1).timestamps(Some((1100, theirs))));
    let ack = conn.expect(ACK, 11);
    assert_eq!(ack.timestamps.unwrap().1, 1100, "{ack}");
}

fn rfc7323_5_3_old_timestamp_is_answered_by_ack_and_dropped(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, stamped(1000));
    let theirs = conn.timestamps.unwrap().1;
    conn.send(text(b"WRAPPED ").seq(1).timestamps(Some((900, theirs))));
    conn.expect(ACK, 1);
    conn.expect_alive();
}

fn rfc7323_5_3_equal_timestamp_is_taken(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, stamped(1000));
    conn.expect_alive();
    conn.expect_alive();
}

fn rfc7323_5_3_timestamps_wrap(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, stamped(u32::MAX - 5));
    conn.expect_alive();
    conn.timestamps.as_mut().unwrap().0 = 3;
    conn.expect_alive();
    let theirs = conn.timestamps.unwrap().1;
    let next = conn.snd_nxt;
    conn.send(text(b"OLD").seq(next).timestamps(Some((u32::MAX - 2, theirs))));
    conn.expect(ACK, next);
    conn.expect_alive();
}

fn rfc7323_5_3_segment_outside_window_does_not_set_the_timestamp(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, stamped(1000));
    let (next, theirs) = (conn.snd_nxt, conn.timestamps.unwrap().1);
    conn.send(text(b"far").seq(next + 0x1000_0000).timestamps(Some((500_000, theirs))));
    conn.expect(ACK, next);
    conn.expect_alive();
}

fn rfc7323_5_3_rst_of_old_timestamp_is_taken(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, stamped(1000));
    let theirs = conn.timestamps.unwrap().1;
    conn.send(seg(RST).timestamps(Some((10, theirs))));
    conn.expect_gone();
}

fn rfc7323_4_1_timestamp_values_do_not_go_back(host: &mut Host) {
    let (mut conn, syn_ack) = Conn::open_with(host, stamped(1000));
    let mut last = syn_ack.timestamps.unwrap().0;
    conn.request("/middle", false);
    while conn.rcv_nxt < crate::subjects::MIDDLE as u32 {
        let segment = conn.next_within(Duration::from_secs(5)).expect("text");
        let value = segment.timestamps.unwrap().0;
        assert!((value.wrapping_sub(last) as i32) >= 0, "{last} then {value}");
        last = value;
        conn.send(seg(ACK));
    }
}
