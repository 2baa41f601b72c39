//! RFC 2018 and 2883: selective acknowledgements, made and honoured; RFC 5681's loss recovery
//! where it can be seen.

use std::time::Duration;

use crate::case::{Case, cases};
use crate::host::Host;
use crate::tcp::{ACK, Conn, MSS, Open, Segment, opt, seg, text};

pub(crate) const CASES: &[Case] = cases![Both:
    rfc2018_2_sack_permitted_is_answered_if_offered,
    rfc2018_2_sack_permitted_is_not_sent_unasked,
    rfc2018_2_must_no_sack_that_was_not_permitted,
    rfc2018_4_must_first_block_is_the_newest,
    rfc2018_4_blocks_are_repeated_newest_first,
    rfc2018_4_touching_blocks_are_one,
    rfc2018_4_filled_gap_ends_the_block,
    rfc2018_4_no_block_without_a_gap,
    rfc2018_3_at_most_four_blocks,
    rfc2018_3_three_blocks_beside_timestamps,
    rfc2883_4_duplicate_is_reported_first,
    rfc2883_4_duplicate_above_the_ack_is_reported_with_its_block,
    rfc5681_4_2_each_out_of_order_segment_is_acknowledged,
    rfc5681_3_2_three_duplicate_acks_retransmit_at_once,
    rfc2018_5_what_was_sacked_is_not_sent_again,
    rfc2018_5_every_hole_is_filled,
    rfc2018_8_must_what_was_sacked_is_kept_until_acknowledged,
    rfc2018_5_sack_of_nothing_sent_is_ignored,
    rfc3042_limited_transmit,
    rfc6928_initial_window_of_ten,
];

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: lab\r\nAccept: a, b, c, d\r\n\r\n";

fn sacking() -> Open {
    Open { options: vec![opt::mss(MSS), opt::sack_permitted()], ..Open::default() }
}

/// Ten octets of the request.
fn ten(conn: &mut Conn<'_>, from: u32) {
    let piece = &REQUEST[from as usize - 1..from as usize + 9];
    conn.send(text(piece).seq(from));
}

fn rfc2018_2_sack_permitted_is_answered_if_offered(host: &mut Host) {
    let (_, syn_ack) = Conn::half_open(host, sacking());
    assert!(syn_ack.sack_permitted, "{syn_ack}");
}

fn rfc2018_2_sack_permitted_is_not_sent_unasked(host: &mut Host) {
    let (_, syn_ack) = Conn::half_open(host, Open::default());
    assert!(!syn_ack.sack_permitted, "{syn_ack}");
}

fn rfc2018_2_must_no_sack_that_was_not_permitted(host: &mut Host) {
    let mut conn = Conn::open(host);
    ten(&mut conn, 11);
    let ack = conn.expect(ACK, 1);
    assert!(ack.sack.is_empty(), "{ack}");
}

fn rfc2018_4_must_first_block_is_the_newest(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, sacking());
    ten(&mut conn, 11);
    assert_eq!(conn.expect(ACK, 1).sack, [(11, 21)]);
    ten(&mut conn, 31);
    assert_eq!(conn.expect(ACK, 1).sack[0], (31, 41));
    // It makes the older block longer, which is the newest by that.
    conn.send(text(&REQUEST[20..25]).seq(21));
    assert_eq!(conn.expect(ACK, 1).sack[0], (11, 26));
}

fn rfc2018_4_blocks_are_repeated_newest_first(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, sacking());
    ten(&mut conn, 31);
    conn.expect(ACK, 1);
    ten(&mut conn, 11);
    assert_eq!(conn.expect(ACK, 1).sack, [(11, 21), (31, 41)]);
}

fn rfc2018_4_touching_blocks_are_one(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, sacking());
    ten(&mut conn, 11);
    conn.expect(ACK, 1);
    ten(&mut conn, 31);
    conn.expect(ACK, 1);
    ten(&mut conn, 21);
    assert_eq!(conn.expect(ACK, 1).sack, [(11, 41)]);
}

fn rfc2018_4_filled_gap_ends_the_block(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, sacking());
    ten(&mut conn, 11);
    conn.expect(ACK, 1);
    ten(&mut conn, 31);
    conn.expect(ACK, 1);
    ten(&mut conn, 1);
    assert_eq!(conn.expect(ACK, 21).sack, [(31, 41)]);
    ten(&mut conn, 21);
    assert_eq!(conn.expect(ACK, 41).sack, []);
}

fn rfc2018_4_no_block_without_a_gap(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, sacking());
    conn.request("/", false);
    for segment in conn.flight() {
        assert!(segment.sack.is_empty(), "{segment}");
    }
}

/// Blocks of two octets, two apart.
fn many_blocks(conn: &mut Conn<'_>, count: u32) -> Segment {
    let mut last = None;
    for at in (0..count).map(|block| 3 + 4 * block) {
        conn.send(text(&REQUEST[at as usize - 1..at as usize + 1]).seq(at));
        last = Some(conn.expect(ACK, 1));
    }
    last.expect("a block at least")
}

fn rfc2018_3_at_most_four_blocks(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, sacking());
    let ack = many_blocks(&mut conn, 6);
    assert_eq!(ack.sack, [(23, 25), (19, 21), (15, 17), (11, 13)]);
}

fn rfc2018_3_three_blocks_beside_timestamps(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, Open { timestamps: Some(1000), ..sacking() });
    let ack = many_blocks(&mut conn, 6);
    assert_eq!(ack.sack, [(23, 25), (19, 21), (15, 17)]);
}

fn rfc2883_4_duplicate_is_reported_first(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, sacking());
    ten(&mut conn, 1);
    conn.wait_for("an ACK", |it| it.ack == 11);
    ten(&mut conn, 1);
    assert_eq!(conn.expect(ACK, 11).sack, [(1, 11)]);
}

fn rfc2883_4_duplicate_above_the_ack_is_reported_with_its_block(host: &mut Host) {
    let (mut conn, _) = Conn::open_with(host, sacking());
    ten(&mut conn, 11);
    conn.expect(ACK, 1);
    ten(&mut conn, 21);
    conn.expect(ACK, 1);
    ten(&mut conn, 11);
    assert_eq!(conn.expect(ACK, 1).sack, [(11, 21), (11, 31)]);
}

/// A sender without SACK counts them.
fn rfc5681_4_2_each_out_of_order_segment_is_acknowledged(host: &mut Host) {
    let mut conn = Conn::open(host);
    for from in [11, 21, 31] {
        ten(&mut conn, from);
    }
    for _ in 0..3 {
        conn.expect(ACK, 1);
    }
}

/// Ten segments, none of them acknowledged, and where they begin; and that it is ready to send
/// more: the first round trip is measured.
fn flight_of_ten(host: &mut Host, open: Open) -> (Conn<'_>, Vec<Segment>) {
    let (mut conn, _) = Conn::open_with(host, open);
    conn.request("/big", false);
    let flight = conn.flight();
    // Where the machine is slow, a probe for the tail may have come, of new text too.
    assert!((10..=11).contains(&flight.len()), "{}", flight.len());
    (conn, flight)
}

fn sack(conn: &mut Conn<'_>, ack: u32, blocks: &[(u32, u32)]) {
    let mut option = vec![1, 1, 5, 2 + 8 * blocks.len() as u8];
    for (left, right) in blocks {
        option.extend(conn.irs.wrapping_add(*left).to_be_bytes());
        option.extend(conn.irs.wrapping_add(*right).to_be_bytes());
    }
    conn.send(seg(ACK).ack(ack).options(&[option]));
}

fn rfc5681_3_2_three_duplicate_acks_retransmit_at_once(host: &mut Host) {
    let (mut conn, flight) = flight_of_ten(host, Open::default());
    // To a kernel the first is an update of the window, which is taken from a newer segment.
    for _ in 0..4 {
        conn.send(seg(ACK).ack(1));
    }
    let again = conn.before_marker().into_iter().find(|it| it.seq == 1);
    let again = again.expect("the first segment again");
    assert!(again.data.len() <= flight[0].data.len());
}

fn rfc2018_5_what_was_sacked_is_not_sent_again(host: &mut Host) {
    let (mut conn, flight) = flight_of_ten(host, sacking());
    for last in &flight[1..] {
        sack(&mut conn, 1, &[(flight[1].seq, last.end())]);
    }
    let edge = flight.last().unwrap().end();
    let again = conn.wait_for("the hole", |it| it.seq == 1 && !it.data.is_empty());
    assert!(again.end() <= flight[1].seq, "{again}");
    sack(&mut conn, flight[0].end(), &[(flight[1].seq, edge)]);
    for segment in conn.before_marker() {
        assert!(segment.data.is_empty() || segment.seq >= edge || segment.seq == 1, "{segment}");
    }
}

fn rfc2018_5_every_hole_is_filled(host: &mut Host) {
    let (mut conn, flight) = flight_of_ten(host, sacking());
    let (one, five) = (&flight[0], &flight[4]);
    let edge = flight.last().unwrap().end();
    sack(&mut conn, 1, &[(one.end(), five.seq)]);
    for last in &flight[5..] {
        sack(&mut conn, 1, &[(five.end(), last.end()), (one.end(), five.seq)]);
    }
    let mut again = Vec::new();
    while again.len() < 2 {
        let segment = conn.wait_for("a hole", |it| !it.data.is_empty() && it.seq < edge);
        again.push(segment.seq);
        sack(&mut conn, 1, &[(five.end(), edge), (one.end(), five.seq)]);
    }
    again.sort_unstable();
    assert_eq!(again, [one.seq, five.seq]);
}

/// The receiver may change its mind.
fn rfc2018_8_must_what_was_sacked_is_kept_until_acknowledged(host: &mut Host) {
    let (mut conn, flight) = flight_of_ten(host, sacking());
    let edge = flight.last().unwrap().end();
    for last in &flight[2..] {
        sack(&mut conn, 1, &[(flight[1].seq, last.end())]);
    }
    conn.wait_for("the hole", |it| it.seq == 1 && !it.data.is_empty());
    // The first one only: the rest was thrown away.
    let second = flight[1].seq;
    conn.send(seg(ACK).ack(second));
    conn.wait_for("what was SACKed", |it| it.seq == second && !it.data.is_empty());
    assert!(second < edge);
}

fn rfc2018_5_sack_of_nothing_sent_is_ignored(host: &mut Host) {
    let (mut conn, flight) = flight_of_ten(host, sacking());
    let edge = flight.last().unwrap().end();
    sack(&mut conn, 1, &[(edge + 1000, edge + 2000), (edge, 1), (5, 5)]);
    conn.before_marker();
    conn.send(seg(ACK).ack(edge));
    conn.wait_for("more", |it| it.seq >= edge && !it.data.is_empty());
}

/// RFC 3042 2: the first two duplicate ACKs send a new segment each.
fn rfc3042_limited_transmit(host: &mut Host) {
    let (mut conn, flight) = flight_of_ten(host, sacking());
    let edge = flight.last().unwrap().end();
    sack(&mut conn, 1, &[(flight[1].seq, flight[1].end())]);
    sack(&mut conn, 1, &[(flight[1].seq, flight[2].end())]);
    conn.wait_within(Duration::from_millis(150), "new text", |it| it.seq >= edge);
}

fn rfc6928_initial_window_of_ten(host: &mut Host) {
    let (mut conn, _) =
        Conn::open_with(host, Open { options: vec![opt::mss(1000)], ..Open::default() });
    conn.request("/big", false);
    let octets: usize = conn.flight().iter().map(|it| it.data.len()).sum();
    assert!((9_000..=10_000).contains(&octets), "{octets} octets");
    assert!(conn.next_within(Duration::from_millis(20)).is_none_or(|it| it.end() <= 10_001));
}
