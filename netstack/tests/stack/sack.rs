//! Selective acknowledgements that we send (RFC 2018, RFC 2883).

use tagwire_netstack::{ConnId, FrameMeta, SeqNum};

use super::harness::{Fixture, Seg, config, pattern, seg};

/// A connection whose peer offered SACK.
fn permitted(syn: Seg) -> (Fixture, ConnId) {
    let mut t = Fixture::new(config());
    let mut syn = syn.mss(1000);
    syn.options.sack_permitted = true;
    let id = t.open(syn);
    (t, id)
}

/// The blocks of a segment, in the peer's relative numbers.
fn blocks(t: &Fixture, segment: &Seg) -> Vec<(u32, u32)> {
    let relative = |seq: tagwire_netstack::SeqNum| seq.0.wrapping_sub(t.peer_iss);
    let blocks = segment.options.sack.as_slice().iter();
    blocks.map(|(start, end)| (relative(*start), relative(*end))).collect()
}

/// The peer sends `data`; the blocks of the acknowledgement of `ack` that comes at once.
#[track_caller]
fn answer(t: &mut Fixture, seq: u32, data: &[u8], ack: u32) -> Vec<(u32, u32)> {
    t.send(seg(".", seq, 1).data(data));
    let got = t.expect(seg(".", 1, ack));
    t.nothing();
    blocks(t, &got)
}

#[test]
fn the_newest_block_first_and_four_at_the_most() {
    // RFC 2018 4, across the wrap of the peer's numbers.
    let (mut t, _) = permitted(seg("S", 0, 0));
    let five = [b'x'; 100];
    assert_eq!(answer(&mut t, 201, &five, 1), [(201, 301)]);
    assert_eq!(answer(&mut t, 401, &five, 1), [(401, 501), (201, 301)]);
    assert_eq!(answer(&mut t, 301, &five, 1), [(201, 501)]);
    assert_eq!(answer(&mut t, 601, &five, 1), [(601, 701), (201, 501)]);
    assert_eq!(answer(&mut t, 801, &five, 1), [(801, 901), (601, 701), (201, 501)]);
    answer(&mut t, 1001, &five, 1);
    let newest = [(1201, 1301), (1001, 1101), (801, 901), (601, 701)];
    assert_eq!(answer(&mut t, 1201, &five, 1), newest);
    // What is acknowledged needs no block.
    assert_eq!(answer(&mut t, 1, &[b'x'; 200], 501).first(), Some(&(1201, 1301)));
}

#[test]
fn three_blocks_beside_a_timestamp() {
    let (mut t, _) = permitted(seg("S", 0, 0).timestamp(1, 0));
    for at in [101, 301, 501, 701] {
        t.send(seg(".", at, 1).data(&[b'x'; 100]).timestamp(2, 0));
    }
    let last = t.sent.pop_back().unwrap();
    t.sent.clear();
    t.sent.push_back(last);
    let got = t.recv();
    assert_eq!(blocks(&t, &got), [(701, 801), (501, 601), (301, 401)]);
    assert!(got.options.timestamp.is_some());
}

#[test]
fn a_peer_that_did_not_offer_it_gets_none() {
    let (mut t, _) = Fixture::established(config());
    assert_eq!(answer(&mut t, 101, b"late", 1), []);
    assert_eq!(answer(&mut t, 101, b"late", 1), []);
}

#[test]
fn a_duplicate_is_reported_once() {
    // RFC 2883 4.1: below the acknowledgement, as one block.
    let (mut t, id) = permitted(seg("S", 0, 0));
    t.send(seg(".", 1, 1).data(b"abcdef"));
    t.advance(std::time::Duration::from_millis(100));
    t.sent.clear();
    assert_eq!(answer(&mut t, 1, b"abcdef", 7), [(1, 7)]);
    assert_eq!(answer(&mut t, 4, b"defghi", 10), [(4, 7)]);
    assert_eq!(answer(&mut t, 12, b"l", 10), [(12, 13)]);
    // RFC 2883 4.2: above the acknowledgement, with the block that it lies in behind it.
    assert_eq!(answer(&mut t, 11, b"kl", 10), [(12, 13), (11, 13)]);
    assert_eq!(answer(&mut t, 14, b"n", 10), [(14, 15), (11, 13)]);
    assert_eq!(answer(&mut t, 10, b"j", 13), [(14, 15)]);
    assert_eq!(t.app_recv(id).0, b"abcdefghijkl");
    assert_eq!(t.stack.stats().tcp_duplicate, 3);
}

#[test]
fn data_of_ours_does_not_hide_what_is_missing() {
    // A data segment has no room for blocks, so they go before it, on their own.
    let (mut t, id) = permitted(seg("S", 0, 0));
    t.send(seg(".", 1, 1).data(b"abc"));
    t.stack.send(id, bytes::Bytes::from_static(b"answer")).unwrap();
    let frame = t.tcp_frame(&seg(".", 11, 1).data(b"klm"));
    t.stack.handle_frame(t.now, &frame, &tagwire_netstack::FrameMeta::default());
    let got = t.expect(seg(".", 1, 4));
    assert_eq!(blocks(&t, &got), [(11, 14)]);
    t.expect(seg("P.", 1, 4).data(b"answer"));
    t.nothing();
}

#[test]
fn a_loss_that_was_none_before_anything_was_sent_again_is_taken_back() {
    // Three segments overtake the first; their acknowledgements and its own come in one turn.
    let (mut t, id) = permitted(seg("S", 0, 0));
    t.app_send(id, &pattern(20_000));
    t.sent.clear();
    let block = |end: u32| {
        let mut acknowledgement = seg(".", 1, 1);
        let ours = |seq: u32| SeqNum(t.iss.wrapping_add(seq));
        acknowledgement.options.sack.push(ours(1001), ours(end));
        t.tcp_frame(&acknowledgement)
    };
    let frames = [block(2001), block(3001), block(4001), t.tcp_frame(&seg(".", 1, 4001))];
    for frame in frames {
        t.stack.handle_frame(t.now, &frame, &FrameMeta::default());
    }
    t.flush();
    let stats = t.stack.stats();
    assert_eq!((stats.tcp_fast_retransmit, stats.tcp_spurious, stats.tcp_retransmit), (1, 1, 0));
}
