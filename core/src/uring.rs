//! The io_uring of one worker: sends, and waiting for what may happen.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use io_uring::squeue::Entry;
use io_uring::{IoUring, opcode, squeue, types};

use crate::clock::Nanos;
use crate::counters::Counters;
use crate::driver::{Driver, Happened, Wait};
use crate::error::OpenError;
use crate::outbox::{Outbox, count_refused};
use crate::packet::tx::TxSlot;
use crate::packet::{TxFrame, socket};
use crate::refusal::{Call, Refusal};
use crate::restrictions;

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

impl Happened {
    fn add(&mut self, other: Self) {
        self.wake |= other.wake;
        self.link |= other.link;
        self.receive_error |= other.receive_error;
    }
}

/// A ring as workers need it, with the one file that they register; else what was refused.
///
/// One thread submits and reaps, so completions need no interrupt: they are made when we come for
/// them (DEFER_TASKRUN, Linux 6.1).
pub(crate) fn ring(sender: RawFd) -> Result<IoUring, (Call, io::Error)> {
    let _turn = restrictions::turn();
    let ring = IoUring::builder()
        .setup_cqsize(CQ_ENTRIES)
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_r_disabled()
        .build(SQ_ENTRIES)
        .map_err(|error| (Call::Setup, error))?;
    ring.submitter().register_files(&[sender]).map_err(|error| (Call::Register, error))?;
    restrictions::enable(&ring).map_err(|error| (Call::Register, error))?;
    Ok(ring)
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
    /// All that is queued in it is in the submission queue, too.
    outbox: Outbox,
    /// The size of the sending socket's buffer, and what is left of it at the least.
    buffer: usize,
    room: usize,
    waits_for_room: bool,
    alarm: Alarm,
    watches: [Watch; 3],
}

impl Uring {
    /// Sends frames of an interface of this MTU; receiver, eventfd and link monitor are watched for as
    /// long as this lives; the caller keeps them open.
    pub(crate) fn open(
        sender: OwnedFd,
        mtu: u16,
        [receiver, wake, link]: [RawFd; 3],
    ) -> Result<Self, OpenError> {
        let ring = ring(sender.as_raw_fd())
            .map_err(|(call, error)| OpenError::Uring(Refusal::of(call, &error)))?;
        let outbox = Outbox::new(sender, mtu);
        let buffer = socket::send_buffer(outbox.sender())
            .map_err(|error| OpenError::Io { what: "the size of the send buffer", error })?;
        let watch = |fd, token| Watch { fd, token, armed: false };
        Ok(Self {
            ring,
            outbox,
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

    /// Whether the kernel has deferred work, or completions that found no room in the queue.
    fn has_news(&mut self) -> bool {
        let queue = self.ring.submission();
        queue.taskrun() || queue.cq_overflow()
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
                Some(Token::Send) => count_refused(-completion.result(), counters),
                None => {}
            }
        }
        happened
    }
}

impl Driver for Uring {
    fn next_slot(&mut self) -> Option<&mut TxSlot> {
        if self.is_full() { None } else { self.outbox.next_slot() }
    }

    fn is_full(&mut self) -> bool {
        if self.room == 0 && !self.waits_for_room {
            let under_way = socket::unsent(self.outbox.sender()).unwrap_or(self.buffer);
            self.room = self.buffer.saturating_sub(under_way + self.outbox.charge());
        }
        self.room == 0
    }

    fn push(&mut self, frame: &TxFrame, counters: &Counters) {
        let Some(slot) = self.outbox.push(frame, counters) else { return };
        self.room = self.room.saturating_sub(slot.charge());
        let flags = libc::MSG_DONTWAIT;
        let entry = match slot.contiguous() {
            Some(octets) => {
                opcode::Send::new(SENDER, octets.as_ptr(), octets.len() as u32).flags(flags).build()
            }
            None => opcode::SendMsg::new(SENDER, slot.gathered()).flags(flags as u32).build(),
        };
        let token = Token::Send.encode();
        let entry = entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(token);
        // SAFETY: the slots never move, this one is not free until this submission is done, and
        // nothing changes it before (see the type's doc).
        unsafe { self.push_entry(&entry) };
    }

    fn has_queued(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Frames to submit, polls to arm, or news to bring. With DEFER_TASKRUN polls make no completion
    /// by themselves: a worker that is too busy to sleep must look here, else a flood of frames
    /// would keep it from seeing that there is room to send.
    fn is_due(&mut self) -> bool {
        self.has_queued()
            || (self.room == 0 && !self.waits_for_room)
            || self.watches.iter().any(|watch| !watch.armed)
            || self.has_news()
    }

    /// # Errors
    /// `io_uring_enter` failed in a way that does not pass.
    fn enter(&mut self, wait: Wait, counters: &Counters) -> io::Result<Happened> {
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
        // The kernel has copied what it took.
        self.outbox.release_all();
        Ok(happened)
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
