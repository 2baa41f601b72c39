//! Harnesses that take any octets: called by the targets in `fuzz/`, by unit tests, and for
//! each file of the committed corpora by a plain `cargo test`.
//!
//! A harness returns, or panics on what must never be. Those of the parsers check that what
//! was understood survives being written and read again; [`fuzz_stack`] drives a whole
//! [`Stack`](crate::Stack).

mod ipv6;
mod operations;
mod peer;
mod stack;

pub use ipv6::{fuzz_ipv6, fuzz_ipv6_stack};
pub use stack::fuzz_stack;

use std::net::Ipv4Addr;

use crate::wire::checksum::{Sum, pseudo_header};
use crate::wire::tcp::{self, Header};
use crate::wire::{arp, ethernet, icmpv4, ipv4};

/// Any octets as an Ethernet frame, its payload as ARP.
pub fn fuzz_ethernet_arp(data: &[u8]) {
    if let Ok(frame) = ethernet::parse(data) {
        let mut again = vec![0; ethernet::header_len(frame.tags)];
        ethernet::emit(&mut again, frame.destination, frame.source, frame.tags, frame.ethertype);
        again.extend_from_slice(frame.payload);
        assert_eq!(again, data);
        // Two tags are taken; a third one is payload.
        assert_eq!(ethernet::parse(&again), Ok(frame));
        fuzz_arp(frame.payload);
    }
    fuzz_arp(data);
}

fn fuzz_arp(octets: &[u8]) {
    if let Ok(packet) = arp::parse(octets) {
        let mut again = [0; arp::PACKET_LEN];
        assert_eq!(arp::emit(&mut again, &packet), arp::PACKET_LEN);
        assert_eq!(again, octets[..arp::PACKET_LEN]);
        assert_eq!(arp::parse(&again), Ok(packet));
    }
}

/// Any octets as an IPv4 packet, and as an ICMP message.
pub fn fuzz_ipv4_icmp(data: &[u8]) {
    if let Ok(packet) = ipv4::parse(data) {
        assert!(packet.payload.len() + ipv4::HEADER_LEN <= data.len());
        let ipv4::Packet { source, destination, protocol, payload, .. } = packet;
        let mut again = vec![0; ipv4::HEADER_LEN];
        ipv4::emit(&mut again, source, destination, protocol, payload.len());
        again.extend_from_slice(payload);
        let unfragmented =
            ipv4::Packet { fragment: None, source_routed: false, traffic_class: 0, ..packet };
        assert_eq!(ipv4::parse(&again), Ok(unfragmented));
        fuzz_icmp(payload);
    }
    fuzz_icmp(data);
    // As if the checksum were right, so that what lies behind it is reached.
    if data.len() >= icmpv4::HEADER_LEN {
        let mut message = data.to_vec();
        message[2..4].fill(0);
        let checksum = Sum::new().feed(&message).finish();
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        fuzz_icmp(&message);
    }
}

fn fuzz_icmp(octets: &[u8]) {
    if let Ok(icmpv4::Message::EchoRequest(message)) = icmpv4::parse(octets) {
        assert_eq!(message, octets);
        let mut reply = message.to_vec();
        icmpv4::make_echo_reply(&mut reply);
        assert_eq!(reply[4..], message[4..]);
        assert_eq!(icmpv4::parse(&reply), Ok(icmpv4::Message::Other));
    }
}

/// Any octets as a TCP segment.
pub fn fuzz_tcp(data: &[u8]) {
    let Ok(segment) = tcp::parse(data) else { return };
    let header = Header {
        source_port: segment.source_port,
        destination_port: segment.destination_port,
        seq: segment.seq,
        ack: segment.ack,
        flags: segment.flags,
        window: segment.window,
        options: segment.options,
    };
    let mut again = vec![0; tcp::MAX_HEADER_LEN];
    let length = tcp::emit(&mut again, &header);
    assert!(length.is_multiple_of(4) && length <= tcp::MAX_HEADER_LEN);
    again.truncate(length);
    again.extend_from_slice(segment.payload);
    let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    let pseudo = pseudo_header(a, b, ipv4::PROTOCOL_TCP, again.len() as u16);
    let checksum = pseudo.feed(&again).finish();
    again[tcp::CHECKSUM_OFFSET..][..2].copy_from_slice(&checksum.to_be_bytes());
    assert_eq!(pseudo.feed(&again).finish(), 0);
    // In two parts, the first of even length, as a segment with slices is summed.
    let (head, tail) = again.split_at(length);
    assert_eq!(pseudo.feed(head).feed(tail).finish(), 0);
    assert_eq!(tcp::parse(&again), Ok(segment));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::vlan::VlanStack;

    #[test]
    fn the_parsers_harnesses_get_past_the_headers() {
        let mut frame = vec![0; 22];
        let mac = crate::MacAddr([2, 0, 0, 0, 0, 1]);
        ethernet::emit(
            &mut frame,
            mac,
            mac,
            VlanStack::stacked(5, 6).unwrap(),
            ethernet::ETHERTYPE_ARP,
        );
        frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend([3; 40]);
        fuzz_ethernet_arp(&frame);
        let mut packet = vec![0; 20];
        let address = Ipv4Addr::new(10, 0, 0, 1);
        ipv4::emit(&mut packet, address, address, ipv4::PROTOCOL_ICMP, 9);
        packet.extend([8, 0, 0xf7, 0xff, 0, 0, 0, 0, 0]);
        fuzz_ipv4_icmp(&packet);
        fuzz_tcp(&[
            0, 1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0x60, 2, 0, 5, 0, 0, 0, 0, 2, 4, 5, 0xb4, 9,
        ]);
    }

    proptest! {
        #[test]
        fn any_octets(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            fuzz_ethernet_arp(&data);
            fuzz_ipv4_icmp(&data);
            fuzz_tcp(&data);
        }

        #[test]
        fn any_operations_on_a_stack(data in proptest::collection::vec(any::<u8>(), 0..600)) {
            fuzz_stack(&data);
        }

        /// Segments, answers and applications' calls more than their share.
        #[test]
        fn likely_operations_on_a_stack(
            head in any::<[u8; 2]>(),
            steps in proptest::collection::vec((0u8..20, any::<[u8; 9]>()), 0..150),
        ) {
            let mut data = head.to_vec();
            for (operation, arguments) in steps {
                data.push(operation);
                data.extend_from_slice(&arguments[..usize::from(arguments[0] % 9)]);
            }
            fuzz_stack(&data);
        }
    }
}
