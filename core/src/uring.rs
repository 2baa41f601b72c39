//! The io_uring of one worker: sends, and waiting for what may happen.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::squeue::Entry;
use io_uring::{IoUring, opcode, squeue, types};

use crate::counters::{Counters, add};
use crate::error::OpenError;
use crate::packet::TxFrame;
use crate::packet::tx::TxSlot;

/// Frames given to the kernel with one `io_uring_enter`, at the most. Enough that the system
/// call is a small part of the cost, few enough that the receive ring is looked at in between.
pub(crate) const BATCH: usize = 128;
const SQ_ENTRIES: u32 = 256;
const CQ_ENTRIES: u32 = 1024;
/// Index of the sending socket among the registered files: sending by it spares the kernel
/// taking a reference for each frame.
const SENDER: types::Fixed = types::Fixed(0);

/// What a completion is about: `user_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// The receive ring has a frame, or the socket an error.
    Receive,
    /// Another thread woke us.
    Wake,
    /// A link changed.
    Link,
    /// The sending socket has room again.
    Room,
    /// The frame in this slot was not sent.
    Send(usize),
}

impl Token {
    const SENDS: u64 = 16;

    fn encode(self) -> u64 {
        match self {
            Self::Receive => 0,
            Self::Wake => 1,
            Self::Link => 2,
            Self::Room => 3,
            Self::Send(slot) => Self::SENDS + slot as u64,
        }
    }

    fn decode(data: u64) -> Option<Self> {
        Some(match data {
            0 => Self::Receive,
            1 => Self::Wake,
            2 => Self::Link,
            3 => Self::Room,
            _ => Self::Send(usize::try_from(data.checked_sub(Self::SENDS)?).ok()?),
        })
    }
}

/// What has happened, as far as the loop must know.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Happened {
    pub(crate) wake: bool,
    pub(crate) link: bool,
    /// The receiving socket has an error pending (its interface went down).
    pub(crate) receive_error: bool,
    /// The sending socket has room again.
    room: bool,
}

/// A file descriptor whose readability is watched by a multishot poll.
#[derive(Clone, Copy, Debug)]
struct Watch {
    fd: RawFd,
    token: Token,
    armed: bool,
}

/// The ring, the sending socket and its slots.
///
/// # Sending
///
/// A send is `MSG_DONTWAIT`: io_uring then never arms a poll for it or hands it to a worker
/// thread, so it is done, or has failed, within the `io_uring_enter` that submits it; and a
/// packet socket copies the octets while it does. So once the submission queue is empty
/// again no slot is referred to by the kernel. Only failures make a completion
/// (`IOSQE_CQE_SKIP_SUCCESS`). A frame that found no room in the socket's buffer
/// (EAGAIN) stays in its slot and is sent again, in order, when there is room; no more is
/// asked of the machine until then.
pub(crate) struct Uring {
    ring: IoUring,
    sender: OwnedFd,
    slots: Box<[TxSlot]>,
    free: Vec<usize>,
    /// Slots submitted with this turn.
    batch: Vec<usize>,
    /// Slots that wait for room, oldest first.
    blocked: VecDeque<usize>,
    waits_for_room: bool,
    watches: [Watch; 3],
}

impl Uring {
    /// `receiver`, `wake` and `link` are watched for as long as this lives; the caller
    /// keeps them open.
    pub(crate) fn open(
        sender: OwnedFd,
        receiver: RawFd,
        wake: RawFd,
        link: RawFd,
    ) -> Result<Self, OpenError> {
        // One thread submits and reaps, so completions need no interrupt: they are
        // made when we come for them (DEFER_TASKRUN, Linux 6.1).
        let ring = IoUring::builder()
            .setup_cqsize(CQ_ENTRIES)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .build(SQ_ENTRIES)
            .map_err(OpenError::uring)?;
        ring.submitter().register_files(&[sender.as_raw_fd()]).map_err(OpenError::uring)?;
        let watch = |fd, token| Watch { fd, token, armed: false };
        Ok(Self {
            ring,
            sender,
            slots: (0..BATCH).map(|_| TxSlot::new()).collect(),
            free: (0..BATCH).rev().collect(),
            batch: Vec::with_capacity(BATCH),
            blocked: VecDeque::with_capacity(BATCH),
            waits_for_room: false,
            watches: [
                watch(receiver, Token::Receive),
                watch(wake, Token::Wake),
                watch(link, Token::Link),
            ],
        })
    }

    /// Spares the lookup of the ring's file on each `io_uring_enter`. For the thread that runs
    /// the loop; without it (before Linux 5.18) all works, a little slower.
    pub(crate) fn register_thread(&mut self) {
        let _ = self.ring.submitter().register_ring_fd();
    }

    /// The slot for the next frame, unless frames wait for room or the batch is full.
    pub(crate) fn next_slot(&mut self) -> Option<&mut TxSlot> {
        if !self.blocked.is_empty() {
            return None;
        }
        let index = *self.free.last()?;
        Some(&mut self.slots[index])
    }

    /// Queues the frame in the slot that [`next_slot`](Self::next_slot) gave.
    pub(crate) fn push(&mut self, frame: &TxFrame, counters: &Counters) {
        let Some(index) = self.free.pop() else { return };
        self.slots[index].seal(frame);
        self.push_slot(index);
        add(&counters.tx_frames, 1);
    }

    fn push_slot(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let flags = libc::MSG_DONTWAIT;
        let entry = match slot.contiguous() {
            Some(octets) => {
                opcode::Send::new(SENDER, octets.as_ptr(), octets.len() as u32).flags(flags).build()
            }
            None => opcode::SendMsg::new(SENDER, slot.gathered()).flags(flags as u32).build(),
        };
        let token = Token::Send(index).encode();
        let entry = entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(token);
        self.batch.push(index);
        // SAFETY: the slots never move, this one leaves the free list until this submission
        // is settled, and nothing changes it before (see the type's doc).
        unsafe { self.push_entry(&entry) };
    }

    /// # Safety
    /// What the entry points to stays valid and unchanged until it was submitted and done.
    unsafe fn push_entry(&mut self, entry: &Entry) {
        // The queue holds a full batch, the watches and a poll for room; it is empty at the start
        // of each turn.
        // SAFETY: by the caller's promise.
        let pushed = unsafe { self.ring.submission().push(entry) };
        debug_assert!(pushed.is_ok(), "a turn queues no more than the ring holds");
    }

    fn arm_watches(&mut self) {
        for i in 0..self.watches.len() {
            let Watch { fd, token, armed } = self.watches[i];
            if !armed {
                let entry = opcode::PollAdd::new(types::Fd(fd), libc::POLLIN as u32)
                    .multi(true)
                    .build()
                    .user_data(token.encode());
                // SAFETY: a poll points to nothing.
                unsafe { self.push_entry(&entry) };
                self.watches[i].armed = true;
            }
        }
        if !self.blocked.is_empty() && !self.waits_for_room {
            let fd = types::Fd(self.sender.as_fd().as_raw_fd());
            let entry = opcode::PollAdd::new(fd, libc::POLLOUT as u32)
                .build()
                .user_data(Token::Room.encode());
            // SAFETY: a poll points to nothing.
            unsafe { self.push_entry(&entry) };
            self.waits_for_room = true;
        }
    }

    /// Whether something is queued for submission.
    pub(crate) fn has_queued(&self) -> bool {
        !self.batch.is_empty()
    }

    /// Whether frames wait for room in the socket's buffer.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.blocked.is_empty()
    }

    /// Submits what is queued; with `wait`, sleeps until something happens or that much time
    /// has passed (`Some(None)`: however long).
    pub(crate) fn enter(
        &mut self,
        wait: Option<Option<Duration>>,
        counters: &Counters,
    ) -> io::Result<Happened> {
        self.arm_watches();
        let mut wait = wait;
        loop {
            let result = match wait {
                None => self.ring.submit(),
                Some(None) => self.ring.submit_and_wait(1),
                Some(Some(time)) => {
                    let time = types::Timespec::new().sec(time.as_secs()).nsec(time.subsec_nanos());
                    let args = types::SubmitArgs::new().timespec(&time);
                    self.ring.submitter().submit_with_args(1, &args)
                }
            };
            match result {
                Ok(_) => {}
                Err(error) => match error.raw_os_error() {
                    // The time has passed; a signal; completions to be reaped first.
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
                    _ => return Err(error),
                },
            }
            // What the kernel has not consumed it will refer to: submit again, without a wait.
            if self.ring.submission().is_empty() {
                break;
            }
            wait = None;
        }
        let happened = self.reap(counters);
        self.settle(happened.room, counters);
        Ok(happened)
    }

    fn reap(&mut self, counters: &Counters) -> Happened {
        let mut happened = Happened::default();
        for completion in self.ring.completion() {
            let ended = !io_uring::cqueue::more(completion.flags());
            match Token::decode(completion.user_data()) {
                Some(token @ (Token::Receive | Token::Wake | Token::Link)) => {
                    let result = completion.result();
                    match token {
                        Token::Wake => happened.wake = true,
                        Token::Link => happened.link = true,
                        _ => {
                            let bad = i32::from(libc::POLLERR | libc::POLLHUP);
                            happened.receive_error |= result < 0 || result & bad != 0;
                        }
                    }
                    if ended && let Some(watch) = self.watches.iter_mut().find(|w| w.token == token)
                    {
                        // Multishot polls end when the completion queue overflows.
                        watch.armed = false;
                    }
                }
                Some(Token::Room) => {
                    self.waits_for_room = false;
                    happened.room = true;
                }
                Some(Token::Send(slot)) => match -completion.result() {
                    libc::EAGAIN => self.blocked.push_back(slot),
                    libc::ENOBUFS | libc::ENOMEM => add(&counters.tx_no_buffers, 1),
                    libc::EMSGSIZE => add(&counters.tx_too_long, 1),
                    libc::ENETDOWN | libc::ENXIO | libc::ENODEV => add(&counters.tx_link_down, 1),
                    _ => add(&counters.tx_errors, 1),
                },
                None => {}
            }
        }
        happened
    }

    /// Frees the slots of this turn that do not wait for room; those that waited and have room
    /// now are queued again, for the next submission.
    fn settle(&mut self, room: bool, counters: &Counters) {
        for index in self.batch.drain(..) {
            if self.blocked.contains(&index) {
                continue;
            }
            self.slots[index].recycle();
            self.free.push(index);
        }
        if room {
            for index in std::mem::take(&mut self.blocked) {
                add(&counters.tx_retried, 1);
                self.push_slot(index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_went() {
        for token in [Token::Receive, Token::Wake, Token::Link, Token::Room, Token::Send(0)] {
            assert_eq!(Token::decode(token.encode()), Some(token));
        }
        assert_eq!(Token::decode(Token::Send(BATCH).encode()), Some(Token::Send(BATCH)));
        assert_eq!(Token::decode(9), None);
    }
}
