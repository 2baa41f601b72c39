//! Another station claims the appliance's address (RFC 5227).

use std::time::{Duration, Instant};

use tagwire_lab::Lab;

use crate::bed::{ADDRESS, Bed, wait_until};
use crate::raw::{BROADCAST, Packet, Station, frame};

/// An announcement of the appliance's address, from the station.
fn claim(station: &Station) -> Vec<u8> {
    let Packet { ethertype, octets } = station.arp(1, ADDRESS, ADDRESS);
    frame(BROADCAST, station.mac, &[station.vlan], &Packet { ethertype, octets })
}

#[test]
fn a_conflict_is_loud_and_not_ready_and_heals_when_the_other_is_silent() {
    let Some(mut bed) = Bed::down(Lab::builder().pods(2)) else { return };
    bed.start(&["--workers", "2"]);
    let station = Station::open(&bed);
    bed.assert_serves();
    assert_eq!(bed.status()["ready"], true);

    // It was there first, says the first one; the appliance has just come.
    let deadline = Instant::now() + Duration::from_secs(10);
    while bed.status()["ready"] == true {
        assert!(Instant::now() < deadline, "it holds on to the address");
        station.send(&claim(&station));
        std::thread::sleep(Duration::from_millis(50));
    }
    let state = bed.status()["address_states"][0].clone();
    assert_eq!(
        (&state["state"], &state["address"]),
        (&"conflicted".into(), &"192.168.123.150".into())
    );
    let log = bed.appliance().log();
    assert!(log.contains("ERROR") && log.contains("ADDRESS CONFLICT"), "{log}");
    let control = bed.control();
    let table = bed.command(&["status", "--control"]).arg(&control).stdout_string().unwrap();
    assert!(table.contains("NOT READY") && table.contains("ADDRESS CONFLICT"), "{table}");
    // All workers have let go of it.
    for _ in 0..4 {
        let page = bed.client(&["curl", "-sS", "-m", "0.3", &bed.url("/")]);
        assert!(!page.status.success(), "served at an address that is another's");
    }

    // It is silent from here on: 15 to 60 s, and three probes.
    wait_until("the address comes back", Duration::from_secs(90), || bed.status()["ready"] == true);
    bed.client_ok(&["ip", "neigh", "flush", "all"]);
    bed.assert_serves();
    bed.finish();
}

#[test]
fn strict_is_ready_once_nobody_has_answered_its_probes() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let started = Instant::now();
    bed.start(&["--acd", "strict"]);
    // RFC 5227 1.1: two more probes, a second or two apart, and ANNOUNCE_WAIT.
    assert!(started.elapsed() > Duration::from_secs(3), "{:?}", started.elapsed());
    bed.assert_serves();
    bed.finish();
}
