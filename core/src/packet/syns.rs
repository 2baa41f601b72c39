//! Passing only a share of the SYNs that come: what a flood of them costs is then what the kernel
//! spends on a frame that it drops, and not a copy into the ring, a wake-up and a turn.
//!
//! A filter of classic BPF keeps no state, so what is to pass must be seen from the frame and from the
//! program, which is replaced as things change (`SO_ATTACH_FILTER` on the open socket: no frame
//! meets no filter, and no privilege is needed):
//!
//! - SYNs from peers that are named in it pass;
//! - of the rest those pass whose hash, of the source, both ports and the sequence number, lies in a
//!   window. A SYN that is sent again has the same hash. If the window goes on between two
//!   attempts, then they meet different parts: a stranger's attempts are not all spent on the same
//!   throw.
//!
//! A SYN is a segment with SYN and without FIN, RST and ACK, in an IPv4 packet that is no fragment, or
//! right behind an IPv6 header. All else passes as ever.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::bpf::{
    ADD_K, ADD_X, AND_K, LD_B_IND, LD_H_IND, LD_IMM, LD_W_IND, LDX_MEM, LSH_K, Label, Program,
    RET_K, RSH_K, ST, STX, TAX,
};
use super::filter::{self, Vlan, WHOLE};
use super::socket;
use super::steer::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, FRAGMENT, HASH, PROTOCOL_TCP, mix_loaded};
use crate::nic::Interface;

/// The memory cells that hold where the IP header and the TCP header begin.
const IP: u32 = HASH + 1;
const TCP: u32 = HASH + 2;
/// FIN, SYN, RST and ACK, and what they are in a SYN.
const FLAGS: u32 = 0x17;
const SYN: u32 = 0x02;

/// Which SYNs are to pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SynShare {
    /// The hash's key; peers should not be able to guess it.
    pub key: u32,
    /// Where the window of hashes begins that pass.
    pub start: u16,
    /// Its width; it goes on at 0 behind the last hash.
    pub width: u16,
    /// Addresses whose SYNs pass all, of IPv6 with the 64 bits of their network: of each family the
    /// first [`MOST_PEERS`](Self::MOST_PEERS).
    pub peers: Vec<IpAddr>,
    /// The VLANs that it is about: SYNs in others pass all.
    pub vlans: Vec<Vlan>,
}

impl SynShare {
    /// The longest list of peers: each SYN is compared with all of it.
    pub const MOST_PEERS: usize = 48;

    /// What decides on a frame with an EtherType in A, of which the IP header begins at X.
    pub(super) fn decide(&self, program: &mut Program) {
        let [v4, v6, pass, decide, drop] = std::array::from_fn(|_| program.label());
        let v4_syn = program.label();
        program.op(STX, IP);
        // The kernel's checker wants a cell filled on each way to where it is read, and believes
        // that a program goes on behind a return.
        program.op(STX, TCP);
        program.jump_if_equal(ETHERTYPE_IPV4, v4);
        program.jump_unless_equal(ETHERTYPE_IPV6, pass);
        program.op(LD_B_IND, 6);
        program.jump_unless_equal(PROTOCOL_TCP, pass);
        program.op(LD_IMM, 40);
        unless_syn(program, pass);
        program.go(v6);

        program.place(v4);
        program.op(LD_H_IND, 6);
        program.jump_if_any(FRAGMENT, pass);
        program.op(LD_B_IND, 9);
        program.jump_unless_equal(PROTOCOL_TCP, pass);
        program.op(LD_B_IND, 0);
        program.op(AND_K, 15);
        program.op(LSH_K, 2);
        unless_syn(program, pass);
        program.go(v4_syn);

        program.place(pass);
        program.op(RET_K, WHOLE);

        program.place(v4_syn);
        self.pass_v4(program);
        self.begin(program);
        mix(program, IP, 12);
        program.go(decide);

        program.place(v6);
        self.pass_v6(program);
        self.begin(program);
        [8, 12, 16, 20].into_iter().for_each(|at| mix(program, IP, at));

        program.place(decide);
        mix(program, TCP, 0);
        mix(program, TCP, 4);
        // The upper bits are the well mixed ones.
        program.op(RSH_K, 16);
        program.op(ADD_K, 0x1_0000 - u32::from(self.start));
        program.op(AND_K, 0xffff);
        program.jump_unless_less(self.width.into(), drop);
        program.op(RET_K, WHOLE);
        program.place(drop);
        program.op(RET_K, 0);
    }

    fn begin(&self, program: &mut Program) {
        program.op(LD_IMM, self.key);
        program.op(ST, HASH);
    }

    fn pass_v4(&self, program: &mut Program) {
        let (known, unknown) = (program.label(), program.label());
        program.op(LDX_MEM, IP);
        program.op(LD_W_IND, 12);
        let addresses = self.peers.iter().filter_map(|peer| match peer {
            IpAddr::V4(address) => Some(address.to_bits()),
            IpAddr::V6(_) => None,
        });
        for address in addresses.take(Self::MOST_PEERS) {
            program.jump_if_equal(address, known);
        }
        program.go(unknown);
        program.place(known);
        program.op(RET_K, WHOLE);
        program.place(unknown);
    }

    fn pass_v6(&self, program: &mut Program) {
        let (known, unknown) = (program.label(), program.label());
        program.op(LDX_MEM, IP);
        let networks = self.peers.iter().filter_map(|peer| match peer {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some((address.to_bits() >> 64) as u64),
        });
        for network in networks.take(Self::MOST_PEERS) {
            let other = program.label();
            program.op(LD_W_IND, 12);
            program.jump_unless_equal(network as u32, other);
            program.op(LD_W_IND, 8);
            program.jump_if_equal((network >> 32) as u32, known);
            program.place(other);
        }
        program.go(unknown);
        program.place(known);
        program.op(RET_K, WHOLE);
        program.place(unknown);
    }
}

/// With the length of the IP header in A: notes where TCP's begins, and goes to `pass` unless it is a
/// SYN's.
fn unless_syn(program: &mut Program, pass: Label) {
    program.op(ADD_X, 0);
    program.op(TAX, 0);
    program.op(STX, TCP);
    program.op(LD_B_IND, 13);
    program.op(AND_K, FLAGS);
    program.jump_unless_equal(SYN, pass);
}

/// Mixes a word into the hash, at a distance from the header whose place is in a cell.
fn mix(program: &mut Program, header: u32, at: u32) {
    program.op(LDX_MEM, header);
    program.op(LD_W_IND, at);
    mix_loaded(program);
    program.op(ST, HASH);
}

/// The filter of one worker's receiving socket.
#[derive(Debug)]
pub struct SynFilter {
    socket: OwnedFd,
    mac: [u8; 6],
    vlans: Arc<[Vlan]>,
}

impl SynFilter {
    pub(crate) fn new(
        socket: BorrowedFd<'_>,
        interface: &Interface,
        vlans: Arc<[Vlan]>,
    ) -> io::Result<Self> {
        Ok(Self { socket: socket.try_clone_to_owned()?, mac: interface.mac, vlans })
    }

    /// The interface has another address; the filter that is [`set`](Self::set) next is for that.
    pub fn readdress(&mut self, mac: [u8; 6]) {
        self.mac = mac;
    }

    /// From now on only these SYNs pass; with `None` all of them.
    ///
    /// # Errors
    /// The kernel has no memory for the program; the one before stays.
    pub fn set(&self, share: Option<&SynShare>) -> io::Result<()> {
        socket::set_filter(self.socket.as_fd(), &filter::program(self.mac, &self.vlans, share))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::super::bpf::run;
    use super::*;

    const US: [u8; 6] = [2, 0x11, 0x22, 0x33, 0x44, 0x55];
    const ACK: u8 = 0x10;
    const VLANS: [Vlan; 3] =
        [Vlan::Untagged, Vlan::Tagged(123), Vlan::Stacked { outer: 100, inner: 123 }];

    fn share(width: u16, peers: Vec<IpAddr>) -> SynShare {
        SynShare { key: 0x5eed_1e55, start: 0xf000, width, peers, vlans: VLANS.to_vec() }
    }

    /// An IP packet with a segment from `source`, behind `options` words of IPv4 options.
    fn packet(source: IpAddr, flags: u8, options: u8, sequence: u32) -> Vec<u8> {
        let mut octets = match source {
            IpAddr::V4(address) => {
                let mut octets = vec![0x45 + options, 0, 0, 60, 0, 0, 0x40, 0, 64, 6, 0, 0];
                octets.extend(address.octets());
                octets.extend([192, 0, 2, 200]);
                octets.resize(20 + 4 * usize::from(options), 1);
                octets
            }
            IpAddr::V6(address) => {
                let mut octets = vec![0x60, 0, 0, 0, 0, 40, 6, 64];
                octets.extend(address.octets());
                octets.extend(Ipv6Addr::LOCALHOST.octets());
                octets
            }
        };
        octets.extend([0x9c, 0x40, 0, 80]);
        octets.extend(sequence.to_be_bytes());
        octets.extend([0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
        octets
    }

    fn ethertype(source: IpAddr) -> u16 {
        if source.is_ipv4() { 0x0800 } else { 0x86dd }
    }

    fn frame(in_line: &[(u16, u16)], ethertype: u16, packet: &[u8]) -> Vec<u8> {
        let mut octets = US.to_vec();
        octets.extend([2, 0, 0, 0, 0, 9]);
        for (tpid, tci) in in_line {
            octets.extend(tpid.to_be_bytes());
            octets.extend(tci.to_be_bytes());
        }
        octets.extend(ethertype.to_be_bytes());
        octets.extend(packet);
        octets
    }

    fn v4(last: u8) -> IpAddr {
        Ipv4Addr::new(198, 51, 100, last).into()
    }

    fn v6(network: u16, host: u16) -> IpAddr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, host).into()
    }

    /// Whether a packet passes, untagged.
    fn passes(share: &SynShare, source: IpAddr, packet: &[u8]) -> bool {
        let frame = frame(&[], ethertype(source), packet);
        run(&filter::program(US, &[Vlan::Untagged], Some(share)), &frame, None, 0) != 0
    }

    #[test]
    fn syns_are_found_behind_every_kind_of_tag() {
        let c = |tci| (0x8100, tci);
        type Case<'a> = (Vlan, Option<u16>, &'a [(u16, u16)]);
        let cases: [Case<'_>; 8] = [
            (VLANS[0], None, &[]),
            (VLANS[0], Some(0xe000), &[]),
            (VLANS[0], None, &[c(0)]),
            (VLANS[1], Some(123), &[]),
            (VLANS[1], None, &[c(123)]),
            (VLANS[2], Some(100), &[c(123)]),
            (VLANS[2], None, &[(0x88a8, 100), c(123)]),
            (VLANS[2], None, &[c(100), c(123)]),
        ];
        let (nobody, some) = (share(0, vec![]), share(0, vec![v4(1), v6(1, 1)]));
        for (i, (vlan, tag, in_line)) in cases.into_iter().enumerate() {
            for source in [v4(1), v6(1, 1)] {
                let passes = |share, flags| {
                    let packet = packet(source, flags, 0, 7);
                    let frame = frame(in_line, ethertype(source), &packet);
                    run(&filter::program(US, &[vlan], share), &frame, tag, 0) == WHOLE
                };
                assert!(passes(None, 2), "case {i}: without a share");
                assert!(!passes(Some(&nobody), 2), "case {i}: a SYN");
                assert!(passes(Some(&nobody), ACK), "case {i}: no SYN");
                assert!(passes(Some(&some), 2), "case {i}: a peer's");
            }
        }
    }

    #[test]
    fn syns_in_other_vlans_pass() {
        let c = |tci| (0x8100, tci);
        let vlans = [VLANS[0], VLANS[1], VLANS[2], Vlan::Tagged(100)];
        type Case<'a> = (Option<u16>, &'a [(u16, u16)]);
        let cases: [[Case<'_>; 2]; 4] = [
            [(None, &[]), (Some(0), &[])],
            [(Some(123), &[]), (None, &[c(123)])],
            [(Some(100), &[c(123)]), (None, &[c(100), c(123)])],
            [(Some(100), &[]), (None, &[c(100)])],
        ];
        for flooded in 0..1 << vlans.len() {
            let is_flooded = |at: usize| flooded >> at & 1 == 1;
            let about = (0..vlans.len()).filter(|at| is_flooded(*at)).map(|at| vlans[at]);
            let share = SynShare { vlans: about.collect(), ..share(0, vec![]) };
            let program = filter::program(US, &vlans, Some(&share));
            for (at, ways) in cases.iter().enumerate() {
                for (tag, in_line) in ways {
                    for source in [v4(1), v6(1, 1)] {
                        let passes = |flags| {
                            let packet = packet(source, flags, 0, 7);
                            run(&program, &frame(in_line, ethertype(source), &packet), *tag, 0)
                        };
                        let expected = if is_flooded(at) { 0 } else { WHOLE };
                        assert_eq!(passes(2), expected, "{at}, of {flooded:b}");
                        assert_eq!(passes(ACK), WHOLE);
                    }
                }
            }
        }
    }

    #[test]
    fn only_syns_are_kept_out() {
        let nobody = share(0, vec![]);
        for source in [v4(1), v6(1, 1)] {
            for flags in 0..=255u8 {
                let packet = packet(source, flags, 0, 7);
                // What ECN, PSH and URG say makes no difference.
                let is_syn = flags & 0x17 == 2;
                assert_eq!(passes(&nobody, source, &packet), !is_syn, "{flags:x}");
            }
            let mut udp = packet(source, 2, 0, 7);
            udp[if source.is_ipv4() { 9 } else { 6 }] = 17;
            assert!(passes(&nobody, source, &udp));
        }
        for options in 1..=10 {
            assert!(!passes(&nobody, v4(1), &packet(v4(1), 2, options, 7)));
            assert!(passes(&nobody, v4(1), &packet(v4(1), ACK, options, 7)));
        }
        let mut fragment = packet(v4(1), 2, 0, 7);
        fragment[6] = 0x20;
        assert!(passes(&nobody, v4(1), &fragment), "the first of several");
        let arp = frame(&[], 0x0806, &[0; 28]);
        let program = filter::program(US, &[Vlan::Untagged], Some(&nobody));
        assert_eq!(run(&program, &arp, None, 0), WHOLE);
    }

    #[test]
    fn known_peers_pass_and_no_others() {
        let peers = (1..=60).flat_map(|i| [v4(i), v6(u16::from(i), 1)]).collect();
        let share = share(0, peers);
        let most = SynShare::MOST_PEERS as u8;
        for i in 0..=100 {
            let known = (1..=most).contains(&i);
            let source = v4(i);
            assert_eq!(passes(&share, source, &packet(source, 2, 0, 7)), known, "{source}");
            for host in [1, 2] {
                let source = v6(i.into(), host);
                assert_eq!(passes(&share, source, &packet(source, 2, 0, 7)), known, "{source}");
            }
        }
    }

    #[test]
    fn the_share_is_kept_and_a_moving_window_passes_each_syn_once() {
        const WIDTH: u16 = 0x1000;
        for source in [v4(1), v6(1, 1)] {
            let mut passed = 0;
            for sequence in 0..2000u32 {
                let packet = packet(source, 2, 0, sequence.wrapping_mul(0x0101_0101));
                let passes: Vec<bool> = (0..16)
                    .map(|step| {
                        let start = 0xf800u16.wrapping_add(WIDTH * step);
                        passes(&SynShare { start, ..share(WIDTH, vec![]) }, source, &packet)
                    })
                    .collect();
                assert_eq!(passes.iter().filter(|passes| **passes).count(), 1);
                passed += u32::from(passes[0]);
            }
            // A sixteenth of 2000 is 125.
            assert!((95..155).contains(&passed), "{passed}");
        }
    }

    #[test]
    fn a_syn_that_is_cut_short_does_not_pass() {
        let share = share(0xffff, vec![v4(1), v6(1, 1)]);
        for source in [v4(1), v6(1, 1)] {
            let whole = frame(&[], ethertype(source), &packet(source, 2, 0, 7));
            let program = filter::program(US, &[Vlan::Untagged], Some(&share));
            // The flags are the last that is looked at.
            let flags = whole.len() - 6;
            for len in 0..whole.len() {
                let passed = run(&program, &whole[..len], None, 0);
                assert_eq!(passed, if len < flags { 0 } else { WHOLE }, "{len}");
            }
        }
    }
}
