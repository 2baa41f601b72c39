//! Properties of the whole receive path, and determinism.

use proptest::prelude::*;
use tagwire_netstack::{Config, Instant, Recv, TcpConfig};

use super::harness::{Fixture, config, ms, pattern, seg};

/// Runs a scripted exchange and returns everything that the stack sent, and when.
fn exchange(pieces: &[(usize, usize)], secret: u8) -> Vec<(Instant, Vec<u8>)> {
    let mut t = Fixture::bare(Config { secret: [secret; 16], ..config() });
    t.send(seg("S", 0, 0).mss(1000).scale(3).timestamp(1, 0));
    t.introduce(t.peer, super::harness::PEER);
    let at = t.transport_at();
    let answer = t.sent.iter().rev().find(|(_, frame)| frame.len() > at + 20).unwrap().1.clone();
    t.iss = u32::from_be_bytes(answer[at + 4..at + 8].try_into().unwrap());
    t.send(seg(".", 1, 1).timestamp(1, 0));
    let (id, _) = t.stack.poll_event().unwrap();
    let mut log = Vec::new();
    for (at, count) in pieces {
        t.send(seg(".", 1 + *at as u32, 1).data(&pattern(at + count)[*at..]).timestamp(2, 0));
        let (octets, _) = t.app_recv(id);
        t.app_send(id, &octets);
        t.advance(ms(37));
        log.extend(t.sent.drain(..));
    }
    log
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Any segmentation of a stream inside the window, in any order, with duplicates and
    /// overlaps, is read as the stream, whenever the application reads.
    #[test]
    fn any_segmentation_and_order_gives_the_stream(
        length in 1usize..20_000,
        buffer in 4096usize..70_000,
        pieces in proptest::collection::vec((0usize..20_000, 1usize..1400, any::<bool>()), 0..60),
        fin in any::<bool>(),
    ) {
        let stream = pattern(length);
        let tcp = TcpConfig { receive_buffer: buffer, ..TcpConfig::default() };
        let (mut t, id) = Fixture::established(Config { tcp, ..config() });
        let mut got = Vec::new();
        for (at, count, read) in pieces {
            let at = at.min(length);
            let end = (at + count).min(length);
            let flags = if fin && end == length { "F." } else { "." };
            t.send(seg(flags, 1 + at as u32, 1).data(&stream[at..end]));
            if read {
                got.extend(t.app_recv(id).0);
            }
        }
        // The sender goes on until all is acknowledged, as far as the window goes.
        let mut turns = 0;
        while got.len() < length {
            let from = got.len();
            let end = (from + 1400).min(length);
            t.send(seg(".", 1 + from as u32, 1).data(&stream[from..end]));
            got.extend(t.app_recv(id).0);
            turns += 1;
            prop_assert!(turns < 100);
        }
        prop_assert!(got == stream);
        t.sent.clear();
        t.send(seg("F.", 1 + length as u32, 1));
        prop_assert_eq!(t.recv().ack, 2 + length as u32);
        prop_assert_eq!(t.app_recv(id).1, Recv::Finished);
    }

    /// The same calls have the same results; another secret has others.
    #[test]
    fn a_run_can_be_repeated(pieces in proptest::collection::vec((0usize..3000, 1usize..1000), 1..20)) {
        prop_assert_eq!(exchange(&pieces, 1), exchange(&pieces, 1));
        prop_assert_ne!(exchange(&pieces, 1), exchange(&pieces, 2));
    }
}
