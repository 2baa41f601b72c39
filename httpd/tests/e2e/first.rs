//! The first ping and the first request are answered, although nobody knows anybody yet.

use crate::bed::{Bed, INDEX, said};
use tagwire_lab::Lab;

const TIMES: usize = 10;

/// A fresh appliance and a client that has forgotten it, ten times; all of `line` must succeed.
fn ten_times(line: &[&str], expected: &[u8]) {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    for round in 0..TIMES {
        bed.client_ok(&["ip", "neigh", "flush", "all"]);
        bed.start(&[]);
        let answer = bed.client(line);
        assert!(answer.status.success(), "round {round}: {}", said(&answer));
        assert!(answer.stdout.starts_with(expected), "round {round}: {}", said(&answer));
        bed.stop();
    }
    bed.finish();
}

#[test]
fn the_first_ping_of_one_is_answered_ten_times_out_of_ten() {
    ten_times(&["ping", "-c1", "-W1", "192.168.123.150"], b"PING");
}

#[test]
fn the_first_curl_of_one_is_answered_ten_times_out_of_ten() {
    // A SYN that is lost is sent again after a second: that would show as well.
    ten_times(&["curl", "-sS", "-m", "0.9", "http://192.168.123.150/"], INDEX);
}
