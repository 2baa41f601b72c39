//! The packet loop of `tagwire-core` against the real kernel: rings, tags, offloads, room,
//! wake-ups and links, in a lab of namespaces. Needs root; without, it says so and passes.
#![forbid(unsafe_code)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use support::{
    CLIENT_INTERFACE, CLIENT_MAC, Event, HEADERS, Peer, Running, VLAN, checksum_is_right, in_lab,
    is_segment, note, now, number, pattern, segment,
};
use tagwire_core::driver::DriverKind;
use tagwire_core::nic::LinkState;
use tagwire_core::packet::{RxChecksum, VlanTag};
use tagwire_lab::{Lab, POD_INTERFACE};

/// A worker on the client's end of the cable, as the other side of the pod's.
fn opposite(lab: &Lab, driver: DriverKind) -> Running {
    Running::start(lab.client(), CLIENT_INTERFACE, Duration::ZERO, driver)
}

/// A queue in front of the wire that takes in more than a socket may have under way, and lets it out
/// slowly. The kernel's queues begin below the macvlan.
fn slow_down(lab: &Lab) {
    let tc = lab.node().command("tc").args(["qdisc", "add", "dev", "nic0", "root", "tbf"]);
    tc.args(["rate", "2gbit", "burst", "1m", "limit", "64m"]).stdout_string().unwrap();
}

/// Has `worker` send so many segments with this payload, numbered from 0.
fn send_numbered(worker: &Running, frames: u32, payload: &Bytes) {
    let mac = worker.interface.mac;
    let one = |number| segment(CLIENT_MAC, mac, number, payload.clone());
    worker.send((0..frames).map(one).collect());
}

#[test]
fn a_frame_comes_with_its_tag_its_time_and_its_checksums_state() {
    in_lab("a frame's tag and checksum state", |lab, driver| {
        let worker = Running::in_pod(lab, driver);
        let mac = worker.interface.mac;
        let tci = 5 << 13 | VLAN;
        let sent = now();
        Peer::open(lab).send(&note(mac, CLIENT_MAC, Some(tci), "hello"));
        let (octets, meta, at) = worker.next_frame();
        assert_eq!(octets[..12], [mac, CLIENT_MAC].concat());
        assert_eq!(octets[12..19], *b"\x88\xb5hello");
        assert_eq!(meta.vlan, Some(VlanTag { tpid: 0x8100, tci }));
        assert_eq!(meta.checksum, RxChecksum::Unverified);
        // The wall clock, in which the kernel stamps, may be slewed against the monotonic one.
        let slack = Duration::from_millis(50);
        assert!(meta.received.after(slack) >= sent && meta.received <= at.after(slack));

        let opposite = opposite(lab, driver);
        opposite.send(vec![segment(mac, CLIENT_MAC, 7, Bytes::from_static(b"offloaded"))]);
        let (octets, meta, _) = worker.next_frame();
        assert!(octets.ends_with(b"offloaded"));
        assert_eq!(meta.checksum, RxChecksum::Partial);
        assert_eq!(opposite.stop().of("tx_frames"), 1);
        assert_eq!(worker.stop().of("rx_frames"), 2);
    });
}

#[test]
fn a_frame_longer_than_a_slot_arrives_whole_and_in_its_turn() {
    in_lab("oversize frames", |lab, driver| {
        let worker = Running::in_pod(lab, driver);
        let opposite = opposite(lab, driver);
        let sizes = [1000, 60_000, 1448, 30_000, 2897, 1];
        let body = pattern(60_000);
        let frames = sizes.iter().zip(0..).map(|(&size, number)| {
            segment(worker.interface.mac, CLIENT_MAC, number, body.slice(..size))
        });
        opposite.send(frames.collect());
        for size in sizes {
            let (octets, meta, _) = worker.next_frame();
            // Four octets less: the tag is beside the frame.
            assert_eq!(octets.len(), HEADERS - 4 + size);
            assert!(octets[HEADERS - 4..] == body[..size], "the payload of {size} octets differs");
            assert_eq!(meta.vlan, Some(VlanTag { tpid: 0x8100, tci: VLAN }));
        }
        let counts = worker.stop();
        assert_eq!(counts.of("rx_oversize"), 3);
        assert_eq!(counts.of("rx_truncated") + counts.of("rx_kernel_drops"), 0);
    });
}

#[test]
fn what_is_for_others_never_comes_up() {
    in_lab("the filter", |lab, driver| {
        let worker = Running::in_pod(lab, driver);
        let peer = Peer::open(lab);
        let mac = worker.interface.mac;
        let mut other = mac;
        other[5] ^= 0x40;
        peer.send(&note(mac, CLIENT_MAC, Some(VLAN + 1), "another VLAN"));
        peer.send(&note(mac, CLIENT_MAC, None, "no VLAN"));
        peer.send(&note(mac, CLIENT_MAC, Some(0), "a priority only"));
        peer.send(&note(other, CLIENT_MAC, Some(VLAN), "another address"));
        peer.send(&note([0xff; 6], CLIENT_MAC, Some(VLAN + 1), "all of another VLAN"));
        peer.send(&note(mac, CLIENT_MAC, Some(VLAN), "ours"));
        assert!(worker.next_frame().0[14..].starts_with(b"ours"));
        peer.send(&note([0xff; 6], CLIENT_MAC, Some(VLAN), "all of our VLAN"));
        assert!(worker.next_frame().0[14..].starts_with(b"all of our VLAN"));
        assert_eq!(worker.stop().of("rx_frames"), 2);
    });
}

#[test]
fn a_segment_to_be_cut_arrives_whole_or_cut_and_is_the_same() {
    in_lab("segmentation offload", |lab, driver| {
        let worker = Running::in_pod(lab, driver);
        let mut peer = Peer::open(lab);
        let body = pattern(60_000);
        let frame = || segment(CLIENT_MAC, worker.interface.mac, 1000, body.clone());

        worker.send(vec![frame()]);
        let whole = peer.next(is_segment);
        assert!(whole.len() == HEADERS + body.len() && whole.ends_with(&body));

        // A card that cuts nothing: the kernel does it, and completes the checksums.
        let node = lab.node().command("ethtool");
        node.args(["-K", "nic0", "tso", "off", "gso", "off", "tx", "off"]).stdout_string().unwrap();
        worker.send(vec![frame()]);
        let mut have = 0;
        while have < body.len() {
            let part = peer.next(is_segment);
            assert!(part.len() <= HEADERS + 1448 && checksum_is_right(part));
            assert_eq!(number(part) as usize, 1000 + have);
            assert!(body[have..].starts_with(&part[HEADERS..]));
            have += part.len() - HEADERS;
        }
        assert_eq!(worker.stop().of("tx_frames"), 2);
    });
}

#[test]
fn a_slow_device_loses_nothing_and_changes_no_order() {
    in_lab("waiting for room", |lab, driver| {
        slow_down(lab);
        let worker = Running::in_pod(lab, driver);
        let mut peer = Peer::open(lab);
        let body = pattern(64_000);
        let frames = 2000;
        send_numbered(&worker, frames, &body);
        for expected in 0..frames {
            let frame = peer.next(is_segment);
            assert_eq!(number(frame), expected);
            assert!(frame.len() == HEADERS + body.len() && frame.ends_with(&body));
        }
        assert_eq!(peer.overruns(), 0);
        let counts = worker.stop();
        assert!(counts.of("tx_full") > 0, "nothing had to wait: the test tests nothing");
        assert_eq!(counts.of("tx_frames"), u64::from(frames));
        assert_eq!(counts.of("tx_no_buffers") + counts.of("tx_errors"), 0);
    });
}

#[test]
fn polling_does_not_keep_waiting_frames_from_their_room() {
    in_lab("room while polling", |lab, driver| {
        slow_down(lab);
        // Polling so long, it never sleeps: what the kernel defers it must fetch all the same.
        let pod = lab.pod(0).namespace();
        let worker = Running::start(pod, POD_INTERFACE, Duration::from_secs(60), driver);
        let mut peer = Peer::open(lab);
        let body = pattern(64_000);
        let frames = 500;
        send_numbered(&worker, frames, &body);
        for expected in 0..frames {
            let frame = peer.next(is_segment);
            assert_eq!(number(frame), expected);
        }
        assert!(worker.stop().of("tx_full") > 0, "nothing had to wait: the test tests nothing");
    });
}

#[test]
fn every_wake_is_seen() {
    in_lab("wake-ups", |lab, driver| {
        for busy_poll in [Duration::ZERO, Duration::from_micros(50)] {
            let worker = Running::start(lab.pod(0).namespace(), POD_INTERFACE, busy_poll, driver);
            // One at a time, the worker falls asleep between them; then all at once.
            for number in 0..2000 {
                worker.echo(number);
                assert!(matches!(worker.next_event(), Event::Order(n) if n == number));
            }
            (0..2000).for_each(|number| worker.echo(number));
            for number in 0..2000 {
                assert!(matches!(worker.next_event(), Event::Order(n) if n == number));
            }
            worker.stop();
        }
    });
}

#[test]
fn a_link_that_was_down_is_told_of_and_works_again() {
    in_lab("links", |lab, driver| {
        for busy_poll in [Duration::ZERO, Duration::from_secs(60)] {
            let worker = Running::start(lab.pod(0).namespace(), POD_INTERFACE, busy_poll, driver);
            let peer = Peer::open(lab);
            let set = |state: &str| {
                let ip = lab.pod(0).command("ip").args(["link", "set", POD_INTERFACE, state]);
                ip.stdout_string().unwrap();
            };
            for round in 0..3 {
                set("down");
                while !matches!(worker.next_event(), Event::Link(LinkState::Down)) {}
                set("up");
                while !matches!(worker.next_event(), Event::Link(LinkState::Up)) {}
                let text = format!("round {round}");
                peer.send(&note(worker.interface.mac, CLIENT_MAC, Some(VLAN), &text));
                assert!(worker.next_frame().0[14..].starts_with(text.as_bytes()));
            }
            worker.stop();
        }
    });
}
