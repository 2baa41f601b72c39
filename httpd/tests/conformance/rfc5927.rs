//! ICMP errors about segments of ours: RFC 9293 3.9.2.2, and RFC 5927, which says when to believe
//! them. The path MTU that a kernel has learnt stays with the address: these cases come last.

use std::time::Duration;

use crate::case::{Case, cases};
use crate::host::{Family, Host, TCP};
use crate::ip;
use crate::tcp::{ACK, Conn, seg};

pub(crate) const CASES: &[Case] = cases![Both:
    rfc9293_3_9_2_2_must_56_soft_errors_do_not_abort,
    rfc5927_5_2_hard_errors_do_not_abort,
    rfc9293_3_9_2_2_must_55_source_quench_is_ignored,
    rfc1191_6_1_smaller_path_mtu_makes_segments_smaller,
    rfc5927_4_1_error_about_nothing_in_flight_is_ignored,
    rfc5927_7_1_path_mtu_for_nothing_in_flight_is_ignored,
    rfc5927_7_2_tiny_path_mtu_is_not_believed,
    rfc5927_4_error_about_another_connection_is_ignored,
];

/// Type and code of an error in the case's family.
fn message(host: &Host, v4: (u8, u8), v6: (u8, u8), mtu: u32) -> Vec<u8> {
    let (kind, code) = if host.family == Family::V4 { v4 } else { v6 };
    let mut message = vec![kind, code, 0, 0];
    message.extend(mtu.to_be_bytes());
    message
}

/// Sends an error about the segment that they have sent with this number.
fn error_about(conn: &mut Conn<'_>, mut message: Vec<u8>, seq: u32, port: u16) {
    let mut segment = conn.ports.1.to_be_bytes().to_vec();
    segment.extend(port.to_be_bytes());
    segment.extend(conn.irs.wrapping_add(seq).to_be_bytes());
    segment.extend([0; 12]);
    let (own, theirs) = (conn.host.own(), conn.host.theirs());
    message.extend(ip::packet(TCP, theirs, own, &segment).octets);
    let message = ip::icmp(own, theirs, message);
    conn.host.send_ip(ip::icmp_protocol(own), &message);
}

/// Text in flight, and where it begins and ends.
fn in_flight(host: &mut Host) -> (Conn<'_>, u32, u32) {
    let mut conn = Conn::open(host);
    conn.request("/big", false);
    let flight = conn.flight();
    let (first, end) = (flight[0].seq, flight.last().unwrap().end());
    (conn, first, end)
}

/// The connection goes on: an acknowledgement brings more text.
fn expect_more(conn: &mut Conn<'_>, end: u32) {
    conn.send(seg(ACK).ack(end));
    conn.wait_for("more text", |it| it.seq >= end && !it.data.is_empty());
}

fn rfc9293_3_9_2_2_must_56_soft_errors_do_not_abort(host: &mut Host) {
    let (mut conn, first, end) = in_flight(host);
    let port = conn.ports.0;
    for (v4, v6) in
        [((3, 0), (1, 0)), ((3, 1), (1, 3)), ((3, 5), (1, 0)), ((11, 0), (3, 0)), ((12, 0), (4, 0))]
    {
        let message = message(conn.host, v4, v6, 0);
        error_about(&mut conn, message, first, port);
    }
    expect_more(&mut conn, end);
}

/// RFC 1122 would abort for these; an established connection that once worked is worth more than
/// what whoever may say (RFC 5927 5.2).
fn rfc5927_5_2_hard_errors_do_not_abort(host: &mut Host) {
    let (mut conn, first, end) = in_flight(host);
    let port = conn.ports.0;
    for (v4, v6) in [((3, 2), (4, 1)), ((3, 3), (1, 4)), ((3, 13), (1, 1))] {
        let message = message(conn.host, v4, v6, 0);
        error_about(&mut conn, message, first, port);
    }
    expect_more(&mut conn, end);
}

fn rfc9293_3_9_2_2_must_55_source_quench_is_ignored(host: &mut Host) {
    let (mut conn, first, end) = in_flight(host);
    if conn.host.own().is_ipv4() {
        let port = conn.ports.0;
        error_about(&mut conn, vec![4, 0, 0, 0, 0, 0, 0, 0], first, port);
    }
    expect_more(&mut conn, end);
}

fn too_big(host: &Host, mtu: u32) -> Vec<u8> {
    message(host, (3, 4), (2, 0), mtu)
}

/// The longest text of a segment that comes from here on.
fn longest_next(conn: &mut Conn<'_>, end: u32) -> usize {
    conn.send(seg(ACK).ack(end));
    let first = conn.wait_for("more text", |it| it.seq >= end && !it.data.is_empty());
    let rest = conn.before_marker();
    rest.iter().chain([&first]).map(|it| it.data.len()).max().unwrap_or(0)
}

fn headers(host: &Host) -> usize {
    if host.family == Family::V4 { 40 } else { 60 }
}

fn rfc1191_6_1_smaller_path_mtu_makes_segments_smaller(host: &mut Host) {
    let (mut conn, first, _) = in_flight(host);
    let (message, port) = (too_big(conn.host, 1300), conn.ports.0);
    let most = 1300 - headers(conn.host);
    error_about(&mut conn, message, first, port);
    // It is sent again, and at once: not congestion, but a segment that was never carried.
    let again = conn.wait_within(Duration::from_secs(2), "the first text again", |it| {
        it.seq == first && (1..=most).contains(&it.data.len())
    });
    assert!(again.data.len() > most / 2, "{again}");
}

fn rfc5927_4_1_error_about_nothing_in_flight_is_ignored(host: &mut Host) {
    let (mut conn, _, end) = in_flight(host);
    let (message, port) = (message(conn.host, (3, 3), (1, 4), 0), conn.ports.0);
    error_about(&mut conn, message, end.wrapping_add(0x1000_0000), port);
    expect_more(&mut conn, end);
}

fn rfc5927_7_1_path_mtu_for_nothing_in_flight_is_ignored(host: &mut Host) {
    let (mut conn, _, end) = in_flight(host);
    let (message, port) = (too_big(conn.host, 1300), conn.ports.0);
    error_about(&mut conn, message, end.wrapping_add(0x1000_0000), port);
    assert_eq!(longest_next(&mut conn, end), 1400);
}

fn rfc5927_7_2_tiny_path_mtu_is_not_believed(host: &mut Host) {
    let (mut conn, first, end) = in_flight(host);
    let (message, port) = (too_big(conn.host, 68), conn.ports.0);
    error_about(&mut conn, message, first, port);
    conn.before_marker();
    assert!(longest_next(&mut conn, end) >= 500);
}

fn rfc5927_4_error_about_another_connection_is_ignored(host: &mut Host) {
    let (mut conn, first, end) = in_flight(host);
    let (message, port) = (too_big(conn.host, 1300), conn.ports.0);
    error_about(&mut conn, message, first, port + 10_000);
    assert_eq!(longest_next(&mut conn, end), 1400);
}
