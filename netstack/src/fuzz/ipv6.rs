//! IPv6: its parsers, and a stack that hears nothing else.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::operations::Input;
use crate::wire::{ethernet, icmpv6, ipv6, ipv6_ext, mld, ndp};
use crate::{
    Config, FrameMeta, Instant, Ipv6Cidr, MIN_BUFFER, MacAddr, Offload, Stack, TcpConfig, VlanStack,
};

const US: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const OUR_IP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
const PEER_IP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// Any octets as an IPv6 packet with its extension headers, and as the messages of ICMPv6,
/// neighbour discovery and multicast listener discovery.
pub fn fuzz_ipv6(data: &[u8]) {
    if let Ok(packet) = ipv6::parse(data) {
        let mut again = vec![0; ipv6::HEADER_LEN];
        ipv6::emit(&mut again, &packet.header, packet.payload.len());
        again.extend_from_slice(packet.payload);
        let read = ipv6::parse(&again).expect("what was read can be written");
        assert_eq!((read.header, read.payload), (packet.header, packet.payload));
        if let Ok(ipv6_ext::Chain::Upper(upper)) = ipv6_ext::walk(&packet) {
            assert!(packet.payload.ends_with(upper.payload));
            assert_eq!(packet.octets[upper.protocol_at], upper.protocol);
        }
        let upper = ipv6_ext::upper_of_quote(packet.header.next_header, packet.payload);
        assert!(upper.is_none_or(|(_, rest)| packet.payload.ends_with(rest)));
    }
    let _ = ipv6::parse_quote(data);
    if let Ok(solicitation) = ndp::parse_solicitation(data) {
        let again = ndp::make_solicitation(&solicitation);
        assert_eq!(ndp::parse_solicitation(&again), Ok(solicitation));
    }
    if let Ok(advertisement) = ndp::parse_advertisement(data) {
        let again = ndp::make_advertisement(&advertisement);
        assert_eq!(ndp::parse_advertisement(&again), Ok(advertisement));
    }
    if let Ok(advertisement) = ndp::parse_router_advertisement(data) {
        assert!(advertisement.prefixes().all(|prefix| prefix.prefix.prefix <= 128));
    }
    if let Ok(query) = mld::parse_query(data) {
        assert_eq!(query.sources().count(), query.sources().len());
    }
    if data.len() >= icmpv6::HEADER_LEN {
        let mut message = data.to_vec();
        icmpv6::seal(PEER_IP, OUR_IP, &mut message);
        let read = icmpv6::parse(PEER_IP, OUR_IP, &message).expect("it was sealed");
        assert_eq!((read.kind, read.code), (message[0], message[1]));
    }
}

/// Any octets as what a stack with IPv6 hears: messages whose checksums are right, packets with
/// any headers, and time. Every frame has a counter, what it sends can be read, what peers
/// make grow is bounded.
pub fn fuzz_ipv6_stack(data: &[u8]) {
    let mut input = Input(data);
    let setting = input.octet();
    let mut now = Instant::from_millis(1);
    let address = Ipv6Cidr { address: OUR_IP, prefix: 64 };
    let config = Config {
        mac: US,
        vlan: VlanStack::UNTAGGED,
        pcp: 0,
        mtu: if setting & 1 == 0 { 1500 } else { 1280 },
        addresses: if setting & 2 == 0 { vec![address.into()] } else { Vec::new() },
        acd: Default::default(),
        gateway: None,
        gateway6: (setting & 4 != 0).then_some(ROUTER),
        slaac: setting & 10 != 0,
        stable_secret: None,
        passive: false,
        secret: [setting; 16],
        offload: Offload::NONE,
        tcp: TcpConfig::default(),
    };
    let mut stack = Stack::new(config, now);
    stack.listen(80);
    let mut buffer = vec![0; MIN_BUFFER];
    let mut slices = Vec::new();
    while !input.0.is_empty() {
        let operation = input.octet();
        let source = [PEER_IP, ROUTER, Ipv6Addr::UNSPECIFIED, OUR_IP][usize::from(operation >> 6)];
        let group = ipv6::solicited_node(OUR_IP);
        let destination = [OUR_IP, ipv6::ALL_NODES, group][usize::from(operation >> 4 & 3) % 3];
        let length = usize::from(input.octet());
        match operation & 7 {
            0 => {
                let end = now + Duration::from_millis(u64::from(input.word()) * 16);
                while let Some(at) = stack.poll_timeout().filter(|at| *at <= end) {
                    now = now.max(at);
                    stack.handle_timeout(now);
                    let next = stack.poll_timeout();
                    assert!(next.is_none_or(|next| next > now), "a timeout that stays due");
                }
                now = end;
            }
            1 => stack.set_link(now, length & 1 == 0),
            2 | 3 => {
                let next_header = input.octet();
                let payload = input.octets(length);
                hear(&mut stack, now, source, destination, next_header, 64, payload);
            }
            kind => {
                let hop_limit = if kind == 4 { 1 } else { 255 };
                let mut message = input.octets(length).to_vec();
                if message.len() >= icmpv6::HEADER_LEN {
                    icmpv6::seal(source, destination, &mut message);
                }
                if kind == 4 {
                    message.splice(..0, mld::ROUTER_ALERT);
                }
                let next_header = if kind == 4 { 0 } else { ipv6::NEXT_ICMPV6 };
                hear(&mut stack, now, source, destination, next_header, hop_limit, &message);
            }
        }
        while let Some(transmit) = stack.poll_transmit(now, &mut buffer, &mut slices) {
            assert!(slices.is_empty(), "a large packet");
            let frame = ethernet::parse(&buffer[..transmit.len]).expect("an Ethernet frame");
            let packet = ipv6::parse(frame.payload).expect("an IPv6 packet");
            ipv6_ext::walk(&packet).expect("sane headers");
        }
        assert!(stack.multicast_macs().len() < 40);
    }
}

/// Hands the stack a packet, and checks that it was counted.
fn hear(
    stack: &mut Stack,
    now: Instant,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    next_header: u8,
    hop_limit: u8,
    payload: &[u8],
) {
    let mut frame = vec![0; ethernet::HEADER_LEN + ipv6::HEADER_LEN];
    let to = if destination.is_multicast() { ipv6::multicast_mac(destination) } else { US };
    let at = ethernet::emit(&mut frame, to, PEER, VlanStack::UNTAGGED, ethernet::ETHERTYPE_IPV6);
    let header = ipv6::Header { source, destination, next_header, hop_limit, flow_label: 0 };
    ipv6::emit(&mut frame[at..], &header, payload.len());
    frame.extend_from_slice(payload);
    let counted = |stack: &Stack| {
        let counters = stack.stats().iter().filter(|(name, _)| {
            name.starts_with("drop_")
                || ["nd_in", "nd_ignored", "nd_limited", "mld_in", "mld_ignored"].contains(name)
                || ["icmp_echo", "icmp_error_in", "icmp_ignored", "tcp_in"].contains(name)
                || *name == "ip_fragment_in"
        });
        counters.map(|(_, count)| count).sum::<u64>()
    };
    let before = counted(stack);
    stack.handle_frame(now, &frame, &FrameMeta::default());
    assert!(counted(stack) > before, "a frame without a counter");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_octets(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            fuzz_ipv6(&data);
            fuzz_ipv6_stack(&data);
        }

        /// Messages of neighbour and listener discovery more than their share.
        #[test]
        fn likely_messages(
            setting in any::<u8>(),
            messages in proptest::collection::vec(
                (any::<u8>(), prop_oneof![Just(130u8), 133u8..138, any::<u8>()],
                    proptest::collection::vec(prop_oneof![Just(0u8), 0u8..5, any::<u8>()], 16..60)),
                0..30,
            ),
        ) {
            let mut data = vec![setting];
            for (operation, kind, body) in messages {
                data.extend([operation, body.len() as u8 + 4, kind, 0, 0, 0]);
                data.extend(body);
            }
            fuzz_ipv6_stack(&data);
        }
    }
}
