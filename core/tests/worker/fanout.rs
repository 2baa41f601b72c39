//! Several workers on one interface: who gets which frame.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tagwire_core::nic::{Interface, LinkState};
use tagwire_core::packet::{MAX_VLANS, Steering, SynShare, Vlan};

use crate::support::{Event, Order, Peer, Running, VLAN, in_namespace, ip, note};

const WORKERS: usize = 4;
const PORT: u16 = 80;
const STEERING: fn() -> Steering = || Steering::new(WORKERS, 0x5eed_1e55);
const ASLEEP: Duration = Duration::ZERO;

/// (TPID, VID) of the tags in line, the outer one first.
type Tags<'a> = &'a [(u16, u16)];

fn sources() -> impl Iterator<Item = SocketAddr> {
    (0..40u16).flat_map(|i| {
        let v4 = Ipv4Addr::new(192, 0, 2, 1 + (i % 7) as u8);
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1 + i % 7);
        [SocketAddr::new(v4.into(), 40_000 + i), SocketAddr::new(v6.into(), 40_000 + i)]
    })
}

/// A TCP segment from `source`, with as much payload as is asked for, each octet `mark`.
fn segment(to: [u8; 6], from: [u8; 6], tags: Tags<'_>, source: SocketAddr, mark: u8) -> Vec<u8> {
    let mut frame = [to, from].concat();
    for (tpid, vid) in tags {
        frame.extend(tpid.to_be_bytes());
        frame.extend(vid.to_be_bytes());
    }
    match source.ip() {
        std::net::IpAddr::V4(address) => {
            frame.extend([8, 0, 0x45, 0, 0, 60, 0, 0, 0x40, 0, 64, 6, 0, 0]);
            frame.extend(address.octets());
            frame.extend([192, 0, 2, 200]);
        }
        std::net::IpAddr::V6(address) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 40, 6, 64]);
            frame.extend(address.octets());
            frame.extend(Ipv6Addr::LOCALHOST.octets());
        }
    }
    frame.extend(source.port().to_be_bytes());
    frame.extend(PORT.to_be_bytes());
    frame.extend([mark; 36]);
    frame
}

/// The mark of the next frame that a worker got.
fn next_mark(worker: &Running) -> u8 {
    *worker.next_frame().0.last().unwrap()
}

fn assert_steered(workers: &[Running], tags: Tags<'_>) {
    let steering = STEERING();
    let peer = Peer::open("peer0");
    let us = workers[0].interface.mac;
    let mut counts = [0; WORKERS];
    for (source, mark) in sources().zip(1..) {
        peer.send(&segment(us, peer.mac, tags, source, mark));
        let worker = steering.worker(source, PORT);
        assert_eq!(next_mark(&workers[worker]), mark, "{source} to worker {worker}");
        counts[worker] += 1;
    }
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

fn finish(workers: Vec<Running>) -> u64 {
    workers.into_iter().map(|worker| worker.finish()["rx_frames"]).sum()
}

#[test]
fn connections_stay_with_the_worker_that_both_sides_compute() {
    in_namespace(|driver| {
        for (vlan, tags) in [
            (Vlan::Untagged, &[][..]),
            (Vlan::Untagged, &[(0x8100, 0xa000)]),
            (Vlan::Tagged(VLAN), &[(0x8100, VLAN)]),
            (Vlan::Tagged(VLAN), &[(0x8100, 0xe000 | VLAN)]),
            (Vlan::Stacked { outer: 100, inner: VLAN }, &[(0x88a8, 100), (0x8100, VLAN)]),
            (Vlan::Stacked { outer: 100, inner: VLAN }, &[(0x8100, 100), (0x8100, VLAN)]),
        ] {
            let workers = Running::group("nic0", &[vlan], ASLEEP, &STEERING(), driver);
            assert_steered(&workers, tags);
            // Each frame to one of them, and none to two.
            assert_eq!(finish(workers), sources().count() as u64, "{vlan:?}");
        }
    });
}

/// As many as there may be: each of them is steered alike, and nothing else comes up.
#[test]
fn many_vlans_share_the_workers() {
    in_namespace(|driver| {
        let vlans = crowd();
        let workers = Running::group("nic0", &vlans, ASLEEP, &STEERING(), driver);
        assert_steered(&workers, &[]);
        for vid in [1, 9] {
            assert_steered(&workers, &[(0x8100, vid)]);
            assert_steered(&workers, &[(0x88a8, vid), (0x8100, 100 + vid)]);
        }
        let peer = Peer::open("peer0");
        let us = workers[0].interface.mac;
        let source = sources().next().unwrap();
        for tags in [&[(0x8100, 10)][..], &[(0x88a8, 1), (0x8100, 102)], &[(0x88a8, 101)]] {
            peer.send(&segment(us, peer.mac, tags, source, 1));
        }
        // Behind them.
        peer.send(&note([0xff; 6], peer.mac, None, "last"));
        assert_eq!(workers[0].next_frame().0[..6], [0xff; 6]);
        assert_eq!(finish(workers), 5 * sources().count() as u64 + 1);
    });
}

/// As many as there may be, with as long a program as it gets.
fn crowd() -> Vec<Vlan> {
    let both = |vid| [Vlan::Tagged(vid), Vlan::Stacked { outer: vid, inner: 100 + vid }];
    let vlans: Vec<_> = [Vlan::Untagged].into_iter().chain((1..=9).flat_map(both)).collect();
    let (last, least) = (vlans.len() - 2, MAX_VLANS - 2);
    [&vlans[..least], &vlans[last..]].concat()
}

#[test]
fn what_is_no_segment_goes_to_the_first_one() {
    in_namespace(|driver| {
        let workers = Running::group("nic0", &[Vlan::Tagged(VLAN)], ASLEEP, &STEERING(), driver);
        let peer = Peer::open("peer0");
        let us = workers[0].interface.mac;
        let elsewhere = sources().find(|source| STEERING().worker(*source, PORT) != 0).unwrap();
        let tags = [(0x8100, VLAN)];
        let with = |at: usize, octet: u8| {
            let mut frame = segment(us, peer.mac, &tags, elsewhere, 7);
            frame[18 + at] = octet;
            frame
        };
        let broadcast = note([0xff; 6], peer.mac, Some(VLAN), "no IP");
        for frame in [with(6, 0x20), with(7, 9), with(9, 1), with(9, 17), broadcast] {
            peer.send(&frame);
            let (bytes, ..) = workers[0].next_frame();
            assert!(frame.ends_with(&bytes[14..]), "{bytes:x?}");
        }
        assert_eq!(finish(workers), 5);
    });
}

#[test]
fn the_order_of_workers_outlives_a_link_that_goes() {
    in_namespace(|driver| {
        let workers = Running::group("nic0", &[Vlan::Tagged(VLAN)], ASLEEP, &STEERING(), driver);
        for end in ["nic0", "peer0"] {
            for state in ["down", "up"] {
                ip(&format!("link set {end} {state}"));
                for worker in &workers {
                    while !matches!(worker.next(), Event::Link(link) if (link == LinkState::Up) == (state == "up"))
                    {
                    }
                }
            }
            assert_steered(&workers, &[(0x8100, VLAN)]);
        }
        finish(workers);
    });
}

/// A group that is not complete would give frames to the wrong worker.
#[test]
fn nothing_comes_before_the_group_is_complete() {
    in_namespace(|driver| {
        let stop = AtomicBool::new(false);
        let us = Interface::find("nic0").unwrap().mac;
        thread::scope(|scope| {
            scope.spawn(|| {
                let peer = Peer::open("peer0");
                while !stop.load(Ordering::Relaxed) {
                    for source in sources() {
                        peer.send(&segment(us, peer.mac, &[(0x8100, VLAN)], source, 1));
                    }
                }
            });
            for _ in 0..20 {
                let workers =
                    Running::group("nic0", &[Vlan::Tagged(VLAN)], ASLEEP, &STEERING(), driver);
                for (number, worker) in workers.iter().enumerate() {
                    for _ in 0..10 {
                        let source = source_of(&worker.next_frame().0);
                        assert_eq!(STEERING().worker(source, PORT), number, "{source}");
                    }
                }
                finish(workers);
            }
            stop.store(true, Ordering::Relaxed);
        });
    });
}

/// Where a segment came from, its tag stripped.
fn source_of(bytes: &[u8]) -> SocketAddr {
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    if bytes[12..14] == [8, 0] {
        let address: [u8; 4] = bytes[26..30].try_into().unwrap();
        SocketAddr::new(address.into(), port(34))
    } else {
        let address: [u8; 16] = bytes[22..38].try_into().unwrap();
        SocketAddr::new(address.into(), port(54))
    }
}

/// The mark is in the place of the flags, too: 2 is a SYN's, and 0x12 that of its answer.
#[test]
fn the_kernel_takes_a_share_of_syns_and_no_share_of_all_else() {
    const SYN: u8 = 0x02;
    const SYN_ACK: u8 = 0x12;
    in_namespace(|driver| {
        let stacked = Vlan::Stacked { outer: 100, inner: VLAN };
        let crowd = crowd();
        for (vlans, tags) in [
            (&[Vlan::Untagged][..], &[][..]),
            (&[Vlan::Tagged(VLAN)], &[(0x8100, VLAN)]),
            (&[stacked], &[(0x88a8, 100), (0x8100, VLAN)]),
            (&crowd, &[(0x88a8, 9), (0x8100, 109)]),
        ] {
            let worker =
                Running::group("nic0", vlans, ASLEEP, &Steering::new(1, 0), driver).remove(0);
            let peer = Peer::open("peer0");
            let us = worker.interface.mac;
            // As long a list as there may be, of both families; the sources are the last ones.
            let most = SynShare::MOST_PEERS as u32;
            let others = (0..2 * most).map(|i| Ipv4Addr::from_bits(0x0a00_0000 + i).into());
            let others = others.take(SynShare::MOST_PEERS - 7).chain(
                (8..most as u16 + 7).map(|i| Ipv6Addr::new(0x2001, 0xdb8, 1, i, 0, 0, 0, 1).into()),
            );
            let peers = others.chain(sources().map(|source| source.ip()).take(14)).collect();
            let known = SynShare { key: 7, start: 0, width: 0, peers, vlans: vlans.to_vec() };
            let nobody = SynShare { peers: Vec::new(), ..known.clone() };
            for (share, passes) in [(Some(nobody), false), (Some(known), true), (None, true)] {
                worker.order(Order::Syns(share));
                assert!(matches!(worker.next(), Event::Filtered));
                for source in sources().take(14) {
                    peer.send(&segment(us, peer.mac, tags, source, SYN));
                    peer.send(&segment(us, peer.mac, tags, source, SYN_ACK));
                    if passes {
                        assert_eq!(next_mark(&worker), SYN, "{source} {vlans:?}");
                    }
                    assert_eq!(next_mark(&worker), SYN_ACK, "{source} {vlans:?}");
                }
            }
            worker.finish();
        }
    });
}
