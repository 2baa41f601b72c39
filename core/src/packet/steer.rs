//! Which of several workers gets a frame: a classic-BPF program for `PACKET_FANOUT_CBPF`.
//!
//! A segment of TCP goes by its source address and both ports, so a connection stays with one
//! worker. All else (ARP, ICMP, neighbour discovery, fragments, and what lies behind extension
//! headers) goes to the first one: it is the only one that speaks for the address,
//! and it passes on what belongs to another's connection, for which [`Steering::worker`] is the
//! same function.
//!
//! The kernel's own flow hash (`PACKET_FANOUT_HASH`) was not taken: it may come from the network
//! card, which hashes fragments, tunnels and tags in its own way; nobody in user space could say
//! which worker has a connection; and its key is not ours, so a client that knows it could
//! choose its ports so that all of its connections meet in one worker.

use std::net::{IpAddr, SocketAddr};

use libc::sock_filter;

use super::bpf::{
    LD_B_ABS, LD_H_ABS, LD_IMM, LD_W_ABS, LD_W_IND, LDX_MEM, LDX_MSH, MOD_K, MUL_K, PROTOCOL,
    Program, RET_A, RET_K, RSH_K, ST, TAX, XOR_X,
};
use super::filter::Vlan;

const ETHERTYPE_VLAN: u32 = 0x8100;
pub(super) const ETHERTYPE_IPV4: u32 = 0x0800;
pub(super) const ETHERTYPE_IPV6: u32 = 0x86dd;
pub(super) const PROTOCOL_TCP: u32 = 6;
/// More fragments, and the offset (RFC 791 3.1).
pub(super) const FRAGMENT: u32 = 0x3fff;
/// Knuth's multiplicative hash: the golden ratio in 32 bits, odd.
const MULTIPLIER: u32 = 0x9e37_79b1;
/// How far the upper, well mixed bits of a product are folded down.
const FOLD: u32 = 15;
/// The bits of the hash that decide: the upper half.
const DECIDE: u32 = 16;
/// The memory cell that holds the hash.
pub(super) const HASH: u32 = 0;

/// How connections are spread over workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steering {
    workers: usize,
    key: u32,
}

impl Steering {
    /// Over `workers` (at least one). `key` should be unpredictable to peers, lest they choose
    /// ports that meet in one worker.
    pub fn new(workers: usize, key: u32) -> Self {
        Self { workers: workers.max(1), key }
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// The worker, from 0 on, that gets the segments which `source` sends to `port`.
    pub fn worker(&self, source: SocketAddr, port: u16) -> usize {
        let hash = match source.ip() {
            IpAddr::V4(address) => mix_word(self.key, address.to_bits()),
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                [96, 64, 32, 0].into_iter().fold(self.key, |h, at| mix_word(h, (bits >> at) as u32))
            }
        };
        let ports = u32::from(source.port()) << 16 | u32::from(port);
        (mix_word(hash, ports) >> DECIDE) as usize % self.workers
    }

    /// The same for the kernel. A fanout's program sees a packet from behind the Ethernet header
    /// on, and behind the outer tag, which the kernel has always stripped there.
    pub(crate) fn program(&self, vlans: &[Vlan]) -> Vec<sock_filter> {
        let mut program = Program::default();
        let single = program.label();
        program.op(LD_W_ABS, PROTOCOL);
        if vlans.iter().any(|vlan| vlan.inner().is_some()) {
            program.jump_unless_equal(ETHERTYPE_VLAN, single);
            // Behind the inner tag's TCI.
            program.op(LD_H_ABS, 2);
            self.spread(&mut program, 4);
        }
        program.place(single);
        self.spread(&mut program, 0);
        program.finish()
    }

    /// Returns the worker for a packet whose EtherType is loaded and whose IP header begins at `ip`.
    fn spread(&self, program: &mut Program, ip: u32) {
        let (ipv6, first) = (program.label(), program.label());
        program.jump_if_equal(ETHERTYPE_IPV6, ipv6);
        program.jump_unless_equal(ETHERTYPE_IPV4, first);
        program.op(LD_H_ABS, ip + 6);
        program.jump_if_any(FRAGMENT, first);
        program.op(LD_B_ABS, ip + 9);
        program.jump_unless_equal(PROTOCOL_TCP, first);
        self.begin(program);
        mix(program, LD_W_ABS, ip + 12);
        program.op(LDX_MSH, ip);
        program.op(LD_W_IND, ip);
        self.decide(program);

        program.place(ipv6);
        program.op(LD_B_ABS, ip + 6);
        program.jump_unless_equal(PROTOCOL_TCP, first);
        self.begin(program);
        for at in [8, 12, 16, 20] {
            mix(program, LD_W_ABS, ip + at);
        }
        program.op(LD_W_ABS, ip + 40);
        self.decide(program);

        program.place(first);
        program.op(RET_K, 0);
    }

    fn begin(&self, program: &mut Program) {
        program.op(LD_IMM, self.key);
        program.op(ST, HASH);
    }

    /// Mixes in the ports, which are loaded, and returns the worker.
    fn decide(&self, program: &mut Program) {
        mix_loaded(program);
        program.op(RSH_K, DECIDE);
        program.op(MOD_K, self.workers as u32);
        program.op(RET_A, 0);
    }
}

/// Loads a word and mixes it into the hash.
fn mix(program: &mut Program, load: u16, at: u32) {
    program.op(load, at);
    mix_loaded(program);
    program.op(ST, HASH);
}

/// The same here.
fn mix_word(hash: u32, word: u32) -> u32 {
    let hash = (hash ^ word).wrapping_mul(MULTIPLIER);
    hash ^ hash >> FOLD
}

/// Mixes what is loaded into the hash in [`HASH`], and leaves the new one in A.
pub(super) fn mix_loaded(program: &mut Program) {
    program.op(LDX_MEM, HASH);
    program.op(XOR_X, 0);
    program.op(MUL_K, MULTIPLIER);
    program.op(TAX, 0);
    program.op(RSH_K, FOLD);
    program.op(XOR_X, 0);
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::super::bpf::run;
    use super::*;

    const STACKED: Vlan = Vlan::Stacked { outer: 100, inner: 200 };

    /// A segment from `source` to port 80, from the IP header on, with `options` more octets of it.
    fn packet(source: SocketAddr, options: usize) -> (u16, Vec<u8>) {
        let mut octets = vec![0; 20 + options];
        let ethertype = match source.ip() {
            IpAddr::V4(address) => {
                octets[0] = 0x45 + (options / 4) as u8;
                octets[6] = 0x40;
                octets[9] = 6;
                octets[12..16].copy_from_slice(&address.octets());
                0x0800
            }
            IpAddr::V6(address) => {
                octets = vec![0; 40];
                octets[0] = 0x60;
                octets[6] = 6;
                octets[8..24].copy_from_slice(&address.octets());
                0x86dd
            }
        };
        octets.extend(source.port().to_be_bytes());
        octets.extend([0, 80]);
        octets.resize(octets.len() + 16, 0);
        (ethertype, octets)
    }

    fn with_inner_tag(ethertype: u16, octets: &[u8]) -> Vec<u8> {
        [&[0, 200], &ethertype.to_be_bytes()[..], octets].concat()
    }

    fn sources() -> impl Iterator<Item = SocketAddr> {
        (0..2000u16).flat_map(|i| {
            let port = 32_768 + i * 2;
            let v4 = Ipv4Addr::new(192, 168, 123, (i / 256) as u8);
            let v6 = Ipv6Addr::new(0xfd00, 0x123, 0, 0, 0, 0, 0, i / 256);
            [SocketAddr::new(v4.into(), port), SocketAddr::new(v6.into(), port)]
        })
    }

    #[test]
    fn the_kernel_and_we_agree() {
        for workers in [1, 2, 3, 4, 64] {
            for key in [0, 0xdead_beef] {
                let steering = Steering::new(workers, key);
                let plain = steering.program(&[Vlan::Tagged(123)]);
                let stacked = steering.program(&[STACKED]);
                let both = steering.program(&[STACKED, Vlan::Tagged(123)]);
                for (i, source) in sources().enumerate().step_by(7) {
                    let expected = steering.worker(source, 80) as u32;
                    let (ethertype, octets) = packet(source, i % 11 * 4);
                    assert_eq!(run(&plain, &octets, Some(123), ethertype), expected);
                    assert_eq!(run(&both, &octets, Some(123), ethertype), expected);
                    let octets = with_inner_tag(ethertype, &octets);
                    assert_eq!(run(&stacked, &octets, Some(100), 0x8100), expected);
                    assert_eq!(run(&both, &octets, Some(100), 0x8100), expected);
                }
            }
        }
    }

    #[test]
    fn connections_are_spread_evenly() {
        for workers in [2, 3, 4, 8] {
            for key in [0, 1, 0x1234_5678, u32::MAX] {
                let steering = Steering::new(workers, key);
                let mut counts = vec![0usize; workers];
                sources().for_each(|source| counts[steering.worker(source, 80)] += 1);
                let even = 4000 / workers;
                for count in &counts {
                    assert!(count.abs_diff(even) < even / 4, "{key:x}: {counts:?}");
                }
            }
        }
    }

    #[test]
    fn all_but_whole_segments_is_the_first_workers() {
        let steering = Steering::new(64, 7);
        let program = steering.program(&[Vlan::Untagged]);
        let elsewhere = sources().find(|source| steering.worker(*source, 80) != 0).unwrap();
        let (ethertype, good) = packet(elsewhere, 0);
        assert_ne!(run(&program, &good, None, ethertype), 0);
        let changed = |at: usize, octet: u8| {
            let mut octets = good.clone();
            octets[at] = octet;
            run(&program, &octets, None, ethertype)
        };
        assert_eq!(changed(6, 0x20), 0, "the first fragment");
        assert_eq!(changed(7, 1), 0, "a later one");
        assert_eq!(changed(9, 1), 0, "ICMP");
        for ethertype in [0x0806, 0x8100, 0x86dd] {
            assert_eq!(run(&program, &good, None, ethertype), 0, "{ethertype:x}");
        }
        // What is cut short is whoever's.
        for len in 0..24 {
            assert_eq!(run(&program, &good[..len], None, ethertype), 0);
        }
        // A frame with two tags is nobody's where there is one.
        assert_eq!(run(&program, &with_inner_tag(ethertype, &good), Some(100), 0x8100), 0);
    }
}
