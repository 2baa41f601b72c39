//! Another station claims the appliance's address (RFC 5227).

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use tagwire_lab::{Lab, Signal};

use crate::bed::{ADDRESS, ADDRESS_V6, Bed, wait_until};
use crate::packet::checksum;
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

/// RFC 4861 4.4: the station says to all that it has the appliance's IPv6 address.
fn claim_v6(station: &Station) -> Vec<u8> {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(ADDRESS_V6.octets());
    message.extend([2, 1]);
    message.extend(station.mac);
    let addresses = [ADDRESS_V6.octets(), all_nodes.octets()].concat();
    let pseudo = [&addresses[..], &[0, 0, 0, message.len() as u8, 0, 0, 0, 58]].concat();
    let sum = checksum(&[pseudo, message.clone()].concat());
    message[2..4].copy_from_slice(&sum);
    let header = [0x60, 0, 0, 0, 0, message.len() as u8, 58, 255];
    let octets = [&header[..], &addresses, &message].concat();
    let packet = Packet { ethertype: 0x86dd, octets };
    frame([0x33, 0x33, 0, 0, 0, 1], station.mac, &[station.vlan], &packet)
}

#[test]
fn a_duplicate_ipv6_address_is_loud_and_not_ready_and_heals() {
    let Some(mut bed) = Bed::down(Lab::builder().pods(2).ipv6()) else { return };
    bed.start_at(&["fd00:123::150/64", "192.168.123.150/24"], &["--workers", "2"]);
    let station = Station::open(&bed);
    let url = "http://[fd00:123::150]/";
    let serves = |bed: &Bed| bed.client(&["curl", "-gsS", "-m", "0.5", url]).status.success();
    assert!(serves(&bed));
    assert_eq!(bed.status()["ready"], true);

    let deadline = Instant::now() + Duration::from_secs(10);
    while bed.status()["ready"] == true {
        assert!(Instant::now() < deadline, "it holds on to the address");
        station.send(&claim_v6(&station));
        std::thread::sleep(Duration::from_millis(50));
    }
    let status = bed.status();
    let states = status["address_states"].as_array().unwrap();
    let state = |address: &str| {
        let state = states.iter().find(|state| state["address"] == address).unwrap();
        state["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(state("fd00:123::150"), "conflicted");
    assert_eq!(state("192.168.123.150"), "assigned");
    let log = bed.appliance().log();
    assert_eq!(log.matches("ADDRESS CONFLICT").count(), 1, "one voice: {log}");
    // All workers have let go of it, and of nothing else.
    for _ in 0..4 {
        assert!(!serves(&bed), "served at an address that is another's");
        bed.assert_serves();
    }

    wait_until("the address comes back", Duration::from_secs(90), || bed.status()["ready"] == true);
    bed.client_ok(&["ip", "neigh", "flush", "all"]);
    for _ in 0..8 {
        assert!(bed.client(&["curl", "-gsS", "-m", "5", url]).status.success());
    }
    bed.finish();
}

#[test]
fn strict_probes_for_ipv6_addresses_before_any_worker_serves_them() {
    let Some(mut bed) = Bed::down(Lab::builder().ipv6()) else { return };
    let started = Instant::now();
    bed.start_at(&["fd00:123::150/64"], &["--acd", "strict", "--workers", "3"]);
    // RFC 4862 5.1: RetransTimer.
    assert!(started.elapsed() > Duration::from_secs(1), "{:?}", started.elapsed());
    for _ in 0..8 {
        let page = bed.client(&["curl", "-gsS", "-m", "5", "http://[fd00:123::150]/"]);
        assert!(page.status.success());
    }
    bed.finish();
}

/// Of an address that another has there is no end: it is not ready, says why, and waits.
#[test]
fn a_conflict_at_a_strict_start_is_loud_and_not_ready() {
    let Some(bed) = crate::admin::bed_in(Lab::builder().pods(2).ipv6()) else { return };
    // A kernel that defends both (RFC 5227 2.1.1, RFC 4862 5.4.3).
    bed.lab().pod(1).kernel_stack_in(bed.lab().vlan(), None, ADDRESS, ADDRESS_V6).unwrap();
    let command = bed.command(&["serve", "--interface", "macvlan0", "--vlan", "123"]);
    let command = command.args(["--address", "192.168.123.150/24,fd00:123::150/64"]);
    let command = command.args(["--acd", "strict", "--admin", "127.0.0.1:9090", "--www-root"]);
    let command = command.arg(bed.www()).arg("--control").arg(bed.control());
    let mut appliance = command.capture().spawn().unwrap();
    let conflicts = |log: String| log.matches("ADDRESS CONFLICT").count();
    wait_until("both are another's", Duration::from_secs(20), || conflicts(appliance.log()) == 2);

    let status = bed.status();
    assert_eq!(status["ready"], false, "{status}");
    let states = status["address_states"].as_array().unwrap();
    for address in ["192.168.123.150", "fd00:123::150"] {
        let state = states.iter().find(|state| state["address"] == address);
        assert_eq!(state.map(|state| &state["state"]), Some(&"conflicted".into()), "{status}");
    }
    let probe = |page: &str| {
        let url = format!("http://127.0.0.1:9090{page}");
        let curl = bed.lab().pod(0).command("curl").args(["-sS", "-w", "%{http_code}", &url]);
        curl.stdout_string().unwrap()
    };
    let ready = probe("/readyz");
    assert!(ready.ends_with("503") && ready.contains("another station has"), "{ready}");
    assert!(probe("/livez").ends_with("200"), "a restart would not help");
    let log = appliance.log();
    assert!(log.contains("another --address") && !log.contains(" ready "), "{log}");
    appliance.signal(Signal::TERM).unwrap();
    let status = appliance.wait_timeout(Duration::from_secs(13)).unwrap();
    assert_eq!(status.and_then(|status| status.code()), Some(0), "{}", appliance.log());
    bed.finish();
}
