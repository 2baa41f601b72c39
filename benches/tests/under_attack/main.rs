//! The generators of floods and the cases that use them, small: that what is forged is what it
//! should be, and that the appliance lives through it. Needs root; without, it says so and passes.
#![forbid(unsafe_code)]

#[path = "../common/mod.rs"]
mod common;

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use common::{skipped, tagwire};
use tagwire_benches::attack::arena::Arena;
use tagwire_benches::attack::cases::{Cases, Scale};
use tagwire_benches::attack::flood::{Flood, Pace};
use tagwire_benches::attack::frames::{Attack, Forge};
use tagwire_benches::attack::report::Results;
use tagwire_benches::loss::arena::{Arena as LossArena, Server};
use tagwire_benches::loss::cell::Congestion;
use tagwire_lab::{CLIENT_ADDRESS, Lab, Pod};

/// A counter of the kernel's of a pod: `Tcp InSegs`, or `Ip6ReasmReqds`.
fn counted(pod: &Pod, name: &str) -> u64 {
    let read = |file: &str| pod.command("cat").arg(file).stdout_string().unwrap();
    let Some((protocol, field)) = name.split_once(' ') else {
        let text = read("/proc/net/snmp6");
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        return line.trim().parse().unwrap();
    };
    let text = read("/proc/net/snmp");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(": "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|it| it == field).unwrap();
    values.split(' ').nth(at).unwrap().parse().unwrap()
}

#[test]
fn a_kernel_takes_every_frame_for_what_it_is() {
    if skipped() {
        return;
    }
    const FRAMES: u64 = 1000;
    let lab = Lab::builder().ipv6().build().unwrap();
    let pod = lab.pod(0);
    pod.kernel_stack().unwrap();
    let route = ["route", "add", "default", "via", &CLIENT_ADDRESS.to_string()];
    pod.command("ip").args(route).stdout_string().unwrap();
    let _listener = pod.namespace().run(|| TcpListener::bind("0.0.0.0:80")).unwrap().unwrap();
    for (attack, counters) in [
        (Attack::SynOffLink, &["Tcp InSegs"][..]),
        (Attack::SynOnLink, &["Tcp InSegs"]),
        (Attack::Blind(40_000..40_010), &["Tcp InSegs"]),
        (Attack::Fragments, &["Ip ReasmReqds"]),
        (Attack::FragmentsV6, &["Ip6ReasmReqds"]),
        (Attack::Neighbours, &["Icmp6InNeighborSolicits", "Icmp6InNeighborAdvertisements"]),
    ] {
        let seen = || counters.iter().map(|name| counted(pod, name)).sum::<u64>();
        let before = seen();
        let forge = Forge::new(&lab, pod, attack.clone(), 5);
        let pace = Pace { rate: Some(10_000), frames: Some(FRAMES) };
        let sent = Flood::start(&lab, forge, pace, false).unwrap().wait().unwrap();
        assert_eq!(sent.frames, FRAMES);
        assert!(sent.rate() < 11_000.0, "{attack:?}: {sent:?}");
        // The kernel may have work left, and its own backlog drops what comes too fast.
        let deadline = Instant::now() + Duration::from_secs(2);
        while seen() < before + FRAMES && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        assert!(seen() >= before + FRAMES * 9 / 10, "{attack:?}: {} to {}", before, seen());
    }
    for errors in ["Tcp InCsumErrors", "Tcp InErrs", "Ip InHdrErrors", "Icmp6InCsumErrors"] {
        assert_eq!(counted(pod, errors), 0, "{errors}");
    }
    let forge = Forge::new(&lab, pod, Attack::Arp, 5);
    let pace = Pace { rate: Some(10_000), frames: Some(FRAMES) };
    Flood::start(&lab, forge, pace, false).unwrap().wait().unwrap();
    let neighbours = || {
        let list = pod.command("ip").args(["-4", "neigh", "show", "nud", "stale"]);
        list.stdout_string().unwrap().lines().count()
    };
    assert!(neighbours() > 100, "it has learned from {}", neighbours());
}

fn run(case: &str) -> Option<Results> {
    if skipped() {
        return None;
    }
    tagwire_lab::require_tools(&["wrk", "nginx", "curl", "tcpdump"]).unwrap();
    let mut arena = Arena::open(&tagwire(), false, false).unwrap();
    let mut cases = Cases::new(&mut arena, Scale::QUICK);
    cases.run(case).unwrap();
    Some(cases.results)
}

#[test]
fn a_client_is_served_under_a_flood_of_syns() {
    let Some(results) = run("syn") else { return };
    assert_eq!(results.series.len(), 2);
    for series in &results.series {
        assert!(series.failed() == 0 && series.share() > 0.05, "{series:?}");
        assert!(series.rounds[0].flood.frames > 1000, "{series:?}");
    }
}

#[test]
fn nothing_is_reset_or_corrupted_by_blind_injection() {
    let Some(results) = run("blind") else { return };
    let blind = results.blind.unwrap();
    assert!(blind.flood.frames == Scale::QUICK.injected && blind.downloads >= 2, "{blind:?}");
    assert!(blind.failed == 0 && blind.idle_lives, "{blind:?}");
}

#[test]
fn slow_clients_cost_little_memory_and_no_service() {
    let Some(results) = run("slow") else { return };
    let slow = results.slow.unwrap();
    assert_eq!((slow.opened, slow.closed), (Scale::QUICK.connections, 0));
    assert!(slow.resident_most - slow.resident_before < 64 << 20, "{slow:?}");
    assert!(slow.under.requests > 0 && slow.under.errors == 0, "{slow:?}");
}

#[test]
fn a_flood_of_stations_does_not_cost_the_client_its_service() {
    let Some(results) = run("arp") else { return };
    for series in &results.series {
        assert!(series.failed() == 0 && series.share() > 0.05, "{series:?}");
    }
}

#[test]
fn both_contenders_use_the_congestion_control_and_are_measured_over_the_wire() {
    if skipped() {
        return;
    }
    tagwire_lab::require_tools(&["nginx", "curl", "ss"]).unwrap();
    // Opening it checks what the kernel's server uses.
    let arena = LossArena::open(&tagwire(), &Congestion::ALL, |_| Vec::new()).unwrap();
    let (cell, limit) = ("0%@1ms".parse().unwrap(), Duration::from_millis(700));
    for congestion in Congestion::ALL {
        for server in [Server::Tagwire, Server::Kernel] {
            let run = arena.download(server, congestion, cell, 1, limit).unwrap();
            assert!(!run.complete && run.octets > 100_000, "{server:?}: {run:?}");
            assert!(run.goodput() < 12.5e6, "faster than the line: {run:?}");
        }
        let shared = arena.share(congestion, cell, 1, Duration::from_secs(1)).unwrap();
        let sum: f64 = shared.iter().map(|run| run.goodput()).sum();
        assert!(shared.iter().all(|run| run.octets > 0) && sum < 12.5e6, "{shared:?}");
    }
}
