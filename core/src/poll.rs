//! The driver for where io_uring is refused: sends by `sendmmsg`, and waiting by `ppoll`.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::clock;
use crate::counters::Counters;
use crate::driver::{Driver, Happened, Wait};
use crate::outbox::{BATCH, Outbox, count_refused};
use crate::packet::TxFrame;
use crate::packet::tx::TxSlot;

/// A worker that never sleeps, because frames come all the time or it spins, looks for news of the
/// link after so many turns or rounds: some ten microseconds of spinning.
const ROUNDS_WITHOUT_NEWS: u32 = 1024;

/// Places among what is polled.
const RECEIVER: usize = 0;
const WAKE: usize = 1;
const LINK: usize = 2;
/// Polled only while frames wait for room.
const SENDER: usize = 3;

/// The sending socket, its slots, and what is polled.
///
/// # Sending
///
/// A packet socket copies the octets while it takes a frame, and refuses one (EAGAIN) while its
/// buffer is full. That ends the batch: the frame and all behind it stay queued until there is
/// room, so that none overtakes another, and nothing more is asked of the machine meanwhile.
///
/// # Waiting
///
/// A deadline is `ppoll`'s timeout, which the kernel may keep late by the thread's timer slack,
/// 50 us unless it is told otherwise (prctl(2)); pacing asks for less.
pub(crate) struct Poll {
    outbox: Outbox,
    /// The socket's buffer was full when the oldest queued frame was to go.
    is_full: bool,
    /// What `sendmmsg` reads; valid within [`send_many`](Self::send_many).
    messages: Box<[libc::mmsghdr]>,
    polled: [libc::pollfd; 4],
    rounds_without_news: u32,
}

impl Poll {
    /// Sends frames of an interface of this MTU; receiver, eventfd and link monitor are watched
    /// for as long as this lives; the caller keeps them open. On the thread that is to use it.
    pub(crate) fn open(sender: OwnedFd, mtu: u16, watched: [RawFd; 3]) -> Self {
        // SAFETY: no pointers. It works without, only later.
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
        let readable = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let [receiver, wake, link] = watched.map(readable);
        let writable = libc::pollfd { fd: -1, events: libc::POLLOUT, revents: 0 };
        // SAFETY: mmsghdr is plain data and pointers for which zeros (null) are valid.
        let messages = (0..BATCH).map(|_| unsafe { zeroed() }).collect();
        Self {
            outbox: Outbox::new(sender, mtu),
            is_full: false,
            messages,
            polled: [receiver, wake, link, writable],
            rounds_without_news: 0,
        }
    }

    /// Sends what is queued, as far as there is room.
    fn send(&mut self, counters: &Counters) {
        while !self.outbox.is_empty() {
            match self.send_many() {
                Ok(sent) => self.outbox.release(sent),
                Err(error) => match error.raw_os_error().unwrap_or_default() {
                    libc::EAGAIN => {
                        self.is_full = true;
                        return;
                    }
                    libc::EINTR => {}
                    // It is about the oldest frame.
                    errno => {
                        count_refused(errno, counters);
                        self.outbox.release(1);
                    }
                },
            }
        }
    }

    /// One system call: how many frames it took, one at the least.
    ///
    /// Measured on a veth, 76 octets: a frame alone costs 2.3 us by `sendmsg` and 2.7 us by `sendmmsg`,
    /// each of 32 frames 2.6 and 2.0 us.
    fn send_many(&mut self) -> io::Result<usize> {
        let messages = &mut self.messages;
        let count = self.outbox.for_each(|at, slot| {
            // SAFETY: what `gathered` returns is valid until the slot is changed.
            messages[at].msg_hdr = unsafe { *slot.gathered() };
        });
        let (fd, flags) = (self.outbox.sender().as_raw_fd(), libc::MSG_DONTWAIT);
        let failed = |_| io::Error::last_os_error();
        if count == 1 {
            // SAFETY: the message points into a slot that nothing changes during the call, within which
            // the kernel copies it.
            let sent = unsafe { libc::sendmsg(fd, &raw const messages[0].msg_hdr, flags) };
            return usize::try_from(sent).map(|_| 1).map_err(failed);
        }
        // SAFETY: the same of the first `count` messages.
        let sent = unsafe { libc::sendmmsg(fd, messages.as_mut_ptr(), count as u32, flags as _) };
        usize::try_from(sent).map_err(failed)
    }

    /// Asks what has happened, and sleeps as long as `wait` says.
    fn look(&mut self, wait: Wait) -> io::Result<Happened> {
        self.rounds_without_news = 0;
        let sender = self.outbox.sender().as_raw_fd();
        self.polled[SENDER].fd = if self.is_full { sender } else { -1 };
        let timeout = match wait {
            Wait::No => Some(libc::timespec { tv_sec: 0, tv_nsec: 0 }),
            Wait::Until(deadline) => {
                let left = deadline.since(clock::now());
                Some(libc::timespec {
                    tv_sec: left.as_secs() as libc::time_t,
                    tv_nsec: left.subsec_nanos().into(),
                })
            }
            Wait::Forever => None,
        };
        let time = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let (polled, no_mask) = (&mut self.polled, std::ptr::null());
        // SAFETY: the array and the time are valid for the length of the call.
        let result = unsafe {
            libc::ppoll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, time, no_mask)
        };
        if result < 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                // A signal; no memory for the wait.
                Some(libc::EINTR | libc::EAGAIN | libc::ENOMEM) => Ok(Happened::default()),
                _ => Err(error),
            };
        }
        let told = |at: usize| self.polled[at].revents;
        // An error of the sender's comes out with the next frame.
        self.is_full &= told(SENDER) == 0;
        Ok(Happened {
            wake: told(WAKE) != 0,
            link: told(LINK) != 0,
            receive_error: told(RECEIVER) & !libc::POLLIN != 0,
        })
    }
}

impl Driver for Poll {
    fn next_slot(&mut self) -> Option<&mut TxSlot> {
        if self.is_full { None } else { self.outbox.next_slot() }
    }

    fn is_full(&mut self) -> bool {
        self.is_full
    }

    fn push(&mut self, frame: &TxFrame, counters: &Counters) {
        self.outbox.push(frame, counters);
    }

    fn has_queued(&self) -> bool {
        !self.is_full && !self.outbox.is_empty()
    }

    fn is_due(&mut self) -> bool {
        self.rounds_without_news += 1;
        self.is_full || !self.outbox.is_empty() || self.rounds_without_news > ROUNDS_WITHOUT_NEWS
    }

    fn enter(&mut self, wait: Wait, counters: &Counters) -> io::Result<Happened> {
        if !self.is_full {
            self.send(counters);
        }
        if wait == Wait::No && !self.is_due() {
            return Ok(Happened::default());
        }
        self.look(wait)
    }
}
