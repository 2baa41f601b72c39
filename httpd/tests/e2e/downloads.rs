//! Large files: many clients at once, and more than the cache holds.

use std::time::{Duration, Instant};

use tagwire_lab::Lab;

use crate::bed::{Bed, alone, content};
use crate::client::download;

const MIB: usize = 1 << 20;

#[test]
pub(crate) fn sixty_four_parallel_downloads_of_100_mib_are_right() {
    let Some(bed) = Bed::up() else { return };
    let file = content(1, 100 * MIB);
    bed.put("large.bin", &file);
    let _turn = alone();
    let started = Instant::now();
    download(&bed, "/large.bin", &file, 64);
    // 6.4 GiB; a stall would be a matter of retransmission timeouts.
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    bed.finish();
}

#[test]
pub(crate) fn a_file_larger_than_the_cache_comes_whole_through_bounded_memory() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let file = content(2, 200 * MIB);
    bed.put("larger.bin", &file);
    bed.start(&["--cache-size", "8m"]);
    let turn = alone();
    download(&bed, "/larger.bin", &file, 4);
    drop(turn);
    // The cache, what four connections have in their queues, and what everything rests on.
    let peak = bed.memory("VmHWM");
    assert!(peak < 64 * 1024, "{peak} KiB resident at the peak");
    bed.assert_serves();
    bed.finish();
}

#[test]
pub(crate) fn curl_gets_a_large_file_and_resumes_connections() {
    let Some(bed) = Bed::up() else { return };
    let file = content(3, 5 * MIB);
    bed.put("five.bin", &file);
    let to = bed.lab().scratch().join("got");
    let url = &bed.url("/five.bin");
    let to = to.to_str().unwrap();
    let said = bed.client_ok(&[
        "curl",
        "-sS",
        "-m",
        "20",
        "-w",
        "%{num_connects} ",
        "-o",
        to,
        url,
        "-o",
        to,
        url,
    ]);
    assert_eq!(said, "1 0 ", "the second request goes on the same connection");
    assert!(std::fs::read(to).unwrap() == file);
    bed.finish();
}
