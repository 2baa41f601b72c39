//! A client that stops reading, and goes on.

use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::bed::{Bed, content};
use crate::client::Client;

#[test]
fn a_client_that_reads_nothing_for_ten_seconds_gets_everything() {
    const STALL: Duration = Duration::from_secs(10);
    let Some(bed) = Bed::up() else { return };
    let file = content(4, 20 << 20);
    bed.put("file.bin", &file);
    let mut client = Client::connect_small(&bed, 8192);
    client.ask("GET", "/file.bin");
    let stalled = Instant::now();
    // The others are served meanwhile.
    while stalled.elapsed() < STALL {
        bed.assert_serves();
        std::thread::sleep(Duration::from_millis(500));
    }
    let probes = bed.counted("tcp_window_probe");
    assert!((3..50).contains(&probes), "{probes} zero-window probes");
    let (len, digest) = client.digest();
    assert_eq!(len, file.len() as u64);
    assert!(digest == Sha256::digest(&file).to_vec(), "the file came damaged");
    assert_eq!(client.get("/").status, 200);
    bed.finish();
}
