//! The interface changes while it is served on: set down, without its master, with another MAC address or
//! MTU, deleted, made anew. Each by both drivers, with two workers, and readiness, metrics and
//! log follow.

use std::time::Duration;

use crate::admin::{self, ADMIN, metric, missing};
use crate::bed::{Bed, content, wait_until};
use crate::client::Client;

const DRIVERS: [&str; 2] = ["io_uring", "poll"];
const SOON: Duration = Duration::from_secs(10);
/// The exit status of who has lost its interface.
const LINK_LOST: i32 = 3;

/// A test for each driver, with the appliance running.
fn by_each_driver(test: impl Fn(&mut Bed)) {
    for driver in DRIVERS {
        let Some(mut bed) = admin::bed() else { return };
        start(&mut bed, driver);
        test(&mut bed);
        bed.finish();
    }
}

fn start(bed: &mut Bed, driver: &str) {
    bed.start(&["--driver", driver, "--admin", ADMIN, "--workers", "2"]);
    wait_until("it is ready", SOON, || missing(bed).is_empty());
}

/// Runs `ip` on the node, where the macvlan's master is.
fn node(bed: &Bed, args: &[&str]) {
    let status = bed.lab().node().command("ip").args(args).status().unwrap();
    assert!(status.success(), "ip {args:?}: {status}");
}

fn pod(bed: &Bed, args: &[&str]) {
    bed.pod_ok(&[&["ip", "link", "set", "macvlan0"][..], args].concat());
}

/// How often the interface has changed so.
fn changes(bed: &Bed, kind: &str) -> f64 {
    metric(bed, &format!("tagwire_link_changes_total{{kind=\"{kind}\"}}"))
}

fn is_missing(bed: &Bed, part: &str) {
    wait_until(part, SOON, || missing(bed).contains(part));
    assert_eq!(metric(bed, "tagwire_link_up"), 0.0);
    assert_eq!(metric(bed, "tagwire_ready"), 0.0);
    let trouble = bed.status()["link"]["trouble"].to_string();
    assert!(trouble.contains(part), "{trouble}");
}

fn is_back(bed: &Bed) {
    wait_until("it is ready again", SOON, || missing(bed).is_empty());
    assert_eq!(metric(bed, "tagwire_link_up"), 1.0);
    bed.assert_serves();
}

#[test]
pub(crate) fn one_that_is_set_down_and_one_without_its_master_are_waited_for() {
    by_each_driver(|bed| {
        let mut kept = Client::connect(bed);
        assert_eq!(kept.get("/").status, 200);
        pod(bed, &["down"]);
        is_missing(bed, "the link of macvlan0 is down: somebody has set it down");
        assert_eq!(bed.status()["link"]["state"], "down");
        pod(bed, &["up"]);
        is_back(bed);
        node(bed, &["link", "set", "nic0", "down"]);
        is_missing(bed, "no carrier");
        node(bed, &["link", "set", "nic0", "up"]);
        is_back(bed);
        // Nobody has told the client's connection.
        assert_eq!(kept.get("/").status, 200);
        assert!(changes(bed, "down") >= 1.0 && changes(bed, "no_carrier") >= 1.0);
        assert!(changes(bed, "up") >= 2.0);
        let log = bed.appliance().log();
        assert!(log.contains("nothing is served") && log.contains("the link is up"), "{log}");
    });
}

#[test]
pub(crate) fn another_mac_address_is_taken_and_announced() {
    const MAC: &str = "02:00:00:00:be:ef";
    by_each_driver(|bed| {
        let mut kept = Client::connect(bed);
        assert_eq!(kept.get("/").status, 200);
        pod(bed, &["address", MAC]);
        wait_until("it is used", SOON, || bed.status()["mac"] == MAC);
        // Neighbours have heard of it: what they send goes to it.
        let known = || bed.client_ok(&["ip", "neigh", "show", bed.host()]).contains(MAC);
        wait_until("the client has heard of it", SOON, known);
        assert_eq!(kept.get("/").status, 200);
        is_back(bed);
        // A neighbour that asks is told.
        bed.client_ok(&["ip", "neigh", "flush", "all"]);
        bed.assert_serves();
        assert!(known());
        assert_eq!(changes(bed, "mac"), 1.0);
        let log = bed.appliance().log();
        assert_eq!(log.matches("another MAC address").count(), 1, "one of them speaks: {log}");
    });
}

#[test]
pub(crate) fn a_smaller_mtu_is_followed_by_what_is_being_sent_and_a_larger_one_up_to_the_first() {
    by_each_driver(|bed| {
        let file = content(31, 8 << 20);
        bed.put("file.bin", &file);
        let mut client = Client::connect_small(bed, 64 << 10);
        client.ask("GET", "/file.bin");
        assert_eq!(client.head().status, 200);
        // What the master does not carry, no macvlan on it does.
        node(bed, &["link", "set", "nic0", "mtu", "1400"]);
        wait_until("it is used", SOON, || bed.status()["mtu"] == 1400);
        assert_eq!(metric(bed, "tagwire_link_mtu_bytes"), 1400.0);
        assert!(client.body(file.len()) == file, "the file came damaged");
        let too_long = bed.figure("driver", "tx_too_long");
        assert_eq!(client.get("/file.bin").body.len(), file.len());
        assert!(Client::connect(bed).get("/file.bin").body == file);
        assert_eq!(bed.figure("driver", "tx_too_long"), too_long, "all that is sent fits");
        bed.ping(3, &["-s", &(1400 - bed.echo_headers()).to_string()]);
        // Too small for what is spoken is like no link, until it suffices again.
        pod(bed, &["mtu", "500"]);
        is_missing(bed, "has an MTU of 500 and needs");
        assert_eq!(bed.status()["link"]["state"], "mtu too small");
        node(bed, &["link", "set", "nic0", "mtu", "9000"]);
        pod(bed, &["mtu", "9000"]);
        is_back(bed);
        assert_eq!(bed.status()["mtu"], 1500, "slots are made for that");
        assert!(changes(bed, "mtu") >= 3.0);
        let log = bed.appliance().log();
        assert!(log.contains("a restart makes use of it"), "{log}");
        assert!(log.contains("it serves again"), "{log}");
    });
}

/// Waits for the end of who has lost its interface; what it said.
fn ends(bed: &mut Bed, limit: Duration) -> String {
    let status = bed.appliance().wait_timeout(limit).unwrap();
    let log = bed.appliance().log();
    assert_eq!(status.and_then(|status| status.code()), Some(LINK_LOST), "{status:?}: {log}");
    bed.forget();
    log
}

#[test]
fn one_that_is_gone_is_told_at_once_and_ends_the_process_in_the_end() {
    // The macvlan by itself, and with its master.
    for (driver, place) in DRIVERS.into_iter().zip(["pod", "node"]) {
        let Some(mut bed) = admin::bed() else { return };
        start(&mut bed, driver);
        match place {
            "pod" => bed.pod_ok(&["ip", "link", "del", "macvlan0"]),
            _ => node(&bed, &["link", "del", "nic0"]),
        }
        is_missing(&bed, "macvlan0 is gone: it was deleted");
        assert_eq!(changes(&bed, "gone"), 1.0);
        let log = ends(&mut bed, Duration::from_secs(15));
        assert!(log.contains("tagwire: error: interface macvlan0 is gone"), "{log}");
        bed.finish();
    }
}

#[test]
fn one_that_is_made_anew_ends_the_process_at_once_and_the_next_one_serves() {
    for driver in DRIVERS {
        let Some(mut bed) = admin::bed() else { return };
        start(&mut bed, driver);
        bed.pod_ok(&["ip", "link", "del", "macvlan0"]);
        is_missing(&bed, "macvlan0 is gone");
        let netns = bed.lab().pod(0).namespace().name().to_owned();
        let add = ["link", "add", "link", "nic0", "name", "macvlan0", "netns", &netns];
        node(&bed, &[&add[..], &["type", "macvlan", "mode", "bridge"]].concat());
        pod(&bed, &["up"]);
        // Sooner than it would have ended by itself.
        let log = ends(&mut bed, Duration::from_secs(8));
        assert!(log.contains("deleted and another one has its name"), "{log}");
        start(&mut bed, driver);
        bed.client_ok(&["ip", "neigh", "flush", "all"]);
        bed.assert_serves();
        bed.finish();
    }
}

#[test]
fn sigterm_ends_one_that_has_lost_its_interface_well() {
    by_each_driver(|bed| {
        bed.pod_ok(&["ip", "link", "del", "macvlan0"]);
        is_missing(bed, "macvlan0 is gone");
        bed.stop();
    });
}

/// The kernel drops messages that nobody reads (ENOBUFS): the interface is asked then.
#[test]
fn a_flood_of_news_about_others_hides_none_about_ours() {
    by_each_driver(|bed| {
        // Stopped, it reads none of what its netlink socket gets: more than that holds.
        bed.signal(tagwire_lab::Signal::STOP);
        let flood = "ip link add other0 type veth peer name other1; \
                     for i in $(seq 500); do \
                     echo link set other0 mtu 1400; echo link set other0 mtu 1500; done | ip -batch -";
        bed.pod_ok(&["sh", "-c", flood]);
        pod(bed, &["mtu", "1400"]);
        pod(bed, &["address", "02:00:00:00:ca:fe"]);
        bed.signal(tagwire_lab::Signal::CONT);
        wait_until("it is noticed", SOON, || bed.status()["mac"] == "02:00:00:00:ca:fe");
        assert_eq!(bed.status()["mtu"], 1400);
        is_back(bed);
    });
}
