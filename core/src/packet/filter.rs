//! The classic-BPF program that decides which frames the kernel copies up at all.
//!
//! It passes what is for our address, for all, or for a group of IPv6, and belongs to one of our
//! VLANs, whether the kernel stripped the (outer) tag (`SKF_AD_VLAN_TAG`) or it stands in line. It may
//! pass a frame whose tags have an unusual TPID, which the stack then drops; never one less.

use std::fmt;

use libc::sock_filter;

use super::bpf::{
    AND_K, LD_B_ABS, LD_H_ABS, LD_W_ABS, LDX_IMM, Label, Program, RET_K, VLAN_TAG, VLAN_TAG_PRESENT,
};
use super::syns::SynShare;

/// VLANs of one interface at the most: each costs a look at every frame, here and above.
pub const MAX_VLANS: usize = 16;
/// Octets to pass: all of them.
pub(super) const WHOLE: u32 = u32::MAX;
const TPID_8021Q: u32 = 0x8100;
const TPID_8021AD: u32 = 0x88a8;
const VID: u32 = 0x0fff;
/// Where the first tag stands that is in line.
const TAG: u32 = 12;

/// A VLAN whose frames come up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vlan {
    /// Frames without a tag, and those of VID 0, which only carry a priority (IEEE 802.1Q 6.9).
    Untagged,
    /// Frames with this VID.
    Tagged(u16),
    /// Frames with two tags (IEEE 802.1ad).
    Stacked {
        /// The S-tag's VID.
        outer: u16,
        /// The C-tag's.
        inner: u16,
    },
}

impl fmt::Display for Vlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untagged => f.write_str("none"),
            Self::Tagged(vid) => vid.fmt(f),
            Self::Stacked { outer, inner } => write!(f, "{outer}.{inner}"),
        }
    }
}

impl Vlan {
    /// The VID of the only or outer tag; 0 without one.
    const fn outer(self) -> u16 {
        match self {
            Self::Untagged => 0,
            Self::Tagged(vid) | Self::Stacked { outer: vid, .. } => vid,
        }
    }

    /// The VID of the second tag.
    pub(super) const fn inner(self) -> Option<u16> {
        match self {
            Self::Untagged | Self::Tagged(_) => None,
            Self::Stacked { inner, .. } => Some(inner),
        }
    }
}

/// The program that passes nothing: until the members of a group are complete.
pub(crate) fn closed() -> Vec<sock_filter> {
    let mut program = Program::default();
    program.op(RET_K, 0);
    program.finish()
}

/// The program for one address and some VLANs, [`MAX_VLANS`] at the most. If there is a share of
/// SYNs to pass, others of its VLANs do not.
pub(crate) fn program(mac: [u8; 6], vlans: &[Vlan], syns: Option<&SynShare>) -> Vec<sock_filter> {
    let mut program = Program::default();
    let syns = syns.map(|syns| (syns, program.label()));
    let mut choice = Choice { vlans, syns, program: &mut program };
    choice.destination(mac);
    let in_line = choice.program.label();
    choice.program.op(LD_W_ABS, VLAN_TAG_PRESENT);
    choice.program.jump_if_equal(0, in_line);
    choice.program.op(LD_W_ABS, VLAN_TAG);
    choice.tagged(TAG);
    choice.program.place(in_line);
    choice.in_line();
    if let Some((syns, label)) = syns {
        program.place(label);
        syns.decide(&mut program);
    }
    program.finish()
}

/// A program under way. Jumps do not reach from one of its parts to another: each ends in returns of
/// its own.
struct Choice<'a> {
    vlans: &'a [Vlan],
    /// The share, and what decides by it.
    syns: Option<(&'a SynShare, Label)>,
    program: &'a mut Program,
}

/// Where frames of ours end, by where their EtherType stands.
struct Exits {
    at: u32,
    /// For those that pass whatever they are.
    whole: Label,
    /// For those of VLANs with a share of SYNs.
    shared: Label,
}

impl Choice<'_> {
    /// Goes on if the frame is for us.
    fn destination(&mut self, mac: [u8; 6]) {
        let program = &mut *self.program;
        let high = u32::from_be_bytes([mac[0], mac[1], mac[2], mac[3]]);
        let low = u32::from(u16::from_be_bytes([mac[4], mac[5]]));
        let [group, ours, drop] = std::array::from_fn(|_| program.label());
        program.op(LD_B_ABS, 0);
        program.jump_if_any(1, group);
        program.op(LD_W_ABS, 0);
        program.jump_unless_equal(high, drop);
        program.op(LD_H_ABS, 4);
        program.jump_if_equal(low, ours);
        program.op(RET_K, 0);
        program.place(group);
        // RFC 2464 7: 33:33 and the last four octets of the group's address.
        program.op(LD_H_ABS, 0);
        program.jump_if_equal(0x3333, ours);
        program.op(LD_W_ABS, 0);
        program.jump_unless_equal(u32::MAX, drop);
        program.op(LD_H_ABS, 4);
        program.jump_if_equal(0xffff, ours);
        program.place(drop);
        program.op(RET_K, 0);
        program.place(ours);
    }

    /// Takes or drops a frame of which the TCI of the outer tag is loaded; at `at` stands the EtherType
    /// behind it.
    fn tagged(&mut self, at: u32) {
        let (single, double) = (self.exits(at), self.exits(at + 4));
        let mut stacks: Vec<(u16, Label)> = Vec::new();
        self.program.op(AND_K, VID);
        for (i, vlan) in self.vlans.iter().enumerate() {
            let outer = vlan.outer();
            if self.vlans[..i].iter().any(|other| other.outer() == outer) {
                continue;
            }
            let stacked = self.with_outer(outer).any(|vlan| vlan.inner().is_some());
            let label = if stacked { self.program.label() } else { self.exit(*vlan, &single) };
            self.program.jump_if_equal(outer.into(), label);
            if stacked {
                stacks.push((outer, label));
            }
        }
        self.program.op(RET_K, 0);
        for (outer, label) in &stacks {
            let drop = self.program.label();
            let alone = self.with_outer(*outer).find(|vlan| vlan.inner().is_none());
            let alone = alone.map_or(drop, |vlan| self.exit(vlan, &single));
            let inners = self.with_outer(*outer).filter_map(|vlan| Some((vlan.inner()?, vlan)));
            let inners: Vec<_> =
                inners.map(|(vid, vlan)| (vid, self.exit(vlan, &double))).collect();
            self.program.place(*label);
            self.program.op(LD_H_ABS, at);
            self.program.jump_unless_equal(TPID_8021Q, alone);
            self.program.op(LD_H_ABS, at + 2);
            self.program.op(AND_K, VID);
            for (vid, exit) in inners {
                self.program.jump_if_equal(vid.into(), exit);
            }
            self.program.place(drop);
            self.program.op(RET_K, 0);
        }
        if !stacks.is_empty() {
            self.place(&double);
        }
        self.place(&single);
    }

    fn with_outer(&self, outer: u16) -> impl Iterator<Item = Vlan> {
        self.vlans.iter().copied().filter(move |vlan| vlan.outer() == outer)
    }

    /// The same for a frame whose tags, if it has some, all stand in line.
    fn in_line(&mut self) {
        let has = |wanted: fn(&Vlan) -> bool| self.vlans.iter().any(wanted);
        let untagged = has(|vlan| *vlan == Vlan::Untagged);
        let stacked = has(|vlan| vlan.inner().is_some());
        let [tagged, drop] = std::array::from_fn(|_| self.program.label());
        let bare = self.exits(TAG);
        self.program.op(LD_H_ABS, TAG);
        self.program.jump_if_equal(TPID_8021Q, tagged);
        // Which of the two TPIDs an outer tag may have is for the stack to say.
        self.program.jump_if_equal(TPID_8021AD, if stacked { tagged } else { drop });
        self.program.go(if untagged { self.exit(Vlan::Untagged, &bare) } else { drop });
        self.program.place(tagged);
        self.program.op(LD_H_ABS, TAG + 2);
        self.tagged(TAG + 4);
        if untagged {
            self.place(&bare);
        }
        self.program.place(drop);
        self.program.op(RET_K, 0);
    }

    fn exits(&mut self, at: u32) -> Exits {
        Exits { at, whole: self.program.label(), shared: self.program.label() }
    }

    fn exit(&self, vlan: Vlan, exits: &Exits) -> Label {
        let shared = self.syns.is_some_and(|(syns, _)| syns.vlans.contains(&vlan));
        if shared { exits.shared } else { exits.whole }
    }

    fn place(&mut self, exits: &Exits) {
        self.program.place(exits.whole);
        self.program.op(RET_K, WHOLE);
        if let Some((_, decide)) = self.syns {
            self.program.place(exits.shared);
            self.program.op(LDX_IMM, exits.at + 2);
            self.program.op(LD_H_ABS, exits.at);
            self.program.go(decide);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bpf::run;
    use super::*;

    const US: [u8; 6] = [2, 0x11, 0x22, 0x33, 0x44, 0x55];
    const ALL: [u8; 6] = [0xff; 6];

    fn frame(to: [u8; 6], in_line: &[(u16, u16)]) -> Vec<u8> {
        let mut octets = to.to_vec();
        octets.extend([2, 0, 0, 0, 0, 9]);
        for (tpid, tci) in in_line {
            octets.extend(tpid.to_be_bytes());
            octets.extend(tci.to_be_bytes());
        }
        octets.extend([8, 0]);
        octets.resize(60, 0);
        octets
    }

    fn passes(vlan: Vlan, frame: &[u8], tag: Option<u16>) -> bool {
        run(&program(US, &[vlan], None), frame, tag, 0) != 0
    }

    /// [`MAX_VLANS`] of each kind that makes a long program.
    fn crowds() -> [Vec<Vlan>; 4] {
        let all = |vlan: fn(u16) -> Vlan| (1..=MAX_VLANS as u16).map(vlan).collect();
        [
            all(Vlan::Tagged),
            all(|vid| Vlan::Stacked { outer: vid, inner: 100 + vid }),
            all(|vid| Vlan::Stacked { outer: 1, inner: vid }),
            all(|vid| match vid % 2 {
                _ if vid == 1 => Vlan::Untagged,
                0 => Vlan::Tagged(vid),
                _ => Vlan::Stacked { outer: vid - 1, inner: vid },
            }),
        ]
    }

    #[test]
    fn the_vlan_decides() {
        let vlans = [Vlan::Untagged, Vlan::Tagged(123), Vlan::Stacked { outer: 100, inner: 123 }];
        let c = |tci| (0x8100, tci);
        // (stripped tag, tags in line, passes each of the three)
        type Case<'a> = (Option<u16>, &'a [(u16, u16)], [bool; 3]);
        let cases: [Case<'_>; 19] = [
            (None, &[], [true, false, false]),
            (Some(0), &[], [true, false, false]),
            (Some(0xe000), &[], [true, false, false]),
            (None, &[c(0)], [true, false, false]),
            (None, &[c(0xe000)], [true, false, false]),
            (Some(123), &[], [false, true, false]),
            (Some(0xe000 | 123), &[], [false, true, false]),
            (Some(124), &[], [false, false, false]),
            (None, &[c(123)], [false, true, false]),
            (None, &[c(0xf000 | 123)], [false, true, false]),
            (None, &[c(124)], [false, false, false]),
            (Some(100), &[], [false, false, false]),
            (Some(100), &[c(123)], [false, false, true]),
            (Some(0xe000 | 100), &[c(0x6000 | 123)], [false, false, true]),
            (Some(100), &[c(124)], [false, false, false]),
            (Some(101), &[c(123)], [false, false, false]),
            (Some(100), &[(0x88a8, 123)], [false, false, false]),
            (None, &[(0x88a8, 100), c(123)], [false, false, true]),
            (None, &[(0x88a8, 100), c(124)], [false, false, false]),
        ];
        for (i, (tag, in_line, expected)) in cases.into_iter().enumerate() {
            for (vlan, expected) in vlans.into_iter().zip(expected) {
                assert_eq!(passes(vlan, &frame(US, in_line), tag), expected, "case {i}, {vlan:?}");
            }
        }
    }

    #[test]
    fn of_several_vlans_each_passes_what_it_would_pass_alone_and_no_more() {
        let few = vec![Vlan::Tagged(2), Vlan::Stacked { outer: 2, inner: 3 }, Vlan::Untagged];
        for vlans in crowds().into_iter().chain([few]) {
            let whole = program(US, &vlans, None);
            let mut passed = 0;
            for outer in 0..20 {
                for second in (0..20).chain(100..120).map(Some).chain([None]) {
                    let inner: Vec<_> =
                        second.map(|vid| (0x8100, 0x6000 | vid)).into_iter().collect();
                    let in_line = [&[(0x8100, 0xe000 | outer)], &inner[..]].concat();
                    for (tag, in_line) in [(Some(0xe000 | outer), inner), (None, in_line)] {
                        let frame = frame(US, &in_line);
                        let whose = |vlan: Vlan| match vlan {
                            Vlan::Stacked { outer: o, inner: i } => (o, Some(i)) == (outer, second),
                            // The tag of another VLAN behind it is for the stack to see.
                            vlan => {
                                let inners = |other: &Vlan| {
                                    other.inner().is_some() && other.outer() == outer
                                };
                                vlan.outer() == outer
                                    && (second.is_none() || !vlans.iter().any(inners))
                            }
                        };
                        let expected = vlans.iter().any(|vlan| whose(*vlan));
                        let octets = run(&whole, &frame, tag, 0);
                        assert_eq!(octets, if expected { WHOLE } else { 0 }, "{tag:?} {in_line:?}");
                        passed += usize::from(expected);
                    }
                }
            }
            assert!(passed > 4);
            let bare = run(&whole, &frame(US, &[]), None, 0) != 0;
            assert_eq!(bare, vlans.contains(&Vlan::Untagged));
        }
    }

    #[test]
    fn the_destination_decides() {
        for (to, expected) in [
            (US, true),
            (ALL, true),
            ([0x33, 0x33, 0, 0, 0, 1], true),
            ([0x33, 0x33, 0xff, 0x44, 0x55, 0x66], true),
            ([2, 0x11, 0x22, 0x33, 0x44, 0x56], false),
            ([4, 0x11, 0x22, 0x33, 0x44, 0x55], false),
            // IPv4's groups, bridges' and half of all.
            ([1, 0, 0x5e, 0, 0, 1], false),
            ([1, 0x80, 0xc2, 0, 0, 0], false),
            ([0xff, 0xff, 0xff, 0xff, 0xff, 0xfe], false),
            ([0xff, 0xff, 0xff, 0, 0xff, 0xff], false),
        ] {
            assert_eq!(passes(Vlan::Tagged(123), &frame(to, &[]), Some(123)), expected, "{to:x?}");
            assert_eq!(passes(Vlan::Untagged, &frame(to, &[]), None), expected, "{to:x?}");
        }
    }

    #[test]
    fn a_closed_socket_takes_nothing() {
        assert_eq!(run(&closed(), &frame(ALL, &[]), None, 0), 0);
    }
}
