//! Several workers on one interface: a connection stays with one, and who asks sees one appliance.

use std::time::Duration;

use serde_json::Value;

use crate::bed::{Bed, alone, content, wait_until};
use crate::client::{Client, download};
use tagwire_lab::Lab;

/// What each worker counts under `path`, `/stack/tcp_accepted` say.
fn each(status: &Value, path: &str) -> Vec<u64> {
    let workers = status["workers"].as_array().unwrap();
    workers.iter().map(|worker| worker.pointer(path).unwrap().as_u64().unwrap()).collect()
}

/// Connections are spread over `workers`, all octets are right, and the sums are sums.
fn assert_shared(workers: usize) {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let _alone = alone();
    let file = content(21, 2 << 20);
    bed.put("file.bin", &file);
    bed.start(&["--workers", &workers.to_string()]);
    bed.assert_serves();
    download(&bed, "/file.bin", &file, 16);

    let mut clients: Vec<Client> = (0..100).map(|_| Client::connect(&bed)).collect();
    for round in 0..3 {
        for client in &mut clients {
            assert_eq!(client.get("/").status, 200, "round {round}");
        }
    }
    let status = bed.status();
    assert_eq!(status["connections"], 100);
    let connections = each(&status, "/connections");
    assert_eq!((connections.len(), connections.iter().sum()), (workers, 100u64));
    assert!(connections.iter().all(|count| *count > 0), "{connections:?}");
    for path in ["/stack/tcp_accepted", "/stack/tcp_in", "/driver/rx_frames"] {
        let sum: u64 = each(&status, path).iter().sum();
        assert_eq!(status.pointer(path).unwrap().as_u64(), Some(sum), "{path}");
    }
    assert_eq!(status["stack"]["tcp_accepted"], 1 + 16 + 100);
    // A segment at the wrong worker would be answered by a reset.
    assert_eq!(status["stack"]["tcp_reset_out"], 0);
    // All else is the first one's: nobody answers or announces twice.
    bed.ping(20, &[]);
    let echoes = each(&bed.status(), "/stack/icmp_echo");
    assert!(echoes[0] >= 20 && echoes[1..].iter().all(|count| *count == 0), "{echoes:?}");

    drop(clients);
    wait_until("all are closed", Duration::from_secs(5), || bed.status()["connections"] == 0);
    bed.finish();
}

#[test]
pub(crate) fn two_workers_share_an_interface() {
    assert_shared(2);
}

#[test]
fn four_workers_share_an_interface() {
    assert_shared(4);
}

#[test]
fn a_neighbour_that_one_worker_has_found_serves_all() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    bed.start(&["--workers", "4"]);
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(&bed)).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").status, 200);
    }
    // The client moves to another station, which only an announcement tells: it reaches one.
    let mac = bed.client_ok(&["cat", "/sys/class/net/eth0/address"]);
    let other = format!("{}{}", if mac.starts_with("06") { "0a" } else { "06" }, &mac.trim()[2..]);
    bed.client_ok(&["ip", "link", "set", "eth0", "address", &other]);
    bed.client_ok(&["ping", "-c1", "-W2", bed.host()]);
    for client in &mut clients {
        assert_eq!(client.get("/").status, 200);
    }
    bed.finish();
}

#[test]
pub(crate) fn a_shutdown_waits_for_the_last_download_of_all_workers() {
    let wire = "rate=100mbit".parse().unwrap();
    let Some(mut bed) = Bed::down(Lab::builder().wire(wire)) else { return };
    let file = content(22, 1 << 20);
    bed.put("file.bin", &file);
    bed.start(&["--workers", "4"]);
    let mut clients: Vec<Client> = (0..12).map(|_| Client::connect(&bed)).collect();
    for client in &mut clients {
        client.ask("GET", "/file.bin");
        assert_eq!(client.head().status, 200);
    }
    bed.appliance().signal(tagwire_lab::Signal::TERM).unwrap();
    for client in &mut clients {
        assert!(client.body(file.len()) == file, "a download came damaged");
        client.assert_end();
    }
    bed.ends_well();
    bed.finish();
}

/// One that fails must not leave a process behind that serves half of its clients.
#[test]
fn a_failure_of_one_worker_ends_all_with_one_line() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    bed.start(&["--workers", "3"]);
    bed.assert_serves();
    bed.pod_ok(&["ip", "link", "del", "macvlan0"]);
    // It is waited for, whether another one comes.
    let status = bed.appliance().wait_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!(status.and_then(|status| status.code()), Some(3));
    let log = bed.appliance().log();
    assert_eq!(log.matches("tagwire: error: interface macvlan0 is gone").count(), 1, "{log}");
}
