//! RFC 5961: what an attacker who does not see the connection can do to it.

use crate::case::{Case, cases};
use crate::host::Host;
use crate::tcp::{ACK, Conn, RST, SYN, seg, text};

pub(crate) const CASES: &[Case] = cases![Both:
    rfc5961_3_2_rst_in_window_is_challenged,
    rfc5961_3_2_rst_at_the_challenge_ends_it,
    rfc5961_3_2_rst_one_before_is_dropped,
    rfc5961_4_2_syn_in_window_is_challenged,
    rfc5961_4_2_syn_outside_window_is_challenged,
    rfc5961_4_2_restarted_peer_gets_its_connection,
    rfc5961_5_2_ack_beyond_is_answered_by_ack,
    rfc5961_5_2_ack_far_too_old_is_challenged,
    rfc5961_5_2_text_with_an_ack_far_too_old_is_not_taken,
    rfc5961_7_challenges_are_limited,
    rfc5961_7_limit_does_not_starve_retransmissions,
];

fn used(host: &mut Host) -> Conn<'_> {
    let mut conn = Conn::open(host);
    conn.expect_alive();
    conn
}

fn rfc5961_3_2_rst_in_window_is_challenged(host: &mut Host) {
    let mut conn = used(host);
    let (next, theirs) = (conn.snd_nxt, conn.rcv_nxt);
    conn.send(seg(RST).seq(next + 1));
    let challenge = conn.expect(ACK, next);
    assert_eq!((challenge.seq, challenge.len()), (theirs, 0));
    conn.expect_alive();
}

fn rfc5961_3_2_rst_at_the_challenge_ends_it(host: &mut Host) {
    let mut conn = used(host);
    let next = conn.snd_nxt;
    conn.send(seg(RST).seq(next + 1000));
    let challenge = conn.expect(ACK, next);
    conn.send(seg(RST).seq(challenge.ack));
    conn.expect_silence("a RST");
    conn.expect_gone();
}

fn rfc5961_3_2_rst_one_before_is_dropped(host: &mut Host) {
    let mut conn = used(host);
    let next = conn.snd_nxt;
    conn.send(seg(RST).seq(next - 1));
    conn.expect_silence("a RST before the window");
    conn.expect_alive();
}

fn rfc5961_4_2_syn_in_window_is_challenged(host: &mut Host) {
    let mut conn = used(host);
    let next = conn.snd_nxt;
    conn.send(seg(SYN).seq(next + 5));
    let challenge = conn.expect(ACK, next);
    assert_eq!(challenge.len(), 0);
    conn.expect_alive();
}

fn rfc5961_4_2_syn_outside_window_is_challenged(host: &mut Host) {
    let mut conn = used(host);
    let next = conn.snd_nxt;
    conn.send(seg(SYN).seq(next.wrapping_add(0x6000_0000)));
    conn.expect(ACK, next);
    conn.expect_alive();
}

/// The peer has forgotten: its SYN is challenged, it answers as it must for a connection that
/// is not there (RFC 9293 3.5.1), and the SYN that it sends again opens.
fn rfc5961_4_2_restarted_peer_gets_its_connection(host: &mut Host) {
    let mut conn = used(host);
    let next = conn.snd_nxt;
    conn.send(seg(SYN).seq(next + 0x0100_0000));
    let challenge = conn.expect(ACK, next);
    conn.send(seg(RST).seq(challenge.ack));
    conn.iss = conn.iss.wrapping_add(next + 0x0100_0000);
    (conn.irs, conn.snd_nxt, conn.rcv_nxt) = (0, 0, 0);
    conn.send(seg(SYN));
    conn.syn_ack();
    conn.send(seg(ACK));
    conn.expect_alive();
}

fn rfc5961_5_2_ack_beyond_is_answered_by_ack(host: &mut Host) {
    let mut conn = used(host);
    let (next, theirs) = (conn.snd_nxt, conn.rcv_nxt);
    conn.send(seg(ACK).ack(theirs.wrapping_add(0x1000_0000)));
    conn.expect(ACK, next);
    conn.expect_alive();
}

fn rfc5961_5_2_ack_far_too_old_is_challenged(host: &mut Host) {
    let mut conn = used(host);
    let (next, theirs) = (conn.snd_nxt, conn.rcv_nxt);
    conn.send(seg(ACK).ack(theirs.wrapping_sub(0x4000_0000)));
    conn.expect(ACK, next);
    conn.expect_alive();
}

fn rfc5961_5_2_text_with_an_ack_far_too_old_is_not_taken(host: &mut Host) {
    let mut conn = used(host);
    let (next, theirs) = (conn.snd_nxt, conn.rcv_nxt);
    conn.send(text(b"INJECTED").seq(next).ack(theirs.wrapping_sub(0x4000_0000)));
    conn.expect(ACK, next);
    conn.expect_alive();
}

fn rfc5961_7_challenges_are_limited(host: &mut Host) {
    let mut conn = used(host);
    let next = conn.snd_nxt;
    for at in 0..200 {
        conn.send(seg(RST).seq(next + 1 + at));
        conn.send(seg(SYN).seq(next + 1 + at));
    }
    let answers = conn.before_marker().len();
    assert!((1..=100).contains(&answers), "{answers} challenges for 400 segments");
    conn.expect_alive();
}

fn rfc5961_7_limit_does_not_starve_retransmissions(host: &mut Host) {
    let mut conn = used(host);
    let next = conn.snd_nxt;
    for at in 0..20 {
        conn.send(seg(RST).seq(next + 1 + at));
    }
    conn.before_marker();
    // Our peer's ACK was lost, and we send again what it has.
    conn.send(text(b"GET / HTTP").seq(1));
    conn.expect(ACK, next);
}
