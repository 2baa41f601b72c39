//! Tags: two in each other, and the priority that they carry.

use std::time::{Duration, Instant};

use tagwire_lab::Lab;

use crate::bed::{ADDRESS, Bed, content};
use crate::client::download;
use crate::raw::{ACK, BROADCAST, Heard, SYN, Station, frame};

#[test]
pub(crate) fn two_tags_in_each_other_are_a_vlan() {
    let Some(mut bed) = Bed::down(Lab::builder().outer_vlan(100).vlan(200)) else { return };
    let file = content(31, 1 << 20);
    bed.put("file.bin", &file);
    for workers in ["1", "3"] {
        bed.start(&["--workers", workers]);
        let status = bed.status();
        // The tags are at the expense of the packet.
        assert_eq!((&status["vlan"], &status["mtu"]), (&"100.200".into(), &1492.into()));
        for size in [56, 1492 - bed.echo_headers()] {
            bed.ping(2, &["-s", &size.to_string()]);
        }
        bed.assert_serves();
        download(&bed, "/file.bin", &file, 8);
        bed.stop();
    }
    // Neither of the two alone will do.
    let command = bed
        .command(&["serve", "--interface", "macvlan0", "--vlan", "200"])
        .args(["--address", "192.168.123.150/24", "--www-root"])
        .arg(bed.www());
    bed.start_with(command);
    let page = bed.client(&["curl", "-sS", "-m", "1", "http://192.168.123.150/"]);
    assert!(!page.status.success(), "answered in another VLAN");
    bed.finish();
}

#[test]
fn what_is_sent_carries_the_priority_that_was_asked_for() {
    let Some(mut bed) = Bed::down(Lab::builder().pods(2)) else { return };
    bed.start(&["--pcp", "5"]);
    let station = Station::open(&bed);
    station.send(&frame(
        BROADCAST,
        station.mac,
        &[station.vlan],
        &station.arp(1, station.address, ADDRESS),
    ));
    let deadline = Instant::now() + Duration::from_secs(5);
    // A reply, and not one of the announcements before it.
    let reply = loop {
        match station.hear(deadline) {
            Some(Heard::Other(frame)) if frame[..6] == station.mac => break frame,
            Some(Heard::Other(frame)) => assert_eq!(frame[14] >> 5, 5, "{frame:x?}"),
            heard => panic!("{heard:?} without a priority"),
        }
    };
    assert_eq!(reply[12..18], [0x81, 0, 5 << 5, 123, 8, 6]);
    bed.assert_serves();
    bed.finish();
}

#[test]
fn a_priority_is_no_vlan() {
    let Some(mut bed) = Bed::down(Lab::builder().untagged().pods(2)) else { return };
    bed.start(&[]);
    let station = Station::open(&bed);
    let answer = |packet| {
        // A tag with VID 0 in front of what is meant for no VLAN (802.1Q 6.9).
        station.send(&frame(station.server, station.mac, &[3 << 13], &packet));
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match station.hear(deadline) {
                Some(Heard::Announcement) => {}
                heard => return heard.expect("an answer"),
            }
        }
    };
    assert_eq!(answer(station.arp(1, station.address, ADDRESS)), Heard::ArpReply);
    assert_eq!(answer(station.echo_request(3)), Heard::Echo(3));
    assert_eq!(answer(station.segment(SYN, 1000)), Heard::Segment(SYN | ACK, 1001));
    bed.assert_serves();
    bed.finish();
}
