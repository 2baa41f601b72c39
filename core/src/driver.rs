//! What a worker's loop asks of whatever carries its frames: io_uring, or poll(2).

use std::fmt;
use std::io;

use crate::clock::Nanos;
use crate::counters::Counters;
use crate::packet::TxFrame;
use crate::packet::tx::TxSlot;

/// The two drivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverKind {
    /// One `io_uring_enter` for each turn: cheapest, and not allowed everywhere
    /// ([`refusal::probe`](crate::refusal::probe)).
    #[default]
    Uring,
    /// `sendmmsg` and `ppoll`, which every kernel and every container has.
    Poll,
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uring => "io_uring",
            Self::Poll => "poll",
        })
    }
}

/// How long [`Driver::enter`] may sleep.
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

/// Sends frames, and waits for what may happen: frames that come, wakes, news of the link, room
/// to send. The loop is compiled once for each.
pub(crate) trait Driver {
    /// The slot for the next frame, unless the batch or the socket's buffer is full.
    fn next_slot(&mut self) -> Option<&mut TxSlot>;

    /// Whether frames must wait for room in the socket's buffer.
    fn is_full(&mut self) -> bool;

    /// Queues the frame in the slot that [`next_slot`](Self::next_slot) gave.
    fn push(&mut self, frame: &TxFrame, counters: &Counters);

    /// Whether frames are queued that the next [`enter`](Self::enter) sends.
    fn has_queued(&self) -> bool;

    /// Whether [`enter`](Self::enter) has something to do besides sleeping.
    fn is_due(&mut self) -> bool;

    /// Sends what is queued, brings the news, and sleeps as long as `wait` says.
    ///
    /// # Errors
    /// The driver failed in a way that does not pass.
    fn enter(&mut self, wait: Wait, counters: &Counters) -> io::Result<Happened>;
}
