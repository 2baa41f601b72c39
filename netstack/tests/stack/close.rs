//! Closing, in every order (RFC 9293 3.6).

use std::time::Duration;

use bytes::Bytes;
use tagwire_netstack::{CloseReason, Recv, State};

use super::harness::{Fixture, config, seg};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn we_close_first() {
    let (mut t, id) = Fixture::established(config());
    t.app_send(id, b"bye");
    t.shutdown(id);
    t.expect(seg("P.", 1, 1).data(b"bye"));
    t.expect(seg("F.", 4, 1));
    assert_eq!(t.state(id), Some(State::FinWait1));
    t.send(seg(".", 1, 4));
    assert_eq!(t.state(id), Some(State::FinWait1));
    t.send(seg(".", 1, 5));
    assert_eq!(t.state(id), Some(State::FinWait2));
    t.send(seg("F.", 1, 5));
    t.expect(seg(".", 5, 2));
    assert_eq!(t.held(), (1, 0, 1));
    assert_eq!(t.app_recv(id).1, Recv::Finished);
    let events = t.events(id);
    assert!(events.readable && events.closed);
    t.release(id);
    assert_eq!(t.held(), (0, 0, 1));
    t.nothing();
}

#[test]
fn what_never_arrived_is_known_after_the_end() {
    for reset in [true, false] {
        let (mut t, id) = Fixture::established(config());
        t.app_send(id, b"hello");
        t.expect(seg("P.", 1, 1).data(b"hello"));
        t.send(seg(".", 1, 4));
        t.app_send(id, b" world");
        assert_eq!(t.stack.queued(id), 8);
        if reset {
            t.send(seg("R", 1, 0));
        } else {
            t.abort(id);
        }
        assert!(t.stack.closed(id).is_some());
        assert_eq!(t.stack.queued(id), 8);
        assert_eq!(t.stack.counts().memory, 0, "nothing of it is kept");
        t.release(id);
        assert_eq!(t.stack.queued(id), 0);
    }
}

#[test]
fn a_fin_travels_with_the_last_data() {
    let (mut t, id) = Fixture::established(config());
    t.stack.send(id, Bytes::from_static(b"bye")).unwrap();
    t.shutdown(id);
    t.expect(seg("FP.", 1, 1).data(b"bye"));
    assert!(t.stack.send(id, Bytes::from_static(b"more")).is_err());
    // Its acknowledgement and the peer's FIN in one.
    t.send(seg("F.", 1, 5));
    t.expect(seg(".", 5, 2));
    assert_eq!(t.held(), (1, 0, 1));
}

#[test]
fn the_peer_closes_first() {
    let (mut t, id) = Fixture::established(config());
    t.send(seg("F.", 1, 1));
    t.expect(seg(".", 1, 2));
    assert_eq!(t.state(id), Some(State::CloseWait));
    assert_eq!(t.app_recv(id).1, Recv::Finished);
    // Half-closed: we may go on.
    t.app_send(id, b"still here");
    t.expect(seg("P.", 1, 2).data(b"still here"));
    t.send(seg(".", 2, 11));
    t.shutdown(id);
    t.expect(seg("F.", 11, 2));
    assert_eq!(t.state(id), Some(State::LastAck));
    t.send(seg(".", 2, 12));
    assert!(t.events(id).closed);
    assert_eq!(t.stack.closed(id), Some(CloseReason::Finished));
    t.release(id);
    assert_eq!(t.held(), (0, 0, 0));
    t.nothing();
}

#[test]
fn both_close_at_once() {
    let (mut t, id) = Fixture::established(config());
    t.shutdown(id);
    t.expect(seg("F.", 1, 1));
    t.send(seg("F.", 1, 1));
    t.expect(seg(".", 2, 2));
    assert_eq!(t.state(id), Some(State::Closing));
    t.send(seg(".", 2, 2));
    assert_eq!(t.held(), (1, 0, 1));
    // Its FIN was acknowledged before: nothing more to say.
    t.nothing();
}

#[test]
fn a_lost_fin_is_sent_again_in_every_state_that_waits_for_its_acknowledgement() {
    let (mut t, id) = Fixture::established(config());
    t.shutdown(id);
    t.expect(seg("F.", 1, 1));
    t.wait(SECOND);
    t.expect(seg("F.", 1, 1));
    t.send(seg("F.", 1, 1));
    t.expect(seg(".", 2, 2));
    t.wait(SECOND);
    t.expect(seg("F.", 1, 2));

    let (mut t, id) = Fixture::established(config());
    t.send(seg("F.", 1, 1));
    t.recv();
    t.stack.send(id, Bytes::from_static(b"data")).unwrap();
    t.shutdown(id);
    t.expect(seg("FP.", 1, 2).data(b"data"));
    t.wait(SECOND);
    t.expect(seg("FP.", 1, 2).data(b"data"));
    // Only the data was received.
    t.send(seg(".", 2, 5));
    t.wait(2 * SECOND);
    t.expect(seg("F.", 5, 2));
}

#[test]
fn a_half_closed_peer_is_read_to_its_end() {
    let (mut t, id) = Fixture::established(config());
    t.shutdown(id);
    t.recv();
    t.send(seg(".", 1, 2));
    assert_eq!(t.state(id), Some(State::FinWait2));
    t.advance(100 * SECOND);
    t.send(seg("P.", 1, 2).data(b"late"));
    assert_eq!(t.app_recv(id).0, b"late");
    t.send(seg("F.", 5, 2).data(b"st"));
    assert_eq!(t.app_recv(id).0, b"st");
    assert_eq!(t.app_recv(id).1, Recv::Finished);
    assert_eq!(t.held(), (1, 0, 1));
}

#[test]
fn abort_resets_and_the_peer_is_told_the_right_number() {
    let (mut t, id) = Fixture::established(config());
    t.app_send(id, b"data");
    t.recv();
    t.abort(id);
    t.expect(seg("R.", 5, 1));
    assert!(t.events(id).closed);
    assert_eq!(t.stack.closed(id), Some(CloseReason::Aborted));
    assert_eq!(t.app_recv(id).1, Recv::Closed(CloseReason::Aborted));
    // Once is enough.
    t.abort(id);
    t.release(id);
    t.nothing();
    assert_eq!(t.held(), (0, 0, 0));
}

#[test]
fn release_closes_in_order_and_forgets() {
    let (mut t, id) = Fixture::established(config());
    t.app_send(id, b"data");
    t.release(id);
    t.expect(seg("P.", 1, 1).data(b"data"));
    t.expect(seg("F.", 5, 1));
    t.send(seg(".", 1, 6));
    t.send(seg("F.", 1, 6));
    t.expect(seg(".", 6, 2));
    assert_eq!(t.held(), (0, 0, 1));
    assert!(t.stack.poll_event().is_none());
}

#[test]
fn release_with_unread_data_resets() {
    let (mut t, id) = Fixture::established(config());
    t.send(seg("P.", 1, 1).data(b"unread"));
    t.release(id);
    t.expect(seg("R.", 1, 7));
    assert_eq!(t.held(), (0, 0, 0));
    assert!(t.stack.poll_event().is_none());
}

#[test]
fn data_after_release_resets_in_each_state() {
    let (mut t, id) = Fixture::established(config());
    t.release(id);
    t.expect(seg("F.", 1, 1));
    t.send(seg(".", 1, 1).data(b"more"));
    t.expect(seg("R.", 2, 1));
    assert_eq!(t.held(), (0, 0, 0));

    let (mut t, id) = Fixture::established(config());
    t.release(id);
    t.recv();
    t.send(seg(".", 1, 2));
    t.send(seg(".", 1, 2).data(b"more"));
    t.expect(seg("R.", 2, 1));
    assert_eq!(t.held(), (0, 0, 0));
    // What comes then finds nothing.
    t.send(seg(".", 5, 2).data(b"more"));
    t.expect(seg("R", 2, 0u32.wrapping_sub(t.peer_iss)));
}

#[test]
fn fin_wait_2_of_a_released_connection_ends() {
    let (mut t, id) = Fixture::established(config());
    t.shutdown(id);
    t.recv();
    t.send(seg(".", 1, 2));
    t.release(id);
    t.advance(59 * SECOND);
    // It is no connection any more, but a record.
    assert_eq!(t.held(), (0, 0, 1));
    t.advance(SECOND);
    assert_eq!(t.held(), (0, 0, 0));
    t.nothing();

    // The same where the release comes first.
    let (mut t, id) = Fixture::established(config());
    t.release(id);
    t.recv();
    t.send(seg(".", 1, 2));
    t.advance(60 * SECOND);
    assert_eq!(t.held(), (0, 0, 0));
}

#[test]
fn the_record_of_fin_wait_2_answers_a_fin_and_resets_data() {
    let waiting = || {
        let (mut t, id) = Fixture::established(config());
        t.release(id);
        t.recv();
        t.send(seg(".", 1, 2));
        assert_eq!(t.held(), (0, 0, 1));
        t
    };
    // The peer's FIN begins TIME-WAIT.
    let mut t = waiting();
    t.advance(50 * SECOND);
    t.send(seg("F.", 1, 2));
    t.expect(seg(".", 2, 2));
    t.advance(59 * SECOND);
    t.send(seg("F.", 1, 2));
    t.expect(seg(".", 2, 2));
    // What is not of this connection changes nothing: other numbers, a SYN.
    let mut t = waiting();
    for forged in [seg("F.", 1, 1), seg("F.", 2, 2), seg(".", 1, 1).data(b"x"), seg("S", 9, 0)] {
        t.send(forged);
        t.expect(seg(".", 2, 1));
    }
    t.send(seg("R", 2, 0));
    t.send(seg(".", 1, 2));
    t.nothing();
    assert_eq!(t.held(), (0, 0, 1));
    // Data that nobody will read, with or without FIN.
    for flags in [".", "F."] {
        let mut t = waiting();
        t.send(seg(flags, 1, 2).data(b"late"));
        t.expect(seg("R.", 2, 1));
        assert_eq!(t.held(), (0, 0, 0));
    }
    let mut t = waiting();
    t.send(seg("R", 1, 0));
    t.nothing();
    assert_eq!(t.held(), (0, 0, 0));
}

#[test]
fn a_reset_in_each_state_ends_the_connection_without_an_answer() {
    let finish: [fn(&mut Fixture, _); 4] = [
        |_, _| {},
        |t, id| t.shutdown(id),
        |t, _| t.send(seg("F.", 1, 1)),
        |t, id| {
            t.send(seg("F.", 1, 1));
            t.shutdown(id);
        },
    ];
    for (index, step) in finish.into_iter().enumerate() {
        let (mut t, id) = Fixture::established(config());
        step(&mut t, id);
        t.sent.clear();
        t.send(seg("R", if index < 2 { 1 } else { 2 }, 0));
        t.nothing();
        assert_eq!(t.stack.closed(id), Some(CloseReason::Reset), "{index}");
        t.release(id);
        assert_eq!(t.held(), (0, 0, 0));
    }
}

#[test]
fn a_reset_with_the_number_of_the_peers_fin_is_taken_once_that_has_come() {
    // As Linux: macOS drops a closed connection so.
    let finish: [fn(&mut Fixture, _); 3] = [
        |t, _| t.send(seg("F.", 1, 1)),
        |t, id| {
            t.send(seg("F.", 1, 1));
            t.shutdown(id);
        },
        |t, id| {
            t.shutdown(id);
            t.send(seg("F.", 1, 1));
        },
    ];
    for (step, state) in finish.into_iter().zip([State::CloseWait, State::LastAck, State::Closing])
    {
        let (mut t, id) = Fixture::established(config());
        step(&mut t, id);
        assert_eq!(t.state(id), Some(state));
        t.sent.clear();
        t.send(seg("R", 0, 0));
        t.nothing();
        assert_eq!(t.state(id), Some(state));
        t.send(seg("R", 1, 0));
        t.nothing();
        assert_eq!(t.stack.closed(id), Some(CloseReason::Reset), "{state:?}");
    }
    // Without a FIN that number is an old one.
    for close in [false, true] {
        let (mut t, id) = Fixture::established(config());
        t.send(seg("P.", 1, 1).data(b"abc"));
        if close {
            t.shutdown(id);
        }
        t.send(seg("R", 3, 0));
        assert_eq!(t.stack.closed(id), None);
        assert_eq!(t.stack.stats().tcp_reset_ignored, 1);
    }
}

#[test]
fn data_behind_the_peers_fin_is_not_taken() {
    let (mut t, id) = Fixture::established(config());
    t.send(seg("F.", 1, 1).data(b"end"));
    t.recv();
    t.send(seg("P.", 5, 1).data(b"after"));
    t.expect(seg(".", 1, 5));
    assert_eq!(t.app_recv(id).0, b"end");
    assert_eq!(t.app_recv(id).1, Recv::Finished);
}
