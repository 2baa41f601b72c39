//! The classic-BPF program that decides which frames the kernel copies up at all.
//!
//! It passes what is for our address, for all, or for a group of IPv6, and belongs to our VLAN,
//! whether the kernel stripped the (outer) tag (`SKF_AD_VLAN_TAG`) or it stands in line.

use libc::sock_filter;

use super::bpf::{
    AND_K, LD_B_ABS, LD_H_ABS, LD_W_ABS, LDX_IMM, Label, Program, RET_K, VLAN_TAG, VLAN_TAG_PRESENT,
};
use super::syns::SynShare;

/// Octets to pass: all of them.
pub(super) const WHOLE: u32 = u32::MAX;
const TPID_8021Q: u32 = 0x8100;
const TPID_8021AD: u32 = 0x88a8;
const VID: u32 = 0x0fff;
/// Where the first tag stands that is in line.
const TAG: u32 = 12;

/// The VLAN whose frames come up.
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

/// The program that passes nothing: until the members of a group are complete.
pub(crate) fn closed() -> Vec<sock_filter> {
    let mut program = Program::default();
    program.op(RET_K, 0);
    program.finish()
}

/// The program for one address and one VLAN. If there is a share of SYNs to pass, others do not.
pub(crate) fn program(mac: [u8; 6], vlan: Vlan, syns: Option<&SynShare>) -> Vec<sock_filter> {
    let mut program = Program::default();
    let (in_line, bare, drop) = (program.label(), program.label(), program.label());
    let share = program.label();
    // A frame of ours: `at` is where its EtherType stands.
    let take = |program: &mut Program, at: u32| {
        if syns.is_some() {
            program.op(LDX_IMM, at + 2);
            program.op(LD_H_ABS, at);
            program.go(share);
        } else {
            program.op(RET_K, WHOLE);
        }
    };
    destination(&mut program, mac, drop);
    let (outer, inner) = match vlan {
        Vlan::Untagged => (0, None),
        Vlan::Tagged(vid) => (vid, None),
        Vlan::Stacked { outer, inner } => (outer, Some(inner)),
    };
    program.op(LD_W_ABS, VLAN_TAG_PRESENT);
    program.jump_if_equal(0, in_line);
    program.op(LD_W_ABS, VLAN_TAG);
    program.op(AND_K, VID);
    program.jump_unless_equal(outer.into(), drop);
    if let Some(inner) = inner {
        tag(&mut program, TAG, inner, drop);
    }
    take(&mut program, if inner.is_some() { TAG + 4 } else { TAG });

    program.place(in_line);
    if inner.is_some() {
        // Which of the two TPIDs an outer tag may have is for the stack to say.
        vid(&mut program, TAG, outer, drop);
    } else {
        let untagged = if vlan == Vlan::Untagged { bare } else { drop };
        program.op(LD_H_ABS, TAG);
        program.jump_if_equal(TPID_8021AD, drop);
        program.jump_unless_equal(TPID_8021Q, untagged);
        vid(&mut program, TAG, outer, drop);
    }
    if let Some(inner) = inner {
        tag(&mut program, TAG + 4, inner, drop);
    }
    take(&mut program, if inner.is_some() { TAG + 8 } else { TAG + 4 });
    program.place(bare);
    take(&mut program, TAG);
    program.place(drop);
    program.op(RET_K, 0);
    if let Some(syns) = syns {
        program.place(share);
        syns.decide(&mut program);
    }
    program.finish()
}

/// Goes on if the frame is for us, and to `drop` else.
fn destination(program: &mut Program, mac: [u8; 6], drop: Label) {
    let high = u32::from_be_bytes([mac[0], mac[1], mac[2], mac[3]]);
    let low = u32::from(u16::from_be_bytes([mac[4], mac[5]]));
    let (group, ours) = (program.label(), program.label());
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
    program.jump_unless_equal(0xffff, drop);
    program.place(ours);
}

/// Goes on if a C-tag of this VLAN stands in line at `at`.
fn tag(program: &mut Program, at: u32, wanted: u16, drop: Label) {
    program.op(LD_H_ABS, at);
    program.jump_unless_equal(TPID_8021Q, drop);
    vid(program, at, wanted, drop);
}

/// Goes on if the tag in line at `at` has this VID.
fn vid(program: &mut Program, at: u32, wanted: u16, drop: Label) {
    program.op(LD_H_ABS, at + 2);
    program.op(AND_K, VID);
    program.jump_unless_equal(wanted.into(), drop);
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
        run(&program(US, vlan, None), frame, tag, 0) != 0
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
