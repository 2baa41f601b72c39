//! The numbered requirements of RFC 9293 outside of 3.10: checksum, options, MSS, windows,
//! acknowledgements.

use std::time::{Duration, Instant};

use crate::case::{Case, cases};
use crate::host::{Family, Host};
use crate::tcp::{ACK, Conn, FIN, HTTP, MSS, Open, RST, SYN, opt, seg, text};

pub(crate) const CASES: &[Case] = cases![Both:
    rfc9293_3_1_must_2_checksums_of_every_length_are_right,
    rfc9293_3_1_must_3_syn_of_wrong_checksum_is_dropped,
    rfc9293_3_1_must_3_text_of_wrong_checksum_is_dropped,
    rfc9293_3_1_must_3_rst_of_wrong_checksum_is_dropped,
    rfc9293_3_1_short_data_offset_is_dropped,
    rfc9293_3_1_data_offset_beyond_the_segment_is_dropped,
    rfc9293_3_2_must_5_options_in_any_segment,
    rfc9293_3_2_must_6_unknown_options_are_ignored,
    rfc9293_3_2_must_7_option_of_length_zero,
    rfc9293_3_2_must_7_option_beyond_the_header,
    rfc9293_3_2_must_7_mss_of_wrong_length_is_ignored,
    rfc9293_3_2_must_64_options_of_any_alignment,
    rfc9293_3_2_end_of_options_ends_them,
    rfc9293_3_7_1_must_14_syn_ack_has_an_mss,
    rfc9293_3_7_1_must_67_mss_is_what_the_mtu_lets_in,
    rfc9293_3_7_1_must_15_without_mss_the_default,
    rfc9293_3_7_1_must_16_no_segment_beyond_the_mss,
    rfc9293_3_7_1_must_16_options_count_against_the_mss,
    rfc9293_3_7_1_must_65_mss_in_no_other_segment,
    rfc9293_3_8_6_must_1_window_is_unsigned,
    rfc9293_3_8_6_must_34_window_that_shrinks,
    rfc9293_3_8_6_1_must_36_zero_window_is_probed,
    rfc9293_3_8_6_1_should_30_probes_back_off,
    rfc9293_3_8_6_1_must_37_zero_window_with_answers_keeps_the_connection,
    rfc9293_3_8_6_1_must_66_rst_with_zero_window_ends_it,
    rfc9293_3_8_6_2_1_must_38_small_window_waits_for_more,
    rfc9293_3_8_6_3_must_40_ack_within_half_a_second,
    rfc9293_3_8_6_3_should_19_every_second_full_segment_is_acknowledged,
    rfc9293_3_8_6_3_must_59_ack_after_all_that_was_queued,
    rfc9293_3_7_4_should_7_last_small_segment_is_not_held_forever,
    rfc9293_3_6_must_half_close_their_side_stays_open,
];

fn rfc9293_3_1_must_2_checksums_of_every_length_are_right(host: &mut Host) {
    // Each segment's is checked where it is read; an odd MSS makes odd segments.
    let (mut conn, _) =
        Conn::open_with(host, Open { options: vec![opt::mss(777)], ..Open::default() });
    conn.request("/middle", false);
    assert_eq!(conn.response().len(), crate::subjects::MIDDLE);
}

fn rfc9293_3_1_must_3_syn_of_wrong_checksum_is_dropped(host: &mut Host) {
    let mut conn = Conn::closed(host, HTTP);
    conn.send(seg(SYN).wrong_checksum());
    conn.expect_silence("a SYN of wrong checksum");
    conn.ports.1 = 81;
    conn.send(seg(SYN).wrong_checksum());
    conn.expect_silence("a SYN of wrong checksum to a closed port");
}

fn rfc9293_3_1_must_3_text_of_wrong_checksum_is_dropped(host: &mut Host) {
    let mut conn = Conn::open(host);
    conn.send(text(b"damaged").seq(1).wrong_checksum());
    conn.expect_silence("text of wrong checksum");
    conn.expect_alive();
}

fn rfc9293_3_1_must_3_rst_of_wrong_checksum_is_dropped(host: &mut Host) {
    let mut conn = Conn::open(host);
    conn.send(seg(RST).wrong_checksum());
    conn.expect_alive();
}

/// Sends a SYN with another data offset, in words.
fn syn_with_offset(conn: &mut Conn<'_>, words: u8) {
    let mut octets = conn.octets(&seg(SYN));
    octets[12] = words << 4;
    let (own, theirs) = (conn.host.own(), conn.host.theirs());
    let octets = crate::ip::with_checksum(6, own, theirs, octets, 16);
    conn.host.send_ip(6, &octets);
}

fn rfc9293_3_1_short_data_offset_is_dropped(host: &mut Host) {
    let mut conn = Conn::closed(host, HTTP);
    for words in 0..5 {
        syn_with_offset(&mut conn, words);
    }
    conn.expect_silence("a header shorter than a header");
}

fn rfc9293_3_1_data_offset_beyond_the_segment_is_dropped(host: &mut Host) {
    let mut conn = Conn::closed(host, HTTP);
    for words in [6, 15] {
        syn_with_offset(&mut conn, words);
    }
    conn.expect_silence("a header longer than the segment");
}

fn rfc9293_3_2_must_5_options_in_any_segment(host: &mut Host) {
    let mut conn = Conn::open(host);
    conn.send(seg(ACK).options(&[opt::mss(500), vec![1, 1, 1, 254, 4, 0xf9, 0x89]]));
    conn.send(
        text(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n").options(&[opt::timestamps(1, 2), vec![1; 8]]),
    );
    assert_eq!(conn.response(), crate::bed::INDEX);
}

fn rfc9293_3_2_must_6_unknown_options_are_ignored(host: &mut Host) {
    let options =
        vec![vec![77, 6, 1, 2, 3, 4], vec![253, 2], vec![254, 4, 0xf9, 0x89], opt::mss(MSS)];
    let (mut conn, syn_ack) = Conn::open_with(host, Open { options, ..Open::default() });
    assert_eq!(syn_ack.kinds, [2], "{syn_ack}");
    conn.expect_alive();
}

fn rfc9293_3_2_must_7_option_of_length_zero(host: &mut Host) {
    for length in [0, 1] {
        let options = vec![opt::mss(MSS), vec![77, length, 1, 1]];
        let (mut conn, _) = Conn::open_with(host, Open { options, ..Open::default() });
        conn.expect_alive();
    }
}

fn rfc9293_3_2_must_7_option_beyond_the_header(host: &mut Host) {
    let options = vec![opt::mss(MSS), vec![8, 10, 1, 1]];
    let (mut conn, syn_ack) = Conn::open_with(host, Open { options, ..Open::default() });
    assert!(syn_ack.timestamps.is_none(), "{syn_ack}");
    conn.expect_alive();
}

fn rfc9293_3_2_must_7_mss_of_wrong_length_is_ignored(host: &mut Host) {
    let options = vec![vec![2, 6, 0, 1, 0, 1]];
    let (mut conn, _) = Conn::open_with(host, Open { options, ..Open::default() });
    conn.request("/middle", false);
    let flight = conn.flight();
    assert!(flight[0].data.len() > 100, "an MSS of one was believed: {}", flight[0]);
}

fn rfc9293_3_2_must_64_options_of_any_alignment(host: &mut Host) {
    let mut stamps = opt::timestamps(0x0102_0304, 0);
    stamps.drain(..2);
    // The timestamps begin at an odd octet.
    let options = vec![vec![1], stamps, opt::mss(700), vec![3, 3, 2], vec![4, 2]];
    let (_, syn_ack) = Conn::half_open(host, Open { options, ..Open::default() });
    assert_eq!(syn_ack.timestamps.map(|it| it.1), Some(0x0102_0304), "{syn_ack}");
    assert!(syn_ack.scale.is_some(), "{syn_ack}");
}

fn rfc9293_3_2_end_of_options_ends_them(host: &mut Host) {
    let options = vec![opt::mss(MSS), vec![0, 3, 3, 7]];
    let (_, syn_ack) = Conn::half_open(host, Open { options, ..Open::default() });
    assert!(syn_ack.scale.is_none(), "an option behind the end of options: {syn_ack}");
}

fn rfc9293_3_7_1_must_14_syn_ack_has_an_mss(host: &mut Host) {
    let (_, syn_ack) = Conn::half_open(host, Open { options: Vec::new(), ..Open::default() });
    assert!(syn_ack.mss.is_some(), "{syn_ack}");
}

fn rfc9293_3_7_1_must_67_mss_is_what_the_mtu_lets_in(host: &mut Host) {
    let headers = if host.family == Family::V4 { 40 } else { 60 };
    let (_, syn_ack) = Conn::half_open(host, Open::default());
    assert_eq!(syn_ack.mss, Some(1500 - headers), "{syn_ack}");
}

fn rfc9293_3_7_1_must_15_without_mss_the_default(host: &mut Host) {
    let default = if host.family == Family::V4 { 536 } else { 1220 };
    let (mut conn, _) = Conn::open_with(host, Open { options: Vec::new(), ..Open::default() });
    conn.request("/middle", false);
    let flight = conn.flight();
    let longest = flight.iter().map(|it| it.data.len()).max().unwrap();
    assert!(longest <= default && longest >= default - 12, "{longest} octets");
}

fn rfc9293_3_7_1_must_16_no_segment_beyond_the_mss(host: &mut Host) {
    let (mut conn, _) =
        Conn::open_with(host, Open { options: vec![opt::mss(700)], ..Open::default() });
    conn.request("/middle", false);
    let longest = conn.flight().iter().map(|it| it.data.len()).max().unwrap();
    assert_eq!(longest, 700);
}

fn rfc9293_3_7_1_must_16_options_count_against_the_mss(host: &mut Host) {
    let open = Open { options: vec![opt::mss(700)], timestamps: Some(1), ..Open::default() };
    let (mut conn, _) = Conn::open_with(host, open);
    conn.request("/middle", false);
    let longest = conn.flight().iter().map(|it| it.data.len()).max().unwrap();
    assert_eq!(longest, 688, "twelve octets are for the timestamps");
}

fn rfc9293_3_7_1_must_65_mss_in_no_other_segment(host: &mut Host) {
    let mut conn = Conn::open(host);
    conn.request("/middle", false);
    for segment in conn.flight() {
        assert!(segment.mss.is_none(), "{segment}");
    }
}

fn rfc9293_3_8_6_must_1_window_is_unsigned(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, Open { window: 0xfff0, ..Open::default() });
    conn.request("/middle", false);
    assert_eq!(conn.response().len(), crate::subjects::MIDDLE);
}

fn rfc9293_3_8_6_must_34_window_that_shrinks(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, Open { window: 5000, ..Open::default() });
    conn.request("/middle", false);
    let flight = conn.flight();
    let (first, sent) = (flight[0].end(), flight.last().unwrap().end());
    assert!(sent > first, "{sent}");
    // The first segment is here, and for the others there is no room any more.
    conn.send(seg(ACK).ack(first).window(0));
    conn.expect_no_text("new text into a window that has shrunk");
    conn.window = 65_535;
    conn.send(seg(ACK).ack(first));
    conn.wait_for("text beyond", |it| it.end() > sent);
}

/// The other end has text for us and no window.
fn stuck(host: &mut Host) -> (Conn<'_>, u32) {
    let (mut conn, _) = Conn::open_with(host, Open { window: 1400, ..Open::default() });
    conn.request("/middle", false);
    conn.flight();
    let edge = conn.rcv_nxt;
    conn.window = 0;
    conn.send(seg(ACK));
    (conn, edge)
}

fn rfc9293_3_8_6_1_must_36_zero_window_is_probed(host: &mut Host) {
    let (mut conn, edge) = stuck(host);
    let probe = conn.next_within(Duration::from_secs(5)).expect("a probe");
    assert!(probe.data.len() <= 1, "{probe}");
    conn.window = 65_535;
    conn.send(seg(ACK).ack(edge));
    conn.wait_for("text", |it| it.data.len() > 1);
}

fn rfc9293_3_8_6_1_should_30_probes_back_off(host: &mut Host) {
    let (mut conn, edge) = stuck(host);
    let mut times = Vec::new();
    while times.len() < 4 {
        let probe = conn.next_within(Duration::from_secs(8)).expect("a probe");
        times.push(probe.at);
        conn.send(seg(ACK).ack(edge));
    }
    let gaps: Vec<Duration> = times.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(gaps[1] > gaps[0].mul_f64(1.4) && gaps[2] > gaps[1].mul_f64(1.4), "{gaps:?}");
}

fn rfc9293_3_8_6_1_must_37_zero_window_with_answers_keeps_the_connection(host: &mut Host) {
    let (mut conn, edge) = stuck(host);
    for _ in 0..3 {
        let probe = conn.next_within(Duration::from_secs(5)).expect("a probe");
        assert!(!probe.has(RST) && !probe.has(FIN), "{probe}");
        conn.send(seg(ACK).ack(edge));
    }
    conn.window = 65_535;
    conn.rcv_nxt = edge;
    conn.send(seg(ACK));
    conn.wait_for("text", |it| it.data.len() > 1);
}

/// Their window: they have read no request since they cannot write, and more text has filled it.
fn rfc9293_3_8_6_1_must_66_rst_with_zero_window_ends_it(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, Open { window: 1400, ..Open::default() });
    conn.request("/big", false);
    conn.flight();
    conn.window = 0;
    let mut window = 1;
    let pipelined = b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n".repeat(48);
    for _ in 0..1000 {
        let next = conn.snd_nxt;
        conn.send(text(&pipelined));
        let sent = conn.snd_nxt;
        let answer = conn.wait_for("an acknowledgement", |it| it.ack > next || it.window == 0);
        window = answer.window;
        if answer.ack < sent {
            conn.snd_nxt = answer.ack;
        }
        if window == 0 {
            break;
        }
    }
    assert_eq!(window, 0, "the window never closes");
    conn.send(seg(RST));
    conn.expect_gone();
}

fn rfc9293_3_8_6_2_1_must_38_small_window_waits_for_more(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, Open { window: 14_000, ..Open::default() });
    conn.request("/big", false);
    conn.flight();
    // Ten octets of room: not worth a segment.
    conn.send(seg(ACK).window(10));
    conn.expect_no_text("a silly window");
    conn.send(seg(ACK).window(1400));
    let segment = conn.wait_for("a full segment", |it| it.data.len() > 1);
    assert!(segment.data.len() >= 1400, "{segment}");
}

fn rfc9293_3_8_6_3_must_40_ack_within_half_a_second(host: &mut Host) {
    let mut conn = Conn::open(host);
    conn.expect_alive();
    for piece in [&b"GET"[..], b" / HT", b"TP/1"] {
        let sent = Instant::now();
        conn.send(text(piece));
        let next = conn.snd_nxt;
        conn.wait_for("an ACK", |it| it.ack == next);
        // The clause's half second, and a machine that is busy.
        assert!(sent.elapsed() < Duration::from_millis(700), "{:?}", sent.elapsed());
    }
}

/// A request that is longer than two segments.
fn long_request() -> Vec<u8> {
    let filler = "x".repeat(4000);
    format!("GET / HTTP/1.1\r\nHost: lab\r\nX-Filler: {filler}\r\n\r\n").into_bytes()
}

fn rfc9293_3_8_6_3_should_19_every_second_full_segment_is_acknowledged(host: &mut Host) {
    let mut conn = Conn::open(host);
    let request = long_request();
    conn.send(text(&request[..1400]));
    conn.send(text(&request[1400..2800]));
    let next = conn.snd_nxt;
    let started = Instant::now();
    conn.wait_for("an ACK of both", |it| it.ack == next);
    assert!(started.elapsed() < Duration::from_millis(150), "{:?}", started.elapsed());
}

fn rfc9293_3_8_6_3_must_59_ack_after_all_that_was_queued(host: &mut Host) {
    let mut conn = Conn::open(host);
    let request = long_request();
    conn.send(text(&request[1000..2000]).seq(1001));
    conn.send(text(&request[2000..3000]).seq(2001));
    conn.before_marker();
    conn.send(text(&request[..1000]).seq(1));
    // Not of 1001: what was queued is processed before the acknowledgement is made.
    conn.expect(ACK, 3001);
}

/// Nagle's algorithm, if any, may not hold the end of a response until what is before it is
/// acknowledged and then some: the response comes though no ACK is sent.
fn rfc9293_3_7_4_should_7_last_small_segment_is_not_held_forever(host: &mut Host) {
    let mut conn = Conn::open(host);
    conn.request("/", false);
    let mut text = Vec::new();
    while !text.ends_with(crate::bed::INDEX) {
        let segment = conn.next_within(Duration::from_secs(5)).expect("the rest of the response");
        if segment.end() == conn.rcv_nxt {
            text.extend(segment.data);
        }
    }
}

fn rfc9293_3_6_must_half_close_their_side_stays_open(host: &mut Host) {
    let mut conn = Conn::open(host);
    conn.send(text(b"GET /middle HTTP/1.1\r\nHost: lab\r\n\r\n"));
    conn.send(seg(FIN | ACK));
    assert_eq!(conn.response().len(), crate::subjects::MIDDLE);
    conn.take_fin();
}
