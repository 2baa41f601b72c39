//! What is not for us: wrong VLAN, MAC, address, checksum, length. Nobody answers, and a
//! counter says why.

use std::net::Ipv4Addr;

use tagwire_netstack::wire::checksum::Sum;
use tagwire_netstack::wire::ethernet::{TPID_8021Q, emit};
use tagwire_netstack::wire::ipv4;
use tagwire_netstack::{Checksum, Config, FrameMeta, MacAddr, VlanStack, VlanTag};

use crate::harness::{Fixture, OUR_IP, PEER, PEER_IP, US, VLAN, config, seg};

/// The counters that have changed since `before`, without those of frames.
fn dropped(t: &Fixture) -> Vec<&'static str> {
    let counted = t.stack.stats().iter().filter(|(_, count)| *count > 0).map(|(name, _)| name);
    counted.filter(|name| name.starts_with("drop_")).collect()
}

#[track_caller]
fn silent(frame: &[u8], counter: &str) {
    let mut t = Fixture::new(config());
    t.frame(frame);
    t.nothing();
    assert_eq!(dropped(&t), [counter]);
}

fn ping() -> Vec<u8> {
    Fixture::bare(config()).echo(b"data")
}

/// `ping` with the IPv4 header changed and its checksum put right again.
fn ping_with(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut frame = ping();
    let header = &mut frame[18..38];
    change(header);
    header[10..12].fill(0);
    let sum = Sum::new().feed(header).finish();
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    frame
}

fn tagged(vid: u16) -> VlanStack {
    VlanStack::tagged(vid).unwrap()
}

#[test]
fn another_vlan_or_none() {
    let mut other = ping();
    emit(&mut other, US, PEER, tagged(VLAN + 1), 0x0800);
    silent(&other, "drop_vlan");
    let untagged = Fixture::bare(Config { vlan: VlanStack::UNTAGGED, ..config() }).echo(b"data");
    silent(&untagged, "drop_vlan");
    // And a tag where none is wanted.
    let mut t = Fixture::new(Config { vlan: VlanStack::UNTAGGED, ..config() });
    t.frame(&ping());
    t.nothing();
    assert_eq!(dropped(&t), ["drop_vlan"]);
}

#[test]
fn a_stripped_tag_counts_like_one_in_line() {
    let untagged = Fixture::bare(Config { vlan: VlanStack::UNTAGGED, ..config() }).echo(b"data");
    let mut t = Fixture::new(config());
    let mut arrive = |vid: u16| {
        let vlan = Some(VlanTag { tpid: TPID_8021Q, tci: 0x6000 | vid });
        t.stack.handle_frame(t.now, &untagged, &FrameMeta { vlan, ..FrameMeta::default() });
        t.flush();
        std::mem::take(&mut t.sent).len()
    };
    assert_eq!((arrive(VLAN), arrive(VLAN + 1)), (1, 0));
}

#[test]
fn double_tags_and_priorities() {
    // What each stack sends, with its tags and its priority, the harness checks.
    for (vlan, pcp) in [("0", 0), ("0", 5), ("123", 7), ("100.200", 0), ("100.200", 3)] {
        let mut t = Fixture::new(Config { vlan: vlan.parse().unwrap(), pcp, ..config() });
        let id = t.open(seg("S", 0, 0).mss(1000));
        t.send(seg("P.", 1, 1).data(b"in"));
        assert_eq!(t.app_recv(id).0, b"in", "{vlan}");
        t.app_send(id, b"out");
        t.expect(seg("P.", 1, 3).data(b"out"));
        // And with the outer tag stripped by the kernel, or priority-tagged.
        let mut frame = t.echo(b"data");
        let outer = t.vlan_tags().outer;
        if outer.is_some() {
            frame.drain(12..16);
        }
        let priority = VlanTag { tpid: TPID_8021Q, tci: 0x6000 };
        let meta = FrameMeta { vlan: outer.or(Some(priority)), ..FrameMeta::default() };
        t.stack.handle_frame(t.now, &frame, &meta);
        t.flush();
        t.next_frame();
        assert_eq!(t.stack.stats().icmp_echo, 1);
    }
    let stacked: VlanStack = "100.200".parse().unwrap();
    for other in ["100", "200", "200.100", "0"] {
        let frame = Fixture::bare(Config { vlan: other.parse().unwrap(), ..config() }).echo(b"x");
        let mut t = Fixture::new(Config { vlan: stacked, ..config() });
        t.frame(&frame);
        t.nothing();
        assert_eq!(dropped(&t), ["drop_vlan"], "{other}");
    }
}

#[test]
fn another_station() {
    let mut frame = ping();
    emit(&mut frame, MacAddr([2, 0, 0, 0, 0, 77]), PEER, tagged(VLAN), 0x0800);
    silent(&frame, "drop_mac");
}

#[test]
fn unicast_ip_in_a_broadcast_frame() {
    let mut frame = ping();
    emit(&mut frame, MacAddr::BROADCAST, PEER, tagged(VLAN), 0x0800);
    silent(&frame, "drop_address");
}

#[test]
fn another_address_martians_fragments_protocols_lengths() {
    let to = |address: [u8; 4]| ping_with(|ip| ip[16..20].copy_from_slice(&address));
    let from = |address: [u8; 4]| ping_with(|ip| ip[12..16].copy_from_slice(&address));
    silent(&to([192, 168, 123, 151]), "drop_address");
    silent(&from(OUR_IP.octets()), "drop_martian");
    silent(&from(Ipv4Addr::LOCALHOST.octets()), "drop_martian");
    silent(&from([224, 0, 0, 5]), "drop_martian");
    // Twelve octets are no whole units (RFC 791), TCP's header is cut (RFC 1858, RFC 3128).
    silent(&ping_with(|ip| ip[6] = 0x20), "drop_fragment");
    silent(&ping_with(|ip| (ip[7], ip[9]) = (1, 6)), "drop_fragment");
    silent(&ping_with(|ip| (ip[6], ip[9]) = (0x20, 6)), "drop_fragment");
    // As UDP it states more than is there.
    silent(&ping_with(|ip| ip[9] = 17), "drop_malformed");
    silent(&ping_with(|ip| ip[3] = 200), "drop_malformed");
    silent(&ping_with(|ip| ip[3] = 19), "drop_malformed");
    silent(&ping_with(|ip| ip[0] = 0x65), "drop_malformed");
    let mut header = ping();
    header[18 + 8] ^= 1;
    silent(&header, "drop_checksum");
}

#[test]
fn another_ethertype_or_a_stub() {
    let t = Fixture::bare(config());
    silent(&t.ethernet(0x86dd, &[0; 40]), "drop_ethertype");
    silent(&t.ethernet(0x0800, &[]), "drop_malformed");
    silent(&[0; 13], "drop_malformed");
}

#[test]
fn a_tcp_checksum_is_verified_unless_the_link_did() {
    let mut t = Fixture::new(config());
    let mut frame = t.tcp_frame(&seg("S", 0, 0));
    let last = frame.len() - 1;
    frame[last] ^= 1;
    t.frame(&frame);
    t.nothing();
    assert_eq!(dropped(&t), ["drop_checksum"]);
    // A peer on this host leaves it to a link that the frame never crosses.
    for checksum in [Checksum::Partial, Checksum::Valid] {
        t.stack.handle_frame(t.now, &frame, &FrameMeta { checksum, ..FrameMeta::default() });
        assert_eq!(t.recv().flags, "S.");
        t.port += 1;
        frame = t.tcp_frame(&seg("S", 0, 0));
        frame[last] ^= 1;
    }
}

#[test]
fn padding_behind_a_packet_is_not_data() {
    let mut t = Fixture::new(config());
    let mut frame = t.echo(b"");
    frame.resize(64, 0xaa);
    t.frame(&frame);
    let (_, _, payload) = t.next_frame();
    assert_eq!(ipv4::parse(&payload).unwrap().payload.len(), 8);
    let id = t.open(seg("S", 0, 0));
    let mut frame = t.tcp_frame(&seg(".", 1, 1).data(b"x"));
    frame.resize(64, 0xaa);
    t.frame(&frame);
    assert_eq!(t.app_recv(id).0, b"x");
    assert_eq!(PEER_IP, t.stack.addresses(id).unwrap().remote.ip);
}

#[test]
fn options_are_skipped_and_source_routes_refused() {
    let with_options = |options: [u8; 4]| {
        let t = Fixture::bare(config());
        let plain = t.echo(b"data");
        let mut packet = plain[18..].to_vec();
        packet.splice(20..20, options);
        (packet[0], packet[3]) = (0x46, packet[3] + 4);
        packet[10..12].fill(0);
        let sum = Sum::new().feed(&packet[..24]).finish();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        t.ethernet(0x0800, &packet)
    };
    let mut t = Fixture::new(config());
    // Record route, router alert, and no operation.
    for options in [[7, 3, 4, 0], [148, 4, 0, 0], [1, 1, 1, 0]] {
        t.frame(&with_options(options));
        let (_, _, payload) = t.next_frame();
        assert_eq!(&ipv4::parse(&payload).unwrap().payload[8..], b"data");
    }
    for options in [[131, 3, 4, 0], [1, 137, 3, 4]] {
        silent(&with_options(options), "drop_options");
    }
}
