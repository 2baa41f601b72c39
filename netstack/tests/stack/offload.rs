//! The two ends of the offload scale. Every frame passes [`crate::link`], which checks that it
//! can be sent: lengths, checksums, what is to be cut.

use tagwire_netstack::{Config, MIN_BUFFER, Offload, TcpConfig};

use super::harness::{Fixture, MIN_MTU, Unlimited, config, pattern, seg};

fn wide() -> TcpConfig {
    TcpConfig { congestion: |_| Box::new(Unlimited), ..TcpConfig::default() }
}

/// Sends a stream in pieces of `piece` and reads it back from the wire.
fn transfer(config: Config, buffer_len: usize, piece: usize, stamped: bool) -> u64 {
    // Fewer segments than may be out at once.
    let stream = pattern(100_000);
    let mut t = Fixture::new(config);
    t.buffer_len = buffer_len;
    let syn = seg("S", 0, 0).mss(65_495).scale(7).window(60_000);
    let id = t.open(if stamped { syn.timestamp(9, 0) } else { syn });
    for octets in stream.chunks(piece) {
        t.stack.send(id, bytes::Bytes::copy_from_slice(octets)).unwrap();
    }
    t.shutdown(id);
    let mut got = Vec::new();
    loop {
        let segment = t.recv();
        assert_eq!(segment.seq as usize, 1 + got.len());
        assert!(!got.is_empty() || !segment.data.is_empty());
        got.extend(segment.data);
        if segment.flags.contains('F') {
            break;
        }
        assert_eq!(segment.flags.contains('P'), got.len() == stream.len());
    }
    assert!(got == stream, "the stream differs");
    t.nothing();
    t.stack.stats().frames_out
}

#[test]
fn without_offload_every_frame_fits_and_is_complete() {
    for mtu in [68, 576, 1280, 1500, 1504, 9000, 65_535].into_iter().filter(|mtu| *mtu >= MIN_MTU) {
        for stamped in [false, true] {
            for buffer_len in [MIN_BUFFER, 70_000] {
                let config = Config { mtu, tcp: wide(), ..config() };
                let frames = transfer(config, buffer_len, 50_000, stamped);
                assert!(frames > 100_000 / u64::from(mtu), "{frames}");
            }
        }
    }
}

#[test]
fn with_offload_large_segments_are_cut_by_the_link() {
    for vlan in ["0", "7", "7.8"] {
        let vlan = vlan.parse().unwrap();
        for mtu in [68, 576, 1500, 9000, 65_535].into_iter().filter(|mtu| *mtu >= MIN_MTU) {
            for (buffer_len, piece) in [(MIN_BUFFER, 300_000), (MIN_BUFFER, 3001), (70_000, 900)] {
                let offload = Offload::FULL;
                let config = Config { vlan, mtu, offload, tcp: wide(), ..config() };
                let frames = transfer(config, buffer_len, piece, true);
                // Not one for each MTU: the point of the exercise.
                assert!(frames < 40 || mtu == 68 && frames < 400, "{frames} at {mtu}");
            }
        }
    }
}

#[test]
fn crumbs_are_gathered_up_to_a_limit() {
    let offload = Offload::FULL;
    let config = Config { offload, tcp: wide(), ..config() };
    let frames = transfer(config, MIN_BUFFER, 100, false);
    assert!(frames < 300_000 / 1500, "{frames}");
}

#[test]
fn the_checksum_alone_can_be_left_to_the_link() {
    let offload = Offload { checksum: true, segmentation: false };
    transfer(Config { offload, tcp: wide(), ..config() }, MIN_BUFFER, 10_000, true);
    // Cutting implies it.
    let offload = Offload { checksum: false, segmentation: true };
    transfer(Config { offload, tcp: wide(), ..config() }, MIN_BUFFER, 10_000, true);
}
