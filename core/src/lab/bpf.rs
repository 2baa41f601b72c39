//! A VLAN tag by two small BPF programs.
//!
//! Where the kernel has no 802.1Q module, nothing in it gives an interface a tag, but
//! the traffic-control hooks may rewrite frames on their way:
//!
//! ```text
//!   kernel IP stack                     kernel IP stack
//!         |                                   ^
//!   TCX egress: push our tag            TCX ingress: not our tag? drop. pop the tag
//!         |                                   |
//!         v                                   ^
//!       device ------------ wire ----------- device
//! ```
//!
//! The programs are written here as instructions (no compiler, no `tc`), loaded by
//! bpf(2) and attached with `BPF_LINK_CREATE`, which needs Linux 6.6. A link lives as
//! long as its file descriptor: when the [`VlanShim`] is dropped, or its process dies in
//! whatever way, the tag is gone.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The tag of one interface, for as long as this value lives.
#[derive(Debug)]
pub struct VlanShim {
    // Held, never read: closing them detaches the programs.
    _egress: OwnedFd,
    _ingress: OwnedFd,
}

impl VlanShim {
    /// Puts the interface `ifindex` of the calling thread's network namespace behind
    /// the VLAN `vid`: what it sends is tagged, what it receives must be, and the IP
    /// stack above never sees the tag.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a `vid` that is not a VLAN's (1 to 4094); else what the kernel
    /// says: `EPERM` without CAP_BPF and CAP_NET_ADMIN, `EINVAL` before Linux 6.6.
    pub fn attach(ifindex: u32, vid: u16) -> io::Result<Self> {
        Self::attach_tags(ifindex, &[(CTAG, vid)])
    }

    /// The same behind two tags: an 802.1ad one of VLAN `outer`, and within it an 802.1Q
    /// one of VLAN `inner`.
    ///
    /// # Errors
    ///
    /// As [`Self::attach`].
    pub fn attach_double(ifindex: u32, outer: u16, inner: u16) -> io::Result<Self> {
        Self::attach_tags(ifindex, &[(STAG, outer), (CTAG, inner)])
    }

    /// The tags from the outside in, each with its protocol.
    fn attach_tags(ifindex: u32, tags: &[(u16, u16)]) -> io::Result<Self> {
        if let Some((_, vid)) = tags.iter().find(|(_, vid)| !(1..=4094).contains(vid)) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{vid} is not a VLAN ID: it must be 1 to 4094"),
            ));
        }
        let egress = load(b"tagwire_push", &push_program(tags))?;
        let ingress = load(b"tagwire_pop", &pop_program(tags))?;
        Ok(Self {
            _egress: link(&egress, ifindex, BPF_TCX_EGRESS)?,
            _ingress: link(&ingress, ifindex, BPF_TCX_INGRESS)?,
        })
    }
}

/// One instruction, as the kernel reads it (`struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Insn {
    code: u8,
    /// Destination register in the low four bits, source in the high four.
    regs: u8,
    off: i16,
    imm: i32,
}

const R0: u8 = 0;
const R1: u8 = 1;
const R2: u8 = 2;
const R3: u8 = 3;
const R6: u8 = 6;

// Opcodes: class, operation and source of linux/bpf.h, composed.
const MOV64_REG: u8 = 0xbf; // BPF_ALU64 | BPF_MOV | BPF_X
const MOV64_IMM: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const AND64_IMM: u8 = 0x57; // BPF_ALU64 | BPF_AND | BPF_K
const LOAD_U32: u8 = 0x61; // BPF_LDX | BPF_W | BPF_MEM
const JEQ_IMM: u8 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JNE_IMM: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const CALL: u8 = 0x85; // BPF_JMP | BPF_CALL
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

const FN_SKB_VLAN_PUSH: i32 = 18;
const FN_SKB_VLAN_POP: i32 = 19;

/// Verdicts: go on to the next program and to the stack, or drop (`enum tcx_action_base`).
const TCX_NEXT: i32 = -1;
const TCX_DROP: i32 = 2;

// Offsets in struct __sk_buff. The tag of a received frame is in the packet's metadata:
// the kernel has stripped it from the frame by then, on a veth too.
const SKB_VLAN_PRESENT: i16 = 20;
const SKB_VLAN_TCI: i16 = 24;
const SKB_VLAN_PROTO: i16 = 28; // in network byte order

/// The protocol of a tag (TPID): 802.1Q, and 802.1ad's outer one.
const CTAG: u16 = 0x8100;
const STAG: u16 = 0x88a8;

/// The VLAN ID in a tag's control information; priority and DEI are above.
const VID_MASK: i32 = 0x0fff;

impl Insn {
    const fn new(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Self {
        Self { code, regs: src << 4 | dst, off, imm }
    }
}

/// Egress: push the tags, the innermost first; a frame that cannot carry them must not
/// leave without.
fn push_program(tags: &[(u16, u16)]) -> Vec<Insn> {
    let mut program = vec![Insn::new(MOV64_REG, R6, R1, 0, 0)];
    let left = |done: usize| ((tags.len() - done) * PUSH_LEN) as i16;
    for (done, &(protocol, vid)) in tags.iter().rev().enumerate() {
        program.extend([
            Insn::new(MOV64_REG, R1, R6, 0, 0),
            // The helper takes the protocol in network byte order.
            Insn::new(MOV64_IMM, R2, 0, 0, i32::from(protocol.to_be())),
            Insn::new(MOV64_IMM, R3, 0, 0, i32::from(vid)),
            Insn::new(CALL, 0, 0, 0, FN_SKB_VLAN_PUSH),
            Insn::new(JNE_IMM, R0, 0, left(done + 1) + 2, 0), // to the drop
        ]);
    }
    program.extend(VERDICTS);
    program
}

/// Instructions of [`push_program`] for each tag.
const PUSH_LEN: usize = 5;

/// Ingress: drop what has no tag or another one, pop ours; the next one that is in the
/// frame then takes its place in the metadata.
fn pop_program(tags: &[(u16, u16)]) -> Vec<Insn> {
    let mut program = vec![Insn::new(MOV64_REG, R6, R1, 0, 0)];
    for (done, &(protocol, vid)) in tags.iter().enumerate() {
        // From the instruction after a jump to the drop behind the last tag.
        let to_drop = |at: usize| ((tags.len() - done) * POP_LEN - at - 1) as i16 + 2;
        program.extend([
            Insn::new(LOAD_U32, R2, R6, SKB_VLAN_PRESENT, 0),
            Insn::new(JEQ_IMM, R2, 0, to_drop(1), 0),
            Insn::new(LOAD_U32, R2, R6, SKB_VLAN_PROTO, 0),
            Insn::new(JNE_IMM, R2, 0, to_drop(3), i32::from(protocol.to_be())),
            Insn::new(LOAD_U32, R2, R6, SKB_VLAN_TCI, 0),
            Insn::new(AND64_IMM, R2, 0, 0, VID_MASK),
            Insn::new(JNE_IMM, R2, 0, to_drop(6), i32::from(vid)),
            Insn::new(MOV64_REG, R1, R6, 0, 0),
            Insn::new(CALL, 0, 0, 0, FN_SKB_VLAN_POP),
            Insn::new(JNE_IMM, R0, 0, to_drop(9), 0),
        ]);
    }
    program.extend(VERDICTS);
    program
}

/// Instructions of [`pop_program`] for each tag.
const POP_LEN: usize = 10;

/// The end of both: go on, or drop.
const VERDICTS: [Insn; 4] = [
    Insn::new(MOV64_IMM, R0, 0, 0, TCX_NEXT),
    Insn::new(EXIT, 0, 0, 0, 0),
    Insn::new(MOV64_IMM, R0, 0, 0, TCX_DROP),
    Insn::new(EXIT, 0, 0, 0, 0),
];

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;

/// The first fields of `union bpf_attr` for `BPF_PROG_LOAD`; the kernel takes the rest,
/// up to the size it knows, as zero.
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// `union bpf_attr` for `BPF_LINK_CREATE` with a TCX attach type.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative_fd: u32,
    reserved: u32,
    expected_revision: u64,
}

/// Loads a program; `name` is what `bpftool prog` shows (15 octets at most).
fn load(name: &[u8], program: &[Insn]) -> io::Result<OwnedFd> {
    let mut prog_name = [0; 16];
    prog_name[..name.len()].copy_from_slice(name);
    // Room for the verifier's verdict, which says more than any errno.
    let mut log = vec![0_u8; 4096];
    let license = c"Apache-2.0";
    let attr = ProgLoad {
        prog_type: BPF_PROG_TYPE_SCHED_CLS,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 1,
        log_size: log.len() as u32,
        log_buf: log.as_mut_ptr() as u64,
        kern_version: 0,
        prog_flags: 0,
        prog_name,
    };
    // SAFETY: the attribute matches the command; `program`, `license` and `log` outlive
    // the call, and `log_size` is the length of `log`.
    unsafe { bpf(BPF_PROG_LOAD, &attr) }.map_err(|error| {
        let end = log.iter().position(|&octet| octet == 0).unwrap_or(log.len());
        let verdict = String::from_utf8_lossy(&log[..end]);
        if verdict.trim().is_empty() {
            error
        } else {
            io::Error::new(error.kind(), format!("{error}; the verifier: {}", verdict.trim()))
        }
    })
}

/// Attaches a program to one direction of an interface.
fn link(program: &OwnedFd, ifindex: u32, attach_type: u32) -> io::Result<OwnedFd> {
    let attr = LinkCreate {
        prog_fd: program.as_raw_fd() as u32,
        target_ifindex: ifindex,
        attach_type,
        flags: 0,
        relative_fd: 0,
        reserved: 0,
        expected_revision: 0,
    };
    // SAFETY: the attribute matches the command and holds no pointer.
    unsafe { bpf(BPF_LINK_CREATE, &attr) }
}

/// bpf(2), for the commands that return a file descriptor.
///
/// # Safety
///
/// `A` must be the C layout of `union bpf_attr` for `command`, without padding, and its
/// pointers must be good for what the kernel does with them during the call.
unsafe fn bpf<A>(command: libc::c_long, attr: &A) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads `size` octets of the attribute; the caller answers for
    // the pointers in it.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attr),
            size_of::<A>() as libc::c_uint,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both commands return a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_have_the_kernel_layout() {
        assert_eq!(size_of::<Insn>(), 8);
        assert_eq!(size_of::<ProgLoad>(), 64);
        assert_eq!(size_of::<LinkCreate>(), 32);
        assert_eq!(std::mem::offset_of!(LinkCreate, expected_revision), 24);
    }

    /// Every jump must land on the two instructions that drop.
    #[test]
    fn jumps_land_on_the_drop() {
        let (one, two) = (&[(CTAG, 123)][..], &[(STAG, 9), (CTAG, 123)][..]);
        for program in [push_program(one), pop_program(one), push_program(two), pop_program(two)] {
            let jumps: Vec<_> = program
                .iter()
                .enumerate()
                .filter(|(_, insn)| matches!(insn.code, JEQ_IMM | JNE_IMM))
                .collect();
            assert!(!jumps.is_empty());
            for (at, jump) in jumps {
                let target = program[at + 1 + jump.off as usize];
                assert_eq!(target, Insn::new(MOV64_IMM, R0, 0, 0, TCX_DROP));
            }
        }
    }

    #[test]
    fn only_vlan_ids_are_taken() {
        for vid in [0, 4095, u16::MAX] {
            for refused in [VlanShim::attach(1, vid), VlanShim::attach_double(1, 7, vid)] {
                assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput);
            }
        }
    }
}
