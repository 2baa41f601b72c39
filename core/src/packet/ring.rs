//! The receive ring: TPACKET_V2 slots that the kernel fills and we empty, in turn.
//!
//! Version 2 on purpose: a V3 block waits for its timer, which wakes us 15 to 300 times later
//! for a single frame (measured: 25 us against 374 us and more).
//!
//! A slot holds a header, alignment, and a frame of the interface's MTU. What is longer (GRO makes
//! frames of 64 KiB) comes whole by the socket's queue, in the order of its slot
//! (`PACKET_COPY_THRESH`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libc::{TP_STATUS_COPY, TP_STATUS_KERNEL, TP_STATUS_LOSING, TP_STATUS_USER, tpacket2_hdr};

use super::meta::{RxChecksum, RxFrame, RxMeta, VlanTag};
use super::socket;
use crate::clock::{self, Nanos};
use crate::counters::{Counters, add};
use crate::error::OpenError;
use crate::nic::Interface;
use crate::sys::set_option;

/// Octets of the smallest slot: a 1500 octet packet with all headers and the kernel's.
const SMALL_SLOT: usize = 2048;
/// Octets of a slot beside the packet: the kernel's header and address, its alignment, our
/// Ethernet header with a tag.
const SLOT_HEADERS: usize = 192;
/// Octets of a block: the kernel allocates each as contiguous pages, so small ones always
/// succeed.
const BLOCK: usize = 1 << 16;
/// Octets of the largest frame: GRO's 64 KiB with headers to spare.
const LARGEST: usize = (1 << 16) + 256;

/// The longest that a frame is believed to have waited in the ring: longer than any worker is
/// kept from it, shorter than the steps in which wall clocks are set.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// Octets of a slot for frames of this MTU: a power of two, so that slots fill blocks.
pub(crate) const fn slot_size(mtu: u16) -> usize {
    let needed = (mtu as usize + SLOT_HEADERS).next_power_of_two();
    if needed < SMALL_SLOT {
        SMALL_SLOT
    } else if needed > BLOCK {
        BLOCK
    } else {
        needed
    }
}

/// The status bits that libc does not name.
const TP_STATUS_CSUMNOTREADY: u32 = 1 << 3;
const TP_STATUS_VLAN_VALID: u32 = 1 << 4;
const TP_STATUS_VLAN_TPID_VALID: u32 = 1 << 6;
const TP_STATUS_CSUM_VALID: u32 = 1 << 7;

/// A socket with its mapped ring.
#[derive(Debug)]
pub(crate) struct RxRing {
    socket: OwnedFd,
    base: NonNull<u8>,
    slots: usize,
    /// Octets of each.
    slot: usize,
    next: usize,
    /// The kernel has dropped frames since they were counted.
    losing: bool,
    /// For frames longer than a slot; made when the first comes.
    oversize: Vec<u8>,
    stamps: Stamps,
}

/// The clocks at the beginning of a turn. The kernel stamps each frame as it puts it into the
/// ring, with the wall clock, which may be set at any moment; so both are read in each turn that
/// has frames.
#[derive(Clone, Copy, Debug, Default)]
struct Stamps {
    wall: Nanos,
    /// Not before `wall` was read: a thread that is kept from its processor between the two
    /// takes frames for younger than they are, never for older. A round trip that seems
    /// shorter than the path would be believed for long.
    now: Nanos,
}

impl Stamps {
    /// A stamp on the monotonic clock; later than `now` if the frame has come since. One from
    /// further away, in either direction, was made with another setting of the wall clock and says
    /// nothing.
    fn received(self, stamp: Nanos) -> Nanos {
        let (waited, since) = (self.wall.since(stamp), stamp.since(self.wall));
        if waited > LONGEST_WAIT || since > LONGEST_WAIT {
            return self.now;
        }
        Nanos(self.now.0.saturating_sub(waited.as_nanos() as u64)).after(since)
    }
}

impl RxRing {
    /// Makes the ring on an unbound socket and binds it. `slots` is rounded up to whole blocks.
    pub(crate) fn open(
        socket: OwnedFd,
        interface: &Interface,
        slots: usize,
    ) -> Result<Self, OpenError> {
        let slot = slot_size(interface.mtu);
        let blocks = (slots * slot).div_ceil(BLOCK).max(1);
        let slots = blocks * BLOCK / slot;
        let request = libc::tpacket_req {
            tp_block_size: BLOCK as u32,
            tp_block_nr: blocks as u32,
            tp_frame_size: slot as u32,
            tp_frame_nr: slots as u32,
        };
        let failed = |error| OpenError::Io { what: "the receive ring", error };
        let version = libc::tpacket_versions::TPACKET_V2 as i32;
        set_option(socket.as_fd(), libc::SOL_PACKET, libc::PACKET_VERSION, &version)
            .map_err(failed)?;
        set_option(socket.as_fd(), libc::SOL_PACKET, libc::PACKET_RX_RING, &request)
            .map_err(failed)?;
        // SAFETY: a new mapping at an address of the kernel's choice, of the size that the
        // ring was made with; the result is checked.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                blocks * BLOCK,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(failed(io::Error::last_os_error()));
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| failed(io::Error::other("null")))?;
        let (oversize, stamps) = (Vec::new(), Stamps::default());
        let ring = Self { socket, base, slots, slot, next: 0, losing: false, oversize, stamps };
        socket::bind_receiver(ring.socket.as_fd(), interface)?;
        Ok(ring)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The header of slot `index`.
    fn header(&self, index: usize) -> NonNull<tpacket2_hdr> {
        debug_assert!(index < self.slots);
        // SAFETY: every slot below `slots` lies inside the mapping, at a multiple of its
        // size from the page-aligned start.
        unsafe { self.base.add(index * self.slot).cast() }
    }

    fn status(&self, index: usize) -> &AtomicU32 {
        // SAFETY: `tp_status` is the header's first field, aligned, inside the mapping, which
        // lives as long as `self`. The kernel writes it concurrently, hence the atomic.
        unsafe { AtomicU32::from_ptr(self.header(index).cast().as_ptr()) }
    }

    /// Whether a frame waits.
    pub(crate) fn has_frame(&self) -> bool {
        self.status(self.next).load(Ordering::Acquire) & TP_STATUS_USER != 0
    }

    /// Begins a turn in which frames are taken.
    pub(crate) fn begin_turn(&mut self) {
        let wall = clock::wall();
        self.stamps = Stamps { wall, now: clock::now() };
    }

    /// Ends it: what was dropped meanwhile is counted, once for all of its frames, each of which may
    /// say so while the ring is full.
    pub(crate) fn end_turn(&mut self, counters: &Counters) {
        if std::mem::take(&mut self.losing) {
            add(&counters.rx_kernel_drops, socket::kernel_drops(self.fd()));
        }
    }

    /// Hands the next frame to `take` and gives its slot back. False if none waits.
    pub(crate) fn next(&mut self, counters: &Counters, take: impl FnOnce(RxFrame<'_>)) -> bool {
        let index = self.next;
        let status = self.status(index).load(Ordering::Acquire);
        if status & TP_STATUS_USER == 0 {
            return false;
        }
        // SAFETY: with TP_STATUS_USER set the slot is ours until we give it back; the kernel
        // has filled the header. It is copied out, so nothing refers to it later.
        let header = unsafe { self.header(index).read() };
        self.losing |= status & TP_STATUS_LOSING != 0;
        let has_tag = status & TP_STATUS_VLAN_VALID != 0;
        let tpid = if status & TP_STATUS_VLAN_TPID_VALID != 0 {
            header.tp_vlan_tpid
        } else {
            libc::ETH_P_8021Q as u16
        };
        let stamp = u64::from(header.tp_sec) * 1_000_000_000 + u64::from(header.tp_nsec);
        let meta = RxMeta {
            vlan: has_tag.then_some(VlanTag { tpid, tci: header.tp_vlan_tci }),
            checksum: if status & TP_STATUS_CSUMNOTREADY != 0 {
                RxChecksum::Partial
            } else if status & TP_STATUS_CSUM_VALID != 0 {
                RxChecksum::Valid
            } else {
                RxChecksum::Unverified
            },
            received: self.stamps.received(Nanos(stamp)),
        };
        let (at, kept) = (usize::from(header.tp_mac), header.tp_snaplen as usize);
        add(&counters.rx_frames, 1);
        if header.tp_len as usize > kept {
            if status & TP_STATUS_COPY != 0 && self.fetch_oversize(header.tp_len as usize) {
                add(&counters.rx_oversize, 1);
                take(RxFrame { bytes: &self.oversize[..header.tp_len as usize], meta });
            } else {
                add(&counters.rx_truncated, 1);
            }
        } else if at + kept <= self.slot {
            // SAFETY: `at + kept` is inside the slot (checked), which is inside the mapping and
            // ours; the borrow ends with this call, before the slot is given back.
            let bytes = unsafe {
                let start = self.header(index).cast::<u8>().add(at);
                std::slice::from_raw_parts(start.as_ptr(), kept)
            };
            take(RxFrame { bytes, meta });
        } else {
            add(&counters.rx_truncated, 1);
        }
        self.status(index).store(TP_STATUS_KERNEL, Ordering::Release);
        self.next = if index + 1 == self.slots { 0 } else { index + 1 };
        true
    }

    /// Reads the whole of a frame that did not fit its slot from the socket's queue.
    fn fetch_oversize(&mut self, length: usize) -> bool {
        if self.oversize.is_empty() {
            self.oversize.resize(LARGEST, 0);
        }
        let mut read = || {
            // SAFETY: the buffer is valid for its length for the length of the call.
            let got = unsafe {
                libc::recv(
                    self.socket.as_raw_fd(),
                    self.oversize.as_mut_ptr().cast(),
                    self.oversize.len(),
                    libc::MSG_DONTWAIT,
                )
            };
            usize::try_from(got)
        };
        // A pending error of the socket (its interface went down) comes out first, once. The
        // frame must still be taken: left there, it would be read in place of the next one.
        let got = read().or_else(|_| read());
        got == Ok(length)
    }
}

// SAFETY: the mapping belongs to this value and is usable from any thread; nobody else has the
// pointer.
unsafe impl Send for RxRing {}

impl Drop for RxRing {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `open` with this size, and no borrow outlives `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.slots * self.slot) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_field_is_where_the_atomic_looks() {
        assert_eq!(std::mem::offset_of!(tpacket2_hdr, tp_status), 0);
    }

    #[test]
    fn slots_hold_a_frame_of_the_mtu_and_fill_blocks() {
        for (mtu, size) in [(576, 2048), (1500, 2048), (4000, 8192), (9000, 16384), (65535, 65536)]
        {
            assert_eq!(slot_size(mtu), size);
            assert_eq!(BLOCK % size, 0);
        }
    }

    #[test]
    fn stamps_are_on_the_clock_of_the_turn() {
        let millis = |millis: u64| Nanos(millis * 1_000_000);
        let stamps = Stamps { now: millis(10_000), wall: millis(1_700_000_000_000) };
        let received = |wall| stamps.received(millis(wall));
        assert_eq!(received(1_700_000_000_000), millis(10_000));
        assert_eq!(received(1_699_999_999_997), millis(9_997));
        // It came while the turn was under way.
        assert_eq!(received(1_700_000_000_012), millis(10_012));
        // Before the wall clock was set back.
        assert_eq!(received(1_700_003_600_000), millis(10_000));
        // Before it was set forward.
        assert_eq!(received(1_699_996_400_000), millis(10_000));
        assert_eq!(received(0), millis(10_000));
    }
}
