//! Frames between the machine and the kernel: slots, and the socket that they are sent by.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::counters::{Counters, add};
use crate::packet::TxFrame;
use crate::packet::tx::TxSlot;

/// Frames given to the kernel at once, at the most. Enough that the system call is a small part of
/// the cost, few enough that the receive ring is looked at in between.
pub(crate) const BATCH: usize = 128;

/// The sending socket, its slots, and the order in which they are filled.
pub(crate) struct Outbox {
    sender: OwnedFd,
    /// They never move: the kernel is told where they are.
    slots: Box<[TxSlot]>,
    free: Vec<usize>,
    /// Slots with frames that the kernel has not taken yet, the oldest first.
    queued: Vec<usize>,
}

impl Outbox {
    /// For frames of an interface of this MTU.
    pub(crate) fn new(sender: OwnedFd, mtu: u16) -> Self {
        Self {
            sender,
            slots: (0..BATCH).map(|_| TxSlot::new(mtu)).collect(),
            free: (0..BATCH).rev().collect(),
            queued: Vec::with_capacity(BATCH),
        }
    }

    pub(crate) fn sender(&self) -> BorrowedFd<'_> {
        self.sender.as_fd()
    }

    /// The slot for the next frame, unless all are queued.
    pub(crate) fn next_slot(&mut self) -> Option<&mut TxSlot> {
        let index = *self.free.last()?;
        Some(&mut self.slots[index])
    }

    /// Queues the frame in the slot that [`next_slot`](Self::next_slot) gave.
    pub(crate) fn push(&mut self, frame: &TxFrame, counters: &Counters) -> Option<&mut TxSlot> {
        let index = self.free.pop()?;
        self.queued.push(index);
        add(&counters.tx_frames, 1);
        let slot = &mut self.slots[index];
        slot.seal(frame);
        Some(slot)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }

    /// What the kernel will charge the socket's buffer for all that is queued.
    pub(crate) fn charge(&self) -> usize {
        self.queued.iter().map(|slot| self.slots[*slot].charge()).sum()
    }

    /// Calls `each` with the queued frames, the oldest first; how many there are.
    pub(crate) fn for_each(&mut self, mut each: impl FnMut(usize, &mut TxSlot)) -> usize {
        for (at, index) in self.queued.iter().enumerate() {
            each(at, &mut self.slots[*index]);
        }
        self.queued.len()
    }

    /// Frees the slots of the oldest `count` frames: the kernel has copied or refused them.
    pub(crate) fn release(&mut self, count: usize) {
        for index in self.queued.drain(..count) {
            self.slots[index].recycle();
            self.free.push(index);
        }
    }

    /// The same of all frames.
    pub(crate) fn release_all(&mut self) {
        self.release(self.queued.len());
    }
}

/// Counts a frame that the kernel has refused.
pub(crate) fn count_refused(errno: i32, counters: &Counters) {
    let counter = match errno {
        libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM => &counters.tx_no_buffers,
        libc::EMSGSIZE => &counters.tx_too_long,
        libc::EINVAL => &counters.tx_bad_offload,
        libc::ENETDOWN | libc::ENXIO | libc::ENODEV => &counters.tx_link_down,
        _ => &counters.tx_errors,
    };
    add(counter, 1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::tx::VNET_HEADER;

    #[test]
    fn slots_are_queued_in_order_and_come_free_again() {
        let sender = crate::sys::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0).unwrap();
        let (mut outbox, counters) = (Outbox::new(sender, 1500), Counters::default());
        let fill = |outbox: &mut Outbox, octet: u8| {
            let (octets, payload) = outbox.next_slot().unwrap().parts();
            assert!(payload.is_empty(), "the last frame's payload was let go");
            octets[0] = octet;
            payload.push(vec![octet].into());
            outbox.push(&TxFrame { len: 1, checksum: None, gso: None }, &counters);
        };
        let order = |outbox: &mut Outbox| {
            let mut order = Vec::new();
            outbox.for_each(|_, slot| order.push(slot.parts().0[0]));
            order
        };
        (0..BATCH as u8).for_each(|octet| fill(&mut outbox, octet));
        assert!(outbox.next_slot().is_none());
        assert!(outbox.charge() > BATCH * (VNET_HEADER + 2));
        outbox.release(3);
        (200..203).for_each(|octet| fill(&mut outbox, octet));
        assert!(outbox.next_slot().is_none());
        let expected: Vec<u8> = (3..BATCH as u8).chain(200..203).collect();
        assert_eq!(order(&mut outbox), expected);
        outbox.release_all();
        assert!(outbox.is_empty() && outbox.charge() == 0);
        assert_eq!(counters.tx_frames.get(), BATCH as u64 + 3);
    }
}
