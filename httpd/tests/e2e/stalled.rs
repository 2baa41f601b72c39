//! Clients that take their time: one stops reading and goes on, one never ends its request.

use std::io::Write;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::bed::{Bed, content, wait_until};
use crate::client::Client;

#[test]
pub(crate) fn a_client_that_reads_nothing_for_ten_seconds_gets_everything() {
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

#[test]
pub(crate) fn a_head_that_trickles_in_is_given_up() {
    let Some(bed) = Bed::up() else { return };
    let mut client = Client::connect(&bed);
    let started = Instant::now();
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n");
    let mut writer = client.socket().try_clone().unwrap();
    std::thread::scope(|scope| {
        // It would go on for half a minute; the answer comes before.
        scope.spawn(move || {
            while started.elapsed() < Duration::from_secs(30)
                && writer.write_all(b"A: b\r\n").is_ok()
            {
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        let answer = client.answer();
        let took = started.elapsed();
        assert_eq!((answer.status, answer.field("Connection")), (408, Some("close")));
        assert!((9000..12_000).contains(&took.as_millis()), "{took:?}");
        // Taking nothing more, it does not hear what else would be said.
        client.socket().shutdown(Shutdown::Both).unwrap();
    });
    wait_until("it is closed", Duration::from_secs(10), || bed.status()["connections"] == 0);
    bed.finish();
}
