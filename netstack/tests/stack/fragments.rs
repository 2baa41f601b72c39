//! Fragments (RFC 791 3.2, RFC 5722, RFC 1122 3.3.2).

use std::time::Duration;

use tagwire_netstack::wire::checksum::Sum;
use tagwire_netstack::wire::ecn::{Ecn, mark};
use tagwire_netstack::wire::{icmpv4, ipv4, ipv6};
use tagwire_netstack::{Config, FrameMeta, Stray};

use crate::harness::{
    Fixture, OUR_IP, OUR_IP6, PEER_IP, PEER_IP6, config, config_v6, header_v6, pattern, seg,
};

/// Cuts the packet of a frame into pieces of `size` octets of payload.
fn cut(t: &Fixture, frame: &[u8], id: u16, size: usize) -> Vec<Vec<u8>> {
    let packet = &frame[18..];
    let (header, payload) = packet.split_at(ipv4::HEADER_LEN);
    let count = payload.chunks(size).count();
    let piece = |(index, part): (usize, &[u8])| {
        let mut piece = [header, part].concat();
        let length = piece.len() as u16;
        piece[2..4].copy_from_slice(&length.to_be_bytes());
        piece[4..6].copy_from_slice(&id.to_be_bytes());
        let more = if index + 1 < count { 0x2000 } else { 0 };
        let place: u16 = more | (index * size / 8) as u16;
        piece[6..8].copy_from_slice(&place.to_be_bytes());
        piece[10..12].fill(0);
        let sum = Sum::new().feed(&piece[..ipv4::HEADER_LEN]).finish();
        piece[10..12].copy_from_slice(&sum.to_be_bytes());
        t.ethernet(0x0800, &piece)
    };
    payload.chunks(size).enumerate().map(piece).collect()
}

#[test]
fn a_ping_and_a_segment_in_pieces_in_any_order() {
    let mut t = Fixture::new(config());
    let data = pattern(1400);
    let ping = t.echo(&data);
    let mut pieces = cut(&t, &ping, 7, 512);
    pieces.swap(0, 2);
    for piece in &pieces {
        t.nothing();
        t.frame(piece);
    }
    let (_, _, payload) = t.next_frame();
    assert_eq!(&ipv4::parse(&payload).unwrap().payload[8..], data);

    let id = t.open(seg("S", 0, 0));
    let frame = t.tcp_frame(&seg("P.", 1, 1).data(&data));
    for piece in cut(&t, &frame, 8, 256).iter().rev() {
        t.frame(piece);
    }
    assert_eq!(t.app_recv(id).0, data);
    // Nobody but us can have verified the whole.
    let mut frame = t.tcp_frame(&seg("P.", 1401, 1).data(&data));
    *frame.last_mut().unwrap() ^= 1;
    let meta = FrameMeta { checksum: tagwire_netstack::Checksum::Valid, ..FrameMeta::default() };
    for piece in cut(&t, &frame, 9, 256) {
        t.stack.handle_frame(t.now, &piece, &meta);
    }
    assert_eq!(t.stack.stats().drop_checksum, 1);
    assert_eq!(t.stack.stats().ip_reassembled, 3);
}

#[test]
fn an_overlap_drops_the_whole() {
    let mut t = Fixture::new(config());
    let ping = t.echo(&pattern(1000));
    let other = t.echo(&pattern(900));
    let pieces = cut(&t, &ping, 7, 504);
    t.frame(&pieces[0]);
    t.frame(&cut(&t, &other, 7, 248)[1]);
    t.frame(&pieces[1]);
    t.nothing();
    assert_eq!(t.stack.stats().drop_fragment_overlap, 2);
}

#[test]
fn a_flood_is_bounded_and_a_request_gets_through_behind_it() {
    let mut t = Fixture::new(config());
    let ping = t.echo(&pattern(1000));
    let first = cut(&t, &ping, 0, 504).remove(0);
    for id in 0..=u16::MAX {
        let mut frame = first.clone();
        frame[18 + 4..18 + 6].copy_from_slice(&id.to_be_bytes());
        frame[18 + 10..18 + 12].fill(0);
        let sum = Sum::new().feed(&frame[18..38]).finish();
        frame[18 + 10..18 + 12].copy_from_slice(&sum.to_be_bytes());
        t.frame(&frame);
    }
    t.nothing();
    assert_eq!(t.stack.stats().reassembly_evicted, 65_536 - 64);
    for piece in cut(&t, &ping, 77, 504) {
        t.frame(&piece);
    }
    assert_eq!(t.stack.stats().icmp_echo, 1);
}

#[test]
fn who_waits_in_vain_is_told_within_limits() {
    let mut t = Fixture::new(Config { ..config() });
    // UDP, of which the end never comes.
    let frame = t.ip(PEER_IP, OUR_IP, 17, &pattern(1000));
    let pieces = cut(&t, &frame, 7, 504);
    t.frame(&pieces[0]);
    let late = cut(&t, &frame, 8, 504).remove(1);
    t.frame(&late);
    t.advance(Duration::from_secs(29));
    t.nothing();
    t.advance(Duration::from_secs(2));
    let (_, _, payload) = t.next_frame();
    let packet = ipv4::parse(&payload).unwrap();
    let Ok(icmpv4::Message::Error { kind: 11, code: 1, quote, .. }) = icmpv4::parse(packet.payload)
    else {
        panic!("time exceeded in reassembly");
    };
    assert_eq!(quote, &pieces[0][18..][..quote.len()]);
    assert!(quote.len() >= ipv4::HEADER_LEN + 8 && payload.len() <= 576);
    // Without the first fragment there is no answer, and none to ICMP.
    let ping = t.echo(&pattern(1000));
    let first = cut(&t, &ping, 9, 504).remove(0);
    t.frame(&first);
    t.advance(Duration::from_secs(31));
    t.nothing();
    assert_eq!(t.stack.stats().reassembly_timeout, 3);
    for id in 0..40 {
        let frame = t.ip(PEER_IP, OUR_IP, 99, &pattern(1000));
        let first = cut(&t, &frame, 100 + id, 504).remove(0);
        t.frame(&first);
    }
    t.advance(Duration::from_secs(31));
    let stats = t.stack.stats();
    assert_eq!((stats.icmp_error_out, stats.icmp_limited), (1 + 6, 34));
}

/// A stack that collects gets what `detour` makes of a connection's frames, and another one of
/// the same interface gets the segments.
fn handed_over(config: Config, detour: impl Fn(&Fixture, &[u8]) -> Vec<Vec<u8>>) {
    let mut first = Fixture::new(config.clone());
    first.stack.collect_strays();
    let mut other = Fixture::new(Config { passive: true, ..config });
    let mut give = |other: &mut Fixture, frame: &[u8]| {
        for frame in detour(&first, frame) {
            assert_eq!(first.stack.poll_stray(), None);
            first.frame(&frame);
        }
        first.nothing();
        let stray: Stray = first.stack.poll_stray().expect("a segment that may be another's");
        assert_eq!((stray.source.ip(), stray.source.port()), (other.peer, other.port));
        assert_eq!((stray.destination.ip(), stray.destination.port()), (other.ours, 80));
        other.stack.handle_stray(other.now, &stray);
        other.flush();
    };
    // To the station that sent it, which the other stack has never heard of.
    let syn = other.tcp_frame(&seg("S", 0, 0).mss(1000).scale(0));
    give(&mut other, &syn);
    assert_eq!(other.recv().flags, "S.");
    let request = pattern(1000);
    other.send(seg(".", 1, 1));
    let (id, _) = other.stack.poll_event().expect("a new connection");
    let data = other.tcp_frame(&seg("P.", 1, 1).data(&request));
    give(&mut other, &data);
    assert_eq!(other.app_recv(id).0, request);
    assert_eq!((first.stack.stats().stray_out, other.stack.stats().stray_in), (2, 2));
    assert_eq!(first.stack.stats().tcp_in, 0);
}

#[test]
fn a_segment_in_pieces_is_handed_to_the_stack_that_it_belongs_to() {
    handed_over(config(), |t, frame| cut(t, frame, 7, (frame.len() / 24 * 8).max(24)));
}

#[test]
fn a_segment_behind_extension_headers_is_handed_to_the_stack_that_it_belongs_to() {
    handed_over(config_v6(), |t, frame| {
        // RFC 8200 4.6: destination options, six octets of padding.
        let payload = [&[6, 0, 1, 4, 0, 0, 0, 0], &frame[18 + ipv6::HEADER_LEN..]].concat();
        vec![t.ip_v6(&header_v6(PEER_IP6, OUR_IP6, 60, 64), &payload)]
    });
}

#[test]
fn what_waits_to_be_handed_over_is_whole_and_bounded() {
    let mut t = Fixture::new(config());
    t.stack.collect_strays();
    let frame = t.tcp_frame(&seg("P.", 1, 1).data(&pattern(1400)));
    let mut wrong = frame.clone();
    *wrong.last_mut().expect("octets") ^= 1;
    for piece in cut(&t, &wrong, 0, 1024) {
        t.frame(&piece);
    }
    assert_eq!((t.stack.stats().drop_checksum, t.stack.poll_stray()), (1, None));
    for id in 1..=1000 {
        for piece in cut(&t, &frame, id, 1024) {
            t.frame(&piece);
        }
    }
    let stats = t.stack.stats();
    assert!(stats.drop_stray > 0 && stats.stray_out + stats.drop_stray == 1000, "{stats:?}");
    let waiting = std::iter::from_fn(|| t.stack.poll_stray()).count();
    assert!(waiting > 500, "{waiting}");
    for piece in cut(&t, &frame, 1001, 1024) {
        t.frame(&piece);
    }
    assert!(t.stack.poll_stray().is_some(), "there is room again");
}

#[test]
fn congestion_that_one_piece_met_is_the_whole_segments() {
    // RFC 3168 5.3.
    let mut t = Fixture::new(config());
    t.send(seg("SEW", 0, 0));
    assert_eq!(t.recv().flags, "S.E");
    t.send(seg(".", 1, 1));
    let frame = t.tcp_frame(&seg("P.", 1, 1).data(&pattern(900)));
    for (index, mut piece) in cut(&t, &frame, 7, 304).into_iter().enumerate() {
        mark(&mut piece[18..], if index == 1 { Ecn::Ce } else { Ecn::Ect0 });
        t.frame(&piece);
    }
    assert_eq!(t.recv().flags, ".E");
    assert_eq!(t.stack.stats().tcp_ce_in, 1);
}
