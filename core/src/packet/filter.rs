//! The classic-BPF program that decides which frames the kernel copies up at all.
//!
//! It passes what is for our address or a group, and belongs to our VLAN, whether the kernel
//! stripped the tag (`SKF_AD_VLAN_TAG`) or it stands in line.

use libc::sock_filter;

const LD_B_ABS: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const LD_H_ABS: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
const LD_W_ABS: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND_K: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const JEQ_K: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JSET_K: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RET_K: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const VLAN_TAG: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG) as u32;
const VLAN_TAG_PRESENT: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG_PRESENT) as u32;
/// Octets to pass: all of them.
const WHOLE: u32 = u32::MAX;

fn op(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

/// A test that skips `jt` or `jf` instructions.
fn test(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// The program for one address and one VLAN; `None`: untagged frames, and those of VID 0, which
/// only carry a priority (IEEE 802.1Q 6.9).
pub(crate) fn program(mac: [u8; 6], vlan: Option<u16>) -> Vec<sock_filter> {
    let high = u32::from_be_bytes([mac[0], mac[1], mac[2], mac[3]]);
    let low = u32::from(u16::from_be_bytes([mac[4], mac[5]]));
    let vid = u32::from(vlan.unwrap_or(0));
    vec![
        /* 0 */ op(LD_B_ABS, 0),
        /* 1: a group? */ test(JSET_K, 1, 4, 0),
        /* 2 */ op(LD_W_ABS, 0),
        /* 3: ours? */ test(JEQ_K, high, 0, 12),
        /* 4 */ op(LD_H_ABS, 4),
        /* 5 */ test(JEQ_K, low, 0, 10),
        /* 6: a stripped tag? */ op(LD_W_ABS, VLAN_TAG_PRESENT),
        /* 7 */ test(JEQ_K, 0, 2, 0),
        /* 8 */ op(LD_W_ABS, VLAN_TAG),
        /* 9: (jump to 13) */ op((libc::BPF_JMP | libc::BPF_JA) as u16, 3),
        /* 10: one in line? */ op(LD_H_ABS, 12),
        /* 11: without one, untagged is right and tagged wrong */
        test(JEQ_K, 0x8100, 0, if vlan.is_none() { 3 } else { 4 }),
        /* 12 */ op(LD_H_ABS, 14),
        /* 13 */ op(AND_K, 0x0fff),
        /* 14 */ test(JEQ_K, vid, 0, 1),
        /* 15 */ op(RET_K, WHOLE),
        /* 16 */ op(RET_K, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel does; `tag` is a stripped one.
    fn passes(program: &[sock_filter], frame: &[u8], tag: Option<u16>) -> bool {
        let (mut pc, mut a) = (0, 0u32);
        loop {
            let ins = program[pc];
            pc += 1;
            let at = ins.k as usize;
            match ins.code {
                LD_W_ABS if ins.k == VLAN_TAG_PRESENT => a = tag.is_some().into(),
                LD_W_ABS if ins.k == VLAN_TAG => a = tag.unwrap_or(0).into(),
                LD_B_ABS => a = frame[at].into(),
                LD_H_ABS => a = u16::from_be_bytes([frame[at], frame[at + 1]]).into(),
                LD_W_ABS => a = u32::from_be_bytes(frame[at..at + 4].try_into().unwrap()),
                AND_K => a &= ins.k,
                JEQ_K => pc += usize::from(if a == ins.k { ins.jt } else { ins.jf }),
                JSET_K => pc += usize::from(if a & ins.k != 0 { ins.jt } else { ins.jf }),
                RET_K => return ins.k != 0,
                code if code == (libc::BPF_JMP | libc::BPF_JA) as u16 => pc += at,
                code => panic!("code {code}"),
            }
        }
    }

    const US: [u8; 6] = [2, 0x11, 0x22, 0x33, 0x44, 0x55];

    fn frame(to: [u8; 6], inline: Option<u16>) -> Vec<u8> {
        let mut octets = to.to_vec();
        octets.extend([2, 0, 0, 0, 0, 9]);
        if let Some(tci) = inline {
            octets.extend([0x81, 0]);
            octets.extend(tci.to_be_bytes());
        }
        octets.extend([8, 0]);
        octets.resize(60, 0);
        octets
    }

    #[test]
    fn address_and_vlan_decide() {
        let tagged = program(US, Some(123));
        let untagged = program(US, None);
        // (frame, stripped tag, passes with VLAN 123, passes untagged)
        let cases = [
            (frame(US, None), Some(123), true, false),
            (frame(US, None), Some(0xe000 | 123), true, false),
            (frame(US, None), Some(124), false, false),
            (frame(US, None), None, false, true),
            (frame(US, None), Some(0), false, true),
            (frame(US, Some(123)), None, true, false),
            (frame(US, Some(124)), None, false, false),
            (frame(US, Some(0)), None, false, true),
            (frame([0xff; 6], None), Some(123), true, false),
            (frame([0x33, 0x33, 0, 0, 0, 1], None), Some(123), true, false),
            (frame([2, 0x11, 0x22, 0x33, 0x44, 0x56], None), Some(123), false, false),
            (frame([4, 0x11, 0x22, 0x33, 0x44, 0x55], None), Some(123), false, false),
            (frame([4, 0x11, 0x22, 0x33, 0x44, 0x55], None), None, false, false),
        ];
        for (i, (frame, tag, with_vlan, without)) in cases.iter().enumerate() {
            assert_eq!(passes(&tagged, frame, *tag), *with_vlan, "case {i}, VLAN 123");
            assert_eq!(passes(&untagged, frame, *tag), *without, "case {i}, untagged");
        }
    }
}
