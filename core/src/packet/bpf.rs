//! Classic BPF (Documentation/networking/filter.rst), written with labels instead of distances.

use libc::sock_filter;

pub(super) const LD_B_ABS: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
pub(super) const LD_H_ABS: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
pub(super) const LD_W_ABS: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
pub(super) const LD_B_IND: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_IND) as u16;
pub(super) const LD_H_IND: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_IND) as u16;
pub(super) const LD_W_IND: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_IND) as u16;
pub(super) const LD_IMM: u16 = (libc::BPF_LD | libc::BPF_IMM) as u16;
pub(super) const LDX_IMM: u16 = (libc::BPF_LDX | libc::BPF_IMM) as u16;
pub(super) const LDX_MEM: u16 = (libc::BPF_LDX | libc::BPF_MEM) as u16;
/// X becomes four times the low nibble of an octet: the length of an IPv4 header.
pub(super) const LDX_MSH: u16 = (libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH) as u16;
pub(super) const ST: u16 = libc::BPF_ST as u16;
pub(super) const STX: u16 = libc::BPF_STX as u16;
pub(super) const ADD_K: u16 = (libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K) as u16;
pub(super) const ADD_X: u16 = (libc::BPF_ALU | libc::BPF_ADD | libc::BPF_X) as u16;
pub(super) const AND_K: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
pub(super) const MUL_K: u16 = (libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K) as u16;
pub(super) const MOD_K: u16 = (libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K) as u16;
pub(super) const LSH_K: u16 = (libc::BPF_ALU | libc::BPF_LSH | libc::BPF_K) as u16;
pub(super) const RSH_K: u16 = (libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K) as u16;
pub(super) const XOR_X: u16 = (libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X) as u16;
pub(super) const TAX: u16 = (libc::BPF_MISC | libc::BPF_TAX) as u16;
pub(super) const RET_K: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
pub(super) const RET_A: u16 = (libc::BPF_RET | libc::BPF_A) as u16;
const JA: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const JGE_K: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const JEQ_K: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JSET_K: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;

/// The stripped tag's TCI, if there is one.
pub(super) const VLAN_TAG: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG) as u32;
pub(super) const VLAN_TAG_PRESENT: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG_PRESENT) as u32;
/// The EtherType behind a stripped tag.
pub(super) const PROTOCOL: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PROTOCOL) as u32;

/// A place to jump to, forwards.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label(usize);

/// A program being written.
#[derive(Debug, Default)]
pub(super) struct Program {
    code: Vec<sock_filter>,
    /// Jumps to be completed: where, on true or on false, to what.
    jumps: Vec<(usize, bool, Label)>,
    places: Vec<usize>,
}

impl Program {
    pub(super) fn label(&mut self) -> Label {
        self.places.push(usize::MAX);
        Label(self.places.len() - 1)
    }

    /// The label's place is here.
    pub(super) fn place(&mut self, label: Label) {
        self.places[label.0] = self.code.len();
    }

    pub(super) fn op(&mut self, code: u16, k: u32) {
        self.code.push(sock_filter { code, jt: 0, jf: 0, k });
    }

    pub(super) fn jump_if_equal(&mut self, k: u32, to: Label) {
        self.jump(JEQ_K, k, true, to);
    }

    pub(super) fn jump_unless_equal(&mut self, k: u32, to: Label) {
        self.jump(JEQ_K, k, false, to);
    }

    /// Jumps if any of these bits is set.
    pub(super) fn jump_if_any(&mut self, bits: u32, to: Label) {
        self.jump(JSET_K, bits, true, to);
    }

    /// Jumps unless it is less.
    pub(super) fn jump_unless_less(&mut self, k: u32, to: Label) {
        self.jump(JGE_K, k, true, to);
    }

    /// Jumps in any case, and as far as need be.
    pub(super) fn go(&mut self, to: Label) {
        self.jump(JA, 0, true, to);
    }

    fn jump(&mut self, code: u16, k: u32, when: bool, to: Label) {
        self.jumps.push((self.code.len(), when, to));
        self.op(code, k);
    }

    /// The program, with its jumps.
    pub(super) fn finish(mut self) -> Vec<sock_filter> {
        for (at, when, label) in self.jumps {
            let distance = self.places[label.0] - at - 1;
            let jump = &mut self.code[at];
            if jump.code == JA {
                jump.k = distance as u32;
                continue;
            }
            // What a jump on a condition can skip; what is farther takes a `go`.
            debug_assert!(distance <= usize::from(u8::MAX), "a jump over {distance}");
            *(if when { &mut jump.jt } else { &mut jump.jf }) = distance as u8;
        }
        self.code
    }
}

/// Runs a program as the kernel does: on the octets from where the hook begins, a stripped
/// tag, and the EtherType behind it.
#[cfg(test)]
pub(super) fn run(program: &[sock_filter], octets: &[u8], tag: Option<u16>, protocol: u16) -> u32 {
    let (mut pc, mut a, mut x) = (0, 0u32, 0u32);
    let mut memory = [0u32; 16];
    // A load outside of the packet ends the program with 0.
    macro_rules! load {
        ($type:ty, $at:expr) => {{
            let at = $at as usize;
            let Some(octets) = octets.get(at..at + size_of::<$type>()) else { return 0 };
            u32::from(<$type>::from_be_bytes(octets.try_into().unwrap()))
        }};
    }
    loop {
        let sock_filter { code, jt, jf, k } = program[pc];
        pc += 1;
        let branch = |taken: bool| usize::from(if taken { jt } else { jf });
        match code {
            LD_W_ABS if k == VLAN_TAG_PRESENT => a = tag.is_some().into(),
            LD_W_ABS if k == VLAN_TAG => a = tag.unwrap_or(0).into(),
            LD_W_ABS if k == PROTOCOL => a = protocol.into(),
            LD_B_ABS => a = load!(u8, k),
            LD_H_ABS => a = load!(u16, k),
            LD_W_ABS => a = load!(u32, k),
            LD_B_IND => a = load!(u8, x + k),
            LD_H_IND => a = load!(u16, x + k),
            LD_W_IND => a = load!(u32, x + k),
            LD_IMM => a = k,
            LDX_IMM => x = k,
            LDX_MEM => x = memory[k as usize],
            LDX_MSH => x = 4 * (load!(u8, k) & 15),
            ST => memory[k as usize] = a,
            STX => memory[k as usize] = x,
            ADD_K => a = a.wrapping_add(k),
            ADD_X => a = a.wrapping_add(x),
            AND_K => a &= k,
            MUL_K => a = a.wrapping_mul(k),
            MOD_K => a %= k,
            LSH_K => a <<= k,
            RSH_K => a >>= k,
            XOR_X => a ^= x,
            TAX => x = a,
            JA => pc += k as usize,
            JGE_K => pc += branch(a >= k),
            JEQ_K => pc += branch(a == k),
            JSET_K => pc += branch(a & k != 0),
            RET_K => return k,
            RET_A => return a,
            code => panic!("code {code:#x}"),
        }
    }
}
