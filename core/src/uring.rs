//! The io_uring of one worker: sends, and waiting for what may happen.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use io_uring::squeue::Entry;
use io_uring::{IoUring, opcode, squeue, types};

use crate::clock::Nanos;
use crate::counters::{Counters, add};
use crate::error::OpenError;
use crate::packet::tx::TxSlot;
use crate::packet::{TxFrame, socket};
use crate::restrictions;

/// Frames given to the kernel with one `io_uring_enter`, at the most. Enough that the system
/// call is a small part of the cost, few enough that the receive ring is looked at in between.
pub(crate) const BATCH: usize = 128;
const SQ_ENTRIES: u32 = 256;
const CQ_ENTRIES: u32 = 1024;
/// Index of the sending socket among the registered files: sending by it spares the kernel
/// taking a reference for each frame.
const SENDER: types::Fixed = types::Fixed(0);

/// Not named by the crate in a form that its raw `enter` takes (io_uring_enter(2)).
const IORING_ENTER_GETEVENTS: u32 = 1;

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
    /// The alarm went off.
    Alarm,
    /// The alarm could not be moved: it had gone off.
    AlarmMoved,
    /// A frame was not sent.
    Send,
}

impl Token {
    const ALL: [Self; 7] = [
        Self::Receive,
        Self::Wake,
        Self::Link,
        Self::Room,
        Self::Alarm,
        Self::AlarmMoved,
        Self::Send,
    ];

    fn encode(self) -> u64 {
        self as u64
    }

    fn decode(data: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(data).ok()?).copied()
    }
}

/// How long [`Uring::enter`] may sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not at all.
    No,
    /// Until something happens, or until this moment; it may end earlier.
    Until(Nanos),
    /// Until something happens.
    Forever,
}

/// What has happened, as far as the loop must know.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Happened {
    pub(crate) wake: bool,
    pub(crate) link: bool,
    /// The receiving socket has an error pending (its interface went down).
    pub(crate) receive_error: bool,
}

impl Happened {
    fn add(&mut self, other: Self) {
        self.wake |= other.wake;
        self.link |= other.link;
        self.receive_error |= other.receive_error;
    }
}

/// A timeout that stays armed from one sleep to the next.
///
/// Deadlines move all the time, and mostly away: each acknowledgement puts the retransmission
/// timer off. So the alarm is moved only when it would be late; when it is early, the worker
/// takes one turn for nothing and sets it anew. Measured against a timeout for each sleep: at
/// one connection, where the worker sleeps between requests, 6 to 9 % less of the server's
/// CPU time for a request; at 32 connections no difference.
struct Alarm {
    /// When it goes off, if it is set.
    at: Option<Nanos>,
    /// Where the kernel reads that while the request is submitted.
    time: Box<types::Timespec>,
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
/// thread (`REQ_F_NOWAIT`), so it is done, or has failed, within the `io_uring_enter` that
/// submits it; and a packet socket copies the octets while it does. So once the submission
/// queue is empty again no slot is referred to by the kernel. Only failures make a completion
/// (`IOSQE_CQE_SKIP_SUCCESS`), and it is there when the call returns.
///
/// # Room
///
/// The socket refuses a frame (EAGAIN) while its buffer is full. The kernel would then go on with
/// the next frame of the batch, which may find room that has just come free: frames
/// would overtake each other, and TCP's peers would take that for loss. So no more is asked of
/// the machine than there is room for. What the kernel charges for a frame is
/// estimated from above; what has left is only looked up (SIOCOUTQ) when the estimate is used up.
///
/// # Waiting
///
/// Receive ring, eventfd and link monitor are watched by multishot polls. For the receive ring
/// a oneshot poll, armed only by the call that goes to sleep, was tried: it spares the completions
/// of frames that arrive while the worker runs anyway. Measured at 32 connections, arming it for
/// each sleep costs more than they do (7.4 to 7.5 against 7.0 to 7.1 us of the server's CPU time
/// for a request); at one connection there is no difference.
pub(crate) struct Uring {
    ring: IoUring,
    slots: Box<[TxSlot]>,
    free: Vec<usize>,
    /// Slots submitted with this turn.
    batch: Vec<usize>,
    sender: OwnedFd,
    /// The size of the sending socket's buffer, and what is left of it at the least.
    buffer: usize,
    room: usize,
    waits_for_room: bool,
    alarm: Alarm,
    watches: [Watch; 3],
}

impl Uring {
    /// Sends frames of an interface of this MTU; `receiver`, `wake` and `link` are watched for as long as this lives; the caller
    /// keeps them open.
    pub(crate) fn open(
        sender: OwnedFd,
        mtu: u16,
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
            .setup_r_disabled()
            .build(SQ_ENTRIES)
            .map_err(OpenError::uring)?;
        ring.submitter().register_files(&[sender.as_raw_fd()]).map_err(OpenError::uring)?;
        restrictions::enable(&ring).map_err(OpenError::uring)?;
        let buffer = socket::send_buffer(sender.as_fd())
            .map_err(|error| OpenError::Io { what: "the size of the send buffer", error })?;
        let watch = |fd, token| Watch { fd, token, armed: false };
        Ok(Self {
            ring,
            slots: (0..BATCH).map(|_| TxSlot::new(mtu)).collect(),
            free: (0..BATCH).rev().collect(),
            batch: Vec::with_capacity(BATCH),
            sender,
            buffer,
            room: buffer,
            waits_for_room: false,
            alarm: Alarm { at: None, time: Box::default() },
            watches: [
                watch(receiver, Token::Receive),
                watch(wake, Token::Wake),
                watch(link, Token::Link),
            ],
        })
    }

    /// The slot for the next frame, unless the batch or the socket's buffer is full.
    pub(crate) fn next_slot(&mut self) -> Option<&mut TxSlot> {
        if self.is_full() {
            return None;
        }
        let index = *self.free.last()?;
        Some(&mut self.slots[index])
    }

    /// Whether frames must wait for room in the socket's buffer.
    pub(crate) fn is_full(&mut self) -> bool {
        if self.room == 0 && !self.waits_for_room {
            let queued: usize = self.batch.iter().map(|slot| self.slots[*slot].charge()).sum();
            let under_way = socket::unsent(self.sender.as_fd()).unwrap_or(self.buffer);
            self.room = self.buffer.saturating_sub(under_way + queued);
        }
        self.room == 0
    }

    /// Queues the frame in the slot that [`next_slot`](Self::next_slot) gave.
    pub(crate) fn push(&mut self, frame: &TxFrame, counters: &Counters) {
        let Some(index) = self.free.pop() else { return };
        self.slots[index].seal(frame);
        self.room = self.room.saturating_sub(self.slots[index].charge());
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
        let token = Token::Send.encode();
        let entry = entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(token);
        self.batch.push(index);
        // SAFETY: the slots never move, this one leaves the free list until this submission
        // is settled, and nothing changes it before (see the type's doc).
        unsafe { self.push_entry(&entry) };
    }

    /// # Safety
    /// What the entry points to stays valid and unchanged until it was submitted and done.
    unsafe fn push_entry(&mut self, entry: &Entry) {
        // The queue holds a full batch, the watches, a poll for room and an alarm; it is empty
        // at the start of each turn.
        // SAFETY: by the caller's promise.
        let pushed = unsafe { self.ring.submission().push(entry) };
        debug_assert!(pushed.is_ok(), "a turn queues no more than the ring holds");
    }

    fn arm_watches(&mut self) {
        let readable = libc::POLLIN as u32;
        for i in 0..self.watches.len() {
            let Watch { fd, token, armed } = self.watches[i];
            if !armed {
                let poll = opcode::PollAdd::new(types::Fd(fd), readable).multi(true).build();
                self.push_poll(poll, token);
                self.watches[i].armed = true;
            }
        }
        if self.room == 0 && !self.waits_for_room {
            let writable = libc::POLLOUT as u32;
            self.push_poll(opcode::PollAdd::new(SENDER, writable).build(), Token::Room);
            self.waits_for_room = true;
        }
    }

    /// Sees to it that the alarm goes off at `deadline` or before.
    fn set_alarm(&mut self, deadline: Nanos) {
        let set = self.alarm.at;
        if set.is_some_and(|at| at <= deadline) {
            return;
        }
        self.alarm.at = Some(deadline);
        let (seconds, nanos) = (deadline.0 / 1_000_000_000, deadline.0 % 1_000_000_000);
        *self.alarm.time = types::Timespec::new().sec(seconds).nsec(nanos as u32);
        let (time, absolute) = (&raw const *self.alarm.time, types::TimeoutFlags::ABS);
        let alarm = Token::Alarm.encode();
        let entry = if set.is_some() {
            // If it has gone off meanwhile this fails, and its completion ends the sleep.
            opcode::TimeoutUpdate::new(alarm, time)
                .flags(absolute)
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(Token::AlarmMoved.encode())
        } else {
            opcode::Timeout::new(time).flags(absolute).build().user_data(alarm)
        };
        // SAFETY: the kernel reads the time when it takes the entry, before `enter` returns; it
        // is in a box of its own and not changed before.
        unsafe { self.push_entry(&entry) };
    }

    fn push_poll(&mut self, poll: Entry, token: Token) {
        // SAFETY: a poll points to nothing.
        unsafe { self.push_entry(&poll.user_data(token.encode())) };
    }

    /// Whether frames are queued for submission.
    pub(crate) fn has_queued(&self) -> bool {
        !self.batch.is_empty()
    }

    /// Whether [`enter`](Self::enter) has something to do besides sleeping: frames to submit,
    /// polls to arm, or news to bring. With DEFER_TASKRUN polls make no completion by themselves: a worker
    /// that is too busy to sleep must look here, else a flood of frames would keep it from
    /// seeing that there is room to send.
    pub(crate) fn is_due(&mut self) -> bool {
        self.has_queued()
            || (self.room == 0 && !self.waits_for_room)
            || self.watches.iter().any(|watch| !watch.armed)
            || self.has_news()
    }

    /// Whether the kernel has deferred work, or completions that found no room in the queue.
    fn has_news(&mut self) -> bool {
        let queue = self.ring.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    /// Submits what is queued, brings the news, and sleeps as long as `wait` says.
    ///
    /// # Errors
    /// `io_uring_enter` failed in a way that does not pass.
    pub(crate) fn enter(&mut self, wait: Wait, counters: &Counters) -> io::Result<Happened> {
        self.arm_watches();
        if let Wait::Until(deadline) = wait {
            self.set_alarm(deadline);
        }
        let mut wait = wait;
        let mut happened = Happened::default();
        loop {
            let result = match wait {
                Wait::No if self.has_news() => self.submit_and_look(),
                Wait::No => self.ring.submit(),
                Wait::Until(_) | Wait::Forever => self.ring.submit_and_wait(1),
            };
            match result {
                Ok(_) => {}
                Err(error) => match error.raw_os_error() {
                    // A signal; completions to be reaped first; no memory for a request.
                    Some(libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
                    _ => return Err(error),
                },
            }
            happened.add(self.reap(counters));
            // What the kernel has not consumed it will refer to: submit again, without a wait.
            if self.ring.submission().is_empty() {
                break;
            }
            wait = Wait::No;
        }
        self.settle();
        Ok(happened)
    }

    /// Submits, and lets the kernel do its deferred work without waiting for more of it.
    fn submit_and_look(&mut self) -> io::Result<usize> {
        let queued = self.ring.submission().len() as u32;
        let no_signals: Option<&libc::sigset_t> = None;
        // SAFETY: no argument is passed by pointer; what the queued entries point to is
        // valid by the promise of `push_entry`.
        unsafe { self.ring.submitter().enter(queued, 0, IORING_ENTER_GETEVENTS, no_signals) }
    }

    fn reap(&mut self, counters: &Counters) -> Happened {
        let mut happened = Happened::default();
        for completion in self.ring.completion() {
            match Token::decode(completion.user_data()) {
                Some(token @ (Token::Receive | Token::Wake | Token::Link)) => {
                    let result = completion.result();
                    let bad = i32::from(libc::POLLERR | libc::POLLHUP);
                    match token {
                        Token::Wake => happened.wake = true,
                        Token::Link => happened.link = true,
                        _ => happened.receive_error |= result < 0 || result & bad != 0,
                    }
                    // A multishot poll ends when the kernel could not queue a completion.
                    if !io_uring::cqueue::more(completion.flags())
                        && let Some(watch) = self.watches.iter_mut().find(|w| w.token == token)
                    {
                        watch.armed = false;
                    }
                }
                Some(Token::Alarm) => self.alarm.at = None,
                Some(Token::AlarmMoved) => {}
                Some(Token::Room) => self.waits_for_room = false,
                Some(Token::Send) => match -completion.result() {
                    libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM => add(&counters.tx_no_buffers, 1),
                    libc::EMSGSIZE => add(&counters.tx_too_long, 1),
                    libc::EINVAL => add(&counters.tx_bad_offload, 1),
                    libc::ENETDOWN | libc::ENXIO | libc::ENODEV => add(&counters.tx_link_down, 1),
                    _ => add(&counters.tx_errors, 1),
                },
                None => {}
            }
        }
        happened
    }

    /// Frees the slots of this turn: the kernel has copied what it took.
    fn settle(&mut self) {
        for index in self.batch.drain(..) {
            self.slots[index].recycle();
            self.free.push(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_went() {
        for token in Token::ALL {
            assert_eq!(Token::decode(token.encode()), Some(token));
        }
        assert_eq!(Token::decode(Token::ALL.len() as u64), None);
    }
}
