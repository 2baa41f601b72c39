//! IPv6 addresses from a router's advertisement (RFC 4862).

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use tagwire_lab::{Lab, POD_INTERFACE};

use crate::bed::{Bed, INDEX, said};
use crate::packet::checksum;
use crate::raw::{Heard, Packet, Station, frame};

const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x77);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const PREFIX: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 0);

/// RFC 4861 4.2 and 4.6.2: a router for an hour, and a prefix for addresses on the link.
fn advertisement() -> Packet {
    let mut message = vec![134, 0, 0, 0, 64, 0, 0x0e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0];
    message.extend([3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0]);
    message.extend(PREFIX.octets());
    let length = (message.len() as u16).to_be_bytes();
    let addresses = [ROUTER.octets(), ALL_NODES.octets()].concat();
    let pseudo = [&addresses[..], &[0, 0], &length, &[0, 0, 0, 58]].concat();
    let sum = checksum(&[pseudo, message.clone()].concat());
    message[2..4].copy_from_slice(&sum);
    let header = [&[0x60, 0, 0, 0], &length[..], &[58, 255]].concat();
    Packet { ethertype: 0x86dd, octets: [header, addresses, message].concat() }
}

/// The address that the appliance probes for, from the prefix.
fn probed(station: &Station) -> Ipv6Addr {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let heard = station.hear(deadline).expect("it probes for an address of the prefix");
        let Heard::Other(frame) = heard else { continue };
        // Behind Ethernet's header with a tag and IPv6's: a solicitation, its target.
        let Some(target) = frame.get(66..82).filter(|_| frame[58] == 135) else { continue };
        let target = Ipv6Addr::from(<[u8; 16]>::try_from(target).unwrap());
        if target.octets()[..8] == PREFIX.octets()[..8] {
            return target;
        }
    }
}

#[test]
fn an_advertised_prefix_becomes_an_address_that_all_workers_serve() {
    let Some(mut bed) = Bed::down(Lab::builder().pods(2).ipv6()) else { return };
    bed.start(&["--slaac", "--workers", "3"]);
    let station = Station::open(&bed);
    // Probes go to groups that nobody there has joined.
    let all_groups = ["link", "set", POD_INTERFACE, "allmulticast", "on"];
    bed.lab().pod(1).namespace().command("ip").args(all_groups).stdout_string().unwrap();
    let all_nodes = [0x33, 0x33, 0, 0, 0, 1];
    station.send(&frame(all_nodes, station.mac, &[station.vlan], &advertisement()));
    let address = probed(&station);
    let interface = bed.lab().client_interface().to_owned();
    bed.client_ok(&["ip", "-6", "address", "add", "fd00:77::1/64", "dev", &interface, "nodad"]);
    for _ in 0..12 {
        let page = bed.client(&["curl", "-gsS", "-m", "5", &format!("http://[{address}]/")]);
        assert!(page.status.success() && page.stdout == INDEX, "{}", said(&page));
    }
    bed.finish();
}
