//! Ping, ARP, and a link that goes and comes back.

use std::time::{Duration, Instant};

use tagwire_lab::Lab;

use crate::bed::{Bed, content, wait_until};
use crate::client::{Client, download};
use crate::raw::{Heard, Station};

#[test]
pub(crate) fn pings_of_every_size_that_fits_are_answered() {
    let Some(bed) = Bed::up() else { return };
    let largest = 1500 - bed.echo_headers();
    for size in [0, 1, 56, largest - 1, largest] {
        bed.ping(3, &["-s", &size.to_string()]);
    }
    bed.ping(100, &[]);
    bed.finish();
}

#[test]
pub(crate) fn a_client_that_forgot_the_address_finds_it_again() {
    let Some(bed) = Bed::up() else { return };
    for _ in 0..20 {
        bed.client_ok(&["ip", "neigh", "flush", "all"]);
        bed.assert_serves();
    }
    bed.finish();
}

/// Waits for three announcements, a second apart, and returns when they came.
fn announcements(station: &Station) -> Vec<Instant> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut times = Vec::new();
    while times.len() < 3 {
        match station.hear(deadline) {
            Some(Heard::Announcement) => times.push(Instant::now()),
            Some(_) => {}
            None => panic!("{} announcements only", times.len()),
        }
    }
    times
}

#[test]
fn the_address_is_announced_at_start_and_when_the_link_is_back() {
    let Some(mut bed) = Bed::down(Lab::builder().pods(2)) else { return };
    let station = Station::open(&bed);
    bed.start(&[]);
    let started = Instant::now();
    let times = announcements(&station);
    assert!(times[0] < started + Duration::from_millis(500), "the first one comes at once");
    let more = station.hear(times[2] + Duration::from_millis(1500));
    assert_eq!(more, None, "three are enough");
    bed.assert_serves();

    bed.pod_ok(&["ip", "link", "set", "macvlan0", "down"]);
    wait_until("the link is down", Duration::from_secs(5), || bed.status()["link_up"] == false);
    bed.pod_ok(&["ip", "link", "set", "macvlan0", "up"]);
    announcements(&station);
    assert_eq!(bed.status()["link_up"], true);
    bed.assert_serves();
    bed.finish();
}

#[test]
pub(crate) fn a_download_outlives_a_link_that_goes_for_a_moment() {
    let Some(mut bed) = Bed::down(Lab::builder().wire("rate=50mbit".parse().unwrap())) else {
        return;
    };
    let file = content(13, 4 << 20);
    bed.put("file.bin", &file);
    bed.start(&[]);
    let mut client = Client::connect(&bed);
    client.ask("GET", "/file.bin");
    let head = client.head();
    assert_eq!(head.status, 200);
    bed.pod_ok(&["ip", "link", "set", "macvlan0", "down"]);
    wait_until("the link is down", Duration::from_secs(5), || bed.status()["link_up"] == false);
    bed.pod_ok(&["ip", "link", "set", "macvlan0", "up"]);
    assert!(client.body(file.len()) == file, "the file came damaged");
    bed.finish();
}

#[test]
pub(crate) fn without_a_vlan_frames_are_untagged() {
    let Some(mut bed) = Bed::down(Lab::builder().untagged()) else { return };
    let file = content(14, 1 << 20);
    bed.put("file.bin", &file);
    bed.start(&[]);
    assert!(bed.lab().vlan().is_none() && bed.status()["vlan"].is_null());
    bed.client_ok(&["ping", "-c1", "-W1", "192.168.123.150"]);
    bed.assert_serves();
    download(&bed, "/file.bin", &file, 4);
    bed.finish();
}
