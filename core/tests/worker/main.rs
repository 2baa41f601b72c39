//! How a worker opens, sleeps, refuses and ends, against the real kernel: on one end of a veth
//! pair, in a namespace of its own. Needs root; says so and passes without. What it does with
//! frames is tested in the lab (`benches/tests/worker`).

mod fanout;
mod support;

use std::time::Duration;

use support::{
    Event, Order, Outgoing, Peer, Running, VLAN, ethernet, in_namespace, ip, note, run, segment,
};
use tagwire_core::clock;
use tagwire_core::error::OpenError;
use tagwire_core::nic::{Interface, LinkState};
use tagwire_core::packet::{Gso, GsoKind, TxChecksum, Vlan};
use tagwire_core::worker::{Worker, WorkerConfig};

const ASLEEP: Duration = Duration::ZERO;

fn plain(head: Vec<u8>) -> Outgoing {
    Outgoing { head, payload: Vec::new(), checksum: None, gso: None }
}

#[test]
fn without_a_vlan_only_untagged_and_priority_tagged_frames_come_up() {
    in_namespace(|driver| {
        let worker = Running::start("nic0", Vlan::Untagged, ASLEEP, driver);
        let peer = Peer::open("peer0");
        let us = worker.interface.mac;
        peer.send(&note(us, peer.mac, Some(VLAN), "not for you"));
        peer.send(&note(us, peer.mac, None, "untagged"));
        peer.send(&note(us, peer.mac, Some(5 << 13), "priority"));
        let (bytes, meta, _) = worker.next_frame();
        assert_eq!((&bytes[14..22], meta.vlan), (&b"untagged"[..], None));
        let (bytes, meta, _) = worker.next_frame();
        assert_eq!(bytes[14..22], *b"priority");
        assert_eq!(meta.vlan.map(|tag| tag.tci), Some(5 << 13));
        worker.finish();
    });
}

#[test]
fn a_worker_that_ends_sends_its_last_frames() {
    in_namespace(|driver| {
        ip("link add link nic0 name m0 type macvlan mode bridge");
        ip("link set m0 up");
        run("tc", "qdisc add dev nic0 root tbf rate 400mbit burst 1mb limit 128mb");
        let worker = Running::start("m0", Vlan::Tagged(VLAN), ASLEEP, driver);
        let peer = Peer::open("peer0");
        let us = worker.interface.mac;
        worker.order(Order::Send((0..100).map(|i| segment(peer.mac, us, i, 60_000)).collect()));
        let counts = worker.finish();
        assert_eq!(counts["tx_frames"], 100);
        let mut sequence = 0u32;
        while sequence < 100 {
            let bytes = peer.receive();
            if bytes[..6] == peer.mac {
                assert_eq!(bytes[14 + 24..14 + 28], sequence.to_be_bytes());
                sequence += 1;
            }
        }
    });
}

#[test]
fn the_receive_ring_is_looked_at_between_large_frames() {
    const FRAMES: u32 = 64;
    in_namespace(|driver| {
        let worker = Running::start("nic0", Vlan::Tagged(VLAN), ASLEEP, driver);
        let (peer, us) = (Peer::open("peer0"), worker.interface.mac);
        worker.order(Order::TellQueued);
        worker.order(Order::Send((0..FRAMES).map(|i| segment(peer.mac, us, i, 60_000)).collect()));
        let frame = 60_000 + 58;
        let mut left = FRAMES as usize * frame;
        while left > 0 {
            match worker.next() {
                Event::Queued(octets) => {
                    assert!(octets < (1 << 20) + frame, "{octets} octets in one turn");
                    left -= octets;
                }
                other => panic!("{other:?}"),
            }
        }
        worker.finish();
    });
}

#[test]
fn frames_that_the_kernel_refuses_are_counted_by_their_cause() {
    in_namespace(|driver| {
        let worker = Running::start("nic0", Vlan::Tagged(VLAN), ASLEEP, driver);
        let peer = Peer::open("peer0");
        let us = worker.interface.mac;
        let mut too_long = plain(ethernet(peer.mac, us, Some(VLAN), support::EXPERIMENTAL));
        too_long.payload.push(vec![0; 3000].into());
        let mut no_such_checksum = plain(note(peer.mac, us, Some(VLAN), "x"));
        no_such_checksum.checksum = Some(TxChecksum { start: 5000, offset: 16 });
        let mut no_tcp = plain(note(peer.mac, us, Some(VLAN), "x"));
        no_tcp.gso = Some(Gso { kind: GsoKind::TcpV4, size: 0, header_len: 54 });
        let last = plain(note(peer.mac, us, Some(VLAN), "last"));
        worker.order(Order::Send(vec![too_long, no_such_checksum, no_tcp, last]));
        assert_eq!(peer.receive()[14..18], *b"last");
        let counts = worker.finish();
        assert_eq!(counts["tx_too_long"], 1, "{counts:?}");
        assert_eq!(counts["tx_bad_offload"], 2, "{counts:?}");
    });
}

#[test]
fn a_sleeping_worker_wakes_for_another_thread_and_for_its_deadline() {
    in_namespace(|driver| {
        for busy_poll in [ASLEEP, Duration::from_millis(1)] {
            let worker = Running::start("nic0", Vlan::Tagged(VLAN), busy_poll, driver);
            for _ in 0..50 {
                let at = clock::now().after(Duration::from_millis(2));
                worker.order(Order::Deadline(at));
                match worker.next() {
                    Event::Deadline(now) => assert!(now >= at && support::is_about_now(now)),
                    other => panic!("{other:?}"),
                }
            }
            let counts = worker.finish();
            assert!(counts["waits"] > 0);
            if busy_poll.is_zero() {
                // Each round: woken, the event cleared, the deadline; it did not spin.
                assert!(counts["turns"] < 50 * 6, "{counts:?}");
            }
        }
    });
}

/// Pacing asks for deadlines some 10 to 100 us apart.
#[test]
fn deadlines_of_microseconds_are_kept_without_spinning() {
    const ROUNDS: u64 = 500;
    const SPAN: Duration = Duration::from_micros(100);
    in_namespace(|driver| {
        let worker = Running::start("nic0", Vlan::Tagged(VLAN), ASLEEP, driver);
        worker.order(Order::Pace(SPAN, ROUNDS));
        let mut late: Vec<Duration> = (0..ROUNDS)
            .map(|_| match worker.next() {
                Event::Paced { due, at } => {
                    assert!(at >= due, "never early");
                    at.since(due)
                }
                other => panic!("{other:?}"),
            })
            .collect();
        late.sort();
        // Others want the CPU too; at times it is there at once.
        let quartile = late[late.len() / 4];
        assert!(quartile < SPAN, "late by {quartile:?}");
        let counts = worker.finish();
        assert!(counts["turns"] < ROUNDS * 3, "{counts:?}");
    });
}

#[test]
fn a_frame_that_had_to_wait_says_since_when() {
    const STALL: Duration = Duration::from_millis(200);
    /// Softirqs may be late on a busy machine.
    const SLACK: Duration = Duration::from_millis(50);
    in_namespace(|driver| {
        let worker = Running::start("nic0", Vlan::Tagged(VLAN), ASLEEP, driver);
        let peer = Peer::open("peer0");
        let us = worker.interface.mac;
        worker.order(Order::Stall(STALL));
        assert!(matches!(worker.next(), Event::Stalls));
        let before = clock::now();
        peer.send(&note(us, peer.mac, Some(VLAN), "early"));
        let after = clock::now();
        let (_, meta, at) = worker.next_frame();
        let received = meta.received;
        assert!(received >= before && received <= at, "{before:?} {received:?} {at:?}");
        assert!(received <= after.after(SLACK), "{after:?} {received:?} {at:?}");
        worker.finish();
    });
}

#[test]
fn jumbo_frames_come_and_go_whole() {
    in_namespace(|driver| {
        for end in ["nic0", "peer0"] {
            ip(&format!("link set {end} mtu 9000"));
        }
        let worker = Running::start("nic0", Vlan::Tagged(VLAN), ASLEEP, driver);
        assert_eq!(worker.interface.mtu, 9000);
        let peer = Peer::open("peer0");
        let us = worker.interface.mac;
        let jumbo = |to, from, seed: u32| {
            let mut frame = ethernet(to, from, Some(VLAN), support::EXPERIMENTAL);
            frame.extend(support::pattern(seed, 9000));
            frame
        };
        for seed in 0..3 {
            peer.send(&jumbo(us, peer.mac, seed));
            let (bytes, ..) = worker.next_frame();
            assert!(bytes.ends_with(&support::pattern(seed, 9000)));
            // In one piece, as an echo reply is.
            worker.order(Order::Send(vec![plain(jumbo(peer.mac, us, seed))]));
            assert!(peer.receive().ends_with(&support::pattern(seed, 9000)));
        }
        let counts = worker.finish();
        assert_eq!((counts["rx_oversize"], counts["tx_too_long"]), (0, 0), "{counts:?}");
    });
}

/// A macvlan passes a group's frames up only if somebody has asked for them.
#[test]
fn groups_are_heard_once_they_are_wanted() {
    const SOLICITED: [u8; 6] = [0x33, 0x33, 0xff, 0, 0, 1];
    const OTHER: [u8; 6] = [0x33, 0x33, 0xff, 0, 0, 2];
    const ALL: [u8; 6] = [0xff; 6];
    in_namespace(|driver| {
        ip("link add link nic0 name m0 type macvlan mode bridge");
        ip("link set m0 addrgenmode none");
        ip("link set m0 up");
        let worker = Running::start("m0", Vlan::Tagged(VLAN), ASLEEP, driver);
        let peer = Peer::open("peer0");
        for wanted in [&[][..], &[SOLICITED], &[SOLICITED, OTHER]] {
            worker.order(Order::Groups(wanted.to_vec()));
            assert!(matches!(worker.next(), Event::Joined));
            for group in [SOLICITED, OTHER] {
                peer.send(&note(group, peer.mac, Some(VLAN), "group"));
            }
            peer.send(&note(ALL, peer.mac, Some(VLAN), "last"));
            for group in wanted {
                assert_eq!(worker.next_frame().0[..6], *group, "of {wanted:x?}");
            }
            assert_eq!(worker.next_frame().0[..6], ALL, "of {wanted:x?}");
        }
        // Its filter is a hash that forgets late; the list behind it does not.
        let listed = || {
            let all = std::fs::read_to_string("/proc/thread-self/net/dev_mcast").unwrap();
            let own = |line: &&str| line.contains("m0") && line.contains("3333ff0000");
            all.lines().filter(own).count()
        };
        for (wanted, count) in [(&[SOLICITED, OTHER][..], 2), (&[OTHER], 1), (&[], 0)] {
            worker.order(Order::Groups(wanted.to_vec()));
            assert!(matches!(worker.next(), Event::Joined));
            assert_eq!(listed(), count, "of {wanted:x?}");
        }
        worker.finish();
    });
}

#[test]
fn a_link_that_returns_receives_and_sends_again() {
    in_namespace(|driver| {
        let worker = Running::start("nic0", Vlan::Tagged(VLAN), ASLEEP, driver);
        let us = worker.interface.mac;
        // The carrier goes with the other end, then the interface itself.
        for end in ["peer0", "nic0"] {
            let peer = Peer::open("peer0");
            ip(&format!("link set {end} down"));
            let lost = if end == "nic0" { LinkState::Down } else { LinkState::NoCarrier };
            while !matches!(worker.next(), Event::Link(link) if link == lost) {}
            worker.order(Order::Send(vec![plain(note(peer.mac, us, Some(VLAN), "lost"))]));
            ip(&format!("link set {end} up"));
            while !matches!(worker.next(), Event::Link(LinkState::Up)) {}
            let peer = Peer::open("peer0");
            peer.send(&note(us, peer.mac, Some(VLAN), "again"));
            assert_eq!(worker.next_frame().0[14..19], *b"again");
            worker.order(Order::Send(vec![plain(note(peer.mac, us, Some(VLAN), "answer"))]));
            while peer.receive()[14..20] != *b"answer" {}
        }
        // An error that nobody takes off the socket would end every sleep at once.
        let counts = worker.finish();
        assert!(counts["turns"] < 100, "{counts:?}");
    });
}

#[test]
fn what_keeps_a_worker_from_opening_is_named() {
    in_namespace(|driver| {
        let open = |interface: Interface| {
            let config = WorkerConfig {
                ring_slots: WorkerConfig::ring_slots(&interface),
                interface,
                vlans: [Vlan::Tagged(VLAN)].into(),
                busy_poll: ASLEEP,
            };
            Worker::alone(&config, driver).err()
        };
        // It may not have heard of its carrier yet.
        let interface = Interface::find("nic0").unwrap();
        assert_eq!(interface.mtu, 1500);
        assert!(open(interface).is_none());
        ip("link set nic0 down");
        let interface = Interface::find("nic0").unwrap();
        assert!(matches!(open(interface), Some(OpenError::LinkDown { .. })));
        // Without CAP_NET_RAW in this namespace's owner there is no packet socket.
        let interface = Interface { link: LinkState::Up, ..Interface::find("nic0").unwrap() };
        drop_capabilities();
        assert!(matches!(open(interface), Some(OpenError::Capability)));
    });
}

/// Takes all capabilities from this thread.
fn drop_capabilities() {
    // linux/capability.h, version 3: a header of two u32, and twice three u32.
    let header = [0x2008_0522u32, 0];
    let none = [0u32; 6];
    // SAFETY: both arrays have the layout that capset reads and outlive the call; it changes
    // this thread only.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
    assert_eq!(result, 0);
}
