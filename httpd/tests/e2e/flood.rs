//! A flood of SYNs: the kernel is told to drop most of them, and clients go on.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tagwire_core::lab::{FrameSender, MAX_BATCH};
use tagwire_lab::{CLIENT_ADDRESS, CLIENT_ADDRESS_V6, Lab, POD_INTERFACE};

use crate::bed::{ADDRESS, Bed, alone, wait_until};
use crate::client::Client;
use crate::raw::{SYN, Station};

/// Forged before, and sent again and again: more than there is room for half-open connections, of
/// which one whose SYN comes again is no other one.
const FRAMES: u32 = 1 << 16;
/// More than any busy machine needs for what takes tenths of a second.
const PATIENCE: Duration = Duration::from_secs(20);

fn driver(bed: &Bed, name: &str) -> u64 {
    bed.status().pointer(&format!("/driver/{name}")).and_then(Value::as_u64).unwrap()
}

/// Floods the appliance in the lab's VLAN while `checks` are made, once its filter is on.
fn flooded(bed: &Bed, checks: impl FnOnce() + Send) {
    let station = Station::open(bed);
    let frames: Vec<Vec<u8>> = (0..FRAMES)
        .map(|i| {
            let source = Ipv4Addr::from_bits(0x0a00_0001 + i);
            let number = i.wrapping_mul(0x9e37_79b1);
            station.ethernet(&station.segment_to(80, source, ADDRESS, SYN, number))
        })
        .collect();
    let own = bed.lab().pod(1).namespace();
    let index = own.interface_index(POD_INTERFACE).unwrap();
    let sender = own.run(|| FrameSender::open(index)).unwrap().unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        // However the checks end, so does the flood.
        let flood = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for batch in frames.chunks(MAX_BATCH) {
                    sender.send(batch).unwrap();
                }
            }
        });
        let checks = scope.spawn(|| {
            wait_until("the filter is on", PATIENCE, || driver(bed, "syn_filter_on") == 1);
            checks();
        });
        let checked = checks.join();
        stop.store(true, Ordering::Relaxed);
        flood.join().unwrap();
        checked.unwrap();
    });
    wait_until("the filter is off", PATIENCE, || driver(bed, "syn_filter_on") == 0);
}

#[test]
fn a_flood_of_syns_is_dropped_by_the_kernel_and_clients_go_on() {
    let Some(mut bed) = Bed::down(Lab::builder().pods(2)) else { return };
    let _alone = alone();
    bed.start(&[]);
    bed.assert_serves();
    // The client is known: each of its SYNs comes up.
    flooded(&bed, || (0..20).for_each(|_| bed.assert_serves()));
    assert!(driver(&bed, "syn_filter_floods") > 0);
    assert!(driver(&bed, "syn_filter_dropped_estimate") > 0);
    bed.assert_serves();
    let log = bed.appliance().log();
    for said in ["a flood of SYNs: ", "the flood of SYNs is over"] {
        assert!(log.contains(said), "{said}: {log}");
    }
    bed.finish();
}

#[test]
fn a_flood_in_one_vlan_keeps_no_stranger_out_of_another() {
    let Some(mut bed) = Bed::down(Lab::builder().pods(3)) else { return };
    let _alone = alone();
    let path = bed.configure_all(
        "[[vlan]]\nid = 123\naddress = \"192.168.123.150/24\"\n\
         [[vlan]]\nid = 200\naddress = \"192.168.123.150/24\"\n",
    );
    bed.lab().pod(2).kernel_stack_in(Some(200), None, CLIENT_ADDRESS, CLIENT_ADDRESS_V6).unwrap();
    let strangers = bed.lab().pod(2).namespace().clone();
    let command = bed.command(&["serve", "--config", &path]);
    bed.start_with(command);
    flooded(&bed, || {
        for last in 10..30 {
            let own = Ipv4Addr::new(192, 168, 123, last);
            let add = ["address", "add", &format!("{own}/24"), "dev", POD_INTERFACE];
            assert!(strangers.command("ip").args(add).status().unwrap().success());
            let ends = (SocketAddr::new(own.into(), 0), SocketAddr::new(ADDRESS.into(), 80));
            let mut client = Client::connect_from(&strangers, ends.0, ends.1);
            assert_eq!(client.get("/").status, 200);
        }
    });
    let log = bed.appliance().log();
    let floods: Vec<_> = log.lines().filter(|line| line.contains("a flood of SYNs: ")).collect();
    assert!(
        !floods.is_empty() && floods.iter().all(|line| line.contains("vlans=\"123\"")),
        "{log}"
    );
    bed.finish();
}
